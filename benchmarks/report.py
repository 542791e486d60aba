"""A run on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.results import PathResult, Report
from benchmarks.tables import (
    GOALS_HEADER,
    budget_table,
    cells,
    footnotes,
    goal_cells,
    header,
    left_out,
    verdict_text,
)

STYLES: Final = {True: "green", False: "red", None: "yellow"}


def show(report: Report, console: Console) -> None:
    """Print all of it."""
    for result in report.results:
        _show_path(result, console)
    if report.budgets:
        heads, lines = budget_table(report)
        console.print(_table("where the CPU of one operation goes", heads, lines))
        console.print()
    if goals := report.goals():
        rows = [goal_cells(verdict) for verdict in goals]
        console.print(_table("goals of the project", GOALS_HEADER, rows))
        console.print()
    for name, value in report.environment.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    for line in footnotes(report):
        console.print(line, markup=False, highlight=False)


def _show_path(result: PathResult, console: Console) -> None:
    if rows := cells(result):
        console.print(_table(result.path.title, header(result), rows))
    else:
        console.print(result.path.title, style="italic")
    if result.path.note:
        console.print(f"  {result.path.note}", markup=False, highlight=False)
    for verdict in result.verdicts():
        style = STYLES[verdict.is_met]
        console.print(f"  {verdict_text(verdict)}", style=style, markup=False)
    for line in left_out(result):
        console.print(f"  {line}", style="yellow", markup=False)
    console.print()


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(heads):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
