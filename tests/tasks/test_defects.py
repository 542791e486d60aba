"""The gaps and defects of asynq (spec/asynq.md 7.2, 7.3): what we do instead, and that the table of it is true.

Most have their test in the file of their room; `docs/tasks-vs-asynq.md` names it. Here is what has no better room.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pulsewire
from pulsewire import DuplicateTask
from pulsewire.tasks import NewTask, TaskState
from tests.facts import on_one_server
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.golang import Go
from tests.tasks.scenes import FAR_AHEAD, LONG_AGO, Queue, misplaced, packed

TOPOLOGIES = ["standalone", "cluster"]
HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "tasks-vs-asynq.md"


def test_every_defect_has_a_line_and_every_test_exists() -> None:
    """Of the document: 1 to 25, and each test that it names."""
    text = TABLE.read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert numbers == list(range(1, 26))
    named = re.findall(r"`(test_\w+)\.(test_\w+)`", text)
    assert len(named) > 25
    missing = [
        f"{room}.{name}"
        for room, name in named
        if f"def {name}(" not in next(HERE.rglob(f"{room}.py")).read_text(encoding="utf-8")
    ]
    assert missing == []


# --- 7.2


async def test_producer_that_dies_after_registering_leaves_an_empty_queue(
    hub: pulsewire.Hub,
) -> None:
    """As in Go: it is listed, and harmless."""
    await hub.tasks.enqueue("t", task_id="a")
    await hub.tasks.inspector.delete_task("default", "a")
    assert await hub.tasks.inspector.queues() == ["default"]
    assert (await hub.tasks.inspector.queue_info("default")).size == 0


async def test_server_that_dies_after_success_has_its_task_run_again(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """As in Go, since nobody else knows of the success; but within the lease, and uncharged."""
    await queue.active("a", owner="dead", lease=LONG_AGO + 0.5, result="written", msg=packed("a"))
    async with make_server():
        await queue.wait_empty()
    assert [(run.id, run.retried) for run in recorder.runs] == [("a", 0)]


# --- 7.3


async def test_member_that_was_run_and_failed_comes_back_to_a_known_group(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """3: Go does not register the group again, so that the task is stuck."""
    recorder.fail(ValueError("boom"))
    await hub.tasks.enqueue("t", task_id="a", group="g")
    assert await Go(queue).run("a")
    async with make_server(retry_delay=lambda *_: 0.0):
        await recorder.wait_runs(1)
        await queue.wait_state("a", "aggregating")
    content = await queue.content()
    assert content["groups"] == {"g"}
    assert misplaced(content) == []


@on_one_server
async def test_archived_task_keeps_its_lock(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """9: as in Go, until its TTL is over or the task is deleted; deleting releases it."""
    recorder.fail(pulsewire.SkipRetry())
    task = NewTask(type="t", unique=1000.0)
    async with make_server():
        await hub.tasks.enqueue(task.with_options(task_id="a"))
        await queue.wait_state("a", "archived")
    with pytest.raises(DuplicateTask):
        await hub.tasks.enqueue(task)
    await hub.tasks.inspector.delete_task("default", "a")
    await hub.tasks.enqueue(task)


@on_one_server
async def test_lock_is_not_prolonged_by_retries(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """10: as in Go: it lives for the seconds that were asked for."""
    recorder.fail(ValueError("boom"))
    await hub.tasks.enqueue("t", task_id="a", unique=100)
    name = queue.keys.lock("t", None).removeprefix(queue.keys.prefix)
    before = (await queue.content())[name]
    async with make_server():
        await queue.wait_state("a", "retry")
    assert (await queue.content())[name] == before


async def test_task_that_was_run_by_an_inspector_has_a_latency(
    hub: pulsewire.Hub, queue: Queue
) -> None:
    """18: Go does not note since when it is pending."""
    await hub.tasks.enqueue("t", task_id="first")  # the queue is known now
    await queue.later("archived", "a", score=FAR_AHEAD)
    async with queue.window() as window:
        await hub.tasks.inspector.run_task("default", "a")
    assert (await queue.content())["t:a"]["pending_since"] == window.stamp()
    info = await hub.tasks.inspector.task("default", "a")
    assert info.state is TaskState.PENDING
