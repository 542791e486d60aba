"""A picture of a running act that is no higher than the terminal: what matters most stays.

Knows nothing of what the parts show. The first one, the bars, always stays; then the newest news; then the others, from
above.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

__all__ = ["Fit", "Picture", "fit"]

_NEWS_SHARE = 3
"""The news get this part of what the first part leaves of a low terminal, and more if there is room in the end."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How much is shown.

    Attributes:
        parts: How many lines of each part.
        news: How many of the news, the newest ones.
        has_gaps: Whether there is an empty line below each part.
    """

    parts: tuple[int, ...]
    news: int
    has_gaps: bool


def fit(parts: Sequence[int], news: Sequence[int], room: int) -> Fit:
    """Decide what is shown of a picture.

    Args:
        parts: The height of each part in lines, one part at least.
        news: The height of each piece of news, the oldest first.
        room: How many lines there are.
    """
    wanted = sum(parts) + sum(news)
    if wanted <= room:
        return Fit(tuple(parts), len(news), has_gaps=wanted + len(parts) <= room)
    given = [min(parts[0], room)]
    left = room - given[0]
    newest = min(news[-1], left) if news else 0
    reserved = sum(_newest(news, max(left // _NEWS_SHARE, newest)))
    left -= reserved
    for part in parts[1:]:
        given.append(min(part, left))
        left -= given[-1]
    return Fit(tuple(given), len(_newest(news, reserved + left)), has_gaps=False)


def _newest(news: Sequence[int], room: int) -> Sequence[int]:
    """The heights of the newest news that fit."""
    first = len(news)
    while first > 0 and news[first - 1] <= room:
        first -= 1
        room -= news[first]
    return news[first:]


@dataclass(frozen=True, slots=True)
class Picture:
    """Parts below each other, and below them what has happened.

    Attributes:
        parts: What is drawn, from above; the first one matters most.
        news: What has happened, the oldest first.
        is_whole: All is shown, however high the terminal is.
    """

    parts: tuple[RenderableType, ...]
    news: tuple[str, ...]
    is_whole: bool = False

    def whole(self) -> Picture:
        """The same in full, for the last time, when the terminal may scroll."""
        return replace(self, is_whole=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what the terminal has lines for."""
        parts = [_lines(part, console, options) for part in self.parts]
        news = [_lines(Text(one, style="yellow"), console, options) for one in self.news]
        wanted = sum(map(len, chain(parts, news))) + len(parts)
        room = wanted if self.is_whole or not console.is_terminal else options.size.height
        shown = fit([len(part) for part in parts], [len(one) for one in news], room)
        for part, height in zip(parts, shown.parts, strict=True):
            yield from _ended(part[:height])
            if shown.has_gaps:
                yield Segment.line()
        yield from _ended(chain.from_iterable(news[len(news) - shown.news :]))


def _lines(part: RenderableType, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
    return console.render_lines(part, options.update(height=None), pad=False)


def _ended(lines: Iterable[list[Segment]]) -> Iterable[Segment]:
    for line in lines:
        yield from line
        yield Segment.line()
