"""Connections of their own for commands that block: ended by an unblock, thrown away after trouble, opened again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pulsewire._redis.blocking import BlockingConnection, NotReady
from pulsewire._redis.link import Link
from pulsewire.errors import ConnectionLost, PermissionDenied, ServerError, ServerUnavailable
from pulsewire.testing import ClusterGroup, FaultProxy, SentinelGroup, SingleServer, wait_until
from tests._redis.kit import CountingHooks, opened_link

PATIENCE = 10.0


@pytest.fixture
async def proxy(single_server: SingleServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(single_server) as between:
        yield between


@pytest.fixture
def key(namespace: str) -> str:
    return f"{namespace}:list"


@asynccontextmanager
async def opened_blocking(link: Link, key: str) -> AsyncIterator[BlockingConnection]:
    blocking = BlockingConnection(link, key)
    assert await blocking.open(PATIENCE)
    try:
        yield blocking
    finally:
        blocking.close()


async def wait_blocked(server: SingleServer, count: int = 1) -> None:
    """Return when so many clients block on the server."""

    async def is_blocked() -> bool:
        return (await server.info("clients"))["blocked_clients"] == str(count)

    await wait_until(is_blocked, what="the client blocks")


async def test_block_brings_what_comes_and_none_when_nothing_does(
    single_server: SingleServer, key: str
) -> None:
    async with opened_link(single_server.url) as link, opened_blocking(link, key) as blocking:
        assert await blocking.call("BLPOP", key, "0.01") is None
        task = asyncio.create_task(blocking.call("BLPOP", key, 2))
        await wait_blocked(single_server)
        await link.call(key, "RPUSH", key, "x")
        assert await task == [key.encode(), b"x"]
        assert not await blocking.open(PATIENCE)


async def test_shared_connection_does_not_wait_for_a_block(
    single_server: SingleServer, key: str
) -> None:
    async with opened_link(single_server.url) as link, opened_blocking(link, key) as blocking:
        task = asyncio.create_task(blocking.call("BLPOP", key, 2))
        await wait_blocked(single_server)
        assert await link.call(key, "ECHO", "x") == b"x"
        assert not task.done()
        await blocking.unblock()
        assert await task is None


async def test_unblock_ends_the_block_and_keeps_the_connection(
    single_server: SingleServer, key: str
) -> None:
    """Again and again on the same connection."""
    async with opened_link(single_server.url) as link, opened_blocking(link, key) as blocking:
        for _ in range(20):
            task = asyncio.create_task(blocking.call("BLPOP", key, 2))
            await wait_blocked(single_server)
            await blocking.unblock()
            assert await task is None
            assert not await blocking.open(PATIENCE)


async def test_unblock_without_a_block_does_nothing(
    proxy: FaultProxy, single_server: SingleServer, key: str
) -> None:
    async with opened_link(proxy.url) as link, opened_blocking(link, key) as blocking:
        await blocking.unblock()
        assert await blocking.call("LLEN", key) == 0
        await blocking.unblock()
        before = proxy.statistics().commands["CLIENT"]
        await blocking.unblock()
        assert proxy.statistics().commands["CLIENT"] == before


async def test_block_of_a_user_who_may_not_unblock_runs_out_by_itself(
    fresh_server: SingleServer,
) -> None:
    await fresh_server.command(
        "ACL", "SETUSER", "anna", "on", ">pw", "~*", "+@all", "-client|unblock"
    )
    async with (
        opened_link(f"redis://anna:pw@127.0.0.1:{fresh_server.port}") as link,
        opened_blocking(link, "k") as blocking,
    ):
        task = asyncio.create_task(blocking.call("BLPOP", "k", "0.3"))
        await wait_blocked(fresh_server)
        await blocking.unblock()
        assert await task is None


async def test_nothing_is_lost_when_unblock_and_reply_meet(
    single_server: SingleServer, key: str
) -> None:
    """What the server has given away is always handed on."""
    got: list[bytes] = []
    async with opened_link(single_server.url) as link, opened_blocking(link, key) as blocking:
        for number in range(200):
            task = asyncio.create_task(blocking.call("BLPOP", key, 2))
            await asyncio.sleep(0)
            push = asyncio.create_task(link.call(key, "RPUSH", key, f"{number}"))
            while not task.done():
                await blocking.unblock()
            reply = await task
            await push
            if reply is not None:
                got.append(reply[1])
        left = await link.call(key, "LRANGE", key, 0, -1)
        await link.call(key, "DEL", key)
    assert sorted(map(int, [*got, *left])) == list(range(200))


# --- trouble


async def test_lost_connection_is_opened_again_and_said_to_be_new(
    proxy: FaultProxy, single_server: SingleServer, key: str
) -> None:
    """A reply may have been lost with the old one."""
    async with opened_link(proxy.url) as link, opened_blocking(link, key) as blocking:
        task = asyncio.create_task(blocking.call("BLPOP", key, 2))
        await wait_blocked(single_server)
        proxy.cut()
        with pytest.raises(ConnectionLost):
            await task
        assert await blocking.open(PATIENCE)
        assert await blocking.call("LLEN", key) == 0


async def test_loss_while_idle_is_noticed_at_the_next_opening(proxy: FaultProxy, key: str) -> None:
    async with opened_link(proxy.url) as link, opened_blocking(link, key) as blocking:
        white_box: Any = blocking
        connection = white_box._connection
        proxy.cut()
        await wait_until(lambda: not connection.is_usable, what="the loss was noticed")
        assert await blocking.open(PATIENCE)


async def test_silent_connection_is_given_up_soon_after_the_block_should_have_ended(
    proxy: FaultProxy, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulsewire._redis.blocking.LONGEST_BLOCK", 0.1)
    monkeypatch.setattr("pulsewire._redis.blocking.SILENCE_MARGIN", 0.2)
    async with opened_link(proxy.url) as link, opened_blocking(link, key) as blocking:
        proxy.stall()
        with pytest.raises(ConnectionLost, match=r"no reply for 0\.3 s"):
            await blocking.call("BLPOP", key, "0.1")
        proxy.clear()


@pytest.mark.parametrize("error", ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"])
async def test_server_that_is_not_ready_is_left_with_a_passing_error(
    proxy: FaultProxy, key: str, error: str
) -> None:
    """The connection is thrown away, since the server may have become another."""
    async with opened_link(proxy.url) as link, opened_blocking(link, key) as blocking:
        proxy.inject_error(f"{error} for now".encode(), "BLPOP")
        with pytest.raises(NotReady, match=error):
            await blocking.call("BLPOP", key, 1)
        assert await blocking.open(PATIENCE)
        assert await blocking.call("BLPOP", key, "0.01") is None


async def test_block_that_the_server_ends_by_force_is_passing_trouble(
    single_server: SingleServer, key: str
) -> None:
    """As it does with all of them when it becomes a replica."""
    async with opened_link(single_server.url) as link, opened_blocking(link, key) as blocking:
        task = asyncio.create_task(blocking.call("BLPOP", key, 2))
        await wait_blocked(single_server)
        white_box: Any = blocking
        number = white_box._connection.client_id
        await single_server.command("CLIENT", "UNBLOCK", number, "ERROR")
        with pytest.raises(NotReady, match="UNBLOCKED"):
            await task
        assert await blocking.open(PATIENCE)


async def test_other_refusals_are_raised_and_keep_the_connection(
    single_server: SingleServer, key: str
) -> None:
    async with opened_link(single_server.url) as link, opened_blocking(link, key) as blocking:
        with pytest.raises(ServerError, match="NOGROUP|no such key"):
            await blocking.call(
                *("XREADGROUP", "GROUP", "g", "c", "BLOCK", 10, "STREAMS", f"{key}:none", ">")
            )
        assert not await blocking.open(PATIENCE)
        assert await blocking.call("LLEN", key) == 0


async def test_forbidden_command_is_permission_denied(fresh_server: SingleServer) -> None:
    await fresh_server.command("ACL", "SETUSER", "anna", "on", ">pw", "~*", "+@all", "-blpop")
    async with (
        opened_link(f"redis://anna:pw@127.0.0.1:{fresh_server.port}") as link,
        opened_blocking(link, "k") as blocking,
    ):
        with pytest.raises(PermissionDenied, match="BLPOP"):
            await blocking.call("BLPOP", "k", 1)


async def test_server_that_is_gone_cannot_be_opened_within_the_time_allowed(
    proxy: FaultProxy, key: str
) -> None:
    async with opened_link(proxy.url) as link, opened_blocking(link, key) as blocking:
        await proxy.refuse()
        proxy.cut()
        white_box: Any = blocking
        connection = white_box._connection
        await wait_until(lambda: not connection.is_usable, what="the loss was noticed")
        with pytest.raises(ServerUnavailable):
            await blocking.open(0.1)
        await proxy.accept()
        assert await blocking.open(PATIENCE)


async def test_closing_ends_a_block(single_server: SingleServer, key: str) -> None:
    async with opened_link(single_server.url) as link, opened_blocking(link, key) as blocking:
        task = asyncio.create_task(blocking.call("BLPOP", key, 2))
        await wait_blocked(single_server)
        blocking.close()
        with pytest.raises(ConnectionLost, match="closed"):
            await task
        await wait_blocked(single_server, 0)


async def test_opening_that_is_given_up_leaves_no_connection(proxy: FaultProxy, key: str) -> None:
    async with opened_link(proxy.url) as link:
        await link.call(key, "PING")
        for turns in range(30):
            blocking, scope = BlockingConnection(link, key), anyio.CancelScope()

            async def open_it(blocking: BlockingConnection, scope: anyio.CancelScope) -> None:
                with scope:
                    await blocking.open(PATIENCE)

            async with anyio.create_task_group() as group:
                group.start_soon(open_it, blocking, scope)
                for _ in range(turns):
                    await asyncio.sleep(0)
                scope.cancel()
            blocking.close()
        await wait_until(
            lambda: proxy.statistics().open_connections == 1, what="only the link is connected"
        )


# --- other topologies


async def read_in_a_loop(blocking: BlockingConnection, key: str, got: list[bytes]) -> None:
    """As a feed does: open, block, and again after trouble, until "end" comes."""
    while b"end" not in got:
        try:
            await blocking.open(PATIENCE)
            reply = await blocking.call("BLPOP", key, 1)
        except ServerUnavailable:
            await anyio.sleep(0.02)
            continue
        if reply is not None:
            got.append(reply[1])


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_block_follows_its_key_to_the_slots_new_owner(
    topology: ClusterGroup, key: str
) -> None:
    """Though nobody else uses the key, so that only the block itself can learn of the move."""
    from pulsewire.testing import slot_of

    got: list[bytes] = []
    source = await topology.node_of(key)
    target = next(node for node in await topology.masters() if node is not source)
    async with opened_link(topology.url) as link, opened_blocking(link, key) as blocking:
        async with anyio.create_task_group() as group:
            group.start_soon(read_in_a_loop, blocking, key, got)
            await wait_blocked(source)
            await topology.move_slot(slot_of(key), target)
            await wait_blocked(target)
            await target.command("RPUSH", key, "end")
    assert got == [b"end"]
    await topology.move_slot(slot_of(key), source)


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_block_on_a_key_of_a_half_moved_slot_reads_it_where_it_is(
    topology: ClusterGroup, key: str
) -> None:
    """ASK: the key is at the importing node already, the slot is not."""
    from pulsewire.testing import slot_of

    got: list[bytes] = []
    source = await topology.node_of(key)
    target = next(node for node in await topology.masters() if node is not source)
    move = await topology.slot_move(slot_of(key), target)
    await source.command("RPUSH", key, "first", "end")
    await move.open()
    await move.migrate(key)
    async with opened_link(topology.url) as link, opened_blocking(link, key) as blocking:
        await read_in_a_loop(blocking, key, got)
    assert got == [b"first", b"end"]
    await move.cancel()


@pytest.mark.parametrize("topology", ["sentinel", "cluster"], indirect=True)
async def test_block_goes_on_at_the_new_master_after_a_failover(
    topology: SentinelGroup | ClusterGroup, key: str
) -> None:
    got: list[bytes] = []
    old = await topology.node_of(key)
    hooks = CountingHooks()
    async with opened_link(topology.url, hooks=hooks) as link:
        async with opened_blocking(link, key) as blocking, anyio.create_task_group() as group:
            group.start_soon(read_in_a_loop, blocking, key, got)
            await wait_blocked(old)
            if isinstance(topology, ClusterGroup):
                await topology.kill_master_of(key)
                from pulsewire.testing import slot_of

                new: SingleServer = await topology.wait_new_owner(slot_of(key), old)  # type: ignore[arg-type]  # a node of this cluster
            else:
                new = await topology.wait_new_master(await topology.kill_master())
            await wait_blocked(new)
            await new.command("RPUSH", key, "end")
    assert got == [b"end"]
