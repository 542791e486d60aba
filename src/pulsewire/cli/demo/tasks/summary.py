"""The end of the act in words: what each server did, what was checked, and whether it held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from pulsewire.cli import render
from pulsewire.cli.demo.summary import Finding, show_end
from pulsewire.cli.demo.tasks.progress import ServerRow
from pulsewire.cli.demo.tasks.verdict import TasksVerdict
from pulsewire.cli.demo.tasks.workload import QUEUES, TICK_EVERY

__all__ = ["findings", "show"]


def findings(verdict: TasksVerdict, *, lease: float, seconds: float) -> Iterator[Finding]:
    """Yield what was checked and what came out, line by line."""
    yield Finding("tasks accepted", f"{verdict.accepted:,}")
    yield Finding("tasks that succeeded", f"{verdict.succeeded:,}")
    yield Finding("tasks lost", f"{len(verdict.lost):,}")
    yield Finding(
        "failed and tried again",
        f"{verdict.failures:,} attempts of {verdict.flaky:,} tasks, each one charged",
    )
    yield Finding("run later, not before their time", f"{verdict.later:,}")
    yield Finding("refused, since one like them existed", f"{verdict.refused:,}")
    yield Finding("aggregated", f"{verdict.members:,} tasks of a group into {verdict.bundles:,}")
    yield Finding(
        "ticks, each enqueued once",
        f"{sum(verdict.ticks.values()):,}, one every {TICK_EVERY} s: "
        + ", ".join(f"{count:,} by {who}" for who, count in verdict.ticks.items()),
    )
    yield Finding("results kept", f"{verdict.kept:,}")
    yield Finding("in the hands of the killed server", f"{verdict.cut:,}")
    if verdict.reruns:
        yield Finding(
            "run again elsewhere, uncharged",
            f"in {median(verdict.reruns):.2f} s, the last in {verdict.reruns[-1]:.2f} s; "
            f"its lease was {lease:g} s",
        )
    yield Finding("run twice", f"{sum(verdict.repeats.values()):,}")
    for reason, number in verdict.repeats.items():
        yield Finding(f"  {number:,} because", reason.value)
    yield Finding(
        "waited for a server, median",
        ", ".join(
            f"{queue} {render.how_long(verdict.waits[queue])}"
            for queue in QUEUES
            if queue in verdict.waits
        ),
    )
    yield Finding("time", f"{seconds:.1f} s")


def show(
    verdict: TasksVerdict, servers: Sequence[ServerRow], *, lease: float, seconds: float
) -> None:
    """Print the end of the act."""
    show_end(
        headings=("server", "pid", "succeeded", "failed", "from the killed server", "end"),
        rows=[
            (
                f"server {row.number}",
                str(row.pid),
                f"{row.succeeded:,}",
                f"{row.failed:,}",
                f"{row.again:,}",
                row.fate.value,
            )
            for row in servers
        ],
        numbers=("pid", "succeeded", "failed", "from the killed server"),
        findings=findings(verdict, lease=lease, seconds=seconds),
        holds="It holds: every task has succeeded, none was lost, and none was run again without a reason.",
        problems=verdict.problems,
    )
