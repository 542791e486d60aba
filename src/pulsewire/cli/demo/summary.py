"""The end of the demo in words: what each consumer did, what was checked, and whether it held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pulsewire.cli import render
from pulsewire.cli.demo.progress import ConsumerRow
from pulsewire.cli.demo.verdict import Verdict

__all__ = ["Finding", "findings", "show"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check."""

    what: str
    result: str


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
    """Print the end of the demo."""
    render.say()
    render.table(
        ("consumer", "pid", "handled", "taken over", "end"),
        [
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
    )
    render.say()
    render.fields(
        {
            finding.what: finding.result
            for finding in findings(verdict, left_behind=left_behind, seconds=seconds)
        }
    )
    render.say()
    if verdict.holds:
        render.say("It holds: every ticket was handled, none was lost.", style="bold green")
    for problem in verdict.problems:
        render.fail(problem)
