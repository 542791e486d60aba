"""A map under observation: writers, replicas and watchers, and what must hold of them whatever happens.

`test_maps.py` says what shall happen when.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio

import pulsewire
from pulsewire.rmap import Change, Changes
from pulsewire.testing import SingleServer, Topology, wait_until
from tests.weather.patience import SHARING
from tests.weather.report import Tally, note_fact

REPLICAS = 3
PAUSE = 0.01
CONVERGED_WITHIN = 3.0 * SHARING
"""Seconds from the server being there again until every replica is as the server: the promise."""
CONVERGED_FROM_SILENCE = 5.0 * SHARING
"""The same where nothing told that the connection was dead."""
NAME = "weather"
NOTHING_WRITTEN = (pulsewire.ServerUnavailable, pulsewire.ServerFull)


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

    def __init__(
        self, written: pulsewire.ReplicatedMap[str], seed: int, pause: float = PAUSE
    ) -> None:
        self.book = Book()
        self.may_vanish = False
        self._map = written
        self._random = random.Random(seed)
        self._pause = pause
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
            await anyio.sleep(self._pause)

    async def _count(self) -> None:
        try:
            await self._map.inc("count")
        except pulsewire.OutcomeUnknown:
            self.book.uncertain += 1
        except NOTHING_WRITTEN:
            self.book.refused += 1
        else:
            self.book.counted += 1

    async def _append(self) -> None:
        token = f"{self._random.getrandbits(48):x}"
        try:
            listed = await self._map.append_values("list", token)
        except pulsewire.OutcomeUnknown:
            self.book.maybe_appended.append(token)
        except NOTHING_WRITTEN:
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
        except NOTHING_WRITTEN:
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
class MapStation:
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
            "p50": round(statistics.median(self.delays), 3),
            "max": round(max(self.delays), 3),
            "writes": book.counted + len(book.appended),
            "uncertain": book.uncertain + len(book.maybe_appended),
            "refused": book.refused,
            "snapshots": sum(replica.statistics().snapshots for replica in self.replicas),
        }
        tally = Tally(
            block="maps",
            tries=len(self.delays),
            acts=book.counted + len(book.appended),
            recoveries=self.delays,
        )
        note_fact(f"maps: {name}", facts, tally)
        counted = int(content["count"])
        assert book.counted <= counted <= book.counted + book.uncertain
        listed = pulsewire.typed(list[str]).decode(content["list"].encode())
        assert len(set(listed)) == len(listed), "an append happened twice"
        assert set(book.appended) <= set(listed) <= {*book.appended, *book.maybe_appended}
        for key, may_be in book.latest.items():
            assert content.get(key) in may_be
        assert max(self.delays) < longest, self.delays


@asynccontextmanager
async def map_station(
    topology: Topology, url: str, namespace: str, seed: int, *, pause: float = PAUSE
) -> AsyncIterator[MapStation]:
    """One writing hub, and replicas in hubs of their own; all behind the same URL."""
    async with AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(pulsewire.connect(url, namespace=namespace))
            for _ in range(REPLICAS)
        ]
        maps = [await stack.enter_async_context(hub.map(NAME, max_value=2**26)) for hub in hubs]
        watchers = [Watcher(joined.changes(initial=True)) for joined in maps]
        writers = Writers(maps[0], seed, pause)
        async with anyio.create_task_group() as tasks:
            for watcher in watchers:
                tasks.start_soon(watcher.run)
            tasks.start_soon(writers.run)
            key = f"{namespace}:map:{NAME}:content" if namespace else f"map:{NAME}:content"
            yield MapStation(topology, key, writers, maps, watchers, random.Random(seed))
            tasks.cancel_scope.cancel()
