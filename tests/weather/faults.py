"""The kinds of bad weather: each a function that lets one fault happen and returns when the server was there again.

A station is a server, a proxy in front of it, and traffic through the proxy.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio

from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.weather.ledger import Ledger, Verdict
from tests.weather.traffic import Traffic, content_of

ESTABLISHED = "01"
DURABLE = ("--appendfsync", "always")


@dataclass(slots=True)
class Station:
    """A server, a proxy, and traffic."""

    server: SingleServer
    proxy: FaultProxy
    traffic: Traffic
    random: random.Random
    connections: int = 0

    @property
    def ledger(self) -> Ledger:
        """What the traffic notes."""
        return self.traffic.ledger

    async def connection_count(self) -> int:
        """How many connections clients have to the proxy, as far as the system tells, else to the server.

        Where a client has left a connection that stalled because its reply was swallowed, the proxy keeps its own half
        open; it is no leak of the client's.
        """
        table = Path("/proc/net/tcp")
        if not table.exists():
            return len(await self.server.clients())
        found = {-1}
        # a table that changes while it is read shows rows twice, or not
        while len(found) > 1 or -1 in found:
            found = {self._count_in(table) for _ in range(2)}
        return found.pop()

    def _count_in(self, table: Path) -> int:
        lines = (line.split() for line in table.read_text().splitlines()[1:])
        port = f":{self.proxy.port:04X}"
        return len({line[1] for line in lines if line[2].endswith(port) and line[3] == ESTABLISHED})

    async def close_accounts(self) -> Verdict:
        """Stop adding, wait until all is done, and compare."""
        await self.traffic.wait_done()
        await self.traffic.wait_acked()
        content = {
            stream.name: await content_of(self.server, stream) for stream in self.traffic.streams()
        }
        return self.ledger.judge(content)


@asynccontextmanager
async def station(seed: int, *, pause: float) -> AsyncIterator[Station]:
    """A station with traffic that flows."""
    async with SingleServer(args=DURABLE) as server, FaultProxy(server, seed=seed) as proxy:
        traffic = Traffic(Ledger(), pause=pause)
        async with traffic.running(proxy.url):
            built = Station(server, proxy, traffic, random.Random(seed))
            built.connections = await built.connection_count()
            yield built


Fault = Callable[[Station], Awaitable[float]]
"""Lets something happen; the monotonic time at which the server was there again for everybody."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bad weather. `tries` is how often it happens in the short form."""

    name: str
    blow: Fault
    tries: int = 5


# --- the server


async def kill(at: Station) -> float:
    """SIGKILL, down for a moment, restarted on its data."""
    await at.server.kill()
    await anyio.sleep(at.random.uniform(0.0, 0.5))
    await at.server.restart()
    return time.monotonic()


async def kill_long(at: Station) -> float:
    """SIGKILL, down until the pauses between attempts have grown."""
    await at.server.kill()
    await anyio.sleep(at.random.uniform(4.0, 10.0))
    await at.server.restart()
    return time.monotonic()


async def shutdown(at: Station) -> float:
    """An orderly end."""
    with contextlib.suppress(OSError):  # it answers by closing
        await at.server.command("SHUTDOWN")
    await wait_until(lambda: not at.server.is_alive, what="the server has ended")
    await anyio.sleep(at.random.uniform(0.0, 0.5))
    await at.server.restart()
    return time.monotonic()


def freeze(shortest: float, longest: float) -> Fault:
    """SIGSTOP, and SIGCONT after a while."""

    async def blow(at: Station) -> float:
        at.server.pause()
        await anyio.sleep(at.random.uniform(shortest, longest))
        at.server.resume()
        return time.monotonic()

    return blow


async def client_kill(at: Station) -> float:
    """The server drops all its clients."""
    await at.server.command("CLIENT", "KILL", "TYPE", "normal")
    return time.monotonic()


async def client_kill_often(at: Station) -> float:
    """Ten times, every few milliseconds: while clients greet, too."""
    for _ in range(10):
        await at.server.command("CLIENT", "KILL", "TYPE", "normal")
        await anyio.sleep(at.random.uniform(0.0, 0.03))
    return time.monotonic()


async def flush_scripts(at: Station) -> float:
    """SCRIPT FLUSH every few milliseconds for a second; the server is there all the time."""
    began = time.monotonic()
    async with at.server.connection() as connection:
        while time.monotonic() - began < 1.0:
            await connection.command("SCRIPT", "FLUSH")
            await anyio.sleep(at.random.uniform(0.001, 0.005))
    return began


async def fill_memory(at: Station) -> float:
    """At maxmemory for a second, then freed."""
    await at.server.pipeline(
        ("CONFIG", "SET", "maxmemory-policy", "noeviction"), ("CONFIG", "SET", "maxmemory", "1mb")
    )
    refused = len(at.ledger.refused)
    await wait_until(lambda: len(at.ledger.refused) >= refused + 4, what="adds are refused")
    await at.server.command("CONFIG", "SET", "maxmemory", "0")
    return time.monotonic()


async def pause_clients(at: Station) -> float:
    """CLIENT PAUSE of writes, as before an orderly failover."""
    milliseconds = at.random.randrange(100, 1500)
    await at.server.command("CLIENT", "PAUSE", milliseconds, "ALL")
    await anyio.sleep(milliseconds / 1000)
    return time.monotonic()


# --- the connection


def cut(how: Literal["rst", "fin"], down: float = 0.0) -> Fault:
    """All connections end, and for `down` seconds at most no new ones are taken."""

    async def blow(at: Station) -> float:
        if down:
            await at.proxy.refuse()
        at.proxy.cut(how)
        if down:
            await anyio.sleep(at.random.uniform(0.0, down))
            await at.proxy.accept()
        return time.monotonic()

    return blow


async def cut_often(at: Station) -> float:
    """Ten times, every few milliseconds: while clients greet, too."""
    for _ in range(10):
        at.proxy.cut(at.random.choice(("rst", "fin")))
        await anyio.sleep(at.random.uniform(0.0, 0.03))
    return time.monotonic()


def black_hole(
    direction: Literal["both", "to_server", "to_client"],
    shortest: float,
    longest: float,
    *,
    dropped: bool = False,
) -> Fault:
    """Nothing moves, nothing closes. What was on its way arrives afterwards, or (`dropped`) never."""

    async def blow(at: Station) -> float:
        at.proxy.stall(direction)
        await anyio.sleep(at.random.uniform(shortest, longest))
        if dropped:
            at.proxy.cut("rst")
        at.proxy.resume(direction)
        return time.monotonic()

    return blow


async def slow(at: Station) -> float:
    """50 ms more each way, with jitter, for a second; the server is there all the time."""
    began = time.monotonic()
    at.proxy.delay(0.05, jitter=0.05)
    await anyio.sleep(1.0)
    at.proxy.delay(0)
    return began


# --- single commands


def swallow(command: str, then: Literal["cut", "stall"]) -> Fault:
    """A command is carried out, its reply never comes, and the connection is cut or silent from then on."""

    async def blow(at: Station) -> float:
        fault = at.proxy.swallow_reply(command, every=at.random.randrange(1, 8), then=then)
        await fault.wait_hit(timeout=30.0)
        fault.disarm()
        return time.monotonic()

    return blow


async def swallow_anything(at: Station) -> float:
    """Any reply, those of the handshake included, three times."""
    faults = [at.proxy.swallow_reply(every=at.random.randrange(1, 20), count=3)]
    await faults[0].wait_hit(3, timeout=30.0)
    for fault in faults:
        fault.disarm()
    return time.monotonic()


def answer(error: bytes, commands: Sequence[str] | None = None) -> Fault:
    """Random commands are answered with an error, without being carried out."""

    async def blow(at: Station) -> float:
        faults = [
            at.proxy.inject_error(error, command, count=10, every=at.random.randrange(1, 6))
            for command in commands or (None,)
        ]
        for fault in faults:
            await fault.wait_hit(3, timeout=30.0)
            fault.disarm()
        return time.monotonic()

    return blow


ERRORS = {
    "readonly": b"READONLY You can't write against a read only replica.",
    "loading": b"LOADING Valkey is loading the dataset in memory",
    "masterdown": b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "tryagain": b"TRYAGAIN Multiple keys request during rehashing of slot",
    "clusterdown": b"CLUSTERDOWN The cluster is down",
    "busy": b"BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "misconf": b"MISCONF Errors writing to the AOF file: No space left on device",
    "noreplicas": b"NOREPLICAS Not enough good replicas to write.",
    "noscript": b"NOSCRIPT No matching script. Please use EVAL.",
}
"""Answered to any command but the last, which only EVALSHA gets."""
COMMANDS = ("XADD", "EVALSHA", "XREADGROUP", "XREAD", "XACK")
UNBLOCKED = (
    b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)

THE_SERVER = (
    Kind("server killed", kill),
    Kind("server killed for long", kill_long, 2),
    Kind("server shut down", shutdown),
    Kind("server frozen 1 to 3.5 s", freeze(1.0, 3.5)),
    Kind("server frozen 4.2 to 6 s", freeze(4.2, 6.0), 3),
    Kind("CLIENT PAUSE", pause_clients),
    Kind("CLIENT KILL", client_kill),
    Kind("CLIENT KILL again and again", client_kill_often),
    Kind("connections reset", cut("rst")),
    Kind("connections closed", cut("fin")),
    Kind("connections refused", cut("rst", 2.0)),
    Kind("connections cut again and again", cut_often),
)
SILENCE = (
    Kind("black hole 1 to 3.5 s", black_hole("both", 1.0, 3.5)),
    Kind("black hole 4.2 to 8 s", black_hole("both", 4.2, 8.0), 2),
    Kind("black hole to the server", black_hole("to_server", 1.0, 8.0), 3),
    Kind("black hole to the client", black_hole("to_client", 1.0, 8.0), 3),
    Kind("black hole, bytes dropped", black_hole("both", 1.0, 8.0, dropped=True), 3),
    *(
        Kind(f"reply to {command} swallowed, then stall", swallow(command, "stall"), 3)
        for command in COMMANDS
    ),
)
REPLIES = (
    *(
        Kind(f"reply to {command} swallowed, then cut", swallow(command, "cut"))
        for command in COMMANDS
    ),
    Kind("any reply swallowed", swallow_anything),
    *(
        Kind(name, answer(error, ("EVALSHA",) if name == "noscript" else None))
        for name, error in ERRORS.items()
    ),
    Kind("unblocked", answer(UNBLOCKED, ("XREADGROUP", "XREAD"))),
    Kind("SCRIPT FLUSH", flush_scripts),
    Kind("server slow", slow),
    Kind("out of memory", fill_memory),
)
KINDS = (*THE_SERVER, *SILENCE, *REPLIES)
