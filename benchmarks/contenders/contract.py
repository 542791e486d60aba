"""What every contender shares: its options, the start signal, the measured region, the load.

A contender prints `{"ready": true}` when everything is prepared, reads one line as the signal to
begin, and ends with one line of JSON: operations, seconds, CPU seconds of its own, and for latency
the samples. `go/main.go` speaks the same contract. The side that starts contenders and samples the
server around the measured region is `contender_process`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import uvloop

EVENT_NAME: Final = "bench.event"
STREAM_LIMIT: Final = 1000
"""The default stream length of pulsewire and of Go Pulse; the plain peers trim to it as well."""
MAX_POLLED: Final = 1000
BLOCK_SECONDS: Final = 5.0
LATENCY_SKIP: Final = 20
"""The first events of a latency run warm both sides up and are not counted."""
PAUSE_SECONDS: Final = (0.005, 0.010)
"""Between two events of a latency run; random, so that no poller can fall in step with it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every contender understands."""

    url: str
    stream: str
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
    """Which of several ways to consume is measured, where a contender has several."""

    @property
    def key(self) -> str:
        """The Redis key of the stream, the same for all contenders."""
        return f"pulse:stream:{self.stream}"

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


Role = Callable[[Settings, Measured], Awaitable[None]]


def cpu_seconds() -> float:
    """CPU time of this process, its threads and its ended children, user and system."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


async def wait_for_go() -> None:
    """Say that everything is prepared, and return when the measurement may begin."""
    print(json.dumps({"ready": True}), flush=True)
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


def age_ms(payload: bytes) -> float:
    """How long ago `stamp` made this payload, in milliseconds."""
    return (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(payload)) / 1e6


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
    outcome = {
        "operations": measured.operations,
        "seconds": measured.seconds,
        "cpu_seconds": measured.cpu_seconds,
        "samples_ms": measured.samples_ms,
    }
    print(json.dumps(outcome), flush=True)
