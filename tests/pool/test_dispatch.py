"""Dispatching, stopping and notifying jobs: what the caller gets, and what is in Redis afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import (
    Closed,
    InvalidName,
    InvalidOption,
    JobExists,
    JobNotFound,
    JobNotStarted,
    JobNotStopped,
    JobStartFailed,
    NoWorkers,
    OutcomeUnknown,
    PayloadTooLarge,
    PoolFull,
    ServerUnavailable,
)
from pulsewire.pool import JobState, Node
from pulsewire.pool import dispatch as dispatch_module
from pulsewire.testing import FaultProxy, wait_until
from tests.facts import PATIENCE, Raw, on_one_server, on_two_topologies
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
from tests.pool.scenes import end_lease, gather, key_for, keys_for, wait_knows

# --- on every topology


async def test_dispatch_returns_when_the_owner_has_started_the_job(
    make_node: MakeNode, recorder: Recorder, hub: pulsewire.Hub
) -> None:
    """Key, payload, the server's time and a token come to the handler; Redis says the same."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        before = await hub.time()
        await node.dispatch("user:123", b"\x00pay\xff")
        assert set(recorder.running) == {"user:123"}
        job, info = recorder.jobs["user:123"], await node.job("user:123")
        assert (job.key, job.payload, job.starts) == ("user:123", b"\x00pay\xff", 1)
        assert before - 1 < job.created_at.timestamp() < before + PATIENCE
        assert info is not None
        assert (info.state, info.owner, info.token) == (JobState.RUNNING, worker.id, job.token)
        assert (info.payload, info.created_at) == (b"\x00pay\xff", job.created_at)
        assert (info.starts, info.progress, info.error) == (1, "", "")
        assert worker.jobs == ("user:123",)


async def test_stop_job_returns_when_the_handler_has_stopped_it(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    """Then nothing of the job is left, and its key can be used again, with a larger token."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a", b"1")
        first = recorder.running["a"]
        await node.stop_job("a")
        assert recorder.running == {}
        assert await node.job("a") is None
        assert await node.jobs() == ()
        assert worker.jobs == ()
        assert not [key for key in await keys_of("pool") if ":job:" in key or ":owned:" in key]
        await node.dispatch("a", b"2")
        assert recorder.running["a"] > first


async def test_jobs_spread_over_nodes_and_each_call_finds_the_owner(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """Dispatch, notify and stop from either node, wherever the job is."""
    handlers = [Recorder(), Recorder()]
    async with make_node() as one, make_node(of=watched) as two:
        workers = [await one.add_worker(handlers[0]), await two.add_worker(handlers[1])]
        for node in (one, two):
            await wait_workers(node, 2)
        keys = keys_for(one, workers[0].id, 3) + keys_for(one, workers[1].id, 3)
        for number, key in enumerate(keys):
            await (one, two)[number % 2].dispatch(key, key.encode())
        await wait_running(keys, *handlers)
        assert set(handlers[0].running) == set(keys[:3])
        assert [job.key for job in await one.jobs()] == sorted(keys)
        for number, key in enumerate(keys):
            await (two, one)[number % 2].notify(key, b"hear " + key.encode())
        heard = [call for handler in handlers for call in handler.of("notify")]

        def told() -> set[str]:
            return {call.key for handler in handlers for call in handler.of("notify")}

        await wait_until(lambda: told() == set(keys), what="every job was notified")
        assert all(call.payload == b"hear " + call.key.encode() for call in heard)
        for number, key in enumerate(keys):
            await (two, one)[number % 2].stop_job(key)
        assert not running(*handlers)
        assert await two.jobs() == ()


async def test_one_key_at_the_same_time_from_two_nodes_is_one_job(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """One caller succeeds, all others get JobExists, and one start happens; later ones get it, too."""
    async with make_node() as one, make_node(of=watched) as two:
        await one.add_worker(recorder)
        await wait_workers(two, 1)
        calls = [partial(node.dispatch, "same", b"") for node in (one, two) * 10]
        outcomes = await gather(*calls)
        assert outcomes.count(None) == 1
        assert all(isinstance(error, JobExists) for error in outcomes if error is not None)
        assert len(recorder.starts("same")) == 1
        with pytest.raises(JobExists) as caught:
            await two.dispatch("same")
        assert (caught.value.key, caught.value.owner) == ("same", one.workers[0].id)


async def test_job_dispatched_without_any_worker_waits_and_starts_when_one_comes(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Pulse drops what is dispatched before the first node with workers (P4)."""
    async with make_node(worker_ttl=0.6) as node:
        await node.dispatch("early", b"pay", wait=False)
        info = await node.job("early")
        assert info is not None
        assert (info.state, info.owner, info.payload) == (JobState.WAITING, "", b"pay")
        with pytest.raises(JobExists):
            await node.dispatch("early")
        await node.add_worker(recorder)
        await wait_running(["early"], recorder)
        assert recorder.starts()[0].payload == b"pay"


async def test_queue_limit_refuses_at_once_and_loses_nothing(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    """300 dispatches with room for 10: 290 quick refusals that write nothing, and 10 jobs that start (P3)."""
    async with make_node(max_queued_jobs=10, worker_ttl=0.6) as node:
        calls = [partial(node.dispatch, f"job-{n}", b"x", wait=False) for n in range(300)]
        outcomes = await gather(*calls)
        refused = [error for error in outcomes if error is not None]
        assert len(refused) == 290
        assert all(isinstance(error, PoolFull) and error.limit == 10 for error in refused)
        admitted = [f"job-{n}" for n, error in enumerate(outcomes) if error is None]
        assert sum(":job:" in key for key in await keys_of("pool")) == 10
        await node.add_worker(recorder)
        await wait_running(admitted, recorder)
        await node.dispatch("later")  # there is room again


# --- waiting for the start


@on_two_topologies
async def test_error_of_a_first_start_comes_to_the_dispatcher(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder, keys_of: KeysOf
) -> None:
    """With its words; the job has no payload and no owner afterwards, and can be dispatched anew."""
    async with make_node() as node, make_node(of=watched, client_only=True) as client:
        await node.add_worker(recorder)
        await wait_workers(client, 1)
        recorder.fail("start", ValueError("no room: ñ"), times=1)
        with pytest.raises(JobStartFailed) as caught:
            await client.dispatch("bad")
        assert (caught.value.key, caught.value.reason) == ("bad", "no room: ñ")
        assert await client.job("bad") is None
        assert not [key for key in await keys_of("pool") if ":job:" in key or ":owned:" in key]
        await client.dispatch("bad")
        assert len(recorder.starts("bad")) == 2


@on_one_server
async def test_error_without_words_comes_as_its_type(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.fail("start", KeyError())
        with pytest.raises(JobStartFailed, match="KeyError"):
            await node.dispatch("bad")


@on_two_topologies
async def test_start_that_takes_too_long_stays_and_comes_later(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """JobNotStarted says the state; the job starts once, whatever the time allowed was."""
    async with make_node(ack_grace=0.05) as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        with pytest.raises(JobNotStarted) as caught:
            await node.dispatch("late")
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.key, caught.value.state) == ("late", "starting")
        with pytest.raises(JobExists):
            await node.dispatch("late")
        recorder.release("start")
        await wait_state(node, "late", "running")
        assert len(recorder.starts("late")) == 1


@on_one_server
async def test_timeout_of_one_call_wins_over_the_grace(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node(ack_grace=60.0) as node:
        with pytest.raises(JobNotStarted) as caught:
            await node.dispatch("alone", timeout=0.05)
        assert (caught.value.waited, caught.value.state) == (0.05, "waiting")
        await node.stop_job("alone")


@on_one_server
async def test_reply_that_got_lost_is_no_outcome(
    make_node: MakeNode, recorder: Recorder, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job itself says that it runs (protocol 4.3)."""
    monkeypatch.setattr("pulsewire.pool.dispatch.LOOK_AFTER", 0.1)
    async with make_node() as node:
        await node.add_worker(recorder)
        monkeypatch.setattr(node._dispatcher, "take", lambda reply: None)
        node._mail._on_reply = lambda reply: None
        await node.dispatch("a")
        await node.stop_job("a")
        assert recorder.running == {}
        recorder.fail("start", ValueError("refused"))
        with pytest.raises(JobStartFailed):
            await node.dispatch("b")


@on_one_server
async def test_cancelled_dispatch_leaves_the_job(make_node: MakeNode, recorder: Recorder) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        async with anyio.create_task_group() as group:
            group.start_soon(node.dispatch, "a")
            await wait_until(lambda: bool(recorder.starts()), what="it is being started")
            group.cancel_scope.cancel()
        recorder.release("start")
        await wait_state(node, "a", "running")
        assert node._dispatcher._waiters == {}


# --- the owner is not where the dispatcher thinks


@on_two_topologies
async def test_dispatch_passes_over_a_worker_whose_lease_is_over(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder, raw: Raw
) -> None:
    """The old view proposes it, Redis refuses, the next one gets the job."""
    other = Recorder()
    async with make_node() as one, make_node(of=watched) as two:
        worker = await one.add_worker(recorder)
        await two.add_worker(other)
        for node in (one, two):
            await wait_workers(node, 2)
        key = key_for(two, worker.id)
        await end_lease(two, worker.id, raw)
        await two.dispatch(key)
        info = await two.job(key)
        assert info is not None
        assert info.owner != worker.id


@on_one_server
async def test_dispatch_trusts_suspects_again_when_nobody_else_is_left(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """Suspicion was wrong: Redis says that there is a worker whose lease holds."""
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await wait_workers(node, 1)
        node._crew.suspect(worker.id)
        await node.dispatch("a")
        assert set(recorder.running) == {"a"}


@on_two_topologies
async def test_stop_and_notify_go_to_the_current_owner_whatever_the_hash_says(
    make_node: MakeNode,
    watched: pulsewire.Hub,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The owner has not handed over yet what belongs to the newcomer."""
    monkeypatch.setattr("pulsewire.pool.staff.SETTLE", 60.0)
    other = Recorder()
    async with make_node() as one, make_node(of=watched) as two:
        await one.add_worker(recorder)
        keys = [f"job-{number}" for number in range(20)]
        for key in keys:
            await one.dispatch(key)
        newcomer = await two.add_worker(other)
        for node in (one, two):
            await wait_knows(node, newcomer.id)
        key = next(key for key in keys if two._crew.target(key) == newcomer.id)
        await two.notify(key, b"hi")
        await wait_until(lambda: recorder.notifications(key) == [b"hi"], what="it was told")
        await two.stop_job(key)
        told = [call.what for call in recorder.calls if call.key == key]
        assert told == ["start", "notify", "stop"]
        assert other.calls == []
        for key in keys:
            if await two.job(key):
                await one.stop_job(key)


# --- stopping


@on_two_topologies
async def test_stop_of_a_waiting_job_ends_it_at_once(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    async with make_node(worker_ttl=0.6) as node:
        await node.dispatch("a", wait=False)
        await node.stop_job("a")
        assert await node.job("a") is None
        left = [key for key in await keys_of("pool") if ":replies:" not in key]  # they lapse
        assert left == ["pool:{pool}:meta"]
        await node.add_worker(recorder)
        await node.dispatch("b")
        assert set(recorder.running) == {"b"}


@on_two_topologies
async def test_stop_of_a_job_whose_start_hangs_ends_the_start(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """The start is cancelled, the stop runs, and the dispatcher hears that nothing started."""
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        dispatching: list[BaseException | None] = []

        async def dispatch() -> None:
            dispatching.extend(await gather(partial(node.dispatch, "a")))

        async with anyio.create_task_group() as group:
            group.start_soon(dispatch)
            await wait_until(lambda: bool(recorder.starts()), what="it is being started")
            await node.stop_job("a")
        assert isinstance(dispatching[0], JobStartFailed)
        assert len(recorder.stops("a")) == 1
        assert await node.job("a") is None


@on_two_topologies
async def test_stop_twice_and_from_two_nodes_at_once_stops_once(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """All that ask wait for the one end; who comes later gets JobNotFound."""
    async with make_node() as one, make_node(of=watched, client_only=True) as two:
        await one.add_worker(recorder)
        await one.dispatch("a")
        recorder.hold("stop")
        outcomes: list[BaseException | None] = []

        async def stop_all() -> None:
            nodes = (one, two, one, two)
            outcomes.extend(await gather(*(partial(node.stop_job, "a") for node in nodes)))

        async with anyio.create_task_group() as group:
            group.start_soon(stop_all)
            await wait_until(lambda: bool(recorder.stops()), what="it is being stopped")

            async def all_wait() -> bool:
                stoppers = await one._store.link.call(
                    (job := one._store.keys.job("a")), "HGET", job, "stoppers"
                )
                return len((stoppers or b"").split()) == 4

            await wait_until(all_wait, what="four wait for the end")
            recorder.release("stop")
        assert outcomes == [None] * 4
        assert len(recorder.stops("a")) == 1
        for node in (one, two):
            with pytest.raises(JobNotFound):
                await node.stop_job("a")


@on_one_server
async def test_stop_that_is_late_says_so_and_goes_on(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        with pytest.raises(JobNotStopped) as caught:
            await node.stop_job("a", timeout=0.05)
        assert (caught.value.key, caught.value.waited) == ("a", 0.05)
        with pytest.raises(JobExists):
            await node.dispatch("a")
        recorder.release("stop")
        await wait_gone(node, "a")
        await node.dispatch("a")


@on_one_server
async def test_stop_without_waiting_returns_when_the_owner_is_told(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        await node.stop_job("a", wait=False)
        info = await node.job("a")
        assert info is not None
        assert info.state is JobState.STOPPING
        recorder.release("stop")
        await wait_gone(node, "a")


@on_one_server
async def test_dispatcher_of_a_waiting_job_hears_that_it_was_stopped(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a reply, not by looking."""
    monkeypatch.setattr("pulsewire.pool.dispatch.LOOK_AFTER", 600.0)
    async with make_node() as node:
        outcomes: list[BaseException | None] = []

        async def dispatch() -> None:
            outcomes.extend(await gather(partial(node.dispatch, "a")))

        async with anyio.create_task_group() as group:
            group.start_soon(dispatch)
            await wait_state(node, "a", "waiting")
            await node.stop_job("a")
        assert isinstance(outcomes[0], JobStartFailed)


# --- notifying


@on_two_topologies
async def test_notification_before_the_start_has_finished_comes_after_it(
    make_node: MakeNode, recorder: Recorder
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        recorder.hold("start")
        await node.dispatch("a", wait=False)
        await wait_until(lambda: bool(recorder.starts()), what="it is being started")
        for number in range(5):
            await node.notify("a", b"%d" % number)
        assert recorder.notifications() == []
        recorder.release("start")
        expected = [b"%d" % number for number in range(5)]
        await wait_until(lambda: recorder.notifications("a") == expected, what="it was told")


@on_one_server
async def test_notification_of_a_waiting_job_waits_for_an_owner(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """NoWorkers after `ack_grace`, or the timeout; it comes when a worker came meanwhile."""
    async with make_node(ack_grace=0.05, worker_ttl=0.6) as node:
        await node.dispatch("a", wait=False)
        with pytest.raises(NoWorkers) as caught:
            await node.notify("a", b"nobody")
        assert caught.value.key == "a"
        async with anyio.create_task_group() as group:
            group.start_soon(partial(node.notify, "a", b"hi", timeout=PATIENCE))
            await node.add_worker(recorder)
        await wait_until(lambda: recorder.notifications("a") == [b"hi"], what="it was told")


@on_one_server
async def test_notification_and_stop_of_nothing_are_refused(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        before = await keys_of("pool")
        with pytest.raises(JobNotFound) as caught:
            await node.notify("no such", b"x")
        assert (caught.value.pool, caught.value.key) == ("pool", "no such")
        with pytest.raises(JobNotFound):
            await node.stop_job("no such")
        assert await node.job("no such") is None
        assert await keys_of("pool") == before
        assert recorder.calls == []


# --- a server that goes away


@pytest.fixture
async def far(proxy: FaultProxy, namespace: str) -> AsyncIterator[pulsewire.Hub]:
    """A hub behind the proxy that does not wait long for a server."""
    async with pulsewire.connect(proxy.url, namespace=namespace, wait_for_server=0.3) as hub:
        yield hub
        await proxy.accept()


async def ask(node: Node, what: str) -> None:
    """Have job `new` started, or job `old` stopped or notified."""
    if what == "dispatch":
        await node.dispatch("new", wait=False)
    elif what == "stop":
        await node.stop_job("old")
    else:
        await node.notify("old", b"x")


REQUESTS = ("dispatch", "stop", "notify")


@on_one_server
@pytest.mark.parametrize("what", REQUESTS)
async def test_request_whose_outcome_cannot_be_found_out_says_so(
    make_node: MakeNode, recorder: Recorder, far: pulsewire.Hub, proxy: FaultProxy, what: str
) -> None:
    """It was sent and carried out, and the server is away before it could be asked. It happens once."""
    async with make_node() as near, make_node(of=far, client_only=True) as node:
        await near.add_worker(recorder)
        await wait_workers(node, 1)
        await near.dispatch("old")  # this and the next three so that the scripts are known
        await near.stop_job("old")
        await near.dispatch("old")
        await near.notify("old", b"")
        await wait_until(lambda: bool(recorder.of("notify")), what="it was notified")
        recorder.calls.clear()
        fault = proxy.swallow_reply("EVALSHA")
        await proxy.refuse()
        with pytest.raises(OutcomeUnknown, match=f"the {what[:5]}.* of job '(old|new)' was sent"):
            await ask(node, what)
        assert fault.hits == 1
        await proxy.accept()
        told = {"dispatch": "start", "stop": "stop", "notify": "notify"}[what]
        key = "new" if what == "dispatch" else "old"
        await wait_until(lambda: bool(recorder.of(told, key)), what="it was carried out")
        assert len(recorder.of(told, key)) == 1


@on_one_server
@pytest.mark.parametrize("what", REQUESTS)
async def test_request_that_was_never_sent_says_so(
    make_node: MakeNode, recorder: Recorder, far: pulsewire.Hub, proxy: FaultProxy, what: str
) -> None:
    async with make_node() as near, make_node(of=far, client_only=True) as node:
        await near.add_worker(recorder)
        await wait_workers(node, 1)
        await node.dispatch("old")
        await proxy.refuse()
        proxy.cut()
        link = node._store.link
        await wait_until(lambda: link.connection_now("") is None, what="the connection is lost")
        with pytest.raises(ServerUnavailable):
            await ask(node, what)
        await proxy.accept()
        await near.dispatch("last")
        assert [call.key for call in recorder.calls] == ["old", "last"]


@on_one_server
@pytest.mark.parametrize("what", ["start", "stop"])
async def test_server_that_goes_away_while_somebody_waits_undoes_nothing(
    make_node: MakeNode,
    recorder: Recorder,
    far: pulsewire.Hub,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """The job was admitted, or is being stopped: nobody may take it for not done."""
    monkeypatch.setattr(dispatch_module, "LOOK_AFTER", 0.05)
    async with make_node() as near, make_node(of=far, client_only=True) as node:
        await near.add_worker(recorder)
        await wait_workers(node, 1)
        if what == "stop":
            await node.dispatch("a")
        recorder.hold(what)
        call = node.dispatch("a") if what == "start" else node.stop_job("a")
        waiting = asyncio.create_task(call)
        await wait_until(lambda: bool(recorder.of(what)), what="it is under way")
        await proxy.refuse()
        proxy.cut()
        with pytest.raises(OutcomeUnknown, match="of job 'a'"):
            await waiting
        await proxy.accept()
        recorder.release(what)
        await wait_running(["a"] if what == "start" else [], recorder)


# --- looking


@on_one_server
async def test_job_tells_payloads_apart(make_node: MakeNode, recorder: Recorder) -> None:
    """Bytes, empty, not asked for, unknown."""
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("full", b"x")
        await node.dispatch("empty")
        for key, asked, payload in (
            ("full", True, b"x"),
            ("empty", True, b""),
            ("full", False, None),
        ):
            info = await node.job(key, payload=asked)
            assert info is not None
            assert info.payload == payload
        assert await node.job("unknown") is None
        assert [(job.key, job.payload) for job in await node.jobs()] == [
            ("empty", None),
            ("full", None),
        ]


# --- bad input

STRANGE_KEYS = ["{x}", "a b", "ключ", "=", "*?[", "a:b", "\n", "0", "x" * 512, "é" * 512]
BAD_KEYS: list[tuple[Any, type[Exception]]] = [
    ("", InvalidName),
    ("x" * 513, InvalidName),
    (b"bytes", InvalidName),
    (5, InvalidName),
    (None, InvalidName),
    ("\ud800", InvalidName),
]
BAD_PAYLOADS: list[tuple[Any, type[Exception]]] = [
    ("text", TypeError),
    (None, TypeError),
    (5, TypeError),
    ({}, TypeError),
    (b"x" * 11, PayloadTooLarge),
]


@on_two_topologies
@pytest.mark.parametrize("key", STRANGE_KEYS)
async def test_key_may_be_any_text(make_node: MakeNode, recorder: Recorder, key: str) -> None:
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch(key, b"x")
        await node.notify(key, b"y")
        assert [job.key for job in await node.jobs()] == [key]
        await node.stop_job(key)
        assert [call.what for call in recorder.calls] == ["start", "notify", "stop"]
        assert {call.key for call in recorder.calls} == {key}


@on_one_server
@pytest.mark.parametrize(("key", "error"), BAD_KEYS)
async def test_impossible_key_is_refused_and_writes_nothing(
    make_node: MakeNode, keys_of: KeysOf, key: Any, error: type[Exception]
) -> None:
    async with make_node() as node:
        before = await keys_of("pool")
        for call in (
            partial(node.dispatch, key),
            partial(node.stop_job, key),
            partial(node.notify, key, b""),
            partial(node.job, key),
        ):
            with pytest.raises(error):
                await call()
        assert await keys_of("pool") == before


@on_one_server
@pytest.mark.parametrize(("payload", "error"), BAD_PAYLOADS)
async def test_impossible_payload_is_refused_and_writes_nothing(
    make_node: MakeNode, keys_of: KeysOf, payload: Any, error: type[Exception]
) -> None:
    async with make_node(max_payload=10) as node:
        before = await keys_of("pool")
        with pytest.raises(error):
            await node.dispatch("a", payload)
        with pytest.raises(error):
            await node.notify("a", payload)
        assert await keys_of("pool") == before
        all_fine: list[Any] = [b"x" * 10, bytearray(b"x"), memoryview(b"x")]
        for fine in all_fine:
            await node.dispatch(f"fine-{type(fine).__name__}", fine, wait=False)


@on_one_server
@pytest.mark.parametrize("timeout", [0, -1, "1", float("nan"), True])
async def test_impossible_timeout_is_refused_and_writes_nothing(
    make_node: MakeNode, keys_of: KeysOf, timeout: Any
) -> None:
    async with make_node() as node:
        before = await keys_of("pool")
        for call in (
            partial(node.dispatch, "a"),
            partial(node.stop_job, "a"),
            partial(node.notify, "a", b""),
        ):
            with pytest.raises(InvalidOption):
                await call(timeout=timeout)
        assert await keys_of("pool") == before


@on_one_server
async def test_dispatch_in_flight_ends_when_its_node_leaves(make_node: MakeNode) -> None:
    """Closed at once, instead of a timeout much later (P22)."""
    outcomes: list[BaseException | None] = []
    async with make_node() as other:
        node = make_node()
        async with anyio.create_task_group() as group:
            async with node:

                async def dispatch() -> None:
                    outcomes.extend(await gather(partial(node.dispatch, "a", timeout=60.0)))

                group.start_soon(dispatch)
                await wait_state(other, "a", "waiting")
        assert isinstance(outcomes[0], Closed)
        info = await other.job("a")
        assert info is not None
        assert info.state is JobState.WAITING
