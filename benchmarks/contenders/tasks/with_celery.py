"""Celery. No results, and a larger prefetch, as its guide to optimising advises for short tasks.

The worker is `celery worker`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from celery import Celery

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

PREFETCH: Final = 64
"""Tasks that each process or thread of the worker holds in advance."""

APP: Final = Celery("bench", broker=tasks.URL)
APP.conf.update(
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=PREFETCH,
)


def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


REGISTERED: Final[dict[str, Any]] = {
    tasks.WORK: APP.task(work, name=tasks.WORK),
    tasks.TIMED: APP.task(timed, name=tasks.TIMED),
}


class Producer:
    """Sends tasks, from one thread."""

    async def one(self, call: Call) -> object:
        """One task."""
        return REGISTERED[call.name].delay(**call.arguments)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A producer; Celery connects with the first task."""
    yield Producer()
    APP.close()
