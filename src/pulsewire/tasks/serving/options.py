"""The options of a server of task queues. Pure."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from pulsewire._core.checks import check_count, check_seconds
from pulsewire.tasks.keys import DEFAULT_QUEUE
from pulsewire.tasks.retry import default_delay, is_charged
from pulsewire.tasks.task import Task
from pulsewire.tasks.wire import NewTask

DEFAULT_CONCURRENCY = 100
DEFAULT_LEASE = 12.0
LEAST_LEASE = 1.0
GO_LEASE = 30.0
ABANDON_AFTER = 10.0
SUSPICIOUS = 2

RetryDelay = Callable[[int, BaseException, Task], float]
ErrorHandler = Callable[[Task, BaseException], Awaitable[None] | None]
HealthCheck = Callable[[BaseException | None], Awaitable[None] | None]
Aggregator = Callable[[str, list[Task]], Awaitable[NewTask] | NewTask]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server runs tasks. Checks itself. All durations are seconds.

    Attributes:
        queues: name -> priority, highest first.
        strict: take nothing from a queue while one of a higher priority has tasks.
        concurrency: handlers that run at a time.
        lease: how long a task stays with this server without being renewed; when the server dies its tasks are run
            elsewhere after that. Renewed three times as often.
        shutdown_timeout: how long running handlers may go on when the server ends; then they are cancelled, and their
            tasks go back to the front of their queues.
        retry_delay: seconds until the next try: a function of how often the task had failed, the error and the task.
        is_failure: whether an error counts as a failed attempt.
        error_handler: told of every attempt that does not succeed.
        base_context: makes the context that a handler runs in.
        health_check: called every `health_check_interval`: with None if the server answers, else with the error.
        aggregator: makes one task of the members of a group. Without one, groups are left to other servers.
        group_grace: seconds without a new member after which a group is aggregated.
        group_max_delay: seconds after which a group is aggregated whatever comes, counted from its oldest member; None
            for no limit.
        group_max_size: number of members at which a group is aggregated; None for no limit.
        forward_interval: how often scheduled tasks are looked at, at least.
        janitor_interval, janitor_batch: how often, and how many at a time, tasks are forgotten whose retention is over.
        max_lost: a task is archived when this many servers have died, or were cut off, while running it.
    """

    queues: Mapping[str, int] = field(default_factory=lambda: {DEFAULT_QUEUE: 1})
    strict: bool = False
    concurrency: int = DEFAULT_CONCURRENCY
    lease: float = DEFAULT_LEASE
    shutdown_timeout: float = 8.0
    retry_delay: RetryDelay = default_delay
    is_failure: Callable[[BaseException], bool] = is_charged
    error_handler: ErrorHandler | None = None
    base_context: Callable[[], contextvars.Context] | None = None
    health_check: HealthCheck | None = None
    health_check_interval: float = 15.0
    aggregator: Aggregator | None = None
    group_grace: float = 60.0
    group_max_delay: float | None = None
    group_max_size: int | None = None
    forward_interval: float = 1.0
    janitor_interval: float = 8.0
    janitor_batch: int = 100
    max_lost: int = 3

    def __post_init__(self) -> None:
        check_count("concurrency", self.concurrency)
        check_seconds("lease", self.lease, LEAST_LEASE)
        check_seconds("shutdown_timeout", self.shutdown_timeout, 0.0)
        check_seconds("health_check_interval", self.health_check_interval)
        check_seconds("group_grace", self.group_grace, 1.0)
        if self.group_max_delay is not None:
            check_seconds("group_max_delay", self.group_max_delay, 1.0)
        if self.group_max_size is not None:
            check_count("group_max_size", self.group_max_size)
        check_seconds("forward_interval", self.forward_interval, 0.01)
        check_seconds("janitor_interval", self.janitor_interval)
        check_count("janitor_batch", self.janitor_batch)
        check_count("max_lost", self.max_lost)

    @property
    def suspicious(self) -> int:
        """A task whose server has died this many times may be the reason, and is run alone."""
        return max(min(SUSPICIOUS, self.max_lost - 1), 1)

    @property
    def renew_every(self) -> float:
        """Seconds between two renewals of the leases."""
        return self.lease / 3

    @property
    def fence_after(self) -> float:
        """Seconds without a renewal after which handlers are cancelled: as in Go, or the lease if that is longer.

        Redis may be away for that long without harm. Whoever takes a task over before that finds out by its mark in
        Redis who may write, and the other one is told as soon as it can renew again.
        """
        return max(self.lease, GO_LEASE)
