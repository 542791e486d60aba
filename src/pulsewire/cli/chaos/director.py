"""The course of a run: workers, load, one fault after the other, and the waiting until all is done.

Decides nothing about right and wrong (`verdict.py`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import anyio

import pulsewire
from pulsewire.cli.chaos.faults import ON_EVERYBODY, Place, freeze
from pulsewire.cli.chaos.load import Load
from pulsewire.cli.chaos.plan import ChaosPlan, Weather
from pulsewire.cli.chaos.role import MAP, POOL
from pulsewire.cli.chaos.sightings import Held, Sightings, Strike
from pulsewire.cli.chaos.verdict import ChaosVerdict, judge
from pulsewire.cli.demo.crew import Crew, DemoFailed, Member
from pulsewire.cli.demo.patience import Patience
from pulsewire.testing import FaultProxy, SingleServer

__all__ = ["ChaosDirector"]

_TICK = 0.05
"""Seconds between two looks at journals and processes."""
_BETWEEN = 1.0
"""Seconds between two faults, at most."""
_LONGEST_FREEZE = 3.0
"""Leases."""


def _quiet() -> logging.Logger:
    """A logger for connections of which it is no news that they are lost."""
    logger = logging.getLogger("pulsewire.chaos")
    logger.setLevel(logging.ERROR)
    return logger


class ChaosDirector:
    """Runs it once.

    Args:
        plan: The numbers.
        server: What everybody uses.
        proxy: In front of it.
        crews: Start workers; each in its turn, one behind the proxy, one not.
        worker: Arguments of each worker's command line.
        tell: Called with what is worth a line, and the seconds since the start.
    """

    def __init__(
        self,
        plan: ChaosPlan,
        server: SingleServer,
        proxy: FaultProxy,
        crews: Sequence[Crew],
        *,
        worker: Sequence[str],
        tell: Callable[[float, str], None],
    ) -> None:
        self._plan = plan
        self._crews = crews
        self._worker_arguments = worker
        self._tell_line = tell
        self._rng = random.Random(plan.seed)
        self._place = Place(server, proxy, self._rng)
        self._sightings = Sightings()
        self._held = Held()
        self._workers: dict[int, Member] = {}
        self._strikes: list[Strike] = []
        self._began = time.monotonic()

    async def run(self) -> ChaosVerdict:
        """Run it to its end.

        Raises:
            DemoFailed: A worker ended by itself, or nothing went on for too long.
        """
        for _ in range(self._plan.workers):
            await self._hire()
        await self._until(lambda: len(self._sightings.arrived) == self._plan.workers, "arrive")
        async with (
            pulsewire.connect(self._place.proxy.url, logger=_quiet()) as hub,
            hub.map(MAP) as flags,
            hub.node(POOL, client_only=True, worker_ttl=self._plan.lease) as node,
        ):
            load = Load(hub, flags, node, random.Random(self._plan.seed))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(load.run)
                await self._until_works(load, time.monotonic())
                self._tell(f"{self._plan.workers} workers at work, the weather begins")
                await self._let_it_rain(load)
                load.stop()
            self._tell("the time is over, waiting until all is done")
            await self._until(lambda: self._is_all_done(load), "finish what was asked for")
            await load.finish()
            await self._until(lambda: self._is_everywhere(load.promises.final), "see the map")
            return judge(
                load.promises, self._sightings, self._strikes, recovery=self._plan.recovery
            )

    def _tell(self, news: str) -> None:
        self._tell_line(time.monotonic() - self._began, news)

    # --- workers

    async def _hire(self) -> None:
        number = len(self._workers) + 1
        crew = self._crews[number % len(self._crews)]
        self._workers[number] = await crew.hire(f"worker {number}", self._worker_arguments)

    async def _draw_worker(self) -> int:
        """One of those that are ready, all having arrived."""
        await self._until(
            lambda: self._workers.keys() - self._sightings.dead <= self._sightings.arrived, "arrive"
        )
        return self._rng.choice(sorted(self._sightings.alive))

    # --- looking

    async def _until(self, is_so: Callable[[], bool], what: str) -> None:
        patience = Patience(self._plan.patience)
        while True:
            self._look()
            if is_so():
                return
            if patience.is_over(self._sightings.step):
                raise DemoFailed(
                    f"nothing went on for {self._plan.patience:.0f} s; the workers did not {what}"
                )
            await anyio.sleep(_TICK)

    def _look(self) -> None:
        for number, member in self._workers.items():
            if number not in self._sightings.dead:
                self._sightings.take(number, member.journal.read_new())
                if member.exit_code is not None:
                    raise member.failure()

    async def _until_works(self, load: Load, since: float) -> float:
        """Wait until every block has done something that was asked for since, and what the dead had is taken over.

        Returns how many seconds that took.
        """

        def works() -> bool:
            promises, sightings = load.promises, self._sightings
            return (
                not promises.events.asked_after(since).isdisjoint(sightings.seen)
                and bool(promises.writes.asked_after(since))
                and not promises.jobs.asked_after(since).isdisjoint(sightings.begun())
                and not promises.tasks.asked_after(since).isdisjoint(sightings.done())
                and self._held.jobs & promises.due_jobs <= sightings.running()
                and self._held.tasks <= sightings.done()
            )

        await self._until(works, "do anything new")
        return time.monotonic() - since

    def _is_all_done(self, load: Load) -> bool:
        promises, sightings = load.promises, self._sightings
        return (
            promises.events.acknowledged.keys() <= sightings.seen.keys()
            and promises.tasks.acknowledged.keys() <= sightings.done()
            and promises.due_jobs <= sightings.running()
            and not promises.ended & sightings.running()
        )

    def _is_everywhere(self, final: str) -> bool:
        sightings = self._sightings
        return all(sightings.finals.get(worker) == final for worker in sightings.alive)

    # --- the weather

    async def _let_it_rain(self, load: Load) -> None:
        ends, order, number = time.monotonic() + self._plan.seconds, self._plan.order(), 0
        while time.monotonic() < ends:
            await anyio.sleep(self._rng.uniform(0.1, _BETWEEN))
            strike, news = await self._blow(order[number % len(order)])
            self._strikes.append(strike)
            recovered = await self._until_works(load, strike.end)
            self._strikes[-1] = replace(strike, recovered=recovered)
            self._tell(f"{news}; all worked again {recovered:.2f} s later")
            number += 1

    async def _blow(self, what: Weather) -> tuple[Strike, str]:
        begin, worker = time.monotonic(), None
        if what is Weather.KILL:
            worker, news = await self._kill()
        elif what is Weather.FREEZE:
            worker, news = await self._freeze()
        else:
            news = await ON_EVERYBODY[what](self._place)
        return Strike(what=what, worker=worker, begin=begin, end=time.monotonic()), news

    async def _kill(self) -> tuple[int, str]:
        number = await self._draw_worker()
        member = self._workers[number]
        await member.kill()
        self._sightings.take(number, member.journal.read_new())  # its last lines, too
        self._held = self._sightings.died(number, time.monotonic())
        await self._hire()
        held = len(self._held.jobs) + len(self._held.tasks)
        return number, f"killed worker {number} (pid {member.pid}), which ran {held} jobs and tasks"

    async def _freeze(self) -> tuple[int, str]:
        number = await self._draw_worker()
        seconds = self._rng.uniform(0.5, _LONGEST_FREEZE) * self._plan.lease
        await freeze(self._workers[number], seconds)
        return number, f"froze worker {number} for {seconds:.1f} s"
