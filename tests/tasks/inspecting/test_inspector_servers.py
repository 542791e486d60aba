"""What inspectors see of servers, schedulers and nodes, and cancelling (spec/asynq.md 3.5, 3.8, 6.5)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import pulsewire
from pulsewire import InvalidName, InvalidOption, InvalidTarget
from pulsewire._redis.namespace import Namespace
from pulsewire.tasks.inspecting.inspector import Inspector
from pulsewire.tasks.inspecting.inspector_store import AT_ONCE
from pulsewire.tasks.inspecting.views import NodeInfo, WorkerInfo
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.messages import (
    EnqueueEventMessage,
    EntryMessage,
    ServerMessage,
    WorkerMessage,
)
from pulsewire.testing import ClusterGroup, wait_until
from pulsewire.testing.clusters import slot_of
from tests.facts import Raw, on_one_server
from tests.tasks.facts import MakeServer, Recorder

START = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)
FAR_AHEAD, LONG_AGO = 9_000_000_000, 1_000_000


class Registry:
    """Servers and schedulers, written by hand."""

    def __init__(self, raw: Raw, namespace: str) -> None:
        self.keys = TaskKeys(Namespace(namespace))
        self.raw = raw

    async def _show(self, index: str, key: str, lapses: float) -> None:
        await self.raw(index, "ZADD", index, lapses, key)

    async def server(
        self, name: str, data: bytes | None = None, *, lapses: float = FAR_AHEAD, **fields: Any
    ) -> None:
        """A server's record."""
        key = self.keys.server(name)
        await self._show(self.keys.servers, key, lapses)
        if data is None:
            message = ServerMessage(**{"host": "h", "pid": 7, "server_id": name, **fields})
            message.start_time.FromDatetime(START)
            data = message.SerializeToString()
        await self.raw(key, "SET", key, data, "EX", 100)

    async def worker(
        self, name: str, task: str, data: bytes | None = None, *, lapses: float = FAR_AHEAD
    ) -> None:
        """The record of a task that a server runs."""
        key = self.keys.workers_of(name)
        await self._show(self.keys.workers, key, lapses)
        if data is None:
            message = WorkerMessage(
                host="h",
                pid=7,
                server_id=name,
                task_id=task,
                task_type="t",
                task_payload=b"pay",
                queue="default",
            )
            message.start_time.FromDatetime(START)
            data = message.SerializeToString()
        await self.raw(key, "HSET", key, task, data)
        await self.raw(key, "EXPIRE", key, 100)

    async def entries(self, name: str, *records: bytes, lapses: float = FAR_AHEAD) -> None:
        """The records of a scheduler's entries, in the order of their registration."""
        key = self.keys.entries(name)
        await self._show(self.keys.schedulers, key, lapses)
        await self.raw(key, "LPUSH", key, *records)
        await self.raw(key, "EXPIRE", key, 100)

    async def index(self, key: str) -> list[str]:
        """The members of an index."""
        return [name.decode() for name in await self.raw(key, "ZRANGE", key, 0, -1)]


@pytest.fixture
def registry(raw: Raw, namespace: str) -> Registry:
    """Where servers and schedulers are shown."""
    return Registry(raw, namespace)


# --- servers


async def test_servers_are_shown_with_what_they_run(
    inspector: Inspector, registry: Registry
) -> None:
    """By host and process; workers belong to the server that they name."""
    await registry.server("b", pid=9, status="closed")
    await registry.server(
        "a",
        concurrency=10,
        queues={"default": 1, "critical": 6},
        strict_priority=True,
        status="active",
        active_worker_count=2,
    )
    await registry.server("c", host="g", pid=99)
    for task in ("1", "2"):
        await registry.worker("a", task)
    await registry.worker("nobody", "3")
    servers = await inspector.servers()
    assert [server.id for server in servers] == ["c", "a", "b"]
    server = servers[1]
    assert (server.host, server.pid, server.status) == ("h", 7, "active")
    assert server.queues == {"default": 1, "critical": 6}
    assert (server.concurrency, server.strict, server.active_workers) == (10, True, 2)
    assert server.started_at == START
    assert sorted(server.workers, key=lambda worker: worker.task_id) == [
        WorkerInfo(
            server_id="a",
            host="h",
            pid=7,
            task_id=task,
            task_type="t",
            payload=b"pay",
            queue="default",
            started_at=START,
            deadline=None,
        )
        for task in ("1", "2")
    ]
    assert servers[0].workers == servers[2].workers == ()


async def test_lapsed_servers_are_neither_shown_nor_kept(
    inspector: Inspector, registry: Registry
) -> None:
    """Whoever lists them forgets them, by the server's clock; also those whose record is gone before its time."""
    await registry.server("live")
    await registry.worker("live", "1")
    await registry.server("dead", lapses=LONG_AGO)
    await registry.worker("dead", "2", lapses=LONG_AGO)
    await registry.server("gone")
    key = registry.keys.server("gone")
    await registry.raw(key, "DEL", key)
    assert [server.id for server in await inspector.servers()] == ["live"]
    keys = registry.keys
    assert sorted(await registry.index(keys.servers)) == sorted([keys.server("live"), key])
    assert await registry.index(keys.workers) == [keys.workers_of("live")]


async def test_bad_records_do_not_hide_other_servers(
    inspector: Inspector, registry: Registry
) -> None:
    await registry.server("good")
    await registry.server("garbage", b"\xff\xff")
    await registry.server("list")
    key = registry.keys.server("list")
    await registry.raw(key, "DEL", key)
    await registry.raw(key, "LPUSH", key, "x")
    await registry.raw(key, "EXPIRE", key, 100)
    await registry.worker("good", "1")
    await registry.worker("good", "2", b"\xff\xff")
    [server] = await inspector.servers()
    assert server.id == "good"
    assert [worker.task_id for worker in server.workers] == ["1"]


@on_one_server
async def test_more_servers_than_are_asked_at_a_time(
    inspector: Inspector, registry: Registry
) -> None:
    for number in range(AT_ONCE + 1):
        await registry.server(f"{number:04}")
    assert len(await inspector.servers()) == AT_ONCE + 1


async def test_running_server_is_shown(
    inspector: Inspector, make_server: MakeServer, recorder: Recorder
) -> None:
    """A real one, from its start to its end."""
    assert await inspector.servers() == []
    async with make_server(queues={"default": 2, "low": 1}):

        async def is_shown() -> bool:
            return bool(await inspector.servers())

        await wait_until(is_shown, what="the server is shown")
        [server] = await inspector.servers()
        assert (server.queues, server.status) == ({"default": 2, "low": 1}, "active")
    assert await inspector.servers() == []


# --- schedulers


def entry(entry_id: str, *options: str, previous: int | None = None) -> bytes:
    """The record of a periodic task."""
    message = EntryMessage(
        id=entry_id, spec="@every 1m", task_type="t", task_payload=b"p", enqueue_options=options
    )
    message.next_enqueue_time.FromDatetime(START)
    message.prev_enqueue_time.seconds = -62135596800 if previous is None else previous
    data: bytes = message.SerializeToString()
    return data


async def test_entries_of_all_schedulers_are_shown(
    inspector: Inspector, registry: Registry
) -> None:
    """In the order of their registration; those of lapsed schedulers are not, and bad records hide none."""
    await registry.entries(
        "h:1:b", entry("1", 'Queue("low")', "MaxRetry(3)"), b"\xff\xff", entry("2", previous=100)
    )
    await registry.entries("h:1:a", entry("3", "Nonsense"))
    await registry.entries("dead", entry("4"), lapses=LONG_AGO)
    entries = await inspector.scheduler_entries()
    assert [(one.scheduler, one.id) for one in entries] == [
        ("h:1:a", "3"),
        ("h:1:b", "1"),
        ("h:1:b", "2"),
    ]
    first = entries[1]
    assert (first.spec, first.task_type, first.payload) == ("@every 1m", "t", b"p")
    assert [(option.name, option.value) for option in first.options] == [
        ("queue", "low"),
        ("max_retry", 3),
    ]
    assert (first.next_at, first.previous_at) == (START, None)
    assert entries[2].previous_at == datetime.fromtimestamp(100, UTC)
    assert [(option.name, option.text) for option in entries[0].options] == [(None, "Nonsense")]
    assert len(await registry.index(registry.keys.schedulers)) == 2


async def test_events_come_newest_first_by_pages(inspector: Inspector, registry: Registry) -> None:
    key = registry.keys.history("e")
    for number in range(5):
        message = EnqueueEventMessage(task_id=str(number))
        message.enqueue_time.seconds = 1000 + number
        await registry.raw(key, "ZADD", key, 1000 + number, message.SerializeToString())
    await registry.raw(key, "ZADD", key, 2000, b"\xff\xff")
    events = await inspector.enqueue_events("e")
    assert [event.task_id for event in events] == ["4", "3", "2", "1", "0"]
    assert events[0].at == datetime.fromtimestamp(1004, UTC)
    pages = [await inspector.enqueue_events("e", page=page, size=2) for page in (1, 2, 3, 4)]
    assert [[event.task_id for event in page] for page in pages] == [
        ["4"],
        ["3", "2"],
        ["1", "0"],
        [],
    ]
    assert await inspector.enqueue_events("unknown") == []
    assert await inspector.enqueue_events("e", page=2**60) == []


@on_one_server
@pytest.mark.parametrize("options", [{"page": 0}, {"size": 0}, {"size": "all"}])
async def test_pages_of_events_that_make_no_sense_are_refused(
    inspector: Inspector, options: Any
) -> None:
    with pytest.raises(InvalidOption):
        await inspector.enqueue_events("e", **options)


# --- cancelling


async def test_task_that_runs_is_cancelled(
    hub: pulsewire.Hub, inspector: Inspector, make_server: MakeServer, recorder: Recorder
) -> None:
    """Wherever it runs; in a cluster the server may listen on any node."""
    recorder.hold()
    async with make_server():
        await hub.tasks.enqueue("t", task_id="mine")
        await recorder.wait_runs(1)

        async def is_cancelled() -> bool:
            await inspector.cancel("mine")  # nobody may listen yet
            return recorder.ended.get("mine") == ["cancelled"]

        await wait_until(is_cancelled, what="the attempt was cancelled")


@on_one_server
async def test_cancelling_wants_a_text(inspector: Inspector) -> None:
    with pytest.raises(InvalidName):
        await inspector.cancel(7)  # type: ignore[arg-type]  # what is tested


# --- nodes


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_placement_names_slot_and_nodes(
    inspector: Inspector, topology: ClusterGroup, namespace: str
) -> None:
    """For every queue those that have its keys: the master, then its replicas; also before it is used."""
    masters = set()
    for queue in ("default", "low", "critical", "mail:eu", "a", "b", "c"):
        place = await inspector.placement(queue)
        key = TaskKeys(Namespace(namespace)).queue(queue).pending
        assert (place.queue, place.slot) == (queue, slot_of(key))
        master = await topology.node_of(key)
        replicas = await topology.replicas_of(await topology.owner_of(place.slot))
        expected = [NodeInfo(id=await node_id(master), address=address(master), role="master")]
        expected += [
            NodeInfo(id=await node_id(replica), address=address(replica), role="replica")
            for replica in replicas
        ]
        assert place.nodes == tuple(expected)
        masters.add(place.nodes[0].address)
    assert len(masters) > 1


async def node_id(node: Any) -> str:
    """What a node calls itself."""
    return (await node.command("CLUSTER", "MYID")).decode()  # type: ignore[no-any-return]  # a reply


def address(node: Any) -> str:
    """Where a node listens."""
    return f"{node.host}:{node.port}"


@pytest.mark.parametrize("topology", ["standalone", "sentinel"], indirect=True)
async def test_placement_needs_a_cluster(inspector: Inspector) -> None:
    with pytest.raises(InvalidTarget, match="not a cluster"):
        await inspector.placement("default")


async def test_server_tells_of_itself(inspector: Inspector, topology: Any) -> None:
    """INFO of a server, CLUSTER INFO of a cluster: what `asynq stats` prints."""
    info = await inspector.redis_info()
    if topology.kind == "cluster":
        assert (info["cluster_state"], info["cluster_size"]) == ("ok", "3")
        assert int(info["cluster_known_nodes"]) == 6
    else:
        assert {"redis_version", "uptime_in_days", "connected_clients"} <= info.keys()
        assert {"used_memory_human", "used_memory_peak_human"} <= info.keys()
    assert not any(name.startswith("#") for name in info)
