"""Where the act stands: what the journals and the inspector said so far, as counts.

Pure: `director.py` feeds it, `view.py` shows what `snapshot` returns, `verdict.py` judges the attempts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pulsewire.cli.demo.attempts import Attempt, Attempts
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import (
    Arrived,
    Bundled,
    Enqueued,
    Fired,
    Outcome,
    Record,
    Refused,
    TaskBegan,
    TaskOver,
)
from pulsewire.cli.demo.queue_counts import QueueCounts
from pulsewire.cli.demo.rate import Rate
from pulsewire.cli.demo.tasks.workload import QUEUES, TICK, Kind, Order

__all__ = [
    "QueueRow",
    "ServerRow",
    "TasksProgress",
    "TasksSnapshot",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One queue as it is shown.

    Attributes:
        name: Its name.
        weight: Its share, while all queues have tasks.
        wanted: Tasks there will be.
        succeeded: Different ones that have succeeded.
        rate: Tasks that succeeded per second of late.
        counts: Where the others are.
    """

    name: str
    weight: int
    wanted: int
    succeeded: int
    rate: float
    counts: QueueCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """One server as it is shown.

    Attributes:
        number: Which of them, from 1.
        pid: Its process id.
        fate: What it is at.
        running: Attempts that run there now.
        succeeded: Attempts that succeeded there.
        failed: Attempts that failed there.
        again: Tasks that the killed server was running, and were run again here.
        shown: How many tasks of which type it runs, as the inspector says.
    """

    number: int
    pid: int
    fate: Fate
    running: int
    succeeded: int
    failed: int
    again: int
    shown: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksSnapshot:
    """Everything the live view shows.

    Attributes:
        wanted: Tasks there will be.
        enqueued: Tasks that the client was told of.
        succeeded: Different ones that have succeeded, or their group has.
        rate: Tasks that succeeded per second of late.
        failures: Attempts that have failed.
        refused: Tasks that were refused.
        ticks: Ticks that were handled.
        elapsed: Seconds since the start of the act.
        queues: One row each.
        servers: One row each.
        news: What happened so far that is worth a sentence, each with its time.
    """

    wanted: int
    enqueued: int
    succeeded: int
    rate: float
    failures: int
    refused: int
    ticks: int
    elapsed: float
    queues: tuple[QueueRow, ...]
    servers: tuple[ServerRow, ...]
    news: tuple[str, ...]


@dataclass(slots=True)
class _Server:
    number: int
    pid: int
    attempts: Attempts
    fate: Fate = Fate.STARTING
    again: int = 0
    shown: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Queue:
    name: str
    wanted: int
    succeeded: int = 0
    rate: Rate = field(default_factory=Rate)
    counts: QueueCounts = field(default_factory=QueueCounts)


class TasksProgress:
    """Counts. All times are given by the caller."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self.enqueued: list[Enqueued] = []
        self.refused: list[Refused] = []
        self.fired: dict[str, list[Fired]] = {}
        self.bundles: list[Bundled] = []
        self._orders = {order.task: order for order in orders}
        self._twins = sum(bool(order.twin) for order in orders)
        self._accepted: set[str] = set()
        self._succeeded: set[str] = set()
        self._done: set[str] = set()
        self._ticks: set[str] = set()
        self._held: set[str] = set()
        self._helpers_arrived: dict[str, bool] = {}
        self._servers: dict[int, _Server] = {}
        wanted = Counter(order.queue for order in orders)
        self._queues = {name: _Queue(name, wanted[name]) for name in QUEUES}
        self._rate = Rate()
        self._news: list[str] = []

    # --- what is known

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts so far."""
        return [attempt for server in self._servers.values() for attempt in server.attempts.all]

    @property
    def have_all_arrived(self) -> bool:
        """Whether every process is ready."""
        servers = (server.fate is not Fate.STARTING for server in self._servers.values())
        return all(servers) and all(self._helpers_arrived.values())

    @property
    def succeeded(self) -> int:
        """How many different tasks of the client have succeeded, or their group has."""
        return len(self._succeeded)

    @property
    def is_all_enqueued(self) -> bool:
        """Whether the client was told of everything that it has asked for."""
        return len(self.enqueued) + len(self.refused) >= len(self._orders) + self._twins

    @property
    def is_all_done(self) -> bool:
        """Whether everything was enqueued, and every task that was accepted has succeeded."""
        return self.is_all_enqueued and self._accepted <= self._succeeded

    @property
    def is_busy(self) -> bool:
        """Whether some attempt runs."""
        return any(server.attempts.open for server in self._servers.values())

    @property
    def is_group_done(self) -> bool:
        """Whether every member of the group is in a bundle that has succeeded."""
        return all(
            task in self._succeeded
            for task, order in self._orders.items()
            if order.kind is Kind.MEMBER
        )

    @property
    def to_do(self) -> int:
        """Tasks that are still to be run, as the inspector says."""
        return sum(queue.counts.to_do for queue in self._queues.values())

    @property
    def step(self) -> tuple[int, ...]:
        """Changes whenever something went on, other than ticks: these never end by themselves."""
        return (
            len(self.enqueued) + len(self.refused),
            len(self._succeeded),
            sum(self._helpers_arrived.values()),
            sum(server.fate is Fate.WORKING for server in self._servers.values()),
        )

    def running_at(self, number: int) -> int:
        """How many attempts run at a server."""
        return len(self._servers[number].attempts.open)

    # --- what is told

    def add_server(self, number: int, pid: int) -> None:
        """Take note of a process that was started, and runs tasks."""
        self._servers[number] = _Server(number, pid, Attempts(number))

    def add_helper(self, title: str) -> None:
        """Take note of another process that was started."""
        self._helpers_arrived[title] = False
        self.fired[title] = []

    def set_fate(self, number: int, fate: Fate) -> None:
        """Say what became of a server."""
        self._servers[number].fate = fate

    def set_counts(self, queue: str, counts: QueueCounts) -> None:
        """Say where the tasks of a queue are."""
        self._queues[queue].counts = counts

    def set_shown(self, by_pid: Mapping[int, Mapping[str, int]]) -> None:
        """Say what each server runs: by process id, how many tasks of which type."""
        for server in self._servers.values():
            server.shown = by_pid.get(server.pid, {}) if server.fate is Fate.WORKING else {}

    def died(self, number: int, at: float) -> int:
        """A server was killed: its attempts have ended. Returns how many they were."""
        server = self._servers[number]
        server.fate, server.shown = Fate.KILLED, {}
        cut = server.attempts.cut(at)
        self._held = {attempt.task for attempt in cut}
        return len(cut)

    def tell(self, elapsed: float, news: str) -> None:
        """Take note of something that happened `elapsed` seconds after the start."""
        self._news.append(f"{elapsed:5.1f} s  {news}")

    def from_helper(self, title: str, records: Iterable[Record]) -> None:
        """Take in what the client, or a scheduler, wrote."""
        for record in records:
            match record:
                case Arrived():
                    self._helpers_arrived[title] = True
                case Enqueued():
                    self.enqueued.append(record)
                    self._accepted.add(record.task)
                case Refused():
                    self.refused.append(record)
                case Fired():
                    self.fired[title].append(record)
                case _:
                    raise AssertionError("only servers run tasks")

    def from_server(self, number: int, records: Iterable[Record]) -> None:
        """Take in what a server wrote."""
        server = self._servers[number]
        for record in records:
            match record:
                case Arrived():
                    server.fate = Fate.WORKING
                case TaskBegan():
                    server.attempts.begin(record)
                    if record.task in self._held:
                        self._held.discard(record.task)
                        server.again += 1
                case TaskOver():
                    attempt = server.attempts.end(record)
                    if record.outcome is Outcome.DONE:
                        self._has_succeeded(attempt)
                case Bundled():
                    self.bundles.append(record)
                    self._spread(record)
                case _:
                    raise AssertionError("servers enqueue no tasks")

    def _has_succeeded(self, attempt: Attempt) -> None:
        self._done.add(attempt.task)
        if attempt.task_type == TICK:
            self._ticks.add(attempt.task)
        self._count(attempt.task)
        for bundle in self.bundles:
            if bundle.task == attempt.task:
                self._spread(bundle)

    def _spread(self, bundle: Bundled) -> None:
        """Count the members of a bundle when it has succeeded. Its journals may be read in either order."""
        if bundle.task in self._done:
            for task in bundle.members:
                self._count(task)

    def _count(self, task: str) -> None:
        order = self._orders.get(task)
        if order is not None and task not in self._succeeded:
            self._succeeded.add(task)
            self._queues[order.queue].succeeded += 1

    # --- what is shown

    def snapshot(self, elapsed: float) -> TasksSnapshot:
        """Return what to show, `elapsed` seconds after the start."""
        servers = self.rows()
        return TasksSnapshot(
            wanted=len(self._orders),
            enqueued=len(self.enqueued),
            succeeded=len(self._succeeded),
            rate=self._rate.at(elapsed, len(self._succeeded)),
            failures=sum(row.failed for row in servers),
            refused=len(self.refused),
            ticks=len(self._ticks),
            elapsed=elapsed,
            queues=tuple(
                QueueRow(
                    name=queue.name,
                    weight=QUEUES[queue.name],
                    wanted=queue.wanted,
                    succeeded=queue.succeeded,
                    rate=queue.rate.at(elapsed, queue.succeeded),
                    counts=queue.counts,
                )
                for queue in self._queues.values()
            ),
            servers=servers,
            news=tuple(self._news),
        )

    def rows(self) -> tuple[ServerRow, ...]:
        """Return what is known of each server."""
        return tuple(
            ServerRow(
                number=server.number,
                pid=server.pid,
                fate=server.fate,
                running=len(server.attempts.open),
                succeeded=server.attempts.count(Outcome.DONE),
                failed=server.attempts.count(Outcome.FAILED),
                again=server.again,
                shown=server.shown,
            )
            for server in self._servers.values()
        )
