"""Leases that are kept whatever the event loop does, and what inspectors see of a server (spec/asynq.md 3.5)."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest
import redis

import pulsewire
from pulsewire._core import stalls
from pulsewire.tasks import NewTask, Task
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.messages import ServerMessage, WorkerMessage
from pulsewire.tasks.serving.presence import SHOW_EVERY, SHOWN_FOR, host
from pulsewire.testing import SingleServer, wait_until
from tests.facts import PATIENCE, Raw, on_one_server
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import Queue

TOPOLOGIES = ["standalone", "cluster"]


@pytest.fixture
def keys(hub: pulsewire.Hub) -> TaskKeys:
    """Names of what belongs to no single queue."""
    return hub.tasks.keys


async def read(raw: Raw, keys: TaskKeys, server: str) -> tuple[Any, dict[str, Any]]:
    """ServerInfo, and WorkerInfo by task."""
    name = f"{host()}:{os.getpid()}:{server}"
    info = await raw(keys.server(name), "GET", keys.server(name))
    workers = await raw(keys.workers_of(name), "HGETALL", keys.workers_of(name))
    pairs = (
        workers.items()
        if isinstance(workers, dict)
        else zip(workers[::2], workers[1::2], strict=True)
    )
    found = {one.decode(): WorkerMessage.FromString(data) for one, data in pairs}
    return (None if info is None else ServerMessage.FromString(info)), found


async def test_server_shows_itself_and_its_workers(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    raw: Raw,
    keys: TaskKeys,
    queue: Queue,
) -> None:
    """With every timestamp set, and both keys indexed; it takes all of it away at its end."""
    recorder.hold()
    options: dict[str, Any] = {"queues": {"default": 3, "low": 1}, "strict": True}
    async with queue.window() as window, make_server(**options, concurrency=7, lease=1.0) as server:
        await hub.tasks.enqueue("t", b"pay", task_id="a", timeout=60)
        await recorder.wait_runs(1)
        server._presence.show_now()

        async def is_shown() -> bool:
            return bool((await read(raw, keys, server.id))[1])

        await wait_until(is_shown, timeout=PATIENCE, what="the worker is shown")
        info, workers = await read(raw, keys, server.id)
        name = f"{host()}:{os.getpid()}:{server.id}"
        for index, key in (
            (keys.servers, keys.server(name)),
            (keys.workers, keys.workers_of(name)),
        ):
            assert 0 < await raw(key, "TTL", key) <= SHOWN_FOR
            assert float(await raw(index, "ZSCORE", index, key)) > window.low
        recorder.release()
        await queue.wait_empty()
    assert (info.host, info.pid, info.server_id) == (host(), os.getpid(), server.id)
    assert (info.concurrency, dict(info.queues), info.strict_priority) == (
        7,
        {"default": 3, "low": 1},
        True,
    )
    assert (info.status, info.active_worker_count) == ("active", 1)
    assert window.low - 1 <= info.start_time.ToNanoseconds() / 1e9 <= window.high + 1
    (worker,) = workers.values()
    assert list(workers) == ["a"]
    assert (worker.host, worker.pid, worker.server_id) == (host(), os.getpid(), server.id)
    assert (worker.task_id, worker.task_type, worker.task_payload) == ("a", "t", b"pay")
    assert worker.queue == "default"
    started, deadline = (
        when.ToNanoseconds() / 1e9 for when in (worker.start_time, worker.deadline)
    )
    assert window.low - 1 <= started <= window.high + 1
    assert started + 59 <= deadline <= started + 61
    assert await read(raw, keys, server.id) == (None, {})
    for index in (keys.servers, keys.workers):
        assert await raw(index, "EXISTS", index) == 0


async def test_state_of_the_server_is_shown(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, raw: Raw, keys: TaskKeys
) -> None:
    """active, stopped, and closed while it waits for what runs (4.7)."""
    seen: list[str] = []

    async def is_shown(state: str) -> bool:
        info, _ = await read(raw, keys, server.id)
        seen.append(info.status if info else "")
        return seen[-1] == state

    recorder.hold()
    server = make_server(lease=1.0, shutdown_timeout=PATIENCE)
    async with server:
        await wait_until(lambda: is_shown("active"), timeout=PATIENCE, what="it is active")
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        server.stop()
        await wait_until(lambda: is_shown("stopped"), timeout=PATIENCE, what="it has stopped")

        async def release_once_closed() -> None:
            await wait_until(lambda: is_shown("closed"), timeout=PATIENCE, what="it is closed")
            recorder.release()

        waiting = asyncio.ensure_future(release_once_closed())
    await waiting
    assert recorder.ended == {"a": ["returned"]}


@pytest.mark.parametrize("lease", [1.0, 12.0, 600.0])
@on_one_server
async def test_server_is_shown_before_what_was_shown_lapses(
    make_server: MakeServer, lease: float
) -> None:
    """Whatever its lease."""
    async with make_server(lease=lease) as server:
        assert server._leases._every <= SHOW_EVERY <= SHOWN_FOR / 2


@on_one_server
async def test_index_forgets_servers_that_are_no_more(
    hub: pulsewire.Hub, make_server: MakeServer, raw: Raw, keys: TaskKeys
) -> None:
    """Of crashed processes: Go leaves them to whoever lists servers (7.3, "Unbounded growth")."""
    for index in (keys.servers, keys.workers):
        await raw(index, "ZADD", index, 1000, "of a crashed one")
    async with make_server():

        async def are_gone() -> bool:
            scores = [
                await raw(index, "ZSCORE", index, "of a crashed one")
                for index in (keys.servers, keys.workers)
            ]
            return scores == [None, None]

        await wait_until(are_gone, timeout=PATIENCE, what="they are gone")


# --- a handler that blocks the event loop


@on_one_server
async def test_leases_are_kept_while_the_event_loop_is_blocked(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    single_server: SingleServer,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From a thread; and it is said which task blocks (F5)."""
    monkeypatch.setattr(stalls, "BLOCKED", 0.3)
    seen: list[float] = []

    async def blocking(task: Task) -> None:
        with redis.Redis(host=single_server.host, port=single_server.port) as client:
            ends = time.monotonic() + PATIENCE
            while time.monotonic() < ends and (not seen or seen[-1] < seen[0] + 1.2):
                score = client.zscore(queue.keys.lease, task.id)
                assert score is not None
                seen.append(float(score))
                time.sleep(0.02)  # the loop is to be blocked

    async with make_server(blocking, lease=1.0):
        await hub.tasks.enqueue("block:it", task_id="a")
        await queue.wait_state("a", "")
    assert seen[-1] >= seen[0] + 1.2
    (record,) = [vars(one) for one in caplog.records if hasattr(one, "task")]
    named = (record["name"], record["queue"], record["type"], record["task"])
    assert named == ("pulsewire.tasks", "default", "block:it", "a")
    assert "in blocking" in record["where"]


@on_one_server
async def test_tasks_taken_ahead_keep_their_leases_too(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Those that no handler has begun yet."""
    async with make_server(concurrency=5, lease=1.0) as server:
        await hub.tasks.enqueue_many([NewTask(type="t") for _ in range(100)])
        await queue.wait_empty()  # the attempts were short
        recorder.hold()
        await hub.tasks.enqueue_many([NewTask(type="t") for _ in range(8)])
        await recorder.wait_runs(105)
        held = server._crew.places["default"].held
        assert len(held) > 5
        first = (await queue.content())["lease"]

        async def are_renewed() -> bool:
            leases = (await queue.content())["lease"]
            return all(leases[task_id] > first[task_id] + 0.9 for task_id in held)

        await wait_until(are_renewed, timeout=PATIENCE, what="all leases were renewed")
        recorder.release()
        await queue.wait_empty()
