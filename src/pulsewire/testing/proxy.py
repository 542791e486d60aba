"""A TCP proxy that gives connections between client and server bad weather, on command.

Responsible for the commands, and for the port that listens. What happens on one connection is
`link.py`; servers that fail are `processes.py`.

Everything that can happen to a connection: cut, refused, silent, slow, and the two nasty ones that
need to understand what passes by: a command that the server carried out and whose reply never
comes, and an error reply out of the blue.

Not understood, and passed on as they are: TLS, MONITOR, replication and `CLIENT REPLY`. Faults of
single commands do not work on such a connection, all others do.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Literal, Protocol, Self, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import TaskGroup

from pulsewire.testing.faults import CommandMatch, Ending, Fault
from pulsewire.testing.link import CutStyle, Link, Side, Traffic, Way, Weather
from pulsewire.testing.ports import HOST, reserve_port
from pulsewire.testing.waiting import wait_until

__all__ = ["FaultProxy", "ProxyStatistics", "Upstream"]

Direction: TypeAlias = Literal["both", "to_server", "to_client"]

LISTEN_TRIES = 20


class Upstream(Protocol):
    """What a proxy needs to know of a server; `SingleServer` has it."""

    @property
    def host(self) -> str:
        """Where it listens."""

    @property
    def port(self) -> int:
        """Where it listens."""

    @property
    def url(self) -> str:
        """What a client would be given without the proxy."""


@dataclass(frozen=True, slots=True)
class ProxyStatistics:
    """What went through a proxy so far.

    Attributes:
        connections: connections accepted.
        open_connections: those that are open now.
        commands: how often each command was asked for, by upper-case name; those that were answered
            with an injected error are among them.
        bytes_to_server: bytes that clients sent.
        bytes_to_client: bytes that the server sent.
    """

    connections: int
    open_connections: int
    commands: Mapping[str, int]
    bytes_to_server: int
    bytes_to_client: int


class FaultProxy:
    """A proxy in front of one server; an async context manager.

    Everything passes until something is asked for. `delay`, `stall` and `refuse` concern
    connections of now and later alike, `cut` those of now.

    Args:
        upstream: the server: a `SingleServer`, or anything with `host`, `port` and `url`.
        seed: for the jitter of `delay`.
    """

    def __init__(self, upstream: Upstream, *, seed: int | None = None) -> None:
        self.upstream = upstream
        self.host = HOST
        self._weather = Weather(random=random.Random(seed))
        self._traffic = Traffic()
        self._reservation = reserve_port()
        self._listener: asyncio.Server | None = None
        self._is_ending = False
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        try:
            await self._listen_on_any_port()
        except BaseException:
            self._reservation.release()
            raise
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_ending = True
        self._close_listener()
        self.cut()
        self._tasks.cancel_scope.cancel()
        try:
            # Without the error of the block: that comes out as it is, not inside a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            self._reservation.release()
            with anyio.CancelScope(shield=True):
                await wait_until(
                    lambda: not self._traffic.sockets, what="all sockets of the proxy are closed"
                )

    def __repr__(self) -> str:
        open_connections = len(self._traffic.links)
        return f"<FaultProxy {self.port} -> {self.upstream!r}, {open_connections} connections>"

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._reservation.port

    @property
    def url(self) -> str:
        """The server's URL with this proxy's port in it."""
        parts = urlsplit(self.upstream.url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{self.host}:{self.port}"))

    def statistics(self) -> ProxyStatistics:
        """What went through so far."""
        traffic = self._traffic
        return ProxyStatistics(
            connections=traffic.connections,
            open_connections=len(traffic.links),
            commands=MappingProxyType(dict(traffic.commands)),
            bytes_to_server=traffic.sent["to_server"],
            bytes_to_client=traffic.sent["to_client"],
        )

    # --- the weather

    def cut(self, how: CutStyle = "rst") -> int:
        """End all connections; returns how many.

        Args:
            how: "rst" as when a machine or a firewall drops them, "fin" as when the server closes them.
        """
        links = list(self._traffic.links)
        for link in links:
            link.cut(how)
        return len(links)

    async def refuse(self) -> None:
        """Take no new connections: they are refused, as by a server that is down."""
        self._close_listener()

    async def accept(self) -> None:
        """Take new connections again, on the same port."""
        if self._listener is not None:
            return
        for attempt in range(LISTEN_TRIES):
            if await self._listen(may_fail=attempt + 1 < LISTEN_TRIES):
                return
            await anyio.sleep(0.05)  # someone else is on our port for a moment

    def stall(self, direction: Direction = "both") -> None:
        """Become a black hole: connections stay open, and nothing moves in this direction.

        Nothing is lost either: what is on its way stays there until `resume`, as behind a network
        that comes back. That a client or the server has left is noticed only then, too.
        """
        self._weather.stalled |= _ways(direction)
        self._weather_changed()

    def resume(self, direction: Direction = "both") -> None:
        """Let everything move again after `stall`.

        A connection that stalled because its reply was swallowed stays so until `cut`: whoever read
        on there would take the next reply for the one that is missing.
        """
        self._weather.stalled -= _ways(direction)
        self._weather_changed()

    def delay(self, seconds: float, *, jitter: float = 0.0, direction: Direction = "both") -> None:
        """Let everything take longer; `delay(0)` ends it. The order stays.

        Args:
            seconds: how much longer, each way.
            jitter: up to so many seconds more, at random.
            direction: one way only, or both: then a round trip takes twice as long.
        """
        for way in _ways(direction):
            self._weather.delays[way] = (seconds, jitter)

    def swallow_reply(
        self,
        command: CommandMatch = None,
        *,
        count: int = 1,
        every: int = 1,
        then: Ending = "cut",
    ) -> Fault:
        """Let a command reach the server and be carried out, and keep its reply back.

        Replies to earlier commands of the connection still arrive. Later ones do not: with the
        reply gone the connection is closed, or stalls for good. Commands that were sent after it on
        the same connection reach the server too, as they would on a real network.

        Args:
            command: which: a name such as "XADD" or "XGROUP CREATE", a function of the arguments,
                or None for any, those of the handshake included.
            count: how often, each time on another connection.
            every: only every so-manieth command that matches.
            then: what becomes of the connection.
        """
        return self._arm(Fault(command, count, every, ending=then))

    def inject_error(
        self, error: bytes, command: CommandMatch = None, *, count: int = 1, every: int = 1
    ) -> Fault:
        """Answer a command with an error; the server never sees it.

        The error comes in its turn among the replies to the commands around it.

        Args:
            error: without the leading minus: b"READONLY You can't write against a read only replica."
            command: which, as in `swallow_reply`.
            count: how often.
            every: only every so-manieth command that matches.
        """
        return self._arm(Fault(command, count, every, error=error))

    def clear(self) -> None:
        """Good weather: no fault, no stall, no delay. A port that refuses goes on refusing."""
        for fault in self._weather.faults:
            fault.disarm()
        self._weather.faults.clear()
        self.delay(0)
        self.resume()

    # --- inside

    def _arm(self, fault: Fault) -> Fault:
        self._weather.faults.append(fault)
        return fault

    def _weather_changed(self) -> None:
        for link in list(self._traffic.links):
            link.weather_changed()

    async def _listen_on_any_port(self) -> None:
        for attempt in range(LISTEN_TRIES):
            if await self._listen(may_fail=attempt + 1 < LISTEN_TRIES):
                return
            self._reservation.release()
            self._reservation = reserve_port()

    async def _listen(self, *, may_fail: bool) -> bool:
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(self._new_client, self.host, self.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not may_fail:
                raise
            return False
        return True

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _new_client(self) -> Side:
        return Link(self._weather, self._traffic, self._dial).client

    def _dial(self, link: Link) -> None:
        if self._is_ending:  # it was accepted just before
            link.cut("rst")
        else:
            self._tasks.start_soon(link.dial, self.upstream.host, self.upstream.port)


def _ways(direction: Direction) -> set[Way]:
    return {"to_server", "to_client"} if direction == "both" else {direction}
