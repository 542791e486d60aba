"""Processes that are killed, frozen, blocked or have a wrong clock: others do their work, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.weather.ledger import FileLedger, Ledger
from tests.weather.misdeeds import WAYS_TO_DIE
from tests.weather.patience import SHARING
from tests.weather.programs import start_program
from tests.weather.report import note, note_fact
from tests.weather.seeds import LONG, SEED, tries_of
from tests.weather.traffic import KEPT, content_of

pytestmark = pytest.mark.weather

TRIES = tries_of(100)
DRAWN = random.Random(SEED)
ACK_GRACE = 1.0
ENDED_WITHIN = 2.0 * SHARING
"""Seconds within which a consumer ends whose handlers are quick: the promise."""
CONVERGED = 10.0 * SHARING
"""Seconds after a cut within which those who were cut off work again: the promise."""
LENGTHS = [
    pytest.param(2, id="few"),
    pytest.param(TRIES, id="many", marks=LONG),
]


class Worker:
    """A process that runs `worker.py`."""

    def __init__(self, process: asyncio.subprocess.Process, file: Path) -> None:
        self.file = file
        self._process = process

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def killed(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        await self._process.communicate()

    async def ends(self) -> dict[str, Any]:
        """Let it finish; returns what it says of itself."""
        output, _ = await self._process.communicate(b"")  # closes its standard input
        assert self._process.returncode == 0, f"{self.file} failed"
        facts: dict[str, Any] = json.loads(output.splitlines()[-1])
        return facts

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def notes(self) -> int:
        """How many facts it has noted."""
        return self.file.read_bytes().count(b"\n") if self.file.exists() else 0


@asynccontextmanager
async def crew(server: SingleServer, folder: Path) -> AsyncIterator[Crew]:
    """Workers of one test; those that still run are killed in the end."""
    made = Crew(server, folder)
    try:
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            for worker in made.workers:
                if worker.is_running:
                    await worker.killed()


class Crew:
    """Starts workers, and knows all their files."""

    def __init__(self, server: SingleServer, folder: Path) -> None:
        self.workers: list[Worker] = []
        self._server = server
        self._folder = folder
        self._dead_letters = folder / "dead-letters"

    async def start(self, what: str, *, url: str = "", **options: Any) -> Worker:
        """A worker that is ready."""
        number = len(self.workers)
        file = self._folder / f"{what}-{number}"
        said = {"name": f"p{number}", "ack_grace": ACK_GRACE, **options}
        where = (what, url or self._server.url, str(file))
        process = await start_program("worker.py", *where, options=said)
        worker = Worker(process, file)
        self.workers.append(worker)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        return worker

    def ledger(self) -> Ledger:
        """What all of them have noted so far."""
        ledger = Ledger()
        for file in [*(worker.file for worker in self.workers), self._dead_letters]:
            if file.exists():
                ledger.absorb(file)
        return ledger

    async def dead_letters(self, stream: str) -> list[str]:
        """Ids of the events that have become dead letters."""
        found = []
        for _, flat in await self._server.command("XRANGE", f"pulse:stream:{stream}", "-", "+"):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            found.append(fields[b"h:pulsewire-id"].decode())
        return found

    async def take_dead_letters(self, stream: str, skipped: int) -> int:
        """Count all but the first ones as handled; how many that are.

        What a consumer had fetched when it was killed counts as delivered, whether it was begun or not: so there may
        be others beside those that killed it.
        """
        notes = FileLedger(self._dead_letters)
        entries = await self._server.command("XRANGE", f"pulse:stream:{stream}", "-", "+")
        for _, flat in entries[skipped:]:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            event_id = fields[b"h:pulsewire-id"].decode()
            notes.handle("jobs", event_id, fields[b"p"], 1, "dead-letters")
        return len(entries) - skipped

    async def close_accounts(self, kind: str, delays: list[float], tries: int = 1) -> Ledger:
        """Wait until all is handled and acknowledged, and judge."""

        async def all_handled() -> bool:
            return not self.ledger().unhandled()

        await wait_until(all_handled, timeout=30.0, what="every acknowledged event is handled")
        async with pulsewire.connect(self._server.url) as hub:
            stream = hub.stream("jobs", max_len=KEPT)

            async def nothing_pending() -> bool:
                (group,) = (await stream.info()).groups
                return group.pending == 0 and group.lag in (0, None)

            await wait_until(nothing_pending, timeout=30.0, what="every event is acknowledged")
            content = {"jobs": await content_of(self._server, stream)}
        ledger = self.ledger()
        # what was in work at a kill is not known here
        ledger.faults.append((0.0, time.monotonic()))
        verdict = ledger.judge(content, with_reader=False)
        note(kind, delays, [verdict], tries)
        verdict.assert_clean()
        return ledger


@pytest.mark.parametrize("tries", LENGTHS)
async def test_consumers_are_killed(fresh_server: SingleServer, tmp_path: Path, tries: int) -> None:
    """SIGKILL in the middle of work: what it held is handled by another one within the grace and a claim period."""
    delays: list[float] = []
    async with crew(fresh_server, tmp_path) as workers:
        publisher = await workers.start("publish", pause=0.02)
        steady = await workers.start("consume")
        for _ in range(tries):
            victim = await workers.start("consume", work=DRAWN.uniform(0.01, 0.5))
            await wait_more(victim, 4)
            await anyio.sleep(DRAWN.uniform(0.0, 0.1))
            await victim.killed()
            held = await pending_of_others(fresh_server, steady)
            began = time.monotonic()

            async def taken_over(held: set[str] = held) -> bool:
                return not held & await pending_of_others(fresh_server, steady)

            await wait_until(taken_over, timeout=20.0, what="what it held is taken over")
            delays.append(time.monotonic() - began)
        assert (await publisher.ends())["added"]
        await workers.close_accounts("consumer killed with SIGKILL", delays)
        assert (await steady.ends())["claimed"] > 0
        # The grace, the claim period of at most a quarter of it (jittered), and the handling.
        assert max(delays) < 3 * ACK_GRACE * SHARING


async def wait_more(worker: Worker, count: int = 1) -> None:
    """Return when a worker has noted so many more facts."""
    noted = worker.notes()
    await wait_until(
        lambda: worker.notes() >= noted + count, timeout=20.0, what=f"{worker.file} has more facts"
    )


async def pending_of_others(server: SingleServer, worker: Worker) -> set[str]:
    """Ids pending for consumers that have never noted a handling in this worker's file."""
    noted = worker.file.read_bytes().splitlines() if worker.file.exists() else []
    own = {line.split(b" ")[5] for line in noted}
    reply = await server.command("XPENDING", "pulse:stream:jobs", "workers", "-", "+", 10_000)
    return {entry[0].decode() for entry in reply if entry[1] not in own}


@pytest.mark.parametrize("tries", LENGTHS)
async def test_publishers_are_killed(
    fresh_server: SingleServer, tmp_path: Path, tries: int
) -> None:
    """SIGKILL while it adds: whatever it noted as acknowledged is handled."""
    async with crew(fresh_server, tmp_path) as workers:
        steady = await workers.start("consume", work=0.0, slots=20)
        for _ in range(tries):
            victim = await workers.start("publish", pause=0.001, callers=20)
            await wait_more(victim, 21)
            await anyio.sleep(DRAWN.uniform(0.0, 0.1))
            await victim.killed()
        await workers.close_accounts("publisher killed with SIGKILL", [], tries)
        await steady.ends()


@pytest.mark.parametrize("tries", LENGTHS)
async def test_consumers_are_restarted(
    fresh_server: SingleServer, tmp_path: Path, tries: int
) -> None:
    """One after the other ends in order, and another one comes: nothing is lost, nothing is handled twice."""
    endings = list[float]()
    async with crew(fresh_server, tmp_path) as workers:
        # fewer events than one consumer can handle: while the other one starts it is alone
        publisher = await workers.start("publish", pause=0.1)
        staff = [await workers.start("consume", work=0.05) for _ in range(2)]
        for _ in range(tries):
            oldest = staff.pop(0)
            await wait_more(oldest, 4)
            began = time.monotonic()
            facts = await oldest.ends()
            endings.append(time.monotonic() - began)
            assert not facts["lost_to_others"]
            staff.append(await workers.start("consume", work=0.05))
        await publisher.ends()
        ledger = await workers.close_accounts("consumers restarted", endings)
        twice = [key for key, found in ledger.handled.items() if len(found) > 1]
        assert not twice, twice[:5]
        assert max(endings) < ENDED_WITHIN, endings
        for worker in staff:
            await worker.ends()


@pytest.mark.parametrize("tries", [pytest.param(1, id="once"), LENGTHS[1]])
async def test_half_of_the_consumers_are_cut_off(
    fresh_server: SingleServer, tmp_path: Path, tries: int
) -> None:
    """For three times the grace nobody can reach the server from there: the others go on, then both do."""
    delays = list[float]()
    async with (
        FaultProxy(fresh_server, seed=SEED) as proxy,
        crew(fresh_server, tmp_path) as workers,
    ):
        publisher = await workers.start("publish", pause=0.02)
        steady = await workers.start("consume")
        lonely = await workers.start("consume", url=proxy.url, work=0.2)
        for _ in range(tries):
            await wait_more(lonely)
            await proxy.refuse()
            proxy.cut()
            await anyio.sleep(3 * ACK_GRACE)
            await wait_more(steady)
            await proxy.accept()
            began = time.monotonic()
            # one that was in work at the cut may end first
            await wait_more(lonely, 6)
            delays.append(time.monotonic() - began)
        await publisher.ends()
        await workers.close_accounts("half of the consumers cut off", delays)
        assert max(delays) < CONVERGED, delays
        assert (await steady.ends())["claimed"] > 0
        await lonely.ends()


@pytest.mark.parametrize("tries", [pytest.param(1, id="once", marks=pytest.mark.slow), LENGTHS[1]])
async def test_events_that_end_their_consumer(
    fresh_server: SingleServer, tmp_path: Path, tries: int
) -> None:
    """By an exit, a fault or a kill: after so many deliveries they are dead letters, all others are handled."""
    options: dict[str, Any] = {"max_deliveries": 3, "slots": 1}
    async with (
        crew(fresh_server, tmp_path) as workers,
        pulsewire.connect(fresh_server.url) as hub,
    ):
        stream = hub.stream("jobs", max_len=KEPT)
        # fewer events than one consumer can handle, which is often away
        publisher = await workers.start("publish", pause=0.1)
        steady = await workers.start("consume", **options)
        for number in range(tries):
            way = DRAWN.choice(list(WAYS_TO_DIE))
            poison = await stream.add("job", f"poison-{way}-{number}".encode())
            deaths = 0

            async def is_dead_letter(poison: str = poison) -> bool:
                nonlocal deaths, steady
                if not steady.is_running:
                    deaths += 1
                    steady = await workers.start("consume", **options)
                return poison in await workers.dead_letters("jobs.dead")

            await wait_until(is_dead_letter, timeout=30.0, what=f"{poison} is a dead letter")
            assert deaths == options["max_deliveries"], f"it was delivered {deaths} times"
        await publisher.ends()
        taken = 0

        async def nothing_missing() -> bool:
            nonlocal taken
            taken += await workers.take_dead_letters("jobs.dead", taken)
            return not workers.ledger().unhandled()

        await wait_until(nothing_missing, timeout=30.0, what="each is handled or a dead letter")
        others = taken - tries
        note_fact("events that end their consumer", {"other dead letters": others})
        # the next one may take a suspect with it that its consumer has in hand
        assert others < tries, "it took others with it"
        await workers.close_accounts("events that end their consumer", [], tries)
        await steady.ends()


@pytest.mark.parametrize("tries", [pytest.param(1, id="once"), LENGTHS[1]])
async def test_consumer_is_frozen_for_longer_than_its_grace(
    fresh_server: SingleServer, tmp_path: Path, tries: int
) -> None:
    """SIGSTOP for three times the grace: others do its work; awake again it says so, and its late acks do no harm."""
    async with crew(fresh_server, tmp_path) as workers:
        publisher = await workers.start("publish", pause=0.02)
        steady = await workers.start("consume")
        sleeper = await workers.start("consume", work=0.3, slots=4)
        for _ in range(tries):
            await wait_more(sleeper)
            sleeper.signal(signal.SIGSTOP)
            await anyio.sleep(3 * ACK_GRACE)
            sleeper.signal(signal.SIGCONT)
        await wait_more(sleeper, 5)
        await publisher.ends()
        await workers.close_accounts("consumer frozen for 3 x ack_grace", [], tries)
        facts = await sleeper.ends()
        assert facts["lost_to_others"] > 0
        assert (await steady.ends())["claimed"] >= facts["lost_to_others"]


@pytest.mark.parametrize(
    "holds",
    [
        pytest.param(False, id="loop-blocked"),
        pytest.param(True, id="interpreter-held", marks=pytest.mark.slow),
    ],
)
async def test_blocked_event_loop(
    fresh_server: SingleServer, tmp_path: Path, *, holds: bool
) -> None:
    """A handler blocks for longer than the grace: the same as frozen, and it goes on by itself."""
    async with crew(fresh_server, tmp_path) as workers:
        steady = await workers.start("consume")
        blocked = await workers.start(
            "consume", work=0.3, block_at=20, blocks=3 * ACK_GRACE, holds=holds
        )
        publisher = await workers.start("publish", pause=0.02)
        await wait_until(lambda: blocked.notes() > 40, timeout=60.0, what="it blocked and went on")
        await publisher.ends()
        await workers.close_accounts(
            f"{'interpreter held' if holds else 'event loop blocked'} for 3 x ack_grace", []
        )
        facts = await blocked.ends()
        assert facts["lost_to_others"] > 0
        assert facts["standstills"], "it was not said that nothing went on"
        assert holds or any("event" in said for said in facts["standstills"]), facts["standstills"]
        assert (await steady.ends())["claimed"] >= facts["lost_to_others"]


@pytest.mark.parametrize(
    "skew",
    [
        pytest.param(-600.0, id="ten-minutes-behind", marks=pytest.mark.slow),
        pytest.param(-3600.0, id="jumps-back-an-hour", marks=pytest.mark.slow),
        pytest.param(600.0, id="ten-minutes-ahead"),
    ],
)
async def test_wrong_clock(fresh_server: SingleServer, tmp_path: Path, skew: float) -> None:
    """A process with a wrong clock claims neither early nor late, nor is it claimed from: the server's time counts."""
    async with crew(fresh_server, tmp_path) as workers:
        after = 1.0 if abs(skew) > 1000.0 else 0.0
        publisher = await workers.start("publish", pause=0.02, skew=skew, after=after)
        steady = await workers.start("consume", work=0.05)
        wrong = await workers.start("consume", work=0.05, skew=skew, after=after)
        await wait_until(
            lambda: min(steady.notes(), wrong.notes()) > 60, timeout=30.0, what="both work"
        )
        victim = await workers.start("consume", work=5.0)

        async def holds_some() -> bool:
            info = await fresh_server.command("XINFO", "CONSUMERS", "pulse:stream:jobs", "workers")
            named = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in info]
            return len([1 for consumer in named if consumer[b"pending"]]) == 3

        await wait_until(holds_some, timeout=20.0, what="the victim holds something")
        before = {
            key
            for key, found in workers.ledger().handled.items()
            if max(h.deliveries for h in found) > 1
        }
        assert not before, "nothing is delivered twice while everybody is alive"
        await victim.killed()
        await publisher.ends()
        ledger = await workers.close_accounts(f"clock wrong by {skew:+.0f} s", [])
        assert any(h.deliveries > 1 for found in ledger.handled.values() for h in found)
        facts = [await steady.ends(), await wrong.ends()]
        assert sum(fact["claimed"] for fact in facts) > 0
        assert not sum(fact["lost_to_others"] for fact in facts)
