"""Decides whether the act held what the four blocks promise. Pure: takes what was written down, returns findings.

Compared are the journals of all processes, files that the server knows nothing of; what Redis has at the end is only
asked for what should not be there. The promises: whoever was told "you have signed up" was seen by every sink, was
mailed, and had the confirmation's job run to its end; the feature flag has reached every process; and whatever was
done twice has a reason, mostly that it was in flight when somebody was killed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TypeVar

from pulsewire.cli.demo.attempts import Attempt
from pulsewire.cli.demo.journal import FlagSeen, Ordered, Outcome, SignedUp, Switched
from pulsewire.cli.demo.problems import problems
from pulsewire.cli.demo.runs import Run
from pulsewire.cli.demo.signup.cast import JOB, MAIL, MAILER, WORKERS, user_of
from pulsewire.cli.demo.signup.progress import Done

__all__ = [
    "Outage",
    "Reason",
    "Repeat",
    "SignUpEvidence",
    "SignUpVerdict",
    "judge_sign_up",
]

T = TypeVar("T")

_IN_FLIGHT = 2.0
"""Seconds before a kill within which something done may not have been told to Redis yet."""


class Reason(Enum):
    """Why something was done twice."""

    KILLED = "{who} was killed with it in its hands"
    SERVER = "it was in flight when Redis was killed"
    REPEATED = "its event was handed to a mailer twice"
    SILENT = "{who} was silent for too long, and others took it over"
    UNEXPLAINED = "of nothing that is known"


@dataclass(frozen=True, slots=True)
class Outage:
    """When the server was killed, and when it answered again, by the clock of the journals."""

    began: float
    ended: float

    def is_near(self, at: float) -> bool:
        """Whether something that was done then may not have come through."""
        return self.began - _IN_FLIGHT <= at <= self.ended + _IN_FLIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpEvidence:
    """Everything that was written down.

    Attributes:
        wanted: How many users were to sign up.
        signed_up: The web front's journal.
        done: Sink -> what its consumers wrote.
        ordered: What the mailers wrote of tasks and jobs.
        attempts: What the workers wrote of mails; those of a killed one ended when it was dead.
        runs: What the workers wrote of jobs, likewise.
        flags: Process -> what it saw of the feature flags.
        switched: The operator's journal; None if nothing was switched.
        killed: Process -> when it was dead, by the clock of the journals.
        outage: When the server was away; None if it was not killed.
        lease: Seconds that a worker may be silent before its tasks are run elsewhere.
        left: What Redis has at the end and should not, in words -> how many.
    """

    wanted: int
    signed_up: Sequence[SignedUp]
    done: Mapping[str, Sequence[Done]]
    ordered: Sequence[Ordered]
    attempts: Sequence[Attempt]
    runs: Sequence[Run]
    flags: Mapping[str, Sequence[FlagSeen]]
    switched: Switched | None
    killed: Mapping[str, float]
    outage: Outage | None
    lease: float
    left: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Something that was done once more for a user.

    Attributes:
        what: What it was, such as `sign-up at mailer`.
        user: For whom.
        first: Which process had begun it.
        reason: Why it was not left at that.
    """

    what: str
    user: str
    first: str
    reason: Reason

    @property
    def why(self) -> str:
        """The reason as a sentence."""
        return self.reason.value.format(who=self.first)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpVerdict:
    """What the evidence says.

    Attributes:
        problems: What is wrong, each with its culprits. Empty when the promises held.
        signed_up: Users who were told that they have signed up.
        handled: Sink -> users that it has handled.
        mailed: Users to whom a welcome mail was sent.
        retried: Attempts to mail that failed, and were made again.
        confirmed: Users whose job has come to its end.
        lost: Users for whom something was not done.
        repeats: What was done more than once.
        forms: Form of the mails that were sent -> how many.
        reached: Processes that saw the flag switched.
        spread: Seconds from the switch until the last of them saw it.
        in_flight: What was in flight when the server was killed, in words -> how many.
        slowest: The longest that a user had to wait for "you have signed up", in seconds.
    """

    problems: tuple[str, ...]
    signed_up: int
    handled: Mapping[str, int]
    mailed: int
    retried: int
    confirmed: int
    lost: tuple[str, ...]
    repeats: tuple[Repeat, ...]
    forms: Mapping[str, int]
    reached: int
    spread: float
    in_flight: Mapping[str, int]
    slowest: float

    @property
    def holds(self) -> bool:
        """Whether all promises held."""
        return not self.problems


def judge_sign_up(evidence: SignUpEvidence) -> SignUpVerdict:
    """Compare the accounts."""
    accounts = _Accounts(evidence)
    seen_at = [
        seen.at
        for seen in (_saw(flags, evidence.switched) for flags in evidence.flags.values())
        if seen is not None
    ]
    return SignUpVerdict(
        problems=tuple(_problems(evidence, accounts)),
        signed_up=len(accounts.users),
        handled={sink: len(users) for sink, users in accounts.handled.items()},
        mailed=len(accounts.mailed),
        retried=sum(attempt.outcome is Outcome.FAILED for attempt in evidence.attempts),
        confirmed=len(accounts.confirmed),
        lost=tuple(sorted(accounts.lost)),
        repeats=accounts.repeats,
        forms=Counter(one.result for one in evidence.attempts if one.has_succeeded),
        reached=len(seen_at),
        spread=max(seen_at, default=0.0) - evidence.switched.asked if evidence.switched else 0.0,
        in_flight=_in_flight(evidence),
        slowest=max((one.at - one.asked for one in evidence.signed_up), default=0.0),
    )


class _Accounts:
    """The evidence by user."""

    def __init__(self, evidence: SignUpEvidence) -> None:
        self.users = {record.user for record in evidence.signed_up}
        self.done: dict[str, dict[str, list[Done]]] = {
            sink: _by_user((one.seen.user, one.seen.began, one) for one in done)
            for sink, done in evidence.done.items()
        }
        self.handled = {sink: set(by_user) for sink, by_user in self.done.items()}
        self.attempts = _by_user((one.task, one.began, one) for one in evidence.attempts)
        self.runs = _by_user((user_of(one.job), one.began, one) for one in evidence.runs)
        self.mailed = {one.task for one in evidence.attempts if one.has_succeeded}
        self.confirmed = {user_of(run.job) for run in evidence.runs if run.is_done}
        self.ordered = {
            what: {one.user for one in evidence.ordered if one.what == what} for what in (MAIL, JOB)
        }
        done_for_all = self.mailed & self.confirmed
        for users in self.handled.values():
            done_for_all &= users
        self.lost = self.users - done_for_all
        self.repeats = tuple(_repeats(evidence, self))


def _by_user(facts: Iterable[tuple[str, float, T]]) -> dict[str, list[T]]:
    """Facts by user, the earliest first."""
    found: dict[str, list[T]] = defaultdict(list)
    for user, _, fact in sorted(facts, key=lambda fact: fact[:2]):
        found[user].append(fact)
    return dict(found)


# --- what was done twice


def _repeats(evidence: SignUpEvidence, accounts: _Accounts) -> Iterator[Repeat]:
    for sink, by_user in accounts.done.items():
        for user, done in by_user.items():
            for earlier, later in pairwise(done):
                why_seen = _why_seen(earlier, later, evidence)
                yield Repeat(f"sign-up at {sink}", user, earlier.process, why_seen)
    for user, attempts in accounts.attempts.items():
        for one, next_one in pairwise(attempts):
            if not _is_retry(one, next_one):
                yield Repeat(MAIL, user, _worker(one.server), _why_attempted(one, evidence))
    for user, runs in accounts.runs.items():
        again = _is_handed_out_again(accounts.done.get(MAILER, {}).get(user, ()))
        for run, _ in pairwise(runs):
            why_run = _why_run(run, evidence, is_again=again)
            yield Repeat(JOB, user, _worker(run.node), why_run)


def _why_seen(earlier: Done, later: Done, evidence: SignUpEvidence) -> Reason:
    if later.seen.deliveries <= 1:
        return Reason.UNEXPLAINED
    return _in_hand(earlier.process, earlier.seen.at, evidence) or Reason.SILENT


def _is_retry(earlier: Attempt, later: Attempt) -> bool:
    return earlier.outcome is Outcome.FAILED and later.retried == earlier.retried + 1


def _why_attempted(earlier: Attempt, evidence: SignUpEvidence) -> Reason:
    if reason := _in_hand(_worker(earlier.server), earlier.ended, evidence):
        return reason
    is_stopped = earlier.outcome is Outcome.STOPPED
    was_long = earlier.ended is None or earlier.ended - earlier.began >= evidence.lease
    return Reason.SILENT if is_stopped or was_long else Reason.UNEXPLAINED


def _why_run(earlier: Run, evidence: SignUpEvidence, *, is_again: bool) -> Reason:
    if reason := _in_hand(_worker(earlier.node), earlier.ended, evidence):
        return reason
    if not earlier.is_done:
        return Reason.SILENT
    return Reason.REPEATED if is_again else Reason.UNEXPLAINED


def _is_handed_out_again(done: Sequence[Done]) -> bool:
    return any(one.seen.deliveries > 1 for one in done)


def _in_hand(process: str, ended: float | None, evidence: SignUpEvidence) -> Reason | None:
    """Whether a kill came so soon after the end of something that Redis may not have heard of that."""
    killed_at = evidence.killed.get(process)
    if killed_at is not None and (ended is None or ended >= killed_at - _IN_FLIGHT):
        return Reason.KILLED
    if evidence.outage is not None and (ended is None or evidence.outage.is_near(ended)):
        return Reason.SERVER
    return None


def _worker(number: int) -> str:
    return WORKERS[number - 1]


def _in_flight(evidence: SignUpEvidence) -> dict[str, int]:
    if evidence.outage is None:
        return {}
    at = evidence.outage.began
    spans: dict[str, Iterable[tuple[float, float | None]]] = {
        "sign-ups": ((one.asked, one.at) for one in evidence.signed_up),
        "events": (
            (one.seen.began, one.seen.at) for done in evidence.done.values() for one in done
        ),
        "mails": ((one.began, one.ended) for one in evidence.attempts),
        "jobs": ((one.began, one.ended) for one in evidence.runs),
    }
    return {
        what: sum(began <= at and (ended is None or at <= ended) for began, ended in of_kind)
        for what, of_kind in spans.items()
    }


# --- what is wrong


def _problems(evidence: SignUpEvidence, accounts: _Accounts) -> Iterator[str]:
    if len(accounts.users) != evidence.wanted:
        yield f"{len(accounts.users):,} users have signed up, {evidence.wanted:,} were to"
    yield from problems("users", _of_users(evidence, accounts))
    yield from problems("jobs", _of_jobs(accounts))
    if evidence.switched is None:
        yield "nobody has switched the feature flag"
    else:
        yield from problems("processes", _of_flags(evidence, evidence.switched))
        yield from problems("mails", {"in the old form": _old_forms(evidence, evidence.switched)})
    for what, count in evidence.left.items():
        if count:
            yield f"{count:,} {what}"


def _of_users(evidence: SignUpEvidence, accounts: _Accounts) -> Mapping[str, Iterable[str]]:
    users, events = accounts.users, {one.user: one.event for one in evidence.signed_up}
    times = Counter(record.user for record in evidence.signed_up)
    return {
        "signed up more than once": (user for user, count in times.items() if count > 1),
        **{
            f"never seen by {sink}": sorted(users - handled)
            for sink, handled in accounts.handled.items()
        },
        **{
            f"seen by {sink}, and nobody has signed them up": sorted(handled - users)
            for sink, handled in accounts.handled.items()
        },
        "seen with another event than they had signed up with": (
            user
            for by_user in accounts.done.values()
            for user, done in by_user.items()
            if any(one.seen.event != events.get(user, one.seen.event) for one in done)
        ),
        "without a task for their welcome mail": sorted(users - accounts.ordered[MAIL]),
        "never mailed": sorted(users - accounts.mailed),
        "mailed, and nobody has signed them up": sorted(accounts.attempts.keys() - users),
        "without a job for their confirmation": sorted(users - accounts.ordered[JOB]),
        "whose job has not come to its end": sorted(users - accounts.confirmed),
        "whose job ran, and nobody has signed them up": sorted(accounts.runs.keys() - users),
        "for whom something was done twice without a reason": (
            f"{repeat.user} ({repeat.what})"
            for repeat in accounts.repeats
            if repeat.reason is Reason.UNEXPLAINED
        ),
    }


def _of_jobs(accounts: _Accounts) -> Mapping[str, Iterable[str]]:
    return {
        "ran at two workers at the same moment": (
            user
            for user, runs in accounts.runs.items()
            if any(one.ended is None or later.began < one.ended for one, later in pairwise(runs))
        ),
        "ran later with a token that was not larger": (
            user
            for user, runs in accounts.runs.items()
            if any(later.token <= one.token for one, later in pairwise(runs))
        ),
    }


def _of_flags(evidence: SignUpEvidence, switched: Switched) -> Mapping[str, Iterable[str]]:
    living = {
        process: flags
        for process, flags in evidence.flags.items()
        if evidence.killed.get(process, switched.at) >= switched.at
    }
    return {
        "never saw the feature flag switched": (
            process for process, flags in living.items() if _saw(flags, switched) is None
        ),
        "had the feature flag at another value at the end": (
            process
            for process, flags in living.items()
            if _saw(flags, switched) is not None
            and [seen for seen in flags if seen.flag == switched.flag][-1].value != switched.value
        ),
    }


def _saw(flags: Iterable[FlagSeen], switched: Switched | None) -> FlagSeen | None:
    """When a process saw for the first time what the operator had switched."""
    if switched is None:
        return None
    wanted = (switched.flag, switched.value)
    return next((seen for seen in flags if (seen.flag, seen.value) == wanted), None)


def _old_forms(evidence: SignUpEvidence, switched: Switched) -> Iterator[str]:
    """Mails that a worker began after it had seen the switch."""
    for attempt in evidence.attempts:
        seen = _saw(evidence.flags.get(_worker(attempt.server), ()), switched)
        is_after = seen is not None and attempt.began > seen.at
        if is_after and attempt.has_succeeded and attempt.result != switched.value:
            yield attempt.task
