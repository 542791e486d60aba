"""Looking at task queues, and intervening: what operators and their tools do (spec/asynq.md 6.5).

Every method asks Redis; nothing is kept. Operations on all tasks of a place go through it in batches: they are as many
changes as there are batches, and what is enqueued meanwhile may or may not be among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

from pulsewire._core.checks import check_count
from pulsewire._redis.link import Link
from pulsewire._redis.slots import key_slot
from pulsewire.errors import (
    AlreadyPaused,
    DecodeError,
    InvalidName,
    InvalidOption,
    InvalidTarget,
    NotPaused,
    PayloadTooLarge,
    QueueInUse,
    QueueNotEmpty,
    QueueNotFound,
    TaskNotFound,
    WrongState,
)
from pulsewire.tasks.inspecting.inspector_store import (
    Changed,
    InspectorStore,
    RegistryStore,
    Verb,
    day_of,
)
from pulsewire.tasks.inspecting.views import (
    DailyStats,
    EnqueueEvent,
    GroupInfo,
    QueueInfo,
    QueuePlacement,
    SchedulerEntry,
    ServerInfo,
    WorkerInfo,
    read_entry,
    read_event,
    read_facts,
    read_nodes,
    read_second,
    read_server,
    read_task,
    read_worker,
)
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.states import TaskState
from pulsewire.tasks.wire import (
    TaskInfo,
    as_payload,
    check_text,
    decode_message,
    moment,
)

DEFAULT_PAGE = 30
MOST_DAYS = 10_000
FURTHEST = 2**53
"""Tasks that can be passed over to reach a page."""
ALLOWED: dict[Verb, tuple[TaskState, ...]] = {
    "run": (
        TaskState.SCHEDULED,
        TaskState.RETRY,
        TaskState.ARCHIVED,
        TaskState.COMPLETED,
        TaskState.AGGREGATING,
    ),
    "archive": (
        TaskState.PENDING,
        TaskState.SCHEDULED,
        TaskState.RETRY,
        TaskState.COMPLETED,
        TaskState.AGGREGATING,
    ),
    "delete": tuple(state for state in TaskState if state is not TaskState.ACTIVE),
}
"""What can be done to all tasks of which states."""


class Inspector:
    """Looks at queues, tasks, servers and schedulers, and intervenes. `Hub.tasks.inspector` is one.

    Methods raise `InvalidName` and `InvalidOption` for what cannot be meant, and `ServerUnavailable`,
    `PermissionDenied` or another `PulsewireError` where Redis does not do it. Changes are carried out once, also when
    a reply is lost; `OutcomeUnknown` is raised where no server could be asked any more.
    """

    def __init__(
        self,
        link: Link,
        keys: TaskKeys,
        *,
        max_payload: int,
        on_removed: Callable[[str], None] | None = None,
    ) -> None:
        self._link = link
        self._keys = keys
        self._max_payload = max_payload
        self._on_removed = on_removed
        self._registry = RegistryStore(link, keys)
        self._stores: dict[str, InspectorStore] = {}

    def __repr__(self) -> str:
        return f"<Inspector at {self._link.shown}>"

    # --- queues

    async def queues(self) -> list[str]:
        """The names of all queues, sorted."""
        return await self._registry.queues()

    async def queue_info(self, queue: str, *, with_memory: bool = True) -> QueueInfo:
        """Sizes, counters and latency of a queue. Its memory is estimated from some 200 samples, if it is wanted.

        Raises:
            QueueNotFound: there is no such queue.
        """
        store = await self._existing(queue)
        sizes = await store.sizes(day_of(await store.now()))
        memory = await store.memory(sizes.aggregating) if with_memory else None
        since = sizes.pending_since / 1e9
        at = moment(sizes.now)
        if at is None:
            raise AssertionError("a server's clock does not stand at 1970")
        return QueueInfo(
            name=queue,
            pending=sizes.pending,
            active=sizes.active,
            scheduled=sizes.scheduled,
            retry=sizes.retry,
            archived=sizes.archived,
            completed=sizes.completed,
            aggregating=sizes.aggregating,
            set_apart=sizes.set_apart,
            groups=sizes.groups,
            processed=sizes.processed,
            failed=sizes.failed,
            processed_total=sizes.processed_total,
            failed_total=sizes.failed_total,
            latency=max(sizes.now - since, 0.0) if since > 0 else 0.0,
            memory=memory,
            is_paused=sizes.paused is not None,
            paused_at=read_second(sizes.paused),
            at=at,
        )

    async def history(self, queue: str, days: int) -> list[DailyStats]:
        """What became of attempts on this UTC day and those before it, the newest first. Kept for 90 days.

        Raises:
            QueueNotFound: there is no such queue.
        """
        check_count("days", days)
        if days > MOST_DAYS:
            raise InvalidOption("days", days, f"must be at most {MOST_DAYS:,}")
        store = await self._existing(queue)
        today = date.fromisoformat(day_of(await store.now()))
        wanted = [today - timedelta(days=back) for back in range(days)]
        counters = await store.counters([day.isoformat() for day in wanted])
        return [
            DailyStats(queue=queue, day=day, processed=processed, failed=failed)
            for day, (processed, failed) in zip(wanted, counters, strict=True)
        ]

    async def groups(self, queue: str) -> list[GroupInfo]:
        """The groups of a queue with their sizes, sorted by name; none if there is no such queue."""
        return [GroupInfo(name=name, size=size) for name, size in await self._of(queue).groups()]

    async def pause(self, queue: str) -> None:
        """Have no server take tasks of a queue until `unpause`. What is run already goes on, and so does enqueuing.

        It need not exist yet.

        Raises:
            AlreadyPaused: it is paused.
        """
        if not await self._of(queue).set_paused("pause"):
            raise AlreadyPaused(queue)

    async def unpause(self, queue: str) -> None:
        """Have servers take tasks of a queue again.

        Raises:
            NotPaused: it is not paused.
        """
        if not await self._of(queue).set_paused("unpause"):
            raise NotPaused(queue)

    async def remove_queue(self, queue: str, *, force: bool = False) -> None:
        """Remove a queue with everything it has left: counters and pause, and the locks that its tasks hold.

        Args:
            queue: its name.
            force: also remove its tasks, in whatever state, but for active ones.

        Raises:
            QueueNotFound: there is no such queue.
            QueueNotEmpty: it has tasks, be they archived, completed or in groups. Nothing was removed.
            QueueInUse: by force, and tasks of it are being run. Nothing was removed.
        """
        store = await self._existing(queue)
        while True:
            outcome, count = await store.remove(force=force)
            if outcome == "full":
                raise QueueNotEmpty(queue, count)
            if outcome == "active":
                raise QueueInUse(queue, count)
            # of an earlier removal that did not come to its end, if it is unfinished
            await store.purge()
            if outcome == "removed":
                break
        await self._registry.drop_queue(queue)
        if await store.is_used():  # by who has enqueued meanwhile, and believes that it is known
            await self._registry.add_queue(queue)
        if self._on_removed is not None:
            self._on_removed(queue)

    async def placement(self, queue: str) -> QueuePlacement:
        """Where in a cluster a queue lives, or would live.

        Raises:
            InvalidTarget: this is not a cluster.
        """
        link, key = self._link, self._keys.queue(queue).pending
        if not link.is_cluster:
            raise InvalidTarget(link.shown, "it is not a cluster, whose nodes share the queues")
        slot = key_slot(key)
        reply = await link.call(key, "CLUSTER", "SLOTS", repeatable=True)
        lane = await link.lane_for(key, link.options.wait_for_server)
        asked = lane.address.rpartition(":")[0]
        return QueuePlacement(queue=queue, slot=slot, nodes=read_nodes(reply, slot, asked))

    # --- tasks

    async def task(self, queue: str, task_id: str) -> TaskInfo:
        """One task.

        Raises:
            QueueNotFound, TaskNotFound: there is no such queue, or it has no such task.
            DecodeError: its record says no state.
        """
        store = await self._existing(queue)
        page = await store.task(check_text("task id", task_id))
        if not page.tasks:
            raise TaskNotFound(queue, task_id)
        found = page.tasks[0]
        try:
            state = TaskState(found.state)
        except ValueError as error:
            raise DecodeError(f"the state of task {task_id!r}", repr(found.state)) from error
        return read_task(queue, found, state, page.now)

    async def tasks(
        self,
        queue: str,
        state: TaskState | str,
        *,
        group: str | None = None,
        page: int = 1,
        size: int = DEFAULT_PAGE,
    ) -> list[TaskInfo]:
        """A page of the tasks in one state, or of one group.

        Pending and active ones come in the order in which they are, or were, taken; scheduled ones and retries as they
        are due; archived ones and members of groups as they came there; completed ones as their retention ends. What
        cannot be read is among them (`TaskInfo.is_readable`).

        Args:
            queue: its name.
            state: such as "retry".
            group: which one, for the state "aggregating"; its members that are being aggregated are not shown.
            page: counted from 1.
            size: tasks on a page.

        Raises:
            QueueNotFound: there is no such queue.
        """
        place, name = _place(state, group)
        offset = (check_count("page", page) - 1) * check_count("size", size)
        store = await self._existing(queue)
        if offset + size > FURTHEST:
            return []
        found = await store.tasks(place, name, offset, size)
        return [read_task(queue, one, place, found.now) for one in found.tasks]

    async def run_task(self, queue: str, task_id: str) -> None:
        """Make a task pending, whatever it waits for. Counters and what it has failed stay.

        Raises:
            QueueNotFound, TaskNotFound: there is no such queue, or it has no such task.
            WrongState: it is pending or active, or is being aggregated.
        """
        await self._change(queue, task_id, "run")

    async def archive_task(self, queue: str, task_id: str) -> None:
        """Archive a task that is not active.

        Raises:
            QueueNotFound, TaskNotFound: there is no such queue, or it has no such task.
            WrongState: it is archived or active, or is being aggregated.
        """
        await self._change(queue, task_id, "archive")

    async def delete_task(self, queue: str, task_id: str) -> None:
        """Delete a task that is not active; the unique lock that it holds is released.

        Raises:
            QueueNotFound, TaskNotFound: there is no such queue, or it has no such task.
            WrongState: it is active, or is being aggregated.
        """
        await self._change(queue, task_id, "delete")

    async def update_payload(self, queue: str, task_id: str, payload: bytes | str) -> None:
        """Give a scheduled task another payload. Its unique lock stays that of the first one.

        Raises:
            QueueNotFound, TaskNotFound: there is no such queue, or it has no such task.
            WrongState: it is not scheduled.
            PayloadTooLarge: nothing was written.
            DecodeError: its record cannot be read.
        """
        data = as_payload(payload) or b""
        if len(data) > self._max_payload:
            raise PayloadTooLarge(len(data), self._max_payload, "a task", "max_payload")
        check_text("task id", task_id)
        store = await self._existing(queue)
        while True:
            page = await store.task(task_id)
            if not page.tasks:
                raise TaskNotFound(queue, task_id)
            found = page.tasks[0]
            if found.state != TaskState.SCHEDULED:
                raise WrongState(queue, task_id, found.state, "update")
            message = decode_message(found.message, task_id)
            message.payload = data
            changed = await store.update(task_id, found.message, message.SerializeToString())
            if changed.outcome != "changed":
                _check(changed, queue, task_id, "update")
                return

    async def run_all(self, queue: str, state: TaskState | str, *, group: str | None = None) -> int:
        """Make all tasks pending that are scheduled, retried, archived, completed, or in a group: how many.

        Raises:
            QueueNotFound: there is no such queue.
        """
        return await self._change_all(queue, "run", state, group)

    async def archive_all(
        self, queue: str, state: TaskState | str, *, group: str | None = None
    ) -> int:
        """Archive all tasks that are pending, scheduled, retried, completed, or in a group: how many.

        The archive keeps the newest 9,999 tasks of 90 days; others are deleted.

        Raises:
            QueueNotFound: there is no such queue.
        """
        return await self._change_all(queue, "archive", state, group)

    async def delete_all(
        self, queue: str, state: TaskState | str, *, group: str | None = None
    ) -> int:
        """Delete all tasks in a state other than active, or of a group, with the locks that they hold: how many.

        Raises:
            QueueNotFound: there is no such queue.
        """
        return await self._change_all(queue, "delete", state, group)

    async def cancel(self, task_id: str) -> None:
        """Ask the server that runs a task to cancel this attempt; the task fails, and is tried again.

        Whether one has heard it is not known.
        """
        await self._registry.cancel(check_text("task id", task_id))

    # --- servers and schedulers

    async def servers(self) -> list[ServerInfo]:
        """The servers that run, with the tasks that they run; by host and process."""
        shown = [read_server(data) for data in await self._registry.servers()]
        workers: dict[str, list[WorkerInfo]] = {}
        for data in await self._registry.workers():
            worker = read_worker(data)
            if worker is not None:
                workers.setdefault(worker.server_id, []).append(worker)
        found = [server for server in shown if server is not None]
        found.sort(key=lambda server: (server.host, server.pid, server.id))
        return [replace(one, workers=tuple(workers.get(one.id, ()))) for one in found]

    async def scheduler_entries(self) -> list[SchedulerEntry]:
        """The periodic tasks of all schedulers that run."""
        found = [read_entry(data, scheduler) for scheduler, data in await self._registry.entries()]
        return [entry for entry in found if entry is not None]

    async def enqueue_events(
        self, entry: str, *, page: int = 1, size: int = DEFAULT_PAGE
    ) -> list[EnqueueEvent]:
        """A page of what a scheduler's entry has enqueued, the newest first; at most 1,000 are kept."""
        offset = (check_count("page", page) - 1) * check_count("size", size)
        if offset + size > FURTHEST:
            return []
        history = await self._registry.history(check_text("entry", entry), offset, size)
        found = [read_event(data) for data in history]
        return [event for event in found if event is not None]

    async def redis_info(self) -> dict[str, str]:
        """What the server says of itself: INFO, or CLUSTER INFO of a cluster."""
        command = ("CLUSTER", "INFO") if self._link.is_cluster else ("INFO",)
        reply = await self._link.call("", *command, repeatable=True)
        return read_facts(bytes(reply).decode(errors="replace"))

    # --- insides

    def _of(self, queue: str) -> InspectorStore:
        store = self._stores.get(queue)
        if store is None:
            store = InspectorStore(self._link, self._keys.queue(queue))
            self._stores[queue] = store
        return store

    async def _existing(self, queue: str) -> InspectorStore:
        store = self._of(queue)
        if not await self._registry.has_queue(queue):
            self._stores.pop(queue, None)  # names that were only asked for need no memory
            raise QueueNotFound(queue)
        return store

    async def _change(self, queue: str, task_id: str, verb: Verb) -> None:
        check_text("task id", task_id)
        store = await self._existing(queue)
        _check(await store.change(verb, task_id), queue, task_id, verb)

    async def _change_all(
        self, queue: str, verb: Verb, state: TaskState | str, group: str | None
    ) -> int:
        place, name = _place(state, group)
        if place not in ALLOWED[verb]:
            allowed = ", ".join(ALLOWED[verb])
            raise InvalidOption("state", str(place), f"{verb} tasks that are one of: {allowed}")
        store = await self._existing(queue)
        left = await store.size(place, name)
        total = 0
        while left > 0:
            taken, changed = await store.change_some(verb, place, name, left)
            total += changed
            left = left - taken if taken else 0
        return total


def _place(state: TaskState | str, group: str | None) -> tuple[TaskState, str]:
    """A state and the name of a group, which belong together, checked."""
    try:
        place = TaskState(state)
    except ValueError as error:
        raise InvalidOption("state", state, f"must be one of: {', '.join(TaskState)}") from error
    if place is not TaskState.AGGREGATING:
        if group is not None:
            raise InvalidOption("group", group, "only tasks that are aggregating are in groups")
        return place, ""
    if group is None:
        raise InvalidOption("group", group, "which group of the tasks that are aggregating?")
    if not isinstance(group, str) or not group.strip():
        raise InvalidName("group", group, "it is blank")
    return place, check_text("group", group)


def _check(changed: Changed, queue: str, task_id: str, operation: str) -> None:
    """Raise what an operation on one task came to, unless it was done."""
    if changed.outcome == "absent":
        raise TaskNotFound(queue, task_id)
    if changed.outcome == "refused":
        raise WrongState(queue, task_id, changed.reason, operation)
