"""A server: runs the tasks of some queues. It starts the duties and wires them together.

Each duty is in a file of its own: taking tasks (`supply.py`), running them (`attempts.py`), writing down what becomes
of them (`settling.py`), upkeep of the queues, aggregation of groups, hearing cancellations, and keeping the leases
(`presence.py`, a thread). `docs/internals/tasks-protocol.md` is the essay.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self

import anyio

from pulsewire._core.hooks import Hooks
from pulsewire._core.loops import PASSING, do_at_once_and_every, do_every, keep_doing
from pulsewire._core.tasks import is_outcome, see_through
from pulsewire._core.vitals import EndingSign, PlacesSign, Sign, resting
from pulsewire._redis.leases import LeaseThread
from pulsewire._redis.link import Link
from pulsewire._redis.notifier import Notifier
from pulsewire.errors import Closed, PulsewireError, ServerFull
from pulsewire.tasks.client import TaskClient
from pulsewire.tasks.mux import AsyncHandler, Handler, Mux, as_async
from pulsewire.tasks.serving.aggregator import Aggregation
from pulsewire.tasks.serving.attempts import Attempts
from pulsewire.tasks.serving.cancelling import Cancellations
from pulsewire.tasks.serving.crew import Crew
from pulsewire.tasks.serving.options import ServerOptions
from pulsewire.tasks.serving.place import Attempt
from pulsewire.tasks.serving.presence import SHOW_EVERY, Presence
from pulsewire.tasks.serving.settling import Settler
from pulsewire.tasks.serving.supply import Supply
from pulsewire.tasks.serving.upkeep import Upkeep
from pulsewire.tasks.task import Task
from pulsewire.tasks.wire import DEFAULT_TIMEOUT

FENCE_EVERY = 0.5
READY_WITHIN = 1.0
"""Seconds that the first tasks wait for the subscription to cancellations."""
GOODBYE = 5.0
"""Seconds that writing the last outcomes, and signing off, may take."""


class TaskServer:
    """Runs tasks. Get one from `Hub.task_server`, and use it within `async with`."""

    def __init__(
        self,
        link: Link,
        client: TaskClient,
        notifier: Notifier,
        handler: Handler | Mux,
        options: ServerOptions,
        *,
        hooks: Hooks,
        logger: logging.Logger,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.options = options
        self._client = client
        self._notifier = notifier
        self._find = _finder(handler)
        self._crew = Crew(link, client.keys, self.id, options, hooks=hooks, logger=logger)
        self._stopped = anyio.Event()
        self._state = "new"
        self._unwatch: Callable[[], None] = lambda: None
        self._unguard: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        queues = " ".join(f"{name}:{weight}" for name, weight in self.options.queues.items())
        return f"<TaskServer {self.id} {self._state} queues={queues}>"

    @property
    def is_stopped(self) -> bool:
        """Whether it takes no new tasks any more."""
        return self._state not in ("new", "active")

    @property
    def running(self) -> int:
        """How many handlers run now."""
        return self._attempts.count if self._state != "new" else 0

    # --- starting

    async def __aenter__(self) -> Self:
        """Begin to run tasks.

        Raises:
            Closed: it was used before.
            ServerUnavailable, PermissionDenied: it cannot begin.
        """
        if self._state != "new":
            raise Closed(repr(self))
        self._wire_up()
        await self._crew.tasks.enter()
        try:
            # A full server is to be drained, too; the queues are made known later then.
            with contextlib.suppress(ServerFull):
                await self._register()
            self._state = "active"
            self._leases.start()
            watch = self._crew.ward.vitals.watch
            self._unguard = watch.begin("tasks", self._crew.logger)
            await self._hear_cancellations()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        self._start_duties()
        self._unwatch = self._crew.ward.vitals.ask(self._signs)
        return self

    def _signs(self) -> Iterator[Sign]:
        block, owner = self._crew.ward.block, self._crew.ward.owner
        if self.is_stopped:
            yield EndingSign(block, owner)
        yield PlacesSign(block, owner, self.options.concurrency, self._attempts.leftover)

    def _wire_up(self) -> None:
        crew = self._crew
        self._settler = Settler(crew)
        self._attempts = Attempts(crew, self._find, self._make_task, self._settler.settle)
        self._supply = Supply(crew, self._attempts)
        self._upkeep = Upkeep(crew)
        self._cancellations = Cancellations(
            self._notifier, crew.keys.cancel, self._attempts.cancel_task
        )
        self._presence = Presence(crew, self._attempts)
        self._leases = LeaseThread(
            crew.link,
            min(self.options.renew_every, SHOW_EVERY),
            self._presence.keep,
            self._leases_failed,
            crew.logger,
            ward=crew.ward,
            length=self.options.lease,
        )
        self._presence.tell_main = self._leases.tell_main

    async def _register(self) -> None:
        """Make the queues known, so that inspectors see them before their first task."""
        queues = self._client.keys.queues
        await self._crew.link.call(queues, "SADD", queues, *self._crew.places, repeatable=True)

    async def _hear_cancellations(self) -> None:
        """Listen before the first task is taken; but if Redis is away just now, tasks do not wait for that."""
        context, ready = self._crew.working, anyio.Event()
        listen = partial(self._cancellations.listen_once, ready.set)
        self._crew.tasks.start_soon(keep_doing, "hearing cancellations", listen, context)
        with anyio.move_on_after(READY_WITHIN):
            await ready.wait()

    def _start_duties(self) -> None:
        start, options, context = self._crew.tasks.start_soon, self.options, self._crew.working
        start(keep_doing, "taking tasks", self._supply.take_once, self._crew.taking)
        for place in self._crew.places.values():
            wait = partial(self._supply.wait_once, place)
            start(keep_doing, f"waiting for queue {place.name}", wait, self._crew.taking)
        start(keep_doing, "forwarding tasks", self._upkeep.forward_once, context)
        start(
            do_at_once_and_every,
            "recovering tasks",
            min(options.lease / 8, 5.0),
            self._upkeep.recover_once,
            context,
        )
        start(do_at_once_and_every, "reclaiming groups", 10.0, self._upkeep.reclaim_once, context)
        start(
            do_every,
            "forgetting tasks",
            options.janitor_interval,
            self._upkeep.forget_once,
            context,
        )
        start(do_every, "registering queues", 30.0, self._register, context)
        start(self._fence)
        if options.aggregator is not None:
            groups = Aggregation(self._crew, options.aggregator, self._client)
            start(do_every, "aggregating groups", groups.every, groups.aggregate_once, context)
        if options.health_check is not None:
            every = options.health_check_interval
            start(do_every, "checking health", every, self._check_health, context)

    def _leases_failed(self, error: BaseException) -> None:
        """The thread that keeps the leases has ended: so does the server."""
        self._crew.tasks.start_soon(self._raise, error)

    @staticmethod
    async def _raise(error: BaseException) -> None:
        raise error

    async def _fence(self) -> None:
        """End what lost its lease long ago."""
        while True:
            now = time.monotonic()
            for place in self._crew.places.values():
                if place.held:
                    self._attempts.fence(place, now)
            await asyncio.sleep(FENCE_EVERY)

    async def _check_health(self) -> None:
        check = self.options.health_check
        if check is None:
            return
        trouble: BaseException | None = None
        try:
            await self._crew.link.call("", "PING", repeatable=True)
        except PulsewireError as error:
            trouble = error
        try:
            with resting():
                told = check(trouble)
                if inspect.isawaitable(told):
                    await told
        except BaseException as error:
            if not is_outcome(error):
                raise
            self._crew.logger.exception("the health check given to the server failed")

    def _make_task(self, attempt: Attempt) -> Task:
        """What the handler gets; the deadline of the attempt is set (spec/asynq.md 4.3)."""
        message, now = attempt.message, time.monotonic()
        at = now + message.timeout if message.timeout else float("inf")
        if message.deadline:
            at = min(at, now + message.deadline - self._crew.clock.now())
        elif not message.timeout:
            at = now + DEFAULT_TIMEOUT
        attempt.deadline = at
        self._crew.hooks.task_started(attempt.place.name, message.type, attempt.waited)
        return Task(message, at - now + self._crew.clock.now(), attempt.place)

    # --- ending

    def stop(self) -> None:
        """Take no new tasks; those that run go on. asynq's Stop."""
        if self._state != "active":
            return
        self._state = "stopped"
        self._presence.status = "stopped"
        self._presence.show_now()
        self._crew.taking.stop.set()
        self._attempts.close_entrance()
        self._crew.tasks.start_soon(self._supply.stop)
        self._stopped.set()

    async def wait(self) -> None:
        """Return when somebody has called `stop`."""
        await self._stopped.wait()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """End: no new tasks, running ones have `shutdown_timeout`, then their tasks go back to their queues.

        Also when the caller is cancelled meanwhile; cancelled twice, it waits for no handler any more.
        """
        try:
            await see_through(self._shut_down())
        finally:
            self._state = "closed"
            self._unwatch()
            self._crew.working.stop.set()
            try:
                await self._crew.tasks.leave(kind, error, trace)
            finally:
                self._supply.close()
                self._attempts.close()
                self._unguard()
                await see_through(self._sign_off())
        return False

    async def _shut_down(self) -> None:
        self.stop()
        self._presence.status = "closed"
        self._presence.show_now()
        try:
            with anyio.move_on_after(self.options.shutdown_timeout):
                await self._attempts.wait_idle()
            with anyio.move_on_after(GOODBYE), contextlib.suppress(*PASSING):
                await self._supply.wait_idle()
        finally:
            await self._hand_back()

    async def _hand_back(self) -> None:
        """Give back what still runs, and write the last outcomes: handlers must not go on as nobody's."""
        self._attempts.cancel_all()
        try:
            with anyio.move_on_after(GOODBYE):
                await self._attempts.wait_idle()
        finally:
            self._attempts.abandon_all()
            with anyio.move_on_after(GOODBYE):
                await self._settler.wait_idle()

    async def _sign_off(self) -> None:
        try:
            await self._leases.stop()
        finally:
            await self._hide()

    async def _hide(self) -> None:
        with anyio.move_on_after(GOODBYE, shield=True):
            try:
                await self._presence.hide(self._crew.link)
            except PulsewireError:
                return  # it has a time to live


def _finder(handler: Handler | Mux) -> Callable[[str], AsyncHandler]:
    """How the handler of a type is found."""
    if isinstance(handler, Mux):
        return lambda task_type: handler.find(task_type)[0]
    one = as_async(handler)
    return lambda _: one
