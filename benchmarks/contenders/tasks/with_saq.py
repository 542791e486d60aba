"""SAQ. Nothing of a finished job is kept; the worker is `saq`, which logs errors only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from saq import Queue

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

QUEUE: Final = Queue.from_url(tasks.URL, name=tasks.QUEUE)
KEEP_NOTHING: Final = -1


async def work(_: Any, *, index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


async def timed(_: Any, *, index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


SETTINGS: Final = {
    "queue": QUEUE,
    "functions": [work, timed],
    "concurrency": tasks.CONCURRENCY,
}
"""What the command `saq` reads."""


class Producer:
    """Enqueues jobs."""

    async def one(self, call: Call) -> object:
        """One job."""
        return await QUEUE.enqueue(call.name, ttl=KEEP_NOTHING, **call.arguments)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    await QUEUE.connect()
    try:
        yield Producer()
    finally:
        await QUEUE.disconnect()
