"""A consumer in one stream's group: what it passes over, and what happens when the group vanishes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Event, ServerError, Sink, Stream
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
    take,
    work_off,
)

GRACE = 0.2


async def wait_noted(stream: Stream[Any], raw: Raw, position: str) -> None:
    """Until the sink's position is noted down."""

    async def is_noted() -> bool:
        return bool(
            await raw(stream.key, "HGET", stream.store.keys.positions, "s") == position.encode()
        )

    await wait_until(is_noted, what=f"position {position} is noted down")


# --- passing over


async def test_filtered_events_are_acknowledged_and_never_come_again(
    hub: pulsewire.Hub,
    stream: Stream[bytes],
    pending: Pending,
    watched: pulsewire.Hub,
    facts: Facts,
) -> None:
    """Ten of twenty rejected; nothing stays pending (S9)."""
    for number in range(20):
        await stream.add(str(number), b"", topic="odd" if number % 2 else "even")
    async with watched.stream("events").sink(
        "s", start="oldest", topic="odd", ack_grace=GRACE
    ) as sink:
        assert names(await work_off(sink, 10)) == [str(number) for number in range(1, 20, 2)]

        async def nothing_is_pending() -> bool:
            return not await pending(stream, "s")

        await wait_until(nothing_is_pending, what="what was passed over is acknowledged")
        await let_pass(hub, 2 * GRACE)
        assert (sink.statistics().filtered, sink.statistics().delivered) == (10, 10)
    assert facts.total("events_filtered", "events", "s") == 10


async def test_pattern_decides_by_the_topic(stream: Stream[bytes]) -> None:
    for topic in ("orders.eu", "payments.eu", "orders.us"):
        await stream.add(topic, b"", topic=topic)
    async with stream.sink("s", start="oldest", topic_pattern="^orders") as sink:
        assert names(await work_off(sink, 2)) == ["orders.eu", "orders.us"]


async def test_claimed_events_pass_the_filter_too(
    stream: Stream[bytes], raw: Raw, pending: Pending
) -> None:
    """Their consumer had taken all of them."""
    for topic in ("a", "b", "a"):
        await stream.add(topic, b"", topic=topic)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await raw(stream.key, "XREADGROUP", "GROUP", "s", "dead", "STREAMS", stream.key, ">")
    async with stream.sink("s", topic="b", ack_grace=GRACE) as sink:
        assert names(await work_off(sink, 1)) == ["b"]

        async def nothing_is_pending() -> bool:
            return not await pending(stream, "s")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.read)
            await wait_until(nothing_is_pending, what="the others are acknowledged")
            sink.stop()
        assert sink.statistics().filtered == 2


async def test_events_removed_while_pending_are_counted_as_gone(
    stream: Stream[bytes], raw: Raw, pending: Pending, watched: pulsewire.Hub, facts: Facts
) -> None:
    """Nobody can ever get them; the group does not keep them for ever."""
    ids = await add_numbered(stream, 3)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await raw(stream.key, "XREADGROUP", "GROUP", "s", "dead", "STREAMS", stream.key, ">")
    await stream.remove(ids[1])
    async with watched.stream("events").sink("s", ack_grace=GRACE) as sink:
        assert names(await work_off(sink, 2)) == ["0", "2"]
        assert sink.statistics().gone == 1
    assert await pending(stream, "s") == []
    assert facts.of("events_missed") == [("events", "s", 1)]
    assert facts.of("events_filtered") == []


# --- a group that vanishes


@pytest.mark.parametrize(
    "is_read", [True, False], ids=["while somebody waits", "while nobody asks"]
)
async def test_destroyed_group_is_made_again_where_it_was(
    is_read: bool,
    stream: Stream[bytes],
    raw: Raw,
    watched: pulsewire.Hub,
    facts: Facts,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """XGROUP DESTROY: nothing that was acknowledged comes again, nothing else is lost, and it is said."""
    ids = await add_numbered(stream, 5)
    async with watched.stream("events").sink("s", start="oldest", ack_grace=GRACE) as sink:
        await work_off(sink, 5)
        await wait_noted(stream, raw, ids[-1])
        found: list[Event[bytes]] = []

        async def work() -> None:
            found.extend(await work_off(sink, 3))

        async with anyio.create_task_group() as tasks:
            if is_read:
                tasks.start_soon(work)
                await wait_until(
                    lambda: sink._intake is not None and sink._intake.inbox.room() > 0,
                    what="it waits",
                )
            await raw(stream.key, "XGROUP", "DESTROY", stream.key, "s")
            await add_numbered(stream, 3, 5)
            if not is_read:
                await wait_until(lambda: bool(facts.of("group_rebuilt")), what="a duty has noticed")
                tasks.start_soon(work)
        assert names(found) == numbers(3, 5)
        assert sink.statistics().rebuilt == 1
    assert facts.of("group_rebuilt") == [("events", "s", ids[-1])]
    (record,) = [record for record in caplog.records if "group had vanished" in record.message]
    assert (record.__dict__["sink"], record.__dict__["position"]) == ("s", ids[-1])


async def test_destroyed_group_gives_again_what_was_pending(
    stream: Stream[bytes], raw: Raw
) -> None:
    """The position is before the oldest event that was not acknowledged."""
    ids = await add_numbered(stream, 5)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        events = await take(sink, 5)
        await sink.ack(events[0], events[1], events[3])
        async with stream.sink("s", ack_grace=GRACE) as other:
            before = f"{ids[2].partition('-')[0]}-{int(ids[2].partition('-')[2]) - 1}"
            if ids[2].endswith("-0"):
                before = f"{int(ids[2].partition('-')[0]) - 1}-{2**64 - 1}"
            await wait_noted(stream, raw, before)
            await raw(stream.key, "XGROUP", "DESTROY", stream.key, "s")
            found: set[str] = set()
            while not {"2", "4"} <= found:
                found.update(names(await work_off(other, 1)))
            assert found <= {"2", "3", "4"}


async def test_event_in_hand_when_the_group_vanishes_is_no_trouble(
    stream: Stream[bytes], raw: Raw
) -> None:
    """It can be acknowledged, and extended; it may come a second time."""
    await add_numbered(stream, 1)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        (event,) = await sink.read(timeout=PATIENCE)
        await raw(stream.key, "XGROUP", "DESTROY", stream.key, "s")
        await sink.extend(event)
        await event.ack()
        await add_numbered(stream, 1, 1)
        found = set(names(await work_off(sink, 1)))
        while "1" not in found:
            found.update(names(await work_off(sink, 1)))


@pytest.mark.parametrize("count", [1, 3])
async def test_stream_deleted_under_its_sinks_is_shared_on(
    count: int, stream: Stream[bytes], raw: Raw, facts: Facts, watched: pulsewire.Hub
) -> None:
    """DEL while they wait, three times; what is added afterwards is delivered, the group made once."""
    found: list[str] = []

    async def work(sink: Sink[bytes]) -> None:
        async for event in sink:
            await event.ack()
            found.append(event.name)

    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        sinks = []
        for _ in range(count):
            sink = watched.stream("events").sink("s", start="oldest", ack_grace=GRACE)
            sinks.append(await stack.enter_async_context(sink))
            tasks.start_soon(work, sink)
        for round_number in range(3):
            await raw(stream.key, "DEL", stream.key)
            await add_numbered(stream, 5, 5 * round_number)
            expected = set(numbers(5 * round_number + 5))
            await wait_until(lambda e=expected: e <= set(found), what="all have come")  # type: ignore[misc]  # a default argument
        assert sum(sink.statistics().rebuilt for sink in sinks) == len(facts.of("group_rebuilt"))
        assert 1 <= len(facts.of("group_rebuilt")) <= 3
    assert sorted(found, key=int) == numbers(15)


async def test_stream_that_expires_under_a_sink_is_shared_on(make_stream: MakeStream) -> None:
    """As with DEL (S8)."""
    stream = make_stream(ttl=0.1)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        for number in range(3):
            await stream.add(str(number), b"")
            assert names(await work_off(sink, 1)) == [str(number)]

            async def is_gone() -> bool:
                return not (await stream.info()).length

            await wait_until(is_gone, what="the stream has expired")


async def test_everything_deleted_at_once_is_no_trouble(fresh_server: SingleServer) -> None:
    """FLUSHALL takes the positions, too."""
    async with pulsewire.connect(fresh_server.url) as hub:
        one, other = hub.stream("one"), hub.stream("other")
        async with one.sink("s", start="oldest", ack_grace=GRACE) as sink:
            await sink.add_stream(other)
            for number in range(5):
                await add_numbered(one, 2)
                await add_numbered(other, 2)
                assert len(await work_off(sink, 4)) == 4, number
                await fresh_server.command("FLUSHALL")


async def test_group_that_vanishes_while_a_sink_joins_it_is_made_again(
    weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Somebody destroys it in just that moment."""
    stream = weathered.stream("events", ttl=60.0)
    await add_numbered(stream, 2)
    proxy.inject_error(b"NOGROUP No such consumer group", "XGROUP CREATECONSUMER")
    async with stream.sink("s", start="oldest") as sink:
        assert names(await work_off(sink, 2)) == numbers(2)


async def test_leaving_a_group_that_vanished_is_no_error(stream: Stream[bytes], raw: Raw) -> None:
    await add_numbered(stream, 2)
    async with stream.sink("s", start="oldest") as sink:
        await take(sink, 1)
        await raw(stream.key, "XGROUP", "DESTROY", stream.key, "s")
        sink.stop()
    async with stream.sink("s", start="oldest") as sink:
        await take(sink, 1)
        await stream.destroy()


async def test_group_that_vanishes_while_its_stream_is_removed_is_no_error(
    stream: Stream[bytes],
) -> None:
    """The error comes when nobody here is interested any more."""

    class Connection:
        """Answers as the server does when the group has gone, a moment after the stream was removed from the sink."""

        async def call(self, *command: Any) -> Any:
            sink._shares.clear()
            raise ServerError("XREADGROUP", "NOGROUP No such key or consumer group")

    async with stream.sink("s") as sink:
        assert sink._intake is not None
        sink._intake.inbox._extra = 1
        shares = dict(sink._shares)
        assert await sink.poll(Connection(), [stream.key])  # type: ignore[arg-type]  # all it uses of one
        sink._shares.update(shares)


async def test_key_that_becomes_something_else_ends_the_sink(
    stream: Stream[bytes], raw: Raw
) -> None:
    """As the one error it is, out of its block."""
    with pytest.raises(ServerError) as caught:
        async with stream.sink("s", ack_grace=GRACE) as sink:
            await raw(stream.key, "DEL", stream.key)
            await raw(stream.key, "SET", stream.key, "text")
            with anyio.fail_after(PATIENCE):
                await sink.read()
    assert caught.value.code == "WRONGTYPE"


# --- taken over by others


async def test_event_that_others_took_over_is_dropped_and_said(
    stream: Stream[bytes],
    raw: Raw,
    watched: pulsewire.Hub,
    facts: Facts,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """This process was silent for longer than the grace; it does not steal the event back."""
    await add_numbered(stream, 1)
    async with watched.stream("events").sink("s", start="oldest", ack_grace=GRACE) as sink:
        (event,) = await sink.read(timeout=PATIENCE)
        await raw(stream.key, "XCLAIM", stream.key, "s", "another", 0, event.id)
        await wait_until(lambda: sink.statistics().lost_to_others == 1, what="it has noticed")
        assert sink.statistics().in_work == 0
        reply = await raw(stream.key, "XPENDING", stream.key, "s", "-", "+", 10)
        assert [consumer for _, consumer, *_ in reply] == [b"another"]
    assert facts.of("events_lost_to_others") == [("events", "s", 1)]
    assert any("taken over by others" in record.message for record in caplog.records)


async def test_acked_event_is_not_said_to_be_taken_over(
    hub: pulsewire.Hub, stream: Stream[bytes]
) -> None:
    """Whatever is refreshed in the same moment."""
    await add_numbered(stream, 200)
    async with stream.sink("s", start="oldest") as sink:
        refreshed = 0

        async def refresh_all_the_time() -> None:
            nonlocal refreshed
            while sink.statistics().acked < 200:
                for share in sink._all_shares():
                    await share.refresh_once()
                refreshed += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refresh_all_the_time)
            acked = 0
            async for event in sink:
                await event.ack()
                acked += 1
                if acked == 200:
                    break
        assert refreshed > 10, "nothing was refreshed meanwhile"
        assert sink.statistics().lost_to_others == 0
