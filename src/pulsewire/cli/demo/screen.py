"""Where the running demo is drawn: in place on a terminal, news and one plain line a second elsewhere.

Knows nothing of what is drawn: the `view.py` of each act does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from pulsewire.cli.demo.picture import Picture

__all__ = ["BAR_WIDTH", "Screen", "bar", "percent"]

BAR_WIDTH = 44
_PLAIN_EVERY = 1.0
"""Seconds between two plain lines."""


class Screen:
    """Shows what it is given for as long as it is open."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last: Picture | None = None
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
            if self._last is not None:
                self._live.update(self._last.whole())
            self._live.stop()

    def show(
        self,
        elapsed: float,
        news: Sequence[str],
        picture: Callable[[], Picture],
        plain_line: Callable[[], str],
    ) -> None:
        """Show where the demo stands after `elapsed` seconds."""
        if self._live is not None:
            self._last = picture()
            self._live.update(self._last, refresh=True)
            return
        for sentence in news[self._told :]:
            self._print(sentence)
        self._told = len(news)
        if elapsed >= self._next_line_at:
            self._next_line_at = elapsed + _PLAIN_EVERY
            self._print(plain_line())

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def bar(done: int, total: int, width: int) -> ProgressBar:
    """Return a bar that is green when it is full."""
    return ProgressBar(
        total=total, completed=done, width=width, complete_style="cyan", finished_style="green"
    )


def percent(done: int, total: int) -> str:
    """Return a part of a whole for people."""
    return f"{100 * done // total}%"  # rounded down: 100% is when nothing is missing
