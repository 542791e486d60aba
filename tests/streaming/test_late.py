"""What crosses: groups that vanish while their sink leaves, entries that come twice, callers who gave up meanwhile.

Each is a scene that two clocks play once in a while; here it is brought about, step by step.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import OutcomeUnknown, ServerError, ServerUnavailable, Stream
from pulsewire._redis.link import Unsettled
from pulsewire.streaming.settle import Inquiry, _Question
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.streaming.facts import (
    PATIENCE,
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

TOPOLOGIES = ["standalone"]
GRACE = 0.3


# --- what comes twice, or for nobody


async def test_entry_that_is_fetched_again_while_it_is_held_is_delivered_once(
    stream: Stream[bytes],
) -> None:
    """As after a connection broke between two reads of what is pending, or a claim of what is being worked on."""
    await add_numbered(stream, 2)
    async with stream.sink("s", start="oldest") as sink:
        events = await sink.read(max=2)
        (share,) = sink._all_shares()
        entries = await stream.source.store.range("-", "+", 9)
        await share.take_new([(event_id.encode(), fields) for event_id, fields in entries])
        assert sink.statistics().delivered == 2
        assert sink.statistics().buffered == 0
        await sink.ack(*events)


async def test_no_ack_sink_passes_over_what_it_does_not_want(
    stream: Stream[bytes], pending: Pending
) -> None:
    """There is nothing to acknowledge either."""
    await stream.add("no", b"", topic="other")
    await stream.add("yes", b"", topic="mine")
    async with stream.sink("s", start="oldest", topic="mine", no_ack=True) as sink:
        assert names(await take(sink, 1)) == ["yes"]
        assert sink.statistics().filtered == 1
        assert sink.statistics().acked == 0
    assert await pending(stream, "s") == []


async def test_two_that_claim_at_once_take_everything_once(
    stream: Stream[bytes], raw: Raw, hub: pulsewire.Hub
) -> None:
    await add_numbered(stream, 5)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "s", "0")
    await raw(stream.key, "XREADGROUP", "GROUP", "s", "dead", "STREAMS", stream.key, ">")
    await let_pass(hub, GRACE)
    async with stream.sink("s", ack_grace=GRACE) as sink:
        (share,) = sink._all_shares()
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(share.claim_once, 100)
        assert sorted(names(await work_off(sink, 5))) == numbers(5)
        assert sink.statistics().claimed == 5
        share.is_leaving = True
        await stream.add("late", b"")
        await share.claim_once(100)
        assert sink.statistics().claimed == 5


# --- groups that vanish


async def test_sink_leaves_a_group_that_has_vanished(stream: Stream[bytes], raw: Raw) -> None:
    """It has events that it did not begin, and nobody to give them back to."""
    await add_numbered(stream, 10)
    async with stream.sink("s", start="oldest") as sink:
        await take(sink, 1)
        sink.stop()
        await sink._open_intake().stop()
        await raw(stream.key, "XGROUP", "DESTROY", stream.key, "s")
    assert await raw(stream.key, "XINFO", "GROUPS", stream.key) == []


async def test_group_that_vanished_is_made_again_by_whoever_keeps_events(
    stream: Stream[bytes], raw: Raw
) -> None:
    """Without a read that would notice."""
    await add_numbered(stream, 3)
    async with stream.sink("s", start="oldest", ack_grace=60.0) as sink:
        events = await sink.read(max=3)
        await sink._open_intake().stop()
        (share,) = sink._all_shares()
        await raw(stream.key, "XGROUP", "DESTROY", stream.key, "s")
        await share.refresh_once()
        assert sink.statistics().rebuilt == 1
        await sink.ack(*events)


# --- what could not begin, or had ended


@pytest.mark.parametrize("kind", ["reader", "sink"])
async def test_what_cannot_begin_to_read_leaves_nothing(
    make_stream: MakeStream, raw: Raw, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Tasks and connections are looked at after every test; no consumer stays either."""
    stream = make_stream()
    await stream.add("e", b"")

    async def fail(*arguments: object) -> None:
        raise ServerUnavailable("here", 1.0, "away")

    with monkeypatch.context() as broken:
        broken.setattr("pulsewire.streaming.intake.Intake.arrange", fail)
        with pytest.raises(ServerUnavailable):
            async with stream.sink("s") if kind == "sink" else stream.reader():
                raise AssertionError("it has begun")
    if kind == "sink":
        assert await raw(stream.key, "XINFO", "CONSUMERS", stream.key, "s") == []


async def test_stream_that_is_added_to_a_stopped_sink_is_not_read(make_stream: MakeStream) -> None:
    first, second = make_stream(), make_stream("more")
    await second.add("e", b"")
    async with first.sink("s", start="oldest") as sink:
        sink.stop()
        await sink._open_intake().stop()
        await sink.add_stream(second)
        assert await sink.read() == []
        assert sink._open_intake()._feeds == []
    async with second.sink("s") as sink:
        assert names(await work_off(sink, 1)) == ["e"]


async def test_caller_that_gave_up_does_not_keep_the_others_from_their_acks(
    weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    stream = weathered.stream("events")
    await add_numbered(stream, 2)
    async with stream.sink("s", start="oldest") as sink:
        first, second = await take(sink, 2)
        proxy.stall("to_client")
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.05):
                await sink.ack(first)
            tasks.start_soon(sink.ack, second)
            proxy.resume()
        await wait_until(lambda: sink.statistics().acked == 2, what="both are acknowledged")
    await stream.destroy()


# --- finding out what became of an add


@pytest.mark.parametrize("others", [2, 3, 7])
async def test_added_event_is_found_however_much_came_before_it(
    weathered: pulsewire.Hub,
    proxy: FaultProxy,
    single_server: SingleServer,
    monkeypatch: pytest.MonkeyPatch,
    others: int,
) -> None:
    """The stream is looked through page by page; it may be the last of a page, or of all."""
    monkeypatch.setattr("pulsewire.streaming.settle.PAGE", 2)
    stream = weathered.stream("events", max_len=100_000)
    await stream.add("first", b"")
    for number in range(others):
        await single_server.command("XADD", stream.key, "*", "n", str(number), "p", "")
    fault = proxy.swallow_reply("XADD")
    event_id = await stream.add("mine", b"")
    assert fault.hits == 1
    found = await stream.range()
    assert [event.id for event in found if event.name == "mine"] == [event_id]
    assert len(found) == others + 2
    await stream.destroy()


async def test_add_to_a_stream_that_was_lost_meanwhile_is_made_again(
    weathered: pulsewire.Hub,
    proxy: FaultProxy,
    single_server: SingleServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the first one has added went with the stream."""
    stream = weathered.stream("events", max_len=100_000)
    await stream.add("first", b"")
    look = Inquiry._look

    async def look_late(self: Inquiry, questions: list[_Question]) -> None:
        await single_server.command("DEL", stream.key)
        await look(self, questions)

    monkeypatch.setattr(Inquiry, "_look", look_late)
    proxy.swallow_reply("XADD")
    event_id = await stream.add("mine", b"")
    assert [(event.id, event.name) for event in await stream.range()] == [(event_id, "mine")]
    await stream.destroy()


async def test_what_was_found_before_the_search_failed_counts(
    stream: Stream[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that ask together one gets its id, the other learns that nobody can tell."""
    inquiry, shared = Inquiry(stream.source.store), anyio.Event()
    found: dict[str, Any] = {}

    async def look(questions: list[_Question]) -> None:
        questions[0].answer.set_result("1-1")
        raise ServerError("XRANGE", "ERR out of order")

    async def ask(request: str) -> None:
        await shared.wait()
        unsettled = Unsettled("XADD", "cut", None)  # type: ignore[arg-type]  # nobody looks which
        try:
            found[request] = await inquiry.find(unsettled, request, "0-0", 0.0)
        except ServerError as error:
            found[request] = error

    monkeypatch.setattr(inquiry, "_look", look)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks, inquiry._looking:
            for request in ("a", "b"):
                tasks.start_soon(ask, request)
            shared.set()
            await wait_until(lambda: len(inquiry._asked) == 2, what="both have asked")
    assert found["a"] == "1-1"
    assert isinstance(found["b"], (ServerError, OutcomeUnknown))
