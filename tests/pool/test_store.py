"""Each script of a pool alone: every outcome that its header names, the same when it is repeated, nothing when refused.

How they work together is in `test_model.py`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pulsewire import ServerFull
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.scripts import Script
from pulsewire.pool import store as store_module
from pulsewire.pool.keys import PoolKeys
from pulsewire.pool.store import Answer, Ended, PoolStore, Survey
from pulsewire.testing import SingleServer, Topology
from tests._redis.kit import opened_link
from tests.facts import Raw

TOPOLOGIES = ["standalone", "cluster", "redis7"]
TTL = 1000.0
TEXT = "öh no"


class Pool:
    """A pool with a living worker W, a dead one D, and ways to bring jobs into every state."""

    def __init__(self, store: PoolStore, raw: Raw) -> None:
        self.store = store
        self.keys = store.keys
        self._raw = raw

    async def send(self, *command: Any) -> Any:
        """A bare command."""
        return await self._raw(self.keys.meta, *command)

    async def dispatch(
        self,
        key: str = "k",
        worker: str = "W",
        request: str = "R",
        *,
        node: str = "N",
        max_queued: int = 100,
        park: bool = False,
    ) -> Answer:
        """A dispatch of a small payload."""
        return await self.store.dispatch(
            key, b"pay", worker, request=request, node=node, max_queued=max_queued, park=park
        )

    async def waiting(self, key: str = "k") -> None:
        """A job without an owner."""
        await self.dispatch(key, "", park=True)

    async def starting(self, key: str = "k", worker: str = "W") -> int:
        """A job that was given to its owner; its epoch."""
        return (await self.dispatch(key, worker)).number

    async def running(self, key: str = "k", worker: str = "W") -> int:
        """A job that runs; its epoch."""
        epoch = await self.starting(key, worker)
        entry = (await self.store.orders(worker, "-", 100))[-1][0]
        assert await self.store.started(key, worker, epoch, entry, "N") == "running"
        return epoch

    async def stopping(self, key: str = "k", worker: str = "W") -> int:
        """A job that shall stop; its epoch."""
        epoch = await self.running(key, worker)
        assert (await self.store.stop(key, worker, "S", "N2")).outcome == "stopping"
        return epoch

    async def die(self, worker: str) -> None:
        """Its lease lapses."""
        await self.send("ZADD", self.keys.leases, "XX", 1, worker)

    async def raise_flag(self) -> None:
        """Somebody asks for the end of the pool."""
        await self.store.ask_for_shutdown("N9", TTL)

    async def started(self, key: str, epoch: int, entry: str = "1-1") -> str:
        """The owner W has started it."""
        return await self.store.started(key, "W", epoch, entry, "N")

    async def failed(
        self, key: str, epoch: int, entry: str = "", *, again_in: float = 0.0, is_start: bool = True
    ) -> str:
        """The owner W could not."""
        said: dict[str, Any] = {"node": "N", "error": TEXT, "again_in": again_in}
        return await self.store.failed(key, "W", epoch, entry, **said, is_start=is_start)

    async def dump(self) -> dict[bytes, Any]:
        """Everything that lies in Redis, byte for byte."""
        found = await self.send("KEYS", self.keys.meta.replace("meta", "*"))
        return {name: await self.send("DUMP", name) for name in sorted(found)}

    async def replies(self, node: str = "N") -> list[list[bytes]]:
        """What a node was told."""
        entries = await self.send("XRANGE", self.keys.replies(node), "-", "+")
        return [fields for _, fields in entries]


@pytest.fixture
async def pool(store: PoolStore, raw: Raw) -> Pool:
    """A pool with its two workers."""
    pool = Pool(store, raw)
    for worker in ("W", "D"):
        assert (await store.enrol(worker, TTL)).outcome == "enrolled"
    await pool.die("D")
    return pool


# --- every outcome of every header

Step = Callable[[Pool], Awaitable[Any]]
CASES: list[tuple[str, str, bool, Step]] = []
"""Script, outcome, whether nothing may be written, and what leads to it."""


def case(script: str, outcome: str, *, refused: bool = False) -> Callable[[Step], Step]:
    """Declare how an outcome comes about. The step returns a function that makes the call, once all is prepared."""

    def declare(step: Step) -> Step:
        CASES.append((script, outcome, refused, step))
        return step

    return declare


@case("join", "joined")
async def _(pool: Pool) -> Any:
    return lambda: pool.store.join("jump")


@case("join", "differs", refused=True)
async def _(pool: Pool) -> Any:
    await pool.store.join("rendezvous")
    return lambda: pool.store.join("jump")


@case("join", "shutdown", refused=True)
async def _(pool: Pool) -> Any:
    await pool.raise_flag()
    return lambda: pool.store.join("jump")


@case("enrol", "enrolled")
async def _(pool: Pool) -> Any:
    return lambda: pool.store.enrol("W2", TTL)


@case("enrol", "shutdown", refused=True)
async def _(pool: Pool) -> Any:
    await pool.raise_flag()
    return lambda: pool.store.enrol("W2", TTL)


@case("leave", "left")
async def _(pool: Pool) -> Any:
    return lambda: pool.store.leave("W", is_dead=False)


@case("leave", "left")
async def _(pool: Pool) -> Any:
    return lambda: pool.store.leave("D", is_dead=True)


@case("leave", "owns", refused=True)
async def _(pool: Pool) -> Any:
    await pool.running()
    return lambda: pool.store.leave("W", is_dead=False)


@case("leave", "alive", refused=True)
async def _(pool: Pool) -> Any:
    return lambda: pool.store.leave("W", is_dead=True)


@case("dispatch", "given")
async def _(pool: Pool) -> Any:
    return pool.dispatch


@case("dispatch", "parked")
async def _(pool: Pool) -> Any:
    await pool.die("W")
    return lambda: pool.dispatch(worker="")


@case("dispatch", "parked")
async def _(pool: Pool) -> Any:
    return lambda: pool.dispatch(worker="", park=True)


@case("dispatch", "repeated", refused=True)
async def _(pool: Pool) -> Any:
    await pool.running()
    return pool.dispatch


@case("dispatch", "exists", refused=True)
async def _(pool: Pool) -> Any:
    await pool.running()
    return lambda: pool.dispatch(request="R2")


@case("dispatch", "full", refused=True)
async def _(pool: Pool) -> Any:
    await pool.starting("one")
    await pool.waiting("two")
    return lambda: pool.dispatch(max_queued=2)


@case("dispatch", "shutdown", refused=True)
async def _(pool: Pool) -> Any:
    await pool.raise_flag()
    return pool.dispatch


@case("dispatch", "lapsed", refused=True)
async def _(pool: Pool) -> Any:
    return lambda: pool.dispatch(worker="D")


@case("dispatch", "lapsed", refused=True)
async def _(pool: Pool) -> Any:
    return lambda: pool.dispatch(worker="stranger")


@case("dispatch", "wanted", refused=True)
async def _(pool: Pool) -> Any:
    return lambda: pool.dispatch(worker="")


@case("started", "running")
async def _(pool: Pool) -> Any:
    epoch = await pool.starting()
    return lambda: pool.started("k", epoch)


@case("started", "stopping")
async def _(pool: Pool) -> Any:
    epoch = await pool.starting()
    await pool.store.stop("k", "W", "S", "N")
    return lambda: pool.started("k", epoch)


@case("started", "stale", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.starting()
    return lambda: pool.started("k", epoch - 1)


@case("failed", "ended")
async def _(pool: Pool) -> Any:
    epoch = await pool.starting()
    return lambda: pool.failed("k", epoch)


@case("failed", "waiting")
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    return lambda: pool.failed("k", epoch, is_start=False)


@case("failed", "stopping", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.stopping()
    return lambda: pool.failed("k", epoch)


@case("failed", "stale", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.starting()
    return lambda: pool.failed("k", epoch - 1)


@case("ended", "ended")
async def _(pool: Pool) -> Any:
    epoch = await pool.stopping()
    return lambda: pool.store.ended("k", "W", epoch, "1-1")


@case("ended", "stale", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    return lambda: pool.store.ended("k", "D", epoch, "1-1")


@case("assign", "given")
async def _(pool: Pool) -> Any:
    await pool.waiting()
    return lambda: pool.store.assign("k", "", None, "W")


@case("assign", "parked")
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    return lambda: pool.store.assign("k", "W", epoch, "")


@case("assign", "parked", refused=True)
async def _(pool: Pool) -> Any:
    await pool.waiting()
    return lambda: pool.store.assign("k", "", None, "")


@case("assign", "lapsed", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    return lambda: pool.store.assign("k", "W", epoch, "D")


@case("assign", "early", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    await pool.failed("k", epoch, again_in=TTL, is_start=False)
    return lambda: pool.store.assign("k", "", None, "W")


@case("assign", "stopping", refused=True)
async def _(pool: Pool) -> Any:
    await pool.stopping()
    await pool.die("W")
    return lambda: pool.store.assign("k", "W", None, "")


@case("assign", "alive", refused=True)
async def _(pool: Pool) -> Any:
    await pool.running()
    return lambda: pool.store.assign("k", "W", None, "W")


@case("assign", "stale", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    return lambda: pool.store.assign("k", "W", epoch - 1, "W")


@case("assign", "stale", refused=True)
async def _(pool: Pool) -> Any:
    return lambda: pool.store.assign("k", "W", 1, "W")


@case("assign", "shutdown", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    await pool.raise_flag()
    return lambda: pool.store.assign("k", "W", epoch, "")


@case("stop", "stopping")
async def _(pool: Pool) -> Any:
    await pool.running()
    return lambda: pool.store.stop("k", "W", "S", "N")


@case("stop", "ended")
async def _(pool: Pool) -> Any:
    await pool.waiting()
    return lambda: pool.store.stop("k", "", "S", "N")


@case("stop", "missing", refused=True)
async def _(pool: Pool) -> Any:
    return lambda: pool.store.stop("k", "W", "S", "N")


@case("stop", "elsewhere", refused=True)
async def _(pool: Pool) -> Any:
    await pool.starting()
    return lambda: pool.store.stop("k", "D", "S", "N")


@case("notify", "sent")
async def _(pool: Pool) -> Any:
    await pool.starting()
    return lambda: pool.store.notify("k", "W", b"\xff")


@case("notify", "missing", refused=True)
async def _(pool: Pool) -> Any:
    return lambda: pool.store.notify("k", "W", b"")


@case("notify", "waiting", refused=True)
async def _(pool: Pool) -> Any:
    await pool.waiting()
    return lambda: pool.store.notify("k", "W", b"")


@case("notify", "elsewhere", refused=True)
async def _(pool: Pool) -> Any:
    await pool.running()
    return lambda: pool.store.notify("k", "D", b"")


@case("progress", "noted")
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    return lambda: pool.store.progress("k", "W", epoch, "half")


@case("progress", "stale", refused=True)
async def _(pool: Pool) -> Any:
    epoch = await pool.running()
    return lambda: pool.store.progress("k", "W", epoch + 1, "half")


@case("renew", "renewed")
async def _(pool: Pool) -> Any:
    return lambda: pool.store.renew(["W", "D"], TTL)


@case("survey", "idle", refused=True)
async def _(pool: Pool) -> Any:
    await pool.store.leave("D", is_dead=True)
    return lambda: pool.store.survey("N")


@case("survey", "work")
async def _(pool: Pool) -> Any:
    return lambda: pool.store.survey("N")


@case("survey", "busy", refused=True)
async def _(pool: Pool) -> Any:
    await pool.store.survey("N")
    return lambda: pool.store.survey("N2")


@case("tick", "wait")
async def _(pool: Pool) -> Any:
    return lambda: pool.store.tick("t", 9.0, "R", make=True, first=9.0, all_ticks=False)


@case("tick", "tick")
async def _(pool: Pool) -> Any:
    await pool.store.tick("t", 9.0, "R", make=True, first=0.0, all_ticks=False)
    return lambda: pool.store.tick("t", 9.0, "R2", make=False, first=0.0, all_ticks=False)


@case("tick", "stopped")
async def _(pool: Pool) -> Any:
    async def call() -> str:
        await pool.store.stop_ticker("t", 9.0)
        return "stopped"

    return call


@case("tick", "gone", refused=True)
async def _(pool: Pool) -> Any:
    await pool.store.stop_ticker("t", 9.0)
    return lambda: pool.store.tick("t", 9.0, "R", make=False, first=0.0, all_ticks=False)


@case("tick", "gone", refused=True)
async def _(pool: Pool) -> Any:
    await pool.raise_flag()
    return lambda: pool.store.tick("t", 9.0, "R", make=True, first=0.0, all_ticks=False)


@case("tell", "told")
async def _(pool: Pool) -> Any:
    async def call() -> str:
        await pool.store.tell("N", "R", "ended", "")
        return "told"

    return call


def outcome_of(reply: Any) -> str:
    """The first word of whatever form a reply has."""
    if isinstance(reply, str):
        return reply
    if isinstance(reply, list):
        return "renewed"
    return str(reply[0])


CASE_IDS = [f"{script} {outcome} {number}" for number, (script, outcome, *_) in enumerate(CASES)]
SCRIPTS = {
    script.name: script for script in vars(store_module).values() if isinstance(script, Script)
}
_OUTCOME = re.compile(r'\{"([a-z]+)"')


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_every_outcome_of_a_header_has_a_case(name: str) -> None:
    """And every case stands in the header."""
    text = SCRIPTS[name].text
    header = text[: text.index("\nlocal ")] if "\nlocal " in text else text
    assert {outcome for script, outcome, _, _ in CASES if script == name} == set(
        _OUTCOME.findall(header)
    )


@pytest.mark.parametrize(("script", "outcome", "refused", "prepare"), CASES, ids=CASE_IDS)
async def test_outcome_comes_about_and_a_refusal_writes_nothing(
    pool: Pool, script: str, outcome: str, refused: bool, prepare: Step
) -> None:
    """As the header says."""
    make_call = await prepare(pool)
    before = await pool.dump()
    reply = await make_call()
    expected = {"noted": "running"}.get(outcome, outcome)
    assert outcome_of(reply) == expected, f"{script} said {reply}"
    assert (await pool.dump() == before) == refused


AFTER_SUCCESS = {
    ("dispatch", "given"): "repeated",
    ("dispatch", "parked"): "repeated",
    ("failed", "ended"): "stale",
    ("failed", "waiting"): "stale",
    ("ended", "ended"): "stale",
    ("stop", "ended"): "missing",
    ("assign", "given"): "stale",
}
"""What the second of two equal calls says, where that is not the same: its work is done."""
GROWING = {"notify", "tell"}
"""A notification comes at least once; of two equal replies the second finds nobody waiting."""


@pytest.mark.parametrize(("script", "outcome", "refused", "prepare"), CASES, ids=CASE_IDS)
async def test_call_sent_again_says_the_same_or_that_its_work_is_done(
    pool: Pool, script: str, outcome: str, refused: bool, prepare: Step
) -> None:
    """The reply to the first one was lost: it does nothing twice."""
    make_call = await prepare(pool)
    first = await make_call()
    shape = await shape_of(pool)
    second = await make_call()
    if (script, outcome) == ("assign", "parked") and not refused:
        assert second.outcome == "stale"
    elif (script, outcome) in AFTER_SUCCESS:
        assert outcome_of(second) == AFTER_SUCCESS[script, outcome]
    elif script != "tick":
        assert second == first
    if script not in GROWING:
        assert await shape_of(pool) == shape


async def shape_of(pool: Pool) -> dict[bytes, Any]:
    """What lies in Redis, but for times that a repetition moves on."""
    found: dict[bytes, Any] = {}
    for name in await pool.dump():
        kind = await pool.send("TYPE", name)
        if kind in (b"zset", "zset"):
            found[name] = sorted(map(str, await pool.send("ZRANGE", name, 0, -1)))
        elif b":job:" in name:
            fields = await pool.send("HMGET", name, "state", "owner", "epoch", "starts", "stoppers")
            found[name] = fields
        elif kind in (b"stream", "stream"):
            found[name] = await pool.send("XRANGE", name, "-", "+")
        else:
            found[name] = await pool.send("DUMP", name)
    return found


# --- what they write


async def test_given_job_is_written_as_the_protocol_says(pool: Pool, raw: Raw) -> None:
    """Golden fields: the job, its order, and where its key stands."""
    epoch = await pool.starting()
    job = await pool.store.job("k", payload=True)
    assert job is not None
    assert (job.state, job.owner, job.token, job.starts) == ("starting", "W", epoch, 1)
    assert job.payload == b"pay"
    assert job.created_at == job.since
    created = int(job.created_at.timestamp() * 1000 + 0.5)
    assert epoch >= created
    fields = await raw(pool.keys.job("k"), "HMGET", pool.keys.job("k"), "request", "node")
    assert fields == [b"R", b"N"]
    orders = await pool.store.orders("W", "-", 10)
    assert [said for _, said in orders] == [
        [
            *(b"do", b"start", b"key", b"k", b"epoch", b"%d" % epoch, b"starts", b"1"),
            *(b"payload", b"pay", b"created", b"%d" % created, b"node", b"N"),
        ]
    ]
    assert await pool.store.owned("W") == ["k"]
    assert await pool.send("ZRANGE", pool.keys.starting, 0, -1) == [b"k"]
    assert await pool.store.waiting() == []
    assert await pool.send("GET", pool.keys.epoch) == b"%d" % epoch


async def test_orders_of_stop_and_notification_name_the_epoch(pool: Pool) -> None:
    epoch = b"%d" % await pool.running()
    await pool.store.notify("k", "W", b"\0\xff")
    await pool.store.stop("k", "W", "S", "")
    said = [fields for _, fields in await pool.store.orders("W", "-", 10)]
    assert said == [
        [b"do", b"notify", b"key", b"k", b"epoch", epoch, b"payload", b"\0\xff"],
        [b"do", b"stop", b"key", b"k", b"epoch", epoch],
    ]


async def test_start_is_told_to_the_dispatcher_once(pool: Pool) -> None:
    """And only to one that waits; the replies go by themselves if nobody reads them."""
    epoch = await pool.running()
    await pool.started("k", epoch)
    assert await pool.replies() == [
        [b"request", b"R", b"outcome", b"started", b"text", b"W"],
    ]
    assert 0 < await pool.send("PTTL", pool.keys.replies("N")) <= 3_600_000
    given = await pool.dispatch("silent", node="")
    assert await pool.store.started("silent", "W", given.number, "1-1", "") == "running"
    assert await pool.send("EXISTS", pool.keys.replies("")) == 0


async def test_refused_start_is_told_to_the_dispatcher(pool: Pool) -> None:
    epoch = await pool.starting()
    assert await pool.failed("k", epoch) == "ended"
    assert await pool.replies() == [
        [b"request", b"R", b"outcome", b"failed", b"text", TEXT.encode()],
    ]
    assert await pool.store.job("k", payload=False) is None


async def test_later_start_that_fails_is_tried_again(pool: Pool) -> None:
    """The job was begun before: it may be in the middle of its work."""
    epoch = await pool.running()
    again = await pool.store.assign("k", "W", epoch, "W")
    assert await pool.failed("k", again.number, again_in=TTL) == "waiting"
    job = await pool.store.job("k", payload=False)
    assert job is not None
    assert (job.state, job.owner, job.starts, job.error) == ("waiting", "", 2, TEXT)
    due = float(await pool.send("ZSCORE", pool.keys.waiting, "k"))
    assert due == int(job.since.timestamp() * 1000 + 0.5) + TTL * 1000


async def test_entry_goes_in_the_step_that_records_its_outcome(pool: Pool) -> None:
    """Also when that is stale (protocol 3.2, 3.4)."""
    epoch = await pool.starting()
    ((entry, _),) = await pool.store.orders("W", "-", 10)
    assert await pool.started("k", epoch - 1, entry) == "stale"
    assert await pool.store.orders("W", "-", 10) == []


async def test_new_owner_gets_a_larger_epoch_although_the_last_one_was_lost(pool: Pool) -> None:
    """It is at least the time in ms (protocol 1.2)."""
    epoch = await pool.running()
    await pool.store.enrol("W2", TTL)
    await pool.send("SET", pool.keys.epoch, epoch + 10**6)
    ahead = await pool.store.assign("k", "W", epoch, "W2")
    assert ahead == Answer("given", epoch + 10**6 + 1)
    second = await pool.running("k2")
    await pool.send("UNLINK", pool.keys.epoch)
    now = int(await pool.store.link.time() * 1000)
    again = await pool.store.assign("k2", "W", second, "W2")
    assert again.number >= now


async def test_job_is_taken_over_from_a_dead_worker_only(pool: Pool) -> None:
    """And goes from one place to the other in one step."""
    epoch = await pool.running()
    await pool.store.enrol("W2", TTL)
    assert (await pool.store.assign("k", "W", None, "W2")).outcome == "alive"
    await pool.die("W")
    given = await pool.store.assign("k", "W", None, "W2")
    assert given.outcome == "given"
    assert given.number > epoch
    assert (await pool.store.owned("W"), await pool.store.owned("W2")) == ([], ["k"])
    assert await pool.failed("k", epoch, is_start=False) == "stale"
    assert await pool.store.ended("k", "W", epoch, "") == Ended("stale")


async def test_job_that_stops_counts_no_more(pool: Pool) -> None:
    """It does not wait for its start (protocol 1.4)."""
    await pool.starting()
    assert (await pool.dispatch("k2", max_queued=1)).outcome == "full"
    await pool.store.stop("k", "W", "S", "N")
    assert (await pool.dispatch("k2", max_queued=1)).outcome == "given"


async def test_all_who_wait_for_the_end_are_named_once(pool: Pool) -> None:
    epoch = await pool.running()
    for request, node in (("S1", "N1"), ("S2", ""), ("S3", "N2"), ("S1", "N1")):
        await pool.store.stop("k", "W", request, node)
    ended = await pool.store.ended("k", "W", epoch, "")
    assert ended == Ended("ended", "R", "", (("S1", "N1"), ("S3", "N2")))


async def test_lapsed_lease_is_never_renewed(pool: Pool) -> None:
    """Protocol 2.1; nor is a worker enrolled by a renewal."""
    before = await pool.store.leases()
    assert await pool.store.renew(["D", "W", "stranger"], 2 * TTL) == ["D", "stranger"]
    after = await pool.store.leases()
    assert after.keys() == before.keys()
    assert after["D"] == before["D"]
    assert after["W"] > before["W"] + TTL / 2
    now = await pool.store.link.time()
    assert 0 <= now + 2 * TTL - after["W"] < 60


async def test_leaving_takes_lease_and_inbox(pool: Pool) -> None:
    epoch = await pool.running()
    await pool.store.notify("k", "W", b"")
    await pool.store.ended("k", "W", epoch, "")
    assert (await pool.store.leave("W", is_dead=False)).outcome == "left"
    assert set(await pool.store.leases()) == {"D"}
    assert await pool.send("EXISTS", pool.keys.inbox("W"), pool.keys.owned("W")) == 0


async def test_survey_names_the_dead_and_what_waits(pool: Pool) -> None:
    """Jobs that wait are named while there is somebody to give them to, and not before their time."""
    await pool.waiting("due")
    epoch = await pool.running("later")
    await pool.failed("later", epoch, again_in=TTL, is_start=False)
    assert await pool.store.survey("N") == Survey("work", ["D"], ["due"])
    assert 0 < await pool.send("PTTL", pool.keys.janitor) <= store_module.JANITOR_TTL * 1000
    await pool.die("W")
    assert await pool.store.survey("N") == Survey("work", ["D", "W"], [])


async def test_survey_may_name_those_only_who_have_given_up_their_lease(pool: Pool) -> None:
    """Others may believe in theirs still: after a failover (pool protocol 6.3)."""
    await pool.running()
    await pool.send("ZADD", pool.keys.leases, "XX", 2, "D")
    assert await pool.store.survey("N", given_up_only=True) == Survey("idle", [], [])
    assert await pool.send("EXISTS", pool.keys.janitor) == 0
    await pool.store.give_up("W")
    assert await pool.store.survey("N", given_up_only=True) == Survey("work", ["W"], [])
    assert (await pool.store.survey("N")).dead == ["W", "D"]
    assert await pool.store.renew(["W"], TTL) == ["W"]


async def test_lease_that_is_given_up_after_its_worker_was_buried_is_none(pool: Pool) -> None:
    before = await pool.store.leases()
    await pool.store.give_up("stranger")
    assert await pool.store.leases() == before


async def test_progress_is_noted_unless_it_is_only_looked_at(pool: Pool) -> None:
    epoch = await pool.running()
    assert await pool.store.progress("k", "W", epoch, "half") == "running"
    assert await pool.store.progress("k", "W", epoch, None) == "running"
    job = await pool.store.job("k", payload=False)
    assert job is not None
    assert job.progress == "half"
    await pool.store.stop("k", "W", "S", "N")
    assert await pool.store.progress("k", "W", epoch, None) == "stopping"


async def test_job_that_was_lost_from_the_list_of_its_owner_is_there_again(pool: Pool) -> None:
    """Whenever its owner looks after it; nobody else's look does that."""
    epoch = await pool.running()
    owned = pool.keys.owned("W")
    await pool.send("DEL", owned)
    assert await pool.store.progress("k", "W", epoch - 1, None) == "stale"
    assert await pool.store.owned("W") == []
    assert await pool.store.progress("k", "W", epoch, None) == "running"
    assert await pool.store.owned("W") == ["k"]


# --- joining


async def test_whoever_comes_first_decides_over_the_routing(pool: Pool) -> None:
    assert await pool.store.join("") == ("joined", "", "")
    assert await pool.send("EXISTS", pool.keys.meta) == 0
    assert await pool.store.join("jump") == ("joined", "", "jump")
    assert await pool.store.join("rendezvous") == ("differs", "1", "jump")
    assert await pool.store.join("") == ("joined", "", "jump")


async def test_pool_of_another_version_is_refused(pool: Pool) -> None:
    """Whether a routing was named or not (protocol 8)."""
    await pool.send("HSET", pool.keys.meta, "version", "2", "routing", "jump")
    assert await pool.store.join("jump") == ("differs", "2", "jump")
    assert await pool.store.join("") == ("differs", "2", "jump")


# --- ticks


async def take(pool: Pool, request: str, *, all_ticks: bool = False, every: float = 10.0) -> Any:
    """Ask for a tick."""
    said: dict[str, Any] = {"make": False, "first": 0.0, "all_ticks": all_ticks}
    return await pool.store.tick("t", every, request, **said)


async def set_back(pool: Pool, seconds: float) -> float:
    """A ticker of every 10 s, whose next tick was due so long ago; when that was."""
    due = int(await pool.store.link.time() * 1000 - seconds * 1000)
    await pool.send("HSET", pool.keys.tickers, "t", f"{due}|10000|0|")
    return due / 1000


async def test_tick_goes_to_one_and_the_lost_reply_comes_again(pool: Pool) -> None:
    due = await set_back(pool, 1.0)
    first = await take(pool, "R1")
    assert (first.outcome, first.due) == ("tick", due)
    assert 0 < first.until_next <= 9.0
    assert (await take(pool, "R2")).outcome == "wait"
    again = await take(pool, "R1")
    assert (again.outcome, again.due) == ("tick", due)


async def test_one_tick_stands_for_all_that_were_missed(pool: Pool) -> None:
    """And the following ones keep their rhythm."""
    due = await set_back(pool, 35.0)
    assert (await take(pool, "R1")).due == due
    following = await take(pool, "R2")
    assert following.outcome == "wait"
    assert 0 < following.until_next <= 5.0


async def test_all_ticks_are_given_where_that_is_wanted(pool: Pool) -> None:
    due = await set_back(pool, 35.0)
    ticks = [await take(pool, f"R{n}", all_ticks=True) for n in range(5)]
    assert [tick.outcome for tick in ticks] == ["tick"] * 4 + ["wait"]
    assert [tick.due for tick in ticks[:4]] == pytest.approx([due + 10 * n for n in range(4)])


async def test_new_interval_is_taken_by_whoever_makes_the_ticker(pool: Pool) -> None:
    """The others follow it."""
    await set_back(pool, 1.0)
    made = await pool.store.tick("t", 50.0, "R", make=True, first=20.0, all_ticks=False)
    assert (made.outcome, made.until_next) == ("wait", 20.0)
    assert (await pool.send("HGET", pool.keys.tickers, "t")).split(b"|")[1:] == [
        b"50000",
        b"0",
        b"",
    ]
    assert (await take(pool, "R2")).outcome == "wait"
    assert (await pool.send("HGET", pool.keys.tickers, "t")).split(b"|")[1] == b"50000"


async def test_ticker_that_was_stopped_is_gone(pool: Pool) -> None:
    await set_back(pool, 1.0)
    assert await pool.store.stop_ticker("t", 1.0)
    assert not await pool.store.stop_ticker("t", 1.0)
    assert (await take(pool, "R")).outcome == "gone"


# --- the end


async def test_first_who_asks_for_the_end_stays(pool: Pool) -> None:
    """And the flag goes by itself, should the asker die (protocol 7.3)."""
    assert await pool.store.shutdown_by() == ""
    assert await pool.store.ask_for_shutdown("N1", 10.0) == "N1"
    assert await pool.store.ask_for_shutdown("N2", 1000.0) == "N1"
    assert await pool.store.shutdown_by() == "N1"
    assert 0 < await pool.send("PTTL", pool.keys.shutdown) <= 10_000


async def test_running_jobs_can_end_while_the_pool_shuts_down(pool: Pool) -> None:
    epoch = await pool.starting()
    await pool.raise_flag()
    assert await pool.started("k", epoch) == "running"
    assert (await pool.store.stop("k", "W", "S", "N")).outcome == "stopping"
    assert (await pool.store.ended("k", "W", epoch, "")).outcome == "ended"
    assert (await pool.store.leave("W", is_dead=False)).outcome == "left"


# --- a server that is full


async def test_full_server_still_keeps_what_is_there(fresh_server: SingleServer) -> None:
    """Nothing new is admitted, and nothing of it written; leases, hand-overs, stops and ends go on (F17)."""

    async def raw(_key: str, *command: Any) -> Any:
        return await fresh_server.command(*command)

    async with opened_link(fresh_server.url) as link:
        store = PoolStore(link, PoolKeys(Namespace("full"), "pool"))
        pool = Pool(store, raw)
        for worker in ("W", "D"):
            await store.enrol(worker, TTL)
        epoch, orphan = await pool.running(), await pool.running("orphan", "D")
        crashing, refused = await pool.running("crashing"), await pool.starting("refused")
        await pool.waiting("waits")
        await pool.die("D")
        await fresh_server.command("CONFIG", "SET", "maxmemory", 1)

        before = await pool.dump()
        for refusal in (
            lambda: pool.dispatch("new"),
            lambda: pool.dispatch("new", "", park=True),
            lambda: store.notify("k", "W", b"hear"),
            lambda: store.tick("t", 9.0, "R", make=True, first=9.0, all_ticks=False),
        ):
            with pytest.raises(ServerFull):
                await refusal()
        assert await pool.dump() == before

        assert (await store.enrol("W2", TTL)).outcome == "enrolled"
        assert await store.renew(["W"], 2 * TTL) == []
        assert (await store.leases())["W"] > await link.time() + TTL
        assert await store.survey("N") == Survey("work", ["D"], ["waits"])
        assert (await store.assign("waits", "", None, "W2")).outcome == "given"
        assert await store.progress("k", "W", epoch, "half") == "running"
        taken = await store.assign("orphan", "D", None, "W")
        assert taken.number > orphan
        assert (await store.leave("D", is_dead=True)).outcome == "left"
        assert await store.started("orphan", "W", taken.number, "1-1", "N") == "running"
        assert await pool.failed("crashing", crashing, is_start=False) == "waiting"
        assert await pool.failed("refused", refused) == "ended"
        assert (await store.stop("k", "W", "S", "N")).outcome == "stopping"
        assert (await store.ended("k", "W", epoch, "")).outcome == "ended"
        assert (await store.stop("crashing", "", "S", "N")).outcome == "ended"


async def test_scripts_of_two_pools_do_not_meet(
    pool: Pool, topology: Topology, namespace: str
) -> None:
    """The same job and worker in another pool are others."""
    await pool.running()
    before = await pool.dump()
    other = PoolStore(pool.store.link, PoolKeys(Namespace(namespace), "other-pool"))
    await other.enrol("W", TTL)
    said: dict[str, Any] = {"request": "R2", "node": "", "max_queued": 1, "park": False}
    given = await other.dispatch("k", b"", "W", **said)
    assert given.outcome == "given"
    assert await pool.dump() == before
    await other.ended("k", "W", given.number, "")
    await other.leave("W", is_dead=False)
    await other.remove_everything([])
