"""Enqueuing: what options leave in Redis, what is refused, and that each task comes once (spec/asynq.md 4.2)."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import pytest
import redis.asyncio

import pulsewire
from pulsewire import (
    ConfigurationError,
    DuplicateTask,
    InvalidName,
    InvalidOption,
    PayloadTooLarge,
    ServerFull,
    TaskIdConflict,
)
from pulsewire.tasks import NewTask, TaskInfo, TaskState
from pulsewire.tasks import enqueuing as enqueuing_module
from pulsewire.testing import FaultProxy, SingleServer, Topology, wait_until
from tests.facts import Facts, Raw, on_one_server
from tests.tasks.content import Kept
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import FAR_AHEAD, LONG_AGO, Queue, misplaced, unpacked

TOPOLOGIES = ["standalone", "cluster"]
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
PLAIN = {"type": "t", "payload": b"pay", "id": "a", "queue": "default", "retry": 25}
DEADLINE = 9_000_000_000
LATER = datetime(2200, 1, 1, tzinfo=UTC)


@pytest.fixture
def queues_key(namespace: str) -> str:
    """The SET of all queues."""
    return f"{namespace}:asynq:queues"


# --- options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"timeout": 1800}),
        ({"max_retry": 3}, {"retry": 3, "timeout": 1800}),
        ({"max_retry": 0}, {"retry": 0, "timeout": 1800}),
        ({"timeout": 20}, {"timeout": 20}),
        ({"timeout": 0.5}, {"timeout": 1}),
        ({"timeout": 0}, {"timeout": 1800}),
        ({"deadline": DEADLINE}, {"deadline": DEADLINE}),
        ({"deadline": DEADLINE - 0.5}, {"deadline": DEADLINE}),
        ({"deadline": datetime.fromtimestamp(DEADLINE, UTC)}, {"deadline": DEADLINE}),
        ({"deadline": DEADLINE, "timeout": 20}, {"deadline": DEADLINE, "timeout": 20}),
        ({"retention": 3600}, {"retention": 3600, "timeout": 1800}),
        ({"retention": 0.2}, {"retention": 1, "timeout": 1800}),
        ({"headers": {"k": "v", "": "ü"}}, {"headers": {"k": "v", "": "ü"}, "timeout": 1800}),
        ({"headers": {}}, {"timeout": 1800}),
        ({"process_in": 0}, {"timeout": 1800}),
        ({"process_in": -5.0}, {"timeout": 1800}),
        ({"process_at": LONG_AGO}, {"timeout": 1800}),
    ],
)
@on_one_server
async def test_option_stands_in_the_message(
    hub: pulsewire.Hub, queue: Queue, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """In whole seconds, rounded up: Go makes none of half a second (4.2)."""
    async with queue.window() as window:
        info = await hub.tasks.enqueue("t", b"pay", task_id="a", **options)
    content = await queue.content()
    wanted = {name: value for name, value in {**PLAIN, **expected}.items() if value}
    message = content["t:a"]["msg"]
    assert unpacked(message) == wanted
    assert content["t:a"] == {
        "msg": message,
        "state": b"pending",
        "pending_since": window.stamp(),
    }
    assert content["pending"] == ["a"]
    assert misplaced(content) == []
    assert info.state is TaskState.PENDING
    assert info.next_process_at is not None
    assert window.low - 0.001 <= info.next_process_at.timestamp() <= window.high


async def test_task_comes_back_as_it_was_enqueued(hub: pulsewire.Hub) -> None:
    info = await hub.tasks.enqueue(
        "email:send",
        "ü",
        queue="mails",
        task_id="a",
        max_retry=2,
        timeout=30,
        deadline=LATER,
        process_at=LATER,
        retention=60,
        headers={"k": "v"},
    )
    assert info == TaskInfo(
        id="a",
        queue="mails",
        type="email:send",
        payload="ü".encode(),
        state=TaskState.SCHEDULED,
        headers={"k": "v"},
        max_retry=2,
        timeout=30.0,
        deadline=LATER,
        next_process_at=LATER,
        retention=60.0,
    )


async def test_ids_are_random_uuids(hub: pulsewire.Hub) -> None:
    infos = [await hub.tasks.enqueue("t") for _ in range(3)]
    assert len({info.id for info in infos}) == 3
    assert all(UUID4.fullmatch(info.id) for info in infos)


async def test_queue_is_registered_before_its_first_task(
    hub: pulsewire.Hub, raw: Raw, queues_key: str
) -> None:
    """Names are case-sensitive (4.2)."""
    for name in ("default", "Low", "low", "ünder score:1"):
        await hub.tasks.enqueue("t", queue=name)
    found = await raw(queues_key, "SMEMBERS", queues_key)
    assert {one.decode() for one in found} == {"default", "Low", "low", "ünder score:1"}


async def test_task_of_another_queue_lies_in_that_queue(hub: pulsewire.Hub, queue: Queue) -> None:
    await hub.tasks.enqueue("t", queue="other", task_id="a")
    info = await hub.tasks.enqueue("t", task_id="a")
    assert info.queue == "default"
    assert (await queue.content())["pending"] == ["a"]


async def test_newtask_says_all_of_it(hub: pulsewire.Hub, queue: Queue) -> None:
    task = NewTask(type="t", payload=b"pay", task_id="a", max_retry=2)
    await hub.tasks.enqueue(task)
    await hub.tasks.enqueue(task.with_options(task_id="b", max_retry=7))
    assert (await queue.message("a"))["retry"] == 2
    assert (await queue.message("b"))["retry"] == 7
    with pytest.raises(InvalidOption, match="with_options"):
        await hub.tasks.enqueue(task, max_retry=3)


# --- times


@on_one_server
async def test_delay_counts_on_the_servers_clock_and_is_rounded_up(
    hub: pulsewire.Hub, queue: Queue
) -> None:
    """No task is run before its time."""
    async with queue.window() as window:
        info = await hub.tasks.enqueue("t", task_id="a", process_in=3600.25)
    content = await queue.content()
    assert content["scheduled"] == {"a": window.rounded_up(3600.25)}
    assert info.state is TaskState.SCHEDULED
    assert info.next_process_at is not None
    assert info.next_process_at.timestamp() == content["scheduled"]["a"]


@on_one_server
@pytest.mark.parametrize(
    "when",
    [
        FAR_AHEAD,
        FAR_AHEAD - 0.75,
        datetime.fromtimestamp(FAR_AHEAD, timezone(timedelta(hours=5))),
    ],
)
async def test_task_is_scheduled_for_a_time(
    hub: pulsewire.Hub, queue: Queue, when: datetime | float
) -> None:
    info = await hub.tasks.enqueue("t", task_id="a", process_at=when)
    content = await queue.content()
    assert content["scheduled"] == {"a": FAR_AHEAD}
    assert "pending_since" not in content["t:a"]
    assert info.next_process_at == datetime.fromtimestamp(FAR_AHEAD, UTC)


@on_one_server
async def test_task_for_now_is_run_now(hub: pulsewire.Hub, queue: Queue) -> None:
    """A time that is not to come any more (4.2)."""
    for _ in range(20):
        info = await hub.tasks.enqueue("t", process_at=datetime.now(UTC))
        assert info.state is TaskState.PENDING
        seconds, micros = await queue.send("TIME")
        info = await hub.tasks.enqueue("t", process_at=int(seconds) + int(micros) / 1e6)
        assert info.state is TaskState.PENDING


# --- unique


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({}, "pending"),
        ({"process_in": 1000}, "scheduled"),
        ({"process_at": FAR_AHEAD}, "scheduled"),
        ({"group": "g"}, "aggregating"),
        ({"group": "g", "process_in": 1000}, "scheduled"),
    ],
)
@on_one_server
async def test_unique_task_holds_its_lock_until_after_its_time(
    hub: pulsewire.Hub, queue: Queue, options: dict[str, Any], state: str
) -> None:
    """The second one is refused, and leaves nothing."""
    async with queue.window() as window:
        info = await hub.tasks.enqueue("t", b"pay", task_id="a", unique=60.9, **options)
    assert info.state == state
    content = await queue.content()
    name = queue.keys.lock("t", b"pay").removeprefix(queue.keys.prefix)
    assert content["t:a"]["unique_key"].decode() == (await queue.message("a"))["unique_key"]
    assert content["t:a"]["unique_key"].decode() == queue.keys.prefix + name
    begins = info.next_process_at.timestamp() if info.next_process_at else window.high
    held: Kept = content[name]
    assert held.value == b"a"
    assert begins + 60 - 1 - (window.high - window.low) <= held.until <= begins + 61
    with pytest.raises(DuplicateTask) as refusal:
        await hub.tasks.enqueue("t", b"pay", unique=5, **options)
    assert (refusal.value.queue, refusal.value.task_type) == ("default", "t")
    after = await queue.content()
    del content["pulsewire:requests:" + _client(content)]
    del after["pulsewire:requests:" + _client(after)]
    assert after == content


def _client(content: dict[str, Any]) -> str:
    (name,) = (one for one in content if one.startswith("pulsewire:requests:"))
    return name.rpartition(":")[2]


async def test_lock_is_of_type_payload_and_queue(hub: pulsewire.Hub) -> None:
    """No payload and an empty one are two locks (1.1)."""
    same = NewTask(type="t", payload=b"pay", unique=60.0)
    others: list[dict[str, Any]] = [
        {"payload": b"pay2"},
        {"payload": None},
        {"payload": b""},
        {"type": "t2"},
        {"queue": "other"},
    ]
    await hub.tasks.enqueue(same)
    for changes in others:
        await hub.tasks.enqueue(same.with_options(**changes))
    for changes in [{}, *others]:
        with pytest.raises(DuplicateTask):
            await hub.tasks.enqueue(same.with_options(**changes))


async def test_unique_task_is_no_duplicate_once_the_first_one_has_succeeded(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    task = NewTask(type="t", unique=1000.0)
    async with make_server():
        for task_id in ("a", "b"):
            await hub.tasks.enqueue(task.with_options(task_id=task_id))
            await queue.wait_state(task_id, "")


@on_one_server
async def test_refused_id_leaves_no_lock(hub: pulsewire.Hub, queue: Queue) -> None:
    """Go leaves it (7.3, 9)."""
    await hub.tasks.enqueue("t", task_id="a")
    with pytest.raises(TaskIdConflict):
        await hub.tasks.enqueue("t", b"pay", task_id="a", unique=60)
    await hub.tasks.enqueue("t", b"pay", task_id="b", unique=60)
    assert misplaced(await queue.content()) == []


# --- groups


async def test_member_of_a_group_waits_for_the_aggregator(hub: pulsewire.Hub, queue: Queue) -> None:
    async with queue.window() as window:
        info = await hub.tasks.enqueue("t", task_id="a", group="eu:mails")
    content = await queue.content()
    assert content["g:eu:mails"] == {"a": window.seconds()}
    assert content["groups"] == {"eu:mails"}
    assert content["t:a"]["group"] == b"eu:mails"
    assert (await queue.message("a"))["group_key"] == "eu:mails"
    assert (info.state, info.group) == (TaskState.AGGREGATING, "eu:mails")
    assert info.next_process_at is None


async def test_member_of_a_group_for_later_joins_it_when_its_time_comes(
    hub: pulsewire.Hub, queue: Queue
) -> None:
    """Go schedules it, and never aggregates it (7.3, 4)."""
    info = await hub.tasks.enqueue("t", task_id="a", group="g", process_at=FAR_AHEAD)
    assert info.state is TaskState.SCHEDULED
    assert "g:g" not in await queue.content()
    await queue.send("ZADD", queue.keys.scheduled, LONG_AGO, "a")
    await queue.store.forward()
    content = await queue.content()
    assert set(content["g:g"]) == {"a"}
    assert misplaced(content) == []


# --- what is refused


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"task": ""}, InvalidName),
        ({"task": " \t"}, InvalidName),
        ({"task": 5}, InvalidName),
        ({"task": "\ud800"}, InvalidName),
        ({"queue": ""}, InvalidName),
        ({"queue": "  "}, InvalidName),
        ({"queue": "a{b}"}, InvalidName),
        ({"queue": None}, InvalidName),
        ({"queue": "q" * 513}, InvalidName),
        ({"task_id": ""}, InvalidName),
        ({"task_id": "  "}, InvalidName),
        ({"task_id": 7}, InvalidName),
        ({"group": ""}, InvalidName),
        ({"group": " "}, InvalidName),
        ({"unique": 0.9}, InvalidOption),
        ({"unique": -1}, InvalidOption),
        ({"unique": float("inf")}, InvalidOption),
        ({"max_retry": -1}, InvalidOption),
        ({"max_retry": 2.5}, InvalidOption),
        ({"max_retry": 2**31}, InvalidOption),
        ({"max_retry": True}, InvalidOption),
        ({"timeout": -1}, InvalidOption),
        ({"timeout": float("nan")}, InvalidOption),
        ({"timeout": timedelta(seconds=5)}, InvalidOption),
        ({"retention": -1}, InvalidOption),
        ({"deadline": datetime(2030, 1, 1)}, InvalidOption),  # noqa: DTZ001  # the naive one is refused
        ({"deadline": -5}, InvalidOption),
        ({"process_at": datetime(2030, 1, 1)}, InvalidOption),  # noqa: DTZ001  # as above
        ({"process_at": "tomorrow"}, InvalidOption),
        ({"process_in": float("nan")}, InvalidOption),
        ({"process_in": float("inf")}, InvalidOption),
        ({"process_in": 1, "process_at": LATER}, InvalidOption),
        ({"headers": {"k": 5}}, InvalidName),
        ({"headers": {5: "v"}}, InvalidName),
        ({"payload": {"k": "v"}}, InvalidOption),
        ({"payload": 5}, InvalidOption),
    ],
)
@on_one_server
async def test_impossible_task_is_refused_before_anything_is_sent(
    hub: pulsewire.Hub, queue: Queue, options: dict[str, Any], expected: type[Exception]
) -> None:
    assert issubclass(expected, ConfigurationError)
    with pytest.raises(expected):
        await hub.tasks.enqueue(**{"task": "t", **options})
    outcomes = await hub.tasks.enqueue_many(
        [NewTask(type=options.pop("task", "t"), **options), NewTask(type="t", task_id="good")]
    )
    assert isinstance(outcomes[0], expected)
    assert isinstance(outcomes[1], TaskInfo)
    assert (await queue.content())["pending"] == ["good"]


@on_one_server
async def test_payload_has_a_limit(hub: pulsewire.Hub) -> None:
    await hub.tasks.enqueue("t", bytes(hub.tasks.max_payload))
    with pytest.raises(PayloadTooLarge) as refusal:
        await hub.tasks.enqueue("t", bytes(hub.tasks.max_payload + 1))
    assert refusal.value.size == hub.tasks.max_payload + 1


@pytest.mark.parametrize("payload", [bytearray(b"pay"), memoryview(b"pay"), "pay"])
@on_one_server
async def test_whatever_is_bytes_can_be_a_payload(
    hub: pulsewire.Hub, queue: Queue, payload: Any
) -> None:
    await hub.tasks.enqueue("t", payload, task_id="a")
    assert (await queue.message("a"))["payload"] == b"pay"


async def test_id_that_is_taken_is_refused(hub: pulsewire.Hub, queue: Queue) -> None:
    """Also by a task that is only kept."""
    await queue.later("completed", "kept")
    await queue.active("runs")
    await hub.tasks.enqueue("t", b"first", task_id="a")
    for task_id in ("a", "kept", "runs"):
        with pytest.raises(TaskIdConflict) as refusal:
            await hub.tasks.enqueue("t", b"second", task_id=task_id)
        assert (refusal.value.queue, refusal.value.task_id) == ("default", task_id)
    assert (await queue.message("a"))["payload"] == b"first"


# --- many


async def test_many_are_told_one_by_one(hub: pulsewire.Hub, queue: Queue) -> None:
    """Go reports duplicates as enqueued, and loses headers (7.3, 19)."""
    tasks = [
        NewTask(type="t", task_id="a", headers={"k": "v"}),
        NewTask(type=""),
        NewTask(type="t", task_id="a"),
        NewTask(type="t", task_id="b", process_at=FAR_AHEAD),
        NewTask(type="t", task_id="c", queue="other"),
        NewTask(type="t", task_id="d", unique=60.0),
        NewTask(type="t", task_id="e", unique=60.0),
        NewTask(type="t", task_id="f", group="g"),
    ]
    outcomes = await hub.tasks.enqueue_many(iter(tasks))
    told = [one.state if isinstance(one, TaskInfo) else type(one) for one in outcomes]
    assert told == [
        "pending",
        InvalidName,
        TaskIdConflict,
        "scheduled",
        "pending",
        "pending",
        DuplicateTask,
        "aggregating",
    ]
    content = await queue.content()
    assert content["pending"] == ["d", "a"]
    assert (await queue.message("a"))["headers"] == {"k": "v"}
    assert misplaced(content) == []


@on_one_server
async def test_none_are_enqueued_without_a_word(hub: pulsewire.Hub, topology: Topology) -> None:
    assert isinstance(topology, SingleServer)
    before = (await topology.info("commandstats")).get("cmdstat_evalsha")
    assert await hub.tasks.enqueue_many([]) == []
    assert (await topology.info("commandstats")).get("cmdstat_evalsha") == before


async def test_thousands_come_in_order(hub: pulsewire.Hub, queue: Queue) -> None:
    """Also those that are too many, or too large, for one script."""
    sizes = [10] * 450 + [200_000] * 7 + [10] * 50
    tasks = [
        NewTask(type="t", payload=bytes(size), task_id=f"{number:04}")
        for number, size in enumerate(sizes)
    ]
    outcomes = await hub.tasks.enqueue_many(tasks)
    assert {one.state for one in outcomes if isinstance(one, TaskInfo)} == {TaskState.PENDING}
    assert len(outcomes) == len(sizes)
    assert (await queue.content())["pending"][::-1] == [task.task_id for task in tasks]


@on_one_server
async def test_what_is_enqueued_in_one_turn_leaves_in_one_script(
    hub: pulsewire.Hub, proxy: FaultProxy, namespace: str
) -> None:
    async with pulsewire.connect(proxy.url, namespace=namespace) as other:
        await other.tasks.enqueue("t")
        before = proxy.statistics().commands["EVALSHA"]
        await asyncio.gather(*(other.tasks.enqueue("t") for _ in range(100)))
        assert proxy.statistics().commands["EVALSHA"] == before + 1


# --- trouble


@on_one_server
async def test_task_whose_reply_is_lost_is_enqueued_once(
    weathered: pulsewire.Hub, proxy: FaultProxy, queue: Queue, topology: Topology
) -> None:
    """Go's client reports a conflict although the task is queued (7.2)."""
    await weathered.tasks.enqueue("t", task_id="first")
    for number in range(5):
        fault = proxy.swallow_reply("EVALSHA")
        info = await weathered.tasks.enqueue(
            "t", task_id=f"{number}", unique=60 + number, payload=b"%d" % number
        )
        assert fault.hits == 1
        assert info.state is TaskState.PENDING
    content = await queue.content()
    assert content["pending"] == ["4", "3", "2", "1", "0", "first"]
    assert misplaced(content) == []


@on_one_server
async def test_task_that_is_under_way_while_its_queue_is_removed_is_enqueued_once(
    weathered: pulsewire.Hub, proxy: FaultProxy, queue: Queue, raw: Raw, queues_key: str
) -> None:
    """Its record stays as long as it may have to be sent again: it would find itself in the way."""
    enqueuer = weathered.tasks.enqueuer
    await weathered.tasks.enqueue("t", task_id="first")
    proxy.stall("to_client")
    coming = asyncio.create_task(weathered.tasks.enqueue("t", task_id="a"))

    async def is_done() -> bool:
        return bool((await queue.content())["pending"] == ["a", "first"])

    await wait_until(is_done, what="it was carried out")
    enqueuer.forget("default")
    await raw(queues_key, "SREM", queues_key, "default")
    later = asyncio.create_task(weathered.tasks.enqueue("t", task_id="later"))

    async def is_registered() -> bool:  # behind what `forget` has sent
        return bool(await raw(queues_key, "SISMEMBER", queues_key, "default"))

    await wait_until(is_registered, what="all was carried out")
    proxy.cut()
    proxy.resume()
    assert (await coming).state is TaskState.PENDING
    await later
    assert (await queue.content())["pending"] == ["later", "a", "first"]


@on_one_server
async def test_forgotten_script_is_sent_again(hub: pulsewire.Hub, raw: Raw, queue: Queue) -> None:
    await hub.tasks.enqueue("t", task_id="a")
    await raw("", "SCRIPT", "FLUSH")
    await asyncio.gather(*(hub.tasks.enqueue("t", task_id=f"{n}") for n in range(3)))
    assert (await queue.content())["pending"] == ["2", "1", "0", "a"]


async def test_full_server_refuses_tasks_and_writes_nothing(fresh_server: SingleServer) -> None:
    async with pulsewire.connect(fresh_server.url) as hub:
        await hub.tasks.enqueue("t", task_id="before")
        await fresh_server.command("CONFIG", "SET", "maxmemory", 1)
        for options in ({}, {"unique": 60}, {"process_in": 60}, {"queue": "new"}):
            with pytest.raises(ServerFull):
                await hub.tasks.enqueue("t", task_id="refused", **options)
        outcomes = await hub.tasks.enqueue_many([NewTask(type="t")] * 3)
        assert [type(one) for one in outcomes] == [ServerFull] * 3
        assert await fresh_server.command("LLEN", "asynq:{default}:pending") == 1
        await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
        assert (await hub.tasks.enqueue("t", task_id="refused")).state is TaskState.PENDING


@on_one_server
async def test_caller_that_is_cancelled_harms_nobody(hub: pulsewire.Hub, queue: Queue) -> None:
    """Its own task is enqueued, or not; those beside it are."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(hub.tasks.enqueue, "t")
            await asyncio.sleep(0)
            scope.cancel()
    others = [asyncio.ensure_future(hub.tasks.enqueue("t", task_id=f"{n}")) for n in range(5)]
    await asyncio.sleep(0)
    others[2].cancel()
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert [type(one) for one in outcomes] == [
        asyncio.CancelledError if number == 2 else TaskInfo for number in range(5)
    ]
    assert {"0", "1", "3", "4"} <= set((await queue.content())["pending"])


async def test_removed_queue_is_registered_again(
    hub: pulsewire.Hub, raw: Raw, queues_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the latest after a while: Go's producers never do it again (7.3, 12)."""
    assert enqueuing_module.REGISTER_EVERY <= 60
    monkeypatch.setattr(enqueuing_module, "REGISTER_EVERY", 0.0)
    await hub.tasks.enqueue("t")
    await raw(queues_key, "DEL", queues_key)
    await hub.tasks.enqueue("t")
    assert await raw(queues_key, "SMEMBERS", queues_key) in ([b"default"], {b"default"})


async def test_queue_that_this_client_has_removed_is_registered_at_once(
    hub: pulsewire.Hub, raw: Raw, queues_key: str
) -> None:
    await hub.tasks.enqueue("t")
    await hub.tasks.inspector.remove_queue("default", force=True)
    assert await raw(queues_key, "EXISTS", queues_key) == 0
    await hub.tasks.enqueue("t")
    assert await raw(queues_key, "SCARD", queues_key) == 1


# --- around it


async def test_hub_that_is_left_leaves_no_record(
    topology: Topology, namespace: str, queue: Queue
) -> None:
    """And one that has died leaves one that lapses."""
    async with pulsewire.connect(topology.url, namespace=namespace) as hub:
        await hub.tasks.enqueue("t", task_id="a")
        (record,) = [name for name in await queue.content() if name.startswith("pulsewire:")]
        found = (await queue.content())[record]
        assert isinstance(found, Kept)
        assert len(found.value) == 1

    async def is_gone() -> bool:
        return record not in await queue.content()

    await wait_until(is_gone, what="the record of the client is gone")


@on_one_server
async def test_records_of_replies_do_not_pile_up(hub: pulsewire.Hub, queue: Queue) -> None:
    for number in range(200):
        await hub.tasks.enqueue("t", task_id=f"{number}")
    (record,) = [
        value for name, value in (await queue.content()).items() if name.startswith("pulsewire:")
    ]
    assert len(record.value) <= 130


@on_one_server
async def test_own_redis_client_will_do(
    single_server: SingleServer, namespace: str, queue: Queue
) -> None:
    """It stays the caller's to close."""
    client = redis.asyncio.Redis(host=single_server.host, port=single_server.port)
    try:
        async with pulsewire.connect(client, namespace=namespace) as hub:
            await hub.tasks.enqueue("t", task_id="a")
        assert await client.ping()
    finally:
        await client.aclose()
    assert (await queue.content())["pending"] == ["a"]


async def test_enqueuing_is_told(watched: pulsewire.Hub, facts: Facts) -> None:
    await watched.tasks.enqueue("t")
    await watched.tasks.enqueue("u", process_in=60, queue="low")
    with pytest.raises(InvalidName):
        await watched.tasks.enqueue("")
    assert facts.of("task_enqueued") == [("default", "t", "pending"), ("low", "u", "scheduled")]


@on_one_server
async def test_everything_comes_to_the_handler(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder
) -> None:
    """Numbers that are too large for a double, too: a payload is bytes."""
    payload = b'{"id":9223372036854775807}\x00\xff'
    async with make_server():
        await hub.tasks.enqueue(
            "t", payload, task_id="a", max_retry=7, timeout=90.5, headers={"k": "ü"}, retention=5
        )
        await recorder.wait_ended("a")
    task = recorder.tasks["a"]
    assert (task.payload, dict(task.headers), task.type) == (payload, {"k": "ü"}, "t")
    assert (task.max_retry, task.retried, task.queue, task.group) == (7, 0, "default", "")
    assert (task.timeout, task.retention) == (91.0, 5.0)
    assert math.isclose(task.deadline.timestamp(), datetime.now(UTC).timestamp() + 91, abs_tol=20)  # type: ignore[union-attr]  # it has one
