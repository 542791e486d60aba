"""The numbers of the second act, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire.cli.demo.plan import PlanError

__all__ = ["PoolPlan"]

_LEAST_TTL = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What the second act shall do.

    Attributes:
        jobs: How many are dispatched.
        nodes: How many processes share them.
        kill: Whether one node is killed, and another one takes its place.
        worker_ttl: Seconds that a node may be silent before its jobs are given to others.
        seed: Makes the choice of the victim repeatable; None draws it anew.
        keep: Leave the journals for inspection.
    """

    jobs: int = 400
    nodes: int = 4
    kill: bool = True
    worker_ttl: float = 2.0
    seed: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.jobs < 1:
            raise PlanError("--jobs", "at least one job is needed")
        if self.nodes < 1:
            raise PlanError("--nodes", "at least one node is needed")
        if self.kill and self.nodes < 2:
            raise PlanError(
                "--nodes",
                "when one node is killed another one must take over: use at least 2, or --no-kill",
            )
        if self.worker_ttl < _LEAST_TTL:
            raise PlanError("--worker-ttl", f"give at least {_LEAST_TTL:g} seconds")

    @property
    def rate(self) -> float:
        """Jobs dispatched per second: all of them within about two."""
        return self.jobs / 2

    @property
    def killed_at(self) -> int:
        """How many jobs have started when the victim is killed."""
        return max(1, self.jobs // 2)

    @property
    def patience(self) -> float:
        """Seconds without any progress after which the demo gives up."""
        return 30.0 + 10 * self.worker_ttl
