"""Queues in words: what they hold, what became of their tasks, where they are. It reads nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from pulsewire.cli import render, times
from pulsewire.tasks import DailyStats, GroupInfo, NodeInfo, QueueInfo, QueuePlacement, TaskState

__all__ = [
    "STATES",
    "count_of",
    "group_as_data",
    "history_as_data",
    "placement_as_data",
    "queue_as_data",
    "show_groups",
    "show_history",
    "show_placements",
    "show_queue",
    "show_queues",
    "show_stats",
    "stats_as_data",
]

STATES = (
    TaskState.ACTIVE,
    TaskState.PENDING,
    TaskState.AGGREGATING,
    TaskState.SCHEDULED,
    TaskState.RETRY,
    TaskState.ARCHIVED,
    TaskState.COMPLETED,
)
"""In the order in which asynq's tools show them."""


def count_of(queue: QueueInfo, state: TaskState) -> int:
    """Return how many tasks of a queue are in a state; those that are just being aggregated are aggregating too."""
    counts = {
        TaskState.ACTIVE: queue.active,
        TaskState.PENDING: queue.pending,
        TaskState.AGGREGATING: queue.aggregating + queue.set_apart,
        TaskState.SCHEDULED: queue.scheduled,
        TaskState.RETRY: queue.retry,
        TaskState.ARCHIVED: queue.archived,
        TaskState.COMPLETED: queue.completed,
    }
    return counts[state]


# --- queues


def queue_as_data(queue: QueueInfo) -> dict[str, object]:
    """Return what is known of a queue, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(queue)
    return data | {"size": queue.size, "error_rate": queue.error_rate}


def show_queues(queues: Sequence[QueueInfo]) -> None:
    """Print queues as a table: what they hold by state, how long the next task has waited, whether they are paused."""
    render.table(
        ("queue", "size", *STATES, "latency", "paused"),
        [
            (
                render.readable(queue.name),
                render.how_many(queue.size),
                *_counts(queue),
                _latency(queue),
                "paused" if queue.is_paused else "-",
            )
            for queue in queues
        ],
        numbers=("size", *STATES, "latency"),
        spare=(*STATES, "paused"),
    )


def show_queue(queue: QueueInfo) -> None:
    """Print all that is known of one queue."""
    now = queue.at.timestamp()
    paused = f"yes, since {times.when(queue.paused_at)} ({times.ago(queue.paused_at, now)})"
    render.fields(
        {
            "queue": render.readable(queue.name),
            "size": render.how_many(queue.size),
            "groups": render.how_many(queue.groups),
            "latency": _latency(queue),
            "memory": render.how_much(queue.memory),
            "paused": paused if queue.is_paused else "no",
        }
    )
    render.say()
    render.table(STATES, [_counts(queue)], numbers=STATES, spare=STATES)
    render.say()
    headings = (f"{queue.at.astimezone(UTC):%Y-%m-%d} UTC", *_OUTCOMES)
    day = ("today", *_outcomes(queue.processed, queue.failed))
    ever = ("ever", *_outcomes(queue.processed_total, queue.failed_total))
    render.table(headings, [day, ever], numbers=_OUTCOMES)


def show_groups(groups: Sequence[tuple[str, GroupInfo]]) -> None:
    """Print groups, each with its queue, as a table."""
    rows = [
        (render.readable(queue), render.readable(group.name), render.how_many(group.size))
        for queue, group in groups
    ]
    render.table(("queue", "group", "size"), rows, numbers=("size",))


def group_as_data(queue: str, group: GroupInfo) -> dict[str, object]:
    """Return a group, ready for JSON."""
    return {"queue": queue, "group": group.name, "size": group.size}


def _counts(queue: QueueInfo) -> list[str]:
    return [render.how_many(count_of(queue, state)) for state in STATES]


def _latency(queue: QueueInfo) -> str:
    return render.how_long(queue.latency) if queue.latency else "-"


# --- what became of tasks

_OUTCOMES = ("processed", "failed", "error rate")


def show_history(days: Sequence[DailyStats]) -> None:
    """Print days of queues as a table, the newest day of each first."""
    rows = [
        (render.readable(one.queue), f"{one.day}", *_outcomes(one.processed, one.failed))
        for one in days
    ]
    render.table(("queue", "day (UTC)", *_OUTCOMES), rows, numbers=_OUTCOMES)


def history_as_data(day: DailyStats) -> dict[str, object]:
    """Return one day of a queue, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(day)
    return data | {"error_rate": day.error_rate}


def _outcomes(processed: int, failed: int) -> tuple[str, str, str]:
    rate = f"{failed / processed:.2%}" if processed else "-"
    return render.how_many(processed), render.how_many(failed), rate


# --- all together


@dataclass(frozen=True, slots=True)
class _Totals:
    """All queues together."""

    size: int
    states: dict[TaskState, int]
    processed: int
    failed: int
    processed_total: int
    failed_total: int


def _totals(queues: Iterable[QueueInfo]) -> _Totals:
    found = list(queues)
    return _Totals(
        size=sum(queue.size for queue in found),
        states={state: sum(count_of(queue, state) for queue in found) for state in STATES},
        processed=sum(queue.processed for queue in found),
        failed=sum(queue.failed for queue in found),
        processed_total=sum(queue.processed_total for queue in found),
        failed_total=sum(queue.failed_total for queue in found),
    )


def stats_as_data(queues: Sequence[QueueInfo], at: datetime, redis: dict[str, str]) -> object:
    """Return all queues, their sums, and what the server says of itself, ready for JSON."""
    totals = _totals(queues)
    return {
        "aggregate": {
            "size": totals.size,
            **{state.value: count for state, count in totals.states.items()},
            "processed": totals.processed,
            "failed": totals.failed,
            "processed_total": totals.processed_total,
            "failed_total": totals.failed_total,
            "at": msgspec.to_builtins(at),
        },
        "queues": [queue_as_data(queue) for queue in queues],
        "redis": redis,
    }


def show_stats(
    queues: Sequence[QueueInfo], at: datetime, server: str, redis: dict[str, str]
) -> None:
    """Print how many tasks there are by queue and state, what became of today's, and how the server is."""
    totals = _totals(queues)
    rows = [(_with_pause(queue), render.how_many(queue.size), *_counts(queue)) for queue in queues]
    sums = [render.how_many(count) for count in totals.states.values()]
    rows.append(("all queues", render.how_many(totals.size), *sums))
    render.table(("queue", "size", *STATES), rows, numbers=("size", *STATES), spare=STATES)
    render.say()
    days = [(_with_pause(queue), *_outcomes(queue.processed, queue.failed)) for queue in queues]
    days.append(("all queues", *_outcomes(totals.processed, totals.failed)))
    render.table((f"{at.astimezone(UTC):%Y-%m-%d} UTC", *_OUTCOMES), days, numbers=_OUTCOMES)
    render.say()
    render.fields({"server": server} | _server_facts(redis))


_SERVER_FACTS = {
    "uptime": "uptime_in_seconds",
    "connections": "connected_clients",
    "memory": "used_memory",
    "peak memory": "used_memory_peak",
    "cluster state": "cluster_state",
    "known nodes": "cluster_known_nodes",
    "cluster size": "cluster_size",
}
"""What is shown -> its name in INFO, or, on a cluster, in CLUSTER INFO."""


def _server_facts(redis: dict[str, str]) -> dict[str, str]:
    found = {name: redis[key] for name, key in _SERVER_FACTS.items() if key in redis}
    for name, text in found.items():
        if text.isdecimal() and name == "uptime":
            found[name] = render.how_long(int(text))
        elif text.isdecimal() and name.endswith("memory"):
            found[name] = render.how_much(int(text))
    return found


def _with_pause(queue: QueueInfo) -> str:
    name = render.readable(queue.name)
    return f"{name} (paused)" if queue.is_paused else name


# --- on a cluster


def placement_as_data(placement: QueuePlacement) -> dict[str, object]:
    """Return where a queue is, ready for JSON."""
    data: dict[str, object] = msgspec.to_builtins(placement)
    return data


def show_placements(placements: Sequence[QueuePlacement]) -> None:
    """Print where queues are: the slot of each, and the nodes that have it.

    On a terminal each node has a line of its own; elsewhere a queue is one line, for programs that look at lines.
    """
    between = "\n" if render.is_terminal() else ", "
    rows = [
        (
            render.readable(placement.queue),
            str(placement.slot),
            between.join(map(_node, placement.nodes)) or "none: nobody serves the slot",
        )
        for placement in placements
    ]
    headings = ("Queue", "Cluster KeySlot", "Cluster Nodes")
    render.table(headings, rows, numbers=("Cluster KeySlot",), whole=("Queue",))


def _node(node: NodeInfo) -> str:
    return f"{node.id} {node.address} {node.role}"
