"""How a running act is shown: the parts of which the acts make their pictures, and what shows these.

What an act shows is up to its own `view.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pulsewire.cli import render
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.picture import Picture
from pulsewire.cli.demo.screen import BAR_WIDTH, Screen, bar, percent

__all__ = ["STYLES", "Roomy", "Shown", "View", "bars", "cut", "layout", "rows", "who"]

STYLES = {
    Fate.STARTING: "dim",
    Fate.WORKING: "green",
    Fate.KILLED: "bold red",
    Fate.STOPPED: "dim",
}


_ANY_WIDTH = 1000
"""Columns that no picture needs."""


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
        picture: Callable[[S], Picture],
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


def layout(*parts: RenderableType, news: Sequence[str]) -> Picture:
    """Return the parts of a picture below each other, a line between them, and below them what has happened."""
    return Picture(parts, tuple(news))


@dataclass(frozen=True, slots=True)
class Roomy:
    """What is drawn where the terminal is wide enough for it, and what elsewhere."""

    wide: RenderableType
    narrow: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw one of the two."""
        needed = Measurement.get(console, options.update(max_width=_ANY_WIDTH), self.wide).maximum
        yield self.wide if needed <= options.max_width else self.narrow


def bars(*counts: tuple[str, int, int], facts: Sequence[str]) -> Table:
    """Return a bar for each title, with what is done of what is wanted; and a line of facts below them."""
    grid = Table.grid(padding=(0, 2))
    for title, done, wanted in counts:
        numbers = f"{done:,}/{wanted:,}"
        grid.add_row(title, bar(done, wanted, BAR_WIDTH), numbers, percent(done, wanted))
    whole = Table.grid()
    whole.add_row(grid)
    whole.add_row(Text("   ".join(filter(None, facts))))
    return whole


def rows(columns: int) -> Table:
    """Return a grid whose rows are one line each; where the terminal is too narrow, the last column is cut off.

    The text of the last column is made with `cut`.
    """
    grid = Table.grid(padding=(0, 2))
    for number in range(columns):
        grid.add_column(no_wrap=number < columns - 1)
    return grid


def cut(text: str | Text) -> Text:
    """Return what may be cut off at the end of a line."""
    shown = Text(text) if isinstance(text, str) else text.copy()
    shown.no_wrap = True
    shown.overflow = "ellipsis"
    return shown


def who(title: str, pid: int, fate: Fate) -> tuple[str, Text, Text]:
    """Return the cells that say who a process is, and what it is at."""
    return title, Text(f"pid {pid}", style="dim"), Text(fate.value, style=STYLES[fate])
