"""Maps shared with Go Pulse: the same operations with the same results and bytes, and the same content at both ends.

Against goa.design/pulse v1.8.1, the newest release to be had of the module proxy (`go/pulse/go.mod` pins it). Where it
and we differ is listed in `docs/pulse-vs-go.md`, with the tests that show it.

Environment:
    PULSEWIRE_HISTORY_SEED=123: the histories of a run that failed, which has told its seed.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import BYTES, InvalidName, ReplicatedMap, ValueConflict
from pulsewire.rmap.wire import decode_notice
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.conformance.asynq_programs import PATIENCE, Refused
from tests.conformance.pulse_programs import (
    CLIENT_NAME,
    GoMap,
    GoPulse,
    Operation,
    connections_of_go,
    kill_connections,
)
from tests.rmap.witness import Witness, next_changes, set_message

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]  # the first run downloads, builds

Map = ReplicatedMap[bytes]
Replies = dict[str, list[tuple[Operation, list[Any] | Refused]]]
"""Of Go, and ours."""

SEED = int(os.environ.get("PULSEWIRE_HISTORY_SEED", "0")) or secrets.randbits(32)
CONTENT = "map:flags:content"
AT_ONCE = 5
"""Writers of each language."""
DISCONNECTS = 20
"""In a history, each of one kind."""
AT_A_LOOK = 50
"""Operations of a history between two looks at what they have left."""
LATER = 100.0
"""A time to live that no test sees the end of."""
OUR_NAMES = "pulsewire:"
"""How the names of our connections begin, at the server."""
TRIES_OF_GO = 4
"""How often its client sends a command at most."""
OURS_ALONE = "pulsewire:{map:flags:content}:writer:*"


@pytest.fixture
async def theirs(go: GoPulse) -> AsyncIterator[GoMap]:
    """A map as Go has it."""
    async with go.map("flags") as theirs:
        yield theirs


@pytest.fixture
async def ours(hub: pulsewire.Hub) -> AsyncIterator[Map]:
    """The same map as we have it."""
    async with hub.map("flags", codec=BYTES) as ours:
        yield ours


@asynccontextmanager
async def witnessed(server: SingleServer, name: str = "flags") -> AsyncIterator[Witness]:
    """Who sees what is stored and published, without either program."""
    content, channel = f"map:{name}:content", f"map:{name}:updates"
    async with server.connection() as connection:
        await connection.command("HELLO", 3)
        connection.send(("SUBSCRIBE", channel))
        await connection.receive_push()
        yield Witness(connection, content, channel)


@contextmanager
def seeded() -> Iterator[Random]:
    """Dice, and what is needed to throw them again when a history has failed."""
    try:
        yield Random(SEED)
    except BaseException as error:
        error.add_note(f"to see it again: PULSEWIRE_HISTORY_SEED={SEED}")
        raise


async def _set(ours: Map, o: Operation) -> list[Any]:
    old = await ours.set(o.key, o.value)
    return [old or b"", old is not None]


async def _set_and_wait(ours: Map, o: Operation) -> list[Any]:
    return [await ours.set_and_wait(o.key, o.value) or b""]


async def _set_if_absent(ours: Map, o: Operation) -> list[Any]:
    return [await ours.set_if_absent(o.key, o.value)]


async def _test_and_set(ours: Map, o: Operation) -> list[Any]:
    done = await ours.test_and_set(o.key, o.test, o.value)
    return [done.old or b"", done.existed, done.updated]


async def _inc(ours: Map, o: Operation) -> list[Any]:
    return [await ours.inc(o.key, o.by)]


async def _append(ours: Map, o: Operation) -> list[Any]:
    return [await ours.append_values(o.key, *o.items)]


async def _append_unique(ours: Map, o: Operation) -> list[Any]:
    return [await ours.append_unique_values(o.key, *o.items)]


async def _remove(ours: Map, o: Operation) -> list[Any]:
    done = await ours.remove_values(o.key, *o.items)
    return [done.values, done.removed]


async def _delete(ours: Map, o: Operation) -> list[Any]:
    old = await ours.delete(o.key)
    return [old or b"", old is not None]


async def _test_and_delete(ours: Map, o: Operation) -> list[Any]:
    done = await ours.test_and_delete(o.key, o.test)
    return [done.old or b"", done.existed, done.deleted]


async def _test_and_reset(ours: Map, o: Operation) -> list[Any]:
    return [await ours.test_and_reset(dict(o.tests))]


async def _reset(ours: Map, o: Operation) -> list[Any]:
    await ours.reset()
    return []


async def _destroy(ours: Map, o: Operation) -> list[Any]:
    await ours.destroy()
    return []


WITH_EX = {"Set": _set, "TestAndSet": _test_and_set, "Delete": _delete}
WITH_EX |= {"TestAndDelete": _test_and_delete}
"""Operations that Go has in two forms: that with `Ex` says more than the old value."""
OURS = {
    **{f"{op}Ex": write for op, write in WITH_EX.items()},
    "SetAndWait": _set_and_wait,
    "SetIfNotExists": _set_if_absent,
    "Inc": _inc,
    "AppendValues": _append,
    "AppendUniqueValues": _append_unique,
    "RemoveValues": _remove,
    "TestAndReset": _test_and_reset,
    "Reset": _reset,
    "Destroy": _destroy,
}


async def written(ours: Map, operation: Operation) -> list[Any]:
    """Carry an operation out; what Go returns for it, in Go's words: absent is empty there."""
    if operation.op in WITH_EX:
        return (await WITH_EX[operation.op](ours, operation))[:1]
    return await OURS[operation.op](ours, operation)


OPERATIONS = {
    "Set": 6,
    "SetEx": 3,
    "SetAndWait": 3,
    "SetIfNotExists": 4,
    "TestAndSet": 4,
    "TestAndSetEx": 4,
    "Inc": 8,
    "AppendValues": 6,
    "AppendUniqueValues": 6,
    "RemoveValues": 6,
    "Delete": 3,
    "DeleteEx": 3,
    "TestAndDelete": 4,
    "TestAndDeleteEx": 4,
    "TestAndReset": 2,
    "Reset": 0.3,
    "Destroy": 0.3,
}
"""Every operation that writes, and how often it comes."""


def drawn(dice: Random, count: int) -> list[str]:
    """So many operations, every one of them among the first."""
    first = dice.sample([*OPERATIONS], len(OPERATIONS))
    return first + dice.choices([*OPERATIONS], [*OPERATIONS.values()], k=count - len(first))


def content_of(stored: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """A hash without what Pulse keeps for itself."""
    return {key: value for key, value in stored.items() if not key.startswith(b"=")}


async def check_both_show(stored: dict[bytes, bytes], theirs: GoMap, ours: Map) -> None:
    """Equal content and revision at both ends and on the server."""
    revision = int(stored[b"=rev"])
    await ours.wait_for_revision(revision, timeout=PATIENCE)
    assert {key.encode(): value for key, value in ours.items()} == content_of(stored)
    assert ours.revision == revision
    assert await theirs.replica(revision) == (content_of(stored), revision)


# --- every operation, one after the other

KEYS = ("a", "schlüssel/☃ \n", "n", "list", "k:" + "x" * 200)
VALUES = (b"1", b"-7", b"x", b"x,y,,z", b'["a","b"]', b"9223372036854775807", "ñ".encode())
ANY_BYTES = (*VALUES, b"", bytes(range(256)))
ITEMS = ("a", "b", "", "x,y", 'q"\\/', "\b\t\n\f\r\x00\x1f\x7f", "ü☃𝄞", "[1]")


def an_operation(dice: Random, op: str) -> Operation:
    key = dice.choice(KEYS)
    # what is no text, or empty, is no list: see below
    values = ANY_BYTES if key == "a" else VALUES
    if op in ("AppendValues", "AppendUniqueValues", "RemoveValues") and key == "a":
        key = "list"
    return Operation(
        op,
        key,
        value=dice.choice(values),
        test=dice.choice(values),
        by=dice.choice([1, -1, 41, 0, 2**62, -(2**63)]),
        items=tuple(dice.choices(ITEMS, k=dice.choice([0, 1, 1, 2, 5]))),
        tests=tuple(
            (key, dice.choice(VALUES)) for key in dice.sample(KEYS, dice.choice([1, 1, 2]))
        ),
    )


@pytest.mark.parametrize(
    "count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
async def test_each_operation_does_what_it_does_in_go(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, count: int
) -> None:
    """One history on two maps: the same replies, the same hash, the same notices, byte for byte."""
    stored: dict[bytes, bytes] = {}
    with seeded() as dice:
        async with (
            go.map("theirs") as theirs,
            hub.map("ours", codec=BYTES) as ours,
            witnessed(asynq_redis, "theirs") as their_witness,
            witnessed(asynq_redis, "ours") as our_witness,
        ):
            operations = drawn(dice, count)
            for start in range(0, count, AT_A_LOOK):
                history = [an_operation(dice, op) for op in operations[start : start + AT_A_LOOK]]
                replies = await theirs.write(*history)
                for operation, reply in zip(history, replies, strict=True):
                    if isinstance(reply, Refused):
                        assert operation.op == "Inc"
                        with pytest.raises(ValueConflict):
                            await written(ours, operation)
                    else:
                        assert await written(ours, operation) == reply, operation
                stored = await their_witness.stored()
                assert await our_witness.stored() == stored
                assert await our_witness.messages() == await their_witness.messages()
            await check_both_show(stored, theirs, ours)


@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_000])
async def test_values_of_every_size_arrive(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer, size: int
) -> None:
    """Whoever wrote them, with any bytes."""
    async with witnessed(asynq_redis) as witness:
        await theirs.must(Operation("Set", "go", Random(1).randbytes(size)))
        await ours.set("ours", Random(2).randbytes(size))
        await check_both_show(await witness.stored(), theirs, ours)


async def test_keys_that_are_no_text_are_the_same_bytes(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer
) -> None:
    """Here they are texts with escapes, which come out as the bytes that they were."""
    await theirs.must(Operation("SetAndWait", "\udcff\0ñ", b"1"))
    await ours.wait_for_revision(1, timeout=PATIENCE)
    [key] = ours
    await ours.inc(key)
    stored = {b"\xff\x00\xc3\xb1": b"2"}
    assert await theirs.replica(2) == (stored, 2)
    assert (key.encode("utf-8", "surrogateescape"), await ours.fetch(key)) in stored.items()


async def test_lists_are_read_alike(theirs: GoMap, ours: Map, asynq_redis: SingleServer) -> None:
    """Written by either, as JSON with the same escapes, or as text with commas, also where one of them has added."""
    texts = ["x,y,,z", "", ",", "one", ' ["a","b"] ', "[]", '["a"', "5", "[1,2]", '{"a":1}', "null"]
    await theirs.must(*[Operation("Set", f"text {text}", text.encode()) for text in texts])
    await theirs.must(Operation("AppendValues", "go", items=ITEMS))
    await ours.append_values("ours", *ITEMS)
    await ours.append_values("both", *ITEMS[:4])
    await theirs.must(Operation("AppendUniqueValues", "both", items=ITEMS))
    await ours.remove_values("both", *ITEMS[:2])
    async with witnessed(asynq_redis) as witness:
        stored = await witness.stored()
        await check_both_show(stored, theirs, ours)
    assert stored[b"go"] == stored[b"ours"]
    for key in content_of(stored):
        assert ours.values_of(key.decode()) == await theirs.values_of(key.decode()), key
    assert ours.values_of("nothing") is None
    assert await theirs.values_of("nothing") is None


async def test_json_that_is_no_list_is_changed_by_go_and_refused_here(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer
) -> None:
    """Go appends to arrays of anything, and to objects."""
    async with witnessed(asynq_redis) as witness:
        for number, value in enumerate((b"[1,2]", b'{"a":1}', b'["a",null]')):
            await theirs.must(Operation("Set", f"ours-{number}", value))
            async with witness.nothing_is_written():
                for refused in (ours.append_values, ours.append_unique_values, ours.remove_values):
                    with pytest.raises(ValueConflict):
                        await refused(f"ours-{number}", "w")
            await theirs.must(
                Operation("Set", "theirs", value), Operation("AppendValues", "theirs", items=("w",))
            )
            assert (await witness.stored())[b"theirs"] != value


async def test_empty_value_is_a_list_of_one_in_go_and_of_none_here(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer
) -> None:
    """Where an operation on lists changes nothing; what is read, and what is written, is the same."""
    await theirs.must(Operation("Set", "a", b""))
    async with witnessed(asynq_redis) as witness, witness.nothing_is_written():
        for op, flag in (
            ("AppendValues", []),
            ("AppendUniqueValues", []),
            ("RemoveValues", [False]),
        ):
            operation = Operation(op, "a", items=("x",) if op == "RemoveValues" else ())
            assert await theirs.must(operation) == [[[""], *flag]]
            assert await written(ours, operation) == [[], *flag]
    assert await ours.append_values("a", "x") == ["x"]
    assert await theirs.must(Operation("AppendValues", "a", items=("y",))) == [[["x", "y"]]]


async def test_both_refuse_the_same_keys_and_names(
    go: GoPulse,
    hub: pulsewire.Hub,
    theirs: GoMap,
    ours: Map,
    asynq_redis: SingleServer,
) -> None:
    """Empty ones, and those with an equals sign; nothing is written."""
    async with witnessed(asynq_redis) as witness, witness.nothing_is_written():
        for op in OPERATIONS.keys() - {"Reset", "Destroy"}:
            for key in ("", "=rev", "a=b"):
                operation = Operation(op, key, items=("x",), tests=((key, b""),))
                [reply] = await theirs.write(operation)
                assert isinstance(reply, Refused)
                with pytest.raises(InvalidName):
                    await written(ours, operation)
    for name in ("", "a b", "a*", "a?", "[a]", "a\0", "x" * 513):
        with pytest.raises(Refused):
            async with go.map(name):
                pass
        with pytest.raises(InvalidName):
            hub.map(name)


async def test_sums_stay_within_64_bits(theirs: GoMap, ours: Map) -> None:
    """Both count to the edge, and refuse what is beyond it."""
    edge = 2**63 - 1
    await theirs.must(Operation("Set", "n", b"%d" % (edge - 2)))
    assert await ours.inc("n") == edge - 1
    assert await theirs.must(Operation("Inc", "n", by=1)) == [[edge]]
    with pytest.raises(ValueConflict):
        await ours.inc("n")
    assert isinstance((await theirs.write(Operation("Inc", "n", by=1)))[0], Refused)


# --- writers of both at a time


def some_writes(dice: Random, who: str, count: int) -> list[Operation]:
    """Operations of every kind, the values of which tell who wrote them, and which of the operations it was."""
    many = []
    for number, op in enumerate(drawn(dice, count)):
        mine = f"{who}-{number}"
        if op in ("TestAndSet", "TestAndSetEx", "TestAndDelete", "TestAndDeleteEx"):
            key = dice.choice(["turn", "turn again"])
        elif op == "Inc":
            key = dice.choice(["n", "m"])
        elif op.endswith("Values"):
            key = dice.choice(["list", "other list"])
        else:
            key = dice.choice(["a", "b", "c", "d", "turn", "turn again"])
        value = dice.choice("xyz") if key.startswith("turn") else mine
        items = (mine, *dice.choices("pqr", k=2))
        many.append(
            Operation(
                op,
                key,
                value=value.encode(),
                test=dice.choice("xyz").encode(),
                by=dice.randrange(-5, 10),
                items=("pqr"[number % 3],) if op == "RemoveValues" else items,
                tests=(("turn", dice.choice("xyz").encode()),),
            )
        )
    return many


def has_changed(o: Operation, reply: list[Any]) -> bool:
    """Whether an operation has changed the map, as its reply says. The values of `some_writes` are never empty."""
    match o.op:
        case "SetIfNotExists" | "TestAndReset":
            return bool(reply[0])
        case "TestAndSet" | "TestAndSetEx" | "TestAndDelete" | "TestAndDeleteEx":
            return bool(reply[0] == o.test)
        case "RemoveValues":
            return bool(reply[1])
        case "Delete" | "DeleteEx":
            return bool(reply[0])
    return True


def replayed(notices: Sequence[bytes]) -> tuple[dict[bytes, bytes], int]:
    """What the notices come to, which must be numbered one by one."""
    content: dict[bytes, bytes] = {}
    for number, message in enumerate(notices, 1):
        notice = decode_notice(message)
        assert notice.revision == number
        if notice.kind == "set":
            content[notice.key] = notice.value
        elif notice.kind == "del":
            del content[notice.key]
        else:
            content.clear()
    return content, len(notices)


def times_set(notices: Sequence[bytes]) -> Counter[bytes]:
    """How often each value was set."""
    return Counter(notice.value for notice in map(decode_notice, notices) if notice.kind == "set")


async def next_messages(witness: Witness) -> list[bytes]:
    """What was published, as soon as there is something."""
    with anyio.fail_after(PATIENCE):
        while not (messages := await witness.messages()):
            pass
    return messages


async def disconnect(server: SingleServer, proxy: FaultProxy, kind: int) -> int:
    """End connections of one kind; how many. What Go hears on is spared: it does not notice what it misses (R1)."""
    clients = await server.clients()
    go = {number for number, line in clients.items() if f" name={CLIENT_NAME} " in line}
    hearing = set(await connections_of_go(server, "P"))
    ours = {number for number, line in clients.items() if f" name={OUR_NAMES}" in line}
    match kind % 5:
        case 0:
            return proxy.cut("rst")
        case 1:
            return await kill_connections(server, ours)
        case 2:
            return await kill_connections(server, go - hearing)
        case 3:
            return proxy.cut("fin") + await kill_connections(server, go - hearing)
        case _:  # the next write of ours is carried out, and its reply is lost
            proxy.swallow_reply("EVALSHA")
            return 1


def check_once(replies: Replies, heard: Sequence[bytes], *, is_calm: bool) -> None:
    """What replies say has happened has: each once, but for those that Go's client has repeated."""
    changed = {
        who: [o for o, reply in done if isinstance(reply, list) and has_changed(o, reply)]
        for who, done in replies.items()
    }
    told = len(changed["go"]) + len(changed["ours"])
    if is_calm:
        assert not [reply for _, reply in replies["go"] if isinstance(reply, Refused)]
        assert len(heard) == told
    else:
        assert len(heard) >= told
    times = times_set(heard)
    for who, at_most in (("ours", 1), ("go", 1 if is_calm else TRIES_OF_GO)):
        own = [o.value for o in changed[who] if o.op.startswith("Set") and o.key < "turn"]
        assert len(own) > len(replies[who]) // 20
        assert {1 <= times[value] <= at_most for value in own} == {True}


@pytest.mark.parametrize("weather", ["calm", "disconnects"])
@pytest.mark.parametrize(
    "count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
async def test_writers_of_both_on_one_map(
    theirs: GoMap, asynq_redis: SingleServer, weather: str, count: int
) -> None:
    """Equal content and revision at both ends. Each change has one notice; each write of ours happens once."""
    half, heard, ended = count // 2, list[bytes](), 0
    replies: Replies = {"go": [], "ours": []}
    begun = [anyio.Event() for _ in range(DISCONNECTS)]
    with seeded() as dice:
        their_writes, our_writes = some_writes(dice, "go", half), some_writes(dice, "ours", half)
        async with (
            witnessed(asynq_redis) as witness,
            FaultProxy(asynq_redis) as proxy,
            pulsewire.connect(proxy.url) as hub,
            hub.map("flags", codec=BYTES) as ours,
        ):

            async def write_in_go() -> None:
                for number, has_begun in enumerate(begun):
                    await has_begun.wait()
                    part = their_writes[number::DISCONNECTS]
                    done = await theirs.write(*part, at_once=AT_ONCE)
                    replies["go"] += zip(part, done, strict=True)

            async def write_here(writer: int) -> None:
                for number, has_begun in enumerate(begun):
                    await has_begun.wait()
                    for operation in our_writes[number::DISCONNECTS][writer::AT_ONCE]:
                        replies["ours"].append((operation, await written(ours, operation)))

            async with anyio.create_task_group() as writers:
                writers.start_soon(write_in_go)
                for writer in range(AT_ONCE):
                    writers.start_soon(write_here, writer)
                for kind, begin in enumerate(begun):
                    begin.set()
                    heard += await next_messages(witness)
                    if weather == "disconnects":  # in the middle of it
                        ended += await disconnect(asynq_redis, proxy, kind)
            heard += await witness.messages()
            stored = await witness.stored()
            assert replayed(heard) == (content_of(stored), int(stored[b"=rev"]))
            await check_both_show(stored, theirs, ours)
    check_once(replies, heard, is_calm=weather == "calm")
    assert weather == "calm" or ended >= DISCONNECTS // 2


# --- what each is told


async def test_go_tells_kinds_of_our_changes(theirs: GoMap, ours: Map) -> None:
    """A reset and the end of a map are one kind there."""
    await ours.set("a", b"1")
    assert await theirs.kinds("change") == ["change"]
    await ours.delete("a")
    assert await theirs.kinds("delete") == ["change", "delete"]
    await ours.reset()
    assert await theirs.kinds("reset") == ["change", "delete", "reset"]
    await ours.inc("n")
    await theirs.kinds("change")
    await ours.destroy()
    assert (await theirs.kinds("reset"))[2:] == ["reset", "change", "reset"]


async def test_we_tell_each_change_of_go(theirs: GoMap, ours: Map) -> None:
    """With key, old and new value."""
    changes = ours.changes()
    await theirs.must(Operation("Set", "a", b"1"), Operation("Set", "b", b""))
    assert await next_changes(changes, 2) == [
        ("set", "a", None, b"1"),
        ("set", "b", None, b""),
    ]
    await theirs.must(Operation("Inc", "a", by=4))
    assert await next_changes(changes, 1) == [("set", "a", b"1", b"5")]
    await theirs.must(Operation("Delete", "a"))
    assert await next_changes(changes, 1) == [("delete", "a", b"5", None)]
    for op in ("Reset", "Destroy"):
        await theirs.must(Operation("Set", "a", b"1"))
        assert (await next_changes(changes, 1))[0][0] == "set"
        await theirs.must(Operation(op))
        assert await next_changes(changes, 1) == [("reset", None, None, None)]


async def test_each_joins_what_the_other_has_written(
    go: GoPulse, hub: pulsewire.Hub, theirs: GoMap, ours: Map
) -> None:
    """A snapshot is right without a single notice."""
    await theirs.must(Operation("Set", "go", b"1"), Operation("Delete", "go"))
    await theirs.must(Operation("Set", "go", b"2"))
    await ours.set("ours", b"3")
    async with go.map("flags") as late, hub.map("flags", codec=BYTES) as our_late:
        assert await late.replica() == ({b"go": b"2", b"ours": b"3"}, 4)
        assert (dict(our_late), our_late.revision) == ({"go": b"2", "ours": b"3"}, 4)
    assert await hub.maps() == ["flags"]


async def test_map_that_was_destroyed_goes_on_counting(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Both leave a tombstone. Ours can be forgotten, but not while Go listens."""
    async with hub.map("flags", codec=BYTES) as ours, witnessed(asynq_redis) as witness:
        async with go.map("flags") as theirs:
            await theirs.must(Operation("Set", "a", b"1"), Operation("Destroy"))
            assert await witness.stored() == {b"=rev": b"2", b"=kind": b"destroy"}
            assert (await ours.info()).is_destroyed
            await ours.set("b", b"2")
            await ours.destroy()
            assert await witness.stored() == {b"=rev": b"4", b"=kind": b"destroy"}
            assert await theirs.replica(4) == ({}, 4)
            assert not await ours.forget()
            await theirs.must(Operation("Set", "c", b"3"))
            await check_both_show(await witness.stored(), theirs, ours)
            await theirs.must(Operation("Destroy"))
    unheard = hub.map("flags")
    assert await unheard.forget()
    assert not await asynq_redis.command("EXISTS", CONTENT)


# --- life


@pytest.mark.parametrize("first", ["go", "ours"])
async def test_both_leave_an_absolute_time_to_live_and_prolong_a_sliding_one(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer, first: str
) -> None:
    """Whoever set it, and whoever writes next, also by a reset."""

    async def write(who: str, op: str = "Set", **options: Any) -> None:
        operation = Operation(op, "a", b"1")
        if who == "go":
            async with go.map("flags", **options) as theirs:
                await theirs.must(operation)
        else:
            await written(hub.map("flags", codec=BYTES, **options), operation)

    second = "ours" if first == "go" else "go"
    await write(first, ttl=LATER)
    assert LATER / 2 < await asynq_redis.command("TTL", CONTENT) <= LATER
    await asynq_redis.command("EXPIRE", CONTENT, 30)
    for who in (second, first):
        await write(who, ttl=LATER)
        assert 0 < await asynq_redis.command("TTL", CONTENT) <= 30
    await write(second)
    assert 0 < await asynq_redis.command("TTL", CONTENT) <= 30
    for who in (second, first):
        await write(who, "Reset", ttl=LATER)
        assert LATER / 2 < await asynq_redis.command("TTL", CONTENT) <= LATER
        await asynq_redis.command("EXPIRE", CONTENT, 30)
        await write(who, "Reset")
        assert await asynq_redis.command("TTL", CONTENT) == -1
    for who in (second, first):
        await asynq_redis.command("EXPIRE", CONTENT, 30)
        await write(who, sliding_ttl=LATER)
        assert LATER / 2 < await asynq_redis.command("TTL", CONTENT) <= LATER


async def test_write_that_changes_nothing_prolongs_life_in_go_alone(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """R6 of the defects: there it is a second command after every call, in whole seconds."""
    async with go.map("flags", sliding_ttl=59.9) as theirs:
        await theirs.must(Operation("Set", "a", b"1"))
        assert await asynq_redis.command("PTTL", CONTENT) <= 59_000
        await asynq_redis.command("EXPIRE", CONTENT, 30)
        await theirs.must(Operation("Delete", "nothing"))
        assert await asynq_redis.command("TTL", CONTENT) > 30
    await asynq_redis.command("EXPIRE", CONTENT, 30)
    assert await hub.map("flags", sliding_ttl=59.9).delete("nothing") is None
    assert await asynq_redis.command("TTL", CONTENT) <= 30


async def test_map_that_expires_is_empty_here_and_stays_in_go(
    go: GoPulse, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """R2 of the defects: Go's replica shows what is no longer there, and passes over what is written anew."""
    async with go.map("flags", ttl=LATER) as theirs, hub.map("flags", ttl=LATER) as ours:
        await theirs.must(Operation("Set", "a", b"1"), Operation("Set", "b", b"2"))
        await wait_until(lambda: len(ours) == 2, timeout=PATIENCE, what="we have both")
        await asynq_redis.command("PEXPIRE", CONTENT, 1)
        await wait_until(lambda: len(ours) == 0, timeout=PATIENCE, what="it is over")
        assert await theirs.replica() == ({b"a": b"1", b"b": b"2"}, 2)
        assert await ours.set_and_wait("c", "3") is None  # revision 1 again
        assert dict(ours) == {"c": "3"}
        await theirs.must(Operation("Set", "d", b"4"), Operation("Set", "e", b"5"))  # 2 and 3
        assert await theirs.replica(3) == ({b"a": b"1", b"b": b"2", b"e": b"5"}, 3)
        await wait_until(lambda: len(ours) == 3, timeout=PATIENCE, what="we have all three")


# --- when something is missed


async def test_lost_subscription_is_made_good_here_and_not_in_go(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer
) -> None:
    """R1 of the defects: Go subscribes again, and shows the old value until the key is written once more."""
    await theirs.must(Operation("SetAndWait", "a", b"1"))
    hearing = await connections_of_go(asynq_redis, "P")
    assert hearing
    numbers = [
        number for number, line in (await asynq_redis.clients()).items() if " sub=1 " in line
    ]
    assert set(hearing) < set(numbers)
    kills = [("CLIENT", "KILL", "ID", number) for number in numbers]
    change = ("HSET", CONTENT, "a", "2", "=rev", "2", "=kind", "set")
    notice = ("PUBLISH", "map:flags:updates", set_message("a", "2", 2))
    *_, heard_by = await asynq_redis.pipeline(*kills, change, notice)  # nobody comes in between
    assert heard_by == 0

    async def hears_again() -> bool:
        return len(await connections_of_go(asynq_redis, "P")) == len(hearing)

    await wait_until(hears_again, timeout=PATIENCE, what="Go has subscribed again")
    await wait_until(lambda: ours.get("a") == b"2", timeout=PATIENCE, what="we have what we missed")
    await ours.set("b", b"3")
    assert await theirs.replica(3) == ({b"a": b"1", b"b": b"3"}, 3)
    await ours.wait_for_revision(3, timeout=PATIENCE)
    assert dict(ours) == {"a": b"2", "b": b"3"}
    await ours.set("a", b"4")
    assert await theirs.replica(4) == ({b"a": b"4", b"b": b"3"}, 4)


async def test_notice_that_got_lost_is_made_good_here_and_not_in_go(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer
) -> None:
    """The next one shows that it is missing: Go does not look."""
    await theirs.must(Operation("SetAndWait", "a", b"1"))
    await ours.wait_for_revision(1, timeout=PATIENCE)
    await asynq_redis.command("HSET", CONTENT, "a", "2", "=rev", "2", "=kind", "set")
    await theirs.must(Operation("SetAndWait", "b", b"3"))
    assert await theirs.replica(3) == ({b"a": b"1", b"b": b"3"}, 3)
    await ours.wait_for_revision(3, timeout=PATIENCE)
    assert dict(ours) == {"a": b"2", "b": b"3"}


async def test_server_that_lost_data_is_followed_here_and_not_in_go(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer
) -> None:
    """R2 of the defects: Go passes over every change up to the revision that it had."""
    await theirs.must(*[Operation("Set", "a", b"%d" % number) for number in range(3)])
    await ours.wait_for_revision(3, timeout=PATIENCE)
    changes = ours.changes()
    await asynq_redis.command("FLUSHALL")
    await wait_until(lambda: len(ours) == 0, timeout=PATIENCE, what="we know of it")
    assert await next_changes(changes, 1) == [("reset", None, None, None)]
    for number in range(1, 5):
        await ours.set(f"new-{number}", b"")
    assert await theirs.replica(4) == ({b"a": b"2", b"new-4": b""}, 4)
    await ours.wait_for_revision(4, timeout=PATIENCE)
    assert dict(ours) == {f"new-{number}": b"" for number in range(1, 5)}


async def test_revision_of_fifteen_digits_is_written_in_full_here(
    theirs: GoMap, ours: Map, asynq_redis: SingleServer
) -> None:
    """Go's own scripts write 1e+14, which Go does not understand; we find the change nevertheless."""
    await asynq_redis.command("HSET", CONTENT, "=rev", 10**14 - 2, "=kind", "set")
    await ours.set("a", b"1")
    await ours.set("b", b"2")
    async with witnessed(asynq_redis) as witness:
        content = {b"a": b"1", b"b": b"2"}
        assert await theirs.replica(10**14) == (content, 10**14)
        await asynq_redis.command("HSET", CONTENT, "=rev", 10**14 - 1)
        [reply] = await theirs.write(Operation("Set", "c", b"3"))
        assert isinstance(reply, Refused)
        assert "1e+14" in str(reply)
        [message] = await witness.messages()
        assert message.endswith(b"1e+14")
    await wait_until(lambda: ours.get("c") == b"3", timeout=PATIENCE, what="we have it")


# --- what we leave beside it


async def test_nothing_of_ours_is_left_in_the_map(
    theirs: GoMap, hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Records of writes stand in a key of their own, which goes with the writer, or after ten minutes."""
    async with hub.map("flags") as ours:
        await ours.set("a", "1")
        async with witnessed(asynq_redis) as witness:
            assert await witness.stored() == {b"a": b"1", b"=rev": b"1", b"=kind": b"set"}
        [beside] = [
            key for key in await asynq_redis.command("KEYS", "*") if key != CONTENT.encode()
        ]
        assert beside.startswith(OURS_ALONE.removesuffix("*").encode())
        assert 0 < await asynq_redis.command("TTL", beside) <= 600

    async def is_alone() -> bool:
        return bool(await asynq_redis.command("KEYS", "*") == [CONTENT.encode()])

    await wait_until(is_alone, timeout=PATIENCE, what="the map is all that is left")
    assert await theirs.replica(1) == ({b"a": b"1"}, 1)
