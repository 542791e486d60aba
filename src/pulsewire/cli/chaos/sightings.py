"""What the workers wrote down, worker by worker, and what befell each. Pure: the director feeds it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pulsewire.cli.chaos.plan import Weather
from pulsewire.cli.demo.attempts import Attempt, Attempts
from pulsewire.cli.demo.journal import (
    Arrived,
    FlagSeen,
    JobBegan,
    JobOver,
    Record,
    Seen,
    TaskBegan,
    TaskOver,
)
from pulsewire.cli.demo.runs import Run, Runs

__all__ = ["Held", "Sightings", "Strike"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """A fault.

    Attributes:
        what: happened.
        worker: The one that it hit; None for everybody.
        begin: When, in seconds of the machine's monotonic clock.
        end: When it was over, likewise.
        recovered: Seconds until every block worked again; None if it did not.
    """

    what: Weather
    worker: int | None
    begin: float
    end: float
    recovered: float | None = None

    def meets(self, worker: int, begin: float, end: float) -> bool:
        """Whether it may have met what a worker did then."""
        return self.worker in (None, worker) and self.begin <= end and begin <= self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a worker had in its hands when it was killed: others must take it over."""

    jobs: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()


@dataclass(slots=True)
class Sightings:
    """All that was written down.

    Attributes:
        arrived: Workers that are ready.
        dead: Workers that were killed.
        seen: Payload -> how an event was handled, each time.
        finals: Worker -> the map's last value as it saw it.
    """

    arrived: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    seen: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    finals: dict[int, str] = field(default_factory=dict)
    _runs: dict[int, Runs] = field(default_factory=dict)
    _attempts: dict[int, Attempts] = field(default_factory=dict)

    @property
    def runs(self) -> Sequence[Run]:
        """Of all jobs at all workers."""
        return [run for runs in self._runs.values() for run in runs.all]

    @property
    def attempts(self) -> Sequence[Attempt]:
        """To run tasks, at all workers."""
        return [attempt for attempts in self._attempts.values() for attempt in attempts.all]

    @property
    def alive(self) -> set[int]:
        """The workers that are ready and were not killed."""
        return self.arrived - self.dead

    @property
    def step(self) -> tuple[int, ...]:
        """Changes whenever something went on."""
        return (len(self.seen), len(self.runs), len(self.attempts), len(self.finals))

    def running(self) -> set[str]:
        """The jobs that run now."""
        return {run.job for run in self.runs if run.ended is None}

    def begun(self) -> set[str]:
        """The jobs that have run at all."""
        return {run.job for run in self.runs}

    def done(self) -> set[str]:
        """The tasks that have succeeded."""
        return {attempt.task for attempt in self.attempts if attempt.has_succeeded}

    def take(self, worker: int, records: Iterable[Record]) -> None:
        """Take in what a worker wrote."""
        runs = self._runs.setdefault(worker, Runs(worker))
        attempts = self._attempts.setdefault(worker, Attempts(worker))
        for record in records:
            match record:
                case Arrived():
                    self.arrived.add(worker)
                case Seen():
                    self.seen[record.user].append(record)
                case FlagSeen():
                    self.finals[worker] = record.value
                case JobBegan():
                    runs.begin(record)
                case JobOver():
                    runs.end(record)
                case TaskBegan():
                    attempts.begin(record)
                case TaskOver():
                    attempts.end(record)
                case _:
                    raise AssertionError(f"workers write no {type(record).__name__}")

    def died(self, worker: int, at: float) -> Held:
        """A worker was killed, and all that ran there has ended."""
        self.dead.add(worker)
        runs = self._runs.setdefault(worker, Runs(worker)).cut(at)
        attempts = self._attempts.setdefault(worker, Attempts(worker)).cut(at)
        return Held(
            jobs=frozenset(run.job for run in runs),
            tasks=frozenset(attempt.task for attempt in attempts),
        )
