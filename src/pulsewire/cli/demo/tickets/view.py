"""How the running act looks: bars and a table, or one plain line. What it shows is a `Snapshot`."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pulsewire.cli import render
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.picture import Picture
from pulsewire.cli.demo.screen import BAR_WIDTH, bar, percent
from pulsewire.cli.demo.tickets.progress import ConsumerRow, Snapshot
from pulsewire.cli.demo.view import bars, cut, layout, rows, who

__all__ = ["picture", "plain_line"]


def picture(snapshot: Snapshot) -> Picture:
    """Return the live view of a terminal."""
    counts = bars(
        ("published", snapshot.published, snapshot.wanted),
        ("handled", snapshot.handled, snapshot.wanted),
        facts=(
            f"{snapshot.rate:.0f} tickets/s",
            f"pending {render.how_many(snapshot.pending)}",
            f"lag {render.how_many(snapshot.lag)}",
            f"{snapshot.elapsed:.1f} s",
        ),
    )
    return layout(counts, _consumers(snapshot), news=snapshot.news)


def plain_line(snapshot: Snapshot) -> str:
    """Return the state as one line."""
    working = sum(row.fate is Fate.WORKING for row in snapshot.consumers)
    return (
        f"{snapshot.elapsed:5.1f} s  published {snapshot.published:,}/{snapshot.wanted:,}"
        f"  handled {snapshot.handled:,}/{snapshot.wanted:,} ({percent(snapshot.handled, snapshot.wanted)})"
        f"  {snapshot.rate:.0f}/s  pending {render.how_many(snapshot.pending)}"
        f"  lag {render.how_many(snapshot.lag)}  consumers {working}"
    )


def _consumers(snapshot: Snapshot) -> Table:
    table = rows(6)
    most = max((row.handled for row in snapshot.consumers), default=0)
    for row in snapshot.consumers:
        table.add_row(
            *who(f"consumer {row.number}", row.pid, row.fate),
            bar(row.handled, max(most, 1), BAR_WIDTH // 2),
            Text(f"{row.handled:,}", justify="right"),
            cut(_taken_over(row)),
        )
    return table


def _taken_over(row: ConsumerRow) -> Text:
    return Text(f"{row.taken_over:,} taken over" if row.taken_over else "", style="yellow")
