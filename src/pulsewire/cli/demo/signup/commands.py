"""The hidden commands that the processes of the act run."""

from __future__ import annotations

from typing import Annotated

import typer

from pulsewire.cli.demo.options import JournalOption, TtlOption
from pulsewire.cli.demo.signup import role, stage
from pulsewire.cli.options import NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]

AckGraceOption = Annotated[float, typer.Option()]


def register(app: typer.Typer) -> None:
    """Add the hidden commands of the act to the command line."""
    app.command(stage.WEB_FRONT, hidden=True)(demo_web_front)
    app.command(stage.OPERATE, hidden=True)(demo_operate)
    app.command(stage.MAIL, hidden=True)(demo_mail)
    app.command(stage.RECORD, hidden=True)(demo_record)
    app.command(stage.WORK, hidden=True)(demo_work)


def demo_web_front(
    *,
    journal: JournalOption,
    users: Annotated[int, typer.Option()],
    rate: Annotated[float, typer.Option()],
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Sign the demo's users up. A process of the demo."""

    async def command(signals: Signals) -> int:
        desk = role.Desk(journal, url, namespace, ttl)
        return await role.sign_up(desk, signals, users=users, rate=rate)

    run(command)


def demo_operate(
    *,
    journal: JournalOption,
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Switch the demo's feature flag. A process of the demo."""

    async def command(signals: Signals) -> int:
        return await role.operate(role.Desk(journal, url, namespace, ttl), signals)

    run(command)


def demo_mail(
    *,
    journal: JournalOption,
    ack_grace: AckGraceOption,
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Order mails for the demo's users. A process of the demo."""

    async def command(signals: Signals) -> int:
        desk = role.Desk(journal, url, namespace, ttl)
        return await role.mail(desk, signals, ack_grace=ack_grace)

    run(command)


def demo_record(
    *,
    sink: Annotated[str, typer.Argument()],
    journal: JournalOption,
    ack_grace: AckGraceOption,
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Write down the demo's users. A process of the demo."""

    async def command(signals: Signals) -> int:
        desk = role.Desk(journal, url, namespace, ttl)
        return await role.record(desk, signals, sink_name=sink, ack_grace=ack_grace)

    run(command)


def demo_work(
    *,
    journal: JournalOption,
    worker_ttl: Annotated[float, typer.Option()],
    lease: Annotated[float, typer.Option()],
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Write to the demo's users. A process of the demo."""

    async def command(signals: Signals) -> int:
        desk = role.Desk(journal, url, namespace, ttl)
        return await role.work(desk, signals, worker_ttl=worker_ttl, lease=lease)

    run(command)
