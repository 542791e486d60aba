"""What `pulsewire chaos` calls right and wrong: each lie is found, and what a fault met is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pulsewire.cli.chaos.plan import ChaosPlan, Weather
from pulsewire.cli.chaos.promises import Promises
from pulsewire.cli.chaos.sightings import Sightings, Strike
from pulsewire.cli.chaos.verdict import ChaosVerdict, judge
from pulsewire.cli.demo.journal import (
    Arrived,
    FlagSeen,
    JobBegan,
    JobOver,
    Outcome,
    Record,
    Seen,
    TaskBegan,
    TaskOver,
)
from pulsewire.cli.demo.plan_error import PlanError

NEAR, FAR = 1, 2
"""Two workers."""


def seen(payload: str, *, deliveries: int = 1, event: str = "1-1") -> Seen:
    """An event was handled."""
    return Seen(user=payload, event=event, began=1.0, at=1.1, deliveries=deliveries)


def task(attempt: int, began: float, ended: float, how: Outcome = Outcome.DONE) -> list[Record]:
    """A task was run."""
    return [
        TaskBegan(attempt=attempt, task="t", task_type="x", queue="default", retried=0, at=began),
        TaskOver(attempt=attempt, outcome=how, result="", at=ended),
    ]


def job(token: int, began: float, ended: float | None = None) -> list[Record]:
    """A job was run."""
    begins: list[Record] = [JobBegan(job="j", token=token, at=began)]
    return begins + ([] if ended is None else [JobOver(job="j", token=token, at=ended)])


def told() -> Promises:
    """One of everything was asked for and acknowledged."""
    promises = Promises(count=1, final="last")
    for account, name in zip(promises.blocks.values(), ("e", "w", "j", "t"), strict=True):
        account.asked[name], account.acknowledged[name] = 0.5, 0.6
    return promises


def done() -> dict[int, list[Record]]:
    """And is done."""
    final = FlagSeen(flag="final", value="last", at=9.0)
    return {
        NEAR: [Arrived(pid=1), seen("e"), *job(1, 1.0), *task(1, 1.0, 1.2), final],
        FAR: [Arrived(pid=2), final],
    }


def judged(
    promises: Promises, records: dict[int, list[Record]], strikes: Sequence[Strike] = ()
) -> ChaosVerdict:
    """The verdict."""
    sightings = Sightings()
    for worker, written in records.items():
        sightings.take(worker, written)
    return judge(promises, sightings, strikes, recovery=7.0)


def strike(what: Weather, worker: int | None, begin: float, end: float) -> Strike:
    """A fault."""
    return Strike(what=what, worker=worker, begin=begin, end=end, recovered=1.0)


def test_good_accounts_hold() -> None:
    verdict = judged(told(), done(), [strike(Weather.CUT, None, 3.0, 3.0)])
    assert verdict.holds, verdict.problems
    assert [(row.block, row.acknowledged, row.lost, row.doubled) for row in verdict.rows] == [
        ("streams", 1, 0, 0),
        ("maps", 1, 0, 0),
        ("pools", 1, 0, 0),
        ("tasks", 1, 0, 0),
    ]


def lose_the_event(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[NEAR] = [one for one in records[NEAR] if not isinstance(one, Seen)]


def handle_it_twice(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[FAR].append(seen("e"))


def add_it_twice(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[FAR].append(seen("e", event="1-2", deliveries=2))


def handle_what_was_refused(promises: Promises, records: dict[int, list[Record]]) -> None:
    promises.events.refused.add("no")
    records[FAR].append(seen("no"))


def lose_the_write(promises: Promises, records: dict[int, list[Record]]) -> None:
    promises.count = 0


def write_twice(promises: Promises, records: dict[int, list[Record]]) -> None:
    promises.count = 2


def leave_a_replica_behind(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[FAR][-1] = FlagSeen(flag="final", value="before", at=9.0)


def lose_the_job(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[NEAR].append(JobOver(job="j", token=1, at=2.0))


def run_it_twice(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[FAR] += job(2, 2.0)


def start_it_with_an_old_token(promises: Promises, records: dict[int, list[Record]]) -> None:
    lose_the_job(promises, records)
    records[FAR] += job(1, 3.0)


def run_on_after_its_end(promises: Promises, records: dict[int, list[Record]]) -> None:
    promises.ending.add("j")
    promises.ended.add("j")


def lose_the_task(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[NEAR] = [one for one in records[NEAR] if not isinstance(one, TaskOver)]


def run_the_task_twice(promises: Promises, records: dict[int, list[Record]]) -> None:
    records[FAR] += task(1, 5.0, 5.1)


def run_what_was_refused(promises: Promises, records: dict[int, list[Record]]) -> None:
    promises.tasks.acknowledged.clear()
    promises.tasks.refused.add("t")


@pytest.mark.parametrize(
    "lie",
    [
        lose_the_event,
        handle_it_twice,
        add_it_twice,
        handle_what_was_refused,
        lose_the_write,
        write_twice,
        leave_a_replica_behind,
        lose_the_job,
        run_it_twice,
        start_it_with_an_old_token,
        run_on_after_its_end,
        lose_the_task,
        run_the_task_twice,
        run_what_was_refused,
    ],
)
def test_each_breach_is_found(lie: Callable[[Promises, dict[int, list[Record]]], None]) -> None:
    promises, records = told(), done()
    lie(promises, records)
    assert not judged(promises, records, [strike(Weather.CUT, None, 3.0, 3.0)]).holds


def test_event_that_was_given_again_is_explained() -> None:
    records = done()
    records[FAR].append(seen("e", deliveries=2))
    verdict = judged(told(), records)
    assert verdict.holds, verdict.problems
    assert verdict.rows[0].again == 1


@pytest.mark.parametrize(
    ("what", "worker", "begin", "is_explained"),
    [
        pytest.param(Weather.KILL, NEAR, 1.1, True, id="it-was-killed"),
        pytest.param(Weather.KILL, NEAR, 2.0, True, id="killed-before-it-was-written"),
        pytest.param(Weather.KILL, FAR, 1.1, False, id="another-one-was-killed"),
        pytest.param(Weather.RESTART, None, 1.1, True, id="server-away"),
        pytest.param(Weather.RESTART, None, 4.0, False, id="server-away-long-after"),
    ],
)
def test_task_that_ran_twice_is_explained_where_a_fault_met_it(
    what: Weather,
    worker: int | None,
    begin: float,
    is_explained: bool,
) -> None:
    promises, records = told(), done()
    run_the_task_twice(promises, records)
    verdict = judged(promises, records, [strike(what, worker, begin, begin + 0.1)])
    assert verdict.holds is is_explained


@pytest.mark.parametrize(
    ("worker", "end", "is_explained"),
    [
        pytest.param(NEAR, 4.0, True, id="the-older-one-was-frozen"),
        pytest.param(FAR, 4.0, False, id="the-newer-one-was-frozen"),
        pytest.param(NEAR, 2.5, False, id="it-went-on-after-waking"),
    ],
)
def test_job_at_two_places_is_explained_where_the_stale_owner_was_frozen(
    worker: int,
    end: float,
    is_explained: bool,
) -> None:
    promises, records = told(), done()
    records[NEAR].append(JobOver(job="j", token=1, at=4.5))
    records[FAR] += job(2, 2.0)
    assert (
        judged(promises, records, [strike(Weather.FREEZE, worker, 1.5, end)]).holds is is_explained
    )


def test_fault_that_was_not_over_in_time_is_late() -> None:
    slow = Strike(what=Weather.CUT, worker=None, begin=3.0, end=3.0, recovered=7.5)
    verdict = judged(told(), done(), [slow])
    assert not verdict.holds
    assert verdict.late == 1


def test_order_is_drawn_from_the_seed() -> None:
    plans = [ChaosPlan(seed=seed) for seed in (1, 1, 2, 3, 4)]
    assert plans[0].order() == plans[1].order()
    assert len({tuple(plan.order()) for plan in plans}) > 1
    assert set(plans[0].order()) == set(Weather)


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"workers": 1}, {"lease": 0.5}])
def test_numbers_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PlanError):
        ChaosPlan(seed=1, **wrong)  # type: ignore[arg-type]  # one option at a time
