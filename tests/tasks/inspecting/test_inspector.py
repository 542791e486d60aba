"""What inspectors see of queues and tasks, pausing, and removal (spec/asynq.md 3.5, 3.7, 3.8, 6.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import (
    AlreadyPaused,
    DecodeError,
    InvalidName,
    InvalidOption,
    NotPaused,
    PulsewireError,
    QueueInUse,
    QueueNotEmpty,
    QueueNotFound,
    TaskNotFound,
    WrongState,
)
from pulsewire._redis.namespace import Namespace
from pulsewire.tasks import NewTask, TaskState
from pulsewire.tasks.inspecting.inspector import Inspector
from pulsewire.tasks.inspecting.inspector_store import AT_ONCE, LIST, PURGE, InspectorStore
from pulsewire.tasks.keys import TaskKeys
from pulsewire.testing import FaultProxy, SingleServer
from tests.facts import Raw, on_one_server
from tests.tasks.content import Kept
from tests.tasks.inspecting.crowds import GROUP, SET, STATES, crowd, of_asynq, put
from tests.tasks.scenes import FAR_AHEAD, LONG_AGO, Queue, packed


@pytest.fixture
def keys(namespace: str) -> TaskKeys:
    """Names of what belongs to no single queue."""
    return TaskKeys(Namespace(namespace))


async def day_at(queue: Queue, back: int = 0) -> str:
    """A UTC day by the server's clock."""
    async with queue.window() as window:
        pass
    return f"{datetime.fromtimestamp(window.low, UTC) - timedelta(days=back):%Y-%m-%d}"


# --- which queues there are


async def test_queues_are_those_that_were_used(hub: pulsewire.Hub, inspector: Inspector) -> None:
    """Sorted, and without those that were only looked at."""
    await hub.tasks.enqueue_many([NewTask(type="t", queue="low"), NewTask(type="t", queue="high")])
    with pytest.raises(QueueNotFound):
        await inspector.queue_info("middle")
    assert await inspector.queues() == ["default", "high", "low"]


@on_one_server
async def test_every_method_wants_a_queue_that_exists(inspector: Inspector) -> None:
    calls: list[Callable[[str], Awaitable[Any]]] = [
        inspector.queue_info,
        inspector.remove_queue,
        lambda queue: inspector.history(queue, 1),
        lambda queue: inspector.task(queue, "id"),
        lambda queue: inspector.tasks(queue, "retry"),
        lambda queue: inspector.run_task(queue, "id"),
        lambda queue: inspector.archive_task(queue, "id"),
        lambda queue: inspector.delete_task(queue, "id"),
        lambda queue: inspector.update_payload(queue, "id", b""),
        lambda queue: inspector.run_all(queue, "retry"),
        lambda queue: inspector.archive_all(queue, "retry"),
        lambda queue: inspector.delete_all(queue, "retry"),
    ]
    for call in calls:
        with pytest.raises(QueueNotFound) as missing:
            await call("other")
        assert missing.value.queue == "other"
        with pytest.raises(InvalidName):
            await call("br{ce")


async def test_many_may_ask_for_a_queue_that_is_missing(inspector: Inspector) -> None:
    """At the same time; and none of them leaves anything."""
    calls = (inspector.queue_info("other") for _ in range(3))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in found} == {QueueNotFound}
    assert inspector._stores == {}


# --- a queue at one moment


async def test_info_of_an_empty_queue(inspector: Inspector, queue: Queue) -> None:
    async with queue.window() as window:
        info = await inspector.queue_info("default")
    assert info.name == "default"
    assert {getattr(info, state) for state in STATES} == {0}
    assert (info.size, info.groups, info.set_apart) == (0, 0, 0)
    assert (info.processed, info.failed, info.error_rate) == (0, 0, None)
    assert (info.processed_total, info.failed_total) == (0, 0)
    assert (info.latency, info.memory) == (0.0, 0)
    assert (info.is_paused, info.paused_at) == (False, None)
    assert info.at.timestamp() == window.exact()


async def test_info_counts_every_state(inspector: Inspector, queue: Queue) -> None:
    """Also the members of aggregation sets, which Go counts nowhere (spec/asynq.md 7.3, 25)."""
    await crowd(queue)
    await queue.pending("third")
    await queue.grouped("other", "third-2", "third-3")
    await queue.set_apart("other", SET, "apart")
    await queue.set_apart(GROUP, SET, "apart-2", "apart-3")
    info = await inspector.queue_info("default")
    expected = {**dict.fromkeys(STATES, 2), "pending": 3, "aggregating": 4}
    assert {state: getattr(info, state) for state in STATES} == expected
    assert (info.groups, info.set_apart, info.size) == (2, 3, 20)
    assert info.memory is not None
    assert info.memory > 0
    assert (await inspector.queue_info("default", with_memory=False)).memory is None


async def test_info_tells_counters_of_today_and_ever(inspector: Inspector, queue: Queue) -> None:
    keys, today, yesterday = queue.keys, await day_at(queue), await day_at(queue, 1)
    for key, count in (
        (keys.processed, 100),
        (keys.failed, 30),
        (keys.processed_on(today), 8),
        (keys.failed_on(today), 2),
        (keys.processed_on(yesterday), 50),
    ):
        await queue.send("SET", key, count)
    info = await inspector.queue_info("default")
    assert (info.processed, info.failed, info.error_rate) == (8, 2, 0.25)
    assert (info.processed_total, info.failed_total) == (100, 30)


async def test_latency_is_that_of_the_task_that_is_next(inspector: Inspector, queue: Queue) -> None:
    async with queue.window() as window:
        pass
    await queue.pending("first", pending_since=int((window.low - 100) * 1e9))
    await queue.pending("second", pending_since=int(window.low * 1e9))
    async with queue.window() as later:
        info = await inspector.queue_info("default")
    assert 99.9 <= info.latency <= later.high - window.low + 100.1
    await queue.send("HDEL", queue.keys.task("first"), "pending_since")
    assert (await inspector.queue_info("default")).latency == 0.0


@pytest.mark.parametrize("damage", ["no task", "garbage", "another kind", "in the future"])
async def test_latency_is_none_where_it_is_not_known(
    inspector: Inspector, queue: Queue, damage: str
) -> None:
    await queue.pending("first")
    task = queue.keys.task("first")
    if damage == "garbage":
        await queue.send("HSET", task, "pending_since", "soon")
    elif damage == "in the future":
        await queue.send("HSET", task, "pending_since", FAR_AHEAD * 10**9)
    else:
        await queue.send("DEL", task)
    if damage == "another kind":
        await queue.send("SET", task, "text")
    assert (await inspector.queue_info("default")).latency == 0.0


async def test_info_counts_more_groups_than_one_script_looks_at(
    inspector: Inspector, queue: Queue
) -> None:
    count = 1001
    names = [f"g{number}" for number in range(count)]
    await queue.send_many(("ZADD", queue.keys.group(name), 1, "id") for name in names)
    await queue.send("SADD", queue.keys.groups, *names)
    info = await inspector.queue_info("default", with_memory=False)
    assert (info.groups, info.aggregating) == (count, count)
    assert len(await inspector.groups("default")) == count


async def test_counter_that_is_no_number_hides_nothing(inspector: Inspector, queue: Queue) -> None:
    await queue.send("SET", queue.keys.processed, "many")
    await queue.send("SET", queue.keys.failed, 7)
    info = await inspector.queue_info("default")
    assert (info.processed_total, info.failed_total) == (0, 7)


async def test_memory_is_not_told_where_nobody_may_ask(fresh_server: SingleServer) -> None:
    """A user without the right to ask for it sees the rest."""
    rules = ("on", ">pw", "~*", "&*", "+@all", "-memory")
    await fresh_server.command("ACL", "SETUSER", "limited", *rules)
    url = fresh_server.url.replace("://", "://limited:pw@")
    async with pulsewire.connect(url) as hub:
        await hub.tasks.enqueue("t")
        inspector = Inspector(hub.tasks.link, hub.tasks.keys, max_payload=1000)
        info = await inspector.queue_info("default")
    assert (info.pending, info.memory) == (1, None)


async def test_groups_are_listed_with_their_sizes(inspector: Inspector, queue: Queue) -> None:
    await queue.grouped("b", "1", "2")
    await queue.grouped("a:x", "3")
    groups = [(group.name, group.size) for group in await inspector.groups("default")]
    assert groups == [("a:x", 1), ("b", 2)]
    assert await inspector.groups("other") == []


async def test_history_has_every_day(inspector: Inspector, queue: Queue) -> None:
    """Today first; a day without counters had none."""
    for back, processed, failed in ((0, 4, 1), (2, 7, 0)):
        day = await day_at(queue, back)
        await queue.send("SET", queue.keys.processed_on(day), processed)
        await queue.send("SET", queue.keys.failed_on(day), failed)
    history = await inspector.history("default", 4)
    days = [await day_at(queue, back) for back in range(4)]
    assert [day.day.isoformat() for day in history] == days
    assert [(day.processed, day.failed) for day in history] == [(4, 1), (0, 0), (7, 0), (0, 0)]
    assert [day.error_rate for day in history] == [0.25, None, 0.0, None]
    assert {day.queue for day in history} == {"default"}
    assert len(await inspector.history("default", AT_ONCE + 1)) == AT_ONCE + 1


@on_one_server
@pytest.mark.parametrize("days", [0, -1, 1.5, True, 10_001])
async def test_history_wants_a_number_of_days(inspector: Inspector, days: Any) -> None:
    with pytest.raises(InvalidOption, match="days"):
        await inspector.history("default", days)


# --- pages of tasks


@pytest.mark.parametrize("state", STATES)
async def test_pages_are_cut_from_the_order_of_the_state(
    inspector: Inspector, queue: Queue, state: str
) -> None:
    """What is next comes first; pages count from 1, the last one may be short, and none follows it."""
    ids = ["a", "b", "c", "d", "e"]
    await put(queue, state, *ids)
    group = GROUP if state == "aggregating" else None

    async def page(number: int, size: int) -> list[str]:
        found = await inspector.tasks("default", state, group=group, page=number, size=size)
        assert {task.state for task in found} <= {TaskState(state)}
        return [task.id for task in found]

    assert await page(1, 30) == ids
    assert [await page(number, 2) for number in (1, 2, 3, 4)] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
        [],
    ]
    assert await page(2, 4) == ["e"]
    assert await page(1, 5) == ids
    assert await page(2**40, 2**40) == []
    assert await page(1, 2**40) == ids


async def test_page_may_be_larger_than_what_one_script_reads(
    inspector: Inspector, queue: Queue
) -> None:
    ids = [f"{number:04}" for number in range(AT_ONCE + 20)]
    await queue.send("LPUSH", queue.keys.pending, *ids)
    found = await inspector.tasks("default", "pending", size=AT_ONCE + 10)
    assert [task.id for task in found] == ids[: AT_ONCE + 10]


async def test_large_tasks_come_a_few_at_a_time(inspector: Inspector, queue: Queue) -> None:
    """The server is not kept busy by one page; the page is whole nevertheless."""
    for number in range(4):
        payload = bytes([number]) * 3_000_000
        await put(queue, "completed", str(number), msg=packed(str(number), payload=payload))
    store = inspector._of("default")
    names = (store.keys.completed, store.keys.lease)
    for most, count in ((100, 1), (3_500_000, 1), (7_000_000, 2)):
        reply = await store._look(LIST, names, "zset", 0, 30, most, store.keys.tasks)
        assert len(reply) == 1 + 4 * count
    found = await inspector.tasks("default", "completed")
    assert [(task.id, len(task.payload)) for task in found] == [
        (str(number), 3_000_000) for number in range(4)
    ]


async def test_tasks_show_everything_that_is_known(inspector: Inspector, queue: Queue) -> None:
    message = packed(
        "mine",
        retry=5,
        retried=2,
        error_msg="boom",
        last_failed_at=1_700_000_000,
        timeout=60,
        deadline=1_800_000_000,
        retention=3600,
        completed_at=1_700_000_001,
        group_key="g",
        headers={"trace": "1"},
    )
    await put(queue, "completed", "mine", msg=message, result=b"\x00result")
    task = await inspector.task("default", "mine")
    assert [task] == await inspector.tasks("default", TaskState.COMPLETED)
    assert task == pulsewire.tasks.TaskInfo(
        id="mine",
        queue="default",
        type="email:send",
        payload=b"pay",
        state=TaskState.COMPLETED,
        headers={"trace": "1"},
        max_retry=5,
        retried=2,
        last_error="boom",
        last_failed_at=datetime.fromtimestamp(1_700_000_000, UTC),
        timeout=60.0,
        deadline=datetime.fromtimestamp(1_800_000_000, UTC),
        group="g",
        next_process_at=None,
        is_orphaned=False,
        retention=3600.0,
        completed_at=datetime.fromtimestamp(1_700_000_001, UTC),
        result=b"\x00result",
        is_readable=True,
    )


async def test_next_time_is_told_of_those_that_wait(inspector: Inspector, queue: Queue) -> None:
    """Of what is scheduled or retried by its score; a pending one may run now; of others it is not known."""
    await crowd(queue)
    for state in STATES:
        group = GROUP if state == "aggregating" else None
        async with queue.window() as window:
            listed = await inspector.tasks("default", state, group=group)
            found = [await inspector.task("default", f"{state}-{number}") for number in (1, 2)]
        for tasks in (listed, found):
            times = [task.next_process_at for task in tasks]
            if state == "pending":
                assert [at and at.timestamp() for at in times] == [window.exact()] * 2
            elif state in ("scheduled", "retry"):
                assert [at and at.timestamp() for at in times] == [FAR_AHEAD, FAR_AHEAD + 1]
            else:
                assert times == [None, None]


@pytest.mark.parametrize(
    ("lease", "is_orphaned"),
    [(FAR_AHEAD, False), (FAR_AHEAD + 0.5, False), (LONG_AGO, True), (None, True)],
)
async def test_active_task_without_a_valid_lease_is_orphaned(
    inspector: Inspector, queue: Queue, lease: float | None, is_orphaned: bool
) -> None:
    await queue.active("mine", lease=lease)
    [listed] = await inspector.tasks("default", "active")
    assert listed.is_orphaned is is_orphaned
    assert (await inspector.task("default", "mine")).is_orphaned is is_orphaned


@pytest.mark.parametrize("state", STATES)
async def test_bad_records_do_not_break_a_page(
    inspector: Inspector, queue: Queue, state: str
) -> None:
    """What is no message, has none, is of another kind, or is not there is shown as such, between the others."""
    ids = ["good", "garbage", "none", "text", "gone", "well"]
    await put(queue, state, *ids)
    await queue.send("HSET", queue.keys.task("garbage"), "msg", b"\xff\xff")
    await queue.send("HDEL", queue.keys.task("none"), "msg")
    await queue.send("DEL", queue.keys.task("text"), queue.keys.task("gone"))
    await queue.send("SET", queue.keys.task("text"), "no task")
    group = GROUP if state == "aggregating" else None
    found = await inspector.tasks("default", state, group=group)
    assert [(task.id, task.is_readable) for task in found] == [
        (task, task in ("good", "well")) for task in ids
    ]
    assert {(task.state, task.queue) for task in found} == {(TaskState(state), "default")}
    assert [task.id for task in await inspector.tasks("default", state, group=group, size=4)] == (
        ids[:4]
    )


async def test_bad_record_alone(inspector: Inspector, queue: Queue) -> None:
    await put(queue, "retry", "garbage", msg=b"\xff\xff")
    await put(queue, "retry", "none", msg=None)
    for task in ("garbage", "none"):
        found = await inspector.task("default", task)
        assert (found.id, found.state, found.is_readable) == (task, TaskState.RETRY, False)
    await queue.hash("odd", "sleeping")
    await queue.send("SET", queue.keys.task("text"), "no task")
    for task in ("odd", "text"):
        with pytest.raises(DecodeError, match=task):
            await inspector.task("default", task)
    with pytest.raises(TaskNotFound):
        await inspector.task("default", "nobody")


async def test_task_goes_by_the_name_that_it_is_found_by(
    inspector: Inspector, queue: Queue
) -> None:
    """A message that names another id or queue would lead whoever wants to change it astray."""
    await put(queue, "retry", "mine", msg=packed("other", queue="elsewhere"))
    [listed] = await inspector.tasks("default", "retry")
    assert (listed.id, listed.queue) == ("mine", "default")
    assert (await inspector.task("default", "mine")) == listed


@on_one_server
@pytest.mark.parametrize(
    "options",
    [
        {"page": 0},
        {"page": -1},
        {"page": 1.0},
        {"size": 0},
        {"size": -5},
        {"size": True},
        {"group": "g"},
        {"state": "sleeping"},
        {"state": "aggregating"},
    ],
)
async def test_pages_that_make_no_sense_are_refused(
    inspector: Inspector, options: dict[str, Any]
) -> None:
    """Go answers everything, or the last tasks, to some of these (3.8)."""
    with pytest.raises(InvalidOption):
        await inspector.tasks("default", **{"state": "retry", **options})


# --- pausing


async def test_paused_queue_says_since_when(inspector: Inspector, queue: Queue) -> None:
    async with queue.window() as window:
        await inspector.pause("default")
    assert of_asynq(await queue.content()) == {"paused": window.seconds()}
    info = await inspector.queue_info("default")
    assert info.is_paused
    assert info.paused_at is not None
    assert info.paused_at.timestamp() == window.seconds()
    await inspector.unpause("default")
    assert of_asynq(await queue.content()) == {}
    assert not (await inspector.queue_info("default")).is_paused


async def test_queue_is_paused_only_once(inspector: Inspector, queue: Queue) -> None:
    with pytest.raises(NotPaused):
        await inspector.unpause("default")
    await inspector.pause("default")
    before = of_asynq(await queue.content())
    with pytest.raises(AlreadyPaused):
        await inspector.pause("default")
    assert of_asynq(await queue.content()) == before


async def test_queue_can_be_paused_before_it_is_used(inspector: Inspector, raw: Raw) -> None:
    """As in Go; so a queue may wait for the servers that understand its tasks."""
    await inspector.pause("later")
    keys = inspector._of("later").keys
    assert await raw(keys.paused, "EXISTS", keys.paused) == 1
    assert await inspector.queues() == ["default"]
    await inspector.unpause("later")


@pytest.mark.parametrize("value", ["", "since monday", "1e999", "0"])
async def test_pause_of_others_is_a_pause(inspector: Inspector, queue: Queue, value: str) -> None:
    """Its existence is, whatever it holds."""
    await queue.send("SET", queue.keys.paused, value)
    info = await inspector.queue_info("default")
    assert (info.is_paused, info.paused_at) == (True, None)


# --- removal


async def leave_traces(queue: Queue) -> None:
    """What a queue has beside its tasks."""
    today, old = await day_at(queue), await day_at(queue, 90)
    keys = queue.keys
    for key in (keys.paused, keys.processed, keys.failed):
        await queue.send("SET", key, 1)
    for day in (today, old):
        await queue.send("SET", keys.processed_on(day), 1, "EX", 90 * 86400)
        await queue.send("SET", keys.failed_on(day), 1, "EX", 90 * 86400)


@pytest.mark.parametrize("force", [False, True])
async def test_empty_queue_leaves_nothing(inspector: Inspector, queue: Queue, force: bool) -> None:
    await leave_traces(queue)
    await queue.send("SADD", queue.keys.groups, "stale")
    await inspector.remove_queue("default", force=force)
    assert of_asynq(await queue.content()) == {}
    assert await inspector.queues() == []
    with pytest.raises(QueueNotFound):
        await inspector.remove_queue("default", force=force)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("count", [1, 2])
async def test_queue_with_tasks_is_removed_by_force_alone(
    inspector: Inspector, queue: Queue, state: str, count: int
) -> None:
    """In whatever state they are; Go forgets to look at some, and leaves them behind (3.7)."""
    await put(queue, state, *"12"[:count])
    await leave_traces(queue)
    before = await queue.content()
    with pytest.raises(QueueNotEmpty) as full:
        await inspector.remove_queue("default")
    assert (full.value.queue, full.value.size) == ("default", count)
    assert await queue.content() == before
    assert await inspector.queues() == ["default"]
    if state == "active":
        with pytest.raises(QueueInUse) as used:
            await inspector.remove_queue("default", force=True)
        assert (used.value.queue, used.value.active) == ("default", count)
        assert await queue.content() == before
        return
    await inspector.remove_queue("default", force=True)
    assert of_asynq(await queue.content()) == {}


async def test_members_of_aggregation_sets_count_as_tasks(
    inspector: Inspector, queue: Queue
) -> None:
    await queue.set_apart(GROUP, SET, "1", "2")
    with pytest.raises(QueueNotEmpty):
        await inspector.remove_queue("default")
    await inspector.remove_queue("default", force=True)
    assert of_asynq(await queue.content()) == {}


async def test_force_removes_everything_with_its_locks(inspector: Inspector, queue: Queue) -> None:
    for state in STATES:
        if state != "active":
            for told_by in ("field", "message"):
                task = f"{state}-{told_by}"
                lock = f"{queue.keys.prefix}unique:t:{task}"
                await queue.send("SET", lock, task, "EX", 1000)
                await put(
                    queue,
                    state,
                    task,
                    **{"unique_key": lock}
                    if told_by == "field"
                    else {"msg": packed(task, unique_key=lock)},
                )
    await queue.set_apart(GROUP, SET, "apart")
    await leave_traces(queue)
    await queue.send("SET", f"{queue.keys.prefix}unique:t:other", "other", "EX", 1000)
    await inspector.remove_queue("default", force=True)
    assert list(of_asynq(await queue.content())) == ["unique:t:other"]
    assert await inspector.queues() == []


async def test_more_tasks_than_one_script_looks_at_are_removed(
    inspector: Inspector, queue: Queue
) -> None:
    commands: list[tuple[Any, ...]] = []
    for number in range(2 * AT_ONCE + 50):
        task = queue.keys.task(str(number))
        commands.append(("HSET", task, "msg", packed(str(number)), "state", "pending"))
        commands.append(("LPUSH", queue.keys.pending, number))
    for number in range(AT_ONCE):
        group = f"g{number % 300}"
        commands.append(("HSET", queue.keys.task(f"m{number}"), "msg", packed("m")))
        commands.append(("ZADD", queue.keys.group(group), 1, f"m{number}"))
        commands.append(("SADD", queue.keys.groups, group))
    await queue.send_many(commands)
    await inspector.remove_queue("default", force=True)
    assert of_asynq(await queue.content()) == {}


async def test_large_tasks_are_purged_a_few_at_a_time(inspector: Inspector, queue: Queue) -> None:
    """Whether there are many of them or they are large, the server gets to do other things between."""
    for number in range(5):
        await put(queue, "pending", f"p{number}", msg=packed("p", payload=bytes(2_000_000)))
        await put(queue, "aggregating", f"g{number}")
    store = inspector._of("default")
    await store.remove(force=True)
    calls = []
    for count, most in ((100, 3_000_000), (2, 9_000_000), (2, 9_000_000), (3, 0), (100, 0)):
        word = await store._look(PURGE, store._aside(), count, most, *store._prefixes)
        left = of_asynq(await queue.content())
        calls.append((word, sum(name.startswith("t:") for name in left)))
    assert calls == [(b"more", left) for left in (8, 6, 5, 4, 3)]  # looking at a group counts, too
    await store.purge()
    assert of_asynq(await queue.content()) == {}


@pytest.mark.parametrize("state", [*(state for state in STATES if state != "active"), "set apart"])
async def test_what_is_left_of_a_removal_is_purged_before_the_next(
    inspector: Inspector, queue: Queue, state: str
) -> None:
    """Nothing is set aside over it, whatever it is: its tasks would be lost sight of."""
    store = inspector._of("default")
    for task in ("old", "new"):
        if state == "set apart":
            await queue.set_apart(GROUP, SET, task)
        else:
            await put(queue, state, task)
        if task == "old":
            assert await store.remove(force=True) == ("removed", 0)
    await inspector.remove_queue("default", force=True)
    assert of_asynq(await queue.content()) == {}


async def test_ghosts_do_not_keep_a_queue(inspector: Inspector, queue: Queue) -> None:
    """Nobody can run what has no message; in Go such a queue cannot be removed at all (7.3, 7)."""
    await queue.active("ghost", msg=None)
    await queue.active("gone")
    await queue.send("DEL", queue.keys.task("gone"))
    await inspector.remove_queue("default")
    assert of_asynq(await queue.content()) == {}


async def test_removal_that_was_cut_off_is_finished_by_the_next(
    inspector: Inspector, queue: Queue
) -> None:
    """What is out of sight stays listed as a queue until it is gone, so that somebody can."""
    await crowd(queue)
    await queue.send("DEL", queue.keys.active, queue.keys.lease)
    for number in (1, 2):
        await queue.send("DEL", queue.keys.task(f"active-{number}"))
    store = inspector._of("default")
    assert await store.remove(force=True) == ("removed", 0)
    assert (await inspector.queue_info("default")).size == 0
    await queue.pending("new")
    assert await store.remove(force=True) == ("unfinished", 0)
    await inspector.remove_queue("default", force=True)
    assert of_asynq(await queue.content()) == {}
    assert await inspector.queues() == []


async def test_queue_that_is_used_again_stays_known(
    inspector: Inspector, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer that has registered it does not do so again at once (7.3, 12)."""
    purge = InspectorStore.purge

    async def meanwhile(store: InspectorStore) -> None:
        await purge(store)
        await queue.pending("new")

    monkeypatch.setattr(InspectorStore, "purge", meanwhile)
    await inspector.remove_queue("default")
    assert await inspector.queues() == ["default"]


async def test_removal_tells_whoever_enqueues(hub: pulsewire.Hub) -> None:
    """The queue is registered again before its next task."""
    client = hub.tasks
    inspector = Inspector(
        client.link, client.keys, max_payload=1000, on_removed=client.enqueuer.forget
    )
    await client.enqueue("t")
    await inspector.remove_queue("default", force=True)
    assert await inspector.queues() == []
    await client.enqueue("t")
    assert await inspector.queues() == ["default"]


# --- replies that are lost


@pytest.fixture
async def weathered_inspector(weathered: pulsewire.Hub) -> Inspector:
    """An inspector behind the proxy, with a queue of three tasks."""
    await weathered.tasks.enqueue_many(
        [NewTask(type="t", task_id=task, process_in=1000) for task in ("1", "2", "3")]
    )
    link, keys = weathered.tasks.link, weathered.tasks.keys
    inspector = Inspector(link, keys, max_payload=1000)
    await inspector.queue_info("default")
    return inspector


Act = Callable[[Inspector], Awaitable[Any]]
ACTS: dict[str, tuple[Act, Any, type[PulsewireError] | None]] = {
    "run": (lambda one: one.run_task("default", "1"), None, WrongState),
    "archive": (lambda one: one.archive_task("default", "1"), None, WrongState),
    "delete": (lambda one: one.delete_task("default", "1"), None, TaskNotFound),
    "update": (lambda one: one.update_payload("default", "1", b"new"), None, None),
    "run all": (lambda one: one.run_all("default", "scheduled"), 3, None),
    "archive all": (lambda one: one.archive_all("default", "scheduled"), 3, None),
    "delete all": (lambda one: one.delete_all("default", "scheduled"), 3, None),
    "pause": (lambda one: one.pause("default"), None, AlreadyPaused),
    "remove": (lambda one: one.remove_queue("default", force=True), None, QueueNotFound),
}


@pytest.mark.parametrize("act", ACTS)
async def test_change_whose_reply_is_lost_is_made_once(
    weathered_inspector: Inspector, proxy: FaultProxy, act: str
) -> None:
    """It is sent again, and answered as the first time; only a second call finds it done."""
    call, answer, second = ACTS[act]
    fault = proxy.swallow_reply(lambda words: words[0] in (b"EVALSHA", b"EVAL"), then="cut")
    assert await call(weathered_inspector) == answer
    await fault.wait_hit()
    if second is not None:
        with pytest.raises(second):
            await call(weathered_inspector)
    elif answer is not None:
        assert await call(weathered_inspector) == 0


@on_one_server
async def test_replies_are_kept_for_a_while_only(inspector: Inspector, queue: Queue) -> None:
    """The record has a TTL, and forgets what was answered in batches."""
    for _ in range(100):
        with pytest.raises(NotPaused):
            await inspector.unpause("default")
    async with queue.window() as window:
        [record] = (await queue.content()).values()
    assert isinstance(record, Kept)
    assert len(record.value) <= 64
    assert record.until <= window.high + 600


@on_one_server
async def test_cancelled_caller_leaves_no_doubt_behind(inspector: Inspector, queue: Queue) -> None:
    """Its change may be carried out; the next one is a change of its own."""
    await put(queue, "retry", "1", "2")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await inspector.run_task("default", "1")
    await inspector.run_task("default", "2")
    assert await queue.state("2") == "pending"


# --- memory


async def test_inspectors_work_on_a_server_that_is_full(fresh_server: SingleServer) -> None:
    """Deleting must be possible then above all; so are the other changes, which need no more memory."""
    async with pulsewire.connect(fresh_server.url) as hub:
        client = hub.tasks
        for number in range(8):
            await client.enqueue("t", task_id=str(number), process_in=1000)
        inspector = Inspector(client.link, client.keys, max_payload=1000)
        await fresh_server.command("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(pulsewire.ServerFull):
            await client.enqueue("t", task_id="one more")
        await inspector.delete_task("default", "0")
        await inspector.run_task("default", "1")
        await inspector.archive_task("default", "2")
        assert await inspector.delete_all("default", "pending") == 1
        assert await inspector.run_all("default", "archived") == 1
        assert await inspector.archive_all("default", "scheduled") == 5
        await inspector.pause("default")
        await inspector.remove_queue("default", force=True)
        assert await inspector.queues() == []
        assert await fresh_server.command("DBSIZE") == 2  # what keeps replies, for a while
        await fresh_server.command("CONFIG", "SET", "maxmemory", "0")
