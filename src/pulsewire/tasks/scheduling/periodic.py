"""Periodic tasks that are defined elsewhere, such as in a table or a service, which is asked again and again."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

import anyio.to_thread
import msgspec

from pulsewire._core.checks import check_seconds
from pulsewire._core.hooks import Hooks
from pulsewire._core.loops import LoopContext, Stop, do_every
from pulsewire._core.tasks import OwnedTasks, is_outcome
from pulsewire._core.vitals import Ward, resting
from pulsewire.errors import EntryNotFound, InvalidOption
from pulsewire.tasks.scheduling.cron import Cron
from pulsewire.tasks.scheduling.scheduler import Scheduler
from pulsewire.tasks.scheduling.timetable import Definition
from pulsewire.tasks.wire import NewTask

DEFAULT_SYNC = 180.0


class PeriodicTask(msgspec.Struct, frozen=True):
    """What is to be enqueued, and when: the arguments of `Scheduler.register`."""

    spec: str | Cron
    task: NewTask
    entry_name: str | None = None


Found = Iterable[PeriodicTask]
Provider = Callable[[], Found | Awaitable[Found]]


class PeriodicTaskManager:
    """Keeps the entries of a scheduler as a provider wants them. Get one from `Hub.periodic_tasks`; `async with` it.

    Attributes:
        scheduler: its scheduler, which it starts and ends.
    """

    def __init__(
        self,
        provider: Provider,
        scheduler: Scheduler,
        *,
        sync_interval: float = DEFAULT_SYNC,
        hooks: Hooks,
        logger: logging.Logger,
        ward: Ward,
    ) -> None:
        if not callable(provider):
            raise InvalidOption("provider", provider, "a function is needed")
        self.scheduler = scheduler
        self.sync_interval = check_seconds("sync_interval", sync_interval, 0.01)
        self._provider = provider
        self._context = LoopContext(Stop(), hooks, logger, ward)
        self._tasks = OwnedTasks()
        self._ids: dict[str, str] = {}
        self._failures = 0

    def __repr__(self) -> str:
        return f"<PeriodicTaskManager entries={len(self._ids)} of {self.scheduler!r}>"

    async def __aenter__(self) -> Self:
        """Ask the provider, register what it wants, and start the scheduler.

        Raises:
            Exception: what the provider raises.
            InvalidOption, InvalidName, PayloadTooLarge: what it wants is impossible; nothing was written.
            Closed, ServerUnavailable, PermissionDenied: see `Scheduler`.
        """
        await self.sync_once()
        await self.scheduler.__aenter__()
        try:
            await self._tasks.enter()
        except BaseException as error:
            await self.scheduler.__aexit__(type(error), error, error.__traceback__)
            raise
        self._tasks.start_soon(
            do_every,
            "asking for periodic tasks",
            self.sync_interval,
            self._keep_synced,
            self._context,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """End the scheduler, and ask no more."""
        self._context.stop.set()
        try:
            await self._tasks.leave(kind, error, trace)
        finally:
            await self.scheduler.__aexit__(kind, error, trace)
        return False

    async def sync_once(self) -> None:
        """Ask the provider now, register what is new, and unregister what it no longer wants.

        What is equal is one entry, however often the provider gives it. If anything is impossible, nothing changes.

        Raises:
            Exception: what the provider raises.
            InvalidOption, InvalidName, PayloadTooLarge: what it wants is impossible.
        """
        wanted = {
            definition.digest: definition for definition in map(self._define, await self._ask())
        }
        for digest in self._ids.keys() - wanted.keys():
            with contextlib.suppress(EntryNotFound):  # somebody has unregistered it by its id
                self.scheduler.unregister(self._ids.pop(digest))
        for digest, definition in wanted.items():
            if digest not in self._ids:
                self._ids[digest] = self.scheduler.add(definition)

    async def _keep_synced(self) -> None:
        """One pass: what was wanted before goes on if something is wrong with what is wanted now."""
        try:
            with resting():  # it is the user's, and may take long
                await self.sync_once()
        except BaseException as error:  # a user's provider: it is asked again
            if not is_outcome(error):
                raise
            self._failures += 1
            self._context.hooks.loop_troubled("asking for periodic tasks", error, self._failures)
            self._context.logger.exception(
                "the periodic tasks stay as they are: the provider failed, or wants what is impossible"
            )
        else:
            self._failures = 0

    async def _ask(self) -> list[PeriodicTask]:
        """What the provider wants. If it is a plain function it may wait for something, so it is called in a thread."""
        if inspect.iscoroutinefunction(self._provider):
            return list(await self._provider())
        found = await anyio.to_thread.run_sync(_listed, self._provider, abandon_on_cancel=True)
        return list(await found if inspect.isawaitable(found) else found)

    def _define(self, wanted: PeriodicTask) -> Definition:
        if not isinstance(wanted, PeriodicTask):
            raise InvalidOption("provider", wanted, "it is to give values of PeriodicTask")
        return self.scheduler.define(wanted.spec, wanted.task, entry_name=wanted.entry_name)


def _listed(provider: Provider) -> list[PeriodicTask] | Awaitable[Found]:
    """What a plain function gives; a generator does its work here, in the thread."""
    found = provider()
    return found if inspect.isawaitable(found) else list(found)
