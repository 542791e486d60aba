"""Periodic tasks on real servers: each tick is enqueued once, whoever is there, and whatever befalls them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import pulsewire
from pulsewire.errors import (
    Closed,
    DuplicateTask,
    EntryNotFound,
    InvalidName,
    InvalidOption,
    PayloadTooLarge,
    PulsewireError,
    ServerUnavailable,
    TaskIdConflict,
)
from pulsewire.tasks import NewTask, TaskInfo
from pulsewire.tasks.messages import NEVER, EnqueueEventMessage, EntryMessage
from pulsewire.tasks.scheduling.scheduler import Scheduler
from pulsewire.tasks.scheduling.scheduler_store import MOST_EVENTS, PART
from pulsewire.tasks.scheduling.timetable import define
from pulsewire.testing import FaultProxy, SingleServer, Topology, wait_until
from tests.facts import PATIENCE, Facts, Raw, on_one_server
from tests.tasks.scheduling.scheduler_process import SPEC as EVERY
from tests.tasks.scheduling.scheduler_process import TASK
from tests.tasks.scheduling.ticks import Leaping, Ticks, entry_of

TOPOLOGIES = ["standalone", "cluster"]
ROOT = Path(__file__).parents[3]
SOURCE = Path(pulsewire.__file__).parents[1]


class Told:
    """What the hooks of a scheduler are told."""

    def __init__(self) -> None:
        self.before: list[NewTask] = []
        self.infos: list[TaskInfo] = []
        self.errors: list[PulsewireError] = []

    async def pre(self, task: NewTask) -> None:
        self.before.append(task)

    def post(self, info: TaskInfo | None, error: PulsewireError | None) -> None:
        assert (info is None) != (error is None)
        if info is not None:
            self.infos.append(info)
        if error is not None:
            self.errors.append(error)


@asynccontextmanager
async def replicas(
    topology: Topology, namespace: str, count: int, task: NewTask = TASK
) -> AsyncIterator[list[Scheduler]]:
    """Schedulers with an equal entry, each with a hub of its own."""
    async with AsyncExitStack() as stack:
        schedulers = []
        for _ in range(count):
            connecting = pulsewire.connect(topology.url, namespace=namespace)
            scheduler = (await stack.enter_async_context(connecting)).scheduler()
            scheduler.register(EVERY, task)
            schedulers.append(await stack.enter_async_context(scheduler))
        yield schedulers


async def shown(hub: pulsewire.Hub) -> set[tuple[str, str]]:
    """Spec and type of the entries that inspectors see."""
    entries = await hub.tasks.inspector.scheduler_entries()
    return {(entry.spec, entry.task_type) for entry in entries}


async def everything(topology: Topology, namespace: str) -> list[bytes]:
    """All keys of a namespace."""
    found: list[bytes] = []
    for master in await topology.masters():
        found += await master.command("KEYS", f"*{namespace}*")
    return sorted(found)


# --- each tick once


async def test_each_tick_is_enqueued_once_by_many_schedulers(
    topology: Topology, namespace: str, raw: Raw
) -> None:
    """By whichever of them is quickest; and it goes on when some of them end."""
    async with replicas(topology, namespace, 1) as [stays]:
        ticks = Ticks.of(raw, stays)
        async with replicas(topology, namespace, 4):
            await ticks.wait_more(3)
        await ticks.wait_more(1)
    await ticks.assert_each_once()


async def test_each_tick_is_enqueued_once_while_schedulers_are_killed(
    topology: Topology, namespace: str, raw: Raw, hub: pulsewire.Hub
) -> None:
    """By kill -9, or frozen for a while: the others go on. What is left of the dead has a time to live."""
    digest = define(EVERY, TASK).digest
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(process(topology, namespace)) for _ in range(3)
        ]
        first = min([int(await line(process)) for process in processes])
        ticks = Ticks(raw, hub.tasks.keys.queue(TASK.queue), digest, first)
        frozen, *doomed = processes
        frozen.send_signal(signal.SIGSTOP)
        for killed in doomed:
            await ticks.wait_more(2)
            frozen.send_signal(signal.SIGCONT)
            killed.kill()
            await killed.wait()
        await ticks.wait_more(2)
        entries = await hub.tasks.inspector.scheduler_entries()
        assert len(entries) == 3, "the dead are shown for a while"
    await ticks.assert_each_once()
    assert len(await hub.tasks.inspector.scheduler_entries()) == 2
    for key in await everything(topology, namespace):
        if b"scheduler_history" in key or b"schedulers:{" in key:
            assert await raw(key.decode(), "TTL", key) > 0


@asynccontextmanager
async def process(topology: Topology, namespace: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A scheduler in a process of its own, which ends in order if it is still there."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("scheduler_process.py"))),
        *(topology.url, namespace),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCE), str(ROOT)))},
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            assert running.stdin is not None
            running.stdin.close()
            assert await running.wait() == 0


async def line(process: asyncio.subprocess.Process) -> bytes:
    """What a process says next."""
    assert process.stdout is not None
    said = await process.stdout.readline()
    assert said, "it has ended by itself"
    return said


@on_one_server
async def test_deliberately_equal_entries_need_names(hub: pulsewire.Hub, raw: Raw) -> None:
    """Without a name an equal entry is refused; with names of their own each one has its tick."""
    scheduler = hub.scheduler()
    scheduler.register(EVERY, TASK)
    with pytest.raises(InvalidOption, match="give each a name of its own"):
        scheduler.register(EVERY, TASK)
    scheduler.register(EVERY, TASK, entry_name="second")
    async with scheduler:
        first, second = Ticks.of(raw, scheduler), Ticks.of(raw, scheduler, 1)
        await Leaping(scheduler).go_on(3.0)
        await first.wait_more(2)
        await second.wait_more(2)
    expected = [await ticks.last() - ticks.first + 1 for ticks in (first, second)]
    assert await first.count() == sum(expected)


@on_one_server
async def test_many_entries_share_a_timer(hub: pulsewire.Hub, raw: Raw) -> None:
    """A thousand that are due at once are enqueued at once."""
    scheduler = hub.scheduler()
    for number in range(1000):
        scheduler.register(EVERY, TASK.with_options(type=f"digest:{number}"))
    async with scheduler:
        ticks = Ticks.of(raw, scheduler)
        await Leaping(scheduler).go_on(1.0)
        for number in range(1000):
            await Ticks.of(raw, scheduler, number).wait_last(ticks.first)
    types = {entry.task.type for entry in scheduler._timetable.entries}
    tasks = [
        await hub.tasks.inspector.task(TASK.queue, task) for task in (await ticks.ids())[:1000]
    ]
    assert {task.type for task in tasks} == types


# --- bad weather


async def test_a_server_that_was_away_costs_no_tick(fresh_server: SingleServer) -> None:
    """Those that were due meanwhile are enqueued when it is back, each once."""
    async with (
        pulsewire.connect(fresh_server.url) as hub,
        pulsewire.connect(fresh_server.url) as other,
    ):
        schedulers = [one.scheduler() for one in (hub, other)]
        for scheduler in schedulers:
            scheduler.register(EVERY, TASK)
        async with schedulers[0], schedulers[1]:
            ticks = Ticks.of(raw_of(fresh_server), schedulers[0])
            await ticks.wait_more(1)
            last = await ticks.last()
            await fresh_server.kill()
            await wait_clock(schedulers[0], last + 3)
            await fresh_server.restart()
            await ticks.wait_last(last + 4)
        await ticks.assert_each_once()


async def test_ticks_that_became_too_late_are_told_and_dropped(
    fresh_server: SingleServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the scheduler goes on with those that are not."""
    told = Told()
    async with pulsewire.connect(fresh_server.url) as hub:
        scheduler = hub.scheduler(misfire_grace=0.2, post_enqueue=told.post)
        scheduler.register(EVERY, TASK)
        async with scheduler:
            ticks = Ticks.of(raw_of(fresh_server), scheduler)
            await ticks.wait_more(1)
            await fresh_server.kill()
            await wait_until(lambda: len(told.errors) >= 2, timeout=PATIENCE, what="two errors")
            await fresh_server.restart()
            await ticks.wait_more(2)
        enqueued = await ticks.count()
        assert enqueued == len(told.infos)
        assert enqueued <= await ticks.last() - ticks.first + 1 - len(told.errors)
    assert all(isinstance(error, ServerUnavailable) for error in told.errors)
    warnings = [one for one in caplog.records if one.message == "a periodic task was not enqueued"]
    assert len(warnings) == len(told.errors)
    assert {(one.spec, one.type, one.queue) for one in warnings} == {(EVERY, "digest", "default")}  # type: ignore[attr-defined]  # from `extra`


def raw_of(server: SingleServer) -> Raw:
    """`raw` for a server of the test's own."""

    async def send(key: str, *command: Any) -> Any:
        return await server.command(*command)

    return send


async def wait_idle(scheduler: Scheduler, tick: int) -> None:
    """Return when an entry's tick was tried, and nothing is under way."""
    await wait_until(
        lambda: (entry_of(scheduler).last or 0) >= tick and not scheduler._enqueuing,
        timeout=PATIENCE,
        what=f"tick {tick} was tried",
    )


async def wait_clock(scheduler: Scheduler, tick: int) -> None:
    """Return when a tick is due by what the scheduler knows of the time."""
    await wait_until(
        lambda: scheduler._clock.now() > tick, timeout=PATIENCE, what=f"tick {tick} is due"
    )


@on_one_server
async def test_a_lost_reply_costs_no_tick_and_enqueues_none_twice(
    weathered: pulsewire.Hub, proxy: FaultProxy, raw: Raw
) -> None:
    told = Told()
    scheduler = weathered.scheduler(post_enqueue=told.post)
    scheduler.register(EVERY, TASK)
    async with scheduler:
        ticks = Ticks.of(raw, scheduler)
        fault = proxy.swallow_reply("EVALSHA", count=2)
        await fault.wait_hit(2)
        await ticks.wait_more(2)
    await ticks.assert_each_once()
    assert {info.id for info in told.infos} == {*await ticks.ids()}


async def test_a_full_server_keeps_no_scheduler_from_starting(
    fresh_server: SingleServer, namespace: str
) -> None:
    """It is told with each tick that nothing was enqueued, and goes on by itself when there is room."""
    told = Told()
    async with pulsewire.connect(fresh_server.url) as hub:
        await fresh_server.command(
            "CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction"
        )
        scheduler = hub.scheduler(misfire_grace=0.2, post_enqueue=told.post, heartbeat_interval=0.2)
        scheduler.register(EVERY, TASK)
        async with scheduler:
            await wait_until(lambda: bool(told.errors), timeout=PATIENCE, what="an error was told")
            assert isinstance(told.errors[0], pulsewire.ServerFull)
            await fresh_server.command("CONFIG", "SET", "maxmemory", "0")
            await wait_until(lambda: bool(told.infos), timeout=PATIENCE, what="a task was enqueued")

            async def is_shown() -> bool:
                return await shown(hub) == {(EVERY, TASK.type)}

            await wait_until(is_shown, timeout=PATIENCE, what="the entry is shown")


# --- the clock


@on_one_server
async def test_a_clock_that_goes_back_enqueues_nothing_twice(hub: pulsewire.Hub, raw: Raw) -> None:
    """It waits until the clock is where it was."""
    scheduler = hub.scheduler()
    scheduler.register(EVERY, TASK)
    async with scheduler:
        clock, ticks = Leaping(scheduler), Ticks.of(raw, scheduler)
        await clock.go_on(4.0)
        await wait_idle(scheduler, ticks.first + 2)
        await clock.go_on(-20.0)
        await wait_idle(scheduler, 0)
        count = await ticks.count()
        await clock.go_on(10.0)
        assert await ticks.count() == count == await ticks.last() - ticks.first + 1
        await clock.go_on(11.0)
        await ticks.wait_more(1)
    await ticks.assert_each_once()


@on_one_server
async def test_a_clock_that_goes_ahead_leaves_no_tick_out(hub: pulsewire.Hub, raw: Raw) -> None:
    """Within the grace; the timer that was set before is set anew."""
    scheduler = hub.scheduler()
    scheduler.register(EVERY, TASK)
    async with scheduler:
        clock, ticks = Leaping(scheduler), Ticks.of(raw, scheduler)
        for seconds in (10.0, 0.5, 25.0):
            await clock.go_on(seconds)
            await ticks.wait_last(ticks.first - 1 + int(clock.ahead))
    await ticks.assert_each_once()


@on_one_server
async def test_after_a_great_leap_ahead_and_back_nobody_waits_for_years(
    hub: pulsewire.Hub, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim that a leap has left far ahead is not believed: the ticks go on."""
    scheduler = hub.scheduler(misfire_grace=2.0)
    scheduler.register(EVERY, TASK)
    async with scheduler:
        clock, ticks = Leaping(scheduler), Ticks.of(raw, scheduler)
        await clock.leap(1e8)
        await ticks.wait_last(ticks.first + 10**8 - 10)
        await clock.leap(0.0)
        await wait_idle(scheduler, 0)
        before = await ticks.count()
        due = entry_of(scheduler).due
        assert due is not None
        assert due < ticks.first + 10**7
        await clock.leap(2.0)
        await wait_idle(scheduler, due)
        assert await ticks.count() > before
    said = [record.message for record in caplog.records]
    assert "ticks of a periodic task were missed" in said
    assert "the server's clock went back" in said


# --- what is told


@on_one_server
async def test_hooks_are_told_of_every_tick(watched: pulsewire.Hub, raw: Raw, facts: Facts) -> None:
    """Before, with the task; and after, with what was enqueued. They may be coroutine functions, or plain ones."""
    told = Told()
    scheduler = watched.scheduler(pre_enqueue=told.pre, post_enqueue=told.post)
    scheduler.register(EVERY, TASK)
    async with scheduler:
        ticks = Ticks.of(raw, scheduler)
        await Leaping(scheduler).go_on(3.0)
        await ticks.wait_more(2)
    assert [info.id for info in told.infos] == await ticks.ids()
    assert {info.state for info in told.infos} == {"pending"}
    assert told.before == [TASK] * len(told.infos)
    assert told.errors == []
    enqueued = facts.of("periodic_task_enqueued")
    assert [fact[:2] for fact in enqueued] == [(EVERY, TASK.type)] * len(told.infos)
    assert all(late >= 0 for *_, late in enqueued)


async def test_only_who_has_enqueued_a_tick_is_told(
    topology: Topology, namespace: str, raw: Raw
) -> None:
    """The hooks of all replicas together hear of each tick once."""
    told = Told()
    async with AsyncExitStack() as stack:
        hubs = [
            await stack.enter_async_context(pulsewire.connect(topology.url, namespace=namespace))
            for _ in range(3)
        ]
        schedulers = [hub.scheduler(post_enqueue=told.post) for hub in hubs]
        for scheduler in schedulers:
            scheduler.register(EVERY, TASK)
            await stack.enter_async_context(scheduler)
        ticks = Ticks.of(raw, schedulers[0])
        await ticks.wait_more(3)
    assert [info.id for info in told.infos] == await ticks.ids()


@on_one_server
async def test_a_hook_that_fails_changes_nothing(
    hub: pulsewire.Hub, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""

    def fail(*_: object) -> None:
        raise LookupError("the hook's own trouble")

    scheduler = hub.scheduler(pre_enqueue=fail, post_enqueue=fail)
    scheduler.register(EVERY, TASK)
    async with scheduler:
        ticks = Ticks.of(raw, scheduler)
        await Leaping(scheduler).go_on(3.0)
        await ticks.wait_more(2)
    await ticks.assert_each_once()
    assert {one.message for one in caplog.records} == {"a hook given to the scheduler failed"}
    assert len(caplog.records) == 2 * await ticks.count()


@pytest.mark.parametrize(
    ("options", "error"),
    [({"unique": 600.0}, DuplicateTask), ({"task_id": "the-only-one"}, TaskIdConflict)],
)
async def test_a_task_that_is_there_still_is_told_as_an_error(
    hub: pulsewire.Hub,
    raw: Raw,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    error: type[PulsewireError],
) -> None:
    """It is how one has at most one of a kind, so it is no trouble."""
    told = Told()
    scheduler = hub.scheduler(post_enqueue=told.post)
    scheduler.register(EVERY, TASK.with_options(**options))
    async with scheduler:
        await Leaping(scheduler).go_on(3.0)
        await wait_until(lambda: len(told.errors) >= 2, timeout=PATIENCE, what="two refusals")
        ticks = Ticks.of(raw, scheduler)
    assert {type(one) for one in told.errors} == {error}
    assert [info.id for info in told.infos] == await ticks.ids()
    assert len(told.infos) == 1
    assert not caplog.records


# --- entries


async def test_entries_are_shown_from_the_start_and_removed_at_the_end(
    hub: pulsewire.Hub, topology: Topology, namespace: str, raw: Raw
) -> None:
    """With their histories. Of the scheduler nothing is left."""
    scheduler = hub.scheduler(location=UTC)
    task = TASK.with_options(payload=b"p", queue="low", max_retry=3, headers={"a": "1"})
    entry_id = scheduler.register(EVERY, task)
    scheduler.register("0 0 31 2 *", TASK)
    async with scheduler:
        found = await hub.tasks.inspector.scheduler_entries()
        ticks = Ticks.of(raw, scheduler)
        entry = next(one for one in found if one.id == entry_id)
        assert entry.scheduler == scheduler.id
        assert (entry.spec, entry.task_type, entry.payload) == (EVERY, "digest", b"p")
        assert {(one.name, one.value) for one in entry.options} == {
            ("queue", "low"),
            ("max_retry", 3),
            ("headers", ("a", "1")),
        }
        assert entry.next_at == datetime.fromtimestamp(ticks.first, UTC)
        assert entry.previous_at is None
        never = next(one for one in found if one.id != entry_id)
        assert (never.next_at, never.previous_at) == (None, None)
        await Leaping(scheduler).go_on(3.0)
        await ticks.wait_more(2)

        async def has_history() -> bool:
            return len(await hub.tasks.inspector.enqueue_events(entry_id)) >= 2

        await wait_until(has_history, timeout=PATIENCE, what="two events are in the history")
        events = await hub.tasks.inspector.enqueue_events(entry_id)
        assert {event.task_id for event in events} <= {*await ticks.ids()}
        ours = {b"schedulers", b"schedulers:", b"scheduler_history:"}
    left = await everything(topology, namespace)
    assert not [key for key in left if any(b"asynq:" + part in key for part in ours)]


async def test_entries_lie_in_redis_as_in_go(hub: pulsewire.Hub, raw: Raw) -> None:
    """Spec 1.3, 2.4: the last one first, every time set, whole seconds to live."""
    scheduler = hub.scheduler(heartbeat_interval=1.7)
    scheduler.register(EVERY, TASK)
    scheduler.register("0 0 31 2 *", TASK.with_options(queue="low"))
    async with scheduler:
        keys = hub.tasks.keys
        own, all_of_them = keys.entries(scheduler.id), keys.schedulers
        entries = [EntryMessage.FromString(one) for one in await raw(own, "LRANGE", own, 0, -1)]
        ttl = await raw(own, "TTL", own)
        score = int(await raw(all_of_them, "ZSCORE", all_of_them, own))
        now = await hub.time()
    assert [entry.spec for entry in entries] == ["0 0 31 2 *", EVERY]
    never, every = entries
    assert never.enqueue_options == ['Queue("low")']
    assert never.next_enqueue_time.seconds == never.prev_enqueue_time.seconds == NEVER
    assert every.next_enqueue_time.seconds > 0
    assert every.HasField("prev_enqueue_time")
    assert 0 < ttl <= 4
    assert now < score <= now + 4


async def test_what_changes_while_it_runs_is_shown_at_once(hub: pulsewire.Hub, raw: Raw) -> None:
    """Not only at the next heartbeat. Whatever is registered is enqueued from its next tick on."""
    async with hub.scheduler(heartbeat_interval=600.0) as scheduler:
        assert await shown(hub) == set()
        entry_id = scheduler.register(EVERY, TASK)
        ticks = Ticks.of(raw, scheduler)
        await wait_shown(hub, {(EVERY, "digest")})
        await Leaping(scheduler).go_on(1.0)
        await ticks.wait_more(1)
        scheduler.unregister(entry_id)
        await wait_shown(hub, set())
    await ticks.assert_each_once()


async def wait_shown(hub: pulsewire.Hub, expected: set[tuple[str, str]]) -> None:
    async def is_shown() -> bool:
        return await shown(hub) == expected

    await wait_until(is_shown, timeout=PATIENCE, what=f"{expected} are shown")


async def test_an_unregistered_entry_is_enqueued_no_more(hub: pulsewire.Hub, raw: Raw) -> None:
    """And its history goes with it; in Go it would stay."""
    scheduler = hub.scheduler()
    gone = scheduler.register(EVERY, TASK.with_options(queue="gone"))
    scheduler.register(EVERY, TASK)
    async with scheduler:
        clock = Leaping(scheduler)
        stopped, ticks = Ticks.of(raw, scheduler), Ticks.of(raw, scheduler, 1)
        await clock.go_on(2.0)
        await stopped.wait_more(1)
        scheduler.unregister(gone)
        history = hub.tasks.keys.history(gone)

        async def is_forgotten() -> bool:
            return not await raw(history, "EXISTS", history)

        await wait_until(is_forgotten, timeout=PATIENCE, what="the history is deleted")
        count = await stopped.count()
        await clock.go_on(2.0)
        await ticks.wait_more(2)
        assert await stopped.count() == count
        assert not await raw(history, "EXISTS", history)
        with pytest.raises(EntryNotFound):
            scheduler.unregister(gone)
    await ticks.assert_each_once()


@on_one_server
async def test_an_entry_that_goes_before_the_start_is_never_enqueued(
    hub: pulsewire.Hub, raw: Raw
) -> None:
    scheduler = hub.scheduler()
    gone = scheduler.register(EVERY, TASK.with_options(queue="gone"))
    scheduler.register(EVERY, TASK)
    scheduler.unregister(gone)
    async with scheduler:
        ticks = Ticks.of(raw, scheduler)
        await Leaping(scheduler).go_on(3.0)
        await ticks.wait_more(2)
    pending = hub.tasks.keys.queue("gone").pending
    assert not await raw(pending, "EXISTS", pending)


async def test_more_entries_than_one_script_writes(hub: pulsewire.Hub, raw: Raw) -> None:
    """They are all there, in order, also when a part is written again."""
    scheduler = hub.scheduler()
    for number in range(2 * PART + 3):
        scheduler.register("@yearly", TASK.with_options(type=f"digest:{number}"))
    expected = [entry.task.type for entry in scheduler._timetable.entries]
    async with scheduler:
        own = hub.tasks.keys.entries(scheduler.id)
        for _ in range(2):
            found = await raw(own, "LRANGE", own, 0, -1)
            assert [EntryMessage.FromString(one).task_type for one in found] == expected[::-1]
            await scheduler._show()


async def test_a_history_has_the_newest_thousand(hub: pulsewire.Hub, raw: Raw) -> None:
    """And a time to live."""
    scheduler = hub.scheduler()
    entry_id = scheduler.register(EVERY, TASK)
    entry, store = entry_of(scheduler), scheduler._store
    for number in range(MOST_EVENTS + 5):
        await store.note(entry, f"task-{number}", 1_700_000_000.25 + number)
    history = hub.tasks.keys.history(entry_id)
    found = await raw(history, "ZRANGE", history, 0, -1)
    events = [EnqueueEventMessage.FromString(one) for one in found]
    assert [event.task_id for event in events] == [
        f"task-{number}" for number in range(5, MOST_EVENTS + 5)
    ]
    assert events[0].enqueue_time.nanos == 250_000_000
    assert int(await raw(history, "ZSCORE", history, found[0])) == 1_700_000_005
    assert await raw(history, "TTL", history) > 86_400
    await store.note(entry, "task-7", 1_700_000_007.25)
    assert await raw(history, "ZCARD", history) == MOST_EVENTS


# --- refusals


@pytest.mark.parametrize(
    ("spec", "task", "error"),
    [
        ("* * * *", TASK, InvalidOption),
        ("@every 5", TASK, InvalidOption),
        ("TZ=Europe/Atlantis @daily", TASK, InvalidOption),
        ("@daily", NewTask(type=" "), InvalidName),
        ("@daily", NewTask(type="t", queue="a{b"), InvalidName),
        ("@daily", NewTask(type="t", unique=0.5), InvalidOption),
        ("@daily", NewTask(type="t", max_retry=-1), InvalidOption),
        ("@daily", NewTask(type="t", payload=b"x" * (2**24 + 1)), PayloadTooLarge),
        ("@daily", "digest", InvalidOption),
    ],
)
async def test_what_is_impossible_is_refused_before_anything_is_written(
    hub: pulsewire.Hub,
    topology: Topology,
    namespace: str,
    spec: str,
    task: Any,
    error: type[Exception],
) -> None:
    scheduler = hub.scheduler()
    with pytest.raises(error):
        scheduler.register(spec, task)
    assert await everything(topology, namespace) == []


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_interval": 0.0},
        {"heartbeat_interval": "10"},
        {"misfire_grace": 0.0},
        {"misfire_grace": 86_400.0},
    ],
)
@on_one_server
async def test_options_are_checked(hub: pulsewire.Hub, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        hub.scheduler(**options)


@on_one_server
async def test_a_scheduler_is_used_once(hub: pulsewire.Hub) -> None:
    scheduler = hub.scheduler()
    async with scheduler:
        with pytest.raises(Closed):
            await scheduler.__aenter__()
        assert "active entries=0" in repr(scheduler)
    with pytest.raises(Closed):
        await scheduler.__aenter__()
    with pytest.raises(Closed):
        scheduler.register(EVERY, TASK)


async def test_a_scheduler_needs_a_server_to_begin(proxy: FaultProxy, namespace: str) -> None:
    async with pulsewire.connect(proxy.url, namespace=namespace, wait_for_server=0.2) as hub:
        await proxy.refuse()
        proxy.cut()
        with pytest.raises(ServerUnavailable):
            await hub.scheduler().__aenter__()
        await proxy.accept()


# --- ending


@on_one_server
async def test_ending_waits_for_what_is_being_enqueued(
    hub: pulsewire.Hub, raw: Raw, topology: Topology, namespace: str
) -> None:
    """A tick that has begun is enqueued, and told."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    told = Told()

    async def hold(task: NewTask) -> None:
        begun.set()
        await go_on.wait()

    scheduler = hub.scheduler(pre_enqueue=hold, post_enqueue=told.post)
    scheduler.register(EVERY, TASK)
    async with asyncio.TaskGroup() as group:
        async with scheduler:
            ticks = Ticks.of(raw, scheduler)
            await Leaping(scheduler).go_on(1.0)
            await begun.wait()
            group.create_task(set_later(go_on, scheduler))
    assert len(told.infos) == 1
    assert await ticks.count() == 1
    assert not [key for key in await everything(topology, namespace) if b"asynq:sched" in key]


async def set_later(event: asyncio.Event, scheduler: Scheduler) -> None:
    """Set an event once the scheduler has begun to end."""
    await wait_until(lambda: scheduler._state == "closed", what="it begins to end")
    event.set()


@on_one_server
async def test_an_error_of_the_block_comes_out_as_it_is(
    hub: pulsewire.Hub, topology: Topology, namespace: str
) -> None:
    with pytest.raises(LookupError, match="of the block"):
        async with hub.scheduler() as scheduler:
            scheduler.register(EVERY, TASK)
            raise LookupError("of the block")
    assert await everything(topology, namespace) == []


@on_one_server
async def test_a_block_that_is_cancelled_signs_off(
    hub: pulsewire.Hub, topology: Topology, namespace: str
) -> None:
    async def run() -> None:
        async with hub.scheduler() as scheduler:
            scheduler.register("@yearly", TASK)
            await wait_shown(hub, {("@yearly", TASK.type)})
            running.set()
            await asyncio.sleep(3600)

    running = asyncio.Event()
    task = asyncio.get_running_loop().create_task(run())
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await everything(topology, namespace) == []
