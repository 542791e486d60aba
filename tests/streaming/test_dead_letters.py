"""Events that cannot be handled: after so many deliveries they move to a stream of their own, each once."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import FIELDS, Event, Stream
from pulsewire.streaming.share import ShareRules
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    MakeStream,
    Pending,
    Raw,
    add_numbered,
    names,
    on_one_server,
    work_off,
)

TOPOLOGIES = ["standalone", "cluster"]
GRACE = 0.15


class AlwaysFails:
    """A handler that counts its runs."""

    def __init__(self, *bad: str) -> None:
        self.bad = bad
        self.runs: Counter[str] = Counter()

    async def __call__(self, event: Event[Any]) -> None:
        self.runs[event.name] += 1
        if not self.bad or event.name in self.bad:
            raise ValueError("never")


async def consume_until_buried(sink: pulsewire.Sink[Any], handler: Any, count: int) -> None:
    """Run a handler until so many events have become dead letters."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.consume, handler)
        await wait_until(
            lambda: sink.statistics().dead_lettered >= count,
            timeout=PATIENCE,
            what="they are buried",
        )
        sink.stop()


# --- after max_deliveries


@pytest.mark.parametrize("max_deliveries", [1, 3])
async def test_event_runs_exactly_so_often_and_is_moved_once(
    max_deliveries: int,
    stream: Stream[bytes],
    pending: Pending,
    watched: pulsewire.Hub,
    facts: Facts,
) -> None:
    """With everything it had, and what is known about its end in headers."""
    bad = await stream.add("bad", b"\x00\xff", topic="t", headers={"trace": "abc"})
    await stream.add("good", b"")
    handler = AlwaysFails("bad")
    sinks = watched.stream("events")
    async with sinks.sink(
        "s", start="oldest", ack_grace=GRACE, max_deliveries=max_deliveries
    ) as sink:
        await consume_until_buried(sink, handler, 1)
        assert sink.statistics().failed == max_deliveries
        consumer = sink.consumer
    assert handler.runs == {"bad": max_deliveries, "good": 1}
    (letter,) = await stream.sibling("events.dead").range()
    assert (letter.name, letter.payload, letter.topic) == ("bad", b"\x00\xff", "t")
    assert letter.headers == {
        "trace": "abc",
        "pulsewire-stream": "events",
        "pulsewire-sink": "s",
        "pulsewire-id": bad,
        "pulsewire-reason": "max_deliveries",
        "pulsewire-deliveries": str(max_deliveries),
        "pulsewire-consumer": consumer,
    }
    assert await pending(stream, "s") == []
    assert facts.of("event_dead_lettered") == [("events", "s", bad, "max_deliveries")]
    assert await stream.length() == 2


async def test_consumers_that_race_bury_an_event_once(stream: Stream[bytes]) -> None:
    """However many find it at once."""
    await stream.add_many([(str(number), b"") for number in range(10)])
    handler = AlwaysFails()
    options: dict[str, Any] = {"ack_grace": GRACE, "max_deliveries": 2}
    async with (
        stream.sink("s", start="oldest", **options) as one,
        stream.sink("s", **options) as other,
    ):
        async with anyio.create_task_group() as tasks:
            for sink in (one, other):
                tasks.start_soon(sink.consume, handler)
            await wait_until(
                lambda: one.statistics().dead_lettered + other.statistics().dead_lettered >= 10,
                timeout=PATIENCE,
                what="all are buried",
            )
            one.stop()
            other.stop()
    letters = await stream.sibling("events.dead").range()
    assert sorted(names(letters), key=int) == [str(number) for number in range(10)]
    assert set(handler.runs.values()) == {2}


async def test_each_sink_buries_for_itself(stream: Stream[bytes]) -> None:
    """Two sinks that both fail leave two letters; they say whose."""
    await stream.add("bad", b"")
    for name in ("one", "other"):
        async with stream.sink(name, start="oldest", ack_grace=GRACE, max_deliveries=1) as sink:
            await consume_until_buried(sink, AlwaysFails(), 1)
    letters = await stream.sibling("events.dead").range()
    assert sorted(letter.headers["pulsewire-sink"] for letter in letters) == ["one", "other"]


async def test_event_given_back_without_having_been_begun_has_not_been_delivered(
    make_stream: MakeStream,
) -> None:
    """A sink that is closed again and again does not bring events nearer to their end."""
    stream = make_stream(max_len=0)
    await stream.add_many([(str(number), b"") for number in range(9000)])
    for _ in range(3):
        async with stream.sink("s", start="oldest", ack_grace=60.0, max_deliveries=1) as sink:
            async for event in sink:
                await event.ack()
                if sink.statistics().buffered > 0:
                    break
        assert sink.statistics().released > 0
    left = await stream.length() - (await stream.info()).groups[0].pending
    assert left > 0
    async with stream.sink("s", ack_grace=0.5, max_deliveries=1) as sink:
        await wait_until_nothing_is_left(stream, sink)
        assert sink.statistics().dead_lettered == 0


async def wait_until_nothing_is_left(stream: Stream[Any], sink: pulsewire.Sink[Any]) -> None:
    """Work everything off."""
    with anyio.fail_after(PATIENCE):
        while True:
            await sink.ack(*await sink.read(timeout=0.2))
            (group,) = (await stream.info()).groups
            if group.pending == 0 and group.lag == 0:
                return


async def test_event_in_work_is_never_buried(stream: Stream[bytes], raw: Raw) -> None:
    """Not even when its consumer stood still for longer than the grace and then claims from itself."""
    await stream.add("slow", b"")
    async with stream.sink("s", start="oldest", ack_grace=60.0, max_deliveries=1) as sink:
        async for event in sink:
            await raw(
                stream.key,
                *("XCLAIM", stream.key, "s", sink.consumer, 0, event.id, "IDLE", 90_000, "JUSTID"),
            )
            (share,) = sink._shares.values()
            await share.claim_once(10)
            await event.ack()
            sink.stop()
        assert sink.statistics().dead_lettered == 0
    assert not (await stream.sibling("events.dead").info()).exists


# --- where they go


async def test_dead_letters_go_where_they_are_sent_by_name(make_stream: MakeStream) -> None:
    stream, graves = make_stream(), make_stream("graveyard")
    await stream.add("bad", b"x")
    async with stream.sink(
        "s", start="oldest", ack_grace=GRACE, max_deliveries=1, dead_letter="graveyard"
    ) as sink:
        await consume_until_buried(sink, AlwaysFails(), 1)
    assert names(await graves.range()) == ["bad"]
    assert not (await stream.sibling("events.dead").info()).exists


async def test_dead_letters_go_where_they_are_sent_by_stream(make_stream: MakeStream) -> None:
    """With the limits and the format of that stream."""
    stream, graves = make_stream(), make_stream("graveyard", sliding_ttl=50.0)
    await stream.add("bad", b"x")
    async with stream.sink(
        "s", start="oldest", ack_grace=GRACE, max_deliveries=1, dead_letter=graves
    ) as sink:
        await consume_until_buried(sink, AlwaysFails(), 1)
    assert names(await graves.range()) == ["bad"]


async def test_dead_letters_are_kept_all(make_stream: MakeStream) -> None:
    """The stream of their own has no length limit."""
    stream = make_stream()
    dead = stream.sibling("events.dead")
    assert dead.options.max_len == 0
    await dead.add_many([("e", b"")] * 1500)
    assert await dead.length() == 1500


async def test_full_dead_letter_stream_loses_nothing(
    make_stream: MakeStream, pending: Pending, caplog: pytest.LogCaptureFixture
) -> None:
    """The event stays pending, it is said, and it is moved when there is room."""
    stream, graves = make_stream(), make_stream("graveyard", max_len=1, hard_limit=2)
    await graves.add("old", b"")
    await graves.add("older", b"")
    async with graves.sink("undertaker", start="oldest"):
        await stream.add("bad", b"")
        async with stream.sink(
            "s", start="oldest", ack_grace=GRACE, max_deliveries=1, dead_letter=graves
        ) as sink:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sink.consume, AlwaysFails())
                await wait_until(
                    lambda: any("is full" in record.message for record in caplog.records),
                    what="it is said that there is no room",
                )
                assert len(await pending(stream, "s")) == 1
                await graves.remove(*[event.id for event in await graves.range()])
                await wait_until(lambda: sink.statistics().dead_lettered == 1, what="it is buried")
                sink.stop()
    assert names(await graves.range()) == ["bad"]


async def test_dead_letters_of_plain_fields_are_plain_fields(make_stream: MakeStream) -> None:
    """Beside the foreign key, with what is known in fields."""
    tickets = make_stream("tickets", key="tickets", codec=FIELDS)
    ticket = await tickets.add("", {"ticketID": "7"})
    async with tickets.sink("s", start="oldest", ack_grace=GRACE, max_deliveries=1) as sink:
        await consume_until_buried(sink, AlwaysFails(), 1)
    dead = tickets.sibling("tickets.dead")
    assert dead.key == f"{tickets.key}.dead"
    (letter,) = await dead.range()
    assert letter.payload["ticketID"] == "7"
    assert letter.payload["pulsewire-id"] == ticket
    assert letter.payload["pulsewire-reason"] == "max_deliveries"
    assert tickets.sibling("graveyard").key == tickets.key.removesuffix("tickets") + "graveyard"


async def test_dead_letter_can_be_added_again(stream: Stream[bytes]) -> None:
    """A replay of what failed, once the cause is mended."""
    await stream.add("bad", b"x", topic="t")
    async with stream.sink("s", start="oldest", ack_grace=GRACE, max_deliveries=1) as sink:
        await consume_until_buried(sink, AlwaysFails(), 1)
    async with stream.sibling("events.dead").reader(start="oldest", follow=False) as reader:
        async for letter in reader:
            await stream.add(
                letter.name, letter.payload, topic=letter.topic, headers=letter.headers
            )
    async with stream.sink("s") as sink:
        (event,) = await work_off(sink, 1)
        assert (event.name, event.payload, event.topic, event.deliveries) == ("bad", b"x", "t", 1)


# --- what is malformed


async def test_malformed_entry_becomes_a_dead_letter_where_one_is_wished(
    make_stream: MakeStream, raw: Raw, pending: Pending
) -> None:
    """As it is, with the reason; the events around it are delivered."""
    stream = make_stream()
    await stream.add("before", b"")
    odd = (await raw(stream.key, "XADD", stream.key, "*", "x", b"\xff", "y", "z")).decode()
    await stream.add("after", b"")
    async with stream.sink("s", start="oldest", dead_letter="events.dead") as sink:
        assert names(await work_off(sink, 2)) == ["before", "after"]
        await wait_until(lambda: sink.statistics().dead_lettered == 1, what="it is set aside")
        assert sink.statistics().malformed == 1
    assert await pending(stream, "s") == []
    dead = stream.sibling("events.dead")
    ((_, fields),) = await raw(dead.key, "XRANGE", dead.key, "-", "+")
    assert fields[:4] == [b"x", b"\xff", b"y", b"z"]
    told = dict(zip(fields[4::2], fields[5::2], strict=True))
    assert told[b"h:pulsewire-id"] == odd.encode()
    assert told[b"h:pulsewire-reason"] == b"malformed"
    assert b"n and p" in told[b"h:pulsewire-error"]


async def test_malformed_entry_is_counted_and_acknowledged_otherwise(
    stream: Stream[bytes], raw: Raw, pending: Pending, watched: pulsewire.Hub, facts: Facts
) -> None:
    """It does not come again for ever (S14)."""
    odd = (await raw(stream.key, "XADD", stream.key, "*", "x", "y")).decode()
    await stream.add("after", b"")
    async with watched.stream("events").sink("s", start="oldest") as sink:
        assert names(await work_off(sink, 1)) == ["after"]
        assert sink.statistics().malformed == 1
    assert await pending(stream, "s") == []
    assert [told[:3] for told in facts.of("entry_malformed")] == [("events", "s", odd)]


async def test_malformed_entry_that_its_consumer_left_is_set_aside_when_claimed(
    stream: Stream[bytes], raw: Raw
) -> None:
    await raw(stream.key, "XADD", stream.key, "*", "x", "y")
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await raw(stream.key, "XREADGROUP", "GROUP", "s", "dead", "STREAMS", stream.key, ">")
    async with stream.sink("s", ack_grace=GRACE, max_deliveries=5) as sink:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.consume, AlwaysFails())
            await wait_until(lambda: sink.statistics().dead_lettered == 1, what="it is set aside")
            sink.stop()
        assert sink.statistics().malformed == 1


async def test_no_ack_sink_sets_malformed_entries_aside_too(
    stream: Stream[bytes], raw: Raw
) -> None:
    await raw(stream.key, "XADD", stream.key, "*", "x", "y")
    await stream.add("after", b"")
    async with stream.sink("s", start="oldest", no_ack=True, dead_letter="events.dead") as sink:
        assert names(await sink.read(timeout=PATIENCE)) == ["after"]
        await wait_until(lambda: sink.statistics().dead_lettered == 1, what="it is set aside")


# --- bad weather


async def test_lost_replies_bury_an_event_once(
    weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """The move is repeated under its key; the original goes only after it."""
    stream = weathered.stream("events", ttl=60.0)
    await stream.add_many([(str(number), b"") for number in range(5)])
    dead_key = stream.sibling("events.dead").key.encode()

    def is_a_move(words: Any) -> bool:
        return words[0] in (b"EVALSHA", b"EVAL") and dead_key in words

    fault = proxy.swallow_reply(is_a_move, count=3)
    async with stream.sink("s", start="oldest", ack_grace=GRACE, max_deliveries=1) as sink:
        await consume_until_buried(sink, AlwaysFails(), 5)
    assert fault.hits == 3
    dead = stream.sibling("events.dead")
    assert sorted(names(await dead.range()), key=int) == ["0", "1", "2", "3", "4"]
    await dead.destroy()


# --- suspects: events whose next delivery is the last one


async def leave_behind(stream: Stream[bytes], raw: Raw, deliveries: dict[str, int]) -> None:
    """Events of a consumer that is no more, each of them delivered so often already."""
    await stream.store.ensure_group("s", "0")
    read = ("XREADGROUP", "GROUP", "s", "gone", "COUNT", 1, "STREAMS", stream.key, ">")
    for name, count in deliveries.items():
        event_id = await stream.add(name, b"")
        await raw(stream.key, *read)
        claim = ("XCLAIM", stream.key, "s", "gone", 0, event_id)
        await raw(stream.key, *claim, "IDLE", 60_000, "RETRYCOUNT", count, "JUSTID")


async def test_consumer_takes_one_suspect_at_a_time(stream: Stream[bytes], raw: Raw) -> None:
    """Beside others. If it dies by it, no other one that was near its end becomes a dead letter with it."""
    left = {"s1": 2, "a": 1, "s2": 2, "b": 1, "s3": 2, "dead": 3}
    await leave_behind(stream, raw, left)
    at_work: set[str] = set()
    beside: list[set[str]] = []
    deliveries: dict[str, int] = {}

    async def handle(event: Event[bytes]) -> None:
        at_work.add(event.name)
        beside.append({name for name in at_work if name.startswith("s")})
        deliveries[event.name] = event.deliveries
        await anyio.sleep(0.05)
        at_work.remove(event.name)

    async with stream.sink("s", ack_grace=20.0, max_deliveries=3) as sink:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(sink.consume, handle, concurrency=6))
            # the next one is taken when one is finished, not at the next of the claims every 5 s
            with anyio.fail_after(PATIENCE):
                await sink._all_shares()[0].claim_once(100)
                await wait_until(lambda: len(deliveries) == 3, what="two of them, and a suspect")
            await wait_until(lambda: len(deliveries) == 5, timeout=PATIENCE, what="all are done")
            sink.stop()
        assert sink.statistics().dead_lettered == 1
    assert deliveries == {"s1": 3, "a": 2, "s2": 3, "b": 2, "s3": 3}
    assert max(map(len, beside)) == 1


@on_one_server
async def test_event_that_failed_where_its_consumer_lived_is_no_suspect(
    stream: Stream[bytes],
) -> None:
    """After an outage of something else the whole backlog is at its last delivery, and is worked off side by side."""
    await add_numbered(stream, 20)
    at_work = most = 0
    failed: dict[str, int] = {}

    async def handle(event: Event[bytes]) -> None:
        nonlocal at_work, most
        if event.deliveries == 1:
            failed[event.name] = event.deliveries
            raise ConnectionError("the outage")
        at_work += 1
        most = max(most, at_work)
        await anyio.sleep(0.2)
        at_work -= 1
        del failed[event.name]
        if not failed:
            sink.stop()

    async with stream.sink("s", start="oldest", ack_grace=0.3, max_deliveries=2) as sink:
        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=20)
        assert sink.statistics().dead_lettered == 0
    assert most > 5


@on_one_server
async def test_suspects_hide_nothing_that_is_behind_them(stream: Stream[bytes], raw: Raw) -> None:
    """However many are left for later, the others are taken over at once."""
    await leave_behind(stream, raw, {f"s{number}": 2 for number in range(250)} | {"a": 1})
    handled: list[str] = []

    async def handle(event: Event[bytes]) -> None:
        handled.append(event.name)
        if event.name == "a":
            sink.stop()

    async with stream.sink("s", ack_grace=20.0, max_deliveries=3) as sink:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(sink.consume, handle, concurrency=6))
            with anyio.fail_after(PATIENCE):
                await sink._all_shares()[0].claim_once(100)
                await wait_until(lambda: "a" in handled, what="it was taken over")
    assert len(handled) < 100


def test_suspects_are_those_that_may_be_delivered_once_more() -> None:
    """An event that may be delivered only once is none: it is no worse than any other when it comes."""

    def suspicious(most: int | None) -> list[int]:
        rules = ShareRules(
            sink="s",
            consumer="c",
            wanted=None,
            no_ack=False,
            ack_grace=1.0,
            max_deliveries=most,
            letters=None,
        )
        return [count for count in range(20) if rules.suspicion.falls_on(count)]

    assert {most: suspicious(most) for most in (None, 1, 2, 3, 10)} == {
        None: [],
        1: [],
        2: [1],
        3: [2],
        10: [9],
    }
