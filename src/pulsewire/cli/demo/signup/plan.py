"""The numbers of the act, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire.cli.demo.plan_error import require

__all__ = ["SignUpPlan"]

_LEAST_USERS = 20
_SIGNING_UP = 36.0
"""Seconds in which all users sign up, if they are many."""
_LEAST_RATE = 30.0
_LEAST_TTL = 0.5
_LEAST_LEASE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpPlan:
    """What the act shall do.

    Attributes:
        users: How many sign up.
        kill: Whether two processes and the server are killed.
        ack_grace: Seconds of silence after which the events of a sink's consumer are taken over.
        worker_ttl: Seconds of silence after which the jobs of a worker are taken over.
        lease: Seconds of silence after which the tasks of a worker are run elsewhere.
        seed: Makes the choice of the victims repeatable; None draws it anew.
        keep: Leave what is in Redis, and the journals, for inspection.
    """

    users: int = 1200
    kill: bool = True
    ack_grace: float = 2.0
    worker_ttl: float = 2.0
    lease: float = 2.0
    seed: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require(self.users >= _LEAST_USERS, "--users", f"at least {_LEAST_USERS} users are needed")
        require(self.ack_grace > 0, "--ack-grace", "give more than 0 seconds")
        least = f"give at least {_LEAST_TTL:g} seconds"
        require(self.worker_ttl >= _LEAST_TTL, "--worker-ttl", least)
        least = f"give at least {_LEAST_LEASE:g} second"
        require(self.lease >= _LEAST_LEASE, "--lease", least)

    @property
    def rate(self) -> float:
        """Users that sign up per second."""
        return max(self.users / _SIGNING_UP, _LEAST_RATE)

    @property
    def patience(self) -> float:
        """Seconds without any progress after which the demo gives up."""
        return 30.0 + 10 * max(self.ack_grace, self.worker_ttl, self.lease)

    def part(self, fraction: float) -> int:
        """A part of the users."""
        return max(1, round(self.users * fraction))
