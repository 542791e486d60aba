"""Hooks that raise: what is told about them, and that the work goes on."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Event, Hooks, Job
from pulsewire._core.hooks import NO_HOOKS, guarded
from pulsewire.tasks import Task
from pulsewire.testing import Topology, wait_until
from tests.facts import PATIENCE, Said, on_one_server

METHODS = [name for name in vars(Hooks) if not name.startswith("_")]


class Raising(Hooks):
    """A metrics adapter with a bug in every method.

    Attributes:
        called: the methods that were called, with their arguments.
    """

    def __init__(self) -> None:
        self.called: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def names(self) -> set[str]:
        """The methods that were called."""
        return {name for name, _, _ in self.called}


def _raising(name: str) -> Any:
    def tell(self: Raising, *arguments: Any, **named: Any) -> None:
        self.called.append((name, arguments, named))
        raise ZeroDivisionError(name)

    return tell


for _name in METHODS:
    setattr(Raising, _name, _raising(_name))


def arguments_of(name: str) -> tuple[list[str], dict[str, str]]:
    """Some for a hook, by position and by name."""
    parameters = list(inspect.signature(getattr(Hooks, name)).parameters.values())[1:]
    by_name = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    return [one.name for one in parameters if one.name not in by_name], {
        one: one for one in by_name
    }


@pytest.mark.parametrize("name", METHODS)
def test_hook_that_raises_is_logged_once(name: str) -> None:
    """It is called each time, with all that it is told."""
    said, hooks = Said(), Raising()
    guard = guarded(hooks, said.logger())
    arguments, named = arguments_of(name)
    for _ in range(3):
        getattr(guard, name)(*arguments, **named)
    assert hooks.called == [(name, tuple(arguments), named)] * 3
    (record,) = said.records
    assert record.levelno == logging.ERROR
    assert vars(record)["hook"] == name
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_each_hook_is_logged() -> None:
    said = Said()
    guard = guarded(Raising(), said.logger())
    guard.worker_joined("pool", "worker")
    guard.job_started("pool", "key", "worker")
    guard.worker_joined("pool", "worker")
    assert [vars(record)["hook"] for record in said.records] == ["worker_joined", "job_started"]


def test_hook_that_ends_the_program_ends_it() -> None:
    """Only errors are kept from those who tell a fact."""

    class Ending(Hooks):
        def map_expired(self, name: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(Ending(), logging.getLogger()).map_expired("m")


def test_no_hooks_need_no_guard() -> None:
    assert guarded(NO_HOOKS, logging.getLogger()) is NO_HOOKS


@pytest.mark.leaves_keys("asynq:*", "map:*", "pool:*")
@on_one_server
async def test_work_goes_on_whatever_hooks_raise(topology: Topology, namespace: str) -> None:
    """All four blocks, in a hub whose hooks all raise."""
    said, hooks = Said(), Raising()
    handled: list[str] = []
    failing = {"event-0", "job", "task-0"}

    def handle(name: str) -> None:
        handled.append(name)
        if name in failing:
            failing.discard(name)
            raise ValueError(f"{name} fails once")

    async def on_event(event: Event) -> None:
        handle(event.name)

    async def on_task(task: Task) -> None:
        handle(task.id)

    async def on_job(job: Job) -> None:
        handle("job")
        await anyio.sleep_forever()

    async with pulsewire.connect(
        topology.url, namespace=namespace, hooks=hooks, logger=said.logger()
    ) as hub:
        stream = hub.stream("s")
        for number in range(3):
            await stream.add(f"event-{number}", b"")
        async with stream.sink("k", start="oldest", ack_grace=0.3) as sink:
            consuming = asyncio.create_task(sink.consume(on_event))
            await wait_until(
                lambda: sink.statistics().acked == 3, timeout=PATIENCE, what="all are acknowledged"
            )
            sink.stop()
            await consuming
        await stream.destroy()
        async with hub.map("m") as replica:
            await replica.set("a", "1")
            assert await replica.get_or_load("b", _load) == "2"
            await replica.destroy()
        options: dict[str, Any] = {"retry_delay": lambda *_: 0.0, "forward_interval": 0.05}
        async with hub.task_server(on_task, concurrency=2, **options):
            for number in range(5):
                await hub.tasks.enqueue("t", task_id=f"task-{number}")
            await wait_until(
                lambda: len([one for one in handled if one.startswith("task")]) == 6,
                timeout=PATIENCE,
                what="all tasks were run, one of them twice",
            )
        info = await hub.tasks.inspector.queue_info("default")
        assert (info.processed, info.failed, info.active) == (6, 1, 0)
        async with hub.node("p", worker_ttl=2.0) as node:
            await node.add_worker(on_job)
            await node.dispatch("job")
            await wait_until(lambda: handled.count("job") == 2, timeout=PATIENCE, what="it ran")
            await node.stop_job("job")
    assert hooks.names() >= {
        "connection_opened",
        *("events_delivered", "events_acked", "handler_failed", "events_claimed"),
        "map_synced",
        *("task_enqueued", "task_started", "task_ended"),
        *("worker_joined", "job_started", "job_ended", "job_failed"),
    }
    failed = [vars(record)["hook"] for record in said.records if hasattr(record, "hook")]
    assert sorted(failed) == sorted(hooks.names())


async def _load() -> str:
    return "2"
