"""All four blocks at one server, in one process, under steady load: what befalls the server meets all of them at once.

Responsible for putting the stations together, for waiting until each block works again, and for the judgement of all of
them. What befalls the server is the business of the tests.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from pulsewire.testing import Topology, wait_until
from tests.weather.journal import FOR_EVER
from tests.weather.ledger import Ledger
from tests.weather.map_station import MapStation, map_station
from tests.weather.pool_station import ALLOWANCE, PoolStation, pool_station
from tests.weather.pool_station import tally_of as pool_tally
from tests.weather.report import Tally, note, note_fact
from tests.weather.task_ledger import Fault
from tests.weather.task_station import LEASE, TaskStation, task_station
from tests.weather.task_station import tally_of as task_tally
from tests.weather.traffic import Traffic, content_of

INNER = 2
"""Nodes, and task servers."""
JOBS = 10
RECOVERED = 30.0
"""Seconds for which a recovery is waited for at all."""


@dataclass(slots=True)
class House:
    """The four blocks.

    Attributes:
        recoveries: block -> seconds from the server being there again until it worked, each time.
        has_lost_data: the server has lost what it had acknowledged, as the test meant it.
        has_failed_over: readers may see twice what they had seen.
    """

    topology: Topology
    streams: Traffic
    maps: MapStation
    pool: PoolStation
    tasks: TaskStation
    random: random.Random
    lease: float
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    has_lost_data: bool = False
    has_failed_over: bool = False

    # --- what befalls it

    def strike(self, *, loses: float | None = 0.0) -> Callable[[], float]:
        """Something begins that no server can be expected to go on through; call what is returned when it ends.

        Args:
            loses: seconds of what was acknowledged that the server may lose by it; None is all.
        """
        began = time.monotonic()
        if loses != 0.0:
            self.maps.writers.may_vanish = self.pool.may_vanish = self.has_lost_data = True
        fault: Fault = self.tasks.ledger.strike("outage")

        def ends() -> float:
            fault.end = time.monotonic()
            if loses != 0.0:
                self._forgive(0.0 if loses is None else began - loses)
            self.pool.ledger.outages.append((began, fault.end))
            # claims of what was under way come up to the grace later
            self.streams.ledger.faults.append((began, fault.end + 2 * self.streams.ack_grace))
            return fault.end

        return ends

    def _forgive(self, begin: float) -> None:
        """What was asked for between then and now may be gone."""
        span = (begin, time.monotonic())
        for ledger in (self.streams.ledger, self.pool.ledger, self.tasks.ledger):
            ledger.forgiven.append(span)
        self.streams.ledger.faults.append((0.0, FOR_EVER))

    # --- whether it works

    async def go_on(self, there_again: float) -> None:
        """Wait until each block has done something new since then, and note how long that took."""

        async def measure(block: str, works: Callable[[], Awaitable[object]]) -> None:
            await works()
            self.recoveries.setdefault(block, []).append(time.monotonic() - there_again)

        async def map_converges() -> None:
            await self.maps.converge(there_again)
            self.recoveries.setdefault("maps", []).append(self.maps.delays[-1])

        self.streams.ledger.forget_delays()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(measure, "streams", self._events_flow)
            tasks.start_soon(map_converges)
            tasks.start_soon(measure, "pools", self._job_starts)
            tasks.start_soon(measure, "tasks", self._task_ends)

    async def _events_flow(self) -> None:
        await self.streams.wait_flowing(timeout=RECOVERED)

    async def _job_starts(self) -> None:
        ledger = self.pool.ledger

        async def has_started() -> bool:
            key = await self.pool.dispatch()
            return key in ledger.dispatched and key in ledger.running()

        await wait_until(has_started, timeout=RECOVERED, what="a new job runs")

    async def _task_ends(self) -> None:
        ledger, ids = self.tasks.ledger, list[str]()

        async def is_enqueued() -> bool:
            ids.append(await self.tasks.enqueue())
            return ids[-1] in ledger.acknowledged

        await wait_until(is_enqueued, timeout=RECOVERED, what="a new task is enqueued")
        await wait_until(
            lambda: ledger.ended_well(ids[-1:]), timeout=RECOVERED, what="a new task ends well"
        )

    async def pause(self) -> None:
        """Ask for nothing more; returns when nothing is under way."""
        await self.streams.pause()
        await self.pool.pause()
        await self.tasks.pause()
        await self.maps.writers.pause()

    def resume(self) -> None:
        """Ask again."""
        self.streams.go_on()
        self.pool.go_on()
        self.tasks.go_on()
        self.maps.writers.go_on()

    # --- the judgement

    async def judge(self, name: str, *, tries: int, is_spoilt: bool = False) -> None:
        """Wait until all is done, say what became of it, and hold it against what was promised."""
        await self._judge_streams(name)
        await self._judge_pool(name, tries)
        await self._judge_tasks(name, tries, is_spoilt=is_spoilt)
        if self.has_lost_data:
            tally = Tally(
                block="maps",
                tries=self._tries("maps", tries),
                acts=self.maps.writers.book.counted,
                recoveries=self.recoveries.get("maps", ()),
            )
            note_fact(f"maps: {name}", {}, tally)
        else:
            await self.maps.judge(name, RECOVERED)

    def _tries(self, block: str, tries: int) -> int:
        """How often it was waited for this block to work again; else how often something happened."""
        return len(self.recoveries.get(block, ())) or tries

    async def _judge_streams(self, name: str) -> None:
        traffic = self.streams
        await traffic.wait_done()
        await traffic.wait_acked()
        content = {
            stream.name: await content_of(await self.topology.node_of(stream.key), stream)
            for stream in traffic.streams()
        }
        verdict = traffic.ledger.judge(content)
        note(name, self.recoveries.get("streams", ()), [verdict])
        verdict.assert_clean(
            may_vanish=self.has_lost_data, may_see_twice=self.has_lost_data or self.has_failed_over
        )

    async def _judge_pool(self, name: str, tries: int) -> None:
        await self.pool.pause()
        verdict = await self.pool.judge(self.lease + ALLOWANCE)
        tally = pool_tally(verdict, self._tries("pools", tries), self.recoveries.get("pools", ()))
        note_fact(f"pools: {name}", {"gone": len(self.pool.ledger.gone())}, tally)
        verdict.assert_clean()

    async def _judge_tasks(self, name: str, tries: int, *, is_spoilt: bool) -> None:
        await self.tasks.pause()
        verdict, _ = await self.tasks.judge(is_spoilt=is_spoilt)
        tally = task_tally(verdict, self._tries("tasks", tries), self.recoveries.get("tasks", ()))
        note_fact(f"tasks: {name}", {"gone": len(self.tasks.ledger.gone())}, tally)
        verdict.assert_clean()


@asynccontextmanager
async def house(
    topology: Topology,
    folder: Path,
    *,
    seed: int,
    url: str = "",
    namespace: str = "",
    lease: float = LEASE,
) -> AsyncIterator[House]:
    """The four blocks at `url`, or at the topology itself, with load that flows."""
    folder.mkdir(exist_ok=True)
    url = url or topology.url
    traffic = Traffic(Ledger(), pause=0.1, producers=1)
    async with (
        traffic.running(url, namespace),
        map_station(topology, url, namespace, seed, pause=0.1) as maps,
        pool_station(
            url,
            folder / "pool",
            seed=seed,
            nodes=0,
            jobs=0,
            namespace=namespace,
            node={"worker_ttl": lease},
        ) as pool,
        task_station(topology, folder / "tasks", seed=seed, url=url, namespace=namespace) as tasks,
    ):
        for _ in range(INNER):
            await pool.start_inner(workers=INNER)
            await tasks.start_inner(lease=lease)
        await pool.wait_known()
        await pool.dispatch_many(JOBS)
        built = House(topology, traffic, maps, pool, tasks, random.Random(seed), lease)
        async with pool.traffic(pause=0.3), tasks.traffic(producers=2, pause=0.1):
            yield built
