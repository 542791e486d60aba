"""What comes too late: orders for jobs that are elsewhere by now, replies that cross, leases that end meanwhile.

Each is a scene that two clocks play once in a while; here it is brought about, step by step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import JobLost, JobStartFailed, NoWorkers, ServerUnavailable, WorkerNotFound
from pulsewire.pool import Job, JobInfo, Node, Plan
from pulsewire.pool.dispatch import Dispatcher, _Waiter
from pulsewire.pool.store import Answer, PoolStore, Stopped, Tick
from pulsewire.pool.wire import SHUTDOWN_ENTRY, Order, Reply
from pulsewire.pool.worker import CHECK, MOVE, Worker
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import PATIENCE, Facts, Raw
from tests.pool.facts import (
    KeysOf,
    MakeNode,
    Recorder,
    wait_gone,
    wait_running,
    wait_state,
    wait_workers,
)
from tests.pool.scenes import Runs, add_ghost, ask_other, end_lease, gather, key_for, late_orders

TOPOLOGIES = ["standalone"]
TTL = 0.6
AWAY = ServerUnavailable("here", 1.0, "away")


async def wait_read(raw: Raw, inbox: str) -> None:
    """Return when nothing is left in an inbox."""

    async def is_empty() -> bool:
        return int(await raw(inbox, "XLEN", inbox)) == 0

    await wait_until(is_empty, timeout=PATIENCE, what="the inbox is empty")


async def token_of(node: Node, key: str) -> int:
    """The fencing token of a job."""
    info = await node.job(key)
    assert info is not None
    return info.token


# --- orders for what is elsewhere


async def test_notification_of_a_job_that_has_ended_is_said_to_come_too_late(
    make_node: MakeNode, recorder: Recorder, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        inbox = node._store.keys.inbox(worker.id)
        await raw(inbox, "XADD", inbox, "*", "do", "notify", "key", "gone", "epoch", 1)
        await wait_read(raw, inbox)
        said = [record for record in caplog.records if "came too late" in record.message]
        assert [vars(record)["job"] for record in said] == ["gone"]
        assert recorder.calls == []


async def test_stop_of_a_job_that_is_not_here_is_dropped(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """It ended before its stop was read; its key is not taken for one of the worker's."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        inbox, owned = node._store.keys.inbox(worker.id), node._store.keys.owned(worker.id)
        await raw(owned, "SADD", owned, "gone")
        await raw(inbox, "XADD", inbox, "*", "do", "stop", "key", "gone", "epoch", 1)
        await wait_read(raw, inbox)
        await wait_until(lambda: worker.jobs == (), what="nothing is held")
        assert recorder.calls == []
        assert await raw(owned, "EXISTS", owned) == 0


async def test_job_that_is_given_anew_to_whom_has_it_stops_first(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """As after a start that was taken for lost: one run at a time, the second under a larger token."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        token = recorder.running["a"]
        given = await node._store.assign("a", worker.id, token, worker.id)
        assert given.outcome == "given"
        await wait_until(lambda: recorder.running.get("a") == given.number, what="it runs anew")
        assert given.number > token
        assert [call.what for call in recorder.calls] == ["start", "stop", "start"]


async def test_start_whose_job_went_elsewhere_meanwhile_is_taken_back(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder
) -> None:
    other = Recorder()
    async with make_node(of=watched) as one, make_node() as two:
        await one.add_worker(recorder)
        stays = await two.add_worker(other)
        for node in (one, two):
            await wait_workers(node, 2)
        (mine,) = one.workers
        key = key_for(one, mine.id)
        recorder.hold("start")
        await two.dispatch(key, wait=False)
        await wait_until(lambda: bool(recorder.starts(key)), what="it is being started")
        given = await two._store.assign(key, mine.id, await token_of(two, key), stays.id)
        assert given.outcome == "given"
        recorder.release("start")
        await wait_until(lambda: bool(recorder.stops(key)), what="it was stopped here")
        assert facts.of("job_lost") == [("pool", key, mine.id)]
        await wait_until(lambda: key in {**other.running, **recorder.running}, what="it runs")


async def test_move_that_is_not_needed_any_more_is_not_made(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """The workers have changed back before the order was carried out; nor does a check concern a job that ended."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        worker.take(Order("", MOVE, "a", recorder.running["a"]))
        worker.take(Order("", CHECK, "ended", 1))
        await node.notify("a", b"behind them")
        await wait_until(lambda: bool(recorder.notifications()), what="they were carried out")
        await wait_until(lambda: worker.jobs == ("a",), what="nothing else is held")
        assert not recorder.stops()


async def test_mail_for_a_worker_that_has_left_is_not_read_on(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Its last entries come with a read that was under way: the next read does not ask for its inbox."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        inbox = node._store.keys.inbox(worker.id)
        await node.remove_worker(worker)
        node._mail._hand_out(inbox, [(b"1-0", [b"do", b"start", b"key", b"a", b"epoch", b"1"])])
        assert inbox not in node._mail._positions
        assert worker.jobs == ()


async def test_worker_samples_all_its_jobs_before_it_looks_at_one_again(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulsewire.pool.worker.SAMPLE", 2)
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        owned = {"a", "b", "c", "d", "e"}
        looks = [worker._next_sample(owned) for _ in range(4)]
        assert looks == [["a", "b"], ["c", "d"], ["e"], ["a", "b"]]


# --- stops that cross with failures


async def test_start_that_fails_while_its_stop_is_on_its_way_ends_the_job(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """It is not tried again."""
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        recorder.fail("start", ValueError("no"))
        await node.dispatch("a", wait=False)
        await wait_until(lambda: bool(recorder.starts()), what="it is being started")
        async with late_orders(node):
            await node.stop_job("a", wait=False)
            recorder.release("start")
            await wait_gone(node, "a")
        assert len(recorder.starts()) == 1


async def test_run_that_fails_while_its_stop_is_on_its_way_ends_the_job(
    make_node: MakeNode,
) -> None:
    may_fail, begun = anyio.Event(), list[str]()

    async def run(job: Job) -> None:
        begun.append(job.key)
        await may_fail.wait()
        raise ValueError("no")

    async with make_node() as node:
        await node.add_worker(run)
        await node.dispatch("a")
        async with late_orders(node):
            await node.stop_job("a", wait=False)
            may_fail.set()
            await wait_gone(node, "a")
        assert begun == ["a"]


async def test_stop_whose_reply_got_lost_is_content_with_the_job_gone(
    make_node: MakeNode, weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    """The repeated request finds nothing, perhaps since the first one has ended it."""
    async with make_node(of=weathered, client_only=True) as node:
        for key in ("first", "second"):
            await node.dispatch(key, wait=False)
        await node.stop_job("first")  # the server knows the script from now on
        fault = proxy.swallow_reply("EVALSHA")
        await node.stop_job("second")
        await fault.wait_hit()
        assert await node.job("second") is None


# --- those who wait


async def test_job_that_moves_faster_than_it_is_asked_for_has_no_owner(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody follows it for ever."""
    asked: list[str] = []

    async def elsewhere(key: str, worker: str, request: str, node: str) -> Stopped:
        asked.append(worker)
        return Stopped("elsewhere", f"worker-{len(asked)}", "", was_repeated=False)

    async with make_node(client_only=True) as node:
        monkeypatch.setattr(node._store, "stop", elsewhere)
        with pytest.raises(NoWorkers):
            await node.stop_job("a")
        assert asked[1:] == [f"worker-{number}" for number in range(1, len(asked))]
        assert len(asked) < 20


async def test_error_that_comes_while_the_job_is_looked_at_is_what_the_dispatcher_hears(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is gone by then; its reply says why."""
    monkeypatch.setattr("pulsewire.pool.dispatch.LOOK_AFTER", 0.01)
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        recorder.fail("start", ValueError("out of paint"))
        look, take, replies = node._store.job, node._mail._on_reply, list[Reply]()

        def taken(reply: Reply) -> None:
            take(reply)
            replies.append(reply)

        async def look_late(key: str, *, payload: bool) -> JobInfo | None:
            if "start" in {what for what, _ in recorder._held}:
                recorder.release("start")
            await wait_until(lambda: bool(replies), what="the reply has come")
            return await look(key, payload=payload)

        node._mail._on_reply = taken
        monkeypatch.setattr(node._store, "job", look_late)
        with pytest.raises(JobStartFailed, match="out of paint"):
            await node.dispatch("a", timeout=PATIENCE)


async def test_alarm_and_reply_of_one_moment_wake_a_caller_once(anyio_backend: object) -> None:
    waiter = _Waiter("a", asyncio.get_running_loop().create_future())
    waiter.wake()
    waiter.wake()
    assert await waiter.wait(0.0) is None
    waiter.reply = Reply("r", "started", "")
    assert await waiter.wait(PATIENCE) is waiter.reply


async def test_node_that_leaves_lets_those_have_their_reply_to_whom_it_has_come(
    make_node: MakeNode,
) -> None:
    async with make_node(client_only=True) as node:
        dispatcher = Dispatcher(node._crew, node._requests)
        answered, waiting = dispatcher._expect("a", "r1"), dispatcher._expect("b", "r2")
        dispatcher.take(Reply("r1", "started", ""))
        dispatcher.close()
        assert await answered.wait(0.0) == Reply("r1", "started", "")
        with pytest.raises(pulsewire.Closed):
            await waiting.wait(PATIENCE)


# --- leases that end meanwhile


async def test_fenced_worker_stops_what_it_has_begun_and_nothing_else(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """A job that waits behind others was never begun: its handler is not told to stop it. New orders are not taken."""
    async with make_node(worker_ttl=TTL, concurrency=1) as node:
        worker = await node.add_worker(recorder)
        recorder.hold("start")
        recorder.hold("stop")
        for key in ("begun", "queued"):
            await node.dispatch(key, wait=False)
            await wait_until(lambda key=key: key in worker.jobs, what="it is here")  # type: ignore[misc]
        await end_lease(node, worker.id, raw)
        await wait_until(lambda: bool(recorder.stops()), what="it was fenced")
        worker.take(Order("1-1", "start", "late", 99))
        assert worker.jobs == ()
        assert [call.key for call in recorder.stops()] == ["begun"]
        with pytest.raises(JobLost):
            await recorder.jobs["begun"].heartbeat()
        recorder.release("stop")
        recorder.release("start")
        await wait_until(lambda: {*recorder.running} == {"begun", "queued"}, what="both are back")
        assert not recorder.of("start", "late")


@pytest.mark.parametrize("trusted", [[False], [True, False]], ids=["start", "run"])
async def test_worker_that_wakes_up_too_late_begins_nothing(
    make_node: MakeNode, raw: Raw, trusted: list[bool]
) -> None:
    """Its process was stopped between reading an order and carrying it out: the job may be another's by now."""
    runs, asked = Runs(), list[bool]()
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(runs.run)
        judge = node._crew.is_trusted

        def is_trusted(one: str) -> bool:
            if not trusted:
                return judge(one)
            asked.append(trusted[0])
            return trusted.pop(0)

        node._crew.is_trusted = is_trusted
        await node.dispatch("a", wait=False)
        await wait_until(lambda: not trusted, what="it was asked whether it may")
        assert runs.begun == []
        await end_lease(node, worker.id, raw)
        await wait_until(lambda: len(runs.begun) == 1, what="the job begins under the next lease")
        assert asked[-1] is False


async def test_worker_that_wakes_up_too_late_leaves_notifications_to_the_next_owner(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        judge, asked = node._crew.is_trusted, list[str]()

        def never(one: str) -> bool:
            asked.append(one)
            return False

        node._crew.is_trusted = never
        await node.notify("a", b"hi")
        await wait_until(lambda: bool(asked), what="it was asked whether it may")
        assert recorder.notifications() == []
        node._crew.is_trusted = judge
        await end_lease(node, worker.id, raw)
        await wait_until(lambda: recorder.notifications("a") == [b"hi"], what="it was told")


async def test_worker_whose_lease_ends_while_it_joins_begins_anew(
    make_node: MakeNode, recorder: Recorder, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not shown under the id that has lapsed."""
    async with make_node(worker_ttl=TTL) as node:
        add, seen = node._mail.add, list[str]()

        async def slow(worker: str, take: Callable[[Order], None]) -> None:
            await add(worker, take)
            seen.append(worker)
            if len(seen) == 1:
                await end_lease(node, worker, raw)
                await wait_until(lambda: worker not in node._staff.workers, what="it was fenced")

        monkeypatch.setattr(node._mail, "add", slow)
        worker = await node.add_worker(recorder)
        await wait_until(lambda: worker.id in node._crew.roster.workers, what="it is shown")
        assert worker.id != seen[0]
        await node.dispatch("a", timeout=PATIENCE)
        assert set(node._crew.roster.workers) == {worker.id}


@pytest.mark.parametrize("is_away", [True, False], ids=["server away", "pool shut down"])
async def test_fenced_worker_comes_back_once_it_can(
    make_node: MakeNode,
    recorder: Recorder,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    is_away: bool,
) -> None:
    """As soon as a server is there again; not into a pool that is being shut down."""
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        enrol, tries, before = node._store.enrol, list[str](), worker.id

        async def fails_first(one: str, ttl: float) -> Answer:
            tries.append(one)
            if not is_away:
                return Answer("shutdown", 0, "somebody")
            if len(tries) == 1:
                raise AWAY
            return await enrol(one, ttl)

        monkeypatch.setattr(node._store, "enrol", fails_first)
        await end_lease(node, before, raw)
        await wait_until(lambda: len(tries) == (2 if is_away else 1), what="it has tried")
        if is_away:
            await wait_until(lambda: len(recorder.starts("a")) == 2, what="it is back")
            assert {info.id for info in node.pool_workers()} == {worker.id} != {before}
        else:
            await wait_state(node, "a", "waiting")
            assert node.workers == ()


async def test_leases_that_cannot_be_renewed_for_an_unknown_reason_end_the_node(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes out of its block; the jobs have stopped."""

    async def fail(self: PoolStore, workers: Any, ttl: float) -> list[str]:
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        async with make_node(worker_ttl=TTL) as node:
            await node.add_worker(recorder)
            await node.dispatch("a")
            with anyio.move_on_after(PATIENCE):
                monkeypatch.setattr(PoolStore, "renew", fail)
                await anyio.sleep_forever()
    monkeypatch.undo()
    assert not recorder.running


# --- two at once


@pytest.mark.parametrize("how", [Worker.hand_over_all, Worker.end_all])
async def test_two_that_empty_a_worker_at_once_stop_each_job_once(
    make_node: MakeNode, recorder: Recorder, how: Callable[[Worker], Any]
) -> None:
    keys = [f"job-{number}" for number in range(5)]
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        for key in keys:
            await node.dispatch(key)
        worker.is_draining = True
        assert await gather(partial(how, worker), partial(how, worker)) == [None, None]
        assert sorted(call.key for call in recorder.stops()) == keys


async def test_job_that_comes_at_the_last_moment_is_handed_over_as_well(
    make_node: MakeNode,
    watched: pulsewire.Hub,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between handing over all jobs and leaving, somebody with an old view gives the worker one more."""
    other = Recorder()
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(recorder)
        leave, tries = one._store.leave, list[Answer]()

        async def leave_late(mine: str, *, is_dead: bool) -> Answer:
            if not tries:
                assert await ask_other(two, "late", b"", mine) == "given"
            tries.append(await leave(mine, is_dead=is_dead))
            return tries[-1]

        monkeypatch.setattr(one._store, "leave", leave_late)
        await two.add_worker(other)
        async with late_orders(one):
            await one.remove_worker(worker)
        assert [answer.outcome for answer in tries] == ["owns", "left"]
        await wait_running(["late"], other)
        assert recorder.calls == []


async def test_node_that_cannot_hand_over_in_time_says_so_and_leaves(
    make_node: MakeNode,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pulsewire.pool.staff.GOODBYE", 0.05)
    async with make_node(worker_shutdown_ttl=0.05) as node:
        await node.add_worker(recorder)
        await node.dispatch("a")

        async def hang(*arguments: object) -> None:
            await anyio.sleep_forever()

        monkeypatch.setattr(node._store, "assign", hang)
        with anyio.fail_after(PATIENCE):
            await node.close()
        monkeypatch.undo()
    assert "a node could not hand over all its jobs in time" in caplog.messages
    assert not recorder.running


# --- givers with an old view


async def test_job_is_not_given_to_a_worker_that_has_died_unnoticed(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Whoever gives it away learns that from Redis: the janitor, and a worker that drains."""
    async with make_node(worker_ttl=3600.0) as node:
        worker = await node.add_worker(recorder)
        owner, heir = await add_ghost(node, 3600.0), await add_ghost(node, 3600.0)
        crew = node._crew
        mine = next(
            key
            for key in (f"job-{number}" for number in range(10_000))
            if crew.target(key) == owner and crew.target(key, but=owner) == heir
        )
        await node.dispatch(mine, wait=False)
        for ghost in (owner, heir):
            await end_lease(node, ghost, raw)
        assert await node._staff.janitor._give_one(mine, owner)
        await wait_running([mine], recorder)
        for ghost in (owner, heir):
            crew.roster.trust_again()
            assert ghost in {member.worker for member in crew.roster.ring._members}
        await node.drain(worker)
        await wait_state(node, mine, "waiting")


async def test_notification_of_a_dead_worker_for_a_job_that_has_ended_is_let_go(
    make_node: MakeNode, recorder: Recorder, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node)
        inbox = node._store.keys.inbox(ghost)
        await raw(inbox, "XADD", inbox, "*", "do", "notify", "key", "gone", "epoch", 1)
        await end_lease(node, ghost, raw)
        await wait_workers(node, 1)
        assert "a notification of a job came too late" in caplog.messages
        assert await raw(inbox, "EXISTS", inbox) == 0


# --- the end of a pool


async def test_wish_of_an_asker_that_died_is_taken_out_of_the_map(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flag has lapsed, its entry has not (protocol 7.3)."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.1)
    async with make_node() as node:
        await node._map.set(SHUTDOWN_ENTRY, "dead")
        await node.add_worker(recorder)
        await wait_until(lambda: SHUTDOWN_ENTRY not in node._map, what="it was taken out")
        await node.dispatch("a")
        assert not node.is_shut_down


async def test_wish_is_believed_while_nobody_can_be_asked_whether_it_holds(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is away must not keep jobs running in a pool that is to end."""

    async def fail() -> str:
        raise AWAY

    async with make_node() as node, make_node() as asker:
        await node.add_worker(recorder)
        await node.dispatch("a")
        monkeypatch.setattr(node._store, "shutdown_by", fail)
        with anyio.fail_after(PATIENCE):
            await asker.shutdown()
            await node.wait_shutdown()
        assert not recorder.running


@pytest.mark.parametrize("is_dead", [False, True])
async def test_foreign_key_among_a_workers_jobs_does_not_delay_the_end(
    make_node: MakeNode, recorder: Recorder, raw: Raw, keys_of: KeysOf, is_dead: bool
) -> None:
    """Its job was deleted by hand or by an eviction: there is nothing to stop, and nobody waits for it."""
    async with make_node(worker_ttl=60.0, worker_shutdown_ttl=60.0) as node:
        worker = await node.add_worker(recorder)
        whose = await add_ghost(node, 60.0) if is_dead else worker.id
        owned = node._store.keys.owned(whose)
        await raw(owned, "SADD", owned, "no such job")
        if is_dead:
            await end_lease(node, whose, raw)
        with anyio.fail_after(PATIENCE):
            await node.shutdown()
    assert await keys_of("pool") == []


# --- schedules, tickers, operators


async def test_planned_job_that_could_not_be_stopped_is_stopped_at_the_next_plan(
    make_node: MakeNode,
    recorder: Recorder,
    facts: Facts,
    watched: pulsewire.Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Producer:
        name = "p"
        asked = 0

        async def plan(self) -> Plan:
            self.asked += 1
            return Plan(start=[("a", b"")]) if self.asked == 1 else Plan(stop_all=True)

    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        stop = node._store.stop

        async def fails_first(key: str, worker: str, request: str, where: str) -> Stopped:
            if not facts.of("job_failed"):
                return Stopped("elsewhere", worker, "", was_repeated=False)
            return await stop(key, worker, request, where)

        monkeypatch.setattr(node._store, "stop", fails_first)
        node.schedule(Producer(), every=0.05)
        await wait_until(lambda: bool(recorder.stops("a")), what="it was stopped")
        assert [told[1:4] for told in facts.of("job_failed")] == [("a", "", "schedule")]


async def test_ticker_outlives_an_outage(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_node(of=watched) as node:
        ticker = node.ticker("t", every=0.05)
        first = await anext(ticker)
        take, tries = node._store.tick, list[Any]()

        async def fails_first(*arguments: Any, **options: Any) -> Tick:
            tries.append(arguments)
            if len(tries) == 1:
                raise AWAY
            return await take(*arguments, **options)

        monkeypatch.setattr(node._store, "tick", fails_first)
        assert (await anext(ticker)).due > first.due
        assert [told[0] for told in facts.of("loop_troubled")] == ["ticker t"]


async def test_worker_of_another_node_can_be_drained(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """By its id; its node hands its jobs over."""
    other = Recorder()
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(recorder)
        await one.dispatch("a")
        await two.add_worker(other)
        await wait_workers(two, 2)
        await two.drain(worker.id)
        await wait_running(["a"], other)
        assert worker.jobs == ()
        await two.drain(two.workers[0].id)
        await wait_state(one, "a", "waiting")
        with pytest.raises(WorkerNotFound):
            await two.drain("nobody")
