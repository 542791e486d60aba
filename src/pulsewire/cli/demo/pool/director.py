"""The course of the act: starts nodes, dispatches jobs, kills one node, hires another one, ends the pool.

Decides nothing about right and wrong (`verdict.py`), keeps no counts (`progress.py`) and draws nothing (`view.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import anyio.abc

import pulsewire
from pulsewire.cli import failures
from pulsewire.cli.demo.crew import Crew
from pulsewire.cli.demo.director import Director
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.pool.plan import PoolPlan
from pulsewire.cli.demo.pool.progress import NodeRow, PoolProgress, PoolSnapshot
from pulsewire.cli.demo.pool.role import POOL
from pulsewire.cli.demo.pool.verdict import PoolEvidence, PoolVerdict, judge_pool
from pulsewire.cli.demo.view import View
from pulsewire.pool import JobState, Node

__all__ = ["PoolDirector"]

_LOOK_EVERY = 0.3
"""Seconds between two looks whether every job runs."""


class PoolDirector(Director[PoolProgress, PoolSnapshot, PoolVerdict]):
    """Runs the act once.

    Args:
        plan: The numbers.
        hub: In the namespace of this demo.
        crew: Starts the processes.
        node: Arguments of each node's command line.
    """

    def __init__(
        self, plan: PoolPlan, hub: pulsewire.Hub, crew: Crew, *, node: Sequence[str]
    ) -> None:
        super().__init__(plan, crew, PoolProgress(plan.jobs), ask_every=_LOOK_EVERY)
        self._plan = plan
        self._hub = hub
        self._node_arguments = node
        self._nodes: dict[int, str] = {}
        self._wanted = [f"mailbox:{number:04}" for number in range(1, plan.jobs + 1)]
        self._failed: dict[str, str] = {}
        self._victim: int | None = None
        self._killed_at: float | None = None
        self._owners: dict[str, str] = {}

    @property
    def nodes(self) -> tuple[NodeRow, ...]:
        """What each node did."""
        return self._progress.rows()

    async def _play(self, view: View[PoolSnapshot]) -> PoolVerdict:
        self._tell("starting the nodes")
        for _ in range(self._plan.nodes):
            await self._hire_node()
        await self._until(view, lambda: self._progress.have_all_arrived)
        async with self._hub.node(POOL, client_only=True) as client:
            try:
                return await self._run_jobs(view, client)
            except BaseExceptionGroup as group:
                raise failures.sole_error(group) from None

    async def _run_jobs(self, view: View[PoolSnapshot], client: Node) -> PoolVerdict:
        async with anyio.create_task_group() as tasks:
            self._tell("all nodes have joined, jobs are being dispatched")
            tasks.start_soon(self._dispatch_all, client, tasks)
            if self._plan.kill:
                await self._until(view, lambda: self._settled >= self._plan.killed_at)
                await self._kill_one()
            await self._until(view, lambda: self._settled == self._plan.jobs)
        await self._wait_all_run(view, client)
        if self._killed_at is not None:
            self._tell(f"every job runs, {time.monotonic() - self._killed_at:.1f} s after the kill")
            await self._replace(view, client)
        before_end = {job.key: job.token for job in await client.jobs()}
        shutdown_at = time.monotonic()
        self._tell("the pool is shut down")
        await client.shutdown()
        await self._end(view)
        return judge_pool(
            PoolEvidence(
                wanted=self._wanted,
                failed=self._failed,
                runs=self._progress.runs,
                killed_at=self._killed_at,
                victim=self._victim,
                before_end=before_end,
                shutdown_at=shutdown_at,
                left=[job.key for job in await client.jobs()],
            )
        )

    def _snapshot(self) -> PoolSnapshot:
        return self._progress.snapshot(self.elapsed)

    def _stand(self) -> str:
        shown = self._snapshot()
        return f"started {shown.started:,}, running {shown.running:,} of {self._plan.jobs:,} jobs"

    # --- dispatching

    async def _dispatch_all(self, client: Node, tasks: anyio.abc.TaskGroup) -> None:
        began = time.monotonic()
        for number, key in enumerate(self._wanted):
            await anyio.sleep(max(began + number / self._plan.rate - time.monotonic(), 0))
            tasks.start_soon(self._dispatch, client, key)

    async def _dispatch(self, client: Node, key: str) -> None:
        try:
            await client.dispatch(key, b"")
        except pulsewire.PulsewireError as error:
            self._failed[key] = str(error)
        else:
            self._progress.started += 1

    @property
    def _settled(self) -> int:
        """Jobs of which it is known whether they have started."""
        return self._progress.started + len(self._failed)

    # --- turns of events

    async def _hire_node(self) -> int:
        number = len(self._nodes) + 1
        self._nodes[number] = title = f"node {number}"
        take = partial(self._progress.from_node, number)
        member = await self._hire(title, self._node_arguments, take)
        self._progress.add_node(number, member.pid)
        return number

    async def _wait_all_run(
        self, view: View[PoolSnapshot], client: Node, is_so: Callable[[], bool] = lambda: True
    ) -> None:
        """Wait until every job runs where it did at the last look, and something else is so."""
        while True:
            jobs = await client.jobs()
            owners = {job.key: job.owner for job in jobs if job.state is JobState.RUNNING}
            is_settled = len(owners) == len(jobs) and owners == self._owners
            self._owners = owners
            if is_settled and self._snapshot().running == len(jobs) and is_so():
                return
            await self._pause(view)

    async def _pause(self, view: View[PoolSnapshot]) -> None:
        until = time.monotonic() + _LOOK_EVERY
        await self._until(view, lambda: time.monotonic() >= until)

    async def _kill_one(self) -> None:
        working = [row.number for row in self._progress.rows() if row.fate is Fate.WORKING]
        busy = [number for number in working if self._progress.running_at(number)]
        self._victim = victim = self._rng.choice(busy or working)
        title = self._nodes[victim]
        self._killed_at = await self._kill(title)
        held = self._progress.died(victim, self._killed_at)
        self._tell(
            f"killed {title} (pid {self._members[title].pid}) with SIGKILL after "
            f"{self._progress.started:,} jobs had started; it ran {held:,}"
        )

    async def _replace(self, view: View[PoolSnapshot], client: Node) -> None:
        number = await self._hire_node()
        await self._until(view, lambda: self._progress.have_all_arrived)
        self._tell(f"node {number} has joined, jobs that belong there are handed over")
        await self._wait_all_run(view, client, lambda: self._has_moved(number))
        self._tell(f"node {number} runs {self._progress.running_at(number):,} jobs")

    def _has_moved(self, number: int) -> bool:
        """Whether jobs went to a new node; of a few jobs, none may belong there."""
        return self._progress.running_at(number) > 0 or self._plan.jobs < 10 * self._plan.nodes

    async def _end(self, view: View[PoolSnapshot]) -> None:
        await self._wait_stopped(*self._nodes.values())
        for number in self._nodes:
            if number != self._victim:
                self._progress.set_fate(number, Fate.STOPPED)
        view.show(self._snapshot())
