"""A worker: runs the jobs that Redis has given it, each key in order, different keys side by side.

What is to be done comes as orders: from the worker's inbox, or from its node (to move a job, or since a run has ended).
The orders of one key are carried out one after the other by its *conductor*, a task that lives while there are any.
Every outcome is recorded in Redis, and tried again until it is or until the worker is fenced: then everything here
stops, and nothing more is recorded, since the jobs may be another's by now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.loops import PASSING, RETRY_BASE, RETRY_CAP
from pulsewire._core.stalls import runs_handlers
from pulsewire._core.tasks import is_outcome
from pulsewire.pool.crew import Crew
from pulsewire.pool.handling import Handling, Job
from pulsewire.pool.jobs import JobState
from pulsewire.pool.ring import Ring
from pulsewire.pool.wire import Order

R = TypeVar("R")

MOVE = "move"
LEAVE = "leave"
ENDED = "ended"
CRASHED = "crashed"
CHECK = "check"
LAST_WORDS = 0.5
"""Seconds that a cancelled `start` may take to end before `stop` is called all the same."""
SAMPLE = 100
"""Jobs whose state is looked at in one comparison with Redis."""
RESTART_BASE = 0.5
RESTART_CAP = 30.0


class FencedError(Exception):
    """The worker's lease has lapsed: what is not recorded is not its business any more."""


@dataclass(slots=True, eq=False)
class _Held:
    """What a worker knows of one job. It holds no payload.

    Attributes:
        epoch: of the job as it is held; 0 before the first order.
        orders: to be carried out; None while there are none, since a worker may hold very many jobs.
        ring: the workers at which it was last found to be in its place.
        is_begun: the handler has it, or is about to.
    """

    key: str
    epoch: int = 0
    ring: Ring | None = None
    is_begun: bool = False
    is_conducted: bool = False
    orders: list[Order] | None = None
    starting: anyio.CancelScope | None = None
    running: anyio.CancelScope | None = None
    run_is_over: anyio.Event | None = None


class Worker:
    """A place where jobs run. Get one from `Node.add_worker`.

    Attributes:
        id: its id in the pool. After its lease has lapsed it comes back under a new one.
        weight: its share of the jobs.
    """

    def __init__(self, crew: Crew, handling: Handling, worker: str, weight: float) -> None:
        self.id = worker
        self.weight = weight
        self.handling = handling
        self.started = 0.0
        self.is_draining = False
        self.is_leaving = False
        self._crew = crew
        self._held: dict[str, _Held] = {}
        self._limiter = anyio.Semaphore(crew.options.concurrency, fast_acquire=True)
        self._scopes: set[anyio.CancelScope] = set()
        self._emptied = anyio.Event()
        self._quiet = anyio.Event()
        self._missing: set[str] = set()
        self._to_stop: set[str] = set()
        self._unsampled: list[str] = []
        self._put_off: dict[str, int] = {}  # epochs of jobs that left before their start was read
        self.is_fenced = False

    def __repr__(self) -> str:
        state = " fenced" if self.is_fenced else " draining" if self.is_draining else ""
        return f"<Worker {self.id} of pool {self._crew.name!r} handler={self.handling!r} jobs={len(self)}{state}>"

    def __len__(self) -> int:
        return len(self._held)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Keys of the jobs that are here, sorted."""
        return tuple(sorted(self._held))

    def names(self, key: str) -> dict[str, object]:
        """Which job it is, for the log."""
        return {"pool": self._crew.name, "job": key, "worker": self.id}

    # --- what the node does

    def take(self, order: Order) -> None:
        """An order has come."""
        if self.is_fenced:
            return
        held = self._held.get(order.key)
        if held is None:
            held = self._held[order.key] = _Held(order.key)
        if held.orders is None:
            held.orders = []
        held.orders.append(order)
        if order.do in ("stop", LEAVE) and held.starting is not None:
            held.starting.cancel()  # it would wait for a start that may never return
        if not held.is_conducted:
            held.is_conducted = True
            self._crew.start_soon(self._conduct, held)

    def move_elsewhere(self) -> int:
        """Hand over the jobs that belong to other workers now; how many. Looks at each job once per change of those."""
        ring, moving = self._crew.roster.ring, list[_Held]()
        for held in self._held.values():
            if held.is_begun and held.ring is not ring:
                if self._crew.target(held.key) in ("", self.id):
                    held.ring = ring
                else:
                    moving.append(held)
        for held in moving:
            self.take(Order("", MOVE, held.key, held.epoch))
        return len(moving)

    async def hand_over_all(self) -> None:
        """Hand over every job, also those that were not begun; returns when none is left here and in Redis."""
        while not self.is_fenced:
            for key, held in list(self._held.items()):
                if not any(order.do == LEAVE for order in held.orders or ()):
                    self.take(Order("", LEAVE, key, held.epoch))
            await self._wait_empty()
            owned = await self.record(lambda: self._crew.store.owned(self.id))
            unread = [key for key in owned if key not in self._held]
            if not owned:
                return
            for key in unread:
                await self._give_away(key, None)

    async def end_all(self) -> None:
        """Stop every job for good: the pool shuts down."""
        while not self.is_fenced:
            owned = await self.record(lambda: self._crew.store.owned(self.id))
            for key in {*owned, *self._held}:
                held = self._held.get(key)
                if held is None:
                    held = self._held[key] = _Held(key)
                if not any(order.do == "stop" for order in held.orders or ()):
                    self.take(Order("", "stop", key, held.epoch))
            if not owned and not self._held:
                return
            await self._wait_empty()

    async def _wait_empty(self) -> None:
        while self._held and not self.is_fenced:
            if self._emptied.is_set():
                self._emptied = anyio.Event()
            await self._emptied.wait()

    async def fence(self) -> None:
        """The lease has lapsed, or is about to: stop everything, record nothing (protocol 2.4)."""
        self.is_fenced = True
        held, self._held = list(self._held.values()), {}
        for scope in self._scopes:
            scope.cancel()
        self._emptied.set()
        if self._scopes:  # a `start` that was under way has its last words before `stop` is called
            self._quiet = anyio.Event()
            with anyio.move_on_after(LAST_WORDS):
                await self._quiet.wait()
        async with anyio.create_task_group() as stops:
            for one in held:
                if one.is_begun:
                    stops.start_soon(self._stop_handler, one)

    def begin_anew(self, worker: str) -> None:
        """Be another worker to the pool, without jobs; to callers it is the same one."""
        self.id = worker
        self.is_fenced = False
        self._scopes = set()
        self._missing, self._to_stop = set(), set()
        self._unsampled, self._put_off = [], {}

    async def reconcile(self) -> None:
        """Compare with Redis what is here: what was lost on its way comes again, what is another's stops."""
        before = set(self._held)
        owned = set(await self._crew.store.owned(self.id))
        stopping = await self._stopping(self._next_sample(owned))
        missing = owned - before - set(self._held)
        missing, self._missing = missing & self._missing, missing  # else it may be on its way
        for key in missing:
            job = await self._crew.store.job(key, payload=False)
            if job is None or job.owner != self.id or key in self._held:
                continue
            self._crew.note_lost_order(key)
            if job.state is JobState.STOPPING:
                self.take(Order("", "stop", key, job.token))
            else:
                await self._crew.store.assign(key, self.id, job.token, self.id)
        for key in before & set(self._held):
            held = self._held.get(key)
            if (
                held is not None
                and held.is_begun
                and not held.is_conducted
                and (key not in owned or key in stopping)
            ):
                self.take(Order("", CHECK, key, held.epoch))

    # --- one key after the other

    async def _conduct(self, held: _Held) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                with suppress(FencedError):
                    while held.orders:
                        order = held.orders.pop(0)
                        async with self._limiter:
                            await self._carry_out(held, order)
            finally:
                self._scopes.discard(scope)
                if not self._scopes:
                    self._quiet.set()
        held.is_conducted, held.orders = False, held.orders or None
        if not held.is_begun and not held.orders:
            self._drop(held)

    @runs_handlers("pools", lambda its: its["self"].names(its["held"].key))
    async def _carry_out(self, held: _Held, order: Order) -> None:
        if order.do == "start":
            await self._start(held, order)
        elif order.do == "stop":
            await self._stop(held, order)
        elif order.do == "notify":
            await self._notify(held, order)
        elif order.do in (MOVE, LEAVE):
            await self._move(held, order)
        elif order.do in (ENDED, CRASHED):
            await self._run_is_over(held, order)
        elif order.do == CHECK:
            await self._check(held)
        else:  # of a newer version (protocol 8)
            await self._discard(order)

    async def _start(self, held: _Held, order: Order) -> None:
        if held.is_begun:
            if order.epoch <= held.epoch:
                await self._discard(order)
                return
            await self._stop_handler(held)  # given to us anew
            held.is_begun = False
        if order.epoch <= self._put_off.pop(held.key, 0):  # it went elsewhere before this was read
            await self._discard(order)
            return
        if self.is_draining or self._crew.is_shutting_down:
            await self._give_away(held.key, order.epoch)
            await self._discard(order)
            return
        if not self._crew.is_trusted(self.id):
            return  # woken too late: it is another's, or about to be, and this worker is fenced in a moment
        held.epoch, held.is_begun = order.epoch, True
        job = Job(order, partial(self._report, held.key, order.epoch))
        scope = held.starting = anyio.CancelScope()
        with scope:
            try:
                await self._begin(held, job)
            except BaseException as error:
                if not is_outcome(error):
                    raise
                held.starting = None
                held.is_begun = False
                await self._start_failed(held, order, error)
                return
        held.starting = None
        if scope.cancelled_caught:  # by an order that is next
            await self._discard(order)
            return
        outcome = await self.record(
            lambda: self._crew.store.started(
                held.key, self.id, order.epoch, order.entry, order.node
            )
        )
        if outcome == "stale":
            await self._lose(held)
        else:
            self._crew.hooks.job_started(self._crew.name, held.key, self.id)

    async def _begin(self, held: _Held, job: Job) -> None:
        run = self.handling.run
        if run is None:
            await self.handling.object.start(job)
            return
        held.running, held.run_is_over = anyio.CancelScope(), anyio.Event()
        self._crew.start_soon(self._run, held, run, job, held.running, held.run_is_over)

    @runs_handlers("pools", lambda its: its["self"].names(its["held"].key))
    async def _run(
        self,
        held: _Held,
        run: Callable[[Job], Awaitable[None]],
        job: Job,
        scope: anyio.CancelScope,
        is_over: anyio.Event,
    ) -> None:
        order: Order | None = None
        try:
            with scope:
                try:
                    if not self._crew.is_trusted(self.id):
                        return  # woken too late, see `_start`
                    await run(job)
                    order = Order("", ENDED, job.key, job.token, starts=job.starts)
                except BaseException as error:
                    if not is_outcome(error):
                        raise
                    self._crew.note_failure(job.key, self.id, "run", error)
                    order = Order(
                        "", CRASHED, job.key, job.token, _words(error).encode(), starts=job.starts
                    )
        finally:
            is_over.set()
        if order is not None and self._held.get(job.key) is held:
            self.take(order)

    async def _start_failed(self, held: _Held, order: Order, error: BaseException) -> None:
        self._crew.note_failure(held.key, self.id, "start", error)
        outcome = await self.record(
            lambda: self._crew.store.failed(
                held.key,
                self.id,
                order.epoch,
                order.entry,
                node=order.node,
                error=_words(error),
                again_in=_restart_pause(order.starts),
                is_start=True,
            )
        )
        if outcome == "stopping":
            await self._finish(held, "")

    async def _stop(self, held: _Held, order: Order) -> None:
        if order.entry and held.epoch not in (0, order.epoch):
            await self._discard(order)
            return
        if held.is_begun:
            await self._stop_handler(held)
        elif not held.epoch:  # not begun here: its start is in the inbox still, or was lost
            job = await self.record(lambda: self._crew.store.job(held.key, payload=False))
            if job is None or job.owner != self.id:
                await self._disown(held.key)
                await self._discard(order)
                return
            held.epoch = self._put_off[held.key] = job.token
        await self._finish(held, order.entry)

    async def _finish(self, held: _Held, entry: str) -> None:
        """The job has ended: record it, and tell who waits for that."""
        store = self._crew.store
        held.is_begun = False
        ended = await self.record(lambda: store.ended(held.key, self.id, held.epoch, entry))
        if ended.outcome == "stale":
            return
        self._crew.hooks.job_ended(self._crew.name, held.key, self.id)
        await self.record(lambda: self._crew.tell_ended(ended))

    async def _notify(self, held: _Held, order: Order) -> None:
        if not self._crew.is_trusted(self.id):
            return
        if held.is_begun and order.epoch == held.epoch:
            if self.handling.takes_notifications:
                try:
                    await self.handling.object.notify(order.key, order.payload)
                except BaseException as error:
                    if not is_outcome(error):
                        raise
                    self._crew.note_failure(order.key, self.id, "notify", error)
            else:
                self._crew.note_unheard(order.key, self.id)
        else:  # it went elsewhere meanwhile: so does this
            self._crew.start_soon(self._send_after, order)
            return
        await self._discard(order)

    async def _send_after(self, order: Order) -> None:
        """Send a notification to wherever its job is by now. Until then it stays in the inbox."""
        with suppress(FencedError):  # then the janitor does
            await self.record(lambda: self._crew.forward(order))
            await self._discard(order)

    async def _move(self, held: _Held, order: Order) -> None:
        target = self._crew.target(held.key, but=self.id if order.do == LEAVE else "")
        if order.do == MOVE and (target in ("", self.id) or order.epoch != held.epoch):
            return
        if not held.epoch:
            return  # not begun here; `hand_over_all` gives it away
        if held.is_begun:
            await self._stop_handler(held)
            held.is_begun = False
        await self._give_away(held.key, held.epoch)

    async def _give_away(self, key: str, epoch: int | None) -> None:
        """Hand a job over, to whoever takes it."""
        crew = self._crew
        if epoch is None:
            job = await self.record(lambda: crew.store.job(key, payload=False))
            if job is None or job.owner != self.id:
                await self._disown(key)
                return
            epoch = self._put_off[key] = job.token
        while True:
            target = crew.target(key, but=self.id)
            given = await self.record(partial(crew.store.assign, key, self.id, epoch, target))
            if given.outcome == "lapsed":
                crew.suspect(target)
                continue
            if given.outcome in ("stopping", "shutdown"):
                await self._finish(_Held(key, epoch), "")
            elif given.outcome in ("given", "parked"):
                crew.hooks.job_moved(crew.name, key, self.id, target)
            return

    async def _disown(self, key: str) -> None:
        """A key among this worker's that is not a job of its: the script takes it out."""
        await self.record(lambda: self._crew.store.assign(key, self.id, 0, ""))

    async def _run_is_over(self, held: _Held, order: Order) -> None:
        if not held.is_begun or order.epoch != held.epoch:
            return
        held.is_begun, held.running = False, None
        if order.do == ENDED:
            await self._finish(held, "")
            return
        outcome = await self.record(
            lambda: self._crew.store.failed(
                held.key,
                self.id,
                order.epoch,
                "",
                node="",
                error=order.payload.decode(),
                again_in=_restart_pause(order.starts),
                is_start=False,
            )
        )
        if outcome == "stopping":
            await self._finish(held, "")

    async def _check(self, held: _Held) -> None:
        if not held.is_begun:
            return
        epoch = held.epoch
        state = await self.record(lambda: self._crew.store.progress(held.key, self.id, epoch, None))
        if state == "stale":
            await self._lose(held)
        elif state == JobState.STOPPING:  # and nobody has told us
            await self._stop_handler(held)
            await self._finish(held, "")

    def _next_sample(self, owned: set[str]) -> list[str]:
        """Some of the jobs here, other ones each time, and those that were to stop the last time."""
        if not self._unsampled:
            self._unsampled = sorted(owned)
        sample, self._unsampled = self._unsampled[:SAMPLE], self._unsampled[SAMPLE:]
        return [*self._to_stop, *sample]

    async def _stopping(self, keys: list[str]) -> set[str]:
        """Those that shall stop, as was seen the last time already: else the order may be on its way."""
        jobs = await self._crew.store.jobs(keys)
        stopping = {job.key for job in jobs if job.state is JobState.STOPPING}
        again, self._to_stop = stopping & self._to_stop, stopping
        return again

    async def _lose(self, held: _Held) -> None:
        """The job is another's, or gone: stop it here."""
        self._crew.note_job_lost(held.key, self.id)
        await self._stop_handler(held)
        held.is_begun = False

    async def _stop_handler(self, held: _Held) -> None:
        """Have the handler end the job, within `worker_shutdown_ttl`. What it raises is noted, and changes nothing."""
        limit = self._crew.options.worker_shutdown_ttl
        with anyio.move_on_after(limit) as patience:
            if held.running is not None and held.run_is_over is not None:
                held.running.cancel()
                await held.run_is_over.wait()
            elif self.handling.object is not None:
                try:
                    await self.handling.object.stop(held.key)
                except BaseException as error:
                    if not is_outcome(error):
                        raise
                    self._crew.note_failure(held.key, self.id, "stop", error)
        if patience.cancelled_caught:
            late = TimeoutError(f"it did not end within {limit:g} s")
            self._crew.note_failure(held.key, self.id, "stop", late)

    # --- telling Redis

    async def record(self, step: Callable[[], Awaitable[R]]) -> R:
        """Carry a step out, as often as it takes.

        Raises:
            FencedError: it failed, and the worker was fenced meanwhile.
        """
        backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
        while True:
            try:
                return await step()
            except PASSING as error:
                if self.is_fenced:
                    raise FencedError from error
                self._crew.hooks.loop_troubled(f"worker {self.id}", error, backoff.attempts + 1)
                await anyio.sleep(backoff.next_pause())

    async def _discard(self, order: Order) -> None:
        if order.entry:
            await self.record(lambda: self._crew.store.done(self.id, order.entry))

    async def _report(self, key: str, epoch: int, text: str | None) -> bool:
        """A handler asks whether the job is still its own."""
        if self.is_fenced or not self._crew.is_trusted(self.id):
            return False
        state = await self._crew.store.progress(key, self.id, epoch, text)
        return state not in ("stale", JobState.STOPPING)

    def _drop(self, held: _Held) -> None:
        if self._held.get(held.key) is held:
            del self._held[held.key]
            if not self._held:
                self._emptied.set()


def _words(error: BaseException) -> str:
    """What an exception says, for people; of what is no `Exception`, such as `SystemExit`, also what it is."""
    kind, said = type(error).__name__, str(error)
    return said if said and isinstance(error, Exception) else f"{kind}: {said}" if said else kind


def _restart_pause(starts: int) -> float:
    """Seconds to wait before a job that failed is started again."""
    return min(RESTART_CAP, RESTART_BASE * 2.0 ** min(starts - 1, 16))
