"""What the act stands on: queues and a folder of its own, and their removal at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

import pulsewire
from pulsewire.cli import describe, failures, render
from pulsewire.cli.demo import clearing
from pulsewire.cli.demo.crew import Crew, DemoFailed, environment_of
from pulsewire.cli.demo.folder import journal_folder
from pulsewire.cli.demo.tasks import summary
from pulsewire.cli.demo.tasks.director import TasksDirector
from pulsewire.cli.demo.tasks.plan import TasksPlan
from pulsewire.cli.demo.tasks.view import picture, plain_line
from pulsewire.cli.demo.tasks.workload import QUEUES
from pulsewire.cli.demo.view import View

__all__ = ["CLIENT", "SCHEDULER", "SERVER", "perform"]

CLIENT = "demo-task-client"
"""The hidden command of the process that enqueues."""
SCHEDULER = "demo-task-scheduler"
"""The hidden command of the processes that enqueue a task at every tick."""
SERVER = "demo-task-server"
"""The hidden command of the processes that run tasks."""


async def perform(plan: TasksPlan, url: str | None, namespace: str) -> int:
    """Run the act and print its summary.

    Returns:
        0 if the promises held, 1 otherwise.

    Raises:
        DemoFailed: It could not be run to its end.
    """
    async with pulsewire.connect(url, namespace=namespace) as hub:
        if taken := set(await hub.tasks.inspector.queues()) & set(QUEUES):
            raise DemoFailed(
                f"there is a queue {min(taken)!r} in namespace {namespace!r} already; take another one"
            )
        weights = " : ".join(f"{queue} {weight}" for queue, weight in QUEUES.items())
        render.sentence(
            f"{plan.tasks:,} tasks, queues {weights}, {plan.servers} servers, leases of {plan.lease:g} s, "
            f"on {describe.server_name(hub)} at {hub.url}"
        )
        async with _tidied(plan, hub, namespace) as folder:
            crew = Crew(folder, environment_of(url))
            director = TasksDirector(
                plan,
                hub,
                crew,
                client=_client_arguments(plan, namespace),
                scheduler=[SCHEDULER, "--namespace", namespace],
                server=_server_arguments(plan, namespace),
            )
            with View(picture, plain_line) as view:
                verdict = await director.run(view)
    summary.show(verdict, director.servers, lease=plan.lease, seconds=director.elapsed)
    return 0 if verdict.holds else failures.FAILED


@asynccontextmanager
async def _tidied(plan: TasksPlan, hub: pulsewire.Hub, namespace: str) -> AsyncIterator[Path]:
    """Give a folder for the journals; afterwards remove it and the queues, unless they shall be kept."""
    try:
        with journal_folder(keep=plan.keep) as folder:
            yield folder
    finally:
        if plan.keep:
            render.say(f"kept: queues {', '.join(QUEUES)} in namespace {namespace!r}")
        else:
            with anyio.move_on_after(clearing.time_for(plan.lease), shield=True):
                await clearing.clear(hub, QUEUES, plan.lease)


def _client_arguments(plan: TasksPlan, namespace: str) -> list[str]:
    numbers = ["--tasks", str(plan.tasks), "--rate", str(plan.rate)]
    return [CLIENT, "--namespace", namespace, *numbers]


def _server_arguments(plan: TasksPlan, namespace: str) -> list[str]:
    numbers = ["--lease", str(plan.lease), "--work", str(plan.work)]
    return [SERVER, "--namespace", namespace, *numbers]
