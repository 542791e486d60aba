"""What a worker process does: it handles events, runs jobs and tasks, follows the map, and journals all of it."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path

import anyio

import pulsewire
from pulsewire.cli.demo.journal import Arrived, FlagSeen, JournalWriter, Seen
from pulsewire.cli.demo.journaled import journaled_run, journaled_tasks
from pulsewire.cli.demo.lifeline import while_parent_lives
from pulsewire.errors import OutcomeUnknown, ServerUnavailable
from pulsewire.pool import Job
from pulsewire.tasks import Mux, Task

__all__ = ["COUNTER", "KEPT", "MAP", "POOL", "STREAM", "TASK", "work"]

STREAM = "chaos-events"
KEPT = 1_000_000
"""So many events stay in the stream: none is trimmed during a run."""
SINK = "chaos-workers"
MAP = "chaos-flags"
COUNTER = "writes"
POOL = "chaos-jobs"
TASK = "chaos:task"
_ROUND = 0.5
"""Seconds between two reports of a job."""
_TAKES = 0.2
"""Seconds that a task takes at most."""


async def work(journal: Path, *, url: str | None, lease: float) -> int:
    """Be a worker for as long as there is a parent."""

    async def serve(_: anyio.Event) -> None:
        with JournalWriter(journal) as journaling:
            async with pulsewire.connect(url) as hub:
                await _Worker(hub, journaling, lease).run()

    await while_parent_lives(serve)
    return 0


class _Worker:
    def __init__(self, hub: pulsewire.Hub, journaling: JournalWriter, lease: float) -> None:
        self._hub = hub
        self._journaling = journaling
        self._lease = lease
        self._rng = random.Random(os.getpid())

    async def run(self) -> None:
        hub, lease, mux = self._hub, self._lease, Mux()
        mux.add(TASK, self._run_task)
        mux.use(journaled_tasks(self._journaling))
        stream = hub.stream(STREAM, max_len=KEPT)
        async with (
            hub.map(MAP) as flags,
            hub.node(POOL, worker_ttl=lease) as node,
            hub.task_server(mux, queues=["default"], lease=lease),
            stream.sink(SINK, start="oldest", ack_grace=lease) as sink,
            anyio.create_task_group() as tasks,
        ):
            await node.add_worker(self._run_job)
            tasks.start_soon(self._follow, flags)
            self._journaling.write(Arrived(pid=os.getpid(), consumer=sink.consumer))
            await sink.consume(self._handle, concurrency=4)

    async def _handle(self, event: pulsewire.Event[bytes]) -> None:
        began = time.monotonic()
        await anyio.sleep(self._rng.uniform(0.0, 0.02))
        self._journaling.write(
            Seen(
                user=event.payload.decode(),
                event=event.id,
                began=began,
                at=time.monotonic(),
                deliveries=event.deliveries,
            )
        )

    async def _run_job(self, job: Job) -> None:
        with journaled_run(self._journaling, job):
            while True:
                await anyio.sleep(_ROUND)
                with suppress(ServerUnavailable, OutcomeUnknown):  # the job goes on without it
                    await job.heartbeat()

    async def _run_task(self, task: Task) -> str | None:
        await anyio.sleep(self._rng.uniform(0.0, _TAKES))
        return None

    async def _follow(self, flags: pulsewire.ReplicatedMap[str]) -> None:
        async for change in flags.changes(initial=True):
            if change.key is not None and change.key != COUNTER and change.new is not None:
                self._journaling.write(
                    FlagSeen(flag=change.key, value=change.new, at=time.monotonic())
                )
