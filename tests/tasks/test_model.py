"""Random histories of script calls, through the scripts and a model of the specification: they always agree.

After each call the replies are compared, then everything that lies in Redis, then the rules of the specification are
held against what the call has changed (faults.md F32). A Go server and an inspector take part. Leases lapse, and times
come, by scores in the past, since the server's clock cannot be moved.

Environment:
    PULSEWIRE_HISTORIES=10: so many times as many steps.
    PULSEWIRE_HISTORY_SEED=123: the histories of a run that failed, which has told its seed.
"""

from __future__ import annotations

import copy
import os
import secrets
from collections import Counter
from random import Random
from typing import Any, NamedTuple, get_args

import pytest

from pulsewire._redis.namespace import Namespace
from pulsewire.tasks.keys import QueueKeys
from pulsewire.tasks.states import MOVES, TaskState
from pulsewire.tasks.store import Leaving, Order, Plan, Verb
from tests.tasks.content import Content, Window, text
from tests.tasks.golang import Go
from tests.tasks.model import ModelQueue, broken_rules
from tests.tasks.scenes import DAY, FAR_AHEAD, LONG_AGO, ZSETS, Queue, packed

TOPOLOGIES = ["standalone", "cluster", "redis7"]
TIMES = int(os.environ.get("PULSEWIRE_HISTORIES", "1"))
SEED = int(os.environ.get("PULSEWIRE_HISTORY_SEED", "0")) or secrets.randbits(32)
STEPS = 400
LEASE = 5000.0
IDS = ["a", "b", "c", "d", "e:1", "ü f", "g", "h", "i"]
GROUPS = ["G", "H:1"]
SETS = ["S1", "S2"]
SERVERS = ["server-1", "server-2"]
TYPES = ["t", "u"]
VERBS: list[Any] = [verb for verb in get_args(Verb) if verb != "recover"]

# What may happen in a history, and how often. The queue is small, so that calls meet.
WEIGHTS = {
    "enqueue": 30,
    "take": 22,
    "mine": 2,
    "done": 10,
    "leave": 16,
    "extend": 5,
    "write result": 3,
    "note alone": 2,
    "lapse": 6,
    "lapsed": 4,
    "recover": 5,
    "come due": 8,
    "forward": 8,
    "expire": 3,
    "forget": 3,
    "age": 5,
    "gather": 12,
    "members": 2,
    "bundle": 10,
    "end set": 2,
    "reclaim": 3,
    "unlock": 1,
    "pause": 0.7,
    "resume": 3,
    "go dequeue": 5,
    "go done": 3,
    "go retry": 3,
    "go requeue": 1,
    "go run": 3,
    "go delete": 2,
    "repeat": 8,
}


class Call(NamedTuple):
    """One method of the store, of the queue or of Go, and of the model."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]

    def __repr__(self) -> str:
        options = (f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({', '.join([*map(repr, self.args), *options])})"


def call(name: str, *args: Any, **options: Any) -> Call:
    """A call, as it would be written."""
    return Call(name, args, options)


class Dice:
    """Draws calls that make sense as the queue is, and now and then ones that do not."""

    def __init__(self, random: Random, model: ModelQueue) -> None:
        self.random = random
        self.model = model
        self._requests = 0

    def draw(self) -> Call:
        """What happens next."""
        while True:
            name = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            drawn: Call | None = getattr(self, f"_{name.replace(' ', '_')}")()
            if drawn is not None:
                return drawn

    def _one_in(self, n: int) -> bool:
        return self.random.randrange(n) == 0

    def _names(self, name: str) -> list[str]:
        return sorted(self.model.content.get(name, []))

    def _any(self, name: str) -> str | None:
        found = self._names(name)
        return self.random.choice(found) if found else None

    def _owner_of(self, task_id: str) -> str:
        fields = self.model.hash(task_id) or {}
        owner = text(fields.get("pulsewire:owner", SERVERS[0].encode()))
        return self.random.choice(SERVERS) if self._one_in(6) else owner

    def _active(self) -> str:
        found = self._any("active")
        return self.random.choice(IDS) if found is None or self._one_in(8) else found

    # --- new tasks

    def _order(self, task_id: str, *, with_tick: bool = True) -> Order:
        own: list[str] = []
        keys = self.model.keys
        lock = ""
        plan = Plan()
        if self._one_in(3):
            lock = keys.lock(self.random.choice(TYPES), None)
            own.append(lock)
            plan.lock, plan.ttl = len(own), self.random.choice([1000, 5000])
        if self._one_in(2):
            plan.name = self.random.choice(GROUPS)
            own.append(keys.group(plan.name))
            plan.group = len(own)
        if self._one_in(6):
            plan.at = self.random.choice([LONG_AGO, FAR_AHEAD]) * 1000 - self.random.randrange(1000)
        elif self._one_in(6):
            plan.delay = 1_000_000 + self.random.randrange(10_000)
        if with_tick and self._one_in(12):
            own.append(keys.tick("every-minute"))
            plan.tick, plan.due = len(own), self.random.randrange(60, 70)
        message = packed(task_id, unique_key=lock, group_key=plan.name or "")
        return Order(task_id, message, None if plan == Plan() else plan, own)

    def _enqueue(self) -> Call:
        self._requests += 1
        orders = [self._order(self.random.choice(IDS)) for _ in range(self.random.randrange(1, 4))]
        return call("enqueue", *orders, request=self._requests)

    # --- running them

    def _take(self) -> Call:
        return call("take", self.random.randrange(1, 4), LEASE, self.random.choice(SERVERS))

    def _mine(self) -> Call:
        return call("mine", self.random.choice(SERVERS), self.random.choice([0, 0, 1]), LEASE)

    def _done(self) -> Call | None:
        """Tasks with a lock leave by `leave`."""
        first = self._active()
        ids = {first, *(self.random.sample(IDS, 2) if self._one_in(4) else [])}
        plain = sorted(one for one in ids if "unique_key" not in (self.model.hash(one) or {}))
        return call("done", *plain, owner=self._owner_of(first)) if plain else None

    def _leaving(self, task_id: str) -> Leaving:
        fields = self.model.hash(task_id) or {}
        verb = self.random.choice(VERBS)
        lock = text(fields.get("unique_key", b""))
        message = packed(task_id, retried=1, unique_key=lock, error_msg="öh no")
        with_message = verb in ("complete", "retry", "again", "archive")
        return Leaving(task_id, verb, message if with_message else b"", 1000.0, lock)

    def _leave(self) -> Call:
        first = self._active()
        ids = {first, *(self.random.sample(IDS, 1) if self._one_in(3) else [])}
        leaving = [self._leaving(task_id) for task_id in sorted(ids)]
        return call("leave", self._owner_of(first), leaving, DAY)

    def _extend(self) -> Call:
        first = self._active()
        ids = {first, *self.random.sample(IDS, self.random.randrange(3))}
        return call("extend", self._owner_of(first), sorted(ids), LEASE)

    def _write_result(self) -> Call:
        task_id = self._active()
        return call("write_result", self._owner_of(task_id), task_id, b"\x00result")

    def _note_alone(self) -> Call:
        task_id = self._active()
        return call("note_alone", self._owner_of(task_id), task_id)

    def _lapse(self) -> Call | None:
        task_id = self._any("lease")
        if task_id is None:
            return None
        is_ours = not float(self.model.content["lease"][task_id]).is_integer()
        return call("pass_by", "lease", task_id, LONG_AGO + 0.5 * is_ours)

    def _lapsed(self) -> Call:
        return call("lapsed")

    def _recover(self) -> Call:
        found = self.model.lapsed()
        ids = [one.task_id for one in found] or [self._active()]
        verbs: list[Any] = ["recover", "recover", "archive", "retry"]
        leaving = []
        for task_id in ids:
            verb = self.random.choice(verbs)
            message = b"" if verb == "recover" else packed(task_id)
            number = self.random.randrange(2) if verb == "recover" else 1000.0
            leaving.append(Leaving(task_id, verb, message, number))
        return call("leave", "", leaving, DAY)

    # --- upkeep

    def _come_due(self) -> Call | None:
        name = self.random.choice(["scheduled", "retry"])
        task_id = self._any(name)
        return task_id and call("pass_by", name, task_id, LONG_AGO + self.random.randrange(9))  # type: ignore[return-value]  # None for none

    def _forward(self) -> Call:
        return call("forward")

    def _expire(self) -> Call | None:
        name = self.random.choice(["completed", "archived"])
        task_id = self._any(name)
        return task_id and call("pass_by", name, task_id, LONG_AGO)  # type: ignore[return-value]  # as above

    def _forget(self) -> Call:
        return call("forget", 100)

    # --- groups

    def _age(self) -> Call | None:
        group = f"g:{self.random.choice(GROUPS)}"
        task_id = self._any(group)
        return task_id and call("pass_by", group, task_id, LONG_AGO + self.random.randrange(9))  # type: ignore[return-value]  # as above

    def _gather(self) -> Call | None:
        group, set_id = self.random.choice(GROUPS), self.random.choice(SETS)
        if f"g:{group}:{set_id}" in self.model.content:
            return None  # a set's id is random, and never comes again
        most, delay = self.random.choice([0, 2]), self.random.choice([0.0, 5000.0])
        return call("gather", group, set_id, most=most, delay=delay, grace=5000.0, life=5000.0)

    def _set(self) -> tuple[str, str]:
        known = [
            (group, set_id)
            for group in GROUPS
            for set_id in SETS
            if f"g:{group}:{set_id}" in self.model.content
        ]
        if known and not self._one_in(8):
            return self.random.choice(known)
        return self.random.choice(GROUPS), self.random.choice(SETS)

    def _members(self) -> Call:
        return call("members", *self._set(), 0)

    def _bundle(self) -> Call:
        free = [task_id for task_id in IDS if self.model.hash(task_id) is None]
        task_id = self.random.choice(IDS if not free or self._one_in(4) else free)
        return call("bundle", *self._set(), self._order(task_id, with_tick=False))

    def _end_set(self) -> Call | None:
        key = self._any("aggregation_sets")
        return key and call("pass_by", "aggregation_sets", key, LONG_AGO)  # type: ignore[return-value]  # as above

    def _reclaim(self) -> Call:
        return call("reclaim", *(self._set() if self._one_in(2) else ()))

    # --- others

    def _unlock(self) -> Call | None:
        locks = sorted(name for name in self.model.content if name.startswith("unique:"))
        return call("unlock", self.random.choice(locks)) if locks else None

    def _pause(self) -> Call:
        return call("pause")

    def _resume(self) -> Call | None:
        return call("resume") if "paused" in self.model.content else None

    def _go_dequeue(self) -> Call:
        return call("go_dequeue", FAR_AHEAD)

    def _go_done(self) -> Call | None:
        task_id = self._run_by_go()
        if "unique_key" in (self.model.hash(task_id or "") or {}):
            return None  # Go has another script for those
        return task_id and call("go_done", task_id)  # type: ignore[return-value]  # as above

    def _go_retry(self) -> Call | None:
        """By the server that runs it, or by a recoverer, from whoever's hands."""
        task_id = self._run_by_go() or self._any("lease")
        message = packed(task_id or "", retried=1)
        return task_id and call("go_retry", task_id, message, FAR_AHEAD)  # type: ignore[return-value]  # as above

    def _go_requeue(self) -> Call | None:
        task_id = self._run_by_go()
        return task_id and call("go_requeue", task_id)  # type: ignore[return-value]  # as above

    def _run_by_go(self) -> str | None:
        leases = self.model.content.get("lease", {})
        found = sorted(one for one, score in leases.items() if float(score).is_integer())
        return self.random.choice(found) if found else None

    def _go_run(self) -> Call:
        return call("go_run", self.random.choice(IDS))

    def _go_delete(self) -> Call:
        return call("go_delete", self.random.choice(IDS))

    def _repeat(self) -> Call:
        return call("repeat")


class Witness:
    """Both queues, and what lies in Redis."""

    def __init__(self, queue: Queue, number: int) -> None:
        self.queue = queue
        self.go = Go(queue)
        self.model = ModelQueue(queue.keys)
        self.dice = Dice(Random(f"{SEED} {number}"), self.model)
        self.told: list[tuple[Call, Any]] = []

    async def step(self) -> None:
        """One call, through both."""
        drawn = self.dice.draw()
        if drawn.name == "repeat":
            if not self.told:
                return
            drawn = self.told[-1][0]
            if drawn.name in NOT_REPEATED:
                return
        was = copy.deepcopy(self.model.content)
        async with self.queue.window() as window:
            reply = await self._carry_out(drawn)
        self.told.append((drawn, reply))
        found = await self.queue.content()
        self.model.window = window
        expected = getattr(self.model, drawn.name)(*drawn.args, **drawn.options)
        assert reply == expected
        assert found == self.model.content
        self.model.adopt(found)
        assert broken_rules(was, found) == []

    async def _carry_out(self, drawn: Call) -> object:
        name, args, options = drawn
        send, keys = self.queue.send, self.queue.keys
        if name == "pass_by":
            which, member, score = args
            await send("ZADD", keys.prefix + which, "XX", score, member)
        elif name == "unlock":
            await send("DEL", keys.prefix + args[0])
        elif name == "pause":
            await send("SET", keys.paused, 1)
        elif name == "resume":
            await send("DEL", keys.paused)
        elif name == "forward":
            return (await self.queue.store.forward())[0]
        elif name.startswith("go_"):
            return await getattr(self.go, name[3:])(*args)
        elif name in ("enqueue", "done"):
            return await getattr(self.queue, name)(*args, **options)
        else:
            return await getattr(self.queue.store, name)(*args, **options)
        return None


NOT_REPEATED = {"go_done", "go_retry", "go_requeue", "go_dequeue", "gather"}
"""Go's scripts answer with errors then, and a set's id never comes again."""


@pytest.mark.parametrize("number", range(2))
async def test_scripts_and_model_agree_on_every_history(queue: Queue, number: int) -> None:
    """The same replies, the same content, and no rule broken; calls repeated as after a lost reply, too."""
    witness = Witness(queue, number)
    steps = STEPS * TIMES
    for done in range(steps):
        try:
            await witness.step()
        except BaseException as error:
            error.add_note(
                f"to see it again: PULSEWIRE_HISTORY_SEED={SEED}; step {done} of {steps}:"
            )
            for said in witness.told[-6:]:
                error.add_note(f"  {said[0]} -> {said[1]}")
            raise


def test_histories_come_to_every_outcome_and_move() -> None:
    """A history that only sees refusals proves nothing. Played by the model alone; these dice are always the same."""
    expected: dict[str, set[Any]] = {
        "enqueue": {
            *("pending", "scheduled", "aggregating", "conflict", "duplicate", "fired"),
        },
        "take": {"taken", "empty", "paused"},
        "leave": {"left", "other", "gone", "held"},
        "gather": {"gathered", "wait", "empty"},
        "bundle": {
            "pending",
            "scheduled",
            "aggregating",
            "conflict",
            "duplicate",
            "bundled",
            "lapsed",
        },
        "write_result": {True, False},
        "go_run": {True, False},
    }
    seen: Counter[tuple[str, Any]] = Counter()
    moves: set[tuple[Any, Any]] = set()
    for number in range(12):
        model = ModelQueue(QueueKeys(Namespace(""), "default"))
        dice = Dice(Random(f"every outcome {number}"), model)
        for step in range(STEPS):
            drawn = dice.draw()
            if drawn.name == "repeat":
                continue
            now = 1_700_000_000.25 + step
            model.window = Window(now, now)
            was = copy.deepcopy(model.content)
            reply = getattr(model, drawn.name)(*drawn.args, **drawn.options)
            _fix(model.content)
            assert broken_rules(was, model.content) == []
            moves |= _moves(was, model.content)
            for outcome in _outcomes(drawn.name, reply) if drawn.name in expected else ():
                seen[drawn.name, outcome] += 1
    assert set(seen) == {(name, outcome) for name in expected for outcome in expected[name]}
    assert min(seen.values()) >= 3, seen
    unseen = {(was, now) for was, nows in MOVES.items() for now in nows} - moves
    assert {pair for pair in unseen if TaskState.ARCHIVED not in pair} == set()


def _outcomes(name: str, reply: Any) -> list[Any]:
    if name == "enqueue":
        return [text(word) for word in reply[1:]]
    if name == "leave":
        return list(reply)
    return [reply if isinstance(reply, (bool, str)) else reply.outcome]


def _fix(content: Content) -> None:
    """Times become those that the server would have meant."""
    for name in (*ZSETS, "lease", "aggregation_sets", *(n for n in content if n.startswith("g:"))):
        for member, score in content.get(name, {}).items():
            content[name][member] = _number(score)


def _number(score: Any) -> float:
    return float(score) if isinstance(score, (int, float)) else float(score.low)


def _moves(was: Content, now: Content) -> set[tuple[Any, Any]]:
    names = {name for name in was.keys() | now.keys() if name.startswith("t:")}
    pairs = {(_state(was.get(name)), _state(now.get(name))) for name in names}
    return {(old, new) for old, new in pairs if old != new}


def _state(fields: dict[str, bytes] | None) -> TaskState | None:
    return TaskState(text(fields["state"])) if fields else None
