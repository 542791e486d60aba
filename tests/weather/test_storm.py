"""Many clients lose their server at once: they come back without storming it, and leave no connection behind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

import pulsewire
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.weather.patience import SHARING
from tests.weather.report import Tally, note_fact
from tests.weather.seeds import LONG, SEED, drawing

pytestmark = pytest.mark.weather

ATTEMPTS_A_SECOND = 5.0
"""Connections that one client opens, at most, while its server is away: the promise."""
BACK_WITHIN = 10.0 * SHARING
"""Seconds until there are as many connections as before: the promise."""
AWAY = 3.0
AT_ONCE = 20
"""Clients that connect at the same time."""


@asynccontextmanager
async def clients(url: str, count: int) -> AsyncIterator[list[pulsewire.Hub]]:
    """So many hubs, each with a sink that waits for events, and a replica of a map."""
    async with AsyncExitStack() as stack:
        hubs = [await stack.enter_async_context(pulsewire.connect(url)) for _ in range(count)]
        for number, hub in enumerate(hubs):
            stream = hub.stream("news")
            sink = stream.sink(f"sink-{number % AT_ONCE}", start="newest")
            taking = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(taking.cancel_scope.cancel)
            taking.start_soon((await stack.enter_async_context(sink)).consume, ignore)
            await stack.enter_async_context(hub.map("flags"))
        yield hubs


async def ignore(event: pulsewire.Event[bytes]) -> None:
    """Handle nothing."""


@pytest.mark.parametrize(
    ("count", "restarts"),
    [pytest.param(20, 1, id="short"), pytest.param(200, 20, id="long", marks=LONG)],
)
async def test_clients_do_not_storm_their_server(
    anyio_backend: object, count: int, restarts: int
) -> None:
    """While it is away each tries a few times a second at most; soon after there are as many connections as before."""
    drawn, delays = drawing("connection storm"), list[float]()
    async with (
        SingleServer() as server,
        FaultProxy(server, seed=SEED) as proxy,
        clients(proxy.url, count) as hubs,
    ):
        await works(hubs)
        before = len(await server.clients())
        most = 0.0
        for _ in range(restarts):
            opened, began = proxy.statistics().connections, time.monotonic()
            await server.kill()
            await anyio.sleep(AWAY + drawn.uniform(0.0, 1.0))
            away = time.monotonic() - began
            attempts = (proxy.statistics().connections - opened) / count / away
            most = max(most, attempts)
            await server.restart()
            there_again = time.monotonic()
            await works(hubs)
            await wait_connections(server, before)
            delays.append(time.monotonic() - there_again)
        tally = Tally(block="connections", tries=restarts, acts=count, recoveries=delays)
        facts = {"clients": count, "connections": before, "attempts a second each": round(most, 2)}
        note_fact("connection storm", facts, tally)
        assert most <= ATTEMPTS_A_SECOND
        assert max(delays) < BACK_WITHIN, delays


async def works(hubs: list[pulsewire.Hub]) -> None:
    """Each of them is answered."""
    async with anyio.create_task_group() as tasks:
        for hub in hubs:
            tasks.start_soon(hub.ping)


async def wait_connections(server: SingleServer, before: int) -> None:
    """Wait until there are as many as before, and not more."""

    async def are_back() -> bool:
        return len(await server.clients()) == before

    await wait_until(are_back, timeout=30.0, what=f"there are {before} connections again")
