"""Sinks: consumers that share the events of a stream, each event to one of them, at least once."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Closed, Event, InvalidName, InvalidOption, ServerError, Sink, Stream
from pulsewire.streaming import sweeper as sweeper_module
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    MakeStream,
    Pending,
    Raw,
    add_numbered,
    let_pass,
    names,
    numbers,
    on_one_server,
    on_two_topologies,
    take,
    work_off,
)

GRACE = 0.3


async def take_and_ack(sink: Sink[Any], count: int) -> list[str]:
    events = await take(sink, count)
    await sink.ack(*events)
    return names(events)


async def some_turns() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


# --- sharing


async def test_sinks_of_one_name_share_the_events(stream: Stream[bytes], pending: Pending) -> None:
    """Each event goes to exactly one of them."""
    found: list[str] = []

    async def work(sink: Sink[bytes]) -> None:
        async for event in sink:
            found.append(event.name)
            await event.ack()
            if len(found) == 200:
                one.stop()
                other.stop()

    async with stream.sink("s", start="oldest") as one, stream.sink("s") as other:
        await add_numbered(stream, 200)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work, one)
                tasks.start_soon(work, other)
        assert sorted(found, key=int) == numbers(200)
        assert await pending(stream, "s") == []


async def test_sinks_of_different_names_get_everything_each(stream: Stream[bytes]) -> None:
    """Fan-out: analytics and notifications."""
    async with stream.sink("analytics") as one, stream.sink("notifications") as other:
        await add_numbered(stream, 50)
        assert await take_and_ack(one, 50) == numbers(50)
        assert await take_and_ack(other, 50) == numbers(50)


async def test_event_knows_where_it_comes_from(stream: Stream[bytes]) -> None:
    async with stream.sink("mailer") as sink:
        event_id = await stream.add("user.created", b"x", topic="t", headers={"k": "v"})
        (event,) = await sink.read(timeout=PATIENCE)
        assert (event.id, event.stream, event.sink, event.deliveries) == (
            event_id,
            "events",
            "mailer",
            1,
        )
        assert (event.name, event.payload, event.topic, event.headers) == (
            "user.created",
            b"x",
            "t",
            {"k": "v"},
        )


@on_two_topologies
async def test_five_consumers_share_evenly(stream: Stream[bytes]) -> None:
    """A handler of 10 ms: nobody takes much more than the others (S11)."""
    counts = [0] * 5
    async with anyio.create_task_group() as tasks:

        async def consume(number: int) -> None:
            async with stream.sink("s", start="oldest") as sink:

                async def handle(event: Event[bytes]) -> None:
                    await anyio.sleep(0.01)
                    counts[number] += 1
                    if sum(counts) == 400:
                        tasks.cancel_scope.cancel()

                await sink.consume(handle)

        await add_numbered(stream, 400)
        with anyio.fail_after(PATIENCE):
            for number in range(5):
                tasks.start_soon(consume, number)
    assert all(55 <= count <= 105 for count in counts), counts


# --- where a group begins


async def test_group_begins_where_the_first_sink_says(stream: Stream[bytes], raw: Raw) -> None:
    ids = await add_numbered(stream, 5)
    for start, expected in (("oldest", numbers(5)), (ids[2], numbers(2, 3)), ("0", numbers(5))):
        async with stream.sink(f"from-{start}", start=start) as sink:
            assert await take_and_ack(sink, len(expected)) == expected


async def test_newest_begins_with_what_comes_next(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 5)
    async with stream.sink("s") as sink:
        await add_numbered(stream, 2, 5)
        assert await take_and_ack(sink, 2) == ["5", "6"]


async def test_moment_is_exact_to_the_millisecond(stream: Stream[bytes], raw: Raw) -> None:
    for entry_id in ("1000-0", "1001-0", "1001-1", "1002-0"):
        await raw(stream.key, "XADD", stream.key, entry_id, "n", entry_id, "p", "")
    async with stream.sink("s", start=datetime(1970, 1, 1, 0, 0, 1, 1000, UTC)) as sink:
        assert await take_and_ack(sink, 3) == ["1001-0", "1001-1", "1002-0"]


async def test_start_counts_only_for_the_first_sink(stream: Stream[bytes]) -> None:
    """Later ones go on where the group is, also after all have left."""
    await add_numbered(stream, 3)
    async with stream.sink("s", start="oldest") as sink:
        assert await take_and_ack(sink, 2) == ["0", "1"]
    await add_numbered(stream, 1, 3)
    async with stream.sink("s", start="newest") as sink:
        assert await take_and_ack(sink, 2) == ["2", "3"]


async def test_sink_makes_the_stream_it_needs(stream: Stream[bytes]) -> None:
    """Nothing added after entering is missed."""
    async with stream.sink("s") as sink:
        assert (await stream.info()).exists
        await stream.add("first", b"")
        assert await take_and_ack(sink, 1) == ["first"]


# --- taking no more than is worked on


async def test_sink_takes_nothing_before_somebody_asks(
    stream: Stream[bytes], pending: Pending
) -> None:
    """Others can have it all meanwhile (S1)."""
    async with stream.sink("s", start="oldest"), stream.sink("s") as busy:
        await add_numbered(stream, 20)
        assert await take_and_ack(busy, 20) == numbers(20)
        assert await pending(stream, "s") == []


async def test_event_in_hand_keeps_no_other_waiting_behind_it(
    stream: Stream[bytes], pending: Pending
) -> None:
    """A worker that is slow has one event; the others are free for everybody."""
    await add_numbered(stream, 10)
    async with stream.sink("s", start="oldest") as slow, stream.sink("s") as quick:
        in_hand = slow.__aiter__()
        assert (await anext(in_hand)).name == "0"
        assert await take_and_ack(quick, 9) == numbers(9, 1)
        assert [consumer for _, consumer, _, _ in await pending(stream, "s")] == [slow.consumer]


async def test_read_takes_what_it_asked_for_at_most(
    stream: Stream[bytes], pending: Pending
) -> None:
    await add_numbered(stream, 50)
    async with stream.sink("s", start="oldest") as sink:
        events = await sink.read(max=10, timeout=PATIENCE)
        assert names(events) == numbers(10)
        assert len(await pending(stream, "s")) == 10
        await sink.ack(*events)


# --- acknowledging


async def test_acknowledged_event_is_done(stream: Stream[bytes], pending: Pending) -> None:
    """When `ack` has returned, the server has it."""
    await add_numbered(stream, 3)
    async with stream.sink("s", start="oldest") as sink:
        events = await take(sink, 3)
        await events[0].ack()
        assert [event_id for event_id, *_ in await pending(stream, "s")] == [
            events[1].id,
            events[2].id,
        ]
        await sink.ack(*events)
        await events[0].ack()
        await sink.ack()
        assert await pending(stream, "s") == []


@on_two_topologies
async def test_event_that_was_not_acknowledged_comes_again(
    hub: pulsewire.Hub, stream: Stream[bytes]
) -> None:
    """After the grace, to the same sink when there is no other; and not again after that one is acknowledged."""
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        (first,) = await take(sink, 1)
        (again,) = await take(sink, 1)
        assert (again.id, first.deliveries, again.deliveries) == (first.id, 1, 2)
        await again.ack()
        await let_pass(hub, 3 * GRACE)
        assert await sink.read(timeout=0.01) == []
        assert sink.statistics().claimed == 1


async def test_event_of_one_that_failed_goes_to_another(stream: Stream[bytes]) -> None:
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as one:
        (first,) = await take(one, 1)
        async with stream.sink("s", ack_grace=GRACE) as other:
            (again,) = await take(other, 1)
            assert (again.id, again.deliveries) == (first.id, 2)
            await again.ack()


@on_two_topologies
async def test_no_ack_means_done_when_delivered(
    hub: pulsewire.Hub, stream: Stream[bytes], pending: Pending
) -> None:
    """Nothing is pending and nothing comes again."""
    await add_numbered(stream, 20)
    async with stream.sink("s", start="oldest", no_ack=True, ack_grace=GRACE) as sink:
        events = await take(sink, 20)
        assert names(events) == numbers(20)
        assert await pending(stream, "s") == []
        await events[0].ack()
        await sink.ack(*events)
        await sink.extend(*events)
        await let_pass(hub, 2 * GRACE)
        assert await sink.read(timeout=0.01) == []
        assert sink.statistics().lost_to_others == 0


async def test_event_of_another_sink_cannot_be_acknowledged_here(stream: Stream[bytes]) -> None:
    async with (
        stream.sink("one", start="oldest") as one,
        stream.sink("other", start="oldest") as other,
    ):
        await stream.add("e", b"")
        (event,) = await take(one, 1)
        (theirs,) = await take(other, 1)
        for call in (one.ack(theirs), one.extend(theirs), one.ack(event, theirs)):
            with pytest.raises(InvalidOption):
                await call
        async with stream.reader(start="oldest") as reader:
            with pytest.raises(InvalidOption):
                await one.ack(*await take(reader, 1))


async def test_many_acks_at_once_all_arrive(make_stream: MakeStream, pending: Pending) -> None:
    """From many tasks, more than one command takes."""
    stream = make_stream(max_len=0)
    await add_numbered(stream, 1500)
    async with stream.sink("s", start="oldest") as sink:
        events: list[Event[bytes]] = []
        while len(events) < 1500:
            events += await sink.read(max=1500, timeout=PATIENCE)
        async with anyio.create_task_group() as tasks:
            for event in events:
                tasks.start_soon(event.ack)
        assert await pending(stream, "s") == []
        assert sink.statistics().acked == 1500


# --- in work


@on_two_topologies
@pytest.mark.parametrize("how", ["loop", "read", "consume"])
async def test_event_in_work_is_not_taken_over(
    how: str, hub: pulsewire.Hub, stream: Stream[bytes], pending: Pending
) -> None:
    """However much longer than the grace it takes (S10)."""
    await stream.add("e", b"")
    async with (
        stream.sink("s", start="oldest", ack_grace=GRACE) as busy,
        stream.sink("s", ack_grace=GRACE) as other,
    ):

        async def work(event: Event[bytes]) -> None:
            assert await other.read(timeout=3 * GRACE) == []
            busy.stop()

        if how == "loop":
            async for event in busy:
                await work(event)
                await event.ack()
        elif how == "read":
            (event,) = await busy.read(timeout=PATIENCE)
            await work(event)
            await event.ack()
        else:
            await busy.consume(work)
        assert busy.statistics().failed == 0
        assert busy.statistics().lost_to_others == 0
    assert await pending(stream, "s") == []


@on_two_topologies
async def test_events_that_wait_their_turn_are_not_taken_over(stream: Stream[bytes]) -> None:
    """Sixty events at 20 ms with a grace of 300 ms: sixty deliveries (S10)."""
    await add_numbered(stream, 60)
    found: list[str] = []
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:

        async def handle(event: Event[bytes]) -> None:
            await anyio.sleep(0.02)
            found.append(event.name)
            if len(found) == 60:
                sink.stop()

        await sink.consume(handle)
        assert found == numbers(60)
        assert sink.statistics().delivered == 60
        assert sink.statistics().claimed == 0


@on_two_topologies
@pytest.mark.parametrize("how", ["loop", "read"])
async def test_extended_event_is_kept_until_it_is_acknowledged(
    how: str, hub: pulsewire.Hub, stream: Stream[bytes]
) -> None:
    """Beyond the loop's body and beyond the next read: for work that goes on elsewhere."""
    await add_numbered(stream, 2)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        if how == "loop":
            events = sink.__aiter__()
            first = await anext(events)
            await sink.extend(first)
            second = await anext(events)
        else:
            (first,) = await sink.read(max=1, timeout=PATIENCE)
            await sink.extend(first)
            (second,) = await sink.read(max=1, timeout=PATIENCE)
        await second.ack()
        async with stream.sink("s", ack_grace=GRACE) as other:
            assert await other.read(timeout=3 * GRACE) == []
        await first.ack()
        assert sink.statistics().in_work == 0
        assert sink.statistics().lost_to_others == 0


async def test_event_can_be_extended_after_the_loop_moved_on(
    hub: pulsewire.Hub, stream: Stream[bytes]
) -> None:
    """As long as nobody else has it."""
    await add_numbered(stream, 2)
    async with stream.sink("s", start="oldest", ack_grace=1.0) as sink:
        events = sink.__aiter__()
        first, second = await anext(events), await anext(events)
        await sink.extend(first)
        await second.ack()
        assert sink.statistics().in_work == 1
        await first.ack()
        assert sink.statistics().in_work == 0


async def test_extending_what_another_has_taken_over_changes_nothing(
    stream: Stream[bytes], pending: Pending
) -> None:
    """It is said, not stolen back."""
    await stream.add("e", b"")
    async with (
        stream.sink("s", start="oldest", ack_grace=GRACE) as one,
        stream.sink("s", ack_grace=GRACE) as other,
    ):
        (mine,) = await take(one, 1)
        del_later = await take(other, 1)
        await one.extend(mine)
        assert [consumer for _, consumer, _, _ in await pending(stream, "s")] == [other.consumer]
        assert one.statistics().in_work == 0
        await other.ack(*del_later)


async def test_loop_left_early_lets_its_event_go(stream: Stream[bytes]) -> None:
    """`break` without an ack: the event comes again although the sink is still open."""
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        async for event in sink:
            assert event.deliveries == 1
            break
        gc.collect()
        (again,) = await take(sink, 1)
        assert again.deliveries == 2
        await again.ack()


# --- several streams


async def test_one_sink_over_many_streams(make_stream: MakeStream) -> None:
    """Fan-in, with a group on each (S24: also where they are on different servers)."""
    streams = [make_stream(f"s{number}") for number in range(6)]
    async with streams[0].sink("s", start="oldest") as sink:
        for stream in streams:
            await add_numbered(stream, 10)
        for stream in streams[1:]:
            await sink.add_stream(stream)
            await sink.add_stream(stream)
        found: dict[str, list[str]] = {}
        events = await take(sink, 60)
        for event in events:
            found.setdefault(event.stream, []).append(event.name)
        await sink.ack(*events)
        assert found == {stream.name: numbers(10) for stream in streams}
        assert sink.statistics().acked == 60
        assert repr(sink) == f"<Sink 's' of s0, s1, s2, s3, s4, s5, consumer {sink.consumer}>"


async def test_added_stream_may_start_elsewhere(make_stream: MakeStream) -> None:
    one, other = make_stream("one"), make_stream("other")
    ids = await add_numbered(other, 5)
    async with one.sink("s") as sink:
        await sink.add_stream(other, start=ids[2])
        assert await take_and_ack(sink, 2) == ["3", "4"]


async def test_stream_added_while_somebody_waits_is_read_at_once(make_stream: MakeStream) -> None:
    one, other = make_stream("one"), make_stream("other")
    await other.add("e", b"")
    async with one.sink("s", start="oldest") as sink:
        found: list[str] = []

        async def work() -> None:
            found.extend(await take_and_ack(sink, 1))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await anyio.lowlevel.checkpoint()
            await sink.add_stream(other)
    assert found == ["e"]


async def test_removed_stream_is_shared_no_more(make_stream: MakeStream, raw: Raw) -> None:
    """Its group stays for the others; this consumer signs off."""
    one, other = make_stream("one"), make_stream("other")
    async with one.sink("s") as sink:
        await sink.add_stream(other)
        await sink.remove_stream(one)
        await sink.remove_stream(one)
        await one.add("removed", b"")
        await other.add("kept", b"")
        assert await take_and_ack(sink, 1) == ["kept"]
        (group,) = (await one.info()).groups
        assert (group.name, group.consumers, group.pending) == ("s", (), 0)
        async with one.sink("s") as successor:
            assert await take_and_ack(successor, 1) == ["removed"]


async def test_event_of_a_removed_stream_can_still_be_finished(
    make_stream: MakeStream, pending: Pending
) -> None:
    """Whoever is working on it is not disturbed."""
    one, other = make_stream("one"), make_stream("other")
    await one.add("e", b"")
    async with one.sink("s", start="oldest") as sink:
        await sink.add_stream(other)
        (event,) = await sink.read(timeout=PATIENCE)
        await sink.remove_stream(one)
        await event.ack()
        assert await pending(one, "s") == []


async def test_sink_without_streams_waits_for_one(make_stream: MakeStream) -> None:
    one, other = make_stream("one"), make_stream("other")
    async with one.sink("s", start="oldest") as sink:
        await sink.remove_stream(one)
        assert await sink.read(timeout=0.01) == []
        await other.add("e", b"")
        await sink.add_stream(other)
        assert await take_and_ack(sink, 1) == ["e"]
        await one.add("again", b"")
        await sink.add_stream(one)
        assert await take_and_ack(sink, 1) == ["again"]


async def test_trouble_with_one_stream_does_not_stop_the_others(
    make_stream: MakeStream, raw: Raw
) -> None:
    """One is deleted again and again; the other is read all the time (S8)."""
    well, sick = make_stream("well"), make_stream("sick")
    async with well.sink("s", start="oldest", ack_grace=GRACE) as sink:
        await sink.add_stream(sick)
        for number in range(20):
            await raw(sick.key, "DEL", sick.key)
            await well.add(str(number), b"")
            assert await take_and_ack(sink, 1) == [str(number)]
        await sick.add("recovered", b"")
        assert await take_and_ack(sink, 1) == ["recovered"]


# --- leaving


async def test_leaving_gives_back_what_was_not_begun(
    make_stream: MakeStream, pending: Pending
) -> None:
    """At once, and its delivery does not count."""
    stream = make_stream(max_len=0)
    await add_numbered(stream, 9000)
    done = 0
    async with stream.sink("s", start="oldest", ack_grace=60.0) as sink:
        async for event in sink:
            await event.ack()
            done += 1
            if sink.statistics().buffered > 0:  # its pace is known, so that events are held ahead
                break
    assert sink.statistics().released > 0
    left = await pending(stream, "s")
    assert len(left) == sink.statistics().released
    assert {deliveries for *_, deliveries in left} == {0}
    async with stream.sink("s", ack_grace=GRACE) as successor:
        found = await work_off(successor, 9000 - done)
        assert sorted(int(event.name) for event in found) == list(range(done, 9000))
        assert {event.deliveries for event in found} == {1}


async def test_consumer_that_holds_nothing_is_deleted(stream: Stream[bytes]) -> None:
    """Closed sinks leave nothing behind (S23)."""
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest") as sink:
        (group,) = (await stream.info()).groups
        assert [consumer.name for consumer in group.consumers] == [sink.consumer]
        await take_and_ack(sink, 1)
    (group,) = (await stream.info()).groups
    assert group.consumers == ()


async def test_consumer_with_an_event_in_hand_stays(stream: Stream[bytes]) -> None:
    """Deleting it would lose the event (S2); others take it over."""
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        await take(sink, 1)
    (group,) = (await stream.info()).groups
    assert [(consumer.name, consumer.pending) for consumer in group.consumers] == [
        (sink.consumer, 1)
    ]
    async with stream.sink("s", ack_grace=GRACE) as successor:
        (event,) = await take(successor, 1)
        assert event.deliveries == 2
        await event.ack()


async def test_cancelled_sink_signs_off_too(stream: Stream[bytes], pending: Pending) -> None:
    await add_numbered(stream, 10)
    with anyio.move_on_after(PATIENCE) as scope:
        async with stream.sink("s", start="oldest") as sink:
            async for event in sink:
                await event.ack()
                if event.name == "4":
                    scope.cancel()
    assert scope.cancelled_caught
    (group,) = (await stream.info()).groups
    assert group.consumers == () or group.pending
    async with stream.sink("s", ack_grace=GRACE) as successor:
        assert sorted(await take_and_ack(successor, 5), key=int) == numbers(5, 5)


@on_one_server
@pytest.mark.parametrize("how", ["timeout", "task", "twice"])
async def test_cancellation_while_a_sink_is_left_harms_nothing(
    proxy: FaultProxy, namespace: str, stream: Stream[bytes], how: str
) -> None:
    """That of asyncio itself, which no shield of anyio keeps off: the sink signs off, unless it comes twice."""
    limits: list[asyncio.Timeout] = []
    sinks: list[Sink[bytes]] = []
    others = asyncio.all_tasks()

    async def live() -> None:
        async with pulsewire.connect(proxy.url, namespace=namespace) as hub:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                async with hub.stream(stream.name).sink("s", start="oldest") as sink:
                    await take_and_ack(sink, 5)
                    sinks.append(sink)
                    proxy.stall("to_client")

    def is_leaving() -> bool:
        return bool(sinks) and sinks[0]._open_intake().context.stop.is_set

    await add_numbered(stream, 10)
    task = asyncio.create_task(live())
    await wait_until(is_leaving, what="the sink is being left")
    if how == "timeout":
        limits[0].reschedule(asyncio.get_running_loop().time())
    else:
        task.cancel()
    await some_turns()
    if how == "twice":
        task.cancel()
        await wait_until(lambda: sinks[0]._intake is None, what="the sink was left at once")
    proxy.resume()
    with pytest.raises(TimeoutError if how == "timeout" else asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == others
    (group,) = (await stream.info()).groups
    if how != "twice":
        assert group.consumers == ()
    async with stream.sink("s", ack_grace=GRACE) as successor:
        assert sorted(await take_and_ack(successor, 5), key=int) == numbers(5, 5)


async def test_error_of_the_block_comes_out_as_it_is(stream: Stream[bytes]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stream.sink("s", start="oldest") as sink:
            await stream.add("e", b"")
            async for _ in sink:
                raise ZeroDivisionError
    (group,) = (await stream.info()).groups
    assert group.pending == 1


async def test_stopped_sink_hands_out_nothing_more(stream: Stream[bytes], pending: Pending) -> None:
    """Iteration ends, `read` returns nothing; what it held is given back on leaving."""
    await add_numbered(stream, 100)
    async with stream.sink("s", start="oldest") as sink:
        found = 0
        async for event in sink:
            await event.ack()
            found += 1
            if found == 30:
                sink.stop()
        assert found == 30
        assert await sink.read() == []
        sink.stop()
    async with stream.sink("s") as successor:
        assert sorted(await take_and_ack(successor, 70), key=int) == numbers(70, 30)


async def test_waiting_tasks_end_with_the_sink(stream: Stream[bytes]) -> None:
    outcomes: list[Any] = []

    async def iterate(sink: Sink[bytes]) -> None:
        outcomes.append([event async for event in sink])

    async def read(sink: Sink[bytes]) -> None:
        outcomes.append(await sink.read())

    async def consume(sink: Sink[bytes]) -> None:
        await sink.consume(lambda event: event.ack())
        outcomes.append("consumed")

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            async with stream.sink("s") as sink:
                for duty in (iterate, read, consume):
                    tasks.start_soon(duty, sink)
                await anyio.wait_all_tasks_blocked()
    assert sorted(outcomes, key=str) == [[], [], "consumed"]


async def test_closed_sink_says_so(stream: Stream[bytes]) -> None:
    sink = stream.sink("s", start="oldest")
    with pytest.raises(Closed):
        await sink.read()
    await stream.add("e", b"")
    async with sink:
        (event,) = await sink.read(timeout=PATIENCE)
    with pytest.raises(Closed):
        sink.stop()
    with pytest.raises(Closed):
        aiter(sink)
    for call in (
        sink.read(),
        sink.consume(lambda event: event.ack()),
        sink.add_stream(stream),
        event.ack(),
        sink.ack(event),
    ):
        with pytest.raises(Closed):
            await call
    assert sink.statistics().delivered == 1


async def test_acks_under_way_are_sent_before_leaving(
    stream: Stream[bytes], pending: Pending
) -> None:
    """Those of a handler that has just returned."""
    await add_numbered(stream, 300)
    async with stream.sink("s", start="oldest") as sink:
        done = 0

        async def handle(event: Event[bytes]) -> None:
            nonlocal done
            done += 1
            if done == 300:
                sink.stop()

        await sink.consume(handle)
    assert await pending(stream, "s") == []
    assert sink.statistics().acked == 300


async def test_server_that_is_gone_keeps_nobody_from_leaving(
    fresh_server: SingleServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be said, others find out after the grace."""
    async with pulsewire.connect(fresh_server.url, wait_for_server=1.0) as hub:
        stream = hub.stream("events")
        await stream.add("e", b"")
        async with stream.sink("s", start="oldest") as sink:
            await take(sink, 1)
            await fresh_server.kill()
    assert any("could not sign off" in record.message for record in caplog.records)


# --- what is wrong is told before anything is written


@on_one_server
@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        *(
            ({"ack_grace": value}, "ack_grace")
            for value in (0, 0.01, -1.0, "20", None, float("nan"))
        ),
        *(({"max_deliveries": value}, "max_deliveries") for value in (0, -1, 1.5, "3")),
        *(({"block": value}, "block") for value in (0, -1.0)),
        *(({"max_polled": value}, "max_polled") for value in (0, None)),
        *(({"buffer": value}, "buffer") for value in (0, None)),
        *(({"start": value}, "start") for value in ("soon", None, 5)),
        ({"topic": ""}, "topic"),
        ({"topic_pattern": "("}, "topic_pattern"),
        ({"topic": "a", "topic_pattern": "b"}, "topic_pattern"),
        ({"no_ack": True, "max_deliveries": 3}, "max_deliveries"),
        ({"dead_letter": "events"}, "dead_letter"),
    ],
    ids=str,
)
async def test_impossible_option_is_refused_and_named(
    options: dict[str, Any], culprit: str, stream: Stream[bytes], raw: Raw
) -> None:
    with pytest.raises(InvalidOption) as caught:
        stream.sink("s", **options)
    assert caught.value.option == culprit
    assert await raw(stream.key, "EXISTS", stream.key) == 0


@on_one_server
@pytest.mark.parametrize("name", ["", "a b", "a*", None, 5, "x" * 513], ids=str)
async def test_illegal_name_is_refused(name: Any, stream: Stream[bytes]) -> None:
    with pytest.raises(InvalidName):
        stream.sink(name)


@on_one_server
@pytest.mark.parametrize("name", ["", "a b", 5], ids=str)
async def test_illegal_name_of_dead_letters_is_refused(name: Any, stream: Stream[bytes]) -> None:
    with pytest.raises(InvalidName):
        stream.sink("s", dead_letter=name)


async def test_key_that_is_no_stream_is_a_typed_error(stream: Stream[bytes], raw: Raw) -> None:
    await raw(stream.key, "SET", stream.key, "text")
    with pytest.raises(ServerError) as caught:
        async with stream.sink("s"):
            pass
    assert caught.value.code == "WRONGTYPE"
    assert await raw(stream.key, "GET", stream.key) == b"text"


# --- telling


async def test_sink_tells_what_it_has_done(
    stream: Stream[bytes], watched: pulsewire.Hub, facts: Facts
) -> None:
    for number in range(6):
        await stream.add(str(number), b"", topic="odd" if number % 2 else "even")
    async with watched.stream("events").sink(
        "s", start="oldest", topic="even", ack_grace=GRACE
    ) as sink:
        assert repr(sink) == f"<Sink 's' of events, consumer {sink.consumer}>"
        first, second, third = await take(sink, 3)
        await sink.ack(first, third)
        (again,) = await take(sink, 1)
        assert again.id == second.id
        await again.ack()
        statistics = sink.statistics()
    assert (statistics.delivered, statistics.claimed, statistics.filtered) == (4, 1, 3)
    assert (statistics.malformed, statistics.dead_lettered, statistics.failed, statistics.gone) == (
        0,
        0,
        0,
        0,
    )
    assert (statistics.lost_to_others, statistics.rebuilt, statistics.buffered) == (0, 0, 0)
    assert sink.statistics().acked == 6
    assert facts.total("events_delivered", "events", "s") == 4
    assert facts.total("events_filtered", "events", "s") == 3
    assert facts.total("events_claimed", "events", "s") == 1
    assert facts.total("events_acked", "events", "s") == 6


@on_one_server
async def test_sink_is_entered_once_at_a_time(stream: Stream[bytes]) -> None:
    async with stream.sink("s") as sink:
        with pytest.raises(pulsewire.ConfigurationError, match="entered already"):
            await sink.__aenter__()
        await stream.add("e", b"")
        assert len(await sink.read(timeout=PATIENCE)) == 1


@on_one_server
async def test_streams_that_come_and_go_leave_nothing_in_a_sink(
    make_stream: MakeStream, stream: Stream[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither here nor on the server; what was in work when its stream was removed can be acknowledged."""
    monkeypatch.setattr(sweeper_module, "LEAST_TIDY_PERIOD", 0.2)
    others = [make_stream(f"tenant-{number}") for number in range(5)]
    events = list[Event[bytes]]()
    async with stream.sink("s", ack_grace=0.2) as sink:
        for other in others:
            await sink.add_stream(other, start="oldest")
            await other.add("e", b"")
            (event,) = await sink.read(timeout=PATIENCE)
            await sink.remove_stream(other)
            assert sink.statistics().in_work == 1
            await event.ack()
            events.append(event)
            assert (await other.info()).groups[0].pending == 0
            await other.destroy()
        await wait_until(lambda: len(sink._all_shares()) == 1, what="they are forgotten")
        await events[0].ack()  # once more does no harm
        assert sink.statistics().acked == len(others)
        await stream.add("e", b"")
        (event,) = await sink.read(timeout=PATIENCE)
        await anyio.sleep(0.6)  # two times tidied
    assert [(await other.info()).exists for other in others] == [False] * len(others)
