"""Random histories of script calls, through the scripts and through a model of the protocol: they agree at every step.

After each call the replies are compared, then everything that lies in Redis, then the rules of the protocol are held
against what the call has changed. A lease lapses by a score in the past, since the server's clock cannot be moved.

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
from typing import Any, NamedTuple

import pytest

from pulsewire.pool.store import PoolStore
from pulsewire.testing import SingleServer, Topology
from tests.pool.model import Content, Entry, Fields, ModelPool, broken_rules

TOPOLOGIES = ["standalone", "cluster", "redis7"]
TIMES = int(os.environ.get("PULSEWIRE_HISTORIES", "1"))
SEED = int(os.environ.get("PULSEWIRE_HISTORY_SEED", "0")) or secrets.randbits(32)
STEPS = 500
TTL = 1000.0
FLAG_TTL = 1000.0
KEYS = ["a", "b", "c", "d", "ü e"]
NODES = ["N1", "N2"]
PAST = 1
STRANGER = "W0"

# What may happen in a history, and how often. The pool is small, so that calls meet.
WEIGHTS = {
    "enrol": 4,
    "enrol again": 1,
    "renew": 3,
    "lapse": 2,
    "leave": 3,
    "dispatch": 18,
    "started": 14,
    "failed": 6,
    "ended": 5,
    "assign": 18,
    "come due": 3,
    "stop": 5,
    "notify": 5,
    "progress": 6,
    "done": 2,
    "survey": 5,
    "end janitor": 1,
    "ask for shutdown": 0.4,
    "end shutdown": 2,
    "run ahead": 2,
    "repeat": 12,
}


class Call(NamedTuple):
    """One method of the store, and of the model."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]

    def __repr__(self) -> str:
        said = [
            *map(repr, self.args),
            *(f"{name}={value!r}" for name, value in self.options.items()),
        ]
        return f"{self.name}({', '.join(said)})"


def call(name: str, *args: Any, **options: Any) -> Call:
    """A call, as it would be written."""
    return Call(name, args, options)


class Dice:
    """Draws calls that make sense as the pool is, and now and then ones that do not."""

    def __init__(self, random: Random, model: ModelPool) -> None:
        self.random = random
        self.model = model
        self.workers: list[str] = []
        self.requests = [f"R{n}" for n in range(3)]
        self._numbers = 0

    def _one_in(self, n: int) -> bool:
        return self.random.randrange(n) == 0

    def _new(self, letter: str) -> str:
        self._numbers += 1
        return f"{letter}{self._numbers}"

    def _some_worker(self) -> str:
        live = [worker for worker in self.workers if self.model.holds(worker)]
        return self.random.choice(self.workers[-6:] if self._one_in(3) or not live else live)

    def _request(self) -> str:
        request = self.random.choice(self.requests) if self._one_in(4) else self._new("R")
        self.requests = [*self.requests[-3:], request]
        return request

    def _key(self) -> str:
        """Of a job that is there, if there is one."""
        jobs = self.model.content.jobs
        return self.random.choice(sorted(jobs) if jobs and not self._one_in(8) else KEYS)

    def _owner(self, key: str) -> str:
        """The owner of a job, or what an old view says."""
        job = self.model.content.jobs.get(key)
        return job["owner"] if job and not self._one_in(3) else self._some_worker()

    def _held(self) -> tuple[str, str, int, str, str]:
        """What a worker believes of a job: key, worker, epoch, entry of its inbox, node of the dispatcher."""
        boxes = self.model.content.inboxes
        entries = [(worker, entry) for worker, box in boxes.items() for entry in box]
        jobs = [(key, job) for key, job in self.model.content.jobs.items() if job["owner"]]
        if entries and self._one_in(2):
            worker, entry = self.random.choice(entries)
            fields = entry.fields
            key, epoch, name = fields["key"], int(fields["epoch"]), entry.id
        elif jobs:
            key, job = self.random.choice(jobs)
            worker, epoch = job["owner"], int(job["epoch"])
            mine = [e.id for e in boxes.get(worker, []) if e.fields["key"] == key]
            name = self.random.choice(mine) if mine else ""
        else:
            key, worker, epoch, name = self.random.choice(KEYS), self._some_worker(), 1, ""
        if self._one_in(12):
            worker = self._some_worker()
        if self._one_in(12):
            epoch -= 1
        return key, worker, epoch, name, self.model.content.jobs.get(key, {}).get("node", "")

    def draw(self) -> Call:
        """What happens next."""
        if not self.workers:
            self.workers.append(STRANGER)
            return call("enrol", self._enrolling(), TTL)
        name = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        drawn: Call = getattr(self, f"_{name.replace(' ', '_')}")()
        return drawn

    def _enrolling(self) -> str:
        self.workers.append(self._new("W"))
        return self.workers[-1]

    def _enrol(self) -> Call:
        return call("enrol", self._enrolling(), TTL)

    def _enrol_again(self) -> Call:
        # the reply was lost; its lease holds, since nobody waits that long
        live = [worker for worker in self.workers if self.model.holds(worker)]
        return call("enrol", self.random.choice(live), TTL) if live else self._enrol()

    def _renew(self) -> Call:
        count = self.random.randrange(1, 4)
        return call("renew", self.random.sample(self.workers, min(count, len(self.workers))), TTL)

    def _lapse(self) -> Call:
        return call("lapse", self._some_worker(), PAST)

    def _leave(self) -> Call:
        return call("leave", self._some_worker(), is_dead=self._one_in(2))

    def _dispatch(self) -> Call:
        worker = "" if self._one_in(4) else self._some_worker()
        return call(
            "dispatch",
            self.random.choice(KEYS),
            self.random.choice([b"", b"payload"]),
            worker,
            request=self._request(),
            node=self.random.choice(["", *NODES]),
            max_queued=self.random.choice([2, 100]),
            park=self._one_in(3),
        )

    def _started(self) -> Call:
        key, worker, epoch, entry, node = self._held()
        return call("started", key, worker, epoch, entry or "1-1", node)

    def _failed(self) -> Call:
        key, worker, epoch, entry, node = self._held()
        pause, is_start = self.random.choice([0.0, 900.0]), not self._one_in(3)
        said = {"node": node, "error": "öh no", "again_in": pause, "is_start": is_start}
        return call("failed", key, worker, epoch, entry if is_start else "", **said)

    def _ended(self) -> Call:
        return call("ended", *self._held()[:4])

    def _assign(self) -> Call:
        key = self._key()
        job = self.model.content.jobs.get(key, {})
        old = job.get("owner", "") if not self._one_in(6) else self._some_worker()
        new = "" if self._one_in(4) else self._some_worker()
        epoch = int(job.get("epoch", "0")) - self._one_in(8)
        return call("assign", key, old, None if self._one_in(2) or not old else epoch, new)

    def _come_due(self) -> Call:
        return call("come_due", self.random.choice(KEYS), PAST)

    def _stop(self) -> Call:
        key = self._key()
        request, node = self.random.choice(["S1", "S2"]), self.random.choice(["", *NODES])
        return call("stop", key, self._owner(key), request, node)

    def _notify(self) -> Call:
        key = self._key()
        return call("notify", key, self._owner(key), b"hear")

    def _progress(self) -> Call:
        return call("progress", *self._held()[:3], self.random.choice([None, "", "half"]))

    def _done(self) -> Call:
        _, worker, _, entry, _ = self._held()
        return call("done", worker, entry or "1-1")

    def _survey(self) -> Call:
        return call("survey", self.random.choice(NODES))

    def _ask_for_shutdown(self) -> Call:
        return call("ask_for_shutdown", self.random.choice(NODES))

    def _end_janitor(self) -> Call:
        return call("end_janitor")

    def _end_shutdown(self) -> Call:
        return call("end_shutdown")

    def _run_ahead(self) -> Call:  # as under load, with more than one epoch in a ms
        return call("run_ahead", max(self.model.content.epoch, self.model.now) + 2000)

    def _repeat(self) -> Call:
        return call("repeat")


class Witness:
    """Both pools, and what lies in Redis."""

    def __init__(self, store: PoolStore, server: SingleServer, number: int) -> None:
        self.store = store
        self.server = server
        self.model = ModelPool()
        self.dice = Dice(Random(f"{SEED} {number}"), self.model)
        self.told: list[tuple[Call, Any]] = []

    async def _now(self) -> int:
        return int(await self.store.link.time() * 1000)

    async def step(self) -> None:
        """One call, through both."""
        self.model.now = before = await self._now()
        drawn = self.dice.draw()
        if drawn.name == "repeat":
            if not self.told:
                return
            drawn = self.told[-1][0]
        was = copy.deepcopy(self.model.content)
        reply = await self._carry_out(drawn)
        self.told.append((drawn, reply))
        found = await self.read()
        self.model.now = _when(drawn, was, found, before, await self._now())
        expected = self._foretell(drawn)
        assert reply == expected
        assert found.told() == self.model.content.told()
        _adopt(self.model.content.inboxes, found.inboxes)
        _adopt(self.model.content.replies, found.replies)
        assert broken_rules(was, found, self.model.now) == []

    def _foretell(self, drawn: Call) -> object:
        told: object = getattr(self.model, drawn.name)(*drawn.args, **drawn.options)
        return told

    async def _carry_out(self, drawn: Call) -> object:
        keys = self.store.keys
        if drawn.name == "lapse":
            worker, end = drawn.args
            await self.server.command("ZADD", keys.leases, "XX", end, worker)
        elif drawn.name == "come_due":
            key, due = drawn.args
            await self.server.command("ZADD", keys.waiting, "XX", due, key)
        elif drawn.name == "run_ahead":
            await self.server.command("SET", keys.epoch, drawn.args[0])
        elif drawn.name == "end_shutdown":
            await self.server.command("UNLINK", keys.shutdown)
        elif drawn.name == "end_janitor":
            await self.server.command("UNLINK", keys.janitor)
        elif drawn.name == "survey":
            survey = await self.store.survey(*drawn.args)
            await self.server.command("PERSIST", keys.janitor)  # time passes by `end_janitor` alone
            return survey
        elif drawn.name == "ask_for_shutdown":
            return await self.store.ask_for_shutdown(drawn.args[0], FLAG_TTL)
        else:
            told: object = await getattr(self.store, drawn.name)(*drawn.args, **drawn.options)
            return told
        return None

    async def read(self) -> Content:
        """Everything, and that nothing else is there."""
        keys, workers = self.store.keys, self.dice.workers
        commands: dict[tuple[str, str], tuple[str, ...]] = {
            **{("job", key): ("HGETALL", keys.job(key)) for key in KEYS},
            **{("owned", worker): ("SMEMBERS", keys.owned(worker)) for worker in workers},
            **{("inbox", w): ("XRANGE", keys.inbox(w), "-", "+") for w in workers},
            **{("replies", n): ("XRANGE", keys.replies(n), "-", "+") for n in NODES},
            ("leases", ""): ("ZRANGE", keys.leases, "0", "-1", "WITHSCORES"),
            ("starting", ""): ("ZRANGE", keys.starting, "0", "-1", "WITHSCORES"),
            ("waiting", ""): ("ZRANGE", keys.waiting, "0", "-1", "WITHSCORES"),
            ("epoch", ""): ("GET", keys.epoch),
            ("janitor", ""): ("GET", keys.janitor),
            ("shutdown", ""): ("GET", keys.shutdown),
            ("all", ""): ("KEYS", keys.meta.replace("meta", "*")),
        }
        replies = await self.server.pipeline(*commands.values())
        found = dict(zip(commands, replies, strict=True))
        known = {command[1].encode() for command in commands.values()}
        assert set(found["all", ""]) <= known
        return Content(
            jobs={key: _pairs(found["job", key]) for key in KEYS if found["job", key]},
            leases=_scores(found["leases", ""]),
            owned={w: {_text(key) for key in found["owned", w]} for w in workers},
            inboxes={w: _entries(found["inbox", w]) for w in workers},
            replies={n: _entries(found["replies", n]) for n in NODES},
            starting=_scores(found["starting", ""]),
            waiting=_scores(found["waiting", ""]),
            epoch=int(found["epoch", ""] or 0),
            janitor=_text(found["janitor", ""] or b""),
            shutdown=_text(found["shutdown", ""] or b""),
        )


def _when(drawn: Call, was: Content, found: Content, before: int, after: int) -> int:
    """The time at which a script ran, if it has left any; it was between these two."""
    if drawn.name in ("enrol", "renew"):
        ends = [end for worker, end in found.leases.items() if was.leases.get(worker) != end]
        times = [end - int(TTL * 1000) for end in ends]
    else:
        key = str(drawn.args[0]) if drawn.args else ""
        job, old = found.jobs.get(key, {}), was.jobs.get(key, {})
        times = [int(job["since"])] if job and job["since"] != old.get("since") else []
    for time in times:
        assert before <= time <= after
    return times[0] if times else before


def _adopt(ours: dict[str, list[Entry]], theirs: dict[str, list[Entry]]) -> None:
    for name, box in ours.items():
        for mine, there in zip(box, theirs.get(name, []), strict=True):
            mine.id = there.id


def _text(value: bytes) -> str:
    return value.decode()


def _pairs(reply: dict[bytes, bytes] | list[bytes]) -> Fields:
    if isinstance(reply, dict):
        return {_text(name): _text(value) for name, value in reply.items()}
    return {_text(n): _text(v) for n, v in zip(reply[::2], reply[1::2], strict=True)}


def _scores(reply: list[Any]) -> dict[str, int]:
    if reply and isinstance(reply[0], bytes):
        reply = list(zip(reply[::2], reply[1::2], strict=True))
    return {_text(member): int(float(score)) for member, score in reply}


def _entries(reply: list[Any]) -> list[Entry]:
    return [Entry(_pairs(fields), _text(entry)) for entry, fields in reply]


@pytest.mark.parametrize("number", range(3))
async def test_scripts_and_model_agree_on_every_history(
    store: PoolStore, topology: Topology, number: int
) -> None:
    """The same replies, the same content, and no rule broken; calls repeated as after a lost reply, too."""
    witness = Witness(store, await topology.node_of(store.keys.meta), number)
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


def test_histories_come_to_every_outcome() -> None:
    """A history that only sees refusals proves nothing. Played by the model alone; these dice are always the same."""
    expected = {
        "enrol": ["enrolled", "shutdown"],
        "leave": ["left", "owns", "alive"],
        "dispatch": [
            *("given", "parked", "repeated", "exists", "full", "shutdown", "lapsed", "wanted")
        ],
        "started": ["running", "stopping", "stale"],
        "failed": ["ended", "waiting", "stopping", "stale"],
        "ended": ["ended", "stale"],
        "assign": [
            *("given", "parked", "lapsed", "early", "stopping", "alive", "stale", "shutdown")
        ],
        "stop": ["stopping", "ended", "missing", "elsewhere"],
        "notify": ["sent", "missing", "waiting", "elsewhere"],
        "progress": ["starting", "running", "stopping", "stale"],
        "survey": ["idle", "busy", "work"],
    }
    seen: Counter[tuple[str, str]] = Counter()
    for number in range(10):
        model = ModelPool()
        dice = Dice(Random(f"every outcome {number}"), model)
        model.now = 10**12
        for step in range(STEPS):
            model.now += 1
            drawn = dice.draw()
            if drawn.name == "repeat":
                continue
            reply = getattr(model, drawn.name)(*drawn.args, **drawn.options)
            for box in (*model.content.inboxes.values(), *model.content.replies.values()):
                for entry in box:
                    entry.id = entry.id or f"{step}"
            if drawn.name in expected:
                seen[drawn.name, reply if isinstance(reply, str) else reply.outcome] += 1
    assert set(seen) == {(name, outcome) for name in expected for outcome in expected[name]}
    assert min(seen.values()) >= 5, seen
