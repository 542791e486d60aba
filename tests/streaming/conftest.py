"""What the tests of streams share: streams that are destroyed afterwards, and a look at what is pending."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import pulsewire
from tests.streaming.facts import MakeStream, Pending, Raw


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
def pending(raw: Raw) -> Pending:
    """What a sink has been given and has not acknowledged, as the server says."""

    async def look(stream: pulsewire.Stream[Any], sink: str) -> list[tuple[str, str, int, int]]:
        reply = await raw(stream.key, "XPENDING", stream.key, sink, "-", "+", 10_000)
        return [
            (event_id.decode(), consumer.decode(), idle, deliveries)
            for event_id, consumer, idle, deliveries in reply
        ]

    return look
