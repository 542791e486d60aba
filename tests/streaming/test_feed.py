"""Reading for a sink through bad weather: what the server has given away is always handed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Stream
from pulsewire._redis import blocking as blocking_module
from pulsewire.streaming import sink as sink_module
from pulsewire.testing import ClusterGroup, FaultProxy, SingleServer, slot_of, wait_until
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    MakeStream,
    add_numbered,
    names,
    numbers,
    take,
    work_off,
)

LONG = 60.0
"""A grace that no test waits for: what comes within it was not claimed."""


@pytest.fixture
def stream(weathered: pulsewire.Hub) -> Stream[bytes]:
    return weathered.stream("events", max_len=0, ttl=60.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent connection counts as dead after half a second instead of four."""
    for module in (blocking_module, sink_module):
        monkeypatch.setattr(module, "LONGEST_BLOCK", 0.3)
    monkeypatch.setattr(blocking_module, "SILENCE_MARGIN", 0.2)


@pytest.mark.parametrize("then", ["cut", "stall"])
async def test_events_of_a_lost_reply_are_fetched_at_once(
    then: Any, stream: Stream[bytes], proxy: FaultProxy, impatient: None
) -> None:
    """They are pending in our name; nobody waits for the grace (S17)."""
    await add_numbered(stream, 5)
    async with stream.sink("s", start="oldest", ack_grace=LONG) as sink:
        fault = proxy.swallow_reply("XREADGROUP", then=then)
        found = await work_off(sink, 5)
        assert fault.hits == 1
        assert names(found) == numbers(5)
        assert sink.statistics().claimed == 0


async def test_twenty_lost_replies_lose_nothing(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Each event is handed out once all the same, since the consumer knows what it has seen."""
    await add_numbered(stream, 400)
    async with stream.sink("s", start="oldest", ack_grace=LONG, max_polled=10) as sink:
        fault = proxy.swallow_reply("XREADGROUP", count=20, every=3)
        found = await work_off(sink, 400)
        assert names(found) == numbers(400)
        assert fault.hits >= 19  # the last one may be of a read that still blocks
    assert (await single_server.command("XPENDING", stream.key, "s"))[0] == 0


async def test_lost_reply_with_more_events_than_one_command_fetches(
    stream: Stream[bytes], proxy: FaultProxy
) -> None:
    await add_numbered(stream, 2500)
    async with stream.sink(
        "s", start="oldest", ack_grace=LONG, max_polled=2500, buffer=2500
    ) as sink:
        fault = proxy.swallow_reply("XREADGROUP")
        found: list[str] = []
        with anyio.fail_after(PATIENCE):
            while len(found) < 2500:
                batch = await sink.read(max=2500)
                await sink.ack(*batch)
                found += names(batch)
        assert fault.hits == 1
        assert found == numbers(2500)


async def test_lost_reply_of_malformed_and_filtered_entries_is_made_up_for(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """They are acknowledged in the end, as if the reply had come."""
    await single_server.command("XADD", stream.key, "*", "x", "y")
    await stream.add("other topic", b"", topic="b")
    await stream.add("wanted", b"", topic="a")
    async with stream.sink("s", start="oldest", topic="a", ack_grace=LONG) as sink:
        proxy.swallow_reply("XREADGROUP")
        assert names(await work_off(sink, 1)) == ["wanted"]
    assert (await single_server.command("XPENDING", stream.key, "s"))[0] == 0


async def test_events_removed_behind_a_lost_reply_are_counted_as_gone(
    stream: Stream[bytes],
    proxy: FaultProxy,
    single_server: SingleServer,
    facts: Facts,
    impatient: None,
) -> None:
    ids = await add_numbered(stream, 3)
    async with stream.sink("s", start="oldest", ack_grace=LONG) as sink:
        fault = proxy.swallow_reply("XREADGROUP", then="stall")
        async with anyio.create_task_group() as tasks:

            async def remove() -> None:
                await fault.wait_hit()
                await single_server.command("XDEL", stream.key, ids[0])

            tasks.start_soon(remove)
            assert names(await work_off(sink, 2)) == ["1", "2"]
        assert sink.statistics().gone == 1
        assert sink.statistics().filtered == 0
    assert facts.of("events_missed") == [("events", "s", 1)]
    assert (await single_server.command("XPENDING", stream.key, "s"))[0] == 0


async def test_cut_connections_lose_nothing(stream: Stream[bytes], proxy: FaultProxy) -> None:
    """At every moment; each event comes within the grace, so none was waited for."""
    async with stream.sink("s", start="oldest", ack_grace=LONG) as sink:
        for number in range(40):
            await stream.add(str(number), b"")
            if number % 2:
                proxy.cut("fin" if number % 4 == 1 else "rst")
            (event,) = await work_off(sink, 1)
            assert event.name == str(number)


async def test_killed_clients_come_back(
    stream: Stream[bytes], single_server: SingleServer, facts: Facts
) -> None:
    """CLIENT KILL of everything we have open, ten times."""
    async with stream.sink("s", start="oldest", ack_grace=LONG) as sink:
        for number in range(10):
            for client, line in (await single_server.clients()).items():
                if "name=pulsewire:" in line:
                    await single_server.command("CLIENT", "KILL", "ID", client)
            await stream.add(str(number), b"")
            assert names(await work_off(sink, 1)) == [str(number)]


@pytest.mark.parametrize(
    "refusal",
    [
        b"LOADING Redis is loading the dataset in memory",
        b"READONLY You can't write against a read only replica.",
        b"MASTERDOWN Link with MASTER is down",
        b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        b"CLUSTERDOWN The cluster is down",
    ],
    ids=lambda refusal: refusal.split()[0].decode(),
)
async def test_passing_refusal_is_waited_out(
    refusal: bytes, stream: Stream[bytes], proxy: FaultProxy
) -> None:
    await add_numbered(stream, 3)
    async with stream.sink("s", start="oldest", ack_grace=LONG) as sink:
        fault = proxy.inject_error(refusal, "XREADGROUP", count=3)
        assert names(await work_off(sink, 3)) == numbers(3)
        assert fault.hits == 3


async def test_lasting_refusal_ends_the_sink(stream: Stream[bytes], proxy: FaultProxy) -> None:
    """As the one error it is (rule 5.2)."""
    with pytest.raises(pulsewire.PermissionDenied):
        async with stream.sink("s", start="oldest") as sink:
            proxy.inject_error(b"NOPERM this user has no permissions", "XREADGROUP")
            await take(sink, 1)


async def test_forgotten_scripts_do_not_keep_events_from_coming_back(
    weathered: pulsewire.Hub, stream: Stream[bytes], single_server: SingleServer
) -> None:
    """SCRIPT FLUSH: claiming goes on (S6)."""
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=0.2) as sink:
        await take(sink, 1)
        await single_server.command("SCRIPT", "FLUSH")
        (again,) = await work_off(sink, 1)
        assert again.deliveries == 2


async def test_consuming_goes_on_after_a_restart_of_the_server(fresh_server: SingleServer) -> None:
    async with pulsewire.connect(fresh_server.url) as hub:
        stream = hub.stream("events")
        async with stream.sink("s", start="oldest", ack_grace=LONG) as sink:
            for number in range(3):
                await stream.add(f"{number} before", b"")
                assert names(await work_off(sink, 1)) == [f"{number} before"]
                await fresh_server.kill()
                await fresh_server.restart()
                await stream.add(f"{number} after", b"")
                assert names(await work_off(sink, 1)) == [f"{number} after"]


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_stream_is_consumed_on_while_its_slot_moves(
    topology: ClusterGroup, make_stream: MakeStream
) -> None:
    """From node to node, with adds under way: a reader sees each event once, a sink each at least once."""
    stream = make_stream(max_len=0)
    read: list[str] = []
    handled: set[str] = set()

    async def follow() -> None:
        async with stream.reader(start="oldest") as reader:
            read.extend(names(await take(reader, 300)))

    async def consume() -> None:
        async with stream.sink("s", start="oldest", ack_grace=1.0) as sink:
            while len(handled) < 300:
                handled.update(names(await work_off(sink, 1)))

    async def move() -> None:
        for target in await topology.masters():
            await topology.move_slot(slot_of(stream.key), target)
        moved.set()

    moved = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        tasks.start_soon(consume)
        tasks.start_soon(move)
        for number in range(300):
            await stream.add(str(number), b"")
            if number == 200:
                await moved.wait()
    assert read == numbers(300)
    assert handled == set(numbers(300))


async def test_idle_sink_asks_the_server_seldom(stream: Stream[bytes], proxy: FaultProxy) -> None:
    """A busy loop would ask hundreds of times in the while that twenty short reads take."""
    async with stream.sink("s", ack_grace=LONG) as sink:
        for _ in range(20):
            assert await sink.read(timeout=0.01) == []
        commands = proxy.statistics().commands
    assert commands["XREADGROUP"] <= 2
    assert commands.get("EVALSHA", 0) + commands.get("EVAL", 0) <= 3


async def test_sink_that_nobody_asks_reads_nothing(
    stream: Stream[bytes], proxy: FaultProxy
) -> None:
    """Not even a connection is opened for it."""
    async with stream.sink("s", start="oldest"):
        await add_numbered(stream, 3)
        await anyio.wait_all_tasks_blocked()
        assert proxy.statistics().commands.get("XREADGROUP", 0) == 0
        assert proxy.statistics().open_connections == 1


async def test_blocked_read_is_ended_by_an_unblock(
    stream: Stream[bytes], proxy: FaultProxy
) -> None:
    """Adding a stream does not cut the connection on which an event may be on its way."""
    other = stream.sibling("other")
    unblocks = 0

    def count_unblocks(words: Sequence[bytes]) -> bool:
        nonlocal unblocks
        unblocks += list(words[:2]) == [b"CLIENT", b"UNBLOCK"]
        return False

    proxy.swallow_reply(count_unblocks)
    async with stream.sink("s", ack_grace=LONG) as sink, anyio.create_task_group() as tasks:
        found: list[str] = []

        async def work() -> None:
            found.extend(names(await work_off(sink, 1)))

        tasks.start_soon(work)
        await wait_until(
            lambda: proxy.statistics().commands.get("XREADGROUP", 0) == 1, what="it blocks"
        )
        await sink.add_stream(other)
        assert unblocks >= 1
        await other.add("e", b"")
    assert found == ["e"]
    await other.destroy()
