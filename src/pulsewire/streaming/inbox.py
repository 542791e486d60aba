"""The buffer between what comes from the server and who takes it: bounded by demand, fair to waiters, never lossy."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from pulsewire._core.vitals import resting
from pulsewire.streaming.demand import Demand

T = TypeVar("T")


class Inbox(Generic[T]):
    """Events on their way to one reader or sink.

    Feeds `put` what they read and wait for `wait_room` before they read more; takers `take`.
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_demand",
        "_ended",
        "_extra",
        "_feeds",
        "_loop",
        "_takers",
        "taken_at",
    )

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._buffer: deque[T] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._feeds: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._closed = False
        self._extra = 0
        self.taken_at = self._loop.time()

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    def room(self) -> int:
        """How many more events are wanted now."""
        return len(self._takers) + self._extra + self._demand.ahead - len(self._buffer)

    def put(self, items: list[T]) -> None:
        """Add events, and wake as many takers. After `close` they are left to whoever sent them."""
        if self._closed:
            return
        if not self._buffer:
            self.taken_at = self._loop.time()  # what comes now has not been left lying before
        self._buffer.extend(items)
        self._wake_takers()

    def end(self) -> None:
        """Nothing more will come; takers get what is left, then the end."""
        self._ended = True
        takers, self._takers = self._takers, deque()
        for taker in takers:
            if not taker.done():
                taker.set_result(None)
        self.wake_feeds()

    def reopen(self) -> None:
        """More will come after all, unless it was closed."""
        self._ended = self._closed

    def close(self) -> None:
        """Nothing more is handed out, not even what is left."""
        self._closed = True
        self._buffer.clear()
        self.end()

    def stall(self) -> None:
        """Nobody takes: forget what is buffered, and hold nothing ahead for now."""
        self._buffer.clear()
        self._demand.stall()

    async def take(self, wanted: int = 1) -> T | None:
        """The next event; None after the end.

        Args:
            wanted: how many events the caller will take at once, if there are so many.
        """
        buffer, demand = self._buffer, self._demand
        self.taken_at = now = self._loop.time()
        demand.take(now)
        if not buffer:
            self._extra += wanted - 1
            try:
                if not await self._wait():
                    return None
            finally:
                self._extra -= wanted - 1
        item = buffer.popleft()
        if self._feeds and len(buffer) * 2 < demand.ahead:
            self.wake_feeds()
        return item

    def take_nowait(self) -> T | None:
        """The next event if there is one already."""
        if not self._buffer:
            return None
        self._demand.take(self._loop.time())
        item = self._buffer.popleft()
        if self._feeds and len(self._buffer) * 2 < self._demand.ahead:
            self.wake_feeds()
        return item

    async def _wait(self) -> bool:
        """Wait until there is an event. False after the end."""
        while not self._buffer:
            if self._ended:
                return False
            taker: asyncio.Future[None] = self._loop.create_future()
            self._takers.append(taker)
            self.wake_feeds()
            try:
                await taker
            except BaseException:
                if taker.done() and not taker.cancelled():
                    self._wake_takers()  # it was our turn: pass it on
                elif taker in self._takers:  # else `put` or `end` has passed over it already
                    self._takers.remove(taker)
                raise
        return True

    async def wait_room(self) -> None:
        """Wait until more events are wanted, or the end, or `wake_feeds`."""
        if self._ended or self.room() > 0:
            return
        feed: asyncio.Future[None] = self._loop.create_future()
        self._feeds.append(feed)
        with resting():
            try:
                await feed
            finally:
                if feed in self._feeds:
                    self._feeds.remove(feed)

    def wake_feeds(self) -> None:
        """Have the feeds look again."""
        feeds, self._feeds = self._feeds, []
        for feed in feeds:
            if not feed.done():
                feed.set_result(None)

    def _wake_takers(self) -> None:
        ready = len(self._buffer)
        while ready and self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                ready -= 1
