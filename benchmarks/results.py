"""From samples to medians, spreads and verdicts. Numbers only, no server and no process."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from benchmarks.plan import Measure, Path, Program, Target

NOISY_SPREAD: Final = 0.30
"""A row whose rounds differ by more than this share of their median is called noisy."""

FOREIGN_SHARE: Final = 0.15
"""When others use more of the machine than this, it is called noisy."""

Sample = Mapping[Measure, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure over all rounds."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(slots=True)
class Row:
    """All rounds of one contender on one path, or why there are none."""

    label: str
    program: Program
    samples: list[Sample] = field(default_factory=list)
    failure: str = ""

    def figure(self, measure: Measure) -> Figure | None:
        """The measure over the rounds that have it."""
        values = [sample[measure] for sample in self.samples if measure in sample]
        if not values:
            return None
        return Figure(statistics.median(values), min(values), max(values))

    def median(self, measure: Measure) -> float | None:
        """The median of the rounds."""
        figure = self.figure(measure)
        return figure.median if figure else None

    def total(self, measure: Measure) -> float | None:
        """The sum of the rounds, for what is counted and rare."""
        values = [sample[measure] for sample in self.samples if measure in sample]
        return sum(values) if values else None

    @property
    def is_noisy(self) -> bool:
        """Whether the rounds of the main measure differ too much to compare small differences."""
        for measure in (Measure.RATE, Measure.NS, Measure.P50_MS):
            if figure := self.figure(measure):
                return figure.spread > NOISY_SPREAD
        return False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target with the figure found; `is_met` is None when it could not be measured."""

    target: Target
    found: float | None = None
    is_met: bool | None = None
    own: float | None = None
    """The median of the contender that the target speaks of."""
    best: float | None = None
    """The median of the best of those that it is compared with."""
    best_label: str = ""

    @property
    def word(self) -> str:
        """What the report says."""
        if self.is_met is None:
            return "not measured"
        return "met" if self.is_met else "not met"


@dataclass(slots=True)
class PathResult:
    """What a run found on one path."""

    block: str
    path: Path
    rows: dict[str, Row]

    def verdicts(self) -> list[Verdict]:
        """Every target of the path, judged."""
        return [self._judge(target) for target in self.path.targets]

    def _judge(self, target: Target) -> Verdict:
        own = found = self._median(target.of, target.measure)
        best, best_label = self._best(target)
        if own is None or found is None:
            return Verdict(target, best=best, best_label=best_label)
        if target.versus:
            if not best:
                return Verdict(target, own=own)
            found = own - best if target.difference else own / best
        is_met = found >= target.bound if target.at_least else found <= target.bound
        return Verdict(target, found, is_met, own, best, best_label)

    def _best(self, target: Target) -> tuple[float | None, str]:
        """The best peer counts: the fastest where more is better, else the cheapest."""
        peers = [(self._median(label, target.measure), label) for label in target.versus]
        measured = [(median, label) for median, label in peers if median]
        if not measured:
            return None, ""
        return max(measured) if target.at_least else min(measured)

    def _median(self, label: str, measure: Measure) -> float | None:
        row = self.rows.get(label)
        return row.median(measure) if row else None

    def ratio(self, label: str, measure: Measure) -> float | None:
        """How our median compares with that row's."""
        ours, theirs = self._median(self.path.ours, measure), self._median(label, measure)
        return ours / theirs if ours and theirs else None


@dataclass(frozen=True, slots=True)
class Run:
    """When and how it was measured."""

    form: str
    rounds: int
    rounds_beside: int
    """Rounds of the contenders that no target speaks of."""
    seconds: float
    taken: str
    """The day, as 2031-01-31."""


class Part(StrEnum):
    """To whom the CPU of an operation goes; the value is what a report calls it."""

    FEATURE = "pulsewire"
    CONNECTION = "pulsewire's connection"
    PARSER = "hiredis"
    LOOP = "event loop"
    CODECS = "msgspec, protobuf"
    CALLER = "caller or handler"
    OTHER = "interpreter, others"
    KERNEL = "kernel"
    SERVER = "server"
    SERVER_KERNEL = "server's kernel"


@dataclass(frozen=True, slots=True)
class Budget:
    """How the cost of an operation is shared out, as a profiler and the kernel saw it."""

    path: str
    label: str
    whose: Measure
    """The measure that holds the cost of the process."""
    kernel: float
    """Share of the process's cost that was spent in the kernel."""
    server_kernel: float
    """The same of the server."""
    user: Mapping[Part, float]
    """Shares of the rest of the process's cost; together 1."""
    samples: int

    def microseconds(self, row: Row) -> dict[Part, float]:
        """The cost that a row has found without a profiler, shared out."""
        own, server = row.median(self.whose), row.median(Measure.SERVER_US)
        if own is None or server is None:
            return {}
        found = {part: own * (1 - self.kernel) * share for part, share in self.user.items()}
        found[Part.KERNEL] = own * self.kernel
        found[Part.SERVER] = server * (1 - self.server_kernel)
        found[Part.SERVER_KERNEL] = server * self.server_kernel
        return {part: found[part] for part in Part if part in found}


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run with all that was found."""

    run: Run
    environment: Mapping[str, str]
    """Versions, builds and the machine."""
    results: Sequence[PathResult]
    budgets: Sequence[Budget] = ()

    def goals(self) -> list[Verdict]:
        """The verdicts on the goals of the project, in the order of the paths."""
        verdicts = (verdict for result in self.results for verdict in result.verdicts())
        return [verdict for verdict in verdicts if verdict.target.goal]

    def shared_out(self) -> list[tuple[str, dict[Part, float]]]:
        """Title and microseconds of every budget."""
        paths = {result.path.key: result for result in self.results}
        found = []
        for budget in self.budgets:
            result = paths.get(budget.path)
            row = result.rows.get(budget.label) if result else None
            if result and row and (parts := budget.microseconds(row)):
                found.append((result.path.title, parts))
        return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def noise_report(results: Sequence[PathResult]) -> str:
    """One line on how quiet the machine was."""
    rows = [row for result in results for row in result.rows.values() if row.samples]
    noisy = sum(row.is_noisy for row in rows)
    samples = [sample for row in rows for sample in row.samples]
    foreign = [sample[Measure.FOREIGN] for sample in samples if Measure.FOREIGN in sample]
    others = (
        f"others used {statistics.median(foreign):.0%} of the machine's CPU in the median round,"
        f" {max(foreign):.0%} in the worst"
        if foreign
        else "the CPU use of others is not known"
    )
    is_shared = bool(foreign) and statistics.median(foreign) > FOREIGN_SHARE
    state = "noisy" if is_shared or noisy > len(rows) / 4 else "quiet enough"
    return (
        f"The machine was {state}: {noisy} of {len(rows)} rows spread over more than"
        f" {NOISY_SPREAD:.0%} of their median (marked ~); {others}."
    )
