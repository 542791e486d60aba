"""What the act stands on: a server that may be killed, a folder for the journals, and their removal at the end.

Without `--url` the server is an embedded one of the act's own, with its data beside the journals: killing the one that
the user's other programs share would be rude. Like any embedded server it has on disk what it has acknowledged, and its
keeper starts it again. A server that the user names is not ours to kill.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

import pulsewire
from pulsewire import embedded
from pulsewire.cli import describe, failures, render
from pulsewire.cli.demo import clearing
from pulsewire.cli.demo.crew import Crew, DemoFailed, environment_of
from pulsewire.cli.demo.folder import journal_folder
from pulsewire.cli.demo.signup import summary
from pulsewire.cli.demo.signup.cast import (
    ANALYTICS,
    AUDIT,
    MAILERS,
    OPERATOR,
    POOL,
    QUEUE,
    STREAM,
    WEB,
    WORKERS,
    flag_map,
    user_stream,
)
from pulsewire.cli.demo.signup.director import SignUpDirector
from pulsewire.cli.demo.signup.plan import SignUpPlan
from pulsewire.cli.demo.signup.view import picture, plain_line
from pulsewire.cli.demo.view import View

__all__ = ["MAIL", "OPERATE", "RECORD", "WEB_FRONT", "WORK", "perform"]

WEB_FRONT = "demo-web-front"
"""The hidden command of the process that signs users up."""
OPERATE = "demo-operator"
"""The hidden command of the process that switches the feature flag."""
MAIL = "demo-mailer"
"""The hidden command of the consumers of the sink `mailer`."""
RECORD = "demo-recorder"
"""The hidden command of the other sinks' consumers."""
WORK = "demo-email-worker"
"""The hidden command of the processes that run jobs and tasks."""

_HOME_VARIABLE = "PULSEWIRE_HOME"
_TTL = 3600.0
"""Seconds after which stream and map of a demo whose parent was killed go by themselves."""
_TIDY_WITHIN = 10.0
"""Seconds that removing them may take."""
_STOP_WITHIN = 10.0
"""Seconds that ending the server may take."""


async def perform(plan: SignUpPlan, url: str | None, namespace: str) -> int:
    """Run the act and print its summary.

    Returns:
        0 if the promises held, 1 otherwise.

    Raises:
        DemoFailed: It could not be run to its end.
    """
    with journal_folder(keep=plan.keep) as folder:
        async with (
            _server(folder, url) as home,
            pulsewire.connect(url, namespace=namespace, home=home) as hub,
        ):
            await _check_free(hub, namespace)
            _say_where(plan, hub, home)
            director = SignUpDirector(
                plan,
                hub,
                Crew(folder, _environment(url, home)),
                parts=_parts(plan, namespace),
                server_pid=None if home is None else partial(_server_pid, home),
            )
            async with _tidied(plan, hub, home):
                with View(picture, plain_line) as view:
                    verdict = await director.run(view)
        if plan.keep:
            _say_kept(namespace, home)
    summary.show(verdict, director.processes, seconds=director.elapsed)
    return 0 if verdict.holds else failures.FAILED


# --- the server


@asynccontextmanager
async def _server(folder: Path, url: str | None) -> AsyncIterator[Path | None]:
    """Give the home of an embedded server for this act alone, and end it afterwards; None when there is a URL."""
    if url is not None:
        yield None
        return
    home = folder / "server"
    try:
        yield home
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(embedded.stop, home, timeout=_STOP_WITHIN))


async def _server_pid(home: Path) -> int | None:
    status = await anyio.to_thread.run_sync(embedded.status, home)
    return None if status is None else status.server_pid


def _environment(url: str | None, home: Path | None) -> dict[str, str]:
    return environment_of(url) if home is None else {_HOME_VARIABLE: str(home)}


async def _check_free(hub: pulsewire.Hub, namespace: str) -> None:
    if (await user_stream(hub, None).info()).exists:
        raise DemoFailed(
            f"there is a stream {STREAM!r} in namespace {namespace!r} already; take another one"
        )


@asynccontextmanager
async def _tidied(plan: SignUpPlan, hub: pulsewire.Hub, home: Path | None) -> AsyncIterator[None]:
    """Afterwards remove what is in Redis, unless it shall be kept, or goes with the server."""
    try:
        yield
    finally:
        if home is None and not plan.keep:
            within = _TIDY_WITHIN + clearing.time_for(plan.lease) + plan.worker_ttl
            with anyio.move_on_after(within, shield=True):
                await _tidy(plan, hub)


async def _tidy(plan: SignUpPlan, hub: pulsewire.Hub) -> None:
    await user_stream(hub, None).destroy()
    flags = flag_map(hub, None)
    await flags.destroy()
    await flags.forget()
    await clearing.clear(hub, (QUEUE,), plan.lease)
    if POOL in await hub.pools():
        async with hub.node(POOL, client_only=True) as client:
            await client.shutdown()


# --- the processes


def _parts(plan: SignUpPlan, namespace: str) -> dict[str, list[str]]:
    """The arguments of each process, in the order in which they are started."""
    ttl = [] if plan.keep else ["--ttl", str(_TTL)]
    shared = ["--namespace", namespace, *ttl]
    grace = ["--ack-grace", str(plan.ack_grace)]
    leases = ["--worker-ttl", str(plan.worker_ttl), "--lease", str(plan.lease)]
    visits = ["--users", str(plan.users), "--rate", str(plan.rate)]
    return {
        OPERATOR: [OPERATE, *shared],
        **{title: [MAIL, *shared, *grace] for title in MAILERS},
        **{sink: [RECORD, sink, *shared, *grace] for sink in (ANALYTICS, AUDIT)},
        **{title: [WORK, *shared, *leases] for title in WORKERS},
        WEB: [WEB_FRONT, *shared, *visits],
    }


# --- what is said


def _say_where(plan: SignUpPlan, hub: pulsewire.Hub, home: Path | None) -> None:
    render.sentence(
        f"{plan.users:,} users sign up, {plan.rate:.0f} a second: a stream with three sinks, a map of flags, "
        f"a worker pool and a task queue, on {describe.server_name(hub)} at {hub.url}"
    )
    if plan.kill and home is None:
        render.sentence(
            "two processes are killed; the server is yours, so that it is not killed and started again"
        )


def _say_kept(namespace: str, home: Path | None) -> None:
    where = "" if home is None else f"{_HOME_VARIABLE}={home} "
    render.say(
        f"kept: look at it with {where}pulsewire stream info {STREAM} --namespace {namespace}"
    )
