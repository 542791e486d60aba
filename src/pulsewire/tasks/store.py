"""Commands and scripts of one queue, typed: one state change per call. What inspectors do is in `inspector_store.py`.

Milliseconds exist only here. Every script may be sent again: it names the request or the owner it relies on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import msgspec

from pulsewire._core.requests import KEPT
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument
from pulsewire._redis.scripts import Script, ms, text
from pulsewire.tasks.keys import QueueKeys

AT_ONCE = 200
"""Tasks that one script takes, or moves out of the active ones, at most."""
FOREIGN_GRACE = 30.0
"""Seconds by which the lease of a task that a Go server runs must have lapsed, as between Go servers (4.5)."""
PAGE = 500


def _script(name: str) -> Script:
    return Script.load("pulsewire.tasks", name)


ENQUEUE, TAKE, DONE, LEAVE = _script("enqueue"), _script("take"), _script("done"), _script("leave")
EXTEND, MINE, LAPSED = _script("extend"), _script("mine"), _script("lapsed")
FORWARD, FORGET, RESULT = _script("forward"), _script("forget"), _script("result")
GATHER, MEMBERS = _script("gather"), _script("members")
BUNDLE, RECLAIM, ALONE = _script("bundle"), _script("reclaim"), _script("alone")

Verb = Literal[
    "done", "complete", "retry", "again", "archive", "back", "defer", "recover", "shelve"
]


class Plan(msgspec.Struct, omit_defaults=True):
    """What is special about a new task; `lock`, `group` and `tick` are places among the keys (`lua/enqueue.lua`)."""

    at: int | None = None
    delay: int | None = None
    lock: int | None = None
    ttl: int | None = None
    group: int | None = None
    name: str | None = None
    tick: int | None = None
    due: int | None = None


class Order(NamedTuple):
    """One new task, packed. `own` are the keys that its plan names by their place, from 1."""

    task_id: str
    message: bytes
    plan: Plan | None
    own: Sequence[str]


class Taken(NamedTuple):
    """What `take` says.

    Attributes:
        outcome: `taken`, `empty` or `paused`.
        now: the server's clock, Unix seconds.
        gone: ids that stood in the queue without a task.
        lost: id -> how often its server died while it had the task, where it ever did.
        tasks: id, message, and since when it has been pending (nanoseconds, or nothing).
    """

    outcome: str
    now: float = 0.0
    gone: Sequence[bytes] = ()
    lost: Mapping[bytes, int] = MappingProxyType({})
    tasks: Sequence[tuple[bytes, bytes, bytes]] = ()


class Leaving(NamedTuple):
    """How a task leaves the active ones: see `lua/leave.lua`. `number` is in seconds."""

    task_id: str
    verb: Verb
    message: bytes = b""
    number: float = 0.0
    lock: str = ""


class Lapsed(NamedTuple):
    """An active task whose lease has lapsed.

    Attributes:
        is_ours: a server of ours ran it, not one of Go's.
        lost: how often its server died before.
        was_alone: nothing else ran in its server.
    """

    task_id: str
    message: bytes
    is_ours: bool
    lost: int
    was_alone: bool


class Gathered(NamedTuple):
    """What `gather` says: `gathered` (how many, and when the set lapses), `wait` or `empty`."""

    outcome: str
    size: int = 0
    ends: float = 0.0


class QueueStore:
    """One queue in Redis. `link` may be another one for a thread of its own."""

    def __init__(self, link: Link, keys: QueueKeys) -> None:
        self.link = link
        self.keys = keys
        self.name = keys.name
        self._length = len(keys.tasks.encode())

    async def _run(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:  # noqa: ANN401  # a reply
        return await self.link.run(script, keys, args, repeatable=True)

    # --- new tasks

    def enqueue_command(
        self,
        requests: str,
        request: int,
        orders: Sequence[Order],
    ) -> tuple[Argument, ...]:
        """The EVALSHA for new tasks; `requests` is the record of the client, `request` the number of this one."""
        keys = self.keys
        names = [requests, keys.pending, keys.scheduled, keys.groups]
        prefix = keys.tasks
        names += [prefix + task_id for task_id, *_ in orders]
        arguments: list[Argument] = [request, ms(KEPT), self._length]
        for _, message, plan, own in orders:
            arguments.append(message)
            arguments.append(b"" if plan is None else _placed(plan, len(names)))
            names += own
        return ("EVALSHA", ENQUEUE.sha, len(names), *names, *arguments)

    # --- running them

    async def take(self, count: int, lease: float, owner: str) -> Taken:
        """Make up to `count` pending tasks active. Not repeatable: see `mine`.

        Raises:
            Unsettled: the reply was lost; some may have been taken.
        """
        keys = self.keys
        names = (keys.pending, keys.paused, keys.active, keys.lease)
        reply = await self.link.run(TAKE, names, (count, ms(lease), keys.tasks, owner))
        if reply[0] != b"taken":
            return Taken(text(reply[0]))
        parts, words = iter(reply[4:]), iter(reply[3])
        lost = {task_id: int(times) for task_id, times in zip(words, words, strict=True)}
        tasks = list(zip(parts, parts, parts, strict=True))
        return Taken("taken", reply[1] / 1000, reply[2], lost, tasks)

    async def mine(
        self, owner: str, start: int, lease: float
    ) -> tuple[int, list[tuple[bytes, bytes, int]]]:
        """A page of the active tasks: how many were looked at, and those that `owner` has, renewed.

        Of each its id, its message, and how often its server died while it had the task.
        """
        names = [self.keys.active, self.keys.lease]
        reply = await self._run(
            MINE, names, owner, self.keys.tasks, start, start + PAGE - 1, ms(lease)
        )
        parts = iter(reply[1:])
        return int(reply[0]), [
            (task, message, int(lost)) for task, message, lost in zip(*[parts] * 3, strict=True)
        ]

    def done_command(self, owner: str, task_ids: Sequence[str], day: str) -> tuple[Argument, ...]:
        """The EVALSHA for tasks that have succeeded and are not kept. Its reply: the ids that are not `owner`'s."""
        keys = self.keys
        prefix = keys.tasks
        names = (keys.active, keys.lease, keys.processed, keys.processed_on(day))
        tasks = [prefix + task_id for task_id in task_ids]
        return ("EVALSHA", DONE.sha, 4 + len(tasks), *names, *tasks, owner, self._length)

    async def leave(self, owner: str, tasks: Sequence[Leaving], day: str) -> list[str]:
        """Have tasks leave the active ones; a word for each: `left`, `other`, `gone`, `held`.

        Args:
            owner: whose they are, or "" for whoever lets them lapse.
            tasks: at most `AT_ONCE`.
            day: the UTC day whose counters count.

        Raises:
            Unsettled: the reply was lost. Sent again it says `gone` or `other` of what has left.
        """
        keys = self.keys
        names = [keys.active, keys.lease, keys.pending, keys.retry, keys.archived, keys.completed]
        names += [keys.processed, keys.failed, keys.processed_on(day), keys.failed_on(day)]
        arguments: list[Argument] = [owner, self._length, ms(FOREIGN_GRACE)]
        for task_id, verb, message, number, lock in tasks:
            task = keys.task(task_id)
            names += (task, lock or task)
            is_wait = verb in ("retry", "again", "defer")
            arguments += (verb, message, ms(number) if is_wait else int(number))
        reply = await self.link.run(LEAVE, names, arguments)
        return [text(word) for word in reply]

    async def extend(self, owner: str, task_ids: Sequence[str], lease: float) -> list[str]:
        """Renew leases; the ids that are not `owner`'s any more."""
        keys = self.keys
        lost: list[str] = []
        for start in range(0, len(task_ids), PAGE):
            tasks = [keys.task(task_id) for task_id in task_ids[start : start + PAGE]]
            reply = await self._run(EXTEND, [keys.lease, *tasks], owner, ms(lease), self._length)
            lost += map(text, reply)
        return lost

    async def write_result(self, owner: str, task_id: str, result: bytes) -> bool:
        """Keep the result of a task; False if it is not `owner`'s any more."""
        names = [self.keys.task(task_id), self.keys.lease]
        return bool(await self._run(RESULT, names, owner, result, task_id) == b"written")

    async def note_alone(self, owner: str, task_id: str) -> bool:
        """Note that a task is about to run alone; False if it is not `owner`'s any more."""
        return bool(await self._run(ALONE, [self.keys.task(task_id)], owner) == b"noted")

    # --- upkeep

    @property
    def server(self) -> object:
        """A name for the server that has the queue now, see `Link.server_of`."""
        return self.link.server_of(self.keys.lease)

    async def lapsed(self) -> list[Lapsed]:
        """Active tasks whose lease has lapsed, at most 100."""
        keys = self.keys
        reply = await self._run(LAPSED, [keys.lease, keys.active], ms(FOREIGN_GRACE), keys.tasks)
        parts = iter(reply)
        return [
            Lapsed(text(task), message, whose == b"ours", int(lost), alone == b"alone")
            for task, message, whose, lost, alone in zip(*[parts] * 5, strict=True)
        ]

    async def forward(self) -> tuple[int, float | None]:
        """Move due tasks, at most 100 of each kind: how many, and seconds until the next one is due."""
        keys = self.keys
        names = [keys.scheduled, keys.retry, keys.pending, keys.groups]
        moved, next_due = await self._run(FORWARD, names, keys.tasks, keys.group_prefix)
        return moved, None if next_due < 0 else next_due / 1000

    async def forget(self, count: int) -> int:
        """Delete at most `count` tasks whose retention is over: how many."""
        keys = self.keys
        return int(await self._run(FORGET, [keys.completed, keys.archived], count, keys.tasks))

    # --- groups

    async def groups(self) -> list[str]:
        """Names of the groups that have members."""
        reply = await self.link.call(
            self.keys.groups, "SMEMBERS", self.keys.groups, repeatable=True
        )
        return [text(name) for name in reply]

    async def gather(
        self, group: str, set_id: str, *, most: int, delay: float, grace: float, life: float
    ) -> Gathered:
        """Set members of a group apart, if it is time."""
        keys = self.keys
        names = [
            keys.group(group),
            keys.aggregation_set(group, set_id),
            keys.aggregation_sets,
            keys.groups,
        ]
        outcome, *rest = await self._run(
            GATHER, names, group, most, int(delay), int(grace), int(life)
        )
        return Gathered(text(outcome), *(int(one) for one in rest))

    async def members(self, group: str, set_id: str, start: int) -> list[tuple[str, bytes]]:
        """A page of the members of an aggregation set: id and message."""
        key = self.keys.aggregation_set(group, set_id)
        reply = await self._run(MEMBERS, [key], self.keys.tasks, start, start + PAGE - 1)
        parts = iter(reply)
        return [(text(task), message) for task, message in zip(parts, parts, strict=True)]

    async def bundle(self, group: str, set_id: str, order: Order) -> str:
        """Put a new task in the place of an aggregation set."""
        keys = self.keys
        names = [keys.aggregation_set(group, set_id), keys.aggregation_sets, keys.pending]
        names += [keys.scheduled, keys.groups, keys.task(order.task_id)]
        packed = _placed(order.plan or Plan(), len(names))
        names += order.own
        return text(await self._run(BUNDLE, names, keys.tasks, order.message, packed))

    async def reclaim(self, group: str = "", set_id: str = "") -> int:
        """Give back an aggregation set now, or those that have lapsed (10 at most): how many."""
        keys = self.keys
        wanted = keys.aggregation_set(group, set_id) if set_id else ""
        names = [keys.aggregation_sets, keys.groups]
        return len(await self._run(RECLAIM, names, keys.group_prefix, wanted))


def _placed(plan: Plan, before: int) -> bytes:
    """A plan whose places count `before` keys more."""
    placed = Plan(plan.at, plan.delay, ttl=plan.ttl, name=plan.name, due=plan.due)
    if plan.lock is not None:
        placed.lock = plan.lock + before
    if plan.group is not None:
        placed.group = plan.group + before
    if plan.tick is not None:
        placed.tick = plan.tick + before
    return msgspec.msgpack.encode(placed)
