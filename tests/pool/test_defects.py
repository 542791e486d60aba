"""The defects of Pulse's pools (spec/pulse.md 5.4), one test each: we do not have them.

Each is the scene of the defect in a few lines. What stands behind it is tested in the file of its room.

Without a counterpart here, since our protocol has not the part that fails:

* P10 a creation time taken twice: leaving is a state of the one entry of a worker, and its lease ends in a script.
* P28 a stopping worker that answers queued starts with an error: what it has not read is handed over unanswered.
* P31 two owners of one key: the owner is one field of the job's hash (shown under P12, as overlaps).
* P26 a lock that is deleted and taken in two steps: the janitor's lease is taken in the script that looks what is to
  be done, and two janitors do no harm (test_janitor.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Closed, JobNotFound, JobNotStarted, PoolFull, PoolShutDown, ServerUnavailable
from pulsewire.pool import Job, JobState, Plan
from pulsewire.pool.ring import Member, Ring
from pulsewire.pool.store import Answer
from pulsewire.pool.wire import Reply
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import PATIENCE, Facts, Raw, let_pass
from tests.pool.facts import (
    KeysOf,
    MakeNode,
    Recorder,
    running,
    wait_gone,
    wait_running,
    wait_state,
    wait_workers,
)
from tests.pool.scenes import Log, Runs, add_ghost, end_lease, gather, key_for, late_orders

TOPOLOGIES = ["standalone", "cluster"]
on_one_server = pytest.mark.parametrize("topology", ["standalone"], indirect=True)
TTL = 0.6


async def test_p1_joining_worker_gets_its_share_without_another_change(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """Go: the others see the entry before the heartbeat and nothing triggers later; jobs moved in 2 of 30 joins."""
    keys = [f"job-{number}" for number in range(20)]
    for number in range(3):
        first, second = Recorder(), Recorder()
        pool = f"p{number}"
        async with make_node(pool) as one, make_node(pool, of=watched) as two:
            await one.add_worker(first)
            await gather(*(partial(one.dispatch, key) for key in keys))
            await two.add_worker(second)
            await wait_until(lambda second=second: bool(second.running), what="some have moved")  # type: ignore[misc]
            await wait_running(keys, first, second)


@on_one_server
async def test_p2_following_the_workers_leaks_no_subscription(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Go: 206 channels after 200 changes, and what changes meanwhile is missed."""
    async with make_node() as node, make_node(client_only=True) as client:
        leases = node._store.keys.leases
        before = await _subscriptions(raw, leases)
        for _ in range(30):
            worker = await node.add_worker(recorder)
            await wait_workers(client, 1)
            await node.remove_worker(worker)
            await wait_workers(client, 0)
        assert await _subscriptions(raw, leases) == before


async def _subscriptions(raw: Raw, key: str) -> int:
    text = (await raw(key, "CLIENT", "LIST")).decode()
    words = [word.split("=") for line in text.splitlines() for word in line.split()]
    return sum(int(pair[1]) for pair in words if pair[0] in {"sub", "psub", "ssub"})


async def test_p3_queue_limit_fails_fast_and_trims_nothing(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Go: 300 dispatches with room for 10 cut the stream to 46 entries and end in 300 timeouts."""
    async with make_node(max_queued_jobs=10, worker_ttl=TTL) as node:
        calls = [partial(node.dispatch, f"job-{n}", wait=False) for n in range(100)]
        outcomes = await gather(*calls)
        assert [type(error) for error in outcomes].count(PoolFull) == 90
        await node.add_worker(recorder)
        admitted = {f"job-{n}" for n, error in enumerate(outcomes) if error is None}
        await wait_running(admitted, recorder)


async def test_p4_what_is_dispatched_before_the_first_full_node_is_delivered(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Go: the group begins at `$`."""
    async with make_node(client_only=True) as client:
        await client.dispatch("early", b"pay", wait=False)
        async with make_node(worker_ttl=TTL) as node:
            await node.add_worker(recorder)
            await wait_running(["early"], recorder)


@on_one_server
async def test_p5_old_start_is_not_dropped(
    make_node: MakeNode, recorder: Recorder, raw: Raw, hub: pulsewire.Hub
) -> None:
    """Go: start events older than two minutes are acknowledged and dropped silently."""
    async with make_node(worker_ttl=TTL) as node:
        await node.dispatch("old", wait=False)
        job, waiting = node._store.keys.job("old"), node._store.keys.waiting
        hours_ago = int((await hub.time() - 7200) * 1000)
        await raw(job, "HSET", job, "created", hours_ago, "since", hours_ago)
        await raw(waiting, "ZADD", waiting, hours_ago, "old")
        await node.add_worker(recorder)
        await wait_running(["old"], recorder)
        assert recorder.jobs["old"].created_at.timestamp() == hours_ago / 1000


@on_one_server
async def test_p6_start_longer_than_the_grace_is_one_start(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Go: 1.2 s of start with 0.2 s of grace are three starts."""
    other = Recorder()
    async with make_node(ack_grace=0.05, worker_ttl=TTL) as one, make_node(of=watched) as two:
        await one.add_worker(recorder)
        await two.add_worker(other)
        for node in (one, two):
            await wait_workers(node, 2)
        key = key_for(one, one.workers[0].id)
        recorder.hold("start")
        with pytest.raises(JobNotStarted):
            await one.dispatch(key)
        await let_pass(watched, 2 * TTL)
        assert len(recorder.starts(key)) == 1
        recorder.release("start")
        await wait_running([key], recorder, other)
        assert len(recorder.starts(key)) == 1
        assert not other.starts(key)


@on_one_server
async def test_p7_start_that_comes_again_is_no_second_start(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Go: the worker does not notice that it has the key."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        inbox = node._store.keys.inbox(worker.id)
        epoch = recorder.running["a"]
        await raw(inbox, "XADD", inbox, "*", "do", "start", "key", "a", "epoch", epoch)
        await node.notify("a", b"after it")
        await wait_until(lambda: bool(recorder.notifications()), what="it was read")
        assert len(recorder.starts()) == 1


async def test_p8_malformed_entry_ends_no_loop(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Go: it kills the routing loop, then that of the next node."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        for stream in (node._store.keys.inbox(worker.id), node._store.keys.replies(node.id)):
            await raw(stream, "XADD", stream, "*", "p", b"\x00")
        await node.dispatch("a")
        await node.stop_job("a")


async def test_p9_client_only_node_can_look_and_close(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Go: Close, JobKeys, PoolWorkers and JobPayload panic."""
    async with make_node() as node, make_node(client_only=True) as client:
        await node.add_worker(recorder)
        await wait_workers(client, 1)
        await client.dispatch("a", b"pay")
        job = await client.job("a")
        assert job is not None
        assert job.payload == b"pay"
        assert [job.key for job in await client.jobs()] == ["a"]
        await client.close()


async def test_p11_leaving_hands_over_every_job(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Go: 15 of 20, or it waits the whole shutdown time; also when some stops fail."""
    other = Recorder()
    keys = [f"job-{number}" for number in range(20)]
    async with make_node() as heir:
        async with make_node(of=watched) as node:
            await node.add_worker(recorder)
            await gather(*(partial(node.dispatch, key) for key in keys))
            for key in keys[::3]:
                recorder.fail("stop", RuntimeError("no"), key=key)
            await heir.add_worker(other)
        await wait_running(keys, other)


async def test_p12_job_is_stopped_before_it_is_announced_elsewhere(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """Go: two run at once."""
    log = Log()
    first, second = log.handler("first"), log.handler("second")
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(first)
        await one.dispatch("a")
        await two.add_worker(second)
        await wait_workers(one, 2)
        first.hold("stop")
        async with anyio.create_task_group() as group:
            group.start_soon(one.remove_worker, worker)
            await wait_until(lambda: bool(first.stops()), what="it is being stopped")
            job = await two.job("a")
            assert job is not None
            assert job.owner == worker.id
            assert not second.starts()
            first.release("stop")
        await wait_running(["a"], second)
        assert log.overlaps() == []


@on_one_server
async def test_p13_job_that_was_stopped_does_not_come_back_when_its_worker_dies_meanwhile(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Go: ownership goes before the payload, and the orphan is started again."""
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node)
        key = key_for(node, ghost)
        await node.dispatch(key, wait=False)
        await node.stop_job(key, wait=False)
        await wait_gone(node, key)
        await wait_workers(node, 1)
        assert recorder.calls == []


@on_one_server
async def test_p14_orphan_is_given_away_once_and_not_while_nobody_is_there(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """Go: each of four nodes requeues it, again every grace period: 16 events in 6 s."""
    handlers = [Recorder(), Recorder()]
    async with make_node(of=watched, worker_ttl=TTL) as one, make_node(worker_ttl=TTL) as two:
        drained = [await one.add_worker(handlers[0]), await two.add_worker(handlers[1])]
        ghost = await add_ghost(one)
        await one.dispatch(key_for(one, ghost), wait=False)
        for node, worker in zip((one, two), drained, strict=True):
            await node.drain(worker)
        (key,) = [job.key for job in await one.jobs()]
        await wait_state(one, key, "waiting")
        await let_pass(watched, TTL)
        job = await wait_state(one, key, "waiting")
        assert job.starts == 1
        last = Recorder()
        await two.add_worker(last)
        await wait_running([key], last, *handlers)
        assert last.jobs[key].starts == 2


async def test_p15_evicted_worker_stops_its_jobs(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Go: it keeps running them, and `Stop` is never called."""
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        await end_lease(node, worker.id, raw)
        await wait_until(lambda: bool(recorder.stops("a")), what="it was stopped")
        await wait_until(lambda: len(recorder.starts("a")) == 2, what="it is back")


async def test_p16_replies_that_were_deleted_come_again(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Go: a node stream that was reaped is never made again, and all later dispatches time out."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        for stream in (node._store.keys.replies(node.id), node._store.keys.inbox(worker.id)):
            await raw(stream, "DEL", stream)
        await node.dispatch("b")
        await node.stop_job("a")


@on_one_server
async def test_p17_reply_that_comes_before_its_call_has_returned_counts(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go: it is ignored, and the event comes back after the grace."""
    monkeypatch.setattr("pulsewire.pool.dispatch.LOOK_AFTER", 60.0)
    async with make_node() as node:
        await node.add_worker(recorder)
        await wait_workers(node, 1)
        dispatch, take = node._store.dispatch, node._mail._on_reply
        replies: list[str] = []

        def taken(reply: Reply) -> None:
            take(reply)
            replies.append(reply.request)

        async def late(*arguments: Any, **options: Any) -> Answer:
            answer = await dispatch(*arguments, **options)
            if answer.outcome == "given":
                await wait_until(lambda: bool(replies), what="the reply has come")
            return answer

        node._mail._on_reply = taken

        monkeypatch.setattr(node._store, "dispatch", late)
        with anyio.fail_after(PATIENCE):
            await node.dispatch("a")


async def test_p18_reply_for_a_caller_that_gave_up_harms_nobody(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Go: it panics and ends the loop that reads them."""
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start", key="late")
        with pytest.raises(JobNotStarted):
            await node.dispatch("late", timeout=0.02)
        recorder.release("start", key="late")
        await wait_state(node, "late", "running")
        await node.dispatch("next")


async def test_p19_stop_and_notify_that_overtake_the_start_are_not_dropped(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        await node.dispatch("a", wait=False)
        await node.notify("a", b"hi")
        recorder.release("start")
        await wait_until(lambda: recorder.notifications("a") == [b"hi"], what="it was told")
        recorder.hold("start", key="b")
        await node.dispatch("b", wait=False)
        await node.stop_job("b")
        assert await node.job("b") is None


async def test_p20_flag_of_a_dead_asker_lapses(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Go: AddNode fails for ever. And the flag goes last: who joins before is refused, not half made."""
    async with make_node() as node:
        flag = node._store.keys.shutdown
        await raw(flag, "SET", flag, "dead", "PX", 300)
        with pytest.raises(PoolShutDown):
            async with make_node():
                raise AssertionError("it has joined")

        async def can_join() -> bool:
            try:
                async with make_node() as other:
                    await other.add_worker(recorder)
                    await other.dispatch("a")
            except PoolShutDown:
                return False
            return True

        await wait_until(can_join, what="the flag has lapsed")


async def test_p21_node_that_leaves_takes_what_is_its_own(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf, raw: Raw
) -> None:
    """Go: a heartbeat and a consumer stay."""
    async with make_node() as stays:
        async with make_node() as leaves:
            worker = await leaves.add_worker(recorder)
            await leaves.dispatch("a")
            await leaves.stop_job("a")
        mine = [key for key in await keys_of("pool") if worker.id in key or leaves.id in key]
        for key in mine:  # replies and the like lapse
            name = stays._store.keys.space.key(key) if not key.startswith("pulsewire:") else key
            assert await raw(name, "PTTL", name) > 0
        assert await stays._store.leases() == {}


async def test_p22_dispatch_in_flight_wakes_when_its_node_leaves(make_node: MakeNode) -> None:
    """Go: it returned 6 s later."""
    outcomes: list[BaseException | None] = []
    async with make_node() as other, anyio.create_task_group() as group:
        async with make_node() as node:

            async def dispatch() -> None:
                outcomes.extend(await gather(partial(node.dispatch, "a", timeout=600.0)))

            group.start_soon(dispatch)
            await wait_state(other, "a", "waiting")
    assert isinstance(outcomes[0], Closed)


async def test_p23_close_does_not_wait_for_a_time_to_live(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Go: up to half of it; 14.7 s with default options. Here nobody's lease lapses, and the job is elsewhere."""
    other = Recorder()
    async with make_node(worker_ttl=3600.0) as heir:
        with anyio.fail_after(PATIENCE):
            async with make_node(of=watched, worker_ttl=3600.0) as node:
                await node.add_worker(recorder)
                await node.dispatch("a")
                await heir.add_worker(other)
            await wait_running(["a"], other)


@on_one_server
async def test_p24_a_call_costs_the_same_however_many_jobs_run(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Go: stop and notify scan all job lists. Here no call brings more commands than with one job."""
    async with make_node() as node:
        await node.add_worker(recorder)
        leases = node._store.keys.leases
        costs = []
        for count in (0, 400):
            await gather(*(partial(node.dispatch, f"job-{n}") for n in range(count)))
            before = await _commands(raw, leases)
            for number in range(20):
                await node.dispatch(f"one-{number}")
                await node.notify(f"one-{number}", b"hi")
                await node.stop_job(f"one-{number}")
            costs.append(await _commands(raw, leases) - before)
        assert costs[1] < 2 * costs[0]


async def _commands(raw: Raw, key: str) -> int:
    stats = (await raw(key, "INFO", "stats")).decode()
    return int(stats.split("total_commands_processed:")[1].split()[0])


@on_one_server
async def test_p25_wrong_clock_of_a_node_decides_nothing(
    make_node: MakeNode,
    recorder: Recorder,
    hub: pulsewire.Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Go mixes clocks everywhere. Here the wall clock of the machine is off by an hour."""
    real = time.time
    for off in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda off=off: real() + off)
        handler = Recorder()
        async with make_node(f"pool{off:.0f}", worker_ttl=TTL) as node:
            worker = await node.add_worker(handler)
            await node.dispatch("a")
            async for tick in node.ticker("t", every=0.05):
                assert abs(tick.due.timestamp() - await hub.time()) < PATIENCE
                break
            await let_pass(hub, TTL)
            assert set(handler.running) == {"a"}
            assert abs(handler.jobs["a"].created_at.timestamp() - await hub.time()) < PATIENCE
            assert [info.id for info in node.pool_workers()] == [worker.id]
            assert not handler.stops()


@on_one_server
async def test_p27_view_of_the_workers_does_not_decide_about_a_job(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Go: a live key may be judged unknown on a replica that is behind. Here Redis decides, whatever the view."""
    async with make_node(client_only=True) as client, make_node() as node:
        await node.add_worker(recorder)
        await wait_workers(client, 1)
        client._crew.roster.take({})  # it knows nobody
        await client.dispatch("a", timeout=PATIENCE)
        await client.notify("a", b"hi")
        await wait_until(lambda: recorder.notifications("a") == [b"hi"], what="it was told")
        await client.stop_job("a")
        with pytest.raises(JobNotFound):
            await client.stop_job("a")


@on_one_server
async def test_p29_late_renewal_does_not_bring_a_removed_worker_back(
    make_node: MakeNode, recorder: Recorder, hub: pulsewire.Hub
) -> None:
    """Go: the entry of a late heartbeat stays for ever."""
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(recorder)
        await node.remove_worker(worker)
        assert await node._store.renew([worker.id], 60.0) == [worker.id]
        assert await node._store.leases() == {}


def test_p30_workers_of_one_moment_are_in_one_order_everywhere() -> None:
    """Go leaves ties unordered."""
    members = [Member(f"w{number}", 1.0, 5.0) for number in range(10)]
    rings = [Ring(some, "jump") for some in (members, members[::-1], sorted(members, key=str))]
    keys = [f"job-{number}" for number in range(200)]
    owners = [[ring.owner(key) for key in keys] for ring in rings]
    assert owners[0] == owners[1] == owners[2]
    assert len(set(owners[0])) == 10


async def test_p32_what_went_to_the_wrong_worker_goes_on_at_once(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Go: an order that meets no owner costs a full grace period; here it is an hour."""
    other = Recorder()
    options: dict[str, Any] = {"ack_grace": 3600.0, "worker_ttl": 3600.0}
    async with make_node(**options) as one, make_node(of=watched, **options) as two:
        worker = await one.add_worker(recorder)
        await one.dispatch("a")
        recorder.hold("stop")
        await two.add_worker(other)
        await wait_workers(one, 2)
        async with anyio.create_task_group() as group:
            group.start_soon(one.drain, worker)
            await wait_until(lambda: bool(recorder.stops()), what="it is being stopped")
            await two.notify("a", b"hi")
            recorder.release("stop")
        await wait_until(lambda: other.notifications("a") == [b"hi"], what="the new owner hears")


async def test_p33_no_tick_is_lost_when_its_winner_is_busy(
    make_node: MakeNode, hub: pulsewire.Hub
) -> None:
    """Go: 21 of 40."""
    async with make_node() as node:
        ticker = node.ticker("t", every=0.02, missed="all")
        due = []
        for number in range(20):
            due.append((await anext(ticker)).due.timestamp())
            if number % 5 == 0:
                await let_pass(hub, 0.05)
        steps = {round((after - before) / 0.02) for before, after in pairwise(due)}
        assert steps == {1}


@on_one_server
async def test_p34_first_plan_is_made_on_one_node_and_its_error_leaks_nothing(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Go: on all nodes, and an error leaves ticker and map; `workers` is the name of a map of the pool there."""

    class Producer:
        name = "workers"
        asked = 0

        async def plan(self) -> Plan:
            self.asked += 1
            if self.asked == 1:
                raise ValueError("not yet")
            return Plan(start=[("a", b"")])

    producer = Producer()
    async with make_node() as one, make_node(of=watched) as two:
        await one.add_worker(recorder)
        await wait_workers(two, 1)
        for node in (one, two):
            node.schedule(producer, every=1.0)
        await wait_until(lambda: producer.asked >= 1, what="it was asked")
        assert producer.asked == 1
        await wait_running(["a"], recorder)


async def test_p35_slow_job_does_not_delay_the_others(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Go: the events of one worker are handled one by one."""
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start", key="slow")
        await node.dispatch("slow", wait=False)
        await node.dispatch("fast")
        await node.stop_job("fast")
        assert not recorder.running
        recorder.release("start", key="slow")
        await wait_state(node, "slow", "running")


@on_one_server
@pytest.mark.parametrize("form", ["object", "function"])
async def test_p36_time_for_stopping_is_bounded(
    make_node: MakeNode, recorder: Recorder, form: str
) -> None:
    """Go: the option does not bound `Stop`."""
    may_end = anyio.Event()

    async def stubborn(job: Job) -> None:
        with anyio.CancelScope(shield=True):
            await may_end.wait()

    recorder.hold("stop")
    handler: Recorder | Callable[[Job], object] = recorder if form == "object" else stubborn
    async with make_node(worker_shutdown_ttl=0.1, worker_ttl=TTL) as node:
        await node.add_worker(handler)  # type: ignore[arg-type]  # either is a handler
        await node.dispatch("a")
        with anyio.fail_after(PATIENCE):
            await node.shutdown()
        may_end.set()


@on_one_server
async def test_p37_node_that_cannot_join_leaves_nothing(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go: maps stay joined, and a heartbeat goes on. Tasks and connections are looked at after every test."""
    node = make_node()

    async def fail() -> None:
        raise ServerUnavailable("here", 1.0, "broken")

    with monkeypatch.context() as broken:
        broken.setattr(node._map, "__aenter__", fail, raising=False)
        broken.setattr(type(node._map), "__aenter__", lambda self: fail())
        with pytest.raises(ServerUnavailable):
            async with node:
                raise AssertionError("it has joined")
    assert await keys_of("pool") in ([], ["pool:{pool}:meta"])
    async with make_node() as again:
        await again.add_worker(recorder)
        await again.dispatch("a")


@on_one_server
async def test_p38_many_replies_at_once_are_not_trimmed(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go: acknowledgements beyond 1,000 that were not read yet are lost. Here nobody looks at the job instead."""
    monkeypatch.setattr("pulsewire.pool.dispatch.LOOK_AFTER", 600.0)
    async with make_node(max_queued_jobs=3000) as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(1100):
                    group.start_soon(node.dispatch, f"job-{number}")
                await wait_until(lambda: bool(recorder.starts()), what="they are being started")
                recorder.release("start")
        assert len(recorder.running) == 1100


@on_one_server
async def test_defects_together_under_weather(
    make_node: MakeNode, weathered: pulsewire.Hub, proxy: FaultProxy, facts: Facts
) -> None:
    """Connections that break while workers come and go: every key ends up running once, none twice at a time."""
    log = Log()
    handlers = [log.handler(f"h{number}") for number in range(3)]
    keys = [f"job-{number}" for number in range(60)]
    async with make_node() as calm, make_node(of=weathered) as shaken:
        await calm.add_worker(handlers[0])
        worker = await shaken.add_worker(handlers[1])
        await wait_workers(calm, 2)
        for number, key in enumerate(keys):
            await calm.dispatch(key, wait=False)
            if number % 15 == 7:
                proxy.cut()
            if number == 30:
                await calm.add_worker(handlers[2])
        await shaken.remove_worker(worker)
        await wait_running(keys, *handlers)
        assert log.overlaps() == []
        assert max(running(*handlers).values()) == 1
        assert not handlers[1].running
        states = {job.state for job in await calm.jobs()}
        assert states <= {JobState.RUNNING, JobState.STARTING}


@on_one_server
async def test_p12_start_on_its_way_does_not_begin_after_its_job_was_handed_over(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """The same for what was not read yet."""
    log = Log()
    first, second = log.handler("first"), log.handler("second")
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(first)
        await wait_workers(two, 1)
        async with late_orders(one) as kept:
            await two.dispatch("a", wait=False)
            await wait_until(lambda: bool(kept), what="the start is on its way")
            await two.add_worker(second)
            await wait_workers(one, 2)
            await one.drain(worker)
            await wait_running(["a"], second)
        await wait_until(lambda: not worker.jobs, what="the late order is done with")
        assert log.overlaps() == []


async def test_p15_run_of_an_evicted_worker_is_cancelled(make_node: MakeNode, raw: Raw) -> None:
    """The same for a job that is a coroutine function."""
    runs = Runs()
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(runs.run)
        await node.dispatch("a")
        await wait_until(lambda: bool(runs.begun), what="it runs")
        await end_lease(node, worker.id, raw)
        await wait_until(lambda: runs.cancelled == ["a"], what="it was cancelled")
        await wait_until(lambda: len(runs.begun) == 2, what="it is back")
