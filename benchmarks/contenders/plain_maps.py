"""Maps with plain redis-py: the scripts of pulsewire over EVALSHA, a dict, and one pub/sub connection.

What a careful user writes without a library on top. It writes exactly what pulsewire writes, request
records included, since it runs the same scripts; its replica has no check against lost messages.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from benchmarks.contenders import contract
from benchmarks.contenders.contract import Measured, Role, Settings
from pulsewire._redis.scripts import Script
from pulsewire.rmap.store import INC, SET

STATEMENTS: Final = {"index": "source[key]", "get": "source.get(key)"}
LENGTH: Final = struct.Struct("<i")
NO_TTL: Final = (0, 0)
KEEP_MS: Final = 600_000


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Redis]:
    """A client whose pool has a connection for each caller and some to spare."""
    client: Redis = Redis.from_url(settings.url, max_connections=settings.callers + 10)
    try:
        for script in (SET, INC):
            await client.script_load(script.text)
        yield client
    finally:
        await client.aclose()


class Writer:
    """Runs the scripts; each write has a request number, as in pulsewire."""

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._client = client
        self._keys = (settings.content, f"pulsewire:{{{settings.content}}}:writer:plain")
        self._options = (settings.updates, "PUBLISH", *NO_TTL, KEEP_MS)
        self._requests = itertools.count(1)

    def run(self, script: Script, *arguments: str | bytes | int) -> Awaitable[Any]:
        """One write."""
        return self._client.evalsha(
            script.sha, 2, *self._keys, *self._options, next(self._requests), *arguments
        )

    def set(self, key: str, value: bytes) -> Awaitable[Any]:
        """Store a value."""
        return self.run(SET, key, value, "always", "")

    async def sign_off(self) -> None:
        """Have the server forget the request records."""
        await self._client.unlink(self._keys[1])


def apply(content: dict[str, str], message: bytes) -> str:
    """Take a notice in; the key that was set."""
    verb, _, body = message.partition(b":")
    if verb != b"set":
        raise ValueError(message)
    (length,) = LENGTH.unpack_from(body, 0)
    key, at = body[4 : 4 + length].decode(), 4 + length
    (length,) = LENGTH.unpack_from(body, at)
    content[key] = body[at + 4 : at + 4 + length].decode()
    return key


@asynccontextmanager
async def subscribed(client: Redis, *channels: str) -> AsyncIterator[PubSub]:
    """A pub/sub connection whose subscriptions are confirmed."""
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(*channels)
        for _ in channels:
            await pubsub.get_message(timeout=contract.BLOCK_SECONDS)
        yield pubsub


async def notices(pubsub: PubSub) -> AsyncIterator[bytes]:
    """The messages of a subscription."""
    async for message in pubsub.listen():
        if message["type"] == "message":
            yield message["data"]


async def read(settings: Settings, measured: Measured) -> None:
    """A read from a plain dict of the same size."""
    value = settings.body.decode()
    source = {f"key-{index}": value for index in range(contract.MAP_KEYS)}
    await contract.measure_reads(STATEMENTS[settings.way], source, settings, measured)


async def fetch(settings: Settings, measured: Measured) -> None:
    """The value of a field on the server."""
    async with connect(settings) as client:
        await client.hset(settings.content, "key-0", settings.body.decode())

        def operation() -> Awaitable[Any]:
            return client.hget(settings.content, "key-0")

        await contract.measure_load(operation, settings, measured)


async def write(settings: Settings, measured: Measured) -> None:
    """The script of `set` from many callers, each awaited."""
    keys, body = contract.map_keys(), settings.body
    async with connect(settings) as client:
        writer = Writer(client, settings)

        def operation() -> Awaitable[Any]:
            return writer.set(next(keys), body)

        await contract.measure_load(operation, settings, measured)
        await writer.sign_off()


async def increment(settings: Settings, measured: Measured) -> None:
    """The script of `inc` from many callers, each awaited."""
    keys = contract.map_keys()
    async with connect(settings) as client:
        writer = Writer(client, settings)

        def operation() -> Awaitable[Any]:
            return writer.run(INC, next(keys), 1)

        await contract.measure_load(operation, settings, measured)
        await writer.sign_off()


async def publish(settings: Settings, measured: Measured) -> None:
    """The sending half of a latency run."""
    keys = contract.latency_keys()
    async with connect(settings) as client:
        writer = Writer(client, settings)

        def set_one(payload: bytes) -> Awaitable[Any]:
            return writer.set(next(keys), payload)

        await contract.publish_spaced(set_one, settings, measured)
        await writer.sign_off()


async def watch(settings: Settings, measured: Measured) -> None:
    """The receiving half of a latency run: a dict that follows the notices."""
    content: dict[str, str] = {}
    async with connect(settings) as client, subscribed(client, settings.updates) as pubsub:
        await contract.wait_for_go()
        with contract.region(measured):
            async for notice in notices(pubsub):
                key = apply(content, notice)
                measured.samples_ms.append(contract.age_ms(content[key]))
                if len(measured.samples_ms) == settings.events + contract.LATENCY_SKIP:
                    break
    del measured.samples_ms[: contract.LATENCY_SKIP]
    measured.operations = len(measured.samples_ms)


async def hear(settings: Settings, measured: Measured) -> None:
    """Take in so many notices."""
    content: dict[str, str] = {}
    async with connect(settings) as client, subscribed(client, settings.updates) as pubsub:
        await contract.wait_for_go()
        with contract.region(measured):
            async for notice in notices(pubsub):
                measured.operations += 1
                if apply(content, notice) == contract.LAST_KEY:
                    break


async def fleet(settings: Settings, measured: Measured) -> None:
    """Many dicts that follow their channels on one connection."""
    names = [f"{settings.stream}-{index}" for index in range(settings.maps)]
    contents: dict[str, dict[str, str]] = {}
    async with connect(settings) as client, client.pubsub() as pubsub, asyncio.TaskGroup() as group:

        async def join() -> None:
            for name in names:
                await pubsub.subscribe(contract.updates_of(name))
                await pubsub.get_message(timeout=contract.BLOCK_SECONDS)
                found: dict[Any, Any] = await client.hgetall(contract.content_of(name))
                contents[name] = {key.decode(): value.decode() for key, value in found.items()}

        async def follow() -> None:
            async for notice in notices(pubsub):
                raise SystemExit(f"nobody should publish here: {notice[:50]!r}")

        following: list[asyncio.Task[None]] = []

        async def join_and_follow() -> None:
            await join()
            following.append(group.create_task(follow()))

        await contract.measure_fleet(join_and_follow, measured)
        following[0].cancel()


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
