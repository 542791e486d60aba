"""RQ. No results; the worker is `rq worker`, which forks for each job, or with `SimpleWorker`, which does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from redis import Redis
from rq import Queue

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

KEEP_NOTHING: Final = 0


def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


FUNCTIONS: Final = {tasks.WORK: work, tasks.TIMED: timed}


class Producer:
    """Enqueues jobs, from one thread."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def one(self, call: Call) -> object:
        """One job."""
        return self._queue.enqueue_call(
            FUNCTIONS[call.name], kwargs=dict(call.arguments), result_ttl=KEEP_NOTHING
        )

    async def many(self, calls: Sequence[Call]) -> object:
        """A batch, in one pipeline."""
        prepared = (
            Queue.prepare_data(
                FUNCTIONS[call.name], kwargs=dict(call.arguments), result_ttl=KEEP_NOTHING
            )
            for call in calls
        )
        return self._queue.enqueue_many(prepared)


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    with Redis.from_url(tasks.URL) as client:
        yield Producer(Queue(tasks.QUEUE, connection=client))
