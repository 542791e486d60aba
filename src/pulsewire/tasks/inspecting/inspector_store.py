"""Commands and scripts of inspectors, typed: one change of state per call (spec/asynq.md 3.5, 3.7, 3.8).

A change carries a request number, under which its reply is kept (`lua/inspect_once.lua`): sent again, it does nothing
and is answered alike. No script looks at more than `AT_ONCE` tasks; who wants more of them calls again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.ids import new_ulid
from pulsewire._core.requests import KEPT, Requests
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument
from pulsewire._redis.scripts import Script, ms, text
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import ConnectionLost, OutcomeUnknown, PermissionDenied, ServerError
from pulsewire.tasks.inspecting.views import Found
from pulsewire.tasks.keys import QueueKeys, TaskKeys
from pulsewire.tasks.states import TaskState

AT_ONCE = 500
"""Tasks that one script looks at, at most."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of tasks that one script reads, but for the last one."""
LISTS = (TaskState.PENDING, TaskState.ACTIVE)
"""What is kept in a LIST; all else is in a ZSET."""
DAYS_KEPT = 90
"""Days for which counters of a day live (spec/asynq.md 4.6)."""
MOST_SERVERS = 10_000


def _script(name: str) -> Script:
    return Script.load("pulsewire.tasks", f"inspect_{name}")


QUEUE, MEMORY, TASK, LIST = _script("queue"), _script("memory"), _script("task"), _script("list")
CHANGE, CHANGE_ALL, UPDATE = _script("change"), _script("change_all"), _script("update")
PAUSE, REMOVE, PURGE, ALIVE = (
    _script("pause"),
    _script("remove"),
    _script("purge"),
    _script("alive"),
)

Verb = Literal["run", "archive", "delete"]


class Sizes(NamedTuple):
    """What `inspect_queue.lua` says; `now` in Unix seconds, `pending_since` in nanoseconds."""

    now: float
    pending: int
    active: int
    scheduled: int
    retry: int
    archived: int
    completed: int
    groups: int
    aggregating: int
    set_apart: int
    paused: str | None
    processed_total: int
    failed_total: int
    processed: int
    failed: int
    pending_since: int


class Page(NamedTuple):
    """Tasks, and the server's clock when they were read, Unix seconds."""

    now: float
    tasks: list[Found]


class Changed(NamedTuple):
    """What became of an operation: a word, and what belongs to it."""

    outcome: str
    reason: str = ""


class InspectorStore:
    """One queue as an inspector sees it."""

    def __init__(self, link: Link, keys: QueueKeys) -> None:
        self.link = link
        self.keys = keys
        self._record = keys.requests(new_ulid())
        self._requests = Requests()
        self._prefixes = (keys.tasks, keys.group_prefix, f"{keys.prefix}unique:")

    # --- looking

    async def sizes(self, day: str) -> Sizes:
        """Sizes and counters; `day` is the UTC day whose counters are wanted."""
        keys = self.keys
        names = [keys.pending, keys.active, keys.scheduled, keys.retry, keys.archived]
        names += [keys.completed, keys.groups, keys.aggregation_sets, keys.paused]
        names += [keys.processed, keys.failed, keys.processed_on(day), keys.failed_on(day)]
        now, *rest = await self._look(QUEUE, names, keys.tasks, keys.group_prefix)
        counts, paused, counters = rest[:9], rest[9], rest[10:]
        since = None if paused is None else text(paused)
        sizes = Sizes._make((now / 1000, *counts, since, *map(_number, counters)))
        if sizes.aggregating < 0:
            total = sum(size for _, size in await self.groups())
            sizes = sizes._replace(aggregating=total)
        return sizes

    async def memory(self, aggregating: int) -> int | None:
        """About how many bytes it takes; None if nobody may ask."""
        keys = self.keys
        names = [keys.pending, keys.active, keys.scheduled, keys.retry, keys.archived]
        names += [keys.completed, keys.groups]
        try:
            reply = await self._look(MEMORY, names, keys.tasks, keys.group_prefix, aggregating)
        except PermissionDenied:
            return None
        return int(reply)

    async def counters(self, days: Sequence[str]) -> list[tuple[int, int]]:
        """Attempts that ended, and that failed, on each of these days."""
        keys, found = self.keys, []
        for start in range(0, len(days), AT_ONCE):
            some = days[start : start + AT_ONCE]
            names = [key for day in some for key in (keys.processed_on(day), keys.failed_on(day))]
            reply = await self.link.call(names[0], "MGET", *names, repeatable=True)
            counts = iter([_number(value) for value in reply])
            found += list(zip(counts, counts, strict=True))
        return found

    async def groups(self) -> list[tuple[str, int]]:
        """Names and sizes of the groups."""
        keys, cursor, names = self.keys, b"0", set[str]()
        while True:
            cursor, found = await self.link.call(
                keys.groups, "SSCAN", keys.groups, cursor, "COUNT", AT_ONCE, repeatable=True
            )
            names.update(map(text, found))
            if cursor == b"0":
                break
        ordered, sizes = sorted(names), list[int]()
        for start in range(0, len(ordered), AT_ONCE):
            places = [keys.group(name) for name in ordered[start : start + AT_ONCE]]
            sizes += await asyncio.gather(
                *(self.link.call(place, "ZCARD", place, repeatable=True) for place in places)
            )
        return list(zip(ordered, sizes, strict=True))

    async def task(self, task_id: str) -> Page:
        """One task, if it is there."""
        keys = self.keys
        names = [keys.task(task_id), keys.scheduled, keys.retry, keys.lease]
        reply = await self._look(TASK, names, task_id)
        if not reply:
            return Page(0.0, [])
        now, state, message, result, score = reply
        found = Found(task_id, text(state), message, result, _score(score))
        return Page(now / 1000, [found])

    async def tasks(self, state: TaskState, group: str, offset: int, count: int) -> Page:
        """So many tasks of one place, after the first `offset` ones. Fewer at a time if they are large."""
        page = Page(0.0, [])
        while len(page.tasks) < count:
            wanted = min(count - len(page.tasks), AT_ONCE)
            now, *rest = await self._look(
                LIST,
                [self.place(state, group), self.keys.lease],
                _kind(state),
                offset + len(page.tasks),
                wanted,
                MOST_BYTES,
                self.keys.tasks,
            )
            parts = iter(rest)
            found = [
                Found(text(task_id), state.value, message, result, _score(score))
                for task_id, message, result, score in zip(parts, parts, parts, parts, strict=True)
            ]
            page = Page(now / 1000, page.tasks + found)
            if not found:
                break
        return page

    async def size(self, state: TaskState, group: str) -> int:
        """How many tasks one place has."""
        place = self.place(state, group)
        command = "LLEN" if state in LISTS else "ZCARD"
        return int(await self.link.call(place, command, place, repeatable=True))

    async def now(self) -> float:
        """The clock of the queue's server, Unix seconds."""
        return await self.link.time(self.keys.pending)

    def place(self, state: TaskState, group: str = "") -> str:
        """The key of the place of a state."""
        keys = self.keys
        return {
            TaskState.PENDING: keys.pending,
            TaskState.ACTIVE: keys.active,
            TaskState.SCHEDULED: keys.scheduled,
            TaskState.RETRY: keys.retry,
            TaskState.ARCHIVED: keys.archived,
            TaskState.COMPLETED: keys.completed,
            TaskState.AGGREGATING: keys.group(group),
        }[state]

    # --- changing

    async def change(self, verb: Verb, task_id: str) -> Changed:
        """Run, archive or delete a task: `done`, `absent`, or `refused` with the reason."""
        keys = self.keys
        names = [keys.pending, keys.active, keys.lease, keys.scheduled, keys.retry, keys.archived]
        names += [keys.completed, keys.groups, keys.aggregation_sets, keys.task(task_id)]
        reply = await self._once(CHANGE, names, verb, task_id, *self._prefixes)
        return Changed(*map(text, reply))

    async def change_some(
        self, verb: Verb, state: TaskState, group: str, count: int
    ) -> tuple[int, int]:
        """Run, archive or delete at most so many tasks of a place: how many were looked at, and were changed."""
        keys = self.keys
        names = [self.place(state, group), keys.pending, keys.archived, keys.groups]
        tasks, _, locks = self._prefixes
        taken, changed = await self._once(
            CHANGE_ALL,
            names,
            verb,
            _kind(state),
            min(count, AT_ONCE),
            MOST_BYTES,
            tasks,
            locks,
            group,
        )
        return int(taken), int(changed)

    async def update(self, task_id: str, old: bytes, new: bytes) -> Changed:
        """Replace the message of a scheduled task: `updated`, `changed` meanwhile, `absent`, `refused`."""
        digest = hashlib.sha1(old, usedforsecurity=False).hexdigest()
        return Changed(*map(text, await self._look(UPDATE, [self.keys.task(task_id)], digest, new)))

    async def set_paused(self, verb: Literal["pause", "unpause"]) -> bool:
        """Pause the queue, or let it go on; False if it is so already."""
        return text(await self._once(PAUSE, [self.keys.paused], verb)) == "done"

    async def remove(self, *, force: bool) -> tuple[str, int]:
        """Take the queue out of sight: `removed`; `active` or `full`, and how many tasks; `unfinished`."""
        keys = self.keys
        now = await self.now()
        days = [day_of(now - day * 86400) for day in range(-1, DAYS_KEPT + 2)]
        places = [keys.pending, keys.scheduled, keys.retry, keys.archived, keys.completed]
        places += [keys.groups, keys.aggregation_sets]
        others = [keys.paused, keys.processed, keys.failed]
        others += [key for day in days for key in (keys.processed_on(day), keys.failed_on(day))]
        names = [keys.active, keys.lease, *places, *self._aside(), *others]
        outcome, *count = await self._look(
            REMOVE, names, "force" if force else "", keys.tasks, keys.group_prefix
        )
        return text(outcome), int(count[0]) if count else 0

    async def purge(self) -> None:
        """Delete what `remove` has set aside."""
        arguments = (AT_ONCE, MOST_BYTES, *self._prefixes)
        while text(await self._look(PURGE, self._aside(), *arguments)) == "more":
            pass

    async def is_used(self) -> bool:
        """Whether it has anything that waits or is run."""
        keys = self.keys
        names = (keys.pending, keys.active, keys.scheduled, keys.retry, keys.groups)
        return bool(await self.link.call(names[0], "EXISTS", *names, repeatable=True))

    # --- insides

    def _aside(self) -> list[str]:
        """What the places of a removed queue are called until they are purged."""
        places = ("pending", "scheduled", "retry", "archived", "completed")
        return [self.keys.removed(place) for place in (*places, "groups", "aggregation_sets")]

    async def _look(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:  # noqa: ANN401  # a reply
        """Run a script that does no harm when it is run twice."""
        return await self.link.run(script, keys, args, repeatable=True)

    async def _once(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:  # noqa: ANN401  # a reply
        """Carry a change out once, whatever happens to its reply.

        Raises:
            OutcomeUnknown: no server could be asked any more what had become of it.
            ServerUnavailable: it was not carried out.
        """
        record, requests = self._record, self._requests
        connection = await self.link.connection_for(record)
        request = requests.next()
        head: tuple[Argument, ...] = (len(keys) + 1, record, *keys, request, ms(KEPT))
        command: tuple[Argument, ...] = ("EVALSHA", script.sha, *head, *args)
        try:
            reply = await connection.submit(command)
        except (ReplyError, ConnectionLost) as trouble:
            requests.in_doubt(request, SYSTEM_CLOCK.monotonic())
            try:
                return await self.link.resume(
                    record, command, trouble, connection, repeatable=True, text=script.text
                )
            except ConnectionLost as error:
                if error.was_sent:
                    raise OutcomeUnknown(f"{script.name} of a queue", error.reason) from error
                raise
        except BaseException:  # cancelled: whether it is carried out, nobody will know
            requests.in_doubt(request, SYSTEM_CLOCK.monotonic())
            raise
        forgotten = requests.answered(request, 0, SYSTEM_CLOCK.monotonic())
        if forgotten and connection.is_usable:
            connection.submit_unheard(("HDEL", record, *forgotten))
        return reply


class RegistryStore:
    """What belongs to no single queue: which queues, servers and schedulers there are."""

    def __init__(self, link: Link, keys: TaskKeys) -> None:
        self.link = link
        self.keys = keys

    async def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        key = self.keys.queues
        return sorted(map(text, await self.link.call(key, "SMEMBERS", key, repeatable=True)))

    async def has_queue(self, queue: str) -> bool:
        """Whether there is a queue of this name."""
        key = self.keys.queues
        return bool(await self.link.call(key, "SISMEMBER", key, queue, repeatable=True))

    async def add_queue(self, queue: str) -> None:
        """Make a queue known."""
        await self.link.call(self.keys.queues, "SADD", self.keys.queues, queue, repeatable=True)

    async def drop_queue(self, queue: str) -> None:
        """Make a queue unknown."""
        await self.link.call(self.keys.queues, "SREM", self.keys.queues, queue, repeatable=True)

    async def servers(self) -> list[bytes]:
        """The records of the servers that run."""
        found = await self._read(await self._alive(self.keys.servers), "GET")
        return [data for _, data in found if data is not None]

    async def workers(self) -> list[bytes]:
        """The records of what they run."""
        found = await self._read(await self._alive(self.keys.workers), "HVALS")
        return [data for _, all_of_one in found for data in all_of_one]

    async def entries(self) -> list[tuple[str, bytes]]:
        """`<host>:<pid>:<id>` of schedulers, and the records of their entries in the order of registration."""
        found = await self._read(await self._alive(self.keys.schedulers), "LRANGE", 0, -1)
        before = self.keys.entries("").removesuffix("}")
        return [
            (key.removeprefix(before).removesuffix("}"), data)
            for key, all_of_one in found
            for data in reversed(all_of_one)
        ]

    async def history(self, entry: str, offset: int, count: int) -> list[bytes]:
        """The records of what a scheduler's entry has enqueued, the newest first."""
        key = self.keys.history(entry)
        reply: list[bytes] = await self.link.call(
            key, "ZREVRANGE", key, offset, offset + count - 1, repeatable=True
        )
        return reply

    async def cancel(self, task_id: str) -> None:
        """Ask whoever runs a task to cancel it."""
        await self.link.call(
            self.keys.cancel, "PUBLISH", self.keys.cancel, task_id, repeatable=True
        )

    async def _alive(self, index: str) -> list[str]:
        reply = await self.link.run(ALIVE, [index], [MOST_SERVERS], repeatable=True)
        return sorted(map(text, reply))

    async def _read(
        self, keys: Sequence[str], command: str, *args: Argument
    ) -> list[tuple[str, Any]]:
        """The reply of a command for each of many keys, which may be anywhere; without those of another type."""
        found: list[tuple[str, Any]] = []
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            replies = await asyncio.gather(
                *(self.link.call(key, command, key, *args, repeatable=True) for key in some),
                return_exceptions=True,
            )
            for key, reply in zip(some, replies, strict=True):
                if isinstance(reply, BaseException):
                    if not isinstance(reply, ServerError):
                        raise reply
                else:
                    found.append((key, reply))
        return found


def day_of(now: float) -> str:
    """The UTC day of a Unix time, as keys name it."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def _kind(state: TaskState) -> str:
    return "list" if state in LISTS else "zset"


def _number(value: bytes | None) -> int:
    try:
        return int(value or 0)
    except ValueError:  # no counter of ours, nor of Go
        return 0


def _score(value: bytes) -> float | None:
    return float(value) if value else None
