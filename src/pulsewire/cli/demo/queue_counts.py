"""How many tasks of a queue are in which state, as the inspector says. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire.tasks import QueueInfo

__all__ = ["QueueCounts", "counts_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """How many tasks are in which state."""

    pending: int = 0
    active: int = 0
    scheduled: int = 0
    retry: int = 0
    aggregating: int = 0
    archived: int = 0
    completed: int = 0

    @property
    def to_do(self) -> int:
        """Tasks that are still to be run."""
        return self.pending + self.active + self.scheduled + self.retry + self.aggregating


def counts_of(info: QueueInfo | None) -> QueueCounts:
    """Return the counts of a queue; all are 0 where there is none."""
    if info is None:
        return QueueCounts()
    return QueueCounts(
        pending=info.pending,
        active=info.active,
        scheduled=info.scheduled,
        retry=info.retry,
        aggregating=info.aggregating + info.set_apart,
        archived=info.archived,
        completed=info.completed,
    )
