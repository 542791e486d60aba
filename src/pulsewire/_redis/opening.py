"""Opening one connection: redis-py connects and authenticates, we adopt the socket and greet the server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from pulsewire._core.ids import new_ulid
from pulsewire._redis.adopt import CannotAdopt
from pulsewire._redis.doors import CONNECT_TIMEOUT, Door
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire._redis.translate import ReplyError, Verdict, from_reply, verdict
from pulsewire.errors import (
    AuthenticationFailed,
    InvalidTarget,
    PermissionDenied,
    ServerTooOld,
    ServerUnavailable,
)

SILENCE = 4.0
"""Seconds without an expected reply after which a connection counts as dead."""
OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
HOPELESS = (AuthenticationFailed, InvalidTarget, PermissionDenied, ServerTooOld)
"""Errors of opening that trying again does not mend."""
_GREETING = {b"server", b"version", b"id", b"mode"}


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

    @property
    def has_sharded_pubsub(self) -> bool:
        """Whether messages can stay in the shard of their channel: a cluster of Redis 7 or Valkey."""
        return self.topology == "cluster" and (self.kind != "redis" or self.version >= (7,))


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
    name = f"pulsewire:{new_ulid()}"  # unique, so that `Link.make_sure_dead` takes no other client for it
    connection = JoinedConnection(door.address, silence=silence, on_push=on_push, on_lost=on_lost)
    try:
        # redis-py bounds the connect, this its handshake as well
        with anyio.fail_after(CONNECT_TIMEOUT):
            greeting = await _greet(door, connection, name)
        info = read_greeting(greeting, door.address)
        if master_only:
            _check_role(info, door.address)
    except BaseException as error:
        connection.lose("it could not be opened")
        explained = _explained(error, door.address)
        if explained is error:
            raise
        raise explained from error
    connection.client_id, connection.name = int(greeting[b"id"]), name
    return connection, info


async def _greet(door: Door, connection: JoinedConnection, name: str) -> Any:
    """Connect and say hello: one round trip for protocol, name, version, role and connection id."""
    raw = await door.open()
    try:
        connection.take_over(raw)
    except CannotAdopt as error:
        with contextlib.suppress(Exception):
            await raw.disconnect(nowait=True)
        reason = f"its connections cannot be used ({error})"
        raise InvalidTarget(door.address, reason) from error
    return await connection.submit(("HELLO", 3, "SETNAME", name))


def _check_role(info: ServerInfo, address: str) -> None:
    if info.role not in ("master", "primary"):
        raise ServerUnavailable(address, 0.0, f"the server is a {info.role}, not the master")


def _explained(error: BaseException, address: str) -> BaseException:
    """The error to raise for what went wrong; the same where it says enough itself."""
    if isinstance(error, TimeoutError):
        return ServerUnavailable(address, CONNECT_TIMEOUT, "the handshake took too long")
    if isinstance(error, ReplyError):
        if "unknown command" in error.text.lower():
            return ServerTooOld("redis", "before 6.0", _needed())
        if verdict(error) is not Verdict.RAISE:
            return ServerUnavailable(address, 0.0, error.text)
        return from_reply(error, "HELLO", address)
    by_client = error.reason if isinstance(error, ServerUnavailable) else ""
    if "unknown command" in by_client and "HELLO" in by_client:  # it was redis-py that said hello
        return ServerTooOld("redis", "before 6.0", _needed())
    return error


def read_greeting(greeting: Any, address: str) -> ServerInfo:
    """What the reply of HELLO says.

    Raises:
        ServerUnavailable: it is no server of the kind.
        ServerTooOld: the server lacks what we need.
    """
    if not isinstance(greeting, dict) or not greeting.keys() >= _GREETING:
        raise ServerUnavailable(address, 0.0, "it does not answer HELLO as Redis does")
    kind = greeting[b"server"].decode()
    version = tuple(
        int(part)
        for part in greeting[b"version"].decode().split("-")[0].split(".")
        if part.isdigit()
    )
    if version < OLDEST.get(kind, (0,)):
        raise ServerTooOld(kind, ".".join(map(str, version)), _needed())
    role = greeting.get(b"role", b"master").decode()  # a sentinel has none
    return ServerInfo(kind, version, greeting[b"mode"].decode(), role)


def _needed() -> str:
    return (
        " or ".join(f"{kind} {'.'.join(map(str, least))}" for kind, least in sorted(OLDEST.items()))
        + " or newer"
    )
