"""Plain redis-py (asyncio, hiredis), used as its documentation shows.

Every command is awaited on the client's own pool, one connection for each caller. What a careful
user writes without a library on top: XADD with an approximate length, XREADGROUP with a large COUNT
and one XACK for each event. The roles of maps are in `plain_maps`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from benchmarks.contenders import contract, plain_maps
from benchmarks.contenders.contract import Measured, Settings

CONSUMER = "plain"

Entry = tuple[bytes, dict[bytes, bytes]]


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Redis]:
    """A client whose pool has a connection for each caller and some to spare."""
    client: Redis = Redis.from_url(settings.url, max_connections=settings.callers + 10)
    try:
        yield client
    finally:
        await client.aclose()


def entries_of(reply: Any) -> list[Entry]:
    """The entries of the one stream in a reply to XREAD or XREADGROUP, RESP2 or RESP3."""
    if not reply:
        return []
    if isinstance(reply, dict):
        [entries] = reply.values()
        return list(entries[0]) if entries and isinstance(entries[0], list) else list(entries)
    return list(reply[0][1])


async def add(settings: Settings, measured: Measured) -> None:
    """XADD from many callers, each awaited."""
    fields: dict[Any, Any] = {"n": contract.EVENT_NAME, "p": settings.body}
    async with connect(settings) as client:

        def operation() -> Any:
            return client.xadd(settings.key, fields, maxlen=contract.STREAM_LIMIT, approximate=True)

        await contract.measure_load(operation, settings, measured)


async def read_new(client: Redis, settings: Settings) -> list[Entry]:
    """The next batch of the group, or nothing after the block time."""
    reply = await client.xreadgroup(
        settings.group,
        CONSUMER,
        {settings.key: ">"},
        count=contract.MAX_POLLED,
        block=int(contract.BLOCK_SECONDS * 1000),
    )
    return entries_of(reply)


async def sink(settings: Settings, measured: Measured) -> None:
    """Read in batches, XACK each event: one after the other, or by `callers` tasks at once."""
    async with connect(settings) as client:
        await client.ping()
        await contract.wait_for_go()
        with contract.region(measured):
            await client.xgroup_create(settings.key, settings.group, id="0")
            if settings.callers == 1:
                await ack_in_turn(client, settings, measured)
            else:
                await ack_at_once(client, settings, measured)


async def ack_in_turn(client: Redis, settings: Settings, measured: Measured) -> None:
    """One loop that awaits the XACK of each event."""
    while measured.operations < settings.events:
        for entry_id, _ in await read_new(client, settings):
            await client.xack(settings.key, settings.group, entry_id)
            measured.operations += 1


async def ack_at_once(client: Redis, settings: Settings, measured: Measured) -> None:
    """One reading loop, and as many tasks as there are callers that take events and ack them."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(contract.MAX_POLLED)

    async def work() -> None:
        while (entry_id := await queue.get()) is not None:
            await client.xack(settings.key, settings.group, entry_id)
            measured.operations += 1

    async with asyncio.TaskGroup() as workers:
        for _ in range(settings.callers):
            workers.create_task(work())
        read = 0
        while read < settings.events:
            for entry_id, _ in await read_new(client, settings):
                await queue.put(entry_id)
                read += 1
        for _ in range(settings.callers):
            await queue.put(None)


async def reader(settings: Settings, measured: Measured) -> None:
    """XREAD in batches from the beginning."""
    async with connect(settings) as client:
        await client.ping()
        await contract.wait_for_go()
        with contract.region(measured):
            cursor: bytes = b"0"
            while measured.operations < settings.events:
                reply = await client.xread(
                    {settings.key: cursor},
                    count=contract.MAX_POLLED,
                    block=int(contract.BLOCK_SECONDS * 1000),
                )
                for entry_id, fields in entries_of(reply):
                    if fields[b"n"] == contract.EVENT_NAME.encode():
                        measured.operations += 1
                    cursor = entry_id


async def publish(settings: Settings, measured: Measured) -> None:
    """The sending half of a latency run."""
    async with connect(settings) as client:

        def add_one(payload: bytes) -> Any:
            fields: dict[Any, Any] = {"n": contract.EVENT_NAME, "p": payload}
            return client.xadd(settings.key, fields, maxlen=contract.STREAM_LIMIT, approximate=True)

        await client.ping()
        await contract.publish_spaced(add_one, settings, measured)


async def subscribe(settings: Settings, measured: Measured) -> None:
    """The receiving half of a latency run."""
    async with connect(settings) as client:
        await client.xgroup_create(settings.key, settings.group, id="$", mkstream=True)
        await contract.wait_for_go()
        with contract.region(measured):
            while len(measured.samples_ms) < settings.events + contract.LATENCY_SKIP:
                for entry_id, fields in await read_new(client, settings):
                    measured.samples_ms.append(contract.age_ms(fields[b"p"]))
                    await client.xack(settings.key, settings.group, entry_id)
    del measured.samples_ms[: contract.LATENCY_SKIP]
    measured.operations = len(measured.samples_ms)


if __name__ == "__main__":
    contract.run(
        {
            "add": add,
            "sink": sink,
            "reader": reader,
            "publish": publish,
            "subscribe": subscribe,
            **plain_maps.ROLES,
        }
    )
