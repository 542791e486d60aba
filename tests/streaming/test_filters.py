"""Which topics a consumer wants."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import InvalidOption
from pulsewire.streaming.filters import topic_filter


def test_without_topic_and_pattern_there_is_no_filter() -> None:
    """None, so that nothing is called per event."""
    assert topic_filter(None, None) is None


@given(st.text(min_size=1), st.text())
def test_topic_means_exactly_this_one(topic: str, other: str) -> None:
    wanted = topic_filter(topic, None)
    assert wanted is not None
    assert wanted(topic)
    assert wanted(other) is (topic == other)


@pytest.mark.parametrize("pattern", [r"eu\.", re.compile(r"eu\.")], ids=["text", "compiled"])
def test_pattern_is_found_anywhere(pattern: str | re.Pattern[str]) -> None:
    """Unanchored, as in Go Pulse; text or compiled."""
    wanted = topic_filter(None, pattern)
    assert wanted is not None
    assert wanted("orders.eu.paid")
    assert not wanted("orders.us.paid")
    assert not wanted("")


def test_pattern_may_be_anchored() -> None:
    wanted = topic_filter(None, "^orders$")
    assert wanted is not None
    assert wanted("orders")
    assert not wanted("my orders")


@pytest.mark.parametrize(
    ("topic", "pattern", "culprit"),
    [
        ("a", "b", "topic_pattern"),
        ("", None, "topic"),
        (7, None, "topic"),
        (None, "(", "topic_pattern"),
        (None, "*", "topic_pattern"),
        (None, 7, "topic_pattern"),
        (None, b"bytes", "topic_pattern"),
    ],
)
def test_impossible_filters_are_refused_and_named(topic: Any, pattern: Any, culprit: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        topic_filter(topic, pattern)
    assert caught.value.option == culprit
