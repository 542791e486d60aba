"""Types of the fixtures of streams, and what their tests do again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import anyio

import pulsewire
from tests.facts import PATIENCE, Facts, Raw, let_pass, on_one_server, on_two_topologies

__all__ = [
    "PATIENCE",
    "Facts",
    "MakeStream",
    "Pending",
    "Raw",
    "add_numbered",
    "is_untouched",
    "let_pass",
    "names",
    "names_in",
    "numbers",
    "on_one_server",
    "on_two_topologies",
    "rest",
    "take",
    "work_off",
]

Pending = Callable[["pulsewire.Stream[Any]", str], Awaitable[list[tuple[str, str, int, int]]]]


class MakeStream(Protocol):
    """Makes streams that are destroyed after the test."""

    def __call__(self, name: str = ..., **options: Any) -> pulsewire.Stream[Any]: ...


async def take(
    source: pulsewire.Reader[Any] | pulsewire.Sink[Any], count: int
) -> list[pulsewire.Event[Any]]:
    """The next events of a reader or sink. They are not acknowledged."""
    events: list[pulsewire.Event[Any]] = []
    with anyio.fail_after(PATIENCE):
        async for event in source:
            events.append(event)
            if len(events) == count:
                break
    return events


async def rest(reader: pulsewire.Reader[Any]) -> list[pulsewire.Event[Any]]:
    """All events of a reader that does not follow."""
    with anyio.fail_after(PATIENCE):
        return [event async for event in reader]


def names(events: Iterable[pulsewire.Event[Any]]) -> list[str]:
    """Their names."""
    return [event.name for event in events]


async def work_off(sink: pulsewire.Sink[Any], count: int) -> list[pulsewire.Event[Any]]:
    """The next events of a sink, each acknowledged before the next."""
    events: list[pulsewire.Event[Any]] = []
    with anyio.fail_after(PATIENCE):
        while len(events) < count:
            batch = await sink.read(max=count - len(events))
            await sink.ack(*batch)
            events += batch
    return events


async def names_in(stream: pulsewire.Stream[Any]) -> list[str]:
    """Every event's name, from the beginning."""
    names: list[str] = []
    start = "oldest"
    while events := await stream.range(start):
        names += [event.name for event in events]
        start = events[-1].id
    return names


async def is_untouched(stream: pulsewire.Stream[Any], raw: Raw) -> bool:
    """Whether nothing at all was written."""
    return bool(await raw(stream.key, "EXISTS", stream.key) == 0)


async def add_numbered(stream: pulsewire.Stream[bytes], count: int, first: int = 0) -> list[str]:
    """Add events whose names are numbers; their ids."""
    return await stream.add_many([(number, b"") for number in numbers(count, first)])


def numbers(count: int, first: int = 0) -> list[str]:
    """The names that `add_numbered` gives."""
    return [str(number) for number in range(first, first + count)]
