"""What `connect()` was given, understood: which servers, found how, with which options. Nothing is opened here.

Options in a URL are redis-py's (`?socket_timeout=2&ssl_ca_certs=...`), since redis-py opens the connections.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

from pulsewire.errors import InvalidTarget

SCHEMES = (
    "redis://, rediss://, valkey://, valkeys://, unix://, redis+cluster://h1:p,h2:p, "
    "redis+sentinel://h1:p,h2:p/service (rediss+... with TLS)"
)
DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
# From the first colon to the last @, whatever is between: a password may hold characters that should have been encoded.
_SECRET_IN_URL = re.compile(
    r"^(?:(?:rediss?|valkeys?|unix)(?:\+\w+)?://)?+(?!/)[^:]*:(.*)@", re.DOTALL | re.IGNORECASE
)
_SECRET_IN_QUERY = re.compile(r"[?&][^=&]*(?:password|secret|token)[^=&]*=([^&]*)", re.IGNORECASE)
_SECONDS = ("socket_timeout", "socket_connect_timeout")


class Topology(enum.Enum):
    """How the servers are organised."""

    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart.

    Attributes:
        shown: the URL without secrets, for messages.
        hosts: addresses to start from; empty for a Unix socket.
        service: name of the master, with Sentinel.
        options: keyword arguments for redis-py's connections.
        sentinel_options: keyword arguments for its connections to the sentinels.
        tls: whether the connections are encrypted.
    """

    topology: Topology
    shown: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)
    tls: bool = False


def without_secrets(url: str) -> str:
    """`url` with passwords replaced, fit for messages and logs."""
    found = [*_SECRET_IN_URL.finditer(url), *_SECRET_IN_QUERY.finditer(url)]
    shown, end = "", 0
    for first, last in sorted(match.span(1) for match in found):
        shown += f"{url[end:first]}***" if first >= end else ""
        end = max(end, last)
    return shown + url[end:]


def parse_target(url: str) -> Target:
    """Understand a URL.

    Raises:
        InvalidTarget: it cannot be understood; the message says which part and what is expected.
    """
    shown = without_secrets(url)
    scheme, separator, rest = url.partition("://")
    if not separator or ":" in scheme:
        raise InvalidTarget(shown, f"it has no scheme; one of {SCHEMES} is needed")
    base, _, way = scheme.lower().partition("+")
    if base not in ("redis", "rediss", "valkey", "valkeys", "unix") or way not in (
        "",
        "cluster",
        "sentinel",
    ):
        raise InvalidTarget(shown, f"scheme {scheme!r} is unknown; one of {SCHEMES} is needed")
    if base == "unix":
        if way:
            raise InvalidTarget(shown, "a Unix socket is one server, neither cluster nor sentinel")
        return _parse_unix(rest, shown)
    tls = base in ("rediss", "valkeys")
    credentials, rest = _split_credentials(rest, shown)
    hosts, single = _split_hosts(
        rest, shown, DEFAULT_SENTINEL_PORT if way == "sentinel" else DEFAULT_PORT
    )
    if way == "sentinel":
        return _parse_sentinel(single, hosts, credentials, shown, tls=tls)
    options = _parse_options("rediss" if tls else "redis", single, shown) | credentials
    if way == "cluster":
        if options.pop("db", 0):
            raise InvalidTarget(shown, "a cluster has only database 0")
        return Target(Topology.CLUSTER, shown, hosts, options=options, tls=tls)
    if len(hosts) > 1:
        raise InvalidTarget(shown, f"several hosts need {base}+cluster:// or {base}+sentinel://")
    return Target(Topology.STANDALONE, shown, hosts, options=options, tls=tls)


def _parse_unix(rest: str, shown: str) -> Target:
    credentials, path = _split_credentials(rest, shown)
    if not path.startswith("/"):
        raise InvalidTarget(
            shown, "the path of the socket is missing, as in unix:///run/valkey.sock"
        )
    options = _checked_parse(f"unix://{path}", shown) | credentials
    options.pop("connection_class", None)
    return Target(Topology.STANDALONE, shown, options=options)


def _parse_sentinel(
    single: str,
    hosts: tuple[tuple[str, int], ...],
    credentials: dict[str, Any],
    shown: str,
    *,
    tls: bool,
) -> Target:
    address, _, tail = single.partition("/")
    path, _, query = tail.partition("?")
    service, _, db = path.strip("/").partition("/")
    if not service:
        raise InvalidTarget(
            shown, "the name of the master is missing, as in redis+sentinel://h1:26379/mymaster"
        )
    base, prefix, words = "rediss" if tls else "redis", "sentinel_", query.split("&")
    own = "&".join(word for word in words if not word.startswith(prefix))
    guards = "&".join(word.removeprefix(prefix) for word in words if word.startswith(prefix))
    return Target(
        Topology.SENTINEL,
        shown,
        hosts,
        unquote(service),
        _parse_options(base, f"{address}/{db}?{own}", shown) | credentials,
        _parse_options(base, f"{address}?{guards}", shown),
        tls,
    )


def _split_credentials(rest: str, shown: str) -> tuple[dict[str, Any], str]:
    """User and password, and the rest without them: redis-py's parser could quote them in its messages."""
    end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    if "#" in rest or (end and "@" in rest[end:]):
        raise InvalidTarget(
            shown, "the characters / ? # @ in user, password or options are written %2F %3F %23 %40"
        )
    userinfo, _, listed = rest[:end].rpartition("@")
    user, _, password = userinfo.partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in named.items() if value}, listed + rest[end:]


def _split_hosts(
    rest: str, shown: str, default_port: int
) -> tuple[tuple[tuple[str, int], ...], str]:
    """The addresses of a URL, and the rest with its first address alone, for redis-py's parser."""
    end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    listed, tail = rest[:end], rest[end:]
    hosts = []
    for item in listed.split(","):
        try:
            parts = urlsplit(f"//{item}")
            port = parts.port
        except ValueError as error:
            raise InvalidTarget(shown, f"{item!r} is not host:port ({error})") from None
        if not parts.hostname and (item or "," in listed):
            raise InvalidTarget(shown, f"{item!r} is not host:port")
        hosts.append((parts.hostname or "localhost", default_port if port is None else port))
    return tuple(hosts), f"{listed.split(',')[0]}{tail}"


def _parse_options(scheme: str, single: str, shown: str) -> dict[str, Any]:
    path = single.partition("?")[0].partition("/")[2].strip("/")
    if path and not (path.isascii() and path.isdigit()):
        raise InvalidTarget(shown, f"{path!r} is not a database number")
    options = _checked_parse(f"{scheme}://{single}", shown)
    for name in ("host", "port"):
        options.pop(name, None)
    if options.pop("connection_class", None) not in (None, SSLConnection):
        raise AssertionError("redis-py chose another connection class for a scheme that we gave it")
    return options


def _checked_parse(url: str, shown: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise InvalidTarget(shown, str(error)) from None
    for name in _SECONDS:
        if not 0.0 < options.get(name, 1.0) < 1e10:
            raise InvalidTarget(shown, f"{name} is a positive number of seconds")
    return options
