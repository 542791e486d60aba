"""The rounds of tasks: one program enqueues, one worker of a library runs what it finds, a journal says what happened.

Every round has an empty database. A worker is started on tasks that wait already; the measured region begins when it
has run a fifth of them, so that nobody's start is counted, and ends when all have run and the server holds none any
more, neither waiting nor in progress.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.clocks import Clocks, Watcher, commands_between, foreign_share
from benchmarks.contender_process import ContenderFailed, ContenderProcess
from benchmarks.contenders.contract import LATENCY_SKIP
from benchmarks.contenders.tasks.journal import JOURNAL_VARIABLE, URL_VARIABLE, Journal
from benchmarks.plan import Contender, Form, Measure, Program, Shape
from benchmarks.results import Sample, percentile
from benchmarks.server import Server
from benchmarks.task_programs import Peers, left_in, producer_command, worker_command
from benchmarks.worker_process import WorkerProcess

RUN_SECONDS: Final = 120.0
"""A worker or a producer that takes longer than this has failed."""
STUCK_SECONDS: Final = 20.0
"""As has a worker that runs nothing for so long."""
WARM_SHARE: Final = 0.2
LOOK_SECONDS: Final = 0.005
SETTLE_SECONDS: Final = 0.2
"""After enqueuing, so that the server is at rest when the worker comes."""
FEWEST: Final = 10
"""Tasks of a run, however short the form."""
DATABASE: Final = 1
"""Emptied before each round. Number 0 belongs to the other paths."""
BACKLOGS: Final = 2
"""The first of the databases that keep their scheduled tasks from round to round."""

Starter = Callable[..., ContenderProcess]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a round happens."""

    url: str
    client: Redis
    journal: Journal
    folder: str
    environment: dict[str, str]


class TaskRounds:
    """Runs task contenders on one server; `start` starts one process that enqueues."""

    def __init__(
        self,
        server: Server,
        form: Form,
        peers: Peers,
        start: Starter,
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher
        self._server = server
        self._form = form
        self._peers = peers
        self._start = start
        self._backlogs: dict[Program, int] = {}

    def sample(self, contender: Contender) -> Sample:
        """One round of a contender."""
        runs = {
            Shape.ENQUEUE: self.enqueue,
            Shape.TASKS: self.tasks,
            Shape.PACE: self.pace,
            Shape.BACKLOG: self.backlog,
        }
        return runs[contender.shape](contender)

    def enqueue(self, contender: Contender) -> Sample:
        """Enqueue for the form's time."""
        with self._place(1) as place, self._producer(contender, place, contender.role) as producer:
            producer.wait_ready()
            if self._watcher:
                self._watcher.begin(producer.pid)
            before = Clocks.read(self._server)
            producer.signal()
            outcome = producer.outcome(RUN_SECONDS)
            after = Clocks.read(self._server)
            if self._watcher:
                self._watcher.end()
            found = left_in(contender.program, place.client)
        if found != outcome.figures[Measure.QUEUED]:
            raise ContenderFailed(
                f"{outcome.figures[Measure.QUEUED]:.0f} were enqueued, {found} are there"
            )
        count = outcome.operations
        return {
            Measure.RATE: count / outcome.seconds,
            Measure.CLIENT_US: outcome.cpu_seconds / count * 1e6,
            Measure.SERVER_US: (after.server - before.server) / count * 1e6,
            **foreign_share(before, after, outcome.cpu_seconds),
        }

    def tasks(self, contender: Contender, database: int = DATABASE) -> Sample:
        """Let a worker run what waits for it."""
        tasks = max(FEWEST, int(contender.events * self._form.drain_scale))
        with self._place(tasks, database) as place:
            self._enqueue_all(contender, place, "fill", tasks)
            time.sleep(SETTLE_SECONDS)
            with self._worker(contender, place) as worker:
                self._wait_ran(worker, place, int(tasks * WARM_SHARE))
                if self._watcher:
                    self._watcher.begin(worker.pid)
                counts, cpu = self._server.command_counts(), worker.cpu_seconds()
                before, begun = Clocks.read(self._server), place.journal.ran()
                self._wait_ran(worker, place, tasks)
                self._wait_none_left(contender, worker, place)
                after, worked = Clocks.read(self._server), worker.cpu_seconds() - cpu
                later, memory = self._server.command_counts(), worker.rss_mib()
                if self._watcher:
                    self._watcher.end()
        count = tasks - begun
        if not count:
            raise ContenderFailed("it was done before anything could be measured")
        return {
            Measure.RATE: count / (after.now - before.now),
            Measure.WORKER_US: worked / count * 1e6,
            Measure.SERVER_US: (after.server - before.server) / count * 1e6,
            Measure.COMMANDS_EACH: commands_between(counts, later) / count,
            Measure.RSS_MIB: memory,
            Measure.TOO_OFTEN: place.journal.ran_too_often(),
            **foreign_share(before, after, worked),
        }

    def pace(self, contender: Contender, database: int = DATABASE) -> Sample:
        """Enqueue now and then; how long until each task starts."""
        share = contender.events or self._form.paced_tasks
        tasks = min(share, self._form.paced_tasks) + LATENCY_SKIP
        # One more: the first task only shows that the worker is there.
        with (
            self._place(tasks + 1, database) as place,
            self._worker(contender, place) as worker,
            self._producer(contender, place, "pace", tasks) as producer,
        ):
            self._wait_ready(producer, worker)
            cpu, before = worker.cpu_seconds(), Clocks.read(self._server)
            producer.signal()
            outcome = producer.outcome(RUN_SECONDS)
            self._wait_ran(worker, place, tasks + 1)
            after, worked = Clocks.read(self._server), worker.cpu_seconds() - cpu
            self._wait_none_left(contender, worker, place)
            memory = worker.rss_mib()
            ages = place.journal.ages_ms()[LATENCY_SKIP + 1 :]
        return {
            Measure.P50_MS: percentile(ages, 0.50),
            Measure.P99_MS: percentile(ages, 0.99),
            Measure.CLIENT_US: outcome.cpu_seconds / tasks * 1e6,
            Measure.WORKER_US: worked / tasks * 1e6,
            Measure.SERVER_US: (after.server - before.server) / tasks * 1e6,
            Measure.RSS_MIB: memory,
            **foreign_share(before, after, outcome.cpu_seconds + worked),
        }

    def backlog(self, contender: Contender) -> Sample:
        """Rate and latency of ready tasks, beside the scheduled ones."""
        database = self._backlog(contender) if contender.scheduled else DATABASE
        worked, paced = dict(self.tasks(contender, database)), self.pace(contender, database)
        for measure in (Measure.P50_MS, Measure.P99_MS):
            worked[measure] = paced[measure]
        worked[Measure.RSS_MIB] = max(worked[Measure.RSS_MIB], paced[Measure.RSS_MIB])
        return worked

    def _backlog(self, contender: Contender) -> int:
        """A database with so many scheduled tasks, filled in the first round and kept for the others."""
        if contender.program not in self._backlogs:
            database = BACKLOGS + len(self._backlogs)
            tasks = max(FEWEST, int(contender.scheduled * min(1.0, self._form.drain_scale)))
            with self._place(1, database) as place:
                self._enqueue_all(contender, place, "schedule", tasks)
            self._backlogs[contender.program] = database
        return self._backlogs[contender.program]

    @contextmanager
    def _place(self, tasks: int, database: int = DATABASE) -> Iterator[Place]:
        url = self._server.url_of(database)
        with (
            tempfile.TemporaryDirectory(prefix="pulsewire-bench-") as folder,
            self._server.database(database) as client,
        ):
            path = Path(folder) / "journal"
            environment = {URL_VARIABLE: url, JOURNAL_VARIABLE: str(path)}
            journal = Journal.create(path, tasks)
            if database == DATABASE:
                client.flushdb()
            yield Place(url, client, journal, folder, environment)
            if database == DATABASE:
                client.flushdb()

    def _producer(
        self, contender: Contender, place: Place, role: str, tasks: int = 0
    ) -> ContenderProcess:
        program = contender.producer or contender.program
        return self._start(
            contender,
            "",
            command=producer_command(program, self._peers),
            role=role,
            events=tasks,
            environment=place.environment,
        )

    def _worker(self, contender: Contender, place: Place) -> WorkerProcess:
        command = worker_command(contender.program, contender.role, self._peers, place.url)
        return WorkerProcess(command, place.environment, place.folder)

    def _enqueue_all(self, contender: Contender, place: Place, role: str, tasks: int) -> None:
        with self._producer(contender, place, role, tasks) as producer:
            producer.wait_ready()
            producer.signal()
            producer.outcome(RUN_SECONDS)
        waiting = left_in(contender.program, place.client)
        wanted = tasks if role == "fill" else 0
        if waiting != wanted:
            raise ContenderFailed(f"{waiting} of {wanted} tasks are waiting")

    def _wait_ready(self, producer: ContenderProcess, worker: WorkerProcess) -> None:
        try:
            producer.wait_ready()
        except ContenderFailed as failed:
            worker.check()
            raise ContenderFailed(f"{failed}; the worker says: {worker.last_words()}") from None

    def _wait_ran(self, worker: WorkerProcess, place: Place, tasks: int) -> None:
        """Return when so many tasks have run."""
        ran, moved = 0, time.monotonic()
        while (now := place.journal.ran()) < tasks:
            if now > ran:
                ran, moved = now, time.monotonic()
            elif time.monotonic() > moved + STUCK_SECONDS:
                said = worker.last_words()
                raise ContenderFailed(f"{now} of {tasks} tasks have run; the worker says: {said}")
            worker.check()
            time.sleep(LOOK_SECONDS)

    def _wait_none_left(self, contender: Contender, worker: WorkerProcess, place: Place) -> None:
        """Return when the server holds no task that waits or is in progress."""
        deadline = time.monotonic() + STUCK_SECONDS
        while left := left_in(contender.program, place.client):
            if time.monotonic() > deadline:
                raise ContenderFailed(f"all tasks have run, but {left} are left in the server")
            worker.check()
            time.sleep(LOOK_SECONDS)
