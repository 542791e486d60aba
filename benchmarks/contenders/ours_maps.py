"""The map roles of pulsewire, through its public names only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pulsewire
from benchmarks.contenders import contract
from benchmarks.contenders.contract import Measured, Role, Settings
from pulsewire.rmap import ReplicatedMap

STATEMENTS: Final = {"index": "source[key]", "get": "source.get(key)"}


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[ReplicatedMap[str]]:
    """The map of the settings on a connection of its own: joined, unless the way says otherwise."""
    async with pulsewire.connect(settings.url) as hub:
        source = hub.map(settings.stream)
        if settings.way == "unjoined":
            yield source
        else:
            async with source:
                yield source


async def read(settings: Settings, measured: Measured) -> None:
    """A read from memory."""
    async with opened(settings) as source:
        await fill(source, settings)
        await contract.measure_reads(STATEMENTS[settings.way], source, settings, measured)


async def fetch(settings: Settings, measured: Measured) -> None:
    """The same value from the server: one round trip."""
    async with opened(settings) as source:
        await fill(source, settings)

        def operation() -> Awaitable[object]:
            return source.fetch("key-0")

        await contract.measure_load(operation, settings, measured)


async def fill(source: ReplicatedMap[str], settings: Settings) -> None:
    """Store all keys, and wait until the replica has them."""
    value = settings.body.decode()
    await source.set_many({f"key-{index}": value for index in range(contract.MAP_KEYS)})
    await source.set_and_wait("key-0", value)


async def write(settings: Settings, measured: Measured) -> None:
    """`set` from many callers, each awaited."""
    keys, value = contract.map_keys(), settings.body.decode()
    async with opened(settings) as source:

        def operation() -> Awaitable[object]:
            return source.set(next(keys), value)

        await contract.measure_load(operation, settings, measured)


async def increment(settings: Settings, measured: Measured) -> None:
    """`inc` from many callers, each awaited."""
    keys = contract.map_keys()
    async with opened(settings) as source:

        def operation() -> Awaitable[object]:
            return source.inc(next(keys))

        await contract.measure_load(operation, settings, measured)


async def publish(settings: Settings, measured: Measured) -> None:
    """The sending half of a latency run. Each value has a key of its own, so that no change is joined with another."""
    keys = contract.latency_keys()
    async with opened(settings) as source:

        def set_one(payload: bytes) -> Awaitable[object]:
            return source.set(next(keys), payload.decode())

        await contract.publish_spaced(set_one, settings, measured)


async def watch(settings: Settings, measured: Measured) -> None:
    """The receiving half of a latency run."""
    async with opened(settings) as source:
        changes = source.changes()
        await contract.wait_for_go()
        with contract.region(measured):
            async for change in changes:
                measured.samples_ms.append(contract.age_ms(change.new or ""))
                if len(measured.samples_ms) == settings.events + contract.LATENCY_SKIP:
                    break
    del measured.samples_ms[: contract.LATENCY_SKIP]
    measured.operations = len(measured.samples_ms)


async def hear(settings: Settings, measured: Measured) -> None:
    """Take in so many notices: as a replica only, or with a watcher that sees each change."""
    async with opened(settings) as source:
        changes = source.changes()
        await contract.wait_for_go()
        with contract.region(measured):
            if settings.way == "changes":
                async for change in changes:
                    if change.key == contract.LAST_KEY:
                        break
            else:
                del changes
                await source.wait_for_revision(settings.events)
        snapshots = source.statistics().snapshots
    if snapshots != 1:
        raise SystemExit(f"{snapshots - 1} resyncs during the run")
    measured.operations = settings.events


async def fleet(settings: Settings, measured: Measured) -> None:
    """Join many maps in which nothing happens."""
    async with pulsewire.connect(settings.url) as hub, AsyncExitStack() as joined:

        async def join() -> None:
            for index in range(settings.maps):
                await joined.enter_async_context(hub.map(f"{settings.stream}-{index}"))

        await contract.measure_fleet(join, measured)


ROLES: Final[Mapping[str, Role]] = {
    "map-read": read,
    "map-fetch": fetch,
    "map-set": write,
    "map-inc": increment,
    "map-publish": publish,
    "map-watch": watch,
    "map-hear": hear,
    "map-fleet": fleet,
}
