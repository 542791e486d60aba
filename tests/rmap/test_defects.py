"""The defects of Pulse's maps (spec/pulse.md 5.2), one test or more each: we do not have them.

Each is the scene of the defect in a few lines. What stands behind it is tested in the file of its room.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import NotJoined, OutcomeUnknown, PayloadTooLarge, ReplicaBehind, ReplicatedMap
from pulsewire.rmap import Removed, TestAndDelete, TestAndSet
from pulsewire.testing import (
    ClusterGroup,
    FaultProxy,
    ServerProcess,
    SingleServer,
    Topology,
    slot_of,
    wait_until,
)
from tests.facts import PATIENCE, Facts, Raw, on_one_server
from tests.rmap.facts import MakeMap
from tests.rmap.witness import Witness, next_changes, set_message, wait_content, witnessed

Text = ReplicatedMap[str]


@pytest.fixture
async def witness(make_map: MakeMap, topology: Topology, namespace: str) -> AsyncIterator[Witness]:
    """What the server and its channel say of the map."""
    async with witnessed(topology, namespace) as watching:
        yield watching


async def subscribers(server: ServerProcess) -> list[str]:
    """The server's lines about our connections that listen to something."""
    return [
        line
        for line in (await server.clients()).values()
        if re.search(r" s?sub=[1-9]", line) and "name=pulsewire:" in line
    ]


# --- R1: the connection drops


async def test_r1_killed_subscription_is_followed_by_equality(
    make_map: MakeMap, watched: pulsewire.Hub, topology: Topology, raw: Raw
) -> None:
    """Go: the library subscribes again by itself, and nothing that was missed is ever noticed."""
    writer = make_map()
    await writer.set_many({"changed": "0", "removed": "x", "kept": "x"})
    async with make_map(of=watched) as m:
        changes = m.changes()
        key = m._store.content
        for number in range(1, 11):
            await raw(key, "CLIENT", "KILL", "TYPE", "pubsub")
            await writer.set("changed", str(number))
            await writer.set(f"new {number}", "x")
            await writer.delete("removed" if number == 1 else f"new {number - 1}")
            await wait_content(m, {"changed": str(number), "kept": "x", f"new {number}": "x"})
            assert m.revision == 3 + 3 * number
        assert m.statistics().cuts >= 5
        final = {"changed": "10", "new 10": "x", "removed": None, "new 9": None}
        last: dict[str | None, Any] = {}
        while any(last.get(key, "unseen") != new for key, new in final.items()):
            ((_, key, _, new),) = await next_changes(changes, 1)
            last[key] = new


@on_one_server
async def test_r1_what_happened_while_nobody_listened_is_seen_on_return(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub, facts: Facts
) -> None:
    writer = make_map()
    await writer.set_many({"changed": "1", "removed": "x", "kept": "x", "back again": "x"})
    async with make_map(of=weathered) as m:
        changes = m.changes()
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: not m.ready, what="nothing is heard")
        await writer.set_many({"changed": "2", "new": "x", "back again": "y"})
        await writer.delete("removed")
        await writer.set("back again", "x")
        await proxy.accept()
        await wait_content(m, {"changed": "2", "kept": "x", "new": "x", "back again": "x"})
        assert sorted(await next_changes(changes, 3)) == [
            ("delete", "removed", "x", None),
            ("set", "changed", "1", "2"),
            ("set", "new", None, "x"),
        ]
        assert m.statistics().snapshots == 2
        assert [name for name, *_ in facts.of("map_synced")] == ["map", "map"]


@on_one_server
async def test_r1_message_lost_in_silence_is_found_by_the_next_one(
    make_map: MakeMap, witness: Witness
) -> None:
    """Revisions are consecutive, so a gap is a proof."""
    async with make_map() as m:
        await m.set_and_wait("k", "1")
        await witness.command("HSET", witness.content, "unheard", "x", "=rev", "2", "=kind", "set")
        await m.set("k", "3")
        await wait_content(m, {"k": "3", "unheard": "x"})


@on_one_server
async def test_r1_message_lost_in_silence_is_found_without_a_next_one(
    make_map: MakeMap, witness: Witness
) -> None:
    """The revision is asked for about once a second."""
    async with make_map() as m:
        await m.set_and_wait("k", "1")
        changes = m.changes()
        await witness.command("HSET", witness.content, "k", "2", "=rev", "2", "=kind", "set")
        assert await next_changes(changes, 1) == [("set", "k", "1", "2")]
        assert (dict(m), m.revision) == ({"k": "2"}, 2)
        assert m.statistics().cuts == 0


@on_one_server
async def test_r1_doubled_and_reordered_messages_do_no_harm(
    make_map: MakeMap, witness: Witness, topology: Topology
) -> None:
    async with make_map() as m:
        await m.set_and_wait("k", "1")
        await m.set_and_wait("k", "2")
        (server,) = await topology.masters()
        for revision, value in ((1, "1"), (4, "4"), (3, "3"), (2, "2")):
            message = set_message("k", value, revision)
            await server.command("PUBLISH", witness.channel, message)
        await wait_until(lambda: m.statistics().notices == 6, what="all were heard")
        await wait_content(m, {"k": "2"})
        assert m.revision == 2


@pytest.mark.parametrize("topology", ["sentinel", "cluster"], indirect=True)
async def test_r1_map_is_followed_to_the_new_master_after_a_crash(
    make_map: MakeMap, watched: pulsewire.Hub, topology: Topology
) -> None:
    """What was acknowledged and copied is there, whatever had been heard by then."""
    writer = make_map()
    async with make_map(of=watched) as m:
        content = m._store.content
        await m.set_and_wait("k", "before")
        old = await topology.node_of(content)
        await old.command("WAIT", 1, 5000)
        await old.kill()
        await wait_until(lambda: not m.ready, timeout=PATIENCE, what="nothing is heard")
        assert m["k"] == "before"
        assert await writer.set("k", "after") == "before"
        await wait_content(m, {"k": "after"})
        assert await m.set_and_wait("k", "last") == "after"
        assert m["k"] == "last"
        assert (await topology.node_of(content)) is not old


# --- R2: the server's data is lost, or older


LOSSES: dict[str, Callable[[Witness], Any]] = {
    "deleted": lambda witness: witness.command("DEL", witness.content),
    "expired": lambda witness: witness.command("PEXPIRE", witness.content, 1),
    "older": lambda witness: witness.store(k="old", older="x", rev=3, kind="set"),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_r2_replica_adopts_what_the_server_has_after_a_loss(
    make_map: MakeMap,
    watched: pulsewire.Hub,
    witness: Witness,
    facts: Facts,
    caplog: pytest.LogCaptureFixture,
    loss: str,
) -> None:
    """Go: revisions begin anew, and live replicas ignore everything up to their old one."""
    content = {"k": "old", "older": "x"} if loss == "older" else {}
    async with make_map(of=watched) as m:
        for number in range(10):
            await m.set_and_wait("k", str(number))
        changes = m.changes()
        await LOSSES[loss](witness)
        first = await next_changes(changes, 1 + len(content))
        assert first[0] == ("reset", None, None, None)
        assert {(key, new) for _, key, _, new in first[1:]} == set(content.items())
        await wait_content(m, content)
        assert m.revision == (3 if content else 0)
        assert facts.of("map_stepped_back") == [("map", 10, m.revision)]
        assert m.statistics().step_backs == 1
        assert "the server has lost data of a map" in caplog.text
        await make_map().set("k", "after")
        assert (await next_changes(changes, 1))[0][3] == "after"
        assert m["k"] == "after"


async def test_r2_set_and_wait_after_a_loss_shows_its_own_value(
    make_map: MakeMap, watched: pulsewire.Hub, witness: Witness
) -> None:
    """Go: it returns at once, since the old revision is higher, with the old value visible."""
    async with make_map(of=watched) as m:
        for _ in range(5):
            for number in range(3):
                await m.set_and_wait("k", str(number))
            await witness.command("DEL", witness.content)
            await m.set_and_wait("k", "mine")
            assert m["k"] == "mine"
            assert m.revision == 1
            await m.reset()
            await wait_content(m, {})


async def test_r2_write_of_another_after_a_loss_is_noticed_with_its_message(
    make_map: MakeMap, watched: pulsewire.Hub, witness: Witness
) -> None:
    """Its revision was there before: that brings a snapshot at once."""
    async with make_map(of=watched) as m:
        for number in range(5):
            await m.set_and_wait(str(number), "x")
        await witness.command("DEL", witness.content)
        await make_map().set("k", "fresh")
        await wait_content(m, {"k": "fresh"})
        assert m.revision == 1


async def test_r2_server_that_comes_back_empty_empties_its_replicas() -> None:
    """Restarted without its data."""
    async with (
        SingleServer(appendonly=False) as server,
        pulsewire.connect(server.url) as hub,
        hub.map("map") as m,
    ):
        await m.set_and_wait("k", "v")
        await server.restart()
        await wait_until(lambda: not m and m.ready, timeout=PATIENCE, what="the loss was adopted")
        await m.set_and_wait("k", "again")
        assert (m["k"], m.revision) == ("again", 1)


async def test_r2_flushed_server_is_a_loss(fresh_server: SingleServer) -> None:
    async with pulsewire.connect(fresh_server.url) as hub, hub.map("map") as m:
        await m.set_and_wait("k", "v")
        changes = m.changes()
        await fresh_server.command("FLUSHALL")
        assert await next_changes(changes, 1) == [("reset", None, None, None)]
        assert dict(m) == {}


# --- R3 and R4: what a watcher is told


async def test_r3_reset_is_seen_however_much_waits_for_the_watcher(make_map: MakeMap) -> None:
    """Go: a change in the only slot pushes the reset out, and a scheduler never stops."""
    async with make_map() as m:
        slow = m.changes()
        for number in range(50):
            await m.set("k", str(number))
        await m.reset()
        for number in range(50):
            await m.set("k", str(number))
        await m.wait_for_revision(101, timeout=PATIENCE)
        assert await next_changes(slow, 2) == [
            ("reset", None, None, None),
            ("set", "k", None, "49"),
        ]


@on_one_server
async def test_r4_reset_that_was_missed_is_seen_although_something_was_set_after_it(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    """Go: only the last kind is kept on the server, so the reset shows as a change."""
    writer = make_map()
    await writer.set_many({"a": "1", "b": "2"})
    async with make_map(of=weathered) as m:
        changes = m.changes()
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: not m.ready, what="nothing is heard")
        await writer.reset()
        await writer.set("c", "3")
        await proxy.accept()
        assert await next_changes(changes, 2) == [
            ("reset", None, None, None),
            ("set", "c", None, "3"),
        ]


@on_one_server
@pytest.mark.parametrize("clear", ["reset", "destroy"])
async def test_r4_reset_that_was_missed_is_seen_on_return(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub, clear: str
) -> None:
    """Also of a map that had been empty by then, and of keys that came back."""
    writer = make_map()
    await writer.set("a", "1")
    async with make_map(of=weathered) as m:
        changes = m.changes()
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: not m.ready, what="nothing is heard")
        await writer.delete("a")
        await getattr(writer, clear)()
        await proxy.accept()
        assert await next_changes(changes, 1) == [("reset", None, None, None)]
        await wait_content(m, {})


@on_one_server
async def test_r4_deletion_amid_other_changes_that_were_missed_is_seen(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    writer = make_map()
    await writer.set_many({"a": "1", "b": "2"})
    async with make_map(of=weathered) as m:
        changes = m.changes()
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: not m.ready, what="nothing is heard")
        await writer.delete("a")
        await writer.set("b", "3")
        await proxy.accept()
        assert sorted(await next_changes(changes, 2)) == [
            ("delete", "a", "1", None),
            ("set", "b", "2", "3"),
        ]


# --- R5: a slow subscriber


async def test_r5_subscriber_that_the_server_gives_up_for_slowness_catches_up(
    fresh_server: SingleServer,
) -> None:
    """Go: messages beyond a hundred are dropped, and nobody notices."""
    limit = ("CONFIG", "SET", "client-output-buffer-limit", "pubsub 200kb 0 0")
    await fresh_server.command(*limit)
    async with (
        FaultProxy(fresh_server) as proxy,
        pulsewire.connect(fresh_server.url) as hub,
        pulsewire.connect(proxy.url) as slow,
        slow.map("map") as m,
    ):
        writer = hub.map("map")
        await writer.set("k", "0")
        await wait_content(m, {"k": "0"})
        changes = m.changes()
        proxy.stall("to_client")
        number = 0

        async def is_given_up() -> bool:
            nonlocal number
            number += 1
            await writer.set("k", f"{number}{'x' * 900_000}")
            return not await subscribers(fresh_server)

        await wait_until(is_given_up, timeout=PATIENCE, what="the server has dropped it")
        await writer.set("k", "last")
        proxy.resume()
        await wait_content(m, {"k": "last"})
        assert m.statistics().cuts == 1
        assert (await next_changes(changes, 1))[0][3] == "last"


# --- R6: time to live


async def test_r6_ttl_is_part_of_the_write(make_map: MakeMap, raw: Raw, topology: Topology) -> None:
    """Go: a second command, in whole seconds, that no-ops send too."""
    m = make_map(sliding_ttl=0.7)
    server = await topology.node_of(m._store.content)
    await server.command("CONFIG", "RESETSTAT")
    await m.set("k", "v")
    assert await raw(m._store.content, "PTTL", m._store.content) <= 700
    called = await server.info("commandstats")
    direct = {name for name in called if "expire" in name}
    assert direct == {"cmdstat_pexpire"}  # within the script: for the content and the record
    assert called["cmdstat_pexpire"].startswith("calls=2,")
    assert not await m.set_if_absent("k", "w")
    called = await server.info("commandstats")
    assert called["cmdstat_pexpire"].startswith("calls=3,")  # of the record alone


# --- R7: names on a cluster


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
@pytest.mark.parametrize("name", ["plain", "with:colons", "{tag}x", "x{tag}", "ü"])
async def test_r7_any_name_works_on_a_cluster(
    make_map: MakeMap, watched: pulsewire.Hub, topology: Topology, namespace: str, name: str
) -> None:
    """Go: hash and channel are two keys of a script, in two slots unless the name has a hash tag."""
    async with make_map(name) as m, make_map(name, of=watched) as other:
        store = m._store
        assert slot_of(store.channel) == slot_of(store.content) == slot_of(store._writer)
        assert store.content == f"{namespace}:map:{name}:content"
        if "{" in name:
            assert store.channel == f"{namespace}:map:{name}:updates"
        await m.set_many({f"k{number}": "v" for number in range(20)})
        assert await m.inc("n") == 1
        assert await m.append_values("l", "a") == ["a"]
        await m.delete("k0")
        for replica in (m, other):
            await replica.wait_for_revision(23, timeout=PATIENCE)
            assert len(replica) == 21
        owner = await topology.node_of(store.content)
        assert await owner.command("PUBSUB", "SHARDNUMSUB", store.channel) == [
            store.channel.encode(),
            2,
        ]


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_r7_maps_spread_over_the_nodes(make_map: MakeMap, topology: Topology) -> None:
    slots = {slot_of(make_map(f"map-{number}")._store.content) for number in range(10)}
    assert len({await _port_of(topology, slot) for slot in slots}) == 3


async def _port_of(topology: Any, slot: int) -> int:
    return int((await topology.owner_of(slot)).port)


async def test_r7_map_works_on_a_cluster_without_sharded_messages(
    cluster_group: ClusterGroup, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Redis 6.2: the channel has its usual name, and every node passes the messages on."""
    without = property(lambda _: False)
    monkeypatch.setattr("pulsewire._redis.opening.ServerInfo.has_sharded_pubsub", without)
    async with pulsewire.connect(cluster_group.url, namespace=namespace) as hub:
        async with hub.map("plain") as m, hub.map("plain") as other:
            assert m._store.channel == f"{namespace}:map:plain:updates"
            assert await m.inc("n") == 1
            await m.set("k", "v")
            for replica in (m, other):
                await wait_content(replica, {"n": "1", "k": "v"})
            assert m.statistics().snapshots == 1
            assert (await m.info()).replicas == 1
            await m.destroy()
            await wait_content(other, {})
            assert not await m.forget()
        await wait_until(m.forget, what="it can be forgotten")


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_r7_map_is_followed_to_where_its_slot_moves(
    make_map: MakeMap, watched: pulsewire.Hub, cluster_group: ClusterGroup
) -> None:
    """While it is written: nothing is lost, nothing is done twice."""
    async with make_map(of=watched) as m:
        content = m._store.content
        await m.inc("n")
        source = await cluster_group.node_of(content)
        target = next(node for node in await cluster_group.masters() if node is not source)
        writer, results = make_map(), []
        stop = anyio.Event()

        async def count() -> None:
            while not stop.is_set():
                results.append(await writer.inc("n"))

        async with anyio.create_task_group() as group:
            group.start_soon(count)
            await cluster_group.move_slot(slot_of(content), target)
            seen = len(results)
            await wait_until(lambda: len(results) > seen + 10, what="writing goes on there")
            stop.set()
        assert results == list(range(2, len(results) + 2))
        await wait_content(m, {"n": str(results[-1])})
        assert m.revision == results[-1]
        await m.set_and_wait("k", "v")
        assert (await m.info()).replicas == 1
        await cluster_group.move_slot(slot_of(content), source)
        await wait_content(m, {"n": str(results[-1]), "k": "v"})


# --- R8: replies that are lost


@on_one_server
@pytest.mark.parametrize("ending", ["cut", "stall"])
async def test_r8_write_whose_reply_is_lost_happens_once_and_returns_what_it_did(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub, witness: Witness, ending: Any
) -> None:
    """Go: the library sends it again, up to three times."""
    m = make_map(of=weathered)
    await m.set("k", "v")

    async def with_reply_lost(write: Any) -> Any:
        fault = proxy.swallow_reply(lambda words: words[0] in (b"EVALSHA", b"EVAL"), then=ending)
        reply = await write
        assert fault.hits == 1
        return reply

    writes: list[tuple[Callable[[], Awaitable[Any]], Any]] = [
        (lambda: m.inc("n"), 1),
        (lambda: m.inc("n", 10), 11),
        (lambda: m.append_values("l", "a"), ["a"]),
        (lambda: m.append_values("l", "a", "b"), ["a", "a", "b"]),
        (lambda: m.append_unique_values("l", "c", "a"), ["a", "a", "b", "c"]),
        (lambda: m.remove_values("l", "a"), Removed(["b", "c"], removed=True)),
        (lambda: m.set("k", "w"), "v"),
        (lambda: m.set_if_absent("new", "x"), True),
        (lambda: m.test_and_set("k", "w", "z"), TestAndSet("w", existed=True, updated=True)),
        (lambda: m.delete("new"), "x"),
        (lambda: m.test_and_delete("k", "z"), TestAndDelete("z", existed=True, deleted=True)),
        (lambda: m.test_and_reset({"n": "11"}), True),
        (m.reset, None),
    ]
    if ending == "stall":  # each of them waits for the silence to be noticed
        writes = writes[:3]
    before = (await m.info()).revision
    await witness.messages()
    for write, expected in writes:
        assert await with_reply_lost(write()) == expected
    assert (await m.info()).revision == before + len(writes)
    assert len(await witness.messages()) == len(writes)


@on_one_server
async def test_r8_write_that_never_arrived_happens_once(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    """It was sent into a connection that carried nothing any more."""
    async with make_map(of=weathered) as m:
        assert await m.inc("n") == 1
        proxy.stall("to_server")
        async with anyio.create_task_group() as group:
            group.start_soon(m.inc, "n")
            await wait_until(lambda: not m.ready, what="the silence was noticed")
            proxy.resume()
        assert await m.fetch("n") == "2"


async def test_r8_writes_under_connections_that_are_killed_happen_once_each(
    make_map: MakeMap, topology: Topology, raw: Raw
) -> None:
    """Every caller gets a number of its own."""
    async with make_map() as m:
        results: list[int] = []

        async def count() -> None:
            for _ in range(10):
                results.append(await m.inc("n"))
                await m.append_values("l", "x")

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(count)
            for _ in range(15):
                await raw(m._store.content, "CLIENT", "KILL", "TYPE", "normal")
        assert sorted(results) == list(range(1, 201))
        assert await m.fetch("n") == "200"
        await m.wait_for_revision(400, timeout=PATIENCE)
        assert m.values_of("l") == ["x"] * 200
        assert m.revision == 400


@on_one_server
async def test_r8_write_that_is_under_way_while_the_map_is_left_happens_once(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    """The record of what was done stays as long as the write may have to be sent again."""
    async with make_map(of=weathered) as m:
        await m.inc("n")
        await m.append_values("l", "x")
        fault = proxy.swallow_reply("EVALSHA", then="stall")
        counted = asyncio.create_task(m.inc("n"))
        await fault.wait_hit()
        appended = asyncio.create_task(m.append_values("l", "y"))
        await asyncio.sleep(0)
    proxy.cut()
    assert await counted == 2
    assert await appended == ["x", "y"]
    assert await m.fetch("n") == "2"


@on_one_server
async def test_r8_write_that_begins_while_the_map_signs_off_happens_once(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    """Both have waited for a connection, and the write was the first to get it."""
    m = make_map(of=weathered)
    await m.append_values("l", "x")
    proxy.cut()
    store = m._store
    await wait_until(lambda: store.link.connection_now(store.content) is None, what="it is lost")
    fault = proxy.swallow_reply("EVALSHA", then="stall")
    appended = asyncio.create_task(m.append_values("l", "y"))
    signed_off = asyncio.create_task(store.sign_off())
    await fault.wait_hit()
    await signed_off
    barrier = asyncio.create_task(m.set("barrier", "x"))

    async def is_over() -> bool:
        return await make_map().fetch("barrier") is not None

    await wait_until(is_over, what="all was carried out")
    proxy.cut()
    assert await appended == ["x", "y"]
    await barrier


@on_one_server
async def test_r8_write_whose_outcome_cannot_be_found_out_says_so(
    make_map: MakeMap, proxy: FaultProxy, namespace: str
) -> None:
    """The server is away before it could be asked."""
    async with pulsewire.connect(proxy.url, namespace=namespace, wait_for_server=0.3) as weathered:
        m = make_map(of=weathered)
        assert await m.inc("n") == 1
        proxy.swallow_reply("EVALSHA")
        await proxy.refuse()
        with pytest.raises(OutcomeUnknown, match="inc"):
            await m.inc("n")
    assert await make_map().fetch("n") == "2"
    assert await make_map().inc("n") == 3


@on_one_server
async def test_r8_cancelled_write_happens_at_most_once(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    """And the next one counts on from it."""
    m = make_map(of=weathered)
    await m.inc("n")
    for turns in range(10):
        task = asyncio.create_task(m.inc("n"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    last = await m.inc("n")
    assert last <= 12
    assert (await m.info()).revision == last


# --- R9: what a map costs


async def test_r9_fifty_maps_share_one_subscriber_connection(
    make_map: MakeMap, topology: Topology, hub: pulsewire.Hub
) -> None:
    """Go: one connection and twelve scripts per map."""
    async with AsyncExitStack() as stack:
        made = [make_map(f"map-{number}") for number in range(50)]
        maps = [await stack.enter_async_context(m) for m in made]
        for master in await topology.masters():
            assert len(await subscribers(master)) == 1
        for m in maps[::10]:
            await m.set_and_wait("k", m.name)
            assert m["k"] == m.name
    for master in await topology.masters():

        async def nobody_listens(server: ServerProcess = master) -> bool:
            return not await subscribers(server)

        await wait_until(nobody_listens, what="the connection went with the last map")


@on_one_server
async def test_r9_joining_costs_a_subscription_and_a_snapshot(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    """No script is loaded."""
    async with make_map("first", of=weathered):
        before = proxy.statistics().commands
        async with make_map("second", of=weathered):
            after = proxy.statistics().commands
    sent = {name: after[name] - before.get(name, 0) for name in after}
    sent.pop("HGET", None)  # the probe that may have been due
    assert {name: count for name, count in sent.items() if count} == {
        "SUBSCRIBE": 1,
        "HGETALL": 1,
        "PTTL": 1,
    }


async def test_r9_scripts_that_were_flushed_are_sent_again(make_map: MakeMap, raw: Raw) -> None:
    async with make_map() as m:
        for number in range(3):
            await raw(m._store.content, "SCRIPT", "FLUSH")
            assert await m.inc("n") == number + 1
            assert len(await m.append_values("l", "x")) == number + 1
            await m.set_and_wait("k", str(number))
            await m.delete("k")
            assert not await m.remove_values("l", "y")
        assert m["n"] == "3"


# --- R10: values that nobody reads here


@on_one_server
async def test_r10_map_that_is_not_joined_holds_and_hears_nothing(
    make_map: MakeMap, topology: Topology
) -> None:
    """Go: every replica has every value in memory."""
    writer, reader = make_map(), make_map()
    await writer.set_many({f"payload-{number}": "x" * 1000 for number in range(100)})
    assert await reader.fetch("payload-7") == "x" * 1000
    assert await reader.fetch("absent") is None
    assert await subscribers(topology.servers[0]) == []
    with pytest.raises(NotJoined):
        len(reader)


# --- R11: large lists


@on_one_server
async def test_r11_list_that_would_hurt_is_refused(make_map: MakeMap, witness: Witness) -> None:
    """Go: each append rewrites and publishes the whole list, without a limit."""
    m = make_map(max_value=1000)
    length = 0
    with pytest.raises(PayloadTooLarge, match="max_value") as caught:
        while True:
            length = len(await m.append_values("l", f"item {length}"))
    assert caught.value.limit == 1000
    assert caught.value.size > 1000
    assert len((await witness.stored())[b"l"]) <= 1000
    async with witness.nothing_is_written():
        for append in (m.append_values, m.append_unique_values):
            with pytest.raises(PayloadTooLarge):
                await append("l", "item which is new")
            with pytest.raises(PayloadTooLarge):
                await append("new", "x" * 1000)
    assert (await m.remove_values("l", "item 0")).removed


# --- R12: tombstones


async def test_r12_tombstone_goes_when_nobody_listens(
    make_map: MakeMap, hub: pulsewire.Hub, raw: Raw
) -> None:
    """Go: two fields stay for ever. Whoever uses the name again begins at one."""
    async with make_map() as m:
        await m.set_and_wait("k", "v")
        await m.destroy()
        assert await m.forget() is False
    await wait_until(m.forget, what="nobody listens any more")
    assert await raw(m._store.content, "EXISTS", m._store.content) == 0
    assert await hub.maps() == []
    async with make_map() as again:
        await again.set_and_wait("k", "w")
        assert (dict(again), again.revision) == ({"k": "w"}, 1)


# --- R13: waiting for messages that do not come


@on_one_server
async def test_r13_wait_for_a_message_that_does_not_come_has_a_deadline_and_is_woken(
    make_map: MakeMap, proxy: FaultProxy, namespace: str
) -> None:
    """Go: it hangs. Here only the subscriber's connection carries nothing any more."""
    url = f"{proxy.url}?socket_timeout=2"
    async with (
        pulsewire.connect(url, namespace=namespace) as weathered,
        make_map(of=weathered) as m,
    ):
        await m.set_and_wait("k", "0")
        fault = proxy.swallow_reply("HGET", then="stall")
        await fault.wait_hit()
        with pytest.raises(ReplicaBehind) as caught:
            await m.set_and_wait("k", "1", timeout=0.1)
        assert (caught.value.map_name, caught.value.wanted) == ("map", 2)
        assert m["k"] == "0"
        assert await m.fetch("k") == "1"
        assert await m.set_and_wait("k", "2", timeout=PATIENCE) == "1"
        assert (m["k"], m.revision) == ("2", 3)
        assert m.statistics().cuts == 1


async def test_r13_waiter_is_woken_by_a_later_revision(
    make_map: MakeMap, watched: pulsewire.Hub, raw: Raw
) -> None:
    """Whatever brings it: here snapshots, since the messages are killed again and again."""
    async with make_map(of=watched) as m:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(m.set_and_wait, f"k{number}", "v")
                await raw(m._store.content, "CLIENT", "KILL", "TYPE", "pubsub")
        assert len(m) == 20
