"""The runs of jobs at one node, as its journal tells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pulsewire.cli.demo.journal import JobBegan, JobOver

__all__ = ["Run", "Runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One time that a job ran somewhere.

    Attributes:
        job: Its key.
        node: Where.
        token: Its fencing token.
        began: When, in seconds of the machine's monotonic clock.
        ended: When, likewise; None while it runs.
        is_done: Whether the job had come to its own end.
    """

    job: str
    node: int
    token: int
    began: float
    ended: float | None = None
    is_done: bool = False


@dataclass(slots=True)
class Runs:
    """All runs at one node.

    Attributes:
        node: Which one.
        open: Those that go on, by job and token.
        over: Those that have ended.
    """

    node: int
    open: dict[tuple[str, int], Run] = field(default_factory=dict)
    over: list[Run] = field(default_factory=list)

    @property
    def all(self) -> list[Run]:
        """Those that have ended, and those that go on."""
        return [*self.over, *self.open.values()]

    def begin(self, record: JobBegan) -> Run:
        """A run has begun."""
        run = Run(job=record.job, node=self.node, token=record.token, began=record.at)
        self.open[record.job, record.token] = run
        return run

    def end(self, record: JobOver) -> Run:
        """A run is over."""
        run = self.open.pop((record.job, record.token))
        ended = replace(run, ended=record.at, is_done=record.is_done)
        self.over.append(ended)
        return ended

    def cut(self, at: float) -> list[Run]:
        """The node was killed: what went on has ended."""
        cut = [replace(run, ended=at) for run in self.open.values()]
        self.over.extend(cut)
        self.open.clear()
        return cut
