"""Thousands of tasks with every option there is, enqueued in one language and run in the other.

Judged from what the handlers have told in a file, outside Redis, and from what Redis keeps afterwards.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

import pulsewire
from pulsewire.tasks import NewTask
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_programs import Fact, Program, Programs, changed, payload_of
from tests.conformance.asynq_scenes import QUEUE, Fleet, a_task
from tests.weather.task_queue import Watched

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]  # the first run downloads

MANY = [500, pytest.param(10_000, marks=pytest.mark.slow)]
QUEUES = {QUEUE: 3, "other": 2, "añadir ☃": 1}
GROUPS = ("first", "second")
GROUP_SIZE = 7
BUSY = ("Pending", "Active", "Scheduled", "Retry", "Aggregating")
DEFAULT_TIMEOUT = 1800.0
SLACK = 30.0
"""Seconds for which a handler may not get to run after its attempt has begun."""
OURS: Mapping[str, Any] = {"janitor_interval": 0.1, "forward_interval": 0.1}


@dataclass(frozen=True, slots=True)
class Case:
    """A task, and what is to become of it.

    Attributes:
        attempts: how often a handler begins with it; 0 where none may, or where it is a member of a group.
        charged: how many attempts fail, also without a handler.
        state: what it is in the end; "gone" where nothing of it is left.
    """

    number: int
    task: NewTask
    attempts: int
    charged: int
    state: str

    @property
    def is_member(self) -> bool:
        """Whether it is aggregated with others."""
        return self.task.group is not None


def a_case(choice: random.Random, number: int, now: int) -> Case:
    """Any task."""
    options: dict[str, Any] = {
        "queue": choice.choice([*QUEUES]),
        "task_id": f"task {number}" if choice.random() < 0.7 else None,
        "payload": b"%d " % number + choice.randbytes(choice.choice((0, 10, 1000))),
        "timeout": choice.choice((None, None, 60.0, 600.0)),
        "deadline": choice.choice((None, None, now + 300, now + 3600)),
        "max_retry": choice.choice((1, 7, 25)),
        "headers": {f"header {n}": "ñ" * n for n in range(choice.choice((0, 0, 1, 9)))},
    }
    if number % 10 == 0:
        options |= {"payload": str(number), "group": choice.choice(GROUPS)}
        return Case(number, a_task("note:member", **options), 0, 0, "gone")
    verb = choice.choice(("note", "note", "result", "once", "fail", "skip", "revoke", "late"))
    attempts, charged, kept = 1, 0, "completed"
    if verb == "once":
        attempts, charged = 2, 1
    elif verb == "fail":
        options["max_retry"] = choice.randint(0, 2)
        attempts = charged = options["max_retry"] + 1
        kept = "archived"
    elif verb == "skip":
        charged, kept = 1, "archived"
    elif verb == "revoke":
        kept = "gone"
    elif verb == "late":
        options |= {"deadline": 1_000_000_000, "max_retry": 0}
        attempts, charged, kept = 0, 1, "archived"
    options["retention"] = choice.choice((0.0, 1.0, 3600.0))
    if kept == "completed" and options["retention"] < 3600.0:
        kept = "gone"
    options["unique"] = choice.choice((None, None, 600.0))
    moment = choice.choice(("now", "now", "now", "in", "at", "past"))
    if moment == "in":
        options["process_in"] = 1.0
    elif moment != "now":
        options["process_at"] = now + 2 if moment == "at" else 1_000_000_000
    return Case(number, a_task(f"{verb}:it", **options), attempts, charged, kept)


def state_at_first(case: Case) -> set[str]:
    """What a task can be when it is enqueued."""
    task = case.task
    if task.group is not None:
        return {"aggregating"}
    if task.process_in is not None:
        return {"scheduled"}
    if task.process_at is not None:
        return {"scheduled", "pending"}  # its time may have come meanwhile
    return {"pending"}


def twins_of(cases: Iterable[Case]) -> list[NewTask]:
    """Tasks that must be refused: for a lock that is held, or an id that is taken."""
    twins = []
    for case in cases:
        if case.task.unique is not None:
            twins.append(changed(case.task, task_id=None))
        elif case.task.task_id is not None:
            twins.append(changed(case.task, payload="another"))
    return twins


@pytest.mark.parametrize("many", MANY)
@pytest.mark.parametrize("enqueuer", ["go", "ours"])
async def test_thousands_with_every_option(
    programs: Programs,
    asynq_hub: pulsewire.Hub,
    asynq_redis: SingleServer,
    enqueuer: str,
    many: int,
) -> None:
    """Each runs as often as it should, with all it was given, and is afterwards what it should be."""
    runner = {"go": "ours", "ours": "go"}[enqueuer]
    fleet = Fleet(enqueuer, runner, programs, asynq_hub, asynq_redis)
    others = Fleet(runner, enqueuer, programs, asynq_hub, asynq_redis)
    choice = random.Random(many)
    now = int(time.time())
    cases = [a_case(choice, number, now) for number in range(many)]
    began = time.time()
    states = await fleet.enqueue(*(case.task for case in cases))
    odd = [
        (case, state)
        for case, state in zip(cases, states, strict=True)
        if state not in state_at_first(case)
    ]
    assert not odd
    twins = twins_of(cases[:: max(many // 250, 1)])
    assert len(twins) > 20
    assert {*await others.enqueue(*twins)} == {"refused"}

    kept = Counter(case.state for case in cases)
    members = {case.number for case in cases if case.is_member}
    settings: dict[str, Any] = {"concurrency": 10, "group_size": GROUP_SIZE}
    serving = (
        programs.go_server(queues=QUEUES, **settings)
        if runner == "go"
        else programs.our_server(queues=QUEUES, **settings, **OURS)
    )
    async with serving as server:

        async def all_is_over() -> bool:
            infos = [await programs.inspect("GetQueueInfo", queue) for queue in QUEUES]
            if any(info[state] for info in infos for state in BUSY):
                return False
            bundles = bundles_of(server)
            completed = sum(info["Completed"] for info in infos)
            heard = sum(len(numbers_in(bundle)) for bundle in bundles)
            # members that are being aggregated are in no state, and a bundle comes later than they go
            return heard == len(members) and completed == kept["completed"] + len(bundles)

        await wait_until(all_is_over, timeout=120.0, what="all is over")
    bundles = bundles_of(server)
    check_runs(server, cases, began)
    check_bundles(bundles, cases)
    watched = Watched(asynq_redis, [*QUEUES], "")
    looks = {queue: await watched.look(queue) for queue in QUEUES}
    assert not watched.complaints
    assert sum(look.processed for look in looks.values()) == len(bundles) + sum(
        max(case.attempts, case.charged) for case in cases
    )
    assert sum(look.failed for look in looks.values()) == sum(case.charged for case in cases)
    for queue in QUEUES:
        await check_queue(programs, asynq_redis, queue, cases)


def bundles_of(server: Program) -> list[Fact]:
    """Tasks that were made of the members of a group."""
    return [fact for fact in server.facts.of("begun") if is_bundle(fact)]


def is_bundle(fact: Mapping[str, Any]) -> bool:
    """Whether this was told of such a task."""
    return fact.get("type", fact.get("Type")) in {f"note:{group}" for group in GROUPS}


def numbers_in(bundle: Mapping[str, Any]) -> list[int]:
    """The members of which it was made."""
    return [int(number) for number in payload_of(bundle).split(b",")]


def number_in(fact: Mapping[str, Any]) -> int:
    """Which task this was told of."""
    return int(payload_of(fact).split(b" ")[0])


def check_runs(server: Program, cases: list[Case], began: float) -> None:
    """Handlers began as often as they should, not before their time, and got what was enqueued."""
    told: dict[int, list[Fact]] = defaultdict(list)
    for fact in server.facts.of("begun"):
        if not is_bundle(fact):
            told[number_in(fact)].append(fact)
    assert len(server.facts.of("begun")) == len(server.facts.of("ended"))
    expected = {case.number: case.attempts for case in cases if case.attempts}
    assert {number: len(facts) for number, facts in told.items()} == expected
    for number, facts in told.items():
        task = cases[number].task
        assert [fact["retried"] for fact in facts] == [*range(len(facts))]
        earliest = began + task.process_in if task.process_in else task.process_at or 0.0
        assert isinstance(earliest, float | int)
        for fact in facts:
            seen = {name: fact[name] for name in ("type", "queue", "max_retry")}
            assert seen == {
                "type": task.type,
                "queue": task.queue,
                "max_retry": task.max_retry,
            }
            assert payload_of(fact) == task.payload
            assert (fact["headers"] or {}) == dict(task.headers)
            assert task.task_id in (None, fact["id"])
            assert fact["at"] >= int(earliest)  # to the second: asynq cuts off what is below
            assert seconds_left(task, fact["at"]) - SLACK < fact["left"]
            assert fact["left"] < seconds_left(task, fact["at"]) + 2.0


def seconds_left(task: NewTask, at: float) -> float:
    """How long an attempt may go on that begins then."""
    assert not isinstance(task.deadline, datetime)
    if not task.timeout and not task.deadline:
        return DEFAULT_TIMEOUT
    return min(task.timeout or math.inf, (task.deadline or math.inf) - at)


def check_bundles(bundles: list[Fact], cases: list[Case]) -> None:
    """Each member is in one of them, of its group and its queue; none is too large."""
    numbers = [number for bundle in bundles for number in numbers_in(bundle)]
    assert sorted(numbers) == [case.number for case in cases if case.is_member]
    for bundle in bundles:
        assert len(numbers_in(bundle)) <= GROUP_SIZE
        for number in numbers_in(bundle):
            task = cases[number].task
            assert (bundle["type"], bundle["queue"]) == (f"note:{task.group}", task.queue)


async def check_queue(
    programs: Programs, redis: SingleServer, queue: str, cases: list[Case]
) -> None:
    """What is kept of its tasks is what should be, and nothing else is left."""
    mine = [case for case in cases if case.task.queue == queue]
    page = {"page": 1, "size": 2 * len(cases)}
    bundles = 0
    for state, method in {
        "completed": "ListCompletedTasks",
        "archived": "ListArchivedTasks",
    }.items():
        found = {}
        for info in await programs.inspect(method, queue, page):
            if is_bundle(info):
                bundles += 1
            else:
                found[number_in(info)] = info
        assert set(found) == {case.number for case in mine if case.state == state}
        for number, info in found.items():
            case = cases[number]
            verb = case.task.type.partition(":")[0]
            result = case.task.payload if verb == "result" else b""
            assert payload_of({"payload": info["Result"]}) == result
            assert info["Retention"] == case.task.retention * 1e9
            failures = case.charged - 1 if state == "archived" else case.charged
            assert info["Retried"] == failures  # the failure that archives a task is not counted
            words = "context deadline exceeded" if verb == "late" else "broken"
            assert (words in info["LastErr"]) is bool(case.charged)
    prefix = f"asynq:{{{queue}}}:"
    keys = Counter(
        key.decode().removeprefix(prefix).partition(":")[0]
        for key in await redis.command("KEYS", f"{prefix}*")
    )
    locked = [case for case in mine if case.state == "archived" and case.task.unique]
    assert keys["unique"] == len(locked)
    assert keys["t"] == bundles + sum(case.state != "gone" for case in mine)
    assert set(keys) <= {"t", "unique", "completed", "archived", "processed", "failed"}
