"""Everything that a program does with each block, once: what rights, certificates and passwords must suffice for.

Called with a URL whose user may not run INFO, KEYS, CONFIG or SCAN; that these are refused is checked on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import anyio
import pytest

import pulsewire
from pulsewire.pool import Plan
from pulsewire.tasks import Inspector, NewTask, Retry, SkipRetry, Task, TaskState
from pulsewire.testing import wait_until

__all__ = ["USES"]


async def use_streams(url: str) -> None:
    """Everything that a publisher and a consumer do."""
    async with pulsewire.connect(url, namespace="shop") as hub:
        assert await hub.ping() > 0
        orders, brief = hub.stream("orders", max_len=10), hub.stream("brief", ttl=60)
        await brief.add("seen", b"")
        ids = await orders.add_many([("paid", b"1")] * 30)
        once = await orders.add("paid", b"2", idempotency_key="2")
        assert await orders.add("paid", b"2", idempotency_key="2") == once
        sink = orders.sink("mailer", start="oldest", ack_grace=0.2, max_deliveries=1)
        async with sink as mailer, orders.reader(start="oldest") as reader:
            assert [event.id for event in await reader.read(max=31)] == [*ids, once][:31]
            taken = 0
            async for event in mailer:
                taken += 1
                if taken < 31:
                    await event.ack()  # the last one comes again and becomes a dead letter
                if taken == 31:
                    break
        assert (await orders.info()).memory_bytes is None
        assert await orders.trim() >= 0
        assert await orders.remove(once) == 1
        with pytest.raises(pulsewire.PermissionDenied, match="SCAN"):
            await hub.streams()
        assert await orders.destroy()
        assert await brief.destroy()


async def use_maps(url: str) -> None:
    """Everything that a program does with a map."""
    async with pulsewire.connect(url, namespace="shop") as hub:
        flags, brief = hub.map("flags"), hub.map("brief", sliding_ttl=60.0)
        async with flags, brief:
            await flags.set_and_wait("beta", "on")
            assert await flags.inc("visits") == 1
            assert await flags.append_unique_values("groups", "eu", "us") == ["eu", "us"]
            assert await flags.remove_values("groups", "eu", "us")
            assert await flags.test_and_set("beta", "on", "off")
            assert await flags.delete("visits") == "1"
            assert await flags.fetch("beta") == "off"
            await brief.set_and_wait("a", "1")
            info = await brief.info()
            assert (info.entries, info.replicas, info.memory_bytes) == (1, 1, None)
            many = {f"key:{number}": "" for number in range(100)}  # so that records are tidied up
            await flags.set_many(many)
            await wait_until(lambda: flags.keys() >= many.keys(), what="all keys have come")
            await wait_until(lambda: flags.stale_for < 0.2, what="the revision was compared")
            with pytest.raises(pulsewire.PermissionDenied, match="SCAN"):
                await hub.maps()
            await flags.reset()
            await flags.destroy()
            await brief.destroy()
            assert flags.statistics().cuts == 0
        assert await flags.forget()
        assert await brief.forget()


async def run_forever(job: pulsewire.Job) -> None:
    """A job that reports, and lives until it is stopped."""
    await job.heartbeat("begun")
    await anyio.sleep_forever()


class Producer:
    """Wants one job once."""

    name = "producer"

    async def plan(self) -> Plan:
        """What is wanted."""
        return Plan(start=[("planned", b"")])


async def use_pools(url: str) -> None:
    """Everything that nodes do: dispatch, run, move, take over, tick, plan, stop, shut down."""
    async with pulsewire.connect(url, namespace="shop") as hub:
        async with (
            hub.node("emails", worker_ttl=1.0) as node,
            hub.node("emails", worker_ttl=1.0) as other,
            hub.node("emails", client_only=True) as client,
        ):
            worker = await node.add_worker(run_forever)
            for number in range(8):
                await client.dispatch(f"user:{number}", b"x")
            await client.notify("user:0", b"x")
            node.schedule(Producer(), every=60.0)
            async for _ in other.ticker("tick", every=0.05):
                break
            await other.add_worker(run_forever)
            await client.drain(worker.id)
            await wait_until(lambda: len(worker) == 0, what="the jobs have moved")
            await client.stop_job("user:0")
            await wait_until(lambda: len(other.workers[0]) == 8, what="the planned job runs")
            assert {job.owner for job in await client.jobs()} == {other.workers[0].id}
            with pytest.raises(pulsewire.PermissionDenied, match="SCAN"):
                await hub.pools()
            await client.shutdown()
            assert await client.jobs() == ()


class Handler:
    """Counts what it runs; does what the type of a task says."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()

    async def __call__(self, task: Task) -> None:
        """Run a task."""
        await task.write_result(b"42")
        self.runs[task.type] += 1
        if task.type == "fail" and not task.retried:
            raise Retry(after=0.0)
        if task.type == "give-up":
            raise SkipRetry
        if task.type == "long":
            await anyio.sleep_forever()


async def combine(group: str, tasks: list[Task]) -> NewTask:
    """Make one task of a group."""
    return NewTask(type=f"{len(tasks)} of {group}")


async def use_tasks(url: str) -> None:
    """Everything that clients, servers, schedulers and inspectors do."""
    async with pulsewire.connect(url, namespace="shop") as hub:
        client = hub.tasks
        await client.enqueue("kept", b"x", unique=60.0, retention=60.0, task_id="kept")
        await client.enqueue("later", b"x", process_in=0.5)
        await client.enqueue("long", task_id="long")
        new = [NewTask(type=name) for name in ("fail", "give-up", *["many"] * 200)]
        assert not any(isinstance(one, Exception) for one in await client.enqueue_many(new))
        for text in ("one", "two"):
            await client.enqueue("line", text, group="ada", unique=60.0)
        await run_tasks(hub)
        for number in range(4):
            await client.enqueue("idle", queue="low", process_in=60.0, task_id=f"{number}")
        await inspect_tasks(client.inspector)


async def run_tasks(hub: pulsewire.Hub) -> None:
    """Run all that was enqueued, and something periodic."""
    inspector, handler = hub.tasks.inspector, Handler()
    scheduler = hub.scheduler(heartbeat_interval=0.2)
    entry = scheduler.register("@every 1s", NewTask(type="tick"))
    server = hub.task_server(
        handler, aggregator=combine, group_max_size=2, forward_interval=0.1, janitor_interval=0.1
    )

    async def is_cancelled() -> bool:
        await inspector.cancel("long")  # nobody hears it before the server has subscribed
        return (await inspector.task("default", "long")).state is TaskState.RETRY

    async def is_shown() -> bool:
        return bool(await inspector.servers()) and bool(await inspector.scheduler_entries())

    wanted = {"kept", "later", "fail", "give-up", "2 of ada", "tick"}
    async with server, scheduler:
        await wait_until(lambda: handler.runs["long"] > 0, what="the task to cancel runs")
        await wait_until(is_cancelled, what="the server has heard that it shall cancel the task")
        await wait_until(lambda: handler.runs.keys() >= wanted, what="all kinds of tasks have run")
        await wait_until(lambda: handler.runs["many"] == 200, what="all tasks have run")
        await wait_until(lambda: handler.runs["fail"] == 2, what="the failed one was tried again")
        await wait_until(is_shown, what="the server and the periodic task are shown")
        assert await inspector.enqueue_events(entry)


async def inspect_tasks(inspector: Inspector) -> None:
    """Look and intervene."""
    info = await inspector.queue_info("default")
    assert (info.completed, info.retry, info.archived, info.memory) == (1, 1, 1, None)
    assert (await inspector.history("default", 2))[0].processed == info.processed
    assert (await inspector.task("default", "kept")).result == b"42"
    await inspector.pause("low")
    await inspector.unpause("low")
    await inspector.run_task("low", "0")
    await inspector.archive_task("low", "1")
    await inspector.delete_task("low", "2")
    assert await inspector.archive_all("low", "scheduled") == 1
    assert await inspector.run_all("low", "archived") == 2
    assert len(await inspector.tasks("low", "pending")) == 3
    with pytest.raises(pulsewire.PermissionDenied):
        await inspector.redis_info()
    for queue in await inspector.queues():
        await inspector.remove_queue(queue, force=True)
    assert await inspector.queues() == []


USES: dict[str, Callable[[str], Awaitable[None]]] = {
    "streams": use_streams,
    "maps": use_maps,
    "pools": use_pools,
    "tasks": use_tasks,
}
