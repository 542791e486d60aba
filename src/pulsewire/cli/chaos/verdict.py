"""Decides whether the run held what the library promises. Pure: takes what was written down, returns findings.

Two accounts are compared: what the parent was told of each thing it asked for, and what the workers say they did. The
promise is *at least once* for events and tasks: none lost, and each repetition met by a fault; *one owner at a time*
for jobs; *exactly once* for writes to the map.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pulsewire.cli.chaos.plan import Weather
from pulsewire.cli.chaos.promises import Account, Promises
from pulsewire.cli.chaos.sightings import Sightings, Strike
from pulsewire.cli.demo.attempts import Attempt
from pulsewire.cli.demo.journal import Outcome
from pulsewire.cli.demo.problems import problems
from pulsewire.cli.demo.runs import Run

__all__ = ["BlockRow", "ChaosVerdict", "judge"]

_UNSETTLED = 1.0
"""Seconds after its end for which the server may not know of an outcome yet: it is in flight until then."""
_WAKING = 1.0
"""Seconds within which a worker that was frozen stops what is another's by now."""
_FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """What became of one block.

    Attributes:
        block: Its name.
        acknowledged: Calls that have returned.
        refused: Calls of which nothing was done.
        uncertain: Calls of which nobody knows.
        lost: Acknowledged, and not done.
        doubled: Done twice, or at two places at a time, and nothing explains it.
        again: Done twice, and a fault explains it; of jobs: begun anew at another worker.
    """

    block: str
    acknowledged: int
    refused: int
    uncertain: int
    lost: int
    doubled: int
    again: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosVerdict:
    """What the accounts say.

    Attributes:
        problems: What is wrong, each with its culprits. Empty when all holds.
        rows: One for each block.
        late: Faults after which it took longer than promised until all worked again.
        strikes: All faults.
    """

    problems: tuple[str, ...]
    rows: tuple[BlockRow, ...]
    late: int
    strikes: tuple[Strike, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def judge(
    promises: Promises, sightings: Sightings, strikes: Sequence[Strike], *, recovery: float
) -> ChaosVerdict:
    """Compare, when all is done.

    Args:
        promises: What the parent was told.
        sightings: What the workers wrote down.
        strikes: What happened.
        recovery: Seconds within which all must work again after a fault.
    """
    found = (
        _events(promises, sightings),
        _writes(promises, sightings),
        _jobs(promises, sightings, strikes),
        _tasks(promises, sightings, strikes),
    )
    late = [strike for strike in strikes if (strike.recovered or _FOR_EVER) > recovery]
    told = [problem for findings in found for problem in findings.problems]
    told += problems(
        "faults", {f"were not over {recovery:g} s later": (strike.what for strike in late)}
    )
    return ChaosVerdict(
        problems=tuple(told),
        rows=tuple(findings.row for findings in found),
        late=len(late),
        strikes=tuple(strikes),
    )


@dataclass(frozen=True, slots=True)
class _Findings:
    row: BlockRow
    problems: tuple[str, ...]

    @classmethod
    def of(
        cls,
        block: str,
        account: Account,
        *,
        lost: Iterable[str],
        doubled: Iterable[str],
        again: int = 0,
        others: dict[str, Iterable[str]],
    ) -> _Findings:
        is_lost, is_doubled = sorted(lost), sorted(doubled)
        culprits = {"were lost": is_lost, "were done twice without a reason": is_doubled}
        row = BlockRow(
            block=block,
            acknowledged=len(account.acknowledged),
            refused=len(account.refused),
            uncertain=len(account.uncertain),
            lost=len(is_lost),
            doubled=len(is_doubled),
            again=again,
        )
        return cls(row, tuple(problems(_THINGS[block], {**culprits, **others})))


_THINGS = {"streams": "events", "maps": "writes", "pools": "jobs", "tasks": "tasks"}


def _events(promises: Promises, sightings: Sightings) -> _Findings:
    account, seen = promises.events, sightings.seen
    twice = {payload: handled for payload, handled in seen.items() if len(handled) > 1}
    # its delivery count tells that the server has given it to somebody before
    unexplained = [
        payload
        for payload, handled in twice.items()
        if max(one.deliveries for one in handled) <= 1 or len({one.event for one in handled}) > 1
    ]
    return _Findings.of(
        "streams",
        account,
        lost=account.acknowledged.keys() - seen.keys(),
        doubled=unexplained,
        again=len(twice) - len(unexplained),
        others={"were handled although they had been refused": account.refused & seen.keys()},
    )


def _writes(promises: Promises, sightings: Sightings) -> _Findings:
    account, count = promises.writes, promises.count
    least = len(account.acknowledged)
    most = least + len(account.uncertain)
    behind = [
        f"worker {worker}"
        for worker in sorted(sightings.alive)
        if sightings.finals.get(worker) != promises.final
    ]
    return _Findings.of(
        "maps",
        account,
        lost=(f"number {number}" for number in range(count + 1, least + 1)),
        doubled=(f"number {number}" for number in range(most + 1, count + 1)),
        others={"have not come to each replica": behind},
    )


def _jobs(promises: Promises, sightings: Sightings, strikes: Sequence[Strike]) -> _Findings:
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(sightings.runs, key=lambda run: run.began):
        runs[run.job].append(run)
    running = sightings.running()
    return _Findings.of(
        "pools",
        promises.jobs,
        lost=promises.due_jobs - running,
        doubled=(job for job, several in runs.items() if _has_two_owners(several, strikes)),
        again=sum(len(several) - 1 for several in runs.values()),
        others={
            "were started with a token that is not larger than all before": (
                job
                for job, several in runs.items()
                if any(after.token <= before.token for before, after in pairwise(several))
            ),
            "ran on although they were stopped": promises.ended & running,
            "ran although they had been refused": promises.jobs.refused & runs.keys(),
        },
    )


def _has_two_owners(runs: Sequence[Run], strikes: Sequence[Strike]) -> bool:
    """Whether two workers ran the job at a time, and the one with the smaller token was not frozen."""
    for number, older in enumerate(runs):
        for newer in runs[number + 1 :]:
            begin = newer.began
            end = min(older.ended or _FOR_EVER, newer.ended or _FOR_EVER)
            stale = min(older, newer, key=lambda run: run.token)
            if begin < end and not _was_frozen(stale.node, begin, end, strikes):
                return True
    return False


def _was_frozen(worker: int, begin: float, end: float, strikes: Sequence[Strike]) -> bool:
    return any(
        strike.what is Weather.FREEZE
        and strike.worker == worker
        and strike.begin <= begin
        and end <= strike.end + _WAKING
        for strike in strikes
    )


def _tasks(promises: Promises, sightings: Sightings, strikes: Sequence[Strike]) -> _Findings:
    account = promises.tasks
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(sightings.attempts, key=lambda attempt: attempt.began):
        attempts[attempt.task].append(attempt)
    twice = {task: several for task, several in attempts.items() if len(several) > 1}
    unexplained = [
        task for task, several in twice.items() if not all(_excused(several[:-1], strikes))
    ]
    return _Findings.of(
        "tasks",
        account,
        lost=account.acknowledged.keys() - sightings.done(),
        doubled=unexplained,
        again=len(twice) - len(unexplained),
        others={"ran although they had been refused": account.refused & attempts.keys()},
    )


def _excused(attempts: Iterable[Attempt], strikes: Sequence[Strike]) -> Iterator[bool]:
    """Whether each of these was handed back, or met by a fault while it was in flight."""
    for attempt in attempts:
        until = (attempt.ended or _FOR_EVER) + _UNSETTLED
        yield attempt.outcome is Outcome.STOPPED or any(
            strike.meets(attempt.server, attempt.began, until) for strike in strikes
        )
