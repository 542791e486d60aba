"""Hearing that tasks shall be cancelled (spec/asynq.md 3.5, 4.8)."""

from __future__ import annotations

import pytest

import pulsewire
from pulsewire.testing import ClusterGroup, FaultProxy, SingleServer, Topology, wait_until
from tests.facts import PATIENCE, Raw, on_one_server
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import Queue

TOPOLOGIES = ["standalone", "cluster"]


@pytest.fixture
def channel(namespace: str) -> str:
    """Where cancellations are said."""
    return f"{namespace}:asynq:cancel"


async def cancel(raw: Raw, channel: str, task_id: str, recorder: Recorder) -> None:
    """Say so until it is heard: a server takes tasks before its subscription stands, as Go's do."""

    async def is_heard() -> bool:
        await raw("", "PUBLISH", channel, task_id)
        return bool(recorder.ended.get(task_id))

    await wait_until(is_heard, timeout=PATIENCE, what=f"task {task_id} was cancelled")


async def test_every_server_hears_it_on_every_node(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    topology: Topology,
    channel: str,
) -> None:
    """Whatever node of a cluster it was said to."""
    recorder.hold()
    async with make_server():
        for number, master in enumerate(await topology.masters()):
            await hub.tasks.enqueue("t", task_id=f"{number}")
            await recorder.wait_runs(1, f"{number}")
            await cancel(
                lambda _, *words, node=master: node.command(*words), channel, f"{number}", recorder
            )
            assert recorder.ended[f"{number}"] == ["cancelled"]
    assert len(recorder.ended) == (3 if isinstance(topology, ClusterGroup) else 1)


async def test_same_id_in_two_queues_is_cancelled_in_both(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, raw: Raw, channel: str
) -> None:
    """In Go only the later one can be reached, and the other one's lease is not renewed (4.8; 7.3, 11)."""
    recorder.hold()
    async with make_server(queues=["default", "other"]):
        for name in ("default", "other"):
            await hub.tasks.enqueue("t", task_id="a", queue=name)
        await recorder.wait_runs(2)
        await cancel(raw, channel, "a", recorder)
        await recorder.wait_ended("a", 2)
    assert recorder.ended == {"a": ["cancelled", "cancelled"]}


@on_one_server
async def test_task_that_has_not_begun_is_cancelled_too(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    raw: Raw,
    channel: str,
    queue: Queue,
) -> None:
    """One that was taken ahead."""
    async with make_server(concurrency=2) as server:
        for _ in range(50):
            await hub.tasks.enqueue("t")
        await queue.wait_empty()  # the attempts were short
        recorder.hold()
        await queue.pending("a", "b", "c")
        held = server._crew.places["default"].held
        await wait_until(lambda: "c" in held, what="one was taken ahead")

        async def is_heard() -> bool:
            await raw("", "PUBLISH", channel, "c")
            return held["c"].reason is not None

        await wait_until(is_heard, timeout=PATIENCE, what="it was heard")
        recorder.release()
        await queue.wait_state("c", "retry")
    assert recorder.count("c") == 0
    assert (await queue.message("c"))["error_msg"] == "context canceled"


@on_one_server
async def test_nonsense_harms_nobody(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, raw: Raw, channel: str
) -> None:
    recorder.hold()
    async with make_server():
        for task_id in ("a", "b"):
            await hub.tasks.enqueue("t", task_id=task_id)
        await recorder.wait_runs(2)
        for nonsense in (b"", b"\xff\xfe", b"x" * 100_000):
            await raw("", "PUBLISH", channel, nonsense)
        await cancel(raw, channel, "a", recorder)
        recorder.release()
        await recorder.wait_ended("b")
    assert recorder.ended == {"a": ["cancelled"], "b": ["returned"]}


@on_one_server
async def test_it_is_heard_again_after_the_connection_was_lost(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    raw: Raw,
    channel: str,
) -> None:
    recorder.hold()
    async with make_server(of=weathered):
        await weathered.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        proxy.cut()
        await cancel(raw, channel, "a", recorder)
        assert recorder.ended == {"a": ["cancelled"]}


async def test_it_is_heard_after_the_server_was_away(fresh_server: SingleServer) -> None:
    recorder = Recorder()
    recorder.hold()
    async with pulsewire.connect(fresh_server.url) as hub, hub.task_server(recorder):
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await fresh_server.restart()

        async def is_heard() -> bool:
            await fresh_server.command("PUBLISH", "asynq:cancel", "a")
            return bool(recorder.ended)

        await wait_until(is_heard, timeout=PATIENCE, what="it was heard")
    assert recorder.ended == {"a": ["cancelled"]}
