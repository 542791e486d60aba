"""Looking at a map: what lies in Redis and on the channel, seen without the product, and what replicas come to show."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio

from pulsewire import Change, ReplicatedMap
from pulsewire.rmap import Changes
from pulsewire.testing import RawConnection, Topology, slot_of, wait_until
from tests.facts import PATIENCE


class Witness:
    """Looks at a map's hash, and hears its messages, on a bare connection to the key's owner."""

    def __init__(self, connection: RawConnection, content: str, channel: str) -> None:
        self.connection = connection
        self.content = content
        self.channel = channel

    async def stored(self) -> dict[bytes, bytes]:
        """The hash as it lies there, `=rev` and `=kind` included."""
        reply: dict[bytes, bytes] = await self.connection.command("HGETALL", self.content)
        return reply

    async def messages(self) -> list[bytes]:
        """What was published since the last look."""
        await self.connection.command("PING")  # everything published before it has come with it
        heard = [push[2] for push in self.connection.pushes if push[0].endswith(b"message")]
        self.connection.pushes.clear()
        return heard

    async def command(self, *words: Any) -> Any:
        """A bare command."""
        return await self.connection.command(*words)

    async def store(self, **fields: str | int) -> None:
        """Put something there as it is, without a message; `rev` and `kind` are Pulse's own fields."""
        named = {{"rev": "=rev", "kind": "=kind"}.get(name, name): fields[name] for name in fields}
        await self.command("DEL", self.content)
        if named:
            await self.command("HSET", self.content, *(w for pair in named.items() for w in pair))

    @asynccontextmanager
    async def nothing_is_written(self) -> AsyncIterator[None]:
        """Within it the hash stays as it is, and nothing is published."""
        await self.messages()
        before = await self.stored()
        yield
        assert await self.stored() == before
        assert await self.messages() == []


@asynccontextmanager
async def witnessed(
    topology: Topology, namespace: str, name: str = "map"
) -> AsyncIterator[Witness]:
    """A witness of a map, for as long as the block lasts."""
    content = f"{namespace}:map:{name}:content"
    channel, verb = f"{namespace}:map:{name}:updates", "SUBSCRIBE"
    if topology.kind == "cluster":
        verb = "SSUBSCRIBE"
        if slot_of(channel) != slot_of(content):
            channel = f"{namespace}:pulsewire:{{{content}}}:updates"
    server = await topology.node_of(content)
    async with server.connection() as connection:
        await connection.command("HELLO", 3)
        connection.send((verb, channel))
        await connection.receive_push()
        yield Witness(connection, content, channel)


def text(data: bytes) -> bytes:
    """A string as it stands in a message."""
    return struct.pack("<i", len(data)) + data


def set_message(key: str, value: bytes | str, revision: int) -> bytes:
    """The message of a set."""
    data = value.encode() if isinstance(value, str) else value
    return b"set:" + text(key.encode()) + text(data) + text(b"%d" % revision)


def del_message(key: str, revision: int) -> bytes:
    """The message of a deletion."""
    return b"del:" + text(key.encode()) + text(b"%d" % revision)


# --- replicas


async def wait_content(replica: ReplicatedMap[Any], content: Mapping[str, Any]) -> None:
    """Wait until a replica shows exactly this, and misses nothing."""

    def is_so() -> bool:
        return replica.ready and dict(replica) == content

    await wait_until(is_so, timeout=PATIENCE, what=f"{replica!r} shows {content!r}")


async def next_change(changes: Changes[Any]) -> Change[Any]:
    """The next change, which is to come soon."""
    with anyio.fail_after(PATIENCE):
        return await anext(changes)


async def next_changes(changes: Changes[Any], count: int) -> list[tuple[Any, ...]]:
    """The next few: kind, key, old and new, without their revisions."""
    seen = [await next_change(changes) for _ in range(count)]
    return [(change.kind, change.key, change.old, change.new) for change in seen]


async def load_of(value: Any) -> Any:
    """A load that finds this."""
    return value


async def never() -> str:
    """A load that nobody may ask for."""
    raise AssertionError("nobody may ask for this")
