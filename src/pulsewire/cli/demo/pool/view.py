"""How the running act looks: bars and a table, or one plain line. What it shows is a `PoolSnapshot`."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.picture import Picture
from pulsewire.cli.demo.pool.progress import NodeRow, PoolSnapshot
from pulsewire.cli.demo.screen import BAR_WIDTH, bar, percent
from pulsewire.cli.demo.view import bars, cut, layout, rows, who

__all__ = ["picture", "plain_line"]


def picture(snapshot: PoolSnapshot) -> Picture:
    """Return the live view of a terminal."""
    counts = bars(
        ("started", snapshot.started, snapshot.wanted),
        ("running", snapshot.running, snapshot.wanted),
        facts=(f"moves {snapshot.moves:,}", f"{snapshot.elapsed:.1f} s"),
    )
    return layout(counts, _nodes(snapshot), news=snapshot.news)


def plain_line(snapshot: PoolSnapshot) -> str:
    """Return the state as one line."""
    working = sum(row.fate is Fate.WORKING for row in snapshot.nodes)
    return (
        f"{snapshot.elapsed:5.1f} s  started {snapshot.started:,}/{snapshot.wanted:,}"
        f"  running {snapshot.running:,}/{snapshot.wanted:,} ({percent(snapshot.running, snapshot.wanted)})"
        f"  moves {snapshot.moves:,}  nodes {working}"
    )


def _nodes(snapshot: PoolSnapshot) -> Table:
    table = rows(6)
    most = max((row.running for row in snapshot.nodes), default=0)
    for row in snapshot.nodes:
        table.add_row(
            *who(f"node {row.number}", row.pid, row.fate),
            bar(row.running, max(most, 1), BAR_WIDTH // 2),
            Text(f"{row.running:,}", justify="right"),
            cut(_taken(row)),
        )
    return table


def _taken(row: NodeRow) -> Text:
    return Text(f"{row.taken:,} from other nodes" if row.taken else "", style="yellow")
