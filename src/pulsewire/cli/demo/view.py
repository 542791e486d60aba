"""How the running demo looks: live bars and a table on a terminal, one plain line a second elsewhere.

Only looks: what it shows is a `Snapshot`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pulsewire.cli import render
from pulsewire.cli.demo.progress import ConsumerRow, Fate, Snapshot

__all__ = ["View", "picture", "plain_line"]

_PLAIN_EVERY = 1.0
"""Seconds between two plain lines."""
_BAR_WIDTH = 44
_STYLES = {
    Fate.STARTING: "dim",
    Fate.WORKING: "green",
    Fate.KILLED: "bold red",
    Fate.STOPPED: "dim",
}


class View:
    """Shows snapshots for as long as it is open."""

    def __init__(self, console: Console = render.out) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._next_line_at = _PLAIN_EVERY
        self._told = 0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Show where the demo stands."""
        if self._live is not None:
            self._live.update(picture(snapshot), refresh=True)
            return
        for news in snapshot.news[self._told :]:
            self._print(news)
        self._told = len(snapshot.news)
        if snapshot.elapsed >= self._next_line_at:
            self._next_line_at = snapshot.elapsed + _PLAIN_EVERY
            self._print(plain_line(snapshot))

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def picture(snapshot: Snapshot) -> RenderableType:
    """Return the live view of a terminal."""
    news = Text("\n".join(snapshot.news), style="yellow")
    return Group(_bars(snapshot), Text(), _consumers(snapshot), Text(), news)


def plain_line(snapshot: Snapshot) -> str:
    """Return the state as one line."""
    working = sum(row.fate is Fate.WORKING for row in snapshot.consumers)
    return (
        f"{snapshot.elapsed:5.1f} s  published {snapshot.published:,}/{snapshot.wanted:,}"
        f"  handled {snapshot.handled:,}/{snapshot.wanted:,} ({_percent(snapshot.handled, snapshot.wanted)})"
        f"  {snapshot.rate:.0f}/s  pending {render.how_many(snapshot.pending)}"
        f"  lag {render.how_many(snapshot.lag)}  consumers {working}"
    )


def _bars(snapshot: Snapshot) -> Table:
    grid = Table.grid(padding=(0, 2))
    for title, done in (("published", snapshot.published), ("handled", snapshot.handled)):
        grid.add_row(
            title,
            _bar(done, snapshot.wanted, _BAR_WIDTH),
            f"{done:,}/{snapshot.wanted:,}",
            _percent(done, snapshot.wanted),
        )
    facts = Table.grid(padding=(0, 3))
    facts.add_row(
        f"{snapshot.rate:.0f} tickets/s",
        f"pending {render.how_many(snapshot.pending)}",
        f"lag {render.how_many(snapshot.lag)}",
        f"{snapshot.elapsed:.1f} s",
    )
    whole = Table.grid()
    whole.add_row(grid)
    whole.add_row(facts)
    return whole


def _consumers(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    most = max((row.handled for row in snapshot.consumers), default=0)
    for row in snapshot.consumers:
        table.add_row(
            f"consumer {row.number}",
            Text(f"pid {row.pid}", style="dim"),
            Text(row.fate.value, style=_STYLES[row.fate]),
            _bar(row.handled, max(most, 1), _BAR_WIDTH // 2),
            Text(f"{row.handled:,}", justify="right"),
            _taken_over(row),
        )
    return table


def _percent(done: int, total: int) -> str:
    return f"{100 * done // total}%"  # rounded down: 100% is when nothing is missing


def _bar(done: int, total: int, width: int) -> ProgressBar:
    return ProgressBar(
        total=total, completed=done, width=width, complete_style="cyan", finished_style="green"
    )


def _taken_over(row: ConsumerRow) -> Text:
    return Text(f"{row.taken_over:,} taken over" if row.taken_over else "", style="yellow")
