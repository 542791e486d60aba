"""Periodic tasks: a scheduler enqueues each entry's task at every tick, together with its replicas once.

Any number of schedulers may have equal entries. Each tries every tick; the script that enqueues the task claims the
tick in the same step (rule 4.1), so one succeeds and the others are told that it was done. `timetable.py` knows the
ticks, `scheduler_store.py` what inspectors see. The clock is the server's.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import random
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, tzinfo
from types import TracebackType
from typing import Self

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.checks import check_seconds
from pulsewire._core.hooks import Hooks
from pulsewire._core.loops import PASSING, RETRY_BASE, RETRY_CAP, LoopContext, Stop, keep_doing
from pulsewire._core.tasks import OwnedTasks, is_outcome
from pulsewire._core.vitals import resting
from pulsewire._redis.link import Link
from pulsewire.errors import (
    Closed,
    DuplicateTask,
    InvalidOption,
    PulsewireError,
    ServerFull,
    ServerUnavailable,
    TaskIdConflict,
)
from pulsewire.tasks.client import TaskClient
from pulsewire.tasks.enqueuing import Placed
from pulsewire.tasks.scheduling.cron import Cron
from pulsewire.tasks.scheduling.scheduler_store import SchedulerStore
from pulsewire.tasks.scheduling.tick_clock import TickClock
from pulsewire.tasks.scheduling.timetable import Definition, Entry, Timetable, define
from pulsewire.tasks.serving.presence import server_name
from pulsewire.tasks.wire import NewTask, TaskInfo

DEFAULT_HEARTBEAT = 10.0
DEFAULT_GRACE = 30.0
MOST_GRACE = 43200.0
"""A claim is remembered for a day (`lua/put.lua`): nobody may try a tick that late."""
GOODBYE = 5.0
"""Seconds that running enqueues have at the end, and signing off besides."""
NOTING = 2.0
"""Seconds that writing an entry's history may keep its next tick waiting."""
SHIFTED = 0.05
"""Seconds by which the server's clock must have jumped for the timer to be set anew."""

PreEnqueue = Callable[[NewTask], Awaitable[None] | None]
PostEnqueue = Callable[[TaskInfo | None, PulsewireError | None], Awaitable[None] | None]


class Scheduler:
    """Enqueues periodic tasks. Get one from `Hub.scheduler`, register tasks, and use it within `async with`."""

    def __init__(
        self,
        link: Link,
        client: TaskClient,
        *,
        location: tzinfo = UTC,
        heartbeat_interval: float = DEFAULT_HEARTBEAT,
        misfire_grace: float = DEFAULT_GRACE,
        pre_enqueue: PreEnqueue | None = None,
        post_enqueue: PostEnqueue | None = None,
        hooks: Hooks,
        logger: logging.Logger,
    ) -> None:
        self.id = server_name(str(uuid.uuid4()))
        self.location = location
        self.heartbeat_interval = check_seconds("heartbeat_interval", heartbeat_interval, 0.1)
        self.misfire_grace = check_seconds("misfire_grace", misfire_grace, 0.1)
        if misfire_grace > MOST_GRACE:
            raise InvalidOption("misfire_grace", misfire_grace, f"must be at most {MOST_GRACE:g}")
        self._link = link
        self._client = client
        self._pre_enqueue = pre_enqueue
        self._post_enqueue = post_enqueue
        ward = link.options.vitals.ward("tasks", "scheduler")
        self._context = LoopContext(Stop(), hooks, logger, ward)
        self._store = SchedulerStore(link, client.keys, self.id)
        self._clock = TickClock()
        self._timetable = Timetable()
        self._tasks = OwnedTasks()
        self._state = "new"
        self._unregistered: list[str] = []
        self._is_shown = False
        self._changed = anyio.Event()
        self._woken = anyio.Event()
        self._enqueuing = 0
        self._is_idle = anyio.Event()

    def __repr__(self) -> str:
        return f"<Scheduler {self.id} {self._state} entries={len(self._timetable)}>"

    # --- entries

    def register(self, spec: str | Cron, task: NewTask, *, entry_name: str | None = None) -> str:
        """Have a task enqueued at every tick of a spec: from the next one on, or from the start of this scheduler on.

        Equal entries of all schedulers share their ticks, and each tick is enqueued once. Equal are those with the same
        spec and location, and the same type, payload, options and headers of the task.

        Args:
            spec: such as "0 9 * * mon-fri", "@daily" or "@every 90s": see `Cron.parse`. The ticks of `@every` are the
                multiples of its duration since 1970 by the server's clock, whenever a scheduler was started: those of
                `@every 1h` are the full hours in UTC. (Go counts from the start.)
            task: what to enqueue, with its options.
            entry_name: tells it from an equal one that is also wanted. The same in all schedulers.

        Returns:
            The id of the entry, for `unregister` and for inspectors. It is new at each registration.

        Raises:
            InvalidOption, InvalidName, PayloadTooLarge: it cannot be enqueued, or an equal entry is registered here.
            Closed: the scheduler has ended.
        """
        return self.add(self.define(spec, task, entry_name=entry_name))

    def define(
        self, spec: str | Cron, task: NewTask, *, entry_name: str | None = None
    ) -> Definition:
        """What `register` would register, checked."""
        definition = define(spec, task, location=self.location, entry_name=entry_name)
        self._client.prepare(task, tick=(definition.digest, 0))
        return definition

    def add(self, definition: Definition) -> str:
        """Register what was defined; its id."""
        if self._state == "closed":
            raise Closed(repr(self))
        self._timetable.check_new(definition)
        entry = Entry(str(uuid.uuid4()), definition)
        self._timetable.add(entry)
        if self._state == "active":
            entry.plan(self._clock.now())
            self._timetable.put(entry)
            self._woken.set()
            self._changed.set()
        return entry.id

    def unregister(self, entry_id: str) -> None:
        """Stop enqueuing the task of an entry. A tick that is being enqueued is not taken back.

        Raises:
            EntryNotFound: this scheduler has no such entry.
        """
        entry = self._timetable.remove(entry_id)
        self._changed.set()
        if not self._timetable.has_given_out(entry):
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        """Have the history of an entry deleted. Nothing is being written to it any more."""
        self._unregistered.append(entry.id)
        self._changed.set()

    # --- starting

    async def __aenter__(self) -> Self:
        """Begin: show the entries, and enqueue from the next tick on.

        Raises:
            Closed: it was used before.
            ServerUnavailable, PermissionDenied: it cannot begin.
        """
        if self._state != "new":
            raise Closed(repr(self))
        await self._tasks.enter()
        try:
            await self._clock.measure(self._store.time)
            self._timetable.plan(self._clock.now())
            self._state = "active"
            with contextlib.suppress(ServerFull):  # it works on, and is shown when there is room
                await self._show()
        except BaseException as error:
            self._state = "closed"
            await self._tasks.leave(type(error), error, error.__traceback__)
            raise
        self._tasks.start_soon(self._watch)
        self._tasks.start_soon(keep_doing, "showing periodic tasks", self._keep_once, self._context)
        return self

    # --- duties

    async def _watch(self) -> None:
        """Begin to enqueue what is due, then sleep until something is."""
        while not self._context.stop.is_set:
            self._woken = anyio.Event()
            if self._clock.has_slept:
                await self._measure()
            for entry in self._timetable.take_due(self._clock.now()):
                self._enqueuing += 1
                self._tasks.start_soon(self._enqueue_due, entry)
            due = self._timetable.next_due
            with anyio.move_on_after(None if due is None else due - self._clock.now()):
                await self._woken.wait()

    async def _keep_once(self) -> None:
        """Wait for the next heartbeat, or until something has changed. Measure the clock, and show the entries."""
        if self._is_shown:
            pause = self.heartbeat_interval * random.uniform(0.8, 1.0)
            with resting(), anyio.move_on_after(pause):
                await self._changed.wait()
        self._is_shown = False
        await self._measure()
        await self._show()

    async def _measure(self) -> None:
        try:
            shift = await self._clock.measure(self._store.time)
        except PASSING as error:
            self._context.hooks.loop_troubled("asking for the time", error, 1)
            return
        if shift < -self.misfire_grace:
            # Ticks that it comes to again are claimed already; but after a great leap nobody should wait for ever.
            self._context.logger.warning("the server's clock went back", extra={"seconds": -shift})
            self._timetable.plan(self._clock.now())
        if abs(shift) > SHIFTED:
            self._woken.set()

    async def _show(self) -> None:
        self._changed = anyio.Event()
        gone, self._unregistered = self._unregistered, []
        try:
            lifetime = 2 * self.heartbeat_interval
            await self._store.show(self._timetable.entries, lifetime, self._clock.now())
            await self._store.forget(gone)
        except BaseException:
            self._unregistered += gone
            raise
        self._is_shown = True

    # --- enqueuing

    async def _enqueue_due(self, entry: Entry) -> None:
        """Enqueue an entry's ticks that are due, one after the other: a claim also covers all earlier ticks."""
        try:
            while not (entry.is_gone or self._context.stop.is_set):
                now = self._clock.now()
                missed = entry.skip_late(now, self.misfire_grace)
                if missed is not None:
                    self._warn("ticks of a periodic task were missed", entry, missed)
                due = entry.take(now)
                if due is None:
                    break
                await self._enqueue(entry, due)
        finally:
            self._timetable.put(entry)
            if entry.is_gone:
                self._forget(entry)
            self._woken.set()
            self._enqueuing -= 1
            if not self._enqueuing:
                self._is_idle.set()

    async def _enqueue(self, entry: Entry, due: int) -> None:
        await self._tell(self._pre_enqueue, entry.task)
        try:
            info, placed = await self._submit(entry, due)
        except PulsewireError as error:
            if not isinstance(error, (DuplicateTask, TaskIdConflict)):
                self._warn("a periodic task was not enqueued", entry, due, why=str(error))
            await self._tell(self._post_enqueue, None, error)
            return
        if info is None:
            return  # another scheduler had it
        late = max(placed.now - due, 0.0)
        self._context.hooks.periodic_task_enqueued(entry.cron.spec, entry.task.type, late)
        await self._note(entry, info.id, placed.now)
        await self._tell(self._post_enqueue, info, None)

    async def _submit(self, entry: Entry, due: int) -> tuple[TaskInfo | None, Placed]:
        """Enqueue the task of one tick, if need be again and again while it is not too late.

        Trying again does no harm: if the task was enqueued before, its tick is claimed.
        """
        task = entry.task
        message, order = self._client.prepare(task, tick=(entry.digest, due))
        backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
        while True:
            try:
                await self._reach(task.queue, due + self.misfire_grace - self._clock.now())
                placed = await self._client.enqueuer.submit(task.queue, order)
            except PASSING as error:
                pause = backoff.next_pause()
                self._context.hooks.loop_troubled(
                    "enqueuing periodic tasks", error, backoff.attempts
                )
                left = due + self.misfire_grace - self._clock.now()
                if left <= pause or self._context.stop.is_set:
                    raise
                await self._context.stop.sleep(pause)
                continue
            if placed.word == "fired":
                return None, placed
            info = self._client.outcome(task, message, order, placed)
            return info, placed

    async def _reach(self, queue: str, within: float) -> None:
        """Return when there is a connection, so that what is sent is not kept until it is too late.

        Raises:
            ServerUnavailable: there is none in time.
        """
        slot = self._client.keys.queue(queue).pending
        if self._link.connection_now(slot) is not None:
            return
        with anyio.move_on_after(within):
            await self._link.connection_for(slot)
            return
        raise ServerUnavailable(self._link.shown, max(within, 0.0), "the tick would be too late")

    async def _note(self, entry: Entry, task_id: str, now: float) -> None:
        """Write the history of an entry. What cannot be written is left out: the task is enqueued."""
        with anyio.move_on_after(NOTING):
            try:
                if not entry.is_gone:
                    await self._store.note(entry, task_id, now)
            except PASSING as error:
                self._context.hooks.loop_troubled("noting periodic tasks", error, 1)

    async def _tell(
        self, told: Callable[..., Awaitable[None] | None] | None, *what: object
    ) -> None:
        if told is None:
            return
        try:
            answer = told(*what)
            if inspect.isawaitable(answer):
                await answer
        except BaseException as error:
            if not is_outcome(error):
                raise
            self._context.logger.exception("a hook given to the scheduler failed")

    def _warn(self, what: str, entry: Entry, due: int, **more: object) -> None:
        task = {"spec": entry.cron.spec, "type": entry.task.type, "queue": entry.task.queue}
        extra = {"entry": entry.id, **task, "due": due, **more}
        self._context.logger.warning(what, extra=extra)

    # --- ending

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """End: what is being enqueued has some seconds; then the entries and their histories are removed."""
        self._state = "closed"
        self._context.stop.set()
        self._woken.set()
        try:
            with anyio.move_on_after(GOODBYE, shield=True):
                if self._enqueuing:
                    self._is_idle = anyio.Event()
                    await self._is_idle.wait()
        finally:
            try:
                await self._tasks.leave(kind, error, trace)
            finally:
                await self._sign_off()
        return False

    async def _sign_off(self) -> None:
        entry_ids = [entry.id for entry in self._timetable.entries]
        with anyio.move_on_after(GOODBYE, shield=True):
            try:
                await self._store.hide()
                await self._store.forget([*entry_ids, *self._unregistered])
            except PulsewireError:
                return  # all of it has a time to live
