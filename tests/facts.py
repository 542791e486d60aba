"""What the tests of several features share: marks, types of shared fixtures, and hooks that remember every fact."""

from __future__ import annotations

import logging
import threading
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


class Said(logging.Handler):
    """Keeps what is said to its logger, and tells who waits for that in another thread.

    Args:
        naming: a value without which a record is passed over.
    """

    def __init__(self, naming: str = "") -> None:
        super().__init__()
        self._naming = naming
        self.records: list[logging.LogRecord] = []
        self.came = threading.Event()

    def logger(self) -> logging.Logger:
        """One that says it here, and nowhere else."""
        logger = logging.getLogger(f"told.{id(self)}")
        logger.propagate = False
        logger.handlers = [self]
        return logger

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        if not self._naming or hasattr(record, self._naming):
            self.records.append(record)
            self.came.set()

    def messages(self) -> list[str]:
        """What was said, without its values."""
        return [record.getMessage() for record in self.records]


async def let_pass(hub: pulsewire.Hub, seconds: float) -> None:
    """Return when the server's clock, which judges who is silent, has gone on by so much."""
    start = await hub.time()

    async def has_passed() -> bool:
        return await hub.time() - start >= seconds

    await wait_until(has_passed, what=f"{seconds} s have passed on the server")
