"""Where reading starts, and the arithmetic of ids."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulsewire import InvalidOption
from pulsewire.streaming.positions import Start, age_of, id_of, order_of, position_of
from pulsewire.streaming.wire import Event

LAST = 2**64 - 1
milliseconds = st.integers(min_value=1, max_value=4_000_000_000_000)
ids = st.tuples(st.integers(0, LAST), st.integers(0, LAST)).map(
    lambda parts: f"{parts[0]}-{parts[1]}"
)


def event_of(event_id: str) -> Event[bytes]:
    return Event(event_id, "s", "", "n", "", b"", {})


@pytest.mark.parametrize(
    ("start", "position"),
    [
        ("newest", "$"),
        ("oldest", "0-0"),
        ("0", "0-0"),
        ("1700000000000-3", "1700000000000-3"),
        ("1700000000000", "1700000000000-0"),
        ("007-01", "7-1"),
        (f"{LAST}-{LAST}", f"{LAST}-{LAST}"),
    ],
)
def test_words_and_ids_become_positions(start: str, position: str) -> None:
    assert position_of(start) == position


@pytest.mark.parametrize(
    "start",
    [
        *("", "$", ">", "-", "+", "latest", "1-", "-1", "1-2-3", "1 ", "1-1\n", "(1-1"),
        *(f"{2**64}-0", f"1-{2**64}", "9" * 30),
        *(None, 5, 1.5, b"1-1", ["1-1"], True),
    ],
)
def test_everything_else_is_refused_and_named(start: Start) -> None:
    """The error carries the option and the value."""
    with pytest.raises(InvalidOption) as caught:
        position_of(start, "begin")
    assert caught.value.option == "begin"
    assert caught.value.value == start


def test_start_is_what_is_named_unless_it_is_called_otherwise() -> None:
    with pytest.raises(InvalidOption) as caught:
        position_of("yesterday")
    assert caught.value.option == "start"


def test_id_of_an_event_comes_back_as_the_server_writes_it() -> None:
    assert id_of("1700000000000-3", "after") == "1700000000000-3"
    assert id_of("007", "after") == "7-0"


@pytest.mark.parametrize("other", ["newest", "oldest", "", "$", datetime.now(UTC), None, 7])
def test_where_an_id_is_needed_no_other_start_will_do(other: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        id_of(other, "after")
    assert (caught.value.option, caught.value.value) == ("after", other)


def test_age_counts_from_the_milliseconds_of_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequence is no time."""
    monkeypatch.setattr(time, "time", lambda: 1_700_000_007.5)
    assert age_of("1700000000000-900000") == 7.5
    assert age_of("1700000008000-0") == -0.5


def test_moment_without_time_zone_is_refused() -> None:
    """Whose clock it means cannot be guessed."""
    with pytest.raises(InvalidOption, match="time zone"):
        position_of(datetime(2026, 1, 1))  # noqa: DTZ001  # that is the point


@given(milliseconds, st.integers(0, 999))
@example(1001, 0)  # 1.001 * 1000 is below 1001 as a float
@example(1_081_300_527_363, 0)
@example(2_195_265_901_259, 0)
def test_moment_is_exact_to_the_millisecond(moment: int, microseconds: int) -> None:
    """Reading from the time of an event reads that event and everything of its millisecond, and nothing before it."""
    start = event_of(f"{moment}-0").created_at + timedelta(microseconds=microseconds)
    after = order_of(position_of(start))
    assert after < (moment, 0)
    assert after == (moment - 1, LAST)


@given(milliseconds)
def test_moment_in_another_time_zone_is_the_same_moment(moment: int) -> None:
    here = event_of(f"{moment}-0").created_at
    there = here.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert position_of(here) == position_of(there)


def test_moment_before_the_epoch_is_the_oldest() -> None:
    assert position_of(datetime(1969, 7, 20, tzinfo=UTC)) == "0-0"
    assert position_of(datetime(1970, 1, 1, tzinfo=UTC)) == "0-0"


@given(ids, ids)
def test_ids_sort_as_the_server_sorts_them(one: str, other: str) -> None:
    """By number, first the milliseconds, then the sequence; never as text."""
    first, second = (tuple(map(int, entry_id.split("-"))) for entry_id in (one, other))
    assert (order_of(one) < order_of(other)) == (first < second)
    assert (order_of(one) == order_of(other)) == (first == second)


def test_id_without_sequence_is_the_first_of_its_millisecond() -> None:
    assert order_of("5") == order_of("5-0") < order_of("5-1") < order_of("10-0")


@given(milliseconds, st.integers(0, LAST))
def test_creation_time_is_the_id_s_millisecond_in_utc(moment: int, sequence: int) -> None:
    created = event_of(f"{moment}-{sequence}").created_at
    assert created.tzinfo is UTC
    assert (created - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == moment
    assert created.microsecond % 1000 == 0
