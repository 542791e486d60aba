"""The numbers of the act, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire.cli.demo.plan_error import require

__all__ = ["TasksPlan"]

_LEAST_TASKS = 10
_LEAST_LEASE = 1.0
_ENQUEUING = 6.0
"""Seconds in which all tasks are enqueued."""
_LEAST_RATE = 150.0
_KILLED_AFTER = 0.4
"""Which part of the tasks has succeeded when the victim is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksPlan:
    """What the act shall do.

    Attributes:
        tasks: How many are enqueued.
        servers: How many processes run them.
        work: Seconds that an attempt takes.
        kill: Whether one server is killed.
        lease: Seconds that a server may be silent before its tasks are run elsewhere.
        seed: Makes the choice of the victim repeatable; None draws it anew.
        keep: Leave the queues and the journals for inspection.
    """

    tasks: int = 3600
    servers: int = 3
    work: float = 0.15
    kill: bool = True
    lease: float = 2.0
    seed: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require(self.tasks >= _LEAST_TASKS, "--tasks", f"at least {_LEAST_TASKS} tasks are needed")
        require(self.servers >= 1, "--servers", "at least one server is needed")
        require(
            not self.kill or self.servers >= 2,
            "--servers",
            "when one server is killed the others must go on: use at least 2, or --no-kill",
        )
        require(self.work >= 0, "--task-work", "seconds cannot be negative")
        least = f"give at least {_LEAST_LEASE:g} second"
        require(self.lease >= _LEAST_LEASE, "--lease", least)

    @property
    def rate(self) -> float:
        """Tasks enqueued per second."""
        return max(self.tasks / _ENQUEUING, _LEAST_RATE)

    @property
    def killed_at(self) -> int:
        """How many tasks have succeeded when the victim is killed."""
        return max(1, round(self.tasks * _KILLED_AFTER))

    @property
    def patience(self) -> float:
        """Seconds without any progress after which the demo gives up."""
        return 30.0 + 10 * (self.work + self.lease)
