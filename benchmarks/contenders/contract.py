"""What every contender shares: its options, the start signal, the measured region, the load.

A contender prints `{"ready": true}` when everything is prepared, reads one line as the signal to
begin, and ends with one line of JSON: operations, seconds, CPU seconds of its own, for latency the
samples, and figures of other kinds. `go/main.go` speaks the same contract. The side that starts
contenders and samples the server around the measured region is `contender_process`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import re
import resource
import sys
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.plan import Measure

EVENT_NAME: Final = "bench.event"
STREAM_LIMIT: Final = 1000
"""The default stream length of pulsewire and of Go Pulse; the plain peers trim to it as well."""
MAX_POLLED: Final = 1000
BLOCK_SECONDS: Final = 5.0
LATENCY_SKIP: Final = 20
"""The first events of a latency run warm both sides up and are not counted."""
MAP_KEYS: Final = 1000
"""Keys of a map that is read from or written to."""
LAST_KEY: Final = "last"
"""The key of the last notice that a hearing run sends."""
READS_UNROLLED: Final = 20
READS_A_TURN: Final = 5000
PAUSE_SECONDS: Final = (0.005, 0.010)
"""Between two events of a latency run; random, so that no poller can fall in step with it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every contender understands."""

    url: str
    stream: str
    """Name of the stream, the map or the pool."""
    group: str
    callers: int
    seconds: float
    warm_up: float
    events: int
    payload: int
    seed: int
    retain: str
    """pulsewire only: `unacked` or `none`."""
    way: str
    """Which of several ways to consume or to read is measured, where a contender has several."""
    maps: int
    """For a fleet: how many maps, `<stream>-0` and so on."""
    workers: int
    """For a node of a pool: how many. The pool is named by `stream`."""
    jobs: int
    """For a dispatcher: how many run before anything is measured. For a survivor: how many there are."""
    ttl: float
    """For a node of a pool: `worker_ttl`."""
    pause: float
    """For a producer of tasks: the mean of the seconds between two."""

    @property
    def key(self) -> str:
        """The Redis key of the stream, the same for all contenders."""
        return f"pulse:stream:{self.stream}"

    @property
    def content(self) -> str:
        """The Redis key of the map, the same for all contenders."""
        return content_of(self.stream)

    @property
    def updates(self) -> str:
        """The channel of the map's notices."""
        return updates_of(self.stream)

    @property
    def body(self) -> bytes:
        """The payload of an event that carries nothing."""
        return b"x" * self.payload


@dataclass(slots=True)
class Measured:
    """What happened in the measured region; the role fills in the first two."""

    operations: int = 0
    samples_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    """What the role has measured beside that, under the names of `plan.Measure`."""


Role = Callable[[Settings, Measured], Awaitable[None]]


def content_of(name: str) -> str:
    """The Redis key of a map."""
    return f"map:{name}:content"


def updates_of(name: str) -> str:
    """The channel of a map's notices."""
    return f"map:{name}:updates"


def cpu_seconds() -> float:
    """CPU time of this process, its threads and its ended children, user and system."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


async def wait_for_go() -> None:
    """Say that everything is prepared, and return when the measurement may begin."""
    say({"ready": True})
    await wait_for_signal()


async def wait_for_signal() -> None:
    """Return when the session has sent another line."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


@contextmanager
def region(measured: Measured) -> Iterator[None]:
    """Take the time and the CPU of what runs inside."""
    cpu, begin = cpu_seconds(), time.perf_counter()
    yield
    measured.seconds = time.perf_counter() - begin
    measured.cpu_seconds = cpu_seconds() - cpu


async def drive(operation: Callable[[], Awaitable[object]], callers: int, seconds: float) -> int:
    """Let so many callers await the operation again and again; returns how often it was done."""
    deadline = time.perf_counter() + seconds
    clock = time.perf_counter

    async def caller() -> int:
        count = 0
        while clock() < deadline:
            await operation()
            count += 1
        return count

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller()) for _ in range(callers)]
    return sum(task.result() for task in tasks)


async def measure_load(
    operation: Callable[[], Awaitable[object]], settings: Settings, measured: Measured
) -> None:
    """Warm up, wait for the signal, and drive the operation for the settings' time."""
    await drive(operation, settings.callers, settings.warm_up)
    await wait_for_go()
    with region(measured):
        measured.operations = await drive(operation, settings.callers, settings.seconds)


async def spaced(settings: Settings) -> AsyncIterator[None]:
    """The moments at which a latency run acts: one for each event, warming up included."""
    # Load for a benchmark, nothing secret.
    pauses = random.Random(settings.seed)
    for _ in range(settings.events + LATENCY_SKIP):
        await asyncio.sleep(pauses.uniform(*PAUSE_SECONDS))
        yield


async def publish_spaced(
    add: Callable[[bytes], Awaitable[object]], settings: Settings, measured: Measured
) -> None:
    """Add events that carry the time of their own `add`, some milliseconds apart."""
    await wait_for_go()
    with region(measured):
        async for _ in spaced(settings):
            await add(stamp(settings.payload))
    measured.operations = settings.events


def stamp(size: int) -> bytes:
    """A payload of that size which says when it was made, by the clock that processes share."""
    return b"%-*d" % (size, time.clock_gettime_ns(time.CLOCK_MONOTONIC))


def age_ms(payload: bytes | str | int) -> float:
    """How long ago `stamp` made this payload, in milliseconds."""
    return (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(payload)) / 1e6


def map_keys() -> Iterator[str]:
    """The keys that a map's writers use, in turn and without end."""
    return itertools.cycle([f"key-{index}" for index in range(MAP_KEYS)])


def latency_keys() -> Iterator[str]:
    """The keys of a latency run, each used once."""
    return (f"key-{index}" for index in itertools.count())


async def measure_reads(
    statement: str, source: object, settings: Settings, measured: Measured
) -> None:
    """Evaluate `statement`, in which `source` and `key` may stand, for the settings' time.

    Nothing is waited for, so the CPU time is the time, and others on the machine cannot stretch it.
    """
    timer = timeit.Timer(
        "; ".join([statement] * READS_UNROLLED),
        setup="source, key = given, wanted",
        globals={"given": source, "wanted": f"key-{MAP_KEYS // 2}"},
    )
    timer.timeit(READS_A_TURN)
    await wait_for_go()
    with region(measured):
        deadline = time.perf_counter() + settings.seconds
        while time.perf_counter() < deadline:
            timer.timeit(READS_A_TURN)
            measured.operations += READS_A_TURN * READS_UNROLLED
    measured.seconds = measured.cpu_seconds


async def measure_fleet(join: Callable[[], Awaitable[object]], measured: Measured) -> None:
    """Join the maps, then do nothing until the second signal."""
    memory, begin = pss_mib(), time.perf_counter()
    await join()
    measured.figures[Measure.JOIN_MS] = (time.perf_counter() - begin) * 1e3
    await wait_for_go()
    with region(measured):
        await wait_for_signal()
    measured.figures[Measure.PSS_MIB] = pss_mib() - memory
    measured.operations = 1


def pss_mib() -> float:
    """Memory of this process, pages shared with other processes in part; 0 where it is not known."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB$", rollup.read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def parse(arguments: list[str], roles: Mapping[str, Role]) -> tuple[str, Settings]:
    """The role and the settings of a command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=sorted(roles))
    parser.add_argument("--url", required=True)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--group", default="bench")
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warm-up", type=float, default=0.2)
    parser.add_argument("--events", type=int, default=1)
    parser.add_argument("--payload", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--retain", default="unacked")
    parser.add_argument("--way", default="")
    parser.add_argument("--maps", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--ttl", type=float, default=30.0)
    parser.add_argument("--pause", type=float, default=0.02)
    found = vars(parser.parse_args(arguments))
    return found.pop("role"), Settings(**found)


def run(roles: Mapping[str, Role]) -> None:
    """The whole life of a contender: parse, run the role on uvloop, print the outcome."""
    role, settings = parse(sys.argv[1:], roles)
    measured = Measured()

    async def main() -> None:
        await roles[role](settings, measured)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    report(measured)


def report(measured: Measured) -> None:
    """Print the outcome."""
    outcome = {
        "operations": measured.operations,
        "seconds": measured.seconds,
        "cpu_seconds": measured.cpu_seconds,
        "samples_ms": measured.samples_ms,
        "figures": measured.figures,
    }
    say(outcome)


def say(answer: Mapping[str, object]) -> None:
    """Write a line for the session. Unlike `print`, which loses the rest when a pipe takes only a part."""
    left = memoryview(json.dumps(answer).encode() + b"\n")
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]
