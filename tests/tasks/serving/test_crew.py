"""What the duties of a server share: its clock, and who belongs to whom."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pulsewire._core.hooks import Hooks
from pulsewire._core.vitals import LoopSign, Vitals
from pulsewire._redis.link import Link
from pulsewire._redis.namespace import Namespace
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.serving.crew import Crew, ServerClock
from pulsewire.tasks.serving.options import ServerOptions

MIDNIGHT = 1_700_006_400.0
"""2023-11-15 00:00 UTC."""


class Clocks:
    """The machine's clocks, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic, self.wall = 500.0, MIDNIGHT - 2
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(time, "time", lambda: self.wall)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_clock_is_the_machine_s_until_the_server_says_the_time(clocks: Clocks) -> None:
    clock = ServerClock()
    assert clock.now() == MIDNIGHT - 2
    clock.note(MIDNIGHT + 3600)
    assert clock.now() == MIDNIGHT + 3600


def test_clock_goes_on_between_replies_whatever_becomes_of_the_machine_s(clocks: Clocks) -> None:
    """Somebody sets it; the monotonic one goes on."""
    clock = ServerClock()
    clock.note(MIDNIGHT)
    clocks.wall -= 100_000
    clocks.monotonic += 1.5
    assert clock.now() == MIDNIGHT + 1.5


def test_day_is_that_of_the_server_in_utc(clocks: Clocks) -> None:
    clock = ServerClock()
    assert clock.day() == "2023-11-14"
    clock.note(MIDNIGHT)
    assert clock.day() == "2023-11-15"


def test_crew_has_a_place_for_each_queue_and_two_ways_to_end() -> None:
    """Who takes tasks stops before those stop who settle them."""
    vitals, hooks, logger = Vitals(), Hooks(), logging.getLogger("crew-of-a-test")
    link: Any = SimpleNamespace(options=SimpleNamespace(vitals=vitals), hooks=hooks)
    options = ServerOptions(queues={"high": 3, "low": 1})
    keys = TaskKeys(Namespace("ns"))
    crew = Crew(cast("Link", link), keys, "server-1", options, hooks=hooks, logger=logger)
    assert (crew.link, crew.keys, crew.server, crew.options) == (link, keys, "server-1", options)
    assert (crew.hooks, crew.logger) == (hooks, logger)
    assert isinstance(crew.clock, ServerClock)
    assert list(crew.places) == ["high", "low"]
    assert {name: place.name for name, place in crew.places.items()} == {
        "high": "high",
        "low": "low",
    }
    crew.taking.stop.set()
    assert not crew.working.stop.is_set
    for context in (crew.taking, crew.working):
        assert (context.hooks, context.logger, context.ward) == (hooks, logger, crew.ward)
    crew.ward.watch("claim", 7.0)
    (sign,) = vitals.signs()
    assert isinstance(sign, LoopSign)
    assert (sign.block, sign.owner) == ("tasks", "server of high, low")
    assert crew.tasks is not None
