"""The duties beside reading: taking over from silent consumers, keeping what is held, tidying up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import pulsewire
from pulsewire import Event, Stream
from pulsewire.streaming import sweeper as sweeper_module
from pulsewire.testing import SingleServer, Topology, wait_until
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    Pending,
    Raw,
    add_numbered,
    let_pass,
    names,
    numbers,
    work_off,
)

TOPOLOGIES = ["standalone", "cluster"]
GRACE = 0.3
SOURCE = Path(__file__).resolve().parents[2] / "src"

# A consumer in a process of its own: takes so many events, says so, and hangs.
CONSUMER = """
import asyncio, sys
import pulsewire

async def main(url, namespace, count):
    async with pulsewire.connect(url, namespace=namespace) as hub:
        async with hub.stream("events").sink("s", ack_grace=0.3) as sink:
            events = []
            while len(events) < count:
                events += await sink.read(max=count - len(events))
            print("has", len(events), flush=True)
            await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def leave_pending(stream: Stream[bytes], raw: Raw, consumer: str, count: int) -> None:
    """As a consumer that took events and was never seen again."""
    await raw(
        stream.key,
        *("XREADGROUP", "GROUP", "s", consumer, "COUNT", count, "STREAMS", stream.key, ">"),
    )


# --- taking over


async def test_events_of_a_killed_process_are_taken_over(
    topology: Topology, namespace: str, stream: Stream[bytes], pending: Pending
) -> None:
    """SIGKILL with events in hand: all of them come to another consumer, and the dead one is tidied away later."""
    await add_numbered(stream, 20)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", CONSUMER, topology.url, namespace, "15"],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = await anyio.to_thread.run_sync(process.stdout.readline)
            assert line == b"has 15\n"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close() if process.stdout is not None else None
        found = await work_off(sink, 20)
        assert sorted(names(found), key=int) == numbers(20)
        assert sorted(int(event.name) for event in found if event.deliveries == 2) == list(
            range(15)
        )
        assert sink.statistics().claimed == 15
    assert await pending(stream, "s") == []


async def test_all_that_was_left_is_taken_over_as_quickly_as_it_is_handled(
    stream: Stream[bytes], raw: Raw, pending: Pending
) -> None:
    """However much it is: not so much at each of the claims, which come every 5 s."""
    ids = await add_numbered(stream, 700)
    await stream.store.ensure_group("s", "0")
    await leave_pending(stream, raw, "gone", 700)
    claim = ("XCLAIM", stream.key, "s", "gone", 0, *ids)
    await raw(stream.key, *claim, "IDLE", 60_000, "JUSTID")
    handled: list[str] = []
    async with stream.sink("s", ack_grace=20.0) as sink:

        async def handle(event: Event[bytes]) -> None:
            handled.append(event.name)
            if len(handled) == 700:
                sink.stop()

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=10)
    assert sorted(handled, key=int) == numbers(700)
    assert await pending(stream, "s") == []


async def test_claims_are_told(
    stream: Stream[bytes], raw: Raw, watched: pulsewire.Hub, facts: Facts
) -> None:
    await add_numbered(stream, 3)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await leave_pending(stream, raw, "dead", 3)
    async with watched.stream("events").sink("s", ack_grace=GRACE) as sink:
        assert names(await work_off(sink, 3)) == numbers(3)
    assert facts.total("events_claimed", "events", "s") == 3


async def test_nobody_claims_what_nobody_asks_for(
    hub: pulsewire.Hub, stream: Stream[bytes], raw: Raw, pending: Pending
) -> None:
    """A sink without a taker leaves silent consumers' events to those who have one."""
    await add_numbered(stream, 3)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await leave_pending(stream, raw, "dead", 3)
    async with stream.sink("s", ack_grace=GRACE) as idle:
        await let_pass(hub, 3 * GRACE)
        assert {consumer for _, consumer, _, _ in await pending(stream, "s")} == {"dead"}
        async with stream.sink("s", ack_grace=GRACE) as busy:
            assert names(await work_off(busy, 3)) == numbers(3)
        assert idle.statistics().claimed == 0


async def test_busy_sink_leaves_what_it_has_no_use_for(stream: Stream[bytes], raw: Raw) -> None:
    """One with an event in hand takes no second one over; another one does."""
    await add_numbered(stream, 6)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await leave_pending(stream, raw, "dead", 6)
    async with (
        stream.sink("s", ack_grace=GRACE) as busy,
        stream.sink("s", ack_grace=GRACE) as other,
    ):
        in_hand = aiter(busy)
        with anyio.fail_after(PATIENCE):
            event = await anext(in_hand)
        found = await work_off(other, 5)
        assert len({event.name, *names(found)}) == 6
        await event.ack()
        assert busy.statistics().claimed == 1


async def test_sinks_that_claim_at_once_get_different_events(
    stream: Stream[bytes], raw: Raw
) -> None:
    """There is no lease among them (S7)."""
    await add_numbered(stream, 300)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await leave_pending(stream, raw, "dead", 300)
    found: list[Event[bytes]] = []

    async def work(sink: pulsewire.Sink[bytes]) -> None:
        while batch := await sink.read(max=20):
            await sink.ack(*batch)
            found.extend(batch)

    async with anyio.create_task_group() as tasks:
        async with (
            stream.sink("s", ack_grace=0.5) as one,
            stream.sink("s", ack_grace=0.5) as two,
            stream.sink("s", ack_grace=0.5) as three,
        ):
            for sink in (one, two, three):
                tasks.start_soon(work, sink)
            await wait_until(lambda: len(found) >= 300, timeout=PATIENCE, what="all are done")
            tasks.cancel_scope.cancel()
    assert sorted(names(found), key=int) == numbers(300)
    assert {event.deliveries for event in found} == {2}


# --- keeping


async def test_consumer_that_stands_still_gives_up_what_it_has_not_begun(
    stream: Stream[bytes], pending: Pending
) -> None:
    """A handler hangs; what was held ahead for it goes to others, without having counted as delivered."""
    await add_numbered(stream, 900)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        hangs, may_go_on = anyio.Event(), anyio.Event()
        handled: list[str] = []

        async def handle(event: Event[bytes]) -> None:
            handled.append(event.name)
            await anyio.sleep(0.001)
            if sink.statistics().buffered > 0:
                hangs.set()
                await may_go_on.wait()
                sink.stop()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.consume, handle)
            await hangs.wait()
            async with stream.sink("s", ack_grace=GRACE) as other:
                found = await work_off(other, 900 - len(handled))
            assert sorted([*names(found), *handled], key=int) == numbers(900)
            assert {event.deliveries for event in found} == {1}
            assert sink.statistics().released > 0
            assert sink.statistics().buffered == 0
            may_go_on.set()
    assert await pending(stream, "s") == []


async def test_position_is_noted_down_before_it_expires(
    single_server: SingleServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives for a week; the tidying duty has it written again long before."""
    monkeypatch.setattr(sweeper_module, "LEAST_TIDY_PERIOD", 0.05)
    async with pulsewire.connect(single_server.url, namespace=namespace) as hub:
        stream = hub.stream("events")
        await add_numbered(stream, 1)
        positions = stream.store.keys.positions
        async with stream.sink("s", start="oldest", ack_grace=0.1) as sink:
            await work_off(sink, 1)

            async def is_noted() -> bool:
                return bool(await single_server.command("EXISTS", positions))

            for _ in range(3):
                await wait_until(is_noted, what="the position is noted down")
                await single_server.command("DEL", positions)
        await stream.destroy()


# --- tidying


async def test_silent_consumers_without_events_are_tidied_away(
    single_server: SingleServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that hold something stay until that was taken over (S2)."""
    monkeypatch.setattr(sweeper_module, "LEAST_TIDY_PERIOD", 0.05)
    async with pulsewire.connect(single_server.url, namespace=namespace) as hub:
        stream = hub.stream("events")
        await add_numbered(stream, 1)
        async with stream.sink("s", start="oldest", ack_grace=0.2) as sink:
            await stream.store.add_consumer("s", "silent")
            await single_server.command(
                *("XREADGROUP", "GROUP", "s", "holder", "STREAMS", stream.key, ">")
            )

            async def consumers() -> set[str]:
                (group,) = (await stream.info()).groups
                return {consumer.name for consumer in group.consumers}

            async def silent_is_gone() -> bool:
                return "silent" not in await consumers()

            async def holder_is_gone() -> bool:
                return await consumers() == {sink.consumer}

            await wait_until(silent_is_gone, what="the silent consumer is gone")
            assert await consumers() == {"holder", sink.consumer}
            await work_off(sink, 1)
            await wait_until(holder_is_gone, what="the other one has followed")
        await stream.destroy()


async def test_consumer_that_was_tidied_away_comes_back_by_itself(
    stream: Stream[bytes], raw: Raw
) -> None:
    """A sink that nobody had asked for events for minutes."""
    async with stream.sink("s") as sink:
        await raw(stream.key, "XGROUP", "DELCONSUMER", stream.key, "s", sink.consumer)
        await stream.add("e", b"")
        assert names(await work_off(sink, 1)) == ["e"]
