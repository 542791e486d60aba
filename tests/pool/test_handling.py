"""Handlers in each of their forms: what they get, and what becomes of a job when they raise, hang or return."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio
import pytest

import pulsewire
from pulsewire import JobExists, JobLost, JobNotFound, JobNotStarted, JobStartFailed
from pulsewire.pool import Handler, Job, JobState
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Facts, on_one_server, on_two_topologies
from tests.pool.facts import MakeNode, Recorder, wait_gone, wait_running, wait_state, wait_workers
from tests.pool.scenes import Runs, gather


@pytest.fixture(autouse=True)
def restarts_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that has failed is started again after a few hundredths."""
    monkeypatch.setattr("pulsewire.pool.worker.RESTART_BASE", 0.05)


# --- objects


def test_recorder_is_a_handler() -> None:
    assert isinstance(Recorder(), Handler)


class WithoutNotify:
    """The least that a handler has."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}

    async def start(self, job: Job) -> None:
        self.running[job.key] = job.token

    async def stop(self, key: str) -> None:
        del self.running[key]


@on_two_topologies
async def test_handler_without_notify_passes_notifications_over(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the job stays."""
    handler = WithoutNotify()
    async with make_node() as node:
        await node.add_worker(handler)
        await node.dispatch("a")
        await node.notify("a", b"hi")
        said = "a handler takes no notifications, one was passed over"
        await wait_until(lambda: said in caplog.messages, what="it is logged")
        assert set(handler.running) == {"a"}
        await node.stop_job("a")
        assert handler.running == {}


@on_one_server
async def test_notify_that_raises_changes_nothing(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder
) -> None:
    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.fail("notify", ValueError("deaf"), times=1)
        await node.notify("a", b"1")
        await node.notify("a", b"2")
        await wait_until(lambda: recorder.notifications() == [b"1", b"2"], what="both came")
        assert [arguments[3] for arguments in facts.of("job_failed")] == ["notify"]
        assert set(recorder.running) == {"a"}


@on_two_topologies
async def test_stop_that_raises_ends_the_job_all_the_same(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder
) -> None:
    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        error = RuntimeError("cannot")
        recorder.fail("stop", error)
        await node.stop_job("a")
        assert await node.job("a") is None
        assert facts.of("job_failed")[0][-2:] == ("stop", error)


@on_two_topologies
async def test_stop_that_hangs_is_given_up(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder
) -> None:
    """After `worker_shutdown_ttl`, which Pulse does not enforce (P36)."""
    async with make_node(of=watched, worker_shutdown_ttl=0.1) as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        await node.stop_job("a", timeout=PATIENCE)
        assert await node.job("a") is None
        assert isinstance(facts.of("job_failed")[0][-1], TimeoutError)
        await node.dispatch("a")
        recorder.release("stop")


@on_two_topologies
async def test_later_start_that_raises_is_tried_again_and_the_payload_stays(
    make_node: MakeNode, recorder: Recorder, watched: pulsewire.Hub
) -> None:
    """A job that was admitted is never dropped: only the first start can refuse it."""
    other = Recorder()
    async with make_node() as node, make_node(of=watched, worker_ttl=0.6) as heir:
        worker = await node.add_worker(recorder)
        await node.dispatch("a", b"pay")
        other.fail("start", ValueError("not yet"), times=2)
        await heir.add_worker(other)
        await wait_workers(node, 2)
        await node.remove_worker(worker)
        await wait_until(lambda: bool(other.starts()), what="it was tried")
        waiting = await heir.job("a")
        assert waiting is not None
        assert (waiting.error, waiting.payload) in (("not yet", b"pay"), ("", b"pay"))
        await wait_running(["a"], other)
        assert len(other.starts("a")) == 3
        assert {call.payload for call in other.starts()} == {b"pay"}
        tokens = [call.token for call in other.starts()]
        assert tokens == sorted(set(tokens))
        info = await wait_state(heir, "a", "running")
        assert (info.starts, info.error) == (4, "not yet")


@on_one_server
async def test_start_that_returns_late_counts(make_node: MakeNode, recorder: Recorder) -> None:
    """Long after its dispatcher gave up; a notification and a stop given meanwhile come after it."""
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        with pytest.raises(JobNotStarted):
            await node.dispatch("a", timeout=0.02)
        await node.notify("a", b"hi")
        recorder.release("start")
        await wait_until(lambda: recorder.notifications() == [b"hi"], what="it was told")
        await node.stop_job("a")
        assert [call.what for call in recorder.calls] == ["start", "notify", "stop"]


# --- heartbeats


@on_two_topologies
async def test_heartbeat_notes_progress_and_tells_who_has_lost_the_job(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        job = recorder.jobs["a"]
        for progress in ("1 of 3", "2 of 3 — ñ"):
            await job.heartbeat(progress)
            info = await node.job("a")
            assert info is not None
            assert info.progress == progress
        await job.heartbeat()
        info = await node.job("a")
        assert info is not None
        assert info.progress == "2 of 3 — ñ"
        await node.stop_job("a")
        with pytest.raises(JobLost) as caught:
            await job.heartbeat("too late")
        assert (caught.value.key, caught.value.token) == ("a", job.token)
        assert await node.job("a") is None
        await node.dispatch("a")
        with pytest.raises(JobLost):
            await job.heartbeat("of the old one")
        assert "a" in repr(job)


# --- coroutine functions


@on_two_topologies
async def test_run_that_returns_ends_its_job(make_node: MakeNode, facts: Facts) -> None:
    """The key is free again; who asks for its end later gets JobNotFound."""
    runs = Runs()
    async with make_node() as node:
        worker = await node.add_worker(runs.run)
        await node.dispatch("a", b"pay")
        await wait_until(lambda: set(runs.running) == {"a"}, what="it runs")
        assert runs.begun[0].payload == b"pay"
        with pytest.raises(JobExists):
            await node.dispatch("a")
        runs.end("a")
        await wait_gone(node, "a")
        with pytest.raises(JobNotFound):
            await node.stop_job("a")
        await wait_until(lambda: worker.jobs == (), what="nothing is here")
        assert runs.cancelled == []
        await node.dispatch("a")
        await wait_until(lambda: len(runs.begun) == 2, what="it runs again")
        assert runs.begun[1].starts == 1
        assert "run" in repr(worker)


@on_two_topologies
async def test_run_is_cancelled_to_stop_it(make_node: MakeNode) -> None:
    runs = Runs()
    async with make_node() as node:
        await node.add_worker(runs.run)
        await node.dispatch("a")
        await wait_until(lambda: set(runs.running) == {"a"}, what="it runs")
        await node.stop_job("a")
        assert runs.cancelled == ["a"]
        assert runs.running == {}


@on_two_topologies
async def test_run_that_raises_is_begun_again_after_growing_pauses(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts
) -> None:
    """It waits in between, with its error; each beginning has a larger token and counts."""
    runs = Runs()
    errors = [ValueError("one"), ValueError("two")]
    runs.fail("a", *errors)
    async with make_node(of=watched, worker_ttl=0.6) as node:
        await node.add_worker(runs.run)
        await node.dispatch("a", b"pay")
        await wait_until(lambda: len(runs.begun) == 3, what="it was begun three times")
        info = await wait_state(node, "a", "running")
        assert (info.starts, info.error, info.payload) == (3, "two", b"pay")
        tokens = [job.token for job in runs.begun]
        assert tokens == sorted(set(tokens))
        assert [job.starts for job in runs.begun] == [1, 2, 3]
        assert [arguments[-2:] for arguments in facts.of("job_failed")] == [
            ("run", error) for error in errors
        ]
        await node.stop_job("a")


def test_pauses_between_failed_runs_grow_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    from pulsewire.pool import worker

    monkeypatch.setattr(worker, "RESTART_BASE", 0.5)
    pauses = [worker._restart_pause(starts) for starts in (1, 2, 3, 50, 10**6)]
    assert pauses == [0.5, 1.0, 2.0, worker.RESTART_CAP, worker.RESTART_CAP]


@on_one_server
async def test_job_that_waits_to_be_begun_again_can_be_stopped(make_node: MakeNode) -> None:
    runs = Runs()
    runs.fail("a", *(ValueError("again") for _ in range(100)))
    async with make_node() as node:
        await node.add_worker(runs.run)
        await node.dispatch("a", wait=False)
        await wait_until(lambda: bool(runs.begun), what="it was begun")
        await node.stop_job("a", timeout=PATIENCE)
        assert await node.job("a") is None
        count = len(runs.begun)
        await node.dispatch("b")
        assert len([job for job in runs.begun if job.key == "a"]) == count


@on_one_server
async def test_run_that_ignores_its_cancellation_is_given_up(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts
) -> None:
    """After `worker_shutdown_ttl` the job has ended for the pool; that it returns later changes nothing."""
    may_end, ended = anyio.Event(), anyio.Event()
    begun: list[int] = []

    async def stubborn(job: Job) -> None:
        begun.append(job.token)
        if len(begun) > 1:
            await anyio.sleep_forever()
        with anyio.CancelScope(shield=True):
            await may_end.wait()
        ended.set()

    async with make_node(of=watched, worker_shutdown_ttl=0.1) as node:
        await node.add_worker(stubborn)
        await node.dispatch("a")
        await wait_until(lambda: bool(begun), what="it runs")
        await node.stop_job("a", timeout=PATIENCE)
        assert isinstance(facts.of("job_failed")[0][-1], TimeoutError)
        await node.dispatch("a")
        await wait_until(lambda: len(begun) == 2, what="it runs anew")
        may_end.set()
        await ended.wait()
        await node.dispatch("b")
        info = await node.job("a")
        assert info is not None
        assert (info.state, info.token) == (JobState.RUNNING, begun[1])


@on_one_server
async def test_run_that_swallows_its_cancellation_has_stopped(make_node: MakeNode) -> None:
    """Returning instead of raising is as good; raising something else is noted."""
    begun: list[str] = []

    async def swallow(job: Job) -> None:
        begun.append(job.key)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            if job.key == "raises":
                raise RuntimeError("instead") from None
            return

    async with make_node() as node:
        await node.add_worker(swallow)
        for key in ("returns", "raises"):
            await node.dispatch(key)
            await wait_until(lambda key=key: key in begun, what="it runs")  # type: ignore[misc]
            await node.stop_job(key)
            assert await node.job(key) is None
        assert begun == ["returns", "raises"]


@on_one_server
async def test_run_takes_no_notifications(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs()
    async with make_node() as node:
        await node.add_worker(runs.run)
        await node.dispatch("a")
        await node.notify("a", b"hi")
        said = "a handler takes no notifications, one was passed over"
        await wait_until(lambda: said in caplog.messages, what="it is logged")


@on_one_server
async def test_callable_object_is_a_coroutine_function(make_node: MakeNode) -> None:
    class Callable:
        def __init__(self) -> None:
            self.keys: list[str] = []

        async def __call__(self, job: Job) -> None:
            self.keys.append(job.key)

    handler = Callable()
    async with make_node() as node:
        await node.add_worker(handler)
        await node.dispatch("a")
        await wait_gone(node, "a")
        assert handler.keys == ["a"]


@on_two_topologies
async def test_run_moves_with_its_worker(make_node: MakeNode, watched: pulsewire.Hub) -> None:
    """Cancelled here before it begins there."""
    first, second = Runs(), Runs()
    async with make_node() as node, make_node(of=watched) as heir:
        worker = await node.add_worker(first.run)
        for key in "abc":
            await node.dispatch(key)
        await wait_until(lambda: len(first.running) == 3, what="they run")
        await heir.add_worker(second.run)
        await wait_workers(node, 2)
        await node.remove_worker(worker)
        await wait_until(lambda: set(second.running) == set("abc"), what="they run there")
        assert sorted(first.cancelled) == list("abc")
        assert first.running == {}


@on_one_server
async def test_run_gets_its_own_heartbeat(make_node: MakeNode) -> None:
    lost: list[int] = []

    async def count(job: Job) -> None:
        try:
            for number in range(1_000_000):
                await job.heartbeat(f"{number}")
                await anyio.sleep(0.002)
        except JobLost as error:
            lost.append(error.token)

    async with make_node() as node:
        await node.add_worker(count)
        await node.dispatch("a")

        async def goes_on() -> bool:
            info = await node.job("a")
            return info is not None and info.progress.isdigit() and int(info.progress) >= 3

        await wait_until(goes_on, what="progress is noted")
        await node.stop_job("a")
        assert await node.job("a") is None


@on_one_server
async def test_refused_and_accepted_starts_side_by_side(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        for number in range(0, 40, 2):
            recorder.fail("start", ValueError("even"), key=f"job-{number}")
        outcomes = await gather(*(partial(node.dispatch, f"job-{n}") for n in range(40)))
        assert all(isinstance(error, JobStartFailed) for error in outcomes[::2])
        assert outcomes[1::2] == [None] * 20
        assert set(recorder.running) == {f"job-{n}" for n in range(1, 40, 2)}
        assert len(await node.jobs()) == 20


# --- what others cancel


@on_one_server
@pytest.mark.parametrize("what", ["start", "stop", "notify"])
async def test_handler_that_awaits_what_others_cancelled_has_failed(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder, what: str
) -> None:
    """That is its outcome, and the end of nothing else: the node goes on with its other jobs."""
    async with make_node(of=watched) as node:
        await node.add_worker(recorder)
        await node.dispatch("steady")
        recorder.fail(what, asyncio.CancelledError(), key="a", times=1)
        if what == "start":
            with pytest.raises(JobStartFailed):
                await node.dispatch("a")
        await node.dispatch("a")
        await node.notify("a", b"hi")
        await node.stop_job("a")
        assert [arguments[3] for arguments in facts.of("job_failed")] == [what]
        assert set(recorder.running) - {"a"} == {"steady"}
        assert [call.key for call in recorder.stops()] == ["a"]


@on_one_server
async def test_run_that_awaits_what_others_cancelled_is_started_again(make_node: MakeNode) -> None:
    """As one that raises."""
    starts = list[int]()
    shared = asyncio.get_running_loop().create_future()
    shared.cancel()

    async def run(job: Job) -> None:
        starts.append(job.starts)
        if len(starts) == 1:
            await shared
        await anyio.sleep_forever()

    async with make_node() as node:
        await node.add_worker(run)
        await node.dispatch("a")
        await wait_until(lambda: len(starts) == 2, what="it was started again")
        await node.stop_job("a")


@on_one_server
async def test_handler_that_ends_the_process_only_fails(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """`sys.exit()` in a handler is the outcome of its job, as it is that of a task."""
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.fail("start", SystemExit(3), times=1)
        with pytest.raises(JobStartFailed, match="SystemExit: 3"):
            await node.dispatch("a")
        await node.dispatch("a")
        assert set(recorder.running) == {"a"}
