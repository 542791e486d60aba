"""What the act with a pool calls right and wrong: each lie of the evidence is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pulsewire.cli.demo.pool.verdict import PoolEvidence, judge_pool
from pulsewire.cli.demo.runs import Run


def run(job: str, node: int, token: int, began: float, ended: float | None) -> Run:
    """A run, briefly."""
    return Run(job=job, node=node, token=token, began=began, ended=ended)


GOOD = PoolEvidence(
    wanted=["a", "b", "c"],
    failed={},
    runs=[
        run("a", 1, 11, 1.0, 20.0),
        run("b", 2, 12, 1.0, 5.0),  # killed
        run("b", 1, 14, 7.5, 20.0),
        run("c", 1, 13, 1.0, 9.0),  # handed over
        run("c", 3, 15, 9.5, 20.0),
    ],
    killed_at=5.0,
    victim=2,
    before_end={"a": 11, "b": 14, "c": 15},
    shutdown_at=19.0,
    left=[],
)


def test_good_evidence_holds() -> None:
    verdict = judge_pool(GOOD)
    assert verdict.problems == ()
    assert verdict.holds
    assert (verdict.dispatched, verdict.ran, verdict.lost, verdict.overlaps) == (3, 3, (), ())
    assert (verdict.taken_over, verdict.takeovers, verdict.handed_over) == (1, (2.5,), 1)


def changed(number: int, run_: Run) -> list[Run]:
    """The good runs with one of them replaced."""
    runs = list(GOOD.runs)
    runs[number] = run_
    return runs


@pytest.mark.parametrize(
    ("evidence", "problem"),
    [
        (
            replace(GOOD, failed={"a": "pool is full"}),
            "1 jobs could not be dispatched: a (pool is full)",
        ),
        (replace(GOOD, runs=GOOD.runs[1:]), "1 jobs never ran: a"),
        (
            replace(GOOD, runs=[*GOOD.runs, run("d", 1, 16, 1.0, 20.0)]),
            "1 jobs ran without having been dispatched: d",
        ),
        (
            replace(GOOD, runs=changed(3, run("c", 1, 13, 1.0, 9.6))),
            "1 jobs ran at two nodes at the same moment: c",
        ),
        (
            replace(GOOD, runs=changed(3, run("c", 1, 13, 1.0, None))),
            "1 jobs ran at two nodes at the same moment: c",
        ),
        (
            replace(
                GOOD,
                runs=changed(4, run("c", 3, 13, 9.5, 20.0)),
                before_end={**GOOD.before_end, "c": 13},
            ),
            "1 jobs ran later with a token that was not larger: c",
        ),
        (replace(GOOD, before_end={"a": 11, "b": 14}), "1 jobs were lost: c"),
        (
            replace(GOOD, before_end={**GOOD.before_end, "c": 17}),
            "1 jobs had another owner, by their token, than the node that ran them: c",
        ),
        (
            replace(GOOD, runs=changed(0, run("a", 1, 11, 1.0, 18.0))),
            "1 jobs had ended before the pool was shut down: a",
        ),
        (
            replace(GOOD, runs=changed(0, run("a", 1, 11, 1.0, None))),
            "1 jobs were not stopped by the shutdown: a",
        ),
        (replace(GOOD, left=["b"]), "1 jobs are left in the pool after its shutdown: b"),
    ],
)
def test_each_broken_promise_is_found(evidence: PoolEvidence, problem: str) -> None:
    verdict = judge_pool(evidence)
    assert not verdict.holds
    assert verdict.problems == (problem,)


def test_a_problem_names_a_few_culprits() -> None:
    verdict = judge_pool(replace(GOOD, left=[f"job {number}" for number in range(7)]))
    (problem,) = verdict.problems
    assert problem.endswith("job 0, job 1, job 2, job 3, job 4, and 2 more")
