"""A task as its handler gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Protocol

from pulsewire.tasks.messages import TaskRecord
from pulsewire.tasks.wire import NO_HEADERS, moment

_CURRENT: ContextVar[Task] = ContextVar("pulsewire_task")


class Keeper(Protocol):
    """Keeps results."""

    async def write_result(self, task_id: str, result: bytes) -> None:
        """Keep the result of a task."""
        ...


class Task:
    """A task that is being run. Handlers get it as their argument, and everything they call from `current_task()`.

    Attributes:
        is_cancelled: whether it was cancelled; for handlers that run in threads, which cannot be ended from outside.
        in_thread: a future, done once the thread that runs the handler has returned; None for coroutine handlers.
    """

    __slots__ = ("_deadline", "_keeper", "_message", "in_thread", "is_cancelled")

    def __init__(
        self, message: TaskRecord, deadline: float = 0.0, keeper: Keeper | None = None
    ) -> None:
        self._message = message
        self._deadline = deadline  # Unix seconds
        self._keeper = keeper
        self.is_cancelled = False
        self.in_thread: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Task {self.type} {self.id} of queue {self.queue!r} retried={self.retried}>"

    @property
    def id(self) -> str:
        """Unique within its queue."""
        return str(self._message.id)

    @property
    def type(self) -> str:
        """What kind of work it is."""
        return str(self._message.type)

    @property
    def payload(self) -> bytes:
        """What was enqueued."""
        return bytes(self._message.payload)

    @property
    def headers(self) -> Mapping[str, str]:
        """Text that came with it."""
        headers = self._message.headers
        return dict(headers) if headers else NO_HEADERS

    @property
    def queue(self) -> str:
        """Where it was enqueued."""
        return str(self._message.queue)

    @property
    def deadline(self) -> datetime | None:
        """When the attempt is cancelled."""
        return moment(self._deadline)

    @property
    def max_retry(self) -> int:
        """How often it is tried again."""
        return int(self._message.retry)

    @property
    def retried(self) -> int:
        """How often it has failed before."""
        return int(self._message.retried)

    @property
    def last_error(self) -> str:
        """Why it failed last."""
        return str(self._message.error_msg)

    @property
    def last_failed_at(self) -> datetime | None:
        """When it failed last."""
        return moment(self._message.last_failed_at)

    @property
    def timeout(self) -> float:
        """Seconds that an attempt may take; 0 for no limit of its own."""
        return float(self._message.timeout)

    @property
    def retention(self) -> float:
        """Seconds for which it, and its result, is kept after it has succeeded."""
        return float(self._message.retention)

    @property
    def group(self) -> str:
        """The group it was enqueued with."""
        return str(self._message.group_key)

    async def write_result(self, result: bytes | str) -> None:
        """Keep a result with the task. It can be looked at as long as the task is kept (`retention`).

        Raises:
            TaskLeaseLost: the task is no longer this server's.
            ServerUnavailable, ServerFull: not now.
        """
        if self._keeper is None:
            raise AssertionError("only a task that is being run has a result")
        data = result.encode() if isinstance(result, str) else bytes(result)
        await self._keeper.write_result(self.id, data)


def current_task() -> Task:
    """The task that is being run here.

    Raises:
        LookupError: no task is.
    """
    return _CURRENT.get()


def set_current(task: Task) -> None:
    """Note which task this context runs."""
    _CURRENT.set(task)
