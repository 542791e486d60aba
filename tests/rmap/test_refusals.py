"""What a map refuses, or the server does: a typed error, and nothing at all is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import pulsewire
from pulsewire import (
    InvalidName,
    InvalidOption,
    PayloadTooLarge,
    PermissionDenied,
    ReplicatedMap,
    ServerError,
    ServerFull,
    ValueConflict,
)
from pulsewire.testing import SingleServer, Topology
from tests.facts import on_one_server
from tests.rmap.facts import MakeMap
from tests.rmap.witness import Witness, load_of, never, witnessed

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


# --- bad input


Call = Callable[[Text, Any], Awaitable[Any]]
WITH_KEY: list[Call] = [
    lambda m, key: m.set(key, "v"),
    lambda m, key: m.set_and_wait(key, "v"),
    lambda m, key: m.set_many({"fine": "v", key: "v"}),
    lambda m, key: m.set_if_absent(key, "v"),
    lambda m, key: m.test_and_set(key, "t", "v"),
    lambda m, key: m.inc(key),
    lambda m, key: m.append_values(key, "v"),
    lambda m, key: m.append_unique_values(key, "v"),
    lambda m, key: m.remove_values(key, "v"),
    lambda m, key: m.delete(key),
    lambda m, key: m.test_and_delete(key, "v"),
    lambda m, key: m.test_and_reset({key: "v"}),
    lambda m, key: m.fetch(key),
    lambda m, key: m.get_or_load(key, never),
]


@on_one_server
@pytest.mark.parametrize("key", ["", "=", "=rev", "a=b", 5, None, b"bytes", "\ud800"])
async def test_key_that_no_entry_may_have_is_refused_by_every_operation(
    m: Text, witness: Witness, key: Any
) -> None:
    async with witness.nothing_is_written():
        for call in WITH_KEY:
            with pytest.raises(InvalidName, match="map key"):
                await call(m, key)


WITH_VALUE: list[Call] = [
    lambda m, value: m.set("k", value),
    lambda m, value: m.set_and_wait("k", value),
    lambda m, value: m.set_many({"fine": "v", "k": value}),
    lambda m, value: m.set_if_absent("new", value),
    lambda m, value: m.test_and_set("k", "v", value),
    lambda m, value: m.test_and_set("k", value, "v"),
    lambda m, value: m.test_and_delete("k", value),
    lambda m, value: m.test_and_reset({"k": value}),
    lambda m, value: m.get_or_load("new", lambda: load_of(value)),
]


@on_one_server
@pytest.mark.parametrize("value", [5, None, b"bytes", ["list"], "\ud800"])
async def test_value_of_a_wrong_type_is_refused_by_every_operation(
    m: Text, witness: Witness, value: Any
) -> None:
    await m.set_and_wait("k", "v")
    async with witness.nothing_is_written():
        for call in WITH_VALUE:
            with pytest.raises(TypeError):
                await call(m, value)


@on_one_server
async def test_value_over_the_limit_is_refused_by_every_operation(
    make_map: MakeMap, witness: Witness
) -> None:
    async with make_map(max_value=100) as m:
        await m.set_and_wait("k", "x" * 100)
        async with witness.nothing_is_written():
            for call in WITH_VALUE:
                with pytest.raises(PayloadTooLarge, match="max_value") as caught:
                    await call(m, "ü" * 51)
                assert (caught.value.size, caught.value.limit) == (102, 100)


@on_one_server
@pytest.mark.parametrize("item", [5, None, b"bytes", ["list"]])
async def test_items_that_are_no_text_are_refused(m: Text, witness: Witness, item: Any) -> None:
    await m.append_values("k", "a")
    async with witness.nothing_is_written():
        for write in (m.append_values, m.append_unique_values, m.remove_values):
            with pytest.raises(TypeError, match="items of a list"):
                await write("k", "b", item)


@on_one_server
async def test_item_that_cannot_be_written_is_a_wrong_type(m: Text, witness: Witness) -> None:
    """As it is for a value."""
    async with witness.nothing_is_written():
        for write in (m.append_values, m.append_unique_values, m.remove_values):
            with pytest.raises(TypeError, match="UTF-8"):
                await write("k", "\ud800")


@on_one_server
@pytest.mark.parametrize("by", [2**63, -(2**63) - 1, 1.0, "1", None, True])
async def test_inc_by_something_that_is_no_number_of_64_bits_is_refused(
    m: Text, witness: Witness, by: Any
) -> None:
    await m.set("n", "1")
    async with witness.nothing_is_written():
        with pytest.raises(InvalidOption, match="by"):
            await m.inc("n", by)


@on_one_server
@pytest.mark.parametrize(
    ("value", "by"),
    [
        ("text", 1),
        ("", 1),
        ("1.5", 1),
        (" 1", 1),
        ("9" * 30, 1),
        ("[]", 0),
        (str(2**63 - 1), 1),
        (str(-(2**63)), -1),
        ("1", 2**63 - 1),
    ],
)
async def test_inc_of_what_is_no_number_or_overflows_is_a_conflict(
    m: Text, witness: Witness, value: str, by: int
) -> None:
    await m.set("n", value)
    async with witness.nothing_is_written():
        with pytest.raises(ValueConflict, match="integer|overflow") as caught:
            await m.inc("n", by)
    assert (caught.value.map_name, caught.value.key) == ("map", "n")
    assert caught.value.operation == "inc"


@on_one_server
@pytest.mark.parametrize(
    "value", ['{"a":1}', "{}", "[1,2]", '["a",1]', "[null]", '[["a"]]', ' {"0":"a"}', '["a",null]']
)
async def test_list_operation_on_json_that_is_no_array_of_strings_is_a_conflict(
    m: Text, witness: Witness, value: str
) -> None:
    await m.set("k", value)
    async with witness.nothing_is_written():
        for write in (m.append_values, m.append_unique_values, m.remove_values):
            for items in ((), ("a",), ("x",)):
                with pytest.raises(ValueConflict, match="array of strings") as caught:
                    await write("k", *items)
                assert caught.value.operation == write.__name__


# --- a server that refuses


EVERY_WRITE: list[tuple[str, Callable[[Text], Awaitable[Any]]]] = [
    ("set over", lambda m: m.set("k", "w")),
    ("set new", lambda m: m.set("new", "w")),
    ("set_many", lambda m: m.set_many({"new": "w"})),
    ("set_if_absent", lambda m: m.set_if_absent("new", "w")),
    ("test_and_set", lambda m: m.test_and_set("k", "v", "w")),
    ("inc", lambda m: m.inc("n")),
    ("inc new", lambda m: m.inc("new")),
    ("append_values", lambda m: m.append_values("l", "c")),
    ("append_values new", lambda m: m.append_values("new", "c")),
    ("append_unique_values", lambda m: m.append_unique_values("l", "c")),
    ("remove_values", lambda m: m.remove_values("l", "a")),
    ("remove_values all", lambda m: m.remove_values("l", "a", "b")),
    ("delete", lambda m: m.delete("k")),
    ("test_and_delete", lambda m: m.test_and_delete("k", "v")),
    ("reset", lambda m: m.reset()),
    ("test_and_reset", lambda m: m.test_and_reset({"k": "v"})),
    ("destroy", lambda m: m.destroy()),
]
CONTENT: dict[str, Any] = {"k": "v", "n": "5", "l": '["a","b"]', "rev": 7, "kind": "set"}


async def refused(write: Callable[[Text], Awaitable[Any]], m: Text) -> BaseException:
    """The error of a write."""
    try:
        await write(m)
    except Exception as error:
        return error
    raise AssertionError("the server was to refuse it")


NEEDED_BY_ALL: list[tuple[str, ...]] = [
    ("resetchannels",),
    ("&*", "-publish"),
    ("&*", "-hset"),
    ("&*", "-hget"),
    ("&*", "-pexpire"),
    ("&*", "-evalsha", "-eval"),
    ("&*", "resetkeys", "~*:content"),
    ("&*", "resetkeys", "%R~*:content", "~*:writer:*"),
]
NEEDED_BY_SOME: list[tuple[str, ...]] = [
    ("&*", "-hmget"),
    ("&*", "-hincrby"),
    ("&*", "-hdel"),
    ("&*", "-unlink"),
]


@pytest.mark.parametrize("rights", NEEDED_BY_ALL + NEEDED_BY_SOME, ids=" ".join)
async def test_write_without_a_right_it_needs_writes_nothing(
    fresh_server: SingleServer, rights: tuple[str, ...]
) -> None:
    """No value, no revision and no message, whichever operation and whichever right; or else all of it is done."""
    await fresh_server.command("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", *rights)
    url = fresh_server.url.replace("://", "://u:pw@")
    broken = []
    async with (
        witnessed(fresh_server, "n") as witness,
        pulsewire.connect(url, namespace="n") as limited,
    ):
        for what, write in EVERY_WRITE:
            await witness.store(**CONTENT)
            before = await witness.stored()
            try:
                await write(limited.map("map"))
            except PermissionDenied:
                is_right = (await witness.stored(), await witness.messages()) == (before, [])
            else:
                is_done = (await witness.stored())[b"=rev"] == b"8"
                is_right = is_done and len(await witness.messages()) == 1
                assert rights in NEEDED_BY_SOME, what
            if not is_right:
                broken.append(what)
    assert broken == []


async def test_joining_without_the_right_to_listen_is_a_missing_permission(
    fresh_server: SingleServer,
) -> None:
    """At once: waiting would not help."""
    setuser = ("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "resetchannels")
    await fresh_server.command(*setuser)
    url = fresh_server.url.replace("://", "://u:pw@")
    async with pulsewire.connect(url) as limited:
        with pytest.raises(PermissionDenied, match="SUBSCRIBE"):
            async with limited.map("map"):
                pass
        await fresh_server.command("ACL", "SETUSER", "u", "&*", "-hgetall")
        with pytest.raises(PermissionDenied, match="(?i)HGETALL"):
            async with limited.map("map"):
                pass


@on_one_server
async def test_key_of_another_type_is_an_error_that_says_so(
    make_map: MakeMap, witness: Witness
) -> None:
    """And stays as it is."""
    await witness.command("SET", witness.content, "no hash", "EX", 60)
    for what, write in EVERY_WRITE:
        error = await refused(write, make_map())
        if what not in ("reset", "destroy"):
            assert isinstance(error, ServerError), what
        assert "WRONGTYPE" in str(error), what
        assert await witness.command("GET", witness.content) == b"no hash"
    with pytest.raises(ServerError, match="WRONGTYPE"):
        async with make_map():
            pass
    assert await witness.messages() == []
    await witness.command("DEL", witness.content)


FREEING = ("remove_values", "remove_values all", "delete", "test_and_delete", "reset", "destroy")


async def test_server_that_is_full_refuses_writes_that_need_room_and_nothing_is_written(
    fresh_server: SingleServer,
) -> None:
    """Reading goes on, and writing once there is room."""
    async with (
        witnessed(fresh_server, "n") as witness,
        pulsewire.connect(fresh_server.url, namespace="n") as hub,
    ):
        await witness.store(**CONTENT)
        async with hub.map("map") as m:
            await fresh_server.command("CONFIG", "SET", "maxmemory", "1mb")
            for what, write in EVERY_WRITE:
                if what in (*FREEING, "test_and_reset"):
                    continue
                async with witness.nothing_is_written():
                    error = await refused(write, m)
                assert isinstance(error, ServerFull), what
            assert await m.fetch("k") == "v"
            await fresh_server.command("CONFIG", "SET", "maxmemory", "0")
            assert await m.set_and_wait("k", "w") == "v"
            assert m == {"k": "w", "n": "5", "l": '["a","b"]'}


async def test_server_that_is_full_takes_writes_that_free_room(
    fresh_server: SingleServer,
) -> None:
    """So that it can be relieved."""
    async with pulsewire.connect(fresh_server.url) as hub, hub.map("map") as m:
        for what, write in EVERY_WRITE:
            if what in FREEING:
                await m.set_many({"k": "v", "n": "5"})
                await m.append_values("l", "a", "b")
                await fresh_server.command("CONFIG", "SET", "maxmemory", "1mb")
                before = (await m.info()).revision
                await write(m)
                assert (await m.info()).revision == before + 1, what
                await fresh_server.command("CONFIG", "SET", "maxmemory", "0")
                await m.reset()
