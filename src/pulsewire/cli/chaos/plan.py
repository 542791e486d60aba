"""The numbers of one run, checked before anything starts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pulsewire.cli.demo.plan_error import PlanError

__all__ = ["ChaosPlan", "Weather"]


class Weather(StrEnum):
    """What may happen."""

    KILL = "kill"
    FREEZE = "freeze"
    RESTART = "restart"
    CUT = "cut"
    SWALLOW = "swallow"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    """What shall happen.

    Attributes:
        seconds: For how long faults come.
        seed: Repeats what is drawn: which faults, whom they hit, when.
        faults: Those that may come.
        workers: How many processes.
        lease: Seconds of silence after which a worker's events, jobs and tasks are given to others.
    """

    seconds: float = 30.0
    seed: int
    faults: Sequence[Weather] = tuple(Weather)
    workers: int = 3
    lease: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.seconds <= 0:
            raise PlanError("--seconds", "give more than 0 seconds")
        if self.workers < 2:
            raise PlanError("--workers", "another worker must take over: use at least 2")
        if self.lease < 1.0:
            raise PlanError("--lease", "give at least 1 second")

    @property
    def recovery(self) -> float:
        """Seconds within which everything must work again: what a dead worker held comes after its lease."""
        return self.lease + 5.0

    @property
    def patience(self) -> float:
        """Seconds without any progress after which the run is given up."""
        return 30.0 + 5 * self.lease

    def order(self) -> list[Weather]:
        """The faults in a drawn order, to be gone through again and again."""
        drawn = list(dict.fromkeys(self.faults))
        random.Random(self.seed).shuffle(drawn)
        return drawn
