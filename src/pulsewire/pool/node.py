"""A node: one process's part in a pool. The public face; it starts the duties and wires them together.

Duties of a node, each in a file of its own: reading mail, renewing leases (a thread), watching its deadlines, following
the workers map, moving jobs that belong elsewhere, cleaning up. `docs/internals/pool-protocol.md` is the essay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

import anyio

from pulsewire._core.checks import check_at_least, check_name, check_seconds
from pulsewire._core.ids import RequestIds
from pulsewire._core.loops import PASSING, LoopContext, Stop, keep_doing
from pulsewire._core.tasks import see_through
from pulsewire._core.vitals import EndingSign
from pulsewire._redis.link import Link
from pulsewire.errors import (
    Closed,
    ConfigurationError,
    InvalidOption,
    PoolMismatch,
    PoolShutDown,
    PulsewireError,
    WorkerNotFound,
)
from pulsewire.pool.crew import Crew
from pulsewire.pool.dispatch import Dispatcher
from pulsewire.pool.handling import Handler, Handling, Run
from pulsewire.pool.jobs import check_key, check_payload
from pulsewire.pool.mail import Mail
from pulsewire.pool.ring import ROUTINGS
from pulsewire.pool.schedule import Producer, Schedule
from pulsewire.pool.staff import GOODBYE, Staff
from pulsewire.pool.store import SCHEDULE
from pulsewire.pool.ticker import Missed, Ticker
from pulsewire.pool.wire import (
    SHUTDOWN_ENTRY,
    VERSION,
    JobInfo,
    WorkerInfo,
    decode_worker,
    encode_worker,
)
from pulsewire.pool.worker import LAST_WORDS, Worker
from pulsewire.rmap.map import ReplicatedMap

SHUTDOWN_MARGIN = 60.0
LOOK_AGAIN = 0.05
"""Seconds between two looks whether all workers have left a pool that shuts down."""
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000.0


class Node:
    """One process in a pool. Get one from `Hub.node`, and use it within `async with`."""

    def __init__(
        self, link: Link, crew: Crew, workers: ReplicatedMap[str], requests: RequestIds
    ) -> None:
        self.pool = crew.name
        self.id = crew.node
        self.options = crew.options
        self._link = link
        self._crew = crew
        self._map = workers
        self._requests = requests
        self._store = crew.store
        self._dispatcher = Dispatcher(crew, requests)
        self._mail = Mail(link, crew, self._dispatcher.take)
        self._stop = Stop()
        self._ward = link.options.vitals.ward("pools", f"pool {self.pool}")
        self._context = LoopContext(self._stop, crew.hooks, crew.logger, self._ward)
        self._staff = Staff(link, crew, workers, self._mail, self._context)
        self._shut_down = anyio.Event()
        self._is_entered = False
        self._is_closing = False
        self._has_left = anyio.Event()
        self._has_shut_down = False
        self._unwatch: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        state = " closed" if self._is_closing else ""
        return f"<Node {self.id} of pool {self.pool!r} workers={len(self._staff.workers)}{state}>"

    # --- joining and leaving

    async def __aenter__(self) -> Self:
        """Join the pool.

        Raises:
            PoolMismatch: it is run with another protocol or routing.
            PoolShutDown: it is shutting down.
            ServerUnavailable, PermissionDenied: it cannot be joined.
        """
        if self._is_entered:
            raise ConfigurationError(f"{self!r} was entered before: get another one from the hub")
        crew = self._crew
        outcome, first, second = await self._store.join(self.options.wanted_routing or "")
        if outcome == "shutdown":
            raise PoolShutDown(self.pool, first)
        if outcome == "differs":
            ours = f"version {VERSION}, routing {self.options.wanted_routing!r}"
            raise PoolMismatch(self.pool, ours, f"version {first}, routing {second!r}")
        if second in ROUTINGS:
            crew.roster.route_by(second)
        await self._map.__aenter__()
        self._is_entered = True
        self._crew.roster.take(self._map)
        await crew.tasks.enter()
        crew.start_soon(
            keep_doing, f"mail of pool {self.pool}", self._mail.read_once, self._context
        )
        crew.start_soon(self._follow_workers)
        self._unwatch = self._ward.vitals.ask(self._signs)
        return self

    def _signs(self) -> Iterator[EndingSign]:
        if self._is_closing or self._crew.is_shutting_down:
            yield EndingSign(self._ward.block, self._ward.owner)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Leave the pool: this node's jobs go to the others. See `close`."""
        try:
            await self.close()
        except BaseException:
            await see_through(self._fence_all())
            raise
        finally:
            await self._end(kind, error, trace)
        return False

    async def _fence_all(self) -> None:
        """Leaving was cut short: stop every job that is still here, since it goes to others when the lease lapses."""
        limit = self.options.margin + LAST_WORDS
        with anyio.move_on_after(limit, shield=True):
            async with anyio.create_task_group() as fencing:
                for worker in self.workers:
                    fencing.start_soon(worker.fence)

    async def _end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all duties; keeping the leases and following the map last."""
        self._unwatch()
        self._dispatcher.close()
        self._stop.set()
        try:
            await self._crew.tasks.leave(kind, error, trace)
        finally:
            self._mail.close()
            await self._staff.stop()
            await self._map.__aexit__(None, None, None)
            await self._sweep_up()

    async def _sweep_up(self) -> None:
        """Remove what only this node needed, and what is left of a pool that was shut down."""
        with anyio.move_on_after(1.0, shield=True):
            try:
                await self._store.forget_node(self.id)
                if self.is_shut_down or self._has_shut_down:
                    await self._map.forget()  # the last one to leave succeeds
            except PulsewireError:
                return  # what is left has a time to live, or is two fields

    async def close(self) -> None:
        """Give this node's jobs to the others, and take its workers away. Done once; `async with` does it at its end.

        It takes at most `worker_shutdown_ttl`; what has not ended by then others find out when the leases lapse. A
        call made while another one is under way waits for that one. Cancelled, it goes on and raises at its end;
        cancelled once more, it stops the jobs that are still here at once, and others have them when the leases lapse.
        """
        if self._is_closing:
            await see_through(self._has_left.wait())
            return
        self._is_closing = True
        try:
            await see_through(self._staff.leave())
        except BaseException:
            await see_through(self._fence_all())
            raise
        finally:
            self._has_left.set()

    async def shutdown(self) -> None:
        """Stop the whole pool: on every node each job's `stop` runs, and the jobs end. Nothing is given to others.

        Returns once all workers have left, after `worker_shutdown_ttl` at most.

        Raises:
            Closed: this node has left the pool.
        """
        self._check_open()
        limit = self.options.worker_shutdown_ttl + GOODBYE
        await self._store.ask_for_shutdown(self.id, limit + SHUTDOWN_MARGIN)
        await self._map.set(SHUTDOWN_ENTRY, self.id)
        end_jobs_of = self._staff.janitor.end_jobs_of
        with anyio.move_on_after(limit):
            while leases := await self._store.leases():
                now = await self._link.time()
                for worker in [worker for worker, ends in leases.items() if ends <= now]:
                    await end_jobs_of(worker)  # it has died before it could
                await anyio.sleep(LOOK_AGAIN)
        for worker in await self._store.leases():
            await end_jobs_of(worker)  # it has not ended them in time
        self._has_shut_down = True
        waiting = await self._store.waiting()
        await self._store.remove_everything(waiting)
        await self._map.destroy()

    @property
    def is_shut_down(self) -> bool:
        """Whether the pool was shut down, and this node's jobs have ended."""
        return self._shut_down.is_set()

    async def wait_shutdown(self) -> None:
        """Return when somebody has asked for the end of the pool, and this node's jobs have ended."""
        await self._shut_down.wait()

    # --- workers

    async def add_worker(self, handler: Handler | Run, *, weight: float = 1.0) -> Worker:
        """Run jobs here. From now on keys that belong to the new worker come to it, also running ones.

        Args:
            handler: an object with `async def start(job)` and `async def stop(key)`, optionally `notify(key, payload)`;
                or a coroutine function that is the job.
            weight: its share of the jobs relative to other workers; not with `routing="jump"`.

        Raises:
            InvalidOption: `handler` is not a handler, the weight is impossible, or the node is client-only.
            PoolShutDown, Closed: no more workers are taken.
        """
        self._check_open()
        if self.options.client_only:
            raise InvalidOption("client_only", True, "a client-only node runs no jobs")
        if check_at_least("weight", weight, LEAST_WEIGHT) > MOST_WEIGHT:
            raise InvalidOption("weight", weight, f"must be at most {MOST_WEIGHT:g}")
        if weight != 1 and self.options.wanted_routing == "jump":
            raise InvalidOption("weight", weight, "jump hashing knows no weights")
        return await self._staff.add(Handling(handler), float(weight))

    async def remove_worker(self, worker: Worker) -> None:
        """Give a worker's jobs to the others and take it away; within `worker_shutdown_ttl`."""
        with anyio.move_on_after(self.options.worker_shutdown_ttl + GOODBYE):
            await self._staff.take_away(worker)

    async def drain(self, worker: Worker | str) -> None:
        """Give a worker's jobs to the others and have it get no new ones; it stays in the pool.

        Args:
            worker: one of this node, then this returns when it is empty; or the id of any worker of the pool, then this
                returns when its node has been told.

        Raises:
            WorkerNotFound: the pool has no worker of that id.
        """
        if isinstance(worker, str):
            mine = self._staff.workers.get(worker)
            if mine is None:
                await self._drain_elsewhere(worker)
                return
            worker = mine
        await self._staff.drain(worker)

    async def _drain_elsewhere(self, worker: str) -> None:
        """Mark another node's worker as draining: its node sees that in the map."""
        while (value := await self._map.fetch(worker)) is not None:
            draining = replace(decode_worker(worker, value), state="draining")
            if await self._map.test_and_set(worker, value, encode_worker(draining)):
                return
        raise WorkerNotFound(self.pool, worker)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers of this node."""
        return tuple(self._staff.workers.values())

    def pool_workers(self) -> tuple[WorkerInfo, ...]:
        """All workers of the pool as this node knows them, sorted by start. From memory."""
        workers = self._crew.roster.workers.values()
        return tuple(sorted(workers, key=lambda worker: (worker.started, worker.id)))

    # --- jobs

    async def dispatch(
        self, key: str, payload: bytes = b"", *, wait: bool = True, timeout: float | None = None
    ) -> None:
        """Have a job run in the pool, under a key that no other job has.

        Args:
            key: 1 to 512 characters. It decides the worker, and stays until the job ends.
            payload: what the handler gets.
            wait: return when the job has started; else once it is admitted.
            timeout: seconds to wait for the start, by default twice `ack_grace`.

        Raises:
            JobExists: there is a job with that key.
            PoolFull: more than `max_queued_jobs` wait for their start. Nothing was written.
            JobStartFailed: the handler refused the job; it is not in the pool.
            JobNotStarted: it is admitted and has not started in time; it stays, and starts later.
            PoolShutDown: the pool no longer takes jobs.
            InvalidName, PayloadTooLarge, TypeError: the call is wrong.
            ServerUnavailable: no server in time; the job was not admitted.
            OutcomeUnknown: no server in time; the job may have been admitted.
        """
        self._check_open()
        data = check_payload(payload, self.options.max_payload, self.pool)
        limit = self._limit(timeout, 2 * self.options.ack_grace)
        await self._dispatcher.dispatch(check_key(key), data, wait=wait, timeout=limit)

    async def stop_job(self, key: str, *, wait: bool = True, timeout: float | None = None) -> None:
        """End a job, wherever it runs.

        Args:
            key: of the job.
            wait: return when its handler has stopped; else once the owner is told.
            timeout: seconds to wait for that, by default `worker_shutdown_ttl`.

        Raises:
            JobNotFound: there is no such job.
            JobNotStopped: it has not ended in time; it is being stopped.
            ServerUnavailable: no server in time; nobody was told.
            OutcomeUnknown: no server in time; the job may be ending.
        """
        self._check_open()
        limit = self._limit(timeout, self.options.worker_shutdown_ttl)
        await self._dispatcher.stop(check_key(key), wait=wait, timeout=limit)

    async def notify(self, key: str, payload: bytes, *, timeout: float | None = None) -> None:
        """Tell the handler of a job something. It comes after the start, at least once while the job lives.

        Raises:
            JobNotFound: there is no such job.
            NoWorkers: the job has no owner, for `ack_grace` by default.
            ServerUnavailable: no server in time; nobody was told.
            OutcomeUnknown: no server in time; the handler may hear it.
        """
        self._check_open()
        data = check_payload(payload, self.options.max_payload, self.pool)
        limit = self._limit(timeout, self.options.ack_grace)
        await self._dispatcher.notify(check_key(key), data, timeout=limit)

    async def job(self, key: str, *, payload: bool = True) -> JobInfo | None:
        """A job as Redis has it now; None if there is none."""
        return await self._store.job(check_key(key), payload=payload)

    async def jobs(self) -> tuple[JobInfo, ...]:
        """All jobs of the pool, sorted by key, without their payloads. For tools: it reads every one."""
        workers = await self._store.leases()
        owned = await asyncio.gather(
            self._store.waiting(), *(self._store.owned(worker) for worker in workers)
        )
        return tuple(await self._store.jobs(sorted(set().union(*owned))))

    # --- ticks and schedules

    def ticker(self, name: str, every: float, *, missed: Missed = "latest") -> Ticker:
        """Ticks, each for one of the nodes that ask: `async for tick in node.ticker("clean-up", every=60.0)`.

        Args:
            name: the same on all nodes.
            every: seconds between two ticks, by the server's clock.
            missed: when nobody asked for a while, "latest" gives one tick in place of all, "all" gives each.
        """
        self._check_open()
        self._check_ticker(name, every)
        if missed not in ("latest", "all"):
            raise InvalidOption("missed", missed, 'use "latest" or "all"')
        return Ticker(
            self._crew, self._requests, self._stop, name, every, missed=missed, first=every
        )

    def schedule(self, producer: Producer, every: float) -> None:
        """Ask a producer at intervals which jobs should exist: one node at a time does, the first time at once.

        Args:
            producer: has a `name`, the same on all nodes, and `async def plan() -> Plan`.
            every: seconds between two plans.

        Raises:
            InvalidOption: the node is client-only.
        """
        self._check_open()
        if self.options.client_only:
            raise InvalidOption("client_only", True, "a client-only node runs no schedules")
        name = f"{SCHEDULE}{check_name('producer', producer.name)}"
        self._check_ticker(name, every)
        ticker = Ticker(
            self._crew, self._requests, self._stop, name, every, missed="latest", first=0.0
        )
        schedule = Schedule(self._crew, producer, ticker, self.dispatch, self.stop_job)
        self._crew.start_soon(schedule.run)

    @staticmethod
    def _check_ticker(name: str, every: float) -> None:
        check_name("ticker", name)
        check_seconds("every", every, 0.01)

    # --- insides

    async def _follow_workers(self) -> None:
        """Keep the roster as the workers map."""
        changes = self._map.changes(initial=True)
        async for _ in changes:
            changes.skip()  # one look at the map sees them all
            if self._crew.roster.take(self._map):
                self._staff.note_view()
            for worker in self.workers:
                known = self._crew.roster.workers.get(worker.id)
                if known is not None and known.state == "draining" and not worker.is_draining:
                    worker.is_draining = True  # an operator has said so
                    self._crew.start_soon(self._staff.empty, worker)
            if self._crew.roster.shutdown_by and not self._crew.is_shutting_down:
                self._crew.start_soon(self._obey_shutdown)

    async def _obey_shutdown(self) -> None:
        """Somebody has asked for the end of the pool: end the jobs here."""
        if self._crew.is_shutting_down or not await self._asked_for_shutdown():
            return
        self._crew.is_shutting_down = True
        await self._staff.end_all()
        self._shut_down.set()

    async def _asked_for_shutdown(self) -> bool:
        """The flag decides, since an entry of the map may be left from an asker that died (protocol 7.3)."""
        try:
            return bool(await self._store.shutdown_by())
        except PASSING:
            return True

    @staticmethod
    def _limit(timeout: float | None, otherwise: float) -> float:
        return otherwise if timeout is None else check_seconds("timeout", timeout)

    def _check_open(self) -> None:
        if not self._is_entered:
            raise ConfigurationError(f"{self!r} is not entered yet: use it with `async with`")
        if self._is_closing:
            raise Closed(f"the node of pool {self.pool!r}")
