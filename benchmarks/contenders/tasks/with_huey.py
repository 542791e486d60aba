"""Huey on Redis, without results; the worker is `huey_consumer` with threads.

It takes a task off its list before it runs it, so a task in a killed worker is lost; the others acknowledge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from huey import RedisHuey

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

HUEY: Final = RedisHuey(tasks.QUEUE, url=tasks.URL, results=False)


def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


REGISTERED: Final[dict[str, Any]] = {
    tasks.WORK: HUEY.task(name=tasks.WORK)(work),
    tasks.TIMED: HUEY.task(name=tasks.TIMED)(timed),
}


class Producer:
    """Enqueues tasks, from one thread."""

    async def one(self, call: Call) -> object:
        """One task."""
        return REGISTERED[call.name](**call.arguments)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A producer; Huey connects with the first task."""
    yield Producer()
    HUEY.storage.close()
