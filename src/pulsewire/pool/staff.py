"""The workers of one node: adding them, keeping their leases, fencing them, and taking them away.

What a lease is worth stands in `tenure.py`; `worker.py` runs the jobs. Here is what ties a worker to the pool: its
lease, its entry in the workers map, its inbox, and the deadline by which its jobs must have stopped.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.ids import new_ulid
from pulsewire._core.loops import PASSING, LoopContext, do_every
from pulsewire._core.vitals import going_on
from pulsewire._redis.leases import LeaseThread
from pulsewire._redis.link import Link
from pulsewire.errors import PoolShutDown, PulsewireError, ReplicaBehind
from pulsewire.pool.crew import Crew
from pulsewire.pool.handling import Handling
from pulsewire.pool.janitor import Janitor, period
from pulsewire.pool.mail import Mail
from pulsewire.pool.store import PoolStore
from pulsewire.pool.tenure import Tenure
from pulsewire.pool.wire import WorkerInfo, WorkerState, encode_worker
from pulsewire.pool.worker import FencedError, Worker
from pulsewire.rmap.map import ReplicatedMap

SETTLE = 0.1
"""Seconds to wait after the workers have changed before jobs are moved, since changes come in groups."""
RECHECK = 5.0
"""Seconds after which jobs are held against the workers, and against Redis, though nothing has changed."""
GOODBYE = 5.0
"""Seconds beyond `worker_shutdown_ttl` that leaving the pool may take."""


class Staff:
    """The workers of one node.

    Attributes:
        workers: by id.
        is_leaving: the node closes; nobody is given another lease.
        janitor: does its duty once there are workers.
    """

    def __init__(
        self, link: Link, crew: Crew, entries: ReplicatedMap[str], mail: Mail, context: LoopContext
    ) -> None:
        self.workers: dict[str, Worker] = {}
        self.is_leaving = False
        self._link = link
        self._crew = crew
        self._store = crew.store
        self._map = entries
        self._mail = mail
        self._context = context
        self._tenure = Tenure(crew.options.worker_ttl)
        self.janitor = Janitor(crew, entries)
        self._leases: LeaseThread | None = None
        self._lease_trouble: BaseException | None = None
        self._server: object = None  # where the leases were renewed last
        self._unguard: Callable[[], None] = lambda: None
        self._check_deadlines = anyio.Event()
        self._view_changed = anyio.Event()
        crew.on_view_changed = self.note_view
        crew.is_trusted = self.is_trusted

    # --- coming and going

    async def add(self, handling: Handling, weight: float) -> Worker:
        """See `Node.add_worker`."""
        worker = Worker(self._crew, handling, new_ulid(), weight)
        self._start_duties()
        try:
            await self._enrol(worker)
        except BaseException:
            await self._strike_off(worker)
            raise
        return worker

    async def _strike_off(self, worker: Worker) -> None:
        """A worker that could not be added: leave nothing of it."""
        self._tenure.given_up(worker.id)
        self._mail.remove(worker.id)
        self.workers.pop(worker.id, None)
        with anyio.move_on_after(1.0, shield=True), suppress(PulsewireError):
            await self._store.leave(worker.id, is_dead=False)
            await self._map.delete(worker.id)

    async def drain(self, worker: Worker) -> None:
        """Show that it takes no jobs, and hand over those it has."""
        worker.is_draining = True
        await self._show(worker)
        await self.empty(worker)

    async def empty(self, worker: Worker) -> None:
        """Hand over the jobs of a worker that is draining."""
        with suppress(FencedError):
            await worker.hand_over_all()

    async def leave(self) -> None:
        """Take all workers away, within `worker_shutdown_ttl`."""
        self.is_leaving = True
        limit = self._crew.options.worker_shutdown_ttl + GOODBYE
        with anyio.move_on_after(limit, shield=True) as patience:
            async with anyio.create_task_group() as leaving:
                for worker in list(self.workers.values()):
                    leaving.start_soon(self.take_away, worker)
        if patience.cancelled_caught:
            said = {"pool": self._crew.name, "node": self._crew.node}
            self._crew.logger.warning("a node could not hand over all its jobs in time", extra=said)

    async def take_away(self, worker: Worker) -> None:
        """Hand a worker's jobs over, then end its lease."""
        if self.workers.get(worker.id) is not worker:
            return
        worker.is_draining = worker.is_leaving = True
        with suppress(FencedError):
            await worker.record(partial(self._show, worker))
            while not worker.is_fenced:
                await worker.hand_over_all()
                left = await worker.record(partial(self._store.leave, worker.id, is_dead=False))
                if left.outcome == "left":
                    break
        await self._forget(worker)

    async def end_all(self) -> None:
        """The pool shuts down: stop all jobs, which end, and take the workers away."""
        async with anyio.create_task_group() as ending:
            for worker in list(self.workers.values()):
                ending.start_soon(self._end, worker)

    async def _end(self, worker: Worker) -> None:
        limit = self._crew.options.worker_shutdown_ttl
        with anyio.move_on_after(limit), suppress(FencedError):
            await worker.end_all()
            await worker.record(partial(self._store.leave, worker.id, is_dead=False))
        await self._forget(worker)

    async def _forget(self, worker: Worker) -> None:
        self._tenure.given_up(worker.id)
        self._mail.remove(worker.id)
        self.workers.pop(worker.id, None)
        with suppress(*PASSING):  # then the janitor will
            await self._map.delete(worker.id)

    async def stop(self) -> None:
        """End the lease thread: last of all."""
        self._unguard()
        if self._leases is not None:
            await self._leases.stop()

    def is_trusted(self, worker: str) -> bool:
        """Whether a worker may run jobs: its deadline has not come (protocol 2.4)."""
        left = self._tenure.deadline(worker) - SYSTEM_CLOCK.monotonic()
        return left > self._crew.options.margin

    def note_view(self) -> None:
        """Keys may belong to other workers than before."""
        self._view_changed.set()

    # --- duties

    def _start_duties(self) -> None:
        """The duties of nodes that have workers, from the first one on."""
        if self._leases is not None:
            return
        crew, options = self._crew, self._crew.options
        self._leases = LeaseThread(
            self._link,
            options.renew_every,
            self._renew,
            self._note_failed,
            crew.logger,
            ward=self._context.ward,
            length=options.worker_ttl,
        )
        self._leases.start()
        self._unguard = self._context.ward.vitals.watch.begin("pools", crew.logger)
        for name, every, duty in (
            ("clean up", period(options.worker_ttl), self.janitor.clean_up_once),
            ("tidy up", RECHECK, self.janitor.tidy_map_once),
            ("compare jobs", RECHECK, self._reconcile_once),
        ):
            crew.start_soon(do_every, name, every, duty, self._context)
        crew.start_soon(self._watch_deadlines)
        crew.start_soon(self._move_jobs)

    async def _enrol(self, worker: Worker) -> None:
        """Lease first, then the map: who sees the worker may give it jobs (protocol 2.2)."""
        mine, ttl = worker.id, self._crew.options.worker_ttl
        asked_at = await self._get_lease(mine, ttl)
        self.workers[mine] = worker
        self._tenure.enrolled(mine, asked_at)
        self._check_deadlines.set()
        worker.started = await self._link.time()
        await self._mail.add(mine, worker.take)
        if worker.is_fenced or worker.id != mine:
            return  # meanwhile; it begins anew by itself
        await self._show(worker)
        self._crew.hooks.worker_joined(self._crew.name, mine)

    async def _get_lease(self, worker: str, ttl: float) -> float:
        """When the request was sent that gave the lease: a moment ago, or it would be worth nothing."""
        while True:
            asked_at = SYSTEM_CLOCK.monotonic()
            answer = await self._store.enrol(worker, ttl)
            if answer.outcome == "shutdown":
                raise PoolShutDown(self._crew.name, answer.text)
            if SYSTEM_CLOCK.monotonic() - asked_at <= self._crew.options.renew_every:
                return asked_at  # else the server was away, and nobody knows the worker yet: again

    async def _show(self, worker: Worker) -> None:
        """Write a worker's entry into the map."""
        state: WorkerState = "draining" if worker.is_draining else "active"
        info = WorkerInfo(
            worker.id,
            self._crew.node,
            state,
            worker.weight,
            socket.gethostname(),
            os.getpid(),
            worker.started,
        )
        with suppress(ReplicaBehind):  # then the others see it before we do
            await self._map.set_and_wait(worker.id, encode_worker(info), timeout=GOODBYE)

    async def _renew(self, link: Link) -> None:
        """One renewal; runs in the lease thread. A second one where nobody knows which server has answered."""
        store = PoolStore(link, self._store.keys)
        for _ in range(2):
            server, asked_at = link.server_of(store.keys.leases), SYSTEM_CLOCK.monotonic()
            if server != self._server:
                self._note_moved(server, asked_at)
            workers = self._tenure.workers
            if not workers:
                return
            lost = await store.renew(workers, self._crew.options.worker_ttl)
            is_same = link.server_of(store.keys.leases) == server
            self._tenure.renewed(workers if is_same else (), lost, asked_at)
            if lost:
                self._have_deadlines_checked()
            if is_same:
                return

    def _note_moved(self, server: object, noticed: float) -> None:
        """Another server has the leases (protocol 2.5); in the lease thread."""
        if self._server is not None:
            self._tenure.moved(noticed)
            self._have_deadlines_checked()
        self._server = server

    def _have_deadlines_checked(self) -> None:
        if self._leases is not None:
            self._leases.tell_main(self._check_deadlines_now)

    def _check_deadlines_now(self) -> None:
        self._check_deadlines.set()

    def _note_failed(self, error: BaseException) -> None:
        self._lease_trouble = error
        self._check_deadlines.set()

    async def _watch_deadlines(self) -> None:
        """Stop the jobs of workers whose lease has lapsed or is about to, and give the workers new ones."""
        margin = self._crew.options.margin
        while not self._context.stop.is_set:
            self._check_deadlines = anyio.Event()
            if self._lease_trouble is not None:
                raise self._lease_trouble
            now = SYSTEM_CLOCK.monotonic()
            for lapsed in self._tenure.lapsed(now, margin):
                self._tenure.given_up(lapsed)
                worker = self.workers.pop(lapsed, None)
                if worker is not None:
                    self._crew.start_soon(self._fence, worker)
            with anyio.move_on_after(self._tenure.next_check(now, margin) + 0.001):
                await self._check_deadlines.wait()

    async def _fence(self, worker: Worker) -> None:
        """Its lease has lapsed, or would before it could be renewed: what it runs may be another's at any moment."""
        crew, count, lapsed = self._crew, len(worker), worker.id
        said = {"pool": self._crew.name, "worker": lapsed, "jobs": count}
        crew.logger.warning(
            "a worker's lease was not renewed in time, its jobs are stopped", extra=said
        )
        crew.hooks.worker_fenced(self._crew.name, lapsed, count)
        self._mail.remove(lapsed)
        await worker.fence()
        if self.is_leaving or worker.is_leaving or crew.is_shutting_down:
            return
        worker.begin_anew(new_ulid())
        while not self._context.stop.is_set and not crew.is_shutting_down:
            try:
                await self._enrol(worker)
            except PASSING as error:
                crew.hooks.loop_troubled("enrolling", error, 1)
                await self._context.stop.sleep(0.2)
            except PoolShutDown:
                return
            else:
                break
        with suppress(*PASSING):  # then the janitor will
            await self._map.delete(lapsed)
            await self._store.give_up(lapsed)

    async def _move_jobs(self) -> None:
        """Hand over the jobs that belong elsewhere, whenever the workers have changed and now and then anyway."""
        while not self._context.stop.is_set:
            with anyio.move_on_after(RECHECK):
                await self._view_changed.wait()
            await self._context.stop.sleep(SETTLE)
            self._view_changed = anyio.Event()
            if not self.is_leaving and not self._crew.is_shutting_down:
                for worker in list(self.workers.values()):
                    if not worker.is_draining:
                        worker.move_elsewhere()

    async def _reconcile_once(self) -> None:
        if (
            self.workers and not self._crew.is_shutting_down
        ):  # what the pool agreed on may have been lost
            await self._store.join(self._crew.options.wanted_routing or "", again=True)
        for worker in list(self.workers.values()):
            going_on()
            if not worker.is_fenced:
                await worker.reconcile()
