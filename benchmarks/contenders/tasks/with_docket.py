"""docket (pydocket). Nothing of a task that has run is kept.

It may have as many connections as it asks for: with redis-py's own limit of 100 it fails at this concurrency.
This module is the worker, as its command has no option for how long a record is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import uvloop
from docket import Docket, Worker

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

URL: Final = f"{tasks.URL}?max_connections=1000"
KEEP_NOTHING: Final = timedelta(0)


async def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


async def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


FUNCTIONS: Final = {tasks.WORK: work, tasks.TIMED: timed}


@asynccontextmanager
async def opened() -> AsyncIterator[Docket]:
    """The docket, with both tasks."""
    async with Docket(name=tasks.QUEUE, url=URL, execution_ttl=KEEP_NOTHING) as docket:
        for function in FUNCTIONS.values():
            docket.register(function)
        yield docket


class Producer:
    """Adds tasks."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket

    async def one(self, call: Call) -> object:
        """One task."""
        return await self._docket.add(FUNCTIONS[call.name])(**call.arguments)

    async def many(self, calls: Sequence[Call]) -> object:
        """A batch."""
        return await self._docket.add_many(
            [self._docket.call(FUNCTIONS[call.name])(**call.arguments) for call in calls]
        )


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    async with opened() as docket:
        yield Producer(docket)


async def serve() -> None:
    """Run the worker until it is killed."""
    async with opened() as docket, Worker(docket, concurrency=tasks.CONCURRENCY) as worker:
        await worker.run_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
