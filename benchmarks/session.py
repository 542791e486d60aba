"""The rounds of a run: every contender of a path in turn, again and again, on one server.

Around the measured region of each contender stand two samples of the server's CPU and of the whole
machine's, so that each rate comes with what it cost on both sides and with how much of the machine
somebody else was using.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Final

from benchmarks.clocks import Clocks, Watcher, commands_between, foreign_share
from benchmarks.contender_process import (
    ContenderFailed,
    ContenderProcess,
    Outcome,
    command_of,
)
from benchmarks.contenders.contract import EVENT_NAME, MAP_KEYS, content_of
from benchmarks.plan import PAYLOAD_BYTES, Contender, Form, Measure, Path, Program, Shape
from benchmarks.pool_rounds import PoolRounds
from benchmarks.results import PathResult, Row, Sample, percentile
from benchmarks.server import Server
from benchmarks.task_programs import Peers
from benchmarks.task_rounds import TaskRounds

RUN_SECONDS: Final = 60.0
"""A contender that takes longer than this has failed."""
SETTLE_SECONDS: Final = 1.0
"""An idle process may still be finishing its start."""
COUNTED: Final = (Shape.IDLE, Shape.FLEET)
"""Shapes that one round is enough for."""


class Session:
    """Measures paths on one server."""

    def __init__(
        self, server: Server, form: Form, peers: Peers, watcher: Watcher | None = None
    ) -> None:
        self._server = server
        self._form = form
        self._peers = peers
        self._run = 0
        self._loaded: set[str] = set()
        self._watcher = watcher
        self._pools = PoolRounds(server, self._start, watcher)
        self._tasks = TaskRounds(server, form, peers, self._start, watcher)

    def measure(self, block: str, path: Path, advance: Callable[[str], None]) -> PathResult:
        """All rounds of one path; `advance` hears of each contender before it runs."""
        rows = {each.label: Row(each.label, each.program) for each in path.contenders}
        for turn in range(self._form.rounds):
            for contender in path.contenders:
                if turn >= self.rounds_of(contender):
                    continue
                advance(f"{path.title}: {contender.label}")
                row = rows[contender.label]
                # One failure says enough: the other rounds would only repeat it.
                if row.failure:
                    continue
                try:
                    row.samples.append(self.sample(contender))
                except ContenderFailed as failed:
                    row.failure = str(failed)
        return PathResult(block, path, rows)

    def rounds_of(self, contender: Contender) -> int:
        """How often the contender runs; counting commands needs no repetition."""
        if contender.shape in COUNTED:
            return 1
        return self._form.rounds_beside if contender.is_beside else self._form.rounds

    def steps(self, paths: Sequence[Path]) -> int:
        """How many contenders will run in all."""
        return sum(self.rounds_of(each) for path in paths for each in path.contenders)

    def sample(self, contender: Contender) -> Sample:
        """One round of one contender.

        Raises:
            ContenderFailed: when it could not be measured.
        """
        self._run += 1
        match contender.shape:
            case Shape.LOAD:
                return self._load(contender)
            case Shape.DRAIN:
                return self._drain(contender)
            case Shape.PAIR | Shape.SPACED:
                return self._latency(contender)
            case Shape.HEAR:
                return self._hear(contender)
            case Shape.LOCAL | Shape.REMOTE:
                return self._read(contender)
            case Shape.FLEET:
                return self._fleet(contender)
            case Shape.IDLE:
                return self._idle(contender)
            case Shape.DISPATCH | Shape.FAILOVER:
                return self._pools.sample(contender, f"bench-pool-{self._run}")
            case Shape.ENQUEUE | Shape.TASKS | Shape.PACE | Shape.BACKLOG:
                return self._tasks.sample(contender)

    def _start(
        self,
        contender: Contender,
        stream: str,
        *,
        program: Program | None = None,
        command: Sequence[str] = (),
        role: str = "",
        events: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> ContenderProcess:
        arguments: dict[str, str | int | float] = {
            "url": self._server.url,
            "stream": stream,
            "group": self._group(),
            "seconds": self._form.load_seconds,
            "events": events,
            "payload": PAYLOAD_BYTES,
            "seed": self._run,
            **contender.options,
        }
        words = [role or contender.role]
        for name, value in arguments.items():
            words += [f"--{name}", str(value)]
        started = list(command) or command_of(program or contender.program, self._peers)
        return ContenderProcess(started, words, environment)

    @contextmanager
    def _watched(self, process: ContenderProcess) -> Iterator[None]:
        if self._watcher:
            self._watcher.begin(process.pid)
        yield
        if self._watcher:
            self._watcher.end()

    def _load(self, contender: Contender) -> Sample:
        stream = f"bench-load-{self._run}"
        with self._start(contender, stream) as process:
            process.wait_ready()
            with self._watched(process):
                before = Clocks.read(self._server)
                process.signal()
                outcome = process.outcome(RUN_SECONDS)
                sample = self._costs(before, outcome, outcome.cpu_seconds)
        self._remove(stream)
        return sample

    def _remove(self, name: str) -> None:
        """What a contender has left of its stream or map."""
        self._server.client.delete(f"pulse:stream:{name}", content_of(name))

    def _forget_sinks(self, stream: str) -> None:
        """Delete what Go Pulse keeps in Redis about a sink of this run."""
        self._server.remove(f"stream:{stream}:sinks")
        self._server.remove(f"sink:{self._group()}:")

    def _group(self) -> str:
        return f"bench-{self._run}"

    def _read(self, contender: Contender) -> Sample:
        found = dict(self._load(contender))
        found[Measure.NS] = 1e9 / found.pop(Measure.RATE)
        if contender.shape is Shape.LOCAL:  # the server has no part in it
            del found[Measure.CLIENT_US], found[Measure.SERVER_US]
        return found

    def _drain(self, contender: Contender) -> Sample:
        events = int(contender.events * self._form.drain_scale)
        stream = f"bench-drain-{self._run if contender.fills_itself else events}"
        key = f"pulse:stream:{stream}"
        if not contender.fills_itself and key not in self._loaded:
            self._server.load(key, events, b"x" * PAYLOAD_BYTES, EVENT_NAME)
            self._loaded.add(key)
        with self._start(contender, stream, events=events) as process:
            process.wait_ready()
            with self._watched(process):
                before = Clocks.read(self._server)
                process.signal()
                outcome = process.outcome(RUN_SECONDS)
                sample = self._costs(before, outcome, outcome.cpu_seconds)
            pending = self._server.pending(key)
        self._server.drop_groups(key)
        self._forget_sinks(stream)
        if contender.fills_itself:
            self._server.client.delete(key)
        if pending or outcome.operations != events:
            raise ContenderFailed(
                f"{outcome.operations} of {events} events were handled, {pending} left pending"
            )
        return sample

    def _latency(self, contender: Contender) -> Sample:
        stream = f"bench-latency-{self._run}"
        events = self._form.latency_events
        with ExitStack() as stack:
            receiver = stack.enter_context(self._start(contender, stream, events=events))
            receiver.wait_ready()
            sender = receiver
            if contender.shape is Shape.PAIR:
                sender = stack.enter_context(
                    self._start(contender, stream, role=contender.sender, events=events)
                )
                sender.wait_ready()
                receiver.signal()
            before = Clocks.read(self._server)
            sender.signal()
            outcome = received = sender.outcome(RUN_SECONDS)
            cpu = outcome.cpu_seconds
            if receiver is not sender:
                received = receiver.outcome(RUN_SECONDS)
                cpu += received.cpu_seconds
            sample = self._costs(before, outcome, cpu)
        self._remove(stream)
        self._forget_sinks(stream)
        if len(received.samples_ms) != events:
            raise ContenderFailed(f"{len(received.samples_ms)} of {events} events arrived")
        found: dict[Measure, float] = dict(sample)
        # The rate is that of the pauses and says nothing.
        del found[Measure.RATE]
        found[Measure.P50_MS] = percentile(received.samples_ms, 0.50)
        found[Measure.P99_MS] = percentile(received.samples_ms, 0.99)
        return found

    def _hear(self, contender: Contender) -> Sample:
        name = f"bench-hear-{self._run}"
        events = int(contender.events * self._form.drain_scale)
        with (
            self._start(contender, name, events=events) as receiver,
            self._start(
                contender, name, program=Program.PROBE, role=contender.sender, events=events
            ) as sender,
        ):
            receiver.wait_ready()
            sender.wait_ready()
            with self._watched(receiver):
                before = Clocks.read(self._server)
                receiver.signal()
                sender.signal()
                sent = sender.outcome(RUN_SECONDS)
                outcome = receiver.outcome(RUN_SECONDS)
            sample = dict(self._costs(before, outcome, outcome.cpu_seconds))
            if Measure.FOREIGN in sample:
                sample.update(
                    foreign_share(
                        before,
                        Clocks.read(self._server),
                        outcome.cpu_seconds + sent.cpu_seconds,
                    )
                )
        self._remove(name)
        if outcome.operations != events:
            raise ContenderFailed(f"{outcome.operations} of {events} changes were heard")
        return sample

    def _fleet(self, contender: Contender) -> Sample:
        name = f"bench-fleet-{self._run}"
        names = [f"{name}-{index}" for index in range(int(contender.options["maps"]))]
        empty = self._server.memory_bytes()
        for each in names:
            self._server.load_map(content_of(each), MAP_KEYS, b"x" * PAYLOAD_BYTES)
        with ExitStack() as stack:
            processes = []
            # One after the other, so that each joins undisturbed.
            for _ in range(contender.processes):
                process = stack.enter_context(self._start(contender, name))
                processes.append(process)
                process.wait_ready()
            for process in processes:
                process.signal()
            time.sleep(SETTLE_SECONDS)
            before, counts = Clocks.read(self._server), self._server.command_counts()
            time.sleep(self._form.idle_seconds)
            after, later = Clocks.read(self._server), self._server.command_counts()
            full = self._server.memory_bytes()
            for process in processes:
                process.signal()
            outcomes = [process.outcome(RUN_SECONDS) for process in processes]
        self._server.client.delete(*map(content_of, names))
        seconds = after.now - before.now
        return {
            Measure.COMMANDS: commands_between(counts, later) / seconds,
            Measure.CLIENT_MINUTE: median(
                each.cpu_seconds / each.seconds * 60 for each in outcomes
            ),
            Measure.SERVER_MINUTE: (after.server - before.server) / seconds * 60,
            Measure.SERVER_MIB: (full - empty) / 2**20,
            **{
                measure: median(each.figures[measure] for each in outcomes)
                for measure in (Measure.JOIN_MS, Measure.PSS_MIB)
            },
            **foreign_share(before, after, sum(each.cpu_seconds for each in outcomes)),
        }

    def _idle(self, contender: Contender) -> Sample:
        stream = f"bench-idle-{self._run}"
        with self._start(contender, stream) as process:
            process.wait_ready()
            process.signal()
            time.sleep(SETTLE_SECONDS)
            before, counts = Clocks.read(self._server), self._server.command_counts()
            time.sleep(self._form.idle_seconds)
            after, later = Clocks.read(self._server), self._server.command_counts()
            process.signal()
            process.outcome(RUN_SECONDS)
        seconds = after.now - before.now
        return {
            Measure.COMMANDS: commands_between(counts, later) / seconds,
            **foreign_share(before, after, 0.0),
        }

    def _costs(self, before: Clocks, outcome: Outcome, client_cpu: float) -> Sample:
        after = Clocks.read(self._server)
        if not outcome.operations or not outcome.seconds:
            raise ContenderFailed("it did nothing")
        return {
            Measure.RATE: outcome.operations / outcome.seconds,
            Measure.CLIENT_US: client_cpu / outcome.operations * 1e6,
            Measure.SERVER_US: (after.server - before.server) / outcome.operations * 1e6,
            **foreign_share(before, after, client_cpu),
        }
