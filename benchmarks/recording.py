"""A run as JSON, and back: `.cache/bench/result.json` and whatever `--json` names.

The file holds everything that the reports are made of, every round of every contender included. `record` and `restore`
are each other's inverse, except that medians, ranges and verdicts are written for other programs and computed anew from
the rounds when the file is read. `python -m benchmarks schema` prints the JSON schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from benchmarks.plan import MEANINGS, Measure, Path, Program, Target
from benchmarks.results import Budget, PathResult, Report, Row, Run, Sample, Verdict

SCHEMA: Final = 2
"""Version of the JSON. 2: programs, ranges and all facts of a target, so that a report needs nothing else."""


@dataclass(frozen=True, slots=True)
class RecordedFigure:
    """One measure over the rounds that have it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RecordedContender:
    """One contender on one path."""

    label: str
    program: Program
    """Who it is; its version stands under this name in `environment`."""
    failure: str | None
    """Why it is left out or was not measured to the end."""
    noisy: bool
    """Whether the rounds of the main measure spread over more than 30% of their median."""
    figures: Mapping[str, RecordedFigure]
    """By measure; see `measures`."""
    rounds: tuple[Mapping[Measure, float], ...]
    """What each round found."""


@dataclass(frozen=True, slots=True)
class RecordedTarget:
    """A figure to reach, and whether it was."""

    text: str
    goal: str
    """Its name among the goals of the project; empty for all others."""
    of: str
    """The contender that it speaks of."""
    measure: Measure
    bound: float
    at_least: bool
    """Whether the bound is the least or the most that is allowed."""
    versus: tuple[str, ...]
    """The contenders of which the best is compared with; none for an absolute bound."""
    difference: bool
    """Compared by subtraction instead of by ratio."""
    found: float | None
    """What is compared with the bound: the median, the ratio or the difference."""
    own: float | None
    """The median of `of`."""
    best: float | None
    """The median of the best of `versus`."""
    best_label: str
    met: bool | None
    """Null when it could not be measured."""


@dataclass(frozen=True, slots=True)
class RecordedPath:
    """One thing users do, measured for every contender in turn."""

    key: str
    block: str
    title: str
    unit: str
    ours: str
    """The contender that the others are compared with."""
    note: str
    contenders: tuple[RecordedContender, ...]
    targets: tuple[RecordedTarget, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole run."""

    schema: int
    run: Run
    environment: Mapping[str, str]
    """Versions, builds and the machine."""
    measures: Mapping[str, str]
    """What the names of the measures mean."""
    paths: tuple[RecordedPath, ...]
    budgets: tuple[Budget, ...]
    """Where the CPU of an operation goes, as shares of what a path has found."""


class UnreadableRecording(Exception):
    """A file is no recording of this version; the text says why."""


def record(report: Report) -> Recording:
    """The run, ready to be written."""
    return Recording(
        SCHEMA,
        report.run,
        dict(report.environment),
        {str(measure): meaning for measure, meaning in MEANINGS.items()},
        tuple(_path(result) for result in report.results),
        tuple(report.budgets),
    )


def restore(recording: Recording) -> Report:
    """The run that was recorded."""
    return Report(
        recording.run,
        dict(recording.environment),
        [_result(path) for path in recording.paths],
        recording.budgets,
    )


def encode(report: Report) -> bytes:
    """The run as JSON, for people to read too."""
    return msgspec.json.format(msgspec.json.encode(record(report)), indent=1) + b"\n"


def write(report: Report, file: FilePath) -> None:
    """Write the run as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(report))


def read(file: FilePath) -> Report:
    """The run of a file.

    Raises:
        UnreadableRecording: when it is not there or holds something else.
    """
    try:
        content = file.read_bytes()
        version = msgspec.json.decode(content, type=dict[str, Any]).get("schema")
        if version != SCHEMA:
            raise UnreadableRecording(f"{file} has schema {version}, this program reads {SCHEMA}")
        return restore(msgspec.json.decode(content, type=Recording))
    except (OSError, msgspec.MsgspecError) as reason:
        raise UnreadableRecording(f"{file} cannot be read: {reason}") from reason


def schema() -> dict[str, Any]:
    """The JSON schema of a recording."""
    return msgspec.json.schema(Recording)


def _path(result: PathResult) -> RecordedPath:
    path = result.path
    return RecordedPath(
        path.key,
        result.block,
        path.title,
        path.unit,
        path.ours,
        path.note,
        tuple(_contender(row) for row in result.rows.values()),
        tuple(_target(verdict) for verdict in result.verdicts()),
    )


def _contender(row: Row) -> RecordedContender:
    figures = {str(measure): row.figure(measure) for measure in Measure}
    return RecordedContender(
        row.label,
        row.program,
        row.failure or None,
        row.is_noisy,
        {
            name: RecordedFigure(float(figure.median), float(figure.low), float(figure.high))
            for name, figure in figures.items()
            if figure
        },
        tuple(_floats(sample) for sample in row.samples),
    )


def _floats(sample: Sample) -> dict[Measure, float]:
    """A count is written as it is read: as a float."""
    return {measure: float(value) for measure, value in sample.items()}


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _target(verdict: Verdict) -> RecordedTarget:
    target = verdict.target
    return RecordedTarget(
        text=target.text,
        goal=target.goal,
        of=target.of,
        measure=target.measure,
        bound=float(target.bound),
        at_least=target.at_least,
        versus=target.versus,
        difference=target.difference,
        found=_float(verdict.found),
        own=_float(verdict.own),
        best=_float(verdict.best),
        best_label=verdict.best_label,
        met=verdict.is_met,
    )


def _result(path: RecordedPath) -> PathResult:
    targets = tuple(
        Target(
            each.text,
            each.of,
            each.measure,
            each.bound,
            each.at_least,
            each.versus,
            each.difference,
            each.goal,
        )
        for each in path.targets
    )
    rows = {
        each.label: Row(
            each.label, each.program, [dict(one) for one in each.rounds], each.failure or ""
        )
        for each in path.contenders
    }
    # Who ran with which options is of no use to a report.
    shown = Path(path.key, path.title, path.unit, (), targets, path.ours, path.note)
    return PathResult(path.block, shown, rows)
