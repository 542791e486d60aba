"""Streams shared with Go Pulse: what one writes the other reads, and each leaves the other's consumers alone.

Against goa.design/pulse v1.8.1, the newest release to be had of the module proxy (`go/pulse/go.mod` pins it). Where it
and we differ is listed in `docs/pulse-vs-go.md`, with the tests that show it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Event, InvalidName, NewEvent, Reader, Sink, Stream
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_programs import PATIENCE, Refused
from tests.conformance.pulse_programs import (
    GoConsumer,
    GoEvent,
    GoPulse,
    connections_of_go,
    running,
)

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]  # the first run downloads, builds

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "pulse-vs-go.md"
KEY = "pulse:stream:users"
GRACE = 1.0
"""Of Go's sinks that begin with what is there already: what they read before anybody listens comes after it (S1)."""
LONG_GRACE = 5.0
"""Of others: Go deletes consumers whose heartbeat is two graces late, also its own, with what is pending."""
NODE = 100
"""Entries in a node of a stream, by the server's default: what approximate trimming may leave too much."""
LATER = 100.0
"""A time to live that no test sees the end of."""

CASES: Mapping[str, NewEvent] = {
    "nothing special": NewEvent("user.created", b'{"id": 123}'),
    "no payload": NewEvent("user.created", b""),
    "one byte": NewEvent("user.created", b"\0"),
    "100 bytes": NewEvent("user.created", b"x" * 100),
    "every byte": NewEvent("user.created", bytes(range(256))),
    "64 KiB": NewEvent("user.created", b"\r\n" * 32 * 1024),
    "1 MiB": NewEvent("user.created", bytes(range(256)) * 4096),
    "a topic": NewEvent("user.created", b"p", topic="signup"),
    "any text": NewEvent("usuario creado: ☃\n", b"p", topic="\t*[?] ñ=\0"),
}


def some_events(count: int, seed: int = 1) -> list[NewEvent]:
    """Events of every kind: mostly small, some large, with any bytes, with and without a topic."""
    dice = Random(seed)
    return [
        NewEvent(
            dice.choice(["user.created", "usuario añadido", "x"]),
            dice.randbytes(dice.choice([0, 1, 10, 100, 1000, 1000, dice.randrange(70_000)])),
            topic=dice.choice([None, "signup", "añadir/☃", str(number)]),
        )
        for number in range(count)
    ]


def content_of(event: NewEvent | Event | GoEvent) -> tuple[str, bytes, str]:
    return event.name, event.payload, event.topic or ""


def told_by(events: Collection[Event | GoEvent]) -> dict[str, tuple[str, bytes, str]]:
    """What was heard, by id: an event that came twice counts once."""
    return {event.id: content_of(event) for event in events}


async def all_of(reader: Reader) -> list[Event]:
    async with reader:
        return [event async for event in reader]


async def take(sink: Sink, count: int) -> list[Event]:
    """So many events, acknowledged."""
    events: list[Event] = []
    while len(events) < count and (more := await sink.read(timeout=PATIENCE)):
        await sink.ack(*more)
        events += more
    return events


async def share_out(sinks: Sequence[Sink], count: int) -> list[Event]:
    """So many events, acknowledged, from consumers of one sink at a time; then they are stopped."""
    taken: list[Event] = []

    async def work(sink: Sink) -> None:
        async for event in sink:
            await event.ack()
            taken.append(event)
            if len(taken) >= count:
                break
        for each in sinks:
            each.stop()

    with anyio.fail_after(2 * PATIENCE):
        async with anyio.create_task_group() as tasks:
            for sink in sinks:
                tasks.start_soon(work, sink)
    return taken


async def pending(server: SingleServer, group: str, key: str = KEY) -> int:
    return int((await server.command("XPENDING", key, group))[0])


async def groups(server: SingleServer, key: str = KEY) -> set[str]:
    reply = await server.command("XINFO", "GROUPS", key)
    return {dict(zip(line[::2], line[1::2], strict=True))[b"name"].decode() for line in reply}


async def consumers(server: SingleServer, group: str) -> set[str]:
    reply = await server.command("XINFO", "CONSUMERS", KEY, group)
    return {dict(zip(line[::2], line[1::2], strict=True))[b"name"].decode() for line in reply}


async def nothing_pending(server: SingleServer, group: str, key: str = KEY) -> None:
    async def is_so() -> bool:
        return await pending(server, group, key) == 0

    await wait_until(is_so, timeout=PATIENCE, what=f"all events of {group} are acknowledged")


# --- the page


def test_every_test_that_the_page_names_exists() -> None:
    """`docs/pulse-vs-go.md`: names without a folder are of this one."""
    named = re.findall(r"`((?:\w+/)?test_\w+)\.(test_\w+)`", TABLE.read_text(encoding="utf-8"))
    assert len(named) > 25
    missing = []
    for room, name in named:
        file = (TESTS if "/" in room else Path(__file__).parent) / f"{room}.py"
        if not file.is_file() or f"def {name}(" not in file.read_text(encoding="utf-8"):
            missing.append(f"{room}.{name}")
    assert missing == []


# --- entries


@pytest.mark.parametrize("case", CASES)
async def test_event_is_written_as_go_writes_it(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, case: str
) -> None:
    """The same fields with the same bytes, whichever way an event takes; ours has a request id behind them."""
    event = CASES[case]
    await go.stream("users").add(event)
    given: tuple[Any, ...] = (event.name, event.payload)
    ways: list[dict[str, Any]] = [{}, {"retain": "none"}, {"ttl": LATER}]
    for options in ways:
        stream = hub.stream("users", **options)
        await stream.add(*given, topic=event.topic)
        await stream.add(*given, topic=event.topic, idempotency_key=repr(options))
        await stream.add_many([event])
    (_, theirs), *ours = await asynq_redis.command("XRANGE", KEY, "-", "+")
    assert len(ours) == 9
    for _, fields in ours:
        assert (fields[:-2], fields[-2]) == (theirs, b"r")


async def test_headers_stand_behind_what_go_reads(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Go ignores them, and gives the event as it is."""
    event = CASES["a topic"]
    headers = {"traceparent": "00-ñ", "n": "no name", "p": "no payload", "t": "no topic"}
    await go.stream("users").add(event)
    await hub.stream("users").add(event.name, event.payload, topic=event.topic, headers=headers)
    (_, theirs), (_, ours) = await asynq_redis.command("XRANGE", KEY, "-", "+")
    added = [part.encode() for key, value in headers.items() for part in (f"h:{key}", value)]
    assert ours[:-2] == theirs + added
    async with go.stream("users").reader(start="oldest") as reader:
        assert {content_of(heard) for heard in await reader.heard(2)} == {content_of(event)}
    [plain, ours_again] = await all_of(hub.stream("users").reader(start="oldest", follow=False))
    assert (dict(plain.headers), dict(ours_again.headers)) == ({}, headers)


async def test_event_without_a_name_is_read_and_not_written_here(
    go: GoPulse, hub: pulsewire.Hub
) -> None:
    """Go allows it."""
    await go.stream("users").add(NewEvent("", b"p"))
    [event] = await hub.stream("users").range()
    assert (event.name, event.payload) == ("", b"p")
    with pytest.raises(InvalidName):
        await hub.stream("users").add("", b"p")


async def test_name_or_topic_that_is_no_utf8_is_malformed_here(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Go's strings are any bytes. Ours are passed over and counted, or go to the dead letters."""
    for fields in (("n", b"\xff", "p", "1"), ("n", "x", "p", "2", "t", b"\xff")):
        await asynq_redis.command("XADD", KEY, "*", *fields)
    last = await hub.stream("users").add("x", b"3")
    async with go.stream("users").reader(start="oldest") as reader:
        assert [event.payload for event in await reader.heard(3)] == [b"1", b"2", b"3"]
    async with hub.stream("users").sink("ours", start="oldest", dead_letter="dead") as sink:
        assert [event.id for event in await take(sink, 1)] == [last]
        assert sink.statistics().malformed == 2
        await nothing_pending(asynq_redis, "ours")
    assert await hub.stream("dead").length() == 2


async def test_names_of_streams_are_the_same_but_for_braces(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Ours must leave room for a hash tag; a whole one is fine."""
    event = NewEvent("x", b"")
    for name in ("", "a b", "a*", "a?", "[a]", "a\0", "x" * 513):
        with pytest.raises(Refused):
            await go.stream(name).add(event)
        with pytest.raises(InvalidName):
            hub.stream(name)
    for name in ("ñ/☃:\n", "x" * 512, "{shop}users", "a.b,c|d"):
        ids = await go.stream(name).add(event)
        assert [event.id for event in await hub.stream(name).range()] == ids
    assert await go.stream("a{b").add(event)
    with pytest.raises(InvalidName):
        hub.stream("a{b")


# --- from one to the other


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
async def test_what_go_publishes_we_read_and_share(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, count: int
) -> None:
    """Each event with its id, name, topic, payload and time; by a reader, and by two consumers of a sink."""
    events = [*CASES.values(), *some_events(count)]
    stream = hub.stream("users")
    async with (
        stream.reader(start="oldest") as reader,
        stream.sink("mailer", start="oldest") as one,
        stream.sink("mailer") as other,
    ):
        ids: list[str] = []

        async def publish() -> None:
            for start in range(0, len(events), 500):
                batch = events[start : start + 500]
                ids.extend(await go.stream("users", max_len=0).add(*batch))

        read: list[Event] = []
        both: list[Event] = []

        async def share() -> None:
            both.extend(await share_out([one, other], len(events)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish)
            tasks.start_soon(share)
            while len(read) < len(events) and (more := await reader.read(timeout=PATIENCE)):
                read += more
        added = dict(zip(ids, map(content_of, events), strict=True))
        assert [event.id for event in read] == ids
        assert told_by(read) == added
        assert len(both) == len(events)
        assert told_by(both) == added
        await nothing_pending(asynq_redis, "mailer")
    assert {(event.stream, event.sink) for event in both} == {("users", "mailer")}
    last = read[-1]
    assert (last.stream, last.sink) == ("users", "")
    assert last.created_at.timestamp() * 1000 == int(last.id.partition("-")[0])


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
async def test_what_we_publish_go_reads_and_shares(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, count: int
) -> None:
    """Likewise; what Go acknowledges is done."""
    events = [*CASES.values(), *some_events(count, seed=2)]
    stream = hub.stream("users", max_len=0)
    theirs = go.stream("users")
    async with (
        theirs.reader(start="oldest") as reader,
        theirs.sink("mailer", start="oldest", grace=LONG_GRACE, acks=True) as one,
        theirs.sink("mailer", grace=LONG_GRACE, acks=True) as other,
    ):
        half = len(events) // 2
        ids = await stream.add_many(events[:half])
        ids += [
            await stream.add(event.name, event.payload, topic=event.topic)
            for event in events[half:]
        ]
        added = dict(zip(ids, map(content_of, events), strict=True))
        read = await reader.heard(len(events))
        assert [event.id for event in read] == ids
        assert told_by(read) == added

        async def all_are_shared() -> bool:
            return told_by([*await one.heard(), *await other.heard()]) == added

        await wait_until(all_are_shared, timeout=PATIENCE, what="both have had all of it")
        await nothing_pending(asynq_redis, "mailer")
        shared = [*await one.heard(), *await other.heard()]
    assert {(event.stream, event.sink) for event in shared} == {("users", "mailer")}
    last = read[-1]
    assert (last.stream, last.sink) == ("users", "")
    assert last.created_at == int(last.id.partition("-")[0])


async def test_sinks_and_readers_over_several_streams_of_the_other(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Fan-in, both ways."""
    async with (
        go.stream("users").sink("all", start="oldest", grace=LONG_GRACE, acks=True) as sink,
        go.stream("users").reader(start="oldest") as reader,
    ):
        await sink.add_stream(go.stream("orders"))
        await reader.add_stream(go.stream("orders"))
        ids = {await hub.stream(name).add("x", name.encode()) for name in ("users", "orders")}
        for consumer in (sink, reader):
            heard = await consumer.heard(2)
            assert {event.id for event in heard} == ids
            assert {(event.stream, event.payload) for event in heard} == {
                ("users", b"users"),
                ("orders", b"orders"),
            }
        await nothing_pending(asynq_redis, "all", "pulse:stream:orders")
    async with (
        hub.stream("users").sink("ours", start="oldest") as ours,
        hub.stream("users").reader(start="oldest") as our_reader,
    ):
        await ours.add_stream(hub.stream("orders"))
        await our_reader.add_stream(hub.stream("orders"))
        ids |= {(await go.stream(name).add(NewEvent("y", b"")))[0] for name in ("users", "orders")}
        assert {event.id for event in await take(ours, 4)} == ids
        read: set[str] = set()
        while read != ids and (more := await our_reader.read(timeout=PATIENCE)):
            read |= {event.id for event in more}
        assert read == ids


# --- filters

TOPICS = ("signup", "signup.mail", "Signup", "user/1", "user/22", "añadir", "a\nb", "", "٣")
PATTERNS = ("signup", "^signup$", "(?i)^SIGN", r"user/[0-9]{2}", "^.{6}$", "a|b", r"\.", "ñ", "^$")


async def theirs_of(go: GoPulse, consumer: GoConsumer, last: str) -> list[str]:
    """The topics that Go passed on, up to an event that passes every filter of a test."""
    for count in range(1, len(TOPICS) + 2):
        heard = await consumer.heard(count)
        if heard[-1].id == last:
            return [event.topic for event in heard[:-1]]
    raise AssertionError("the last event did not pass")


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_both_find_a_pattern_in_the_same_topics(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, pattern: str
) -> None:
    """Anywhere in the topic; an event without one has the empty topic. Of our sinks the rest counts as done."""
    end = next(topic for topic in TOPICS if re.search(pattern, topic) is not None)
    events = [NewEvent("x", b"", topic=topic or None) for topic in (*TOPICS, end)]
    *_, last = await go.stream("users").add(*events)
    stream = hub.stream("users")
    expected = [topic for topic in TOPICS if re.search(pattern, topic)]
    ours = await all_of(stream.reader(start="oldest", follow=False, topic_pattern=pattern))
    assert [event.topic for event in ours] == [*expected, end]
    async with stream.sink("ours", start="oldest", topic_pattern=pattern) as sink:
        shared = await take(sink, len(ours))
        assert [event.topic for event in shared] == [*expected, end]
        await nothing_pending(asynq_redis, "ours")
    async with go.stream("users").reader(start="oldest", pattern=pattern) as reader:
        assert await theirs_of(go, reader, last) == expected


@pytest.mark.parametrize("topic", ["signup", "añadir", "a\nb"])
async def test_both_take_a_topic_as_it_is(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, topic: str
) -> None:
    """No part of it, and nothing in another case."""
    events = [NewEvent("x", b"", topic=each or None) for each in (*TOPICS, topic)]
    last = (await hub.stream("users").add_many(events))[-1]
    stream = hub.stream("users")
    ours = await all_of(stream.reader(start="oldest", follow=False, topic=topic))
    assert [event.topic for event in ours] == [topic, topic]
    async with go.stream("users").reader(start="oldest", topic=topic) as reader:
        assert await theirs_of(go, reader, last) == [topic]


async def test_pattern_is_of_the_language_that_filters(go: GoPulse, hub: pulsewire.Hub) -> None:
    """Go's are RE2: without looking around, and with digits of ASCII alone. Ours are Python's."""
    ids = await hub.stream("users").add_many(
        [NewEvent("x", b"", topic="٣"), NewEvent("x", b"", "3")]
    )
    with pytest.raises(Refused, match="topic pattern must be a valid regex"):
        async with go.stream("users").reader(pattern="(?=3)"):
            pass
    ours = await all_of(
        hub.stream("users").reader(start="oldest", follow=False, topic_pattern=r"(?=\d)")
    )
    assert [event.id for event in ours] == ids
    async with go.stream("users").reader(start="oldest", pattern=r"\d") as reader:
        assert [event.id for event in await reader.heard(1)] == ids[1:]


async def test_what_a_filter_of_a_sink_rejects_stays_pending_in_go(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """It is offered again and again there; here it counts as done."""
    stream = hub.stream("users")
    events = [NewEvent("x", b"", topic=topic) for topic in ("no", "yes", "no", "yes")]
    await stream.add_many(events)
    async with (
        go.stream("users").sink(
            "go", start="oldest", topic="yes", grace=GRACE, acks=True
        ) as theirs,
        stream.sink("ours", start="oldest", topic="yes") as ours,
    ):
        assert len(await take(ours, 2)) == 2
        await nothing_pending(asynq_redis, "ours")
        assert {event.topic for event in await theirs.heard(2)} == {"yes"}

        async def no_more_is_done() -> bool:
            return await pending(asynq_redis, "go") == 2

        await wait_until(no_more_is_done, timeout=PATIENCE, what="what passed is done")


# --- where reading begins


async def test_both_begin_after_an_id_and_at_the_oldest(go: GoPulse, hub: pulsewire.Hub) -> None:
    """Readers and sinks of both."""
    stream = hub.stream("users")
    first, second, third = await stream.add_many([NewEvent("x", b"")] * 3)
    for number, (start, expected) in enumerate(
        [("oldest", [first, second, third]), (first, [second, third]), (second, [third])]
    ):
        ours = await all_of(stream.reader(start=start, follow=False))
        assert [event.id for event in ours] == expected
        async with stream.sink(f"ours-{number}", start=start) as sink:
            assert [event.id for event in await take(sink, len(expected))] == expected
        async with go.stream("users").reader(start=start) as reader:
            assert [event.id for event in await reader.heard(len(expected))] == expected
        async with go.stream("users").sink(f"go-{number}", start=start, grace=GRACE) as theirs:
            assert {event.id for event in await theirs.heard(len(expected))} == set(expected)


async def test_moment_is_included_here_and_left_out_by_go(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """S12 of the defects: Go begins after `<ms>-0`, and misses an event with exactly that id."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    at = round(moment.timestamp() * 1000)
    ids = [f"{at - 1}-5", f"{at}-0", f"{at}-1", f"{at + 1}-0"]
    for event_id in ids:
        await asynq_redis.command("XADD", KEY, event_id, "n", "x", "p", "")
    ours = await all_of(hub.stream("users").reader(start=moment, follow=False))
    assert [event.id for event in ours] == ids[1:]
    async with hub.stream("users").sink("ours", start=moment) as sink:
        assert [event.id for event in await take(sink, 3)] == ids[1:]
    async with go.stream("users").reader(start=moment) as reader:
        assert [event.id for event in await reader.heard(2)] == ids[2:]
    async with go.stream("users").sink("go", start=moment, grace=GRACE) as theirs:
        assert {event.id for event in await theirs.heard(2)} == set(ids[2:])
    before = moment - timedelta(milliseconds=1)
    async with go.stream("users").reader(start=before) as reader:
        assert [event.id for event in await reader.heard(4)] == ids


async def test_newest_is_what_comes_from_now_on(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Nothing older in either. Ours misses nothing newer; Go's reader does between its first reads (S16)."""
    stream = hub.stream("users")
    old = await stream.add("old", b"")
    async with (
        stream.reader() as our_reader,
        stream.sink("ours") as our_sink,
        go.stream("users").reader() as reader,
        go.stream("users").sink("go", grace=LONG_GRACE, acks=True) as sink,
    ):
        new = await go.stream("users").add(NewEvent("new", b""))
        read = await our_reader.read(timeout=PATIENCE)
        assert [event.id for event in read] == new
        assert [event.id for event in await take(our_sink, 1)] == new
        assert [event.id for event in await sink.heard(1)] == new

        async def go_hears() -> bool:
            new.append(await stream.add("new", b""))
            return bool(await reader.heard())

        await wait_until(go_hears, timeout=PATIENCE, what="Go's reader has begun")
        heard = [event.id for event in await reader.heard()]
        assert old not in heard
        assert set(heard) <= set(new)


# --- length and life


async def test_both_trim_about_to_the_length_given(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Go's Add and our `retain="none"` do the same; without groups ours trims as much in the other mode, too."""
    events = [NewEvent("x", b"")] * 500
    await go.stream("theirs", max_len=10).add(*events)
    await hub.stream("none", max_len=10, retain="none").add_many(events)
    await hub.stream("unacked", max_len=10).add_many(events)
    lengths = {
        name: await asynq_redis.command("XLEN", f"pulse:stream:{name}")
        for name in ("theirs", "none", "unacked")
    }
    assert all(10 <= length <= 10 + NODE for length in lengths.values()), lengths
    await go.stream("all", max_len=0).add(*events)
    await go.stream("default").add(*events * 3)
    await hub.stream("ours").add_many(events * 3)
    assert await asynq_redis.command("XLEN", "pulse:stream:all") == 500
    for name in ("default", "ours"):
        assert 1000 <= await asynq_redis.command("XLEN", f"pulse:stream:{name}") <= 1000 + NODE


async def test_our_add_keeps_what_a_sink_of_go_has_not_acknowledged(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Go's Add drops it. So a sink of Go's that filters, or runs no more, keeps all (`retain="none"` does not)."""
    events = [NewEvent("x", b"")] * 300
    stream = hub.stream("users", max_len=10)
    async with go.stream("users").sink("go", start="oldest", grace=LONG_GRACE) as sink:
        ids = await stream.add_many(events)
        assert await asynq_redis.command("XLEN", KEY) == 300
        assert {event.id for event in await sink.heard(300)} >= set(ids)
        assert await pending(asynq_redis, "go") == 300
        await sink.ack(*ids)
    await stream.add_many(events[:20])  # the consumer is gone, its group is not
    assert 20 <= await asynq_redis.command("XLEN", KEY) < 300
    await hub.stream("users", max_len=10, retain="none").add_many(events)
    assert await asynq_redis.command("XLEN", KEY) <= 10 + NODE
    async with stream.sink("ours", start="oldest") as ours:
        [held] = await ours.read(max=1, timeout=PATIENCE)
        await go.stream("users", max_len=10).add(*events)
        assert held.id not in {event.id for event in await stream.range(count=1000)}


@pytest.mark.parametrize("first", ["go", "ours"])
async def test_both_leave_an_absolute_time_to_live_and_prolong_a_sliding_one(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, first: str
) -> None:
    """Whoever set it, and whoever adds next."""

    async def add(who: str, **options: Any) -> None:
        if who == "go":
            await go.stream("users", **options).add(NewEvent("x", b""))
        else:
            await hub.stream("users", **options).add("x", b"")

    second = "ours" if first == "go" else "go"
    await add(first, ttl=LATER)
    assert LATER / 2 < await asynq_redis.command("TTL", KEY) <= LATER
    await asynq_redis.command("EXPIRE", KEY, 30)
    for who in (second, first):
        await add(who, ttl=LATER)
        assert await asynq_redis.command("TTL", KEY) <= 30
    await add(second)
    assert 0 < await asynq_redis.command("TTL", KEY) <= 30
    for who in (second, first):
        await asynq_redis.command("EXPIRE", KEY, 30)
        await add(who, sliding_ttl=LATER)
        assert LATER / 2 < await asynq_redis.command("TTL", KEY) <= LATER


async def test_time_to_live_is_exact_here_and_whole_seconds_in_go(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Go cuts the fraction off."""
    await go.stream("users", ttl=59.9).add(NewEvent("x", b""))
    theirs = await asynq_redis.command("PEXPIRETIME", KEY) - await _now(asynq_redis)
    assert theirs <= 59_000
    await asynq_redis.command("DEL", KEY)
    before = await _now(asynq_redis)
    await hub.stream("users", ttl=59.9).add("x", b"")
    assert before + 59_900 <= await asynq_redis.command("PEXPIRETIME", KEY)


async def _now(server: SingleServer) -> int:
    seconds, micros = await server.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def test_only_if_exists_means_the_same(go: GoPulse, hub: pulsewire.Hub) -> None:
    """Nothing is added, and no stream comes into being; Go says so with an empty id, we with None."""
    event = NewEvent("x", b"")
    assert await go.stream("users").add(event, only_if_exists=True) == [""]
    assert await hub.stream("users").add("x", b"", only_if_exists=True) is None
    assert not (await hub.stream("users").info()).exists
    [first] = await go.stream("users").add(event)
    second = await hub.stream("users").add("x", b"", only_if_exists=True)
    [third] = await go.stream("users").add(event, only_if_exists=True)
    events = await hub.stream("users").range()
    assert [event.id for event in events] == [first, second, third]


async def test_each_removes_events_of_the_other(go: GoPulse, hub: pulsewire.Hub) -> None:
    """Nobody sees them any more."""
    stream = hub.stream("users")
    ours = await stream.add_many([NewEvent("x", b"")] * 3)
    theirs = await go.stream("users").add(*[NewEvent("x", b"")] * 3)
    await go.stream("users").remove(*ours[:2])
    assert await stream.remove(*theirs[:2]) == 2
    assert [event.id for event in await stream.range()] == [ours[2], theirs[2]]
    async with go.stream("users").reader(start="oldest") as reader:
        assert [event.id for event in await reader.heard(2)] == [ours[2], theirs[2]]


@pytest.mark.parametrize("who", ["go", "ours"])
async def test_stream_that_is_destroyed_begins_anew(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, who: str
) -> None:
    """Our readers and sinks go on, as do Go's readers. Go's sinks do not: nobody makes their group again (S8)."""
    stream = hub.stream("users")
    async with (
        stream.reader(start="oldest") as our_reader,
        stream.sink("ours", start="oldest", ack_grace=GRACE) as our_sink,
        go.stream("users").reader(start="oldest") as reader,
        go.stream("users").sink("go", start="oldest", grace=LONG_GRACE, acks=True) as sink,
    ):
        [before] = await go.stream("users").add(NewEvent("before", b""))
        assert [event.id for event in await our_reader.read(timeout=PATIENCE)] == [before]
        assert [event.id for event in await take(our_sink, 1)] == [before]
        for consumer in (reader, sink):
            assert [event.id for event in await consumer.heard(1)] == [before]
        await nothing_pending(asynq_redis, "go")
        if who == "go":
            await go.stream("users").destroy()
            sinks = await asynq_redis.command("HGETALL", "map:stream:users:sinks:content")
            assert sinks[1::2][sinks[::2].index(b"=kind")] == b"destroy"
            assert len(sinks) == 4
        else:
            assert await stream.destroy()
            assert await asynq_redis.command("EXISTS", "map:stream:users:sinks:content")
        assert await asynq_redis.command("XLEN", KEY) == 0  # our sink may have made it again
        after = await stream.add("after", b"")
        assert [event.id for event in await our_reader.read(timeout=PATIENCE)] == [after]
        assert after in {event.id for event in await take(our_sink, 1)}
        assert [event.id for event in await reader.heard(2)] == [before, after]
        assert await groups(asynq_redis) == {"ours"}
        assert [event.id for event in await sink.heard()] == [before]


# --- sinks beside one another


async def test_sinks_of_both_work_side_by_side_under_different_names(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Each gets everything once it is acknowledged once, and looks after no consumer but its own."""
    stream = hub.stream("users")
    events = some_events(100, seed=3)
    async with AsyncExitStack() as opened:
        enter = opened.enter_async_context
        theirs = [
            await enter(go.stream("users").sink("go", start="oldest", grace=LONG_GRACE, acks=True))
            for _ in range(2)
        ]
        ours = [await enter(stream.sink("ours", start="oldest", ack_grace=GRACE)) for _ in range(2)]
        added = dict(
            zip(await stream.add_many(events[:50]), map(content_of, events[:50]), strict=True)
        )
        added |= zip(
            await go.stream("users").add(*events[50:]), map(content_of, events[50:]), strict=True
        )
        taken = await share_out(ours, 100)
        assert len(taken) == 100
        assert told_by(taken) == added

        async def all_are_shared() -> bool:
            return told_by([event for sink in theirs for event in await sink.heard()]) == added

        await wait_until(all_are_shared, timeout=PATIENCE, what="Go's sinks have had all")
        for group in ("go", "ours"):
            await nothing_pending(asynq_redis, group)
        assert await groups(asynq_redis) == {"go", "ours"}
        assert await consumers(asynq_redis, "ours") == {sink.consumer for sink in ours}
        noted = await asynq_redis.command("HKEYS", "map:sink:go:keepalive:content")
        assert {name.decode() for name in noted} - {"=rev", "=kind"} == await consumers(
            asynq_redis, "go"
        )
        assert not await asynq_redis.command("KEYS", "*sink:ours:*")


async def test_our_maps_show_the_bookkeeping_of_sinks_in_go(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Consumers of each sink of a stream, and when each was last alive."""
    async with (
        hub.map("stream:users:sinks") as sinks,
        hub.map("sink:go:keepalive") as alive,
        go.stream("users").sink("go", grace=GRACE),
    ):
        await wait_until(lambda: len(alive) == 1 and len(sinks) == 1, what="it is registered")
        [consumer] = await consumers(asynq_redis, "go")
        assert sinks.values_of("go") == [consumer]
        beat = int(alive[consumer])
        await wait_until(lambda: int(alive[consumer]) > beat, timeout=PATIENCE, what="it beats")


async def test_unacknowledged_event_of_the_other_comes_again(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """After the grace, to its sink, in both; not once it is acknowledged."""
    stream = hub.stream("users")
    async with (
        stream.sink("ours", start="oldest", ack_grace=0.1) as ours,
        go.stream("users").sink("go", start="oldest", grace=GRACE) as theirs,
    ):
        [from_go] = await go.stream("users").add(NewEvent("x", b""))
        [event] = await ours.read(timeout=PATIENCE)
        [again] = await ours.read(timeout=PATIENCE)
        assert (event.id, again.id, again.deliveries) == (from_go, from_go, 2)
        await again.ack()
        heard = await theirs.heard(2)
        assert [event.id for event in heard[:2]] == [from_go, from_go]
        await theirs.ack(from_go)
        await nothing_pending(asynq_redis, "go")
        from_us = await stream.add("y", b"")
        [last] = await take(ours, 1)
        assert last.id == from_us

        async def both_have_come() -> bool:
            return {event.id for event in await theirs.heard()} == {from_go, from_us}

        await wait_until(both_have_come, timeout=PATIENCE, what="Go has had the second event")


async def test_event_of_a_killed_consumer_goes_to_another_of_its_language(
    go: GoPulse,
    hub: pulsewire.Hub,
    asynq_redis: SingleServer,
    go_binary: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Go's takes over from Go's what we have published, also when our sinks are beside it."""
    stream = hub.stream("users")
    ids = await stream.add_many([NewEvent("x", b"")] * 5)
    async with (
        stream.sink("ours", start="oldest", ack_grace=GRACE) as ours,
        running(go_binary("pulse"), asynq_redis.url, tmp_path) as another,
    ):
        grace: dict[str, Any] = {"grace": 2 * GRACE}  # time for the second to come, and be noticed
        async with another.stream("users").sink("go", start="oldest", **grace) as killed:
            assert len(await killed.heard(5)) >= 5
            async with go.stream("users").sink("go", acks=True, **grace) as sink:
                await another.kill()
                assert {event.id for event in await sink.heard(5)} == set(ids)
                await nothing_pending(asynq_redis, "go")
        assert {event.id for event in await take(ours, 5)} == set(ids)


async def test_no_ack_leaves_nothing_pending_in_either(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """What the other adds counts as done when it is delivered."""
    async with (
        hub.stream("users").sink("ours", no_ack=True) as ours,
        go.stream("users").sink("go", no_ack=True) as theirs,
    ):
        ids = await hub.stream("users").add_many([NewEvent("x", b"")] * 3)
        ids += await go.stream("users").add(*[NewEvent("y", b"")] * 3)
        assert [event.id for event in await theirs.heard(6)] == ids
        assert [event.id for event in await take(ours, 6)] == ids
        for group in ("ours", "go"):
            assert await pending(asynq_redis, group) == 0


async def test_sink_of_go_deletes_our_consumer_where_both_have_one_name(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """With what is pending in it. That is why they need different names."""
    stream = hub.stream("users")
    async with stream.sink("both", start="oldest") as ours:
        await stream.add("x", b"")
        [_] = await ours.read(timeout=PATIENCE)
        assert await pending(asynq_redis, "both") == 1
        async with go.stream("users").sink("both"):

            async def it_is_gone() -> bool:
                return ours.consumer not in await consumers(asynq_redis, "both")

            await wait_until(it_is_gone, timeout=PATIENCE, what="our consumer was deleted")
            assert await pending(asynq_redis, "both") == 0


async def test_consumers_of_go_can_be_closed_while_nobody_takes_their_events(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """And twice (the program closes everything twice). That was not so when S13 of the defects was written."""
    stream = hub.stream("users")
    await stream.add_many([NewEvent("x", b"")] * 10)
    for open_one in (go.stream("users").reader, partial(go.stream("users").sink, "go")):
        with anyio.fail_after(PATIENCE):
            async with open_one(start="oldest", buffer=1, deaf=True):

                async def all_was_read() -> bool:
                    return not await connections_of_go(asynq_redis, "b")

                await wait_until(all_was_read, timeout=PATIENCE, what="it waits for its buffer")
    assert await pending(asynq_redis, "go") == 10


# --- what does not belong there


async def test_entry_of_another_format_is_passed_over_here_and_ends_readers_in_go(
    hub: pulsewire.Hub,
    asynq_redis: SingleServer,
    go_binary: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """S14 of the defects: do not write plain fields into a stream that Go reads."""
    stream: Stream = hub.stream("users")
    async with running(go_binary("pulse"), asynq_redis.url, tmp_path) as go:
        async with go.stream("users").reader(start="oldest") as reader, stream.reader() as ours:
            first = await stream.add("x", b"")
            assert [event.id for event in await reader.heard(1)] == [first]
            await asynq_redis.command("XADD", KEY, "*", "whatHappened", "ticket received")
            second = await stream.add("x", b"")
            read: list[str] = []
            while len(read) < 2 and (more := await ours.read(timeout=PATIENCE)):
                read += [event.id for event in more]
            assert read == [first, second]

            async with go.stream("users").reader(start=second) as another:
                third = await stream.add("x", b"")
                assert [event.id for event in await another.heard(1)] == [third]
            assert [event.id for event in await reader.heard()] == [first]
            await go.kill()  # closing that reader would wait for ever
