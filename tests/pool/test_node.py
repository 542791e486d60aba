"""A node's life: joining, leaving, closing, the end of the whole pool, and nodes that only dispatch."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from functools import partial
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import (
    Closed,
    InvalidOption,
    PoolMismatch,
    PoolShutDown,
    ServerUnavailable,
)
from pulsewire.pool import JobState, Node, Plan
from pulsewire.testing import SingleServer, Topology, wait_until
from tests.facts import PATIENCE, Facts, Raw, let_pass, on_one_server, on_two_topologies
from tests.pool.facts import (
    KeysOf,
    MakeNode,
    Recorder,
    running,
    wait_running,
    wait_workers,
)
from tests.pool.scenes import Log, add_ghost, gather, key_for, wait_knows


async def left_in(pool: str, keys_of: KeysOf) -> list[str]:
    """What a pool that was shut down has left: not what lapses (replies), nor the two fields of a destroyed map."""
    passing = (":replies:", ":writer:", "map:{")
    return [key for key in await keys_of(pool) if not any(part in key for part in passing)]


async def some_turns() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


# --- joining


async def test_nodes_see_the_workers_of_all_nodes(
    make_node: MakeNode, watched: pulsewire.Hub, hub: pulsewire.Hub
) -> None:
    """`workers` are the node's own, `pool_workers` are all, each with what is known of it."""
    async with (
        make_node() as one,
        make_node(of=watched) as two,
        make_node(client_only=True) as client,
    ):
        before = await hub.time()
        first = await one.add_worker(Recorder(), weight=2.5)
        second = await two.add_worker(Recorder())
        third = await two.add_worker(Recorder())
        assert one.workers == (first,)
        assert two.workers == (second, third)
        assert client.workers == ()
        for node in (one, two, client):
            await wait_workers(node, 3)
            infos = {info.id: info for info in node.pool_workers()}
            assert set(infos) == {first.id, second.id, third.id}
            assert [info.started for info in node.pool_workers()] == sorted(
                info.started for info in infos.values()
            )
            info = infos[first.id]
            assert (info.node, info.state, info.weight) == (one.id, "active", 2.5)
            assert (info.host, info.pid) == (socket.gethostname(), os.getpid())
            assert before - 1 < info.started < before + PATIENCE
            assert infos[third.id].node == two.id
        for shown in (repr(one), repr(first)):
            assert "pool" in shown
            assert first.id in repr(first)


@on_one_server
@pytest.mark.parametrize(
    ("field", "value", "words"), [("routing", "jump", "jump"), ("version", "2", "version 2")]
)
async def test_node_that_differs_is_refused_and_writes_nothing(
    make_node: MakeNode,
    recorder: Recorder,
    raw: Raw,
    keys_of: KeysOf,
    field: str,
    value: str,
    words: str,
) -> None:
    """Two routings, or protocol versions, would send one key to two workers (protocol 8)."""
    async with make_node() as node:
        meta = node._store.keys.meta
        await raw(meta, "HSET", meta, field, value)
        before = await keys_of("pool"), await raw(meta, "HGETALL", meta)
        with pytest.raises(PoolMismatch) as caught:
            async with make_node():
                raise AssertionError("it has joined")
        assert words in caught.value.theirs
        assert "rendezvous" in caught.value.ours
        assert (await keys_of("pool"), await raw(meta, "HGETALL", meta)) == before


@on_one_server
async def test_routings_of_two_nodes_must_be_the_same(make_node: MakeNode) -> None:
    async with make_node(routing="jump"):
        with pytest.raises(PoolMismatch):
            async with make_node(routing="rendezvous"):
                raise AssertionError("it has joined")
        async with make_node(routing="jump"):
            pass


@on_one_server
async def test_jump_routing_works_like_the_other(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    handlers = [Recorder(), Recorder(), Recorder()]
    options: dict[str, Any] = {"routing": "jump"}
    async with make_node(**options) as one, make_node(of=watched, **options) as two:
        await one.add_worker(handlers[0])
        keys = [f"job-{number}" for number in range(30)]
        for key in keys:
            await two.dispatch(key)
        for handler in handlers[1:]:
            await two.add_worker(handler)
        await wait_until(lambda: all(handler.running for handler in handlers), what="all have some")
        await wait_running(keys, *handlers)


# --- adding workers

NO_HANDLERS: list[Any] = [
    None,
    5,
    object(),
    lambda job: None,
    Recorder,
    type("NoStop", (), {"start": Recorder.start})(),
    type("NoStart", (), {"stop": Recorder.stop})(),
    type("Plain", (), {"start": lambda self, job: None, "stop": Recorder.stop})(),
]


@on_one_server
@pytest.mark.parametrize("handler", NO_HANDLERS, ids=range(len(NO_HANDLERS)))
async def test_what_is_no_handler_is_refused_and_no_worker_comes(
    make_node: MakeNode, keys_of: KeysOf, handler: Any
) -> None:
    async with make_node() as node:
        before = await keys_of("pool")
        with pytest.raises(InvalidOption) as caught:
            await node.add_worker(handler)
        assert caught.value.option == "handler"
        assert node.workers == ()
        assert await keys_of("pool") == before


@on_one_server
@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, True, "1", None])
async def test_impossible_weight_is_refused_and_no_worker_comes(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf, weight: Any
) -> None:
    async with make_node() as node:
        before = await keys_of("pool")
        with pytest.raises(InvalidOption) as caught:
            await node.add_worker(recorder, weight=weight)
        assert caught.value.option == "weight"
        assert node.workers == ()
        assert await keys_of("pool") == before


@on_one_server
async def test_jump_routing_knows_no_weights(make_node: MakeNode, recorder: Recorder) -> None:
    async with make_node(routing="jump") as node:
        with pytest.raises(InvalidOption):
            await node.add_worker(recorder, weight=2.0)
        await node.add_worker(recorder, weight=1.0)


@on_one_server
async def test_worker_that_could_not_be_shown_is_no_worker(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulse leaves maps and a heartbeat behind when adding a node fails (P37)."""

    async def fail(*args: object, **options: object) -> None:
        raise ServerUnavailable("here", 1.0, "broken")

    async with make_node() as node:
        with monkeypatch.context() as broken:
            broken.setattr(node._map, "set_and_wait", fail)
            with pytest.raises(ServerUnavailable):
                await node.add_worker(recorder)
        assert node.workers == ()
        assert await node._store.leases() == {}
        await node.add_worker(recorder)
        await node.dispatch("a")


# --- nodes that only dispatch


async def test_client_only_node_can_do_everything_but_run(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """Pulse's client-only nodes panic in Close, JobKeys, PoolWorkers and JobPayload (P9)."""
    async with make_node() as node, make_node(of=watched, client_only=True) as client:
        with pytest.raises(InvalidOption):
            await client.add_worker(recorder)
        with pytest.raises(InvalidOption):
            client.schedule(_Producer(), every=1.0)
        worker = await node.add_worker(recorder)
        await wait_workers(client, 1)
        await client.dispatch("a", b"pay")
        await client.notify("a", b"hi")
        await wait_until(lambda: recorder.notifications() == [b"hi"], what="it was told")
        info = await client.job("a")
        assert info is not None
        assert (info.owner, info.payload) == (worker.id, b"pay")
        assert [job.key for job in await client.jobs()] == ["a"]
        assert [info.id for info in client.pool_workers()] == [worker.id]
        async for tick in client.ticker("t", every=0.02):
            assert tick.name == "t"
            break
        await client.stop_job("a")
        await client.dispatch("b")
        await client.shutdown()
        assert recorder.running == {}
        await node.wait_shutdown()
        await client.close()


class _Producer:
    name = "nobody"

    async def plan(self) -> Plan:
        return Plan()


# --- leaving


@on_two_topologies
async def test_close_hands_over_within_a_second(
    make_node: MakeNode, watched: pulsewire.Hub, raw: Raw, facts: Facts
) -> None:
    """Whatever the time to live: Pulse takes 14.7 s (P23). Each handler stops before the next one starts."""
    log = Log()
    first, second = log.handler("first", stop_takes=0.02), log.handler("second")
    async with make_node(of=watched) as heir:
        node = make_node(of=watched)
        async with node:
            worker = await node.add_worker(first)
            keys = [f"job-{number}" for number in range(25)]
            for key in keys:
                await node.dispatch(key, key.encode())
            tokens = dict(first.running)
            await heir.add_worker(second)
            before = anyio.current_time()
            await node.close()
            took = anyio.current_time() - before
            await wait_running(keys, first, second)
            await node.close()
        assert took < 5.0  # twenty times what it takes; a lease lasts 30 s
        assert log.overlaps() == []
        assert not first.running
        assert all(second.running[key] > tokens[key] for key in keys)
        assert {call.payload for call in second.starts()} == {key.encode() for key in keys}
        assert {key for _, key, *_ in facts.of("job_moved")} == set(keys)
        leases = await heir._store.leases()
        assert worker.id not in leases
        for name in (node._store.keys.inbox(worker.id), node._store.keys.owned(worker.id)):
            assert await raw(name, "EXISTS", name) == 0
        await wait_workers(heir, 1)


@on_one_server
async def test_last_node_leaves_its_jobs_waiting(make_node: MakeNode, recorder: Recorder) -> None:
    """They are in the pool until a worker comes."""
    async with make_node() as node:
        await node.add_worker(recorder)
        await node.dispatch("a", b"pay")
    assert not recorder.running
    async with make_node(worker_ttl=0.6) as node:
        info = await node.job("a")
        assert info is not None
        assert (info.state, info.owner, info.payload) == (JobState.WAITING, "", b"pay")
        await node.add_worker(recorder)
        await wait_running(["a"], recorder)
        assert recorder.jobs["a"].starts == 2


@on_one_server
async def test_cascade_of_closing_nodes_leaves_all_jobs_on_the_last(
    make_node: MakeNode, watched: pulsewire.Hub
) -> None:
    """25 jobs, three nodes, two close in turn."""
    log = Log()
    handlers = [log.handler(name) for name in "abc"]
    keys = [f"job-{number}" for number in range(25)]
    async with make_node() as last:
        async with make_node(of=watched) as middle:
            async with make_node() as first:
                for node, handler in zip((first, middle, last), handlers, strict=True):
                    await node.add_worker(handler)
                for node in (first, middle, last):
                    await wait_workers(node, 3)
                for key in keys:
                    await first.dispatch(key)
                assert sum(running(*handlers).values()) == 25
            await wait_running(keys, *handlers[1:])
        await wait_running(keys, handlers[2])
        assert log.overlaps() == []


@on_one_server
@pytest.mark.parametrize("has_own_hub", [False, True])
@pytest.mark.parametrize("how", ["error", "scope", "task"])
async def test_node_hands_over_however_its_block_ends(
    make_node: MakeNode,
    recorder: Recorder,
    topology: Topology,
    namespace: str,
    how: str,
    has_own_hub: bool,
) -> None:
    """By an error, a cancelled scope around it, or the cancellation of its task, as Ctrl-C does."""
    other = Recorder()
    is_up = anyio.Event()

    async def live(node: Node) -> None:
        async with node:
            await node.add_worker(recorder)
            await node.dispatch("a")
            is_up.set()
            if how == "error":
                raise RuntimeError("of the user")
            await anyio.sleep_forever()

    async def live_alone() -> None:
        if not has_own_hub:
            await live(make_node())
            return
        async with pulsewire.connect(topology.url, namespace=namespace) as hub:
            await live(make_node(of=hub))

    async with make_node() as heir:
        with anyio.fail_after(PATIENCE):
            if how == "scope":
                async with anyio.create_task_group() as group:
                    group.start_soon(live_alone)
                    await is_up.wait()
                    await heir.add_worker(other)
                    group.cancel_scope.cancel()
            else:
                task = asyncio.ensure_future(live_alone())
                await is_up.wait()
                await heir.add_worker(other)
                if how == "task":
                    task.cancel()
                with pytest.raises((asyncio.CancelledError, RuntimeError)):
                    await task
        assert recorder.running == {}
        assert len(recorder.stops("a")) == 1
        await wait_running(["a"], other)


@on_one_server
@pytest.mark.parametrize("how", ["timeout", "task"])
async def test_cancellation_while_a_node_is_left_harms_nothing(
    make_node: MakeNode, recorder: Recorder, how: str
) -> None:
    """That of asyncio itself, which no shield of anyio keeps off: each job is stopped and handed over all the same."""
    other = Recorder()
    limits: list[asyncio.Timeout] = []

    async def live() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            async with make_node(concurrency=1) as node:
                await node.add_worker(recorder)
                await node.dispatch("a")
                await node.dispatch("b")
                await heir.add_worker(other)
                recorder.hold("stop")

    async with make_node() as heir:
        task = asyncio.create_task(live())
        await wait_until(lambda: bool(recorder.of("stop")), what="the node is being left")
        if how == "timeout":
            limits[0].reschedule(asyncio.get_running_loop().time())
        else:
            task.cancel()
        await some_turns()
        recorder.release("stop")
        with pytest.raises(TimeoutError if how == "timeout" else asyncio.CancelledError):
            await task
        assert recorder.running == {}
        assert [len(recorder.stops(key)) for key in ("a", "b")] == [1, 1]
        await wait_running(["a", "b"], other)


@on_one_server
@pytest.mark.parametrize("is_closed_first", [False, True])
async def test_node_that_is_cancelled_twice_while_it_is_left_stops_its_jobs_at_once(
    make_node: MakeNode, recorder: Recorder, is_closed_first: bool
) -> None:
    """None goes on here, for it goes to another node when the lease lapses; nothing is handed over."""

    async def live() -> None:
        async with make_node(concurrency=1) as node:
            await node.add_worker(recorder)
            await node.dispatch("a")
            await node.dispatch("b")
            recorder.hold("stop")
            if is_closed_first:
                await node.close()

    task = asyncio.create_task(live())
    await wait_until(lambda: bool(recorder.of("stop")), what="the node is being left")
    for _ in range(2):
        task.cancel()
        await some_turns()

    def are_told() -> bool:
        return {call.key for call in recorder.of("stop")} == {"a", "b"}

    await wait_until(are_told, what="both were told to stop")
    recorder.release("stop")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.running == {}


@on_one_server
async def test_closed_node_refuses_everything(make_node: MakeNode, recorder: Recorder) -> None:
    async with make_node() as node:
        worker = await node.add_worker(recorder)
        await node.close()
        for call in (
            partial(node.dispatch, "a"),
            partial(node.stop_job, "a"),
            partial(node.notify, "a", b""),
            partial(node.add_worker, recorder),
            node.shutdown,
        ):
            with pytest.raises(Closed):
                await call()
        with pytest.raises(Closed):
            node.ticker("t", every=1.0)
        with pytest.raises(Closed):
            node.schedule(_Producer(), every=1.0)
        assert node.workers == ()
        await node.remove_worker(worker)
        assert "closed" in repr(node)


@on_one_server
async def test_stop_that_hangs_does_not_keep_a_node_from_leaving(
    make_node: MakeNode, recorder: Recorder, facts: Facts, watched: pulsewire.Hub
) -> None:
    """`worker_shutdown_ttl` bounds it, and the job goes to the others (P36)."""
    other = Recorder()
    async with make_node() as heir:
        async with make_node(of=watched, worker_shutdown_ttl=0.1) as node:
            await node.add_worker(recorder)
            await node.dispatch("a")
            await heir.add_worker(other)
            recorder.hold("stop")
        await wait_running(["a"], other)
        assert [(key, what) for _, key, _, what, _ in facts.of("job_failed")] == [("a", "stop")]
        assert isinstance(facts.of("job_failed")[0][-1], TimeoutError)


async def test_node_leaves_soon_after_its_lease_when_the_server_is_gone(
    fresh_server: SingleServer, recorder: Recorder
) -> None:
    """Nothing can be handed over any more: the lease lapses and others take over."""
    async with pulsewire.connect(fresh_server.url, wait_for_server=0.3) as hub:
        node = hub.node("pool", worker_ttl=0.6, worker_shutdown_ttl=60.0)
        with anyio.fail_after(PATIENCE):
            async with node:
                await node.add_worker(recorder)
                await node.dispatch("a")
                await fresh_server.kill()
        assert not recorder.running


# --- when the server loses data, or restarts


@pytest.mark.parametrize("ttl", [0.6, 5.0])
async def test_pool_starts_clean_after_all_data_was_lost(
    fresh_server: SingleServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, ttl: float
) -> None:
    """What ran has no record any more: it is stopped; the worker comes back, and everything works."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.3)
    async with (
        pulsewire.connect(fresh_server.url) as here,
        pulsewire.connect(fresh_server.url) as there,
        here.node("pool", worker_ttl=ttl) as node,
        there.node("pool", worker_ttl=ttl) as client,
    ):
        worker = await node.add_worker(recorder)
        await wait_workers(client, 1)
        for key in "abc":
            await node.dispatch(key)
        await fresh_server.command("FLUSHALL")
        await wait_until(lambda: not recorder.running, what="the jobs are stopped")
        await client.dispatch("d", timeout=PATIENCE)
        assert set(recorder.running) == {"d"}
        await wait_until(
            lambda: [info.id for info in client.pool_workers()] == [worker.id],
            what="the worker is known under its new id",
        )
        await node.dispatch("a", timeout=PATIENCE)
        await client.shutdown()
        assert not recorder.running


async def test_restart_of_the_server_stops_no_job(
    fresh_server: SingleServer, recorder: Recorder
) -> None:
    """Within the time to live."""
    async with pulsewire.connect(fresh_server.url) as hub:
        async with hub.node("pool", worker_ttl=20.0) as node:
            await node.add_worker(recorder)
            for key in "abc":
                await node.dispatch(key)
            await fresh_server.kill()
            await fresh_server.restart()
            await node.dispatch("d")
            await node.notify("a", b"hi")
            await wait_until(lambda: recorder.notifications("a") == [b"hi"], what="it was told")
            await node.stop_job("b")
            assert set(recorder.running) == set("acd")
            assert len(recorder.starts()) == 4
            assert len(recorder.stops()) == 1


# --- the end of a pool


async def test_shutdown_stops_every_job_on_every_node_and_leaves_nothing(
    make_node: MakeNode, watched: pulsewire.Hub, keys_of: KeysOf
) -> None:
    """Every stop runs once, nothing is given to others, and every key is deleted."""
    log = Log()
    handlers = [log.handler("one"), log.handler("two")]
    keys = [f"job-{number}" for number in range(30)]
    async with make_node() as one, make_node(of=watched) as two:
        for node, handler in zip((one, two), handlers, strict=True):
            await node.add_worker(handler)
        for node in (one, two):
            await wait_workers(node, 2)
        for key in keys:
            await one.dispatch(key)
        assert all(handler.running for handler in handlers)
        await one._store.tick("t", 60.0, "r", make=True, first=60.0, all_ticks=False)
        await two.shutdown()
        assert not running(*handlers)
        assert sorted(call.key for handler in handlers for call in handler.stops()) == sorted(keys)
        assert sum(len(handler.starts()) for handler in handlers) == 30
        for node in (one, two):
            await node.wait_shutdown()
            assert node.is_shut_down
            await wait_until(lambda node=node: node.workers == (), what="its workers are gone")  # type: ignore[misc]
        assert await left_in("pool", keys_of) == []
    assert await left_in("pool", keys_of) == []


@on_two_topologies
async def test_nothing_is_taken_while_the_pool_shuts_down(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder, keys_of: KeysOf
) -> None:
    """Joining, adding workers, dispatching: refused with who has asked. Afterwards the pool can be used again."""
    async with make_node() as asker, make_node(of=watched) as other:
        await asker.add_worker(recorder)
        await asker.dispatch("a")
        first = recorder.running["a"]
        recorder.hold("stop")
        async with anyio.create_task_group() as group:
            group.start_soon(asker.shutdown)
            await wait_until(lambda: bool(recorder.stops()), what="the job is being stopped")
            for node in (asker, other):
                for call in (partial(node.dispatch, "b"), partial(node.add_worker, Recorder())):
                    with pytest.raises(PoolShutDown) as caught:
                        await call()
                    assert caught.value.by == asker.id
            with pytest.raises(PoolShutDown):
                async with make_node():
                    raise AssertionError("it has joined")
            recorder.release("stop")
        assert await left_in("pool", keys_of) == []
    async with make_node() as again:
        await again.add_worker(recorder)
        await again.dispatch("a")
        assert recorder.running["a"] > first
        assert not again.is_shut_down


@on_two_topologies
async def test_shutdown_ends_waiting_jobs_and_those_of_dead_workers(
    make_node: MakeNode, keys_of: KeysOf, hub: pulsewire.Hub
) -> None:
    async with make_node(worker_ttl=0.6) as node:
        ghost = await add_ghost(node, 0.5)
        await node.dispatch(key_for(node, ghost), wait=False)
        await node._map.delete(ghost)
        await let_pass(hub, 0.5)
        await node.dispatch("waiting", wait=False)
        assert len(await node.jobs()) == 2
        await node.shutdown()
        assert await left_in("pool", keys_of) == []


@on_two_topologies
async def test_shutdown_reaches_nodes_without_workers(make_node: MakeNode) -> None:
    async with make_node() as asker, make_node() as other, make_node(client_only=True) as client:
        await asker.shutdown()
        with anyio.fail_after(PATIENCE):
            await other.wait_shutdown()
            await client.wait_shutdown()


@on_one_server
async def test_two_askers_at_once_both_return(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    async with make_node() as one, make_node() as two:
        await one.add_worker(recorder)
        await one.dispatch("a")
        assert await gather(one.shutdown, two.shutdown) == [None, None]
        assert len(recorder.stops("a")) == 1
    assert await left_in("pool", keys_of) == []


@on_one_server
async def test_stop_that_hangs_does_not_keep_the_pool_from_ending(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    """Bounded by `worker_shutdown_ttl` (P36); one that raises does not matter at all."""
    async with make_node(worker_shutdown_ttl=0.2, worker_ttl=0.6) as node:
        await node.add_worker(recorder)
        for key in "abc":
            await node.dispatch(key)
        recorder.fail("stop", RuntimeError("no"), key="a")
        recorder.hold("stop", key="b")
        await node.shutdown()
        assert {call.key for call in recorder.stops()} == set("abc")
        assert await left_in("pool", keys_of) == []


@on_one_server
async def test_stop_that_hangs_on_another_node_leaves_nothing_behind(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its lease holds for long after everybody has given up waiting."""
    for room in ("node", "staff"):
        monkeypatch.setattr(f"pulsewire.pool.{room}.GOODBYE", 0.5)
    options: dict[str, Any] = {"worker_shutdown_ttl": 0.2, "worker_ttl": 30.0}
    async with make_node(**options) as node, make_node(**options) as asker:
        await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        await asker.shutdown()
        assert await left_in("pool", keys_of) == []
    assert await left_in("pool", keys_of) == []


@on_two_topologies
async def test_flag_of_an_asker_that_died_lapses(
    make_node: MakeNode, recorder: Recorder, raw: Raw, hub: pulsewire.Hub
) -> None:
    """In Pulse no node can ever join again (P20). Nodes that were there go on, too, where nobody has seen the flag."""
    async with make_node() as node:
        flag = node._store.keys.shutdown
        await raw(flag, "SET", flag, "dead asker", "PX", 400)
        with pytest.raises(PoolShutDown):
            async with make_node():
                raise AssertionError("it has joined")
        with pytest.raises(PoolShutDown):
            await node.add_worker(recorder)

        async def has_lapsed() -> bool:
            return await node._store.shutdown_by() == ""

        await wait_until(has_lapsed, what="the flag has lapsed")
        await node._map.set("!shutdown", "dead asker")
        await node.add_worker(recorder)
        async with make_node() as newcomer:
            await wait_knows(newcomer, node.workers[0].id)
            await newcomer.dispatch("a")
            assert set(recorder.running) == {"a"}
            assert not newcomer.is_shut_down
            assert not node.is_shut_down
            await newcomer.shutdown()
            await node.wait_shutdown()
        assert not recorder.running


@on_one_server
async def test_flag_always_has_an_end(make_node: MakeNode, recorder: Recorder, raw: Raw) -> None:
    async with make_node(worker_shutdown_ttl=3.0) as node:
        await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.hold("stop")
        async with anyio.create_task_group() as group:
            group.start_soon(node.shutdown)
            await wait_until(lambda: bool(recorder.stops()), what="the job is being stopped")
            flag = node._store.keys.shutdown
            assert 3_000 < await raw(flag, "PTTL", flag) < 120_000
            recorder.release("stop")


@on_one_server
async def test_pools_do_not_meet(make_node: MakeNode, keys_of: KeysOf) -> None:
    """The same keys in two pools are two jobs; the end of one pool is none of the other's."""
    handlers = {name: Recorder() for name in ("left", "right")}
    async with make_node("left") as left, make_node("right") as right:
        await left.add_worker(handlers["left"])
        await right.add_worker(handlers["right"])
        for node in (left, right):
            await node.dispatch("same", node.pool.encode())
        await left.shutdown()
        assert not handlers["left"].running
        assert set(handlers["right"].running) == {"same"}
        assert handlers["right"].starts()[0].payload == b"right"
        assert not right.is_shut_down
        assert await left_in("left", keys_of) == []


# --- seeing inside


@on_one_server
async def test_hooks_tell_a_jobs_life(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts, recorder: Recorder
) -> None:
    async with make_node(of=watched) as node:
        worker = await node.add_worker(recorder)
        await node.dispatch("a")
        recorder.fail("notify", ValueError("deaf"))
        await node.notify("a", b"")
        await wait_until(lambda: bool(facts.of("job_failed")), what="it was told")
        await node.stop_job("a")
        await wait_until(lambda: bool(facts.of("job_ended")), what="its end was told")
        assert facts.of("worker_joined") == [("pool", worker.id)]
        assert facts.of("job_started") == [("pool", "a", worker.id)]
        assert facts.of("job_failed")[0][:4] == ("pool", "a", worker.id, "notify")
        assert facts.of("job_ended") == [("pool", "a", worker.id)]


@on_one_server
async def test_logs_go_to_the_logger_that_was_given(
    make_node: MakeNode, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """A constant message; pool, job and reason are fields of the record."""
    async with make_node(logger=logging.getLogger("mine")) as node, make_node("other") as plain:
        for one, key in ((node, "a"), (plain, "b")):
            await one.add_worker(recorder)
            recorder.fail("start", ValueError(f"why {key}"), key=key)
            await gather(partial(one.dispatch, key))
    told = {
        record.name: record for record in caplog.records if record.message == "a handler failed"
    }
    assert set(told) == {"mine", "pulsewire.pool"}
    record = told["mine"]
    assert record.levelno == logging.WARNING
    assert {"pool": "pool", "job": "a", "in": "start", "why": "why a"}.items() <= vars(
        record
    ).items()
    assert record.exc_info is not None


@on_one_server
async def test_quiet_pool_logs_nothing(
    make_node: MakeNode, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    other = Recorder()
    with caplog.at_level(logging.INFO):
        async with make_node() as node, make_node() as heir:
            worker = await node.add_worker(recorder)
            await heir.add_worker(other)
            for number in range(20):
                await node.dispatch(f"job-{number}")
            await node.remove_worker(worker)
            await heir.shutdown()
    assert [record.message for record in caplog.records] == []


@on_one_server
async def test_who_leaves_while_somebody_closes_waits_for_that(
    make_node: MakeNode, watched: pulsewire.Hub, recorder: Recorder
) -> None:
    """A task that was told to end closes the node, and the block ends meanwhile: the jobs are handed over."""
    heir = Recorder()
    async with make_node(of=watched) as other:
        async with make_node() as node, anyio.create_task_group() as tasks:
            await node.add_worker(recorder)
            await node.dispatch("a")
            await other.add_worker(heir)
            await node.dispatch("b")
            recorder.be_slow("stop", 0.3)
            tasks.start_soon(node.close)
            await wait_until(lambda: "closed" in repr(node), what="it is being closed")
            mine = set(recorder.running)
            tasks.cancel_scope.cancel()
        assert recorder.running == {}
        await wait_until(lambda: set(heir.running) == {"a", "b"}, what="all are at the other one")
        assert {call.key for call in recorder.stops()} >= mine


@on_one_server
async def test_node_is_entered_once_and_before_it_is_used(make_node: MakeNode) -> None:
    node = make_node()
    with pytest.raises(pulsewire.ConfigurationError, match="not entered yet"):
        await node.dispatch("a")
    async with node:
        with pytest.raises(pulsewire.ConfigurationError, match="entered before"):
            await node.__aenter__()
    with pytest.raises(pulsewire.ConfigurationError, match="entered before"):
        await node.__aenter__()
    assert not await node.jobs()
