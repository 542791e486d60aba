"""The workers of a pool as one node sees them, and whom it proposes for a key. Pure.

The view may be old: Redis judges each proposal by the lease of the worker proposed. A worker that was refused so is
*suspected* and not proposed again while it has the same id, unless nobody else is left.
"""

from __future__ import annotations

from collections.abc import Mapping

from pulsewire.errors import DecodeError
from pulsewire.pool.ring import Member, Ring, Routing
from pulsewire.pool.wire import SHUTDOWN_ENTRY, WorkerInfo, decode_worker


class Roster:
    """What one node knows of the workers of its pool.

    Attributes:
        workers: by id, also those that are draining.
        shutdown_by: the node that has asked for the end of the pool; empty if none has.
        malformed: entries of the map that were passed over.
    """

    def __init__(self, routing: Routing) -> None:
        self.workers: dict[str, WorkerInfo] = {}
        self.shutdown_by = ""
        self.malformed: tuple[str, ...] = ()
        self._routing: Routing = routing
        self._decoded: dict[str, tuple[str, WorkerInfo | None]] = {}
        self._suspected: set[str] = set()
        self._ring = Ring((), routing)

    def route_by(self, routing: Routing) -> None:
        """Do as the pool does."""
        self._routing = routing
        self._rebuild()

    @property
    def ring(self) -> Ring:
        """The workers that keys may go to."""
        return self._ring

    def take(self, content: Mapping[str, str]) -> bool:
        """The workers map has changed. True if keys may go to other workers than before."""
        self._decoded = {
            worker: self._decode(worker, value)
            for worker, value in content.items()
            if worker != SHUTDOWN_ENTRY
        }
        found = [(worker, info) for worker, (_, info) in self._decoded.items()]
        self.workers = {worker: info for worker, info in found if info is not None}
        self.malformed = tuple(worker for worker, info in found if info is None)
        self.shutdown_by = content.get(SHUTDOWN_ENTRY, "")
        self._suspected &= self.workers.keys()
        return self._rebuild()

    def _decode(self, worker: str, value: str) -> tuple[str, WorkerInfo | None]:
        """An entry with what it says, or with None; what was decoded before is not decoded again."""
        known = self._decoded.get(worker)
        if known is not None and known[0] == value:
            return known
        try:
            return value, decode_worker(worker, value)
        except DecodeError:
            return value, None

    def suspect(self, worker: str) -> bool:
        """Redis says that the worker's lease has lapsed. True if keys go elsewhere now."""
        if worker in self._suspected or worker not in self.workers:
            return False
        self._suspected.add(worker)
        return self._rebuild()

    def trust_again(self) -> None:
        """Redis says that there are workers whose lease holds, and none is left here: forget all suspicions."""
        self._suspected.clear()
        self._rebuild()

    def owner(self, key: str, but: str = "") -> str:
        """The worker to propose for a key, other than `but`; empty when there is none."""
        return self._ring.owner(key, but) or ""

    def _rebuild(self) -> bool:
        members = [
            Member(worker.id, worker.weight, worker.started)
            for worker in self.workers.values()
            if worker.state == "active" and worker.id not in self._suspected
        ]
        ring = Ring(members, self._routing)
        if ring.is_like(self._ring):
            return False  # it stays the same object: who has looked at it need not look again
        self._ring = ring
        return True
