"""What the tests of periodic tasks look at: the ticks of an entry that were enqueued, as they stand in Redis."""

from __future__ import annotations

from typing import Any

from pulsewire.tasks.keys import QueueKeys
from pulsewire.tasks.scheduling.scheduler import Scheduler
from pulsewire.tasks.scheduling.timetable import Entry
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Raw


def entry_of(scheduler: Scheduler, number: int = 0) -> Entry:
    """One of its entries, by the order of their registration."""
    return scheduler._timetable.entries[number]


class Ticks:
    """The ticks of one entry, whose tasks wait in a queue that has no others.

    Attributes:
        first: the first tick that a scheduler must not leave out.
    """

    def __init__(self, raw: Raw, keys: QueueKeys, digest: str, first: int) -> None:
        self.first = first
        self._raw = raw
        self._keys = keys
        self._tick = keys.tick(digest)

    @classmethod
    def of(cls, raw: Raw, scheduler: Scheduler, number: int = 0) -> Ticks:
        """Those of an entry, from the one on for which it waits."""
        entry = entry_of(scheduler, number)
        assert entry.due is not None
        keys = scheduler._client.keys.queue(entry.task.queue)
        return cls(raw, keys, entry.digest, entry.due)

    async def last(self) -> int:
        """The last one that was enqueued; 0 if there was none."""
        return int(await self._raw(self._tick, "GET", self._tick) or 0)

    async def count(self) -> int:
        """How many were enqueued."""
        return int(await self._raw(self._keys.pending, "LLEN", self._keys.pending))

    async def wait_last(self, tick: int) -> None:
        """Return when this one was enqueued, or a later one."""

        async def is_there() -> bool:
            return await self.last() >= tick

        await wait_until(is_there, timeout=PATIENCE, what=f"tick {tick} was enqueued")

    async def wait_more(self, count: int) -> None:
        """Return when so many more were enqueued."""
        await self.wait_last(max(await self.last(), self.first - 1) + count)

    async def ids(self) -> list[str]:
        """The ids of the tasks, in the order of their ticks."""
        found: list[Any] = await self._raw(self._keys.pending, "LRANGE", self._keys.pending, 0, -1)
        return [task.decode() for task in reversed(found)]

    async def assert_each_once(self) -> None:
        """Every tick from the first to the last was enqueued, and none twice."""
        assert await self.count() == await self.last() - self.first + 1


class Leaping:
    """The clock of the server as a scheduler sees it, which leaps, so that a test need not wait for ticks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.ahead = 0.0
        self._scheduler = scheduler
        self._true = scheduler._store.time
        scheduler._store.time = self  # type: ignore[method-assign]  # for the life of this scheduler

    async def __call__(self) -> float:
        return await self._true() + self.ahead

    async def leap(self, ahead: float) -> None:
        """From now on it is ahead by so much; the scheduler has heard of it."""
        self.ahead = ahead
        await self._scheduler._measure()

    async def go_on(self, seconds: float) -> None:
        """So much time passes at once."""
        await self.leap(self.ahead + seconds)
