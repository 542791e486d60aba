"""arq. Nothing of a job is kept; the worker is `arq`, without its log line for every job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

SERVER: Final = RedisSettings.from_dsn(tasks.URL)
QUIET: Final = {"version": 1, "loggers": {"arq": {"level": "WARNING"}}}


async def work(_: Any, index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


async def timed(_: Any, index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


class WorkerSettings:
    """What the command `arq` reads."""

    functions = (work, timed)
    redis_settings = SERVER
    max_jobs = tasks.CONCURRENCY
    keep_result = 0


class Producer:
    """Enqueues jobs."""

    def __init__(self, pool: ArqRedis) -> None:
        self._pool = pool

    async def one(self, call: Call) -> object:
        """One job."""
        return await self._pool.enqueue_job(call.name, **call.arguments)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    pool = await create_pool(SERVER)
    try:
        yield Producer(pool)
    finally:
        await pool.aclose()
