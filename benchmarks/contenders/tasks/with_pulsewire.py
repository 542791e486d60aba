"""pulsewire. The payload is the index, then the body or the time, as `go/asynq` writes it too.

This module is the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop

import pulsewire
from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call
from pulsewire.tasks import Mux, NewTask, Task, TaskClient


def payload_of(call: Call) -> str:
    """The arguments, separated by a space."""
    return " ".join(map(str, call.arguments.values()))


async def work(task: Task) -> None:
    """See `tasks`."""
    index, _, _ = task.payload.partition(b" ")
    tasks.work(int(index))


async def timed(task: Task) -> None:
    """See `tasks`."""
    index, sent = task.payload.split()
    tasks.timed(int(index), int(sent))


class Producer:
    """Enqueues tasks."""

    def __init__(self, client: TaskClient) -> None:
        self._client = client

    async def one(self, call: Call) -> object:
        """One task."""
        return await self._client.enqueue(call.name, payload_of(call))

    async def many(self, calls: Sequence[Call]) -> object:
        """A batch; a task that was not taken raises."""
        return await self._enqueue(
            [NewTask(type=call.name, payload=payload_of(call)) for call in calls]
        )

    async def schedule(self, calls: Sequence[Call], seconds: float) -> object:
        """A batch that is due only then."""
        return await self._enqueue(
            [
                NewTask(type=call.name, payload=payload_of(call), process_in=seconds)
                for call in calls
            ]
        )

    async def _enqueue(self, created: list[NewTask]) -> object:
        results = await self._client.enqueue_many(created)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    async with pulsewire.connect(tasks.URL) as hub:
        yield Producer(hub.tasks)


async def serve() -> None:
    """Run the worker until it is killed."""
    mux = Mux()
    mux.handle(tasks.WORK)(work)
    mux.handle(tasks.TIMED)(timed)
    async with (
        pulsewire.connect(tasks.URL) as hub,
        hub.task_server(mux, queues={tasks.QUEUE: 1}, concurrency=tasks.CONCURRENCY) as server,
    ):
        await server.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
