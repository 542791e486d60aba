"""Lanes: who may be connected to, one attempt for many, and opened again after every loss."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pulsewire._core.backoff import Backoff
from pulsewire._redis.lane import Lane
from pulsewire._redis.link import Unsettled
from pulsewire._redis.opening import open_connection
from pulsewire.errors import (
    AuthenticationFailed,
    ConnectionLost,
    InvalidTarget,
    PermissionDenied,
    ServerTooOld,
    ServerUnavailable,
)
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests._redis.kit import (
    Conversation,
    CountingHooks,
    StubServer,
    Words,
    door_of,
    greeting,
    opened_link,
)


@pytest.fixture
async def proxy(single_server: SingleServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(single_server) as between:
        yield between


def greets(**said: Any) -> StubServer:
    """A server that says this of itself."""

    def answer(words: Words, conversation: Conversation) -> bytes | None:
        return greeting(**said) if words[0] == b"HELLO" else None

    return StubServer(answer)


# --- who may be connected to


@pytest.mark.parametrize(
    ("server", "version"),
    [("redis", "6.0.16"), ("redis", "6.1.9"), ("valkey", "7.1.0"), ("redis", "5.0.7")],
)
async def test_server_that_is_too_old_is_refused_with_its_version_and_the_one_needed(
    server: str, version: str
) -> None:
    async with greets(server=server, version=version) as stub:
        with pytest.raises(ServerTooOld, match=rf"{server} {version}.*redis 6\.2 or valkey 7\.2"):
            async with opened_link(stub.url):
                pass
        assert len(stub.conversations) == 1


@pytest.mark.parametrize(
    ("server", "version", "expected"),
    [
        ("redis", "6.2.0", (6, 2, 0)),
        ("redis", "7.4.1", (7, 4, 1)),
        ("valkey", "7.2.0", (7, 2, 0)),
        ("redis", "8.0-m03", (8, 0)),
        ("valkey", "255.255.255", (255, 255, 255)),
    ],
)
async def test_server_that_is_new_enough_is_accepted(
    server: str, version: str, expected: tuple[int, ...]
) -> None:
    async with greets(server=server, version=version) as stub, opened_link(stub.url) as link:
        assert (link.info.kind, link.info.version) == (server, expected)
        assert link.info.version_text == ".".join(map(str, expected))


async def test_server_that_knows_no_hello_is_too_old() -> None:
    """Redis 5: said at once, not after half a minute of trying."""

    def answer(words: Words, conversation: Conversation) -> bytes | None:
        if words[0] == b"HELLO":
            return b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"
        return None

    async with StubServer(answer) as stub:
        with pytest.raises(ServerTooOld, match=r"before 6\.0"):
            async with opened_link(stub.url):
                pass
        assert len(stub.conversations) == 1


@pytest.mark.parametrize(
    ("mode", "hint"), [("cluster", r"redis\+cluster://"), ("sentinel", r"redis\+sentinel://")]
)
async def test_server_of_another_kind_than_the_url_says_is_answered_with_the_right_scheme(
    mode: str, hint: str
) -> None:
    async with greets(mode=mode, role=None if mode == "sentinel" else "master") as stub:
        with pytest.raises(InvalidTarget, match=hint):
            async with opened_link(stub.url):
                pass


@pytest.mark.parametrize(
    "userinfo", ["", ":wrong@", "default:wrong@", "nobody:secret@", "default:secret%20@"]
)
async def test_wrong_password_is_said_at_once(userinfo: str) -> None:
    """One attempt: trying again does not mend it."""
    async with SingleServer(password="secret") as server, FaultProxy(server) as proxy:
        url = f"redis://{userinfo}127.0.0.1:{proxy.port}"
        with pytest.raises(AuthenticationFailed) as caught:
            async with opened_link(url):
                pass
        assert proxy.statistics().connections == 1
        assert "wrong" not in str(caught.value)


async def test_wrong_password_is_said_at_once_on_a_connection_without_resp3() -> None:
    """redis-py authenticates by AUTH there, and does not ask without a password at all."""
    async with SingleServer(password="secret") as server, FaultProxy(server) as proxy:
        for userinfo in ("", ":wrong@"):
            with pytest.raises(AuthenticationFailed):
                async with opened_link(f"redis://{userinfo}127.0.0.1:{proxy.port}?protocol=2"):
                    pass
        assert proxy.statistics().connections == 2


async def test_password_that_the_server_did_not_ask_for_is_said_at_once(proxy: FaultProxy) -> None:
    """Where the server minds, that is: HELLO takes any password for a user without one."""
    with pytest.raises(AuthenticationFailed, match="without any password"):
        async with opened_link(f"redis://:pw@127.0.0.1:{proxy.port}?protocol=2"):
            pass
    assert proxy.statistics().connections == 1


@pytest.mark.parametrize("protocol", ["", "&protocol=2"])
async def test_database_that_does_not_exist_is_a_wrong_target(
    proxy: FaultProxy, protocol: str
) -> None:
    with pytest.raises(InvalidTarget, match="out of range"):
        async with opened_link(f"{proxy.url}?db=99{protocol}"):
            pass
    assert proxy.statistics().connections == 1


async def test_user_who_may_not_select_is_told_so_at_once(fresh_server: SingleServer) -> None:
    await fresh_server.command("ACL", "SETUSER", "anna", "on", ">pw", "~*", "+@all", "-select")
    async with FaultProxy(fresh_server) as proxy:
        with pytest.raises(PermissionDenied):
            async with opened_link(f"redis://anna:pw@127.0.0.1:{proxy.port}/1"):
                pass
        assert proxy.statistics().connections == 1


async def test_replica_is_refused_until_it_is_the_master(fresh_server: SingleServer) -> None:
    """The message says what it is; a call that waits goes on once it was promoted."""
    async with SingleServer() as master:
        await fresh_server.command("REPLICAOF", master.host, master.port)
        with pytest.raises(ServerUnavailable, match="replica, not the master"):
            async with opened_link(fresh_server.url, wait_for_server=0.2):
                pass
        async with anyio.create_task_group() as group:

            async def use() -> None:
                async with opened_link(fresh_server.url) as link:
                    assert await link.call("k", "SET", "k", "v") == b"OK"

            group.start_soon(use)
            await fresh_server.command("REPLICAOF", "NO", "ONE")


# --- no server


async def test_no_server_is_said_after_the_time_allowed_with_address_and_reason(
    fresh_server: SingleServer,
) -> None:
    await fresh_server.kill()
    with pytest.raises(ServerUnavailable, match="[Cc]onnect") as caught:
        async with opened_link(fresh_server.url, wait_for_server=0.2):
            pass
    assert caught.value.address == fresh_server.url
    assert caught.value.waited >= 0.2
    assert str(fresh_server.port) in str(caught.value)


async def test_server_that_is_loading_is_waited_for() -> None:
    """LOADING in the handshake is no refusal."""
    said = [b"-LOADING Valkey is loading the dataset in memory\r\n"] * 2

    def answer(words: Words, conversation: Conversation) -> bytes | None:
        if words[0] == b"HELLO" and said:
            return said.pop()
        return None

    async with StubServer(answer) as stub, opened_link(stub.url) as link:
        assert link.info.kind == "valkey"
        assert said == []


async def test_server_that_takes_no_more_clients_is_waited_for(fresh_server: SingleServer) -> None:
    """And found as soon as there is a place."""
    await fresh_server.command("CONFIG", "SET", "maxclients", 1)
    async with fresh_server.connection() as keeper:
        await keeper.command("PING")
        with pytest.raises(ServerUnavailable, match="max number of clients"):
            async with opened_link(fresh_server.url, wait_for_server=0.2):
                pass
        await keeper.command("CONFIG", "SET", "maxclients", 100)
        async with opened_link(fresh_server.url) as link:
            assert await link.call("k", "PING") == b"PONG"


# --- opened again


async def test_calls_go_on_after_the_server_was_killed_and_restarted(
    fresh_server: SingleServer,
) -> None:
    """Those that were made while it was down wait for it."""
    hooks = CountingHooks()
    async with opened_link(fresh_server.url, hooks=hooks) as link:
        await link.call("k", "SET", "k", "kept")
        for _ in range(3):
            await fresh_server.kill()
            async with anyio.create_task_group() as group:

                async def read() -> None:
                    assert await link.call("k", "GET", "k") == b"kept"

                for _ in range(20):
                    group.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await fresh_server.restart()
    assert len(hooks.opened) == 4
    assert len(hooks.lost) == 3


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_one_connection_is_opened_for_many_who_wait(proxy: FaultProxy, how: Any) -> None:
    async with opened_link(proxy.url) as link:
        for number in range(2, 7):
            proxy.cut(how)
            replies = await asyncio.gather(
                *(link.call("k", "ECHO", f"{n}", repeatable=True) for n in range(200))
            )
            assert replies == [b"%d" % n for n in range(200)]
            assert proxy.statistics().connections == number


async def test_idle_link_does_not_connect_again_by_itself(proxy: FaultProxy) -> None:
    """Only when somebody needs it: no thundering herd of idle processes."""
    hooks = CountingHooks()
    async with opened_link(proxy.url, hooks=hooks):
        proxy.cut()
        await wait_until(lambda: len(hooks.lost) == 1, what="the loss was noticed")
        await anyio.wait_all_tasks_blocked()
        assert proxy.statistics().connections == 1


async def test_opening_ends_when_nobody_waits_any_more(proxy: FaultProxy) -> None:
    """A caller who gave up leaves nothing running."""
    async with opened_link(proxy.url) as link:
        await proxy.refuse()
        proxy.cut()
        lane: Any = link._lane("k")
        await wait_until(lambda: lane.connection is None, what="the loss was noticed")
        with anyio.move_on_after(0.05) as scope:
            await link.call("k", "PING")
        assert scope.cancelled_caught
        await wait_until(lambda: not lane._is_opening, what="nobody tries any more")
        await proxy.accept()
        assert await link.call("k", "PING") == b"PONG"


async def test_cancelling_the_caller_who_began_the_opening_does_not_end_it_for_others(
    proxy: FaultProxy,
) -> None:
    async with opened_link(proxy.url) as link:
        await proxy.refuse()
        proxy.cut()
        lane: Any = link._lane("k")
        await wait_until(lambda: lane.connection is None, what="the loss was noticed")
        first = asyncio.create_task(link.call("k", "ECHO", "first"))
        await anyio.wait_all_tasks_blocked()
        second = asyncio.create_task(link.call("k", "ECHO", "second"))
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await proxy.accept()
        assert await second == b"second"
        assert first.cancelled()


async def test_greeting_names_the_connection_for_operators(single_server: SingleServer) -> None:
    async with opened_link(single_server.url) as link:
        connection = await link.connection_for("k")
        line = (await single_server.clients())[connection.client_id]
        assert f"name={connection.name} " in line
        assert connection.name.startswith("pulsewire:")


# --- connections beside, and moving


def lane_of(link: Any) -> Lane:
    """The lane of a link to one server."""
    lane = link._lane("k")
    assert isinstance(lane, Lane)
    return lane


async def test_connection_beside_is_another_one_to_the_same_server(
    single_server: SingleServer,
) -> None:
    """With its own ear for pushes; its loss is told to its owner and does not touch the shared one."""
    pushes: list[Any] = []
    losses: list[str] = []
    async with opened_link(single_server.url) as link:
        shared = await link.connection_for("k")
        beside = await lane_of(link).open_beside(
            silence=4.0,
            on_push=pushes.append,
            on_lost=lambda connection, reason, in_flight: losses.append(reason),
        )
        assert shared.client_id != beside.client_id
        assert beside.client_id in await single_server.clients()
        beside.submit(("SUBSCRIBE", "beside")).cancel()  # it is answered by a push
        await link.call("k", "PUBLISH", "beside", "x")
        await wait_until(lambda: len(pushes) > 0, what="a push came")
        beside.lose("no longer needed")
        assert losses == ["no longer needed"]
        assert await link.connection_for("k") is shared


async def test_moving_leaves_the_shared_connection_and_drops_those_beside(
    single_server: SingleServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What is under way on the shared one is finished; what blocks beside it learns why it ended."""
    hooks = CountingHooks()
    async with opened_link(single_server.url, hooks=hooks) as link:
        lane = lane_of(link)
        shared = await link.connection_for("k")
        beside = await lane.open_beside(silence=4.0)
        under_way = shared.submit(("ECHO", "x"))
        blocked = beside.submit(("BLPOP", "no-such-list", 30))
        lane.move("elsewhere now")
        with pytest.raises(ConnectionLost, match="elsewhere now"):
            await blocked
        assert await under_way == b"x"
        assert not shared.is_usable
        assert await link.connection_for("k") is not shared
        again = await lane.open_beside(silence=4.0)
        assert again.is_usable
    assert hooks.lost == []
    assert len(hooks.opened) == 2
    assert caplog.records == []


@pytest.mark.parametrize("ends", ["close", "abandon"])
async def test_lane_that_ends_drops_connections_beside_and_opens_no_more(
    single_server: SingleServer, ends: str
) -> None:
    async with opened_link(single_server.url) as link:
        lane = lane_of(link)
        beside = await lane.open_beside(silence=4.0)
        if ends == "close":
            lane.close()
        else:
            lane.abandon("no master any more")
        assert not beside.is_usable
        with pytest.raises(ServerUnavailable, match="closed|no master any more"):
            await lane.open_beside(silence=4.0)


@pytest.mark.parametrize("ends", ["move", "close", "abandon"])
async def test_connections_that_are_being_opened_when_the_lane_moves_or_ends_are_not_used(
    proxy: FaultProxy, ends: str
) -> None:
    """They may lead to the server that was left."""
    async with opened_link(proxy.url) as link:
        lane = lane_of(link)
        shared = await link.connection_for("k")
        proxy.stall()
        shared.lose("for the test")
        beside = asyncio.create_task(lane.open_beside(silence=4.0))
        call = asyncio.create_task(lane.ready(10.0))
        await wait_until(lambda: proxy.statistics().connections == 3, what="both are being opened")
        if ends == "close":
            lane.close()
        else:
            getattr(lane, ends)("elsewhere now")
        proxy.clear()
        with pytest.raises(ServerUnavailable, match="elsewhere|closed"):
            await beside
        if ends == "move":
            assert (await call).is_usable
            assert proxy.statistics().connections == 4
        else:
            with pytest.raises(ServerUnavailable):
                await call
    await wait_until(lambda: proxy.statistics().open_connections == 0, what="all are closed")


async def test_moving_ends_the_pause_before_the_next_attempt(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover is over when it is announced: nobody need wait for a pause to run out."""
    pauses: list[float] = []

    def long_pause(self: Backoff) -> float:
        pauses.append(1000.0)
        return 1000.0

    async with opened_link(proxy.url) as link:
        lane = lane_of(link)
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: lane.connection is None, what="the loss was noticed")
        monkeypatch.setattr(Backoff, "next_pause", long_pause)
        ready = asyncio.create_task(lane.ready(1000.0))
        await wait_until(lambda: len(pauses) == 1, what="an attempt failed")
        await proxy.accept()
        lane.move("elsewhere now")
        assert (await ready).is_usable
        assert len(pauses) == 1


async def test_connection_beside_that_cannot_be_opened_is_tried_once(
    fresh_server: SingleServer,
) -> None:
    async with opened_link(fresh_server.url) as link:
        await fresh_server.kill()
        with pytest.raises(ServerUnavailable):
            await lane_of(link).open_beside(silence=4.0)


async def test_connection_that_was_left_is_closed_with_the_link(proxy: FaultProxy) -> None:
    """Though a reply is still outstanding on it."""
    async with opened_link(proxy.url) as link:
        shared = await link.connection_for("k")
        under_way = shared.submit(("BLPOP", "no-such-list", 30))
        lane_of(link).move("elsewhere now")
        assert await link.call("k", "ECHO", "x") == b"x"
    with pytest.raises(ConnectionLost, match="closed"):
        await under_way


# --- what is reported


async def test_connection_that_was_refused_is_not_reported_as_lost(
    fresh_server: SingleServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever counts losses counts connections that were once opened."""
    hooks = CountingHooks()
    async with SingleServer() as master:
        await fresh_server.command("REPLICAOF", master.host, master.port)
        with caplog.at_level(logging.INFO), pytest.raises(ServerUnavailable):
            async with opened_link(fresh_server.url, wait_for_server=0.2, hooks=hooks):
                pass
    assert hooks.opened == []
    assert hooks.lost == []
    assert caplog.records == []


async def test_lost_connection_is_one_warning_with_address_and_reason(
    proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with opened_link(proxy.url) as link:
            proxy.cut()
            await link.call("k", "PING", repeatable=True)
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("WARNING", "connection lost")
    assert vars(record)["address"] == proxy.url
    assert vars(record)["why"]


async def test_leaving_is_not_reported_as_a_loss(
    single_server: SingleServer, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = CountingHooks()
    with caplog.at_level(logging.INFO):
        async with opened_link(single_server.url, hooks=hooks) as link:
            await link.call("k", "PING")
    assert hooks.lost == []
    assert caplog.records == []


# --- closing


async def test_callers_who_wait_for_a_server_learn_that_the_link_was_closed(
    fresh_server: SingleServer,
) -> None:
    """As an error of theirs, not as a cancellation that nobody asked for."""
    await_errors: list[BaseException] = []

    async def call(link: Any) -> None:
        try:
            await link.call("k", "PING", repeatable=True)
        except BaseException as error:
            await_errors.append(error)

    async with anyio.create_task_group() as group:
        async with opened_link(fresh_server.url) as link:
            await fresh_server.kill()
            lane: Any = link._lane("k")
            await wait_until(lambda: lane.connection is None, what="the loss was noticed")
            group.start_soon(call, link)
            await anyio.wait_all_tasks_blocked()
    (error,) = await_errors
    assert isinstance(error, ServerUnavailable)
    assert "closed" in str(error)


@pytest.mark.parametrize("topology", ["standalone", "sentinel", "cluster"], indirect=True)
async def test_calls_after_closing_are_refused_at_once(topology: Any) -> None:
    """Nothing is opened again by a caller who comes too late."""
    async with opened_link(topology.url) as link:
        await link.call("k", "PING")
    with pytest.raises(ServerUnavailable, match="closed"):
        await link.call("k", "PING")


@pytest.mark.parametrize("topology", ["standalone", "sentinel", "cluster"], indirect=True)
async def test_commands_under_way_when_the_link_closes_have_an_outcome(topology: Any) -> None:
    """They may have been done: who said so may repeat his later, the other one has to find out."""
    outcomes: list[BaseException] = []

    async def call(link: Any, repeatable: bool) -> None:
        try:
            await link.call("k", "BLPOP", "no-such-list", 30, repeatable=repeatable)
        except BaseException as error:
            outcomes.append(error)

    async with anyio.create_task_group() as group:
        async with opened_link(topology.url) as link:
            await link.call("k", "PING")
            group.start_soon(call, link, True)
            group.start_soon(call, link, False)
            await anyio.wait_all_tasks_blocked()
            await anyio.lowlevel.checkpoint()  # the turn in which the commands leave
    assert {type(error) for error in outcomes} == {ConnectionLost, Unsettled}
    assert all(error.was_sent for error in outcomes if isinstance(error, ConnectionLost))


async def test_failure_of_a_background_task_ends_waiting_callers_without_a_busy_loop(
    fresh_server: SingleServer,
) -> None:
    """The owner's group is cancelled while somebody outside of it still waits for a server."""
    turns = 0
    waiting: list[BaseException] = []

    async def fail() -> None:
        raise KeyError("background")

    async def call(link: Any) -> None:
        try:
            await link.call("k", "PING")
        except BaseException as error:
            waiting.append(error)

    original = open_connection

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal turns
        turns += 1
        return await original(*args, **kwargs)

    async with anyio.create_task_group() as group:
        with pytest.raises(KeyError, match="background"):
            async with opened_link(fresh_server.url) as link:
                await fresh_server.kill()
                lane: Any = link._lane("k")
                await wait_until(lambda: lane.connection is None, what="the loss was noticed")
                group.start_soon(call, link)
                await anyio.wait_all_tasks_blocked()
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("pulsewire._redis.lane.open_connection", counted)
                    link.tasks.start_soon(fail)
                    with anyio.CancelScope(shield=True):
                        for _ in range(200):
                            await asyncio.sleep(0)
                await anyio.sleep_forever()
    assert turns < 10
    assert isinstance(waiting[0], ServerUnavailable)


async def test_connection_that_is_ready_just_when_the_link_closes_is_closed_with_it(
    single_server: SingleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would do it later."""
    opened: list[Any] = []

    async def and_close(*args: Any, **kwargs: Any) -> Any:
        connection, info = await open_connection(*args, **kwargs)
        opened.append(connection)
        lane.close()
        return connection, info

    async with opened_link(single_server.url) as link:
        lane: Any = link._lane("k")
        lane.connection.lose("pulled")
        monkeypatch.setattr("pulsewire._redis.lane.open_connection", and_close)
        with pytest.raises(ServerUnavailable, match="closed"):
            await link.call("k", "PING")
        assert not opened[0].is_usable


async def test_door_that_is_opened_and_given_up_leaves_no_connection(proxy: FaultProxy) -> None:
    """Given up anywhere in the handshake: the server sees the connection go."""
    for turns in range(40):

        async def open_and_lose(scope: anyio.CancelScope) -> None:
            with scope:
                (await open_connection(door_of(proxy.url), master_only=True))[0].lose("opened")

        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(open_and_lose, scope)
            for _ in range(turns):
                await asyncio.sleep(0)
            scope.cancel()
    await wait_until(
        lambda: proxy.statistics().open_connections == 0, what="all connections are closed"
    )
