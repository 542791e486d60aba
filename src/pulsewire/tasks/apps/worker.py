"""A worker: what runs an app's tasks in one process, and how it is told to end.

It holds what was started together; the starting itself is `App.serve`. Several such processes are `supervisor.py`'s.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypedDict

import anyio

from pulsewire.tasks.serving.options import (
    Aggregator,
    ErrorHandler,
    HealthCheck,
    RetryDelay,
    ServerOptions,
)
from pulsewire.tasks.serving.order import check_queues
from pulsewire.tasks.serving.server import TaskServer

ENDING_MARGIN = 15.0
"""Seconds beyond `shutdown_timeout` that a worker process may take to end: tasks are handed back in them."""


class WorkerOptions(TypedDict, total=False):
    """How an app's worker runs tasks. See `ServerOptions` for what each option means."""

    queues: Mapping[str, int] | Iterable[str]
    strict: bool
    concurrency: int
    lease: float
    shutdown_timeout: float
    retry_delay: RetryDelay
    is_failure: Callable[[BaseException], bool]
    error_handler: ErrorHandler | None
    base_context: Callable[[], contextvars.Context] | None
    health_check: HealthCheck | None
    health_check_interval: float
    aggregator: Aggregator | None
    group_grace: float
    group_max_delay: float | None
    group_max_size: int | None
    forward_interval: float
    janitor_interval: float
    janitor_batch: int
    max_lost: int


def check_options(options: WorkerOptions) -> ServerOptions:
    """What a server will make of these options.

    Raises:
        TypeError: there is no such option.
        InvalidOption, InvalidName: one has an impossible value.
    """
    if "queues" in options:
        options = {**options, "queues": check_queues(options["queues"])}
    return ServerOptions(**options)  # type: ignore[arg-type]  # the queues are a mapping by now


class Worker:
    """Runs an app's tasks while the `async with` of `App.worker` or `App.serve` lasts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._server: TaskServer | None = None
        self._stopped = anyio.Event()

    def __repr__(self) -> str:
        return f"<Worker at {self.url} of {self._server!r}>"

    def run(self, server: TaskServer) -> None:
        """This server runs the tasks. `App.serve` says so."""
        self._server = server

    @property
    def server(self) -> TaskServer:
        """The server that runs the tasks."""
        if self._server is None:
            raise AssertionError("a worker that can be seen has its server")
        return self._server

    @property
    def queues(self) -> dict[str, int]:
        """The queues it takes tasks from, and their priorities."""
        return dict(self.server.options.queues)

    def stop_taking(self) -> None:
        """Take no new tasks; those that run go on, and so does the worker."""
        if self._server is not None:
            self._server.stop()

    def stop(self) -> None:
        """Take no new tasks, and have `wait` return."""
        self.stop_taking()
        self._stopped.set()

    async def wait(self) -> None:
        """Return when somebody has called `stop`."""
        await self._stopped.wait()


class Orders:
    """Signals as orders to a worker: SIGTERM and SIGINT end it, SIGTSTP has it take no new tasks.

    Attributes:
        worker: the one that obeys; None before there is one, and then an order to end cancels the beginning.
        scope: around the worker; cancelled by the second order to end, too.
    """

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.scope = anyio.CancelScope()
        self._is_ending = False

    @contextmanager
    def obeyed(self) -> Iterator[None]:
        """Listen to signals. For the main thread."""
        loop = asyncio.get_running_loop()
        actions = {signal.SIGTERM: self._end, signal.SIGINT: self._end, signal.SIGTSTP: self._pause}
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
        try:
            with self.scope:
                yield
        finally:
            for number in actions:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        if self.worker is None or self._is_ending:
            self.scope.cancel()
        else:
            self.worker.stop()
        self._is_ending = True

    def _pause(self) -> None:
        if self.worker is not None:
            self.worker.stop_taking()
