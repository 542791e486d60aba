"""Types of the shared fixtures, and hooks that remember every fact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import anyio
import pytest

import pulsewire
from pulsewire.testing import wait_until

on_one_server = pytest.mark.parametrize("topology", ["standalone"], indirect=True)
"""For what is decided before anything is sent."""
on_two_topologies = pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)
"""For what waits for a grace to pass on the server's clock, which is the same everywhere."""

Raw = Callable[..., Awaitable[Any]]
Pending = Callable[["pulsewire.Stream[Any]", str], Awaitable[list[tuple[str, str, int, int]]]]


class MakeStream(Protocol):
    """Makes streams that are destroyed after the test."""

    def __call__(self, name: str = ..., **options: Any) -> pulsewire.Stream[Any]: ...


class Facts(pulsewire.Hooks):
    """Remembers what it is told, in order: the name of the fact and its arguments."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def of(self, fact: str) -> list[tuple[Any, ...]]:
        """The arguments of each time this fact was told."""
        return [arguments for name, arguments in self.told if name == fact]

    def total(self, fact: str, *where: str) -> int:
        """The counts of a fact that has the count third, of one stream and sink."""
        return sum(arguments[2] for arguments in self.of(fact) if arguments[: len(where)] == where)


def _remembering(fact: str) -> Callable[..., None]:
    def remember(self: Facts, *arguments: Any, **named: Any) -> None:
        self.told.append((fact, (*arguments, *named.values())))

    return remember


for _fact in [name for name in vars(pulsewire.Hooks) if not name.startswith("_")]:
    setattr(Facts, _fact, _remembering(_fact))


PATIENCE = 15.0
"""Seconds for what should take milliseconds. Longer means it does not happen."""


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


async def let_pass(hub: pulsewire.Hub, seconds: float) -> None:
    """Return when the server's clock, which judges who is silent, has gone on by so much."""
    start = await hub.time()

    async def has_passed() -> bool:
        return await hub.time() - start >= seconds

    await wait_until(has_passed, what=f"{seconds} s have passed on the server")


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
