"""Types of the fixtures of task queues, a handler that remembers what it ran, and waiting for the states of tasks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import anyio

import pulsewire
from pulsewire.tasks.mux import Handler, Mux
from pulsewire.tasks.serving.server import TaskServer
from pulsewire.tasks.task import Task
from pulsewire.testing import wait_until
from tests.facts import PATIENCE

GetState = Callable[[], Awaitable[str]]


class MakeServer(Protocol):
    """Makes servers, not entered, of `hub` or of another one; quick in all that passes by itself."""

    def __call__(
        self,
        handler: Handler | Mux | None = ...,
        *,
        of: pulsewire.Hub | None = ...,
        **options: Any,
    ) -> TaskServer: ...


class Run(NamedTuple):
    """One attempt, as the handler has seen it begin."""

    id: str
    type: str
    payload: bytes
    queue: str
    retried: int


class Recorder:
    """A handler that remembers every attempt, and fails, waits or is slow as it is told to.

    Attributes:
        runs: every attempt, noted when it began.
        running: ids of the tasks that it runs now.
        most: how many it has run at a time.
        ended: id -> how its attempts have ended here: "returned", "raised" or "cancelled".
        tasks: the last task of each id.
    """

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.running: Counter[str] = Counter()
        self.most = 0
        self.ended: dict[str, list[str]] = {}
        self.tasks: dict[str, Task] = {}
        self._failures: dict[str, list[BaseException]] = {}
        self._held: dict[str, anyio.Event] = {}

    # --- how it shall behave; without an id, for all tasks

    def fail(self, *errors: BaseException, task: str = "") -> None:
        """Raise these, one at each attempt; the last one again and again."""
        self._failures[task] = list(errors)

    def succeed(self, *, task: str = "") -> None:
        """Raise no more."""
        self._failures.pop(task, None)

    def hold(self, *, task: str = "") -> None:
        """Do not return before `release`."""
        self._held[task] = anyio.Event()

    def release(self, *, task: str = "") -> None:
        """Let those that wait go on, and the following ones pass."""
        self._held.pop(task).set()

    # --- what it has seen

    @property
    def ids(self) -> list[str]:
        """The tasks of all attempts, in the order in which they began."""
        return [run.id for run in self.runs]

    def count(self, task: str) -> int:
        """How many attempts at this task have begun."""
        return self.ids.count(task)

    async def wait_runs(self, count: int, task: str = "") -> None:
        """Return when so many attempts have begun, at all tasks or at one."""
        await wait_until(
            lambda: (self.count(task) if task else len(self.runs)) >= count,
            timeout=PATIENCE,
            what=f"{count} attempts at {task or 'tasks'} have begun",
        )

    async def wait_ended(self, task: str, count: int = 1) -> None:
        """Return when so many attempts at a task have ended."""
        await wait_until(
            lambda: len(self.ended.get(task, [])) >= count,
            timeout=PATIENCE,
            what=f"{count} attempts at {task} have ended",
        )

    # --- the handler

    async def __call__(self, task: Task) -> None:
        """Run a task."""
        self.runs.append(Run(task.id, task.type, task.payload, task.queue, task.retried))
        self.tasks[task.id] = task
        self.running[task.id] += 1
        self.most = max(self.most, self.running.total())
        how = "cancelled"
        try:
            for which in (task.id, ""):
                while which in self._held:
                    await self._held[which].wait()
            for which in (task.id, ""):
                failures = self._failures.get(which)
                if failures:
                    how = "raised"
                    raise failures.pop(0) if len(failures) > 1 else failures[0]
            how = "returned"
        finally:
            self.running[task.id] -= 1
            self.ended.setdefault(task.id, []).append(how)


class Gate:
    """A plain function that blocks its thread until it is opened."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self._open = threading.Event()

    def __call__(self, task: Task) -> None:
        """Run a task."""
        self.entered.append(task.id)
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        """Let all pass."""
        self._open.set()
