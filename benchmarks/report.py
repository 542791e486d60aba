"""The result of a run as a terminal report, as Markdown for the documentation, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.plan import Form, Measure, Program
from benchmarks.results import Figure, PathResult, Row, Verdict, noise_report

SCHEMA: Final = 1
"""Version of the JSON result."""

COSTS: Final = {
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
GO_NOTE: Final = (
    "Go is a program of this repository (benchmarks/go) that sends Go Pulse's commands through"
    " go-redis, the client of Go Pulse. It is not Go Pulse, whose upkeep of a sink it leaves out."
)

PULSE_NOTE: Final = (
    "Go Pulse is Go Pulse itself: benchmarks/go/rmap.go and pool.go, built against a checkout that"
    " PULSEWIRE_GO_PULSE names."
)
ASYNQ_NOTE: Final = (
    "Go asynq is asynq itself, used as its documentation shows: benchmarks/go/tasks."
)
NOTES: Final = {
    Program.GO: GO_NOTE,
    Program.GO_PULSE: PULSE_NOTE,
    Program.ASYNQ: ASYNQ_NOTE,
}


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    form: Form
    environment: dict[str, str]
    results: Sequence[PathResult]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything, every round included."""
        return {
            "schema": SCHEMA,
            "form": self.form.name,
            "rounds": self.form.rounds,
            "seconds": round(self.seconds, 1),
            "environment": self.environment,
            "paths": [_path_json(result) for result in self.results],
        }

    def print(self, console: Console) -> None:
        """The report for a terminal."""
        for result in self.results:
            if _cells(result):
                console.print(_rich_table(result))
            else:
                console.print(result.path.title, style="italic")
            if result.path.note:
                console.print(f"  {result.path.note}", markup=False, highlight=False)
            for verdict in result.verdicts():
                style = {True: "green", False: "red", None: "yellow"}[verdict.is_met]
                console.print(f"  {_verdict_text(verdict)}", style=style, markup=False)
            for row in result.rows.values():
                if row.failure:
                    console.print(
                        f"  {row.label} is left out: {row.failure}", style="yellow", markup=False
                    )
            console.print()
        for name, value in self.environment.items():
            console.print(f"{name}: {value}", markup=False, highlight=False)
        for line in self._footnotes():
            console.print(line, markup=False, highlight=False)

    def to_markdown(self) -> str:
        """The body of the documentation page."""
        lines = ["# Benchmarks", "", *self._introduction(), ""]
        for result in self.results:
            lines += [f"## {result.path.title[0].upper()}{result.path.title[1:]}", ""]
            if cells := _cells(result):
                lines += [*_markdown_table(_header(result), cells), ""]
            if result.path.note:
                lines += [result.path.note, ""]
            lines += [f"* {_verdict_text(verdict)}" for verdict in result.verdicts()]
            lines += [
                f"* {row.label} is left out: {row.failure}"
                for row in result.rows.values()
                if row.failure
            ]
            lines.append("")
        lines += ["## Versions", ""]
        lines += [f"* {name}: {value}" for name, value in self.environment.items()]
        return "\n".join(lines) + "\n"

    def _introduction(self) -> list[str]:
        return [
            (
                f"Taken by `python -m benchmarks --{self.form.name}` (`make bench`): all contenders in"
                " one run on one private server, each in a process of its own, in turn, round after"
                f" round. A cell is the median of {self.form.rounds} rounds with the lowest and the"
                " highest; beside each rate stands the CPU time that one operation cost the client and"
                " the server. Ratios within one table mean something; figures of different runs or"
                " machines do not compare."
            ),
            "",
            *self._footnotes(),
        ]

    def _footnotes(self) -> list[str]:
        measured = {
            contender.program
            for result in self.results
            for contender in result.path.contenders
            if result.rows[contender.label].samples
        }
        notes = [noise_report(self.results), f"The run took {self.seconds:.0f} s."]
        return [note for program, note in NOTES.items() if program in measured] + notes


def _path_json(result: PathResult) -> dict[str, Any]:
    return {
        "path": result.path.key,
        "title": result.path.title,
        "unit": result.path.unit,
        "contenders": [
            {
                "label": row.label,
                "failure": row.failure or None,
                "noisy": row.is_noisy,
                "median": {
                    str(measure): row.median(measure) for measure in Measure if row.figure(measure)
                },
                "rounds": [
                    {str(measure): value for measure, value in sample.items()}
                    for sample in row.samples
                ],
            }
            for row in result.rows.values()
        ],
        "targets": [
            {"target": verdict.target.text, "found": verdict.found, "met": verdict.is_met}
            for verdict in result.verdicts()
        ],
    }


def _has(result: PathResult, measure: Measure) -> bool:
    return any(row.figure(measure) for row in result.rows.values())


def _main_measures(result: PathResult) -> list[Measure]:
    main = [Measure.RATE, Measure.NS, Measure.LAST_S, Measure.COMMANDS]
    if not _has(result, Measure.RATE):
        main[2:2] = [Measure.P50_MS, Measure.P99_MS]
    return [measure for measure in main if _has(result, measure)]


def _costs(result: PathResult) -> list[Measure]:
    main = _main_measures(result)
    return [measure for measure in COSTS if measure not in main and _has(result, measure)]


def _header(result: PathResult) -> list[str]:
    names = {
        Measure.RATE: result.path.unit,
        Measure.NS: result.path.unit,
        Measure.LAST_S: result.path.unit,
        Measure.COMMANDS: result.path.unit,
    }
    header = [""]
    for measure in _main_measures(result):
        header += [names.get(measure) or COSTS[measure], "lowest to highest"]
    header += [COSTS[measure] for measure in _costs(result)]
    if _has(result, Measure.RATE):
        header.append("pulsewire is")
    return header


def _cells(result: PathResult) -> list[list[str]]:
    return [_row_cells(result, row) for row in result.rows.values() if row.samples]


def _row_cells(result: PathResult, row: Row) -> list[str]:
    cells = [row.label]
    for measure in _main_measures(result):
        cells += _figure_cells(row.figure(measure), row)
    cells += [_cost(row, measure) for measure in _costs(result)]
    if _has(result, Measure.RATE):
        ratio = result.ratio(row.label, Measure.RATE)
        is_ours = row.label == result.path.ours
        cells.append("" if ratio is None or is_ours else f"{ratio:.2f} x")
    return cells


def _cost(row: Row, measure: Measure) -> str:
    """Of what is rare the sum of all rounds, else the median."""
    if measure in {Measure.STALLED, Measure.TOO_OFTEN}:
        return _number(row.total(measure), 0)
    return _number(row.median(measure), 0 if measure is Measure.MOVED else None)


def _figure_cells(figure: Figure | None, row: Row) -> list[str]:
    if figure is None:
        return ["-", "-"]
    mark = " ~" if row.is_noisy else ""
    return [_number(figure.median), f"{_number(figure.low)} to {_number(figure.high)}{mark}"]


def _number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "-"
    if digits is not None:
        return f"{value:,.{digits}f}"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _verdict_text(verdict: Verdict) -> str:
    target = verdict.target
    if verdict.found is None:
        return f"{target.text}: {verdict.word}"
    if target.difference:
        found = f"{verdict.found:+.2f} ms"
    elif target.versus:
        found = f"{verdict.found:.2f} x"
    else:
        found = _number(verdict.found)
    return f"{target.text}: {found}, {verdict.word}"


def _rich_table(result: PathResult) -> Table:
    table = Table(title=result.path.title, title_justify="left")
    for index, name in enumerate(_header(result)):
        table.add_column(name, justify="right" if index else "left")
    for cells in _cells(result):
        table.add_row(*map(escape, cells))
    return table


def _markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|---|{'---:|' * (len(header) - 1)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
