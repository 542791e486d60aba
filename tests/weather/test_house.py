"""What befalls a server meets all four blocks at once: each goes on by itself, and keeps what it has promised.

The short form lets one thing after the other happen to one house. The long forms do each in `PULSEWIRE_TRIES` tries.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

import pulsewire
from pulsewire.testing import (
    ClusterGroup,
    FaultProxy,
    SentinelGroup,
    SingleServer,
    slot_of,
    wait_until,
)
from tests.weather.faults import ERRORS, UNBLOCKED
from tests.weather.house import House, house
from tests.weather.ledger import Ledger
from tests.weather.map_station import NAME as MAP
from tests.weather.patience import SHARING
from tests.weather.pool_ledger import Ledger as PoolLedger
from tests.weather.pool_station import POOL
from tests.weather.replication import (
    freeze_master,
    kill_master,
    order_failover,
    wait_replicated,
)
from tests.weather.report import note_fact
from tests.weather.seeds import LONG, SEED, seconds_of, tries_of
from tests.weather.task_ledger import Ledger as TaskLedger
from tests.weather.task_queue import key_of
from tests.weather.task_station import LEASE

pytestmark = [pytest.mark.weather, pytest.mark.leaves_keys]

TRIES = tries_of(20)
SHORT, LASTING = 1.0, seconds_of(60.0)
"""Seconds for which things go on that come again and again."""
RECOVERED = 5.0 * SHARING
"""Seconds from the server being there again until every block works: the promise."""
ALWAYS = ("--appendfsync", "always")
EVERY_SECOND = ("--appendfsync", "everysec")
NOTHING_KEPT = ("--appendonly", "no", "--save", "")


@dataclass(slots=True)
class Weather:
    """A house, its server and the proxy in front of it.

    Attributes:
        beside: a hub that does nothing but look at its health.
        lasting: for how long things go on that come again.
    """

    house: House
    server: SingleServer
    proxy: FaultProxy
    beside: pulsewire.Hub
    lasting: float = SHORT


Blow = Callable[[Weather], Awaitable[float]]
"""Lets something happen; the monotonic time at which the server was there again."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bad weather.

    Attributes:
        name: of it.
        blow: lets it happen once.
        args: of the server.
        spoils: it breaks itself what must hold in a queue.
        once: it goes on for long enough to come once.
        lease: of pool and tasks.
    """

    name: str
    blow: Blow
    args: Sequence[str] = ALWAYS
    spoils: bool = False
    once: bool = False
    lease: float = LEASE


# --- the server dies


def restart(loses: float | None) -> Blow:
    """SIGKILL, and a restart on what it has kept. `loses`: seconds of what it had acknowledged; None is all."""

    async def blow(at: Weather) -> float:
        ends = at.house.strike(loses=loses)
        await at.server.kill()
        await anyio.sleep(at.house.random.uniform(0.1, 1.0))
        await at.server.restart()
        return ends()

    return blow


# --- connections


async def kill_clients(at: Weather) -> float:
    """The server drops everybody, every two seconds."""
    ends, over = at.house.strike(), time.monotonic() + at.lasting
    while True:
        for kind in ("normal", "pubsub"):
            await at.server.command("CLIENT", "KILL", "TYPE", kind)
        if time.monotonic() > over:
            return ends()
        await anyio.sleep(2.0)


async def fall_silent(at: Weather) -> float:
    """A black hole one way, the other way or both, for some seconds; what was on its way is lost."""
    ends = at.house.strike()
    at.proxy.stall(at.house.random.choice(("both", "to_server", "to_client")))
    await anyio.sleep(at.house.random.uniform(1.0, 8.0))
    at.proxy.cut("rst")
    at.proxy.resume()
    return ends()


# --- slow


NOTICEABLE = 0.25
"""Seconds of delay each way that health must show, however busy this process is."""


def slow(seconds: float) -> Blow:
    """Everything takes longer, with jitter: nobody loses a lease, and health says that the server is slow."""

    async def blow(at: Weather) -> float:
        began, before = time.monotonic(), starts_of(at.house)
        at.proxy.delay(seconds, jitter=seconds)
        await anyio.sleep(max(at.lasting / 10, 1.0))
        if seconds >= NOTICEABLE:
            await wait_degraded(at)
        at.proxy.delay(0)
        assert_no_lease_lost(at.house, before)
        return began

    return blow


async def stall(at: Weather) -> float:
    """The server does nothing for a bit less than half a lease: nobody loses one, and health says that it was slow."""
    before, milliseconds = starts_of(at.house), int(1000 * 0.45 * at.house.lease)
    await at.server.command("CLIENT", "PAUSE", milliseconds, "ALL")
    await anyio.sleep(milliseconds / 1000)
    there_again = time.monotonic()
    assert_no_lease_lost(at.house, before)
    await wait_degraded(at)
    return there_again


async def wait_degraded(at: Weather) -> None:
    """Wait until health says that the server is slow; that it was so is remembered for some seconds."""

    def is_said() -> bool:
        problems = at.beside.health().problems
        return any(problem.what == "is slow to answer" for problem in problems)

    await wait_until(is_said, timeout=8.0, what="health says that the server is slow")


def starts_of(house: House) -> dict[str, int]:
    """How often each job that must run has been started so far."""
    starts = house.pool.ledger.starts()
    return {key: starts[key] for key in house.pool.ledger.due() & starts.keys()}


def assert_no_lease_lost(house: House, before: dict[str, int]) -> None:
    """No job has moved, no task was taken away, unless this process itself did not get to run."""
    now, tasks = house.pool.ledger.starts(), house.tasks.ledger
    tasks.catch_up()
    moved = [key for key in before if key in house.pool.ledger.due() and now[key] > before[key]]
    if not tasks.has_stalled(0.0) and not house.pool.ledger.other["stalled"]:
        assert not moved, moved
        assert not tasks.other["lost"], tasks.other["lost"][:3]


# --- replies


def answer(error: bytes, *commands: str) -> Blow:
    """Random commands are answered with an error, without being carried out."""

    async def blow(at: Weather) -> float:
        faults = [
            at.proxy.inject_error(error, command, count=10, every=at.house.random.randrange(2, 9))
            for command in commands or (None,)
        ]
        for fault in faults:
            await fault.wait_hit(2, timeout=60.0)
            fault.disarm()
        return time.monotonic()

    return blow


async def flush_scripts(at: Weather) -> float:
    """SCRIPT FLUSH every 100 ms."""
    began = time.monotonic()
    async with at.server.connection() as connection:
        while time.monotonic() - began < at.lasting:
            await connection.command("SCRIPT", "FLUSH")
            await anyio.sleep(0.1)
    return time.monotonic()


# --- the data


async def fill_memory(at: Weather) -> float:
    """At its limit: what is new is refused, what is there goes on."""
    ends, house = at.house.strike(), at.house
    await at.server.pipeline(
        ("CONFIG", "SET", "maxmemory-policy", "noeviction"), ("CONFIG", "SET", "maxmemory", "1mb")
    )
    before = refusals(house)
    await wait_until(
        lambda: all(now > then for now, then in zip(refusals(house), before, strict=True)),
        timeout=30.0,
        what="each block is refused something",
    )
    await at.server.command("CONFIG", "SET", "maxmemory", "0")
    return ends()


def refusals(house: House) -> list[int]:
    """How often each block was told that nothing was written."""
    return [
        len(house.streams.ledger.refused),
        house.maps.writers.book.refused,
        len(house.pool.ledger.refused),
        len(house.tasks.ledger.refused),
    ]


async def flush_all(at: Weather) -> float:
    """Everything is gone."""
    ends = at.house.strike(loses=None)
    await at.server.command("FLUSHALL")
    return ends()


async def delete_containers(at: Weather) -> float:
    """The groups and the streams, the map, all of the pool, and one of the two lists of tasks that run."""
    ends, names = at.house.strike(loses=None), at.house.streams.names
    for name in names:
        await at.server.command("XGROUP", "DESTROY", f"pulse:stream:{name}", "workers")
    await anyio.sleep(at.house.random.uniform(0.0, 0.3))
    pool = await at.server.command("KEYS", f"pool:{{{POOL}}}:*")
    keys = [f"pulse:stream:{name}" for name in names] + [f"map:{MAP}:content"]
    running = key_of("default", "", at.house.random.choice(("active", "lease")))
    await at.server.command("DEL", *keys, running, *pool)
    return ends()


SPARED = (b"asynq:{default",)
"""What is not deleted at random: tasks have a test of their own."""


async def delete_some_keys(at: Weather) -> float:
    """One key in a hundred, and at least one of each type; see `SPARED` for those that are not."""
    ends = at.house.strike(loses=None)
    keys = [
        key
        for key in await at.server.command("KEYS", "*")
        if not any(part in key for part in SPARED)
    ]
    types = await at.server.pipeline(*(("TYPE", key) for key in keys))
    chosen = set(at.house.random.sample(keys, max(len(keys) // 100, 1)))
    for kind in sorted(set(types)):
        same = [key for key, its in zip(keys, types, strict=True) if its == kind]
        chosen.add(at.house.random.choice(same))
    await at.server.command("DEL", *sorted(chosen))
    return ends()


# --- the judges


@pytest.mark.parametrize(
    ("asked", "is_owed"),
    [pytest.param(1.0, False, id="before"), pytest.param(3.0, True, id="after")],
)
def test_judges_forgive_what_the_server_may_lose(
    tmp_path: Path,
    asked: float,
    is_owed: bool,
) -> None:
    """What was asked for before the server lost its data is not owed; whatever came after it is."""
    streams = Ledger()
    pool, tasks = PoolLedger(tmp_path), TaskLedger(tmp_path)
    for ledger in (streams, pool, tasks):
        ledger.forgiven.append((0.0, 2.0))
    streams.called_at[b"e"], streams.acknowledged["s", "1-1"] = asked, b"e"
    pool.asked["j"] = pool.dispatched["j"] = asked
    tasks.asked["t"] = tasks.acknowledged["t"] = asked
    assert bool(streams.unhandled()) is is_owed
    assert bool(streams.judge({"s": [("1-1", b"e")]}, with_reader=False).lost) is is_owed
    assert bool(pool.judge(1.0).lost) is is_owed
    assert bool(tasks.judge().lost) is is_owed
    assert len(pool.gone()) == len(tasks.gone()) == (not is_owed)


# --- one server

GENTLE = (
    Kind("server killed, fsync always", restart(0.0)),
    Kind("CLIENT KILL every two seconds", kill_clients, once=True),
    Kind("server slow by 50 ms", slow(0.05), lease=6.0),
    Kind("server stalls for less than half a lease", stall, lease=6.0),
    Kind("READONLY to random commands", answer(ERRORS["readonly"])),
    Kind("SCRIPT FLUSH every 100 ms", flush_scripts, once=True),
    Kind("server full", fill_memory),
)
"""Nothing is lost in any of it."""
HARSH = (
    Kind("everything flushed", flush_all, spoils=True),
    Kind("groups, streams and pools deleted", delete_containers, spoils=True),
)
"""The test itself deletes what was acknowledged."""
LONG_KINDS = (
    *GENTLE,
    *HARSH,
    Kind("server killed, fsync every second", restart(1.0), args=EVERY_SECOND, spoils=True),
    Kind("server killed, nothing kept", restart(None), args=NOTHING_KEPT, spoils=True),
    Kind("black hole 1 to 8 s", fall_silent),
    Kind("server slow by 500 ms", slow(0.5), lease=12.0, once=True),
    Kind("LOADING to random commands", answer(ERRORS["loading"])),
    Kind("MASTERDOWN to random commands", answer(ERRORS["masterdown"])),
    Kind("TRYAGAIN to random commands", answer(ERRORS["tryagain"])),
    Kind("UNBLOCKED to blocking reads", answer(UNBLOCKED, "XREADGROUP", "BLMOVE")),
    Kind("one key in a hundred deleted", delete_some_keys, spoils=True),
)


async def run_kinds(
    kinds: Sequence[Kind], tries: int, folder: Path, *, lasting: float, lease: float
) -> None:
    """One thing after the other, at a server of its own, and the judgement."""
    name = ", ".join(kind.name for kind in kinds)
    print(f"all blocks: {name}, seed {SEED}")
    try:
        async with (
            SingleServer(args=kinds[0].args) as server,
            FaultProxy(server, seed=SEED) as proxy,
            house(server, folder, seed=SEED, url=proxy.url, lease=lease) as built,
            pulsewire.connect(proxy.url) as beside,
        ):
            at = Weather(built, server, proxy, beside, lasting)
            beside.health()  # it looks from now on
            connections = await settled_connections(server)
            for kind in kinds:
                for _ in range(1 if kind.once else tries):
                    await anyio.sleep(built.random.uniform(0.0, 0.3))
                    there_again = await kind.blow(at)
                    proxy.clear()
                    await built.go_on(there_again)
            await built.judge(name, tries=tries, is_spoilt=any(kind.spoils for kind in kinds))
            # a blocking read may be between two connections of its own
            assert await settled_connections(server) <= connections + 1, "connections have leaked"
            for block, recoveries in built.recoveries.items():
                assert max(recoveries) < max(RECOVERED, 3 * SHARING + lease), (block, recoveries)
    except Exception as error:
        error.add_note(f"the weather: {name}, seed {SEED}")
        raise


async def settled_connections(server: SingleServer) -> int:
    """How many connections there are, once that number stays the same."""
    counts = [-1]

    async def stays() -> bool:
        counts.append(len(await server.clients()))
        return len(set(counts[-5:])) == 1

    await wait_until(stays, timeout=15.0, what="the number of connections stays the same")
    return counts[-1]


@pytest.mark.parametrize(
    "kinds", [pytest.param(GENTLE, id="nothing-lost"), pytest.param(HARSH, id="data-lost")]
)
async def test_all_blocks_go_on(
    anyio_backend: object, tmp_path: Path, kinds: tuple[Kind, ...]
) -> None:
    """One thing after the other befalls one house."""
    lease = max(kind.lease for kind in kinds)
    await run_kinds(kinds, 1, tmp_path, lasting=SHORT, lease=lease)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "kind", LONG_KINDS, ids=[kind.name.replace(" ", "-") for kind in LONG_KINDS]
)
async def test_all_blocks_go_on_in_many_tries(
    anyio_backend: object, tmp_path: Path, kind: Kind
) -> None:
    """The same, one kind at a time, in `PULSEWIRE_TRIES` tries."""
    await run_kinds([kind], TRIES, tmp_path, lasting=LASTING, lease=kind.lease)


# --- groups of servers


@pytest.mark.parametrize(
    "tries", [pytest.param(1, id="once"), pytest.param(5, id="many", marks=LONG)]
)
async def test_all_slots_move(
    cluster_group: ClusterGroup, namespace: str, tmp_path: Path, tries: int
) -> None:
    """The slot of each block moves to another master and back, under load: no error, nothing lost."""
    group = cluster_group
    async with house(group, tmp_path, seed=SEED, namespace=namespace) as built:
        keys = {
            "streams": built.streams.streams()[0].key,
            "maps": built.maps.key,
            "pools": f"{namespace}:pool:{{{POOL}}}:meta",
            "tasks": key_of("default", namespace, "pending"),
        }
        slots = {block: slot_of(key) for block, key in keys.items()}
        for _ in range(2 * tries):  # there, and back
            for block, slot in slots.items():
                owner = await group.owner_of(slot)
                target = next(node for node in await group.masters() if node is not owner)
                ends = built.strike()
                await group.move_slot(slot, target)
                note_fact(f"slot of {block}", {"slot": slot})
                await built.go_on(ends())
        await built.judge("Cluster: all slots moved", tries=tries)
        for block, recoveries in built.recoveries.items():
            assert max(recoveries) < RECOVERED, (block, recoveries)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "fail_over",
    [
        pytest.param(kill_master, id="killed"),
        pytest.param(order_failover, id="ordered"),
        pytest.param(freeze_master, id="frozen"),
    ],
)
async def test_sentinel_failover_of_all_blocks(
    sentinel_group: SentinelGroup,
    namespace: str,
    tmp_path: Path,
    fail_over: Callable[[SentinelGroup], Awaitable[SingleServer]],
) -> None:
    """Nothing being asked for, and all being replicated, the master goes: every block works at the new one."""
    group = sentinel_group
    async with house(group, tmp_path, seed=SEED, namespace=namespace) as built:
        built.has_failed_over = True
        for _ in range(TRIES):
            await group.wait_healthy()
            await built.pause()
            await wait_replicated(await group.master(), 2)
            ends = built.strike()
            await fail_over(group)
            there_again = ends()
            built.resume()
            await built.go_on(there_again)
            if fail_over is freeze_master:
                await anyio.sleep(
                    5.0
                )  # longer than the silence after which a connection is given up
            await group.heal()
        await built.judge(f"Sentinel: {fail_over.__name__}, all blocks", tries=TRIES)
        for block, recoveries in built.recoveries.items():
            assert max(recoveries) < 10.0, (block, recoveries)
