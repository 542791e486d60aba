"""A task enqueued in one language runs in the other, with every option meaning the same."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

import pulsewire
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_keys import fields_of
from tests.conformance.asynq_programs import PATIENCE, Programs, payload_of
from tests.conformance.asynq_scenes import QUEUE, Fleet, a_task

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]  # the first run downloads

DELAYS = ((15, 44), (16, 74), (31, 118))
"""The shortest and the longest that asynq waits by default after the first failures (spec/asynq.md 4.4)."""


@pytest.fixture(params=["go", "ours"], ids=["go enqueues", "we enqueue"])
def fleet(
    request: pytest.FixtureRequest,
    programs: Programs,
    asynq_hub: pulsewire.Hub,
    asynq_redis: SingleServer,
) -> Fleet:
    runner = "ours" if request.param == "go" else "go"
    return Fleet(request.param, runner, programs, asynq_hub, asynq_redis)


async def test_the_handler_gets_what_was_enqueued(fleet: Fleet) -> None:
    """Type, bytes, headers, queue and counts."""
    payload = bytes(range(256)) * 300
    headers = {"traceparent": "00-ñ", "empty": "", "long": "x" * 5000}
    task = a_task("note:añadir ✉", payload=payload, headers=headers, max_retry=7, task_id="uno: ñ")
    assert await fleet.enqueue(task) == ["pending"]
    async with fleet.running():
        told = await fleet.facts.heard("begun", "uno: ñ")
        await fleet.state_is("gone", "uno: ñ")
    assert payload_of(told) == payload
    assert told["headers"] == headers
    assert (told["type"], told["queue"]) == (task.type, QUEUE)
    assert (told["retried"], told["max_retry"]) == (0, 7)
    assert told["left"] == pytest.approx(1800.0, abs=30.0)
    assert await fleet.counters() == (1, 0)
    assert await fleet.left() == set()


async def test_a_result_is_kept_as_long_as_the_task(fleet: Fleet) -> None:
    """Its lock is free at once."""
    result = bytes(range(256))
    await fleet.enqueue(a_task("result:it", payload=result, retention=3600.0, unique=600.0))
    async with fleet.running():
        info = await fleet.state_is("completed", "one")
    assert payload_of({"payload": info["Result"]}) == result
    assert info["Retention"] == 3600 * 10**9
    assert not info["CompletedAt"].startswith("0001")
    assert await fleet.left() == {"completed", "t:one"}
    assert await fleet.counters() == (1, 0)


async def test_a_task_goes_when_its_retention_is_over(fleet: Fleet) -> None:
    """The janitor of the other language deletes it."""
    await fleet.enqueue(a_task("note:it", retention=1.0))
    async with fleet.running():
        await fleet.facts.heard("ended", "one")
        await fleet.state_is("gone", "one")
    assert await fleet.left() == set()


async def test_failures_are_counted_until_the_last(fleet: Fleet) -> None:
    """Two retries are three attempts; then the task is archived, and its lock held still."""
    await fleet.enqueue(a_task("fail:it", max_retry=2, unique=600.0))
    async with fleet.running():
        info = await fleet.state_is("archived", "one")
    assert [fact["retried"] for fact in fleet.facts.of("begun", "one")] == [0, 1, 2]
    assert info["LastErr"].endswith("broken")
    assert (info["Retried"], info["MaxRetry"]) == (2, 2)
    assert await fleet.counters() == (3, 3)
    locks = {key for key in await fleet.left() if key.startswith("unique:")}
    assert len(locks) == 1
    assert await fleet.left() == {"archived", "t:one", *locks}


async def test_a_task_waits_for_its_retry(fleet: Fleet) -> None:
    """With its error, and the delay that the server has chosen."""
    await fleet.enqueue(a_task("fail:it"))
    async with fleet.running(retry_delay=600.0):
        info = await fleet.state_is("retry", "one")
    due = float(await fleet.redis.command("ZSCORE", f"asynq:{{{QUEUE}}}:retry", "one"))
    assert due == pytest.approx(time.time() + 600.0, abs=30.0)
    assert due == int(due)
    assert (info["Retried"], info["LastErr"][-6:]) == (1, "broken")
    assert await fleet.left() == {"retry", "t:one"}


async def test_the_delays_are_those_of_go(fleet: Fleet, asynq_hub: pulsewire.Hub) -> None:
    """Where nothing else is chosen: longer with each failure."""
    await fleet.enqueue(a_task("fail:it"))
    async with fleet.running(retry_delay=None):
        for failures, (shortest, longest) in enumerate(DELAYS, 1):
            await fleet.facts.heard("ended", "one", count=failures)
            info = await fleet.state_is("retry", "one")
            assert info["Retried"] == failures
            due, failed = (
                datetime.fromisoformat(info[name]).timestamp()
                for name in ("NextProcessAt", "LastFailedAt")
            )
            assert shortest - 1 <= due - failed <= longest + 1  # both are cut down to a second
            await asynq_hub.tasks.inspector.archive_task(QUEUE, "one")
            if failures < len(DELAYS):
                await asynq_hub.tasks.inspector.run_task(QUEUE, "one")


async def test_a_task_that_fails_once_succeeds_then(fleet: Fleet) -> None:
    """Its headers are the same in the second attempt, and its lock is free after it."""
    await fleet.enqueue(a_task("once:it", headers={"k": "v"}, unique=600.0))
    async with fleet.running():
        await fleet.state_is("gone", "one")
    told = fleet.facts.of("begun", "one")
    assert [(fact["retried"], fact["headers"]) for fact in told] == [
        (0, {"k": "v"}),
        (1, {"k": "v"}),
    ]
    assert await fleet.counters() == (2, 1)
    assert await fleet.left() == set()


async def test_a_handler_may_give_a_task_up(fleet: Fleet) -> None:
    """SkipRetry archives it at once, RevokeTask drops it and frees its lock."""
    await fleet.enqueue(
        a_task("skip:it", task_id="skipped"),
        a_task("revoke:it", task_id="revoked", unique=600.0),
    )
    async with fleet.running():
        info = await fleet.state_is("archived", "skipped")
        await fleet.state_is("gone", "revoked")
    assert info["Retried"] == 0
    assert "broken" in info["LastErr"]
    assert await fleet.counters() == (2, 1)
    assert await fleet.left() == {"archived", "t:skipped"}


async def test_an_attempt_ends_when_its_time_is_over(fleet: Fleet) -> None:
    """With asynq's words for it. Of a timeout and a deadline the earlier one counts."""
    deadline = int(time.time()) + 2
    limits: dict[str, dict[str, Any]] = {
        "timeout": {"timeout": 1.0},
        "deadline": {"deadline": deadline},
        "earlier deadline": {"timeout": 600.0, "deadline": deadline},
        "earlier timeout": {"timeout": 1.0, "deadline": deadline + 600},
    }
    await fleet.enqueue(*(a_task("hold:it", name, **limit) for name, limit in limits.items()))
    async with fleet.running(retry_delay=600.0):
        for name in limits:
            info = await fleet.state_is("retry", name)
            assert info["LastErr"] == "context deadline exceeded"
            assert info["Retried"] == 1
            assert len(fleet.facts.of("begun", name)) == 1


async def test_nothing_runs_after_its_deadline(fleet: Fleet) -> None:
    """The attempt fails without the handler."""
    await fleet.enqueue(a_task("note:it", deadline=1_000_000_000, max_retry=0))
    async with fleet.running():
        info = await fleet.state_is("archived", "one")
    assert info["LastErr"] == "context deadline exceeded"
    assert fleet.facts.of("begun", "one") == []


async def test_a_task_for_later_runs_later(fleet: Fleet) -> None:
    """Not before its time, cut down to a second."""
    at = int(time.time()) + 2
    states = await fleet.enqueue(
        a_task("note:at", task_id="at", process_at=at, unique=60.0),
        a_task("note:in", task_id="in", process_in=1.0),
        a_task("note:past", task_id="past", process_at=1_000_000_000),
    )
    assert states == ["scheduled", "scheduled", "pending"]
    async with fleet.running():
        await fleet.facts.heard("begun", "in")
        await fleet.facts.heard("begun", "at")
        assert time.time() >= at
        await fleet.state_is("gone", "at")
        await fleet.state_is("gone", "in")
    first, *others = [fact["id"] for fact in fleet.facts.of("begun")]
    assert (first, {*others}) == ("past", {"in", "at"})
    assert await fleet.left() == set()


async def test_a_group_becomes_one_task(fleet: Fleet) -> None:
    """In the order in which its members came, by a server of the other language."""
    members = [
        a_task("note:member", task_id=f"member {number}", payload=str(number), group="a:group")
        for number in range(3)
    ]
    for member in members:
        assert await fleet.enqueue(member) == ["aggregating"]
    assert await fleet.programs.inspect("Groups", QUEUE) == [{"Group": "a:group", "Size": 3}]
    async with fleet.running(group_size=3):
        told = await fleet.facts.heard("begun")
        info = await fleet.state_is("completed", told["id"])
    assert told["type"] == info["Type"] == "note:a:group"
    assert sorted(payload_of(told).split(b",")) == [b"0", b"1", b"2"]
    assert len(fleet.facts.of("begun")) == 1
    assert await fleet.left() == {"completed", f"t:{told['id']}"}


async def test_a_group_is_done_when_nobody_joins_it_any_more(fleet: Fleet) -> None:
    """Before it has its full size."""
    await fleet.enqueue(a_task("note:member", group="g"))
    async with fleet.running(group_size=100):
        told = await fleet.facts.heard("begun")
        await fleet.state_is("completed", told["id"])
    assert (told["type"], payload_of(told)) == ("note:g", b"payload")


async def test_a_task_of_a_group_for_later_is_not_stranded(fleet: Fleet) -> None:
    """It runs, by itself or with its group, wherever it was enqueued and whoever forwards it."""
    await fleet.enqueue(a_task("note:member", group="g", process_in=1.0, retention=600.0))

    async def is_forwarded() -> bool:
        return (await fields_of(fleet.redis, QUEUE, "one")).get("state") != b"scheduled"

    async with fleet.running(group_size=100):
        await wait_until(is_forwarded, timeout=PATIENCE, what="its time has come")
        if fleet.runner == "go":  # known at once, instead of after a long wait
            fields = await fields_of(fleet.redis, QUEUE, "one")
            assert fields["state"] != b"aggregating" or "groups" in await fleet.left()
        await fleet.facts.heard("ended")
    assert {key for key in await fleet.left() if not key.startswith("t:")} == {"completed"}


async def test_a_member_that_is_run_by_hand_and_fails_is_not_stranded(
    fleet: Fleet, asynq_hub: pulsewire.Hub
) -> None:
    """Whoever forwards its retry."""
    await fleet.enqueue(a_task("once:it", group="g", retention=600.0))
    await asynq_hub.tasks.inspector.run_task(QUEUE, "one")
    async with fleet.running():
        await fleet.state_is("completed", "one")
    assert await fleet.left() == {"completed", "t:one"}
