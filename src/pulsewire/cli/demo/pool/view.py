"""How the running second act looks: bars and a table, or one plain line. What it shows is a `PoolSnapshot`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pulsewire.cli.demo.pool.progress import NodeRow, PoolSnapshot
from pulsewire.cli.demo.progress import Fate
from pulsewire.cli.demo.screen import BAR_WIDTH, bar, percent
from pulsewire.cli.demo.view import STYLES

__all__ = ["picture", "plain_line"]


def picture(snapshot: PoolSnapshot) -> RenderableType:
    """Return the live view of a terminal."""
    news = Text("\n".join(snapshot.news), style="yellow")
    return Group(_bars(snapshot), Text(), _nodes(snapshot), Text(), news)


def plain_line(snapshot: PoolSnapshot) -> str:
    """Return the state as one line."""
    working = sum(row.fate is Fate.WORKING for row in snapshot.nodes)
    return (
        f"{snapshot.elapsed:5.1f} s  started {snapshot.started:,}/{snapshot.wanted:,}"
        f"  running {snapshot.running:,}/{snapshot.wanted:,} ({percent(snapshot.running, snapshot.wanted)})"
        f"  moves {snapshot.moves:,}  nodes {working}"
    )


def _bars(snapshot: PoolSnapshot) -> Table:
    grid = Table.grid(padding=(0, 2))
    for title, done in (("started", snapshot.started), ("running", snapshot.running)):
        grid.add_row(
            title,
            bar(done, snapshot.wanted, BAR_WIDTH),
            f"{done:,}/{snapshot.wanted:,}",
            percent(done, snapshot.wanted),
        )
    facts = Table.grid(padding=(0, 3))
    facts.add_row(f"moves {snapshot.moves:,}", f"{snapshot.elapsed:.1f} s")
    whole = Table.grid()
    whole.add_row(grid)
    whole.add_row(facts)
    return whole


def _nodes(snapshot: PoolSnapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    most = max((row.running for row in snapshot.nodes), default=0)
    for row in snapshot.nodes:
        table.add_row(
            f"node {row.number}",
            Text(f"pid {row.pid}", style="dim"),
            Text(row.fate.value, style=STYLES[row.fate]),
            bar(row.running, max(most, 1), BAR_WIDTH // 2),
            Text(f"{row.running:,}", justify="right"),
            _taken(row),
        )
    return table


def _taken(row: NodeRow) -> Text:
    return Text(f"{row.taken:,} from other nodes" if row.taken else "", style="yellow")
