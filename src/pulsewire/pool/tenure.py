"""How long a node may trust that its workers are its own: the deadlines that follow from renewing leases. Pure.

The one object that the lease thread and the main loop share: changed under a lock, read without one, since every field
is replaced as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from pulsewire._core.failovers import REVALIDATION, UNREPLICATED

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Trust:
    """How long one worker is trusted. All times are monotonic.

    Attributes:
        until: when its jobs must have stopped.
        sure: when the last renewal was asked for that also another server must know, should it take over.
        recent: when those were asked for that it need not know, oldest first.
    """

    until: float
    sure: float = NEVER
    recent: tuple[float, ...] = ()

    def renewed(self, asked_at: float, ttl: float) -> Trust:
        """Its lease was given or renewed by a request of that time."""
        asked = (*self.recent, asked_at)
        known_from = max(asked) - UNREPLICATED
        sure = max([self.sure, *(at for at in asked if at <= known_from)])
        return Trust(asked_at + ttl, sure, tuple(at for at in asked if at > known_from))

    def moved(self, noticed: float, ttl: float) -> Trust:
        """Another server has taken over; it was not asked yet."""
        if not self.recent:
            return self  # nor was the one before it
        until = max(self.sure + ttl, noticed + REVALIDATION)
        return Trust(min(self.until, until), self.sure)


class Tenure:
    """The deadlines of a node's workers, on the monotonic clock (protocol 2.4).

    Attributes:
        workers: whose leases are to be renewed.
    """

    __slots__ = ("_lock", "_lost", "_trust", "_ttl", "workers")

    def __init__(self, ttl: float) -> None:
        self.workers: tuple[str, ...] = ()
        self._ttl = ttl
        self._trust: dict[str, Trust] = {}
        self._lost: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def enrolled(self, worker: str, asked_at: float) -> None:
        """A worker was given its lease; the request was sent at `asked_at`."""
        with self._lock:
            self._trust = {**self._trust, worker: Trust(NEVER).renewed(asked_at, self._ttl)}
            if worker not in self.workers:
                self.workers = (*self.workers, worker)

    def renewed(self, workers: Iterable[str], lost: Iterable[str], asked_at: float) -> None:
        """Leases were renewed by a request sent at `asked_at`, but for those that were lost."""
        gone = frozenset(lost)
        with self._lock:
            known, ttl = self._trust, self._ttl
            self._lost = self._lost | gone
            kept = [one for one in workers if one in known and one not in gone]
            self._trust = {**known, **{one: known[one].renewed(asked_at, ttl) for one in kept}}

    def moved(self, noticed: float) -> None:
        """Another server has the leases now, which need not know the last renewals (protocol 2.5)."""
        with self._lock:
            ttl = self._ttl
            self._trust = {one: trust.moved(noticed, ttl) for one, trust in self._trust.items()}

    def given_up(self, worker: str) -> None:
        """The worker is no more."""
        with self._lock:
            self.workers = tuple(known for known in self.workers if known != worker)
            self._trust = {known: it for known, it in self._trust.items() if known != worker}
            self._lost = self._lost - {worker}

    def deadline(self, worker: str) -> float:
        """When its jobs must have stopped. In the past for a worker that was lost."""
        if worker in self._lost:
            return NEVER
        trust = self._trust.get(worker)
        return NEVER if trust is None else trust.until

    def lapsed(self, now: float, margin: float) -> list[str]:
        """The workers whose deadline is at most `margin` seconds away."""
        return [worker for worker in self.workers if self.deadline(worker) - margin <= now]

    def next_check(self, now: float, margin: float) -> float:
        """Seconds until the next deadline less the margin; the whole time to live where there is no worker."""
        deadlines = [self.deadline(worker) for worker in self.workers]
        return max(min(deadlines) - margin - now, 0.0) if deadlines else self._ttl
