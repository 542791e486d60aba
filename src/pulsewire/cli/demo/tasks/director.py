"""The course of the third act: starts everybody, has tasks enqueued, kills one server, and waits until all is done.

Decides nothing about right and wrong (`verdict.py`), keeps no counts (`progress.py`) and draws nothing (`view.py`).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import anyio

import pulsewire
from pulsewire.cli.demo.crew import Crew, DemoFailed, Member
from pulsewire.cli.demo.patience import Patience
from pulsewire.cli.demo.progress import Fate
from pulsewire.cli.demo.tasks import clearing
from pulsewire.cli.demo.tasks.plan import TasksPlan
from pulsewire.cli.demo.tasks.progress import (
    QueueCounts,
    ServerRow,
    TasksProgress,
    TasksSnapshot,
)
from pulsewire.cli.demo.tasks.verdict import TasksEvidence, TasksVerdict, judge_tasks
from pulsewire.cli.demo.tasks.workload import QUEUES, orders
from pulsewire.cli.demo.view import View
from pulsewire.tasks import QueueInfo, TaskState

__all__ = ["TasksDirector"]

_TICK = 0.1
"""Seconds between two looks at journals and processes."""
_ASK_EVERY = 0.4
"""Seconds between two questions to the inspector."""
_PAGE = 500
_CLIENT = "client"
_SCHEDULERS = ("scheduler 1", "scheduler 2")


class TasksDirector:
    """Runs the third act once.

    Args:
        plan: The numbers.
        hub: In the namespace of this demo.
        crew: Starts the processes.
        client: Arguments of the client's command line.
        scheduler: Arguments of each scheduler's command line.
        server: Arguments of each server's command line.
    """

    def __init__(
        self,
        plan: TasksPlan,
        hub: pulsewire.Hub,
        crew: Crew,
        *,
        client: Sequence[str],
        scheduler: Sequence[str],
        server: Sequence[str],
    ) -> None:
        self._plan = plan
        self._hub = hub
        self._crew = crew
        self._client_arguments = client
        self._scheduler_arguments = scheduler
        self._server_arguments = server
        self._orders = orders(plan.tasks)
        self._progress = TasksProgress(self._orders)
        self._rng = random.Random(plan.seed)
        self._servers: dict[int, Member] = {}
        self._helpers: dict[str, Member] = {}
        self._victim: int | None = None
        self._killed_at: float | None = None
        self._ticking_from = 0.0
        self._ticking_until = 0.0
        self._asked_at = 0.0
        self._began = time.monotonic()
        self._patience = Patience(plan.patience)

    @property
    def elapsed(self) -> float:
        """Seconds since the act began."""
        return time.monotonic() - self._began

    @property
    def servers(self) -> tuple[ServerRow, ...]:
        """What each server did."""
        return self._progress.rows()

    async def run(self, view: View[TasksSnapshot]) -> TasksVerdict:
        """Run the act to its end.

        Raises:
            DemoFailed: A process ended unexpectedly, or nothing went on for too long.
        """
        async with self._crew:
            try:
                return await self._run(view)
            except BaseException:
                await self._crew.stop_all()  # a server that ends in order leaves less to clear up
                raise

    async def _run(self, view: View[TasksSnapshot]) -> TasksVerdict:
        await self._start(view)
        if self._plan.kill:
            await self._until(view, self._is_time_to_kill)
            await self._kill_one()
        await self._until(view, lambda: self._progress.is_all_done)
        self._tell("every task has succeeded, the schedulers end, then the servers")
        await self._stop_schedulers()
        await self._until(view, self._is_nothing_left)
        await self._stop_servers()
        await self._ask()
        view.show(self._progress.snapshot(self.elapsed))
        return judge_tasks(await self._evidence())

    def _tell(self, news: str) -> None:
        self._progress.tell(self.elapsed, news)

    # --- looking

    async def _until(self, view: View[TasksSnapshot], is_so: Callable[[], bool]) -> None:
        """Look at everything, and show it, until something is so."""
        while True:
            self._read_journals()
            self._check_crew()
            self._check_progress()
            if time.monotonic() - self._asked_at >= _ASK_EVERY:
                await self._ask()
            view.show(self._progress.snapshot(self.elapsed))
            if is_so():
                return
            await anyio.sleep(_TICK)

    def _read_journals(self) -> None:
        for title, member in self._helpers.items():
            self._progress.from_helper(title, member.journal.read_new())
        for number, member in self._servers.items():
            if number != self._victim:
                self._progress.from_server(number, member.journal.read_new())

    def _check_crew(self) -> None:
        for member in self._helpers.values():
            if member.exit_code:
                raise member.failure()
        for number, member in self._servers.items():
            if member.exit_code is not None and number != self._victim:
                raise member.failure()

    def _check_progress(self) -> None:
        if self._patience.is_over(self._progress.step):
            shown = self._progress.snapshot(self.elapsed)
            raise DemoFailed(
                f"nothing went on for {self._plan.patience:.0f} s: enqueued {shown.enqueued:,}, "
                f"succeeded {shown.succeeded:,} of {shown.wanted:,} tasks"
            )

    async def _ask(self) -> None:
        """Ask the inspector where the tasks are, and what the servers run."""
        for queue in QUEUES:
            info = await clearing.info_of(self._hub, queue)
            self._progress.set_counts(queue, QueueCounts() if info is None else _counts(info))
        self._progress.set_shown(
            {
                server.pid: Counter(worker.task_type for worker in server.workers)
                for server in await self._hub.tasks.inspector.servers()
            }
        )
        self._asked_at = time.monotonic()

    # --- what is waited for

    def _is_time_to_kill(self) -> bool:
        # A group that is being aggregated by a server when it dies comes back after two minutes, as with Go's
        # servers: longer than this act may take.
        progress = self._progress
        is_time = progress.succeeded >= self._plan.killed_at and progress.is_group_done
        return is_time and (progress.is_busy or progress.is_all_done)

    def _is_nothing_left(self) -> bool:
        return self._progress.to_do == 0

    # --- turns of events

    async def _start(self, view: View[TasksSnapshot]) -> None:
        self._tell("starting the processes")
        for number in range(1, self._plan.servers + 1):
            member = await self._crew.hire(f"server {number}", self._server_arguments)
            self._servers[number] = member
            self._progress.add_server(number, member.pid)
        for title in _SCHEDULERS:
            await self._hire_helper(title, self._scheduler_arguments)
        await self._hire_helper(_CLIENT, self._client_arguments)
        await self._until(view, lambda: self._progress.have_all_arrived)
        self._ticking_from = await self._hub.time()
        self._tell("all servers run, tasks are being enqueued")
        await self._helpers[_CLIENT].say_go()

    async def _hire_helper(self, title: str, arguments: Sequence[str]) -> None:
        self._helpers[title] = await self._crew.hire(title, arguments)
        self._progress.add_helper(title)

    async def _kill_one(self) -> None:
        working = [row.number for row in self._progress.rows() if row.fate is Fate.WORKING]
        busy = [number for number in working if self._progress.running_at(number)]
        victim = self._rng.choice(busy or working)
        member = self._servers[victim]
        await member.kill()
        self._killed_at = time.monotonic()
        self._read_journals()  # its last lines, too
        self._victim = victim
        held = self._progress.died(victim, self._killed_at)
        self._tell(
            f"killed {member.title} (pid {member.pid}) with SIGKILL after "
            f"{self._progress.succeeded:,} tasks had succeeded; it ran {held:,}"
        )

    async def _stop_schedulers(self) -> None:
        self._ticking_until = await self._hub.time()
        for title in _SCHEDULERS:
            self._helpers[title].ask_to_stop()
        for title in _SCHEDULERS:
            await self._helpers[title].wait_stopped()
        self._asked_at = 0.0  # what the inspector said before may not be so any more

    async def _stop_servers(self) -> None:
        working = {
            number: member for number, member in self._servers.items() if number != self._victim
        }
        for member in working.values():
            member.ask_to_stop()
        for number, member in working.items():
            await member.wait_stopped()
            self._progress.set_fate(number, Fate.STOPPED)
        await self._helpers[_CLIENT].wait_stopped()
        self._read_journals()  # once more: what they wrote while they ended counts too

    # --- the end

    async def _evidence(self) -> TasksEvidence:
        infos = {queue: await clearing.info_of(self._hub, queue) for queue in QUEUES}
        return TasksEvidence(
            orders=self._orders,
            enqueued=self._progress.enqueued,
            refused=self._progress.refused,
            attempts=self._progress.attempts,
            bundles=self._progress.bundles,
            fired=self._progress.fired,
            ticking_from=self._ticking_from,
            ticking_until=self._ticking_until,
            killed_at=self._killed_at,
            victim=self._victim,
            lease=self._plan.lease,
            kept=await self._kept(),
            left={
                queue: 0 if info is None else info.size - info.completed
                for queue, info in infos.items()
            },
        )

    async def _kept(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for queue in QUEUES:
            page, tasks = 1, None
            while tasks is None or len(tasks) == _PAGE:
                tasks = await self._hub.tasks.inspector.tasks(
                    queue, TaskState.COMPLETED, page=page, size=_PAGE
                )
                found |= {task.id: task.result.decode() for task in tasks}
                page += 1
        return found


def _counts(info: QueueInfo) -> QueueCounts:
    return QueueCounts(
        pending=info.pending,
        active=info.active,
        scheduled=info.scheduled,
        retry=info.retry,
        aggregating=info.aggregating + info.set_apart,
        archived=info.archived,
        completed=info.completed,
    )
