"""The common half of readers and sinks: options, and events on their way."""

from __future__ import annotations

import inspect

import anyio

import pulsewire
from pulsewire import Event, Stream
from pulsewire._core.hooks import NO_HOOKS
from pulsewire.streaming.demand import Demand
from pulsewire.streaming.intake import Intake, IntakeOptions
from pulsewire.streaming.reader import ReaderOptions
from pulsewire.streaming.sink import SinkOptions
from tests.streaming.facts import on_one_server


def event(number: int) -> Event[bytes]:
    return Event(f"{number}-0", "s", "", "e", "", b"", {})


def test_defaults_are_those_of_pulse() -> None:
    """Where Pulse has the option (spec/pulse.md 2.2 and 2.3)."""
    both = IntakeOptions()
    assert (both.start, both.block, both.max_polled, both.buffer) == ("newest", 5.0, 1000, 1000)
    assert (both.topic, both.topic_pattern, both.wanted()) == (None, None, None)
    assert ReaderOptions().follow
    sink = SinkOptions(name="s")
    assert (sink.no_ack, sink.ack_grace, sink.max_deliveries) == (False, 20.0, None)


def test_defaults_are_the_same_wherever_they_stand() -> None:
    """What `Stream.reader` and `Stream.sink` show is what the options say."""
    for method, options in (
        (Stream.reader, ReaderOptions()),
        (Stream.sink, SinkOptions(name="s")),
    ):
        for name, parameter in inspect.signature(method).parameters.items():
            if parameter.default is not parameter.empty and hasattr(options, name):
                assert parameter.default == getattr(options, name), name


@on_one_server
async def test_reading_takes_what_is_there_and_waits_for_nothing_more(hub: pulsewire.Hub) -> None:
    """The first event is waited for, the others are not."""
    stream = hub.stream("events")
    async with stream.reader() as owner:
        intake: Intake[bytes] = Intake(
            *(stream.store.link, owner, Demand(100, even=False), NO_HOOKS, stream.logger),
            name="a test",
        )
        intake.inbox.put([event(number) for number in range(5)])
        assert [found.id for found in await intake.read(3, None)] == ["0-0", "1-0", "2-0"]
        assert [found.id for found in await intake.read(3, 60.0)] == ["3-0", "4-0"]
        assert await intake.read(3, 0.001) == []


@on_one_server
async def test_reading_that_is_cancelled_takes_nothing(hub: pulsewire.Hub) -> None:
    stream = hub.stream("events")
    async with stream.reader() as owner:
        intake: Intake[bytes] = Intake(
            *(stream.store.link, owner, Demand(100, even=True), NO_HOOKS, stream.logger),
            name="a test",
        )
        with anyio.move_on_after(0.01):
            await intake.read(10, None)
        intake.inbox.put([event(1)])
        assert len(await intake.read(10, None)) == 1
        assert intake.inbox.room() == 0
