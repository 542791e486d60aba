"""Where the microseconds of one operation go: in our code, in the libraries below it, in the kernel, in the server.

A sampling profiler (py-spy) looks at the process while a path runs for some seconds. Its samples share out the time
that the process spends in user mode; what it spends in the kernel is counted by the kernel itself. Both become shares,
and a report multiplies them with the cost that was measured without a profiler.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.contender_process import ContenderFailed
from benchmarks.plan import Contender, Form, Measure
from benchmarks.plan import Path as BenchmarkPath
from benchmarks.results import Budget, Part
from benchmarks.server import Server, private_server
from benchmarks.session import Session
from benchmarks.task_programs import Peers

FORM: Final = Form("budget", 1, 1, 2.5, 4.0, 10, 10, 1.0)
"""Long enough for several hundred samples."""
DISPATCHES: Final = 10_000
SAMPLES_A_SECOND: Final = 500
FEWEST_SAMPLES: Final = 100
ATTACH_SECONDS: Final = 20.0
END_SECONDS: Final = 20.0
PROC: Final = Path("/proc")

PROFILED: Final = (
    ("add", "pulsewire", Measure.CLIENT_US),
    ("sink", "pulsewire, consume", Measure.CLIENT_US),
    ("reader", "pulsewire", Measure.CLIENT_US),
    ("map-set", "pulsewire", Measure.CLIENT_US),
    ("map-hear", "pulsewire", Measure.CLIENT_US),
    ("pool-dispatch", "pulsewire, 1 node", Measure.NODES_US),
    ("tasks-enqueue", "pulsewire", Measure.CLIENT_US),
    ("tasks-drain", "pulsewire", Measure.WORKER_US),
)
"""Path, contender, and whose cost it is."""

_FRAME: Final = re.compile(r"(.*) \(([^()]*?)(?::\d+)?\)$")
WAITING: Final = frozenset(
    {
        *("epoll_wait", "epoll_pwait", "poll", "select", "clock_nanosleep"),
        *("PyThread_acquire_lock_timed", "pthread_cond_wait", "pthread_cond_timedwait"),
        *("sem_wait", "sem_timedwait", "sem_clockwait"),
    }
)
"""Frames below which a thread waits and costs nothing."""
SYSTEM_CALLS: Final = frozenset(
    {"read", "write", "writev", "send", "sendmsg", "sendto", "recv", "recvmsg", "recvfrom"}
)
"""Frames below which the time is the kernel's, which counts it itself."""
LIBUV: Final = frozenset(
    {"loop.c", "core.c", "linux.c", "stream.c", "loop-watcher.c", "queue.h", "timer.c", "uv.c"}
)
HIREDIS: Final = frozenset({"hiredis.c", "read.c", "sds.c", "alloc.h", "pack.c", "reader.c"})
PLACES: Final[Mapping[str, Part]] = {
    "pulsewire/_redis/": Part.CONNECTION,
    "pulsewire/": Part.FEATURE,
    "benchmarks/": Part.CALLER,
    "hiredis": Part.PARSER,
    "asyncio/": Part.LOOP,
    "_asyncio": Part.LOOP,
    "uvloop": Part.LOOP,
    "anyio/": Part.LOOP,
    "msgspec": Part.CODECS,
    "google/": Part.CODECS,
}
"""How a file's name begins, after the folder of the packages; the first that fits counts."""


class Stack(NamedTuple):
    """A stack that was seen so often; the innermost frame is the last."""

    frames: tuple[str, ...]
    seen: int


def parse(collapsed: str) -> list[Stack]:
    """The stacks of py-spy's raw format."""
    found = []
    for line in collapsed.splitlines():
        frames, _, count = line.rpartition(" ")
        if frames and count.isdigit():
            found.append(Stack(tuple(frames.split(";")), int(count)))
    return found


def part_of(frames: Iterable[str]) -> Part | None:
    """To whom a sample belongs; None when its thread waited."""
    matched = [_FRAME.match(frame) for frame in frames]
    places = [(found[1], found[2]) for found in matched if found]
    if any(name in WAITING for name, _ in places):
        return None
    if places and places[-1][0] in SYSTEM_CALLS:
        return Part.KERNEL
    for _, file in reversed(places):
        if (part := _part_of_file(file)) is not None:
            return part
    return Part.OTHER


def _part_of_file(file: str) -> Part | None:
    if file in LIBUV:
        return Part.LOOP
    if file in HIREDIS:
        return Part.PARSER
    return next((part for begin, part in PLACES.items() if file.startswith(begin)), None)


def shares_of(stacks: Iterable[Stack]) -> tuple[dict[Part, float], int]:
    """How user mode is shared out, and by how many samples."""
    counts: Counter[Part] = Counter()
    for stack in stacks:
        part = part_of(stack.frames)
        if part not in {None, Part.KERNEL}:
            counts[part or Part.OTHER] += stack.seen
    samples = counts.total()
    return {part: counts[part] / samples for part in Part if counts[part]}, samples


def chosen(path: BenchmarkPath) -> tuple[Contender, Measure] | None:
    """What is profiled of a path."""
    for key, label, whose in PROFILED:
        for contender in path.contenders:
            if (path.key, contender.label) == (key, label):
                if whose is Measure.NODES_US:
                    return replace(contender, events=DISPATCHES), whose
                return contender, whose
    return None


def measure(
    paths: Iterable[BenchmarkPath], peers: Peers, say: Callable[[str], None]
) -> list[Budget]:
    """The budgets of those paths that have one; says who is left out and why."""
    wanted = [(path, *found) for path in paths if (found := chosen(path))]
    if wanted and (reason := missing()):
        say(f"There is no budget: {reason}")
        return []
    budgets = []
    with private_server() as server:
        for path, contender, whose in wanted:
            say(f"budget: {path.title} …")
            watch = Watch(server)
            try:
                Session(server, FORM, peers, watch).sample(contender)
                budgets.append(watch.taken(path.key, contender.label, whose))
            except ContenderFailed as failed:
                say(f"  is left out: {failed}")
            finally:
                watch.close()
    return budgets


def missing() -> str:
    """Why there cannot be a budget, or nothing."""
    if not _program().exists():
        return "py-spy is not installed"
    if not (PROC / "self" / "stat").exists():
        return "there is no /proc"
    return ""


def _program() -> Path:
    beside = Path(sys.executable).with_name("py-spy")
    return beside if beside.exists() else Path(shutil.which("py-spy") or beside)


class Watch:
    """Looks at one process and at the server, from `begin` to `end`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._found: Budget | None = None
        self._pid = 0
        self._spy: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._before = (0.0, 0.0, 0.0, 0.0)

    def begin(self, pid: int) -> None:
        """Attach; returns when the profiler samples."""
        self._folder = tempfile.TemporaryDirectory(prefix="pulsewire-bench-")
        self._pid = pid
        self._spy = subprocess.Popen(
            [
                *(str(_program()), "record", "--native", "--format", "raw", "--pid", str(pid)),
                *("--rate", str(SAMPLES_A_SECOND), "--output", str(self._file)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._wait_attached()
        self._before = self._clocks()

    def end(self) -> None:
        """Detach and read what was seen; the process still runs or has reported."""
        if self._spy is None:
            raise AssertionError("it has begun")
        process, server = self._clocks()[:2], self._clocks()[2:]
        self._spy.send_signal(signal.SIGINT)
        self._spy.communicate(timeout=END_SECONDS)
        shares, samples = shares_of(parse(self._file.read_text(errors="replace")))
        if samples < FEWEST_SAMPLES:
            raise ContenderFailed(f"the profiler has seen it {samples} times only")
        before = self._before
        self._found = Budget(
            "",
            "",
            Measure.CLIENT_US,
            _share(process[1] - before[1], process[0] - before[0]),
            _share(server[1] - before[3], server[0] - before[2]),
            shares,
            samples,
        )

    def taken(self, path: str, label: str, whose: Measure) -> Budget:
        """What was found."""
        if self._found is None:
            raise ContenderFailed("nothing of it was seen")
        return replace(self._found, path=path, label=label, whose=whose)

    def close(self) -> None:
        """End the profiler, whatever it is doing."""
        if self._spy is not None:
            if self._spy.poll() is None:
                self._spy.kill()
            self._spy.wait()
            if self._spy.stdout is not None:
                self._spy.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _file(self) -> Path:
        if self._folder is None:
            raise AssertionError("it has begun")
        return Path(self._folder.name) / "stacks"

    def _wait_attached(self) -> None:
        """Return when the profiler has opened its process: it then says that it samples."""
        if self._spy is None or self._spy.stdout is None:
            raise AssertionError("it has just been started, with a pipe")
        os.set_blocking(self._spy.stdout.fileno(), False)
        deadline, said = time.monotonic() + ATTACH_SECONDS, b""
        while b"Sampling process" not in said:
            if self._spy.poll() is not None or time.monotonic() > deadline:
                raise ContenderFailed(f"py-spy cannot look at it: {said.decode(errors='replace')}")
            said += self._spy.stdout.read() or b""
            time.sleep(0.01)

    def _clocks(self) -> tuple[float, float, float, float]:
        """User and system seconds of the process, then of the server."""
        fields = (PROC / str(self._pid) / "stat").read_text().rpartition(")")[2].split()
        cpu = self._server.info("cpu")
        return (
            float(fields[11]),
            float(fields[12]),
            float(cpu["used_cpu_user"]),
            float(cpu["used_cpu_sys"]),
        )


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else 0.0
