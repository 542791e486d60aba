"""How fast something went of late. Pure: all times are given by the caller."""

from __future__ import annotations

from collections import deque

__all__ = ["Rate"]

_SECONDS = 5.0
"""The rate is the mean of this long."""


class Rate:
    """The rate of a count that grows."""

    def __init__(self) -> None:
        self._history: deque[tuple[float, int]] = deque()

    def at(self, elapsed: float, count: int) -> float:
        """Take note of the count at a time, and return how much it grew per second of late."""
        self._history.append((elapsed, count))
        while len(self._history) > 2 and self._history[0][0] < elapsed - _SECONDS:
            self._history.popleft()
        then, before = self._history[0]
        return (count - before) / (elapsed - then) if elapsed > then else 0.0
