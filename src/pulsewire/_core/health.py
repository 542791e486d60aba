"""What the vital signs of a hub mean: is it alive, is it ready, and what is wrong or slow. Pure.

Two questions with different answers. *Live*: would a restart of the process mend it? Only what a restart mends makes a
process dead, since a fleet that restarts because its server is down makes things worse. *Ready*: can it do its work
now? An outage of the server makes it unready, and it becomes ready again by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pulsewire._core.checks import check_seconds
from pulsewire._core.vitals import AgeSign, EndingSign, LoopSign, PlacesSign, Sign, WaySign


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """Limits beyond which something is a problem. Checks itself. All are seconds.

    Attributes:
        loop_lag: a timer of the event loop that comes this late makes the process dead.
        silence: a server that answers nothing for this long, not even with a refusal, makes the process dead: it cannot
            know whether the server, the net or its own side of it is the reason.
        failing: a background duty that has failed in every try for this long makes the process unready.
        slow: a server that takes this long for one answer is slow, which is a problem and no more. The lag of the event
            loop itself does not count.
    """

    loop_lag: float = 5.0
    silence: float = 10.0
    failing: float = 10.0
    slow: float = 0.1

    def __post_init__(self) -> None:
        check_seconds("loop_lag", self.loop_lag)
        check_seconds("silence", self.silence)
        check_seconds("failing", self.failing)
        check_seconds("slow", self.slow)


DEFAULT_LIMITS = HealthLimits()


@dataclass(frozen=True, slots=True)
class HealthProblem:
    """Something that is not as it should be.

    Attributes:
        block: the building block: `streams`, `maps`, `pools`, `tasks`; or `redis`, `process`.
        name: the part of it.
        what: what is wrong, in words.
        seconds: for how long.
        makes_unready: it cannot do its work now.
        makes_dead: a restart of the process would mend it, and nothing else is known to.
    """

    block: str
    name: str
    what: str
    seconds: float
    makes_unready: bool = False
    makes_dead: bool = False

    def __str__(self) -> str:
        return f"{self.block}: {self.name} {self.what} ({self.seconds:.1f} s)"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Something that was looked at.

    Attributes:
        block: as in `HealthProblem`.
        name: the part of it.
        state: in a word or two, such as `working`, `waiting`, `failing`, `connected`.
        seconds: for how long it has been so, or how old it is; 0 where that says nothing.
    """

    block: str
    name: str
    state: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Health:
    """How a hub is, as far as its process knows. Nothing was asked over the network.

    Attributes:
        is_live: False when a restart of the process would help.
        is_ready: whether it can do its work now.
        is_degraded: whether anything is wrong, or slow; it may be live and ready all the same.
        problems: what is wrong, the worst first.
        loop_lag: seconds by which the event loop was late at worst in the last 10 seconds.
        checks: everything that was looked at.
    """

    is_live: bool
    is_ready: bool
    is_degraded: bool
    problems: tuple[HealthProblem, ...]
    loop_lag: float
    checks: tuple[HealthCheck, ...]

    def as_data(self) -> dict[str, Any]:
        """The same as dicts and lists, for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class _Finding:
    check: HealthCheck
    problem: HealthProblem | None = None


def examine(
    signs: Iterable[Sign], loop_lag: float, limits: HealthLimits = DEFAULT_LIMITS
) -> Health:
    """Judge the signs of one moment."""
    known = list(signs)
    ways = [sign for sign in known if isinstance(sign, WaySign)]
    reached_for = min((way.seconds if way.is_connected else 0.0 for way in ways), default=0.0)
    findings = [_lag(loop_lag, limits)]
    judges: dict[type[Any], Callable[[Any], _Finding]] = {
        LoopSign: lambda sign: _loop(sign, reached_for, limits),
        WaySign: lambda sign: _way(sign, loop_lag, limits),
        AgeSign: _age,
        EndingSign: _ending,
        PlacesSign: _places,
    }
    findings += [judges[type(sign)](sign) for sign in known]
    problems = [finding.problem for finding in findings if finding.problem is not None]
    problems.sort(key=lambda problem: (not problem.makes_dead, not problem.makes_unready))
    return Health(
        is_live=not any(problem.makes_dead for problem in problems),
        is_ready=not any(problem.makes_unready for problem in problems),
        is_degraded=bool(problems),
        problems=tuple(problems),
        loop_lag=loop_lag,
        checks=tuple(finding.check for finding in findings),
    )


def _lag(seconds: float, limits: HealthLimits) -> _Finding:
    is_late = seconds > limits.loop_lag
    check = HealthCheck("process", "event loop", "late" if is_late else "in time", seconds)
    if not is_late:
        return _Finding(check)
    what = "was blocked: work that blocks belongs into threads"
    return _Finding(check, _dead("process", "event loop", what, seconds))


def _loop(sign: LoopSign, reached_for: float, limits: HealthLimits) -> _Finding:
    name = f"{sign.owner}: {sign.name}" if sign.owner else sign.name
    if sign.is_dead:
        check = HealthCheck(sign.block, name, "dead", 0.0)
        return _Finding(check, _dead(sign.block, name, f"was ended by {sign.reason}", 0.0))
    # A pass that waits for a server is not stuck: the waiting counts from when all servers were there.
    stuck_for = min(sign.in_pass_for or 0.0, reached_for)
    if stuck_for > sign.within:
        check = HealthCheck(sign.block, name, "stuck", stuck_for)
        what = "makes no progress although the server can be reached"
        return _Finding(check, _dead(sign.block, name, what, stuck_for))
    if sign.failing_for:
        check = HealthCheck(sign.block, name, "failing", sign.failing_for)
        if sign.failing_for <= limits.failing:
            return _Finding(check)
        what = f"has failed {sign.failures} times in a row: {sign.reason}"
        return _Finding(check, _unready(sign.block, name, what, sign.failing_for))
    if sign.in_pass_for is None:
        return _Finding(HealthCheck(sign.block, name, "waiting", 0.0))
    return _Finding(HealthCheck(sign.block, name, "working", sign.in_pass_for))


def _way(sign: WaySign, loop_lag: float, limits: HealthLimits) -> _Finding:
    if sign.silent_for > limits.silence:
        check = HealthCheck("redis", sign.address, "silent", sign.silent_for)
        what = f"answers nothing, and refuses nothing: {sign.reason}"
        return _Finding(check, _dead("redis", sign.address, what, sign.silent_for))
    if not sign.is_connected:
        check = HealthCheck("redis", sign.address, "not connected", sign.seconds)
        what = f"is not connected: {sign.reason}"
        return _Finding(check, _unready("redis", sign.address, what, sign.seconds))
    if sign.round_trip - loop_lag > limits.slow:
        check = HealthCheck("redis", sign.address, "slow", sign.round_trip)
        what = "is slow to answer"
        return _Finding(check, HealthProblem("redis", sign.address, what, sign.round_trip))
    return _Finding(HealthCheck("redis", sign.address, "connected", sign.seconds))


def _age(sign: AgeSign) -> _Finding:
    name = f"{sign.owner}: {sign.name}" if sign.owner else sign.name
    if sign.seconds <= sign.limit:
        return _Finding(HealthCheck(sign.block, name, "fresh", sign.seconds))
    check = HealthCheck(sign.block, name, "old", sign.seconds)
    lapsed = sign.seconds > sign.length
    what = (
        f"not renewed within {sign.length:g} s, and worth nothing by now"
        if lapsed
        else f"not renewed for too long, worth nothing after {sign.length:g} s"
    )
    return _Finding(check, _unready(sign.block, name, what, sign.seconds))


def _ending(sign: EndingSign) -> _Finding:
    check = HealthCheck(sign.block, sign.owner, "ending", 0.0)
    return _Finding(check, _unready(sign.block, sign.owner, "takes no more work, it ends", 0.0))


def _places(sign: PlacesSign) -> _Finding:
    if not sign.lost:
        return _Finding(HealthCheck(sign.block, sign.owner, "all places usable", 0.0))
    check = HealthCheck(sign.block, sign.owner, f"{sign.lost} of {sign.places} places lost", 0.0)
    what = f"has {sign.lost} handlers that were cancelled and do not end, in {sign.places} places"
    if sign.lost >= sign.places:
        return _Finding(check, _dead(sign.block, sign.owner, what, 0.0))
    return _Finding(check, HealthProblem(sign.block, sign.owner, what, 0.0))


def _dead(block: str, name: str, what: str, seconds: float) -> HealthProblem:
    return HealthProblem(block, name, what, seconds, makes_unready=True, makes_dead=True)


def _unready(block: str, name: str, what: str, seconds: float) -> HealthProblem:
    return HealthProblem(block, name, what, seconds, makes_unready=True)
