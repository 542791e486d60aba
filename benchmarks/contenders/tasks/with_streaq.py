"""streaq, set up as in its own benchmark: coredis without checks, uvloop. No results, no log line for every task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import coredis
from streaq import Worker

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

coredis.Config.optimized = True
WORKER: Final = Worker(
    redis_url=tasks.URL,
    queue_name=tasks.QUEUE,
    concurrency=tasks.CONCURRENCY,
    anyio_kwargs={"use_uvloop": True},
)


async def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


async def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


REGISTERED: Final[dict[str, Any]] = {
    tasks.WORK: WORKER.task(name=tasks.WORK, ttl=0, silent=True)(work),
    tasks.TIMED: WORKER.task(name=tasks.TIMED, ttl=0, silent=True)(timed),
}


class Producer:
    """Enqueues tasks."""

    async def one(self, call: Call) -> object:
        """One task."""
        return await REGISTERED[call.name].enqueue(**call.arguments)

    async def many(self, calls: Sequence[Call]) -> object:
        """A batch, in one pipeline."""
        created = [REGISTERED[call.name].enqueue(**call.arguments) for call in calls]
        return await WORKER.enqueue_many(created)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    async with WORKER:
        yield Producer()
