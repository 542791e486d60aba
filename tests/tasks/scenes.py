"""A queue as tests set it up: tasks written into any state, as Go or we would leave them, and what lies in Redis.

Nothing here uses the scripts, but for `Queue.enqueue` and `Queue.done`, which send what the store only packs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from pulsewire._redis.scripts import Script
from pulsewire.tasks.keys import QueueKeys
from pulsewire.tasks.messages import TaskMessage
from pulsewire.tasks.store import DONE, ENQUEUE, Order, Plan, QueueStore
from pulsewire.testing import wait_until
from pulsewire.testing.resp import RawConnection
from tests.facts import PATIENCE
from tests.tasks.content import Content, Kept, Window, read_content, text

DAY = "2024-02-29"
OWNER, OTHER = "server-1", "server-2"
OURS = {"owner", "lost", "alone"}
ZSETS = ("scheduled", "retry", "archived", "completed")
LONG_AGO, FAR_AHEAD = 1_000_000, 9_000_000_000
"""Seconds that are past, and to come, whatever the clock says."""


def packed(task_id: str, **fields: Any) -> bytes:
    """The message of a task."""
    known = {"type": "email:send", "payload": b"pay", "queue": "default", "retry": 3}
    data: bytes = TaskMessage(**{**known, "id": task_id, **fields}).SerializeToString()
    return data


def unpacked(data: bytes) -> dict[str, Any]:
    """The fields of a message that are set."""
    message: Any = TaskMessage.FromString(data)
    fields = message.ListFields()
    return {
        field.name: dict(value) if field.name == "headers" else value for field, value in fields
    }


def order(task_id: str, plan: Plan | None = None, *own: str) -> Order:
    """A new task, as the store wants it."""
    return Order(task_id, packed(task_id), plan, own)


class Queue:
    """One queue in Redis."""

    def __init__(self, store: QueueStore, connection: RawConnection) -> None:
        self.store = store
        self.keys: QueueKeys = store.keys
        self._connection = connection
        self._lock = anyio.Lock()

    # --- writing, as nobody's script does it

    async def send(self, *command: Any) -> Any:
        """A bare command."""
        async with self._lock:
            return await self._connection.command(*command)

    async def send_many(self, commands: Iterable[tuple[Any, ...]]) -> None:
        """Bare commands, none of which may fail."""
        async with self._lock:
            for reply in await self._connection.pipeline(*commands):
                if isinstance(reply, Exception):
                    raise reply

    async def hash(self, task_id: str, state: str, **fields: Any) -> None:
        """Just the HASH of a task. `owner`, `lost` and `alone` are ours; the other fields asynq's, `msg` among them."""
        known: dict[str, Any] = {"msg": packed(task_id, queue=self.keys.name), "state": state}
        for name, value in fields.items():
            known[f"pulsewire:{name}" if name in OURS else name] = value
        flat = [word for pair in known.items() if pair[1] is not None for word in pair]
        await self.send("HSET", self.keys.task(task_id), *flat)

    async def pending(self, *task_ids: str, **fields: Any) -> None:
        """Tasks that wait, the first one longest."""
        for task_id in task_ids:
            await self.hash(task_id, "pending", **{"pending_since": 1, **fields})
            await self.send("LPUSH", self.keys.pending, task_id)

    async def active(
        self,
        *task_ids: str,
        owner: str | None = OWNER,
        lease: float | None = FAR_AHEAD + 0.5,
        **fields: Any,
    ) -> None:
        """Tasks that are run, by us; those of Go have no owner, and leases that end at a whole second."""
        for task_id in task_ids:
            await self.hash(task_id, "active", owner=owner, **fields)
            await self.send("LPUSH", self.keys.active, task_id)
            if lease is not None:
                await self.send("ZADD", self.keys.lease, lease, task_id)

    async def active_in_go(self, *task_ids: str, lease: int = FAR_AHEAD, **fields: Any) -> None:
        """Tasks that a Go server runs."""
        await self.active(*task_ids, owner=None, lease=lease, **fields)

    async def later(
        self, state: str, *task_ids: str, score: float = FAR_AHEAD, **fields: Any
    ) -> None:
        """Tasks in `scheduled`, `retry`, `archived` or `completed`."""
        for task_id in task_ids:
            await self.hash(task_id, state, **fields)
            await self.send("ZADD", f"{self.keys.prefix}{state}", score, task_id)

    async def grouped(
        self, group: str, *task_ids: str, score: float = LONG_AGO, **fields: Any
    ) -> None:
        """Members of a group."""
        for task_id in task_ids:
            await self.hash(task_id, "aggregating", group=group, **fields)
            await self.send("ZADD", self.keys.group(group), score, task_id)
        await self.send("SADD", self.keys.groups, group)

    async def set_apart(
        self,
        group: str,
        set_id: str,
        *task_ids: str,
        score: float = LONG_AGO,
        ends: float = FAR_AHEAD,
        **fields: Any,
    ) -> None:
        """Members of an aggregation set."""
        key = self.keys.aggregation_set(group, set_id)
        for task_id in task_ids:
            await self.hash(task_id, "aggregating", group=group, **fields)
            await self.send("ZADD", key, score, task_id)
        await self.send("ZADD", self.keys.aggregation_sets, ends, key)

    # --- the two commands that are only packed by the store

    async def enqueue(self, *orders: Order, request: int = 1, client: str = "client") -> list[Any]:
        """New tasks."""
        command = self.store.enqueue_command(self.keys.requests(client), request, orders)
        return await self._send_script(ENQUEUE, command)

    async def done(self, *task_ids: str, owner: str = OWNER) -> set[str]:
        """Tasks have succeeded; those that are not the owner's."""
        command = self.store.done_command(owner, task_ids, DAY)
        return {text(one) for one in await self._send_script(DONE, command)}

    async def _send_script(self, script: Script, command: Sequence[Any]) -> list[Any]:
        assert command[:2] == ("EVALSHA", script.sha)
        whole = ("EVAL", script.text, *command[2:])
        reply: list[Any] = await self.store.link.send(self.keys.pending, whole, repeatable=True)
        return reply

    # --- looking

    async def content(self) -> Content:
        """Everything."""
        return await read_content(self.send, self.keys)

    async def state(self, task_id: str) -> str:
        """The state that a task's HASH names; "" if there is none."""
        found = await self.send("HGET", self.keys.task(task_id), "state")
        return "" if found is None else text(found)

    async def message(self, task_id: str) -> dict[str, Any]:
        """The fields of a task's message that are set."""
        return unpacked(await self.send("HGET", self.keys.task(task_id), "msg"))

    async def wait_state(self, task_id: str, state: str) -> None:
        """Return when a task is in a state; "" is gone."""

        async def is_there() -> bool:
            return await self.state(task_id) == state

        what = f"task {task_id} is {state or 'gone'}"
        await wait_until(is_there, timeout=PATIENCE, what=what)

    async def wait_empty(self) -> None:
        """Return when no task is left."""

        async def is_empty() -> bool:
            return not any(name.startswith("t:") for name in await self.content())

        await wait_until(is_empty, timeout=PATIENCE, what="the queue has no task")

    @asynccontextmanager
    async def window(self) -> AsyncIterator[Window]:
        """When the block was run, on the server's clock; known after it."""
        window = Window(await self._now(), 0.0)
        yield window
        window.high = await self._now()

    async def _now(self) -> float:
        seconds, micros = await self.send("TIME")
        return int(seconds) + int(micros) / 1e6


def misplaced(  # noqa: C901  # one rule after the other
    content: Content, *, with_go: bool = False
) -> list[str]:
    """What is against the relations that must hold (spec/asynq.md 1.4), and ours where no Go program has been."""
    places: dict[str, list[str]] = {}
    for name, value in content.items():
        state = "aggregating" if name.startswith("g:") else name
        if name.startswith("g:") or name in ("pending", "active", *ZSETS):
            for task_id in value:
                places.setdefault(task_id, []).append(state)
    tasks = {name[2:]: value for name, value in content.items() if name.startswith("t:")}
    wrong = [
        f"{task_id}: in {where} without a task"
        for task_id, where in places.items()
        if task_id not in tasks
    ]
    for task_id, fields in tasks.items():
        wrong += [f"{task_id}: {what}" for what in _contradicting(fields, places.get(task_id, []))]
        if not with_go:
            wrong += [f"{task_id}: {what}" for what in _unlike_ours(fields)]
    if set(content.get("active", [])) != set(content.get("lease", {})):
        wrong.append(f"active {content.get('active')}, leases {content.get('lease')}")
    sets = {key.partition(":g:")[2] for key in content.get("aggregation_sets", {})}
    groups = {name[2:] for name in content if name.startswith("g:")} - sets
    if groups != content.get("groups", set()):
        wrong.append(f"groups {content.get('groups')}, and members in {groups}")
    for name, value in content.items():
        if not name.startswith("unique:"):
            continue
        if not isinstance(value, Kept):
            wrong.append(f"{name}: no lock")
        elif text(value.value) not in tasks:
            wrong.append(f"{name}: held by {text(value.value)}, which is gone")
    return wrong


def _contradicting(fields: dict[str, bytes], places: list[str]) -> list[str]:
    state = text(fields.get("state", b""))
    wrong = [] if places == [state] else [f"{state!r}, and in {places}"]
    return wrong if "msg" in fields else [*wrong, "has no message"]


def _unlike_ours(fields: dict[str, bytes]) -> list[str]:
    state = fields.get("state")
    wrong = []
    if state != b"active" and "pulsewire:owner" in fields:
        wrong.append(f"{state!r} with an owner")
    if (state == b"pending") != ("pending_since" in fields):
        wrong.append(f"{state!r}, pending since {fields.get('pending_since')!r}")
    return wrong
