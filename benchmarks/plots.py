"""A path's figures as a picture: small SVG, the same bytes for the same figures.

Each row is a contender. A panel holds one measure: bars from zero or, where the largest is many times the smallest,
dots on a logarithmic scale, which the panel's title says. A thin line runs from the lowest round to the highest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.plan import Measure, Program
from benchmarks.results import Figure, Part, PathResult, Row
from benchmarks.tables import has, number

WIDTH: Final = 780
LABELS: Final = 240
GAP: Final = 24
ROW: Final = 24
TOP: Final = 48
BOTTOM: Final = 28
FIGURE_SPACE: Final = 62
"""Right of each panel, for the number of the longest bar."""
WIDE: Final = 30.0
"""From this ratio of largest to smallest on, a scale is logarithmic."""

SMALL: Final = ' font-size="11"'
BOLD: Final = f' font-weight="bold"{SMALL}'

OURS: Final = "#2f6fed"
OURS_TEXT: Final = "#1b4fb8"
PEER: Final = "#93a1b0"
SERVER: Final = "#e0a04a"
LATE: Final = "#c2453d"
INK: Final = "#26313d"
FAINT: Final = "#dfe5ea"

PART_COLOURS: Final[Mapping[Part, str]] = {
    Part.FEATURE: "#2f6fed",
    Part.CONNECTION: "#7fa8f5",
    Part.PARSER: "#5bb8b0",
    Part.LOOP: "#7bc47f",
    Part.CODECS: "#b9d98a",
    Part.CALLER: "#c9a9e8",
    Part.OTHER: "#c9d1d9",
    Part.KERNEL: "#6b7683",
    Part.SERVER: "#e0a04a",
    Part.SERVER_KERNEL: "#a8702a",
}
LEGEND_COLUMNS: Final = 4
LEGEND_ROW: Final = 18
BUDGET_LABELS: Final = 330

CPU_PARTS: Final = (
    Measure.CLIENT_US,
    Measure.WORKER_US,
    Measure.NODES_US,
    Measure.SERVER_US,
)


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure of a row: where it ends, in which colour, and its range where it has one."""

    value: float
    colour: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure of all rows; the marks of a row are stacked, or stand side by side."""

    title: str
    marks: Sequence[Sequence[Mark]]
    is_stacked: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """From a figure to a place between 0 and 1."""

    low: float
    high: float
    is_logarithmic: bool

    @classmethod
    def of(cls, values: Sequence[float]) -> Scale:
        """A scale that holds them all."""
        positive = [value for value in values if value > 0]
        if not positive:
            return cls(0.0, 1.0, is_logarithmic=False)
        low, high = min(positive), max(positive)
        if high / low <= WIDE:
            return cls(0.0, high, is_logarithmic=False)
        return cls(10 ** math.floor(math.log10(low)), high, is_logarithmic=True)

    def place(self, value: float) -> float:
        """Where the value is."""
        if not self.is_logarithmic:
            return min(1.0, max(0.0, value / self.high))
        if value <= self.low:
            return 0.0
        return min(1.0, math.log(value / self.low) / math.log(self.high / self.low))

    def ticks(self) -> list[float]:
        """Round values for the lines of the grid."""
        if self.is_logarithmic:
            decades = range(
                math.ceil(math.log10(self.low)), math.floor(math.log10(self.high) + 1e-9) + 1
            )
            return [10.0**decade for decade in decades]
        step = 10 ** math.floor(math.log10(self.high))
        for divisor in (5, 2, 1):
            if self.high / (step / divisor) <= 6:
                step /= divisor
                break
        count = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(count + 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale, laid out on the picture."""

    scale: Scale
    left: float
    width: float

    def at(self, value: float) -> float:
        """The horizontal place of a value."""
        return self.left + self.width * self.scale.place(value)


def picture(result: PathResult) -> str | None:
    """The SVG of a path, or None where a table says it all."""
    rows = [row for row in result.rows.values() if row.samples]
    panels = _panels(result, rows)
    if len(rows) < 2 or not panels:
        return None
    height = TOP + ROW * len(rows) + BOTTOM
    room = WIDTH - LABELS - GAP * len(panels)
    width = room / len(panels)
    parts = _opened(result.path.title, height)
    for index, row in enumerate(rows):
        colour = OURS_TEXT if _is_ours(row) else INK
        parts.append(_text(LABELS - 8, _middle(index) + 4, row.label, "end", colour=colour))
    for index, panel in enumerate(panels):
        left = LABELS + index * (width + GAP)
        parts += _drawn(panel, left, width - FIGURE_SPACE, TOP + ROW * len(rows))
    return "\n".join([*parts, "</svg>"]) + "\n"


def budget_picture(budgets: Sequence[tuple[str, Mapping[Part, float]]]) -> str | None:
    """Bars of equal length, in the colours of the parts; what they amount to stands beside them."""
    if not budgets:
        return None
    used = [part for part in Part if any(part in shared for _, shared in budgets)]
    legend = LEGEND_ROW * math.ceil(len(used) / LEGEND_COLUMNS)
    bottom = TOP + ROW * len(budgets)
    height = bottom + BOTTOM + legend + 8
    width = WIDTH - BUDGET_LABELS - FIGURE_SPACE
    axis = Axis(Scale(0.0, 100.0, is_logarithmic=False), BUDGET_LABELS, width)
    parts = _opened("where the CPU of one operation goes", height)
    parts.append(
        _text(
            BUDGET_LABELS, 20, "CPU of one operation: shares in %, and the sum in µs", "start", BOLD
        )
    )
    parts += _grid(axis, bottom)
    for index, (title, shared) in enumerate(budgets):
        middle, begin, whole = _middle(index), 0.0, sum(shared.values())
        parts.append(_text(BUDGET_LABELS - 8, middle + 4, title, "end", ' font-size="11"'))
        for part in used:
            if value := shared.get(part):
                share = value / whole * 100
                parts.append(_bar(axis, middle, begin, Mark(share, PART_COLOURS[part])))
                begin += share
        parts.append(_text(axis.at(begin) + 8, middle + 4, number(whole), "start", SMALL))
    for index, part in enumerate(used):
        left = 16 + index % LEGEND_COLUMNS * (WIDTH - 32) / LEGEND_COLUMNS
        baseline = bottom + BOTTOM + 12 + LEGEND_ROW * (index // LEGEND_COLUMNS)
        parts += [
            (
                f'<rect x="{left:.1f}" y="{baseline - 10:.1f}" width="11" height="11"'
                f' fill="{PART_COLOURS[part]}"/>'
            ),
            _text(left + 17, baseline, part, "start", SMALL),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _opened(title: str, height: float) -> list[str]:
    return [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
            f' viewBox="0 0 {WIDTH} {height}" role="img" font-family="sans-serif" font-size="12">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
    ]


def _grid(axis: Axis, bottom: float) -> list[str]:
    parts = []
    for tick in axis.scale.ticks():
        at = f"{axis.at(tick):.1f}"
        parts += [
            f'<line x1="{at}" y1="{TOP - 8}" x2="{at}" y2="{bottom:.1f}" stroke="{FAINT}"/>',
            _text(axis.at(tick), bottom + 14, _short(tick), "middle", ' font-size="10"'),
        ]
    return parts


def _panels(result: PathResult, rows: Sequence[Row]) -> list[Panel]:
    unit = result.path.unit
    if has(result, Measure.RATE):
        cpu = [_cpu_marks(row) for row in rows]
        found = [Panel(unit, [_ranged(row, Measure.RATE) for row in rows])]
        if any(cpu):
            found.append(Panel("CPU of one, µs", cpu, is_stacked=True))
        return found
    for measure in (Measure.NS, Measure.LAST_S):
        if has(result, measure):
            return [Panel(unit, [_ranged(row, measure) for row in rows])]
    if has(result, Measure.P50_MS):
        marks = [
            [*_ranged(row, Measure.P50_MS), *_ranged(row, Measure.P99_MS, lambda _: LATE)]
            for row in rows
        ]
        return [Panel("ms: p50, and p99 in red", marks)]
    return []


def _ranged(row: Row, measure: Measure, colour: Callable[[Row], str] | None = None) -> list[Mark]:
    figure: Figure | None = row.figure(measure)
    if figure is None:
        return []
    return [Mark(figure.median, (colour or _colour)(row), figure.low, figure.high)]


def _cpu_marks(row: Row) -> list[Mark]:
    found = [(measure, row.median(measure)) for measure in CPU_PARTS]
    return [
        Mark(value, SERVER if measure is Measure.SERVER_US else _colour(row))
        for measure, value in found
        if value is not None
    ]


def _is_ours(row: Row) -> bool:
    return row.program is Program.PULSEWIRE


def _colour(row: Row) -> str:
    return OURS if _is_ours(row) else PEER


def _drawn(panel: Panel, left: float, width: float, bottom: float) -> list[str]:
    values = [_end(marks, panel) for marks in panel.marks]
    if not panel.is_stacked:
        values += [each for marks in panel.marks for mark in marks for each in _reach(mark)]
    axis = Axis(Scale.of(values), left, width)
    title = ", ".join(
        filter(None, (_title(panel, axis), "log scale" if axis.scale.is_logarithmic else ""))
    )
    parts = [_text(left, 20, title, "start", BOLD), *_grid(axis, bottom)]
    for index, marks in enumerate(panel.marks):
        if marks:
            parts += _row(marks, panel, axis, _middle(index))
    return parts


def _title(panel: Panel, axis: Axis) -> str:
    if not panel.is_stacked:
        return panel.title
    if axis.scale.is_logarithmic:
        return f"{panel.title}, server too"
    return f"{panel.title}, server yellow"


def _reach(mark: Mark) -> tuple[float, ...]:
    return (mark.value, mark.value if mark.high is None else mark.high)


def _end(marks: Sequence[Mark], panel: Panel) -> float:
    values = [mark.value for mark in marks]
    return sum(values) if panel.is_stacked else max(values, default=0.0)


def _row(marks: Sequence[Mark], panel: Panel, axis: Axis, middle: float) -> list[str]:
    end = _end(marks, panel)
    parts: list[str] = []
    if panel.is_stacked and not axis.scale.is_logarithmic:
        begin = 0.0
        for mark in marks:
            parts.append(_bar(axis, middle, begin, mark))
            begin += mark.value
    elif axis.scale.is_logarithmic or len(marks) > 1:
        shown = [Mark(end, marks[0].colour)] if panel.is_stacked else marks
        parts += [
            f'<circle cx="{axis.at(mark.value):.1f}" cy="{middle:.1f}" r="5" fill="{mark.colour}"/>'
            for mark in shown
        ]
    else:
        parts.append(_bar(axis, middle, 0.0, marks[0]))
    parts += [line for mark in marks for line in _range(axis, middle, mark)]
    last = max(end, *(each for mark in marks for each in _reach(mark)))
    words = number(end) if panel.is_stacked else " / ".join(number(mark.value) for mark in marks)
    return [*parts, _text(axis.at(last) + 8, middle + 4, words, "start", SMALL)]


def _bar(axis: Axis, middle: float, begin: float, mark: Mark) -> str:
    start = axis.at(begin)
    return (
        f'<rect x="{start:.1f}" y="{middle - 7:.1f}" height="14"'
        f' width="{axis.at(begin + mark.value) - start:.1f}" fill="{mark.colour}"/>'
    )


def _range(axis: Axis, middle: float, mark: Mark) -> list[str]:
    if mark.low is None or mark.high is None or mark.high <= mark.low:
        return []
    return [
        (
            f'<line x1="{axis.at(mark.low):.1f}" y1="{middle:.1f}" x2="{axis.at(mark.high):.1f}"'
            f' y2="{middle:.1f}" stroke="{INK}" stroke-width="1.5"/>'
        )
    ]


def _text(
    at: float, baseline: float, words: str, anchor: str, more: str = "", *, colour: str = INK
) -> str:
    return (
        f'<text x="{at:.1f}" y="{baseline:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>'
        f"{escape(words)}</text>"
    )


def _middle(index: int) -> float:
    return TOP + ROW * index + ROW / 2


def _short(value: float) -> str:
    """A value on an axis."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    if value >= 1_000:
        return f"{value / 1_000:g}k"
    return f"{value:g}"
