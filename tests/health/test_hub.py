"""A hub's health in all weathers: what is red, what is not, and that it gets green by itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire._core import lag
from pulsewire.health import Health, HealthLimits
from pulsewire.tasks import Mux, Task
from pulsewire.tasks.serving import attempts
from pulsewire.testing import ClusterGroup, FaultProxy, SingleServer, wait_until
from tests.facts import PATIENCE, on_one_server, on_two_topologies

BOUND = 15.0
"""Seconds in which a black hole makes a process dead (spec/faults.md F8)."""
LEAVES = pytest.mark.leaves_keys("asynq:*", "pulse:stream:*", "map:*", "pool:*:meta")
QUICK = HealthLimits(loop_lag=0.4, silence=1.2, failing=1.0)


async def run_for_ever(job: object) -> None:
    """A job, or a task."""
    await anyio.sleep_forever()


@asynccontextmanager
async def everything(hub: pulsewire.Hub) -> AsyncIterator[dict[str, Any]]:
    """One of all that has background duties, with work."""
    async with AsyncExitStack() as stack:
        stream, enter = hub.stream("orders"), stack.enter_async_context
        parts: dict[str, Any] = {
            "sink": await enter(stream.sink("mailer", ack_grace=1.0)),
            "reader": await enter(stream.reader()),
            "map": await enter(hub.map("flags")),
            "node": await enter(hub.node("jobs", worker_ttl=3.0)),
            "server": await enter(hub.task_server(Mux(), lease=3.0, shutdown_timeout=0.2)),
            "scheduler": await enter(hub.scheduler()),
        }
        await parts["node"].add_worker(run_for_ever)
        yield parts


def states(health: Health) -> dict[str, str]:
    """By block and name."""
    return {f"{check.block} {check.name}": check.state for check in health.checks}


async def wait_health(
    hub: pulsewire.Hub, is_so: Callable[[Health], bool], what: str, **options: Any
) -> Health:
    """The health, once it is so."""
    found: list[Health] = []

    def look() -> bool:
        found[:] = [hub.health(**options)]
        return is_so(found[0])

    await wait_until(look, timeout=PATIENCE, what=what)
    return found[0]


def is_well(health: Health) -> bool:
    return health.is_live and health.is_ready


@on_two_topologies
@LEAVES
async def test_all_that_is_at_work_is_in_sight(hub: pulsewire.Hub) -> None:
    """And idle waiting is no problem, of whatever block."""
    async with everything(hub):
        health = await wait_health(hub, lambda now: now.loop_lag > 0.0, "the lag was measured")
        assert is_well(health), health.problems
        found = states(health)
        assert {
            "process event loop",
            "streams sink mailer of orders: feed",
            "streams sink mailer of orders: claim",
            "streams reader of orders: feed",
            "maps map flags: replica",
            "pools pool jobs: leases",
            "pools pool jobs: clean up",
            "tasks server of default: taking tasks",
            "tasks server of default: leases",
            "tasks server of default: keeping leases",
            "tasks scheduler: showing periodic tasks",
        } <= found.keys()
        assert found["tasks server of default: taking tasks"] == "waiting"
        assert [
            state
            for name, state in found.items()
            if name.startswith("redis ") and state == "connected"
        ] != []
    left = {name.split()[0] for name in states(hub.health())}
    assert left == {"process", "redis"}


@on_one_server
async def test_a_hub_that_is_closed_is_not_ready(hub: pulsewire.Hub) -> None:
    async with pulsewire.connect(hub.url, namespace=hub.namespace) as other:
        assert is_well(other.health())
    health = other.health()
    assert health.is_live
    assert not health.is_ready
    assert any("takes no more work" in problem.what for problem in health.problems)


@on_one_server
async def test_a_closed_hub_can_be_asked_for_the_first_time(hub: pulsewire.Hub) -> None:
    async with pulsewire.connect(hub.url, namespace=hub.namespace) as other:
        pass
    assert not other.health().is_ready


@on_one_server
@pytest.mark.leaves_keys("asynq:*")
async def test_a_task_server_that_stops_is_not_ready(hub: pulsewire.Hub) -> None:
    async with hub.task_server(Mux()) as server:
        assert is_well(hub.health())
        server.stop()
        health = hub.health()
        assert health.is_live
        assert not health.is_ready
    assert is_well(hub.health())


@on_one_server
@LEAVES
async def test_a_node_that_leaves_is_not_ready(hub: pulsewire.Hub) -> None:
    async with hub.node("jobs") as node:
        assert is_well(hub.health())
        await node.close()
        assert not hub.health().is_ready
    assert is_well(hub.health())


@on_one_server
@pytest.mark.leaves_keys("asynq:*")
async def test_handlers_that_do_not_end_take_the_places_of_a_server(
    hub: pulsewire.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the last place the process is dead: nothing but a restart brings them back."""
    monkeypatch.setattr(attempts, "ABANDON_AFTER", 0.1)
    release = asyncio.Event()

    async def never_ends(task: Task) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with hub.task_server(never_ends, concurrency=1, shutdown_timeout=0.1) as server:
        await hub.tasks.enqueue("stubborn", b"", timeout=1.0, max_retry=0)
        await wait_until(lambda: server.running == 1, timeout=PATIENCE, what="it runs")
        assert is_well(hub.health())
        health = await wait_health(hub, lambda now: not now.is_live, "its place is lost")
        assert "do not end" in str(health.problems[0])
        release.set()
        await wait_health(hub, is_well, "its place is free")


@on_one_server
async def test_a_blocked_event_loop_is_seen_for_some_seconds(hub: pulsewire.Hub) -> None:
    assert is_well(hub.health(QUICK))
    await asyncio.sleep(0)  # the measuring has begun
    time.sleep(1.2)  # this is the fault
    await asyncio.sleep(0)
    health = hub.health(QUICK)
    assert not health.is_live
    assert health.loop_lag > 0.4
    assert (health.problems[0].block, health.problems[0].name) == ("process", "event loop")


@on_one_server
@pytest.mark.leaves_keys("asynq:*")
async def test_leases_that_nobody_renews_make_a_process_unready(
    hub: pulsewire.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread stands still although the server is there; it goes on, and all is well."""
    go_on = threading.Event()
    async with hub.task_server(Mux(), lease=1.0) as server:
        assert is_well(hub.health())
        renew = server._presence._renew

        async def stand_still(*args: Any) -> None:
            go_on.wait()
            await renew(*args)

        monkeypatch.setattr(server._presence, "_renew", stand_still)
        health = await wait_health(hub, lambda now: not now.is_ready, "the leases are old")
        assert any(problem.name.endswith(": leases") for problem in health.problems)
        assert health.is_live
        go_on.set()
        await wait_health(hub, is_well, "they are renewed again")


async def test_a_duty_that_was_ended_by_an_error_makes_a_process_dead(
    fresh_server: SingleServer,
) -> None:
    """Its owner ends then, too; but until it has, it says so."""
    seen: list[Health] = []
    async with pulsewire.connect(fresh_server.url) as hub:

        async def look_when_cancelled() -> None:
            async with hub.map("flags"):
                try:
                    await fresh_server.command("ACL", "SETUSER", "default", "-hgetall")
                    await fresh_server.command("CLIENT", "KILL", "TYPE", "pubsub")
                    await anyio.sleep_forever()
                finally:
                    seen.append(hub.health())

        with pytest.raises(pulsewire.PermissionDenied):
            await look_when_cancelled()
        assert not seen[0].is_live
        assert any("was ended by" in problem.what for problem in seen[0].problems)
        assert is_well(hub.health())


@pytest.mark.parametrize("idle", [True, False])
async def test_a_server_that_is_stopped_makes_a_process_unready_and_not_dead(
    fresh_server: SingleServer, idle: bool
) -> None:
    """It is ready again when the server is there again, also if nobody has asked for anything meanwhile."""
    async with pulsewire.connect(fresh_server.url) as hub, AsyncExitStack() as stack:
        if not idle:
            await stack.enter_async_context(everything(hub))
        await wait_health(hub, is_well, "all is well")
        await fresh_server.kill()
        since, was_live = time.monotonic(), True
        health = await wait_health(hub, lambda now: not now.is_ready, "it is unready", limits=QUICK)
        assert any(problem.block == "redis" for problem in health.problems)
        while time.monotonic() - since < 2.5 * QUICK.silence:
            was_live &= hub.health(HealthLimits(silence=QUICK.silence)).is_live
            await asyncio.sleep(0.05)
        assert was_live
        await fresh_server.restart()
        await wait_health(hub, is_well, "all is well again")


@pytest.mark.parametrize("direction", ["both", "to_server", "to_client"])
@LEAVES
async def test_a_black_hole_makes_a_process_dead_until_it_ends(
    weathered: pulsewire.Hub, proxy: FaultProxy, direction: Any
) -> None:
    """Here with quick limits, and connections that count as dead after 0.6 s."""
    async with everything(weathered):
        await wait_health(weathered, is_well, "all is well")
        proxy.stall(direction)
        health = await wait_health(
            weathered, lambda now: not now.is_live, "it is dead", limits=QUICK
        )
        assert any("answers nothing" in problem.what for problem in health.problems)
        proxy.resume()
        await wait_health(weathered, is_well, "all is well again")


@pytest.mark.slow
@pytest.mark.weather
@LEAVES
async def test_black_hole_by_the_clock(proxy: FaultProxy, namespace: str) -> None:
    """With the usual settings: red within 15 s, green within 5 s of its end."""
    async with pulsewire.connect(proxy.url, namespace=namespace) as hub, everything(hub):
        await wait_health(hub, is_well, "all is well")
        proxy.stall()
        began = time.monotonic()
        await wait_until(lambda: not hub.health().is_live, timeout=BOUND, what="it is dead")
        assert time.monotonic() - began <= BOUND
        proxy.resume()
        await wait_until(lambda: is_well(hub.health()), timeout=5.0, what="all is well again")


async def test_a_slow_server_makes_a_process_degraded(
    proxy: FaultProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And live and ready all the while; it is well again when the server is quick again (F11)."""
    monkeypatch.setattr(lag, "REMEMBERED", 0.5)
    limits = HealthLimits(slow=0.3)
    async with pulsewire.connect(proxy.url, namespace=namespace) as hub:
        await wait_health(hub, lambda now: not now.is_degraded, "all is well", limits=limits)
        proxy.delay(0.25)
        health = await wait_health(hub, lambda now: now.is_degraded, "it is slow", limits=limits)
        assert is_well(health)
        assert [problem.what for problem in health.problems] == ["is slow to answer"]
        proxy.delay(0)
        await wait_health(hub, lambda now: not now.is_degraded, "it is quick", limits=limits)


@on_one_server
async def test_a_hub_whose_health_nobody_asks_for_does_nothing_for_it(
    weathered: pulsewire.Hub, proxy: FaultProxy, topology: object
) -> None:
    """It opens no connection that nobody needs; from the first question on it does."""
    before = proxy.statistics().connections
    proxy.cut()
    await weathered.time()
    opened = proxy.statistics().connections
    assert opened == before + 1
    weathered.health()
    proxy.cut()
    await wait_until(
        lambda: proxy.statistics().connections > opened,
        timeout=PATIENCE,
        what="it connects by itself",
    )
    await wait_health(weathered, is_well, "all is well again")


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_a_cluster_is_reached_again_after_a_failover(
    topology: ClusterGroup, hub: pulsewire.Hub
) -> None:
    """By a hub that asks for nothing meanwhile: it learns by itself who has the slots now."""
    await hub.time()
    masters = await topology.masters()
    for number in range(300):  # a connection to each master
        await hub.stream(f"s{number}").info()
    assert is_well(hub.health())
    await masters[0].kill()
    health = await wait_health(hub, lambda now: not now.is_ready, "a master is away")
    assert health.is_live
    await wait_health(hub, is_well, "its replica has taken over")
