"""Made-up runs: figures that nobody measured, small enough to judge by hand."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.plan import Contender, Measure, Path, Program, Shape, Target
from benchmarks.results import Budget, Part, PathResult, Report, Row, Run, Sample

OURS = "pulsewire"
SLOW = "redis-py"
FAST = "Go Pulse"

TARGETS = (
    Target("at least 2 x", OURS, Measure.RATE, 2.0, True, (SLOW, FAST), goal="speed"),
    Target("at most 1/3", OURS, Measure.CLIENT_US, 1 / 3, False, (SLOW, FAST), goal="thrift"),
    Target("at least 90 a second", OURS, Measure.RATE, 90.0, True),
)
PATH = Path(
    key="made-up",
    title="made up, <100> callers",
    unit="acts/s",
    contenders=(
        Contender(OURS, Program.PULSEWIRE, "act", Shape.LOAD),
        Contender(SLOW, Program.PLAIN, "act", Shape.LOAD),
        Contender(FAST, Program.GO_PULSE, "act", Shape.LOAD, is_beside=True),
    ),
    targets=TARGETS,
    ours=OURS,
    note="Nobody did this.",
)


def sample(rate: float, cpu: float, foreign: float = 0.0) -> Sample:
    """One round."""
    return {
        Measure.RATE: rate,
        Measure.CLIENT_US: cpu,
        Measure.SERVER_US: 1.5,
        Measure.FOREIGN: foreign,
    }


def row(label: str, *samples: Sample, failure: str = "") -> Row:
    """The rounds of one of the three."""
    programs = {OURS: Program.PULSEWIRE, SLOW: Program.PLAIN, FAST: Program.GO_PULSE}
    return Row(label, programs[label], list(samples), failure)


def result(*rows: Row) -> PathResult:
    """What was found on the path."""
    return PathResult("streams", PATH, {each.label: each for each in rows})


def usual() -> PathResult:
    """Three contenders, three rounds: ours has 100 a second for 2 µs, the peers 20 for 30 and 60 for 10."""
    return result(
        row(OURS, sample(90, 2.0), sample(100, 2.0), sample(110, 2.0)),
        row(SLOW, sample(20, 30.0), sample(20, 30.0), sample(20, 30.0)),
        row(FAST, sample(60, 10.0)),
    )


BUDGET = Budget(
    "made-up", OURS, Measure.CLIENT_US, 0.25, 0.5, {Part.FEATURE: 0.5, Part.LOOP: 0.5}, 1000
)


def report(*results: PathResult, budgets: Sequence[Budget] = ()) -> Report:
    """A whole run."""
    run = Run("short", 3, 1, 12.5, "2031-01-31")
    environment = {"server": "Valkey 9.1", "Go Pulse": "1.8.1, Go 1.26"}
    return Report(run, environment, list(results), tuple(budgets))
