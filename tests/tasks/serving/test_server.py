"""The life of a server: beginning, stopping, ending, and what it leaves (spec/asynq.md 4.7, 8 "Server")."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import pulsewire
from pulsewire import Closed, InvalidName, InvalidOption, ServerUnavailable
from pulsewire.tasks import NewTask, Task
from pulsewire.tasks.serving import server as server_module
from pulsewire.tasks.serving.server import TaskServer
from pulsewire.testing import SingleServer, wait_until
from tests.facts import PATIENCE, Raw, on_one_server
from tests.tasks.facts import Gate, MakeServer, Recorder
from tests.tasks.scenes import Queue, misplaced

TOPOLOGIES = ["standalone", "cluster"]


# --- beginning


async def test_queues_are_known_once_the_server_has_begun(
    hub: pulsewire.Hub, make_server: MakeServer
) -> None:
    async with make_server(queues={"high": 2, "low": 1}):
        assert await hub.tasks.inspector.queues() == ["high", "low"]


@on_one_server
async def test_server_is_used_once(make_server: MakeServer) -> None:
    """As in Go: after its end it cannot begin again (4.7)."""
    server = make_server()
    assert (server.running, server.is_stopped) == (0, False)
    server.stop()  # nothing to stop yet
    async with server:
        assert not server.is_stopped
        with pytest.raises(Closed):
            await server.__aenter__()
    assert server.is_stopped
    with pytest.raises(Closed):
        async with server:
            pass


@on_one_server
async def test_server_that_is_cancelled_while_it_begins_leaves_nothing(
    make_server: MakeServer,
) -> None:
    """Whenever that is: its duties end, and so does its thread."""

    async def begin() -> None:
        async with make_server():
            await anyio.sleep_forever()

    for turns in range(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    await wait_until(
        lambda: "pulsewire-leases" not in {thread.name for thread in threading.enumerate()},
        what="its thread has ended",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"handler": None},
        {"handler": Recorder},
        {"handler": "a function"},
        {"queues": []},
        {"queues": {}},
        {"queues": {"a": 0}},
        {"queues": {"a": -1}},
        {"queues": {"a": 1.5}},
        {"concurrency": 0},
        {"lease": 0.5},
        {"shutdown_timeout": -1.0},
        {"group_grace": 0.9},
        {"group_max_delay": 0.5},
        {"group_max_size": 0},
        {"forward_interval": 0.0},
        {"janitor_interval": 0.0},
        {"janitor_batch": 0},
        {"max_lost": 0},
        {"health_check_interval": 0.0},
    ],
    ids=repr,
)
@on_one_server
async def test_impossible_server_is_refused(hub: pulsewire.Hub, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        hub.task_server(**{"handler": Recorder(), **options})


@pytest.mark.parametrize("name", ["", " ", "a{b", 5])
@on_one_server
async def test_impossible_queue_is_refused(hub: pulsewire.Hub, name: Any) -> None:
    with pytest.raises(InvalidName):
        hub.task_server(Recorder(), queues=[name])


async def test_server_cannot_begin_without_redis(fresh_server: SingleServer) -> None:
    """And leaves nothing of itself behind."""
    async with pulsewire.connect(fresh_server.url, wait_for_server=0.2) as hub:
        await fresh_server.kill()
        with pytest.raises(ServerUnavailable):
            async with hub.task_server(Recorder()):
                pass
        await fresh_server.restart()


# --- stopping


async def test_stopped_server_takes_nothing_more(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """What runs goes on."""
    recorder.hold()
    async with make_server(shutdown_timeout=PATIENCE) as server:
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        server.stop()
        server.stop()
        assert server.is_stopped
        await server.wait()
        await hub.tasks.enqueue("t", task_id="b")
        recorder.release()
        await recorder.wait_ended("a")
    assert recorder.ids == ["a"]
    assert await queue.state("b") == "pending"


@on_one_server
async def test_waiting_lasts_until_somebody_stops_it(make_server: MakeServer) -> None:
    async with make_server() as server:
        asyncio.get_running_loop().call_later(0.02, server.stop)
        with anyio.fail_after(PATIENCE):
            await server.wait()
        assert server.is_stopped


# --- ending


async def test_running_tasks_may_end(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Within `shutdown_timeout`."""
    recorder.hold()
    async with make_server(shutdown_timeout=PATIENCE):
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        asyncio.get_running_loop().call_later(0.1, recorder.release)
    assert recorder.ended == {"a": ["returned"]}
    assert await queue.state("a") == ""


async def test_tasks_that_take_too_long_go_back_to_the_front(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Uncharged, their handlers cancelled: Go's run on (4.7)."""
    recorder.hold()
    async with make_server(shutdown_timeout=0.05, concurrency=2) as server:
        await hub.tasks.enqueue_many([NewTask(type="t", task_id=one) for one in ("a", "b", "c")])
        await recorder.wait_runs(2)
    assert recorder.ended == {"a": ["cancelled"], "b": ["cancelled"]}
    assert not server.running
    content = await queue.content()
    assert content["pending"][0] == "c"
    assert sorted(content["pending"]) == ["a", "b", "c"]
    assert misplaced(content) == []
    assert set(content["t:a"]) == {"msg", "state", "pending_since"}
    assert "retried" not in await queue.message("a")
    assert "processed" not in content


@pytest.mark.parametrize(
    "answer",
    [
        lambda: None,
        lambda: ValueError("in my own words"),
        pulsewire.SkipRetry,
    ],
    ids=["returns", "raises", "gives up"],
)
@on_one_server
async def test_whatever_a_handler_makes_of_its_end_it_is_not_charged(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    queue: Queue,
    answer: Callable[[], Exception | None],
) -> None:
    """Unless it has done its task in the end (P5)."""
    begun = anyio.Event()

    async def handler(task: Task) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            error = answer()
            if error is not None:
                raise error from None

    async with make_server(handler, shutdown_timeout=0.0, error_handler=lambda *_: None):
        await hub.tasks.enqueue("t", task_id="a", max_retry=0)
        await begun.wait()
    assert await queue.state("a") == ("" if answer() is None else "pending")
    assert "failed" not in await queue.content()


@pytest.mark.parametrize("where", ["loop", "thread"])
@on_one_server
async def test_handler_that_does_not_end_does_not_keep_the_server(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    """Its task goes back, as in Go; what it does later harms nobody."""
    monkeypatch.setattr(server_module, "GOODBYE", 0.2)
    begun, end, gate = [], anyio.Event(), Gate()

    async def stubborn(task: Task) -> None:
        begun.append(task.id)
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    def in_thread(task: Task) -> None:
        begun.append(task.id)
        gate(task)

    handler: Any = stubborn if where == "loop" else in_thread
    async with make_server(handler, shutdown_timeout=0.0):
        await hub.tasks.enqueue("t", task_id="a")
        await wait_until(lambda: bool(begun), what="it runs")
    assert await queue.state("a") == "pending"
    end.set()
    gate.open()
    async with make_server(Recorder()):
        await queue.wait_state("a", "")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_tasks_taken_ahead_go_back_at_once(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """While what runs may still end."""
    async with make_server(concurrency=5, shutdown_timeout=PATIENCE) as server:
        for _ in range(20):
            await hub.tasks.enqueue("t")
        await queue.wait_empty()  # the attempts were short
        recorder.hold()
        await hub.tasks.enqueue_many([NewTask(type="t", task_id=f"{n}") for n in range(10)])
        await recorder.wait_runs(25)
        assert len(server._crew.places["default"].held) > 5
        server.stop()

        async def are_back() -> bool:
            return len((await queue.content()).get("pending", [])) == 5

        await wait_until(are_back, timeout=PATIENCE, what="what has not begun is pending again")
        recorder.release()
    content = await queue.content()
    assert sorted(content["pending"]) == ["5", "6", "7", "8", "9"]
    assert misplaced(content) == []


async def test_deploys_lose_no_task_and_run_none_twice(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Servers come and go while tasks come in (F3)."""
    ids = [f"{number}" for number in range(300)]

    async def produce() -> None:
        for number in range(0, 300, 10):
            await hub.tasks.enqueue_many(
                [NewTask(type="t", task_id=one, max_retry=0) for one in ids[number : number + 10]]
            )
            await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        for _ in range(10):
            before = len(recorder.runs)
            async with make_server(concurrency=5, shutdown_timeout=PATIENCE):
                await wait_until(
                    lambda before=before: (
                        len(recorder.runs) > before  # type: ignore[misc]  # a default is its value
                        or len(recorder.runs) == 300
                    ),
                    timeout=PATIENCE,
                    what="some have run",
                )
    async with make_server():
        await queue.wait_empty()
    assert Counter(recorder.ids) == Counter(ids)
    assert (await queue.content())["processed"] == b"300"


@on_one_server
async def test_error_of_the_block_comes_out_and_tasks_go_back(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    recorder.hold()
    with pytest.raises(ValueError, match="of the block"):
        async with make_server(shutdown_timeout=0.0):
            await hub.tasks.enqueue("t", task_id="a")
            await recorder.wait_runs(1)
            raise ValueError("of the block")
    assert await queue.state("a") == "pending"


@on_one_server
async def test_cancelled_block_ends_the_server_in_order(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue, raw: Raw
) -> None:
    """It hands back, and signs off."""
    recorder.hold()
    keys = hub.tasks.keys
    with anyio.CancelScope() as scope:
        async with make_server(shutdown_timeout=0.05, lease=1.0) as server:
            await hub.tasks.enqueue("t", task_id="a")
            await recorder.wait_runs(1)
            server._presence.show_now()

            async def is_shown() -> bool:
                return bool(await raw("", "EXISTS", keys.servers))

            await wait_until(is_shown, timeout=PATIENCE, what="the server is shown")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await queue.state("a") == "pending"
    assert await raw("", "EXISTS", keys.servers, keys.workers) == 0


class Leaving:
    """A block around a server that has a task in work, in an asyncio task of its own: to be cancelled while it ends."""

    def __init__(self, server: TaskServer) -> None:
        self.server = server
        self.limit = asyncio.timeout(None)
        self.may_leave = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.limit:
            async with self.server:
                await self.may_leave.wait()

    async def begin(self) -> None:
        """Return when the server is being left."""
        self.may_leave.set()
        await wait_until(lambda: self.server.is_stopped, what="it is being left")

    async def time_out(self) -> None:
        """Return when its time is over, and it has been cancelled."""
        self.limit.reschedule(asyncio.get_running_loop().time())
        await wait_until(lambda: bool(self.task.cancelling()), what="it was cancelled")


@on_one_server
async def test_server_whose_time_is_over_while_it_ends_goes_on_ending(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """`asyncio.timeout` cancels what anyio shields: no handler goes on as nobody's, and no outcome is lost."""
    recorder.hold()
    await hub.tasks.enqueue("t", task_id="a")
    leaving = Leaving(make_server(shutdown_timeout=PATIENCE))
    await recorder.wait_runs(1)
    await leaving.begin()
    await leaving.time_out()
    assert recorder.running["a"] == 1
    recorder.release()
    with pytest.raises(TimeoutError):
        await leaving.task
    assert recorder.ended == {"a": ["returned"]}
    assert leaving.server.running == 0
    assert await queue.state("a") == ""


@on_one_server
async def test_server_that_is_cancelled_twice_while_it_ends_waits_for_no_handler(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Its tasks go back at once, their handlers are cancelled."""
    recorder.hold()
    await hub.tasks.enqueue("t", task_id="a")
    leaving = Leaving(make_server(shutdown_timeout=1000.0))
    await recorder.wait_runs(1)
    await leaving.begin()
    await leaving.time_out()
    leaving.task.cancel()
    with anyio.fail_after(PATIENCE), pytest.raises(asyncio.CancelledError):
        await leaving.task
    assert recorder.ended == {"a": ["cancelled"]}
    assert await queue.state("a") == "pending"
    assert misplaced(await queue.content()) == []


@on_one_server
async def test_server_that_is_cancelled_while_it_ends_leaves_nothing(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue, raw: Raw
) -> None:
    """Whenever that is: what its handler was at goes back, it signs off, and no task of it goes on."""
    recorder.hold()
    tasks: set[int] = set()
    for turns in range(0, 60, 3):
        leaving = Leaving(make_server(shutdown_timeout=0.0))
        await hub.tasks.enqueue("t", task_id=f"{turns}")
        await recorder.wait_runs(1, f"{turns}")
        leaving.may_leave.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving.task
        assert recorder.ended[f"{turns}"] == ["cancelled"]
        assert await queue.state(f"{turns}") == "pending"
        await queue.send("DEL", queue.keys.pending, queue.keys.task(f"{turns}"))
        tasks.add(len(asyncio.all_tasks()))
    assert len(tasks) == 1
    assert await raw("", "EXISTS", hub.tasks.keys.servers, hub.tasks.keys.workers) == 0
    assert "pulsewire-leases" not in {thread.name for thread in threading.enumerate()}


@on_one_server
async def test_nothing_is_left_of_servers_that_have_ended(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, single_server: SingleServer
) -> None:
    """No thread, no connection, no task."""
    async with make_server():
        await hub.tasks.enqueue("t")
        await recorder.wait_runs(1)
    threads = {one.name for one in threading.enumerate()}
    connections, tasks = len(await single_server.clients()), len(asyncio.all_tasks())
    for number in range(10):
        async with make_server(queues=["default", "other"]):
            await hub.tasks.enqueue("t")
            await recorder.wait_runs(number + 2)
    gc.collect()
    assert {one.name for one in threading.enumerate()} <= threads

    async def are_gone() -> bool:
        return len(await single_server.clients()) <= connections

    await wait_until(are_gone, timeout=PATIENCE, what="their connections are gone")
    assert len(asyncio.all_tasks()) <= tasks


# --- health


async def test_health_is_told(fresh_server: SingleServer) -> None:
    """Well, ill, and well again (8 "Server")."""
    told: list[BaseException | None] = []

    async def check(trouble: BaseException | None) -> None:
        told.append(trouble)

    async with pulsewire.connect(fresh_server.url, wait_for_server=0.2) as hub:
        async with hub.task_server(Recorder(), health_check=check, health_check_interval=0.05):
            await wait_until(lambda: bool(told), timeout=PATIENCE, what="it was asked")
            assert told[-1] is None
            await fresh_server.kill()
            await wait_until(
                lambda: isinstance(told[-1], ServerUnavailable), timeout=PATIENCE, what="it is ill"
            )
            await fresh_server.restart()
            await wait_until(lambda: told[-1] is None, timeout=PATIENCE, what="it is well again")


@on_one_server
async def test_health_check_that_fails_changes_nothing(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException | None] = []

    def check(trouble: BaseException | None) -> None:
        told.append(trouble)
        raise ValueError("the health check's own")

    async with make_server(health_check=check, health_check_interval=0.02) as server:
        await wait_until(lambda: len(told) >= 3, what="it was asked again and again")
        assert not server.is_stopped
    assert any("health check" in record.message for record in caplog.records)


# --- what one handler does to another


async def test_handlers_can_enqueue(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    ran: list[str] = []

    async def handler(task: Task) -> None:
        ran.append(task.id)
        if len(task.id) < 5:
            await hub.tasks.enqueue("t", task_id=task.id + "+")

    async with make_server(handler):
        await hub.tasks.enqueue("t", task_id="+")
        await wait_until(lambda: len(ran) == 5, timeout=PATIENCE, what="all were run")
        await queue.wait_empty()
    assert ran == ["+", "++", "+++", "++++", "+++++"]


async def test_server_goes_on_when_redis_was_away(fresh_server: SingleServer) -> None:
    recorder = Recorder()
    async with pulsewire.connect(fresh_server.url) as hub, hub.task_server(recorder):
        for round_number in range(3):
            await hub.tasks.enqueue("t", task_id=f"{round_number}")
            await recorder.wait_ended(f"{round_number}")
            await fresh_server.restart()
        await hub.tasks.enqueue("t", task_id="last")
        await recorder.wait_ended("last")
    assert recorder.ids == ["0", "1", "2", "last"]
