"""Semaphores: how many tasks of a kind run at a time, over all servers (spec/asynq.md 6.9)."""

from __future__ import annotations

import anyio
import pytest

import pulsewire
from pulsewire import InvalidName, InvalidOption
from pulsewire.tasks import Task
from pulsewire.testing import FaultProxy, wait_until
from pulsewire.testing.faults import Fault
from tests.facts import Raw, on_one_server, on_two_topologies
from tests.tasks.facts import MakeServer


@on_two_topologies
async def test_no_more_tasks_run_than_there_are_places(
    hub: pulsewire.Hub, watched: pulsewire.Hub, make_server: MakeServer
) -> None:
    """On two servers with room for more; who finds no place is tried again, uncharged, until all have run."""
    running, most, done = 0, 0, list[str]()

    async def work(task: Task) -> None:
        nonlocal running, most
        async with hub.tasks.semaphore("gpu", 2):
            running += 1
            most = max(most, running)
            await anyio.sleep(0.05)
            running -= 1
            assert task.retried == 0
            done.append(task.id)

    async with make_server(work, concurrency=4), make_server(work, of=watched, concurrency=4):
        for number in range(8):
            await hub.tasks.enqueue("t", task_id=str(number), timeout=60.0)
        await wait_until(lambda: len(done) == 8, what="all have run")
    assert sorted(done) == sorted(set(done))
    assert most == 2


@on_one_server
async def test_task_keeps_the_place_it_has(
    hub: pulsewire.Hub, make_server: MakeServer, raw: Raw
) -> None:
    """Its server died before it could give it up: tried again under its id it is not in its own way."""
    answers = list[bool]()
    semaphore = hub.tasks.semaphore("gpu", 1)

    async def work(task: Task) -> None:
        answers.append(await semaphore.acquire())
        if len(answers) == 1:
            raise RuntimeError("as if it had died: nothing is given up")
        answers.append(await semaphore.release())
        answers.append(await semaphore.release())

    async with make_server(work, retry_delay=lambda *_: 0.0):
        await hub.tasks.enqueue("t", timeout=600.0)
        await wait_until(lambda: len(answers) == 4, what="it has run twice")
    assert answers == [True, True, True, False]
    assert await raw(semaphore._key, "EXISTS", semaphore._key) == 0


@on_one_server
async def test_lost_reply_costs_no_place(
    proxy: FaultProxy, namespace: str, make_server: MakeServer
) -> None:
    """Taking a place is sent again, and finds it taken by the same task."""
    answers, faults = list[bool](), list[Fault]()
    async with pulsewire.connect(proxy.url, namespace=namespace) as hub:
        semaphore = hub.tasks.semaphore("gpu", 1)

        async def work(_task: Task) -> None:
            faults.append(proxy.swallow_reply(lambda words: semaphore._key.encode() in words))
            answers.append(await semaphore.acquire())

        async with make_server(work, of=hub):
            await hub.tasks.enqueue("t")
            await wait_until(lambda: bool(answers), what="it was answered")
    assert answers == [True]
    assert [fault.hits for fault in faults] == [1]


@on_one_server
async def test_place_lapses_with_the_deadline_of_its_task(
    hub: pulsewire.Hub, make_server: MakeServer, raw: Raw
) -> None:
    """A place of one whose deadline is over is free; that of one whose deadline is to come is not."""
    semaphore = hub.tasks.semaphore("gpu", 1)
    now = int(await hub.time())
    answers = dict[str, bool]()

    async def work(task: Task) -> None:
        answers[task.type] = await semaphore.acquire()

    async with make_server(work):
        await raw(semaphore._key, "ZADD", semaphore._key, now + 1000, "somebody")
        await hub.tasks.enqueue("early")
        await wait_until(lambda: "early" in answers, what="the first was answered")
        await raw(semaphore._key, "ZADD", semaphore._key, now - 10, "somebody")
        await hub.tasks.enqueue("late")
        await wait_until(lambda: "late" in answers, what="the second was answered")
    assert answers == {"early": False, "late": True}


@on_one_server
async def test_semaphore_is_for_handlers(hub: pulsewire.Hub) -> None:
    """With a name, places, and a task that is being run."""
    semaphore = hub.tasks.semaphore("gpu", 3)
    assert repr(semaphore) == "<Semaphore 'gpu' places=3>"
    for use in (semaphore.acquire, semaphore.release):
        with pytest.raises(InvalidOption, match="no task is being run"):
            await use()
    for places in (0, True, 1.5):
        with pytest.raises(InvalidOption, match="places"):
            hub.tasks.semaphore("gpu", places)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(InvalidName):
        hub.tasks.semaphore("", 1)
