"""Maps in bad weather: every replica is as the server soon after it is there again, and each write happens once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import anyio
import pytest

from pulsewire.testing import (
    ClusterGroup,
    FaultProxy,
    SentinelGroup,
    SingleServer,
    slot_of,
    wait_until,
)
from tests.weather.map_station import (
    CONVERGED_FROM_SILENCE,
    CONVERGED_WITHIN,
    MapStation,
    map_station,
)
from tests.weather.report import Tally, note_fact
from tests.weather.seeds import LONG, SEED, tries_of

pytestmark = [pytest.mark.weather, pytest.mark.leaves_keys]

TRIES = tries_of(100)
SHORT_TRIES = int(os.environ.get("PULSEWIRE_SHORT_FAILOVERS", "1"))
# --- one server

Blow = Callable[[MapStation, SingleServer, FaultProxy], Awaitable[float]]
"""Lets something happen; the monotonic time at which the server was there again for everybody."""


async def restart(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """SIGKILL, down for a moment, restarted on its data."""
    await server.kill()
    await anyio.sleep(at.random.uniform(0.0, 0.5))
    await server.restart()
    return time.monotonic()


async def kill_subscribers(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """The server drops whoever has subscribed."""
    await server.command("CLIENT", "KILL", "TYPE", "pubsub")
    return time.monotonic()


async def kill_clients(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """The server drops everybody."""
    await server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await server.command("CLIENT", "KILL", "TYPE", "normal")
    return time.monotonic()


def swallow(then: Literal["cut", "stall"]) -> Blow:
    """A write is carried out, its reply never comes, and the connection is cut or silent from then on."""

    async def blow(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
        fault = proxy.swallow_reply("EVALSHA", every=at.random.randrange(1, 10), then=then)
        await fault.wait_hit(timeout=30.0)
        fault.disarm()
        return time.monotonic()

    return blow


async def cut(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """All connections are reset."""
    proxy.cut("rst")
    return time.monotonic()


async def black_hole(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """Nothing moves, nothing closes, and what was on its way is gone."""
    proxy.stall("both")
    await anyio.sleep(at.random.uniform(1.0, 6.0))
    proxy.cut("rst")
    proxy.resume("both")
    return time.monotonic()


async def frozen_connections(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """What was on its way arrives late: also writes that were given up and sent again."""
    proxy.stall("both")
    await anyio.sleep(at.random.uniform(1.0, 8.0))
    proxy.resume("both")
    return time.monotonic()


async def freeze(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """SIGSTOP, and SIGCONT after a while: what the server had not read yet, it carries out then."""
    server.pause()
    await anyio.sleep(at.random.uniform(1.0, 6.0))
    server.resume()
    return time.monotonic()


async def flush_scripts(at: MapStation, server: SingleServer, proxy: FaultProxy) -> float:
    """The server forgets all scripts, ten times."""
    began = time.monotonic()
    for _ in range(10):
        await server.command("SCRIPT", "FLUSH")
        await anyio.sleep(at.random.uniform(0.0, 0.02))
    return began


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bad weather. `tries` is how often it happens in the short form."""

    name: str
    blow: Blow
    tries: int = 5
    longest: float = CONVERGED_WITHIN


KINDS = (
    Kind("server killed", restart),
    Kind("CLIENT KILL TYPE pubsub", kill_subscribers, 10),
    Kind("CLIENT KILL of everybody", kill_clients, 10),
    Kind("connections reset", cut, 10),
    Kind("replies swallowed, then cut", swallow("cut"), 10),
    Kind("replies swallowed, then stall", swallow("stall"), 2, CONVERGED_FROM_SILENCE),
    Kind("black hole", black_hole, 2, CONVERGED_FROM_SILENCE),
    Kind("connections frozen", frozen_connections, 2, CONVERGED_FROM_SILENCE),
    Kind("server frozen", freeze, 2, CONVERGED_FROM_SILENCE),
    Kind("SCRIPT FLUSH", flush_scripts),
)


async def run_kind(kind: Kind, tries: int, seed: int) -> None:
    """All tries of a kind at a server of its own, and the judgement."""
    print(f"maps: {kind.name}, seed {seed}")
    try:
        async with (
            SingleServer(args=("--appendfsync", "always")) as server,
            FaultProxy(server, seed=seed) as proxy,
            map_station(server, proxy.url, "", seed) as at,
        ):
            await at.converge(time.monotonic())
            at.delays.clear()
            for _ in range(tries):
                await anyio.sleep(at.random.uniform(0.0, 0.3))
                there_again = await kind.blow(at, server, proxy)
                await at.converge(there_again)
                proxy.clear()
            await at.judge(kind.name, kind.longest)
    except Exception as error:
        error.add_note(f"the weather: {kind.name}, seed {seed}")
        raise


async def test_replicas_converge_and_writes_happen_once(anyio_backend: object) -> None:
    """All kinds at once, each at a server of its own: most of it is waiting."""
    async with asyncio.TaskGroup() as tasks:
        for number, kind in enumerate(KINDS):
            tasks.create_task(run_kind(kind, kind.tries, SEED + number))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name.replace(" ", "-") for kind in KINDS])
async def test_replicas_converge_in_many_tries(anyio_backend: object, kind: Kind) -> None:
    """The same, one kind at a time, in `PULSEWIRE_TRIES` tries."""
    await run_kind(kind, TRIES, SEED)


# --- failovers


@pytest.mark.parametrize(
    ("how", "tries"),
    [
        pytest.param("killed", SHORT_TRIES, id="killed-few"),
        pytest.param("killed", TRIES, id="killed-many", marks=LONG),
        pytest.param("ordered", SHORT_TRIES, id="ordered-few"),
        pytest.param("ordered", TRIES, id="ordered-many", marks=LONG),
    ],
)
async def test_replicas_follow_a_sentinel_failover(
    sentinel_group: SentinelGroup, namespace: str, how: str, tries: int
) -> None:
    """What the new master has is what everybody has; what it never got steps back, and is reported so."""
    group = sentinel_group
    async with map_station(group, group.url, namespace, SEED) as at:
        at.writers.may_vanish = True
        for _ in range(tries):
            await group.wait_healthy()
            await anyio.sleep(at.random.uniform(0.0, 0.3))
            if how == "killed":
                old = await group.kill_master()
                await group.wait_new_master(old)
            else:
                old = await group.master()
                await group.failover()
                await wait_is_replica(old)
            await at.converge(time.monotonic())
            await group.heal()
        tally = Tally(block="maps", tries=tries, acts=at.writers.book.counted, recoveries=at.delays)
        note_fact(f"maps: Sentinel, {how}", {"tries": tries, "max": max(at.delays)}, tally)
        assert max(at.delays) < CONVERGED_WITHIN


async def wait_is_replica(server: SingleServer) -> None:
    """Wait until a former master knows that it is none."""

    async def is_replica() -> bool:
        return (await server.info("replication"))["role"] == "slave"

    await wait_until(is_replica, timeout=20.0, what=f"{server!r} is a replica")


@pytest.mark.parametrize(
    "tries",
    [
        pytest.param(SHORT_TRIES, id="few"),
        pytest.param(TRIES, id="many", marks=LONG),
    ],
)
async def test_replicas_follow_a_cluster_failover_and_their_slot(
    cluster_group: ClusterGroup, namespace: str, tries: int
) -> None:
    """An ordered failover, a slot that moves, and a slot that is half moved: no write fails, all converge."""
    group = cluster_group
    async with map_station(group, group.url, namespace, SEED) as at:
        slot = slot_of(at.key)
        for _ in range(tries):
            await group.wait_healthy()
            await group.failover(await group.node_of(at.key))
            await at.converge(time.monotonic())
            owner = await group.owner_of(slot)
            other = next(node for node in await group.masters() if node is not owner)
            move = await group.slot_move(slot, other)
            await move.open()
            await at.converge(time.monotonic())  # still here, the slot half open
            await move.migrate_all()
            counted = at.writers.book.counted
            await wait_until(
                lambda: at.writers.book.counted > counted,  # noqa: B023  # awaited at once
                timeout=10.0,
                what="a write to the half moved slot",
            )
            await move.migrate_all()
            await move.close()
            await at.converge(time.monotonic())
            await group.move_slot(slot, owner)
            await at.converge(time.monotonic())
        await at.judge("Cluster: failover, slot moved", CONVERGED_WITHIN)
        assert not at.writers.book.refused


async def test_replicas_follow_when_a_cluster_master_is_killed(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """Its replica takes over; whatever it has is what everybody has."""
    group = cluster_group
    async with map_station(group, group.url, namespace, SEED) as at:
        at.writers.may_vanish = True
        slot = slot_of(at.key)
        await group.wait_healthy()
        await at.writers.pause()
        old = await group.kill_master_of(at.key)
        await group.wait_new_owner(slot, old)
        at.writers.go_on()
        await at.converge(time.monotonic())
        assert max(at.delays) < CONVERGED_WITHIN
        await group.heal()
