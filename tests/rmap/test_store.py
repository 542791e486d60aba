"""What a map leaves in Redis, byte for byte as in Go (spec/pulse.md 1.1 to 1.4), and the records of its writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import PayloadTooLarge, ReplicatedMap
from pulsewire.rmap.turn import MOST
from pulsewire.rmap.wire import Removed, TestAndDelete, TestAndSet
from pulsewire.testing import FaultProxy, Topology, wait_until
from tests.facts import PATIENCE, on_one_server
from tests.rmap.facts import MakeMap
from tests.rmap.witness import Witness, del_message, set_message, witnessed

Text = ReplicatedMap[str]
Fields = dict[str, str]


@pytest.fixture
async def witness(make_map: MakeMap, topology: Topology, namespace: str) -> AsyncIterator[Witness]:
    """What the server and its channel say of the map."""
    async with witnessed(topology, namespace) as watching:
        yield watching


def stored(content: Fields, revision: int, kind: str) -> dict[bytes, bytes]:
    """A hash as the format says."""
    fields = {**content, "=rev": str(revision), "=kind": kind}
    return {name.encode(): value.encode() for name, value in fields.items()}


# --- golden bytes


async def test_messages_of_the_specification_are_said_byte_for_byte(
    make_map: MakeMap, witness: Witness
) -> None:
    """The examples of spec/pulse.md 1.2."""
    m = make_map()
    await m.set("k", "v1")
    assert await witness.messages() == [
        bytes.fromhex("7365743a 01000000 6b 02000000 7631 01000000 31")
    ]
    assert await witness.stored() == {b"k": b"v1", b"=rev": b"1", b"=kind": b"set"}
    await witness.store(k="v1", rev=18, kind="set")
    await m.delete("k")
    assert await witness.messages() == [bytes.fromhex("64656c3a 01000000 6b 02000000 3139")]
    assert await witness.stored() == {b"=rev": b"19", b"=kind": b"del"}
    await m.reset()
    assert await witness.messages() == [bytes.fromhex("72657365743a 3230")]
    assert await witness.stored() == {b"=rev": b"20", b"=kind": b"reset"}
    await m.destroy()
    assert await witness.messages() == [bytes.fromhex("64657374726f793a 3231")]
    assert await witness.stored() == {b"=rev": b"21", b"=kind": b"destroy"}
    await m.set("k", "")
    assert await witness.messages() == [
        bytes.fromhex("7365743a 01000000 6b 00000000 02000000 3232")
    ]
    assert await witness.stored() == {b"k": b"", b"=rev": b"22", b"=kind": b"set"}


LIST = '["a","b","a"]'
BEFORE: Fields = {"k": "v", "n": "5", "l": LIST, "legacy": "x,y,,z"}
Write = Callable[[Text], Awaitable[Any]]

CHANGES: list[tuple[Write, Any, Fields, bytes]] = [
    (lambda m: m.set("k", "w"), "v", {"k": "w"}, set_message("k", "w", 100)),
    (lambda m: m.set("k", "v"), "v", {}, set_message("k", "v", 100)),
    (lambda m: m.set("new", ""), None, {"new": ""}, set_message("new", "", 100)),
    (lambda m: m.set("ü:\0", "ü:\n"), None, {"ü:\0": "ü:\n"}, set_message("ü:\0", "ü:\n", 100)),
    (lambda m: m.set_if_absent("new", "x"), True, {"new": "x"}, set_message("new", "x", 100)),
    (
        lambda m: m.test_and_set("k", "v", "w"),
        TestAndSet("v", existed=True, updated=True),
        {"k": "w"},
        set_message("k", "w", 100),
    ),
    (lambda m: m.inc("n"), 6, {"n": "6"}, set_message("n", "6", 100)),
    (lambda m: m.inc("n", -15), -10, {"n": "-10"}, set_message("n", "-10", 100)),
    (lambda m: m.inc("n", 0), 5, {}, set_message("n", "5", 100)),
    (lambda m: m.inc("new", 7), 7, {"new": "7"}, set_message("new", "7", 100)),
    (
        lambda m: m.append_values("new", "b/c", "ü"),
        ["b/c", "ü"],
        {"new": '["b\\/c","ü"]'},
        set_message("new", '["b\\/c","ü"]', 100),
    ),
    (
        lambda m: m.append_values("new", '"\\\x00\b\t\n\f\r\x1f\x7f'),
        ['"\\\x00\b\t\n\f\r\x1f\x7f'],
        {"new": '["\\"\\\\\\u0000\\b\\t\\n\\f\\r\\u001f\\u007f"]'},
        set_message("new", '["\\"\\\\\\u0000\\b\\t\\n\\f\\r\\u001f\\u007f"]', 100),
    ),
    (
        lambda m: m.append_values("l", "a"),
        ["a", "b", "a", "a"],
        {"l": '["a","b","a","a"]'},
        set_message("l", '["a","b","a","a"]', 100),
    ),
    (
        lambda m: m.append_values("legacy", "w"),
        ["x", "y", "z", "w"],
        {"legacy": '["x","y","z","w"]'},
        set_message("legacy", '["x","y","z","w"]', 100),
    ),
    (
        lambda m: m.append_unique_values("l", "c", "a", "c"),
        ["a", "b", "a", "c"],
        {"l": '["a","b","a","c"]'},
        set_message("l", '["a","b","a","c"]', 100),
    ),
    (
        lambda m: m.remove_values("l", "a", "x"),
        Removed(["b"], removed=True),
        {"l": '["b"]'},
        set_message("l", '["b"]', 100),
    ),
]
REMOVALS: list[tuple[Write, Any, str]] = [
    (lambda m: m.remove_values("l", "a", "b"), Removed([], removed=True), "l"),
    (lambda m: m.delete("k"), "v", "k"),
    (
        lambda m: m.test_and_delete("n", "5"),
        TestAndDelete("5", existed=True, deleted=True),
        "n",
    ),
]
CLEARINGS: list[tuple[Write, Any, str]] = [
    (lambda m: m.reset(), None, "reset"),
    (lambda m: m.destroy(), None, "destroy"),
    (lambda m: m.test_and_reset({}), True, "reset"),
    (lambda m: m.test_and_reset({"k": "v", "n": "5"}), True, "reset"),
]


async def test_every_change_is_one_step_one_revision_and_one_message(
    make_map: MakeMap, witness: Witness
) -> None:
    """And returns what is there, or was. On a map that others have written, not joined."""
    m = make_map()
    for write, returned, changed, message in CHANGES:
        await witness.store(**BEFORE, rev=99, kind="del")
        assert await write(m) == returned
        assert await witness.stored() == stored({**BEFORE, **changed}, 100, "set")
        assert await witness.messages() == [message]
    for write, returned, gone in REMOVALS:
        await witness.store(**BEFORE, rev=99, kind="set")
        assert await write(m) == returned
        left = {key: value for key, value in BEFORE.items() if key != gone}
        assert await witness.stored() == stored(left, 100, "del")
        assert await witness.messages() == [del_message(gone, 100)]
    for write, returned, kind in CLEARINGS:
        await witness.store(**BEFORE, rev=99, kind="set")
        assert await write(m) == returned
        assert await witness.stored() == stored({}, 100, kind)
        assert await witness.messages() == [f"{kind}:100".encode()]


NO_CHANGES: list[tuple[Write, Any]] = [
    (lambda m: m.set_if_absent("k", "w"), False),
    (lambda m: m.test_and_set("k", "x", "w"), TestAndSet("v", existed=True, updated=False)),
    (lambda m: m.test_and_set("new", "", "w"), TestAndSet(None, existed=False, updated=False)),
    (lambda m: m.append_values("l"), ["a", "b", "a"]),
    (lambda m: m.append_values("legacy"), ["x", "y", "", "z"]),
    (lambda m: m.append_values("new"), []),
    (lambda m: m.append_unique_values("l", "b", "a"), ["a", "b", "a"]),
    (lambda m: m.append_unique_values("legacy", "x", "z"), ["x", "y", "", "z"]),
    (lambda m: m.append_unique_values("new"), []),
    (lambda m: m.remove_values("l", "x"), Removed(["a", "b", "a"], removed=False)),
    (lambda m: m.remove_values("l"), Removed(["a", "b", "a"], removed=False)),
    (lambda m: m.remove_values("new", "x"), Removed([], removed=False)),
    (lambda m: m.delete("new"), None),
    (lambda m: m.test_and_delete("k", "x"), TestAndDelete("v", existed=True, deleted=False)),
    (lambda m: m.test_and_delete("new", ""), TestAndDelete(None, existed=False, deleted=False)),
    (lambda m: m.test_and_reset({"k": "v", "n": "6"}), False),
    (lambda m: m.test_and_reset({"new": ""}), False),
    (lambda m: m.fetch("k"), "v"),
    (lambda m: m.fetch("new"), None),
    (lambda m: m.forget(), False),
]


async def test_what_changes_nothing_has_no_revision_and_no_message(
    make_map: MakeMap, witness: Witness
) -> None:
    m = make_map()
    await witness.store(**BEFORE, rev=99, kind="set")
    async with witness.nothing_is_written():
        for write, returned in NO_CHANGES:
            assert await write(m) == returned


async def test_operations_on_nothing_create_nothing(
    make_map: MakeMap, witness: Witness, hub: pulsewire.Hub
) -> None:
    """Not even a revision."""
    m = make_map()
    assert await m.delete("k") is None
    assert not await m.test_and_set("k", "", "w")
    assert not await m.test_and_delete("k", "")
    assert not await m.remove_values("k", "a")
    assert await m.append_values("k") == []
    assert await m.append_unique_values("k") == []
    assert not await m.test_and_reset({"k": ""})
    assert await m.fetch("k") is None
    assert await witness.stored() == {}
    assert await witness.messages() == []
    assert await hub.maps() == []


@on_one_server
async def test_revisions_are_whole_numbers_far_beyond_what_lua_prints(
    make_map: MakeMap, witness: Witness
) -> None:
    """10**14 and above, where Lua's own text would have an exponent."""
    await witness.store(k="v", rev=10**15 - 1, kind="set")
    async with make_map() as m:
        await m.set_and_wait("k", "w")
        assert m.revision == 10**15
        await m.delete("k")
        await m.reset()
        await m.wait_for_revision(10**15 + 2, timeout=PATIENCE)
    assert await witness.messages() == [
        set_message("k", "w", 10**15),
        del_message("k", 10**15 + 1),
        b"reset:%d" % (10**15 + 2),
    ]


@on_one_server
async def test_map_without_a_revision_begins_at_one(make_map: MakeMap, witness: Witness) -> None:
    """A hash that somebody else has put there."""
    await witness.command("HSET", witness.content, "k", "v")
    async with make_map() as m:
        assert (dict(m), m.revision) == ({"k": "v"}, 0)
        assert await m.set("k", "w") == "v"
        assert await witness.messages() == [set_message("k", "w", 1)]


@on_one_server
async def test_large_values_travel_whole(make_map: MakeMap, witness: Witness) -> None:
    value = "ü" * (512 * 1024)
    async with make_map() as m:
        await m.set_and_wait("k", value)
        assert m["k"] == value
        assert await witness.messages() == [set_message("k", value, 1)]
        assert await m.delete("k") == value
        with pytest.raises(PayloadTooLarge):
            await m.set("k", value + "x")


# --- the records of a writer


def writer_of(m: ReplicatedMap[Any]) -> str:
    """The key of its records."""
    return m._store._writer


async def wait_gone(witness: Witness, key: str) -> None:
    """Wait until a key is not there any more."""

    async def is_gone() -> bool:
        return bool(await witness.command("EXISTS", key) == 0)

    await wait_until(is_gone, what=f"{key} is gone")


async def test_writer_leaves_a_record_with_a_ttl_until_it_signs_off(
    make_map: MakeMap, witness: Witness, namespace: str
) -> None:
    """Of 10 minutes, in the slot of the map; the last one is gone when the map is closed."""
    async with make_map() as m:
        await m.set("k", "v")
        writer = writer_of(m)
        assert writer.startswith(f"{namespace}:pulsewire:{{{witness.content}}}:writer:")
        assert await witness.command("HLEN", writer) == 1
        assert 590_000 < await witness.command("PTTL", writer) <= 600_000
    await wait_gone(witness, writer)


async def test_write_whose_script_was_not_known_is_not_in_doubt(
    make_map: MakeMap, witness: Witness
) -> None:
    """The server has refused it before it did anything, so no copy of it can be on its way."""
    await witness.command("SCRIPT", "FLUSH")
    async with make_map() as m:
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(m.inc, "n")
        assert await m.fetch("n") == "100"
        writer = writer_of(m)
        assert await witness.command("HLEN", writer) < 64
    await wait_gone(witness, writer)


async def test_map_that_only_reads_leaves_no_record(
    make_map: MakeMap, witness: Witness, topology: Topology
) -> None:
    async with make_map() as m:
        assert await m.fetch("k") is None
        assert not (await m.info()).exists
        writer = writer_of(m)
    assert await witness.command("EXISTS", writer) == 0


@on_one_server
async def test_records_of_what_was_answered_are_forgotten_in_batches(
    make_map: MakeMap, witness: Witness, proxy: FaultProxy, namespace: str
) -> None:
    """Ten thousand writes leave few of them, and cost few commands more."""
    async with (
        pulsewire.connect(proxy.url, namespace=namespace) as patient,
        make_map(of=patient) as m,
    ):
        most = 0
        for start in range(0, 10_000, 1000):
            await m.set_many({f"k{number % 100}": "v" for number in range(start, start + 100)})
            async with anyio.create_task_group() as group:
                for number in range(900):
                    group.start_soon(m.inc, f"n{number % 10}")
            await m.fetch("barrier")  # what was sent before has been carried out
            most = max(most, await witness.command("HLEN", writer_of(m)))
        assert (await m.info()).revision == 10_000
        assert most < 64
        commands = proxy.statistics().commands
        scripts = 10 * (1 + 900 // MOST)
        assert scripts <= commands["EVALSHA"] < scripts + 10
        assert scripts / 64 - 1 <= commands["HDEL"] <= scripts / 64 + 1


@on_one_server
async def test_large_replies_are_forgotten_sooner(make_map: MakeMap, witness: Witness) -> None:
    """What the server keeps for a writer stays small, however large the values are."""
    async with make_map() as m:
        for _ in range(20):
            await m.set("k", "x" * 500_000)
        memory = await witness.command("MEMORY", "USAGE", writer_of(m), "SAMPLES", 0)
        assert memory is None or memory < 700_000


@on_one_server
async def test_record_of_a_cancelled_write_is_kept(make_map: MakeMap, witness: Witness) -> None:
    """Nobody knows what becomes of it, so its number must not be forgotten; the TTL ends it."""
    async with make_map() as m:
        await m.set("k", "v")
        writer = writer_of(m)
        await m.append_values("l", "x")  # the script is known
        task = asyncio.create_task(m.append_values("n", "x"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await m.set("k", "w")
        assert await m.fetch("n") == '["x"]'
    assert await witness.command("HLEN", writer) == 4
    assert await witness.command("PTTL", writer) > 0


async def test_closed_map_that_is_cleared_signs_in_as_another_writer(
    make_map: MakeMap, witness: Witness
) -> None:
    async with make_map() as m:
        await m.set("k", "u")
    async with make_map() as m:  # so that the script is known
        await m.set("k", "v")
        writer = writer_of(m)
    await m.reset()
    assert writer_of(m) != writer
    await wait_gone(witness, writer)
    assert await witness.command("PTTL", writer_of(m)) > 0


# --- forgetting


async def test_forget_removes_a_tombstone_that_nobody_listens_to(
    make_map: MakeMap, hub: pulsewire.Hub, namespace: str, topology: Topology
) -> None:
    """And nothing else: no living map, and no map that was reset only."""
    m, content = make_map(), f"{namespace}:map:map:content"
    assert await m.forget() is False
    await m.set("k", "v")
    assert await m.forget() is False
    await m.reset()
    assert await m.forget() is False
    await m.destroy()
    assert await hub.maps() == ["map"]
    assert await m.forget() is True
    assert await m.forget() is False
    assert await hub.maps() == []
    assert await (await topology.node_of(content)).command("EXISTS", content) == 0


async def test_forget_waits_for_whoever_listens(make_map: MakeMap, watched: pulsewire.Hub) -> None:
    """A replica would take the revisions that begin anew for old ones."""
    m = make_map()
    await m.set("k", "v")
    async with make_map(of=watched) as listening:
        await m.destroy()
        assert await m.forget() is False
        await wait_until(lambda: not listening, what="it is empty")
    await wait_until(m.forget, what="it can be forgotten")
