"""What the tests of streams share: streams that are destroyed afterwards, bare commands, and hooks that remember."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import pulsewire
from pulsewire.testing import FaultProxy, SingleServer, Topology
from tests.streaming.facts import Facts, MakeStream, Pending, Raw


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module's `TOPOLOGIES` are the ones its tests go through: for what is the same everywhere, two will do."""
    chosen = getattr(metafunc.module, "TOPOLOGIES", None)
    marked = any(
        "topology" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    )
    if chosen is not None and "topology" in metafunc.fixturenames and not marked:
        mark = pytest.mark.parametrize("topology", chosen, indirect=True)
        metafunc.definition.add_marker(mark)


@pytest.fixture
async def make_stream(hub: pulsewire.Hub) -> AsyncIterator[MakeStream]:
    """Streams of the hub; each is destroyed after the test, with its dead letters."""
    made: dict[str, pulsewire.Stream[Any]] = {}

    def make(name: str = "events", **options: Any) -> pulsewire.Stream[Any]:
        stream: pulsewire.Stream[Any] = hub.stream(name, **options)
        made[stream.key] = stream
        return stream

    yield make
    for stream in made.values():
        await stream.destroy()
        await stream.sibling(f"{stream.name}.dead").destroy()


@pytest.fixture
def stream(make_stream: MakeStream) -> pulsewire.Stream[bytes]:
    """One stream with the options that everybody gets."""
    return make_stream()


@pytest.fixture
def raw(topology: Topology) -> Raw:
    """Send a bare command to whoever has a key."""

    async def send(key: str, *command: Any) -> Any:
        return await (await topology.node_of(key)).command(*command)

    return send


@pytest.fixture
def pending(raw: Raw) -> Pending:
    """What a sink has been given and has not acknowledged, as the server says."""

    async def look(stream: pulsewire.Stream[Any], sink: str) -> list[tuple[str, str, int, int]]:
        reply = await raw(stream.key, "XPENDING", stream.key, sink, "-", "+", 10_000)
        return [
            (event_id.decode(), consumer.decode(), idle, deliveries)
            for event_id, consumer, idle, deliveries in reply
        ]

    return look


@pytest.fixture
def facts() -> Facts:
    """Hooks that remember what they were told."""
    return Facts()


@pytest.fixture
async def watched(topology: Topology, namespace: str, facts: Facts) -> AsyncIterator[pulsewire.Hub]:
    """A hub beside `hub`, in the same namespace, that tells `facts`."""
    async with pulsewire.connect(topology.url, namespace=namespace, hooks=facts) as hub:
        yield hub


@pytest.fixture
async def proxy(single_server: SingleServer) -> AsyncIterator[FaultProxy]:
    """Bad weather in front of the single server."""
    async with FaultProxy(single_server) as proxy:
        yield proxy


@pytest.fixture
async def weathered(
    proxy: FaultProxy, namespace: str, facts: Facts
) -> AsyncIterator[pulsewire.Hub]:
    """A hub behind the proxy. It takes a silent connection for dead after 0.3 s already."""
    url = f"{proxy.url}?socket_timeout=0.3"
    async with pulsewire.connect(url, namespace=namespace, hooks=facts) as hub:
        yield hub
