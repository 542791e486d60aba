"""The end of the act in words: what each consumer did, what was checked, and whether it held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pulsewire.cli.demo.summary import Finding, show_end
from pulsewire.cli.demo.tickets.progress import ConsumerRow
from pulsewire.cli.demo.tickets.verdict import Verdict

__all__ = ["findings", "show"]


def findings(verdict: Verdict, *, left_behind: int, seconds: float) -> list[Finding]:
    """Return what was checked and what came out, line by line."""
    rows = [
        Finding("published", f"{verdict.published:,}"),
        Finding("in the stream, replayed", f"{verdict.replayed:,}"),
        Finding("handled", f"{verdict.handled:,}"),
        Finding("handled while others were published", f"{verdict.while_publishing:,}"),
        Finding("lost", f"{len(verdict.lost):,}"),
        Finding("in the hands of the killed consumer", f"{left_behind:,}"),
        Finding("taken over from another consumer", f"{verdict.taken_over:,}"),
        Finding("handled twice", f"{len(verdict.repeats):,}"),
    ]
    rows += [
        Finding(f"  {number:,} because", reason.value)
        for reason, number in Counter(repeat.reason for repeat in verdict.repeats).items()
    ]
    rows.append(Finding("time", f"{seconds:.1f} s, {verdict.handled / seconds:.0f} tickets/s"))
    return rows


def show(
    verdict: Verdict, consumers: Sequence[ConsumerRow], *, left_behind: int, seconds: float
) -> None:
    """Print the end of the act."""
    show_end(
        headings=("consumer", "pid", "handled", "taken over", "end"),
        rows=[
            (
                str(row.number),
                str(row.pid),
                f"{row.handled:,}",
                f"{row.taken_over:,}",
                row.fate.value,
            )
            for row in consumers
        ],
        numbers=("consumer", "pid", "handled", "taken over"),
        findings=findings(verdict, left_behind=left_behind, seconds=seconds),
        holds="It holds: every ticket was handled, none was lost.",
        problems=verdict.problems,
    )
