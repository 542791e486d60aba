"""The hidden command that the processes of the act run."""

from __future__ import annotations

from typing import Annotated

import typer

from pulsewire.cli.demo.options import JournalOption
from pulsewire.cli.demo.pool import role, stage
from pulsewire.cli.options import NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the hidden commands of the act to the command line."""
    app.command(stage.NODE, hidden=True)(demo_node)


def demo_node(
    *,
    journal: JournalOption,
    worker_ttl: Annotated[float, typer.Option()],
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Run the demo's jobs. A process of the demo."""

    async def command(_: Signals) -> int:
        return await role.serve(journal, url=url, namespace=namespace, worker_ttl=worker_ttl)

    run(command)
