"""How the running demo looks: bars and a table, or one plain line. What it shows is a `Snapshot`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pulsewire.cli import render
from pulsewire.cli.demo.progress import ConsumerRow, Fate, Snapshot
from pulsewire.cli.demo.screen import BAR_WIDTH, Screen, bar, percent

__all__ = ["STYLES", "View", "picture", "plain_line"]

STYLES = {
    Fate.STARTING: "dim",
    Fate.WORKING: "green",
    Fate.KILLED: "bold red",
    Fate.STOPPED: "dim",
}


class Shown(Protocol):
    """What every snapshot of the demo tells."""

    @property
    def elapsed(self) -> float:
        """Seconds since the act began."""
        ...

    @property
    def news(self) -> Sequence[str]:
        """What is worth a line of its own."""
        ...


S = TypeVar("S", bound=Shown)


class View(Generic[S]):
    """Shows the snapshots of one act for as long as it is open."""

    def __init__(
        self,
        picture: Callable[[S], RenderableType],
        plain_line: Callable[[S], str],
        console: Console = render.out,
    ) -> None:
        self._picture = picture
        self._plain_line = plain_line
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

    def show(self, snapshot: S) -> None:
        """Show where the act stands."""
        self._screen.show(
            snapshot.elapsed,
            snapshot.news,
            lambda: self._picture(snapshot),
            lambda: self._plain_line(snapshot),
        )


def picture(snapshot: Snapshot) -> RenderableType:
    """Return the live view of a terminal."""
    news = Text("\n".join(snapshot.news), style="yellow")
    return Group(_bars(snapshot), Text(), _consumers(snapshot), Text(), news)


def plain_line(snapshot: Snapshot) -> str:
    """Return the state as one line."""
    working = sum(row.fate is Fate.WORKING for row in snapshot.consumers)
    return (
        f"{snapshot.elapsed:5.1f} s  published {snapshot.published:,}/{snapshot.wanted:,}"
        f"  handled {snapshot.handled:,}/{snapshot.wanted:,} ({percent(snapshot.handled, snapshot.wanted)})"
        f"  {snapshot.rate:.0f}/s  pending {render.how_many(snapshot.pending)}"
        f"  lag {render.how_many(snapshot.lag)}  consumers {working}"
    )


def _bars(snapshot: Snapshot) -> Table:
    grid = Table.grid(padding=(0, 2))
    for title, done in (("published", snapshot.published), ("handled", snapshot.handled)):
        grid.add_row(
            title,
            bar(done, snapshot.wanted, BAR_WIDTH),
            f"{done:,}/{snapshot.wanted:,}",
            percent(done, snapshot.wanted),
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
            Text(row.fate.value, style=STYLES[row.fate]),
            bar(row.handled, max(most, 1), BAR_WIDTH // 2),
            Text(f"{row.handled:,}", justify="right"),
            _taken_over(row),
        )
    return table


def _taken_over(row: ConsumerRow) -> Text:
    return Text(f"{row.taken_over:,} taken over" if row.taken_over else "", style="yellow")
