"""Running a handler over a sink's events."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Event, InvalidOption, Sink, Stream
from pulsewire._core import stalls
from pulsewire.testing import wait_until
from tests.facts import Said
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    MakeStream,
    Pending,
    add_numbered,
    names,
    on_one_server,
    work_off,
)

GRACE = 0.3


class Handled:
    """A handler that notes down what it was given and stops its sink after so many."""

    def __init__(self, sink: Sink[Any], until: int) -> None:
        self.sink = sink
        self.until = until
        self.events: list[Event[Any]] = []

    async def __call__(self, event: Event[Any]) -> None:
        self.events.append(event)
        if len(self.events) == self.until:
            self.sink.stop()


# --- what blocks


@on_one_server
async def test_event_whose_handler_blocks_the_loop_is_named(
    make_stream: MakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it does: a blocked loop keeps no events (F5)."""
    monkeypatch.setattr(stalls, "BLOCKED", 0.3)
    said = Said(naming="event")
    stream = make_stream(logger=said.logger())

    async def block(event: Event[bytes]) -> None:
        assert said.came.wait(PATIENCE)
        sink.stop()

    event_id = await stream.add("created", b"")
    async with stream.sink("mailer", start="oldest") as sink:
        await sink.consume(block)
    record = vars(said.records[0])
    assert (record["stream"], record["sink"], record["event"]) == (stream.name, "mailer", event_id)
    assert "in block" in record["where"]


# --- outcomes


async def test_handler_that_returns_acknowledges(stream: Stream[bytes], pending: Pending) -> None:
    await add_numbered(stream, 50)
    async with stream.sink("s", start="oldest") as sink:
        handled = Handled(sink, 50)
        with anyio.fail_after(PATIENCE):
            await sink.consume(handled)
    assert names(handled.events) == [str(number) for number in range(50)]
    assert await pending(stream, "s") == []


async def test_handler_that_raises_gets_the_event_again(
    stream: Stream[bytes], watched: pulsewire.Hub, facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    """After the grace; the other events go on meanwhile, and nothing comes out of `consume`."""
    await add_numbered(stream, 5)
    tries: list[tuple[str, int]] = []
    async with watched.stream("events").sink("s", start="oldest", ack_grace=GRACE) as sink:

        async def handle(event: Event[bytes]) -> None:
            tries.append((event.name, event.deliveries))
            if event.name == "2" and event.deliveries < 3:
                raise ValueError("not yet")
            if event.name == "2":
                sink.stop()

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle)
        assert sink.statistics().failed == 2
    assert tries == [("0", 1), ("1", 1), ("2", 1), ("3", 1), ("4", 1), ("2", 2), ("2", 3)]
    told = facts.of("handler_failed")
    assert [(where, sink_name) for where, sink_name, _, _ in told] == [("events", "s")] * 2
    assert all(isinstance(error, ValueError) for *_, error in told)
    records = [record for record in caplog.records if "handler failed" in record.message]
    assert [record.__dict__["deliveries"] for record in records] == [1, 2]
    assert all(record.exc_info is not None for record in records)


@on_one_server
@pytest.mark.parametrize("ordered_by", [None, lambda event: 0])
async def test_handler_that_awaits_what_others_cancelled_has_failed(
    stream: Stream[bytes], ordered_by: Callable[[Event[bytes]], int] | None
) -> None:
    """That is no end of the sink: the others are handled, and the event comes again."""
    await add_numbered(stream, 5)
    shared = asyncio.get_running_loop().create_future()
    shared.cancel()
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        handled = Handled(sink, 5)

        async def handle(event: Event[bytes]) -> None:
            if event.name == "1" and event.deliveries == 1:
                await shared
            await handled(event)

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=2, ordered_by=ordered_by)
        assert sink.statistics().failed == 1
    assert sorted(names(handled.events)) == [str(number) for number in range(5)]


@on_one_server
async def test_plain_function_is_no_handler(stream: Stream[bytes]) -> None:
    """Or it would be called, fail when it is awaited, and be called again for ever. The event is let go."""
    await add_numbered(stream, 1)
    calls = list[str]()

    def plain(event: Event[bytes]) -> None:
        calls.append(event.name)

    async def of_two(event: Event[bytes], _other: object) -> None:
        raise AssertionError(event)

    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        for handler in (plain, of_two):
            for timeout in (None, 10.0):
                with anyio.fail_after(PATIENCE), pytest.raises(InvalidOption, match="async def"):
                    await sink.consume(handler, timeout=timeout)  # type: ignore[arg-type]  # the mistake
        assert calls == ["0", "0"]
        handled = Handled(sink, 1)
        await sink.consume(handled)
    assert names(handled.events) == ["0"]


@on_one_server
async def test_type_error_of_a_handler_is_its_outcome(stream: Stream[bytes]) -> None:
    """Unlike one of calling it."""
    await add_numbered(stream, 1)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        handled = Handled(sink, 1)

        async def handle(event: Event[bytes]) -> None:
            if event.deliveries == 1:
                raise TypeError("of its own")
            await handled(event)

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle)
        assert sink.statistics().failed == 1


async def test_handler_that_takes_too_long_is_cancelled(stream: Stream[bytes]) -> None:
    """That counts as a failure, and the event comes again."""
    await stream.add("e", b"")
    tries: list[int] = []
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:

        async def handle(event: Event[bytes]) -> None:
            tries.append(event.deliveries)
            if event.deliveries == 1:
                await anyio.sleep_forever()
            sink.stop()

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, timeout=0.02)
        assert sink.statistics().failed == 1
    assert tries == [1, 2]


class Unstoppable(BaseException):
    """Nothing that a handler's failure would be."""


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_exception_that_is_none_of_ours_comes_out_as_it_is(
    concurrency: int, stream: Stream[bytes], pending: Pending
) -> None:
    """A BaseException ends `consume`; the event is not acknowledged."""
    await stream.add("e", b"")

    async def handle(event: Event[bytes]) -> None:
        raise Unstoppable

    async with stream.sink("s", start="oldest") as sink:
        with pytest.raises(Unstoppable):
            await sink.consume(handle, concurrency=concurrency)
        assert sink.statistics().in_work == 0
    assert len(await pending(stream, "s")) == 1


async def test_handler_may_acknowledge_by_itself(stream: Stream[bytes], pending: Pending) -> None:
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest") as sink:

        async def handle(event: Event[bytes]) -> None:
            await event.ack()
            assert await pending(stream, "s") == []
            sink.stop()

        await sink.consume(handle)
        assert sink.statistics().failed == 0


async def test_no_ack_handler_that_raises_gets_nothing_again(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 2)
    seen: list[str] = []
    async with stream.sink("s", start="oldest", no_ack=True, ack_grace=0.1) as sink:

        async def handle(event: Event[bytes]) -> None:
            seen.append(event.name)
            if event.name == "1":
                sink.stop()
            raise ValueError

        await sink.consume(handle)
        assert sink.statistics().failed == 2
    assert seen == ["0", "1"]


# --- side by side


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_so_many_handlers_run_at_once_at_most(
    concurrency: int, stream: Stream[bytes]
) -> None:
    """And so many do run at once."""
    await add_numbered(stream, 40)
    running = most = done = 0
    async with stream.sink("s", start="oldest") as sink:

        async def handle(event: Event[bytes]) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await wait_until(lambda: most == concurrency, what="all slots are busy")
            await anyio.lowlevel.checkpoint()
            running -= 1
            done += 1
            if done == 40:
                sink.stop()

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=concurrency)
    assert most == concurrency


@pytest.mark.parametrize("concurrency", [1, 2, 10])
async def test_each_key_is_handled_in_order(concurrency: int, make_stream: MakeStream) -> None:
    """One after the other within a key, side by side among keys, nothing left out."""
    stream = make_stream(max_len=0)
    await stream.add_many([(str(number), b"") for number in range(1500)])
    order: dict[int, list[int]] = defaultdict(list)
    running: set[int] = set()
    done = 0
    async with stream.sink("s", start="oldest") as sink:

        async def handle(event: Event[bytes]) -> None:
            nonlocal done
            key = int(event.name) % 7
            assert key not in running
            running.add(key)
            for _ in range(int(event.name) % 5):
                await anyio.lowlevel.checkpoint()
            order[key].append(int(event.name))
            running.remove(key)
            done += 1
            if done == 1500:
                sink.stop()

        with anyio.fail_after(PATIENCE):
            await sink.consume(
                handle, concurrency=concurrency, ordered_by=lambda event: int(event.name) % 7
            )
        assert sink.statistics().failed == 0
        assert sink.statistics().delivered == 1500
    assert {key: sorted(found) for key, found in order.items()} == order
    assert sum(len(found) for found in order.values()) == 1500


async def test_busy_key_keeps_no_other_waiting(stream: Stream[bytes]) -> None:
    """While the first event of a key is worked on for long, all other keys go on."""
    for number in range(30):
        await stream.add("slow" if number % 2 == 0 else f"quick {number}", b"")
    quick: list[str] = []
    async with stream.sink("s", start="oldest") as sink:

        async def handle(event: Event[bytes]) -> None:
            if event.name == "slow":
                await wait_until(lambda: len(quick) == 15, what="all others are done")
                sink.stop()
            else:
                quick.append(event.name)

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=2, ordered_by=lambda event: event.name)


async def test_one_key_with_many_events_neither_hangs_nor_loses(
    make_stream: MakeStream, pending: Pending
) -> None:
    """All slots but one wait for that key: each of them goes on when it is their turn."""
    stream = make_stream(max_len=0)
    await add_numbered(stream, 800)
    async with stream.sink("s", start="oldest") as sink:
        handled = Handled(sink, 800)

        async def handle(event: Event[bytes]) -> None:
            await anyio.lowlevel.checkpoint()
            await handled(event)

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=8, ordered_by=lambda event: "the only one")
    assert names(handled.events) == [str(number) for number in range(800)]
    assert await pending(stream, "s") == []


async def test_stopping_while_slots_wait_for_a_busy_key_ends(stream: Stream[bytes]) -> None:
    """What had to wait is given back when the sink is left."""
    await add_numbered(stream, 200)
    async with stream.sink("s", start="oldest", ack_grace=60.0) as sink:
        release = anyio.Event()
        begun: list[str] = []

        async def handle(event: Event[bytes]) -> None:
            begun.append(event.name)
            await release.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: sink.consume(handle, concurrency=4, ordered_by=lambda event: "the only one")
            )
            await wait_until(
                lambda: sink.statistics().delivered >= 64, what="as much is parked as may be"
            )
            sink.stop()
            release.set()
    assert begun == ["0"]
    async with stream.sink("s", ack_grace=GRACE) as successor:
        found = await work_off(successor, 199)
        assert sorted(names(found), key=int) == [str(number) for number in range(1, 200)]
        assert {event.deliveries for event in found} == {1}


async def test_key_function_that_raises_is_a_failure_of_that_event(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 3)

    def key_of(event: Event[bytes]) -> Any:
        if event.name == "1":
            raise ValueError("no key")
        return [event.name] if event.name == "5" else event.name

    async with stream.sink("s", start="oldest", ack_grace=60.0) as sink:
        handled = Handled(sink, 2)
        with anyio.fail_after(PATIENCE):
            await sink.consume(handled, ordered_by=key_of)
        assert sink.statistics().failed == 1
    assert names(handled.events) == ["0", "2"]


async def test_key_that_cannot_be_one_is_a_failure_of_that_event(stream: Stream[bytes]) -> None:
    await add_numbered(stream, 2)
    async with stream.sink("s", start="oldest", ack_grace=60.0) as sink:
        handled = Handled(sink, 1)
        with anyio.fail_after(PATIENCE):
            await sink.consume(
                handled,
                ordered_by=lambda event: ["a list"] if event.name == "0" else "fine",  # type: ignore[arg-type,return-value]  # that is the point
            )
        assert sink.statistics().failed == 1


# --- its end


async def test_stop_lets_what_runs_finish(stream: Stream[bytes], pending: Pending) -> None:
    """And it is acknowledged; nothing else begins."""
    await add_numbered(stream, 20)
    finished: list[str] = []
    begun: list[str] = []
    async with stream.sink("s", start="oldest") as sink:

        async def handle(event: Event[bytes]) -> None:
            begun.append(event.name)
            await wait_until(lambda: len(begun) == 3, what="three are running")
            sink.stop()
            await anyio.lowlevel.checkpoint()
            finished.append(event.name)

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=3)
    assert sorted(finished) == sorted(begun) == ["0", "1", "2"]
    left = {event_id for event_id, *_ in await pending(stream, "s")}
    assert len(left) <= 17
    assert sink.statistics().acked == 3


@pytest.mark.parametrize(
    "ordered_by", [None, lambda event: "the only one"], ids=["any order", "in order"]
)
async def test_cancelled_handlers_let_their_events_go(
    ordered_by: Callable[[Event[Any]], str] | None, stream: Stream[bytes]
) -> None:
    """The sink stays open, and everything comes again to whoever consumes next."""
    await add_numbered(stream, 5)
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        begun = 0

        async def hang(event: Event[bytes]) -> None:
            nonlocal begun
            begun += 1
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: sink.consume(hang, concurrency=3, ordered_by=ordered_by))
            await wait_until(lambda: begun >= (3 if ordered_by is None else 1), what="it hangs")
            tasks.cancel_scope.cancel()
        assert sink.statistics().in_work == 0
        handled = Handled(sink, 5)
        with anyio.fail_after(PATIENCE):
            await sink.consume(handled)
    assert sorted(names(handled.events)) == ["0", "1", "2", "3", "4"]


async def test_cancelled_consume_has_sent_the_acks_of_what_was_done(
    stream: Stream[bytes], pending: Pending
) -> None:
    """The sink is left in the same moment as a handler has returned."""
    await add_numbered(stream, 100)
    done: list[str] = []
    with anyio.move_on_after(PATIENCE) as scope:
        async with stream.sink("s", start="oldest") as sink:

            async def handle(event: Event[bytes]) -> None:
                done.append(event.id)
                if len(done) == 50:
                    scope.cancel()

            await sink.consume(handle)
    assert scope.cancelled_caught
    assert len(done) >= 50  # the rest of what was there at once is not waited for in between
    assert not set(done) & {event_id for event_id, *_ in await pending(stream, "s")}


# --- what is wrong is told


@on_one_server
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("concurrency", value) for value in (0, -1, 1.5, None, True)),
        *(("timeout", value) for value in (0, -1.0, "1", float("inf"))),
        *(("ordered_by", value) for value in ("key", 5)),
    ],
)
async def test_impossible_option_is_refused_and_named(
    option: str, value: Any, stream: Stream[bytes]
) -> None:
    async with stream.sink("s") as sink:
        with pytest.raises(InvalidOption) as caught:
            await sink.consume(lambda event: event.ack(), **{option: value})
    assert caught.value.option == option
