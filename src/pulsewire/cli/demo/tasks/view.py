"""How the running act looks: bars and tables, or one plain line. What it shows is a `TasksSnapshot`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.picture import Picture
from pulsewire.cli.demo.queue_counts import QueueCounts
from pulsewire.cli.demo.screen import BAR_WIDTH, bar, percent
from pulsewire.cli.demo.tasks.progress import ServerRow, TasksSnapshot
from pulsewire.cli.demo.view import Roomy, bars, cut, layout, rows, who

__all__ = ["picture", "plain_line"]

_HEADINGS = ("queue", "weight", "", "succeeded", "/s")
_STATES = ("pending", "active", "scheduled", "retry", "groups", "kept")
_SHOWN_TYPES = 3
"""How many types of tasks a server's row names."""


def picture(snapshot: TasksSnapshot) -> Picture:
    """Return the live view of a terminal."""
    counts = bars(
        ("enqueued", snapshot.enqueued, snapshot.wanted),
        ("succeeded", snapshot.succeeded, snapshot.wanted),
        facts=(
            f"{snapshot.rate:.0f} tasks/s",
            f"failed attempts {snapshot.failures:,}",
            f"refused {snapshot.refused:,}",
            f"ticks {snapshot.ticks:,}",
            f"{snapshot.elapsed:.1f} s",
        ),
    )
    queues = Roomy(_queues(snapshot), _queues_in_short(snapshot))
    return layout(counts, queues, _servers(snapshot), news=snapshot.news)


def plain_line(snapshot: TasksSnapshot) -> str:
    """Return the state as one line."""
    working = sum(row.fate is Fate.WORKING for row in snapshot.servers)
    waiting = "  ".join(f"{row.name} {row.counts.pending:,}" for row in snapshot.queues)
    retry = sum(row.counts.retry for row in snapshot.queues)
    return (
        f"{snapshot.elapsed:5.1f} s  enqueued {snapshot.enqueued:,}/{snapshot.wanted:,}"
        f"  succeeded {snapshot.succeeded:,}/{snapshot.wanted:,}"
        f" ({percent(snapshot.succeeded, snapshot.wanted)})  {snapshot.rate:.0f}/s"
        f"  pending: {waiting}  retry {retry:,}  servers {working}"
    )


def _queues(snapshot: TasksSnapshot) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for heading in (*_HEADINGS, *_STATES):
        table.add_column(
            heading,
            justify="left" if heading in ("queue", "") else "right",
        )
    for row in snapshot.queues:
        table.add_row(
            row.name,
            str(row.weight),
            bar(row.succeeded, max(row.wanted, 1), BAR_WIDTH // 4),
            f"{row.succeeded:,}/{row.wanted:,}",
            f"{row.rate:.0f}",
            *(f"{count:,}" for count in _counts(row.counts)),
        )
    return table


def _queues_in_short(snapshot: TasksSnapshot) -> Table:
    """The same, a line each, what matters most first."""
    table = rows(2)
    for row in snapshot.queues:
        counts = row.counts
        table.add_row(
            row.name,
            cut(
                f"{row.succeeded:,}/{row.wanted:,}  {row.rate:.0f}/s  pending {counts.pending:,}"
                f"  active {counts.active:,}  retry {counts.retry:,}  scheduled {counts.scheduled:,}"
            ),
        )
    return table


def _counts(counts: QueueCounts) -> tuple[int, ...]:
    return (
        counts.pending,
        counts.active,
        counts.scheduled,
        counts.retry,
        counts.aggregating,
        counts.completed,
    )


def _servers(snapshot: TasksSnapshot) -> Table:
    table = rows(7)
    most = max((row.running for row in snapshot.servers), default=0)
    for row in snapshot.servers:
        table.add_row(
            *who(f"server {row.number}", row.pid, row.fate),
            bar(row.running, max(most, 1), BAR_WIDTH // 4),
            Text(f"{row.running:,}", justify="right"),
            Text(f"{row.succeeded:,} done", justify="right"),
            cut(Text.assemble((_again(row), "yellow"), _types(row.shown))),
        )
    return table


def _again(row: ServerRow) -> str:
    return f"{row.again:,} of the killed one  " if row.again else ""


def _types(shown: Mapping[str, int]) -> str:
    largest = sorted(shown.items(), key=lambda pair: (-pair[1], pair[0]))[:_SHOWN_TYPES]
    return ", ".join(f"{count} {task_type}" for task_type, count in largest)
