"""Handling different keys side by side and each key in order. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class KeyedOrder(Generic[T]):
    """Says which item may start: at most one per key at a time, each key's items in the order they came."""

    __slots__ = ("_parked", "parked")

    def __init__(self) -> None:
        self._parked: dict[Hashable, deque[T]] = {}
        self.parked = 0

    def offer(self, key: Hashable, item: T) -> bool:
        """True when the item may start now; otherwise it is parked behind the others of its key."""
        queue = self._parked.get(key)
        if queue is None:
            self._parked[key] = deque()
            return True
        queue.append(item)
        self.parked += 1
        return False

    def done(self, key: Hashable) -> T | None:
        """The running item of this key has ended: the next one of the key, which may start now, or None."""
        queue = self._parked[key]
        if queue:
            self.parked -= 1
            return queue.popleft()
        del self._parked[key]
        return None

    def abandon(self) -> list[T]:
        """All that is parked; it is forgotten."""
        items = [item for queue in self._parked.values() for item in queue]
        self._parked.clear()
        self.parked = 0
        return items
