"""A loop that stands still is noticed from beside it: once, by name, and by whoever sees it first."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pulsewire._core import stalls
from pulsewire._core.lag import LoopLag
from pulsewire._core.stalls import (
    BLOCKED,
    IS_BLOCKED,
    STOOD_STILL,
    WAS_BLOCKED,
    LoopWatch,
    at_work,
    runs_handlers,
    wording,
)
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Said
from tests.weather.misdeeds import hold_interpreter


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


class CountingWatch(LoopWatch):
    """Counts how often it has looked."""

    looks = 0

    def look(self, own_delay: float) -> None:
        """One more."""
        super().look(own_delay)
        self.looks += 1


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def logger(said: Said) -> logging.Logger:
    return said.logger()


@runs_handlers("tasks", lambda its: {"task": its["task"]})
def run(task: str, handler: Callable[[], Any]) -> Any:
    """What runs a handler."""
    return handler()


@runs_handlers("pools", lambda its: {"job": its["job"]})
async def conduct(job: str, handler: Callable[[], Any]) -> Any:
    """The same, as a coroutine."""
    return handler()


def look_around() -> stalls.AtWork:
    """What this thread does."""
    return at_work(sys._getframe())


def test_handler_that_runs_is_named_by_who_runs_it() -> None:
    found = run("a", look_around)
    assert (found.block, found.what) == ("tasks", {"task": "a"})
    assert "look_around" in found.where
    assert "who runs it" not in found.where, "only what the handler itself calls"


async def test_innermost_of_several_that_run_handlers_is_named() -> None:
    found = await conduct("outer", lambda: run("inner", look_around))
    assert (found.block, found.what) == ("tasks", {"task": "inner"})


async def test_coroutine_that_runs_a_handler_is_named() -> None:
    assert (await conduct("j", look_around)).what == {"job": "j"}


def test_stack_without_a_handler_has_a_place_and_no_name() -> None:
    found = look_around()
    assert (found.block, found.what) == ("", {})
    assert "look_around" in found.where
    assert at_work(None) == stalls.AtWork("", {}, "")


@pytest.mark.parametrize(
    ("own_delay", "message"),
    [(0.0, IS_BLOCKED), (0.9, IS_BLOCKED), (1.1, STOOD_STILL), (2.0, STOOD_STILL)],
)
def test_who_was_late_itself_does_not_blame_the_loop(own_delay: float, message: str) -> None:
    assert wording(2.0, own_delay) == message


async def test_each_standstill_is_said_once(
    clock: ManualClock, said: Said, logger: logging.Logger
) -> None:
    lag = LoopLag(clock)
    watch = LoopWatch(lag, clock)
    end = watch.begin("tasks", logger)
    for _ in range(2):
        lag.expect(0.5)
        clock.now += 0.5 + BLOCKED - 0.1
        watch.look(0.0)
        assert not said.records
        clock.now += 0.1
        watch.look(0.0)
        watch.look(0.0)
        clock.now += 60.0
        watch.look(0.0)
        lag.note()
        assert said.messages() == [IS_BLOCKED]
        assert vars(said.records[0])["seconds"] == BLOCKED
        said.records.clear()
    end()


async def test_standstill_that_nobody_saw_is_said_afterwards(
    clock: ManualClock, said: Said, logger: logging.Logger
) -> None:
    lag = LoopLag(clock)
    end = LoopWatch(lag, clock).begin("tasks", logger)
    for late in (BLOCKED - 0.1, BLOCKED + 1.0):
        lag.expect(0.5)
        clock.now += 0.5 + late
        lag.note()
    assert said.messages() == [WAS_BLOCKED]
    assert vars(said.records[0])["seconds"] == BLOCKED + 1.0
    end()


async def test_logger_of_the_block_that_is_to_blame_is_told(
    clock: ManualClock, said: Said, logger: logging.Logger
) -> None:
    lag, elsewhere = LoopLag(clock), Said()
    watch = LoopWatch(lag, clock)
    ends = [watch.begin("streams", elsewhere.logger()), watch.begin("tasks", logger)]
    clock.now += 60.0
    run("a", lambda: watch.look(0.0))
    assert said.messages() == [IS_BLOCKED]
    assert vars(said.records[0])["task"] == "a"
    assert not elsewhere.records
    for end in ends:
        end()


async def test_watch_ends_with_the_last_who_wants_it(logger: logging.Logger) -> None:
    lag = LoopLag()
    watch = LoopWatch(lag)
    for _ in range(2):
        ends = [watch.begin("tasks", logger), watch.begin("pools", logger)]
        ends[0]()
        ends[0]()
        assert "pulsewire-watch" in {one.name for one in threading.enumerate()}
        assert lag.due is not None
        ends[1]()
        assert "pulsewire-watch" not in {one.name for one in threading.enumerate()}
        assert lag.due is None


async def test_who_measures_the_lag_too_goes_on_without_the_watch(logger: logging.Logger) -> None:
    lag = LoopLag()
    end_measuring, end = lag.begin(), LoopWatch(lag).begin("tasks", logger)
    end()
    assert lag.due is not None
    end_measuring()
    assert lag.due is None


@pytest.mark.parametrize("holds", [False, True], ids=["loop-blocked", "interpreter-held"])
async def test_handler_is_named_while_it_blocks(
    monkeypatch: pytest.MonkeyPatch, holds: bool
) -> None:
    """Also one that holds the interpreter's lock: the moment it gives it up."""
    said = Said(naming="job")
    monkeypatch.setattr(stalls, "BLOCKED", 0.3)
    monkeypatch.setattr(stalls, "LOOK_EVERY", 0.02)
    watch = CountingWatch(LoopLag())
    end = watch.begin("pools", said.logger())
    await wait_until(lambda: watch.looks > 0, what="the thread looks")

    def block() -> None:
        if holds:
            hold_interpreter(1.0)
        assert said.came.wait(PATIENCE)

    await conduct("j", block)
    end()
    (record,) = said.records
    assert vars(record)["job"] == "j"
    assert "in block" in vars(record)["where"]
    assert not holds or record.getMessage() == STOOD_STILL
