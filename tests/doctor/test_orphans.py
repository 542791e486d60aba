"""Orphans of every block: each is made by damage, found, mended, and not there any more.

What is in flight is left alone. On one server and on a cluster, where every script has to keep to one slot.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

import pulsewire
from pulsewire.doctor import Diagnosis, Finding, Level, examine
from pulsewire.errors import TaskError
from pulsewire.pool.keys import PoolKeys
from pulsewire.tasks import Mux, Task
from pulsewire.tasks.keys import QueueKeys, TaskKeys
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Raw

TOPOLOGIES = ["standalone", "cluster"]
pytestmark = pytest.mark.leaves_keys("asynq:*", "pool:*", "pulse:stream:*", "map:*", "pulsewire:*")
Ask = Callable[..., Awaitable[list[Finding]]]
SERVERS = {
    "server",
    "persistence",
    "eviction",
    "memory",
    "replicas",
    "clients",
    "scripts",
    "clock",
    "cluster",
}


@pytest.fixture
def look(hub: pulsewire.Hub) -> Ask:
    """What is found, but for the servers."""

    async def ask(*, repair: bool = False) -> list[Finding]:
        diagnosis = await examine(hub, repair=repair)
        return [
            finding
            for finding in diagnosis.findings
            if finding.check not in SERVERS and (finding.level is not Level.OK or finding.mended)
        ]

    return ask


@pytest.fixture
def queue(hub: pulsewire.Hub) -> QueueKeys:
    """The keys of the queue `mail`."""
    return TaskKeys(hub._space).queue("mail")


@pytest.fixture
def pool(hub: pulsewire.Hub) -> PoolKeys:
    """The keys of the pool `jobs`."""
    return PoolKeys(hub._space, "jobs")


async def found_and_mended(look: Ask, words: str, *examples: str, level: Level) -> Finding:
    """One finding with these words: found by looking, which changes nothing; mended; and not there any more."""
    (found,) = await look()
    assert (found.level, words in found.what, found.mended) == (level, True, 0), found
    assert set(found.examples) == set(examples)
    assert "--repair" in found.do
    assert await look() == [found]
    (mended,) = await look(repair=True)
    assert (mended.level, mended.mended, mended.count) == (Level.OK, len(examples), len(examples))
    assert words in mended.what
    assert await look() == []
    return found


async def enqueue(hub: pulsewire.Hub, *ids: str, queue: str = "mail", **options: object) -> None:
    for task_id in ids:
        await hub.tasks.enqueue("a", b"", task_id=task_id, queue=queue, **options)  # type: ignore[arg-type]  # any


async def states(hub: pulsewire.Hub, *ids: str) -> list[str]:
    inspector = hub.tasks.inspector
    return [str((await inspector.task("mail", one)).state) for one in ids]


async def test_all_is_well_where_nothing_is(look: Ask, hub: pulsewire.Hub) -> None:
    assert await look() == []
    diagnosis = await examine(hub)
    orphans = {one.where: one.what for one in diagnosis.findings if one.check == "orphans"}
    assert orphans == dict.fromkeys(("streams", "maps", "pools", "tasks"), "none")


# --- tasks


async def test_tasks_whose_list_was_deleted_run_after_all(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    await enqueue(hub, "lost", "lost-too")
    await raw(queue.pending, "DEL", queue.pending)
    await enqueue(hub, "there")
    found = await found_and_mended(look, "they never run", "lost", "lost-too", level=Level.RED)
    assert (found.check, found.where) == ("tasks", "queue mail")
    assert await states(hub, "lost", "lost-too", "there") == ["pending"] * 3
    pending = await raw(queue.pending, "LRANGE", queue.pending, 0, -1)
    assert sorted(pending) == [b"lost", b"lost-too", b"there"]


@pytest.mark.parametrize(
    ("place", "state", "words"),
    [
        ("scheduled", "archived", "when they were to run is lost"),
        ("retry", "pending", "they never run again"),
        ("archived", "archived", "nobody sees them"),
        ("completed", "completed", "never forgotten"),
    ],
)
async def test_tasks_whose_zset_was_deleted_are_found_a_place(
    look: Ask,
    hub: pulsewire.Hub,
    queue: QueueKeys,
    raw: Raw,
    place: str,
    state: str,
    words: str,
) -> None:
    await enqueue(hub, "a")
    await raw(queue.pending, "HSET", queue.task("a"), "state", place)
    await raw(queue.pending, "DEL", queue.pending)
    await found_and_mended(look, words, "a", level=Level.RED)
    assert await states(hub, "a") == [state]
    assert await raw(queue.pending, "HGET", queue.task("a"), "pulsewire:owner") is None


async def test_a_completed_task_keeps_its_time(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    done = asyncio.Event()

    async def run(task: Task) -> None:
        done.set()

    async with hub.task_server(run, queues=["mail"]):
        await enqueue(hub, "a", retention=500.0)
        await done.wait()
        await wait_until(
            lambda: _is_in(raw, queue.completed, "a"), timeout=PATIENCE, what="it is completed"
        )
    score = await raw(queue.completed, "ZSCORE", queue.completed, "a")
    await raw(queue.completed, "DEL", queue.completed)
    await found_and_mended(look, "never forgotten", "a", level=Level.RED)
    assert await raw(queue.completed, "ZSCORE", queue.completed, "a") == score


async def _is_in(raw: Raw, zset: str, member: str) -> bool:
    return await raw(zset, "ZSCORE", zset, member) is not None


async def test_remains_of_a_task_are_deleted(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    """A hash without a message, in no place: nothing can be made of it."""
    await enqueue(hub, "b")
    await raw(queue.pending, "HSET", queue.task("a"), "state", "pending")
    await found_and_mended(look, "only remains", "a", level=Level.RED)
    assert await raw(queue.pending, "EXISTS", queue.task("a")) == 0


async def test_ids_whose_task_is_gone_leave_their_places(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    await enqueue(hub, "a", "b")
    await raw(queue.pending, "DEL", queue.task("a"))
    await raw(queue.retry, "ZADD", queue.retry, 1, "c")
    await raw(queue.pending, "SADD", queue.groups, "g")
    await raw(queue.pending, "ZADD", queue.group("g"), 1, "d")
    await found_and_mended(look, "have no task any more", "a", "c", "d", level=Level.WARN)
    assert await raw(queue.pending, "LRANGE", queue.pending, 0, -1) == [b"b"]


async def test_running_tasks_are_left_alone(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    """Also where their place was deleted from under them: their server holds them, and renews."""
    release = asyncio.Event()

    async def run(task: Task) -> None:
        await release.wait()

    async with hub.task_server(run, queues=["mail"], lease=1.0) as server:
        await enqueue(hub, "a", "b")
        await wait_until(lambda: server.running == 2, timeout=PATIENCE, what="both run")
        assert await look() == []
        assert await look(repair=True) == []
        server._presence.show_now()

        async def are_shown() -> bool:
            servers = await hub.tasks.inspector.servers()
            return {one.task_id for server in servers for one in server.workers} == {"a", "b"}

        await wait_until(are_shown, timeout=PATIENCE, what="they are shown")
        await raw(queue.pending, "DEL", queue.active, queue.lease)
        await look(repair=True)
        for task_id in ("a", "b"):
            what = "its lease is renewed"
            await wait_until(
                partial(_is_in, raw, queue.lease, task_id), timeout=PATIENCE, what=what
            )
        assert server.running == 2
        release.set()
        await wait_until(lambda: not server.running, timeout=PATIENCE, what="both have ended")
    assert await look() == []
    assert await raw(queue.pending, "EXISTS", queue.task("a"), queue.task("b")) == 0


async def test_repairing_beside_servers_changes_nothing(look: Ask, hub: pulsewire.Hub) -> None:
    """Tasks go through all places while the doctor looks at them again and again: each runs once, none is an orphan."""
    runs: Counter[str] = Counter()
    found: list[Finding] = []

    async def run(task: Task) -> None:
        runs[task.id] += 1
        if task.retried == 0 and task.id.endswith("7"):
            raise TaskError("once more")

    async def examine_again_and_again() -> None:
        while True:
            found.extend(await look(repair=True))

    ids = [f"t{number}" for number in range(400)]
    async with (
        hub.task_server(run, queues=["mail"], retry_delay=lambda *_: 0.01),
        hub.task_server(run, queues=["mail"], retry_delay=lambda *_: 0.01),
        anyio.create_task_group() as beside,
    ):
        beside.start_soon(examine_again_and_again)
        for task_id in ids:
            await enqueue(hub, task_id, unique=60.0 if task_id.endswith("3") else None)
        again = {task_id for task_id in ids if task_id.endswith("7")}
        expected = Counter({task_id: 2 if task_id in again else 1 for task_id in ids})
        await wait_until(lambda: runs.total() >= expected.total(), timeout=60.0, what="all ran")
        beside.cancel_scope.cancel()
    assert runs == expected
    assert found == []


async def test_active_tasks_that_nobody_runs_run_again(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    await enqueue(hub, "a")
    await raw(queue.pending, "HSET", queue.task("a"), "state", "active", "pulsewire:owner", "x")
    await raw(queue.pending, "DEL", queue.pending)
    await found_and_mended(look, "nobody runs them", "a", level=Level.RED)
    assert await states(hub, "a") == ["pending"]
    assert await raw(queue.pending, "HEXISTS", queue.task("a"), "pulsewire:owner") == 0


async def test_active_and_leases_are_made_to_agree(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    await enqueue(hub, "unleased", "unlisted", "left-over")
    for task in ("unleased", "unlisted"):
        await raw(queue.pending, "LREM", queue.pending, 0, task)
        await raw(queue.pending, "HSET", queue.task(task), "state", "active")
    await raw(queue.pending, "LPUSH", queue.active, "unleased")
    await raw(queue.pending, "ZADD", queue.lease, 9e9, "unlisted", 9e9, "left-over")
    await found_and_mended(
        look, "active without a lease", "unleased", "unlisted", "left-over", level=Level.WARN
    )
    assert sorted(await raw(queue.pending, "LRANGE", queue.active, 0, -1)) == [
        b"unleased",
        b"unlisted",
    ]
    leases = await raw(queue.pending, "ZRANGE", queue.lease, 0, -1)
    assert sorted(leases) == [b"unleased", b"unlisted"]


async def test_locks_whose_task_is_gone_are_released(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    await enqueue(hub, "a", unique=600.0)
    assert await look() == []
    await raw(queue.pending, "DEL", queue.task("a"), queue.pending)
    lock = queue.lock("a", b"").removeprefix(queue.prefix)
    await found_and_mended(look, "equal tasks are refused", lock, level=Level.WARN)
    await enqueue(hub, "b", unique=600.0)


async def test_groups_that_their_index_does_not_name_are_named_again(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    """Aggregation sets, too: they go back to their group."""
    await enqueue(hub, "a", group="g")
    await enqueue(hub, "b", group="h")
    await raw(queue.pending, "DEL", queue.groups)
    set_id = str(uuid.uuid4())
    await raw(queue.pending, "RENAME", queue.group("h"), queue.aggregation_set("h", set_id))
    await found_and_mended(look, "nobody looks after", "g", f"h:{set_id}", level=Level.RED)
    assert set(await raw(queue.pending, "SMEMBERS", queue.groups)) == {b"g"}
    async with hub.task_server(Mux(), queues=["mail"]):
        await wait_until(
            lambda: _is_in(raw, queue.group("h"), "b"), timeout=PATIENCE, what="it is back"
        )


async def test_queues_that_nobody_knows_are_registered(
    look: Ask, hub: pulsewire.Hub, raw: Raw
) -> None:
    await enqueue(hub, "a")
    keys = TaskKeys(hub._space)
    await raw(keys.queues, "DEL", keys.queues)
    await found_and_mended(look, "not registered", "mail", level=Level.RED)
    assert await hub.tasks.inspector.queues() == ["mail"]


async def test_a_queue_that_is_being_removed_is_left_alone(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    """Its tasks are in places that were set aside; they are to be deleted, not to be run."""
    await enqueue(hub, "a")
    await enqueue(hub, "b", group="g")
    for place, key in (("pending", queue.pending), ("groups", queue.groups)):
        await raw(key, "RENAME", key, queue.removed(place))
    for repair in (False, True):
        (found,) = await look(repair=repair)
        assert (found.level, found.mended) == (Level.WARN, 0)
        assert "pulsewire queue rm mail" in found.do
    await hub.tasks.inspector.remove_queue("mail", force=True)
    assert await look() == []


async def test_places_that_hold_something_else_stop_nothing(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, pool: PoolKeys, raw: Raw
) -> None:
    """They are told of, and all else is looked at."""
    await enqueue(hub, "a", queue="zzz")
    other = TaskKeys(hub._space).queue("zzz")
    await raw(other.pending, "DEL", other.pending)
    for key in (queue.pending, pool.leases):
        await raw(key, "SET", key, "x")
    found = {one.where: one for one in await look()}
    assert set(found) == {"queue mail", "queue zzz", "pool jobs"}
    assert all("WRONGTYPE" in found[where].what for where in ("queue mail", "pool jobs"))
    assert found["queue zzz"].examples == ("a",)


async def test_dead_servers_are_forgotten(look: Ask, hub: pulsewire.Hub, raw: Raw) -> None:
    keys = TaskKeys(hub._space)
    await raw(keys.servers, "ZADD", keys.servers, 1000, "gone", 9e12, "there")
    await found_and_mended(look, "still listed", "gone", level=Level.WARN)
    assert await raw(keys.servers, "ZRANGE", keys.servers, 0, -1) == [b"there"]


async def test_records_without_a_time_to_live_get_one(
    look: Ask, hub: pulsewire.Hub, raw: Raw
) -> None:
    keys = TaskKeys(hub._space)
    history, server = keys.history("gone"), keys.server("host:1:x")
    await raw(history, "ZADD", history, 1, "x")
    await found_and_mended(look, "histories", history, level=Level.WARN)
    assert await raw(history, "TTL", history) > 0
    await raw(server, "SET", server, "x")
    await found_and_mended(look, "no time to live", server, level=Level.WARN)


async def test_more_than_a_page_is_mended(
    look: Ask, hub: pulsewire.Hub, queue: QueueKeys, raw: Raw
) -> None:
    ids = [f"{number:04}" for number in range(1203)]
    for start in range(0, len(ids), 100):
        await raw(queue.pending, "LPUSH", queue.pending, *ids[start : start + 100])
    (found,) = await look(repair=True)
    assert found.mended == len(ids)
    assert found.examples == tuple(ids[:5])
    assert await raw(queue.pending, "EXISTS", queue.pending) == 0


# --- pools


async def for_ever(job: pulsewire.Job) -> None:
    await anyio.sleep_forever()


async def test_pools_at_work_are_well(look: Ask, hub: pulsewire.Hub) -> None:
    async with hub.node("jobs") as node:
        await node.add_worker(for_ever)
        for number in range(5):
            await node.dispatch(f"job:{number}")
        assert await look() == []
        assert await look(repair=True) == []
        assert len(await node.jobs()) == 5
    (left,) = await look()
    assert (left.level, "no workers: 5 jobs wait" in left.what) == (Level.WARN, True)
    assert await look(repair=True) == [left]


async def test_jobs_that_nobody_has_run_again(
    look: Ask, hub: pulsewire.Hub, pool: PoolKeys, raw: Raw
) -> None:
    """The waiting ones, and those of a worker whose set was deleted."""
    async with hub.node("jobs", worker_ttl=1.0) as node:
        worker = await node.add_worker(for_ever)
        await node.dispatch("a")
        await raw(pool.meta, "DEL", pool.owned(worker.id))
        await raw(
            pool.meta,
            "HSET",
            pool.job("b"),
            "state",
            "waiting",
            "owner",
            "",
            "payload",
            "",
            "created",
            1,
        )
        await raw(
            pool.meta, "HSET", pool.job("c"), "state", "running", "owner", "gone", "created", 1
        )
        (found,) = await look()
        assert set(found.examples) == {"a", "b", "c"}
        (mended,) = await look(repair=True)
        assert mended.mended == 3

        async def look_is_clean() -> bool:
            return await look() == []

        async def all_run() -> bool:
            jobs = {job.key: job for job in await node.jobs()}
            return {key: job.owner for key, job in jobs.items() if job.state == "running"} == {
                "a": worker.id,
                "b": worker.id,
                "c": worker.id,
            }

        await wait_until(all_run, timeout=PATIENCE, what="all run")
        await wait_until(look_is_clean, timeout=PATIENCE, what="the janitor has done its work")


async def test_workers_without_a_lease_are_given_to_the_janitor(
    look: Ask, hub: pulsewire.Hub, pool: PoolKeys, raw: Raw
) -> None:
    async with hub.node("jobs", worker_ttl=1.0) as node:
        worker = await node.add_worker(for_ever)
        await raw(pool.meta, "SADD", pool.owned("gone"), "a")
        await raw(
            pool.meta, "HSET", pool.job("a"), "state", "running", "owner", "gone", "created", 1
        )
        (found,) = await look()
        assert (found.level, found.examples) == (Level.RED, ("gone",))
        await look(repair=True)

        async def look_is_clean() -> bool:
            return await look() == []

        async def runs() -> bool:
            job = await node.job("a")
            return job is not None and (job.state, job.owner) == ("running", worker.id)

        await wait_until(runs, timeout=PATIENCE, what="it runs here")
        await wait_until(look_is_clean, timeout=PATIENCE, what="the janitor has done its work")


async def test_a_janitor_that_does_nothing_is_told_of(
    look: Ask, hub: pulsewire.Hub, pool: PoolKeys, raw: Raw
) -> None:
    async with hub.node("jobs") as node:
        await node.add_worker(for_ever)
        await raw(pool.meta, "SET", pool.janitor, "another", "PX", 600_000)
        await raw(pool.meta, "ZADD", pool.leases, 1, "gone")
        (found,) = await look()
        assert (found.level, found.examples) == (Level.RED, ("gone",))
        assert await look(repair=True) == [found]
        await raw(pool.meta, "ZREM", pool.leases, "gone")


async def test_what_is_left_of_workers_and_jobs_is_removed(
    look: Ask, hub: pulsewire.Hub, pool: PoolKeys, raw: Raw
) -> None:
    async with hub.node("jobs") as node:
        worker = await node.add_worker(for_ever)
        await raw(pool.meta, "XADD", pool.inbox("gone"), "*", "do", "start")
        await raw(pool.meta, "SADD", pool.owned(worker.id), "ghost")
        await raw(pool.meta, "ZADD", pool.starting, 1, "phantom")
        await raw(pool.meta, "XADD", pool.replies("old"), "*", "a", "b")
        found = {one.check: one for one in await look()}
        assert found["inboxes"].examples == ("gone",)
        assert found["replies"].examples == (pool.replies("old"),)
        assert all(one.level is Level.WARN for one in found.values())
        mended = await look(repair=True)
        assert sorted(one.examples for one in mended) == [
            ("ghost",),
            ("gone",),
            ("phantom",),
            (pool.replies("old"),),
        ]
        assert await look() == []
        assert await raw(pool.meta, "EXISTS", pool.inbox("gone"), pool.starting) == 0


async def test_a_pool_without_its_record_is_told_of(
    look: Ask, hub: pulsewire.Hub, pool: PoolKeys, raw: Raw
) -> None:
    async with hub.node("jobs") as node:
        await node.add_worker(for_ever)
        await raw(pool.meta, "DEL", pool.meta)
        (found,) = await look()
        assert "no record" in found.what


# --- streams and maps


async def test_consumers_that_are_gone_are_deleted(
    look: Ask, hub: pulsewire.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that hold nothing; a sink that nobody runs is told of, since its events are kept for it."""
    monkeypatch.setattr("pulsewire.doctor.orphans_streams.SILENT", -1.0)
    stream = hub.stream("orders")
    await stream.store.ensure_group("mailer", "0-0")
    await stream.store.add_consumer("mailer", "gone")
    await wait_until(lambda: _is_idle(stream), timeout=PATIENCE, what="a millisecond has passed")
    monkeypatch.setattr("pulsewire.doctor.orphans_streams.SILENT", 0.0)
    await found_and_mended(look, "hold nothing", "gone", level=Level.WARN)
    await stream.add("paid", b"")
    (found,) = await look()
    assert "nobody runs it" in found.what
    assert await look(repair=True) == [found]


async def _is_idle(stream: pulsewire.Stream[bytes]) -> bool:
    (group,) = (await stream.info()).groups
    return group.consumers[0].idle > 0.0


async def test_bookkeeping_without_a_time_to_live_gets_one(
    look: Ask, hub: pulsewire.Hub, raw: Raw
) -> None:
    positions = hub.stream("orders").store.keys.positions
    await raw(positions, "HSET", positions, "mailer", "0-0")
    await found_and_mended(look, "bookkeeping", positions, level=Level.WARN)
    assert await raw(positions, "TTL", positions) > 0


async def test_a_map_without_a_revision_is_told_of(look: Ask, hub: pulsewire.Hub, raw: Raw) -> None:
    flags = hub.map("flags")
    await flags.set("a", "1")
    assert await look() == []
    key = flags._store.content
    await raw(key, "HDEL", key, "=rev")
    (found,) = await look()
    assert (found.level, found.examples) == (Level.WARN, ("flags",))


async def test_keys_of_others_are_left_alone(
    look: Ask, hub: pulsewire.Hub, raw: Raw, namespace: str
) -> None:
    """Whatever they are called, and whatever they hold."""
    for name in (
        "asynq:{q:t:a",
        "asynq:{}:t:a",
        "pool:{}:job:a",
        "pulse:stream:text",
        "map:x:content",
    ):
        key = f"{namespace}:{name}"
        await raw(key, "SET", key, "x")
        await raw(key, "EXPIRE", key, 600)
    assert await look(repair=True) == []


async def test_progress_is_told(hub: pulsewire.Hub) -> None:
    told: list[tuple[str, int, int]] = []
    await enqueue(hub, "a")
    diagnosis = await examine(hub, progress=lambda *words: told.append(words))
    assert isinstance(diagnosis, Diagnosis)
    assert {what for what, _, _ in told} >= {
        "asking the servers",
        "looking at keys",
        "looking at queues",
    }
