"""How much less all four blocks get done while somebody flushes the script cache again and again.

Measured in one run, with and without by turns, by callers that never pause: whatever else the machine does meanwhile
meets both alike. There is no short form, since it would say something of the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

import pulsewire
from pulsewire.pool import Job, Node
from pulsewire.tasks import Task
from pulsewire.testing import SingleServer
from tests.weather.report import Tally, note_fact
from tests.weather.seeds import LONG, seconds_of

pytestmark = [pytest.mark.weather, *LONG]

CALLERS = 4
"""For each block."""
FLUSHED_FOR = seconds_of(60.0)
WARM_UP = 5.0
TURN = 1.0
"""Seconds with, and as many without."""
EVERY = 0.1
LEAST = 0.5
"""Which part of its work each block must get done all the same: the promise."""


class Work:
    """All four blocks, as quick as they can.

    Attributes:
        done: how much, by block: events and tasks that were handled, writes, jobs that were begun and ended.
    """

    def __init__(self, hub: pulsewire.Hub) -> None:
        self.done: Counter[str] = Counter()
        self._hub = hub
        self._stream = hub.stream("events")
        self._map = hub.map("counts")
        self._number = 0

    async def _keep(self, step: Callable[[int], Awaitable[None]]) -> None:
        while True:
            self._number += 1
            await step(self._number)

    async def _add(self, number: int) -> None:
        await self._stream.add("counted", b"", idempotency_key=str(number))  # by a script

    async def _handle(self, event: pulsewire.Event[bytes]) -> None:
        self.done["streams"] += 1

    async def _write(self, number: int) -> None:
        await self._map.inc("written")
        self.done["maps"] += 1

    async def _dispatch(self, node: Node, number: int) -> None:
        await node.dispatch(str(number))
        await node.stop_job(str(number))
        self.done["pools"] += 1

    async def _enqueue(self, number: int) -> None:
        await self._hub.tasks.enqueue("count")

    async def _run(self, task: Task) -> None:
        self.done["tasks"] += 1

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Have it done meanwhile."""
        async with (
            self._map,
            self._hub.node("jobs") as node,
            self._stream.sink("counters") as sink,
            self._hub.task_server(self._run),
            anyio.create_task_group() as tasks,
        ):
            await node.add_worker(run_for_ever)
            tasks.start_soon(sink.consume, self._handle)

            async def dispatch(number: int) -> None:
                await self._dispatch(node, number)

            for _ in range(CALLERS):
                for step in (self._add, self._write, dispatch, self._enqueue):
                    tasks.start_soon(self._keep, step)
            yield
            tasks.cancel_scope.cancel()


async def run_for_ever(job: Job) -> None:
    """A job."""
    await anyio.sleep_forever()


async def flush(server: SingleServer, flushes: list[float]) -> None:
    """SCRIPT FLUSH again and again, until cancelled."""
    async with server.connection() as connection:
        while True:
            await connection.command("SCRIPT", "FLUSH")
            flushes.append(anyio.current_time())
            await anyio.sleep(EVERY)


async def test_half_of_the_work_is_done_while_scripts_are_flushed(
    fresh_server: SingleServer,
) -> None:
    """At least, by each block, and without an error (F16)."""
    calm: Counter[str] = Counter()
    flushed: Counter[str] = Counter()
    flushes: list[float] = []
    async with pulsewire.connect(fresh_server.url) as hub:
        work = Work(hub)
        async with work.going_on():
            await anyio.sleep(WARM_UP)
            for _ in range(round(FLUSHED_FOR / TURN)):
                before = work.done.copy()
                await anyio.sleep(TURN)
                calm += work.done - before
                before = work.done.copy()
                async with anyio.create_task_group() as flushing:
                    flushing.start_soon(flush, fresh_server, flushes)
                    await anyio.sleep(TURN)
                    flushing.cancel_scope.cancel()
                flushed += work.done - before
    shares = {block: round(flushed[block] / calm[block], 2) for block in sorted(calm)}
    for block, share in shares.items():
        facts: dict[str, object] = {"share": share, "flushes": len(flushes)}
        is_slow = int(share < LEAST)
        tally = Tally(block=block, tries=len(flushes), acts=flushed[block], wrong=is_slow)
        note_fact(f"{block}: share of the work done under SCRIPT FLUSH", facts, tally)
    assert set(shares) == {"streams", "maps", "pools", "tasks"}
    assert min(shares.values()) >= LEAST, shares
