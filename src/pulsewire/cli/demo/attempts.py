"""The attempts to run tasks at one server, as its journal tells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pulsewire.cli.demo.journal import Outcome, TaskBegan, TaskOver

__all__ = ["Attempt", "Attempts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One time that a task was run.

    Attributes:
        task: Its id.
        task_type: What kind of work it is.
        queue: Where it waited.
        server: Who ran it.
        retried: How often it had failed before, as Redis said.
        began: When, in seconds of the machine's monotonic clock.
        ended: When, likewise; None while it runs.
        outcome: How; None while it runs, and if its server was killed.
        result: What the handler asked to be kept.
    """

    task: str
    task_type: str
    queue: str
    server: int
    retried: int
    began: float
    ended: float | None = None
    outcome: Outcome | None = None
    result: str = ""

    @property
    def has_succeeded(self) -> bool:
        """Whether the handler has returned."""
        return self.outcome is Outcome.DONE


@dataclass(slots=True)
class Attempts:
    """All attempts at one server.

    Attributes:
        server: Which one.
        open: Those that go on, by their number.
        over: Those that have ended.
    """

    server: int
    open: dict[int, Attempt] = field(default_factory=dict)
    over: list[Attempt] = field(default_factory=list)

    @property
    def all(self) -> list[Attempt]:
        """Those that have ended, and those that go on."""
        return [*self.over, *self.open.values()]

    def count(self, outcome: Outcome) -> int:
        """How many have ended so."""
        return sum(attempt.outcome is outcome for attempt in self.over)

    def begin(self, record: TaskBegan) -> Attempt:
        """An attempt has begun."""
        attempt = Attempt(
            task=record.task,
            task_type=record.task_type,
            queue=record.queue,
            server=self.server,
            retried=record.retried,
            began=record.at,
        )
        self.open[record.attempt] = attempt
        return attempt

    def end(self, record: TaskOver) -> Attempt:
        """An attempt is over."""
        attempt = self.open.pop(record.attempt)
        ended = replace(attempt, ended=record.at, outcome=record.outcome, result=record.result)
        self.over.append(ended)
        return ended

    def cut(self, at: float) -> list[Attempt]:
        """The server was killed: what went on has ended."""
        cut = [replace(attempt, ended=at) for attempt in self.open.values()]
        self.over.extend(cut)
        self.open.clear()
        return cut
