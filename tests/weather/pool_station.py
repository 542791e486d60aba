"""A pool under observation: node processes, a dispatcher that keeps it busy, and what may befall them.

`PoolStation` starts the processes, does things to them and notes that in the ledger; `test_pools.py` says what shall
happen when, and judges.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

import pulsewire
from pulsewire.pool import JobInfo, JobState, Node, WorkerInfo
from pulsewire.pool.ring import Member, Ring
from pulsewire.testing import wait_until
from tests.weather.journal import FOR_EVER
from tests.weather.pool_ledger import Ledger, Verdict
from tests.weather.pool_worker import Jobs, Starter
from tests.weather.programs import STARTING, start_program
from tests.weather.report import Tally

POOL = "jobs"
TTL = 1.5
ALLOWANCE = 5.0
"""Seconds beyond `worker_ttl` for which a job may be without an owner: the promise."""
PATIENCE = 60.0
AT_ONCE = 100
"""Calls under way at a time."""
NODE: dict[str, Any] = {
    "worker_ttl": TTL,
    "worker_shutdown_ttl": 10.0,
    "ack_grace": 10.0,
    "max_queued_jobs": 10_000,
}


class NodeProcess:
    """A process that runs `pool_worker.py`."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, ledger: Ledger, workers: int
    ) -> None:
        self.name = name
        self.workers = workers
        self.pid = process.pid
        self.is_frozen = False
        self._process = process
        self._ledger = ledger
        self._asking = anyio.Lock()

    def __repr__(self) -> str:
        return f"<{self.name} {self.pid}>"

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Have it do something; returns what it says then."""
        assert self._process.stdin is not None
        async with self._asking:
            self._process.stdin.write(json.dumps({"do": do, **options}).encode() + b"\n")
            said = await self.hear()
        self.workers += {"join": 1, "leave": -1}.get(do, 0)
        return said

    async def hear(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"{self!r} has ended by itself"
        said: dict[str, Any] = json.loads(line)
        return said

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        await self._process.communicate()
        now = time.monotonic()
        if self.is_frozen:
            self._woke(now)
        self._ledger.died(self.pid, now)

    async def end(self) -> None:
        """Let it leave in order."""
        await self._process.communicate(b"")
        assert self._process.returncode == 0, f"{self!r} failed"
        self._ledger.died(self.pid, time.monotonic())

    def freeze(self) -> None:
        """SIGSTOP."""
        self._ledger.frozen[self.pid].append((time.monotonic(), FOR_EVER))
        self.is_frozen = True
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._woke(time.monotonic())
        self._process.send_signal(signal.SIGCONT)

    def _woke(self, at: float) -> None:
        spans = self._ledger.frozen[self.pid]
        spans[-1] = (spans[-1][0], at)
        self.is_frozen = False


class InnerNode:
    """A node within the test's own process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._end = anyio.Event()
        self._has_ended = anyio.Event()

    async def end(self) -> None:
        """Let it leave in order."""
        self._end.set()
        await self._has_ended.wait()

    async def run(self, url: str, station: PoolStation, name: str, begun: anyio.Event) -> None:
        """Join, and run jobs until it shall end."""
        jobs = Jobs(station.folder)
        try:
            async with (
                pulsewire.connect(url, namespace=station.namespace) as hub,
                hub.node(station.client.pool, **station.node) as node,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(jobs.go_on)
                for number in range(self.workers):
                    await node.add_worker(Starter(f"{name}/{number}", jobs, 0.0))
                begun.set()
                await self._end.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._has_ended.set()


class PoolStation:
    """A pool, its processes, its dispatcher and its ledger.

    Attributes:
        ledger: what was promised and done.
        nodes: the processes that run, in the order of their start.
        inner: the nodes within the test's own process.
        client: the dispatcher's own node, which runs no jobs.
        replies_may_be_lost: a call may be repeated, and find done what it had done before.
        may_vanish: the server may lose what it has acknowledged, a job that is starting with it.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        client: Node,
        tasks: TaskGroup,
        *,
        namespace: str = "",
        seed: int,
        node: Mapping[str, Any] = NODE,
    ) -> None:
        self.ledger = Ledger(folder)
        self.nodes: list[NodeProcess] = []
        self.inner: list[InnerNode] = []
        self.folder = folder
        self.namespace = namespace
        self.node = node
        self.client = client
        self.replies_may_be_lost = False
        self.may_vanish = False
        self.random = random.Random(seed)
        self._url = url
        self._tasks = tasks
        self._number = 0
        self._keys = 0
        self._flowing = anyio.Event()
        self._busy = 0

    # --- processes

    async def start(
        self, *, url: str = "", workers: int = 1, node: dict[str, Any] | None = None, **options: Any
    ) -> NodeProcess:
        """A node that is ready."""
        name = f"n{self._number}"
        self._number += 1
        said = {
            "name": name,
            "pool": self.client.pool,
            "namespace": self.namespace,
            "workers": workers,
            "node": {**self.node, **(node or {})},
            **options,
        }
        async with STARTING:
            where = (url or self._url, str(self.folder))
            process = await start_program("pool_worker.py", *where, options=said)
            started = NodeProcess(name, process, self.ledger, workers)
            self.nodes.append(started)
            await started.hear()
        return started

    async def start_inner(self, *, url: str = "", workers: int = 1) -> InnerNode:
        """A node within this process, that is ready."""
        node, begun = InnerNode(workers), anyio.Event()
        name = f"i{self._number}"
        self._number += 1
        self._tasks.start_soon(node.run, url or self._url, self, name, begun)
        await begun.wait()
        self.inner.append(node)
        return node

    async def start_many(self, count: int, **options: Any) -> list[NodeProcess]:
        """Several."""
        started: list[NodeProcess] = []

        async def start_one() -> None:
            started.append(await self.start(**options))

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(start_one)
        return started

    async def restart(self, node: NodeProcess) -> None:
        """Let a node leave in order, and another one join in the same process."""
        await node.ask("restart")
        await node.hear()

    async def kill(self, node: NodeProcess) -> None:
        """SIGKILL."""
        self.nodes.remove(node)
        await node.kill()

    async def end(self, node: NodeProcess) -> None:
        """Let it leave in order: its jobs go to the others."""
        self.nodes.remove(node)
        await node.end()

    def awake(self) -> list[NodeProcess]:
        """The processes that are not frozen."""
        return [node for node in self.nodes if not node.is_frozen]

    def busiest(self) -> NodeProcess:
        """The process that runs most jobs."""
        pids = [stint.pid for stint in self.ledger.running().values()]
        return max(self.awake(), key=lambda node: pids.count(node.pid))

    async def kill_all(self) -> None:
        """What is left, in the end."""
        for node in list(self.nodes):
            if node.is_running:
                await self.kill(node)
        for inner in self.inner:
            await inner.end()

    # --- jobs

    async def dispatch_many(
        self, count: int, payload: bytes = b"", at_once: int = AT_ONCE
    ) -> list[str]:
        """So many new jobs; their keys."""
        keys: list[str] = []

        async def some() -> None:
            while len(keys) < count:
                keys.append("")
                number = len(keys) - 1
                keys[number] = await self.dispatch(payload)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(count, at_once)):
                tasks.start_soon(some)
        return keys

    async def stop_many(self, keys: list[str], at_once: int = AT_ONCE) -> None:
        """End so many jobs."""
        limiter = anyio.CapacityLimiter(at_once)

        async def stop(key: str) -> None:
            async with limiter:
                await self.stop(key)

        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(stop, key)

    async def dispatch(self, payload: bytes = b"") -> str:
        """A new job; what is said of it goes into the ledger. Its key."""
        self._keys += 1
        key = f"job-{self._keys}"
        self.ledger.asked[key] = time.monotonic()
        try:
            await self.client.dispatch(key, payload)
        except (pulsewire.ServerUnavailable, pulsewire.OutcomeUnknown):
            self.ledger.maybe.add(key)
        except pulsewire.ServerFull:
            self.ledger.refused.add(key)
        except pulsewire.JobStartFailed:
            if not self.may_vanish:
                raise
            self.ledger.maybe.add(key)
        except pulsewire.JobNotStarted:
            self.ledger.dispatched[key] = time.monotonic()
        else:
            self.ledger.dispatched[key] = time.monotonic()
        return key

    async def stop(self, key: str) -> None:
        """End a job; what is said of it goes into the ledger."""
        self.ledger.stopping.add(key)
        try:
            await self.client.stop_job(key)
        except (
            pulsewire.ServerUnavailable,
            pulsewire.OutcomeUnknown,
            pulsewire.JobNotStopped,
            pulsewire.NoWorkers,
            pulsewire.ServerFull,
        ):
            return  # it may run, and may not
        except pulsewire.JobNotFound:
            if not self.replies_may_be_lost and key not in self.ledger.gone():
                raise
            return
        self.ledger.stopped[key] = time.monotonic()

    @asynccontextmanager
    async def traffic(self, pause: float = 0.2) -> AsyncIterator[None]:
        """Dispatch and stop jobs meanwhile."""
        self._flowing.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._flow, pause)
            yield
            await self.pause()
            tasks.cancel_scope.cancel()

    async def pause(self) -> None:
        """Dispatch and stop nothing more; returns when nothing is under way."""
        self._flowing = anyio.Event()
        await wait_until(lambda: not self._busy, timeout=PATIENCE, what="all calls have returned")

    def go_on(self) -> None:
        """Dispatch and stop again."""
        self._flowing.set()

    async def _flow(self, pause: float) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                # waiting gives way to others also where it is set already
                while not self._flowing.is_set():
                    await self._flowing.wait()
                self._busy += 1
                tasks.start_soon(self._come_and_go, self.random.random() < 0.5)
                await anyio.sleep(self.random.uniform(0.5, 1.5) * pause)

    async def _come_and_go(self, is_over: bool) -> None:
        """A new job, and perhaps the end of an old one."""
        try:
            await self.dispatch()
            if is_over and (due := sorted(self.ledger.due())):
                await self.stop(self.random.choice(due))
        finally:
            self._busy -= 1

    # --- what is seen

    async def settle(self, what: str, timeout: float = PATIENCE) -> None:
        """Wait until every job that must run does, and is where the pool says, once."""

        async def all_run() -> bool:
            running = self.ledger.running()
            return not self.ledger.due() - running.keys()

        await wait_until(all_run, timeout=timeout, what=f"every job runs: {what}")

    def _worker_count(self) -> int:
        return sum(node.workers for node in self.nodes) + sum(node.workers for node in self.inner)

    async def wait_known(self) -> None:
        """Wait until the dispatcher knows all workers: what it dispatches then has no reason to move."""
        await wait_until(
            lambda: len(self.client.pool_workers()) == self._worker_count(),
            timeout=PATIENCE,
            what="all workers are known",
        )

    async def rest(self) -> dict[str, str]:
        """Wait until every job runs where the routing says, by the pool as by the journal; key -> worker.

        From then on nothing moves by itself.
        """
        differences: list[str] = []
        placed: dict[str, str] = {}

        async def all_rest() -> bool:
            nonlocal differences, placed
            workers = self.client.pool_workers()
            jobs = {job.key: job for job in await self.client.jobs()}
            placed = {key: job.owner for key, job in jobs.items()}
            differences = list(self._differences(workers, jobs))
            return not differences

        try:
            await wait_until(all_rest, timeout=PATIENCE, what="the pool has come to rest")
        except AssertionError as error:
            error.add_note("\n".join(differences[:10]))
            raise
        return placed

    def _differences(
        self, workers: Sequence[WorkerInfo], jobs: Mapping[str, JobInfo]
    ) -> Iterator[str]:
        running = self.ledger.running()
        if len(workers) != self._worker_count():
            yield f"{len(workers)} workers are known"
        ring = Ring([Member(one.id, one.weight, one.started) for one in workers], "rendezvous")
        for key in jobs.keys() | running.keys() | self.ledger.due():
            job, stint = jobs.get(key), running.get(key)
            if job is None or stint is None or job.token != stint.token:
                yield f"{key}: the pool says {job}, the journal {stint}"
            elif job.state is not JobState.RUNNING or ring.owner(key) != job.owner:
                yield f"{key}: it is still to move or to start: {job}"
        for stint in self.ledger.stale():
            yield f"{stint} has a successor"

    async def judge(self, longest_gap: float = TTL + ALLOWANCE, lease: float = 0.0) -> Verdict:
        """Everything runs, and nothing that was promised was broken meanwhile."""
        try:
            await self.rest()
        except AssertionError as error:
            error.add_note(str(self.ledger.judge(longest_gap, lease)))
            raise
        return self.ledger.judge(longest_gap, lease)


@asynccontextmanager
async def pool_station(
    url: str,
    folder: Path,
    *,
    seed: int,
    nodes: int = 3,
    jobs: int = 40,
    name: str = POOL,
    namespace: str = "",
    node_url: str = "",
    node: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[PoolStation]:
    """A pool that runs, with jobs that have started. The dispatcher goes to `url`, the nodes to `node_url` if given."""
    folder.mkdir(exist_ok=True)
    settings = {**NODE, **(node or {})}
    async with (
        pulsewire.connect(url, namespace=namespace) as hub,
        hub.node(name, client_only=True, **settings) as client,
        anyio.create_task_group() as tasks,
    ):
        station = PoolStation(
            *(url, folder, client, tasks), namespace=namespace, seed=seed, node=settings
        )
        try:
            await station.start_many(nodes, url=node_url, **options)
            await station.wait_known()
            await station.dispatch_many(jobs)
            await station.settle("at first")
            yield station
        finally:
            with anyio.CancelScope(shield=True):
                await station.kill_all()


def tally_of(verdict: Verdict, tries: int = 1, recoveries: Sequence[float] = ()) -> Tally:
    """What `make chaos` counts."""
    return Tally(
        block="pools",
        tries=tries,
        acts=verdict.jobs,
        lost=len(verdict.lost) + len(verdict.revived),
        owners=len(verdict.doubled) + len(verdict.believed),
        wrong=len(verdict.unordered) + len(verdict.refused_wrongly) + len(verdict.ownerless),
        recoveries=recoveries or verdict.gaps,
    )
