"""The bare probe: how little a pipelining client in Python can cost.

One `asyncio.Protocol`, hiredis on both ways, all commands of a loop turn in one write, replies
matched in order. It has no reconnect, no timeout, no back-pressure and no errors worth the name: it
is the bar that the real client is measured against, never a client to use.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

import hiredis

from benchmarks.contenders import contract
from benchmarks.contenders.contract import Measured, Settings

LENGTH: Final = struct.Struct("<i")
NOTICES_A_SECOND: Final = 20_000
TICK_SECONDS: Final = 0.001


class Probe(asyncio.Protocol):
    """One connection whose commands are joined per turn of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._reader = hiredis.Reader(notEnoughData=self)
        self._waiting: deque[asyncio.Future[object]] = deque()
        self._outgoing: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write to."""
        # uvloop's transports are write transports without being derived from asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave nobody waiting."""
        while self._waiting:
            self._waiting.popleft().cancel()

    def data_received(self, data: bytes) -> None:
        """Hand each reply to the oldest command without one."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not self:
            future = self._waiting.popleft()
            if isinstance(reply, hiredis.HiredisError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def send(self, *command: str | bytes | int) -> asyncio.Future[object]:
        """Queue a command; it leaves at the end of this loop turn."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means a 1-tuple
        future = self._loop.create_future()
        self._waiting.append(future)
        return future

    def _flush(self) -> None:
        assert self._transport is not None  # noqa: S101 - set when the connection was made
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.close()


async def connect(url: str) -> Probe:
    """A probe that is connected to `redis://host:port/0`."""
    target = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, probe = await loop.create_connection(Probe, target.hostname or "", target.port or 0)
    return probe


async def add(settings: Settings, measured: Measured) -> None:
    """XADD from many callers."""
    probe = await connect(settings.url)
    operation = partial(
        probe.send,
        *("XADD", settings.key, "MAXLEN", "~", contract.STREAM_LIMIT, "*"),
        *("n", contract.EVENT_NAME, "p", settings.body),
    )
    await contract.measure_load(operation, settings, measured)
    probe.close()


async def ping(settings: Settings, measured: Measured) -> None:
    """PING one by one without a pause: the floor of one awaited command."""
    probe = await connect(settings.url)
    await contract.measure_load(partial(probe.send, "PING"), settings, measured)
    probe.close()


async def ping_spaced(settings: Settings, measured: Measured) -> None:
    """PING as far apart as the events of a latency run: the floor of a latency."""
    probe = await connect(settings.url)
    await contract.wait_for_go()
    with contract.region(measured):
        async for _ in contract.spaced(settings):
            begin = time.perf_counter()
            await probe.send("PING")
            measured.samples_ms.append((time.perf_counter() - begin) * 1e3)
    del measured.samples_ms[: contract.LATENCY_SKIP]
    measured.operations = len(measured.samples_ms)
    probe.close()


async def notices(settings: Settings, measured: Measured) -> None:
    """Publish change notices of a map at an even pace, without writing its content.

    The revision is written with each batch, so that a replica that compares it finds nothing missing.
    """
    probe = await connect(settings.url)
    body = settings.body
    value = LENGTH.pack(len(body)) + body
    keys = contract.map_keys()
    await contract.wait_for_go()
    begin = time.perf_counter()
    with contract.region(measured):
        while measured.operations < settings.events:
            await asyncio.sleep(TICK_SECONDS)
            due = min(settings.events, int((time.perf_counter() - begin) * NOTICES_A_SECOND))
            _ = probe.send("MULTI")
            while measured.operations < due:
                measured.operations += 1
                is_last = measured.operations == settings.events
                key = (contract.LAST_KEY if is_last else next(keys)).encode()
                revision = b"%d" % measured.operations
                parts = (b"set:", LENGTH.pack(len(key)), key, value)
                tail = (LENGTH.pack(len(revision)), revision)
                _ = probe.send("PUBLISH", settings.updates, b"".join((*parts, *tail)))
            _ = probe.send("HSET", settings.content, "=rev", measured.operations, "=kind", "set")
            await probe.send("EXEC")
    probe.close()


if __name__ == "__main__":
    contract.run({"add": add, "ping": ping, "ping-spaced": ping_spaced, "notices": notices})
