"""Maps in bad weather: every replica is as the server soon after it is there again, and each write happens once."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import anyio
import pytest

import pulsewire
from pulsewire.rmap import Change, Changes
from pulsewire.testing import (
    ClusterGroup,
    FaultProxy,
    SentinelGroup,
    SingleServer,
    Topology,
    slot_of,
    wait_until,
)
from tests.weather.patience import SHARING
from tests.weather.report import note_fact

pytestmark = [pytest.mark.weather, pytest.mark.leaves_keys]

TRIES = int(os.environ.get("PULSEWIRE_TRIES", "100"))
SHORT_TRIES = int(os.environ.get("PULSEWIRE_SHORT_FAILOVERS", "1"))
LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]
REPLICAS = 3
PAUSE = 0.01
CONVERGED_WITHIN = 3.0 * SHARING
"""Seconds from the server being there again until every replica is as the server: the promise."""
CONVERGED_FROM_SILENCE = 5.0 * SHARING
"""The same where nothing told that the connection was dead."""
NAME = "weather"


@dataclass(slots=True)
class Book:
    """What writers were told, to hold against what the map has in the end."""

    counted: int = 0
    uncertain: int = 0
    refused: int = 0
    appended: list[str] = field(default_factory=list)
    maybe_appended: list[str] = field(default_factory=list)
    latest: dict[str, set[str | None]] = field(default_factory=dict)
    """Per key that one writer has, the values it may have now."""


class Writers:
    """Write all the time, each kind of write by a task of its own.

    Attributes:
        may_vanish: whether the server may lose what it has acknowledged (a failover), so that replies prove nothing.
    """

    def __init__(self, written: pulsewire.ReplicatedMap[str], seed: int) -> None:
        self.book = Book()
        self.may_vanish = False
        self._map = written
        self._random = random.Random(seed)
        self._flowing = anyio.Event()
        self._flowing.set()
        self._busy = 0

    async def pause(self) -> None:
        """Write nothing more; returns when nothing is under way."""
        self._flowing = anyio.Event()
        await wait_until(lambda: not self._busy, timeout=60.0, what="all writes have ended")

    def go_on(self) -> None:
        """Write again."""
        self._flowing.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(self._again_and_again, self._count)
                tasks.start_soon(self._again_and_again, self._append)
                tasks.start_soon(self._again_and_again, self._replace, f"own-{number}")

    async def _again_and_again(self, write: Callable[..., Awaitable[None]], *args: str) -> None:
        while True:
            # waiting gives way to others also where it is set already
            while not self._flowing.is_set():
                await self._flowing.wait()
            self._busy += 1
            try:
                await write(*args)
            finally:
                self._busy -= 1
            await anyio.sleep(PAUSE)

    async def _count(self) -> None:
        try:
            await self._map.inc("count")
        except pulsewire.OutcomeUnknown:
            self.book.uncertain += 1
        except pulsewire.ServerUnavailable:
            self.book.refused += 1
        else:
            self.book.counted += 1

    async def _append(self) -> None:
        token = f"{self._random.getrandbits(48):x}"
        try:
            listed = await self._map.append_values("list", token)
        except pulsewire.OutcomeUnknown:
            self.book.maybe_appended.append(token)
        except pulsewire.ServerUnavailable:
            self.book.refused += 1
        else:
            assert listed.count(token) == 1
            self.book.appended.append(token)

    async def _replace(self, key: str) -> None:
        """Set, swap and delete; each reply tells what this writer had written before."""
        may_be = self.book.latest.setdefault(key, {None})
        new = None if self._random.random() < 0.1 else f"{self._random.getrandbits(48):x}"
        try:
            if new is None:
                old = await self._map.delete(key)
            elif len(may_be) == 1 and (known := next(iter(may_be))) is not None:
                swapped = await self._map.test_and_set(key, known, new)
                assert swapped.updated or self.may_vanish, (key, known, swapped)
                old = swapped.old
            else:
                old = await self._map.set(key, new)
        except pulsewire.OutcomeUnknown:
            may_be.add(new)
            self.book.uncertain += 1
        except pulsewire.ServerUnavailable:
            self.book.refused += 1
        else:
            if not self.may_vanish:
                assert old in may_be, f"{key} held {old!r}, which is none of {may_be}"
            self.book.latest[key] = {new}


class Watcher:
    """Folds changes into a copy, as a user would."""

    def __init__(self, changes: Changes[str]) -> None:
        self.seen: dict[str, str] = {}
        self._changes = changes

    async def run(self) -> None:
        """Until the map is closed."""
        async for change in self._changes:
            self.take(change)

    def take(self, change: Change[str]) -> None:
        """One change."""
        if change.kind == "reset":
            self.seen.clear()
        elif change.key is not None and change.new is not None:
            self.seen[change.key] = change.new
        elif change.key is not None:
            self.seen.pop(change.key, None)


@dataclass(slots=True)
class Station:
    """A map with writers, replicas and watchers."""

    topology: Topology
    key: str
    writers: Writers
    replicas: Sequence[pulsewire.ReplicatedMap[str]]
    watchers: Sequence[Watcher]
    random: random.Random
    delays: list[float] = field(default_factory=list)

    async def server(self) -> SingleServer:
        """Who has the map now."""
        return await self.topology.node_of(self.key)

    async def content(self) -> tuple[dict[str, str], int]:
        """Content and revision, as the server says."""
        flat = await (await self.server()).command("HGETALL", self.key)
        pairs = dict(zip(flat[::2], flat[1::2], strict=True))
        revision = int(pairs.pop(b"=rev", b"0"))
        pairs.pop(b"=kind", None)
        return {key.decode(): value.decode() for key, value in pairs.items()}, revision

    async def converge(self, there_again: float) -> None:
        """Wait until every replica has what the server had when it was there again, and then all of it."""
        _, goal = await self.content()
        await wait_until(
            lambda: all(replica.ready and replica.revision >= goal for replica in self.replicas),
            timeout=30.0,
            what=f"all replicas have come to revision {goal}",
        )
        self.delays.append(time.monotonic() - there_again)
        await self.writers.pause()
        content, revision = await self.content()
        await wait_until(
            lambda: all(replica.revision == revision for replica in self.replicas),
            timeout=10.0,
            what=f"all replicas have come to revision {revision}",
        )
        for replica in self.replicas:
            assert replica.snapshot() == content
        await wait_until(
            lambda: all(watcher.seen == content for watcher in self.watchers),
            timeout=10.0,
            what="all watchers have seen the final values",
        )
        self.writers.go_on()

    async def judge(self, name: str, longest: float) -> None:
        """Each write has happened once, or not at all where it was refused."""
        await self.writers.pause()
        content, _ = await self.content()
        book = self.writers.book
        facts: dict[str, object] = {
            "tries": len(self.delays),
            "p50": round(sorted(self.delays)[len(self.delays) // 2], 3),
            "max": round(max(self.delays), 3),
            "writes": book.counted + len(book.appended),
            "uncertain": book.uncertain + len(book.maybe_appended),
            "refused": book.refused,
            "snapshots": sum(replica.statistics().snapshots for replica in self.replicas),
        }
        note_fact(f"maps: {name}", facts)
        counted = int(content["count"])
        assert book.counted <= counted <= book.counted + book.uncertain
        listed = pulsewire.typed(list[str]).decode(content["list"].encode())
        assert len(set(listed)) == len(listed), "an append happened twice"
        assert set(book.appended) <= set(listed) <= {*book.appended, *book.maybe_appended}
        for key, may_be in book.latest.items():
            assert content.get(key) in may_be
        assert max(self.delays) < longest, self.delays


@asynccontextmanager
async def station(
    topology: Topology, url: str, namespace: str, seed: int
) -> AsyncIterator[Station]:
    """One writing hub, and replicas in hubs of their own; all behind the same URL."""
    async with AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(pulsewire.connect(url, namespace=namespace))
            for _ in range(REPLICAS)
        ]
        maps = [await stack.enter_async_context(hub.map(NAME, max_value=2**26)) for hub in hubs]
        watchers = [Watcher(joined.changes(initial=True)) for joined in maps]
        writers = Writers(maps[0], seed)
        async with anyio.create_task_group() as tasks:
            for watcher in watchers:
                tasks.start_soon(watcher.run)
            tasks.start_soon(writers.run)
            key = f"{namespace}:map:{NAME}:content" if namespace else f"map:{NAME}:content"
            yield Station(topology, key, writers, maps, watchers, random.Random(seed))
            tasks.cancel_scope.cancel()


# --- one server

Blow = Callable[[Station, SingleServer, FaultProxy], Awaitable[float]]
"""Lets something happen; the monotonic time at which the server was there again for everybody."""


async def restart(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
    """SIGKILL, down for a moment, restarted on its data."""
    await server.kill()
    await anyio.sleep(at.random.uniform(0.0, 0.5))
    await server.restart()
    return time.monotonic()


async def kill_subscribers(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
    """The server drops whoever has subscribed."""
    await server.command("CLIENT", "KILL", "TYPE", "pubsub")
    return time.monotonic()


async def kill_clients(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
    """The server drops everybody."""
    await server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await server.command("CLIENT", "KILL", "TYPE", "normal")
    return time.monotonic()


def swallow(then: Literal["cut", "stall"]) -> Blow:
    """A write is carried out, its reply never comes, and the connection is cut or silent from then on."""

    async def blow(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
        fault = proxy.swallow_reply("EVALSHA", every=at.random.randrange(1, 10), then=then)
        await fault.wait_hit(timeout=30.0)
        fault.disarm()
        return time.monotonic()

    return blow


async def cut(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
    """All connections are reset."""
    proxy.cut("rst")
    return time.monotonic()


async def black_hole(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
    """Nothing moves, nothing closes, and what was on its way is gone."""
    proxy.stall("both")
    await anyio.sleep(at.random.uniform(1.0, 6.0))
    proxy.cut("rst")
    proxy.resume("both")
    return time.monotonic()


async def frozen_connections(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
    """What was on its way arrives late: also writes that were given up and sent again."""
    proxy.stall("both")
    await anyio.sleep(at.random.uniform(1.0, 8.0))
    proxy.resume("both")
    return time.monotonic()


async def freeze(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
    """SIGSTOP, and SIGCONT after a while: what the server had not read yet, it carries out then."""
    server.pause()
    await anyio.sleep(at.random.uniform(1.0, 6.0))
    server.resume()
    return time.monotonic()


async def flush_scripts(at: Station, server: SingleServer, proxy: FaultProxy) -> float:
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
            station(server, proxy.url, "", seed) as at,
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
            tasks.create_task(run_kind(kind, kind.tries, number))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name.replace(" ", "-") for kind in KINDS])
async def test_replicas_converge_in_many_tries(anyio_backend: object, kind: Kind) -> None:
    """The same, one kind at a time, in `PULSEWIRE_TRIES` tries."""
    await run_kind(kind, TRIES, 0)


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
    async with station(group, group.url, namespace, 1) as at:
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
        note_fact(f"maps: Sentinel, {how}", {"tries": tries, "max": round(max(at.delays), 3)})
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
    async with station(group, group.url, namespace, 2) as at:
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
    async with station(group, group.url, namespace, 3) as at:
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
