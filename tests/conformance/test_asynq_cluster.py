"""asynq's tutorial on Redis Cluster, with a client and a worker of different languages, on a real cluster.

Three queues, which live on the nodes that their slots belong to; the tutorial shows which slots these are.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import pulsewire
from pulsewire.tasks import Mux, NewTask, Task
from pulsewire.testing import ClusterGroup, wait_until
from tests.conformance.asynq_programs import PATIENCE, Programs, payload_of
from tests.conformance.asynq_scenes import SLOTS
from tests.conformance.asynq_worker import Handling, joined

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]  # the first run downloads

TASKS = [
    NewTask(type="notifications:email", payload='{"to":123,"from":456}', queue="notifications"),
    NewTask(type="webhooks:sync", payload='{"data":123}', queue="webhooks"),
    NewTask(type="images:resize", payload='{"src":"some/path/to/image"}', queue="images"),
]


@pytest.fixture
async def cluster_hub(cluster_programs: Programs) -> AsyncIterator[pulsewire.Hub]:
    async with pulsewire.connect(cluster_programs.url) as hub:
        yield hub


async def test_a_worker_of_ours_serves_a_client_of_go(
    cluster_programs: Programs, cluster_hub: pulsewire.Hub
) -> None:
    """The tutorial, its worker in Python."""
    infos = await cluster_programs.enqueue(*TASKS)
    assert [(info["Queue"], info["State"]) for info in infos] == [
        (task.queue, "pending") for task in TASKS
    ]
    handled: list[tuple[str, Any]] = []
    mux = Mux()

    @mux.handle("notifications:email")
    async def email(task: Task) -> None:
        handled.append((task.queue, json.loads(task.payload)))

    @mux.handle("webhooks:sync")
    async def sync(task: Task) -> None:
        handled.append((task.queue, json.loads(task.payload)))

    @mux.handle("images:")
    def resize(task: Task) -> None:
        handled.append((task.queue, json.loads(task.payload)))

    async with cluster_hub.task_server(mux, queues=SLOTS.keys(), concurrency=20):
        await wait_until(lambda: len(handled) == 3, timeout=PATIENCE, what="all three ran")
        await wait_until(_is_drained(cluster_programs), timeout=PATIENCE, what="they are done")
    assert sorted(handled, key=str) == sorted(
        ((task.queue, json.loads(str(task.payload))) for task in TASKS), key=str
    )


async def test_a_worker_of_go_serves_a_client_of_ours(
    cluster_programs: Programs, cluster_hub: pulsewire.Hub
) -> None:
    """The other way round, with a result for each."""
    tasks = [
        task.with_options(type=f"result:{task.type}", task_id=task.queue, retention=600.0)
        for task in TASKS
    ]
    infos = await cluster_hub.tasks.enqueue_many(tasks)
    assert not [info for info in infos if isinstance(info, Exception)]
    async with cluster_programs.go_server(queues=dict.fromkeys(SLOTS, 1), concurrency=20) as go:
        await go.facts.heard("ended", count=3)
        await wait_until(_is_drained(cluster_programs), timeout=PATIENCE, what="they are done")
    for task in tasks:
        seen = await cluster_hub.tasks.inspector.task(task.queue, task.queue)
        assert (seen.state, seen.result) == ("completed", str(task.payload).encode())
    assert {fact["queue"]: payload_of(fact) for fact in go.facts.of("begun")} == {
        task.queue: str(task.payload).encode() for task in tasks
    }


async def test_queues_are_where_the_tutorial_says(
    cluster_programs: Programs, cluster_hub: pulsewire.Hub, cluster_group: ClusterGroup
) -> None:
    """Their slots, and the nodes with them: Go's inspector and ours agree."""
    for queue, slot in SLOTS.items():
        placement = await cluster_hub.tasks.inspector.placement(queue)
        assert await cluster_programs.inspect("ClusterKeySlot", queue) == placement.slot == slot
        nodes = await cluster_programs.inspect("ClusterNodes", queue)
        assert [(node["ID"], node["Addr"]) for node in nodes] == [
            (node.id, node.address) for node in placement.nodes
        ]
        owner = await cluster_group.owner_of(slot)
        assert [node.role for node in placement.nodes] == ["master", "replica"]
        assert placement.nodes[0].address == f"{owner.host}:{owner.port}"


@pytest.mark.parametrize("enqueuer", ["go", "ours"])
async def test_options_mean_the_same_on_a_cluster(
    cluster_programs: Programs, cluster_hub: pulsewire.Hub, enqueuer: str
) -> None:
    """A retry, a task for later, a lock, a group, a task that is given up: on each of the queues."""
    told: list[dict[str, Any]] = []
    tasks = []
    for queue in SLOTS:
        base = NewTask(type="note:it", payload=queue, queue=queue)
        tasks += [
            base.with_options(type="once:it", task_id="retried"),
            base.with_options(task_id="later", process_in=1.0),
            base.with_options(type="result:it", task_id="locked", unique=600.0, retention=600.0),
            base.with_options(type="skip:it", task_id="given up"),
            *(base.with_options(task_id=f"member {n}", group="g") for n in range(3)),
        ]

    async def is_over() -> bool:
        for queue in SLOTS:
            info = await cluster_programs.inspect("GetQueueInfo", queue)
            if (info["Size"], info["Completed"], info["Archived"]) != (3, 2, 1):
                return False
        return True

    if enqueuer == "go":
        assert not [info for info in await cluster_programs.enqueue(*tasks) if "error" in info]
        async with cluster_hub.task_server(
            Handling("ours", told.append),
            queues=SLOTS.keys(),
            retry_delay=lambda *_: 0.0,
            aggregator=joined,
            group_max_size=3,
            group_grace=1.0,
        ):
            await wait_until(is_over, timeout=PATIENCE, what="all has become what it should")
    else:
        await cluster_hub.tasks.enqueue_many(tasks)
        async with cluster_programs.go_server(
            queues=dict.fromkeys(SLOTS, 1), group_size=3
        ) as program:
            await wait_until(is_over, timeout=PATIENCE, what="all has become what it should")
            told = program.facts.of("begun")
    for queue in SLOTS:
        begun = [fact for fact in told if fact["event"] == "begun" and fact["queue"] == queue]
        assert [fact["retried"] for fact in begun if fact["id"] == "retried"] == [0, 1]
        [bundle] = [fact for fact in begun if fact["type"] == "note:g"]
        assert payload_of(bundle) == b",".join([queue.encode()] * 3)
        info = await cluster_programs.inspect("GetQueueInfo", queue)
        assert (info["Processed"], info["Failed"]) == (6, 2)


def _is_drained(programs: Programs) -> Any:
    async def is_drained() -> bool:
        infos = [await programs.inspect("GetQueueInfo", queue) for queue in SLOTS]
        return not any(info["Pending"] + info["Active"] for info in infos)

    return is_drained
