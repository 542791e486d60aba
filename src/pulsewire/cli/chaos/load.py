"""What the parent asks for, all the time: events, counts in a map, jobs that come and go, tasks."""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

import pulsewire
from pulsewire.cli.chaos.promises import Account, Promises
from pulsewire.cli.chaos.role import COUNTER, KEPT, STREAM, TASK
from pulsewire.errors import (
    JobNotFound,
    JobNotStarted,
    JobNotStopped,
    NoWorkers,
    OutcomeUnknown,
    ServerFull,
    ServerUnavailable,
)
from pulsewire.pool import Node

__all__ = ["Load"]

_EVENTS, _WRITES, _TASKS, _JOBS = 0.05, 0.1, 0.1, 0.3
"""Seconds between two calls, on average."""
_MOST_JOBS = 20
"""Of those that run, the oldest is stopped when there are more."""
_NOTHING_DONE = (ServerUnavailable, ServerFull)


class Load:
    """Asks until it is told to stop.

    Args:
        hub: The parent's.
        flags: Its replica of the map.
        node: Its own, which runs no jobs.
        rng: For the pauses.
    """

    def __init__(
        self,
        hub: pulsewire.Hub,
        flags: pulsewire.ReplicatedMap[str],
        node: Node,
        rng: random.Random,
    ) -> None:
        self.promises = Promises()
        self._stream = hub.stream(STREAM, max_len=KEPT)
        self._tasks = hub.tasks
        self._flags = flags
        self._node = node
        self._rng = rng
        self._running: deque[str] = deque()
        self._numbers = itertools.count(1)
        self._stopping = False

    async def run(self) -> None:
        """Until it is stopped; returns when every call has."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._again, self._add, _EVENTS)
            tasks.start_soon(self._again, self._count, _WRITES)
            tasks.start_soon(self._again, self._enqueue, _TASKS)
            tasks.start_soon(self._again, self._dispatch, _JOBS)

    def stop(self) -> None:
        """Ask for no more."""
        self._stopping = True

    async def finish(self) -> None:
        """Write the last value, and ask what the counter is."""
        self.promises.final = f"final-{self._rng.getrandbits(32):x}"
        await self._flags.set("final", self.promises.final)
        self.promises.count = await self._flags.inc(COUNTER, 0)

    async def _again(self, ask: Callable[[], Coroutine[Any, Any, None]], pause: float) -> None:
        async with anyio.create_task_group() as calls:
            while not self._stopping:
                calls.start_soon(ask)
                await anyio.sleep(self._rng.uniform(0.5, 1.5) * pause)

    async def _told(self, account: Account, name: str, call: Awaitable[object]) -> bool:
        """Make a call, and note what is said of it; whether it is done."""
        account.asked[name] = time.monotonic()
        try:
            await call
        except OutcomeUnknown:
            account.uncertain.add(name)
        except _NOTHING_DONE:
            account.refused.add(name)
        else:
            account.acknowledged[name] = time.monotonic()
            return True
        return False

    async def _add(self) -> None:
        name = f"event-{next(self._numbers)}"
        await self._told(self.promises.events, name, self._stream.add("chaos", name.encode()))

    async def _count(self) -> None:
        name = f"write-{next(self._numbers)}"
        await self._told(self.promises.writes, name, self._flags.inc(COUNTER))

    async def _enqueue(self) -> None:
        name = f"task-{next(self._numbers)}"
        enqueuing = self._tasks.enqueue(TASK, b"", task_id=name)
        await self._told(self.promises.tasks, name, enqueuing)

    async def _dispatch(self) -> None:
        key = f"job-{next(self._numbers)}"
        try:
            if await self._told(self.promises.jobs, key, self._node.dispatch(key, b"")):
                self._running.append(key)
        except JobNotStarted:  # it is there, and starts later
            self.promises.jobs.acknowledged[key] = time.monotonic()
            self._running.append(key)
        if len(self._running) > _MOST_JOBS:
            await self._stop_job(self._running.popleft())

    async def _stop_job(self, key: str) -> None:
        self.promises.ending.add(key)
        try:
            await self._node.stop_job(key)
        except (*_NOTHING_DONE, OutcomeUnknown, JobNotStopped, JobNotFound, NoWorkers):
            return  # it may run on, and may not
        self.promises.ended.add(key)
