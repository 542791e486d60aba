"""`pulsewire demo` and the hidden commands that its processes run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from ulid import ULID

from pulsewire.cli import failures, render
from pulsewire.cli.demo import roles, stage
from pulsewire.cli.demo.crew import DemoFailed
from pulsewire.cli.demo.plan import Plan, PlanError
from pulsewire.cli.options import NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]

_DEFAULT = Plan()

JournalOption = Annotated[Path, typer.Option(help="Where to write what was done.")]
TtlOption = Annotated[float | None, typer.Option(help="Time to live of the stream, in seconds.")]


def register(app: typer.Typer) -> None:
    """Add the demo to the command line."""
    app.command()(demo)
    app.command(stage.PUBLISHER, hidden=True)(demo_publisher)
    app.command(stage.CONSUMER, hidden=True)(demo_consumer)


def demo(
    *,
    tickets_: Annotated[
        int, typer.Option("--tickets", "-n", help="How many tickets.")
    ] = _DEFAULT.tickets,
    consumers: Annotated[
        int, typer.Option(help="How many consumer processes.")
    ] = _DEFAULT.consumers,
    work: Annotated[
        float, typer.Option(help="Seconds that handling a ticket takes.")
    ] = _DEFAULT.work,
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Kill one consumer midway.")
    ] = _DEFAULT.kill,
    kill_after: Annotated[
        float,
        typer.Option(help="Which part of the tickets is handled by then.", metavar="FRACTION"),
    ] = _DEFAULT.kill_after,
    ack_grace: Annotated[
        float,
        typer.Option(help="Seconds of silence after which others take over a consumer's tickets."),
    ] = _DEFAULT.ack_grace,
    publish_rate: Annotated[
        float, typer.Option(help="Tickets published per second; 0 is as fast as it goes.")
    ] = _DEFAULT.publish_rate,
    seed: Annotated[
        int | None, typer.Option(help="Makes ticket numbers and the victim repeatable.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave stream and journals for a look.")
    ] = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Publish tickets, handle them in several processes, kill one, and prove that nothing was lost.

    Exits with 0 only if every ticket was handled, and each one handled twice has a reason.
    """
    try:
        plan = Plan(
            tickets=tickets_,
            consumers=consumers,
            work=work,
            kill=kill,
            kill_after=kill_after,
            ack_grace=ack_grace,
            publish_rate=publish_rate,
            seed=seed,
            keep=keep,
        )
    except PlanError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from None

    async def command(_: Signals) -> int:
        try:
            return await stage.perform(plan, url, namespace or f"demo-{ULID()}")
        except DemoFailed as failed:
            render.fail(str(failed))
            return failures.FAILED

    run(command)


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
        return await roles.publish(
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
        return await roles.consume(
            journal, signals, url=url, namespace=namespace, work=work, ack_grace=ack_grace, ttl=ttl
        )

    run(command)
