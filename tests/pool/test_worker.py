"""Workers: order per key, moving when workers come and go, leases and fencing, and holding against Redis."""

from __future__ import annotations

import time
from functools import partial

import anyio
import pytest

import pulsewire
from pulsewire import JobLost, JobStartFailed
from pulsewire._core import stalls
from pulsewire.pool import Job, JobState
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import PATIENCE, Facts, Raw, Said, let_pass, on_one_server, on_two_topologies
from tests.pool.facts import (
    MakeNode,
    Recorder,
    running,
    wait_gone,
    wait_running,
    wait_state,
    wait_workers,
)
from tests.pool.scenes import (
    Log,
    ask_other,
    end_lease,
    gather,
    key_for,
    keys_for,
    late_orders,
    wait_forgotten,
    wait_knows,
)

# --- order


@on_two_topologies
async def test_orders_of_one_key_come_one_after_the_other(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """A slow notification holds up the next one and the stop of its key."""
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("notify", key="a")
        for number in range(20):
            await node.notify("a", b"%d" % number)
        await node.stop_job("a", wait=False)
        await wait_until(lambda: bool(recorder.notifications()), what="the first one is there")
        await node.dispatch("b")  # what came after it has been carried out
        assert recorder.notifications("a") == [b"0"]
        recorder.release("notify", key="a")
        await wait_gone(node, "a")
        assert recorder.notifications("a") == [b"%d" % number for number in range(20)]
        assert [call.what for call in recorder.calls if call.key == "a"][-1] == "stop"


@on_one_server
async def test_keys_do_not_wait_for_each_other(make_node: MakeNode, recorder: Recorder) -> None:
    """Pulse handles one event of a worker after the other (P35). Twenty starts meet here."""
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(node.dispatch, f"job-{number}")
            await wait_until(lambda: len(recorder.starts()) == 20, what="all are being started")
            recorder.release("start")
        assert len(recorder.running) == 20


@on_one_server
async def test_concurrency_bounds_how_many_are_handled_at_a_time(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node(concurrency=2) as node:
        await node.add_worker(recorder)
        for key in ("slow-1", "slow-2"):
            recorder.hold("start", key=key)
            await node.dispatch(key, wait=False)
        await wait_until(lambda: len(recorder.starts()) == 2, what="two are being started")
        await node.dispatch("third", wait=False)
        worker = node.workers[0]
        await wait_until(lambda: "third" in worker.jobs, what="the third has come")
        assert not recorder.starts("third")
        recorder.release("start", key="slow-1")
        await wait_state(node, "third", "running")
        recorder.release("start", key="slow-2")
        await wait_state(node, "slow-2", "running")


# --- moving


async def test_newcomer_gets_what_belongs_to_it_and_nothing_else_moves(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """Stopped before it starts elsewhere, with a larger token and the payload (P1, P12)."""
    log = Log()
    first, second = log.handler("first", stop_takes=0.01), log.handler("second")
    keys = [f"job-{number}" for number in range(30)]
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(first)
        for key in keys:
            await one.dispatch(key, key.encode())
        before = dict(first.running)
        newcomer = await two.add_worker(second)
        await wait_workers(two, 2)
        mine = {key for key in keys if two._crew.target(key) == newcomer.id}
        assert 0 < len(mine) < 30
        await wait_until(lambda: set(second.running) == mine, what="what is its own has come")
        await wait_running(keys, first, second)
        assert log.overlaps() == []
        assert {call.key for call in first.stops()} == mine
        assert all(second.running[key] > before[key] for key in mine)
        assert all(first.running[key] == before[key] for key in keys if key not in mine)
        assert {call.payload for call in second.starts()} == {key.encode() for key in mine}
        await two.remove_worker(newcomer)
        await wait_until(lambda: set(first.running) == set(keys), what="all are back")
        assert {call.key for call in second.stops()} == mine
        assert len(first.starts()) == 30 + len(mine)
        assert log.overlaps() == []
        assert two.workers == ()
        await wait_workers(one, 1)
        assert [info.id for info in one.pool_workers()] == [worker.id]


@on_one_server
async def test_weights_say_how_many_jobs_a_worker_gets(make_node: MakeNode) -> None:
    light, heavy = Recorder(), Recorder()
    async with make_node() as node:
        await node.add_worker(light, weight=1.0)
        await node.add_worker(heavy, weight=9.0)
        await wait_workers(node, 2)
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(node.dispatch, f"job-{number}")
        assert 150 < len(heavy.running) < 200
        assert len(light.running) + len(heavy.running) == 200


@on_two_topologies
async def test_draining_worker_gives_all_away_and_gets_nothing_new(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    other = Recorder()
    async with make_node() as node, make_node(of=watched) as heir:
        worker = await node.add_worker(recorder)
        await heir.add_worker(other)
        for one in (node, heir):
            await wait_workers(one, 2)
        keys = [f"job-{number}" for number in range(20)]
        for key in keys:
            await node.dispatch(key)
        await node.drain(worker)
        assert worker.is_draining
        assert recorder.running == {}
        assert worker.jobs == ()
        await wait_running(keys, other)
        await wait_forgotten(heir, worker.id)
        await wait_forgotten(node, worker.id)
        for number in range(20, 40):
            await (node, heir)[number % 2].dispatch(f"job-{number}")
        assert recorder.running == {}
        states = {info.id: info.state for info in heir.pool_workers()}
        assert states[worker.id] == "draining"
        assert "draining" in repr(worker)


@on_one_server
async def test_jobs_of_a_draining_worker_wait_when_nobody_else_is_there(
    make_node: MakeNode, recorder: Recorder
) -> None:
    other = Recorder()
    async with make_node(worker_ttl=0.6) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        await node.drain(worker)
        await wait_state(node, "a", "waiting")
        await node.add_worker(other)
        await wait_running(["a"], other)
        assert recorder.running == {}


@on_one_server
async def test_job_that_an_old_view_gave_to_a_draining_worker_moves_on(
    make_node: MakeNode,
    recorder: Recorder,
    watched: pulsewire.Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dispatcher may have heard of it too late."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    other = Recorder()
    async with make_node() as node, make_node(of=watched) as heir:
        worker = await node.add_worker(recorder)
        await heir.add_worker(other)
        await wait_workers(node, 2)
        await node.drain(worker)
        assert await ask_other(heir, "late", b"", worker.id) == "given"
        await wait_running(["late"], other)


@on_one_server
async def test_job_that_an_old_view_gave_to_the_wrong_worker_moves_to_the_right_one(
    make_node: MakeNode,
    recorder: Recorder,
    watched: pulsewire.Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Now and then jobs are held against the workers though nothing has changed."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    other = Recorder()
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(recorder)
        right = await two.add_worker(other)
        for node in (one, two):
            await wait_workers(node, 2)
        key = key_for(one, right.id)
        assert await ask_other(one, key, b"", worker.id) == "given"
        await wait_running([key], other)


@on_one_server
async def test_start_that_was_given_away_unread_does_not_begin_here(
    make_node: MakeNode, recorder: Recorder, watched: pulsewire.Hub
) -> None:
    """The order is on its way still when its job is handed over; two would run it at once."""
    other = Recorder()
    async with make_node() as node, make_node(of=watched) as heir:
        worker = await node.add_worker(recorder)
        await wait_knows(heir, worker.id)
        async with late_orders(node) as kept:
            await heir.dispatch("late", wait=False)
            await wait_until(lambda: bool(kept), what="the start is on its way")
            await heir.add_worker(other)
            await wait_workers(node, 2)
            await node.drain(worker)
            await wait_running(["late"], other)
        await wait_until(lambda: not worker.jobs, what="the late order is done with")
        assert recorder.calls == []
        assert len(other.starts("late")) == 1


@on_one_server
async def test_start_that_was_ended_unread_does_not_begin(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """The same at the end of the pool."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        async with late_orders(node) as kept:
            await node.dispatch("late", wait=False)
            await wait_until(lambda: bool(kept), what="the start is on its way")
            ending = partial(worker.end_all)
            with anyio.fail_after(PATIENCE):
                await ending()
            assert await node.job("late") is None
        await wait_until(lambda: not worker.jobs, what="the late order is done with")
        assert recorder.calls == []


@on_one_server
async def test_no_job_runs_twice_while_workers_come_and_go_under_dispatches(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """Every key ends up running once, and never at two places at a time."""
    log = Log()
    keys = [f"job-{number}" for number in range(120)]
    handlers = [log.handler(f"h{number}", stop_takes=0.002) for number in range(5)]
    async with (
        make_node() as one,
        make_node(of=watched) as two,
        make_node(client_only=True) as client,
    ):
        workers = [await one.add_worker(handlers[0])]
        await wait_workers(client, 1)

        async def dispatch(part: list[str]) -> None:
            for key in part:
                await client.dispatch(key)

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(dispatch, keys[number::4])
            for number in (1, 2, 3):
                workers.append(await (one, two)[number % 2].add_worker(handlers[number]))
                await wait_until(
                    lambda h=handlers[number]: bool(h.starts()),  # type: ignore[misc]
                    what="it has got some",
                )
            await one.remove_worker(workers[0])
            await two.drain(workers[1])
            await one.add_worker(handlers[4])
        await wait_running(keys, *handlers)
        assert log.overlaps() == []
        assert not handlers[0].running
        assert not handlers[1].running


@on_one_server
async def test_two_that_wait_for_a_worker_to_be_empty_both_return(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node, make_node() as heir:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        await heir.add_worker(Recorder())
        recorder.hold("stop")
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(node.drain, worker)
                await wait_until(lambda: bool(recorder.stops()), what="it is being stopped")
                group.start_soon(node.remove_worker, worker)
                await wait_until(
                    lambda: any(
                        order.do == "leave"
                        for held in worker._held.values()
                        for order in held.orders or ()
                    ),
                    what="the second one waits, too",
                )
                recorder.release("stop")
        assert node.workers == ()


@on_two_topologies
async def test_start_that_hangs_does_not_keep_a_worker_from_leaving(
    make_node: MakeNode, recorder: Recorder, watched: pulsewire.Hub
) -> None:
    """It is cancelled and stopped; the job starts elsewhere, and its dispatcher is answered."""
    log = Log()
    hanging, other = log.handler("hanging"), log.handler("other")
    async with make_node() as node, make_node(of=watched) as heir:
        worker = await node.add_worker(hanging)
        await wait_workers(heir, 1)
        hanging.hold("start")
        async with anyio.create_task_group() as group:
            group.start_soon(heir.dispatch, "a")
            await wait_until(lambda: bool(hanging.starts()), what="it is being started")
            await heir.add_worker(other)
            await wait_workers(node, 2)
            await node.remove_worker(worker)
        await wait_running(["a"], other)
        assert log.overlaps() == []


@on_one_server
async def test_notification_follows_a_job_that_moves(
    make_node: MakeNode, recorder: Recorder, watched: pulsewire.Hub
) -> None:
    """Sent while the old owner stops the job, heard by the new one."""
    other = Recorder()
    async with make_node() as node, make_node(of=watched) as heir:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        await heir.add_worker(other)
        await wait_workers(node, 2)
        async with anyio.create_task_group() as group:
            group.start_soon(node.drain, worker)
            await wait_until(lambda: bool(recorder.stops()), what="it is being stopped")
            await heir.notify("a", b"hi")
            recorder.release("stop")
        await wait_until(lambda: other.notifications("a") == [b"hi"], what="the new owner hears")
        assert recorder.notifications() == []


@on_one_server
async def test_stop_of_a_job_that_is_being_moved_ends_it(
    make_node: MakeNode, recorder: Recorder, watched: pulsewire.Hub
) -> None:
    """It is not started elsewhere any more (protocol 5.3)."""
    other = Recorder()
    async with make_node() as node, make_node(of=watched) as heir:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        await heir.add_worker(other)
        await wait_workers(node, 2)
        async with anyio.create_task_group() as group:
            group.start_soon(node.drain, worker)
            await wait_until(lambda: bool(recorder.stops()), what="it is being stopped")
            await heir.stop_job("a", wait=False)
            recorder.release("stop")
        await wait_gone(heir, "a")
        assert other.calls == []


@on_one_server
async def test_job_whose_stop_fails_moves_all_the_same(
    make_node: MakeNode, recorder: Recorder, watched: pulsewire.Hub, facts: Facts
) -> None:
    other = Recorder()
    async with make_node(of=watched) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.fail("stop", RuntimeError("no"))
        await node.add_worker(other)
        await node.remove_worker(worker)
        await wait_running(["a"], other)
        assert [arguments[3] for arguments in facts.of("job_failed")] == ["stop"]


@on_one_server
async def test_notification_outlives_a_start_that_fails(
    make_node: MakeNode,
    recorder: Recorder,
    watched: pulsewire.Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job waits and is started again; what it was told meanwhile comes after that."""
    monkeypatch.setattr("pulsewire.pool.worker.RESTART_BASE", 0.05)
    other = Recorder()
    async with make_node(worker_ttl=0.6) as node, make_node(of=watched, worker_ttl=0.6) as heir:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        other.hold("start")
        other.fail("start", ValueError("not yet"), times=1)
        await heir.add_worker(other)
        await wait_workers(node, 2)
        await node.remove_worker(worker)
        await wait_until(lambda: bool(other.starts()), what="it is being started")
        await node.notify("a", b"hi")
        other.release("start")
        await wait_until(lambda: other.notifications("a") == [b"hi"], what="it was told")
        assert len(other.starts("a")) == 2


# --- leases and fencing


@on_two_topologies
async def test_worker_whose_lease_was_lost_stops_its_jobs_and_comes_back_as_another(
    make_node: MakeNode,
    watched: pulsewire.Hub,
    facts: Facts,
    raw: Raw,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its jobs come back with larger tokens; what it held before is told that it was lost."""
    handler = Recorder()
    async with make_node(of=watched, worker_ttl=0.6) as node:
        worker = await node.add_worker(handler)
        await node.dispatch("a")
        before, old_job = worker.id, handler.jobs["a"]
        await old_job.heartbeat()
        await end_lease(node, before, raw)
        await wait_until(lambda: worker.id != before, what="it is another worker")
        await wait_until(lambda: len(handler.starts("a")) == 2, what="the job is back")
        await wait_state(node, "a", "running")
        assert len(handler.stops("a")) == 1
        assert [call.what for call in handler.calls] == ["start", "stop", "start"]
        assert handler.running["a"] > old_job.token
        assert node.workers == (worker,)
        assert facts.of("worker_fenced") == [("pool", before, 1)]
        with pytest.raises(JobLost) as caught:
            await old_job.heartbeat("late")
        assert (caught.value.key, caught.value.token) == ("a", old_job.token)
        await handler.jobs["a"].heartbeat("fine")
        info = await node.job("a")
        assert info is not None
        assert (info.progress, info.owner) == ("fine", worker.id)
        await wait_until(
            lambda: [info.id for info in node.pool_workers()] == [worker.id],
            what="the old one is forgotten",
        )
    assert "a worker's lease was not renewed in time, its jobs are stopped" in caplog.messages


@on_one_server
async def test_node_that_cannot_renew_stops_its_jobs_before_others_start_them(
    make_node: MakeNode, weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    """By its own clock, hearing nothing from the server. Afterwards it takes part again."""
    log = Log()
    cut_off, other = log.handler("cut off"), log.handler("other")
    keys = [f"job-{number}" for number in range(10)]
    async with make_node(worker_ttl=1.0) as heir, make_node(of=weathered, worker_ttl=1.0) as node:
        worker = await node.add_worker(cut_off)
        for key in keys:
            await node.dispatch(key)
        await heir.add_worker(other)
        await wait_workers(node, 2)
        await wait_until(lambda: bool(other.running), what="some have moved")
        await wait_running(keys, cut_off, other)
        lost = dict(cut_off.running)
        assert lost
        before = worker.id
        proxy.stall()
        await wait_until(lambda: not cut_off.running, what="the node has stopped its jobs")
        await wait_running(keys, other)
        assert log.overlaps() == []
        assert all(other.running[key] > token for key, token in lost.items())
        proxy.resume()
        proxy.cut()
        await wait_until(lambda: worker.id != before, what="it is another worker")
        await wait_until(lambda: bool(cut_off.running), what="jobs come back to it")
        await wait_running(keys, cut_off, other)
        assert log.overlaps() == []


@on_one_server
async def test_blocked_event_loop_keeps_its_leases(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder, raw: Raw
) -> None:
    """A handler that blocks for several times the time to live costs no job: a thread renews."""
    async with make_node(of=watched, worker_ttl=0.5) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        before = worker.id
        leases = node._store.keys.leases
        time.sleep(2.0)
        ends = float(await raw(leases, "ZSCORE", leases, before))
        assert ends / 1000 > await watched.time() - 0.2
        await node.dispatch("b")
        await let_pass(watched, 0.6)
        assert worker.id == before
        assert facts.of("worker_fenced") == []
        assert len(recorder.starts()) == 2
        assert not recorder.stops()


class Blocker:
    """A handler that blocks the event loop where it is told to, until somebody has said so."""

    def __init__(self, what: str, said: Said) -> None:
        self._what = what
        self._said = said

    def _do(self, what: str) -> None:
        if what == self._what:
            assert self._said.came.wait(PATIENCE)

    async def start(self, job: Job) -> None:
        """Begin."""
        self._do("start")

    async def stop(self, key: str) -> None:
        """End."""

    async def run(self, job: Job) -> None:
        """The job as one function."""
        self._do("run")


@on_one_server
@pytest.mark.parametrize("what", ["start", "run"])
async def test_job_that_blocks_the_event_loop_is_named(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """While it does, whichever form its handler has (F5)."""
    monkeypatch.setattr(stalls, "BLOCKED", 0.3)
    said = Said(naming="job")
    blocker = Blocker(what, said)
    async with make_node(logger=said.logger()) as node:
        worker = await node.add_worker(blocker.run if what == "run" else blocker)
        await node.dispatch("tenant:7")
        await wait_until(lambda: bool(said.records), timeout=PATIENCE, what="it is said")
        record = vars(said.records[0])
        assert (record["pool"], record["job"], record["worker"]) == ("pool", "tenant:7", worker.id)
        assert "in _do" in record["where"]
        await node.shutdown()


@on_one_server
async def test_fenced_worker_records_nothing(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """A start that was under way does not count; the job starts anew with a larger token."""
    async with make_node(worker_ttl=0.6) as node:
        worker = await node.add_worker(recorder)
        recorder.hold("start")
        await node.dispatch("a", wait=False)
        await wait_until(lambda: bool(recorder.starts()), what="it is being started")
        before = worker.id
        await end_lease(node, before, raw)
        await wait_until(lambda: len(recorder.starts()) == 2, what="it is started anew")
        assert worker.id != before
        first, second = recorder.starts()
        assert second.token > first.token
        recorder.release("start")
        info = await wait_state(node, "a", "running")
        assert (info.token, info.owner, info.starts) == (second.token, worker.id, 2)


@on_one_server
async def test_draining_worker_that_was_fenced_is_draining_still(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    async with make_node(worker_ttl=0.6) as node:
        worker = await node.add_worker(recorder)
        await node.drain(worker)
        before = worker.id
        await end_lease(node, before, raw)

        def is_back() -> bool:
            states = {info.id: info.state for info in node.pool_workers()}
            return worker.id != before and states == {worker.id: "draining"}

        await wait_until(is_back, what="it is another draining worker")


@on_one_server
async def test_worker_that_is_fenced_while_it_is_removed_does_not_come_back(
    make_node: MakeNode, recorder: Recorder, raw: Raw, watched: pulsewire.Hub, facts: Facts
) -> None:
    """It was to leave anyway; its jobs go to the others."""
    other = Recorder()
    async with make_node(of=watched, worker_ttl=0.6) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        stays = await node.add_worker(other)
        async with anyio.create_task_group() as group:
            group.start_soon(node.remove_worker, worker)
            await wait_until(lambda: bool(recorder.stops()), what="it is being removed")
            await end_lease(node, worker.id, raw)
            await wait_until(lambda: bool(facts.of("worker_fenced")), what="it was fenced")
            recorder.release("stop")
        await wait_until(lambda: "a" in other.running, what="the job is elsewhere")
        await let_pass(watched, 1.2)
        assert node.workers == (stays,)
        assert set(await node._store.leases()) == {stays.id}


# --- what got lost


@on_one_server
async def test_start_that_was_lost_on_its_way_is_given_anew(
    make_node: MakeNode,
    recorder: Recorder,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        inbox = node._store.keys.inbox(worker.id)
        async with late_orders(node) as kept:
            await node.dispatch("lost", b"pay", wait=False)
            await wait_until(lambda: bool(kept), what="the start is on its way")
            await raw(inbox, "DEL", inbox)
            kept.clear()
        await wait_running(["lost"], recorder)
        assert recorder.starts()[0].payload == b"pay"
        assert "the start of a job was lost on its way, it is given anew" in caplog.messages


@on_one_server
async def test_stop_whose_start_was_lost_ends_the_job(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        inbox = node._store.keys.inbox(worker.id)
        async with late_orders(node) as kept:
            await node.dispatch("lost", wait=False)
            await wait_until(lambda: bool(kept), what="the start is on its way")
            await raw(inbox, "DEL", inbox)
            kept.clear()
        await node.stop_job("lost", timeout=PATIENCE)
        assert await node.job("lost") is None
        assert recorder.calls == []


@on_one_server
@pytest.mark.parametrize("is_begun", [False, True])
async def test_stop_that_was_lost_on_its_way_is_carried_out(
    make_node: MakeNode,
    recorder: Recorder,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    is_begun: bool,
) -> None:
    """Of a job that runs, and of one whose start got lost as well."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        inbox = node._store.keys.inbox(worker.id)
        if is_begun:
            await node.dispatch("lost")
        async with late_orders(node) as kept:
            if not is_begun:
                await node.dispatch("lost", wait=False)
            await node.stop_job("lost", wait=False)
            await wait_until(
                lambda: any(order.do == "stop" for _, order in kept), what="the stop is on its way"
            )
            await raw(inbox, "DEL", inbox)
            kept.clear()
        await wait_gone(node, "lost")
        assert not recorder.running
        assert len(recorder.stops()) == int(is_begun)


@on_one_server
async def test_job_that_vanished_from_redis_stops(
    make_node: MakeNode,
    recorder: Recorder,
    raw: Raw,
    watched: pulsewire.Hub,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deleted by hand, or by an eviction; the others go on."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    async with make_node(of=watched) as node:
        worker = await node.add_worker(recorder)
        for key in ("gone", "fine"):
            await node.dispatch(key)
        job, owned = node._store.keys.job("gone"), node._store.keys.owned(worker.id)
        await raw(job, "DEL", job)
        await raw(owned, "SREM", owned, "gone")
        await wait_until(lambda: set(recorder.running) == {"fine"}, what="it was stopped")
        assert facts.of("job_lost") == [("pool", "gone", worker.id)]
        with pytest.raises(JobLost):
            await recorder.jobs["gone"].heartbeat()
        await node.dispatch("gone")
        assert set(recorder.running) == {"gone", "fine"}


@on_one_server
async def test_job_that_redis_says_is_anothers_stops_here(
    make_node: MakeNode,
    recorder: Recorder,
    watched: pulsewire.Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given away without the owner's doing: an old view of a failed-over server, or a hand in Redis."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    other = Recorder()
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(recorder)
        await two.add_worker(other)
        for node in (one, two):
            await wait_workers(node, 2)
        key = key_for(one, two.workers[0].id)
        monkeypatch.setattr(worker, "move_elsewhere", lambda: 0)
        assert await ask_other(one, key, b"", worker.id) == "given"
        await wait_running([key], recorder)
        info = await one.job(key)
        assert info is not None
        given = await two._store.assign(key, worker.id, info.token, two.workers[0].id)
        assert given.outcome == "given"
        await wait_running([key], other)
        await wait_until(lambda: len(recorder.stops(key)) == 1, what="it was stopped here")
        assert not other.stops()


@on_one_server
async def test_foreign_key_in_a_workers_set_is_no_job_of_its(
    make_node: MakeNode,
    recorder: Recorder,
    raw: Raw,
    hub: pulsewire.Hub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its job was deleted by hand or by an eviction: the handler is not called, and the worker can leave."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.1)
    async with make_node(worker_shutdown_ttl=1.0) as node:
        await node.dispatch("waiting", wait=False)
        worker = await node.add_worker(recorder)
        await wait_running(["waiting"], recorder)
        owned = node._store.keys.owned(worker.id)
        await raw(owned, "SADD", owned, "no such job")
        await let_pass(hub, 0.4)
        assert {call.key for call in recorder.calls} == {"waiting"}
        with anyio.fail_after(PATIENCE):
            await node.drain(worker)
        assert await raw(owned, "EXISTS", owned) == 0


@on_one_server
async def test_lost_list_of_a_workers_jobs_is_made_again(
    make_node: MakeNode, recorder: Recorder, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deletes it: the jobs run on, are shown, and go elsewhere when their worker leaves."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.1)
    keys = [f"job {number}" for number in range(5)]
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        for key in keys:
            await node.dispatch(key)
        owned = node._store.keys.owned(worker.id)
        await raw(owned, "DEL", owned)

        async def all_are_listed() -> bool:
            return sorted(job.key for job in await node.jobs()) == keys

        await wait_until(all_are_listed, what="they are listed")
        assert all(len(recorder.starts(key)) == 1 for key in keys)
        assert not recorder.stops("job 0")


@on_two_topologies
async def test_no_order_is_left_once_all_is_carried_out(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """An entry is deleted in the step that records its outcome (protocol 3.2)."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        for number in range(10):
            await node.dispatch(f"job-{number}")
            await node.notify(f"job-{number}", b"hi")
        recorder.fail("start", ValueError("no"), times=1)
        with pytest.raises(JobStartFailed):
            await node.dispatch("bad")
        for number in range(5):
            await node.stop_job(f"job-{number}")
        inbox = node._store.keys.inbox(worker.id)

        async def is_empty() -> bool:
            return int(await raw(inbox, "XLEN", inbox)) == 0

        await wait_until(is_empty, what="the inbox is empty")
        starting = node._store.keys.starting
        assert await raw(starting, "ZCARD", starting) == 0
        assert worker.jobs == tuple(f"job-{number}" for number in range(5, 10))
        assert len(worker) == 5
        assert running(recorder) == dict.fromkeys(worker.jobs, 1)
        info = await node.job("job-9")
        assert info is not None
        assert info.state is JobState.RUNNING
        assert await gather(*(partial(node.stop_job, key) for key in worker.jobs)) == [None] * 5
        assert keys_for(node, worker.id, 1)
