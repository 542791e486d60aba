"""What the processes of the act do: enqueue tasks, now and then or by the clock, or run them; and journal it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
from ulid import ULID

import pulsewire
from pulsewire.cli.demo import clearing
from pulsewire.cli.demo.journal import (
    Arrived,
    Bundled,
    Enqueued,
    Fired,
    JournalWriter,
    Refused,
)
from pulsewire.cli.demo.journaled import journaled_tasks
from pulsewire.cli.demo.lifeline import wait_first, while_parent_lives
from pulsewire.cli.demo.tasks.workload import (
    DIGEST,
    QUEUES,
    TICK,
    TICK_EVERY,
    TICK_QUEUE,
    TYPES,
    Kind,
    Order,
    Work,
    orders,
)
from pulsewire.cli.running import Signals
from pulsewire.tasks import Mux, NewTask, Task, TaskInfo

__all__ = ["enqueue", "schedule", "serve"]

CONCURRENCY = 20
"""Tasks that a server runs at a time."""
_RETRY_DELAY = 0.5
"""Seconds; Redis has whole ones, so that it is up to one more."""
_GROUP_GRACE = 1.0
_SLICE = 0.05
"""Seconds between two calls of the client."""

_work = msgspec.json.Decoder(Work)

# --- the client


async def enqueue(
    journal: Path, *, url: str | None, namespace: str, tasks: int, rate: float
) -> int:
    """Enqueue the tasks once the parent says go, and write down what the server has made of each."""

    async def work(go: anyio.Event) -> None:
        with JournalWriter(journal) as journaling:
            async with pulsewire.connect(url, namespace=namespace) as hub:
                journaling.write(Arrived(pid=os.getpid()))
                await go.wait()
                await _enqueue_paced(hub, journaling, orders(tasks), rate)

    await while_parent_lives(work)
    return 0


async def _enqueue_paced(
    hub: pulsewire.Hub, journaling: JournalWriter, wanted: Sequence[Order], rate: float
) -> None:
    members = [order for order in wanted if order.kind is Kind.MEMBER]
    await _enqueue_slice(hub, journaling, members)
    others = [order for order in wanted if order.kind is not Kind.MEMBER]
    began, done = time.monotonic(), 0
    while done < len(others):
        await anyio.sleep(_SLICE)
        due = min(int((time.monotonic() - began) * rate), len(others))
        await _enqueue_slice(hub, journaling, others[done:due])
        done = due


async def _enqueue_slice(
    hub: pulsewire.Hub, journaling: JournalWriter, wanted: Sequence[Order]
) -> None:
    """One call for all: a task and its twin are in the same one."""
    tasks = [task for order in wanted for task in order.new_tasks()]
    asked = time.monotonic()
    outcomes = await hub.tasks.enqueue_many(tasks)
    at = time.monotonic()
    for task, outcome in zip(tasks, outcomes, strict=True):
        task_id = task.task_id or ""
        if isinstance(outcome, pulsewire.PulsewireError):
            error = type(outcome).__name__
            journaling.write(Refused(task=task_id, error=error, why=str(outcome)))
        else:
            journaling.write(Enqueued(task=outcome.id, asked=asked, at=at))


# --- the schedulers


async def schedule(journal: Path, signals: Signals, *, url: str | None, namespace: str) -> int:
    """Enqueue a task at every tick, together with the other schedulers once, until SIGTERM."""
    stopped = anyio.Event()

    async def work(_: anyio.Event) -> None:
        with JournalWriter(journal) as journaling:

            def note(info: TaskInfo | None, error: pulsewire.PulsewireError | None) -> None:
                if info is not None and info.next_process_at is not None:
                    journaling.write(Fired(task=info.id, at=info.next_process_at.timestamp()))
                else:
                    why = str(error)
                    journaling.write(Refused(task="a tick", error=type(error).__name__, why=why))

            async with pulsewire.connect(url, namespace=namespace) as hub:
                scheduler = hub.scheduler(post_enqueue=note)
                scheduler.register(f"@every {TICK_EVERY}s", NewTask(type=TICK, queue=TICK_QUEUE))
                async with scheduler:
                    journaling.write(Arrived(pid=os.getpid()))
                    with signals.asking(stopped.set):
                        await stopped.wait()

    await while_parent_lives(work)
    return 0


# --- the servers


async def serve(
    journal: Path,
    signals: Signals,
    *,
    url: str | None,
    namespace: str,
    lease: float,
    work: float,
) -> int:
    """Run tasks until SIGTERM. When the parent is gone, remove the queues."""
    parent_is_gone = anyio.Event()

    async def run(_: anyio.Event) -> None:
        with JournalWriter(journal) as journaling:
            bench = _Bench(journaling, work)
            async with pulsewire.connect(url, namespace=namespace) as hub:
                async with hub.task_server(
                    bench.mux,
                    queues=QUEUES,
                    concurrency=CONCURRENCY,
                    lease=lease,
                    retry_delay=lambda *_: _RETRY_DELAY,
                    error_handler=lambda *_: None,  # the journal has it
                    aggregator=bench.bundle,
                    group_grace=_GROUP_GRACE,
                ) as server:
                    journaling.write(Arrived(pid=os.getpid()))
                    with signals.asking(server.stop):
                        await wait_first(server.wait, parent_is_gone.wait)
                    if parent_is_gone.is_set():
                        server.stop()
                        await clearing.wait_unused(hub, QUEUES)
                if parent_is_gone.is_set():  # nobody else would remove the queues
                    await clearing.remove_queues(hub, QUEUES)

    await while_parent_lives(run, parent_is_gone.set, within=clearing.time_for(lease))
    return 0


class _WebhookDown(Exception):
    """What a flaky task fails of."""


class _Bench:
    """Where one server runs its tasks. Redis is told what became of each when its handler has returned.

    Attributes:
        mux: The handlers, with the journal around all of them.
    """

    def __init__(self, journaling: JournalWriter, work: float) -> None:
        self._journaling = journaling
        self._seconds = work
        self.mux = Mux()
        self.mux.use(journaled_tasks(journaling))
        for task_type in TYPES:
            self.mux.add(task_type, self._work_on)
        for task_type in (DIGEST, TICK):
            self.mux.add(task_type, self._other)

    async def _work_on(self, task: Task) -> str | None:
        work = _work.decode(task.payload)
        await anyio.sleep(self._seconds)
        if task.retried < work.fails:
            raise _WebhookDown(work.name)
        if not work.is_kept:
            return None
        result = f"{work.name} by process {os.getpid()}"
        await task.write_result(result)
        return result

    async def _other(self, task: Task) -> None:
        """A digest, or a tick: its payload does not matter here."""
        await anyio.sleep(self._seconds)

    def bundle(self, group: str, members: Sequence[Task]) -> NewTask:
        """Make one task of the members of a group."""
        task_id = f"digest-{group}-{ULID()}"
        self._journaling.write(
            Bundled(task=task_id, members=tuple(member.id for member in members))
        )
        return NewTask(type=DIGEST, payload=f"{len(members)} lines", task_id=task_id)
