"""The hidden commands that the processes of the act run."""

from __future__ import annotations

from typing import Annotated

import typer

from pulsewire.cli.demo.options import JournalOption, TtlOption
from pulsewire.cli.demo.tickets import role, stage
from pulsewire.cli.options import NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the hidden commands of the act to the command line."""
    app.command(stage.PUBLISHER, hidden=True)(demo_publisher)
    app.command(stage.CONSUMER, hidden=True)(demo_consumer)


def demo_publisher(
    *,
    journal: JournalOption,
    tickets_: Annotated[int, typer.Option("--tickets")],
    publish_rate: Annotated[float, typer.Option()],
    seed: Annotated[int | None, typer.Option()] = None,
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Publish the demo's tickets. A process of the demo."""

    async def command(_: Signals) -> int:
        return await role.publish(
            journal,
            url=url,
            namespace=namespace,
            count=tickets_,
            rate=publish_rate,
            seed=seed,
            ttl=ttl,
        )

    run(command)


def demo_consumer(
    *,
    journal: JournalOption,
    work: Annotated[float, typer.Option()],
    ack_grace: Annotated[float, typer.Option()],
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Handle the demo's tickets. A process of the demo."""

    async def command(signals: Signals) -> int:
        return await role.consume(
            journal, signals, url=url, namespace=namespace, work=work, ack_grace=ack_grace, ttl=ttl
        )

    run(command)
