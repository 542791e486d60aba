"""One queue as one server knows it, and the attempts at its tasks."""

from __future__ import annotations

import asyncio
import contextlib

from pulsewire._core.loops import PASSING, Stop
from pulsewire._redis.blocking import BlockingConnection
from pulsewire._redis.link import Link
from pulsewire.errors import TaskError, TaskLeaseLost
from pulsewire.tasks.keys import QueueKeys
from pulsewire.tasks.messages import TaskRecord
from pulsewire.tasks.store import QueueStore
from pulsewire.tasks.task import Task


class HandedBack(TaskError):
    """The server ends: the task goes back to its queue."""


class Attempt:
    """One try of one task.

    Attributes:
        renewed_at: when the request that renewed its lease last was sent, monotonic; written by the lease thread.
        began: when its handler began, monotonic.
        reason: why it was cancelled, if it was.
        error: what its handler raised, if it did.
        lost: how often its server died while it had the task.
        is_alone: nothing else runs beside it, because of that.
    """

    __slots__ = (
        "began",
        "deadline",
        "error",
        "has_begun",
        "is_alone",
        "is_over",
        "lost",
        "message",
        "place",
        "reason",
        "renewed_at",
        "runner",
        "task",
        "task_id",
        "waited",
    )

    def __init__(
        self, place: QueuePlace, task_id: str, message: TaskRecord, taken_at: float
    ) -> None:
        self.place = place
        self.task_id = task_id
        self.message = message
        self.renewed_at = taken_at
        self.task: Task | None = None
        self.runner: asyncio.Task[None] | None = None
        self.began = 0.0
        self.waited = 0.0
        self.lost = 0
        self.deadline = 0.0
        self.reason: TaskError | None = None
        self.error: BaseException | None = None
        self.has_begun = False
        self.is_alone = False
        self.is_over = False


class QueuePlace:
    """One queue as one server knows it.

    Attributes:
        held: the tasks that this server has made active and not settled yet; the lease thread reads it.
        may_have_tasks: False once it was found empty or paused, until somebody finds out otherwise.
    """

    def __init__(self, link: Link, keys: QueueKeys, owner: str) -> None:
        self.name = keys.name
        self.keys = keys
        self.store = QueueStore(link, keys)
        self.held: dict[str, Attempt] = {}
        self.may_have_tasks = True
        self.is_paused = False
        self.dry = Stop()
        self.waiter = BlockingConnection(link, keys.pending)
        self._owner = owner

    def found_dry(self, *, is_paused: bool) -> None:
        """It gave fewer tasks than it was asked for."""
        self.may_have_tasks = False
        self.is_paused = is_paused
        self.dry.set()

    def found_filled(self) -> None:
        """It has tasks, or may have."""
        self.may_have_tasks = True
        self.dry = Stop()

    def let_go(self, attempt: Attempt) -> None:
        """It is settled; a later attempt at the same task stays held."""
        if self.held.get(attempt.task_id) is attempt:
            del self.held[attempt.task_id]

    async def note_alone(self, task_id: str) -> None:
        """A task whose servers died is about to run alone. Where that cannot be noted, it is not taken for the reason.

        Raises:
            TaskLeaseLost: it is not this server's any more.
        """
        with contextlib.suppress(*PASSING):
            if not await self.store.note_alone(self._owner, task_id):
                raise TaskLeaseLost

    async def write_result(self, task_id: str, result: bytes) -> None:
        """See `Task.write_result`."""
        if not await self.store.write_result(self._owner, task_id, result):
            raise TaskLeaseLost
