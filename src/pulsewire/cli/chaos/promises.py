"""What the parent was told: of each thing that it asked for, whether it is done, refused, or nobody knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Account", "Promises"]


@dataclass(slots=True)
class Account:
    """What was asked for of one block, by its name.

    Attributes:
        asked: Name -> when the call began, in seconds of the machine's monotonic clock.
        acknowledged: Name -> when the call returned.
        refused: The call said that nothing was done.
        uncertain: The call said that nobody knows.
    """

    asked: dict[str, float] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)

    def asked_after(self, moment: float) -> set[str]:
        """What was asked for later than that, and acknowledged."""
        return {name for name in self.acknowledged if self.asked[name] > moment}


@dataclass(slots=True)
class Promises:
    """All that was asked for.

    Attributes:
        events: By payload.
        writes: To the map: each adds one.
        jobs: By key.
        tasks: By id.
        ending: Jobs whose end was asked for.
        ended: Those of which the pool said that they have ended.
        count: What the map's counter is in the end, as the server says.
        final: What the map's last value is.
    """

    events: Account = field(default_factory=Account)
    writes: Account = field(default_factory=Account)
    jobs: Account = field(default_factory=Account)
    tasks: Account = field(default_factory=Account)
    ending: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    count: int = 0
    final: str = ""

    @property
    def blocks(self) -> Mapping[str, Account]:
        """By the name of the block."""
        return {
            "streams": self.events,
            "maps": self.writes,
            "pools": self.jobs,
            "tasks": self.tasks,
        }

    @property
    def due_jobs(self) -> set[str]:
        """Those that must run."""
        return self.jobs.acknowledged.keys() - self.ending
