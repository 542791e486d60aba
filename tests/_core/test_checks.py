"""What callers pass in is checked, and the error names the culprit."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire._core.checks import (
    MAX_NAME_CHARACTERS,
    check_at_least,
    check_count,
    check_life,
    check_name,
    check_seconds,
)
from pulsewire.errors import ConfigurationError, InvalidName, InvalidOption

FORBIDDEN = " \0*?[]"
characters = st.characters(exclude_characters=FORBIDDEN, exclude_categories=["Cs"])


@given(st.text(characters, min_size=1, max_size=MAX_NAME_CHARACTERS))
def test_every_name_that_go_accepts_is_accepted(name: str) -> None:
    """1 to 512 code points, newlines and anything beyond ASCII included (spec/pulse.md 0)."""
    assert check_name("stream", name) == name


@pytest.mark.parametrize(
    "name", ["a\nb", "trailing\n", "über:größe", "{tag}", "x" * 512, "🎫" * 512]
)
def test_unusual_legal_name_is_accepted(name: str) -> None:
    assert check_name("stream", name) == name


@pytest.mark.parametrize("character", FORBIDDEN)
@pytest.mark.parametrize("place", ["{}tail", "head{}", "he{}ad", "{}"])
def test_character_special_to_redis_is_refused_wherever_it_stands(
    character: str, place: str
) -> None:
    name = place.format(character)
    with pytest.raises(InvalidName) as caught:
        check_name("sink", name)
    assert caught.value.what == "sink"
    assert caught.value.name == name
    assert repr(name) in str(caught.value)


def test_empty_name_is_refused() -> None:
    with pytest.raises(InvalidName, match="empty"):
        check_name("stream", "")


def test_name_of_513_characters_is_refused_with_both_numbers() -> None:
    """The message says how long it is and what is allowed, and does not repeat all of it."""
    with pytest.raises(InvalidName, match=r"513 characters, at most 512") as caught:
        check_name("stream", "x" * 513)
    assert caught.value.name == "x" * 40 + "..."
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", [None, 7, b"bytes", ["list"]])
def test_name_that_is_no_string_is_refused_with_its_type(name: Any) -> None:
    with pytest.raises(InvalidName, match=type(name).__name__):
        check_name("stream", name)


def test_name_that_utf8_cannot_write_is_refused() -> None:
    """A lone surrogate would fail deep in the client otherwise."""
    with pytest.raises(InvalidName, match="UTF-8"):
        check_name("stream", "\ud800")


def test_refusals_are_value_errors_too() -> None:
    """Callers that know nothing of pulsewire's tree catch what they expect."""
    for error in (InvalidName, InvalidOption):
        assert issubclass(error, ValueError)
        assert issubclass(error, ConfigurationError)


@pytest.mark.parametrize("value", [0, 1, 1.5, math.inf])
def test_number_at_or_above_the_least_is_accepted(value: float) -> None:
    assert check_at_least("max_len", value, 0) == value


@pytest.mark.parametrize("value", [-1, -0.1, math.nan, True, False, "1", None])
def test_number_below_the_least_or_no_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="max_len") as caught:
        check_at_least("max_len", value, 0)
    assert caught.value.option == "max_len"


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, math.nan])
def test_count_that_is_no_whole_number_of_at_least_one_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="concurrency"):
        check_count("concurrency", value)


def test_count_has_a_least_of_its_own() -> None:
    assert check_count("max_len", 0, 0) == 0
    with pytest.raises(InvalidOption, match="at least 5"):
        check_count("max_len", 4, 5)


@pytest.mark.parametrize("value", [0.001, 1, 20.0, 86400 * 365])
def test_seconds_come_back_as_float(value: float) -> None:
    checked = check_seconds("block", value)
    assert checked == value
    assert type(checked) is float


@pytest.mark.parametrize(
    "value", [0, 0.0009, -1, math.nan, math.inf, -math.inf, 1e10, True, "5", None]
)
def test_seconds_that_are_not_finite_and_positive_are_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="block") as caught:
        check_seconds("block", value)
    assert repr(value) in str(caught.value)


def test_time_to_live_is_given_once_or_not_at_all() -> None:
    for ttl, sliding_ttl in ((None, None), (1, None), (None, 0.001)):
        check_life(ttl, sliding_ttl)
    with pytest.raises(
        InvalidOption, match="ttl=5 is given, too; choose one or the other"
    ) as caught:
        check_life(5, 60.0)
    assert (caught.value.option, caught.value.value) == ("sliding_ttl", 60.0)


@pytest.mark.parametrize("value", [0, 0.0009, math.inf, "5"])
def test_impossible_time_to_live_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        check_life(value, 60.0)
    assert (caught.value.option, caught.value.value) == ("ttl", value)
    with pytest.raises(InvalidOption) as caught:
        check_life(60.0, value)
    assert (caught.value.option, caught.value.value) == ("sliding_ttl", value)
    assert "finite" in str(caught.value) or "number of seconds" in str(caught.value)
