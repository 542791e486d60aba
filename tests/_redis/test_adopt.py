"""Taking over the socket of a redis-py connection, and what cannot be taken over."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
import redis.asyncio
from redis.asyncio.connection import Connection

from pulsewire._redis.adopt import CannotAdopt, adopt
from pulsewire._redis.opening import open_connection
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire.errors import ConnectionLost, InvalidTarget
from pulsewire.testing import SingleServer
from tests._redis.kit import Conversation, StubServer, Words


class Recorder(asyncio.Protocol):
    """Remembers what comes in."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.came = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.came.set()


async def connected(server: Any) -> Any:
    connection: Any = Connection(host="127.0.0.1", port=server.port)
    await connection.connect()
    return connection


async def test_socket_is_ours_afterwards(single_server: SingleServer) -> None:
    """Both ways, and redis-py's object is an empty shell that closes nothing."""
    connection, protocol = await connected(single_server), Recorder()
    adopted = adopt(connection, protocol)
    assert not connection.is_connected
    await connection.disconnect()
    adopted.transport.write(b"PING\r\n")
    await protocol.came.wait()
    assert protocol.received == b"+PONG\r\n"
    adopted.transport.abort()


async def test_bytes_that_redis_py_had_not_read_are_handed_over() -> None:
    """What came in the same packet as the last reply of the handshake is not lost."""

    def answer(words: Words, conversation: Conversation) -> bytes | None:
        return b"+FIRST\r\n+SECOND\r\n" if words[0] == b"PING" else None

    async with StubServer(answer) as stub:
        connection = await connected(stub)
        await connection.send_command("PING")
        assert await connection.read_response() == b"FIRST"
        # hiredis has swallowed the second one, as it always does; this is one that the parser never saw.
        connection._reader.feed_data(b"+THIRD\r\n")
        adopted = adopt(connection, Recorder())
        assert adopted.unread == b"+THIRD\r\n"
        adopted.transport.abort()


async def test_connection_that_ended_before_it_was_adopted_is_lost_at_once() -> None:
    """The end had been seen by redis-py's reader already; nobody would be told of it a second time."""

    def answer(words: Words, conversation: Conversation) -> bytes | None:
        if words[0] == b"PING":
            conversation.transport.close()
        return None

    async with StubServer(answer) as stub:
        raw = await connected(stub)
        await raw.send_command("PING")
        await raw._reader.read()  # up to the end
        connection = JoinedConnection("stub:1", silence=3600.0)
        connection.take_over(raw)
        with pytest.raises(ConnectionLost, match="closed") as caught, anyio.fail_after(5.0):
            await connection.submit(("PING",))
        assert caught.value.was_sent is False


@pytest.mark.parametrize("missing", ["_reader", "_writer"])
async def test_connection_without_the_insides_we_know_is_left_as_it_was(
    single_server: SingleServer, missing: str
) -> None:
    connection: Any = await connected(single_server)
    kept = getattr(connection, missing)
    setattr(connection, missing, None)
    with pytest.raises(CannotAdopt, match="Connection"):
        adopt(connection, Recorder())
    setattr(connection, missing, kept)
    await connection.send_command("PING")
    assert await connection.read_response() == b"PONG"
    await connection.disconnect()


async def test_never_connected_connection_cannot_be_adopted() -> None:
    with pytest.raises(CannotAdopt):
        adopt(redis.asyncio.Connection(), Recorder())


async def test_door_whose_connections_cannot_be_adopted_is_a_wrong_target(
    single_server: SingleServer,
) -> None:
    """The error names the class, and the connection is closed again."""

    class Strange:
        """A connection of some other client."""

        is_closed = False

        async def disconnect(self, nowait: bool = False) -> None:
            self.is_closed = True

    class StrangeDoor:
        address = "strange:1"

        def __init__(self) -> None:
            self.connection = Strange()

        async def open(self) -> Any:
            return self.connection

    door = StrangeDoor()
    with pytest.raises(InvalidTarget, match="Strange"):
        await open_connection(door, master_only=True)
    assert door.connection.is_closed
