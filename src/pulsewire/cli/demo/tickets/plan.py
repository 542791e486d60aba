"""The numbers of the act, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire.cli.demo.plan_error import require

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the act shall do.

    Attributes:
        tickets: How many are published.
        consumers: How many processes share the group.
        work: Seconds that handling a ticket takes.
        kill: Whether one consumer is killed.
        kill_after: Which part of the tickets is handled when that happens.
        ack_grace: Seconds of silence after which a consumer's tickets are taken over.
        publish_rate: Tickets published per second; 0 is as fast as it goes.
        seed: Makes ticket numbers and the choice of the victim repeatable; None draws them anew.
        keep: Leave the stream and the journals for inspection.
    """

    tickets: int = 3000
    consumers: int = 5
    work: float = 0.1
    kill: bool = True
    kill_after: float = 0.4
    ack_grace: float = 2.0
    publish_rate: float = 600.0
    seed: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require(self.tickets >= 1, "--tickets", "at least one ticket is needed")
        require(self.consumers >= 1, "--consumers", "at least one consumer is needed")
        require(self.work >= 0, "--work", "seconds cannot be negative")
        require(
            0 < self.kill_after < 1, "--kill-after", "give a fraction between 0 and 1, such as 0.4"
        )
        require(self.ack_grace > 0, "--ack-grace", "give more than 0 seconds")
        require(self.publish_rate >= 0, "--publish-rate", "tickets per second cannot be negative")
        require(
            not self.kill or self.consumers >= 2,
            "--consumers",
            "when one consumer is killed another one must take over: use at least 2, or --no-kill",
        )

    @property
    def killed_at(self) -> int:
        """How many tickets are handled when the victim is killed."""
        return max(1, round(self.tickets * self.kill_after))

    @property
    def patience(self) -> float:
        """Seconds without any progress after which the demo gives up."""
        return 30.0 + 10 * (self.work + self.ack_grace)
