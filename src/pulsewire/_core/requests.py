"""Request numbers of one writer: which are under way, and which the server may forget. Pure.

A write carries a number; the script keeps its reply under it, so that the same write sent again does nothing and is
answered alike (`lua/request.lua`). Once a reply has come, its record is of no use and is forgotten in batches. That is
not so for a write that met trouble: a copy of it may still be on its way to the server, and would be carried out if its
number were forgotten. Those are kept for as long as the record as a whole would live.
"""

from __future__ import annotations

from collections import deque

KEPT = 600.0
"""Seconds that the server keeps replies after the last write."""
BATCH = 64
"""So many records are forgotten in one command."""
HEAVY = 16 * 1024
"""A reply of so many bytes counts as a batch of its own."""


class Requests:
    """The numbers of one writer."""

    __slots__ = ("_answered", "_doubtful", "_last", "_open", "_weight")

    def __init__(self) -> None:
        self._last = 0
        self._open: set[int] = set()
        self._answered: list[int] = []
        self._weight = 0
        self._doubtful: deque[tuple[float, int]] = deque()

    def next(self) -> int:
        """A new number."""
        self._last += 1
        self._open.add(self._last)
        return self._last

    @property
    def has_open(self) -> bool:
        """Whether some write is under way: if its reply is lost, it will be sent again and needs its record."""
        return bool(self._open)

    @property
    def has_doubtful(self) -> bool:
        """Whether a copy of some write may still be on its way."""
        return bool(self._doubtful)

    @property
    def was_used(self) -> bool:
        """Whether there ever was a request."""
        return self._last > 0

    def answered(self, request: int, size: int, now: float) -> list[int]:
        """The reply has come, of so many bytes, without trouble. Returns the numbers to forget now, if any."""
        self._open.discard(request)
        self._answered.append(request)
        self._weight += 1 + BATCH * size // HEAVY
        if self._weight < BATCH:
            return []
        while self._doubtful and self._doubtful[0][0] + KEPT < now:
            self._answered.append(self._doubtful.popleft()[1])
        forgotten, self._answered, self._weight = self._answered, [], 0
        return forgotten

    def in_doubt(self, request: int, now: float) -> None:
        """The write met trouble, or nobody waits for its reply any more."""
        self._open.discard(request)
        self._doubtful.append((now, request))
