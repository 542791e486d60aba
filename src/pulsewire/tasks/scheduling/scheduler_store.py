"""What a scheduler leaves in Redis for inspectors: entries, and what became of their ticks (spec/asynq.md 2.4, 3.5)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence

from pulsewire._redis.link import Link
from pulsewire._redis.scripts import Script
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.messages import NEVER, EnqueueEventMessage, EntryMessage, set_time
from pulsewire.tasks.scheduling.timetable import Entry
from pulsewire.tasks.serving.presence import INDEX_LIVES
from pulsewire.tasks.wire import as_payload

PART = 500
"""Entries that one script writes."""
MOST_EVENTS = 1000
LEAST_KEPT = 7 * 86400
"""Seconds that a history is kept after its last event, at least. In Go it stays for ever if the scheduler dies."""
ENTRIES, NOTE = Script.load("pulsewire.tasks", "entries"), Script.load("pulsewire.tasks", "note")


class SchedulerStore:
    """The records of one scheduler. All that is done here may be done again."""

    def __init__(self, link: Link, keys: TaskKeys, name: str) -> None:
        self._link = link
        self._keys = keys
        self._own = keys.entries(name)

    async def time(self) -> float:
        """The clock that decides what is due, Unix seconds: on a cluster the one of the node with `schedulers`."""
        return await self._link.time(self._keys.schedulers)

    async def show(self, entries: Sequence[Entry], seconds: float, now: float) -> None:
        """Show the entries for `seconds`: WriteSchedulerEntries. A fraction of a second would break Go's (7.3, 20)."""
        ttl, schedulers = math.ceil(seconds), self._keys.schedulers
        until = int(now) + ttl
        await self._link.call(schedulers, "ZADD", schedulers, until, self._own, repeatable=True)
        await self._link.call(schedulers, "EXPIRE", schedulers, INDEX_LIVES, repeatable=True)
        for start in range(0, max(len(entries), 1), PART):
            part = map(pack_entry, entries[start : start + PART])
            await self._link.run(ENTRIES, [self._own], [ttl, start, *part], repeatable=True)

    async def hide(self) -> None:
        """Show nothing any more: ClearSchedulerEntries."""
        schedulers = self._keys.schedulers
        await asyncio.gather(
            self._link.call(schedulers, "ZREM", schedulers, self._own, repeatable=True),
            self._link.call(self._own, "DEL", self._own, repeatable=True),
        )

    async def note(self, entry: Entry, task_id: str, now: float) -> None:
        """Add to the history of an entry: RecordSchedulerEnqueueEvent."""
        event = EnqueueEventMessage(task_id=task_id)
        set_time(event.enqueue_time, now)
        kept = LEAST_KEPT
        if entry.due is not None:
            kept = max(kept, 2 * (entry.due - int(now)))
        arguments = (event.SerializeToString(), int(now), MOST_EVENTS, kept)
        await self._link.run(NOTE, [self._keys.history(entry.id)], arguments, repeatable=True)

    async def forget(self, entry_ids: Iterable[str]) -> None:
        """Delete the histories of entries: ClearSchedulerHistory."""
        keys = map(self._keys.history, entry_ids)
        await asyncio.gather(*(self._link.call(key, "DEL", key, repeatable=True) for key in keys))


def pack_entry(entry: Entry) -> bytes:
    """The SchedulerEntry of an entry."""
    task = entry.task
    message = EntryMessage(
        id=entry.id,
        spec=entry.cron.spec,
        task_type=task.type,
        task_payload=as_payload(task.payload) or b"",
        enqueue_options=entry.options,
    )
    set_time(message.next_enqueue_time, NEVER if entry.due is None else entry.due)
    set_time(message.prev_enqueue_time, NEVER if entry.last is None else entry.last)
    packed: bytes = message.SerializeToString()
    return packed
