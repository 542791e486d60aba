"""One language enqueues, the other one runs: the same scene either way round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pulsewire
from pulsewire.errors import PulsewireError
from pulsewire.tasks import NewTask
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_keys import content_of, counters_of, fields_of
from tests.conformance.asynq_programs import PATIENCE, Facts, Programs
from tests.conformance.asynq_worker import Handling, joined

QUEUE = "shared"
LONG_AGO = 31.0
"""Seconds since a lease has ended after which Go takes its task for lost."""
SLOTS = {"notifications": 16340, "webhooks": 4418, "images": 9450}
"""The queues of asynq's tutorial on Redis Cluster, and the slots that it shows."""
GROUP = "a:group"
HOW: Mapping[str, tuple[str, dict[str, Any]]] = {
    "active": ("hold:it", {}),
    "scheduled": ("note:it", {"process_in": 600.0}),
    "retry": ("fail:it", {}),
    "archived": ("skip:it", {"headers": {"k": "v"}}),
    "completed": ("result:it", {"retention": 600.0}),
    "aggregating": ("note:it", {"group": GROUP}),
    "pending": ("note:it", {}),
}
"""How a task gets to a state. What is pending is enqueued while the queue is paused."""


def a_task(task_type: str, task_id: str | None = "one", **options: Any) -> NewTask:
    """A task for `QUEUE`. What its handler does is the first word of its type (`asynq_worker.do`)."""
    given: dict[str, Any] = {
        "type": task_type,
        "payload": b"payload",
        "queue": QUEUE,
        "task_id": task_id,
    }
    return NewTask(**{**given, **options})


class Fleet:
    """Who enqueues and who runs: "go" or "ours", mostly one of each."""

    def __init__(
        self,
        enqueuer: str,
        runner: str,
        programs: Programs,
        hub: pulsewire.Hub,
        redis: SingleServer,
    ) -> None:
        self.redis = redis
        self.programs = programs
        self.facts = Facts()
        self.enqueuer = enqueuer
        self.runner = runner
        self._hub = hub

    async def enqueue(self, *tasks: NewTask) -> list[str]:
        """Enqueue these; their states, or "refused"."""
        if self.enqueuer == "go":
            return [info.get("State", "refused") for info in await self.programs.enqueue(*tasks)]
        infos = await self._hub.tasks.enqueue_many(tasks)
        return [
            "refused" if isinstance(info, PulsewireError) else str(info.state) for info in infos
        ]

    @asynccontextmanager
    async def running(
        self, *, retry_delay: float | None = 0.0, group_size: int = 0
    ) -> AsyncIterator[None]:
        """The runner's server runs. None is the delay that its language has by default."""
        if self.runner == "ours":
            chosen: dict[str, Any] = {}
            if group_size:
                chosen = {"aggregator": joined, "group_max_size": group_size, "group_grace": 1.0}
            if retry_delay is not None:
                chosen["retry_delay"] = lambda *_: retry_delay
            async with self._hub.task_server(
                Handling("ours", self.facts.add),
                queues=[QUEUE, "other"],
                shutdown_timeout=0.1,
                concurrency=10,
                forward_interval=0.1,
                janitor_interval=0.1,
                **chosen,
            ):
                yield
        else:
            async with self.programs.go_server(
                queues={QUEUE: 1, "other": 1}, retry_delay=retry_delay, group_size=group_size
            ) as program:
                self.facts = program.facts
                yield

    async def state_is(self, state: str, task_id: str) -> dict[str, Any]:
        """Wait for a state of a task, and return what Go's inspector says of it; nothing for "gone"."""

        async def has_come() -> bool:
            fields = await fields_of(self.redis, QUEUE, task_id)
            return fields.get("state", b"gone") == state.encode()

        await wait_until(has_come, timeout=PATIENCE, what=f"task {task_id} is {state}")
        if state == "gone":
            return {}
        info: dict[str, Any] = await self.programs.inspect("GetTaskInfo", QUEUE, task_id)
        assert info["State"] == state
        return info

    async def counters(self) -> tuple[int, int]:
        """Attempts that have ended, and that have failed; the totals and those of today are the same."""
        info = await self.programs.inspect("GetQueueInfo", QUEUE)
        totals = await counters_of(self.redis, QUEUE)
        assert (info["Processed"], info["Failed"]) == (totals["processed"], totals["failed"])
        return totals["processed"], totals["failed"]

    async def left(self) -> set[str]:
        """The keys of the queue, without counters and what expires by itself."""
        prefix = f"asynq:{{{QUEUE}}}:"
        keys = [key for key in await content_of(self.redis) if key.startswith(prefix)]
        return {
            key.removeprefix(prefix)
            for key in keys
            if not key.startswith((f"{prefix}processed", f"{prefix}failed"))
        }


@asynccontextmanager
async def every_state(fleet: Fleet, *names: str) -> AsyncIterator[None]:
    """The queue, paused, with tasks "<state> <name>" in every state; those that are active run."""
    async with fleet.running(retry_delay=600.0):
        for state, (verb, options) in HOW.items():
            if state == "pending":
                await fleet.programs.inspect("PauseQueue", QUEUE)
            # a task of a group and its lock: Go's inspector leaves the lock behind (spec/asynq.md 7.3)
            is_unique = state != "aggregating" or fleet.enqueuer == "ours"
            lock = {"unique": 600.0} if is_unique else {}
            states = await fleet.enqueue(
                *(
                    a_task(verb, f"{state} {name}", payload=f"{state} {name}", **options, **lock)
                    for name in names
                )
            )
            assert "refused" not in states
            for name in names:
                await fleet.state_is(state, f"{state} {name}")
        yield
