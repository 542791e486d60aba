"""Decides whether the act held what a pool promises. Pure: takes what was written down, returns findings.

Compared are what was dispatched, what the pool said before its end, and the journals of the nodes. The promises: every
job runs, at most one owner at a time, larger tokens for later owners, none lost, and nothing left after the shutdown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pulsewire.cli.demo.problems import problems
from pulsewire.cli.demo.runs import Run

__all__ = ["PoolEvidence", "PoolVerdict", "judge_pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEvidence:
    """Everything that was written down.

    Attributes:
        wanted: Keys of the jobs that were to be dispatched.
        failed: Those whose dispatch raised, and what.
        runs: From the journals; the runs of a killed node ended when it was dead.
        killed_at: When that was, by the clock of the runs; None if nobody was killed.
        victim: Which node it was.
        before_end: What the pool said before it was shut down: token of each running job.
        shutdown_at: When the shutdown began.
        left: Keys of the jobs that the pool still had after its end.
    """

    wanted: Sequence[str]
    failed: Mapping[str, str]
    runs: Sequence[Run]
    killed_at: float | None
    victim: int | None
    before_end: Mapping[str, int]
    shutdown_at: float
    left: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolVerdict:
    """What the evidence says.

    Attributes:
        problems: What is wrong, each with its culprits. Empty when the promises held.
        dispatched: Jobs whose dispatch returned.
        ran: Different jobs that ran.
        lost: Jobs that the pool did not have any more before its end.
        overlaps: Jobs that ran at two places at the same moment.
        taken_over: Runs of the killed node that went on elsewhere.
        takeovers: Seconds from the death of the node until each of these ran again, in order.
        handed_over: Other moves: the old owner had stopped the job first.
    """

    problems: tuple[str, ...]
    dispatched: int
    ran: int
    lost: tuple[str, ...]
    overlaps: tuple[str, ...]
    taken_over: int
    takeovers: tuple[float, ...]
    handed_over: int

    @property
    def holds(self) -> bool:
        """Whether all promises held."""
        return not self.problems


def judge_pool(evidence: PoolEvidence) -> PoolVerdict:
    """Compare the accounts."""
    runs = _by_job(evidence.runs)
    overlaps = tuple(job for job, of_job in runs.items() if _overlap(of_job))
    lost = tuple(job for job in evidence.wanted if job not in evidence.before_end)
    takeovers = tuple(sorted(_takeovers(evidence, runs)))
    moves = sum(len(of_job) - 1 for of_job in runs.values())
    return PoolVerdict(
        problems=tuple(_problems(evidence, runs, overlaps, lost)),
        dispatched=len(evidence.wanted) - len(evidence.failed),
        ran=len(runs),
        lost=lost,
        overlaps=overlaps,
        taken_over=len(takeovers),
        takeovers=takeovers,
        handed_over=moves - len(takeovers),
    )


def _by_job(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.began):
        found[run.job].append(run)
    return dict(found)


def _overlap(runs: Sequence[Run]) -> bool:
    """Whether one began while an earlier one had not ended."""
    return any(
        earlier.ended is None or later.began < earlier.ended for earlier, later in pairwise(runs)
    )


def _takeovers(evidence: PoolEvidence, runs: Mapping[str, Sequence[Run]]) -> Iterable[float]:
    for of_job in runs.values():
        for earlier, later in pairwise(of_job):
            if earlier.node == evidence.victim and earlier.ended == evidence.killed_at:
                yield later.began - (evidence.killed_at or 0.0)


def _problems(
    evidence: PoolEvidence,
    runs: Mapping[str, Sequence[Run]],
    overlaps: Sequence[str],
    lost: Sequence[str],
) -> Iterable[str]:
    last = {job: of_job[-1] for job, of_job in runs.items()}
    culprits: dict[str, Iterable[str]] = {
        "could not be dispatched": (f"{job} ({why})" for job, why in evidence.failed.items()),
        "never ran": (job for job in evidence.wanted if job not in runs),
        "ran without having been dispatched": (job for job in runs if job not in evidence.wanted),
        "ran at two nodes at the same moment": overlaps,
        "ran later with a token that was not larger": (
            job
            for job, of_job in runs.items()
            if any(later.token <= earlier.token for earlier, later in pairwise(of_job))
        ),
        "were lost": lost,
        "had another owner, by their token, than the node that ran them": (
            job
            for job, token in evidence.before_end.items()
            if job in last and last[job].token != token
        ),
        "had ended before the pool was shut down": (
            job
            for job, run in last.items()
            if job in evidence.before_end
            and run.ended is not None
            and run.ended < evidence.shutdown_at
        ),
        "were not stopped by the shutdown": (job for job, run in last.items() if run.ended is None),
        "are left in the pool after its shutdown": evidence.left,
    }
    yield from problems("jobs", culprits)
