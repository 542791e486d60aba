"""Vital signs: what a duty, a loop and the lag of the event loop say of themselves."""

from __future__ import annotations

import logging

import anyio
import pytest

from pulsewire._core.hooks import NO_HOOKS
from pulsewire._core.lag import LoopLag
from pulsewire._core.loops import LoopContext, Stop, do_every, keep_doing
from pulsewire._core.vitals import AgeSign, LoopSign, Vitals, going_on, no_ward, resting, watched
from pulsewire.errors import ServerUnavailable
from pulsewire.testing import wait_until

LOGGER = logging.getLogger("vitals-of-a-test")


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def vitals(clock: ManualClock) -> Vitals:
    return Vitals(clock)


def only(vitals: Vitals) -> LoopSign:
    """The one sign there is."""
    (sign,) = vitals.signs()
    assert isinstance(sign, LoopSign)
    return sign


def context(vitals: Vitals, stop: Stop) -> LoopContext:
    return LoopContext(stop, NO_HOOKS, LOGGER, vitals.ward("streams", "sink a"))


def test_a_pass_is_counted_from_its_beginning(vitals: Vitals, clock: ManualClock) -> None:
    vital = vitals.ward("streams", "sink a").watch("claim", 7.0)
    assert only(vitals).in_pass_for is None
    vital.begin()
    clock.now += 3
    sign = only(vitals)
    assert (sign.block, sign.owner, sign.name, sign.within) == ("streams", "sink a", "claim", 7.0)
    assert sign.in_pass_for == 3.0
    vital.beat()
    assert only(vitals).in_pass_for is None


def test_failures_are_counted_from_the_first_in_a_row(vitals: Vitals, clock: ManualClock) -> None:
    """What fails again and again is failing since its first failure, also while the next try is under way."""
    vital = vitals.ward("streams", "sink a").watch("claim")
    for number in (1, 2, 3):
        vital.begin()
        vital.fail(ServerUnavailable("a", 1.0, f"down {number}"))
        clock.now += 5
    vital.begin()
    sign = only(vitals)
    assert (sign.failures, sign.failing_for) == (3, 15.0)
    assert "down 3" in sign.reason
    vital.beat()
    assert (only(vitals).failures, only(vitals).failing_for) == (0, 0.0)


def test_who_rests_is_neither_in_a_pass_nor_failing(vitals: Vitals, clock: ManualClock) -> None:
    vital = vitals.ward("streams", "sink a").watch("claim")
    vital.begin()
    vital.fail(ServerUnavailable("a", 1.0, "down"))
    vital.begin()
    vital.rest()
    clock.now += 100
    assert (only(vitals).in_pass_for, only(vitals).failing_for) == (None, 0.0)
    vital.resume()
    clock.now += 2
    assert (only(vitals).in_pass_for, only(vitals).failing_for) == (2.0, 102.0)


def test_rests_of_parts_of_a_pass_overlap(vitals: Vitals, clock: ManualClock) -> None:
    vital = vitals.ward("streams", "sink a").watch("claim")
    vital.begin()
    vital.rest()
    vital.rest()
    vital.resume()
    clock.now += 9
    assert only(vitals).in_pass_for is None
    vital.resume()
    assert only(vitals).in_pass_for == 0.0


def test_signs_are_asked_for_until_they_are_forgotten(vitals: Vitals) -> None:
    sign = AgeSign("maps", "map a", "replica", 1.0, 3.0, 3.0)
    forget = vitals.ask(lambda: [sign])
    assert vitals.signs() == [sign]
    forget()
    forget()
    assert vitals.signs() == []


async def test_a_loop_is_in_the_register_while_it_lasts(vitals: Vitals, clock: ManualClock) -> None:
    stop, seen = Stop(), list[LoopSign]()

    async def duty() -> None:
        clock.now += 1
        seen.append(only(vitals))
        if len(seen) == 2:
            stop.set()

    await keep_doing("read", duty, context(vitals, stop))
    assert [sign.in_pass_for for sign in seen] == [1.0, 1.0]
    assert vitals.signs() == []


async def test_a_loop_that_makes_a_pass_now_and_then_is_there_in_between(vitals: Vitals) -> None:
    stop, passes = Stop(), 0

    async def duty() -> None:
        nonlocal passes
        passes += 1

    async with anyio.create_task_group() as group:
        group.start_soon(do_every, "claim", 3600.0, duty, context(vitals, stop))
        await anyio.wait_all_tasks_blocked()
        assert (only(vitals).name, only(vitals).in_pass_for, passes) == ("claim", None, 0)
        stop.set()
    assert vitals.signs() == []


async def test_a_loop_says_when_it_rests_and_when_it_goes_on(
    vitals: Vitals, clock: ManualClock
) -> None:
    stop, seen, wake = Stop(), list[float | None](), anyio.Event()

    async def duty() -> None:
        clock.now += 5
        going_on()
        seen.append(only(vitals).in_pass_for)
        with resting():
            await wake.wait()
        stop.set()

    async with anyio.create_task_group() as group:
        group.start_soon(keep_doing, "claim", duty, context(vitals, stop))
        await anyio.wait_all_tasks_blocked()
        seen.append(only(vitals).in_pass_for)
        wake.set()
    assert seen == [0.0, None]


async def test_outside_of_a_loop_there_is_nobody_to_tell() -> None:
    going_on()
    with resting():
        pass


async def test_a_loop_that_died_stays_until_its_owner_ends(vitals: Vitals) -> None:
    stop = Stop()

    async def duty() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await keep_doing("claim", duty, context(vitals, stop))
    sign = only(vitals)
    assert sign.is_dead
    assert "broken" in sign.reason
    stop.set()
    assert vitals.signs() == []


async def test_a_cancelled_loop_has_not_died(vitals: Vitals) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(keep_doing, "claim", anyio.sleep_forever, context(vitals, Stop()))
        await anyio.wait_all_tasks_blocked()
        assert only(vitals).in_pass_for == 0.0
        group.cancel_scope.cancel()
    assert vitals.signs() == []


def test_the_lag_is_the_worst_of_the_last_seconds(clock: ManualClock) -> None:
    lag = LoopLag(clock)
    assert lag.worst == 0.0
    for delay in (0.25, 3.0, 0.5):
        lag.expect(0.5)
        clock.now += 0.5 + delay
        lag.note()
    assert lag.worst == 3.0
    clock.now += 9.6
    assert lag.worst == 0.5  # the longest one is more than 10 s ago
    lag.expect(0.5)
    clock.now += 2.5
    assert lag.worst == 2.0  # it has not fired yet


async def test_the_lag_of_a_loop_is_measured(clock: ManualClock) -> None:
    lag = LoopLag(clock)
    end = lag.begin()
    clock.now += 4.5
    assert lag.worst == 4.0
    assert lag.due is not None
    due = lag.due
    await wait_until(lambda: lag.due != due, what="the timer has fired, and was set again")
    clock.now += 9.0
    assert lag.worst == 8.5
    end()
    assert lag.worst == 4.0  # no timer waits any more


# --- what a duty says of itself


def test_duty_that_has_not_begun_is_well(vitals: Vitals) -> None:
    vitals.ward("streams", "sink a").watch("claim")
    assert only(vitals) == LoopSign(
        "streams", "sink a", "claim", 30.0, None, 0.0, 0, "", is_dead=False
    )


def test_pass_that_failed_is_over(vitals: Vitals, clock: ManualClock) -> None:
    """The reason is the kind of error where the error has no words."""
    vital = vitals.ward("streams", "sink a").watch("claim")
    vital.begin()
    clock.now += 3
    vital.fail(TimeoutError())
    clock.now += 4
    sign = only(vitals)
    assert (sign.in_pass_for, sign.failing_for, sign.reason) == (None, 4.0, "TimeoutError")


def test_duty_whose_owner_ends_is_out_of_the_register_for_good(vitals: Vitals) -> None:
    stop = Stop()
    vitals.ward("streams", "sink a").watch("claim", flag=stop)
    assert len(vitals.signs()) == 1
    stop.is_set = True
    assert vitals.signs() == []
    stop.is_set = False
    assert vitals.signs() == []


def test_sign_of_a_moment_before_the_pass_says_that_it_has_just_begun(
    vitals: Vitals, clock: ManualClock
) -> None:
    """Another thread begins a pass while somebody looks."""
    vital = vitals.ward("streams", "sink a").watch("claim")
    vital.fail(TimeoutError())
    vital.begin()
    sign = vital.sign(clock.now - 1)
    assert (sign.in_pass_for, sign.failing_for) == (0.0, 0.0)


def test_duty_that_nobody_asks_about_may_speak_all_the_same() -> None:
    vital = no_ward().watch("claim")
    vital.begin()
    sign = vital.sign(0.0)
    assert (sign.block, sign.owner, sign.name) == ("", "", "claim")


def test_only_within_its_block_a_duty_is_spoken_of(vitals: Vitals) -> None:
    vital = vitals.ward("streams", "sink a").watch("claim")
    with watched(vital):
        with resting():
            assert only(vitals).in_pass_for is None
        assert only(vitals).in_pass_for == 0.0
        vital.beat()
        going_on()
        assert only(vitals).in_pass_for == 0.0
    vital.beat()
    going_on()
    assert only(vitals).in_pass_for is None
