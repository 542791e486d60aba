"""The words of a benchmark: path, contender, target, form.

A block (streams, maps, pools, tasks) describes its paths with these; `session` runs them and
`results` judges them. Nothing here touches a server or a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

PAYLOAD_BYTES: Final = 100


class Program(StrEnum):
    """Who is measured; the value is what the report calls it."""

    PULSEWIRE = "pulsewire"
    PLAIN = "redis-py"
    PROBE = "bare probe"
    FASTSTREAM = "FastStream"
    GO_PULSE = "Go Pulse"
    ASYNQ = "Go asynq"
    ARQ = "arq"
    CELERY = "Celery"
    DOCKET = "docket"
    DRAMATIQ = "Dramatiq"
    HUEY = "Huey"
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
    """What a sample holds; the value is its name in the JSON result. What each means stands in `MEANINGS`."""

    RATE = "rate"
    CLIENT_US = "client_us"
    WORKER_US = "worker_us"
    SERVER_US = "server_us"
    P50_MS = "p50_ms"
    P99_MS = "p99_ms"
    NS = "nanoseconds"
    COMMANDS = "commands_per_second"
    NODES_US = "nodes_us"
    CPU_US = "cpu_us"
    COMMANDS_EACH = "commands_each"
    TOO_OFTEN = "ran_too_often"
    RSS_MIB = "rss_mib"
    QUEUED = "queued"
    STALLED = "stalled"
    FIRST_S = "first_moved_s"
    LAST_S = "last_moved_s"
    MOVED = "jobs_moved"
    JOIN_MS = "join_ms"
    PSS_MIB = "pss_mib"
    SERVER_MIB = "server_mib"
    CLIENT_MINUTE = "client_cpu_s_per_minute"
    SERVER_MINUTE = "server_cpu_s_per_minute"
    FOREIGN = "foreign_share"


MEANINGS: Final[Mapping[Measure, str]] = {
    Measure.RATE: "operations a second, of the path's unit",
    Measure.CLIENT_US: "CPU of the process that acts, for one operation, in microseconds",
    Measure.WORKER_US: "CPU of all processes of a worker, for one task, in microseconds",
    Measure.SERVER_US: "CPU of the server, for one operation, in microseconds",
    Measure.P50_MS: "median time of one operation, in milliseconds",
    Measure.P99_MS: "99th percentile of the time of one operation, in milliseconds",
    Measure.NS: "time of one read, in nanoseconds",
    Measure.COMMANDS: "commands a second that the server ran, those inside scripts included",
    Measure.NODES_US: "CPU of all node processes of a pool, for one dispatch, in microseconds",
    Measure.CPU_US: "CPU of dispatcher, nodes and server together, for one dispatch, in microseconds",
    Measure.COMMANDS_EACH: "commands for one dispatch or task, those inside scripts included",
    Measure.TOO_OFTEN: "executions of tasks that had run before",
    Measure.RSS_MIB: (
        "resident memory of all processes of a worker, in MiB; pages that they share count for each"
    ),
    Measure.QUEUED: "tasks that a producer has enqueued, warming up included",
    Measure.STALLED: "dispatches that had no answer in time",
    Measure.FIRST_S: "seconds from the kill of a node until the first of its jobs ran elsewhere",
    Measure.LAST_S: "seconds from the kill of a node until the last of its jobs ran elsewhere",
    Measure.MOVED: "jobs of the killed node",
    Measure.JOIN_MS: "time of one process to join all maps, in milliseconds",
    Measure.PSS_MIB: (
        "memory that one process gained by it, in MiB; pages shared with others count in part"
    ),
    Measure.SERVER_MIB: "memory that the server gained by it, in MiB",
    Measure.CLIENT_MINUTE: "CPU seconds of one process in a minute",
    Measure.SERVER_MINUTE: "CPU seconds of the server in a minute",
    Measure.FOREIGN: "share of the machine that others used meanwhile; tells how far to trust the rest",
}


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
    fills_itself: bool = False
    """For `DRAIN`: its events have a form of their own, so it makes them before it is ready."""
    is_beside: bool = False
    """No target speaks of it: a form may give it fewer rounds."""
    only_full: bool = False
    """It takes so long that the short form leaves it out."""


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
    goal: str = ""
    """The name under which the target stands among the goals of the project, for those that do."""


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
    only_full: bool = False
    """It takes so long that the short form leaves it out."""


@dataclass(frozen=True, slots=True)
class Form:
    """How long a run may take."""

    name: str
    rounds: int
    rounds_beside: int
    """Rounds of the contenders that no target speaks of."""
    load_seconds: float
    drain_scale: float
    latency_events: int
    paced_tasks: int
    idle_seconds: float
    is_whole: bool = True
    """Whether it has the paths and contenders that take longest."""


SHORT: Final = Form("short", 3, 1, 0.6, 0.8, 250, 120, 5.0, is_whole=False)
FULL: Final = Form("full", 5, 3, 2.0, 2.0, 500, 300, 10.0)
SMOKE: Final = Form("smoke", 1, 1, 0.1, 0.05, 10, 5, 1.0)


def shown_in(form: Form, paths: Iterable[Path]) -> list[Path]:
    """What this form measures of these paths."""
    if form.is_whole:
        return list(paths)
    return [_shortened(path) for path in paths if not path.only_full]


def _shortened(path: Path) -> Path:
    contenders = tuple(each for each in path.contenders if not each.only_full)
    labels = {each.label for each in contenders}
    targets = tuple(each for each in path.targets if each.of in labels)
    return replace(path, contenders=contenders, targets=targets)
