"""The end of the act in words: what each node did, what was checked, and whether it held."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pulsewire.cli.demo.pool.progress import NodeRow
from pulsewire.cli.demo.pool.verdict import PoolVerdict
from pulsewire.cli.demo.summary import Finding, show_end

__all__ = ["findings", "show"]


def findings(verdict: PoolVerdict, *, worker_ttl: float, seconds: float) -> list[Finding]:
    """Return what was checked and what came out, line by line."""
    rows = [
        Finding("jobs dispatched", f"{verdict.dispatched:,}"),
        Finding("jobs that ran", f"{verdict.ran:,}"),
        Finding("jobs lost", f"{len(verdict.lost):,}"),
        Finding("jobs that ran at two nodes at once", f"{len(verdict.overlaps):,}"),
        Finding("taken over from the killed node", f"{verdict.taken_over:,}"),
    ]
    if verdict.takeovers:
        rows.append(
            Finding(
                "ran again after the kill",
                f"in {median(verdict.takeovers):.2f} s, the last in {verdict.takeovers[-1]:.2f} s; "
                f"its lease was {worker_ttl:g} s",
            )
        )
    rows.append(Finding("handed over, stopped first", f"{verdict.handed_over:,}"))
    rows.append(Finding("time of the pool", f"{seconds:.1f} s"))
    return rows


def show(
    verdict: PoolVerdict, nodes: Sequence[NodeRow], *, worker_ttl: float, seconds: float
) -> None:
    """Print the end of the act."""
    show_end(
        headings=("node", "pid", "runs", "from other nodes", "end"),
        rows=[
            (
                f"node {row.number}",
                str(row.pid),
                f"{row.begun:,}",
                f"{row.taken:,}",
                row.fate.value,
            )
            for row in nodes
        ],
        numbers=("pid", "runs", "from other nodes"),
        findings=findings(verdict, worker_ttl=worker_ttl, seconds=seconds),
        holds="It holds: every job ran, at one node at a time, and none was lost.",
        problems=verdict.problems,
    )
