"""How much of a running act a low terminal shows."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from pulsewire.cli.demo.picture import Fit, Picture, fit
from pulsewire.cli.demo.screen import Screen

HEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=4)
NEWS = st.lists(st.integers(1, 3), max_size=8)


@given(parts=HEIGHTS, news=NEWS, room=st.integers(1, 60))
def test_nothing_is_higher_than_the_terminal_and_no_line_stays_free_needlessly(
    parts: list[int], news: list[int], room: int
) -> None:
    shown = fit(parts, news, room)
    told = news[len(news) - shown.news :]
    used = sum(shown.parts) + sum(told) + (len(parts) if shown.has_gaps else 0)
    assert used <= room
    assert all(given <= wanted for given, wanted in zip(shown.parts, parts, strict=True))
    hidden = news[: len(news) - shown.news]
    if used < room:
        assert shown.parts == tuple(parts)
        assert not hidden or hidden[-1] > room - used


@given(parts=HEIGHTS, news=NEWS, spare=st.integers(0, 5))
def test_all_is_shown_where_there_is_room(parts: list[int], news: list[int], spare: int) -> None:
    shown = fit(parts, news, sum(parts) + sum(news) + spare)
    assert shown == Fit(tuple(parts), len(news), has_gaps=spare >= len(parts))


def test_bars_stay_then_the_newest_news_then_what_comes_from_above() -> None:
    assert fit([4, 6, 8], [1, 1, 2, 2], 15) == Fit((4, 6, 3), 1, has_gaps=False)
    assert fit([4, 6, 8], [1, 1, 2, 2], 8) == Fit((4, 2, 0), 1, has_gaps=False)
    assert fit([4, 6, 8], [1, 1, 2, 2], 3) == Fit((3, 0, 0), 0, has_gaps=False)


PICTURE = Picture(
    (Text("bars\nfacts"), Text("\n".join(f"block {number}" for number in range(9)))),
    tuple(f"news {number}" for number in range(6)),
)


def drawn(height: int, *, is_terminal: bool = True) -> list[str]:
    console = Console(
        file=io.StringIO(), width=40, height=height, force_terminal=is_terminal, color_system=None
    )
    with console.capture() as captured:
        console.print(PICTURE)
    return captured.get().splitlines()


def test_a_low_terminal_shows_bars_and_what_has_just_happened() -> None:
    lines = drawn(8)
    assert len(lines) == 8
    assert lines[:2] == ["bars", "facts"]
    assert lines[-2:] == ["news 4", "news 5"]


@pytest.mark.parametrize("height", [19, 40])
def test_a_high_terminal_shows_all_with_gaps(height: int) -> None:
    assert len(drawn(height)) == 2 + 1 + 9 + 1 + 6


def test_what_is_no_terminal_has_no_height() -> None:
    assert len(drawn(8, is_terminal=False)) == 19


def test_the_last_picture_is_whole() -> None:
    output = io.StringIO()
    console = Console(file=output, width=40, height=8, force_terminal=True, color_system=None)
    with Screen(console) as screen:
        screen.show(1.0, PICTURE.news, lambda: PICTURE, lambda: "")
        assert "news 0" not in output.getvalue()
    assert "news 0" in output.getvalue()
