"""pulsewire itself, through its public names only. The roles of maps and pools are in `ours_maps`, `ours_pools`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pulsewire
from benchmarks.contenders import contract, ours_maps, ours_pools
from benchmarks.contenders.contract import Measured, Settings
from pulsewire import Event, Stream

UNTRIMMED = 100_000_000
"""Stream length for the paths that read what was loaded before."""


@asynccontextmanager
async def opened(settings: Settings, max_len: int = contract.STREAM_LIMIT) -> AsyncIterator[Stream]:
    """The stream of the settings, on a connection of its own."""
    async with pulsewire.connect(settings.url) as hub:
        if settings.retain == "none":
            yield hub.stream(settings.stream, max_len=max_len, retain="none")
        else:
            yield hub.stream(settings.stream, max_len=max_len)


async def add(settings: Settings, measured: Measured) -> None:
    """`add` from many callers, each awaited."""
    body = settings.body
    async with opened(settings) as stream:

        def operation() -> Awaitable[object]:
            return stream.add(contract.EVENT_NAME, body)

        await contract.measure_load(operation, settings, measured)


async def sink(settings: Settings, measured: Measured) -> None:
    """Read and acknowledge, until the group has nothing pending."""
    async with opened(settings, UNTRIMMED) as stream:
        await contract.wait_for_go()
        with contract.region(measured):
            if settings.way == "consume":
                await consume(stream, settings, measured)
            else:
                await iterate(stream, settings, measured)


async def consume(stream: Stream, settings: Settings, measured: Measured) -> None:
    """A handler that is given `callers` events at a time."""
    async with stream.sink(settings.group, start="oldest") as source:

        async def handle(event: Event) -> None:
            measured.operations += bool(event.payload)
            if measured.operations == settings.events:
                source.stop()

        await source.consume(handle, concurrency=settings.callers)
        await wait_acknowledged(stream)


async def iterate(stream: Stream, settings: Settings, measured: Measured) -> None:
    """`async for` with an awaited `ack` for each event."""
    async with stream.sink(settings.group, start="oldest") as source:
        async for event in source:
            await event.ack()
            measured.operations += 1
            if measured.operations == settings.events:
                break
        await wait_acknowledged(stream)


async def wait_acknowledged(stream: Stream) -> None:
    """Return when no group of the stream has anything pending."""
    while True:
        groups = (await stream.info()).groups
        if not any(group.pending for group in groups):
            return


async def reader(settings: Settings, measured: Measured) -> None:
    """Everything that is in the stream, event by event or in lists."""
    async with opened(settings, UNTRIMMED) as stream:
        await contract.wait_for_go()
        with contract.region(measured):
            async with stream.reader(start="oldest", follow=False) as source:
                if settings.way == "read":
                    while events := await source.read(max=contract.MAX_POLLED, timeout=1.0):
                        measured.operations += len(events)
                        if measured.operations >= settings.events:
                            break
                else:
                    async for event in source:
                        if event.name == contract.EVENT_NAME:
                            measured.operations += 1


async def publish(settings: Settings, measured: Measured) -> None:
    """The sending half of a latency run."""
    async with opened(settings) as stream:

        def add_one(payload: bytes) -> Awaitable[object]:
            return stream.add(contract.EVENT_NAME, payload)

        await contract.publish_spaced(add_one, settings, measured)


async def subscribe(settings: Settings, measured: Measured) -> None:
    """The receiving half of a latency run."""
    async with opened(settings) as stream, stream.sink(settings.group) as source:

        async def handle(event: Event) -> None:
            measured.samples_ms.append(contract.age_ms(event.payload))
            if len(measured.samples_ms) == settings.events + contract.LATENCY_SKIP:
                source.stop()

        await contract.wait_for_go()
        with contract.region(measured):
            await source.consume(handle)
    del measured.samples_ms[: contract.LATENCY_SKIP]
    measured.operations = len(measured.samples_ms)


async def idle(settings: Settings, measured: Measured) -> None:
    """One sink and one reader that wait for events until the second signal."""
    async with (
        opened(settings) as stream,
        stream.sink(settings.group) as consumer,
        stream.reader() as watcher,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(consumer.consume(ignore))
        watching = group.create_task(watcher.read(timeout=3600.0))
        await contract.wait_for_go()
        with contract.region(measured):
            await asyncio.get_running_loop().run_in_executor(None, input)
        consumer.stop()
        watching.cancel()
    measured.operations = 1


async def ignore(_event: Event) -> None:
    """A handler for events that never come."""


if __name__ == "__main__":
    contract.run(
        {
            "add": add,
            "sink": sink,
            "reader": reader,
            "publish": publish,
            "subscribe": subscribe,
            "idle": idle,
            **ours_maps.ROLES,
            **ours_pools.ROLES,
        }
    )
