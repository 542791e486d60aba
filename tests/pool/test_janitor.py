"""Cleaning up after workers that died: their jobs, what they had not heard, what they leave in Redis."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import JobStartFailed
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Facts, Raw, let_pass, on_one_server, on_two_topologies
from tests.pool.facts import (
    KeysOf,
    MakeNode,
    Recorder,
    wait_gone,
    wait_running,
    wait_state,
    wait_workers,
)
from tests.pool.scenes import (
    add_ghost,
    gather,
    key_for,
    keys_for,
    wait_forgotten,
    wait_knows,
)

TTL = 0.6


@pytest.fixture(autouse=True)
def _without_failovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody need have looked at a server for long: `test_failovers.py` is about that."""
    monkeypatch.setattr("pulsewire.pool.janitor.PATIENCE", 0.0)


async def test_jobs_of_a_dead_worker_start_elsewhere_and_nothing_of_it_is_left(
    make_node: MakeNode,
    watched: pulsewire.Hub,
    facts: Facts,
    recorder: Recorder,
    raw: Raw,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With payloads and larger tokens; its lease, entry, inbox and set of jobs go (spec/pulse.md 6)."""
    async with make_node(of=watched, worker_ttl=TTL) as node:
        worker = await node.add_worker(recorder)
        ghost = await add_ghost(node)
        keys = keys_for(node, ghost, 20)
        for key in keys:
            await node.dispatch(key, key.encode(), wait=False)
        tokens = {job.key: job.token for job in await node.jobs()}
        assert recorder.calls == []
        await wait_running(keys, recorder)
        assert all(recorder.running[key] > tokens[key] for key in keys)
        assert {call.payload for call in recorder.starts()} == {key.encode() for key in keys}
        assert {recorder.jobs[key].starts for key in keys} == {2}
        await wait_until(
            lambda: [info.id for info in node.pool_workers()] == [worker.id], what="it is forgotten"
        )
        assert set(await node._store.leases()) == {worker.id}
        for name in (node._store.keys.inbox(ghost), node._store.keys.owned(ghost)):
            assert await raw(name, "EXISTS", name) == 0
        await wait_until(lambda: bool(facts.of("worker_buried")), what="it was told")
        assert facts.of("worker_buried") == [("pool", ghost, 20)]
        assert "a worker has died, its jobs go to others" in caplog.messages


@on_one_server
async def test_five_dead_workers_are_cleaned_up_once_by_two_janitors(
    make_node: MakeNode, watched: pulsewire.Hub, facts: Facts
) -> None:
    """Two that look at the same time do no harm (P14, P26): every job starts once more."""
    handlers = [Recorder(), Recorder()]
    async with (
        make_node(of=watched, worker_ttl=TTL) as one,
        make_node(of=watched, worker_ttl=TTL) as two,
    ):
        for node, handler in zip((one, two), handlers, strict=True):
            await node.add_worker(handler)
        ghosts = [await add_ghost(one, 1.0) for _ in range(5)]
        await wait_knows(two, *ghosts)
        keys = [key for ghost in ghosts for key in keys_for(one, ghost, 4, ghost)]
        for key in keys:
            await two.dispatch(key, wait=False)
        await wait_running(keys, *handlers)
        for node in (one, two):
            await wait_workers(node, 2)
        starts = [call.key for handler in handlers for call in handler.starts()]
        assert sorted(starts) == sorted(keys)
        assert not any(handler.stops() for handler in handlers)
        buried = facts.of("worker_buried")
        assert {worker for _, worker, _ in buried} == set(ghosts)
        # A job may pass through a second ghost whose lease still held when the first was buried.
        assert sum(count for *_, count in buried) >= 20
        assert len(await one._store.leases()) == 2


@on_one_server
async def test_dead_worker_of_one_pool_is_none_of_anothers(
    make_node: MakeNode, recorder: Recorder, hub: pulsewire.Hub
) -> None:
    other = Recorder()
    async with (
        make_node("left", worker_ttl=TTL) as left,
        make_node("right", worker_ttl=TTL) as right,
    ):
        await left.add_worker(recorder)
        ghost = await add_ghost(right)
        key = key_for(right, ghost)
        await right.dispatch(key, wait=False)
        await let_pass(hub, 1.0)
        assert recorder.calls == []
        assert set(await right._store.leases()) == {ghost}
        await right.add_worker(other)
        await wait_running([key], other)


@on_two_topologies
async def test_jobs_of_the_last_worker_wait_for_the_next_one(
    make_node: MakeNode, recorder: Recorder, hub: pulsewire.Hub
) -> None:
    """Node and workers died; whoever comes finds them."""
    async with make_node(client_only=True, worker_ttl=TTL) as client:
        ghost = await add_ghost(client)
        keys = [f"job-{number}" for number in range(5)]
        for key in keys:
            await client.dispatch(key, wait=False)
        await let_pass(hub, 0.7)
        async with make_node(worker_ttl=TTL) as node:
            await node.add_worker(recorder)
            await wait_running(keys, recorder)
            await wait_forgotten(client, ghost)


@on_two_topologies
async def test_dispatcher_is_answered_by_the_new_owner(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """The first one died before it began: `dispatch` returns when the second has started it."""
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node)
        key = key_for(node, ghost)
        await node.dispatch(key, timeout=PATIENCE)
        assert set(recorder.running) == {key}
        assert recorder.jobs[key].starts == 2


@on_one_server
async def test_what_a_dead_worker_has_not_heard_is_heard_by_the_next_one(
    make_node: MakeNode, recorder: Recorder
) -> None:
    """In order, after the start."""
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node)
        key = key_for(node, ghost)
        await node.dispatch(key, wait=False)
        told = [b"%d" % number for number in range(5)]
        for payload in told:
            await node.notify(key, payload)
        await wait_until(lambda: recorder.notifications(key) == told, what="all was heard")
        assert recorder.calls[0].what == "start"


@on_two_topologies
async def test_job_that_was_to_stop_ends_with_its_dead_worker(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not started elsewhere (P13); who waits for the end or the start hears of it."""
    monkeypatch.setattr("pulsewire.pool.dispatch.LOOK_AFTER", 600.0)
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node)
        key = key_for(node, ghost)
        outcomes: list[BaseException | None] = []

        async def dispatch() -> None:
            outcomes.extend(await gather(partial(node.dispatch, key, timeout=PATIENCE)))

        async with anyio.create_task_group() as group:
            group.start_soon(dispatch)
            await wait_state(node, key, "starting")
            await node.stop_job(key, timeout=PATIENCE)
        assert isinstance(outcomes[0], JobStartFailed)
        assert await node.job(key) is None
        assert recorder.calls == []


@on_one_server
async def test_entry_of_a_worker_without_a_lease_is_removed(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died between enrolling and showing itself, or a late write brought it back (P29)."""
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(recorder)
        ghost = await add_ghost(node, 60.0)
        await node._store.leave(ghost, is_dead=False)
        await wait_until(
            lambda: [info.id for info in node.pool_workers()] == [worker.id], what="it is removed"
        )


@on_one_server
async def test_malformed_entry_of_the_workers_map_harms_nobody(
    make_node: MakeNode, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulsewire.pool.staff.RECHECK", 0.2)
    async with make_node(worker_ttl=TTL) as node:
        worker = await node.add_worker(recorder)
        await node._map.set("nonsense", "{not json")
        await node._map.set("heavy", '{"node": "n", "weight": 0}')
        await node._map.set("newer", '{"node": "n", "state": "asleep", "more": [1]}')
        for number in range(10):
            await node.dispatch(f"job-{number}")
        assert len(recorder.running) == 10
        assert worker.id in {info.id for info in node.pool_workers()}


@on_one_server
async def test_janitor_rests_while_the_flag_is_up(
    make_node: MakeNode,
    recorder: Recorder,
    hub: pulsewire.Hub,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing can be given to anybody until it lapses: asking without a pause would only load the server (P20)."""
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node, 0.3)
        key = key_for(node, ghost)
        await node.dispatch(key, wait=False)
        await node._store.ask_for_shutdown("a dead asker", 60.0)
        surveys: list[str] = []
        calls: list[Any] = []
        survey, assign = node._store.survey, node._store.assign

        async def counted_survey(who: str, **which: Any) -> Any:
            surveys.append(who)
            return await survey(who, **which)

        async def counted_assign(*arguments: Any) -> Any:
            calls.append(arguments)
            return await assign(*arguments)

        monkeypatch.setattr(node._store, "survey", counted_survey)
        monkeypatch.setattr(node._store, "assign", counted_assign)
        await let_pass(hub, 1.3)
        assert 0 < len(surveys) < 50
        assert len(calls) < 50
        flag = node._store.keys.shutdown
        await raw(flag, "DEL", flag)
        await wait_running([key], recorder)


@on_one_server
async def test_another_janitor_goes_on_when_one_dies_at_work(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """Its lease on the cleaning lapses."""
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        janitor = node._store.keys.janitor
        await raw(janitor, "SET", janitor, "a dead one", "PX", 800)
        ghost = await add_ghost(node, 0.1)
        key = key_for(node, ghost)
        await node.dispatch(key, wait=False)
        await wait_running([key], recorder)
        assert await raw(janitor, "PTTL", janitor) != -1


@on_one_server
async def test_waiting_job_whose_time_has_not_come_is_left_alone(
    make_node: MakeNode, recorder: Recorder, raw: Raw, hub: pulsewire.Hub
) -> None:
    """A restart after a failure comes later; Redis judges, whoever asks."""
    async with make_node(worker_ttl=TTL) as node:
        await node.dispatch("later", wait=False)
        waiting = node._store.keys.waiting
        due = int((await hub.time() + 1.0) * 1000)
        await raw(waiting, "ZADD", waiting, due, "later")
        worker = await node.add_worker(recorder)
        assert (await node._store.assign("later", "", None, worker.id)).outcome == "early"
        await wait_running(["later"], recorder)
        assert await hub.time() * 1000 >= due


@on_one_server
async def test_many_jobs_of_a_dead_worker_all_move(
    make_node: MakeNode, recorder: Recorder, keys_of: KeysOf
) -> None:
    """More than one batch of them."""
    async with make_node(worker_ttl=TTL, max_queued_jobs=10_000) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node, 1.5)
        keys = keys_for(node, ghost, 520)
        await gather(*(partial(node.dispatch, key, wait=False) for key in keys))
        await wait_running(keys, recorder)
        assert len(recorder.starts()) == 520


@on_one_server
async def test_jobs_that_ended_meanwhile_are_not_brought_back(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """A key in the set of a dead worker whose job is gone, or another's by now."""
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        await wait_workers(node, 1)
        await node.dispatch("mine")
        ghost = await add_ghost(node)
        owned = node._store.keys.owned(ghost)
        await raw(owned, "SADD", owned, "gone", "mine")
        await wait_forgotten(node, ghost)

        async def is_removed() -> bool:
            return not await raw(owned, "EXISTS", owned)

        await wait_until(is_removed, what="its set is removed")
        assert await node.job("gone") is None
        starts = [call.key for call in recorder.starts()]
        assert set(starts) == {"mine"}
        await node.stop_job("mine")
        await wait_gone(node, "mine")


@on_one_server
async def test_notification_for_a_job_without_an_owner_doubles_no_other(
    make_node: MakeNode, recorder: Recorder, raw: Raw, hub: pulsewire.Hub
) -> None:
    """It stays where it is until the job has an owner; what was sent on meanwhile is sent on once."""
    async with make_node(worker_ttl=TTL) as node:
        await node.dispatch("later", wait=False)
        waiting = node._store.keys.waiting
        due = int((await hub.time() + 4.0) * 1000)
        await raw(waiting, "ZADD", waiting, due, "later")
        await node.add_worker(recorder)
        ghost = await add_ghost(node)
        quick, inbox = key_for(node, ghost), node._store.keys.inbox(ghost)
        await node.dispatch(quick, wait=False)
        await node.notify(quick, b"hi")
        order = ("do", "notify", "key", "later", "epoch", "1", "payload", "hi, too")
        await raw(inbox, "XADD", inbox, "*", *order)

        async def is_buried() -> bool:
            return ghost not in await node._store.leases()

        await wait_until(is_buried, timeout=PATIENCE, what="the dead worker is gone")
        heard = partial(recorder.notifications, "later")
        await wait_until(lambda: heard() == [b"hi, too"], timeout=PATIENCE, what="it was heard")
        assert recorder.notifications(quick) == [b"hi"]


@on_one_server
async def test_malformed_entry_in_a_dead_worker_s_inbox_harms_nobody(
    make_node: MakeNode, recorder: Recorder, raw: Raw
) -> None:
    """P8: neither the janitor nor the one after it stumbles over it."""
    async with make_node(worker_ttl=TTL) as node:
        await node.add_worker(recorder)
        ghost = await add_ghost(node)
        key, inbox = key_for(node, ghost), node._store.keys.inbox(ghost)
        await raw(inbox, "XADD", inbox, "*", "do", "rubbish")
        await node.dispatch(key, wait=False)
        await node.notify(key, b"hi")
        await wait_until(
            lambda: recorder.notifications(key) == [b"hi"], timeout=PATIENCE, what="it was heard"
        )
        await wait_forgotten(node, ghost)
