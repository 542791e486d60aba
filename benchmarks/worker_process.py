"""One running worker of a task library, seen from outside: its CPU time, its memory, its end.

A worker may be several processes, so everything is summed over the tree below the one that was started. What the tree
is and what it uses is read from /proc, so workers can be measured on Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from benchmarks.contender_process import ContenderFailed, environment_with_root, last_words

PROC: Final = Path("/proc")
END_SECONDS: Final = 5.0
TICK: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class WorkerProcess:
    """A worker; leaving its `with` block kills all its processes."""

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: str) -> None:
        if not (PROC / "self" / "task").exists():
            raise ContenderFailed("a worker is measured through /proc, which is not there")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env={**environment_with_root(), **environment},
            cwd=folder,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The first one goes first, lest it replace the others.
        for pid in self._tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(END_SECONDS)
        self._said.close()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def check(self) -> None:
        """Raise when it has ended."""
        if self._process.poll() is not None:
            raise ContenderFailed(f"the worker ended: {last_words(self._said)}")

    def last_words(self) -> str:
        """What it has written last."""
        return last_words(self._said)

    def cpu_seconds(self) -> float:
        """CPU time of all its processes, also of those that have ended and were waited for."""
        return sum(_own_seconds(pid) + _ended_seconds(pid) for pid in self._tree())

    def rss_mib(self) -> float:
        """Resident memory of all its processes."""
        return sum(_resident_bytes(pid) for pid in self._tree()) / 2**20

    def _tree(self) -> list[int]:
        """It and all processes below it."""
        found = [self._process.pid]
        for pid in found:
            found += _children(pid)
        return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        tasks = (PROC / str(pid) / "task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def _own_seconds(pid: int) -> float:
    """By the process's own clock, which is exact; /proc counts in ticks of 10 ms."""
    clock = (
        ~pid << 3
    ) | 2  # CLOCK_PROCESS_CPUTIME_ID of another process, as clock_getcpuclockid(3) makes it
    with contextlib.suppress(OSError):
        return time.clock_gettime(clock)
    return 0.0


def _ended_seconds(pid: int) -> float:
    """CPU time of the children that it has waited for."""
    with contextlib.suppress(OSError):
        # The name before the last bracket may hold anything.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / TICK
    return 0.0


def _resident_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    return 0
