"""The numbers of the act, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire.cli.demo.plan_error import require

__all__ = ["PoolPlan"]

_LEAST_TTL = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What the act shall do.

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
        require(self.jobs >= 1, "--jobs", "at least one job is needed")
        require(self.nodes >= 1, "--nodes", "at least one node is needed")
        require(
            not self.kill or self.nodes >= 2,
            "--nodes",
            "when one node is killed another one must take over: use at least 2, or --no-kill",
        )
        least = f"give at least {_LEAST_TTL:g} seconds"
        require(self.worker_ttl >= _LEAST_TTL, "--worker-ttl", least)

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
