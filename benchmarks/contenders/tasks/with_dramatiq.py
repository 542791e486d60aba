"""Dramatiq with its default middleware, no results; the worker is `dramatiq`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

BROKER: Final = RedisBroker(url=tasks.URL)
dramatiq.set_broker(BROKER)


def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


REGISTERED: Final[dict[str, Any]] = {
    tasks.WORK: dramatiq.actor(work, actor_name=tasks.WORK, queue_name=tasks.QUEUE),
    tasks.TIMED: dramatiq.actor(timed, actor_name=tasks.TIMED, queue_name=tasks.QUEUE),
}


class Producer:
    """Sends messages, from one thread."""

    async def one(self, call: Call) -> object:
        """One message."""
        return REGISTERED[call.name].send(**call.arguments)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A producer; Dramatiq connects with the first message."""
    yield Producer()
    BROKER.close()
