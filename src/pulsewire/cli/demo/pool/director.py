"""The course of the second act: starts nodes, dispatches jobs, kills one node, hires another one, ends the pool.

Decides nothing about right and wrong (`verdict.py`), keeps no counts (`progress.py`) and draws nothing (`view.py`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.abc

import pulsewire
from pulsewire.cli import failures
from pulsewire.cli.demo.crew import Crew, DemoFailed, Member
from pulsewire.cli.demo.patience import Patience
from pulsewire.cli.demo.pool.plan import PoolPlan
from pulsewire.cli.demo.pool.progress import NodeRow, PoolProgress, PoolSnapshot
from pulsewire.cli.demo.pool.role import POOL
from pulsewire.cli.demo.pool.verdict import PoolEvidence, PoolVerdict, judge_pool
from pulsewire.cli.demo.progress import Fate
from pulsewire.cli.demo.view import View
from pulsewire.pool import JobInfo, JobState, Node

__all__ = ["PoolDirector"]

_TICK = 0.1
"""Seconds between two looks at journals and processes."""
_ASK_EVERY = 0.3
"""Seconds between two questions to the pool."""


class PoolDirector:
    """Runs the second act once.

    Args:
        plan: The numbers.
        hub: In the namespace of this demo.
        crew: Starts the processes.
        node: Arguments of each node's command line.
    """

    def __init__(
        self, plan: PoolPlan, hub: pulsewire.Hub, crew: Crew, *, node: Sequence[str]
    ) -> None:
        self._plan = plan
        self._hub = hub
        self._crew = crew
        self._node_arguments = node
        self._progress = PoolProgress(plan.jobs)
        self._rng = random.Random(plan.seed)
        self._members: dict[int, Member] = {}
        self._wanted = [f"mailbox:{number:04}" for number in range(1, plan.jobs + 1)]
        self._failed: dict[str, str] = {}
        self._victim: int | None = None
        self._killed_at: float | None = None
        self._owners: dict[str, str] = {}
        self._asked_at = 0.0
        self._began = time.monotonic()
        self._patience = Patience(plan.patience)

    @property
    def elapsed(self) -> float:
        """Seconds since the act began."""
        return time.monotonic() - self._began

    @property
    def nodes(self) -> tuple[NodeRow, ...]:
        """What each node did."""
        return self._progress.rows()

    async def run(self, view: View[PoolSnapshot]) -> PoolVerdict:
        """Run the act to its end.

        Raises:
            DemoFailed: A process ended unexpectedly, or nothing went on for too long.
        """
        async with self._crew:
            self._tell("starting the nodes")
            for _ in range(self._plan.nodes):
                await self._hire()
            await self._until(view, self._have_all_arrived)
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
                await self._until(view, self._is_time_to_kill)
                await self._kill_one()
            await self._until(view, self._all_dispatched)
        await self._until(view, lambda: self._all_running(client))
        if self._killed_at is not None:
            self._tell(f"every job runs, {time.monotonic() - self._killed_at:.1f} s after the kill")
            await self._replace(view, client)
        before_end = {job.key: job.token for job in await client.jobs()}
        shutdown_at = time.monotonic()
        self._tell("the pool is shut down")
        await client.shutdown()
        await self._wait_stopped(view)
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

    def _tell(self, news: str) -> None:
        self._progress.tell(self.elapsed, news)

    async def _hire(self) -> int:
        number = len(self._members) + 1
        member = await self._crew.hire(f"node {number}", self._node_arguments)
        self._members[number] = member
        self._progress.add_node(number, member.pid)
        return number

    async def _until(self, view: View[PoolSnapshot], is_so: Callable[[], Awaitable[bool]]) -> None:
        """Look at everything, and show it, until something is so."""
        while True:
            self._read_journals()
            self._check_crew()
            self._check_progress()
            view.show(self._progress.snapshot(self.elapsed))
            if await is_so():
                return
            await anyio.sleep(_TICK)

    def _read_journals(self) -> None:
        for number, member in self._members.items():
            if number != self._victim:
                self._progress.from_node(number, member.journal.read_new())

    def _check_crew(self) -> None:
        for number, member in self._members.items():
            if member.exit_code is not None and number != self._victim:
                raise member.failure()

    def _check_progress(self) -> None:
        if self._patience.is_over(self._progress.step):
            shown = self._progress.snapshot(self.elapsed)
            raise DemoFailed(
                f"nothing went on for {self._plan.patience:.0f} s: started {shown.started:,}, "
                f"running {shown.running:,} of {self._plan.jobs:,} jobs"
            )

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

    # --- what is waited for

    async def _have_all_arrived(self) -> bool:
        return self._progress.have_all_arrived

    async def _is_time_to_kill(self) -> bool:
        return self._progress.started + len(self._failed) >= self._plan.killed_at

    async def _all_dispatched(self) -> bool:
        return self._progress.started + len(self._failed) == self._plan.jobs

    async def _ask(self, client: Node) -> Sequence[JobInfo] | None:
        """What the pool says of its jobs; None when it was asked just now."""
        if time.monotonic() - self._asked_at < _ASK_EVERY:
            return None
        jobs = await client.jobs()
        self._asked_at = time.monotonic()
        return jobs

    async def _all_running(self, client: Node) -> bool:
        jobs = await self._ask(client)
        if jobs is None:
            return False
        owners = {job.key: job.owner for job in jobs if job.state is JobState.RUNNING}
        is_settled = len(owners) == len(jobs) and owners == self._owners
        self._owners = owners
        snapshot = self._progress.snapshot(self.elapsed)
        return is_settled and snapshot.running == len(jobs)

    # --- turns of events

    async def _kill_one(self) -> None:
        working = [row.number for row in self._progress.rows() if row.fate is Fate.WORKING]
        busy = [number for number in working if self._progress.running_at(number)]
        victim = self._rng.choice(busy or working)
        member = self._members[victim]
        await member.kill()
        self._killed_at = time.monotonic()
        self._read_journals()  # its last lines, too
        self._victim = victim
        held = self._progress.died(victim, self._killed_at)
        self._tell(
            f"killed {member.title} (pid {member.pid}) with SIGKILL after "
            f"{self._progress.started:,} jobs had started; it ran {held:,}"
        )

    async def _replace(self, view: View[PoolSnapshot], client: Node) -> None:
        number = await self._hire()
        await self._until(view, self._have_all_arrived)
        self._tell(f"node {number} has joined, jobs that belong there are handed over")

        async def has_its_share() -> bool:
            is_settled = await self._all_running(client)
            return is_settled and self._has_moved(number)

        await self._until(view, has_its_share)
        self._tell(f"node {number} runs {self._progress.running_at(number):,} jobs")

    def _has_moved(self, number: int) -> bool:
        """Whether jobs went to a new node; of a few jobs, none may belong there."""
        return self._progress.running_at(number) > 0 or self._plan.jobs < 10 * self._plan.nodes

    async def _wait_stopped(self, view: View[PoolSnapshot]) -> None:
        for number, member in self._members.items():
            if number != self._victim:
                await member.wait_stopped()
                self._progress.set_fate(number, Fate.STOPPED)
        self._read_journals()
        view.show(self._progress.snapshot(self.elapsed))
