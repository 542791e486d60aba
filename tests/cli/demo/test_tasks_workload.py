"""What the act with task queues enqueues: the same in every process, with something of everything."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from pulsewire.cli.demo.plan_error import PlanError
from pulsewire.cli.demo.tasks.plan import TasksPlan
from pulsewire.cli.demo.tasks.workload import QUEUES, TYPES, Kind, Order, Work, orders


def test_there_are_as_many_as_were_asked_for_and_every_process_knows_the_same() -> None:
    for tasks in (10, 77, 3600):
        wanted = orders(tasks)
        assert len({order.task for order in wanted}) == len(wanted) == tasks
        assert wanted == orders(tasks)


def test_every_queue_has_something_of_everything() -> None:
    found = {(order.queue, order.kind) for order in orders(200)}
    special = set(Kind) - {Kind.MEMBER}
    assert found == {(queue, kind) for queue in QUEUES for kind in special} | {
        ("critical", Kind.MEMBER)
    }
    assert {order.fails for order in orders(200) if order.kind is Kind.FLAKY} == {1, 2}


def test_the_group_comes_first() -> None:
    kinds = [order.kind is Kind.MEMBER for order in orders(1000)]
    assert kinds == sorted(kinds, reverse=True)
    assert sum(kinds) == 10


def test_a_twin_differs_from_its_task_by_its_id_alone() -> None:
    order = next(order for order in orders(200) if order.twin)
    task, twin = order.new_tasks()
    assert (task.task_id, twin.task_id) == (order.task, order.twin)
    assert task.unique
    assert twin == msgspec.structs.replace(task, task_id=order.twin)


def test_what_is_special_is_said_when_it_is_enqueued() -> None:
    def said(kind: Kind) -> tuple[object, ...]:
        (task, *_) = next(order for order in orders(200) if order.kind is kind).new_tasks()
        return task.process_in, task.unique is not None, task.retention > 0, task.group

    assert said(Kind.PLAIN) == said(Kind.FLAKY) == (None, False, False, None)
    assert said(Kind.LATER) == (2.0, False, False, None)
    assert said(Kind.UNIQUE) == (1.0, True, False, None)
    assert said(Kind.KEPT) == (None, False, True, None)
    assert said(Kind.MEMBER) == (None, False, False, "ada")


def test_payloads_tell_what_to_do_and_never_fail_for_good() -> None:
    payloads = Counter[str]()
    for order in orders(200):
        task = order.new_tasks()[0]
        assert isinstance(task.payload, bytes)
        work = msgspec.json.decode(task.payload, type=Work)
        assert work == Work(order.task, order.fails, order.kind is Kind.KEPT)
        assert order.fails <= task.max_retry
        assert task.type in TYPES
        payloads[work.name] += 1
    assert set(payloads.values()) == {1}  # so that no two tasks have the same lock


def test_an_order_has_the_type_of_its_kind_or_else_of_its_queue() -> None:
    plain = {queue: Order(task="a", queue=queue, kind=Kind.PLAIN).task_type for queue in QUEUES}
    assert len(set(plain.values())) == len(QUEUES)
    flaky = {Order(task="a", queue=queue, kind=Kind.FLAKY).task_type for queue in QUEUES}
    assert len(flaky) == 1


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"tasks": 9}, "--tasks"),
        ({"servers": 0, "kill": False}, "--servers"),
        ({"servers": 1}, "--servers"),
        ({"work": -0.1}, "--task-work"),
        ({"lease": 0.9}, "--lease"),
    ],
)
def test_impossible_numbers_are_refused(options: dict[str, float], culprit: str) -> None:
    with pytest.raises(PlanError) as refused:
        TasksPlan(**options)  # type: ignore[arg-type]  # a table of cases
    assert refused.value.option == culprit


def test_one_server_will_do_when_nobody_is_killed() -> None:
    assert TasksPlan(servers=1, kill=False).servers == 1


def test_all_are_enqueued_within_seconds_and_the_kill_comes_midway() -> None:
    plan = TasksPlan()
    assert plan.tasks / plan.rate == 6.0
    assert plan.killed_at == 1440
    assert TasksPlan(tasks=10).killed_at == 4
    assert TasksPlan(lease=60.0).patience > 60.0
