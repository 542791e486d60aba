"""What vital signs mean: one table of facts and verdicts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pulsewire import InvalidOption
from pulsewire._core.health import (
    DEFAULT_LIMITS,
    HealthCheck,
    HealthLimits,
    HealthProblem,
    examine,
)
from pulsewire._core.vitals import AgeSign, EndingSign, LoopSign, PlacesSign, Sign, WaySign

LOOP = LoopSign("streams", "sink a", "claim", 30.0, None, 0.0, 0, "", is_dead=False)
WAY = WaySign("redis://a", is_connected=True, seconds=1000.0, silent_for=0.0, reason="")
AWAY = replace(WAY, is_connected=False, seconds=3.0, reason="refused")
AGE = AgeSign("tasks", "server of q", "leases", 1.0, 20.0, 30.0)
ENDING = EndingSign("tasks", "server of q")
PLACES = PlacesSign("tasks", "server of q", 10, 0)

VERDICTS: dict[str, tuple[list[Sign], bool, bool, str]] = {
    # facts -> is_live, is_ready, words of the first problem
    "nothing": ([], True, True, ""),
    "waiting": ([WAY, LOOP], True, True, ""),
    "working": ([WAY, replace(LOOP, in_pass_for=29.9)], True, True, ""),
    "stuck": ([WAY, replace(LOOP, in_pass_for=30.1)], False, False, "no progress"),
    "waits for a server": ([AWAY, replace(LOOP, in_pass_for=99.0)], True, False, "refused"),
    "the server has just come back": (
        [replace(WAY, seconds=5.0), replace(LOOP, in_pass_for=99.0)],
        True,
        True,
        "",
    ),
    "one of two servers is away": (
        [WAY, AWAY, replace(LOOP, in_pass_for=99.0)],
        True,
        False,
        "refused",
    ),
    "fails": ([WAY, replace(LOOP, failing_for=9.9, failures=3)], True, True, ""),
    "fails for just not too long": ([replace(LOOP, failing_for=10.0, failures=3)], True, True, ""),
    "fails for long": (
        [WAY, replace(LOOP, failing_for=10.1, failures=7, reason="OOM")],
        True,
        False,
        "failed 7 times in a row: OOM",
    ),
    "died": ([WAY, replace(LOOP, is_dead=True, reason="ValueError()")], False, False, "ValueError"),
    "not connected": ([AWAY], True, False, "not connected: refused"),
    "silent": ([replace(AWAY, silent_for=9.9)], True, False, "not connected"),
    "silent for long": ([replace(AWAY, silent_for=10.1)], False, False, "answers nothing"),
    "as quick as ever": ([replace(WAY, round_trip=0.19)], True, True, ""),
    "slow": ([replace(WAY, round_trip=0.21)], True, True, "slow to answer (0.2 s)"),
    "slow, and then away": ([replace(AWAY, round_trip=9.0)], True, False, "not connected"),
    "fresh": ([WAY, AGE], True, True, ""),
    "getting old": ([WAY, replace(AGE, seconds=20.1)], True, False, "after 30 s"),
    "too old": ([WAY, replace(AGE, seconds=30.1)], True, False, "not renewed within 30 s"),
    "ending": ([WAY, ENDING], True, False, "no more work"),
    "all handlers end": ([WAY, PLACES], True, True, ""),
    "some do not end": ([WAY, replace(PLACES, lost=9)], True, True, "do not end"),
    "no place is left": ([WAY, replace(PLACES, lost=10)], False, False, "do not end"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdict(case: str) -> None:
    signs, is_live, is_ready, words = VERDICTS[case]
    health = examine(signs, 0.1)
    assert (health.is_live, health.is_ready) == (is_live, is_ready), health
    assert health.is_degraded is bool(health.problems) is bool(words)
    if words:
        assert words in str(health.problems[0])
    assert len(health.checks) == len(signs) + 1


CHECKS: dict[str, tuple[list[Sign], HealthCheck]] = {
    # facts -> what is said of the first of them
    "waiting": ([LOOP], HealthCheck("streams", "sink a: claim", "waiting", 0.0)),
    "working": (
        [replace(LOOP, in_pass_for=30.0), WAY],
        HealthCheck("streams", "sink a: claim", "working", 30.0),
    ),
    "just within": (
        [replace(LOOP, in_pass_for=99.0), replace(WAY, seconds=30.0)],
        HealthCheck("streams", "sink a: claim", "working", 99.0),
    ),
    "stuck": (
        [replace(LOOP, in_pass_for=99.0), replace(WAY, seconds=50.0)],
        HealthCheck("streams", "sink a: claim", "stuck", 50.0),
    ),
    "no server is known": (
        [replace(LOOP, in_pass_for=99.0, within=0.5)],
        HealthCheck("streams", "sink a: claim", "working", 99.0),
    ),
    "nobody's": ([replace(LOOP, owner="")], HealthCheck("streams", "claim", "waiting", 0.0)),
    "died": (
        [replace(LOOP, is_dead=True, reason="x", in_pass_for=5.0)],
        HealthCheck("streams", "sink a: claim", "dead", 0.0),
    ),
    "fails": (
        [replace(LOOP, failing_for=10.0, failures=3)],
        HealthCheck("streams", "sink a: claim", "failing", 10.0),
    ),
    "connected": ([WAY], HealthCheck("redis", "redis://a", "connected", 1000.0)),
    "not connected": (
        [replace(AWAY, silent_for=10.0)],
        HealthCheck("redis", "redis://a", "not connected", 3.0),
    ),
    "silent": (
        [replace(AWAY, silent_for=10.5)],
        HealthCheck("redis", "redis://a", "silent", 10.5),
    ),
    "slow": ([replace(WAY, round_trip=0.5)], HealthCheck("redis", "redis://a", "slow", 0.5)),
    "fresh": (
        [replace(AGE, seconds=20.0)],
        HealthCheck("tasks", "server of q: leases", "fresh", 20.0),
    ),
    "old": (
        [replace(AGE, seconds=30.0)],
        HealthCheck("tasks", "server of q: leases", "old", 30.0),
    ),
    "nobody's leases": ([replace(AGE, owner="")], HealthCheck("tasks", "leases", "fresh", 1.0)),
    "ending": ([ENDING], HealthCheck("tasks", "server of q", "ending", 0.0)),
    "all handlers end": ([PLACES], HealthCheck("tasks", "server of q", "all places usable", 0.0)),
    "some do not end": (
        [replace(PLACES, lost=9)],
        HealthCheck("tasks", "server of q", "9 of 10 places lost", 0.0),
    ),
}


@pytest.mark.parametrize("case", CHECKS)
def test_check_says_of_whom_what_and_since_when(case: str) -> None:
    """And a problem is of the same one, for as long."""
    signs, expected = CHECKS[case]
    health = examine(signs, 0.0)
    lag, check, *_ = health.checks
    assert lag == HealthCheck("process", "event loop", "in time", 0.0)
    assert check == expected
    for problem in health.problems:
        assert (problem.block, problem.name) == (check.block, check.name)
        assert problem.seconds == check.seconds


def test_pass_that_waits_for_a_server_is_not_stuck_however_short_it_should_be() -> None:
    health = examine([replace(LOOP, in_pass_for=99.0, within=0.5), AWAY], 0.0)
    assert health.checks[1].state == "working"


def test_problem_of_a_lease_says_what_it_is_worth() -> None:
    """Until the last moment it is worth something."""
    (old,) = examine([replace(AGE, seconds=30.0)], 0.0).problems
    (lapsed,) = examine([replace(AGE, seconds=30.5)], 0.0).problems
    assert "worth nothing after" in old.what
    assert "worth nothing by now" in lapsed.what


def test_problem_is_one_line_for_people() -> None:
    (problem,) = examine([AWAY], 0.0).problems
    assert str(problem) == "redis: redis://a is not connected: refused (3.0 s)"
    (blocked,) = examine([], 7.25).problems
    assert (blocked.block, blocked.name, blocked.seconds) == ("process", "event loop", 7.25)
    assert examine([], 7.25).checks == (HealthCheck("process", "event loop", "late", 7.25),)
    assert not HealthProblem("redis", "a", "is slow", 1.0).makes_unready
    assert not HealthProblem("redis", "a", "is slow", 1.0).makes_dead


def test_slow_is_what_is_beyond_the_limit() -> None:
    assert not examine([replace(WAY, round_trip=0.1)], 0.0).is_degraded
    assert HealthLimits() == HealthLimits(loop_lag=5.0, silence=10.0, failing=10.0, slow=0.1)


@pytest.mark.parametrize(("lag", "is_live"), [(0.0, True), (5.0, True), (5.1, False)])
def test_a_blocked_loop_makes_the_process_dead(lag: float, is_live: bool) -> None:
    health = examine([WAY], lag)
    assert (health.is_live, health.is_ready) == (is_live, is_live)
    assert health.loop_lag == lag


def test_limits_are_yours() -> None:
    limits = HealthLimits(loop_lag=1.0, silence=2.0, failing=3.0)
    assert not examine([], 1.1, limits).is_live
    assert not examine([replace(AWAY, silent_for=2.1)], 0.0, limits).is_live
    assert not examine([WAY, replace(LOOP, failing_for=3.1, failures=1)], 0.0, limits).is_ready
    assert not examine([replace(WAY, round_trip=3.9)], 0.0, HealthLimits(slow=4.0)).is_degraded
    assert HealthLimits() == DEFAULT_LIMITS


@pytest.mark.parametrize("name", ["loop_lag", "silence", "failing", "slow"])
def test_limits_check_themselves(name: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        HealthLimits(**{name: -1.0})
    assert caught.value.option == name


def test_lag_of_the_loop_is_not_held_against_the_server() -> None:
    """An answer that came in time is taken late by a loop that was busy."""
    way = replace(WAY, round_trip=1.0)
    assert examine([way], 0.85).is_degraded
    assert not examine([way], 0.95).is_degraded


def test_what_a_restart_mends_comes_first() -> None:
    """Then what keeps it from working, then the rest."""
    some_lost = replace(PLACES, lost=1)
    health = examine([WAY, some_lost, AWAY, replace(LOOP, is_dead=True, reason="x")], 0.0)
    kinds = [(problem.makes_dead, problem.makes_unready) for problem in health.problems]
    assert kinds == [(True, True), (False, True), (False, False)]


def test_health_is_json() -> None:
    health = examine([AWAY, LOOP, AGE, ENDING, PLACES], 0.2)
    data = json.loads(json.dumps(health.as_data()))
    assert data["is_live"] is True
    assert data["is_ready"] is False
    assert {problem["block"] for problem in data["problems"]} == {"redis", "tasks"}
    assert len(data["checks"]) == 6
