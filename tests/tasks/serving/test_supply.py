"""Where tasks come from: order, priorities, waiting, and taking while the connection fails (spec/asynq.md 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import anyio
import pytest

import pulsewire
from pulsewire import AlreadyPaused
from pulsewire._redis.scripts import Script
from pulsewire.tasks import NewTask
from pulsewire.tasks.store import TAKE
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.facts import PATIENCE, Facts, on_one_server
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import Queue, misplaced

TOPOLOGIES = ["standalone", "cluster"]


def calls(script: Script) -> Callable[[Sequence[bytes]], bool]:
    """Whether a command runs a script."""
    sha, body = script.sha.encode(), script.text.encode()
    return lambda words: words[0] in (b"EVALSHA", b"EVAL") and words[1] in (sha, body)


# --- which come first


async def test_oldest_come_first(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    ids = [f"{number}" for number in range(50)]
    await hub.tasks.enqueue_many([NewTask(type="t", task_id=one) for one in ids])
    async with make_server(concurrency=1):
        await queue.wait_empty()
    assert recorder.ids == ids


async def test_every_queue_is_served(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder
) -> None:
    """However small its weight; what is enqueued elsewhere is not touched."""
    queues = {"high": 100, "middle": 10, "low": 1}
    names = [*queues, "elsewhere"]
    tasks = [NewTask(type="t", queue=name, payload=b"%d" % n) for n in range(50) for name in names]
    await hub.tasks.enqueue_many(tasks)
    async with make_server(queues=queues):
        await recorder.wait_runs(150)
        left = await hub.tasks.inspector.queue_info("elsewhere")
    assert Counter(run.queue for run in recorder.runs) == dict.fromkeys(queues, 50)
    assert left.pending == 50


@on_one_server
async def test_strict_priority_drains_the_high_queue_first(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder
) -> None:
    queues = ["low", "high", "middle"]
    tasks = [NewTask(type="t", queue=name) for _ in range(30) for name in queues]
    await hub.tasks.enqueue_many(tasks)
    async with make_server(queues={"low": 1, "high": 3, "middle": 2}, strict=True, concurrency=1):
        await recorder.wait_runs(90)
    assert [run.queue for run in recorder.runs] == ["high"] * 30 + ["middle"] * 30 + ["low"] * 30


@on_one_server
async def test_weights_share_the_places(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder
) -> None:
    """Nine of ten, about: a thousand draws lie within five sigma of that."""
    tasks = [NewTask(type="t", queue=name) for name in ("high", "low") for _ in range(1000)]
    await hub.tasks.enqueue_many(tasks)
    async with make_server(queues={"high": 9, "low": 1}):
        await recorder.wait_runs(1000)
    first = Counter(run.queue for run in recorder.runs[:1000])
    assert 850 <= first["high"] <= 950


# --- waiting


async def test_task_is_begun_as_soon_as_it_comes(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """The server waits in Redis: hundreds, one after the other, would take Go minutes (5.2)."""
    async with make_server():
        for number in range(200):
            await hub.tasks.enqueue("t", task_id=f"{number}")
            await recorder.wait_runs(1, f"{number}")
        await queue.wait_empty()


@on_one_server
async def test_idle_server_does_not_poll(
    make_server: MakeServer, proxy: FaultProxy, namespace: str
) -> None:
    """It blocks in one command per queue."""
    async with (
        pulsewire.connect(proxy.url, namespace=namespace) as hub,
        make_server(of=hub, queues=["a", "b"]),
    ):
        await wait_until(
            lambda: proxy.statistics().commands.get("BLMOVE", 0) >= 4,
            timeout=PATIENCE,
            what="both queues were waited for twice",
        )
        fault = proxy.inject_error(b"ERR never", calls(TAKE))
        blocks = proxy.statistics().commands["BLMOVE"]
        await wait_until(
            lambda: proxy.statistics().commands["BLMOVE"] >= blocks + 2,
            timeout=PATIENCE,
            what="they were waited for once more",
        )
        assert fault.hits == 0


async def test_paused_queue_waits_and_others_go_on(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder
) -> None:
    """In-flight tasks, too (4.8)."""
    inspector = hub.tasks.inspector
    recorder.hold(task="running")
    async with make_server(queues=["default", "other"]):
        await hub.tasks.enqueue("t", task_id="running")
        await recorder.wait_runs(1)
        await inspector.pause("default")
        with pytest.raises(AlreadyPaused):
            await inspector.pause("default")
        await hub.tasks.enqueue("t", task_id="waits")
        await hub.tasks.enqueue("t", task_id="goes on", queue="other")
        await recorder.wait_ended("goes on")
        recorder.release(task="running")
        await recorder.wait_ended("running")
        assert recorder.count("waits") == 0
        await inspector.unpause("default")
        await recorder.wait_ended("waits")


async def test_queue_that_is_paused_from_the_start(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    await hub.tasks.enqueue("t", task_id="a")
    await hub.tasks.inspector.pause("default")
    async with make_server() as server:
        place = server._crew.places["default"]
        await wait_until(lambda: place.is_paused, what="the server has seen it")
        assert not recorder.runs
        await hub.tasks.inspector.unpause("default")
        await queue.wait_state("a", "")


@on_one_server
async def test_ids_without_a_task_are_passed_over(
    watched: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue, facts: Facts
) -> None:
    """Go makes a ghost of each, active for ever (7.3, 7)."""
    await queue.send("LPUSH", queue.keys.pending, "ghost-1", "ghost-2")
    await queue.pending("a")
    async with make_server(of=watched):
        await queue.wait_state("a", "")
    assert facts.of("tasks_gone") == [("default", 2)]
    assert misplaced(await queue.content()) == []


# --- several servers


async def test_two_servers_share_a_queue(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    """Each task is run once."""
    one, two = Recorder(), Recorder()
    async with make_server(one, concurrency=3), make_server(two, concurrency=3):
        for batch in range(20):
            await hub.tasks.enqueue_many(
                [NewTask(type="t", task_id=f"{batch}-{n}") for n in range(10)]
            )
            await queue.wait_empty()
    assert Counter(one.ids + two.ids).most_common(1)[0][1] == 1
    assert len(one.runs) + len(two.runs) == 200


# --- while the connection fails


@pytest.mark.parametrize("then", ["cut", "stall"])
@on_one_server
async def test_tasks_whose_taking_was_not_heard_of_are_run(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    then: str,
) -> None:
    """At once, and uncharged: in Go they wait for a minute, and the retry pops other ones (7.2)."""
    async with make_server(of=weathered):
        await weathered.tasks.enqueue("t", task_id="first")
        await recorder.wait_ended("first")
        fault = proxy.swallow_reply(calls(TAKE), then=then)  # type: ignore[arg-type]  # one of two words
        await queue.pending("a", "b", "c")
        await fault.wait_hit()
        for task_id in "abc":
            await queue.wait_state(task_id, "")
        assert recorder.ids[1:] == ["a", "b", "c"] or sorted(recorder.ids[1:]) == ["a", "b", "c"]
    assert (await queue.content())["processed"] == b"4"
    assert all(run.retried == 0 for run in recorder.runs)


@on_one_server
async def test_tasks_that_come_while_the_server_ends_go_back(
    hub: pulsewire.Hub,
    proxy: FaultProxy,
    namespace: str,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
) -> None:
    """None is begun, none is charged, and none waits for its lease to lapse (F3)."""
    async with pulsewire.connect(proxy.url, namespace=namespace) as far:
        async with make_server(of=far) as server:
            await far.tasks.enqueue("t", task_id="first")
            await recorder.wait_ended("first")
            place = server._crew.places["default"]
            await wait_until(lambda: not place.may_have_tasks, what="the queue was found dry")
            proxy.delay(0.2, direction="to_client")
            await queue.pending("a", "b")
            await queue.wait_state("a", "active")
            assert "a" not in place.held
        proxy.delay(0)
    assert recorder.ids == ["first"]
    content = await queue.content()
    assert sorted(content["pending"]) == ["a", "b"]
    assert misplaced(content) == []
    assert "pulsewire:lost" not in content["t:a"]


@on_one_server
async def test_tasks_whose_taking_was_not_heard_of_go_back_at_the_end(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
) -> None:
    async with make_server(of=weathered) as server:
        await weathered.tasks.enqueue("t", task_id="first")
        await recorder.wait_ended("first")
        fault = proxy.swallow_reply(calls(TAKE))
        await queue.pending("a", "b")
        await fault.wait_hit()
        server.stop()
    content = await queue.content()
    ran = set(recorder.ids[1:])
    assert set(content.get("pending", [])) == {"a", "b"} - ran
    assert "active" not in content
    assert not ran or ran == {"a", "b"}


@on_one_server
async def test_more_tasks_than_one_script_takes(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    recorder.hold()
    await hub.tasks.enqueue_many([NewTask(type="t") for _ in range(700)])
    async with make_server(concurrency=650) as server:
        await recorder.wait_runs(650)
        assert server.running == 650
        with anyio.fail_after(PATIENCE):
            recorder.release()
            await queue.wait_empty()
    assert recorder.most == 650


async def test_nothing_waits_where_there_is_no_room(fresh_server: SingleServer) -> None:
    """A server that is busy leaves tasks to others, and takes them once it has ended one."""
    busy, idle = Recorder(), Recorder()
    busy.hold()
    async with pulsewire.connect(fresh_server.url) as hub:
        async with hub.task_server(busy, concurrency=1):
            await hub.tasks.enqueue("t", task_id="long")
            await busy.wait_runs(1)
            async with hub.task_server(idle, concurrency=1):
                for number in range(10):
                    await hub.tasks.enqueue("t", task_id=f"{number}")
                    await idle.wait_ended(f"{number}")
            await hub.tasks.enqueue("t", task_id="last")
            busy.release()
            await busy.wait_ended("last")
    assert busy.ids == ["long", "last"]
