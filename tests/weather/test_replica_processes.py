"""Processes with a replica that are killed or frozen while others write: they have it all, or say that they have not.

What was acknowledged is known to the writers, which are in this process; what a replica had is in its journal.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire.testing import SingleServer, wait_until
from tests.weather.journal import JournalReader
from tests.weather.map_station import CONVERGED_WITHIN, NAME, map_station
from tests.weather.programs import start_program
from tests.weather.seeds import LONG, SEED, tries_of

pytestmark = [pytest.mark.weather, *LONG]

TRIES = tries_of(100)
STALE_AFTER = 1.5
"""Seconds. A replica makes sure about once a second that it is complete."""
FROZEN_FOR = 3 * STALE_AFTER


class Replica:
    """A process that runs `map_worker.py`."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, crew: Crew) -> None:
        self._process = process
        self._name = name
        self._crew = crew

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, if it has not ended; returns when it is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    def facts(self, what: str, since: float = 0.0) -> list[dict[str, Any]]:
        """What it has noted."""
        return [
            fact
            for fact in self._crew.facts()
            if fact["what"] == what and fact["name"] == self._name and fact["at"] >= since
        ]

    async def comes_to(self, revision: int, since: float = 0.0) -> dict[str, Any]:
        """The first fact that says that it has that revision, and is not stale."""
        found: list[dict[str, Any]] = []

        def has_come() -> bool:
            found[:] = [
                seen
                for seen in self.facts("sees", since)
                if seen["revision"] >= revision and not seen["is_stale"]
            ]
            return bool(found)

        await wait_until(has_come, timeout=30.0, what=f"it has come to revision {revision}")
        return found[0]


class Crew:
    """Replicas in processes of their own, of one test."""

    def __init__(self, url: str, folder: Path) -> None:
        self.replicas: list[Replica] = []
        self._url = url
        self._folder = folder
        self._journal = JournalReader(folder)
        self._facts: list[dict[str, Any]] = []
        self._numbers = itertools.count()

    def facts(self) -> list[dict[str, Any]]:
        """All that was noted so far."""
        self._facts += self._journal.read_new()
        return self._facts

    def forget(self) -> None:
        """What was noted until now is not needed any more."""
        self.facts().clear()

    async def start(self) -> Replica:
        """A replica that has joined."""
        name = f"replica-{next(self._numbers)}"
        options = {"name": name, "map": NAME, "stale_after": STALE_AFTER}
        process = await start_program(
            "map_worker.py", self._url, str(self._folder), options=options
        )
        replica = Replica(process, name, self)
        self.replicas.append(replica)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return replica


@asynccontextmanager
async def crew(server: SingleServer, folder: Path) -> AsyncIterator[Crew]:
    """Those that still run are killed in the end."""
    made = Crew(server.url, folder)
    try:
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            for replica in made.replicas:
                await replica.kill()


async def test_replicas_are_killed(fresh_server: SingleServer, tmp_path: Path) -> None:
    """SIGKILL while others write: whoever comes in its place has all that was acknowledged before, at once."""
    async with (
        map_station(fresh_server, fresh_server.url, "", SEED) as at,
        crew(fresh_server, tmp_path) as processes,
    ):
        replica, book = await processes.start(), at.writers.book
        for _ in range(TRIES):
            processes.forget()
            _, revision = await at.content()
            await replica.comes_to(revision + 1)
            await anyio.sleep(at.random.uniform(0.0, 0.1))
            await replica.kill()
            counted, appended = book.counted, set(book.appended)
            replica = await processes.start()
            (joined,) = replica.facts("joined")
            assert int(joined["has"]["count"]) >= counted
            assert appended <= set(
                pulsewire.typed(list[str]).decode(joined["has"]["list"].encode())
            )
            at.delays.append(joined["took"])
        await at.judge("replica killed with SIGKILL", CONVERGED_WITHIN)
        await at.converge(time.monotonic())


async def test_replicas_are_frozen(fresh_server: SingleServer, tmp_path: Path) -> None:
    """SIGSTOP for three times as long as it takes to be stale: it says so on waking, and soon has everything."""
    async with (
        map_station(fresh_server, fresh_server.url, "", SEED) as at,
        crew(fresh_server, tmp_path) as processes,
    ):
        replica = await processes.start()
        for _ in range(TRIES):
            processes.forget()
            _, revision = await at.content()
            await replica.comes_to(revision + 1)
            await anyio.sleep(at.random.uniform(0.0, 1.0))
            replica.freeze()
            await anyio.sleep(FROZEN_FOR)
            _, revision = await at.content()
            awake = time.monotonic()
            replica.thaw()
            fresh = await replica.comes_to(revision, awake)
            first = replica.facts("sees", awake)[0]
            assert first["is_stale"], "it did not know that it had been away"
            assert first["stale_for"] >= FROZEN_FOR
            at.delays.append(fresh["at"] - awake)
        await at.judge("replica frozen for three times its stale time", CONVERGED_WITHIN)
        await at.converge(time.monotonic())
