"""The server's clock as a scheduler knows it between two questions: what it goes by when it waits for a tick."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

SAMPLES = 3
SLEPT = 1.0
"""Seconds by which this machine's two clocks must disagree for it to have stood still, or to have been set anew."""


class TickClock:
    """The server's clock as this process knows it: never ahead of it, and behind by less than a round trip."""

    def __init__(self) -> None:
        self._ahead = self._drift = time.time() - time.monotonic()

    def now(self) -> float:
        """Unix seconds."""
        return time.monotonic() + self._ahead

    @property
    def has_slept(self) -> bool:
        """Whether this machine seems to have stood still, so that the clock must be measured before it is trusted."""
        return abs(time.time() - time.monotonic() - self._drift) > SLEPT

    async def measure(self, ask: Callable[[], Awaitable[float]]) -> float:
        """Ask the server; by how many seconds we were behind."""
        # Each answer was true at some moment before it came: the one that was under way shortest is nearest.
        ahead = [await ask() - time.monotonic() for _ in range(SAMPLES)]
        shift = max(ahead) - self._ahead
        self._ahead += shift
        self._drift = time.time() - time.monotonic()
        return shift
