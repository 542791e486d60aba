"""The numbers of the demo are refused before anything starts, and the culprit is named."""

from __future__ import annotations

from typing import Any

import pytest

from pulsewire.cli.demo.plan_error import PlanError
from pulsewire.cli.demo.tickets.plan import Plan


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"tickets": 0}, "--tickets"),
        ({"consumers": 0, "kill": False}, "--consumers"),
        ({"consumers": 1}, "--consumers"),
        ({"work": -0.1}, "--work"),
        ({"kill_after": 0.0}, "--kill-after"),
        ({"kill_after": 1.0}, "--kill-after"),
        ({"ack_grace": 0.0}, "--ack-grace"),
        ({"publish_rate": -1.0}, "--publish-rate"),
    ],
)
def test_impossible_numbers_are_refused(options: dict[str, Any], culprit: str) -> None:
    with pytest.raises(PlanError) as refused:
        Plan(**options)
    assert refused.value.option == culprit


def test_one_consumer_will_do_when_nobody_is_killed() -> None:
    assert Plan(consumers=1, kill=False).consumers == 1


def test_the_kill_comes_after_the_fraction_asked_for() -> None:
    assert Plan().killed_at == 1200
    assert Plan(tickets=1).killed_at == 1


def test_patience_outlasts_a_takeover_and_the_work() -> None:
    plan = Plan(work=60.0, ack_grace=20.0)
    assert plan.patience > plan.work + plan.ack_grace
