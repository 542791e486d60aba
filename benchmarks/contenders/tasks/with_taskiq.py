"""taskiq with the stream broker of taskiq-redis, which acknowledges; no result backend.

The worker is `taskiq worker`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from taskiq_redis import RedisStreamBroker

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

BROKER: Final = RedisStreamBroker(tasks.URL, consumer_id="0")


async def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


async def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


REGISTERED: Final[dict[str, Any]] = {
    tasks.WORK: BROKER.register_task(work, tasks.WORK),
    tasks.TIMED: BROKER.register_task(timed, tasks.TIMED),
}


class Producer:
    """Enqueues tasks."""

    async def one(self, call: Call) -> object:
        """One task."""
        return await REGISTERED[call.name].kiq(**call.arguments)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    await BROKER.startup()
    try:
        yield Producer()
    finally:
        await BROKER.shutdown()
