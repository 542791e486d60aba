"""Random histories: whatever happens to the notices, every replica ends with the server's content, and every watcher.

First without a network, where everything may happen in every order (`simulation.py`). Then with the real scripts on
real servers, which must agree with a model of them (`model.py`), while messages are dropped, doubled and reordered
between the notifier and the replica, and connections are killed.

Environment:
    PULSEWIRE_HISTORIES=10: so many times as many steps and writes.
    PULSEWIRE_HISTORY_SEED=123: the histories of a run that failed, which has told its seed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pulsewire
from pulsewire import Change, PayloadTooLarge, ReplicatedMap, ValueConflict
from pulsewire.rmap.watching import Changes
from pulsewire.testing import Topology, wait_until
from tests.facts import Raw, on_one_server
from tests.rmap.facts import MakeMap
from tests.rmap.model import ModelMap
from tests.rmap.simulation import CALM, FOLLOWERS, RARE, TAMPERING, Step, World

TOPOLOGIES = ["standalone", "cluster"]
TIMES = int(os.environ.get("PULSEWIRE_HISTORIES", "1"))
SEED = int(os.environ.get("PULSEWIRE_HISTORY_SEED", "0")) or secrets.randbits(32)


@contextmanager
def seeded(number: int = 0) -> Iterator[Random]:
    """Dice, and what is needed to throw them again when the history has failed."""
    try:
        yield Random(f"{SEED} {number}")
    except BaseException as error:
        error.add_note(f"to see it again: PULSEWIRE_HISTORY_SEED={SEED} (history {number})")
        raise


# --- without a network


ORDERLY = (*CALM, *RARE)
STORMY = (*CALM, *RARE, *TAMPERING)
DISASTROUS = (*CALM, *RARE, *TAMPERING, "failover", "expire")
FLUSHED = (*CALM, *RARE, "flush")


def histories(kinds: tuple[str, ...]) -> st.SearchStrategy[list[Step]]:
    """Short ones, which shrink well."""
    step = st.builds(
        Step, st.sampled_from(kinds), st.integers(0, FOLLOWERS - 1), st.integers(0, 20)
    )
    return st.lists(step, max_size=60)


def drawn(dice: Random, kinds: tuple[str, ...], length: int) -> Iterator[Step]:
    """Long ones, which go far."""
    for _ in range(length):
        yield Step(dice.choice(kinds), dice.randrange(FOLLOWERS), dice.randrange(21))


def play(world: World, history: list[Step] | Iterator[Step]) -> None:
    """Play a history to its end, and let everything arrive."""
    for step in history:
        world.play(step)
    world.settle()


@given(histories(ORDERLY))
def test_replicas_follow_without_a_single_probe_where_nothing_is_lost(history: list[Step]) -> None:
    """A connection keeps order and loses nothing while it lives: a snapshot for each is enough."""
    world = World()
    play(world, history)
    world.check_converged()
    connections = FOLLOWERS + sum(step.what == "cut" for step in history)
    assert sum(follower.snapshots for follower in world.followers) <= connections


@given(histories(STORMY))
@settings(max_examples=300)
def test_replicas_converge_whatever_happens_to_the_notices(history: list[Step]) -> None:
    """After one probe, since what was lost last shows in nothing else."""
    world = World()
    play(world, history)
    world.probe_and_settle()
    world.check_converged()


@given(histories(DISASTROUS))
@settings(max_examples=300)
def test_replicas_converge_although_the_server_loses_data(history: list[Step]) -> None:
    """By a failover to older data, or since the map's time to live was over: both end the connections."""
    world = World()
    play(world, history)
    world.probe_and_settle()
    world.check_converged()


@given(histories(FLUSHED))
@settings(max_examples=300)
def test_replicas_converge_although_the_map_vanishes_under_them(history: list[Step]) -> None:
    """By FLUSHALL, or the DEL of a stranger, while everybody stays connected and hears on."""
    world = World(is_strict=False)
    play(world, history)
    world.probe_and_settle()
    world.check_converged()


@given(histories(STORMY))
@settings(max_examples=300)
def test_reset_that_was_heard_is_told(history: list[Step]) -> None:
    """Also when a notice before it was lost, and the snapshot shows a later change (spec/pulse.md 1.8)."""
    world = World()
    play(world, history)
    world.probe_and_settle()
    assert [follower.reset_heard for follower in world.followers] == [0] * FOLLOWERS


@pytest.mark.parametrize("kinds", [ORDERLY, STORMY, DISASTROUS], ids=["calm", "storm", "disaster"])
def test_long_histories_converge(kinds: tuple[str, ...]) -> None:
    """Thousands of steps, with convergence in between as well."""
    for number in range(20 * TIMES):
        with seeded(number) as dice:
            world = World()
            for _ in range(5):
                play(world, drawn(dice, kinds, 150))
                world.probe_and_settle()
                world.check_converged()


# --- with the real scripts


REPLICAS = 5
TAMPERED = 0.2
KEYS = [f"key {number}" for number in range(12)]
MAX_VALUE = 100
VALUES = [
    *("", "0", "41", "-7", "007", " 7", "+5", "-0", "3.0", "9223372036854775807", 'ü/"\\', "text"),
    *("x,y,,z", ",", "5", "[]", '["a","b"]', ' ["a" ]', '["a"', "[1,2]", "[null]", '{"a":1}'),
    *('[["a"]]', '"a,b"', '["b\\/c","\\u007f"]', "true", "null"),
]
ITEMS = ["a", "b", "x", "ü", "x/y", 'q"', "back\\", "", "a,b", "\x01\x1f\x7f\n", "5", "long" * 5]
STEPS = [1, 1, -1, 1000, 2**62, 2**63 - 1, -(2**63)]
WEIGHTS = {
    "set": 30,
    "set_if_absent": 6,
    "test_and_set": 10,
    "inc": 15,
    "append_values": 10,
    "append_unique_values": 10,
    "remove_values": 8,
    "delete": 6,
    "test_and_delete": 4,
    "reset": 0.2,
    "test_and_reset": 0.4,
    "destroy": 0.1,
}


class Write(NamedTuple):
    """A call of a map, or of its model."""

    operation: str
    arguments: tuple[Any, ...]


def draw_write(dice: Random, content: Mapping[str, str]) -> Write:
    """Any operation. What is tested for is often true."""
    (operation,) = dice.choices([*WEIGHTS], [*WEIGHTS.values()])
    key, value = dice.choice(KEYS), dice.choice([*VALUES, f"v{dice.randrange(1000)}"])
    test = content.get(key, "") if dice.random() < 0.7 else value
    match operation:
        case "set" | "set_if_absent":
            return Write(operation, (key, value))
        case "test_and_set":
            return Write(operation, (key, test, value))
        case "test_and_delete":
            return Write(operation, (key, test))
        case "delete":
            return Write(operation, (key,))
        case "inc":
            return Write(operation, (key, dice.choice(STEPS)))
        case "test_and_reset":
            return Write(operation, ({key: test, dice.choice(KEYS): test},))
        case "reset" | "destroy":
            return Write(operation, ())
    return Write(operation, (key, *dice.choices(ITEMS, k=dice.randrange(4))))


def answer_of(model: ModelMap, write: Write) -> Any:
    """What the model answers, an error as a value."""
    try:
        return getattr(model, write.operation)(*write.arguments)
    except (ValueConflict, PayloadTooLarge) as error:
        return type(error), vars(error)


async def reply_of(replicated: ReplicatedMap[str], write: Write) -> Any:
    """What the server answers, an error as a value."""
    try:
        return await getattr(replicated, write.operation)(*write.arguments)
    except (ValueConflict, PayloadTooLarge) as error:
        return type(error), vars(error)


class TamperedEar:
    """Stands between the notifier and one replica: a fifth of the messages does not come through as it should."""

    def __init__(
        self, replicated: ReplicatedMap[str], dice: Random, states: dict[int, dict[str, str]]
    ) -> None:
        self.fates: Counter[str] = Counter()
        self.problems: list[str] = []
        self._replicated = replicated
        self._dice = dice
        self._states = states
        self._hear: Callable[[bytes], None] = replicated._follower.hear
        self._held: list[tuple[int, bytes]] = []
        self._last = 0

    def __call__(self, message: bytes) -> None:
        """A message has come."""
        fate = "passed"
        if self._dice.random() < TAMPERED:
            fate = self._dice.choice(["dropped", "doubled", "delayed"])
        self.fates[fate] += 1
        if fate in ("passed", "doubled"):
            self._pass_on(message)
        if fate in ("doubled", "delayed"):
            self._held.append((self.fates.total() + self._dice.randrange(6), message))
        for due, held in [late for late in self._held if late[0] <= self.fates.total()]:
            self._held.remove((due, held))
            self._pass_on(held)

    def _pass_on(self, message: bytes) -> None:
        self._note()
        self._hear(message)
        self._note()

    def _note(self) -> None:
        """Revisions only rise, and the content is the one that the server had at its revision."""
        revision = self._replicated.revision
        if revision < self._last:
            self.problems.append(f"the revision fell from {self._last} to {revision}")
        self._last = revision
        if self._states.get(revision, content := self._replicated.snapshot()) != content:
            self.problems.append(f"{content} is not the content of revision {revision}")


class Fold:
    """What a watcher has seen, made into a content."""

    def __init__(self, changes: Changes[str]) -> None:
        self.changes = changes
        self.content: dict[str, str] = {}
        self.seen = 0

    def see(self, change: Change[str]) -> None:
        """Each change fits what was seen before it."""
        self.seen += 1
        if change.key is None:
            self.content.clear()
            return
        assert change.error is None
        assert change.old == self.content.pop(change.key, None)
        if change.kind == "set":
            assert change.new is not None
            self.content[change.key] = change.new

    async def see_all(self) -> None:
        """As it comes, until the map is closed."""
        async for change in self.changes:
            self.see(change)

    def has_seen_all(self) -> bool:
        """Whether nothing waits."""
        return len(self.changes._pending) == 0

    async def see_what_waits(self) -> None:
        """All that has been joined since it looked last."""
        while not self.has_seen_all():
            self.see(await anext(self.changes))


class Fleet:
    """Five replicas of one map, each in a hub of its own, with an ear that tampers and two watchers."""

    def __init__(self, topology: Topology, raw: Raw, dice: Random) -> None:
        self.maps: list[ReplicatedMap[str]] = []
        self.ears: list[TamperedEar] = []
        self.eager: list[Fold] = []
        self.lazy: list[Fold] = []
        self.states: dict[int, dict[str, str]] = {}
        """The content of each revision, as far as the test knows it."""
        self._topology = topology
        self._raw = raw
        self._dice = dice

    def join(self, replicated: ReplicatedMap[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """One replica more."""
        ear = TamperedEar(replicated, self._dice, self.states)
        monkeypatch.setattr(replicated._follower, "hear", ear)
        self.maps.append(replicated)
        self.ears.append(ear)
        self.eager.append(Fold(replicated.changes()))
        self.lazy.append(Fold(replicated.changes(initial=True)))

    @property
    def key(self) -> str:
        """Of the content."""
        return self.maps[0]._store.content

    async def stored(self) -> dict[bytes, bytes]:
        """What the server has."""
        reply = await self._raw(self.key, "HGETALL", self.key)
        return dict(zip(reply[::2], reply[1::2], strict=True))

    async def disturb(self) -> None:
        """Cut one subscriber off, or all; and let a lazy watcher have a look."""
        await self._dice.choice(self.lazy).see_what_waits()
        server = await self._topology.node_of(self.key)
        listed = (await server.command("CLIENT", "LIST", "TYPE", "pubsub")).decode().split()
        numbers = [word[3:] for word in listed if word.startswith("id=")]
        if numbers and self._dice.random() < 0.7:
            await server.command("CLIENT", "KILL", "ID", self._dice.choice(numbers))
        else:
            await server.command("CLIENT", "KILL", "TYPE", "pubsub")

    async def check_converged(self, writes: int) -> None:
        """Everybody has what the server has, and everybody who watched knows it."""
        stored = await self.stored()
        content = {k.decode(): v.decode() for k, v in stored.items() if not k.startswith(b"=")}
        revision = int(stored[b"=rev"])
        for replicated in self.maps:
            await wait_until(
                partial(is_at, replicated, revision),
                what=f"a replica has reached revision {revision}: {replicated!r}",
            )
            assert replicated.snapshot() == content
        for fold in self.eager:
            await wait_until(fold.has_seen_all, what="the eager watcher has seen everything")
        for fold in self.lazy:
            await fold.see_what_waits()
        assert [fold.content for fold in (*self.eager, *self.lazy)] == [content] * 2 * REPLICAS
        assert [ear.problems for ear in self.ears] == [[]] * REPLICAS
        assert revision > writes / 2
        assert sum(replicated.statistics().cuts for replicated in self.maps) >= REPLICAS
        fates = sum((ear.fates for ear in self.ears), Counter())
        assert min(fates[fate] for fate in ("dropped", "doubled", "delayed")) > writes / 20


def is_at(replicated: ReplicatedMap[str], revision: int) -> bool:
    """Whether it has this revision, and nothing is known to be missing."""
    return replicated.ready and replicated.revision == revision


@pytest.fixture
async def fleet(
    topology: Topology,
    namespace: str,
    raw: Raw,
    make_map: MakeMap,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Fleet]:
    """The replicas, joined, with their eager watchers at work."""
    fleet = Fleet(topology, raw, Random(SEED))
    async with asyncio.TaskGroup() as watching, AsyncExitStack() as stack:
        for _ in range(REPLICAS):
            hub = await stack.enter_async_context(
                pulsewire.connect(topology.url, namespace=namespace)
            )
            replicated = make_map(of=hub, max_value=MAX_VALUE)
            await stack.enter_async_context(replicated)
            fleet.join(replicated, monkeypatch)
        for fold in fleet.eager:
            watching.create_task(fold.see_all())
        yield fleet


async def test_scripts_and_model_agree_on_a_history(fleet: Fleet) -> None:
    """Every reply is the one that the specification predicts, and so is every field of the hash.

    The writes go through all five replicas in turn, while what they hear is tampered with.
    """
    writes = 5_000 * TIMES
    with seeded() as dice:
        model = ModelMap(fleet.maps[0].name, MAX_VALUE)
        for number in range(writes):
            write = draw_write(dice, model.content)
            predicted = answer_of(model, write)
            fleet.states[model.revision] = dict(model.content)
            assert await reply_of(dice.choice(fleet.maps), write) == predicted, (number, write)
            if number % 500 == 250:
                await fleet.disturb()
                assert await fleet.stored() == model.stored()
        assert await fleet.stored() == model.stored()
        await fleet.check_converged(writes)


async def test_five_replicas_converge_under_ten_thousand_writes(fleet: Fleet) -> None:
    """With 20% of the messages dropped, doubled or reordered, and random disconnects.

    Equal content, revisions that only rise, no final value unreported: to no watcher, neither an eager nor a lazy one.
    """
    writes, writers = 10_000 * TIMES, 20
    numbers = iter(range(writes))
    with seeded() as dice:

        async def write() -> None:
            replicated = dice.choice(fleet.maps)
            for number in numbers:
                await reply_of(replicated, draw_write(dice, replicated.snapshot()))
                if number % 500 == 250:
                    await fleet.disturb()

        async with asyncio.TaskGroup() as writing:
            for _ in range(writers):
                writing.create_task(write())
        await fleet.check_converged(writes)


@on_one_server
async def test_value_that_python_takes_for_the_same_is_told(
    make_map: MakeMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Python 1 == True, in JSON not: a change between them must not go under in a snapshot either."""
    async with make_map(codec=pulsewire.JSON) as replicated:
        await replicated.set_and_wait("k", [1])
        changes = replicated.changes()
        monkeypatch.setattr(replicated._follower, "hear", lambda _message: None)
        await replicated.set("k", [True])
        await wait_until(partial(is_at, replicated, 2), what="a probe has found the loss")
    assert [change.new async for change in changes] == [[True]]
