"""From samples to medians, spreads and verdicts. Numbers only, no server and no process."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.plan import Measure, Path, Target

NOISY_SPREAD: Final = 0.30
"""A row whose rounds differ by more than this share of their median is called noisy."""

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
    found: float | None
    is_met: bool | None

    @property
    def word(self) -> str:
        """What the report says."""
        if self.is_met is None:
            return "not measured"
        return "met" if self.is_met else "not met"


@dataclass(slots=True)
class PathResult:
    """What a run found on one path."""

    path: Path
    rows: dict[str, Row]

    def verdicts(self) -> list[Verdict]:
        """Every target of the path, judged."""
        return [self._judge(target) for target in self.path.targets]

    def _judge(self, target: Target) -> Verdict:
        found = self._median(target.of, target.measure)
        if found is not None and target.versus:
            peers = [self._median(label, target.measure) for label in target.versus]
            measured = [peer for peer in peers if peer]
            if not measured:
                return Verdict(target, None, None)
            # The best peer counts: the fastest where more is better, else the cheapest.
            best = max(measured) if target.at_least else min(measured)
            found = found - best if target.difference else found / best
        if found is None:
            return Verdict(target, None, None)
        met = found >= target.bound if target.at_least else found <= target.bound
        return Verdict(target, found, met)

    def _median(self, label: str, measure: Measure) -> float | None:
        row = self.rows.get(label)
        return row.median(measure) if row else None

    def ratio(self, label: str, measure: Measure) -> float | None:
        """How our median compares with that row's."""
        ours, theirs = self._median(self.path.ours, measure), self._median(label, measure)
        return ours / theirs if ours and theirs else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def noise_report(results: Sequence[PathResult]) -> str:
    """One line on how quiet the machine was."""
    rows = [row for result in results for row in result.rows.values() if row.samples]
    noisy = sum(row.is_noisy for row in rows)
    foreign = [sample[Measure.FOREIGN] for row in rows for sample in row.samples]
    others = (
        f"others used {statistics.median(foreign):.0%} of the machine's CPU in the median round,"
        f" {max(foreign):.0%} in the worst"
        if foreign
        else "the CPU use of others is not known"
    )
    state = "noisy" if noisy > len(rows) / 4 else "quiet enough"
    return (
        f"The machine was {state}: {noisy} of {len(rows)} rows spread over more than"
        f" {NOISY_SPREAD:.0%} of their median (marked ~); {others}."
    )
