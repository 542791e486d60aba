"""repid, on uvloop as in its own benchmarks. It has no command of its own: this module is the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import uvloop
from repid import RedisServer, Repid, Router

from benchmarks.contenders.tasks import work as tasks
from benchmarks.contenders.tasks.work import Call

SERVER: Final = RedisServer(tasks.URL, batch_size=tasks.CONCURRENCY)
APP: Final = Repid(title="bench", version="1.0.0")
APP.servers.register_server("default", SERVER, is_default=True)
ROUTER: Final = Router()


async def work(index: int, body: str = "") -> None:
    """See `tasks`."""
    tasks.work(index, body)


async def timed(index: int, sent: int) -> None:
    """See `tasks`."""
    tasks.timed(index, sent)


ROUTER.actor(work)
ROUTER.actor(timed)
APP.include_router(ROUTER)


class Producer:
    """Sends messages."""

    async def one(self, call: Call) -> object:
        """One message."""
        return await APP.send_message_json(
            channel=tasks.QUEUE, payload=call.arguments, headers={"topic": call.name}
        )


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    """A connected producer."""
    async with SERVER.connection():
        yield Producer()


async def serve() -> None:
    """Run the worker until it is killed."""
    async with SERVER.connection():
        await APP.run_worker(tasks_limit=tasks.CONCURRENCY)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
