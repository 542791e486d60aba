"""What an inspector says of queues, servers and schedulers, and how it is read from what they have left in Redis.

Times are aware, durations are seconds. Records that cannot be read are left out: one of them must not hide the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import msgspec

from pulsewire._redis.slots import NodeAddress
from pulsewire.errors import DecodeError
from pulsewire.tasks.messages import (
    EnqueueEventMessage,
    EntryMessage,
    ServerMessage,
    WorkerMessage,
)
from pulsewire.tasks.option_text import OptionText, parse_option
from pulsewire.tasks.states import TaskState
from pulsewire.tasks.wire import TaskInfo, decode_message, info_of, moment, unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue at one moment.

    Attributes:
        pending, active, scheduled, retry, archived, completed: tasks in that state.
        aggregating: tasks that wait in groups.
        set_apart: tasks of groups that are being aggregated now.
        groups: how many groups there are.
        processed, failed: attempts that have ended, and of those the ones that have failed, on this UTC day.
        processed_total, failed_total: the same, ever.
        latency: seconds for which the next task to run has been pending; 0 where none is, or it is not known.
        memory: bytes that the queue takes, estimated from samples; None if nobody asked, or nobody may ask.
        paused_at: since when it is paused.
        at: when all this was so, by the server's clock.
    """

    name: str
    pending: int
    active: int
    scheduled: int
    retry: int
    archived: int
    completed: int
    aggregating: int
    set_apart: int
    groups: int
    processed: int
    failed: int
    processed_total: int
    failed_total: int
    latency: float
    memory: int | None
    is_paused: bool
    paused_at: datetime | None
    at: datetime

    @property
    def size(self) -> int:
        """Tasks in whatever state."""
        return (
            self.pending
            + self.active
            + self.scheduled
            + self.retry
            + self.archived
            + self.completed
            + self.aggregating
            + self.set_apart
        )

    @property
    def error_rate(self) -> float | None:
        """The part of today's attempts that has failed; None if there was none."""
        return self.failed / self.processed if self.processed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyStats:
    """What became of the attempts of one UTC day."""

    queue: str
    day: date
    processed: int
    failed: int

    @property
    def error_rate(self) -> float | None:
        """The part of them that has failed; None if there was none."""
        return self.failed / self.processed if self.processed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """A group of tasks that wait to be aggregated."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One task that a server runs at present.

    Attributes:
        deadline: when its attempt is cut off; None where it has no limit.
    """

    server_id: str
    host: str
    pid: int
    task_id: str
    task_type: str
    payload: bytes
    queue: str
    started_at: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """A task server that runs.

    Attributes:
        queues: name -> priority, as configured.
        strict: whether a queue is looked at only while those of higher priority are empty.
        status: `active`; `stopped`: it takes no new tasks; `closed`: it ends.
        active_workers: how many tasks it runs, as it says.
        workers: those tasks, as far as they are shown.
    """

    id: str
    host: str
    pid: int
    concurrency: int
    queues: Mapping[str, int]
    strict: bool
    status: str
    started_at: datetime | None
    active_workers: int
    workers: tuple[WorkerInfo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerEntry:
    """A periodic task that a scheduler enqueues.

    Attributes:
        scheduler: `<host>:<pid>:<id>` of the scheduler.
        spec: when, such as `*/5 * * * *` or `@every 30s`.
        options: how it is enqueued, as far as that was given at its registration.
        next_at, previous_at: when it is, and was, enqueued; None for never.
    """

    id: str
    scheduler: str
    spec: str
    task_type: str
    payload: bytes
    options: tuple[OptionText, ...]
    next_at: datetime | None
    previous_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueEvent:
    """A scheduler has enqueued a task."""

    task_id: str
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A node of a cluster. `role` is `master` or `replica`."""

    id: str
    address: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlacement:
    """Where in a cluster a queue lives: its slot, and who has it, the master first. Without nodes, nobody does."""

    queue: str
    slot: int
    nodes: tuple[NodeInfo, ...]


class Found(NamedTuple):
    """One task as it was found: its record, and its place.

    Attributes:
        score: when it is run, of one that waits; the end of its lease, of an active one.
    """

    task_id: str
    state: str
    message: bytes
    result: bytes
    score: float | None


# --- reading


def read_task(queue: str, found: Found, state: TaskState, now: float) -> TaskInfo:
    """What is known of a task, also of one whose message cannot be read."""
    score, next_process_at = found.score, None
    if state in (TaskState.SCHEDULED, TaskState.RETRY):
        next_process_at = score
    elif state is TaskState.PENDING:
        next_process_at = now
    try:
        message = decode_message(found.message, found.task_id) if found.message else None
    except DecodeError:
        message = None
    if message is None:
        return unreadable(queue, found.task_id, state)
    info = info_of(
        message,
        state,
        next_process_at=next_process_at,
        is_orphaned=state is TaskState.ACTIVE and (score is None or score <= now),
        result=found.result,
    )
    if info.id != found.task_id or info.queue != queue:  # by these it is found
        return msgspec.structs.replace(info, id=found.task_id, queue=queue)
    return info


def read_server(data: bytes) -> ServerInfo | None:
    """A ServerInfo message (spec/asynq.md 2.2); None if it cannot be read."""
    message = _parsed(ServerMessage, data)
    if message is None:
        return None
    return ServerInfo(
        id=message.server_id,
        host=message.host,
        pid=message.pid,
        concurrency=message.concurrency,
        queues=dict(message.queues),
        strict=message.strict_priority,
        status=message.status,
        started_at=_moment(message, "start_time"),
        active_workers=message.active_worker_count,
    )


def read_worker(data: bytes) -> WorkerInfo | None:
    """A WorkerInfo message (2.3); None if it cannot be read."""
    message = _parsed(WorkerMessage, data)
    if message is None:
        return None
    return WorkerInfo(
        server_id=message.server_id,
        host=message.host,
        pid=message.pid,
        task_id=message.task_id,
        task_type=message.task_type,
        payload=message.task_payload,
        queue=message.queue,
        started_at=_moment(message, "start_time"),
        deadline=_moment(message, "deadline"),
    )


def read_entry(data: bytes, scheduler: str) -> SchedulerEntry | None:
    """A SchedulerEntry message (2.4); None if it cannot be read."""
    message = _parsed(EntryMessage, data)
    if message is None:
        return None
    return SchedulerEntry(
        id=message.id,
        scheduler=scheduler,
        spec=message.spec,
        task_type=message.task_type,
        payload=message.task_payload,
        options=tuple(map(parse_option, message.enqueue_options)),
        next_at=_moment(message, "next_enqueue_time"),
        previous_at=_moment(message, "prev_enqueue_time"),
    )


def read_event(data: bytes) -> EnqueueEvent | None:
    """A SchedulerEnqueueEvent message (2.5); None if it cannot be read."""
    message = _parsed(EnqueueEventMessage, data)
    if message is None:
        return None
    return EnqueueEvent(task_id=message.task_id, at=_moment(message, "enqueue_time"))


def read_nodes(reply: Any, slot: int, asked: str) -> tuple[NodeInfo, ...]:  # noqa: ANN401  # a reply
    """Who has a slot, as CLUSTER SLOTS tells it. `asked`: the host of who said so, which may not know it."""
    nodes = next((nodes for first, last, *nodes in reply if first <= slot <= last), ())
    return tuple(
        NodeInfo(
            id=node_id.decode(),
            address=str(NodeAddress((host or b"").decode().strip("?") or asked, int(port))),
            role="replica" if index else "master",
        )
        for index, (host, port, node_id, *_) in enumerate(nodes)
    )


def read_second(text: str | None) -> datetime | None:
    """A key that says since when something is so."""
    try:
        return moment(float(text or 0))
    except ValueError:
        return None


def read_facts(text: str) -> dict[str, str]:
    """The `name:value` lines of INFO and CLUSTER INFO."""
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}


def _parsed(kind: Any, data: bytes) -> Any:  # noqa: ANN401  # protobuf
    try:
        return kind.FromString(data)
    except Exception:  # noqa: BLE001  # the library's own class of error differs between its versions
        return None


def _moment(message: Any, field: str) -> datetime | None:  # noqa: ANN401  # protobuf
    """A Timestamp. Go's "never" is the year 1, and a missing one is 1970 to it (2.5)."""
    stamp = getattr(message, field)
    if stamp.seconds <= 0:
        return None
    try:
        moment = datetime.fromtimestamp(stamp.seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(microsecond=min(max(stamp.nanos, 0) // 1000, 999_999))
