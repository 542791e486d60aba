"""The course of the act: starts everybody, has tasks enqueued, kills one server, and waits until all is done.

Decides nothing about right and wrong (`verdict.py`), keeps no counts (`progress.py`) and draws nothing (`view.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import pulsewire
from pulsewire.cli.demo import clearing
from pulsewire.cli.demo.crew import Crew
from pulsewire.cli.demo.director import Director
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.queue_counts import counts_of
from pulsewire.cli.demo.tasks.plan import TasksPlan
from pulsewire.cli.demo.tasks.progress import (
    ServerRow,
    TasksProgress,
    TasksSnapshot,
)
from pulsewire.cli.demo.tasks.verdict import TasksEvidence, TasksVerdict, judge_tasks
from pulsewire.cli.demo.tasks.workload import QUEUES, orders
from pulsewire.cli.demo.view import View
from pulsewire.tasks import TaskState

__all__ = ["TasksDirector"]

_ASK_EVERY = 0.4
"""Seconds between two questions to the inspector."""
_PAGE = 500
_CLIENT = "client"
_SCHEDULERS = ("scheduler 1", "scheduler 2")


class TasksDirector(Director[TasksProgress, TasksSnapshot, TasksVerdict]):
    """Runs the act once.

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
        wanted = orders(plan.tasks)
        super().__init__(plan, crew, TasksProgress(wanted), ask_every=_ASK_EVERY)
        self._plan = plan
        self._hub = hub
        self._client_arguments = client
        self._scheduler_arguments = scheduler
        self._server_arguments = server
        self._orders = wanted
        self._servers: dict[int, str] = {}
        self._victim: int | None = None
        self._killed_at: float | None = None
        self._ticking_from = 0.0
        self._ticking_until = 0.0

    @property
    def servers(self) -> tuple[ServerRow, ...]:
        """What each server did."""
        return self._progress.rows()

    async def _play(self, view: View[TasksSnapshot]) -> TasksVerdict:
        await self._start(view)
        if self._plan.kill:
            await self._until(view, self._is_time_to_kill)
            await self._kill_one()
        await self._until(view, lambda: self._progress.is_all_done)
        self._tell("every task has succeeded, the schedulers end, then the servers")
        await self._stop_schedulers()
        await self._until(view, lambda: self._progress.to_do == 0)
        await self._stop_servers()
        await self._ask_now()
        view.show(self._snapshot())
        return judge_tasks(await self._evidence())

    async def _break_off(self) -> None:
        await self._crew.stop_all()  # a server that ends in order leaves less to clear up

    def _snapshot(self) -> TasksSnapshot:
        return self._progress.snapshot(self.elapsed)

    def _stand(self) -> str:
        shown = self._snapshot()
        return (
            f"enqueued {shown.enqueued:,}, succeeded {shown.succeeded:,} of {shown.wanted:,} tasks"
        )

    async def _ask(self) -> None:
        """Ask the inspector where the tasks are, and what the servers run."""
        for queue in QUEUES:
            info = await clearing.info_of(self._hub, queue)
            self._progress.set_counts(queue, counts_of(info))
        self._progress.set_shown(
            {
                server.pid: Counter(worker.task_type for worker in server.workers)
                for server in await self._hub.tasks.inspector.servers()
            }
        )

    # --- turns of events

    def _is_time_to_kill(self) -> bool:
        # A group that is being aggregated by a server when it dies comes back after two minutes, as with Go's
        # servers: longer than this act may take.
        progress = self._progress
        is_time = progress.succeeded >= self._plan.killed_at and progress.is_group_done
        return is_time and (progress.is_busy or progress.is_all_done)

    async def _start(self, view: View[TasksSnapshot]) -> None:
        self._tell("starting the processes")
        for number in range(1, self._plan.servers + 1):
            self._servers[number] = title = f"server {number}"
            take = partial(self._progress.from_server, number)
            member = await self._hire(title, self._server_arguments, take)
            self._progress.add_server(number, member.pid)
        for title in _SCHEDULERS:
            await self._hire_helper(title, self._scheduler_arguments)
        await self._hire_helper(_CLIENT, self._client_arguments)
        await self._until(view, lambda: self._progress.have_all_arrived)
        self._ticking_from = await self._hub.time()
        self._tell("all servers run, tasks are being enqueued")
        await self._members[_CLIENT].say_go()

    async def _hire_helper(self, title: str, arguments: Sequence[str]) -> None:
        self._progress.add_helper(title)
        await self._hire(title, arguments, partial(self._progress.from_helper, title), may_end=True)

    async def _kill_one(self) -> None:
        working = [row.number for row in self._progress.rows() if row.fate is Fate.WORKING]
        busy = [number for number in working if self._progress.running_at(number)]
        self._victim = victim = self._rng.choice(busy or working)
        title = self._servers[victim]
        self._killed_at = await self._kill(title)
        held = self._progress.died(victim, self._killed_at)
        self._tell(
            f"killed {title} (pid {self._members[title].pid}) with SIGKILL after "
            f"{self._progress.succeeded:,} tasks had succeeded; it ran {held:,}"
        )

    async def _stop_schedulers(self) -> None:
        self._ticking_until = await self._hub.time()
        await self._stop(*_SCHEDULERS)
        await self._ask_now()  # what the inspector said before may not be so any more

    async def _stop_servers(self) -> None:
        await self._stop(*self._servers.values())
        await self._wait_stopped(_CLIENT)
        for number in self._servers:
            if number != self._victim:
                self._progress.set_fate(number, Fate.STOPPED)

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
