"""The file in which every worker notes, without a word to the server, which tasks it has run and how old they were.

It is mapped into the memory of all processes: the session that looks on, and the workers, forked ones included. One
slot for each task holds its age in nanoseconds at its start, another one byte that counts how often it ran. `go/asynq`
writes the same.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import Final, Self

URL_VARIABLE: Final = "PULSEWIRE_BENCH_URL"
JOURNAL_VARIABLE: Final = "PULSEWIRE_BENCH_JOURNAL"
"""By these every process is told of its server and of its journal."""

AGE_BYTES: Final = 8
SLOT_BYTES: Final = AGE_BYTES + 1


class Journal:
    """A mapped journal; tasks are numbered from 0."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.slots = len(self._map) // SLOT_BYTES
        self._first_count = AGE_BYTES * self.slots
        whole = memoryview(self._map)
        self._ages = whole[: self._first_count].cast("q")
        self._counts = whole[self._first_count :]

    @classmethod
    def create(cls, path: Path, slots: int) -> Self:
        """An empty journal for so many tasks."""
        path.write_bytes(bytes(SLOT_BYTES * slots))
        return cls(path)

    def note(self, index: int) -> None:
        """The task has run (once more)."""
        self._counts[index] += 1

    def note_age(self, index: int, sent: int) -> None:
        """The task, enqueued at `sent` by the clock that processes share, has started."""
        self._ages[index] = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - sent
        self._counts[index] += 1

    def ran(self) -> int:
        """How many tasks have run at least once."""
        return self.slots - bytes(self._counts).count(0)

    def has_run(self, index: int) -> bool:
        """Whether this task has run."""
        return self._counts[index] > 0

    def ran_too_often(self) -> int:
        """How many executions were one too many."""
        return sum(count - 1 for count in bytes(self._counts) if count > 1)

    def ages_ms(self) -> list[float]:
        """How old each task was when it started, in milliseconds."""
        return [age / 1e6 for age in self._ages]
