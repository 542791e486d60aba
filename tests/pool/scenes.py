"""Scenes that several tests of pools play: workers whose process was killed, old views, orders that are late."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from pulsewire._core.ids import new_ulid
from pulsewire.pool import Job, Node, WorkerInfo
from pulsewire.pool.wire import Order, encode_worker
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Raw
from tests.pool.facts import Recorder


async def add_ghost(node: Node, ttl: float = 0.6) -> str:
    """A worker of another process, with a lease that nobody will renew; known to `node`."""
    ghost = new_ulid()
    await node._store.enrol(ghost, ttl)
    started = await node._link.time()
    info = WorkerInfo(ghost, new_ulid(), "active", 1.0, "elsewhere", 1, started)
    await node._map.set_and_wait(ghost, encode_worker(info))
    await wait_knows(node, ghost)
    return ghost


async def wait_knows(node: Node, *workers: str) -> None:
    """Return when a node would give jobs to exactly these workers, or to these at least."""
    await wait_until(
        lambda: set(workers) <= {member.worker for member in node._crew.roster.ring._members},
        timeout=PATIENCE,
        what=f"the node knows the workers {workers}",
    )


async def wait_forgotten(node: Node, worker: str) -> None:
    """Return when a node would give no job to this worker any more."""
    await wait_until(
        lambda: worker not in {member.worker for member in node._crew.roster.ring._members},
        timeout=PATIENCE,
        what=f"the node passes over the worker {worker}",
    )


def keys_for(node: Node, worker: str, count: int = 1, prefix: str = "job") -> list[str]:
    """Keys of jobs that belong to this worker, as the node sees it."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        key = f"{prefix}-{number}"
        if node._crew.target(key) == worker:
            found.append(key)
        number += 1
        assert number < 100_000, "no key belongs to this worker"
    return found


def key_for(node: Node, worker: str, prefix: str = "job") -> str:
    """A key of a job that belongs to this worker."""
    return keys_for(node, worker, 1, prefix)[0]


async def end_lease(node: Node, worker: str, raw: Raw) -> None:
    """Have the server say that a worker's lease is over."""
    leases = node._store.keys.leases
    await raw(leases, "ZADD", leases, "XX", 1, worker)


async def ask_other(node: Node, key: str, payload: bytes, worker: str) -> str:
    """Dispatch as a node does whose view is old: propose this worker, whatever is known of it."""
    answer = await node._store.dispatch(
        key,
        payload,
        worker,
        request=node._requests.next(),
        node="",
        max_queued=1000,
        park=False,
    )
    return answer.outcome


@asynccontextmanager
async def late_orders(node: Node) -> AsyncIterator[list[tuple[str, Order]]]:
    """What comes for the workers of a node stays on its way until the block is left. Yields what has come so far."""
    mail = node._mail
    kept: list[tuple[str, Order]] = []
    takers = dict(mail._takers)

    def keep(worker: str) -> Callable[[Order], None]:
        return lambda order: kept.append((worker, order))

    for inbox, (worker, _) in takers.items():
        mail._takers[inbox] = (worker, keep(worker))
    try:
        yield kept
    finally:
        for inbox, (worker, take) in takers.items():
            mail._takers[inbox] = (worker, take)
        for worker, order in kept:
            for known, take in takers.values():
                if known == worker:
                    take(order)


class Log:
    """What several handlers do, in one order.

    Attributes:
        entries: what ("start", "stop"), key, and handler, noted when a start comes in and when a stop returns.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, str]] = []

    def handler(self, name: str, *, stop_takes: float = 0.0) -> LoggedHandler:
        """A handler that writes here."""
        return LoggedHandler(self, name, stop_takes)

    def overlaps(self) -> list[str]:
        """Keys that began somewhere while they ran elsewhere still."""
        running: dict[str, str] = {}
        found = []
        for what, key, who in self.entries:
            if what == "start":
                if running.get(key, who) != who:
                    found.append(key)
                running[key] = who
            elif running.get(key) == who:
                del running[key]
        return found


class LoggedHandler(Recorder):
    """A recorder that also writes into a log that it shares with others."""

    def __init__(self, log: Log, name: str, stop_takes: float) -> None:
        super().__init__()
        self.name = name
        self._log = log
        self.be_slow("stop", stop_takes)

    async def start(self, job: Job) -> None:
        """Begin the job."""
        self._log.entries.append(("start", job.key, self.name))
        await super().start(job)

    async def stop(self, key: str) -> None:
        """End the job."""
        try:
            await super().stop(key)
        finally:
            self._log.entries.append(("stop", key, self.name))


class Runs:
    """A handler that is one coroutine function; it remembers, and ends as it is told to."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.cancelled: list[str] = []
        self.running: dict[str, int] = {}
        self._ends: dict[str, anyio.Event] = {}
        self._errors: dict[str, list[Exception]] = {}

    def fail(self, key: str, *errors: Exception) -> None:
        """Raise these, one at each beginning."""
        self._errors[key] = list(errors)

    def end(self, key: str) -> None:
        """Let the run return."""
        self._ends[key].set()

    async def run(self, job: Job) -> None:
        """The job."""
        self.begun.append(job)
        self.running[job.key] = job.token
        self._ends[job.key] = anyio.Event()
        try:
            if self._errors.get(job.key):
                raise self._errors[job.key].pop(0)
            await self._ends[job.key].wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(job.key)
            raise
        finally:
            if self.running.get(job.key) == job.token:
                del self.running[job.key]


async def gather(*duties: Callable[[], Any]) -> list[BaseException | None]:
    """Do things side by side; what each has raised, in their order."""
    outcomes: list[BaseException | None] = [None] * len(duties)

    async def do(number: int, duty: Callable[[], Any]) -> None:
        try:
            await duty()
        except Exception as error:
            outcomes[number] = error

    async with anyio.create_task_group() as group:
        for number, duty in enumerate(duties):
            group.start_soon(do, number, duty)
    return outcomes
