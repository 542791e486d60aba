"""The hidden commands that the processes of the act run."""

from __future__ import annotations

from typing import Annotated

import typer

from pulsewire.cli.demo.options import JournalOption
from pulsewire.cli.demo.tasks import role, stage
from pulsewire.cli.options import NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the hidden commands of the act to the command line."""
    app.command(stage.CLIENT, hidden=True)(demo_task_client)
    app.command(stage.SCHEDULER, hidden=True)(demo_task_scheduler)
    app.command(stage.SERVER, hidden=True)(demo_task_server)


def demo_task_client(
    *,
    journal: JournalOption,
    tasks: Annotated[int, typer.Option()],
    rate: Annotated[float, typer.Option()],
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Enqueue the demo's tasks. A process of the demo."""

    async def command(_: Signals) -> int:
        return await role.enqueue(journal, url=url, namespace=namespace, tasks=tasks, rate=rate)

    run(command)


def demo_task_scheduler(
    *,
    journal: JournalOption,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Enqueue the demo's periodic task. A process of the demo."""

    async def command(signals: Signals) -> int:
        return await role.schedule(journal, signals, url=url, namespace=namespace)

    run(command)


def demo_task_server(
    *,
    journal: JournalOption,
    lease: Annotated[float, typer.Option()],
    work: Annotated[float, typer.Option()],
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Run the demo's tasks. A process of the demo."""

    async def command(signals: Signals) -> int:
        return await role.serve(
            journal, signals, url=url, namespace=namespace, lease=lease, work=work
        )

    run(command)
