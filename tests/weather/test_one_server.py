"""Bad weather at one server, under steady traffic: nothing is lost, nothing is crossed, and consuming goes on."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from pulsewire.testing import wait_until
from tests.weather.faults import KINDS, REPLIES, SILENCE, THE_SERVER, Kind, Station, station
from tests.weather.ledger import Verdict
from tests.weather.report import note
from tests.weather.seeds import SEED, tries_of
from tests.weather.traffic import LONGEST_RECOVERY

pytestmark = pytest.mark.weather

TRIES = tries_of(100)
LONG_STATIONS = 10
# Seconds between the adds of one producer, where many stations share the machine.
LONG_PAUSE = 0.08
MANY_PAUSE = 0.2


async def weather_tries(at: Station, kind: Kind, tries: int, delays: list[float]) -> None:
    """Let it happen so often, and wait each time until events flow again."""
    traffic, ledger = at.traffic, at.ledger
    for _ in range(tries):
        ledger.forget_delays()
        await anyio.sleep(at.random.uniform(0.0, 0.3))  # it may come at any moment
        began = time.monotonic()
        there_again = await kind.blow(at)
        delays.append(await traffic.wait_flowing(there_again))
        at.proxy.clear()
        # claims of what was under way come up to the grace later
        ledger.faults.append((began, time.monotonic() + 2 * traffic.ack_grace))


async def run_station(
    kind: Kind, seed: int, tries: int, *, pause: float, delays: list[float]
) -> Verdict:
    """One station from its beginning to its accounts."""
    async with station(seed, pause=pause) as at:
        await weather_tries(at, kind, tries, delays)
        verdict = await at.close_accounts()

        async def no_leak() -> bool:
            return await at.connection_count() == at.connections

        await wait_until(
            no_leak, timeout=15.0, what=f"the number of connections is {at.connections} again"
        )
    return verdict


async def run_kind(kind: Kind, tries: int, stations: int, pause: float) -> None:
    """All tries of a kind, spread over stations, and the judgement."""
    delays: list[float] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(
                    run_station(
                        kind,
                        SEED + number,
                        tries // stations + (number < tries % stations),
                        pause=pause,
                        delays=delays,
                    )
                )
                for number in range(stations)
            ]
        verdicts = [station.result() for station in running]
        note(kind.name, delays, verdicts)
        for verdict in verdicts:
            verdict.assert_clean()
        assert max(delays) < LONGEST_RECOVERY
    except Exception as error:
        error.add_note(f"the weather: {kind.name}")
        raise


def named(kind: Kind) -> str:
    """A test id."""
    return kind.name.replace(" ", "-")


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(THE_SERVER, id="server-and-connections"),
        pytest.param(SILENCE, id="silence"),
        pytest.param(REPLIES, id="replies"),
    ],
)
async def test_consuming_goes_on(anyio_backend: object, kinds: tuple[Kind, ...]) -> None:
    """Within 5 s of the server being there again; every acknowledged event is handled, each is in the stream once.

    One station for each kind, all at the same time: most of it is waiting.
    """
    async with anyio.create_task_group() as tasks:
        for kind in kinds:
            tasks.start_soon(run_kind, kind, kind.tries, 1, MANY_PAUSE)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS, ids=named)
async def test_consuming_goes_on_in_many_tries(anyio_backend: object, kind: Kind) -> None:
    """The same, one kind at a time, in `PULSEWIRE_TRIES` tries."""
    await run_kind(kind, TRIES, LONG_STATIONS, LONG_PAUSE)
