"""Deadlines of many things at once, for the price of two look-ups each: by buckets of a tenth of a second. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
RESOLUTION = 0.1
"""Seconds by which something may be found late."""


class Deadlines(Generic[T]):
    """What is due when."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[int, set[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def add(self, at: float, what: T) -> None:
        """`what` is due at a time."""
        bucket = int(at / RESOLUTION) + 1
        held = self._buckets.get(bucket)
        if held is None:
            self._buckets[bucket] = {what}
        else:
            held.add(what)

    def remove(self, at: float, what: T) -> None:
        """`what`, which was added for that time, is due no more."""
        bucket = int(at / RESOLUTION) + 1
        held = self._buckets.get(bucket)
        if held is not None:
            held.discard(what)
            if not held:
                del self._buckets[bucket]

    def due(self, now: float) -> list[T]:
        """What is due, in order; it is held no more."""
        last = int(now / RESOLUTION)
        found = sorted(bucket for bucket in self._buckets if bucket <= last)
        return [what for bucket in found for what in self._buckets.pop(bucket)]
