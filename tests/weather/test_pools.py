"""Pools in bad weather: no job is lost, none has two owners that may act, none is without an owner for long.

What each process did stands in a journal outside Redis (`pool_ledger.py`). The long forms do each thing
`PULSEWIRE_TRIES` times. `PULSEWIRE_SEED` repeats what was drawn in a run; the timing is another one each time.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import pytest

from pulsewire.testing import (
    ClusterGroup,
    FaultProxy,
    SentinelGroup,
    SingleServer,
    slot_of,
)
from tests.weather.journal import FOR_EVER
from tests.weather.pool_ledger import FencedStore, Ledger, Verdict
from tests.weather.pool_station import (
    ALLOWANCE,
    POOL,
    TTL,
    NodeProcess,
    PoolStation,
    pool_station,
    tally_of,
)
from tests.weather.replication import order_failover, wait_replicated
from tests.weather.report import note_fact
from tests.weather.seeds import LONG, SEED, tries_of

pytestmark = [pytest.mark.weather, pytest.mark.leaves_keys]

TRIES = tries_of(20)
DURABLE = ("--appendfsync", "always")
LEASES = 3
"""How many leases something lasts that is meant to outlast them."""
BLOCKED = 60.0
NODES = 4
WORKERS = 2


# --- the judge

OLD, NEW, THIRD = 1, 2, 3
"""Processes."""
Fact = tuple[float, int, str, int]
"""When, in which process, what, with which token."""


@pytest.mark.parametrize(
    ("facts", "breach"),
    [
        pytest.param([(0, OLD, "start", 5)], None, id="well"),
        pytest.param(
            [(0, OLD, "start", 5), (1, OLD, "stop", 5), (1, NEW, "start", 6)], None, id="moved"
        ),
        pytest.param([(0, OLD, "start", 5), (1, OLD, "stop", 5)], "lost", id="lost"),
        pytest.param(
            [(0, OLD, "start", 5), (1, NEW, "start", 6), (2, OLD, "stop", 5)], "doubled", id="two"
        ),
        pytest.param(
            [(0, OLD, "start", 5), (1, OLD, "stop", 5), (2, NEW, "start", 5)],
            "unordered",
            id="same-token",
        ),
        pytest.param(
            [(0, OLD, "start", 5), (1, OLD, "stop", 5), (9, NEW, "start", 6)],
            "ownerless",
            id="long-without-owner",
        ),
        pytest.param(
            [(0, THIRD, "start", 5), (3, NEW, "start", 6), (10.5, THIRD, "stop", 5)],
            None,
            id="frozen",
        ),
        pytest.param(
            [(0, THIRD, "start", 5), (9, NEW, "start", 6), (10.5, THIRD, "stop", 5)],
            "ownerless",
            id="frozen-and-taken-over-late",
        ),
        pytest.param(
            [(0, THIRD, "start", 5), (3, NEW, "start", 6), (11.5, THIRD, "stop", 5)],
            "doubled",
            id="goes-on-after-waking",
        ),
        pytest.param(
            [(0, OLD, "start", 5), (1, OLD, "stop", 5), (1, NEW, "start", 6), (2, OLD, "beat", 5)],
            "believed",
            id="stale-heartbeat-believed",
        ),
        pytest.param(
            [(0, OLD, "start", 5), (1, OLD, "refused", 5)], "refused_wrongly", id="owner-refused"
        ),
    ],
)
def test_judge_sees_each_breach(tmp_path: Path, facts: list[Fact], breach: str | None) -> None:
    """What the tests below rest on. The third process was frozen from 1 to 10; the dispatch returned at 0."""
    zero = time.monotonic() - 12.0
    lines = [
        {"at": zero + at, "pid": pid, "what": what, "key": "a", "token": token, "worker": "w"}
        | ({"asked": zero + at} if what == "beat" else {})
        for at, pid, what, token in facts
    ]
    (tmp_path / "journal").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ledger = Ledger(tmp_path, dispatched={"a": zero})
    ledger.frozen[THIRD].append((zero + 1.0, zero + 10.0))
    ledger.catch_up()
    verdict = ledger.judge(TTL + ALLOWANCE)
    breaches = ("lost", "doubled", "unordered", "ownerless", "believed", "refused_wrongly")
    found = {name for name in breaches if getattr(verdict, name)}
    assert found >= ({breach} if breach else set())
    if breach is None:
        verdict.assert_clean()
    else:
        with pytest.raises(AssertionError):
            verdict.assert_clean()


def test_store_refuses_smaller_tokens(tmp_path: Path) -> None:
    """The other thing that they rest on."""
    store = FencedStore(tmp_path)
    assert [store.write("a", token) for token in (7, 7, 12, 7, 100)] == [
        True, True, True, False, True,
    ]  # fmt: skip
    assert store.write("b", 1)


# --- one server


@dataclass(slots=True)
class Weather:
    """A pool of which two nodes are behind a proxy, at a server of its own."""

    pool: PoolStation
    server: SingleServer
    proxy: FaultProxy

    async def refill(self) -> None:
        """As many nodes as at first, half of them behind the proxy."""
        missing = NODES - len(self.pool.nodes)
        for number in range(missing):
            url = self.proxy.url if number % 2 else ""
            await self.pool.start(url=url, workers=WORKERS)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Nobody can be expected to run jobs meanwhile."""
        began = time.monotonic()
        yield
        self.pool.ledger.outages.append((began, time.monotonic()))


Blow = Callable[[Weather], Awaitable[None]]


async def kill_one(at: Weather) -> None:
    """SIGKILL of the process with most jobs."""
    await at.pool.kill(at.pool.busiest())


async def kill_all(at: Weather) -> None:
    """SIGKILL of all processes at once; then there are new ones."""
    async with at.outage():
        await at.pool.kill_all()
        await anyio.sleep(at.pool.random.uniform(0.0, 2 * TTL))
        await at.refill()


async def freeze_one(at: Weather) -> None:
    """SIGSTOP for three leases, and back."""
    sleeper = at.pool.busiest()
    sleeper.freeze()
    await anyio.sleep(LEASES * TTL)
    sleeper.thaw()


async def freeze_half(at: Weather) -> None:
    """SIGSTOP of two, for about as long as a lease: some are back just before, some just after it has lapsed."""
    async with anyio.create_task_group() as tasks:
        for sleeper in at.pool.random.sample(at.pool.awake(), 2):
            tasks.start_soon(nap, sleeper, at.pool.random.uniform(0.5 * TTL, 1.5 * TTL))


async def nap(node: NodeProcess, seconds: float) -> None:
    """SIGSTOP for so long."""
    node.freeze()
    await anyio.sleep(seconds)
    node.thaw()


def block(seconds: float) -> Blow:
    """A handler blocks the event loop. The leases are renewed from another thread: nothing moves."""

    async def blow(at: Weather) -> None:
        await at.pool.pause()  # what is given to it meanwhile would wait
        await at.pool.rest()
        before = at.pool.ledger.starts()
        await at.pool.busiest().ask("block", seconds=seconds)
        assert at.pool.ledger.starts() == before, "a job has moved"
        said = [fact.get("where", "") for fact in at.pool.ledger.other["standstill"]]
        assert any("in _obey" in where for where in said), "it was not said what blocks"
        at.pool.go_on()

    return blow


async def hold_interpreter(at: Weather) -> None:
    """A process's interpreter is held for three leases: to the pool that is the same as frozen."""
    holder, began = at.pool.busiest(), time.monotonic()
    at.pool.ledger.frozen[holder.pid].append((began, FOR_EVER))
    await holder.ask("hold", seconds=LEASES * TTL)
    at.pool.ledger.frozen[holder.pid][-1] = (began, time.monotonic())


def restart(shortest: float, longest: float) -> Blow:
    """SIGKILL of the server, restarted on its data."""

    async def blow(at: Weather) -> None:
        async with at.outage():
            await at.server.kill()
            await anyio.sleep(at.pool.random.uniform(shortest, longest))
            await at.server.restart()

    return blow


async def stall_half(at: Weather) -> None:
    """Two nodes hear nothing for three leases; then what was on its way arrives, both ways."""
    at.proxy.stall()
    await anyio.sleep(LEASES * TTL)
    at.proxy.resume()


async def cut_half(at: Weather) -> None:
    """Two nodes are refused for three leases."""
    await at.proxy.refuse()
    at.proxy.cut()
    await anyio.sleep(LEASES * TTL)
    await at.proxy.accept()


def swallow(then: Literal["cut", "stall"], count: int) -> Blow:
    """Scripts are carried out and their replies never come; the connection is cut, or silent from then on."""

    async def blow(at: Weather) -> None:
        for _ in range(count):
            every = at.pool.random.randrange(1, 10)
            fault = at.proxy.swallow_reply("EVALSHA", every=every, then=then)
            await fault.wait_hit(timeout=30.0)
            fault.disarm()

    return blow


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bad weather.

    Attributes:
        name: of it.
        blow: lets it happen once.
        tries: how often, in the short form.
        dispatcher_too: the dispatcher is behind the proxy, too.
        expects: what must have been seen, or the test has shown nothing.
    """

    name: str
    blow: Blow
    tries: int = 1
    dispatcher_too: bool = False
    expects: Callable[[Verdict], object] = lambda verdict: True


def moved(verdict: Verdict) -> bool:
    """Jobs were taken over."""
    return verdict.moves > 0


def woke(verdict: Verdict) -> bool:
    """Stale owners woke up, and tried to go on."""
    return bool(verdict.wakings) and verdict.stale_writes > 0 and verdict.stale_beats > 0


def fenced(verdict: Verdict) -> bool:
    """Workers gave up by themselves."""
    return verdict.fenced > 0 and verdict.moves > 0


PROCESSES = (
    Kind("process killed", kill_one, 2, expects=moved),
    Kind("all processes killed", kill_all, expects=moved),
    Kind("process frozen for three leases", freeze_one, expects=woke),
    Kind("two processes frozen for about a lease", freeze_half),
    Kind("event loop blocked", block(LEASES * TTL)),
)
SERVER = (
    Kind("server restarted", restart(0.0, 0.5), 2),
    Kind("server away for long", restart(2 * TTL, 4 * TTL), expects=fenced),
    Kind("half of the nodes hear nothing", stall_half, expects=fenced),
    Kind("half of the nodes cut off", cut_half, expects=fenced),
    Kind("replies swallowed, then cut", swallow("cut", 5), 2, dispatcher_too=True),
    Kind("replies swallowed, then stall", swallow("stall", 2), dispatcher_too=True),
)
LONG_KINDS = (
    *PROCESSES[:-1],
    Kind("event loop blocked for 60 s", block(BLOCKED)),
    Kind("interpreter held for three leases", hold_interpreter, expects=moved),
    *SERVER,
)


def tell(name: str, verdict: Verdict, *, tries: int = 1, **facts: object) -> None:
    """Note what was measured."""
    said: dict[str, object] = {
        "jobs": verdict.jobs,
        "moves": verdict.moves,
        "longest_gap": round(verdict.longest_gap, 3),
        "lost": len(verdict.lost),
        "doubled": len(verdict.doubled),
        "starved": verdict.starved,
        "stale_writes": verdict.stale_writes,
        "stale_beats": verdict.stale_beats,
        "fenced": verdict.fenced,
        "woken": len(verdict.wakings),
        "slowest_waking": round(max(verdict.wakings, default=0.0), 3),
        **facts,
    }
    note_fact(f"pools: {name}", said, tally_of(verdict, tries))


async def run_kind(kind: Kind, tries: int, seed: int, folder: Path) -> None:
    """All tries of a kind at a server of its own, and the judgement."""
    print(f"pools: {kind.name}, seed {seed}")
    try:
        async with (
            SingleServer(args=DURABLE) as server,
            FaultProxy(server, seed=seed) as proxy,
            pool_station(
                proxy.url if kind.dispatcher_too else server.url,
                folder,
                seed=seed,
                nodes=NODES // 2,
                workers=WORKERS,
                node_url=server.url,
            ) as pool,
        ):
            at = Weather(pool, server, proxy)
            pool.replies_may_be_lost = kind.dispatcher_too
            await pool.start_many(NODES // 2, url=proxy.url, workers=WORKERS)
            await pool.rest()
            quiet = pool.ledger.judge(TTL + ALLOWANCE).moves
            async with pool.traffic():
                for _ in range(tries):
                    await anyio.sleep(pool.random.uniform(0.0, 0.3))
                    await kind.blow(at)
                    proxy.clear()
                    await at.refill()
                    await pool.settle("after the weather")
            verdict = await pool.judge()
            tell(kind.name, verdict, tries=tries, moves_before=quiet)
            verdict.assert_clean()
            assert kind.expects(verdict), verdict
    except Exception as error:
        error.add_note(f"the weather: {kind.name}, seed {seed}")
        raise


@pytest.mark.parametrize(
    "kinds", [pytest.param(PROCESSES, id="processes"), pytest.param(SERVER, id="server")]
)
async def test_jobs_go_on(anyio_backend: object, tmp_path: Path, kinds: tuple[Kind, ...]) -> None:
    """All kinds at once, each at a server of its own: most of it is waiting."""
    async with anyio.create_task_group() as tasks:
        for number, kind in enumerate(kinds):
            folder = tmp_path / f"{number}"
            tasks.start_soon(run_kind, kind, kind.tries, SEED + number, folder)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "kind", LONG_KINDS, ids=[kind.name.replace(" ", "-") for kind in LONG_KINDS]
)
async def test_jobs_go_on_in_many_tries(anyio_backend: object, tmp_path: Path, kind: Kind) -> None:
    """The same, one kind at a time, in `PULSEWIRE_TRIES` tries; a loop blocked for a minute in three at most."""
    tries = min(TRIES, 3) if "60 s" in kind.name else TRIES
    await run_kind(kind, tries, SEED, tmp_path)


async def test_wrong_clocks(fresh_server: SingleServer, tmp_path: Path) -> None:
    """Clocks ten minutes ahead and behind, and one that jumps by an hour, move nothing and delay nothing."""
    async with pool_station(fresh_server.url, tmp_path, seed=SEED, nodes=1, jobs=0) as pool:
        await pool.start(skew=600.0)
        await pool.start(skew=-600.0)
        await pool.start(skew=-3600.0, after=1.0)  # it jumps
        await pool.wait_known()
        await pool.dispatch_many(60)
        before = pool.ledger.starts()
        await anyio.sleep(1.5 * TTL)  # longer than a lease, in which nothing may happen
        await pool.rest()
        assert pool.ledger.starts() == before, "a job has moved"
        assert len(set(pool.ledger.placed().values())) == 4
        await pool.kill(pool.nodes[0])  # the right one, so that the wrong ones are left
        await pool.settle("after a death")
        verdict = await pool.judge()
        tell("clocks wrong by ten minutes", verdict)
        verdict.assert_clean()
        assert verdict.moves > 0


# --- failovers


FAILOVERS = [pytest.param(1, id="once"), pytest.param(TRIES, id="many", marks=LONG)]


@pytest.mark.parametrize("tries", FAILOVERS)
@pytest.mark.parametrize(
    "how",
    # pool/test_failovers.py has its short form
    ["killed", pytest.param("ordered", marks=pytest.mark.slow)],
)
async def test_sentinel_failover(
    sentinel_group: SentinelGroup, namespace: str, tmp_path: Path, how: str, tries: int
) -> None:
    """The master is replaced, all that was dispatched being replicated: every job runs on.

    After an ordered failover it goes on renewing leases for a while, of which its successor knows nothing.
    """
    group = sentinel_group
    async with pool_station(
        group.url, tmp_path, seed=SEED, namespace=namespace, workers=WORKERS
    ) as pool:
        async with pool.traffic():
            for _ in range(tries):
                await group.wait_healthy()
                await pool.pause()
                await wait_replicated(await group.master(), 2)
                if how == "ordered":
                    await order_failover(group)
                    pool.go_on()
                else:
                    began = time.monotonic()
                    old = await group.kill_master()
                    pool.go_on()
                    await group.wait_new_master(old)
                    pool.ledger.outages.append((began, time.monotonic()))
                await pool.settle("after the failover")
                await group.heal()
        verdict = await pool.judge()
        tell(f"Sentinel, master {how}", verdict, tries=tries)
        verdict.assert_clean()


@pytest.mark.parametrize("tries", FAILOVERS)
@pytest.mark.parametrize("how", ["killed", "ordered"])
async def test_cluster_failover(
    cluster_group: ClusterGroup, namespace: str, tmp_path: Path, how: str, tries: int
) -> None:
    """The pool's slot gets another master."""
    group = cluster_group
    key = f"{namespace}:pool:{{{POOL}}}:meta"
    async with pool_station(
        group.url, tmp_path, seed=SEED, namespace=namespace, workers=WORKERS
    ) as pool:
        async with pool.traffic():
            for _ in range(tries):
                await group.wait_healthy()
                if how == "ordered":
                    await group.failover(await group.node_of(key))
                else:
                    await pool.pause()
                    await wait_replicated(await group.node_of(key), 1)
                    began = time.monotonic()
                    old = await group.kill_master_of(key)
                    pool.go_on()
                    await group.wait_new_owner(slot_of(key), old)
                    pool.ledger.outages.append((began, time.monotonic()))
                await pool.settle("after the failover")
                await group.heal()
        verdict = await pool.judge()
        tell(f"Cluster, master {how}", verdict, tries=tries)
        verdict.assert_clean()


# --- churn

MOST_NODES = 6
LEAST_AWAKE = 2


class Churn:
    """Random events in the life of a pool."""

    def __init__(self, pool: PoolStation, server: SingleServer) -> None:
        self.counts: dict[str, int] = {}
        self._pool = pool
        self._server = server
        self._tasks = anyio.create_task_group()

    async def run(self, events: int) -> None:
        """So many, one after the other; naps go on meanwhile."""
        async with self._tasks:
            for _ in range(events):
                name, event = self._choose()
                self.counts[name] = self.counts.get(name, 0) + 1
                await event()
                await anyio.sleep(self._pool.random.uniform(0.0, 0.6))

    def _choose(self) -> tuple[str, Callable[[], Awaitable[None]]]:
        awake, choices = self._pool.awake(), [("restart", self._restart)]
        choices += 2 * [
            ("worker joins", self._worker_joins),
            ("worker leaves", self._worker_leaves),
        ]
        if len(self._pool.nodes) < MOST_NODES:
            choices += 4 * [("join", self._join)]
        if len(awake) > LEAST_AWAKE:
            choices += 4 * [("leave", self._leave), ("kill", self._kill), ("freeze", self._freeze)]
        return self._pool.random.choice(choices)

    def _one(self) -> NodeProcess:
        return self._pool.random.choice(self._pool.awake())

    async def _join(self) -> None:
        await self._pool.start(workers=self._pool.random.randrange(1, 3))

    async def _leave(self) -> None:
        await self._pool.end(self._one())

    async def _kill(self) -> None:
        await self._pool.kill(self._one())

    async def _freeze(self) -> None:
        self._tasks.start_soon(nap, self._one(), self._pool.random.uniform(0.1, LEASES) * TTL)

    async def _worker_joins(self) -> None:
        await self._one().ask("join")

    async def _worker_leaves(self) -> None:
        node = self._one()
        await node.ask("join")
        await node.ask("leave")

    async def _restart(self) -> None:
        began = time.monotonic()
        await self._server.kill()
        await anyio.sleep(self._pool.random.uniform(0.0, 2 * TTL))
        await self._server.restart()
        self._pool.ledger.outages.append((began, time.monotonic()))


@pytest.mark.parametrize(
    ("jobs", "events"),
    [pytest.param(200, 20, id="short"), pytest.param(1000, 200, id="long", marks=LONG)],
)
async def test_churn(anyio_backend: object, tmp_path: Path, jobs: int, events: int) -> None:
    """Nodes join, leave, die and freeze, the server restarts, jobs come and go: every promise holds."""
    print(f"pools: churn, seed {SEED}")
    async with (
        SingleServer(args=DURABLE) as server,
        pool_station(server.url, tmp_path, seed=SEED, workers=WORKERS, jobs=jobs) as pool,
    ):
        churn = Churn(pool, server)
        async with pool.traffic():
            await churn.run(events)
        verdict = await pool.judge(lease=TTL)
        tell("churn", verdict, events=churn.counts)
        verdict.assert_clean()
        assert verdict.moves > 0


# --- how many jobs move

FEW = 1.3
"""Times 1/N: the most jobs that may move when one of N joins or is lost: the promise."""
ROLLING = 2.2
"""Moves of a job in a rolling restart, on average, at most: the promise."""


@pytest.mark.parametrize(
    ("jobs", "tries"),
    [pytest.param(1000, 1, id="once"), pytest.param(1000, TRIES, id="many", marks=LONG)],
)
async def test_few_jobs_move(
    fresh_server: SingleServer, tmp_path: Path, jobs: int, tries: int
) -> None:
    """When one of N joins, leaves or dies, 1/N of the jobs move: those of that one, and no others."""
    shares: list[float] = []
    node = {"worker_ttl": 2 * TTL}  # nobody shall be taken for dead who is only slow
    async with pool_station(
        fresh_server.url, tmp_path, seed=SEED, nodes=4, jobs=jobs, node=node
    ) as pool:
        before, already = await pool.rest(), pool.ledger.judge(0.0).moves
        for _ in range(tries):
            for how in ("join", "leave", "join", "kill"):
                if how == "join":
                    await pool.start(node=node)
                    count = len(pool.nodes)
                else:
                    count = len(pool.nodes)
                    victim = pool.random.choice(pool.nodes)
                    await (pool.end(victim) if how == "leave" else pool.kill(victim))
                after = await pool.rest()
                moved_jobs = {key for key, worker in after.items() if before[key] != worker}
                ends = {(before if how != "join" else after)[key] for key in moved_jobs}
                assert len(ends) == 1, f"{how}: jobs of others moved, too"
                shares.append(len(moved_jobs) / jobs * count)
                before = after
        verdict = await pool.judge(2 * TTL + ALLOWANCE)
        tell("moves by 1/N", verdict, largest_share=round(max(shares), 3))
        verdict.assert_clean()
        once = round(sum(share * jobs / 5 for share in shares))
        assert verdict.moves - already == once, "some jobs moved more than once"
        assert max(shares) <= FEW, shares


@pytest.mark.slow
async def test_rolling_restart(fresh_server: SingleServer, tmp_path: Path) -> None:
    """Ten nodes are restarted one after the other: a job moves twice on average, away and back."""
    jobs, count = 1000, 10
    node = {"worker_ttl": 2 * TTL}
    async with pool_station(
        fresh_server.url, tmp_path, seed=SEED, nodes=count, jobs=jobs, node=node
    ) as pool:
        await pool.rest()
        before = pool.ledger.judge(0.0).moves
        for node_process in pool.nodes:
            await pool.restart(node_process)
            await pool.rest()
        verdict = await pool.judge(2 * TTL + ALLOWANCE)
        average = (verdict.moves - before) / jobs
        tell("rolling restart of ten nodes", verdict, moves_of_a_job=average)
        verdict.assert_clean()
        assert average <= ROLLING


# --- many jobs

MANY = 20_000
SOME = 100
SCALE_NODES = 4
SCALE_WORKERS = 4
PAYLOAD = 4096
PATIENT = {"worker_ttl": 10.0}
ROUNDS = 15
COST = 1.2
"""Times the cost of a dispatch with 100 jobs, at most: the promise."""


@asynccontextmanager
async def big_station(
    server: SingleServer, folder: Path, jobs: int, payload: bytes = b""
) -> AsyncIterator[tuple[PoolStation, list[int]]]:
    """A pool with many jobs, and by how many bytes each process has grown by them."""
    async with pool_station(
        server.url,
        folder,
        seed=SEED,
        name=f"pool-{jobs}-{len(payload)}",
        nodes=SCALE_NODES,
        workers=SCALE_WORKERS,
        node=PATIENT,
        quiet=True,
        jobs=0,
    ) as pool:
        await pool.stop_many(await pool.dispatch_many(SOME, payload))  # what is loaded at first use
        before = [(await node.ask("facts"))["resident"] for node in pool.nodes]
        await pool.dispatch_many(jobs, payload)
        await pool.settle(f"{jobs} jobs")
        after = [(await node.ask("facts"))["resident"] for node in pool.nodes]
        yield pool, [now - then for now, then in zip(after, before, strict=True)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_dispatch_costs_the_same_with_many_jobs(
    fresh_server: SingleServer, tmp_path: Path
) -> None:
    """Two pools side by side, one with 100 and one with 20,000 running jobs, in turns."""
    single: dict[int, list[float]] = {SOME: [], MANY: []}
    together: dict[int, list[float]] = {SOME: [], MANY: []}
    async with (
        big_station(fresh_server, tmp_path / "many", MANY) as (large, _),
        big_station(fresh_server, tmp_path / "some", SOME) as (small, _),
    ):
        pools = {SOME: small, MANY: large}
        for _ in range(ROUNDS):
            keys: dict[int, list[str]] = {SOME: [], MANY: []}
            for _ in range(SOME):  # in turns, so that whatever else the machine does meets both
                for jobs, pool in pools.items():
                    began = time.perf_counter()
                    keys[jobs].append(await pool.dispatch())
                    single[jobs].append(time.perf_counter() - began)
            for jobs, pool in pools.items():
                began = time.perf_counter()
                keys[jobs] += await pool.dispatch_many(5 * SOME)
                together[jobs].append((time.perf_counter() - began) / (5 * SOME))
            for jobs, pool in pools.items():
                await pool.stop_many(keys[jobs])
        for pool in (small, large):
            verdict = await pool.judge(10.0 + ALLOWANCE)
            verdict.assert_clean()
            assert verdict.moves == 0
    costs = {
        "one at a time": {jobs: statistics.median(costs) for jobs, costs in single.items()},
        "100 at once": {jobs: statistics.median(costs) for jobs, costs in together.items()},
    }
    ratios = {how: cost[MANY] / cost[SOME] for how, cost in costs.items()}
    note_fact(
        "pools: cost of a dispatch",
        {
            how: {
                **{f"{jobs} jobs, ms": round(1000 * cost[jobs], 3) for jobs in cost},
                "ratio": round(ratios[how], 3),
            }
            for how, cost in costs.items()
        },
    )
    assert ratios["one at a time"] <= COST


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_nodes_hold_no_payloads(fresh_server: SingleServer, tmp_path: Path) -> None:
    """The memory of 20,000 jobs with 4 KiB each is the server's: nodes grow as they do by empty ones."""
    grown: dict[int, int] = {}
    for size in (0, PAYLOAD):
        async with big_station(fresh_server, tmp_path / f"{size}", MANY, b"x" * size) as (
            _,
            growth,
        ):
            grown[size] = sum(growth)
    total = MANY * PAYLOAD
    note_fact(
        "pools: memory of the nodes",
        {
            "jobs": MANY,
            "MiB by empty jobs": round(grown[0] / 2**20, 1),
            "MiB by jobs of 4 KiB": round(grown[PAYLOAD] / 2**20, 1),
            "MiB of payloads": round(total / 2**20, 1),
            "bytes a job": round(grown[0] / MANY),
        },
    )
    assert grown[PAYLOAD] - grown[0] < total / 4
