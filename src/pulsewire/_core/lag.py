"""How late the event loop is: the delay of a timer, the worst one of the last seconds."""

from __future__ import annotations

import asyncio
from collections import deque

from pulsewire._core.clock import SYSTEM_CLOCK, Clock

EVERY = 0.5
REMEMBERED = 10.0
"""Seconds that a delay is remembered."""


class LoopLag:
    """Measures one event loop, while `run` runs there."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._delays: deque[tuple[float, float]] = deque()  # when, how long
        self._due: float | None = None

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                self.expect(EVERY)
                await asyncio.sleep(EVERY)
                self.note()
        finally:
            self._due = None

    def expect(self, seconds: float) -> None:
        """A timer was set."""
        self._due = self._clock.monotonic() + seconds

    def note(self) -> None:
        """The timer has fired."""
        now = self._clock.monotonic()
        if self._due is not None:
            self._delays.append((now, max(now - self._due, 0.0)))
        self._due = None
        self._drop_old(now)

    def _drop_old(self, now: float) -> None:
        while self._delays and self._delays[0][0] < now - REMEMBERED:
            self._delays.popleft()

    @property
    def worst(self) -> float:
        """Seconds of the longest delay of late; that of a timer which has not fired yet is among them."""
        now = self._clock.monotonic()
        self._drop_old(now)
        waiting = 0.0 if self._due is None else max(now - self._due, 0.0)
        return max([waiting, *(delay for _, delay in self._delays)])
