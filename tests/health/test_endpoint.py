"""The HTTP endpoint: what it answers to probes, and to clients that are none."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import InvalidOption, health
from pulsewire.health import Health, HealthEndpoint, HealthProblem, serve_health
from pulsewire.testing import wait_until
from tests.facts import PATIENCE

Ask = Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]]
TOPOLOGIES = ["standalone"]


@pytest.fixture
async def endpoint(hub: pulsewire.Hub) -> AsyncIterator[HealthEndpoint]:
    async with serve_health(hub) as endpoint:
        yield endpoint


async def talk(endpoint: HealthEndpoint, said: bytes, *, and_end: bool = False) -> bytes:
    """Say something; everything that is answered until the end."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(said)
        if and_end:
            writer.write_eof()
        with anyio.fail_after(PATIENCE):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def ask(endpoint: HealthEndpoint) -> Ask:
    """Ask for a path; the status, the headers and the body of the answer."""

    async def request(path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        said = f"{method} {path} HTTP/1.1\r\nHost: {endpoint.host}\r\n\r\n".encode()
        head, _, body = (await talk(endpoint, said)).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(first.split()[1]), headers, body

    return request


async def test_probes_of_a_healthy_hub_get_200(hub: pulsewire.Hub, ask: Ask) -> None:
    for path in ("/livez", "/readyz", "/health", "/livez?verbose=1"):
        status, headers, body = await ask(path)
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert int(headers["content-length"]) == len(body)
        said = json.loads(body)
        assert said["is_live"]
        assert said["is_ready"]
        assert said["problems"] == []
        assert {check["state"] for check in said["checks"]} >= {"connected", "in time"}


@pytest.mark.parametrize(
    ("is_live", "is_ready", "statuses"),
    [
        (True, False, {"/livez": 200, "/readyz": 503, "/health": 200}),
        (False, False, {"/livez": 503, "/readyz": 503, "/health": 200}),
    ],
)
async def test_probes_of_others_get_503_and_why(
    hub: pulsewire.Hub,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    is_live: bool,
    is_ready: bool,
    statuses: dict[str, int],
) -> None:
    problem = HealthProblem("redis", "redis://a", "is not connected: refused", 3.0)
    monkeypatch.setattr(
        hub, "health", lambda limits: Health(is_live, is_ready, True, (problem,), 0.0, ())
    )
    for path, expected in statuses.items():
        status, _, body = await ask(path)
        assert status == expected
        assert json.loads(body)["problems"][0]["what"] == "is not connected: refused"


async def test_head_gets_what_get_gets_but_for_the_body(ask: Ask) -> None:
    status, headers, body = await ask("/readyz", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    assert (await ask("/nowhere", "HEAD"))[::2] == (404, b"")


async def test_other_paths_and_methods_are_refused(ask: Ask) -> None:
    status, _, body = await ask("/metrics")
    assert status == 404
    assert "/livez" in json.loads(body)["paths"]
    assert (await ask("/"))[0] == 404
    status, headers, _ = await ask("/livez", "POST")
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez SPDY/3\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xff\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 404),
        (b"GET /livez HTTP/1.1\r\n" + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"a" * 20_000, 431),
    ],
)
async def test_nonsense_is_answered(endpoint: HealthEndpoint, said: bytes, status: int) -> None:
    assert (await talk(endpoint, said)).startswith(b"HTTP/1.1 %d " % status)


async def test_a_request_without_end_is_answered_when_it_ends(endpoint: HealthEndpoint) -> None:
    answer = await talk(endpoint, b"GET /livez HTTP/1.1\r\n", and_end=True)
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_says_nothing_is_sent_away(
    endpoint: HealthEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READ_WITHIN", 0.05)
    assert (await talk(endpoint, b"GET /liv")).startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_leaves_is_no_trouble(endpoint: HealthEndpoint, ask: Ask) -> None:
    with socket.create_connection((endpoint.host, endpoint.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
    assert (await ask("/livez"))[0] == 200


async def test_too_many_clients_are_sent_away(
    endpoint: HealthEndpoint, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are answered, and there is room again when they have left."""
    monkeypatch.setattr(health, "MOST_CLIENTS", 2)
    idle = [await asyncio.open_connection(endpoint.host, endpoint.port) for _ in range(2)]

    async def is_answered() -> bool:
        return bool(await talk(endpoint, b"GET /livez HTTP/1.1\r\n\r\n"))

    async def is_refused() -> bool:
        try:
            return not await is_answered()
        except ConnectionResetError:
            return True

    await wait_until(is_refused, timeout=PATIENCE, what="a third client is sent away")
    for reader, writer in idle:
        writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()
    await wait_until(is_answered, timeout=PATIENCE, what="there is room again")


async def test_an_endpoint_ends_with_its_block(hub: pulsewire.Hub) -> None:
    """Clients that are connected are sent away; its port is free again."""
    async with serve_health(hub) as endpoint:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    with pytest.raises(OSError):  # noqa: PT011  # which one depends on the system
        await asyncio.open_connection(endpoint.host, endpoint.port)
    with pytest.raises((ConnectionResetError, AssertionError)):
        assert await reader.read(), "it was sent away"
    writer.close()
    async with serve_health(hub, port=endpoint.port) as again:
        assert again == endpoint
        assert again.url == f"http://127.0.0.1:{endpoint.port}"


@pytest.mark.parametrize("options", [{"port": -1}, {"port": 65536}, {"host": "192.0.2.1"}])
async def test_impossible_addresses(hub: pulsewire.Hub, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="port"):
        async with serve_health(hub, **options):
            pass


async def test_a_port_in_use_is_refused(hub: pulsewire.Hub, endpoint: HealthEndpoint) -> None:
    with pytest.raises(InvalidOption, match=str(endpoint.port)):
        async with serve_health(hub, port=endpoint.port):
            pass


def test_addresses_of_version_6_are_written_with_brackets() -> None:
    assert HealthEndpoint("::1", 80).url == "http://[::1]:80"
