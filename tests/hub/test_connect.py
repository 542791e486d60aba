"""`pulsewire.connect`: every kind of target through the public face, and what is said when there is no way in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel

import pulsewire
from pulsewire.testing import (
    ClusterGroup,
    SentinelGroup,
    SingleServer,
    Topology,
    make_certificates,
    redis7_binary,
    wait_until,
)
from tests._redis.kit import CountingHooks, StubServer, greeting
from tests.facts import PATIENCE

Connect = Callable[..., AbstractAsyncContextManager[pulsewire.Hub]]


async def carries_events(hub: pulsewire.Hub) -> bool:
    """Whether events go there and back, to a reader and to a sink."""
    stream, events = hub.stream("letters"), []
    async with stream.sink("readers", start="oldest") as sink:
        ids = await stream.add_many([("letter", b"a"), ("letter", b"b"), ("letter", b"c")])
        async for event in sink:
            await event.ack()
            events.append(event)
            if len(events) == len(ids):
                break
    async with stream.reader(start="oldest", follow=False) as reader:
        seen = [event.payload async for event in reader]
    await stream.destroy()
    return [event.id for event in events] == ids and seen == [b"a", b"b", b"c"]


# --- targets


async def test_url_of_every_topology_carries_events(topology: Topology, namespace: str) -> None:
    async with pulsewire.connect(topology.url, namespace=namespace) as hub:
        assert await carries_events(hub)
        assert hub.server.topology == topology.kind
        assert hub.server.kind in ("redis", "valkey")
        assert hub.server.version >= (6, 2)
        assert hub.namespace == namespace


@pytest.mark.parametrize("topology", ["standalone"], indirect=True)
@pytest.mark.parametrize(
    "options", [{}, {"protocol": 2}, {"protocol": 3, "decode_responses": True}]
)
async def test_client_of_the_user_carries_events_and_stays_open(
    topology: SingleServer, namespace: str, options: dict[str, Any]
) -> None:
    client = redis.asyncio.Redis(host=topology.host, port=topology.port, **options)
    async with pulsewire.connect(client, namespace=namespace) as hub:
        assert await carries_events(hub)
        assert await client.ping()
    assert await client.ping()
    await client.aclose()


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_cluster_client_of_the_user_carries_events_and_stays_open(
    topology: ClusterGroup, namespace: str
) -> None:
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=topology.nodes[0].port)
    async with pulsewire.connect(client, namespace=namespace) as hub:
        assert await carries_events(hub)
        assert hub.server.topology == "cluster"
    assert await client.ping()
    await client.aclose()


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_sentinel_client_of_the_user_carries_events_and_stays_open(
    topology: SentinelGroup, namespace: str
) -> None:
    untyped: Any = Sentinel
    sentinel = untyped([sentinel.address for sentinel in topology.sentinels])
    client = sentinel.master_for("mymaster", decode_responses=True)
    async with pulsewire.connect(client, namespace=namespace) as hub:
        assert await carries_events(hub)
        assert hub.server.topology == "sentinel"
    assert await client.ping()
    await client.aclose()
    for one in sentinel.sentinels:
        await one.aclose()


async def test_encrypted_server_carries_events(tmp_path: Path) -> None:
    binary = redis7_binary()
    if binary is None:
        pytest.skip("this machine has no Redis 7, and the embedded server speaks no TLS")
    async with SingleServer(binary, tls=make_certificates(tmp_path)) as server:
        async with pulsewire.connect(server.url) as hub:
            assert await carries_events(hub)


async def test_unix_socket_carries_events(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    async with SingleServer(args=("--unixsocket", str(path))):
        async with pulsewire.connect(f"unix://{path}") as hub:
            assert await carries_events(hub)


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_user_with_a_prefix_and_no_dangerous_command_carries_events(kind: str) -> None:
    """`+@all -@admin -@dangerous ~shop:*`, as shared servers give it: a namespace is all it needs."""
    binary = None if kind == "valkey" else redis7_binary()
    if kind == "redis" and binary is None:
        pytest.skip("this machine has no Redis 7")
    async with SingleServer(binary) as server:
        await server.command(
            *("ACL", "SETUSER", "shop", "on", ">pw", "~shop:*", "resetchannels"),
            *("+@all", "-@admin", "-@dangerous"),
        )
        url = f"redis://shop:pw@127.0.0.1:{server.port}"
        async with pulsewire.connect(url, namespace="shop") as hub:
            assert await carries_events(hub)
        async with pulsewire.connect(url, namespace="other") as hub:
            with pytest.raises(pulsewire.PermissionDenied):
                await hub.stream("letters").add("letter", b"a")


@pytest.mark.parametrize("topology", ["standalone"], indirect=True)
async def test_variable_names_the_server_when_the_call_does_not(
    topology: SingleServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULSEWIRE_URL", topology.url)
    async with pulsewire.connect(namespace=namespace) as hub:
        assert hub.url == topology.url
        assert await carries_events(hub)


@pytest.mark.parametrize("topology", ["standalone"], indirect=True)
async def test_call_wins_over_the_variable(
    topology: SingleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULSEWIRE_URL", "redis://127.0.0.1:1")
    async with pulsewire.connect(topology.url) as hub:
        assert hub.url == topology.url


async def test_ephemeral_server_is_there_without_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the variable says."""
    monkeypatch.setenv("PULSEWIRE_URL", "redis://127.0.0.1:1")
    async with pulsewire.connect(ephemeral=True) as hub:
        assert await carries_events(hub)
        assert hub.server.topology == "standalone"


async def test_two_hubs_share_a_server_and_not_their_names(
    fresh_server: SingleServer,
) -> None:
    async with (
        pulsewire.connect(fresh_server.url, namespace="one") as one,
        pulsewire.connect(fresh_server.url, namespace="other") as other,
        pulsewire.connect(fresh_server.url) as plain,
    ):
        await one.stream("a").add("x", b"")
        await other.stream("b").add("x", b"")
        await plain.stream("c").add("x", b"")
        assert await one.streams() == ["a"]
        assert await other.streams() == ["b"]
        assert await plain.streams() == ["c"]
        assert await one.stream("b").length() == 0


# --- small talk


async def test_hub_tells_where_it_is_and_how_far(hub: pulsewire.Hub) -> None:
    assert await hub.ping() > 0.0
    assert 1.6e9 < await hub.time() <= await hub.time()
    assert hub.url.startswith("redis")
    assert hub.url in repr(hub)
    assert repr(hub.namespace) in repr(hub)


async def test_streams_of_all_nodes_are_listed(hub: pulsewire.Hub) -> None:
    """And nothing but streams of this namespace."""
    names = sorted(f"stream-{number}" for number in range(30))
    for name in names:
        await hub.stream(name).add("x", b"")
    assert await hub.streams() == names
    for name in names:
        await hub.stream(name).destroy()
    assert await hub.streams() == []


async def test_secrets_are_in_no_name_of_the_hub(fresh_server: SingleServer) -> None:
    await fresh_server.command("ACL", "SETUSER", "anna", "on", ">XSECRETX", "~*", "+@all")
    url = f"redis://anna:XSECRETX@127.0.0.1:{fresh_server.port}"
    async with pulsewire.connect(url) as hub:
        assert "XSECRETX" not in f"{hub!r} {hub.url} {hub.server}"
        assert "anna" in hub.url


@pytest.mark.parametrize("topology", ["standalone"], indirect=True)
async def test_hooks_and_logger_are_the_ones_that_were_given(
    topology: SingleServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Every component's logger is a child of the one given."""
    hooks, logger = CountingHooks(), logging.getLogger("my.application")
    with caplog.at_level(logging.INFO):
        async with pulsewire.connect(topology.url, hooks=hooks, logger=logger) as hub:
            for number, line in (await topology.clients()).items():
                if "name=pulsewire:" in line:
                    await topology.command("CLIENT", "KILL", "ID", number)
            await wait_until(lambda: bool(hooks.lost), what="the loss was noticed")
            await hub.ping()
    assert len(hooks.opened) == 2
    assert {record.name for record in caplog.records} == {"my.application.redis"}


# --- wrong calls


@pytest.mark.parametrize(
    ("arguments", "error", "culprit"),
    [
        ({"target": "mysql://h"}, pulsewire.InvalidTarget, "mysql"),
        ({"target": "redis://h:port"}, pulsewire.InvalidTarget, "h:port"),
        ({"target": "redis://h?colour=blue"}, pulsewire.InvalidTarget, "colour"),
        ({"target": 7}, pulsewire.InvalidTarget, "int"),
        ({"target": object.__new__(redis.Redis)}, pulsewire.InvalidTarget, "redis.asyncio"),
        ({"target": "redis://h", "ephemeral": True}, pulsewire.InvalidOption, "ephemeral"),
        ({"target": "redis://h", "home": "/tmp/x"}, pulsewire.InvalidOption, "home"),
        ({"namespace": "a b"}, pulsewire.InvalidName, "a b"),
        ({"namespace": "{a}"}, pulsewire.InvalidName, "{a}"),
        ({"wait_for_server": -1}, pulsewire.InvalidOption, "wait_for_server"),
        ({"wait_for_server": "soon"}, pulsewire.InvalidOption, "wait_for_server"),
        ({"wait_for_server": 300.1}, pulsewire.InvalidOption, "at most 300: .* 600 s"),
    ],
)
async def test_wrong_call_is_refused_with_its_culprit_before_anything_is_opened(
    arguments: dict[str, Any],
    error: type[Exception],
    culprit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULSEWIRE_URL", "redis://127.0.0.1:1")
    with pytest.raises(error, match=culprit) as caught:
        async with pulsewire.connect(**arguments):
            pass
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("option", ["namespace", "wait_for_server"])
def test_wrong_option_is_refused_by_the_call_itself(option: str) -> None:
    """Not only when the block is entered."""
    with pytest.raises(pulsewire.ConfigurationError):
        pulsewire.connect("redis://h", **{option: "a b"})  # type: ignore[arg-type]  # that is the point


async def test_wrong_variable_is_named_like_a_wrong_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULSEWIRE_URL", "nonsense")
    with pytest.raises(pulsewire.InvalidTarget, match="nonsense"):
        async with pulsewire.connect():
            pass


async def test_no_server_wrong_password_and_old_server_have_errors_of_their_own(
    fresh_server: SingleServer,
) -> None:
    await fresh_server.command("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(pulsewire.AuthenticationFailed):
        async with pulsewire.connect(fresh_server.url):
            pass
    with pytest.raises(pulsewire.ServerUnavailable):
        async with pulsewire.connect("redis://127.0.0.1:1", wait_for_server=0.1):
            pass
    old = greeting(server="redis", version="6.0.16")
    async with StubServer(lambda words, _: old if words[0] == b"HELLO" else None) as stub:
        with pytest.raises(pulsewire.ServerTooOld, match=r"redis 6\.0\.16"):
            async with pulsewire.connect(stub.url):
                pass
    await fresh_server.kill()  # nobody can ask it for what is left, with its new password


# --- ends


@pytest.mark.parametrize("topology", ["standalone"], indirect=True)
async def test_error_of_the_block_comes_out_as_it_is(topology: SingleServer) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with pulsewire.connect(topology.url):
            raise KeyError("mine")


@pytest.mark.parametrize("topology", ["standalone"], indirect=True)
async def test_cancelling_the_block_or_the_connecting_leaves_nothing(
    topology: SingleServer,
) -> None:
    """Wherever it was."""
    for turns in range(40):
        scope = anyio.CancelScope()

        async def use(scope: anyio.CancelScope) -> None:
            with scope:
                async with pulsewire.connect(topology.url) as hub:
                    await hub.ping()
                    await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(use, scope)
            for _ in range(turns):
                await asyncio.sleep(0)
            scope.cancel()


async def test_hub_that_was_left_is_closed(
    hub: pulsewire.Hub, topology: Topology, namespace: str
) -> None:
    """On every topology, and said at once."""
    async with pulsewire.connect(topology.url, namespace=namespace) as left:
        stream = left.stream("letters")
        await left.tasks.enqueue("letter", task_id="a", process_in=3600.0)
    for queue in ("default", "other"):
        with pytest.raises(pulsewire.ServerUnavailable, match="closed"), anyio.fail_after(PATIENCE):
            await left.tasks.enqueue("letter", queue=queue)
    with pytest.raises(pulsewire.ServerUnavailable, match="closed"), anyio.fail_after(PATIENCE):
        await left.map("letters").__aenter__()
    with pytest.raises(pulsewire.ServerUnavailable, match="closed"):
        await left.ping()
    with pytest.raises(pulsewire.ServerUnavailable, match="closed"):
        await stream.add("letter", b"a")
    with pytest.raises(pulsewire.ServerUnavailable, match="closed"):
        await left.streams()
    await hub.tasks.inspector.remove_queue("default", force=True)


@pytest.mark.leaves_keys("asynq:*", "map:*", "pulse:*")
async def test_hub_of_another_loop_is_refused(hub: pulsewire.Hub) -> None:
    """With words, before anything is sent; and nothing happens to the loop that has it."""
    stream, flags = hub.stream("letters"), hub.map("letters")
    await hub.tasks.enqueue("letter", queue="known", process_in=3600.0)

    async def use_all() -> None:
        for use in (
            hub.ping,
            lambda: stream.add("letter", b"a"),
            lambda: flags.set("a", "b"),
            lambda: flags.inc("n"),
            lambda: hub.tasks.enqueue("letter", queue="known"),
            lambda: hub.tasks.enqueue("letter", queue="new"),
        ):
            with pytest.raises(pulsewire.ConfigurationError, match="another event loop"):
                await use()

    await anyio.to_thread.run_sync(anyio.run, use_all)
    await stream.add("letter", b"b")
    await flags.set("a", "c")
    assert await stream.length() == 1
    assert await hub.tasks.inspector.queues() == ["known"]


@pytest.fixture
async def two_loops_server() -> AsyncIterator[SingleServer]:
    async with SingleServer() as server:
        yield server


async def test_hubs_of_other_threads_have_loops_of_their_own(
    two_loops_server: SingleServer,
) -> None:
    """One hub per event loop; they meet only on the server."""
    url = two_loops_server.url

    async def count(times: int) -> int:
        async with pulsewire.connect(url) as hub:
            for _ in range(times):
                await hub.stream("letters").add("letter", b"a")
            return await hub.stream("letters").length()

    lengths = await asyncio.gather(
        *(anyio.to_thread.run_sync(anyio.run, count, 50) for _ in range(4))
    )
    assert max(lengths) == 200
