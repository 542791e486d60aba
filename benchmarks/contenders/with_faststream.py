"""FastStream's Redis broker as its documentation shows: `publish` to a stream, and a subscriber in a consumer group.

Its messages have an envelope of its own, so it fills the stream that it drains by itself. It runs in an environment
that has FastStream but not what this repository needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from faststream.redis import RedisBroker, StreamSub

from benchmarks.contenders import contract
from benchmarks.contenders.contract import Measured, Settings

CONSUMER: Final = "faststream"
WORKERS: Final = 100
RECORDS: Final = 100
"""Entries that one read may bring; the workers take them from there."""
BATCH: Final = 1000
LOOK_SECONDS: Final = 0.001


def broker_of(settings: Settings) -> RedisBroker:
    """A broker with a connection for each caller and some to spare, which logs nothing."""
    connections = max(settings.callers, WORKERS) + 10
    return RedisBroker(settings.url, logger=None, max_connections=connections)


async def add(settings: Settings, measured: Measured) -> None:
    """`publish` from many callers, each awaited."""
    body = settings.body
    async with broker_of(settings) as broker:

        def operation() -> Awaitable[object]:
            return publish_to(broker, settings, body)

        await contract.measure_load(operation, settings, measured)


async def publish_to(broker: RedisBroker, settings: Settings, body: bytes) -> None:
    """One event, to a stream that is kept short."""
    await broker.publish(body, stream=settings.key, maxlen=contract.STREAM_LIMIT)


async def publish(settings: Settings, measured: Measured) -> None:
    """The sending half of a latency run."""
    async with broker_of(settings) as broker:

        def add_one(payload: bytes) -> Awaitable[object]:
            return publish_to(broker, settings, payload)

        await contract.publish_spaced(add_one, settings, measured)


def subscribe_to(broker: RedisBroker, settings: Settings, handle: Callable[[Any], None]) -> None:
    """Register the handler for the group. FastStream decodes a body that is JSON, as a time is."""
    source = StreamSub(
        settings.key,
        group=settings.group,
        consumer=CONSUMER,
        max_records=RECORDS,
    )

    async def on_event(body: Any) -> None:
        handle(body)

    broker.subscriber(stream=source, max_workers=WORKERS)(on_event)


async def subscribe(settings: Settings, measured: Measured) -> None:
    """The receiving half of a latency run."""
    done = asyncio.Event()

    def handle(body: int) -> None:
        measured.samples_ms.append(contract.age_ms(body))
        if len(measured.samples_ms) == settings.events + contract.LATENCY_SKIP:
            done.set()

    broker = broker_of(settings)
    subscribe_to(broker, settings, handle)
    async with broker:
        await broker.start()
        await contract.wait_for_go()
        with contract.region(measured):
            await done.wait()
    del measured.samples_ms[: contract.LATENCY_SKIP]
    measured.operations = len(measured.samples_ms)


async def sink(settings: Settings, measured: Measured) -> None:
    """Handle and acknowledge what was published before."""
    done = asyncio.Event()

    def handle(body: bytes) -> None:
        measured.operations += bool(body)
        if measured.operations == settings.events:
            done.set()

    broker = broker_of(settings)
    subscribe_to(broker, settings, handle)
    async with broker:
        client: Any = await broker.connect()
        await fill(broker, client, settings)
        await client.xgroup_create(settings.key, settings.group, id="0")
        await contract.wait_for_go()
        with contract.region(measured):
            await broker.start()
            await done.wait()
            while (await client.xpending(settings.key, settings.group))["pending"]:  # noqa: ASYNC110 - the server says it
                await asyncio.sleep(LOOK_SECONDS)


async def fill(broker: RedisBroker, client: Any, settings: Settings) -> None:
    """Publish so many events, in its own pipelines."""
    for begin in range(0, settings.events, BATCH):
        pipeline = client.pipeline(transaction=False)
        for _ in range(begin, min(begin + BATCH, settings.events)):
            await broker.publish(settings.body, stream=settings.key, pipeline=pipeline)
        await pipeline.execute()


if __name__ == "__main__":
    contract.run({"add": add, "sink": sink, "publish": publish, "subscribe": subscribe})
