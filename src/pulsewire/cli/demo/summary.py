"""The end of an act in words, as all acts have it: who did what, what was checked, and whether it held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pulsewire.cli import render

__all__ = ["Finding", "show_end"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check."""

    what: str
    result: str


def show_end(
    *,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[str],
    findings: Iterable[Finding],
    holds: str,
    problems: Sequence[str],
) -> None:
    """Print the end of an act.

    Args:
        headings: Of the table of processes.
        rows: Its cells.
        numbers: Headings of its columns of numbers.
        findings: What was checked and what came out.
        holds: The sentence that says so, if there are no problems.
        problems: What is wrong.
    """
    render.say()
    render.table(headings, rows, numbers=numbers)
    render.say()
    render.fields({finding.what: finding.result for finding in findings}, are_sentences=True)
    render.say()
    if not problems:
        render.sentence(holds, style="bold green")
    for problem in problems:
        render.fail(problem)
