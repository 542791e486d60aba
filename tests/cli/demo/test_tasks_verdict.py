"""What the act with task queues calls right and wrong: each lie of the evidence is found."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.cli.demo.attempts import Attempt
from pulsewire.cli.demo.journal import Bundled, Enqueued, Fired, Outcome, Refused
from pulsewire.cli.demo.tasks.verdict import Reason, TasksEvidence, judge_tasks
from pulsewire.cli.demo.tasks.workload import Kind, Order

DONE, FAILED, STOPPED = Outcome.DONE, Outcome.FAILED, Outcome.STOPPED
KILLED_AT = 5.0
VICTIM = 2


def ran(
    task: str,
    server: int,
    began: float,
    ended: float | None,
    outcome: Outcome | None = DONE,
    *,
    retried: int = 0,
    result: str = "",
) -> Attempt:
    """An attempt, briefly."""
    return Attempt(
        task=task,
        task_type="t",
        queue="low",
        server=server,
        retried=retried,
        began=began,
        ended=ended,
        outcome=outcome,
        result=result,
    )


def cut(task: str, began: float, *, retried: int = 0) -> Attempt:
    """An attempt that the kill has ended."""
    return ran(task, VICTIM, began, KILLED_AT, None, retried=retried)


def order(task: str, kind: Kind, *, fails: int = 0, delay: float = 0.0, twin: str = "") -> Order:
    """An order, briefly."""
    return Order(task=task, queue="low", kind=kind, fails=fails, delay=delay, twin=twin)


def enqueued(*tasks: str) -> list[Enqueued]:
    """What the client was told."""
    return [Enqueued(task=task, asked=1.0, at=1.1) for task in tasks]


ORDERS = [
    order("plain", Kind.PLAIN),
    order("flaky", Kind.FLAKY, fails=1),
    order("later", Kind.LATER, delay=3.0),
    order("unique", Kind.UNIQUE, delay=1.0, twin="twin"),
    order("kept", Kind.KEPT),
    order("line 1", Kind.MEMBER),
    order("line 2", Kind.MEMBER),
]
REFUSED = Refused(task="twin", error="DuplicateTask", why="it is there")
GOOD = TasksEvidence(
    orders=ORDERS,
    enqueued=enqueued("plain", "flaky", "later", "unique", "kept", "line 1", "line 2"),
    refused=[REFUSED],
    attempts=[
        ran("plain", 1, 2.1, 2.6),
        ran("flaky", 1, 2.0, 2.5, FAILED),
        cut("flaky", 4.0, retried=1),
        ran("flaky", 1, 7.0, 7.5, retried=1),
        ran("later", 1, 4.0, 4.5),
        ran("unique", VICTIM, 4.2, 4.9),  # and died before it could say so
        ran("unique", 1, 7.2, 7.7),
        ran("kept", 1, 2.0, 2.6, result="r"),
        ran("digest", 1, 3.0, 3.5),
        ran("tick 1", 1, 2.0, 2.5),
        ran("tick 2", 1, 4.0, 4.5),
    ],
    bundles=[Bundled(task="digest", members=("line 1", "line 2"))],
    fired={
        "scheduler 1": [Fired(task="tick 1", at=100.1)],
        "scheduler 2": [Fired(task="tick 2", at=102.0)],
    },
    ticking_from=99.0,
    ticking_until=103.0,
    killed_at=KILLED_AT,
    victim=VICTIM,
    lease=2.0,
    kept={"kept": "r"},
    left={"critical": 0, "low": 0},
)


def test_good_evidence_holds() -> None:
    verdict = judge_tasks(GOOD)
    assert verdict.problems == ()
    assert verdict.holds
    assert (verdict.accepted, verdict.succeeded, verdict.lost) == (7, 7, ())
    assert (verdict.failures, verdict.flaky, verdict.later, verdict.refused) == (1, 1, 1, 1)
    assert (verdict.members, verdict.bundles, verdict.kept) == (2, 1, 1)
    assert verdict.ticks == {"scheduler 1": 1, "scheduler 2": 1}
    assert (verdict.cut, verdict.reruns) == (1, (2.0,))
    assert verdict.repeats == {Reason.CUT: 1, Reason.UNTOLD: 1}
    assert verdict.waits == {"low": 1.0}


def without(task: str, *others: Attempt) -> list[Attempt]:
    """The good attempts, with those of one task replaced."""
    return [*(attempt for attempt in GOOD.attempts if attempt.task != task), *others]


def test_a_failure_that_the_killed_server_could_not_tell_is_made_again() -> None:
    attempts = without(
        "flaky",
        ran("flaky", VICTIM, 4.0, 4.8, FAILED),
        ran("flaky", 1, 7.0, 7.5, FAILED),
        ran("flaky", 1, 9.0, 9.5, retried=1),
    )
    verdict = judge_tasks(replace(GOOD, attempts=attempts))
    assert verdict.problems == ()
    assert verdict.repeats == {Reason.UNTOLD: 2}


def test_without_a_kill_there_is_no_reason_to_run_anything_again() -> None:
    calm = replace(
        GOOD,
        killed_at=None,
        victim=None,
        attempts=without(
            "unique", ran("unique", 1, 4.2, 4.9), ran("flaky", 1, 4.0, 4.5, retried=1)
        )[:-1],
    )
    attempts = [attempt for attempt in calm.attempts if attempt.task != "flaky"]
    attempts += [ran("flaky", 1, 2.0, 2.5, FAILED), ran("flaky", 1, 4.0, 4.5, retried=1)]
    verdict = judge_tasks(replace(calm, attempts=attempts))
    assert verdict.holds, verdict.problems
    assert verdict.repeats == {}
    again = judge_tasks(replace(calm, attempts=[*attempts, ran("unique", 2, 6.0, 6.5)]))
    assert again.problems == ("1 tasks were run again without a reason: unique",)


LIES: list[tuple[TasksEvidence, Sequence[str]]] = [
    (
        replace(GOOD, refused=[]),
        ["1 tasks were asked for, and nobody knows what became of them: twin"],
    ),
    (
        replace(GOOD, refused=[Refused(task="twin", error="ServerFull", why="full")]),
        ["1 tasks could not be enqueued: twin (full)"],
    ),
    (
        replace(GOOD, refused=[REFUSED, Refused(task="a tick", error="ServerFull", why="full")]),
        ["1 tasks could not be enqueued: a tick (full)"],
    ),
    (
        replace(
            GOOD,
            refused=[],
            enqueued=[*GOOD.enqueued, *enqueued("twin")],
            attempts=[*GOOD.attempts, ran("twin", 1, 6.0, 6.5)],
        ),
        ["1 tasks were enqueued although another one like them existed: twin"],
    ),
    (
        replace(GOOD, attempts=[*GOOD.attempts, ran("twin", 1, 6.0, 6.5)]),
        ["1 tasks were run without having been enqueued: twin"],
    ),
    (replace(GOOD, attempts=without("plain")), ["1 tasks never succeeded: plain"]),
    (
        replace(GOOD, attempts=without("plain", ran("plain", 1, 2.1, 2.6, STOPPED))),
        ["1 tasks never succeeded: plain"],
    ),
    (
        replace(GOOD, attempts=without("digest")),
        ["2 tasks never succeeded: line 1, line 2"],
    ),
    (
        replace(GOOD, bundles=[Bundled(task="digest", members=("line 1",))]),
        ["1 tasks never succeeded: line 2"],
    ),
    (
        replace(GOOD, attempts=[*GOOD.attempts, ran("line 1", 1, 6.0, 6.5)]),
        ["1 tasks were run although their group was to be: line 1"],
    ),
    (
        replace(
            GOOD,
            bundles=[*GOOD.bundles, Bundled(task="digest 2", members=("line 1",))],
            attempts=[*GOOD.attempts, ran("digest 2", 1, 6.0, 6.5)],
        ),
        ["1 tasks are in more than one bundle: line 1"],
    ),
    (
        replace(GOOD, attempts=[*GOOD.attempts, ran("plain", 3, 6.0, 6.5)]),
        ["1 tasks were run again without a reason: plain"],
    ),
    (
        # The victim had ended it three seconds before it died: it had the time to say so.
        replace(
            GOOD,
            attempts=without("plain", ran("plain", VICTIM, 1.5, 2.0), ran("plain", 1, 7.0, 7.5)),
        ),
        ["1 tasks were run again without a reason: plain"],
    ),
    (
        replace(
            GOOD,
            attempts=without(
                "plain", ran("plain", 1, 2.0, 2.5, STOPPED), ran("plain", 1, 7.0, 7.5)
            ),
        ),
        ["1 tasks were run again without a reason: plain"],
    ),
    (
        replace(GOOD, attempts=without("plain", cut("plain", 4.0), ran("plain", 1, 4.9, 5.4))),
        ["1 tasks were run at two servers at the same moment: plain"],
    ),
    (
        # A crash must cost no retry.
        replace(
            GOOD,
            attempts=without("plain", cut("plain", 4.0), ran("plain", 1, 7.0, 7.5, retried=1)),
        ),
        ["1 tasks were not charged for each failure, and for nothing else: plain"],
    ),
    (
        replace(
            GOOD,
            attempts=without("flaky", ran("flaky", 1, 2.0, 2.5, FAILED), ran("flaky", 1, 4.0, 4.5)),
        ),
        [
            "1 tasks were run again without a reason: flaky",
            "1 tasks were not charged for each failure, and for nothing else: flaky",
        ],
    ),
    (
        replace(
            GOOD,
            attempts=without(
                "flaky", ran("flaky", 1, 2.0, 2.5, FAILED), ran("flaky", 1, 4.0, 4.5, retried=2)
            ),
        ),
        ["1 tasks were not charged for each failure, and for nothing else: flaky"],
    ),
    (
        # It did not fail, as it should have.
        replace(GOOD, attempts=without("flaky", ran("flaky", 1, 2.0, 2.5))),
        ["1 tasks were not charged for each failure, and for nothing else: flaky"],
    ),
    (
        replace(GOOD, attempts=without("plain", ran("plain", 1, 2.0, 2.5, retried=1))),
        ["1 tasks were not charged for each failure, and for nothing else: plain"],
    ),
    (
        replace(GOOD, attempts=without("later", ran("later", 1, 3.9, 4.5))),
        ["1 tasks were run before their time: later"],
    ),
    (
        replace(GOOD, attempts=[*GOOD.attempts, ran("tick 3", 1, 6.0, None, None)]),
        [
            "1 tasks were run without having been enqueued: tick 3",
            "1 tasks were begun, and never ended: tick 3",
        ],
    ),
    (replace(GOOD, attempts=without("tick 1")), ["1 ticks never succeeded: tick 1"]),
    (
        replace(
            GOOD,
            fired={**GOOD.fired, "scheduler 3": [Fired(task="tick 2", at=104.0)]},
        ),
        ["1 ticks were enqueued by two schedulers: tick 2"],
    ),
    (
        replace(
            GOOD,
            fired={**GOOD.fired, "scheduler 3": [Fired(task="tick 3", at=102.1)]},
            attempts=[*GOOD.attempts, ran("tick 3", 1, 4.0, 4.5)],
        ),
        ["3 ticks were enqueued where 2 were due: some more than once"],
    ),
    (
        replace(
            GOOD,
            fired={**GOOD.fired, "scheduler 2": [Fired(task="tick 2", at=104.3)]},
        ),
        ["2 ticks were enqueued where 3 were due: some never"],
    ),
    (
        replace(GOOD, ticking_until=109.0),
        ["2 ticks were enqueued, at least 4 were due"],
    ),
    (
        replace(GOOD, fired={}, attempts=[one for one in GOOD.attempts if "tick" not in one.task]),
        ["0 ticks were enqueued, at least 1 were due"],
    ),
    (replace(GOOD, kept={}), ["1 results are not kept: kept"]),
    (
        replace(GOOD, kept={"kept": "s"}),
        ["1 results are not what the handler has written: kept"],
    ),
    (
        replace(GOOD, kept={**GOOD.kept, "plain": ""}),
        ["1 results are kept, and nobody has asked for it: plain"],
    ),
    (replace(GOOD, left={"critical": 0, "low": 3}), ["3 tasks are left in queue low"]),
]


@pytest.mark.parametrize(("evidence", "found"), LIES)
def test_each_broken_promise_is_found(evidence: TasksEvidence, found: Sequence[str]) -> None:
    verdict = judge_tasks(evidence)
    assert not verdict.holds
    assert list(verdict.problems) == found


def test_the_result_that_counts_is_that_of_the_last_attempt() -> None:
    attempts = without(
        "kept", ran("kept", VICTIM, 4.0, 4.9, result="old"), ran("kept", 1, 7.0, 7.5, result="r")
    )
    assert judge_tasks(replace(GOOD, attempts=attempts)).holds
    (problem,) = judge_tasks(replace(GOOD, attempts=attempts, kept={"kept": "old"})).problems
    assert problem == "1 results are not what the handler has written: kept"


@given(
    lives=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8), st.booleans()), max_size=20),
    missing=st.sets(st.integers(0, 19)),
    shuffle=st.randoms(use_true_random=False),
)
def test_any_history_holds_exactly_if_nothing_is_missing(
    lives: list[tuple[int, int, bool]], missing: set[int], shuffle: random.Random
) -> None:
    """However often tasks fail, and wherever the kill comes, only what never succeeds is wrong.

    Each life is: how often the task fails, which of its attempts is in the hands of the victim, and whether that one
    had ended.
    """
    orders_: list[Order] = []
    attempts: list[Attempt] = []
    for number, (fails, struck, had_ended) in enumerate(lives):
        task = f"task {number}"
        orders_.append(order(task, Kind.FLAKY, fails=fails))
        at = KILLED_AT - 1.0 - 1.5 * struck
        for retried in range(fails + 1):
            outcome = FAILED if retried < fails else DONE
            if retried == struck:
                ended = ran(
                    task, VICTIM, KILLED_AT - 0.5, KILLED_AT - 0.1, outcome, retried=retried
                )
                attempts.append(ended if had_ended else cut(task, KILLED_AT - 0.5, retried=retried))
                at = KILLED_AT + 2.0
            if outcome is FAILED or number not in missing:
                attempts.append(ran(task, 1, at, at + 0.1, outcome, retried=retried))
            at += 1.5
    shuffle.shuffle(attempts)  # journals are read in any order
    lost = {
        f"task {number}"
        for number in missing
        if number < len(lives) and not _was_done_by_the_victim(lives[number])
    }
    verdict = judge_tasks(
        replace(
            GOOD,
            orders=orders_,
            enqueued=[Enqueued(task=one.task, asked=-99.0, at=-99.0) for one in orders_],
            refused=[],
            attempts=attempts,
            bundles=[],
            fired={},
            ticking_until=GOOD.ticking_from,
            kept={},
        )
    )
    assert set(verdict.lost) == lost
    assert verdict.holds == (not lost), verdict.problems


def _was_done_by_the_victim(life: tuple[int, int, bool]) -> bool:
    fails, struck, had_ended = life
    return had_ended and struck == fails
