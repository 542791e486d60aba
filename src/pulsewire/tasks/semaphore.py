"""A limit on how many tasks of a kind run at a time, over all servers: asynq's x/rate semaphore (spec/asynq.md 6.9)."""

from __future__ import annotations

import math
from contextlib import suppress
from types import TracebackType

from pulsewire._core.checks import check_count
from pulsewire._core.loops import PASSING
from pulsewire._redis.link import Link
from pulsewire._redis.scripts import Script
from pulsewire.errors import InvalidOption, Retry
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.task import Task, current_task

ACQUIRE = Script.load("pulsewire.tasks", "acquire")
AGAIN_AFTER = 1.0


class Semaphore:
    """Places that tasks take while they run. Get one from `TaskClient.semaphore`; shared with Go programs.

    A place lapses with the deadline of its task, so that a server that dies keeps none for ever. Within a handler use
    `async with semaphore:`, which has the task tried again a little later, uncharged, where there is no place.
    """

    def __init__(self, link: Link, keys: TaskKeys, scope: str, places: int) -> None:
        self.scope = scope
        self.places = check_count("places", places)
        self._link = link
        self._key = keys.semaphore(scope)

    def __repr__(self) -> str:
        return f"<Semaphore {self.scope!r} places={self.places}>"

    async def acquire(self) -> bool:
        """Take a place for the task that is being run here. Returns whether there was one.

        Raises:
            InvalidOption: no task is being run here, or it has no deadline.
        """
        task = _running()
        if task.deadline is None:
            raise InvalidOption(
                "semaphore", self.scope, "the task has no deadline, so its place would not lapse"
            )
        lapses = math.ceil(task.deadline.timestamp())
        arguments = (task.id, lapses, self.places)
        reply = await self._link.run(ACQUIRE, [self._key], arguments, repeatable=True)
        return bool(reply == b"acquired")

    async def release(self) -> bool:
        """Give the place up. Returns whether the task had one."""
        task = _running()
        reply = await self._link.call(self._key, "ZREM", self._key, task.id, repeatable=True)
        return bool(reply)

    async def __aenter__(self) -> None:
        """Take a place.

        Raises:
            Retry: there is none: let it pass, and the task is tried again soon.
        """
        if not await self.acquire():
            reason = f"semaphore {self.scope!r} is full"
            raise Retry(reason, after=AGAIN_AFTER, is_failure=False)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the place up. With the server away it lapses with the deadline; the work is done all the same."""
        with suppress(*PASSING):
            await self.release()


def _running() -> Task:
    try:
        return current_task()
    except LookupError:
        raise InvalidOption(
            "semaphore", None, "it is for handlers: no task is being run here"
        ) from None
