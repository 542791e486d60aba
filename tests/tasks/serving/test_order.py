"""Sharing places among queues (spec/asynq.md 5.1)."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import InvalidName, InvalidOption
from pulsewire.tasks.serving.order import Order, check_queues, how_many_ahead

WEIGHTS = {"high": 6, "middle": 3, "low": 1}


def test_weighted_queues_are_drawn_by_their_weights() -> None:
    """P(first = q) = w(q) / sum of all, each place by itself."""
    order = Order(WEIGHTS, strict=False, chance=Random(1))
    shares = Counter(order.share(100_000, list(WEIGHTS)))
    assert shares.total() == 100_000
    for name, weight in WEIGHTS.items():
        assert abs(shares[name] - weight * 10_000) < 800  # five sigma


def test_weights_of_those_that_are_ready_count() -> None:
    order = Order(WEIGHTS, strict=False, chance=Random(1))
    shares = order.share(40_000, ["middle", "low"])
    assert abs(shares["middle"] - 30_000) < 500


def test_strict_gives_all_to_the_highest() -> None:
    order = Order({"low": 1, "high": 9, "middle": 5}, strict=True)
    assert order.share(7, ["low", "high", "middle"]) == {"high": 7}
    assert order.share(7, ["low", "middle"]) == {"middle": 7}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=1),
    st.integers(0, 300),
    st.booleans(),
    st.data(),
)
def test_shares_are_all_places_and_nothing_else(
    weights: dict[str, int], places: int, strict: bool, data: st.DataObject
) -> None:
    ready = data.draw(st.lists(st.sampled_from(sorted(weights)), unique=True))
    shares = Order(weights, strict=strict).share(places, ready)
    assert sum(shares.values()) == (places if ready else 0)
    assert set(shares) <= set(ready)
    assert all(count > 0 for count in shares.values())


@pytest.mark.parametrize(
    ("given_as", "expected"),
    [
        ("one", {"one": 1}),
        (["a", "b"], {"a": 1, "b": 1}),
        ({"a": 1, "b": 3, "c": 2}, {"b": 3, "c": 2, "a": 1}),
    ],
)
def test_queues_come_highest_first(given_as: Any, expected: dict[str, int]) -> None:
    assert list(check_queues(given_as).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("given_as", "option"),
    [
        *(([], "queues"), ({}, "queues")),
        *(({"a": weight}, "priority of 'a'") for weight in (0, 1.5, True)),
    ],
)
def test_impossible_weights_are_refused(given_as: Any, option: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        check_queues(given_as)
    assert caught.value.option == option


@pytest.mark.parametrize("given_as", [[""], ["a{"], [5]])
def test_impossible_names_are_refused(given_as: Any) -> None:
    with pytest.raises(InvalidName):
        check_queues(given_as)


def test_short_tasks_are_taken_ahead_and_long_ones_not() -> None:
    assert how_many_ahead(100, 0.0) == 100
    assert how_many_ahead(100, 0.001) == 100
    assert how_many_ahead(100, 0.2) == 10
    assert how_many_ahead(100, 5.0) == 0
    assert how_many_ahead(100, float("inf")) == 0
