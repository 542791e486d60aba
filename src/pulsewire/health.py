"""Health over HTTP: `/livez` and `/readyz` for whatever starts processes and sends them work.

`Hub.health` says how a process is; this is the small endpoint in front of it, for Kubernetes and its like. It listens
on the event loop that does the work: while that is blocked nobody answers, which says the same as an answer would. It
speaks as much HTTP/1.1 as probes need, one request per connection, and gives a client neither time nor memory to waste.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pulsewire._core.checks import check_count
from pulsewire._core.health import (
    DEFAULT_LIMITS,
    Health,
    HealthCheck,
    HealthLimits,
    HealthProblem,
)
from pulsewire.errors import InvalidOption
from pulsewire.hub import Hub

__all__ = [
    "Health",
    "HealthCheck",
    "HealthEndpoint",
    "HealthLimits",
    "HealthProblem",
    "serve_health",
]

MOST_HEADER = 8192
"""Bytes that a request may have."""
READ_WITHIN = 5.0
"""Seconds that a client has to send its request."""
WRITE_WITHIN = 5.0
"""Seconds that it has to take the answer."""
MOST_CLIENTS = 64
"""Clients that are listened to at a time; more are sent away."""
PATHS = ("/livez", "/readyz", "/health")


@dataclass(frozen=True, slots=True)
class HealthEndpoint:
    """Where it listens.

    Attributes:
        host: the address.
        port: the port that was given, or the one that the system chose.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """What to put before `/livez`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@asynccontextmanager
async def serve_health(
    hub: Hub,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: HealthLimits = DEFAULT_LIMITS,
) -> AsyncIterator[HealthEndpoint]:
    """Answer `GET` and `HEAD` of `/livez`, `/readyz` and `/health` while the block lasts.

    `/livez` and `/readyz` answer 200 or 503, `/health` always 200; all with the whole `Health` as JSON. There is no
    access control: bind it where only probes come.

    Args:
        hub: whose health it shows.
        host: the address to listen at; "0.0.0.0" for probes that come from outside of the container.
        port: 0 has the system choose one.
        limits: beyond which something is a problem.

    Yields:
        Where it listens.

    Raises:
        InvalidOption: the port is out of range or in use, or `host` is not an address of this machine.
    """
    if check_count("port", port, 0) > 65535:
        raise InvalidOption("port", port, "must be at most 65535")
    answering = _Answering(hub, limits)
    hub.health(limits)  # from now on it is measured
    try:
        server = await asyncio.start_server(answering.answer, host, port, limit=MOST_HEADER)
    except OSError as error:
        raise InvalidOption("port", port, f"cannot listen on it at {host}: {error}") from error
    try:
        bound = server.sockets[0].getsockname()
        yield HealthEndpoint(bound[0], bound[1])
    finally:
        server.close()
        await answering.end()


class _Answering:
    """The clients of one endpoint."""

    def __init__(self, hub: Hub, limits: HealthLimits) -> None:
        self._hub = hub
        self._limits = limits
        self._clients: set[asyncio.Task[Any]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, one request."""
        mine = asyncio.current_task()
        if mine is None:
            raise AssertionError("asyncio calls this in a task")
        self._clients.add(mine)
        try:
            if len(self._clients) <= MOST_CLIENTS:
                writer.write(await self._reply_to(reader))
                async with asyncio.timeout(WRITE_WITHIN):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            return  # it has left, or does not read
        except asyncio.CancelledError:
            return  # asyncio would report it; the endpoint ends, and waits for this task
        finally:
            self._clients.discard(mine)
            writer.transport.abort()

    async def end(self) -> None:
        """Send all clients away."""
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _reply_to(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(READ_WITHIN):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return _response(HTTPStatus.REQUEST_TIMEOUT, {"error": "the request took too long"})
        except asyncio.LimitOverrunError:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return _response(status, {"error": f"more than {MOST_HEADER} bytes"})
        except asyncio.IncompleteReadError:
            return _response(HTTPStatus.BAD_REQUEST, {"error": "the request has no end"})
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, {"error": "this is not an HTTP/1 request"})
        method, target = words[0], words[1].split(b"?", 1)[0].decode("latin-1")
        has_body = method != b"HEAD"
        if target not in PATHS:
            said = {"error": "there is no such path", "paths": PATHS}
            return _response(HTTPStatus.NOT_FOUND, said, has_body=has_body)
        if method not in (b"GET", b"HEAD"):
            said = {"error": "only GET and HEAD"}
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, said, "Allow: GET, HEAD\r\n")
        health = self._hub.health(self._limits)
        is_well = {"/livez": health.is_live, "/readyz": health.is_ready}.get(target, True)
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return _response(status, health.as_data(), has_body=has_body)


def _response(
    status: HTTPStatus, said: dict[str, Any], headers: str = "", *, has_body: bool = True
) -> bytes:
    body = json.dumps(said, indent=2).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        f"{headers}Connection: close\r\n\r\n"
    )
    return head.encode() + (body if has_body else b"")
