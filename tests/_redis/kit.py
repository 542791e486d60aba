"""What the tests of the ground floor share: ways in, a server that says what it is told, a clock that stands still."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, cast

from pulsewire._core.hooks import Hooks
from pulsewire._redis.connect import open_link
from pulsewire._redis.doors import ClusterDoors, PoolDoor, close_doors, doors_of_target
from pulsewire._redis.link import Link, LinkOptions
from pulsewire._redis.opening import open_connection
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire._redis.targets import parse_target
from pulsewire.testing.resp import Framer, decode

Words = Sequence[bytes]
Answer = Callable[[Words, "Conversation"], bytes | None]


@asynccontextmanager
async def opened_link(target: Any, **options: Any) -> AsyncIterator[Link]:
    """A link as `pulsewire.connect` makes it."""
    async with open_link(target, LinkOptions(**options)) as link:
        yield link


def door_of(url: str) -> PoolDoor:
    """The door of a URL that means one server."""
    door = doors_of_target(parse_target(url))
    assert isinstance(door, PoolDoor)
    return door


def cluster_doors_of(url: str) -> ClusterDoors:
    """The doors of a URL that means a cluster."""
    doors = doors_of_target(parse_target(url))
    assert isinstance(doors, ClusterDoors)
    return doors


@asynccontextmanager
async def opened_connection(url: str, **options: Any) -> AsyncIterator[JoinedConnection]:
    """One joined connection, as a lane opens it."""
    door = door_of(url)
    connection, _info = await open_connection(door, master_only=True, **options)
    try:
        yield connection
    finally:
        connection.lose("the test is over")
        await close_doors(door)


class CountingHooks(Hooks):
    """Remembers what the ground floor reports."""

    __slots__ = ("lost", "opened", "repeated")

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.lost: list[str] = []
        self.repeated: Counter[str] = Counter()

    def connection_opened(self, address: str, attempts: int) -> None:
        self.opened.append(address)

    def connection_lost(self, address: str, reason: str, in_flight: int) -> None:
        self.lost.append(reason)

    def command_repeated(self, command: str, reason: str) -> None:
        self.repeated[reason.partition(" ")[0]] += 1


# --- a server that says what it is told


def greeting(
    *,
    server: str = "valkey",
    version: str = "9.1.2",
    mode: str = "standalone",
    role: str | None = "master",
    number: int = 1,
) -> bytes:
    """The reply to HELLO 3."""
    pairs: list[tuple[str, bytes]] = [
        ("server", b"$%d\r\n%b\r\n" % (len(server), server.encode())),
        ("version", b"$%d\r\n%b\r\n" % (len(version), version.encode())),
        ("proto", b":3\r\n"),
        ("id", b":%d\r\n" % number),
        ("mode", b"$%d\r\n%b\r\n" % (len(mode), mode.encode())),
        ("modules", b"*0\r\n"),
    ]
    if role is not None:  # a sentinel has none
        pairs.append(("role", b"$%d\r\n%b\r\n" % (len(role), role.encode())))
    body = b"".join(b"$%d\r\n%b\r\n%b" % (len(k), k.encode(), v) for k, v in pairs)
    return b"%%%d\r\n%b" % (len(pairs), body)


class Conversation(asyncio.Protocol):
    """One connection to a `StubServer`."""

    def __init__(self, server: StubServer) -> None:
        self._server = server
        self._framer = Framer(inline=True)
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server.conversations.append(self)

    def data_received(self, data: bytes) -> None:
        for frame in self._framer.feed(data):
            words = list(decode(frame))
            self._server.commands.append(words)
            reply = self._server.answer(words, self)
            if reply is not None:
                self.transport.write(reply)


class StubServer:
    """Listens on 127.0.0.1 and answers as a function says: None is silence."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.conversations: list[Conversation] = []
        self.commands: list[Words] = []
        self._listener: asyncio.Server | None = None

    def answer(self, words: Words, conversation: Conversation) -> bytes | None:
        """The handshake is answered properly unless the function has something to say about it."""
        reply = self._answer(words, conversation)
        if reply is not None or words[0].upper() not in (b"HELLO", b"CLIENT"):
            return reply
        return greeting() if words[0].upper() == b"HELLO" else b"+OK\r\n"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Conversation(self), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        for conversation in self.conversations:
            conversation.transport.abort()
        with contextlib.suppress(OSError):
            await self._listener.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """What to connect to."""
        return f"redis://127.0.0.1:{self.port}"

    def names(self) -> list[str]:
        """The commands that came, by name."""
        return [words[0].decode().upper() for words in self.commands]


# --- a clock that stands still


class ManualTimer:
    """A call that is due at some time."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.run = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class ManualLoop:
    """As much of an event loop as a joined connection uses. Time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._real = asyncio.get_running_loop()
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._soon: list[Callable[[], Any]] = []
        self._number = 0

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return self._real.create_future()

    def call_soon(self, call: Callable[[], Any]) -> None:
        self._soon.append(call)

    def call_later(self, delay: float, call: Callable[[], Any]) -> ManualTimer:
        timer = ManualTimer(call)
        self._number += 1
        heapq.heappush(self._timers, (self.now + delay, self._number, timer))
        return timer

    @property
    def timers(self) -> int:
        """How many timers wait."""
        return sum(not timer.is_cancelled for _, _, timer in self._timers)

    def turn(self) -> None:
        """One turn: what `call_soon` was asked for."""
        due, self._soon = self._soon, []
        for call in due:
            call()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if not timer.is_cancelled:
                timer.run()
        self.now = until


class RecordingTransport(asyncio.Transport):
    """Writes go to a list, and on to another transport if there is one."""

    def __init__(self, onward: asyncio.Transport | None = None) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_aborted = False
        self._onward = onward

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        if self._onward is not None:
            self._onward.write(data)

    def abort(self) -> None:
        self.is_aborted = True
        if self._onward is not None:
            self._onward.abort()


def manual_connection(
    *, silence: float = 4.0, **options: Any
) -> tuple[JoinedConnection, ManualLoop, RecordingTransport]:
    """A connection without a server: the test is the server, and the clock."""
    connection = JoinedConnection("manual:1", silence=silence, **options)
    loop, transport = ManualLoop(), RecordingTransport()
    white_box: Any = connection
    white_box._loop = loop
    white_box._transport = transport
    return connection, loop, transport
