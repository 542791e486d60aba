"""The program that enqueues, for every library: `python -m benchmarks.contenders.tasks.produce LIBRARY ROLE --url ...`.

It runs in the library's own environment and knows the library only by the `producer()` of its module. `go/asynq` has
the same roles.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, cast

from benchmarks.contenders import contract
from benchmarks.contenders.contract import Measured, Settings
from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call
from benchmarks.plan import Measure

BATCH: Final = 1000
FILLERS: Final = 100
"""Concurrent calls that fill a queue, where a library has no batch."""
FIRST_SECONDS: Final = 25.0
"""A worker that has not run its first task by then has not started."""
LOOK_SECONDS: Final = 0.01
DAY: Final = 86_400.0


class Producer(Protocol):
    """What a library's module has to offer. `many` and `schedule` are not there in all."""

    async def one(self, call: Call) -> object:
        """Enqueue one task."""

    async def many(self, calls: Sequence[Call]) -> object:
        """Enqueue a batch."""

    async def schedule(self, calls: Sequence[Call], seconds: float) -> object:
        """Enqueue a batch that is due in so many seconds."""


library: list[str] = []
"""The one that was named on the command line."""


@asynccontextmanager
async def opened() -> AsyncIterator[Producer]:
    """The library's producer."""
    module: Any = importlib.import_module(f"benchmarks.contenders.tasks.with_{library[0]}")
    producer = cast("AbstractAsyncContextManager[Producer]", module.producer())
    async with producer as found:
        yield found


def call_of(index: int, settings: Settings) -> Call:
    """A task that does nothing, with as large a body as the settings say."""
    if settings.payload:
        return Call(tasks.WORK, {"index": index, "body": "x" * settings.payload})
    return Call(tasks.WORK, {"index": index})


async def enqueue(settings: Settings, measured: Measured) -> None:
    """Enqueue from so many callers for the settings' time, one task or one batch at a time."""
    async with opened() as producer:
        call = call_of(0, settings)
        size = BATCH if settings.way == "batch" else 1
        operation: Callable[[], Awaitable[object]]
        if settings.way == "batch":
            calls = [call] * BATCH

            def operation() -> Awaitable[object]:
                return producer.many(calls)
        else:

            def operation() -> Awaitable[object]:
                return producer.one(call)

        before = await contract.drive(operation, settings.callers, settings.warm_up)
        await contract.wait_for_go()
        with contract.region(measured):
            measured.operations = size * await contract.drive(
                operation, settings.callers, settings.seconds
            )
    measured.figures[Measure.QUEUED] = before * size + measured.operations


async def fill(settings: Settings, measured: Measured) -> None:
    """Enqueue so many tasks, as fast as the library can."""
    async with opened() as producer:
        await contract.wait_for_go()
        with contract.region(measured):
            calls = (call_of(index, settings) for index in range(settings.events))
            await enqueue_all(producer, calls)
    measured.operations = settings.events


async def enqueue_all(producer: Producer, calls: Iterator[Call]) -> None:
    """All of them, in batches or from many callers."""
    if hasattr(producer, "many"):
        while batch := list(itertools.islice(calls, BATCH)):
            await producer.many(batch)
        return

    async def caller() -> None:
        for call in calls:
            await producer.one(call)

    async with asyncio.TaskGroup() as group:
        for _ in range(FILLERS):
            group.create_task(caller())


async def schedule(settings: Settings, measured: Measured) -> None:
    """Enqueue so many tasks that are not due before tomorrow."""
    async with opened() as producer:
        await contract.wait_for_go()
        with contract.region(measured):
            for begin in range(0, settings.events, BATCH):
                end = min(begin + BATCH, settings.events)
                calls = [call_of(index, settings) for index in range(begin, end)]
                await producer.schedule(calls, DAY)
    measured.operations = settings.events


async def pace(settings: Settings, measured: Measured) -> None:
    """Enqueue tasks that carry the time of their own enqueuing, some milliseconds apart, once the worker answers."""
    async with opened() as producer:
        await producer.one(timed_call(0))
        await wait_first()
        # Load for a benchmark, nothing secret.
        pauses = random.Random(settings.seed)
        await contract.wait_for_go()
        with contract.region(measured):
            for index in range(1, settings.events + 1):
                await asyncio.sleep(settings.pause * pauses.uniform(0.5, 1.5))
                await producer.one(timed_call(index))
    measured.operations = settings.events


def timed_call(index: int) -> Call:
    """A task that is enqueued now."""
    return Call(tasks.TIMED, {"index": index, "sent": time.clock_gettime_ns(time.CLOCK_MONOTONIC)})


async def wait_first() -> None:
    """Return when the worker has run the first task."""
    async with asyncio.timeout(FIRST_SECONDS):
        while not tasks.JOURNAL.has_run(0):  # noqa: ASYNC110 - another process runs it
            await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    library.append(sys.argv.pop(1))
    contract.run({"enqueue": enqueue, "fill": fill, "schedule": schedule, "pace": pace})
