"""How the running second act looks: bars and a table, or one plain line. What it shows is a `PoolSnapshot`."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pulsewire.cli import render
from pulsewire.cli.demo.pool.progress import NodeRow, PoolSnapshot
from pulsewire.cli.demo.progress import Fate
from pulsewire.cli.demo.screen import BAR_WIDTH, Screen, bar, percent
from pulsewire.cli.demo.view import STYLES

__all__ = ["PoolView", "picture", "plain_line"]


class PoolView:
    """Shows snapshots for as long as it is open."""

    def __init__(self, console: Console = render.out) -> None:
        self._screen = Screen(console)

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._screen.__exit__(kind, error, trace)

    def show(self, snapshot: PoolSnapshot) -> None:
        """Show where the act stands."""
        self._screen.show(
            snapshot.elapsed,
            snapshot.news,
            lambda: picture(snapshot),
            lambda: plain_line(snapshot),
        )


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
