"""A lane: one server, one shared connection to it, opened again when it is lost.

Opening is done once for many: whoever finds the lane closed starts it, everybody waits for the same attempt, and when
nobody waits any more it stops. Pauses between attempts grow with full jitter (`_core/backoff.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.hooks import Hooks
from pulsewire._core.ids import new_ulid
from pulsewire._core.tasks import OwnedTasks
from pulsewire._redis.adopt import CannotAdopt
from pulsewire._redis.doors import CONNECT_TIMEOUT, Door
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire._redis.translate import ReplyError, Verdict, from_reply, verdict
from pulsewire.errors import (
    AuthenticationFailed,
    InvalidTarget,
    PermissionDenied,
    PulsewireError,
    ServerTooOld,
    ServerUnavailable,
)

SILENCE = 4.0
"""Seconds without an expected reply after which a connection counts as dead."""
RECONNECT_CAP = 2.0
"""Upper bound of a pause between attempts: consuming goes on within 5 s of the server being there again."""
OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
_GREETING = {b"server", b"version", b"id", b"mode", b"role"}
HOPELESS = (AuthenticationFailed, InvalidTarget, PermissionDenied, ServerTooOld)
"""Errors of opening that trying again does not mend."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself.

    Attributes:
        kind: `valkey` or `redis`.
        version: as numbers, such as (9, 1, 2).
        topology: `standalone`, `sentinel` (found through sentinels) or `cluster`.
        role: `master` or `replica`.
    """

    kind: str
    version: tuple[int, ...]
    topology: str
    role: str

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True, slots=True)
class LostConnection:
    """A connection that died with a write in it: enough to make sure that the server drops it too."""

    address: str
    client_id: int
    name: str


async def open_connection(
    door: Door,
    *,
    master_only: bool,
    silence: float = SILENCE,
    on_push: Callable[[Sequence[Any]], None] | None = None,
    on_lost: Callable[[JoinedConnection, str, int], None] | None = None,
) -> tuple[JoinedConnection, ServerInfo]:
    """Open a door, adopt the socket, and greet the server.

    Raises:
        ServerUnavailable: nobody answers, or (with `master_only`) it is a replica.
        AuthenticationFailed, ServerTooOld, InvalidTarget: trying again would not help.
    """
    name = f"pulsewire:{new_ulid()}"  # unique, so that `Link.make_sure_dead` never takes another client for it
    connection = JoinedConnection(door.address, silence=silence, on_push=on_push, on_lost=on_lost)
    try:
        # redis-py bounds the connect, this its handshake as well
        with anyio.fail_after(CONNECT_TIMEOUT):
            raw = await door.open()
            connection.take_over(raw)
            greeting = await connection.submit(("HELLO", 3, "SETNAME", name))
    except TimeoutError:
        connection.lose("the handshake took too long")
        raise ServerUnavailable(
            door.address, CONNECT_TIMEOUT, "the handshake took too long"
        ) from None
    except CannotAdopt as error:
        raise InvalidTarget(door.address, f"its connections cannot be used ({error})") from error
    except ReplyError as error:
        connection.lose("the greeting was refused")
        if "unknown command" in error.text.lower():
            raise ServerTooOld("redis", "before 6.0", _needed()) from error
        if verdict(error) is not Verdict.RAISE:
            raise ServerUnavailable(door.address, 0.0, error.text) from error
        raise from_reply(error, "HELLO", door.address) from error
    except BaseException:
        connection.lose("opening was given up")
        raise
    try:
        if not isinstance(greeting, dict) or not greeting.keys() >= _GREETING:
            raise ServerUnavailable(door.address, 0.0, "it does not answer HELLO as Redis does")
        info = read_greeting(greeting)
        if master_only and info.role not in ("master", "primary"):
            raise ServerUnavailable(
                door.address, 0.0, f"the server is a {info.role}, not the master"
            )
    except PulsewireError:
        connection.lose("the server is not usable")
        raise
    connection.client_id, connection.name = int(greeting[b"id"]), name
    return connection, info


def read_greeting(greeting: dict[bytes, Any]) -> ServerInfo:
    """What the reply of HELLO says.

    Raises:
        ServerTooOld: the server lacks what we need.
    """
    kind = greeting[b"server"].decode()
    version = tuple(
        int(part)
        for part in greeting[b"version"].decode().split("-")[0].split(".")
        if part.isdigit()
    )
    if version < OLDEST.get(kind, (0,)):
        raise ServerTooOld(kind, ".".join(map(str, version)), _needed())
    return ServerInfo(kind, version, greeting[b"mode"].decode(), greeting[b"role"].decode())


def _needed() -> str:
    return (
        " or ".join(f"{kind} {'.'.join(map(str, least))}" for kind, least in sorted(OLDEST.items()))
        + " or newer"
    )


class Lane:
    """The shared connection to one server."""

    def __init__(
        self,
        door: Door,
        tasks: OwnedTasks,
        hooks: Hooks,
        logger: logging.Logger,
        *,
        silence: float = SILENCE,
    ) -> None:
        self.door = door
        self.connection: JoinedConnection | None = None
        self.info: ServerInfo | None = None
        self.last_trouble = "no connection was opened yet"
        self._tasks = tasks
        self._hooks = hooks
        self._logger = logger
        self._silence = silence
        self._waiters: list[asyncio.Future[JoinedConnection]] = []
        self._is_opening = False
        self._is_closed = False

    @property
    def address(self) -> str:
        """For messages."""
        return self.door.address

    async def ready(self, within: float) -> JoinedConnection:
        """The shared connection; opened first if need be.

        Args:
            within: seconds to wait at most.

        Raises:
            ServerUnavailable: not within that time.
            AuthenticationFailed, ServerTooOld, InvalidTarget: opening is hopeless.
        """
        if self.connection is not None:
            return self.connection
        if self._is_closed:
            raise ServerUnavailable(self.address, 0.0, "the hub is closed")
        waiter: asyncio.Future[JoinedConnection] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if not self._is_opening:
            self._is_opening = True
            self._tasks.start_soon(self._open)
        try:
            with anyio.fail_after(within):
                return await waiter
        except TimeoutError:
            raise ServerUnavailable(self.address, within, self.last_trouble) from None
        finally:
            waiter.cancel()

    def leave(self, connection: JoinedConnection) -> None:
        """Stop using `connection`: it finishes what it has begun, and the next caller opens a new one."""
        if self.connection is connection:
            self.connection = None
        connection.retire()

    def close(self) -> None:
        """Drop the connection for good."""
        self._is_closed = True
        if self.connection is not None:
            self.connection.lose("the hub was closed")
        for waiter in self._waiters:
            waiter.cancel()

    async def _open(self) -> None:
        backoff = Backoff(cap=RECONNECT_CAP)
        try:
            while self._somebody_waits() and not self._is_closed:
                try:
                    connection, info = await open_connection(
                        self.door, master_only=True, silence=self._silence, on_lost=self._when_lost
                    )
                except HOPELESS as error:
                    self.last_trouble = str(error)
                    self._answer(error)
                    return
                except ServerUnavailable as error:
                    self.last_trouble = error.reason
                    self._logger.debug(
                        "connection attempt failed",
                        extra={"address": self.address, "why": error.reason},
                    )
                    await anyio.sleep(backoff.next_pause())
                else:
                    self.info = info
                    if not connection.is_usable:  # lost again already
                        continue
                    self.connection = connection
                    self._hooks.connection_opened(self.address, backoff.attempts + 1)
                    self._answer(connection)
                    return
        finally:
            self._is_opening = False
            if self._somebody_waits():
                with contextlib.suppress(RuntimeError):  # the task group is closing
                    self._is_opening = True
                    self._tasks.start_soon(self._open)

    def _somebody_waits(self) -> bool:
        self._waiters = [waiter for waiter in self._waiters if not waiter.done()]
        return bool(self._waiters)

    def _answer(self, outcome: JoinedConnection | PulsewireError) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if isinstance(outcome, PulsewireError):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)

    def _when_lost(self, connection: JoinedConnection, reason: str, in_flight: int) -> None:
        if self.connection is connection:
            self.connection = None
        if reason == "retired" or self._is_closed:
            return
        self.last_trouble = reason
        self._hooks.connection_lost(self.address, reason, in_flight)
        self._logger.warning(
            "connection lost",
            extra={"address": self.address, "why": reason, "in_flight": in_flight},
        )
