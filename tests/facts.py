"""What the tests of several features share: marks, types of shared fixtures, and hooks that remember every fact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import pulsewire
from pulsewire.testing import wait_until

on_one_server = pytest.mark.parametrize("topology", ["standalone"], indirect=True)
"""For what is decided before anything is sent."""
on_two_topologies = pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)
"""For what waits for a grace to pass on the server's clock, which is the same everywhere."""

PATIENCE = 15.0
"""Seconds for what should take milliseconds. Longer means it does not happen."""

Raw = Callable[..., Awaitable[Any]]


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


async def let_pass(hub: pulsewire.Hub, seconds: float) -> None:
    """Return when the server's clock, which judges who is silent, has gone on by so much."""
    start = await hub.time()

    async def has_passed() -> bool:
        return await hub.time() - start >= seconds

    await wait_until(has_passed, what=f"{seconds} s have passed on the server")
