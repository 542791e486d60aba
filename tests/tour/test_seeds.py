"""What the seed documents show in Go or in words, said in Python: see `docs/seeds.md` for where the rest is shown.

Public names only. The numbers are lines of that page.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import pytest

import pulsewire
from pulsewire import Hub
from pulsewire.tasks import Mux, Task
from pulsewire.testing import FaultProxy, wait_until

on_two_topologies = pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)
PATIENCE = 15.0
SHORT = 0.05
"""Seconds. By default a read waits for 2 s at least: then twelve would take longer than `PATIENCE`."""


@pytest.fixture
async def shop(proxy: FaultProxy, namespace: str) -> AsyncIterator[Hub]:
    """A hub whose commands the proxy counts; its streams end with the test."""
    async with pulsewire.connect(proxy.url, namespace=namespace) as hub:
        yield hub
        for name in await hub.streams():
            await hub.stream(name).destroy()


async def wait_reads(proxy: FaultProxy, command: str, number: int) -> None:
    """Until the server was asked so often for events, though there are none."""
    await wait_until(
        lambda: proxy.statistics().commands.get(command, 0) >= number,
        timeout=PATIENCE,
        what=f"{number} {command}",
    )


# --- Pulse guide, 24, 25: WithReaderBlockDuration, WithSinkBlockDuration


async def test_block_says_how_long_a_reader_waits_at_the_server(
    shop: Hub, proxy: FaultProxy
) -> None:
    """Then it asks again."""
    async with shop.stream("events").reader(block=SHORT), anyio.create_task_group():
        await wait_reads(proxy, "XREAD", 12)


async def test_block_says_how_long_a_sink_waits_at_the_server(shop: Hub, proxy: FaultProxy) -> None:
    async with (
        shop.stream("events").sink("mailer", block=SHORT) as sink,
        anyio.create_task_group() as tasks,
    ):

        async def consume() -> None:
            async for event in sink:
                await event.ack()

        tasks.start_soon(consume)
        await wait_reads(proxy, "XREADGROUP", 12)
        sink.stop()


@on_two_topologies
async def test_read_comes_back_with_nothing_after_its_timeout(hub: Hub) -> None:
    """Whatever `block` is: this is what Go's Read does with a block duration."""
    events = hub.stream("events", ttl=60.0)
    async with events.reader() as reader, events.sink("mailer") as sink:
        with anyio.fail_after(PATIENCE):
            assert await reader.read(timeout=SHORT) == []
            assert await sink.read(timeout=SHORT) == []


# --- Pulse guide, 45: streaming.WithStartID("0")


@on_two_topologies
async def test_replay_from_id_zero_sees_all(hub: Hub) -> None:
    orders = hub.stream("orders", ttl=60.0)
    for name in ("order.created", "order.paid", "order.shipped"):
        await orders.add(name, b"{}")
    async with orders.reader(start="0", follow=False) as replay:
        assert [event.name async for event in replay] == [
            "order.created",
            "order.paid",
            "order.shipped",
        ]


# --- Pulse guide, 55: WithSinkMaxPolled


async def test_max_polled_bounds_one_read_of_a_sink(shop: Hub, proxy: FaultProxy) -> None:
    events = shop.stream("events")
    await events.add_many([(str(number), b"") for number in range(100)])
    found: list[str] = []
    async with events.sink("mailer", start="oldest", max_polled=10) as sink:
        with anyio.fail_after(PATIENCE):
            while len(found) < 100:
                taken = await sink.read(max=100)
                assert len(taken) <= 10
                found += [event.name for event in taken]
                await sink.ack(*taken)
    assert found == [str(number) for number in range(100)]
    assert proxy.statistics().commands["XREADGROUP"] >= 10


# --- asynq on Redis Cluster: the article's own queues, types and payloads

ARTICLE = {
    "notificaciones": ("notificaciones:email", {"para": 123, "de": 456}),
    "webhooks": ("webhooks:sync", {"datos": 123}),
    "imágenes": ("imágenes:resize", {"src": "alguna/ruta/a/imagen"}),
}
"""Queue -> type and payload."""


@on_two_topologies
async def test_queues_and_types_may_have_any_letters(hub: Hub) -> None:
    """Three queues of the same priority, twenty places, a handler for each type."""
    handled: dict[str, object] = {}
    mux = Mux()

    async def handle(task: Task) -> None:
        handled[task.type] = json.loads(task.payload)

    for queue, (kind, payload) in ARTICLE.items():
        mux.handle(kind)(handle)
        placed = await hub.tasks.enqueue(kind, json.dumps(payload), queue=queue)
        assert placed.queue == queue
    assert set(await hub.tasks.inspector.queues()) == set(ARTICLE)
    async with hub.task_server(mux, queues=dict.fromkeys(ARTICLE, 1), concurrency=20):
        await wait_until(lambda: len(handled) == len(ARTICLE), what="all three are handled")
    assert handled == dict(ARTICLE.values())
    for queue in ARTICLE:
        await hub.tasks.inspector.remove_queue(queue, force=True)
