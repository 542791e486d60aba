"""Decides whether the act held what task queues promise. Pure: takes what was written down, returns findings.

Compared are what the client was told, what the servers wrote before and after each attempt, and what Redis has at the
end. The promises: every accepted task succeeds; one is run again only after a failure, or if it was in the hands of the
killed server; failures are charged and nothing else is; nothing is run early; what is unique exists once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from statistics import median

from pulsewire.cli.demo.attempts import Attempt
from pulsewire.cli.demo.journal import Bundled, Enqueued, Fired, Outcome, Refused
from pulsewire.cli.demo.problems import problems
from pulsewire.cli.demo.tasks.workload import TICK_EVERY, Kind, Order

__all__ = ["Reason", "TasksEvidence", "TasksVerdict", "judge_tasks"]

_DUPLICATE = "DuplicateTask"


class Reason(Enum):
    """Why a task was run more often than it failed."""

    CUT = "the server was killed in the middle of them"
    UNTOLD = "the killed server had ended them, and died before it could say so"
    UNEXPLAINED = "of nothing that is known"


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksEvidence:
    """Everything that was written down.

    Attributes:
        orders: What the client was to enqueue.
        enqueued: What the client was told was enqueued.
        refused: What the client was told was not.
        attempts: From the journals of the servers; those of a killed one ended when it was dead.
        bundles: What was made of groups, from the same journals.
        fired: Who enqueued ticks -> those ticks.
        ticking_from: Since when all schedulers were there, by the server's clock.
        ticking_until: When they were asked to end, likewise.
        killed_at: When the victim was dead, by the clock of the attempts; None if nobody was killed.
        victim: Which server it was.
        lease: Seconds that a server may be silent.
        kept: Task id -> result, of the tasks that Redis keeps at the end.
        left: Queue -> other tasks that Redis has at the end.
    """

    orders: Sequence[Order]
    enqueued: Sequence[Enqueued]
    refused: Sequence[Refused]
    attempts: Sequence[Attempt]
    bundles: Sequence[Bundled]
    fired: Mapping[str, Sequence[Fired]]
    ticking_from: float
    ticking_until: float
    killed_at: float | None
    victim: int | None
    lease: float
    kept: Mapping[str, str]
    left: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksVerdict:
    """What the evidence says.

    Attributes:
        problems: What is wrong, each with its culprits. Empty when the promises held.
        accepted: Tasks that the client was told were enqueued.
        succeeded: How many of them have succeeded, or their group has.
        lost: Those that have not.
        failures: Attempts that failed.
        flaky: Different tasks that these were of.
        later: Tasks that were enqueued for later.
        refused: Twins of unique tasks that were refused.
        members: Tasks that became part of a bundle that has succeeded.
        bundles: How many bundles these are.
        ticks: Who enqueued ticks -> how many.
        kept: Results that are kept.
        cut: Attempts that the kill has ended.
        repeats: How many tasks were run once more than they failed, by reason.
        reruns: Seconds from the death of the server until each of the cut attempts was run again, in order.
        waits: Queue -> seconds that a plain task waited until it was run, median.
    """

    problems: tuple[str, ...]
    accepted: int
    succeeded: int
    lost: tuple[str, ...]
    failures: int
    flaky: int
    later: int
    refused: int
    members: int
    bundles: int
    ticks: Mapping[str, int]
    kept: int
    cut: int
    repeats: Mapping[Reason, int]
    reruns: tuple[float, ...]
    waits: Mapping[str, float]

    @property
    def holds(self) -> bool:
        """Whether all promises held."""
        return not self.problems


def judge_tasks(evidence: TasksEvidence) -> TasksVerdict:
    """Compare the accounts."""
    accounts = _Accounts(evidence)
    failed = [one.task for one in evidence.attempts if one.outcome is Outcome.FAILED]
    return TasksVerdict(
        problems=tuple(_problems(evidence, accounts)),
        accepted=len(accounts.accepted),
        succeeded=len(accounts.accepted) - len(accounts.lost),
        lost=accounts.lost,
        failures=len(failed),
        flaky=len(set(failed)),
        later=sum(order.kind is Kind.LATER for order in accounts.accepted_orders),
        refused=sum(one.error == _DUPLICATE for one in evidence.refused),
        members=len(accounts.bundled),
        bundles=sum(accounts.has_succeeded(bundle.task) for bundle in evidence.bundles),
        ticks={who: len(ticks) for who, ticks in evidence.fired.items() if ticks},
        kept=len(evidence.kept),
        cut=sum(_is_cut(one, evidence) for one in evidence.attempts),
        repeats=Counter(reason for story in accounts.stories.values() for reason in story.repeats),
        reruns=tuple(sorted(_reruns(evidence, accounts))),
        waits=dict(_waits(accounts)),
    )


@dataclass(frozen=True, slots=True)
class _Story:
    """What the attempts of one task tell.

    Attributes:
        attempts: The earliest first.
        charged: How many failures Redis had counted at the last of them.
        is_charged_right: Whether each was told how many failures there had been.
        repeats: Why it was run again other than after a failure, each time.
    """

    attempts: Sequence[Attempt]
    charged: int
    is_charged_right: bool
    repeats: tuple[Reason, ...]

    @classmethod
    def of(cls, attempts: Sequence[Attempt], evidence: TasksEvidence) -> _Story:
        charged, is_charged_right = 0, attempts[0].retried == 0
        repeats: list[Reason] = []
        for earlier, later in pairwise(attempts):
            if earlier.outcome is Outcome.FAILED and later.retried == charged + 1:
                charged += 1
            elif later.retried == charged:
                repeats.append(_reason(earlier, evidence))
            else:
                charged, is_charged_right = later.retried, False
        return cls(attempts, charged, is_charged_right, tuple(repeats))

    @property
    def has_succeeded(self) -> bool:
        return any(attempt.has_succeeded for attempt in self.attempts)

    @property
    def is_overlapping(self) -> bool:
        """Whether one attempt began while an earlier one had not ended."""
        return any(
            earlier.ended is None or later.began < earlier.ended
            for earlier, later in pairwise(self.attempts)
        )

    @property
    def result(self) -> str:
        """What the last attempt that succeeded wanted to be kept."""
        return [attempt.result for attempt in self.attempts if attempt.has_succeeded][-1]


class _Accounts:
    """The evidence by task id."""

    def __init__(self, evidence: TasksEvidence) -> None:
        by_task: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in sorted(evidence.attempts, key=lambda attempt: attempt.began):
            by_task[attempt.task].append(attempt)
        self.stories = {task: _Story.of(attempts, evidence) for task, attempts in by_task.items()}
        self.accepted = {record.task: record for record in evidence.enqueued}
        self.orders = {order.task: order for order in evidence.orders}
        self.twins = {order.twin for order in evidence.orders if order.twin}
        self.ticks = [tick for ticks in evidence.fired.values() for tick in ticks]
        self.bundled = Counter(
            task
            for bundle in evidence.bundles
            if self.has_succeeded(bundle.task)
            for task in bundle.members
        )
        self.lost = tuple(
            task
            for task in self.accepted
            if not self.has_succeeded(task) and task not in self.bundled
        )

    @property
    def accepted_orders(self) -> list[Order]:
        return [order for task, order in self.orders.items() if task in self.accepted]

    def has_succeeded(self, task: str) -> bool:
        return task in self.stories and self.stories[task].has_succeeded


def _is_cut(attempt: Attempt, evidence: TasksEvidence) -> bool:
    """Whether the kill has ended an attempt."""
    return attempt.server == evidence.victim and attempt.outcome is None


def _reason(earlier: Attempt, evidence: TasksEvidence) -> Reason:
    """Why a task was run again after an attempt of which Redis knew nothing."""
    if _is_cut(earlier, evidence):
        return Reason.CUT
    if earlier.server != evidence.victim or earlier.ended is None or evidence.killed_at is None:
        return Reason.UNEXPLAINED
    # What it had ended long before its death, it had the time to say.
    is_recent = evidence.killed_at - earlier.ended < evidence.lease
    return Reason.UNTOLD if is_recent else Reason.UNEXPLAINED


def _reruns(evidence: TasksEvidence, accounts: _Accounts) -> Iterator[float]:
    for story in accounts.stories.values():
        for earlier, later in pairwise(story.attempts):
            if _is_cut(earlier, evidence) and evidence.killed_at is not None:
                yield later.began - evidence.killed_at


def _waits(accounts: _Accounts) -> Iterator[tuple[str, float]]:
    waits: dict[str, list[float]] = defaultdict(list)
    for order in accounts.accepted_orders:
        if order.kind is Kind.PLAIN and order.task in accounts.stories:
            began = accounts.stories[order.task].attempts[0].began
            waits[order.queue].append(max(began - accounts.accepted[order.task].at, 0.0))
    for queue, seconds in waits.items():
        yield queue, median(seconds)


def _problems(evidence: TasksEvidence, accounts: _Accounts) -> Iterator[str]:
    yield from problems("tasks", _of_enqueuing(evidence, accounts))
    yield from problems("tasks", _of_running(evidence, accounts))
    yield from problems("ticks", _of_ticks(accounts))
    yield from _of_ticking(evidence, accounts)
    yield from problems("results", _of_results(evidence, accounts))
    for queue, count in evidence.left.items():
        if count:
            yield f"{count:,} tasks are left in queue {queue}"


def _of_enqueuing(evidence: TasksEvidence, accounts: _Accounts) -> Mapping[str, Iterable[str]]:
    told = accounts.accepted.keys() | {record.task for record in evidence.refused}
    wanted = accounts.orders.keys() | accounts.twins
    return {
        "were asked for, and nobody knows what became of them": sorted(wanted - told),
        "could not be enqueued": (
            f"{record.task} ({record.why})"
            for record in evidence.refused
            if record.task not in accounts.twins or record.error != _DUPLICATE
        ),
        "were enqueued although another one like them existed": sorted(
            accounts.twins & accounts.accepted.keys()
        ),
    }


def _of_running(evidence: TasksEvidence, accounts: _Accounts) -> Mapping[str, Iterable[str]]:
    stories = accounts.stories
    bundles = {bundle.task for bundle in evidence.bundles}
    known = accounts.accepted.keys() | bundles | {tick.task for tick in accounts.ticks}
    return {
        "never succeeded": accounts.lost,
        "were run without having been enqueued": (task for task in stories if task not in known),
        "were run although their group was to be": (
            order.task
            for order in accounts.accepted_orders
            if order.kind is Kind.MEMBER and order.task in stories
        ),
        "are in more than one bundle": (
            task for task, times in accounts.bundled.items() if times > 1
        ),
        "were run again without a reason": (
            task for task, story in stories.items() if Reason.UNEXPLAINED in story.repeats
        ),
        "were run at two servers at the same moment": (
            task for task, story in stories.items() if story.is_overlapping
        ),
        "were not charged for each failure, and for nothing else": (
            task
            for task, story in stories.items()
            if not story.is_charged_right or story.charged != _failures_wanted(task, accounts)
        ),
        "were run before their time": (
            order.task
            for order in accounts.accepted_orders
            if order.task in stories
            and stories[order.task].attempts[0].began
            < accounts.accepted[order.task].asked + order.delay
        ),
        "were begun, and never ended": (
            task
            for task, story in stories.items()
            if any(attempt.ended is None for attempt in story.attempts)
        ),
    }


def _failures_wanted(task: str, accounts: _Accounts) -> int:
    order = accounts.orders.get(task)
    story = accounts.stories[task]
    if order is None:
        return 0
    return order.fails if story.has_succeeded else story.charged


def _of_ticks(accounts: _Accounts) -> Mapping[str, Iterable[str]]:
    times = Counter(tick.task for tick in accounts.ticks)
    return {
        "never succeeded": (task for task in times if not accounts.has_succeeded(task)),
        "were enqueued by two schedulers": (task for task, count in times.items() if count > 1),
    }


def _of_ticking(evidence: TasksEvidence, accounts: _Accounts) -> Iterator[str]:
    """Ticks are the multiples of their interval by the server's clock: so their number is known."""
    least = _number(evidence.ticking_until) - _number(evidence.ticking_from) - 1
    if len(accounts.ticks) < least:
        yield f"{len(accounts.ticks):,} ticks were enqueued, at least {least:,} were due"
    if accounts.ticks:
        moments = [tick.at for tick in accounts.ticks]
        due = _number(max(moments)) - _number(min(moments)) + 1
        if len(moments) > due:
            yield f"{len(moments):,} ticks were enqueued where {due:,} were due: some more than once"
        elif len(moments) < due:
            yield f"{len(moments):,} ticks were enqueued where {due:,} were due: some never"


def _number(at: float) -> int:
    """The number of the last tick at a moment."""
    return int(at // TICK_EVERY)


def _of_results(evidence: TasksEvidence, accounts: _Accounts) -> Mapping[str, Iterable[str]]:
    wanted = {
        order.task: accounts.stories[order.task].result
        for order in accounts.accepted_orders
        if order.kind is Kind.KEPT and accounts.has_succeeded(order.task)
    }
    return {
        "are not kept": (task for task in wanted if task not in evidence.kept),
        "are not what the handler has written": (
            task
            for task, result in wanted.items()
            if task in evidence.kept and evidence.kept[task] != result
        ),
        "are kept, and nobody has asked for it": (
            task for task in evidence.kept if task not in wanted
        ),
    }
