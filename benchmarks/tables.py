"""What a report says, in cells and sentences: the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.plan import Measure, Program
from benchmarks.results import Figure, Part, PathResult, Report, Row, Verdict, noise_report

COSTS: Final[Mapping[Measure, str]] = {
    Measure.P50_MS: "p50, ms",
    Measure.P99_MS: "p99, ms",
    Measure.CLIENT_US: "client µs",
    Measure.WORKER_US: "worker µs",
    Measure.NODES_US: "nodes µs",
    Measure.SERVER_US: "server µs",
    Measure.CPU_US: "all µs",
    Measure.COMMANDS_EACH: "commands",
    Measure.STALLED: "stalled",
    Measure.RSS_MIB: "worker MiB",
    Measure.TOO_OFTEN: "ran too often",
    Measure.FIRST_S: "first, s",
    Measure.MOVED: "jobs moved",
    Measure.PSS_MIB: "process MiB",
    Measure.SERVER_MIB: "server MiB",
    Measure.JOIN_MS: "join, ms",
    Measure.CLIENT_MINUTE: "process CPU s/min",
    Measure.SERVER_MINUTE: "server CPU s/min",
}
"""Figures without a range, and the head of their column."""
COUNTED: Final = frozenset({Measure.STALLED, Measure.TOO_OFTEN})
"""What is rare: the sum of all rounds is shown."""
PEER_NOTES: Final[Mapping[Program, str]] = {
    Program.GO_PULSE: "Go Pulse is goa.design/pulse itself, used as its documentation shows: benchmarks/go/pulse.",
    Program.ASYNQ: "Go asynq is asynq itself, used as its documentation shows: benchmarks/go/asynq.",
}
UNITS: Final[Mapping[Measure, str]] = {
    Measure.RATE: "/s",
    Measure.CLIENT_US: " µs",
    Measure.WORKER_US: " µs",
    Measure.SERVER_US: " µs",
    Measure.P50_MS: " ms",
    Measure.P99_MS: " ms",
}
"""Of the measures that goals speak of."""
GOALS_HEADER: Final = ("goal", "pulsewire", "against", "to reach", "found", "")


def header(result: PathResult) -> list[str]:
    """The heads of a path's columns."""
    unit = result.path.unit
    heads = [""]
    for measure in main_measures(result):
        heads += [COSTS.get(measure, unit), "lowest to highest"]
    heads += [COSTS[measure] for measure in costs(result)]
    if has(result, Measure.RATE):
        heads.append("pulsewire is")
    return heads


def cells(result: PathResult) -> list[list[str]]:
    """One line for each contender that was measured."""
    return [_row_cells(result, row) for row in result.rows.values() if row.samples]


def has(result: PathResult, measure: Measure) -> bool:
    """Whether any contender of the path has this measure."""
    return any(row.figure(measure) for row in result.rows.values())


def main_measures(result: PathResult) -> list[Measure]:
    """The measures that are shown with their range."""
    main = [Measure.RATE, Measure.NS, Measure.LAST_S, Measure.COMMANDS]
    if not has(result, Measure.RATE):
        main[2:2] = [Measure.P50_MS, Measure.P99_MS]
    return [measure for measure in main if has(result, measure)]


def costs(result: PathResult) -> list[Measure]:
    """All others."""
    main = main_measures(result)
    return [measure for measure in COSTS if measure not in main and has(result, measure)]


def goal_cells(verdict: Verdict) -> list[str]:
    """One line of the table of goals."""
    target = verdict.target
    unit = UNITS.get(target.measure, "")
    against = f"{verdict.best_label}: {number(verdict.best)}{unit}" if verdict.best_label else "-"
    bound = f"{'at least' if target.at_least else 'at most'} {bound_text(verdict)}"
    own = f"{target.of}: {number(verdict.own)}{unit}" if verdict.own is not None else "-"
    found = found_text(verdict) + ("" if target.versus else unit)
    return [target.goal, own, against, bound, found, verdict.word]


def budget_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table of budgets: one line for each path, one column for each part."""
    found = report.shared_out()
    parts = [part for part in Part if any(part in shared for _, shared in found)]
    lines = [
        [title, *(number(shared.get(part)) for part in parts), number(sum(shared.values()))]
        for title, shared in found
    ]
    return ["µs of one", *parts, "together"], lines


def bound_text(verdict: Verdict) -> str:
    """The bound as it was asked for: 1/6 rather than 0.167."""
    target, bound = verdict.target, verdict.target.bound
    unit = " x" if target.versus else UNITS.get(target.measure, "")
    if 0 < bound < 1 and abs(1 / bound - round(1 / bound)) < 1e-9:
        return f"1/{round(1 / bound)}{unit}"
    return f"{bound:g}{unit}"


def found_text(verdict: Verdict) -> str:
    """What was found, as a ratio, a difference or a figure."""
    if verdict.found is None:
        return "-"
    if verdict.target.difference:
        return f"{verdict.found:+.2f} ms"
    if verdict.target.versus:
        digits = 2 if verdict.found >= 0.1 else 4
        return f"{verdict.found:.{digits}f} x"
    return number(verdict.found)


def verdict_text(verdict: Verdict) -> str:
    """A target with what was found, in one line."""
    if verdict.found is None:
        return f"{verdict.target.text}: {verdict.word}"
    return f"{verdict.target.text}: {found_text(verdict)}, {verdict.word}"


def left_out(result: PathResult) -> list[str]:
    """Who could not be measured, and why."""
    return [
        f"{row.label} is left out: {row.failure}" for row in result.rows.values() if row.failure
    ]


def footnotes(report: Report) -> list[str]:
    """Who the peers are, how quiet the machine was, how long it took."""
    measured = {
        row.program for result in report.results for row in result.rows.values() if row.samples
    }
    notes = [note for program, note in PEER_NOTES.items() if program in measured]
    return [*notes, noise_report(report.results), f"The run took {report.run.seconds:.0f} s."]


def rounds_text(report: Report) -> str:
    """How many rounds stand behind a cell."""
    run = report.run
    if run.rounds == run.rounds_beside:
        return f"{run.rounds} rounds"
    return f"{run.rounds} rounds ({run.rounds_beside} for contenders that no target speaks of)"


def number(value: float | None, digits: int | None = None) -> str:
    """A figure with about three digits."""
    if value is None:
        return "-"
    if digits is not None:
        return f"{value:,.{digits}f}"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _row_cells(result: PathResult, row: Row) -> list[str]:
    found = [row.label]
    for measure in main_measures(result):
        found += _figure_cells(row.figure(measure), row)
    found += [_cost(row, measure) for measure in costs(result)]
    if has(result, Measure.RATE):
        ratio = result.ratio(row.label, Measure.RATE)
        is_ours = row.label == result.path.ours
        found.append("" if ratio is None or is_ours else f"{ratio:.2f} x")
    return found


def _cost(row: Row, measure: Measure) -> str:
    """Of what is rare the sum of all rounds, else the median."""
    if measure in COUNTED:
        return number(row.total(measure), 0)
    return number(row.median(measure), 0 if measure is Measure.MOVED else None)


def _figure_cells(figure: Figure | None, row: Row) -> list[str]:
    if figure is None:
        return ["-", "-"]
    if len(row.samples) == 1:
        return [number(figure.median), "1 round"]
    mark = " ~" if row.is_noisy else ""
    return [number(figure.median), f"{number(figure.low)} to {number(figure.high)}{mark}"]
