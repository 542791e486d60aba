"""The public face of a map, as users meet it: everywhere, or on one server where all do alike."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import (
    BYTES,
    JSON,
    Change,
    Closed,
    DecodeError,
    InvalidName,
    NotJoined,
    ReplicatedMap,
    ServerUnavailable,
    typed,
)
from pulsewire.rmap import Removed, TestAndDelete, TestAndSet
from pulsewire.testing import FaultProxy, SingleServer, Topology, wait_until
from tests.facts import PATIENCE, Facts, on_one_server
from tests.rmap.facts import MakeMap
from tests.rmap.witness import (
    Witness,
    load_of,
    never,
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


# --- every operation, everywhere


async def test_fresh_map_is_empty_and_has_left_nothing(m: Text, hub: pulsewire.Hub) -> None:
    assert (len(m), m.snapshot(), list(m), m.get("k"), "k" in m) == (0, {}, [], None, False)
    assert (m.revision, m.ready, m.is_stale) == (0, True, False)
    assert m.values_of("k") is None
    with pytest.raises(KeyError):
        _ = m["k"]
    assert await hub.maps() == []
    assert not (await m.info()).exists


async def test_values_come_and_go_on_every_replica(
    m: Text, make_map: MakeMap, watched: pulsewire.Hub
) -> None:
    """Each write returns what was there before, and arrives in the process next door."""
    async with make_map(of=watched) as other:
        assert await m.set("k", "v1") is None
        assert await m.set("k", "v2") == "v1"
        assert await other.set("l", "w") is None
        for replica in (m, other):
            await wait_content(replica, {"k": "v2", "l": "w"})
            assert replica["k"] == replica.get("k") == "v2"
            assert sorted(replica) == sorted(replica.keys()) == ["k", "l"]
            assert len(replica) == 2
            assert replica.revision == 3
        assert await other.delete("k") == "v2"
        assert await m.delete("k") is None
        for replica in (m, other):
            await wait_content(replica, {"l": "w"})
        await other.reset()
        for replica in (m, other):
            await wait_content(replica, {})
            assert replica.revision == 5


async def test_set_and_wait_shows_the_value_on_return(
    m: Text, make_map: MakeMap, watched: pulsewire.Hub
) -> None:
    """New keys and old ones, amid the writes of others and many waiting at once."""
    async with make_map(of=watched) as other, anyio.create_task_group() as group:
        stop = anyio.Event()

        async def disturb(key: str) -> None:
            number = 0
            while not stop.is_set():
                await other.set(key, str(number := number + 1))

        async def set_and_look(key: str) -> None:
            for number in range(20):
                old = await m.set_and_wait(key, str(number))
                assert m[key] == str(number)
                assert old == (str(number - 1) if number else None)

        for name in ("noise-a", "noise-b"):
            group.start_soon(disturb, name)
        async with anyio.create_task_group() as setters:
            for name in ("a", "b", "c"):
                setters.start_soon(set_and_look, name)
        stop.set()


async def test_empty_string_is_a_value(m: Text) -> None:
    await m.set_and_wait("k", "")
    assert (m["k"], m.get("k", "absent"), "k" in m, len(m)) == ("", "", True, 1)
    assert await m.fetch("k") == ""
    assert m.values_of("k") == [""]
    assert await m.test_and_set("k", "", "x") == TestAndSet("", existed=True, updated=True)
    assert await m.set("k", "") == "x"
    assert await m.delete("k") == ""


@pytest.mark.parametrize(
    ("before", "test", "expected", "after"),
    [
        (None, "", TestAndSet(None, existed=False, updated=False), None),
        (None, "a", TestAndSet(None, existed=False, updated=False), None),
        ("a", "a", TestAndSet("a", existed=True, updated=True), "new"),
        ("a", "b", TestAndSet("a", existed=True, updated=False), "a"),
        ("", "", TestAndSet("", existed=True, updated=True), "new"),
        ("", "a", TestAndSet("", existed=True, updated=False), ""),
        ("a", "", TestAndSet("a", existed=True, updated=False), "a"),
    ],
)
async def test_test_and_set_says_what_was_there_and_whether_it_was_replaced(
    m: Text, before: str | None, test: str, expected: TestAndSet[str], after: str | None
) -> None:
    if before is not None:
        await m.set("k", before)
    done = await m.test_and_set("k", test, "new")
    assert done == expected
    assert bool(done) is expected.updated
    assert await m.fetch("k") == after


@pytest.mark.parametrize(
    ("before", "test", "expected", "after"),
    [
        (None, "", TestAndDelete(None, existed=False, deleted=False), None),
        ("a", "a", TestAndDelete("a", existed=True, deleted=True), None),
        ("a", "b", TestAndDelete("a", existed=True, deleted=False), "a"),
        ("", "", TestAndDelete("", existed=True, deleted=True), None),
        ("", "a", TestAndDelete("", existed=True, deleted=False), ""),
    ],
)
async def test_test_and_delete_says_what_was_there_and_whether_it_is_gone(
    m: Text, before: str | None, test: str, expected: TestAndDelete[str], after: str | None
) -> None:
    if before is not None:
        await m.set("k", before)
    done = await m.test_and_delete("k", test)
    assert done == expected
    assert bool(done) is expected.deleted
    assert await m.fetch("k") == after


async def test_set_if_absent_stores_once(m: Text) -> None:
    assert await m.set_if_absent("k", "first") is True
    assert await m.set_if_absent("k", "second") is False
    assert await m.fetch("k") == "first"
    await m.set("empty", "")
    assert await m.set_if_absent("empty", "x") is False


@pytest.mark.parametrize(
    ("expected", "is_cleared"),
    [
        ({"a": "1", "b": "2"}, True),
        ({"a": "1"}, True),
        ({}, True),
        ({"a": "x", "b": "y"}, False),
        ({"a": "1", "b": "y"}, False),
        ({"a": "1", "missing": ""}, False),
    ],
)
async def test_test_and_reset_clears_when_every_key_holds_its_value(
    m: Text, expected: dict[str, str], is_cleared: bool
) -> None:
    await m.set_many({"a": "1", "b": "2"})
    await m.wait_for_revision(2, timeout=PATIENCE)
    assert await m.test_and_reset(expected) is is_cleared
    assert (await m.info()).revision == (3 if is_cleared else 2)
    await wait_content(m, {} if is_cleared else {"a": "1", "b": "2"})


async def test_test_and_reset_of_an_empty_map_is_a_reset(m: Text) -> None:
    assert await m.test_and_reset({}) is True
    assert (await m.info()).revision == 1


async def test_lists_grow_and_shrink_and_vanish(m: Text) -> None:
    """Appended and removed; what is left when the last item goes is nothing."""
    assert await m.append_values("k") == []
    assert await m.append_values("k", "a", "b") == ["a", "b"]
    assert await m.append_values("k", "a") == ["a", "b", "a"]
    assert await m.append_values("k") == ["a", "b", "a"]
    await wait_until(lambda: m.values_of("k") == ["a", "b", "a"], what="the list is here")
    assert m["k"] == '["a","b","a"]'
    assert await m.remove_values("k", "x") == Removed(["a", "b", "a"], removed=False)
    assert await m.remove_values("k") == Removed(["a", "b", "a"], removed=False)
    assert await m.remove_values("k", "a", "x") == Removed(["b"], removed=True)
    last = await m.remove_values("k", "b")
    assert last == Removed([], removed=True)
    assert last
    gone = await m.remove_values("k", "b")
    assert gone == Removed([], removed=False)
    assert not gone
    await wait_content(m, {})


async def test_items_that_are_there_already_are_not_appended_again(m: Text) -> None:
    """Nor twice in one call; the order stays."""
    assert await m.append_unique_values("k", "b", "a", "b") == ["b", "a"]
    assert await m.append_unique_values("k", "c", "a", "d") == ["b", "a", "c", "d"]
    assert await m.append_unique_values("k", "d", "b") == ["b", "a", "c", "d"]
    assert await m.append_unique_values("k") == ["b", "a", "c", "d"]
    assert (await m.info()).revision == 2


@pytest.mark.parametrize(
    "items", [["b/c", "ü"], ['"', "\\"], ["\0\x1f\x7f\n"], ["", "a,b", "[1]"], ["😀", "\u2028"]]
)
async def test_items_of_a_list_come_back_as_they_were(m: Text, items: list[str]) -> None:
    assert await m.append_values("k", *items) == items
    await wait_until(lambda: m.values_of("k") == items, what="the list is here")
    assert await m.append_unique_values("k", *items) == items
    assert await m.remove_values("k", *items) == Removed([], removed=True)


@on_one_server
@pytest.mark.parametrize(
    ("legacy", "read", "appended"),
    [
        ("x,y,,z", ["x", "y", "", "z"], ["x", "y", "z", "w"]),
        ("plain", ["plain"], ["plain", "w"]),
        ("5", ["5"], ["5", "w"]),
        ("", [""], ["w"]),
        (' ["a", "b"] ', ["a", "b"], ["a", "b", "w"]),
        ("[]", [], ["w"]),
    ],
)
async def test_text_with_commas_counts_as_a_list(
    m: Text, legacy: str, read: list[str], appended: list[str]
) -> None:
    """As in Go: read with its empty parts, written without them, as JSON."""
    await m.set_and_wait("k", legacy)
    assert m.values_of("k") == read
    assert await m.append_values("k", "w") == appended
    assert await m.remove_values("k", "w") == Removed(appended[:-1], removed=True)


async def test_numbers_go_up_and_down(m: Text) -> None:
    """They are stored in decimal, and wide as 64 bits."""
    assert [await m.inc("n"), await m.inc("n", 41), await m.inc("n", -1)] == [1, 42, 41]
    assert await m.inc("n", -41) == 0
    assert await m.fetch("n") == "0"
    assert await m.inc("n", 0) == 0
    assert (await m.info()).revision == 5
    await m.set("big", str(2**63 - 2))
    assert await m.inc("big") == 2**63 - 1
    await m.set("small", str(-(2**63) + 1))
    assert await m.inc("small", -1) == -(2**63)
    assert await m.inc("exact", 2**53 + 1) == 2**53 + 1
    await wait_until(lambda: m.get("exact") == str(2**53 + 1), what="the number is here")


async def test_concurrent_increments_each_count_once(
    m: Text, make_map: MakeMap, watched: pulsewire.Hub
) -> None:
    other, results = make_map(of=watched), []

    async def count(counter: Text) -> None:
        results.append(await counter.inc("n"))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(count, m)
            group.start_soon(count, other)
    assert sorted(results) == list(range(1, 201))
    await wait_content(m, {"n": "200"})
    assert m.revision == 200


async def test_many_values_are_stored_each_as_a_change_of_its_own(m: Text) -> None:
    values = {f"key {number}": str(number) for number in range(1200)}
    await m.set_many(values)
    await wait_content(m, values)
    assert m.revision == 1200


async def test_destroyed_map_can_be_used_again_and_its_revisions_go_on(
    m: Text, make_map: MakeMap, watched: pulsewire.Hub
) -> None:
    async with make_map(of=watched) as other:
        await m.set_many({"a": "1", "b": "2"})
        await wait_content(other, {"a": "1", "b": "2"})
        await m.destroy()
        for replica in (m, other):
            await wait_content(replica, {})
        info = await m.info()
        assert (info.exists, info.entries, info.revision, info.is_destroyed) == (True, 0, 3, True)
        await other.set_and_wait("c", "3")
        assert other.revision == 4
        await wait_content(m, {"c": "3"})
        assert not (await m.info()).is_destroyed


async def test_content_outlives_its_replicas(make_map: MakeMap, watched: pulsewire.Hub) -> None:
    """Who joins later has it all at once."""
    await make_map().set_many({f"k{number}": "v" for number in range(100)})
    async with make_map(of=watched) as late:
        assert len(late) == 100
        assert late.revision == 100


# --- a closed map, and one that was not joined


async def test_closed_map_can_be_read_and_not_written(
    make_map: MakeMap, hub: pulsewire.Hub
) -> None:
    """Except that it can be cleared, as in Go."""
    async with make_map() as closed:
        await closed.set_and_wait("k", "v")
        await closed.append_values("l", "a")
        await closed.wait_for_revision(2, timeout=PATIENCE)
        watching = closed.changes()
    assert (closed["k"], len(closed), closed.revision) == ("v", 2, 2)
    assert closed.values_of("l") == ["a"]
    assert not closed.ready
    assert "closed" in repr(closed)
    writes: list[Callable[[], Awaitable[Any]]] = [
        lambda: closed.set("k", "w"),
        lambda: closed.set_and_wait("k", "w"),
        lambda: closed.set_many({"k": "w"}),
        lambda: closed.set_if_absent("x", "w"),
        lambda: closed.test_and_set("k", "v", "w"),
        lambda: closed.inc("n"),
        lambda: closed.append_values("l", "b"),
        lambda: closed.append_unique_values("l", "b"),
        lambda: closed.remove_values("l", "a"),
        lambda: closed.delete("k"),
        lambda: closed.test_and_delete("k", "v"),
        lambda: closed.test_and_reset({}),
        lambda: closed.get_or_load("x", never),
        lambda: closed.wait_for_revision(1),
    ]
    for write in writes:
        with pytest.raises(Closed, match="map"):
            await write()
    with pytest.raises(Closed):
        closed.changes()
    with pytest.raises(StopAsyncIteration):
        await next_change(watching)
    assert (await hub.map("map").info()).revision == 2
    assert await closed.fetch("k") == "v"
    await closed.reset()
    assert (await closed.info()).last_change == "reset"
    await closed.destroy()
    assert (await closed.info()).last_change == "destroy"
    assert closed["k"] == "v"


@on_one_server
async def test_map_is_joined_once(make_map: MakeMap) -> None:
    async with make_map() as joined:
        with pytest.raises(Closed, match="joined before"):
            async with joined:
                pass
        await joined.set_and_wait("k", "v")
    with pytest.raises(Closed, match="joined before"):
        async with joined:
            pass


READS: list[Callable[[Text], Any]] = [
    lambda m: m["k"],
    lambda m: m.get("k"),
    lambda m: m.get("k", "d"),
    lambda m: "k" in m,
    len,
    bool,
    list,
    dict,
    lambda m: m.keys(),
    lambda m: m.values(),
    lambda m: m.items(),
    lambda m: m.snapshot(),
    lambda m: m.values_of("k"),
    lambda m: m == {},
    lambda m: m.changes(),
]


@on_one_server
async def test_map_that_was_not_joined_cannot_be_read(make_map: MakeMap) -> None:
    bare = make_map()
    for read in READS:
        with pytest.raises(NotJoined, match="fetch"):
            read(bare)


@on_one_server
async def test_map_that_was_not_joined_can_be_written_and_waits_for_nothing(
    make_map: MakeMap,
) -> None:
    bare = make_map()
    assert (bare.revision, bare.ready, bare.stale_for) == (0, False, math.inf)
    assert bare.is_stale
    assert "not joined" in repr(bare)
    assert await bare.set("k", "1") is None
    assert await bare.inc("k") == 2
    assert await bare.append_values("l", "a") == ["a"]
    assert await bare.fetch("k") == "2"
    assert (await bare.info()).entries == 2
    waits: list[Callable[[], Awaitable[Any]]] = [
        lambda: bare.set_and_wait("k", "x"),
        lambda: bare.wait_for_revision(1),
        lambda: bare.get_or_load("x", never),
    ]
    for wait in waits:
        with pytest.raises(NotJoined):
            await wait()
    assert await bare.fetch("k") == "2"


@pytest.mark.parametrize("name", ["", "a b", "a*", "a?", "a[", "a]", "a\0", "x" * 513, "{x"])
@on_one_server
async def test_bad_name_is_refused_before_anything_is_sent(hub: pulsewire.Hub, name: str) -> None:
    with pytest.raises(InvalidName):
        hub.map(name)


@on_one_server
async def test_joining_can_be_cancelled(make_map: MakeMap, proxy: FaultProxy) -> None:
    """It leaves nothing behind, wherever it is."""
    async with pulsewire.connect(proxy.url, namespace="cancelled") as weathered:
        proxy.stall()
        with anyio.move_on_after(0.05) as scope:
            async with weathered.map("map"):
                pass
        assert scope.cancelled_caught
        proxy.resume()


@on_one_server
async def test_joining_at_any_moment_of_cancellation_leaves_no_subscriber(
    topology: Topology, make_map: MakeMap, hub: pulsewire.Hub
) -> None:
    for turns in range(30):
        task = asyncio.create_task(_join_and_leave(make_map()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def nobody_listens() -> bool:
        return (await hub.map("map").info()).replicas == 0

    await wait_until(nobody_listens, what="all have left")


async def _join_and_leave(joining: Text) -> None:
    async with joining:
        pass


# --- the face of a Mapping


@on_one_server
async def test_map_is_a_mapping(m: Text) -> None:
    content = {"a": "1", "b": "2", "c": "3"}
    await m.set_many(content)
    await m.wait_for_revision(3, timeout=PATIENCE)
    assert isinstance(m, Mapping)
    assert m == content
    assert m != {**content, "d": "4"}
    assert dict(m) == content
    assert {**m} == content
    assert sorted(m.values()) == ["1", "2", "3"]
    assert set(m.items()) == set(content.items())
    assert m.keys() & {"a", "x"} == {"a"}
    assert m.keys() - {"a"} == {"b", "c"}
    assert m.get("x", 5) == 5
    assert hash(m) == hash(m)
    match m:
        case {"a": first, **rest}:
            assert (first, rest) == ("1", {"b": "2", "c": "3"})
        case _:
            pytest.fail("it is no mapping to `match`")
    assert "keys=3 revision=3" in repr(m)


@on_one_server
async def test_map_can_be_iterated_while_it_changes(m: Text) -> None:
    """What was begun goes on as it was; views and copies are of one revision."""
    await m.set_many({f"k{number}": "v" for number in range(50)})
    await m.wait_for_revision(50, timeout=PATIENCE)
    keys, items, copy = m.keys(), m.items(), m.snapshot()
    seen = []
    for key in m:
        await m.delete(key)
        await m.set_and_wait(f"new {key}", "w")
        seen.append(key)
    assert len(seen) == len(keys) == len(items) == len(copy) == 50
    assert all(key.startswith("new ") for key in m)
    copy["mine"] = "x"
    assert "mine" not in m


# --- codecs


@dataclass
class Limit:
    """A typed value."""

    per_second: int
    burst: int = 0


@pytest.mark.parametrize(
    ("codec", "value", "other", "stored"),
    [
        (BYTES, b"\x00\xff\r\n", b"", b"\x00\xff\r\n"),
        (JSON, {"a": [1, 2.5, None, "ü"]}, [], '{"a":[1,2.5,null,"ü"]}'.encode()),
        (JSON, None, False, b"null"),
        (typed(Limit), Limit(5), Limit(7, 1), b'{"per_second":5,"burst":0}'),
        (pulsewire.TEXT, "größe", "", "größe".encode()),
    ],
)
@on_one_server
async def test_codec_decides_what_values_are(
    make_map: MakeMap, witness: Witness, codec: Any, value: Any, other: Any, stored: bytes
) -> None:
    async with make_map(codec=codec) as m:
        changes = m.changes()
        assert await m.set_and_wait("k", value) is None
        assert (m["k"], m.get("k", "absent"), "k" in m) == (value, value, True)
        assert m.snapshot() == {"k": value}
        assert (await witness.stored())[b"k"] == stored
        assert await witness.messages() == [set_message("k", stored, 1)]
        assert await next_change(changes) == Change("set", "k", None, value, 1)
        assert await m.fetch("k") == value
        done = await m.test_and_set("k", value, other)
        assert done == TestAndSet(value, existed=True, updated=True)
        assert await next_change(changes) == Change("set", "k", value, other, 2)
        assert await m.test_and_delete("k", value) == TestAndDelete(other, True, False)
        assert await m.set("k", value) == other
        assert await m.delete("k") == value


@on_one_server
async def test_numbers_and_lists_are_text_and_json_for_every_codec(make_map: MakeMap) -> None:
    async with make_map(codec=JSON) as m:
        assert await m.inc("n", 7) == 7
        assert await m.append_values("l", "a", "ü") == ["a", "ü"]
        await wait_content(m, {"n": 7, "l": ["a", "ü"]})
        assert m.values_of("l") == ["a", "ü"]
        await m.set("n", 10)
        assert await m.inc("n") == 11
        await m.set("l", ["x", "y"])
        assert await m.append_values("l", "z") == ["x", "y", "z"]


@on_one_server
async def test_value_that_the_codec_cannot_read_spoils_no_other(
    make_map: MakeMap, watched: pulsewire.Hub, facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading it says so, writing over it heals it. Written by a foreign program, before and after joining."""
    foreign = make_map(codec=BYTES)
    await foreign.set("early", b"\xff\xfe")
    async with make_map(of=watched) as m:
        changes = m.changes()
        await foreign.set("late", b"\xc3(")
        await foreign.set("good", b"fine")
        await m.wait_for_revision(3, timeout=PATIENCE)
        assert m["good"] == "fine"
        assert m.snapshot() == {"good": "fine"}
        assert (list(m), len(m)) == (["good"], 1)
        assert m.unreadable == {"early", "late"}
        for key in ("early", "late"):
            assert key not in m
            for read in (m.__getitem__, m.get):
                with pytest.raises(DecodeError, match="UTF|utf|decode") as caught:
                    read(key)
                assert f"key {key!r}" in "".join(caught.value.__notes__)
        with pytest.raises(DecodeError):
            await m.fetch("late")
        with pytest.raises(DecodeError):
            await m.get_or_load("late", never)
        change = await next_change(changes)
        assert (change.key, change.new, change.revision) == ("late", None, 2)
        assert isinstance(change.error, DecodeError)
        assert (await next_change(changes)).error is None
        assert [told[:2] for told in facts.of("map_value_unreadable")] == [
            ("map", "early"),
            ("map", "late"),
        ]
        assert [r.key for r in caplog.records if "cannot be decoded" in r.message] == [  # type: ignore[attr-defined]  # in `extra`
            "early",
            "late",
        ]
        assert await m.set("late", "good") is None  # what was there was nothing to us
        assert await m.delete("early") is None
        await m.wait_for_revision(5, timeout=PATIENCE)
        assert dict(m) == {"good": "fine", "late": "good"}
        assert m.unreadable == set()
        assert await next_changes(changes, 2) == [
            ("set", "late", None, "good"),
            ("delete", "early", None, None),
        ]


@on_one_server
async def test_keys_of_every_script_travel_unchanged(m: Text) -> None:
    names = ["ü", "a b", "a:b", "\0\r\n", "😀" * 100, "x" * 10_000]
    await m.set_many(dict.fromkeys(names, "v"))
    await wait_content(m, dict.fromkeys(names, "v"))
    for name in names:
        assert await m.delete(name) == "v"
    await wait_content(m, {})


@on_one_server
async def test_key_of_another_program_that_is_no_utf8_can_be_named(
    m: Text, witness: Witness
) -> None:
    """It is read with surrogate escapes, and such a name leads to it."""
    await witness.command("HSET", witness.content, b"\xff\x01", "v", "=rev", 5, "=kind", "set")
    await m.set_and_wait("k", "v")
    await wait_content(m, {"\udcff\x01": "v", "k": "v"})
    assert await m.fetch("\udcff\x01") == "v"
    assert await m.delete("\udcff\x01") == "v"
    await wait_content(m, {"k": "v"})


# --- read-through


async def test_value_is_loaded_once_and_stored_for_everyone(
    m: Text, make_map: MakeMap, watched: pulsewire.Hub
) -> None:
    """However many ask meanwhile."""
    loads, go = 0, anyio.Event()

    async def load() -> str:
        nonlocal loads
        loads += 1
        await go.wait()
        return "loaded"

    async with make_map(of=watched) as other:
        tasks = [asyncio.create_task(m.get_or_load("k", load)) for _ in range(50)]
        await wait_until(lambda: loads == 1, what="somebody loads")
        go.set()
        assert await asyncio.gather(*tasks) == ["loaded"] * 50
        assert await m.get_or_load("k", load) == "loaded"
        await wait_content(m, {"k": "loaded"})
        await wait_content(other, {"k": "loaded"})
        assert await m.get_or_load("k", never) == "loaded"
        assert await other.get_or_load("k", never) == "loaded"
        assert loads == 1
        assert (await m.info()).revision == 1


@on_one_server
async def test_error_of_a_load_goes_to_all_who_asked_and_the_next_one_loads_again(m: Text) -> None:
    go = anyio.Event()

    async def fail() -> str:
        await go.wait()
        raise LookupError("no such page")

    tasks = [asyncio.create_task(m.get_or_load("k", fail)) for _ in range(10)]
    await anyio.wait_all_tasks_blocked()
    go.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, LookupError)
    assert await m.get_or_load("k", lambda: load_of("fine")) == "fine"


@on_one_server
async def test_cancelled_loader_leaves_the_work_to_the_next(m: Text) -> None:
    loads = 0

    async def load() -> str:
        nonlocal loads
        loads += 1
        if loads == 1:
            await anyio.sleep_forever()
        return "loaded"

    first = asyncio.create_task(m.get_or_load("k", load))
    await wait_until(lambda: loads == 1, what="the first one loads")
    others = [asyncio.create_task(m.get_or_load("k", load)) for _ in range(5)]
    await anyio.wait_all_tasks_blocked()
    others[0].cancel()
    first.cancel()
    assert await asyncio.gather(*others[1:]) == ["loaded"] * 4
    assert loads == 2
    assert first.cancelled()
    assert others[0].cancelled()


@on_one_server
async def test_loaded_value_gives_way_to_one_that_was_stored_meanwhile(
    m: Text, make_map: MakeMap
) -> None:
    """Who asked has what was loaded; the map has what was written."""

    async def load() -> str:
        await make_map().set("k", "written")
        return "loaded"

    assert await m.get_or_load("k", load) in ("loaded", "written")
    await wait_content(m, {"k": "written"})
    assert await m.get_or_load("k", never) == "written"


@on_one_server
async def test_load_serves_while_the_server_is_away(
    make_map: MakeMap,
    proxy: FaultProxy,
    namespace: str,
    facts: Facts,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure to store is told, not raised; later loads are stored again."""
    url = f"{proxy.url}?socket_timeout=0.3"
    connecting = pulsewire.connect(url, namespace=namespace, hooks=facts, wait_for_server=0.3)
    async with connecting as weathered, make_map(of=weathered) as m:
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: not m.ready, what="the replica knows that it hears nothing")
        with pytest.raises(ServerUnavailable):
            await m.fetch("k")
        assert await m.get_or_load("k", lambda: load_of("v")) == "v"
        await wait_until(lambda: bool(facts.of("map_load_unstored")), what="the failure is told")
        (told,) = facts.of("map_load_unstored")
        assert told[:2] == ("map", "k")
        assert isinstance(told[2], ServerUnavailable)
        assert "could not be stored" in caplog.text
        assert "k" not in m
        await proxy.accept()
        await wait_until(lambda: m.ready, timeout=PATIENCE, what="the server is back")
        assert await m.get_or_load("k", lambda: load_of("w")) == "w"
        await wait_content(m, {"k": "w"})
        assert await make_map().fetch("k") == "w"


# --- looking


async def test_info_says_what_the_server_has(m: Text, hub: pulsewire.Hub, namespace: str) -> None:
    await m.set_many({"a": "1", "b": "2"})
    await m.delete("a")
    info = await m.info()
    assert (info.name, info.key) == ("map", f"{namespace}:map:map:content")
    assert (info.exists, info.entries, info.revision, info.last_change) == (True, 1, 3, "del")
    assert (info.ttl, info.replicas, info.is_destroyed) == (None, 1, False)
    assert info.memory_bytes is not None
    assert info.memory_bytes > 0
    nothing = await hub.map("nothing").info()
    assert (nothing.exists, nothing.entries, nothing.revision, nothing.last_change) == (
        False,
        0,
        0,
        "",
    )
    assert (nothing.memory_bytes, nothing.replicas, nothing.is_destroyed) == (None, 0, False)


async def test_info_of_a_restricted_user_says_what_it_may(fresh_server: SingleServer) -> None:
    rights = ("+@all", "~*", "&*", "-memory", "-pubsub")
    await fresh_server.command("ACL", "SETUSER", "u", "on", ">pw", *rights)
    async with pulsewire.connect(fresh_server.url.replace("://", "://u:pw@")) as hub:
        await hub.map("map").set("k", "v")
        info = await hub.map("map").info()
        assert (info.entries, info.memory_bytes, info.replicas) == (1, None, 0)


async def test_maps_are_listed_on_every_server(hub: pulsewire.Hub, make_map: MakeMap) -> None:
    """Those of the namespace, and those that were destroyed; not their bookkeeping, and no other keys."""
    names = ["a", "a:b", "{tag}x", "ü", *(f"map-{number}" for number in range(30))]
    for name in names:
        await make_map(name).set("k", "v")
    await make_map("a").destroy()
    stream = hub.stream("map:x:content")
    await stream.add("e", b"")
    assert await hub.maps() == sorted(names)
    await stream.destroy()


async def test_statistics_count_what_was_heard(m: Text, make_map: MakeMap) -> None:
    before = m.statistics()
    assert (before.notices, before.malformed, before.snapshots) == (0, 0, 1)
    await make_map().set_many({str(number): "v" for number in range(10)})
    await m.wait_for_revision(10, timeout=PATIENCE)
    after = m.statistics()
    assert (after.notices, after.snapshots, after.cuts, after.step_backs) == (10, 1, 0, 0)


@on_one_server
async def test_logger_is_told_what_happens(
    make_map: MakeMap, hub: pulsewire.Hub, caplog: pytest.LogCaptureFixture
) -> None:
    """A constant message, what it is about in `extra`; nothing at INFO per change."""
    logger = logging.getLogger("mine")
    caplog.set_level(logging.DEBUG, "mine")
    async with make_map(logger=logger) as m:
        await m.set_and_wait("k", "v")
        await m.delete("k")
        await m.reset()
        await m.wait_for_revision(3, timeout=PATIENCE)
    said: list[Any] = [record for record in caplog.records if record.name == "mine"]
    assert {record.levelno for record in said} == {logging.DEBUG}
    assert {record.map for record in said} == {"map"}
    assert [record.getMessage() for record in said] == [
        "snapshot of a map taken",
        "map joined",
        "map changed: set",
        "map changed: delete",
        "map changed: reset",
        "map closed",
    ]
    assert [(r.key, r.revision) for r in said[2:5]] == [("k", 1), ("k", 2), (None, 3)]


@on_one_server
async def test_reading_touches_no_network(
    make_map: MakeMap, proxy: FaultProxy, weathered: pulsewire.Hub
) -> None:
    """Not even to find out that a key is absent."""
    async with make_map(of=weathered) as m:
        await m.set_and_wait("k", "v")
        await m.append_values("l", "a")
        await m.wait_for_revision(2, timeout=PATIENCE)
        before = proxy.statistics()
        for _ in range(100):
            assert (m["k"], m.get("x"), "k" in m, len(m)) == ("v", None, True, 2)
            assert (dict(m), m.values_of("l")) == ({"k": "v", "l": '["a"]'}, ["a"])
        assert proxy.statistics() == before
