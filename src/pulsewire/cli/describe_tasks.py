"""Tasks, schedules and servers in words: tables and JSON of what the library tells. It reads nothing itself.

Names, payloads and errors are other programs' text: whatever they hold, a cell is one harmless line. Tables shorten
what is long; `inspect` and JSON have all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from pulsewire.cli import render, times
from pulsewire.cli.map_document import value_as_data
from pulsewire.tasks import (
    EnqueueEvent,
    SchedulerEntry,
    ServerInfo,
    TaskInfo,
    TaskState,
    WorkerInfo,
)

__all__ = [
    "enqueued",
    "entry_as_data",
    "event_as_data",
    "server_as_data",
    "show_entries",
    "show_events",
    "show_servers",
    "show_task",
    "show_tasks",
    "show_workers",
    "task_as_data",
]

LONGEST_CELL = 60
"""Characters of a payload, an error or a result in a table."""
UNREADABLE = "(no task message)"


def _data(value: object) -> dict[str, object]:
    """A value type as names and values, ready for JSON but for the bytes in it."""
    data: dict[str, object] = msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=dict)
    return data


def _short(value: object) -> str:
    text = render.readable(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


# --- tasks


def task_as_data(task: TaskInfo) -> dict[str, object]:
    """Return what is known of a task, ready for JSON."""
    content = {"payload": value_as_data(task.payload), "result": value_as_data(task.result)}
    return _data(task) | content


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table of tasks: its heading, and its cell for a task, given the time."""

    heading: str
    cell: Callable[[TaskInfo, float], str]
    is_number: bool = False


_FIRST = (
    _Column("id", lambda task, _: render.readable(task.id)),
    _Column("type", lambda task, _: render.readable(task.type) if task.is_readable else UNREADABLE),
    _Column("payload", lambda task, _: _short(task.payload)),
)
_LAST_ERROR = (
    _Column("last failed", lambda task, now: times.ago(task.last_failed_at, now)),
    _Column("last error", lambda task, _: _short(task.last_error)),
)
_COLUMNS: Mapping[TaskState, tuple[_Column, ...]] = {
    TaskState.PENDING: (),
    TaskState.ACTIVE: (
        _Column("lease", lambda task, _: "orphaned" if task.is_orphaned else "renewed"),
    ),
    TaskState.SCHEDULED: (
        _Column("process", lambda task, now: times.until(task.next_process_at, now)),
    ),
    TaskState.RETRY: (
        _Column("next retry", lambda task, now: times.until(task.next_process_at, now)),
        _Column("retried", lambda task, _: render.how_many(task.retried), is_number=True),
        _Column("max retry", lambda task, _: render.how_many(task.max_retry), is_number=True),
        *_LAST_ERROR,
    ),
    TaskState.ARCHIVED: _LAST_ERROR,
    TaskState.COMPLETED: (
        _Column("completed", lambda task, now: times.ago(task.completed_at, now)),
        _Column("result", lambda task, _: _short(task.result)),
    ),
    TaskState.AGGREGATING: (_Column("group", lambda task, _: render.readable(task.group)),),
}


def show_tasks(state: TaskState, tasks: Iterable[TaskInfo], now: float) -> None:
    """Print tasks of one state as a table, with what matters in that state."""
    columns = _FIRST + _COLUMNS[state]
    render.table(
        [column.heading for column in columns],
        [[column.cell(task, now) for column in columns] for task in tasks],
        numbers=[column.heading for column in columns if column.is_number],
        whole=("id",),
    )


def show_task(task: TaskInfo, now: float) -> None:
    """Print all that is known of one task; what is not set is left out."""
    pairs = {
        "queue": render.readable(task.queue),
        "id": render.readable(task.id),
        "type": render.readable(task.type) if task.is_readable else UNREADABLE,
        "state": f"{task.state}, nobody renews its lease" if task.is_orphaned else task.state.value,
    }
    if not task.is_readable:
        render.fields(pairs)
        return
    pairs["retried"] = f"{task.retried:,} of {task.max_retry:,}"
    pairs |= _set(
        {
            "process at": _at(task.next_process_at, times.until(task.next_process_at, now)),
            "timeout": render.how_long(task.timeout) if task.timeout else "",
            "deadline": _at(task.deadline, times.until(task.deadline, now)),
            "group": render.readable(task.group),
            "retention": render.how_long(task.retention) if task.retention else "",
            "completed": _at(task.completed_at, times.ago(task.completed_at, now)),
            "last failed": _at(task.last_failed_at, times.ago(task.last_failed_at, now)),
            "last error": render.readable(task.last_error),
            "headers": render.readable(task.headers),
        }
    )
    pairs["payload"] = render.readable(task.payload) or "-"
    render.fields(pairs | _set({"result": render.readable(task.result)}))


def enqueued(task: TaskInfo, now: float) -> str:
    """Return where a new task is, as one line."""
    where = {
        TaskState.SCHEDULED: f"scheduled {times.until(task.next_process_at, now)}",
        TaskState.AGGREGATING: f"aggregating in group {render.readable(task.group)}",
    }.get(task.state, task.state.value)
    name, queue = render.readable(task.id), render.readable(task.queue)
    return f"enqueued task {name} to queue {queue}: {where}"


def _set(pairs: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in pairs.items() if text}


def _at(moment: datetime | None, distance: str) -> str:
    return "" if moment is None else f"{times.when(moment)} ({distance})"


# --- periodic tasks


def entry_as_data(entry: SchedulerEntry) -> dict[str, object]:
    """Return a periodic task, ready for JSON."""
    return _data(entry) | {"payload": value_as_data(entry.payload)}


def show_entries(entries: Sequence[SchedulerEntry], now: float) -> None:
    """Print periodic tasks as a table."""
    render.table(
        ("entry", "spec", "type", "payload", "options", "next", "previous"),
        [
            (
                render.readable(entry.id),
                render.readable(entry.spec),
                render.readable(entry.task_type),
                _short(entry.payload),
                _short(" ".join(option.text for option in entry.options)),
                times.until(entry.next_at, now),
                times.ago(entry.previous_at, now),
            )
            for entry in entries
        ],
        whole=("entry",),
    )


def event_as_data(entry: str, event: EnqueueEvent) -> dict[str, object]:
    """Return what a scheduler has enqueued, ready for JSON."""
    return {"entry": entry} | _data(event)


def show_events(events: Sequence[tuple[str, EnqueueEvent]]) -> None:
    """Print what schedulers have enqueued, each with its entry, as a table."""
    render.table(
        ("entry", "task", "enqueued"),
        [
            (render.readable(entry), render.readable(event.task_id), times.when(event.at))
            for entry, event in events
        ],
        whole=("entry", "task"),
    )


# --- servers


def server_as_data(server: ServerInfo) -> dict[str, object]:
    """Return a server with the tasks that it runs, ready for JSON."""
    workers = [
        _data(worker) | {"payload": value_as_data(worker.payload)} for worker in server.workers
    ]
    return _data(server) | {"workers": workers}


def show_servers(servers: Sequence[ServerInfo], now: float) -> None:
    """Print servers as a table."""
    render.table(
        ("host", "pid", "state", "active", "queues", "started"),
        [
            (
                render.readable(server.host),
                str(server.pid),
                render.readable(server.status),
                f"{server.active_workers:,}/{server.concurrency:,}",
                _priorities(server),
                times.ago(server.started_at, now),
            )
            for server in servers
        ],
        numbers=("pid", "active"),
    )


def show_workers(workers: Sequence[WorkerInfo], now: float) -> None:
    """Print the tasks that servers run as a table."""
    render.table(
        ("host", "pid", "queue", "task", "type", "payload", "started", "cancelled"),
        [
            (
                render.readable(worker.host),
                str(worker.pid),
                render.readable(worker.queue),
                render.readable(worker.task_id),
                render.readable(worker.task_type),
                _short(worker.payload),
                times.ago(worker.started_at, now),
                times.until(worker.deadline, now),
            )
            for worker in workers
        ],
        numbers=("pid",),
        whole=("task",),
    )


def _priorities(server: ServerInfo) -> str:
    """Highest first, as in asynq: `critical:6 default:3`."""
    pairs = sorted(server.queues.items(), key=lambda pair: (-pair[1], pair[0]))
    queues = " ".join(f"{render.readable(name)}:{priority}" for name, priority in pairs)
    return f"{queues} (strict)" if server.strict else queues
