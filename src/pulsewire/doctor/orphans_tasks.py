"""Orphans of task queues: tasks in no place, places that name no task, locks and leases of nobody.

Each search looks from outside first, in pages; what looks wrong is decided by a script, which sees the whole of one
task at one moment. So a task that moves meanwhile is never taken for an orphan, and mending is safe while servers run.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from pulsewire._redis.pipeline import Argument
from pulsewire._redis.scripts import Script, text
from pulsewire.doctor.census import Census, QueueCensus
from pulsewire.doctor.findings import Finding, Level
from pulsewire.doctor.orphans import (
    PAGE,
    REPAIR,
    SHOWN,
    Search,
    finding,
    foreign,
    pace_for,
    paged,
)
from pulsewire.errors import DecodeError, InvalidName, ServerError
from pulsewire.tasks.inspecting.inspector_store import RegistryStore
from pulsewire.tasks.inspecting.views import read_worker
from pulsewire.tasks.keys import PREFIX, QueueKeys, TaskKeys
from pulsewire.tasks.wire import decode_message

HOMELESS = Script.load("pulsewire.tasks", "orphan_tasks")
LEASES = Script.load("pulsewire.tasks", "orphan_leases")
LOCK = Script.load("pulsewire.tasks", "orphan_lock")
INDEX = Script.load("pulsewire.tasks", "orphan_index")
HEARTBEAT_LOST = 60.0
"""Seconds after which whoever has not shown itself is gone."""
NEW_LEASE = 30_000
"""Milliseconds of a lease that is made up: as long as a Go server's, in which an owner that lives renews it."""
HISTORY_LIVES = 30 * 86400.0
SET_WEIGHT = 200
"""To ask an aggregation set takes as long as to walk over so many elements of a list."""
FORGET_LATER = 3600
"""Seconds for which a completed task is kept whose own time is not known."""
ZSETS = ("scheduled", "retry", "archived", "completed", "lease")
REMOVED = (
    "pending",
    "scheduled",
    "retry",
    "archived",
    "completed",
    "groups",
    "aggregation_sets",
)
"""Places that are set aside while a queue is removed (`InspectorStore`)."""
_SET_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


async def search_tasks(search: Search, census: Census) -> AsyncIterator[Finding]:
    """Look through all queues, and what belongs to none."""
    keys = TaskKeys(search.space)
    registry = RegistryStore(search.link, keys)
    running = await _running(registry)
    known = set(await registry.queues())
    unknown: list[str] = []
    for number, (name, found) in enumerate(sorted(census.queues.items())):
        search.progress("looking at queues", number, len(census.queues))
        if (queue := _queue(keys, name)) is None:
            continue
        if name not in known and (found.tasks or found.groups):
            unknown.append(name)
        try:
            async for one in _search_queue(search, queue, found, running):
                yield one
        except ServerError as error:
            yield foreign(f"queue {name}", error)
    async for one in _search_names(search, registry, known - census.queues.keys(), unknown):
        yield one
    async for one in _search_registries(search, keys, census):
        yield one


def _queue(keys: TaskKeys, name: str) -> QueueKeys | None:
    """The keys of a queue; None where the name is none of ours, nor of Go's on a cluster."""
    try:
        return keys.queue(name)
    except InvalidName:
        return None


async def _search_names(
    search: Search, registry: RegistryStore, empty: set[str], unknown: list[str]
) -> AsyncIterator[Finding]:
    if unknown:
        if search.repair:
            for name in unknown:
                await registry.add_queue(name)
        what = "queues with tasks that are not registered: no tool shows them, though servers may run them"
        yield finding(search, "queues", "", unknown, what, red=True)
    if empty:
        # They stay: Go's clients register a queue once, and would not do it again.
        what = "queues are registered and have never had a task"
        yield Finding(Level.OK, "queues", "", what, "", len(empty), tuple(sorted(empty)[:SHOWN]))


async def _running(registry: RegistryStore) -> set[str]:
    """Ids of the tasks that servers show as running."""
    shown = map(read_worker, await registry.workers())
    return {worker.task_id for worker in shown if worker is not None}


async def _search_queue(
    search: Search, queue: QueueKeys, census: QueueCensus, running: set[str]
) -> AsyncIterator[Finding]:
    where = f"queue {queue.name}"
    aside = [queue.removed(place) for place in REMOVED]
    if await search.link.call(aside[0], "EXISTS", *aside, repeatable=True):
        what = "is being removed, or its removal was interrupted: what it had is set aside, not deleted"
        do = f"`pulsewire queue rm {queue.name}` goes on with it."
        yield Finding(Level.WARN, "queues", where, what, do)
        return
    if found := await _entries_without_task(search, queue, census):
        what = "ids in its places have no task any more: it was deleted or evicted from under them"
        yield finding(search, "tasks", where, found, what, red=False)
    # first: what they have is in no other place
    unnamed = await _unnamed_groups(search, queue, census.groups)
    if unnamed:
        what = "groups with members that nobody looks after, since their index does not name them"
        yield finding(search, "groups", where, unnamed, what, red=True)
    in_sets = await _members(search, queue, unnamed)
    if homeless := await _tasks_without_place(search, queue, census, running, in_sets):
        for state, ids in sorted(homeless.items()):
            what, do = _HOMELESS.get(state, _HOMELESS[""])
            yield finding(
                search,
                "tasks",
                where,
                ids,
                f"{state} tasks are in no place: {what}",
                do=do,
                red=True,
            )
    if found := await _lone_leases(search, queue):
        what = "tasks are active without a lease, or have a lease without being active"
        yield finding(search, "leases", where, found, what, red=False)
    if found := await _locks_of_nobody(search, queue, census.locks):
        what = "unique locks whose task is gone: equal tasks are refused until the locks end"
        yield finding(search, "locks", where, found, what, red=False)


_HOMELESS = {
    "pending": ("they never run", f"{REPAIR} They run next."),
    "retry": ("they never run again", f"{REPAIR} They run next."),
    "active": ("nobody runs them or finds that out", f"{REPAIR} They run next."),
    "scheduled": (
        "when they were to run is lost",
        f"{REPAIR} It archives them, for you to run or delete: `pulsewire task ls --state archived`.",
    ),
    "completed": ("they are never forgotten", REPAIR),
    "archived": ("nobody sees them", REPAIR),
    "aggregating": ("their group does not have them", f"{REPAIR} They go back to it."),
    "broken": ("they have no message: only remains", f"{REPAIR} It deletes them."),
    "": ("their state is unknown", f"{REPAIR} It archives them."),
}


async def _entries_without_task(search: Search, queue: QueueKeys, census: QueueCensus) -> list[str]:
    found: list[str] = []
    for place in ("pending", "active"):
        if place in census.others:
            key: str = getattr(queue, place)
            found += await search.entries_without(key, "list", queue.tasks, "msg")
    for place in ZSETS:
        if place in census.others:
            found += await search.entries_without(getattr(queue, place), "zset", queue.tasks, "msg")
    for group in census.groups:
        key = f"{queue.group_prefix}{group}"
        found += await search.entries_without(key, "zset", queue.tasks, "msg")
    return sorted(set(found))


async def _tasks_without_place(
    search: Search, queue: QueueKeys, census: QueueCensus, running: set[str], in_sets: set[str]
) -> dict[str, list[str]]:
    """By state. What is in a list is known from outside; zsets are cheap to ask in the script."""
    placed = {entry async for entry in _ids_in_lists(search, queue, census)} | in_sets
    suspects = [task for task in census.tasks if task not in placed]
    homeless: dict[str, list[str]] = {}
    weight = await _weight(search, queue)
    while suspects:
        pace = pace_for(weight)
        some, suspects = suspects[:pace], suspects[pace:]
        lost = await _homeless(search, queue, "look", dict.fromkeys(some, 0))
        # A server that shows it as running renews its lease soon, and is not to be disturbed.
        lost = {
            task: state for task, state in lost.items() if state != "active" or task not in running
        }
        if search.repair and lost:
            times = {
                task: await _forget_at(search, queue, task) if state == "completed" else 0
                for task, state in lost.items()
            }
            lost = await _homeless(search, queue, "mend", times)
            weight += len(lost)  # the list grows that the next ones are looked for in
        for task, state in lost.items():
            homeless.setdefault(state, []).append(task)
    return homeless


async def _weight(search: Search, queue: QueueKeys) -> int:
    """Elements of lists that are walked over for one task that is in no zset."""
    weight = 0
    for key, ask, each in (
        (queue.pending, "LLEN", 1),
        (queue.active, "LLEN", 1),
        (queue.aggregation_sets, "ZCARD", SET_WEIGHT),
    ):
        weight += each * int(await search.link.call(key, ask, key, repeatable=True))
    return weight


async def _homeless(
    search: Search, queue: QueueKeys, mode: str, forget_at: Mapping[str, int]
) -> dict[str, str]:
    """Those of some tasks that are in no place, with their states."""
    places = [
        queue.pending,
        queue.active,
        queue.lease,
        queue.scheduled,
        queue.retry,
        queue.archived,
        queue.completed,
        queue.groups,
        queue.aggregation_sets,
        *(queue.removed(place) for place in REMOVED),
    ]
    args: list[Argument] = [mode, queue.tasks, queue.group_prefix]
    for task, at in forget_at.items():
        args += [task, at]
    names = [text(name) for name in await search.link.run(HOMELESS, places, args, repeatable=True)]
    return dict(zip(names[::2], names[1::2], strict=True))


async def _ids_in_lists(
    search: Search, queue: QueueKeys, census: QueueCensus
) -> AsyncIterator[str]:
    for place in ("pending", "active"):
        key: str = getattr(queue, place)
        start = 0
        while place in census.others:
            entries = await search.page(key, "list", start)
            for entry in entries:
                yield entry
            start += len(entries)
            if len(entries) < PAGE:
                break


async def _forget_at(search: Search, queue: QueueKeys, task: str) -> int:
    """When a completed task was to be forgotten."""
    key = queue.task(task)
    data = await search.link.call(key, "HGET", key, "msg", repeatable=True)
    try:
        message = decode_message(data or b"", task)
    except DecodeError:
        message = None
    if message is not None and message.completed_at and message.retention:
        return message.completed_at + message.retention
    return int(await search.link.time()) + FORGET_LATER


async def _lone_leases(search: Search, queue: QueueKeys) -> list[str]:
    found: list[str] = []
    size = int(await search.link.call(queue.active, "LLEN", queue.active, repeatable=True))
    for where, key, kind in (("active", queue.active, "list"), ("lease", queue.lease, "zset")):
        start = 0
        while True:
            entries = await search.page(key, kind, start)
            for some in paged(entries, pace_for(size)):
                args: list[Argument] = [search.mode, queue.tasks, where, NEW_LEASE, *some]
                reply = await search.link.run(
                    LEASES, [queue.active, queue.lease], args, repeatable=True
                )
                found += map(text, reply)
            start += len(entries)
            if len(entries) < PAGE:
                break
    return found


async def _locks_of_nobody(search: Search, queue: QueueKeys, locks: Sequence[str]) -> list[str]:
    args = [search.mode, queue.tasks]

    async def is_orphan(lock: str) -> bool:
        return bool(await search.link.run(LOCK, [queue.prefix + lock], args, repeatable=True))

    return await search.those(locks, is_orphan)


async def _unnamed_groups(search: Search, queue: QueueKeys, groups: Sequence[str]) -> list[str]:
    """Aggregation sets look like groups; they are named by their whole key, and end in a UUID."""

    async def is_unnamed(group: str) -> bool:
        key = f"{queue.group_prefix}{group}"
        is_set = _SET_ID.fullmatch(group.rpartition(":")[2]) is not None and ":" in group
        index = queue.aggregation_sets if is_set else queue.groups
        args = [search.mode, "set" if is_set else "group", key if is_set else group]
        aside = queue.removed("aggregation_sets" if is_set else "groups")
        return bool(await search.link.run(INDEX, [key, index, aside], args, repeatable=True))

    return await search.those(groups, is_unnamed)


async def _members(search: Search, queue: QueueKeys, groups: Iterable[str]) -> set[str]:
    """The members of groups, or of aggregation sets."""
    found: set[str] = set()
    for group in groups:
        key, start = f"{queue.group_prefix}{group}", 0
        while entries := await search.page(key, "zset", start):
            found.update(entries)
            start += len(entries)
    return found


async def _search_registries(
    search: Search, keys: TaskKeys, census: Census
) -> AsyncIterator[Finding]:
    now = await search.link.time()
    for index, what in (
        (keys.servers, "servers"),
        (keys.workers, "workers"),
        (keys.schedulers, "schedulers"),
    ):
        limit = f"({now - HEARTBEAT_LOST}"
        gone = await search.link.call(index, "ZRANGEBYSCORE", index, "-inf", limit, repeatable=True)
        if gone:
            if search.repair:
                command = ("ZREMRANGEBYSCORE", index, "-inf", limit)
                await search.link.call(index, *command, repeatable=True)
            names = [text(name) for name in gone]
            said = f"{what} that do not live any more are still listed"
            yield finding(search, what, "", names, said, red=False)
    names = sorted(census.registries)
    shown = [name for name in names if name.startswith(("servers:", "workers:", "schedulers:"))]
    if found := await _lasting(search, shown, HEARTBEAT_LOST):
        said = "records of servers and schedulers have no time to live: they stay for ever"
        yield finding(search, "servers", "", found, said, red=False)
    histories = [name for name in names if name.startswith("scheduler_history:")]
    if found := await _lasting(search, histories, HISTORY_LIVES):
        said = "histories of periodic tasks have no time to live; Go's schedulers leave theirs when they are killed"
        do = f"{REPAIR} They are kept for 30 days."
        yield finding(search, "schedulers", "", found, said, do=do, red=False)


async def _lasting(search: Search, names: Sequence[str], seconds: float) -> list[str]:
    return await search.without_ttl([search.key(PREFIX, name) for name in names], seconds)
