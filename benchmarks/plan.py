"""The words of a benchmark: path, contender, target, form.

A block (streams, maps, pools, tasks) describes its paths with these; `session` runs them and
`results` judges them. Nothing here touches a server or a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

PAYLOAD_BYTES: Final = 100


class Program(StrEnum):
    """Who is measured; the value is what the report calls it."""

    PULSEWIRE = "pulsewire"
    PLAIN = "redis-py"
    PROBE = "bare probe"
    GO = "Go"
    GO_PULSE = "Go Pulse"
    ASYNQ = "Go asynq"
    ARQ = "arq"
    CELERY = "Celery"
    DRAMATIQ = "Dramatiq"
    REPID = "repid"
    RQ = "RQ"
    SAQ = "SAQ"
    STREAQ = "streaq"
    TASKIQ = "taskiq"


class Shape(StrEnum):
    """How a contender runs."""

    LOAD = "load"
    """One process repeats an operation for the form's time."""
    DRAIN = "drain"
    """One process takes a number of events that were loaded before."""
    PAIR = "pair"
    """Two processes: one publishes now and then, the other measures how old the events are."""
    SPACED = "spaced"
    """One process acts now and then and times each act."""
    HEAR = "hear"
    """Two processes: one publishes at an even pace, the other takes in what it hears."""
    LOCAL = "local"
    """One process reads from its own memory."""
    REMOTE = "remote"
    """One process reads from the server, one read after the other."""
    FLEET = "fleet"
    """Several processes that each follow many maps in which nothing happens."""
    IDLE = "idle"
    """One process that does nothing while the server counts its commands."""
    DISPATCH = "dispatch"
    """Node processes of a pool, and one that dispatches jobs to them."""
    FAILOVER = "failover"
    """Two node processes of a pool; one is killed, the other gets its jobs."""
    ENQUEUE = "enqueue"
    """One process enqueues tasks for the form's time; nobody takes them."""
    TASKS = "tasks"
    """One worker is started on a number of tasks that were enqueued before."""
    PACE = "pace"
    """One worker, and one process that enqueues a task now and then."""
    BACKLOG = "backlog"
    """`TASKS`, then `PACE`, beside scheduled tasks that nobody waits for."""


class Measure(StrEnum):
    """What a sample holds; the value is its name in the JSON result."""

    RATE = "rate"
    CLIENT_US = "client_us"
    WORKER_US = "worker_us"
    """CPU of all processes of a worker, for one task."""
    SERVER_US = "server_us"
    P50_MS = "p50_ms"
    P99_MS = "p99_ms"
    NS = "nanoseconds"
    COMMANDS = "commands_per_second"
    NODES_US = "nodes_us"
    """CPU of all node processes of a pool, for one dispatch."""
    CPU_US = "cpu_us"
    """CPU of the dispatcher, the nodes and the server together, for one dispatch."""
    COMMANDS_EACH = "commands_each"
    """Commands for one dispatch or one task, those inside scripts included."""
    TOO_OFTEN = "ran_too_often"
    """Executions of tasks that had run before."""
    RSS_MIB = "rss_mib"
    """Resident memory of all processes of a worker, pages that they share counted for each."""
    QUEUED = "queued"
    """Tasks that a producer has enqueued in all, warming up included; for the session, which counts them."""
    STALLED = "stalled"
    """Dispatches that had no answer in time."""
    FIRST_S = "first_moved_s"
    LAST_S = "last_moved_s"
    MOVED = "jobs_moved"
    JOIN_MS = "join_ms"
    PSS_MIB = "pss_mib"
    """Memory that one process gained by it; pages shared with others count in part."""
    SERVER_MIB = "server_mib"
    CLIENT_MINUTE = "client_cpu_s_per_minute"
    """Of one process."""
    SERVER_MINUTE = "server_cpu_s_per_minute"
    FOREIGN = "foreign_share"
    """Share of the machine that others used meanwhile; tells how far to trust the rest."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to walk a path."""

    label: str
    program: Program
    role: str
    shape: Shape
    options: Mapping[str, str | int | float] = field(default_factory=dict)
    events: int = 0
    """For `DRAIN` and `HEAR`: how many, for about a second; what is measured does not depend on it. For `DISPATCH`: how
    many dispatches. For `TASKS`, `PACE` and `BACKLOG`: how many tasks; 0 for as many as the form says."""
    sender: str = "publish"
    """For `PAIR` and `HEAR`: the role of the other process."""
    processes: int = 1
    """For `FLEET`; for `DISPATCH` the node processes."""
    producer: Program | None = None
    """For `PACE`: who enqueues, when it is another program than the worker's."""
    scheduled: int = 0
    """For `BACKLOG`: how many tasks wait for tomorrow."""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach: `of`, against the best of `versus`, at least or at most `bound`."""

    text: str
    of: str
    measure: Measure
    bound: float
    at_least: bool
    versus: tuple[str, ...] = ()
    difference: bool = False
    """Compare by subtraction instead of by ratio."""


@dataclass(frozen=True, slots=True)
class Path:
    """One thing users do, measured for every contender in turn."""

    key: str
    title: str
    unit: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...]
    ours: str
    """The contender that the others are compared with in the table."""
    note: str = ""
    """What one has to know to read the table."""


@dataclass(frozen=True, slots=True)
class Form:
    """How long a run may take."""

    name: str
    rounds: int
    load_seconds: float
    drain_scale: float
    latency_events: int
    idle_seconds: float


SHORT: Final = Form("short", 3, 0.6, 1.0, 250, 10.0)
FULL: Final = Form("full", 5, 2.0, 3.0, 500, 10.0)
SMOKE: Final = Form("smoke", 1, 0.1, 0.05, 10, 1.0)
