"""How a replica follows its map: waiting, watching, expiring, and what bad weather and foreign messages do to it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import (
    Change,
    Closed,
    PermissionDenied,
    ReplicaBehind,
    ReplicatedMap,
    ServerError,
    ServerUnavailable,
)
from pulsewire.rmap import Changes
from pulsewire.testing import FaultProxy, SingleServer, Topology, wait_until
from tests.facts import PATIENCE, Facts, Raw, let_pass, on_one_server
from tests.rmap.facts import MakeMap
from tests.rmap.witness import (
    Witness,
    next_change,
    next_changes,
    set_message,
    wait_content,
    witnessed,
)

Text = ReplicatedMap[str]


@pytest.fixture
async def m(make_map: MakeMap) -> AsyncIterator[Text]:
    """A map that has been joined."""
    async with make_map() as joined:
        yield joined


@pytest.fixture
async def witness(make_map: MakeMap, topology: Topology, namespace: str) -> AsyncIterator[Witness]:
    """What the server and its channel say of that map."""
    async with witnessed(topology, namespace) as watching:
        yield watching


# --- waiting


@on_one_server
async def test_revision_can_be_waited_for(m: Text, make_map: MakeMap) -> None:
    """Any revision that is as high will do, and those that wait for lower ones are released with it."""
    await m.wait_for_revision(0)
    released: list[int] = []

    async def wait(revision: int) -> None:
        await m.wait_for_revision(revision, timeout=PATIENCE)
        released.append(revision)

    async with anyio.create_task_group() as group:
        for revision in (3, 1, 2, 3):
            group.start_soon(wait, revision)
        await anyio.wait_all_tasks_blocked()
        await make_map().set_many({"a": "1", "b": "2", "c": "3"})
    assert sorted(released) == [1, 2, 3, 3]
    await m.wait_for_revision(2)


@on_one_server
async def test_replica_that_is_behind_says_how_far(m: Text) -> None:
    await m.set_and_wait("k", "v")
    with pytest.raises(ReplicaBehind, match="not yet at 9") as caught:
        await m.wait_for_revision(9, timeout=0.02)
    assert (caught.value.wanted, caught.value.revision) == (9, 1)
    assert isinstance(caught.value, TimeoutError)


@on_one_server
async def test_waiting_ends_when_the_map_is_closed_or_the_caller_cancelled(
    make_map: MakeMap,
) -> None:
    outcomes: list[BaseException] = []

    async def wait(m: Text) -> None:
        try:
            await m.wait_for_revision(9)
        except BaseException as error:
            outcomes.append(error)
            raise

    async with make_map() as m:
        cancelled = asyncio.create_task(wait(m))
        closed = asyncio.create_task(wait(m))
        await anyio.wait_all_tasks_blocked()
        cancelled.cancel()
        await asyncio.wait([cancelled])
    await asyncio.wait([closed])
    assert cancelled.cancelled()
    assert isinstance(closed.exception(), Closed)
    assert len(outcomes) == 2


@on_one_server
async def test_cancelled_set_and_wait_leaves_no_waiter_and_no_trouble(m: Text) -> None:
    for turns in range(20):
        task = asyncio.create_task(m.set_and_wait("k", str(turns)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await m.set_and_wait("k", "last") is not None
    assert m["k"] == "last"


# --- watching


async def test_changes_tell_kind_key_old_and_new(
    m: Text, make_map: MakeMap, watched: pulsewire.Hub
) -> None:
    """On every replica, from the moment of the call."""
    async with make_map(of=watched) as other:
        await m.set_and_wait("before", "x")
        await other.wait_for_revision(1, timeout=PATIENCE)
        mine, theirs = m.changes(), other.changes()
        writes = (m.set("k", "1"), m.set("k", "2"), m.inc("n"), m.delete("k"), m.reset())
        revision = 1
        for number, write in enumerate(writes):
            await write
            revision += 1
            expected = [
                Change("set", "k", None, "1", 2),
                Change("set", "k", "1", "2", 3),
                Change("set", "n", None, "1", 4),
                Change("delete", "k", "2", None, 5),
                Change("reset", None, None, None, 6),
            ][number]
            assert await next_change(mine) == expected
            assert await next_change(theirs) == expected
        await m.destroy()
        assert (await next_change(theirs)).kind == "reset"


@on_one_server
async def test_changes_of_one_key_are_joined_for_a_slow_watcher(m: Text) -> None:
    """The last value is never missed, and old is what the watcher saw last."""
    await m.set_and_wait("k", "0")
    slow = m.changes()
    for number in range(1, 100):
        await m.set("k", str(number))
    await m.set_and_wait("other", "x")
    assert await next_changes(slow, 2) == [("set", "k", "0", "99"), ("set", "other", None, "x")]
    await m.set("k", "100")
    assert await next_changes(slow, 1) == [("set", "k", "99", "100")]


@on_one_server
async def test_reset_and_delete_are_seen_whatever_else_waits(m: Text) -> None:
    slow = m.changes()
    await m.set("a", "1")
    await m.set("b", "2")
    await m.reset()
    await m.set("c", "3")
    await m.delete("c")
    await m.set("c", "4")
    await m.wait_for_revision(6, timeout=PATIENCE)
    assert await next_changes(slow, 3) == [
        ("reset", None, None, None),
        ("delete", "c", None, None),
        ("set", "c", None, "4"),
    ]


@on_one_server
async def test_watching_may_begin_with_what_is_there(m: Text) -> None:
    await m.set_many({"a": "1", "b": "2"})
    await m.wait_for_revision(2, timeout=PATIENCE)
    changes = m.changes(initial=True)
    await m.set("a", "3")
    await m.wait_for_revision(3, timeout=PATIENCE)
    seen = [await next_change(changes) for _ in range(2)]
    assert {(c.kind, c.key, c.new) for c in seen} == {("set", "a", "3"), ("set", "b", "2")}
    assert {c.revision for c in seen} == {2, 3}


@on_one_server
async def test_changes_end_with_the_map_after_what_still_waits(make_map: MakeMap) -> None:
    seen: list[str | None] = []

    async def watch(changes: Changes[str]) -> None:
        async for change in changes:
            seen.append(change.new)  # noqa: PERF401  # what was seen before an error counts

    async with anyio.create_task_group() as group:
        async with make_map() as m:
            group.start_soon(watch, m.changes())
            late = m.changes()
            await m.set_and_wait("a", "1")
            await m.set_and_wait("b", "2")
    assert seen == ["1", "2"]
    assert [change.new async for change in late] == ["1", "2"]


@on_one_server
async def test_dropped_watcher_is_forgotten(m: Text) -> None:
    """Nothing is collected for it any more."""
    await m.set_and_wait("k", "u")
    kept = m.changes()
    for _ in range(10):
        m.changes()
    watching = m.changes()
    async for _change in m.changes(initial=True):
        break
    task = asyncio.create_task(anext(watching))
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    await asyncio.wait([task])
    del watching, task
    gc.collect()
    assert m.statistics().watchers == 1
    await m.set("k", "v")
    assert (await next_change(kept)).new == "v"


@on_one_server
async def test_changes_are_awaited_by_one_at_a_time(m: Text) -> None:
    changes = m.changes()
    async with anyio.create_task_group() as group:
        group.start_soon(next_change, changes)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="call changes"):
            await anext(changes)
        await m.set("k", "v")


# --- time to live


async def ttl_of(raw: Raw, namespace: str) -> int:
    """Milliseconds that the map has to live; -1 for ever, -2 if it is not there."""
    key = f"{namespace}:map:map:content"
    return int(await raw(key, "PTTL", key))


async def test_ttl_counts_from_creation(
    make_map: MakeMap, raw: Raw, namespace: str, hub: pulsewire.Hub
) -> None:
    """Later writes do not extend it; a reset keeps what is there going as one map."""
    m = make_map(ttl=60.0)
    await m.set("k", "v")
    assert 59_000 < (first := await ttl_of(raw, namespace)) <= 60_000
    await let_pass(hub, 0.02)
    for write in (m.set("k", "w"), m.inc("n"), m.append_values("l", "a"), m.delete("k")):
        await write
        assert await ttl_of(raw, namespace) < first
    for clear in (m.reset(), m.destroy(), m.reset()):
        await clear
        assert 0 < await ttl_of(raw, namespace) <= 60_000
    info = await m.info()
    assert info.ttl is not None
    assert 0 < info.ttl <= 60.0


async def test_sliding_ttl_counts_from_the_last_change(
    make_map: MakeMap, raw: Raw, namespace: str, hub: pulsewire.Hub
) -> None:
    """What changes nothing does not extend it."""
    m = make_map(sliding_ttl=60.0)
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: m.set("k", "v"),
        lambda: m.inc("n"),
        lambda: m.append_values("l", "a"),
        lambda: m.remove_values("l", "a"),
        lambda: m.delete("n"),
        m.reset,
        m.destroy,
        lambda: m.set("k", "v"),
    ]
    key = f"{namespace}:map:map:content"
    for write in writes:
        await raw(key, "PEXPIRE", key, 5_000)
        await write()
        assert 5_000 < await ttl_of(raw, namespace) <= 60_000
    noops: list[Callable[[], Awaitable[Any]]] = [
        lambda: m.set_if_absent("k", "w"),
        lambda: m.test_and_set("k", "x", "w"),
        lambda: m.delete("absent"),
        lambda: m.test_and_delete("k", "x"),
        lambda: m.append_values("k"),
        lambda: m.append_unique_values("k", "v"),
        lambda: m.remove_values("k", "x"),
        lambda: m.test_and_reset({"k": "x"}),
        lambda: m.fetch("k"),
    ]
    await raw(key, "PEXPIRE", key, 5_000)
    for noop in noops:
        await noop()
        assert 0 < await ttl_of(raw, namespace) <= 5_000


async def test_map_without_ttl_leaves_the_one_that_is_there(
    make_map: MakeMap, raw: Raw, namespace: str
) -> None:
    await make_map(ttl=60.0).set("k", "v")
    await make_map().set("k", "w")
    assert 0 < await ttl_of(raw, namespace) <= 60_000


async def test_ttl_of_milliseconds_is_kept(make_map: MakeMap, raw: Raw, namespace: str) -> None:
    """Not of whole seconds, as in Go."""
    await make_map(ttl=0.25).set("k", "v")
    assert await ttl_of(raw, namespace) <= 250

    async def is_gone() -> bool:
        return await ttl_of(raw, namespace) == -2

    await wait_until(is_gone, what="the map has expired")


async def test_replica_expires_with_the_key(
    make_map: MakeMap, watched: pulsewire.Hub, facts: Facts
) -> None:
    """By itself, at the moment that it knows beforehand, and that is no lost data."""
    await make_map(ttl=0.5).set("k", "v")
    async with make_map(of=watched) as m:
        changes = m.changes(initial=True)
        assert await next_changes(changes, 2) == [
            ("set", "k", None, "v"),
            ("reset", None, None, None),
        ]
        assert dict(m) == {}
        await wait_until(lambda: m.ready and m.revision == 0, what="it is followed on")
        assert m.statistics().step_backs == 0
        assert facts.of("map_expired") == [("map",)]
        await m.set_and_wait("k", "again")
        assert (m["k"], m.revision) == ("again", 1)


@on_one_server
@pytest.mark.parametrize("lives_for", [0.3, 1.6])
async def test_map_that_came_into_being_after_joining_expires_as_any_other(
    make_map: MakeMap, facts: Facts, watched: pulsewire.Hub, lives_for: float
) -> None:
    """Its end is learned with its beginning, and is no lost data. With 0.3 s, no probe is in between."""
    async with make_map(of=watched, ttl=lives_for) as m:
        changes = m.changes()
        await m.set_and_wait("k", "v")
        assert await next_changes(changes, 2) == [
            ("set", "k", None, "v"),
            ("reset", None, None, None),
        ]
        await wait_until(lambda: m.ready and m.revision == 0, what="it is followed on")
        assert facts.of("map_stepped_back") == []
        assert facts.of("map_expired") == [("map",)]


@on_one_server
async def test_replica_that_was_told_no_ttl_learns_it_from_the_server(
    make_map: MakeMap, facts: Facts, watched: pulsewire.Hub
) -> None:
    """Others have given it one after this replica had joined."""
    async with make_map(of=watched) as m:
        await make_map(ttl=1.6).set("k", "v")
        await wait_content(m, {"k": "v"})
        await wait_until(lambda: not m, what="the replica has expired")
        await wait_until(lambda: m.ready and m.revision == 0, what="it is followed on")
        assert facts.of("map_stepped_back") == []
        assert facts.of("map_expired") == [("map",)]


@on_one_server
async def test_replica_expires_by_its_own_clock_when_nobody_can_be_asked(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub, facts: Facts
) -> None:
    await make_map(ttl=1.0).set("k", "v")
    async with make_map(of=weathered) as m:
        changes = m.changes()
        await proxy.refuse()
        proxy.cut()
        assert await next_changes(changes, 1) == [("reset", None, None, None)]
        assert dict(m) == {}
        assert facts.of("map_expired") == [("map",)]
        assert not m.ready
        await proxy.accept()
        await m.set_and_wait("k", "again")
        assert m["k"] == "again"


@on_one_server
async def test_sliding_replica_lives_on_while_it_is_written(
    make_map: MakeMap, hub: pulsewire.Hub
) -> None:
    """Its end is put off here as it is there."""
    async with make_map(sliding_ttl=1.0) as m:
        changes = m.changes()
        for number in range(1, 10):
            assert await m.inc("n") == number
            await let_pass(hub, 0.15)
        await m.wait_for_revision(9, timeout=PATIENCE)
        assert m["n"] == "9"
        assert await next_changes(changes, 1) == [("set", "n", None, "9")]
        assert await next_changes(changes, 1) == [("reset", None, None, None)]
        assert m.statistics().step_backs == 0


# --- weather


@on_one_server
async def test_reads_go_on_while_the_server_is_away_and_all_recovers(
    make_map: MakeMap, proxy: FaultProxy, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The replica says how old it is; writes wait as long as they were told to, and fail clearly."""
    async with (
        pulsewire.connect(proxy.url, namespace=namespace, wait_for_server=0.2) as weathered,
        make_map(of=weathered, stale_after=1.5) as m,
    ):
        await m.set_and_wait("k", "v")
        changes = m.changes()
        assert (m.ready, m.is_stale) == (True, False)
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: not m.ready, what="the replica knows that it hears nothing")
        younger = m.stale_for
        with pytest.raises(ServerUnavailable):
            await m.set("k", "w")
        with pytest.raises(ServerUnavailable):
            await m.set_and_wait("k", "w")
        with pytest.raises(ServerUnavailable):
            await m.fetch("k")
        assert (m["k"], dict(m)) == ("v", {"k": "v"})
        assert m.stale_for > younger
        await wait_until(lambda: m.is_stale, what="the replica counts as stale")
        assert "a map is not followed for now" in caplog.text
        await make_map().set("k", "meanwhile")
        await proxy.accept()
        assert await next_changes(changes, 1) == [("set", "k", "v", "meanwhile")]
        await wait_until(lambda: m.ready and not m.is_stale, what="the replica is up to date")
        assert m["k"] == "meanwhile"
        assert await m.set_and_wait("k", "after") == "meanwhile"
        assert m.statistics().cuts >= 1


@on_one_server
async def test_write_waits_for_the_server_as_long_as_it_may(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    async with make_map(of=weathered) as m:
        await proxy.refuse()
        proxy.cut()
        async with anyio.create_task_group() as group:
            group.start_soon(m.set_and_wait, "k", "v")
            await wait_until(lambda: not m.ready, what="it hears nothing")
            await proxy.accept()
        assert m["k"] == "v"


@on_one_server
async def test_replica_in_good_weather_is_known_to_be_complete_again_and_again(m: Text) -> None:
    """The proof is the server's revision, asked for in order with the messages."""
    await m.set_and_wait("k", "v")
    for _ in range(2):
        await wait_until(lambda: m.stale_for > 0.5, what="a while has passed")
        await wait_until(lambda: m.stale_for < 0.4, what="it was compared with the server")
    assert m.statistics().snapshots == 1


BROKEN = [
    b"",
    b"nonsense",
    b"unknown:verb",
    b"set:",
    b"set:\x01\0\0",
    b"set:\xff\xff\xff\xff",
    b"set:\xff\xff\xff\x7fk",
    set_message("k", "v", 1)[:-1],
    set_message("k", "v", 1)[:-1] + b"x",
    b"del:\x01\0\0\0k",
    b"reset:",
    b"reset:-1",
    b"reset: 1",
    b"destroy:",
    b"destroy:1e9",
    b"destroy:99999999999999999999",
]


async def publish(topology: Topology, witness: Witness, message: bytes) -> None:
    """Say something on the map's channel."""
    verb = "SPUBLISH" if topology.kind == "cluster" else "PUBLISH"
    assert await (await topology.node_of(witness.content)).command(verb, witness.channel, message)


async def test_broken_messages_are_counted_and_told_once_and_change_nothing(
    make_map: MakeMap,
    watched: pulsewire.Hub,
    facts: Facts,
    topology: Topology,
    witness: Witness,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After each of them a snapshot is taken, since nobody knows what it was to say."""
    async with make_map(of=watched) as m:
        await m.set_and_wait("k", "v")
        changes = m.changes()
        for number, message in enumerate(BROKEN, 1):
            await publish(topology, witness, message)

            def is_counted(number: int = number) -> bool:
                return m.statistics().malformed == number and m.ready

            await wait_until(is_counted, what=f"{message!r} was counted, and the replica is ready")
        assert len(facts.of("map_notice_malformed")) == len(BROKEN)
        assert caplog.text.count("in no known format; said once") == 1
        assert ("map", "a message was in no known format") in [
            told[:2] for told in facts.of("map_synced")
        ]
        assert (dict(m), m.revision) == ({"k": "v"}, 1)
        await m.set_and_wait("k", "w")
        assert await next_changes(changes, 1) == [("set", "k", "v", "w")]
        assert m.statistics().step_backs == 0


@pytest.mark.parametrize(
    "message",
    [
        set_message("k", "forged", 2),
        set_message("k", "forged", 1),
        set_message("k", "forged", 0),
        set_message("k", "forged", 1000),
        b"reset:2",
        b"destroy:1000",
        b"reset:18446744073709551615",
    ],
)
@on_one_server
async def test_forged_messages_are_found_out(
    m: Text, topology: Topology, witness: Witness, message: bytes
) -> None:
    """In the format, and untrue: the server's revision tells, within about a second."""
    await m.set_and_wait("k", "v")
    await publish(topology, witness, message)
    await wait_until(lambda: m.statistics().snapshots >= 2, what="a snapshot was taken")
    await wait_until(lambda: m.ready, what="the replica is ready")
    assert (dict(m), m.revision) == ({"k": "v"}, 1)
    await m.set_and_wait("k", "w")
    assert (m["k"], m.revision) == ("w", 2)


@on_one_server
async def test_messages_about_pulses_own_fields_are_ignored(
    m: Text, topology: Topology, witness: Witness
) -> None:
    await m.set_and_wait("k", "v")
    await publish(topology, witness, set_message("=rev", "77", 2))
    await publish(topology, witness, b"del:\x05\0\0\0=kind\x01\0\0\x002")
    await wait_until(lambda: m.statistics().notices == 3, what="both were heard")
    assert m.ready
    assert (dict(m), m.revision, m.statistics().malformed) == ({"k": "v"}, 1, 0)


@on_one_server
async def test_fields_of_pulse_in_a_snapshot_are_no_entries(
    make_map: MakeMap, witness: Witness
) -> None:
    """Nor are other fields that begin like them; an unreadable revision counts as 0."""
    await witness.store(k="v", rev="rubbish", kind="set")
    await witness.command("HSET", witness.content, "=future", "x")
    async with make_map() as m:
        assert (dict(m), m.revision) == ({"k": "v"}, 0)


async def test_right_to_listen_that_is_taken_away_ends_the_map(fresh_server: SingleServer) -> None:
    """It comes out of the block as the one error it is: waiting would not help."""
    await fresh_server.command("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&*")
    async with pulsewire.connect(fresh_server.url.replace("://", "://u:pw@")) as limited:
        m = limited.map("map")
        with pytest.raises(PermissionDenied, match="SUBSCRIBE"):
            async with m:
                await m.set_and_wait("k", "v")
                await fresh_server.command("ACL", "SETUSER", "u", "resetchannels")
                with anyio.fail_after(PATIENCE):
                    await anyio.sleep_forever()
        assert m["k"] == "v"


@on_one_server
async def test_key_that_becomes_another_type_ends_the_map(
    make_map: MakeMap, witness: Witness
) -> None:
    """A probe notices it."""
    m = make_map()
    with pytest.raises(ServerError, match="WRONGTYPE"):
        async with m:
            await m.set_and_wait("k", "v")
            await witness.command("SET", witness.content, "no hash", "EX", 60)
            with anyio.fail_after(PATIENCE):
                await anyio.sleep_forever()
    assert m["k"] == "v"
    await witness.command("DEL", witness.content)
