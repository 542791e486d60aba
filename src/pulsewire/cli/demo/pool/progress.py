"""Where the act stands: what the journals and the dispatches said so far, as counts.

Pure: `director.py` feeds it, `view.py` shows what `snapshot` returns, `verdict.py` judges the runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import Arrived, JobBegan, JobOver, Record
from pulsewire.cli.demo.runs import Run, Runs

__all__ = ["NodeRow", "PoolProgress", "PoolSnapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node as it is shown.

    Attributes:
        number: Which of them, from 1.
        pid: Its process id.
        fate: What it is at.
        running: Jobs that run there now.
        begun: Runs that it has begun.
        taken: How many of these were of jobs that had run elsewhere before.
    """

    number: int
    pid: int
    fate: Fate
    running: int
    begun: int
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """Everything the live view shows.

    Attributes:
        wanted: Jobs there will be.
        started: Dispatches that have returned.
        running: Jobs that run now.
        moves: Runs of jobs that had run elsewhere before.
        elapsed: Seconds since the start of the act.
        nodes: One row each.
        news: What happened so far that is worth a sentence, each with its time.
    """

    wanted: int
    started: int
    running: int
    moves: int
    elapsed: float
    nodes: tuple[NodeRow, ...]
    news: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    number: int
    pid: int
    runs: Runs
    fate: Fate = Fate.STARTING


class PoolProgress:
    """Counts. All times are given by the caller."""

    def __init__(self, wanted: int) -> None:
        self.started = 0
        self._wanted = wanted
        self._nodes: dict[int, _Node] = {}
        self._news: list[str] = []
        self._first: dict[str, tuple[int, int]] = {}

    @property
    def runs(self) -> list[Run]:
        """All runs so far."""
        return [run for node in self._nodes.values() for run in node.runs.all]

    @property
    def have_all_arrived(self) -> bool:
        """Whether every node has its worker in the pool."""
        return all(node.fate is not Fate.STARTING for node in self._nodes.values())

    @property
    def step(self) -> tuple[int, ...]:
        """Changes whenever something went on."""
        counts = (len(node.runs.over) + len(node.runs.all) for node in self._nodes.values())
        return (
            self.started,
            sum(node.fate is Fate.WORKING for node in self._nodes.values()),
            *counts,
        )

    def running_at(self, number: int) -> int:
        """How many jobs run at a node."""
        return len(self._nodes[number].runs.open)

    def add_node(self, number: int, pid: int) -> None:
        """Take note of a process that was started."""
        self._nodes[number] = _Node(number, pid, Runs(number))

    def set_fate(self, number: int, fate: Fate) -> None:
        """Say what became of a node."""
        self._nodes[number].fate = fate

    def died(self, number: int, at: float) -> int:
        """A node was killed: its runs have ended. Returns how many they were."""
        node = self._nodes[number]
        node.fate = Fate.KILLED
        return len(node.runs.cut(at))

    def tell(self, elapsed: float, news: str) -> None:
        """Take note of something that happened `elapsed` seconds after the start."""
        self._news.append(f"{elapsed:5.1f} s  {news}")

    def from_node(self, number: int, records: Iterable[Record]) -> None:
        """Take in what a node wrote."""
        node = self._nodes[number]
        for record in records:
            match record:
                case Arrived():
                    node.fate = Fate.WORKING
                case JobBegan():
                    node.runs.begin(record)
                    first = self._first.get(record.job)
                    if first is None or record.token < first[0]:
                        self._first[record.job] = (record.token, number)
                case JobOver():
                    node.runs.end(record)
                case _:
                    raise AssertionError("nodes handle no tickets")

    def snapshot(self, elapsed: float) -> PoolSnapshot:
        """Return what to show, `elapsed` seconds after the start."""
        rows = self.rows()
        return PoolSnapshot(
            wanted=self._wanted,
            started=self.started,
            running=sum(row.running for row in rows),
            moves=sum(row.taken for row in rows),
            elapsed=elapsed,
            nodes=rows,
            news=tuple(self._news),
        )

    def rows(self) -> tuple[NodeRow, ...]:
        """Return what is known of each node."""
        return tuple(
            NodeRow(
                number=node.number,
                pid=node.pid,
                fate=node.fate,
                running=len(node.runs.open),
                begun=len(node.runs.all),
                taken=sum(run.token > self._first[run.job][0] for run in node.runs.all),
            )
            for node in self._nodes.values()
        )
