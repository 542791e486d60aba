"""Servers of both languages on one queue: nothing is lost whoever dies, and nobody disturbs the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import pulsewire
from pulsewire._redis.namespace import Namespace
from pulsewire.tasks.keys import QueueKeys
from pulsewire.tasks.store import DONE, Leaving, QueueStore
from pulsewire.testing import SingleServer, wait_until
from tests._redis.kit import opened_link
from tests.conformance.asynq_keys import content_of, counters_of, fields_of
from tests.conformance.asynq_programs import PATIENCE, Facts, Programs, payload_of
from tests.conformance.asynq_scenes import LONG_AGO, QUEUE, a_task
from tests.conformance.asynq_worker import Handling, joined

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]  # the first run downloads

KEYS = QueueKeys(Namespace(""), QUEUE)


async def lapse(redis: SingleServer, *task_ids: str, ago: float = LONG_AGO) -> None:
    """Set the leases of some tasks back, as if so much time had passed. Ours end with a fraction, Go's do not."""
    now = int((await redis.command("TIME"))[0])
    for task_id in task_ids:
        score = float(await redis.command("ZSCORE", KEYS.lease, task_id))
        await redis.command("ZADD", KEYS.lease, "XX", now - ago + score % 1, task_id)


async def state_is(redis: SingleServer, state: str, task_id: str) -> dict[str, bytes]:
    """Wait for a state of a task; its hash then."""

    async def has_come() -> bool:
        return (await fields_of(redis, QUEUE, task_id)).get("state", b"gone") == state.encode()

    await wait_until(has_come, timeout=PATIENCE, what=f"task {task_id} is {state}")
    return await fields_of(redis, QUEUE, task_id)


async def left(redis: SingleServer) -> set[str]:
    """The keys of the queue, without counters."""
    keys = {key for key in await content_of(redis) if key.startswith(KEYS.prefix)}
    return {key for key in keys if not key.startswith((KEYS.processed, KEYS.failed))}


@pytest.fixture
async def store(programs: Programs) -> AsyncIterator[QueueStore]:
    """The queue by our scripts."""
    async with opened_link(programs.url) as link:
        yield QueueStore(link, KEYS)


# --- leases


async def test_go_leaves_our_tasks_to_us_as_long_as_we_run_them(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Its recoverer, its heartbeat and its lists understand leases that end within a second."""
    facts = Facts()
    async with asynq_hub.task_server(
        Handling("ours", facts.add), queues=[QUEUE], shutdown_timeout=0.0
    ):
        await asynq_hub.tasks.enqueue(a_task("hold:it", "ours"))
        await facts.heard("begun", "ours")
        async with programs.go_server(queues={QUEUE: 1}) as go:
            # the recoverer has had its first turn when a server that began after it sees a lost task
            await asynq_hub.tasks.enqueue(a_task("note:it", "another"))
            await state_is(asynq_redis, "gone", "another")
            [active] = await programs.inspect("ListActiveTasks", QUEUE)
            assert (active["ID"], active["IsOrphaned"]) == ("ours", False)
            assert (active["Retried"], go.facts.of("begun", "ours")) == (0, [])
            score = float(await asynq_redis.command("ZSCORE", KEYS.lease, "ours"))
            assert score % 1


async def test_go_recovers_what_we_lost(programs: Programs, asynq_redis: SingleServer) -> None:
    """After our process has died: charged, as Go does; it runs again, and leaves nothing behind."""
    async with programs.our_server(queues=[QUEUE]) as ours:
        await programs.enqueue(
            a_task("hold-in-python:it", "again", unique=600.0),
            a_task("hold-in-python:it", "last", max_retry=0),
        )
        await ours.facts.heard("begun", count=2)
        await ours.kill()
    await lapse(asynq_redis, "again", "last")
    orphans = await programs.inspect("ListActiveTasks", QUEUE)
    assert {(task["ID"], task["IsOrphaned"]) for task in orphans} == {
        ("again", True),
        ("last", True),
    }
    async with programs.go_server(queues={QUEUE: 1}) as go:
        await state_is(asynq_redis, "archived", "last")
        told = await go.facts.heard("begun", "again")
        await state_is(asynq_redis, "gone", "again")
    assert told["retried"] == 1
    archived = await programs.inspect("GetTaskInfo", QUEUE, "last")
    assert archived["LastErr"] == "asynq: task lease expired"
    assert await left(asynq_redis) == {KEYS.archived, KEYS.task("last")}
    await programs.inspect("DeleteTask", QUEUE, "last")
    assert await left(asynq_redis) == set()


async def test_we_recover_what_go_lost(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """As Go does: 30 s after the lease has ended, charged. A lease that has just ended is left alone."""
    async with programs.go_server(queues={QUEUE: 1}) as go:
        await programs.enqueue(
            a_task("hold-in-go:it", "again", unique=600.0),
            a_task("hold-in-go:it", "last", max_retry=0),
            a_task("hold-in-go:it", "not yet"),
        )
        await go.facts.heard("begun", count=3)
        await go.kill()
    await lapse(asynq_redis, "again", "last")
    await lapse(asynq_redis, "not yet", ago=25.0)
    facts = Facts()
    async with asynq_hub.task_server(
        Handling("ours", facts.add), queues=[QUEUE], retry_delay=lambda *_: 0.0
    ):
        await state_is(asynq_redis, "archived", "last")
        told = await facts.heard("begun", "again")
        await state_is(asynq_redis, "gone", "again")
    assert told["retried"] == 1
    archived = await programs.inspect("GetTaskInfo", QUEUE, "last")
    assert archived["LastErr"] == "asynq: task lease expired"
    [waiting] = await programs.inspect("ListActiveTasks", QUEUE)
    assert (waiting["ID"], waiting["IsOrphaned"]) == ("not yet", True)
    assert await counters_of(asynq_redis, QUEUE) == {"processed": 3, "failed": 2}


async def test_what_we_lost_runs_elsewhere_uncharged(
    programs: Programs, asynq_redis: SingleServer
) -> None:
    """Go runs it when one of ours has recovered it, and keeps our marks until the task goes."""
    alone = {"queues": [QUEUE], "lease": 1.0, "concurrency": 1}
    async with programs.our_server(**alone) as ours, programs.our_server(**alone) as busy:
        for task_id in ("one", "two"):
            await programs.enqueue(a_task("hold-in-python:it", task_id, max_retry=0))
            await wait_until(
                lambda: _is_gone(asynq_redis, KEYS.pending), timeout=PATIENCE, what="it is taken"
            )
        await ours.facts.heard("begun")
        await busy.facts.heard("begun")
        [lost] = ours.facts.of("begun")
        await ours.kill()
        # the other one recovers it, and does not run it: it has no place
        fields = await state_is(asynq_redis, "pending", lost["id"])
        assert fields["pulsewire:lost"] == b"1"
        async with programs.go_server(queues={QUEUE: 1}) as go:
            told = await go.facts.heard("begun", lost["id"])
            await state_is(asynq_redis, "gone", lost["id"])
        assert told["retried"] == 0


# --- fencing


async def test_a_task_that_go_has_taken_over_is_not_ours_any_more(
    programs: Programs, store: QueueStore, asynq_redis: SingleServer
) -> None:
    """A server of ours that was away for so long writes nothing over what Go does: no lease, no result, no end."""
    await programs.enqueue(a_task("hold:it", "one"))
    await store.take(1, 12.0, "us")
    await lapse(asynq_redis, "one")
    async with programs.go_server(queues={QUEUE: 1}, retry_delay=0.0) as go:
        await go.facts.heard("begun", "one")
        before = await fields_of(asynq_redis, QUEUE, "one")
        assert await store.extend("us", ["one"], 12.0) == ["one"]
        assert not await store.write_result("us", "one", b"ours")
        assert await store.leave("us", [Leaving("one", "done")], "2020-01-01") == ["other"]
        await asynq_redis.command("SCRIPT", "LOAD", DONE.text)
        done = store.done_command("us", ["one"], "2020-01-01")
        assert await asynq_redis.command(*done) == [b"one"]
        assert await fields_of(asynq_redis, QUEUE, "one") == before
        score = float(await asynq_redis.command("ZSCORE", KEYS.lease, "one"))
        assert score == int(score)


async def test_a_task_that_go_is_to_retry_is_not_ours_any_more(
    programs: Programs, store: QueueStore, asynq_redis: SingleServer
) -> None:
    """The same while it waits."""
    await programs.enqueue(a_task("hold:it", "one"))
    await store.take(1, 12.0, "us")
    await lapse(asynq_redis, "one")
    async with programs.go_server(queues={QUEUE: 1}, retry_delay=600.0):
        before = await state_is(asynq_redis, "retry", "one")
        assert await store.extend("us", ["one"], 12.0) == ["one"]
        assert not await store.write_result("us", "one", b"ours")
        assert await store.leave("us", [Leaving("one", "done")], "2020-01-01") == ["other"]
        assert await fields_of(asynq_redis, QUEUE, "one") == before


# --- coming and going


async def test_running_tasks_are_handed_back_to_the_other(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """At the end of a server, to the front of the queue, uncharged: from Go to us and from us to Go."""
    facts = Facts()
    async with programs.go_server(queues={QUEUE: 1}, shutdown_timeout=0.1) as go:
        await asynq_hub.tasks.enqueue(a_task("hold:it", "one"))
        await go.facts.heard("begun", "one")
    async with asynq_hub.task_server(
        Handling("ours", facts.add), queues=[QUEUE], shutdown_timeout=0.0
    ):
        told = await facts.heard("begun", "one")
        assert told["retried"] == 0
    async with programs.go_server(queues={QUEUE: 1}, shutdown_timeout=0.1) as go:
        told = await go.facts.heard("begun", "one")
        assert told["retried"] == 0
    assert await left(asynq_redis) == {KEYS.pending, KEYS.task("one")}
    assert await counters_of(asynq_redis, QUEUE) == {"processed": 0, "failed": 0}


async def test_gos_janitor_deletes_what_we_completed(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """And what ours has written beside it goes too."""
    async with asynq_hub.task_server(Handling("ours", Facts().add), queues=[QUEUE]):
        await asynq_hub.tasks.enqueue(a_task("result:it", "one", retention=600.0))
        fields = await state_is(asynq_redis, "completed", "one")
    assert not [field for field in fields if field.startswith("pulsewire:")]
    await asynq_redis.command("ZADD", KEYS.completed, "XX", 1, "one")
    async with programs.go_server(queues={QUEUE: 1}):
        await state_is(asynq_redis, "gone", "one")
    assert await left(asynq_redis) == set()


# --- groups


async def test_a_set_that_go_left_is_aggregated_here(
    programs: Programs,
    asynq_hub: pulsewire.Hub,
    store: QueueStore,
    asynq_redis: SingleServer,
) -> None:
    """Its server has died in the middle: when the life of the set is over its members join their group again."""
    await programs.enqueue(
        *(a_task("note:it", f"member {number}", payload="m", group="g") for number in range(2))
    )
    await set_apart(asynq_redis)
    assert await store.reclaim() == 1
    facts = Facts()
    async with asynq_hub.task_server(
        Handling("ours", facts.add),
        queues=[QUEUE],
        aggregator=joined,
        group_max_size=2,
        group_grace=1.0,
    ):
        told = await facts.heard("begun")
        await state_is(asynq_redis, "completed", told["id"])
    assert payload_of(told) == b"m,m"
    assert await left(asynq_redis) == {KEYS.completed, KEYS.task(told["id"])}


async def test_a_set_that_we_left_is_aggregated_by_go(
    programs: Programs, store: QueueStore, asynq_redis: SingleServer
) -> None:
    """As soon as another one joins the group: until then Go does not remember it (spec/asynq.md 7.3, 2)."""
    await programs.enqueue(a_task("note:it", "first", payload="m", group="g"))
    await store.gather("g", "our-set", most=0, delay=0.0, grace=0.0, life=0.0)
    async with programs.go_server(queues={QUEUE: 1}, group_size=2) as go:
        await wait_until(
            lambda: _is_there(asynq_redis, KEYS.group("g")), timeout=PATIENCE, what="it is back"
        )
        await programs.enqueue(a_task("note:it", "second", payload="n", group="g"))
        told = await go.facts.heard("begun")
        await state_is(asynq_redis, "completed", told["id"])
    assert payload_of(told) == b"m,n"
    assert await left(asynq_redis) == {KEYS.completed, KEYS.task(told["id"])}


async def test_groups_are_aggregated_by_both(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Each member once, whoever comes first."""
    facts = Facts()
    members = [
        a_task("note:it", f"member {number}", payload=str(number), group=f"group {number % 5}")
        for number in range(300)
    ]
    async with (
        programs.go_server(queues={QUEUE: 1}, group_size=7) as go,
        asynq_hub.task_server(
            Handling("ours", facts.add),
            queues=[QUEUE],
            aggregator=joined,
            group_max_size=7,
            group_grace=1.0,
        ),
    ):
        for start in range(0, len(members), 60):
            await programs.enqueue(*members[start : start + 30])
            await asynq_hub.tasks.enqueue_many(members[start + 30 : start + 60])

        def numbers() -> list[int]:
            told = [*go.facts.of("begun"), *facts.of("begun")]
            return [int(number) for fact in told for number in payload_of(fact).split(b",")]

        await wait_until(
            lambda: len(numbers()) >= len(members), timeout=PATIENCE, what="all are aggregated"
        )
        await wait_until(
            lambda: _is_gone(asynq_redis, KEYS.active), timeout=PATIENCE, what="all are done"
        )
    assert sorted(numbers()) == list(range(len(members)))
    kept = {key for key in await left(asynq_redis) if not key.startswith(KEYS.tasks)}
    assert kept == {KEYS.completed}


async def set_apart(redis: SingleServer) -> None:
    """What Go does with a group "g" when it begins to aggregate it, so long ago that the set's life is over."""
    apart = KEYS.aggregation_set("g", "11111111-2222-4333-8444-555555555555")
    await redis.command("RENAME", KEYS.group("g"), apart)
    await redis.command("SREM", KEYS.groups, "g")
    await redis.command("ZADD", KEYS.aggregation_sets, 1, apart)


async def _is_there(redis: SingleServer, key: str) -> bool:
    return bool(await redis.command("EXISTS", key))


async def _is_gone(redis: SingleServer, key: str) -> bool:
    return not await _is_there(redis, key)
