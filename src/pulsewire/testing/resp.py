"""The Redis protocol, seen from outside: framing, encoding, decoding, and a bare connection.

Responsible for bytes on the wire (RESP2 and RESP3) as the test kit needs them. It shares no code
with the product on purpose: a test that asks the server what really lies there must not ask
through the code it tests. Connecting, routing and retrying are left to `pulsewire._redis`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl as ssl_module
from collections import deque
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio

__all__ = ["Argument", "Framer", "Push", "RawConnection", "ReplyError", "decode", "encode"]

Argument: TypeAlias = str | bytes | int | float

CRLF = b"\r\n"
CONNECTION_TIMEOUT = 10.0

_PUSH, _MAP, _ATTRIBUTE, _VERBATIM, _BULK_ERROR = b">%|=!"
_BULKS = frozenset(b"$=!")  # a length, then so many bytes
_LISTS = frozenset(b"*~>")  # a count, then so many values
_LINES = frozenset(b"+-:_#,(")


class ReplyError(Exception):
    """An error reply of the server. `code` is its first word."""

    def __init__(self, message: str) -> None:
        self.code = message.partition(" ")[0]
        super().__init__(message)


class Push(list[Any]):
    """An out-of-band RESP3 message, such as a pub/sub notice."""


class Framer:
    """Cuts a stream of RESP bytes into whole top-level values, without decoding them.

    An attribute belongs to the value that follows it. A line that starts with none of RESP's
    types is an inline command when `inline` is set.
    """

    __slots__ = ("_buffer", "_inline", "_position", "_remaining")

    def __init__(self, *, inline: bool = False) -> None:
        self._buffer = bytearray()
        self._inline = inline
        self._position = 0
        self._remaining = 1

    def feed(self, data: bytes) -> list[bytes]:
        """The values that are complete now, each with all its bytes.

        Raises:
            ValueError: what came is not RESP. `take_rest` has the bytes that were not returned.
        """
        buffer = self._buffer
        buffer += data
        find, size = buffer.find, len(buffer)
        start, position, remaining = 0, self._position, self._remaining
        frames: list[bytes] = []
        while True:
            end = find(CRLF, position)
            if end < 0:
                break
            kind = buffer[position]
            if kind in _BULKS:
                length = int(buffer[position + 1 : end])
                after = end + 2 if length < 0 else end + 4 + length
                if after > size:
                    break
                position = after
                remaining -= 1
            elif kind in _LISTS:
                count = int(buffer[position + 1 : end])
                position, remaining = end + 2, remaining - 1 + max(0, count)
            elif kind == _MAP:
                position, remaining = end + 2, remaining - 1 + 2 * int(buffer[position + 1 : end])
            elif kind == _ATTRIBUTE:
                position, remaining = end + 2, remaining + 2 * int(buffer[position + 1 : end])
            elif kind in _LINES or self._inline:
                position = end + 2
                remaining -= 1
            else:
                raise ValueError(f"no RESP value starts with {chr(kind)!r}")
            if not remaining:
                frames.append(bytes(buffer[start:position]))
                start, remaining = position, 1
        del buffer[:start]
        self._position, self._remaining = position - start, remaining
        return frames

    def take_rest(self) -> bytes:
        """Give up framing: every byte that no returned value contained."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._position, self._remaining = 0, 1
        return rest


def encode(*arguments: Argument) -> bytes:
    """One command as the server wants it."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def decode(frame: bytes) -> Any:
    """The value of one frame: bytes, int, float, bool, None, list, set, dict, Push or ReplyError."""
    value, _ = _decode_at(frame, 0)
    return value


def _decode_at(frame: bytes, position: int) -> tuple[Any, int]:
    end = frame.index(CRLF, position)
    kind, line, after = frame[position], frame[position + 1 : end], end + 2
    if kind in _BULKS:
        length = int(line)
        if length < 0:
            return None, after
        data = frame[after : after + length]
        after += length + 2
        if kind == _BULK_ERROR:
            return ReplyError(data.decode(errors="replace")), after
        return data[4:] if kind == _VERBATIM else data, after
    if kind in _LISTS:
        if int(line) < 0:
            return None, after
        items, after = _decode_many(frame, after, int(line))
        return (Push(items) if kind == _PUSH else items), after
    if kind == _MAP:
        items, after = _decode_many(frame, after, 2 * int(line))
        return dict(zip(items[::2], items[1::2], strict=True)), after
    if kind == _ATTRIBUTE:
        _, after = _decode_many(frame, after, 2 * int(line))
        return _decode_at(frame, after)
    return _decode_line(kind, line), after


def _decode_many(frame: bytes, position: int, count: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(count):
        item, position = _decode_at(frame, position)
        items.append(item)
    return items, position


def _decode_line(kind: int, line: bytes) -> Any:
    match chr(kind):
        case "+":
            return line
        case "-":
            return ReplyError(line.decode(errors="replace"))
        case ":" | "(":
            return int(line)
        case "_":
            return None
        case "#":
            return line == b"t"
        case ",":
            return float(line)
        case other:
            raise ValueError(f"no RESP value starts with {other!r}")


class RawConnection:
    """One bare connection to one server; an async context manager.

    It knows no redirection, no retry and no pool. `command` raises an error reply, `pipeline`
    returns it in its place, `send` and `receive` are the two halves. Pushes are kept apart, in
    `pushes`, and never mistaken for a reply.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        password: str | None = None,
        ssl: ssl_module.SSLContext | None = None,
        timeout: float = CONNECTION_TIMEOUT,
    ) -> None:
        self.host = host
        self.port = port
        self.pushes: deque[Push] = deque()
        self._password = password
        self._ssl = ssl
        self._timeout = timeout
        self._framer = Framer()
        self._replies: deque[Any] = deque()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        with anyio.fail_after(self._timeout):
            self._reader, self._writer = await asyncio.open_connection(
                self.host, self.port, ssl=self._ssl
            )
            try:
                if self._password is not None:
                    await self.command("AUTH", self._password)
            except BaseException:
                self._writer.close()
                raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
        with (
            anyio.CancelScope(shield=True),
            anyio.move_on_after(1.0),
            contextlib.suppress(OSError),  # the other side was first
        ):
            await self._writer.wait_closed()

    def __repr__(self) -> str:
        return f"<RawConnection {self.host}:{self.port}>"

    async def command(self, *arguments: Argument) -> Any:
        """The reply to one command.

        Raises:
            ReplyError: the server answered with an error.
            ConnectionError: the connection ended before the reply.
            TimeoutError: no reply within the connection's timeout.
        """
        reply = (await self.pipeline(arguments))[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def pipeline(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """The replies to these commands, sent in one write. Errors stand among them."""
        self.send(*commands)
        return [await self.receive() for _ in commands]

    def send(self, *commands: tuple[Argument, ...]) -> None:
        """Send commands and wait for nothing."""
        self.write(b"".join(encode(*command) for command in commands))

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    async def receive(self) -> Any:
        """The next reply (an error reply is returned, not raised). See `command` for what is raised."""
        with anyio.fail_after(self._timeout):
            while not self._replies:
                await self._read_some()
        return self._replies.popleft()

    async def receive_push(self) -> Push:
        """The next push."""
        with anyio.fail_after(self._timeout):
            while not self.pushes:
                await self._read_some()
        return self.pushes.popleft()

    async def _read_some(self) -> None:
        data = await self._reader.read(1 << 16)
        if not data:
            raise ConnectionResetError(f"{self.host}:{self.port} closed the connection")
        for frame in self._framer.feed(data):
            value = decode(frame)
            (self.pushes if isinstance(value, Push) else self._replies).append(value)
