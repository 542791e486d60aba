"""Holding something from two tasks, as fixtures of pytest-asyncio do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

import pulsewire
from pulsewire.testing import Topology, held
from tests.facts import PATIENCE


async def test_all_that_is_entered_by_one_task_can_be_left_by_another(
    topology: Topology, namespace: str
) -> None:
    """A hub, a sink, a map and a node, used by a third one in between."""
    stack = AsyncExitStack()

    async def set_up() -> tuple[pulsewire.Hub, pulsewire.Sink[bytes]]:
        hub = await stack.enter_async_context(
            held(pulsewire.connect(topology.url, namespace=namespace))
        )
        sink = await stack.enter_async_context(held(hub.stream("events", ttl=60.0).sink("s")))
        await stack.enter_async_context(held(hub.map("flags", ttl=60.0)))
        await stack.enter_async_context(held(hub.node("pool", client_only=True)))
        return hub, sink

    hub, sink = await asyncio.create_task(set_up())
    await asyncio.create_task(_add(hub))
    (event,) = await sink.read(timeout=PATIENCE)
    await event.ack()
    await asyncio.create_task(stack.aclose())
    with pytest.raises(pulsewire.Closed):
        await sink.read()


async def _add(hub: pulsewire.Hub) -> None:
    await hub.stream("events", ttl=60.0).add("e", b"")


async def test_error_of_entering_comes_out_there(anyio_backend: object) -> None:
    with pytest.raises(pulsewire.InvalidTarget):
        async with held(pulsewire.connect("nonsense://")):
            raise AssertionError


async def test_error_of_leaving_comes_out_there(anyio_backend: object) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[int]:
        yield 7
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with held(broken()) as value:
            assert value == 7


async def test_who_is_cancelled_while_it_enters_leaves_nothing_behind(
    anyio_backend: object,
) -> None:
    """It is entered and left all the same."""
    steps = list[str]()
    may_enter = asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        await may_enter.wait()
        steps.append("entered")
        yield
        steps.append("left")

    entering = asyncio.create_task(held(slow()).__aenter__())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    entering.cancel()
    may_enter.set()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert steps == ["entered", "left"]
