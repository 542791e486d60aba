"""Handlers: what runs a job. An object with `start` and `stop`, or one coroutine function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from pulsewire.errors import InvalidOption, JobLost
from pulsewire.pool.wire import Order


class Job:
    """A job as its handler gets it.

    Attributes:
        key: its key.
        payload: what was dispatched.
        created_at: when, by the server's clock.
        token: fencing token: it grows each time the job gets another owner. Give it to whatever the job writes to, and
            have that refuse smaller ones.
        starts: how often the job was given to an owner; above 1 it may have been begun before.
    """

    __slots__ = ("_report", "created_at", "key", "payload", "starts", "token")

    def __init__(self, order: Order, report: Callable[[str | None], Awaitable[bool]]) -> None:
        self.key = order.key
        self.payload = order.payload
        self.created_at = datetime.fromtimestamp(order.created / 1000, UTC)
        self.token = order.epoch
        self.starts = order.starts
        self._report = report

    def __repr__(self) -> str:
        return f"<Job {self.key!r} token={self.token} starts={self.starts}>"

    async def heartbeat(self, progress: str | None = None) -> None:
        """Make sure that the job still belongs here, and note how far it has come.

        Raises:
            JobLost: it has another owner, or was stopped: stop working on it.
        """
        if not await self._report(progress):
            raise JobLost(self.key, self.token)


@runtime_checkable
class Handler(Protocol):
    """Runs jobs. `start` and `stop` return soon; what takes long goes on in the background in between.

    Both may be called again for a job that was begun before (`Job.starts`). A handler may also have
    `async def notify(self, key: str, payload: bytes) -> None`.
    """

    async def start(self, job: Job) -> None:
        """Begin the job. An exception refuses it: the dispatcher of a new job gets it as `JobStartFailed`."""
        ...

    async def stop(self, key: str) -> None:
        """End the job, before it goes elsewhere or for good."""
        ...


Run = Callable[[Job], Awaitable[None]]
"""A coroutine function that is the job: started as a task, cancelled to stop it, and it may return by itself."""


class Handling:
    """One handler, whichever form it has."""

    def __init__(self, handler: Handler | Run) -> None:
        """Look at a handler.

        Raises:
            InvalidOption: it is neither a coroutine function nor an object with `start` and `stop`.
        """
        self.run: Run | None = None
        self.object: Any = None
        if isinstance(handler, type):
            raise InvalidOption("handler", handler, "it is a class: make an object of it")
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004  # whether it is a coroutine, not whether it is there
        ):
            self.run = handler  # type: ignore[assignment]  # which iscoroutinefunction has just found out
            return
        for name in ("start", "stop"):
            if not inspect.iscoroutinefunction(getattr(handler, name, None)):
                reason = "use a coroutine function, or an object with `async def start(job)` and `async def stop(key)`"
                raise InvalidOption("handler", handler, reason)
        self.object = handler

    def __repr__(self) -> str:
        handler = self.run if self.run is not None else self.object
        return getattr(handler, "__qualname__", None) or type(handler).__name__

    @property
    def takes_notifications(self) -> bool:
        """Whether it has `notify`."""
        return self.object is not None and hasattr(self.object, "notify")
