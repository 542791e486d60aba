"""How long a node may trust that its workers are its own: the deadlines that follow from renewing leases. Pure.

The one object that the lease thread and the main loop share: changed under a lock, read without one, since every field
is replaced as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Tenure:
    """The deadlines of a node's workers, on the monotonic clock (protocol 2.4).

    Attributes:
        workers: whose leases are to be renewed.
    """

    __slots__ = ("_asked_at", "_lock", "_lost", "_ttl", "workers")

    def __init__(self, ttl: float) -> None:
        self.workers: tuple[str, ...] = ()
        self._ttl = ttl
        self._asked_at: dict[str, float] = {}
        self._lost: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def enrolled(self, worker: str, asked_at: float) -> None:
        """A worker was given its lease; the request was sent at `asked_at`."""
        with self._lock:
            self._asked_at = {**self._asked_at, worker: asked_at}
            if worker not in self.workers:
                self.workers = (*self.workers, worker)

    def renewed(self, workers: Iterable[str], lost: Iterable[str], asked_at: float) -> None:
        """Leases were renewed by a request sent at `asked_at`, but for those that were lost."""
        gone = frozenset(lost)
        with self._lock:
            known = self._asked_at
            self._lost = self._lost | gone
            renewed = {one: asked_at for one in workers if one in known and one not in gone}
            self._asked_at = {**known, **renewed}

    def given_up(self, worker: str) -> None:
        """The worker is no more."""
        with self._lock:
            self.workers = tuple(known for known in self.workers if known != worker)
            self._asked_at = {known: at for known, at in self._asked_at.items() if known != worker}
            self._lost = self._lost - {worker}

    def deadline(self, worker: str) -> float:
        """When its jobs must have stopped. In the past for a worker that was lost."""
        if worker in self._lost:
            return float("-inf")
        return self._asked_at.get(worker, float("-inf")) + self._ttl

    def lapsed(self, now: float, margin: float) -> list[str]:
        """The workers whose deadline is at most `margin` seconds away."""
        return [worker for worker in self.workers if self.deadline(worker) - margin <= now]

    def next_check(self, now: float, margin: float) -> float:
        """Seconds until the next deadline less the margin; the whole time to live where there is no worker."""
        deadlines = [self.deadline(worker) for worker in self.workers]
        return max(min(deadlines) - margin - now, 0.0) if deadlines else self._ttl
