"""`docs/benchmarks.md` and its pictures, made wholly from a recorded run.

What people write stands in `page.md`, beside this file; no figure of a run does. Lines of that template that hold
nothing but a comment are replaced: `<!-- run -->`, `<!-- goals -->`, `<!-- block streams -->`, `<!-- budget -->`,
`<!-- versions -->`. In a sentence, `{{ path | contender | measure }}` stands for a median.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.plan import Measure
from benchmarks.plots import budget_picture, picture
from benchmarks.results import PathResult, Report
from benchmarks.tables import (
    GOALS_HEADER,
    budget_table,
    cells,
    footnotes,
    goal_cells,
    header,
    left_out,
    number,
    rounds_text,
    verdict_text,
)

TEMPLATE: Final = Path(__file__).parent / "page.md"
PAGE: Final = "benchmarks.md"
PICTURES: Final = "benchmarks"
"""The folder of the pictures, beside the page."""
BUDGET: Final = "budget.svg"
UNKNOWN: Final = "-"
"""Stands for a figure that this run does not have."""

_COMMENT: Final = re.compile(r"^<!-- (\w+)(?: (\w+))? -->$", re.MULTILINE)
_FIGURE: Final = re.compile(r"\{\{\s*([^|{}]+?)\s*\|\s*([^|{}]+?)\s*\|\s*([^|{}]+?)\s*\}\}")


class BadTemplate(Exception):
    """The template asks for something that there is not."""


def write(report: Report, folder: Path, template: Path = TEMPLATE) -> list[Path]:
    """Write the page and its pictures into the folder of the documentation; returns what was written."""
    pictures = {
        f"{result.path.key}.svg": drawn for result in report.results if (drawn := picture(result))
    }
    if drawn := budget_picture(report.shared_out()):
        pictures[BUDGET] = drawn
    place = folder / PICTURES
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("*.svg"):
        if old.name not in pictures:
            old.unlink()
    page = folder / PAGE
    page.write_text(render(report, template.read_text(encoding="utf-8")), encoding="utf-8")
    written = [page]
    for name, drawn in pictures.items():
        (place / name).write_text(drawn, encoding="utf-8")
        written.append(place / name)
    return written


def render(report: Report, template: str) -> str:
    """The page.

    Raises:
        BadTemplate: when a placeholder is unknown.
    """
    fillers: Mapping[str, Callable[[Report, str], list[str]]] = {
        "run": _run,
        "budget": _budget,
        "goals": _goals,
        "block": _block,
        "versions": _versions,
    }

    def fill(found: re.Match[str]) -> str:
        filler = fillers.get(found[1])
        if filler is None:
            raise BadTemplate(f"nothing is known of <!-- {found[1]} -->")
        return "\n".join(filler(report, found[2] or "")).strip()

    def look_up(found: re.Match[str]) -> str:
        return _figure(report, found[1], found[2], found[3])

    return _COMMENT.sub(fill, _FIGURE.sub(look_up, template))


def _figure(report: Report, key: str, label: str, measure: str) -> str:
    if measure not in set(Measure):
        raise BadTemplate(f"there is no measure {measure!r}")
    for result in report.results:
        if result.path.key == key and (row := result.rows.get(label)):
            return number(row.median(Measure(measure)))
    return UNKNOWN


def _run(report: Report, _: str) -> list[str]:
    return [
        (
            f"Taken on {report.run.taken} by `python -m benchmarks --{report.run.form}`:"
            f" {rounds_text(report)}."
        ),
        "",
        *(f"* {note}" for note in footnotes(report)),
    ]


def _goals(report: Report, _: str) -> list[str]:
    goals = report.goals()
    if not goals:
        return ["This run has measured none of them."]
    met = sum(verdict.is_met is True for verdict in goals)
    return [
        *_table(GOALS_HEADER, [goal_cells(verdict) for verdict in goals], "left"),
        "",
        f"{met} of {len(goals)} are met.",
    ]


def _budget(report: Report, _: str) -> list[str]:
    heads, lines = budget_table(report)
    if not lines:
        return ["This run has not looked."]
    drawn = f"![where the CPU of one operation goes]({PICTURES}/{BUDGET})"
    return [drawn, "", *_table(heads, lines, "right")]


def _block(report: Report, block: str) -> list[str]:
    lines: list[str] = []
    for result in report.results:
        if result.block == block:
            lines += _path(result)
    return lines or ["This run has measured nothing of it."]


def _path(result: PathResult) -> list[str]:
    title = result.path.title
    lines = [f"### {title[0].upper()}{title[1:]}", ""]
    if picture(result):
        lines += [f"![{title}]({PICTURES}/{result.path.key}.svg)", ""]
    if rows := cells(result):
        lines += [*_table(header(result), rows, "right"), ""]
    if result.path.note:
        lines += [result.path.note, ""]
    points = [*map(verdict_text, result.verdicts()), *left_out(result)]
    return [*lines, *(f"* {point}" for point in points), *([""] if points else [])]


def _versions(report: Report, _: str) -> list[str]:
    return [f"* {name}: {value}" for name, value in report.environment.items()]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    rule = "---:" if align == "right" else "---"
    return [
        f"| {' | '.join(heads)} |",
        f"|---|{f'{rule}|' * (len(heads) - 1)}",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]
