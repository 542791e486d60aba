"""How the running act looks: bars, the four blocks, the processes; or one plain line."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pulsewire.cli import render
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.screen import percent
from pulsewire.cli.demo.signup.cast import FLAGS, POOL, QUEUE, STREAM
from pulsewire.cli.demo.signup.progress import ProcessRow, SignUpSnapshot, SinkRow
from pulsewire.cli.demo.view import bars, layout, who

__all__ = ["picture", "plain_line"]


def picture(snapshot: SignUpSnapshot) -> RenderableType:
    """Return the live view of a terminal."""
    counts = bars(
        ("signed up", snapshot.signed_up, snapshot.wanted),
        ("mailed", snapshot.mailed, snapshot.wanted),
        ("confirmed", snapshot.confirmed, snapshot.wanted),
        facts=(
            f"{snapshot.rate:.0f} sign-ups/s",
            f"{snapshot.mail_rate:.0f} mails/s",
            "Redis is away" if snapshot.is_away else "",
            f"{snapshot.elapsed:.1f} s",
        ),
    )
    return layout(counts, _blocks(snapshot), _processes(snapshot), news=snapshot.news)


def plain_line(snapshot: SignUpSnapshot) -> str:
    """Return the state as one line."""
    sinks = "  ".join(f"{row.name} {row.handled:,}" for row in snapshot.sinks)
    retry = render.how_many(None if snapshot.queue is None else snapshot.queue.retry)
    return (
        f"{snapshot.elapsed:5.1f} s  signed up {snapshot.signed_up:,}/{snapshot.wanted:,}"
        f" ({percent(snapshot.signed_up, snapshot.wanted)})  {snapshot.rate:.0f}/s  {sinks}"
        f"  {snapshot.form} at {snapshot.reached}/{snapshot.living}"
        f"  jobs {snapshot.jobs:,}  confirmed {snapshot.confirmed:,}"
        f"  retry {retry}  mailed {snapshot.mailed:,}{'  Redis is away' if snapshot.is_away else ''}"
    )


def _blocks(snapshot: SignUpSnapshot) -> Table:
    """Stream, map, pool and queue, one below the other."""
    table = Table.grid(padding=(0, 2))
    for number, row in enumerate(snapshot.sinks):
        name = f"stream {STREAM}" if number == 0 else ""
        table.add_row(Text(name, style="bold"), f"sink {row.name}", *_sink(row))
    flags = f"at {snapshot.reached} of {snapshot.living} processes"
    table.add_row(Text(f"map {FLAGS}", style="bold"), snapshot.form, flags)
    table.add_row(
        Text(f"pool {POOL}", style="bold"),
        f"running {snapshot.jobs:,}",
        f"waiting {snapshot.waiting:,}",
        f"ended {snapshot.confirmed:,}",
    )
    if snapshot.queue is not None:
        table.add_row(
            Text(f"queue {QUEUE}", style="bold"),
            f"pending {snapshot.queue.pending:,}, active {snapshot.queue.active:,}",
            f"retry {snapshot.queue.retry:,}",
            f"sent {snapshot.mailed:,}, refused {snapshot.refused:,}",
        )
    return table


def _sink(row: SinkRow) -> tuple[str, ...]:
    pending = None if row.counts is None else row.counts.pending
    lag = None if row.counts is None else row.counts.lag
    return (
        f"{row.handled:,} users, {row.rate:.0f}/s",
        f"pending {render.how_many(pending)}, lag {render.how_many(lag)}",
    )


def _processes(snapshot: SignUpSnapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in snapshot.processes:
        table.add_row(*who(row.title, row.pid, row.fate), Text(row.form, style="cyan"), _does(row))
    return table


def _does(row: ProcessRow) -> str:
    """What it does and did; the owner of jobs and mails says how many it has."""
    now = f"owns {row.jobs:,} jobs, sends {row.mails:,} mails; " if row.jobs or row.mails else ""
    return f"{now if row.fate is Fate.WORKING else ''}{row.did}"
