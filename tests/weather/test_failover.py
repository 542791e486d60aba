"""Failovers in the middle of traffic: what was acknowledged and replicated is not lost; nobody restarts anything."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import pytest

import pulsewire
from pulsewire.testing import (
    ClusterGroup,
    ClusterNode,
    SentinelGroup,
    SingleServer,
    slot_of,
)
from tests.weather.ledger import Ledger
from tests.weather.replication import (
    freeze_master,
    kill_master,
    order_failover,
    wait_replicated,
)
from tests.weather.report import note
from tests.weather.seeds import LONG, SEED, tries_of
from tests.weather.traffic import KEPT, LONGEST_RECOVERY, SINK, Traffic, content_of, new_payload

pytestmark = [pytest.mark.weather, pytest.mark.leaves_keys]

SHORT_TRIES = int(os.environ.get("PULSEWIRE_SHORT_FAILOVERS", "1"))
TRIES = tries_of(100)
DRAWN = random.Random(SEED)
CALLERS = 80
CALLERS_PAUSE = 0.05

LENGTHS = [
    pytest.param(SHORT_TRIES, id="few"),
    pytest.param(TRIES, id="many", marks=LONG),
]


# --- Sentinel


@dataclass(frozen=True, slots=True)
class Failover:
    """A kind of failover. With `is_settled` nothing unreplicated is acknowledged when it comes."""

    name: str
    blow: Callable[[SentinelGroup], Awaitable[SingleServer]]
    is_settled: bool


SENTINEL_FAILOVERS = [
    Failover("killed, all replicated", kill_master, is_settled=True),
    Failover("killed in full flow", kill_master, is_settled=False),
    Failover("ordered in full flow", order_failover, is_settled=False),
    Failover("ordered, all replicated", order_failover, is_settled=True),
    Failover("frozen, all replicated", freeze_master, is_settled=True),
]


@pytest.mark.parametrize(
    ("failover", "tries"),
    [
        *(
            pytest.param(kind, SHORT_TRIES, id=f"{kind.name}-few")
            for kind in SENTINEL_FAILOVERS[:1]
        ),
        *(
            pytest.param(kind, TRIES, id=f"{kind.name}-many", marks=LONG)
            for kind in SENTINEL_FAILOVERS
        ),
    ],
)
async def test_sentinel_failover(
    sentinel_group: SentinelGroup, namespace: str, failover: Failover, tries: int
) -> None:
    """Traffic goes on at the new master; what was replicated is handled, what was not is counted."""
    group, traffic, delays = sentinel_group, Traffic(Ledger()), list[float]()
    async with traffic.running(group.url, namespace):
        for _ in range(tries):
            traffic.ledger.forget_delays()
            await group.wait_healthy()
            if failover.is_settled:
                await traffic.pause()
                await wait_replicated(await group.master(), 2)
            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                if failover.is_settled and failover.blow is not order_failover:
                    tasks.start_soon(go_on_soon, traffic)
                old = await failover.blow(group)
            # Until a sentinel has told it, the old master takes writes that the new one never gets.
            traffic.go_on()
            delays.append(await traffic.wait_flowing(time.monotonic()))
            traffic.ledger.faults.append((began, time.monotonic() + 2 * traffic.ack_grace))
            if failover.blow is freeze_master:
                await wait_left(old)
            await group.heal()
        await traffic.wait_done()
        await traffic.wait_acked()
        master = await group.master()
        content = {stream.name: await content_of(master, stream) for stream in traffic.streams()}
    verdict = traffic.ledger.judge(content)
    note(f"Sentinel: {failover.name}", delays, [verdict])
    verdict.assert_clean(may_vanish=not failover.is_settled, may_see_twice=True)
    assert max(delays) < LONGEST_RECOVERY


async def go_on_soon(traffic: Traffic) -> None:
    """Add again while the failover is under way."""
    await anyio.sleep(0.05)
    traffic.go_on()


async def wait_left(old: SingleServer) -> None:
    """Wait until no client of ours is connected to a frozen server, so that nothing is told to it when it wakes up."""
    await anyio.sleep(5.0)  # longer than the silence after which a connection is given up


# --- Cluster


async def names_apart(group: ClusterGroup, namespace: str) -> tuple[str, str]:
    """Two stream names whose slots belong to different masters."""
    first = "plain"
    owner = await group.node_of(key_of(namespace, first))
    for number in itertools.count():
        second = f"scripted-{number}"
        if await group.node_of(key_of(namespace, second)) is not owner:
            return first, second
    raise AssertionError("numbers do not end")


def key_of(namespace: str, stream: str) -> str:
    """The key of a stream."""
    return f"{namespace}:pulse:stream:{stream}"


async def cluster_content(
    group: ClusterGroup, traffic: Traffic
) -> dict[str, list[tuple[str, bytes]]]:
    """What the streams hold."""
    return {
        stream.name: await content_of(await group.node_of(stream.key), stream)
        for stream in traffic.streams()
    }


@pytest.mark.parametrize(
    ("is_settled", "tries"),
    [
        pytest.param(True, SHORT_TRIES, id="all-replicated-few"),
        pytest.param(True, TRIES, id="all-replicated-many", marks=LONG),
        pytest.param(False, TRIES, id="in-full-flow-many", marks=LONG),
    ],
)
async def test_cluster_master_is_killed(
    cluster_group: ClusterGroup, namespace: str, is_settled: bool, tries: int
) -> None:
    """The stream of its slot goes on at the replica; the other stream goes on meanwhile."""
    group = cluster_group
    names = await names_apart(group, namespace)
    traffic, delays, others = Traffic(Ledger(), names=names), list[float](), list[float]()
    slot = slot_of(key_of(namespace, names[0]))
    async with traffic.running(group.url, namespace):
        for _ in range(tries):
            traffic.ledger.forget_delays()
            await group.wait_healthy()
            if is_settled:
                await traffic.pause()
                for master in await group.masters():
                    await wait_replicated(master, 1)
            began = time.monotonic()
            old = await group.kill_master_of(key_of(namespace, names[0]))
            traffic.go_on()
            others.append(await traffic.wait_flowing(began, names=names[1:]))
            await group.wait_new_owner(slot, old)
            delays.append(await traffic.wait_flowing(time.monotonic()))
            traffic.ledger.faults.append((began, time.monotonic() + 2 * traffic.ack_grace))
            await group.heal()
            if await group.node_of(key_of(namespace, names[1])) is await group.node_of(
                key_of(namespace, names[0])
            ):
                raise AssertionError("a failover moves no slot to another shard")
        await traffic.wait_done()
        await traffic.wait_acked()
        content = await cluster_content(group, traffic)
    verdict = traffic.ledger.judge(content)
    note(
        f"Cluster: master killed, {'all replicated' if is_settled else 'in full flow'}",
        delays,
        [verdict],
    )
    note("Cluster: the stream of another slot meanwhile", others, [verdict])
    verdict.assert_clean(may_vanish=not is_settled, may_see_twice=True)
    assert max(delays) < LONGEST_RECOVERY
    assert max(others) < LONGEST_RECOVERY


@pytest.mark.parametrize("tries", LENGTHS)
async def test_cluster_failover_in_order(
    cluster_group: ClusterGroup, namespace: str, tries: int
) -> None:
    """CLUSTER FAILOVER: the replica catches up first, so nothing at all is lost."""
    group = cluster_group
    names = await names_apart(group, namespace)
    traffic, delays = Traffic(Ledger(), names=names), list[float]()
    async with traffic.running(group.url, namespace):
        for _ in range(tries):
            traffic.ledger.forget_delays()
            await group.wait_healthy()
            await anyio.sleep(DRAWN.uniform(0.1, 0.5))
            began = time.monotonic()
            await group.failover(await group.node_of(key_of(namespace, names[0])))
            delays.append(await traffic.wait_flowing(time.monotonic()))
            traffic.ledger.faults.append((began, time.monotonic() + 2 * traffic.ack_grace))
        await traffic.wait_done()
        await traffic.wait_acked()
        content = await cluster_content(group, traffic)
    verdict = traffic.ledger.judge(content)
    note("Cluster: CLUSTER FAILOVER", delays, [verdict])
    verdict.assert_clean()
    assert max(delays) < LONGEST_RECOVERY


class Callers:
    """Eighty adders in step: so many commands are under way at once, twenty times a second."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._go_on = True

    def stop(self) -> None:
        """No more."""
        self._go_on = False

    async def run(self) -> None:
        """Until stopped."""
        async with anyio.create_task_group() as tasks:
            for _ in range(CALLERS):
                tasks.start_soon(self._call)

    async def _call(self) -> None:
        ledger = self._traffic.ledger
        stream = self._traffic.streams()[0]
        while self._go_on:
            payload = new_payload()
            ledger.calls(payload)
            event_id = await stream.add("happened", payload)
            ledger.acknowledge(stream.name, event_id, payload)
            await anyio.sleep(CALLERS_PAUSE)


async def another_master(group: ClusterGroup, slot: int) -> ClusterNode:
    """A master that does not have this slot."""
    owner = await group.owner_of(slot)
    return DRAWN.choice([node for node in await group.masters() if node is not owner])


@pytest.mark.parametrize("tries", LENGTHS)
async def test_slot_moves_under_load(
    cluster_group: ClusterGroup, namespace: str, tries: int
) -> None:
    """The slot of a stream moves to another master and back while 80 callers add to it: no error, nothing lost."""
    group = cluster_group
    names = await names_apart(group, namespace)
    traffic, delays = Traffic(Ledger(), names=names), list[float]()
    slot = slot_of(key_of(namespace, names[0]))
    home = await group.owner_of(slot)
    async with traffic.running(group.url, namespace):
        callers = Callers(traffic)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(callers.run)
            for _ in range(tries):
                traffic.ledger.forget_delays()
                await anyio.sleep(DRAWN.uniform(0.1, 0.5))
                began = time.monotonic()
                await group.move_slot(slot, await another_master(group, slot))
                delays.append(await traffic.wait_flowing(time.monotonic()))
                traffic.ledger.faults.append((began, time.monotonic() + 2 * traffic.ack_grace))
            callers.stop()
        await traffic.wait_done()
        await traffic.wait_acked()
        content = await cluster_content(group, traffic)
        await group.move_slot(slot, home)
    verdict = traffic.ledger.judge(content)
    note("Cluster: slot moved under load", delays, [verdict])
    verdict.assert_clean()
    assert max(delays) < LONGEST_RECOVERY


async def test_stream_flows_while_its_slot_is_half_moved(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """A big slot takes long to move: what has moved already is read and written at its new place (ASK)."""
    group = cluster_group
    names = await names_apart(group, namespace)
    traffic = Traffic(Ledger(), names=names)
    slot = slot_of(key_of(namespace, names[0]))
    home = await group.owner_of(slot)
    async with traffic.running(group.url, namespace):
        move = await group.slot_move(slot, await another_master(group, slot))
        began = time.monotonic()
        await move.open()
        await move.migrate_all()
        try:
            delay = await traffic.wait_flowing(time.monotonic())
        finally:
            await move.migrate_all()
            await move.close()
        traffic.ledger.faults.append((began, time.monotonic() + 2 * traffic.ack_grace))
        await traffic.wait_flowing(time.monotonic())
        await traffic.wait_done()
        await traffic.wait_acked()
        content = await cluster_content(group, traffic)
        await group.move_slot(slot, home)
    verdict = traffic.ledger.judge(content)
    note("Cluster: slot half moved", [delay], [verdict])
    verdict.assert_clean()
    assert delay < LONGEST_RECOVERY


async def test_reader_alone_follows_its_slot(cluster_group: ClusterGroup, namespace: str) -> None:
    """A process that only reads, and blocks when the slot moves, learns where it went."""
    group = cluster_group
    slot = slot_of(key_of(namespace, "watched"))
    home = await group.owner_of(slot)
    async with (
        pulsewire.connect(group.url, namespace=namespace) as reading,
        pulsewire.connect(group.url, namespace=namespace) as writing,
    ):
        stream = writing.stream("watched", max_len=KEPT)
        first = await stream.add("happened", b"1")
        async with reading.stream("watched").reader(start="oldest") as reader:
            assert [event.id for event in await reader.read(timeout=5.0)] == [first]
            await group.move_slot(slot, await another_master(group, slot))
            second = await stream.add("happened", b"2")
            assert [event.id for event in await reader.read(timeout=10.0)] == [second]
            await group.move_slot(slot, home)
            third = await stream.add("happened", b"3")
            assert [event.id for event in await reader.read(timeout=10.0)] == [third]


async def test_sink_alone_follows_its_slot(cluster_group: ClusterGroup, namespace: str) -> None:
    """The same for a sink without acknowledgements, which claims nothing."""
    group = cluster_group
    slot = slot_of(key_of(namespace, "shared"))
    home = await group.owner_of(slot)
    async with (
        pulsewire.connect(group.url, namespace=namespace) as reading,
        pulsewire.connect(group.url, namespace=namespace) as writing,
    ):
        stream = writing.stream("shared", max_len=KEPT)
        async with reading.stream("shared").sink(SINK, start="oldest", no_ack=True) as sink:
            for target in (await another_master(group, slot), home):
                await group.move_slot(slot, target)
                event_id = await stream.add("happened", b"1")
                assert [event.id for event in await sink.read(timeout=10.0)] == [event_id]
