"""`pulsewire worker module:app`: runs the tasks of an app, in this process or in several that are looked after.

With `--processes` this process runs no tasks itself: it starts as many of the same command without that option, and
keeps them running (`pulsewire.tasks.supervise`). With `--health-port` each process that runs tasks says how it is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, cast

import anyio
import anyio.abc
import typer

import pulsewire
from pulsewire.cli import log, render, times
from pulsewire.cli.options import URL_VARIABLE
from pulsewire.cli.running import Signals, errors_told, run
from pulsewire.health import serve_health
from pulsewire.tasks import PLACE_VARIABLE, App, ServerOptions, hold_lifeline, supervise

__all__ = ["register"]

_DEFAULT = ServerOptions()
_BEYOND = 20.0
"""Seconds that a process gets beyond `--shutdown-timeout` before it is killed: tasks are handed back in them."""


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """What the command line says about running tasks. None is: as the app says."""

    queues: dict[str, int] | None
    strict: bool | None
    concurrency: int | None
    shutdown_timeout: float | None

    def as_options(self) -> dict[str, Any]:
        """For `App.worker`."""
        options = {
            "queues": self.queues,
            "strict": self.strict,
            "concurrency": self.concurrency,
            "shutdown_timeout": self.shutdown_timeout,
        }
        return {name: value for name, value in options.items() if value is not None}

    def as_arguments(self) -> list[str]:
        """For a child's command line."""
        arguments = [f"--queue={name}={priority}" for name, priority in (self.queues or {}).items()]
        if self.strict is not None:
            arguments.append("--strict" if self.strict else "--weighted")
        if self.concurrency is not None:
            arguments.append(f"--concurrency={self.concurrency}")
        if self.shutdown_timeout is not None:
            arguments.append(f"--shutdown-timeout={self.shutdown_timeout}")
        return arguments


@dataclass(frozen=True, slots=True)
class _HealthChoice:
    """Where a process answers probes; nowhere without a port."""

    host: str
    port: int | None

    def as_arguments(self) -> list[str]:
        """For a child's command line."""
        if self.port is None:
            return []
        return [f"--health-host={self.host}", f"--health-port={self.port}"]

    @asynccontextmanager
    async def served(self, hub: pulsewire.Hub) -> AsyncIterator[None]:
        """Answer while the block lasts. Of several processes, each has the port after that of the one before."""
        if self.port is None:
            yield
            return
        port = self.port + int(os.environ.get(PLACE_VARIABLE, "0")) if self.port else 0
        async with serve_health(hub, host=self.host, port=port) as endpoint:
            render.note(f"worker {os.getpid()} answers probes at {endpoint.url}")
            yield


def register(app: typer.Typer) -> None:
    """Add the command `worker`."""
    app.command()(worker)


def worker(
    name: Annotated[
        str,
        typer.Argument(
            help="The app: a module that can be imported from here, and the app's name in it.",
            metavar="MODULE:APP",
        ),
    ],
    *,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            "-p",
            min=1,
            show_default="this one",
            help="Run this many processes, and start those again that die.",
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            "-q",
            show_default="all that the app's tasks are in",
            help="Take tasks from this queue; give it several times for several. Priority 6 gets twice the share of 3.",
            metavar="NAME[=PRIORITY]",
        ),
    ] = None,
    strict: Annotated[
        bool | None,
        typer.Option(
            "--strict/--weighted",
            show_default="as the app says",
            help="Take nothing from a queue while one of a higher priority has tasks.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            show_default=f"the app's, else {_DEFAULT.concurrency}",
            help="Tasks that each process runs at a time.",
        ),
    ] = None,
    shutdown_timeout: Annotated[
        float | None,
        typer.Option(
            parser=times.as_duration,
            show_default=f"the app's, else {_DEFAULT.shutdown_timeout:g}s",
            help="How long running tasks may go on at the end; then they go back to their queues.",
            metavar="DURATION",
        ),
    ] = None,
    kill_after: Annotated[
        float | None,
        typer.Option(
            parser=times.as_duration,
            show_default=f"{_BEYOND:g}s more than --shutdown-timeout",
            help="With --processes: kill one that has not ended this long after it was told to.",
            metavar="DURATION",
        ),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            show_default="none",
            help="Answer /livez and /readyz over HTTP at this port, 0 for any free one; with --processes the second "
            "process at the next port, and so on.",
        ),
    ] = None,
    health_host: Annotated[
        str,
        typer.Option(
            help="The address for --health-port; 0.0.0.0 where probes come from other machines.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    log_level: Annotated[
        LogLevel, typer.Option(help="How much is logged, unless the app's module arranges for it.")
    ] = LogLevel.INFO,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            show_default=f"the app's, else ${URL_VARIABLE}, else the embedded server",
            help="The server.",
            metavar="URL",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", show_default="the app's", help="Prefix of every key.", metavar="NAME"
        ),
    ] = None,
) -> None:
    """Run the tasks of an app until Ctrl-C or SIGTERM; running ones may finish. SIGTSTP: take no new ones."""
    choices = _Choices(
        queues=_priorities(queue or []) or None,
        strict=strict,
        concurrency=concurrency,
        shutdown_timeout=shutdown_timeout,
    )
    health = _HealthChoice(health_host, health_port)
    if processes is None:
        _run_here(name, choices, health, level=log_level, url=url, namespace=namespace)
        return
    child = [name, f"--log-level={log_level}", *choices.as_arguments(), *health.as_arguments()]
    child += [] if url is None else [f"--url={url}"]
    child += [] if namespace is None else [f"--namespace={namespace}"]
    if kill_after is None:
        timeout = _DEFAULT.shutdown_timeout if shutdown_timeout is None else shutdown_timeout
        kill_after = timeout + _BEYOND
    log.begin(log_level)
    command = [sys.executable, "-m", "pulsewire.cli", "worker", *child]
    raise typer.Exit(anyio.run(partial(supervise, command, processes=processes, grace=kill_after)))


def _run_here(
    name: str,
    choices: _Choices,
    health: _HealthChoice,
    *,
    level: LogLevel,
    url: str | None,
    namespace: str | None,
) -> None:
    hold_lifeline()  # before the app's module is imported, which may take long
    _make_importable(os.getcwd())  # noqa: PTH109 - `sys.path` holds text
    with errors_told():
        app = App.load(name)
    log.begin(level)  # the module came first: if it has arranged for a log, that is the one

    async def command(signals: Signals) -> int:
        async with (
            app.connect(url, namespace=namespace) as hub,
            # around the worker: it is alive, and not ready, while it begins and ends
            health.served(cast("pulsewire.Hub", hub)),
            app.serve(hub, **choices.as_options()) as running,
            anyio.create_task_group() as beside,
        ):
            await beside.start(_obey_stop, running.stop_taking)
            render.note(f"worker {os.getpid()} takes {_queues(running.queues)} at {running.url}")
            with signals.asking(running.stop):
                await running.wait()
            render.note(f"worker {os.getpid()} ends; running tasks may finish")
            beside.cancel_scope.cancel()
        return 0

    run(command, has_log=True)


async def _obey_stop(
    stop_taking: Callable[[], None], *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    """SIGTSTP, which a deploy sends first: no new tasks, and the process stays until it is told to end."""
    with anyio.open_signal_receiver(signal.SIGTSTP) as arriving:
        task_status.started()
        async for _ in arriving:
            render.note(f"worker {os.getpid()} takes no new tasks")
            stop_taking()


def _make_importable(folder: str) -> None:
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def _queues(queues: dict[str, int]) -> str:
    names = ", ".join(f"{render.readable(name)}={priority}" for name, priority in queues.items())
    return f"tasks of {names}"


def _priorities(texts: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in texts:
        name, equals, priority = text.rpartition("=")
        if not equals:
            found[text] = 1
            continue
        if not name or not priority.isdecimal() or not int(priority):
            raise typer.BadParameter(
                f"{text!r} is not NAME or NAME=PRIORITY, a whole number from 1",
                param_hint="--queue",
            )
        found[name] = int(priority)
    return found
