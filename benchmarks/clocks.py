"""The counters that stand around a measured region: time, CPU of the server and of the whole machine."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from benchmarks.plan import Measure
from benchmarks.results import Sample
from benchmarks.server import Server

CORES: Final = os.cpu_count() or 1


class Watcher(Protocol):
    """Looks at a process while its region is measured."""

    def begin(self, pid: int) -> None:
        """Look at this process from now on."""

    def end(self) -> None:
        """Look no longer; the process has not been waited for yet."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The counters around a measured region, all in seconds."""

    now: float
    server: float
    machine: float | None

    @classmethod
    def read(cls, server: Server) -> Clocks:
        """The counters at this moment."""
        return cls(time.perf_counter(), server.cpu_seconds(), machine_seconds())


def machine_seconds() -> float | None:
    """CPU time that the whole machine has spent, or None where that cannot be read."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal, *_ = (
        int(value) for value in stat.read_text().splitlines()[0].split()[1:]
    )
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def foreign_share(before: Clocks, after: Clocks, contenders_cpu: float) -> Sample:
    """How much of the machine was used by neither the contenders nor the server."""
    if before.machine is None or after.machine is None:
        return {}
    others = after.machine - before.machine - contenders_cpu - (after.server - before.server)
    whole = (after.now - before.now) * CORES
    # The machine counts in ticks of 10 ms, so a short region can come out below nothing or above all.
    return {Measure.FOREIGN: min(1.0, max(0.0, others / whole))}


def commands_between(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many commands ran between two counts, those inside scripts included."""
    # The session itself has asked for INFO; nobody else on this server does.
    return sum(
        count - before.get(name, 0)
        for name, count in after.items()
        if name.partition("|")[0] != "info"
    )
