"""Doors: redis-py objects that open authenticated connections. Everything that is configured in redis-py stays there.

A door is opened again for each new connection, so that credentials are asked for anew and Sentinel is asked who is
master now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio
import redis
import redis.asyncio
from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from pulsewire._core.clock import SYSTEM_CLOCK, Clock
from pulsewire._redis.slots import NodeAddress
from pulsewire._redis.targets import DEFAULT_PORT, Target, Topology
from pulsewire._redis.translate import from_client
from pulsewire.errors import InvalidTarget

CONNECT_TIMEOUT = 3.0
SENTINEL_TIMEOUT = 1.0
REPLACED_FOR = 30.0
"""Seconds that news of another master count for more than a sentinel that still names the old one."""
NO_RETRY = Retry(NoBackoff(), 0)
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")


class Door(Protocol):
    """Opens connections to one server, or to whoever is master now."""

    @property
    def address(self) -> str:
        """For messages."""
        ...

    async def open(self) -> Any:
        """A new redis-py connection, connected and authenticated."""
        ...


@dataclass(frozen=True, slots=True)
class PoolDoor:
    """Makes connections as a redis-py pool does; with Sentinel that includes finding the master."""

    pool: ConnectionPool = field(repr=False)
    address: str

    async def open(self) -> Any:
        """A new connection of the pool's kind. It never enters the pool."""
        return await _connected(_new_connection(self.pool), self.address)

    def twin(self) -> PoolDoor:
        """A door to the same, for another event loop. Making connections does not tie a pool to a loop."""
        return self


@dataclass(slots=True)
class Whereabouts:
    """What a door knows of its master.

    Attributes:
        led_to: where the last connection was opened.
        replaced: a master that was replaced, by which one, and until when (monotonic) this counts.
        asking: one at a time asks the sentinels, since redis-py reorders its list of them while it asks.
    """

    led_to: tuple[str, int] | None = None
    replaced: tuple[tuple[str, int], tuple[str, int], float] | None = None
    asking: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(frozen=True, slots=True)
class SentinelDoor(PoolDoor):
    """Makes connections to whoever the sentinels name as master.

    redis-py asks them by SENTINEL MASTERS. There the sentinel that leads a failover names the old master until all
    replicas follow the new one, a second or more after the others have announced it. So the door is told of an
    announcement (`sentinels.py`), and goes to the new master when the old one is named.
    """

    whereabouts: Whereabouts = field(default_factory=Whereabouts, repr=False)
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False)

    async def open(self) -> Any:
        """A new connection to the master. It never enters the pool."""
        connection = _new_connection(self.pool)
        if not hasattr(connection, "connect_to"):  # a class of the user's, which goes its own way
            return await _connected(connection, self.address)

        async def connect() -> None:
            address = await self._find()
            try:
                await connection.connect_to(address)
            except Exception:
                replaced = self.whereabouts.replaced
                if replaced is not None and replaced[1] == address:  # it leads nowhere
                    self.whereabouts.replaced = None
                raise
            self.whereabouts.led_to = address

        return await _connected(connection, self.address, connect)

    @property
    def leads_to(self) -> tuple[str, int] | None:
        """Where the last connection was opened, or by whom that one was replaced. None before the first."""
        led_to, replaced = self.whereabouts.led_to, self.whereabouts.replaced
        if replaced is not None and replaced[0] == led_to and self.clock.monotonic() < replaced[2]:
            return replaced[1]
        return led_to

    async def find(self) -> tuple[str, int]:
        """Where a connection would be opened now.

        Raises:
            ServerUnavailable: no sentinel that answers knows the master.
        """
        try:
            return await self._find()
        except Exception as error:
            raise from_client(error, self.address) from error

    async def _find(self) -> tuple[str, int]:
        pool: Any = self.pool
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                async with self.whereabouts.asking:
                    host, port = await pool.get_master_address()
        except TimeoutError as error:
            raise redis.TimeoutError("the sentinels do not answer") from error
        if self.whereabouts.replaced is not None:
            old, new, until = self.whereabouts.replaced
            if (host, int(port)) == old and self.clock.monotonic() < until:
                return new
        return host, int(port)

    def twin(self) -> SentinelDoor:
        """A door to the same, with connections to the sentinels of its own: those belong to an event loop."""
        pool: Any = self.pool
        manager: Any = pool.sentinel_manager
        untyped_sentinel: Any = Sentinel
        options = [client.connection_pool.connection_kwargs for client in manager.sentinels]
        sentinel = untyped_sentinel(
            [(known["host"], known["port"]) for known in options],
            min_other_sentinels=manager.min_other_sentinels,
            sentinel_kwargs=manager.sentinel_kwargs,
        )
        own = {**pool.connection_kwargs, "connection_class": pool.connection_class}
        own.pop("connection_pool", None)
        return SentinelDoor(type(pool)(pool.service_name, sentinel, **own), self.address)

    def heed(self, old: tuple[str, int], new: tuple[str, int]) -> bool:
        """Hear that the sentinels replaced a master. False if that is known and was followed already."""
        about = self.whereabouts
        is_known = about.replaced is not None and about.replaced[:2] == (old, new)
        about.replaced = (old, new, self.clock.monotonic() + REPLACED_FOR)
        return not (is_known and about.led_to == new)


@dataclass(frozen=True, slots=True)
class NodeDoor:
    """Makes connections to one node of a cluster."""

    node: NodeAddress
    connection_class: type
    options: Mapping[str, Any] = field(repr=False)

    @property
    def address(self) -> str:
        """`host:port`."""
        return str(self.node)

    async def open(self) -> Any:
        """A new connection to the node."""
        options = {**self.options, "host": self.node.host, "port": self.node.port}
        return await _connected(self.connection_class(**options), self.address)


def _new_connection(pool: Any) -> Any:
    return pool.make_connection()  # redis-py gives it no types


async def _connected(
    connection: Any, address: str, connect: Callable[[], Awaitable[None]] | None = None
) -> Any:
    connection.retry = NO_RETRY  # whatever the user's client does: its pauses would add to ours
    try:
        await (connect or connection.connect)()
    except Exception as error:
        with contextlib.suppress(Exception):
            await connection.disconnect(nowait=True)
        raise from_client(error, address) from error
    except BaseException:  # cancelled: close without waiting
        if (writer := getattr(connection, "_writer", None)) is not None:
            writer.close()
        raise
    return connection


@dataclass(frozen=True, slots=True)
class ClusterDoors:
    """Doors to any node of a cluster.

    Attributes:
        startup: where to ask first.
        remap: redis-py's `address_remap`, for clusters behind address translation.
    """

    startup: tuple[NodeAddress, ...]
    connection_class: type
    options: Mapping[str, Any] = field(repr=False)
    shown: str
    remap: Any = None

    def to(self, node: NodeAddress) -> NodeDoor:
        """The door to one node."""
        if self.remap is not None:
            node = NodeAddress(*self.remap((node.host, node.port)))
        return NodeDoor(node, self.connection_class, self.options)


Doors = PoolDoor | ClusterDoors
AnyClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
"""A client that a user may hand to `connect`."""


def doors_of_target(target: Target) -> Doors:
    """The doors for a URL.

    Raises:
        InvalidTarget: redis-py does not know an option in it.
    """
    for name in _FILES:
        if (path := target.options.get(name)) and not Path(path).exists():
            raise InvalidTarget(target.shown, f"{name}: there is no {path!r}")
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": NO_RETRY,  # we retry ourselves
        "protocol": 3,
        **target.options,
    }
    try:
        if target.topology is Topology.CLUSTER:
            doors: Doors = _cluster_doors(target, options)
        elif target.topology is Topology.SENTINEL:
            doors = SentinelDoor(_sentinel_pool(target, options), target.shown)
        else:
            doors = PoolDoor(_single_pool(target, options), target.shown)
        _try_options(doors)
    except TypeError as error:
        reason = str(error).rpartition("unexpected keyword argument")[2].strip()
        raise InvalidTarget(
            target.shown, f"redis-py does not know the option {reason or error}"
        ) from error
    except (ValueError, redis.RedisError) as error:
        raise InvalidTarget(target.shown, str(error)) from error
    return doors


def _single_pool(target: Target, options: dict[str, Any]) -> ConnectionPool:
    if not target.hosts:
        return ConnectionPool(connection_class=UnixDomainSocketConnection, **options)
    if target.tls:
        options["connection_class"] = SSLConnection
    (host, port) = target.hosts[0]
    return ConnectionPool(host=host, port=port, **options)


def _sentinel_pool(target: Target, options: dict[str, Any]) -> ConnectionPool:
    sentinel_options = {
        "socket_timeout": SENTINEL_TIMEOUT,
        "socket_connect_timeout": SENTINEL_TIMEOUT,
        "retry": NO_RETRY,
        **({"ssl": True} if target.tls else {}),
        **{name: value for name, value in target.options.items() if name.startswith("ssl_")},
        **target.sentinel_options,
    }
    untyped_sentinel: Any = Sentinel
    untyped_pool: Any = SentinelConnectionPool
    sentinel = untyped_sentinel(list(target.hosts), sentinel_kwargs=sentinel_options)
    if target.tls:
        options["ssl"] = True
    pool: ConnectionPool = untyped_pool(target.service, sentinel, **options)
    return pool


def _cluster_doors(target: Target, options: dict[str, Any]) -> ClusterDoors:
    startup = tuple(NodeAddress(host, port) for host, port in target.hosts)
    connection_class = SSLConnection if target.tls else redis.asyncio.Connection
    return ClusterDoors(startup, connection_class, options, target.shown)


def _try_options(doors: Doors) -> None:
    """Make a connection object, without connecting it, so that a wrong option is found before anything is opened."""
    if isinstance(doors, PoolDoor):
        _new_connection(doors.pool)
    else:
        doors.connection_class(**{**doors.options, "host": "localhost", "port": 1})


def doors_of_client(client: object) -> Doors:
    """The doors of a client that the user has configured.

    Raises:
        InvalidTarget: it is no asyncio client of redis-py.
    """
    if isinstance(client, redis.asyncio.RedisCluster):
        nodes = client.nodes_manager
        options = dict(nodes.connection_kwargs)
        connection_class = options.pop("connection_class", redis.asyncio.Connection)
        for name in ("response_callbacks", "max_connections"):
            options.pop(name, None)
        startup = tuple(
            NodeAddress(node.host, int(node.port)) for node in nodes.startup_nodes.values()
        )
        return ClusterDoors(
            startup, connection_class, options, f"the cluster at {startup[0]}", nodes.address_remap
        )
    if isinstance(client, redis.asyncio.Redis):
        pool = client.connection_pool
        is_sentinel = isinstance(pool, SentinelConnectionPool) and pool.is_master
        return (SentinelDoor if is_sentinel else PoolDoor)(pool, _describe(pool))
    hint = "a URL or a client of redis.asyncio is needed"
    if isinstance(client, (redis.Redis, redis.RedisCluster)):
        hint = "it is a blocking client; use the one of the same name from redis.asyncio"
    raise InvalidTarget(type(client).__name__, hint)


def _describe(pool: ConnectionPool) -> str:
    if isinstance(pool, SentinelConnectionPool):
        return f"the master {pool.service_name!r}"
    options = pool.connection_kwargs
    if path := options.get("path"):
        return f"unix://{path}"
    return f"redis://{options.get('host', 'localhost')}:{options.get('port', DEFAULT_PORT)}/{options.get('db', 0)}"


async def close_doors(doors: Doors) -> None:
    """Close what redis-py holds open for a URL's doors (the connections to the sentinels). Not for a user's client."""
    if isinstance(doors, PoolDoor) and isinstance(doors.pool, SentinelConnectionPool):
        for sentinel in doors.pool.sentinel_manager.sentinels:
            with contextlib.suppress(Exception):
                await sentinel.aclose()
