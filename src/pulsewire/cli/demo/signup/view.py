"""How the running act looks: bars, the four blocks, the processes; or one plain line."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pulsewire.cli import render
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.picture import Picture
from pulsewire.cli.demo.queue_counts import QueueCounts
from pulsewire.cli.demo.screen import percent
from pulsewire.cli.demo.signup.cast import FLAGS, POOL, QUEUE, STREAM
from pulsewire.cli.demo.signup.snapshot import ProcessRow, SignUpSnapshot, SinkRow
from pulsewire.cli.demo.view import bars, cut, layout, rows, who

__all__ = ["picture", "plain_line"]


def picture(snapshot: SignUpSnapshot) -> Picture:
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
    """Stream, map, pool and queue, one below the other: a line each, short enough for 60 columns."""
    table = rows(2)
    width = max((len(row.name) for row in snapshot.sinks), default=0)
    for number, row in enumerate(snapshot.sinks):
        table.add_row(_name("stream", STREAM) if number == 0 else "", cut(_sink(row, width)))
    flag = f"{snapshot.form}, at {snapshot.reached} of {snapshot.living} processes"
    table.add_row(_name("map", FLAGS), cut(flag))
    table.add_row(
        _name("pool", POOL),
        cut(
            f"running {snapshot.jobs:,}, waiting {snapshot.waiting:,}, ended {snapshot.confirmed:,}"
        ),
    )
    if snapshot.queue is not None:
        table.add_row(
            _name("queue", QUEUE),
            cut(_queue(snapshot, snapshot.queue)),
        )
    return table


def _name(block: str, name: str) -> Text:
    return Text(f"{block} {name}", style="bold")


def _sink(row: SinkRow, width: int) -> str:
    pending = None if row.counts is None else row.counts.pending
    lag = None if row.counts is None else row.counts.lag
    return (
        f"{row.name:<{width}}  {row.handled:,}  {row.rate:.0f}/s"
        f"  pending {render.how_many(pending)}  lag {render.how_many(lag)}"
    )


def _queue(snapshot: SignUpSnapshot, counts: QueueCounts) -> str:
    return (
        f"pending {counts.pending:,}, active {counts.active:,}, retry {counts.retry:,}, "
        f"sent {snapshot.mailed:,}, refused {snapshot.refused:,}"
    )


def _processes(snapshot: SignUpSnapshot) -> Table:
    table = rows(5)
    for row in snapshot.processes:
        table.add_row(
            *who(row.title, row.pid, row.fate), Text(row.form, style="cyan"), cut(_does(row))
        )
    return table


def _does(row: ProcessRow) -> str:
    """What it does and did; the owner of jobs and mails says how many it has."""
    now = f"owns {row.jobs:,} jobs, sends {row.mails:,} mails; " if row.jobs or row.mails else ""
    return f"{now if row.fate is Fate.WORKING else ''}{row.did}"
