"""The options of a node. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire._core.checks import check_count, check_seconds
from pulsewire.errors import InvalidOption
from pulsewire.pool.jobs import DEFAULT_MAX_PAYLOAD
from pulsewire.pool.ring import ROUTINGS, Routing

DEFAULT_WORKER_TTL = 30.0
DEFAULT_SHUTDOWN_TTL = 120.0
DEFAULT_ACK_GRACE = 20.0
DEFAULT_MAX_QUEUED = 1000
DEFAULT_ROUTING: Routing = "rendezvous"
LEAST_TTL = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How a node takes part in its pool. Checks itself. All durations are seconds.

    Attributes:
        worker_ttl: how long a worker may be silent before its jobs are given to others.
        worker_shutdown_ttl: how long a handler's `stop`, and leaving the pool as a whole, may take.
        ack_grace: `dispatch` waits twice this long for the start of a job, `notify` this long for an owner (Pulse's
            name).
        max_queued_jobs: jobs that may wait for their start, in the whole pool, before `dispatch` refuses more.
        client_only: dispatch and look, but run no jobs.
        routing: how keys find their worker; the same on every node of a pool. None is "rendezvous", and for a
            client-only node whatever the pool has.
        max_payload: bytes that a job's payload may have.
        concurrency: starts, stops and notifications that one worker handles at a time, of different jobs.
    """

    worker_ttl: float = DEFAULT_WORKER_TTL
    worker_shutdown_ttl: float = DEFAULT_SHUTDOWN_TTL
    ack_grace: float = DEFAULT_ACK_GRACE
    max_queued_jobs: int = DEFAULT_MAX_QUEUED
    client_only: bool = False
    routing: Routing | None = None
    max_payload: int = DEFAULT_MAX_PAYLOAD
    concurrency: int = 100

    def __post_init__(self) -> None:
        check_seconds("worker_ttl", self.worker_ttl, LEAST_TTL)
        check_seconds("worker_shutdown_ttl", self.worker_shutdown_ttl)
        check_seconds("ack_grace", self.ack_grace)
        check_count("max_queued_jobs", self.max_queued_jobs)
        check_count("max_payload", self.max_payload)
        check_count("concurrency", self.concurrency)
        if self.routing is not None and self.routing not in ROUTINGS:
            raise InvalidOption("routing", self.routing, f"use one of {', '.join(ROUTINGS)}")

    @property
    def wanted_routing(self) -> Routing | None:
        """The routing to agree on; None to take that of the pool."""
        if self.routing is None and not self.client_only:
            return DEFAULT_ROUTING
        return self.routing

    @property
    def renew_every(self) -> float:
        """Seconds between renewals of the leases (protocol 2.3)."""
        return self.worker_ttl / 3

    @property
    def margin(self) -> float:
        """Seconds before its deadline at which a node stops its jobs, so that they have stopped when it has come."""
        return min(self.worker_ttl / 10, 1.0)
