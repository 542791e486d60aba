"""The common half of readers and sinks: the streams they read, the feeds that do it, and the inbox in between."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio

from pulsewire._core.checks import check_count, check_seconds
from pulsewire._core.hooks import Hooks
from pulsewire._core.loops import LoopContext, Stop
from pulsewire._core.tasks import OwnedTasks
from pulsewire._redis.link import Link
from pulsewire.errors import InvalidOption
from pulsewire.streaming.demand import Demand
from pulsewire.streaming.feed import Feed, FeedOwner
from pulsewire.streaming.filters import Filter, topic_filter
from pulsewire.streaming.inbox import Inbox
from pulsewire.streaming.positions import Start, position_of
from pulsewire.streaming.source import Source
from pulsewire.streaming.wire import Event

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeOptions:
    """What readers and sinks have in common. Checks itself.

    Attributes:
        block: seconds one wait on the server lasts at most.
        max_polled: events fetched at once at most.
        buffer: events held ahead at most.
    """

    start: Start = "newest"
    topic: str | None = None
    topic_pattern: Any = None
    block: float = 5.0
    max_polled: int = 1000
    buffer: int = 1000

    def __post_init__(self) -> None:
        position_of(self.start)
        self.wanted()
        if self.block == 0:
            raise InvalidOption(
                "block",
                self.block,
                "would wait without end; a wait is repeated anyway, give it seconds",
            )
        check_seconds("block", self.block)
        check_count("max_polled", self.max_polled)
        check_count("buffer", self.buffer)

    def wanted(self) -> Filter | None:
        """The test of topics; None when everything is wanted."""
        return topic_filter(self.topic, self.topic_pattern)


class Intake(Generic[T]):
    """Streams that are read into one inbox. Its owner enters and leaves it, and answers its feeds."""

    def __init__(
        self,
        link: Link,
        owner: FeedOwner,
        demand: Demand,
        hooks: Hooks,
        logger: logging.Logger,
        *,
        name: str,
    ) -> None:
        self.inbox: Inbox[Event[T]] = Inbox(demand)
        ward = link.options.vitals.ward("streams", name)
        self.context = LoopContext(Stop(), hooks, logger, ward)
        self.tasks = OwnedTasks()
        self._link = link
        self._owner = owner
        self._feeds: list[Feed] = []
        self._arranging = anyio.Lock()

    async def arrange(self, sources: Sequence[Source[T]]) -> None:
        """Read exactly these streams from now on: those that one command may name together share a feed."""
        async with self._arranging:
            await self._stop_feeds()
            if self.context.stop.is_set:
                return
            for keys in self._link.together([source.store.main for source in sources]):
                feed = Feed(self._link, keys, self._owner, self.context)
                self._feeds.append(feed)
                self.tasks.start_soon(feed.run)

    async def stop(self) -> None:
        """Read no more, and wait until what was under way is in the inbox."""
        self.context.stop.set()
        async with self._arranging:
            await self._stop_feeds()

    async def _stop_feeds(self) -> None:
        feeds, self._feeds = self._feeds, []
        for feed in feeds:
            feed.ask_to_stop()
        self.inbox.wake_feeds()
        async with anyio.create_task_group() as group:
            for feed in feeds:
                group.start_soon(feed.stopped)

    async def read(self, limit: int, timeout: float | None) -> list[Event[T]]:
        """Up to `limit` events: waits for the first one at most `timeout` seconds, takes what else is there."""
        check_count("max", limit)
        first = None
        with anyio.move_on_after(timeout):
            first = await self.inbox.take(limit)
        if first is None:
            return []
        events = [first]
        while len(events) < limit and (event := self.inbox.take_nowait()) is not None:
            events.append(event)
        return events
