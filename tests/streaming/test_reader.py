"""Readers: a cursor of their own over one or more streams, every event once and in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Closed, InvalidOption, Reader, ServerError, Stream
from pulsewire.streaming import reader as reader_module
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    MakeStream,
    Raw,
    add_numbered,
    names,
    numbers,
    on_one_server,
    rest,
    take,
)

# --- where reading starts


async def test_newest_sees_what_is_added_from_now_on(stream: Stream[bytes]) -> None:
    """Everything from the moment of entering, however late one begins to read (S16)."""
    await add_numbered(stream, 10)
    async with stream.reader() as reader:
        for number in range(10, 60):
            await stream.add(str(number), b"")
        assert names(await take(reader, 50)) == numbers(50, 10)


async def test_newest_of_an_empty_stream_sees_its_first_event(stream: Stream[bytes]) -> None:
    async with stream.reader(start="newest") as reader:
        await stream.add("first", b"")
        assert names(await take(reader, 1)) == ["first"]


async def test_newest_of_a_stream_whose_events_were_removed(stream: Stream[bytes]) -> None:
    await stream.remove(*await add_numbered(stream, 3))
    async with stream.reader() as reader:
        await stream.add("next", b"")
        assert names(await take(reader, 1)) == ["next"]


async def test_oldest_sees_everything(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 30)
    async with stream.reader(start="oldest") as reader:
        await add_numbered(stream, 5, 30)
        assert names(await take(reader, 35)) == numbers(35)


async def test_id_is_the_last_event_not_wanted(stream: Stream[bytes]) -> None:
    ids = await add_numbered(stream, 10)
    async with stream.reader(start=ids[6]) as reader:
        assert names(await take(reader, 3)) == numbers(3, 7)
    async with stream.reader(start="0", follow=False) as reader:
        assert names(await rest(reader)) == numbers(10)


async def test_moment_is_the_first_event_wanted(stream: Stream[bytes], raw: Raw) -> None:
    """Exactly to the millisecond (S12)."""
    for entry_id in ("1000-0", "1001-0", "1001-7", "1002-0"):
        await raw(stream.key, "XADD", stream.key, entry_id, "n", entry_id, "p", "")
    start = datetime(1970, 1, 1, 0, 0, 1, 1000, UTC)
    async with stream.reader(start=start, follow=False) as reader:
        assert names(await rest(reader)) == ["1001-0", "1001-7", "1002-0"]


async def test_moment_to_come_waits_for_it(stream: Stream[bytes], raw: Raw) -> None:
    await add_numbered(stream, 3)
    async with stream.reader(start=datetime.now(UTC) + timedelta(days=1)) as reader:
        late = f"{int((datetime.now(UTC) + timedelta(days=2)).timestamp() * 1000)}-0"
        await stream.add("too early", b"")
        await raw(stream.key, "XADD", stream.key, late, "n", "late", "p", "")
        assert names(await take(reader, 1)) == ["late"]


@on_one_server
@pytest.mark.parametrize("start", ["", "tomorrow", "1-", 5, None, datetime(2026, 1, 1), b"1-1"])  # noqa: DTZ001  # that is the point
def test_impossible_start_is_refused(start: Any, hub: pulsewire.Hub) -> None:
    with pytest.raises(InvalidOption) as caught:
        hub.stream("s").reader(start=start)
    assert caught.value.option == "start"


@on_one_server
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("block", value) for value in (0, -1.0, "1", None, float("inf"), float("nan"))),
        *(("max_polled", value) for value in (0, -1, 1.5, None)),
        *(("buffer", value) for value in (0, -1, 1.5, None)),
        *(("topic", value) for value in ("", 5)),
        *(("topic_pattern", value) for value in ("(", 5)),
    ],
)
def test_impossible_option_is_refused_and_named(
    option: str, value: Any, hub: pulsewire.Hub
) -> None:
    with pytest.raises(InvalidOption) as caught:
        hub.stream("s").reader(**{option: value})
    assert caught.value.option == option


# --- reading to the end


async def test_reading_ends_at_what_was_there_on_opening(make_stream: MakeStream) -> None:
    """Replay: everything so far, and then the loop ends."""
    stream = make_stream(max_len=0)
    await add_numbered(stream, 2500)
    async with stream.reader(start="oldest", follow=False) as reader:
        await add_numbered(stream, 5, 2500)
        assert names(await rest(reader)) == numbers(2500)
        assert await rest(reader) == []
        assert await reader.read() == []


@pytest.mark.parametrize("start", ["oldest", "newest", "5-5"])
async def test_empty_stream_ends_at_once(start: str, stream: Stream[bytes]) -> None:
    async with stream.reader(start=start, follow=False) as reader:
        assert await rest(reader) == []


async def test_newest_ends_at_once(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 3)
    async with stream.reader(start="newest", follow=False) as reader:
        assert await rest(reader) == []


async def test_start_after_the_end_ends_at_once(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 3)
    async with stream.reader(start=datetime.now(UTC) + timedelta(days=1), follow=False) as reader:
        assert await rest(reader) == []


@pytest.mark.parametrize("gone", ["the last", "all", "the stream"])
async def test_reading_ends_although_events_were_removed_meanwhile(
    gone: str, stream: Stream[bytes]
) -> None:
    """The event at which it should have ended does not come any more."""
    ids = await add_numbered(stream, 50)
    async with stream.reader(start="oldest", follow=False, buffer=5) as reader:
        first = await take(reader, 1)
        if gone == "the last":
            await stream.remove(*ids[-3:])
        elif gone == "all":
            await stream.remove(*ids)
        else:
            await stream.destroy()
        found = names([*first, *await rest(reader)])
        assert found == numbers(len(found))
        assert len(found) <= (47 if gone == "the last" else 20)


async def test_reading_ends_when_the_filter_lets_nothing_through(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 50)
    async with stream.reader(start="oldest", topic="other", follow=False) as reader:
        assert await rest(reader) == []
        assert reader.statistics().filtered == 50


async def test_reading_ends_after_malformed_entries(stream: Stream[bytes], raw: Raw) -> None:
    await add_numbered(stream, 2)
    for _ in range(3):
        await raw(stream.key, "XADD", stream.key, "*", "x", "y")
    async with stream.reader(start="oldest", follow=False) as reader:
        assert names(await rest(reader)) == numbers(2)
        assert reader.statistics().malformed == 3


# --- iterating and reading


async def test_every_reader_sees_every_event(stream: Stream[bytes]) -> None:
    """Fan-out: cursors have nothing to do with each other."""
    await add_numbered(stream, 20)
    async with stream.reader(start="oldest") as one, stream.reader(start="oldest") as other:
        assert names(await take(one, 20)) == numbers(20)
        assert names(await take(other, 20)) == numbers(20)


async def test_iterating_again_goes_on_where_it_was(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 30)
    async with stream.reader(start="oldest") as reader:
        found = [names(await take(reader, 10)) for _ in range(3)]
        assert found == [numbers(10), numbers(10, 10), numbers(10, 20)]


async def test_read_brings_as_many_as_are_there_and_wanted(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 30)
    async with stream.reader(start="oldest") as reader:
        found: list[str] = []
        while len(found) < 30:
            events = await reader.read(max=7, timeout=PATIENCE)
            assert 1 <= len(events) <= 7
            found += names(events)
        assert found == numbers(30)


async def test_read_returns_nothing_when_its_time_is_over(stream: Stream[bytes]) -> None:
    """And has lost nothing by it."""
    async with stream.reader(start="oldest") as reader:
        for _ in range(5):
            assert await reader.read(timeout=0.001) == []
        await add_numbered(stream, 3)
        assert names(await take(reader, 3)) == numbers(3)


@on_one_server
@pytest.mark.parametrize("limit", [0, -1, 1.5, None])
async def test_read_checks_how_many(limit: Any, stream: Stream[bytes]) -> None:
    async with stream.reader() as reader:
        with pytest.raises(InvalidOption):
            await reader.read(max=limit)


async def test_tasks_that_share_a_reader_share_its_events(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 100)
    found: list[str] = []
    async with stream.reader(start="oldest", follow=False) as reader:

        async def read() -> None:
            async for event in reader:
                found.append(event.name)
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(read)
    assert sorted(found, key=int) == numbers(100)


async def test_reader_s_event_needs_no_ack(stream: Stream[bytes]) -> None:
    await stream.add("e", b"x", topic="t", headers={"k": "v"})
    async with stream.reader(start="oldest") as reader:
        (event,) = await take(reader, 1)
    assert (event.stream, event.sink, event.deliveries) == ("events", "", 1)
    assert (event.topic, event.payload, event.headers) == ("t", b"x", {"k": "v"})
    await event.ack()


async def test_reader_leaves_nothing_on_the_server(
    hub: pulsewire.Hub, stream: Stream[bytes]
) -> None:
    """Not even the stream, if there was none."""
    async with stream.reader() as reader:
        await reader.read(timeout=0.01)
    assert not (await stream.info()).exists


# --- filters


async def test_topic_filter_passes_over_other_events(
    stream: Stream[bytes], facts: Facts, watched: pulsewire.Hub
) -> None:
    for number in range(30):
        await stream.add(str(number), b"", topic=["eu", "us", None][number % 3])
    async with watched.stream("events").reader(start="oldest", topic="eu", follow=False) as reader:
        assert names(await rest(reader)) == [str(number) for number in range(0, 30, 3)]
        statistics = reader.statistics()
    assert (statistics.delivered, statistics.filtered, statistics.malformed) == (10, 20, 0)


async def test_pattern_filter_passes_over_other_events(stream: Stream[bytes]) -> None:
    for topic in ("orders.eu", "orders.us", "payments.eu", ""):
        await stream.add(topic or "none", b"", topic=topic)
    async with stream.reader(start="oldest", topic_pattern=r"^orders\.", follow=False) as reader:
        assert names(await rest(reader)) == ["orders.eu", "orders.us"]


# --- several streams


async def test_one_reader_over_many_streams(make_stream: MakeStream) -> None:
    """Fan-in: each stream's events in order (S24: also where they are on different servers)."""
    streams = [make_stream(f"s{number}") for number in range(6)]
    for stream in streams:
        await add_numbered(stream, 20)
    async with streams[0].reader(start="oldest") as reader:
        for stream in streams[1:]:
            await reader.add_stream(stream)
        found: dict[str, list[str]] = {}
        for event in await take(reader, 120):
            found.setdefault(event.stream, []).append(event.name)
        for stream in streams:
            await add_numbered(stream, 5, 20)
        for event in await take(reader, 30):
            found[event.stream].append(event.name)
    assert found == {stream.name: numbers(25) for stream in streams}


async def test_adding_a_stream_again_changes_nothing(
    make_stream: MakeStream, hub: pulsewire.Hub
) -> None:
    """One after the other, at the same moment, through another object: its events come once (S15)."""
    one, other = make_stream("one"), make_stream("other")
    await add_numbered(one, 5)
    await add_numbered(other, 5)
    async with one.reader(start="oldest") as reader:
        await reader.add_stream(one)
        await reader.add_stream(hub.stream("one"))
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(reader.add_stream, other)
        found = await take(reader, 10)
        await reader.add_stream(other)
        assert len({(event.stream, event.id) for event in found}) == 10
        assert await reader.read(timeout=0.05) == []
        assert sorted(reader.statistics().cursors) == ["one", "other"]


async def test_added_stream_may_start_elsewhere(make_stream: MakeStream) -> None:
    one, other = make_stream("one"), make_stream("other")
    ids = await add_numbered(other, 10)
    async with one.reader() as reader:
        await reader.add_stream(other, start=ids[7])
        assert names(await take(reader, 2)) == ["8", "9"]


async def test_stream_added_while_reading_is_read_at_once(make_stream: MakeStream) -> None:
    """Not only after the block that is under way."""
    one, other = make_stream("one"), make_stream("other")
    await other.add("e", b"")
    async with one.reader(start="oldest") as reader, anyio.create_task_group() as tasks:
        found: list[str] = []

        async def read() -> None:
            found.extend(names(await take(reader, 1)))

        tasks.start_soon(read)
        await wait_until(lambda: not found, what="a task waits")
        await reader.add_stream(other)
    assert found == ["e"]


async def test_removed_stream_is_read_no_more(make_stream: MakeStream) -> None:
    one, other = make_stream("one"), make_stream("other")
    async with one.reader() as reader:
        await reader.add_stream(other)
        await reader.remove_stream(one)
        await reader.remove_stream(one)
        await one.add("removed", b"")
        await other.add("kept", b"")
        assert names(await take(reader, 1)) == ["kept"]
        assert list(reader.statistics().cursors) == ["other"]


async def test_reader_without_streams_waits_for_one(
    make_stream: MakeStream, hub: pulsewire.Hub
) -> None:
    """It is no error, and no busy loop (S26)."""
    one, other = make_stream("one"), make_stream("other")
    async with one.reader(start="oldest") as reader:
        await reader.remove_stream(one)
        assert await reader.read(timeout=0.01) == []
        await other.add("e", b"")
        await reader.add_stream(other)
        assert names(await take(reader, 1)) == ["e"]
        await reader.add_stream(one)
        await one.add("again", b"")
        assert names(await take(reader, 1)) == ["again"]


async def test_replay_of_several_streams_ends_after_all_of_them(make_stream: MakeStream) -> None:
    """Also when the first one has ended before the others are added."""
    empty, short, long = make_stream("empty"), make_stream("short"), make_stream("long", max_len=0)
    await add_numbered(short, 3)
    await add_numbered(long, 1500)
    async with empty.reader(start="oldest", follow=False) as reader:
        await reader.add_stream(long)
        await reader.add_stream(short)
        found = await rest(reader)
    assert [event.name for event in found if event.stream == "long"] == numbers(1500)
    assert [event.name for event in found if event.stream == "short"] == numbers(3)


async def test_stream_added_after_the_end_of_a_replay_is_replayed(make_stream: MakeStream) -> None:
    one, other = make_stream("one"), make_stream("other")
    await add_numbered(one, 3)
    await add_numbered(other, 4)
    async with one.reader(start="oldest", follow=False) as reader:
        assert len(await rest(reader)) == 3
        await reader.add_stream(other)
        assert names(await rest(reader)) == numbers(4)


async def test_streams_with_codecs_of_their_own_share_a_reader(make_stream: MakeStream) -> None:
    text, data = (
        make_stream("text", codec=pulsewire.TEXT),
        make_stream("data", codec=pulsewire.JSON),
    )
    await text.add("e", "grüße")
    await data.add("e", [1])
    async with text.reader(start="oldest", follow=False) as reader:
        await reader.add_stream(data)
        assert sorted(str(event.payload) for event in await rest(reader)) == ["[1]", "grüße"]


# --- bounds


@pytest.mark.parametrize("options", [{"buffer": 10}, {"buffer": 10, "max_polled": 3}], ids=str)
async def test_reader_that_nobody_reads_from_holds_its_buffer_at_most(
    options: dict[str, Any], stream: Stream[bytes]
) -> None:
    """Back-pressure: the rest stays on the server until somebody takes."""
    await add_numbered(stream, 500)
    async with stream.reader(start="oldest", **options) as reader:
        await wait_until(lambda: reader.statistics().buffered == 10, what="the buffer is full")
        assert reader.statistics().delivered == 10
        found = names(await take(reader, 1))
        while len(found) < 500:
            assert reader.statistics().buffered <= 10
            found += names(await reader.read(max=7, timeout=PATIENCE))
        assert found == numbers(500)


async def test_streams_share_the_buffer(make_stream: MakeStream) -> None:
    """Wherever they are. Each read that is under way may bring its part beyond it."""
    streams = [make_stream(f"s{number}") for number in range(6)]
    for stream in streams:
        await add_numbered(stream, 200)
    async with streams[0].reader(start="oldest", buffer=60) as reader:
        for stream in streams[1:]:
            await reader.add_stream(stream)
        await wait_until(lambda: reader.statistics().buffered >= 60, what="the buffer is full")
        found = 0
        while found < 1200:
            assert reader.statistics().buffered <= 2 * 60 + 6
            found += len(await reader.read(max=50, timeout=PATIENCE))


async def test_max_polled_bounds_one_read_of_the_server(
    weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    stream = weathered.stream("events", ttl=60.0)
    await add_numbered(stream, 100)
    async with stream.reader(start="oldest", max_polled=10, follow=False) as reader:
        assert len(await rest(reader)) == 100
    assert proxy.statistics().commands["XREAD"] >= 10


# --- what lies in the stream


async def test_malformed_entries_are_passed_over_and_counted(
    stream: Stream[bytes], raw: Raw, watched: pulsewire.Hub, facts: Facts
) -> None:
    """Never a crash (S14)."""
    await add_numbered(stream, 1)
    odd = [
        (await raw(stream.key, "XADD", stream.key, "*", *fields)).decode()
        for fields in (
            ("x", "y"),
            ("n", "e"),
            ("p", ""),
            ("n", b"\xff", "p", ""),
            ("n", "e", "p", "", "t", b"\xff"),
        )
    ]
    await add_numbered(stream, 1, 1)
    async with watched.stream("events").reader(start="oldest") as reader:
        assert names(await take(reader, 2)) == ["0", "1"]
        assert reader.statistics().malformed == 5
    assert [
        (stream_name, sink, entry_id)
        for stream_name, sink, entry_id, _ in facts.of("entry_malformed")
    ] == [("events", "", entry_id) for entry_id in odd]


async def test_payload_that_is_not_the_codec_s_is_malformed(
    make_stream: MakeStream, hub: pulsewire.Hub
) -> None:
    data = make_stream(codec=pulsewire.JSON)
    await hub.stream("events").add("bad", b"{")
    await data.add("good", 1)
    async with data.reader(start="oldest", follow=False) as reader:
        assert names(await rest(reader)) == ["good"]


async def test_stream_destroyed_and_made_again_is_read_on(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 3)
    async with stream.reader(start="oldest") as reader:
        assert names(await take(reader, 3)) == numbers(3)
        await stream.destroy()
        await add_numbered(stream, 3, 3)
        assert names(await take(reader, 3)) == numbers(3, 3)


async def test_stream_that_expires_under_a_reader_is_read_on(make_stream: MakeStream) -> None:
    stream = make_stream(ttl=0.05)
    async with stream.reader() as reader:
        for number in range(3):
            await stream.add(str(number), b"")
            assert names(await take(reader, 1)) == [str(number)]

            async def is_gone() -> bool:
                return not (await stream.info()).exists

            await wait_until(is_gone, what="the stream has expired")


@pytest.mark.parametrize("start", ["newest", "oldest"])
async def test_key_that_is_no_stream_is_the_error_of_the_block(
    start: str, stream: Stream[bytes], raw: Raw
) -> None:
    """As the one error it is."""
    await raw(stream.key, "SET", stream.key, "text")
    with pytest.raises(ServerError) as caught:
        async with stream.reader(start=start) as reader:
            await take(reader, 1)
    assert caught.value.code == "WRONGTYPE"


# --- its end


async def test_closed_reader_says_so(stream: Stream[bytes]) -> None:
    reader = stream.reader(start="oldest")
    with pytest.raises(Closed):
        await reader.read()
    async with reader:
        await stream.add("e", b"")
        await take(reader, 1)
    for call in (reader.read(), anext(reader), reader.add_stream(stream.sibling("other"))):
        with pytest.raises(Closed):
            await call
    assert reader.statistics().delivered == 1


async def test_waiting_tasks_end_with_the_reader(stream: Stream[bytes]) -> None:
    outcomes: list[Any] = []

    async def iterate(reader: Reader[bytes]) -> None:
        outcomes.append([event async for event in reader])

    async def read(reader: Reader[bytes]) -> None:
        outcomes.append(await reader.read())

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            async with stream.reader() as reader:
                tasks.start_soon(iterate, reader)
                tasks.start_soon(read, reader)
                await wait_until(lambda: reader._intake is not None, what="it is open")
                await anyio.wait_all_tasks_blocked()
    assert outcomes == [[], []]


async def test_reader_is_closed_without_waiting_for_its_block(fresh_server: SingleServer) -> None:
    """A server that has stopped answering never ends the block, and does not have to."""
    async with pulsewire.connect(fresh_server.url) as hub:
        with anyio.fail_after(PATIENCE):
            async with hub.stream("events").reader() as reader:
                await reader.read(timeout=0.02)
                fresh_server.pause()
        fresh_server.resume()


async def test_cancelled_reader_is_closed(stream: Stream[bytes]) -> None:
    reader = stream.reader()
    with anyio.CancelScope() as scope:
        async with reader:
            scope.deadline = anyio.current_time() + 0.02
            await reader.read()
    assert scope.cancelled_caught
    with pytest.raises(Closed):
        await reader.read()


async def test_error_of_the_block_comes_out_as_it_is(stream: Stream[bytes]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stream.reader():
            raise ZeroDivisionError


# --- telling


async def test_reader_tells_what_it_has_done(
    stream: Stream[bytes], watched: pulsewire.Hub, facts: Facts
) -> None:
    ids = await add_numbered(stream, 5)
    async with watched.stream("events").reader(start="oldest") as reader:
        assert repr(reader) == "<Reader of events, 0 delivered>"
        await take(reader, 5)
        assert repr(reader) == "<Reader of events, 5 delivered>"
        statistics = reader.statistics()
    assert (statistics.delivered, statistics.buffered) == (5, 0)
    assert statistics.cursors == {"events": ids[-1]}
    assert facts.total("events_delivered", "events", "") == 5
    assert all(-5.0 < lag < 60.0 for _, _, _, lag in facts.of("events_delivered"))


# --- bad weather, on the single server


async def test_lost_replies_lose_and_repeat_nothing(
    weathered: pulsewire.Hub, proxy: FaultProxy, facts: Facts
) -> None:
    """The cursor is where the last reply that came had ended."""
    stream = weathered.stream("events", ttl=60.0)
    await add_numbered(stream, 300)
    fault = proxy.swallow_reply("XREAD", count=20, every=2)
    async with stream.reader(start="oldest", max_polled=5) as reader:
        assert names(await take(reader, 300)) == numbers(300)
    assert fault.hits == 20


async def test_cut_connections_lose_and_repeat_nothing(
    weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    stream = weathered.stream("events", ttl=60.0)
    async with stream.reader(start="oldest") as reader:
        for number in range(40):
            await stream.add(str(number), b"")
            if number % 2:
                proxy.cut("fin" if number % 4 == 1 else "rst")
            assert names(await take(reader, 1)) == [str(number)]


async def test_reading_goes_on_after_a_restart_of_the_server(fresh_server: SingleServer) -> None:
    async with pulsewire.connect(fresh_server.url) as hub:
        stream = hub.stream("events")
        async with stream.reader() as reader:
            for number in range(3):
                await stream.add(f"{number} before", b"")
                assert names(await take(reader, 1)) == [f"{number} before"]
                await fresh_server.kill()
                await fresh_server.restart()
                await stream.add(f"{number} after", b"")
                assert names(await take(reader, 1)) == [f"{number} after"]


async def test_stream_that_lost_its_newest_events_is_read_on(
    weathered: pulsewire.Hub,
    proxy: FaultProxy,
    single_server: SingleServer,
    facts: Facts,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After a failover to a server that lacked them: it is said, and nothing new is missed."""
    stream = weathered.stream("events", ttl=60.0)
    await single_server.command("XADD", stream.key, "2000-0", "n", "old", "p", "")
    async with stream.reader(start="oldest") as reader:
        assert names(await take(reader, 1)) == ["old"]
        await single_server.command("DEL", stream.key)
        await single_server.command("XADD", stream.key, "1000-0", "n", "kept", "p", "")
        proxy.cut()
        await wait_until(lambda: bool(facts.of("events_missed")), what="the reader has noticed")
        await single_server.command("XADD", stream.key, "1001-0", "n", "new", "p", "")
        assert names(await take(reader, 1)) == ["new"]
    assert facts.of("events_missed") == [("events", "", 0)]
    assert any("lost its newest events" in record.message for record in caplog.records)
    await stream.destroy()


async def test_reader_asks_an_idle_server_seldom(
    weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    """A busy loop would ask hundreds of times in the while that twenty short reads take."""
    stream = weathered.stream("events", ttl=60.0)
    async with stream.reader() as reader:
        for _ in range(20):
            assert await reader.read(timeout=0.01) == []
    assert proxy.statistics().commands["XREAD"] <= 2


# --- what is missed


async def test_events_that_were_trimmed_before_the_reader_came_are_told(
    watched: pulsewire.Hub,
    facts: Facts,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader that is too slow for `max_len` says so: in its log, in its statistics, and to the hooks."""
    monkeypatch.setattr(reader_module, "COUNT_EVERY", 0.0)
    stream = watched.stream("events", max_len=100)
    async with stream.reader(start="oldest", buffer=10, max_polled=10) as reader:
        await add_numbered(stream, 1_000)
        last = await stream.add("last", b"")
        seen = 0
        while reader.statistics().cursors[stream.name] != last:
            seen += len(await reader.read(max=10, timeout=PATIENCE))
        await wait_until(
            lambda: sum(count for *_, count in facts.of("events_missed")) > 500, what="it is told"
        )
        seen += len(await reader.read(max=100, timeout=0.01))
        assert reader.statistics().missed == 1_001 - seen
    told = [count for *_, count in facts.of("events_missed")]
    assert sum(told) == 1_001 - seen
    said = "events were removed from the stream before this reader came to them"
    assert [record.__dict__["count"] for record in caplog.records if record.message == said] == told
    await stream.destroy()


@on_one_server
async def test_reader_in_time_misses_nothing(
    watched: pulsewire.Hub, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trimmed after it was read is not missed."""
    monkeypatch.setattr(reader_module, "COUNT_EVERY", 0.0)
    stream = watched.stream("events", max_len=100)
    await add_numbered(stream, 500)
    async with stream.reader(start="oldest") as old, stream.reader() as new:
        await rest_of(old)
        for start in range(0, 1_000, 50):
            await add_numbered(stream, 50, start)
            await take(new, 50)
            await rest_of(old)
        assert old.statistics().missed == new.statistics().missed == 0
    assert facts.of("events_missed") == []
    await stream.destroy()


async def rest_of(reader: Reader[bytes]) -> None:
    """Take all that is there."""
    while await reader.read(timeout=0.05):
        pass


@on_one_server
async def test_reader_is_entered_once_at_a_time(stream: Stream[bytes]) -> None:
    """And can be used again."""
    reader = stream.reader()
    for _ in range(2):
        async with reader:
            with pytest.raises(pulsewire.ConfigurationError, match="entered already"):
                await reader.__aenter__()
            await stream.add("e", b"")
            assert names(await take(reader, 1)) == ["e"]
