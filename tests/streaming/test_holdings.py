"""What a consumer holds, and what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pulsewire.streaming.holdings import Holdings


@pytest.fixture
def holdings() -> Holdings:
    return Holdings()


def test_taken_event_is_held_and_not_in_work(holdings: Holdings) -> None:
    assert holdings.take("1-0")
    assert "1-0" in holdings
    assert len(holdings) == 1
    assert holdings.in_work == 0


def test_same_event_is_not_taken_twice(holdings: Holdings) -> None:
    """Neither while it waits nor while it is worked on."""
    assert holdings.take("1-0")
    assert not holdings.take("1-0")
    assert holdings.begin("1-0")
    assert not holdings.take("1-0")


def test_finished_event_may_be_taken_again(holdings: Holdings) -> None:
    """Not acknowledged, it comes back after the grace."""
    holdings.take("1-0")
    holdings.begin("1-0")
    holdings.finish("1-0")
    assert "1-0" not in holdings
    assert holdings.take("1-0")


def test_event_is_begun_once(holdings: Holdings) -> None:
    holdings.take("1-0")
    assert holdings.begin("1-0")
    assert not holdings.begin("1-0")
    assert not holdings.begin("2-0")


def test_event_given_up_is_never_begun(holdings: Holdings) -> None:
    """Somebody else may have it by now."""
    holdings.take("1-0")
    holdings.take("2-0")
    holdings.begin("1-0")
    assert holdings.give_up_buffered() == ["2-0"]
    assert not holdings.begin("2-0")
    assert holdings.due_for_refresh() == ["1-0"]


def test_event_that_belongs_to_others_is_not_begun(holdings: Holdings) -> None:
    holdings.take("1-0")
    holdings.take("2-0")
    holdings.begin("1-0")
    holdings.drop(["1-0", "2-0", "3-0"])
    assert len(holdings) == 0
    assert not holdings.begin("2-0")


def test_all_that_is_held_is_refreshed(holdings: Holdings) -> None:
    """What is in work first, each in the order it came."""
    for event_id in ("1-0", "2-0", "3-0"):
        holdings.take(event_id)
    holdings.begin("2-0")
    assert holdings.due_for_refresh() == ["2-0", "1-0", "3-0"]


def test_extended_event_is_held_again(holdings: Holdings) -> None:
    """Also after the loop had moved on from it."""
    holdings.take("1-0")
    holdings.begin("1-0")
    holdings.finish("1-0")
    holdings.extend("1-0")
    assert holdings.due_for_refresh() == ["1-0"]
    assert not holdings.take("1-0")


def test_extended_event_outlives_the_loop_that_had_it(holdings: Holdings) -> None:
    """Until it is acknowledged or belongs to others."""
    for event_id in ("1-0", "2-0", "3-0"):
        holdings.take(event_id)
        holdings.begin(event_id)
    holdings.extend("1-0")
    holdings.extend("2-0")
    for event_id in ("1-0", "2-0", "3-0"):
        holdings.move_on(event_id)
    assert holdings.due_for_refresh() == ["1-0", "2-0"]
    holdings.finish("1-0")
    holdings.drop(["2-0"])
    assert len(holdings) == 0
    holdings.take("1-0")
    holdings.begin("1-0")
    holdings.move_on("1-0")
    assert len(holdings) == 0


def test_extending_does_not_begin_what_waits(holdings: Holdings) -> None:
    holdings.take("1-0")
    holdings.extend("1-0")
    assert holdings.in_work == 0
    assert holdings.begin("1-0")


event_ids = st.integers(0, 5).map(lambda number: f"{number}-0")


class HoldingsHistory(RuleBasedStateMachine):
    """Any history: an id is in at most one state, and the model agrees."""

    def __init__(self) -> None:
        super().__init__()
        self.holdings = Holdings()
        self.state: dict[str, str] = {}

    @rule(event_id=event_ids)
    def take(self, event_id: str) -> None:
        assert self.holdings.take(event_id) is (event_id not in self.state)
        self.state.setdefault(event_id, "buffered")

    @rule(event_id=event_ids)
    def begin(self, event_id: str) -> None:
        assert self.holdings.begin(event_id) is (self.state.get(event_id) == "buffered")
        if self.state.get(event_id) == "buffered":
            self.state[event_id] = "in work"

    @rule(event_id=event_ids)
    def finish(self, event_id: str) -> None:
        self.holdings.finish(event_id)
        if self.state.get(event_id) in ("in work", "extended"):
            del self.state[event_id]

    @rule(event_id=event_ids)
    def move_on(self, event_id: str) -> None:
        self.holdings.move_on(event_id)
        if self.state.get(event_id) == "in work":
            del self.state[event_id]

    @rule(event_id=event_ids)
    def extend(self, event_id: str) -> None:
        self.holdings.extend(event_id)
        if self.state.get(event_id) != "buffered":
            self.state[event_id] = "extended"

    @rule()
    def give_up(self) -> None:
        given_up = self.holdings.give_up_buffered()
        assert sorted(given_up) == sorted(i for i, s in self.state.items() if s == "buffered")
        self.state = {i: s for i, s in self.state.items() if s != "buffered"}

    @rule(dropped=st.lists(event_ids, max_size=3))
    def drop(self, dropped: list[str]) -> None:
        self.holdings.drop(dropped)
        for event_id in dropped:
            self.state.pop(event_id, None)

    @invariant()
    def agrees_with_the_model(self) -> None:
        holdings, state = self.holdings, self.state
        assert sorted(holdings.due_for_refresh()) == sorted(state)
        assert len(holdings) == len(state)
        assert holdings.in_work == sum(s != "buffered" for s in state.values())
        begun = holdings.due_for_refresh()[: holdings.in_work]
        assert sorted(begun) == sorted(i for i, s in state.items() if s != "buffered")
        assert all(event_id in holdings for event_id in state)


TestHoldingsHistory = HoldingsHistory.TestCase
