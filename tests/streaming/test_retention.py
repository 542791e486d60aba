"""How a stream is bounded: its options, and the credit by which most adds are one plain command."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.errors import InvalidOption
from pulsewire.streaming.retention import Credit, StreamOptions
from pulsewire.streaming.store import AddRules

IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    # options, and the one that is named
    *(({"max_len": value}, "max_len") for value in (-1, 1.5, None)),
    *(({"max_payload": value}, "max_payload") for value in (0, 1.5)),
    *(({"hard_limit": value}, "hard_limit") for value in (-1, 2000.5, "2000")),
    *(({name: 0.0}, name) for name in ("idempotency_window", "ttl", "sliding_ttl")),
    *(({name: math.inf}, name) for name in ("idempotency_window", "ttl", "sliding_ttl")),
    ({"retain": "all"}, "retain"),
    ({"retain": "none", "hard_limit": 5000}, "hard_limit"),
    ({"max_len": 1000, "hard_limit": 999}, "hard_limit"),
    ({"ttl": 60.0, "sliding_ttl": 60.0}, "sliding_ttl"),
]


def test_defaults() -> None:
    options = StreamOptions()
    assert (options.max_len, options.hard_limit, options.retain) == (1000, None, "unacked")
    assert (options.ttl, options.sliding_ttl) == (None, None)
    assert (options.idempotency_window, options.max_payload) == (3600.0, 16 * 2**20)


@pytest.mark.parametrize(("options", "name"), IMPOSSIBLE)
def test_impossible_options_are_refused_and_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        StreamOptions(**options)
    assert caught.value.option == name


@pytest.mark.parametrize(
    "options",
    [
        {"max_len": 0, "max_payload": 1},
        {"max_len": 1000, "hard_limit": 1000},
        {
            "max_len": 0,
            "retain": "none",
            "hard_limit": 5000,
        },  # nothing is trimmed: a limit is of use
        {"retain": "none", "hard_limit": 0},
        {"ttl": 0.001},
        {"sliding_ttl": 0.001},
    ],
)
def test_possible_options_are_taken(options: dict[str, Any]) -> None:
    taken = StreamOptions(**options)
    assert {name: getattr(taken, name) for name in options} == options


def test_script_is_told_what_the_options_mean() -> None:
    """No time to live is 0 for it."""
    assert StreamOptions().rules() == AddRules(1000, 100_000, "unacked", 0.0, 0.0)
    options = StreamOptions(max_len=5, hard_limit=7, ttl=1.5)
    assert options.rules() == AddRules(5, 7, "unacked", 1.5, 0.0)
    options = StreamOptions(max_len=5, retain="none", sliding_ttl=2.5)
    assert options.rules() == AddRules(5, 0, "none", 0.0, 2.5)


def test_default_hard_limit_is_far_away() -> None:
    assert StreamOptions().effective_hard_limit() == 100_000
    assert StreamOptions(max_len=10_000).effective_hard_limit() == 1_000_000
    assert StreamOptions(hard_limit=0).effective_hard_limit() == 0
    assert StreamOptions(retain="none").effective_hard_limit() == 0
    assert StreamOptions(max_len=0).effective_hard_limit() == 0


def test_credit_is_a_tenth_and_less_near_the_limit() -> None:
    """So that several publishers cannot pass the limit by much."""
    options = StreamOptions(max_len=1000, hard_limit=2000)
    assert options.credit(0) == 2000 // 64
    assert options.credit(2000) == options.credit(1990) == 0
    assert StreamOptions(max_len=1000).credit(0) == 100
    assert StreamOptions(max_len=5).credit(0) == 1
    assert StreamOptions(max_len=10**6).credit(0) == 1000
    assert StreamOptions(ttl=1.0).credit(0) == 0
    assert StreamOptions(max_len=0, hard_limit=6400).credit(0) == 100  # no history: of the limit


def test_credit_is_spent_and_renewed() -> None:
    """The first add asks; those after it do not, until it is used up."""
    credit = Credit(StreamOptions(max_len=50, hard_limit=0))
    assert not credit.spend()
    credit.renew(0)
    assert [credit.spend() for _ in range(6)] == [True] * 5 + [False]
    credit.renew(0)
    assert credit.spend_more(3) == 3
    assert credit.spend_more(3) == 2
    assert credit.spend_more(3) == 0


def test_those_beside_a_renewal_overdraw() -> None:
    """They do not wait for it; what they took is gone, not counted twice."""
    credit = Credit(StreamOptions())
    assert not credit.spend()
    credit.begin_renewal()
    assert credit.spend()
    assert credit.spend_more(10) == 0
    credit.end_renewal()
    assert not credit.spend()


def test_nobody_overdraws_a_stream_that_was_full() -> None:
    """Until a renewal brings credit again."""
    credit = Credit(StreamOptions())
    credit.begin_renewal()
    credit.refuse()
    assert not credit.spend()
    credit.renew(0)
    assert credit.spend()


def test_refusal_takes_what_credit_was_left() -> None:
    credit = Credit(StreamOptions())
    credit.renew(0)
    credit.refuse()
    assert not credit.spend()
    assert credit.spend_more(5) == 0


@pytest.mark.parametrize(("length", "may"), [(0, True), (6400 - 64, True), (6400, False)])
def test_last_renewal_decides_whether_the_next_is_waited_for(length: int, may: bool) -> None:
    """Even a credit of one says that there is room."""
    credit = Credit(StreamOptions(max_len=1000, hard_limit=6400))
    credit.refuse()
    credit.renew(length)
    assert sum(credit.spend() for _ in range(200)) < 200
    credit.begin_renewal()
    assert credit.spend() is may


def test_plain_trimming_needs_no_credit() -> None:
    for options in (StreamOptions(retain="none"), StreamOptions(max_len=0, hard_limit=0)):
        credit = Credit(options)
        assert credit.spend()
        assert credit.spend_more(10**6) == 10**6


def test_stream_with_a_ttl_never_has_credit() -> None:
    for options in (StreamOptions(ttl=1.0), StreamOptions(sliding_ttl=1.0, retain="none")):
        credit = Credit(options)
        credit.begin_renewal()
        assert not credit.spend()
        credit.renew(0)
        assert not credit.spend()


@given(st.integers(0, 5000), st.one_of(st.none(), st.integers(0, 10_000)), st.integers(0, 20_000))
def test_credit_never_reaches_beyond_the_hard_limit(
    max_len: int, hard_limit: int | None, length: int
) -> None:
    """Not even with dozens of publishers, each with as much."""
    if hard_limit and hard_limit < max_len:
        hard_limit = max_len
    options = StreamOptions(max_len=max_len, hard_limit=hard_limit)
    credit, limit = options.credit(length), options.effective_hard_limit()
    assert 0 <= credit <= 1000
    if limit:
        assert length + 64 * credit <= max(limit, length)
