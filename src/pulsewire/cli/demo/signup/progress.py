"""Where the act stands: what the journals and Redis said so far, as counts.

Pure: `director.py` feeds it, `view.py` shows the snapshots (`snapshot.py`), `verdict.py` judges what was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pulsewire.cli.demo.attempts import Attempt, Attempts
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import (
    Arrived,
    FlagSeen,
    JobBegan,
    JobOver,
    Ordered,
    Outcome,
    Record,
    Seen,
    SignedUp,
    Switched,
    TaskBegan,
    TaskOver,
)
from pulsewire.cli.demo.queue_counts import QueueCounts
from pulsewire.cli.demo.rate import Rate
from pulsewire.cli.demo.runs import Run, Runs
from pulsewire.cli.demo.signup.cast import (
    COLOURFUL,
    FORM,
    JOB,
    MAILER,
    MAILERS,
    OPERATOR,
    PLAIN,
    SINKS,
    WEB,
    user_of,
)
from pulsewire.cli.demo.signup.snapshot import ProcessRow, SignUpSnapshot, SinkCounts, SinkRow

__all__ = ["Done", "SignUpProgress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One time that a sink handled the event of a user.

    Attributes:
        process: Who did it.
        seen: What it wrote.
    """

    process: str
    seen: Seen


@dataclass(slots=True)
class _Process:
    title: str
    pid: int
    fate: Fate = Fate.STARTING
    consumer: str = ""
    handled: int = 0
    flags: list[FlagSeen] = field(default_factory=list)

    @property
    def form(self) -> str:
        return self.flags[-1].value if self.flags else ""


@dataclass(slots=True)
class _Sink:
    name: str
    done: list[Done] = field(default_factory=list)
    users: set[str] = field(default_factory=set)
    rate: Rate = field(default_factory=Rate)
    counts: SinkCounts | None = None


class SignUpProgress:
    """Counts. All times are given by the caller.

    Attributes:
        signed_up: What the web front wrote.
        ordered: What the mailers wrote of tasks and jobs.
        switched: What the operator wrote; None before.
        queue: What the server says of the queue; None before it was asked.
        is_away: Whether the server has not answered when it was asked last.
    """

    def __init__(self, wanted: int) -> None:
        self.signed_up: list[SignedUp] = []
        self.ordered: list[Ordered] = []
        self.switched: Switched | None = None
        self.queue: QueueCounts | None = None
        self.is_away = False
        self._wanted = wanted
        self._processes: dict[str, _Process] = {}
        self._sinks = {name: _Sink(name) for name in SINKS}
        self._attempts: dict[str, Attempts] = {}
        self._runs: dict[str, Runs] = {}
        self._mailed: set[str] = set()
        self._confirmed: set[str] = set()
        self._jobs: set[str] = set()
        self._refused = 0
        self._rate = Rate()
        self._mail_rate = Rate()
        self._news: list[str] = []

    # --- what is known

    @property
    def done(self) -> dict[str, list[Done]]:
        """What the sinks did, by their names."""
        return {sink.name: sink.done for sink in self._sinks.values()}

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts to send a mail."""
        return [attempt for attempts in self._attempts.values() for attempt in attempts.all]

    @property
    def runs(self) -> list[Run]:
        """All runs of jobs."""
        return [run for runs in self._runs.values() for run in runs.all]

    @property
    def flags(self) -> dict[str, list[FlagSeen]]:
        """What each process saw of the feature flags."""
        return {process.title: process.flags for process in self._processes.values()}

    @property
    def have_all_arrived(self) -> bool:
        """Whether every process is ready."""
        return all(process.fate is not Fate.STARTING for process in self._processes.values())

    @property
    def is_flag_everywhere(self) -> bool:
        """Whether the flag was switched, and every process that lives knows."""
        forms = {process.form for process in self._living}
        return self.switched is not None and forms == {self.switched.value}

    @property
    def has_everybody_signed_up(self) -> bool:
        """Whether all users were told that they have signed up."""
        return len(self.signed_up) >= self._wanted

    @property
    def is_all_done(self) -> bool:
        """Whether all have signed up, and everything was done for all of them."""
        users = {record.user for record in self.signed_up}
        return (
            self.has_everybody_signed_up
            and all(sink.users >= users for sink in self._sinks.values())
            and self._mailed >= users
            and self._confirmed >= users
        )

    @property
    def is_nothing_left(self) -> bool:
        """Whether, as the server says, nothing is to be done any more."""
        sinks = (
            sink.counts is not None and sink.counts.pending == 0 for sink in self._sinks.values()
        )
        return all(sinks) and self.queue is not None and self.queue.to_do == 0 and not self.is_away

    @property
    def mailed(self) -> int:
        """Users to whom a welcome mail was sent."""
        return len(self._mailed)

    @property
    def step(self) -> tuple[int, ...]:
        """Changes whenever something went on."""
        return (
            len(self.signed_up),
            *(len(sink.users) for sink in self._sinks.values()),
            len(self._mailed),
            len(self._confirmed),
            sum(process.fate is not Fate.STARTING for process in self._processes.values()),
        )

    @property
    def _living(self) -> list[_Process]:
        """Those that were not killed; they may have ended by now."""
        fates = (Fate.WORKING, Fate.STOPPED)
        return [process for process in self._processes.values() if process.fate in fates]

    def consumer_of(self, title: str) -> str:
        """The name that a process has in its sink's group."""
        return self._processes[title].consumer

    def load_of(self, title: str) -> tuple[int, int]:
        """How many jobs and mails a worker is at."""
        return len(self._runs[title].open), len(self._attempts[title].open)

    # --- what is told

    def add(self, title: str, pid: int, worker: int | None = None) -> None:
        """Take note of a process that was started; of a worker with its number."""
        self._processes[title] = _Process(title, pid)
        if worker is not None:
            self._runs[title], self._attempts[title] = Runs(worker), Attempts(worker)

    def died(self, title: str, at: float) -> tuple[int, int]:
        """A process was killed. Returns how many jobs and mails have ended with it."""
        self._processes[title].fate = Fate.KILLED
        if title not in self._runs:
            return 0, 0
        return len(self._runs[title].cut(at)), len(self._attempts[title].cut(at))

    def stopped(self, title: str) -> None:
        """A process has ended as it should."""
        if self._processes[title].fate is not Fate.KILLED:
            self._processes[title].fate = Fate.STOPPED

    def set_sink(self, name: str, counts: SinkCounts) -> None:
        """Say how a sink stands."""
        if name in self._sinks:
            self._sinks[name].counts = counts

    def tell(self, elapsed: float, news: str) -> None:
        """Take note of something that happened `elapsed` seconds after the start."""
        self._news.append(f"{elapsed:5.1f} s  {news}")

    def take(self, title: str, records: Iterable[Record]) -> None:
        """Take in what a process wrote."""
        process = self._processes[title]
        for record in records:
            match record:
                case Arrived():
                    process.fate, process.consumer = Fate.WORKING, record.consumer
                case FlagSeen():
                    process.flags.append(record)
                case SignedUp():
                    self.signed_up.append(record)
                case Switched():
                    self.switched = record
                case Seen():
                    self._take_seen(process, record)
                case Ordered():
                    self.ordered.append(record)
                    if record.what == JOB:
                        self._jobs.add(record.user)
                case _:
                    self._take_work(title, record)

    def _take_seen(self, process: _Process, record: Seen) -> None:
        sink = self._sinks[MAILER if process.title in MAILERS else process.title]
        sink.done.append(Done(process=process.title, seen=record))
        sink.users.add(record.user)
        process.handled += 1

    def _take_work(self, title: str, record: Record) -> None:
        runs, attempts = self._runs[title], self._attempts[title]
        match record:
            case JobBegan():
                runs.begin(record)
            case JobOver():
                if runs.end(record).is_done:
                    self._confirmed.add(user_of(record.job))
            case TaskBegan():
                attempts.begin(record)
            case TaskOver():
                attempt = attempts.end(record)
                self._refused += attempt.outcome is Outcome.FAILED
                if attempt.has_succeeded:
                    self._mailed.add(attempt.task)
            case _:
                raise AssertionError(f"nobody writes this in a sign-up flow: {record}")

    # --- what is shown

    def snapshot(self, elapsed: float) -> SignUpSnapshot:
        """Return what to show, `elapsed` seconds after the start."""
        forms = Counter(process.form for process in self._living if process.form)
        form, reached = forms.most_common(1)[0] if forms else (PLAIN, 0)
        if self.switched is not None:
            form, reached = COLOURFUL, forms[COLOURFUL]
        jobs = sum(len(runs.open) for runs in self._runs.values())
        return SignUpSnapshot(
            wanted=self._wanted,
            signed_up=len(self.signed_up),
            mailed=len(self._mailed),
            confirmed=len(self._confirmed),
            refused=self._refused,
            rate=self._rate.at(elapsed, len(self.signed_up)),
            mail_rate=self._mail_rate.at(elapsed, len(self._mailed)),
            form=f"{FORM} = {form}",
            reached=reached,
            living=len(self._living),
            jobs=jobs,
            waiting=max(len(self._jobs - self._confirmed) - jobs, 0),
            queue=self.queue,
            is_away=self.is_away,
            elapsed=elapsed,
            sinks=tuple(
                SinkRow(
                    name=sink.name,
                    handled=len(sink.users),
                    rate=sink.rate.at(elapsed, len(sink.users)),
                    counts=sink.counts,
                )
                for sink in self._sinks.values()
            ),
            processes=self.rows(),
            news=tuple(self._news),
        )

    def rows(self) -> tuple[ProcessRow, ...]:
        """Return what is known of each process."""
        return tuple(self._row(process) for process in self._processes.values())

    def _row(self, process: _Process) -> ProcessRow:
        is_worker = process.title in self._runs
        jobs, mails = self.load_of(process.title) if is_worker else (0, 0)
        return ProcessRow(
            title=process.title,
            pid=process.pid,
            fate=process.fate,
            form=process.form,
            jobs=jobs,
            mails=mails,
            did=self._did(process, is_worker=is_worker),
        )

    def _did(self, process: _Process, *, is_worker: bool) -> str:
        if is_worker:
            runs, attempts = self._runs[process.title], self._attempts[process.title]
            done = sum(run.is_done for run in runs.over)
            sent, failed = attempts.count(Outcome.DONE), attempts.count(Outcome.FAILED)
            return f"{done:,} jobs, {sent:,} mails sent, {failed:,} refused"
        if process.title == WEB:
            return f"{len(self.signed_up):,} users"
        if process.title == OPERATOR:
            return "" if self.switched is None else f"switched {self.switched.flag}"
        return f"{process.handled:,} events"
