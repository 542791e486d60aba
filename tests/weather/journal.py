"""The journal that all processes of a test share, kept outside Redis: a JSON line per fact, written at once.

A SIGKILL takes nothing back. All times are those of CLOCK_MONOTONIC, which is one clock for all processes of a machine.
What the facts mean is for the ledgers.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

FOR_EVER = float("inf")
Span = tuple[float, float]
"""From when to when."""
EXAMPLES = 5
"""How many a verdict shows of what is wrong."""
STALLED = 0.3
"""Seconds by which a process that sleeps briefly is late when it did not get to run."""
_NAME = "journal"


class Journal:
    """Notes facts into the file that all processes share."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / _NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._pid = os.getpid()

    def note(self, what: str, **facts: Any) -> None:
        """A fact of now."""
        line = {"at": time.monotonic(), "pid": self._pid, "what": what, **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """No more facts."""
        os.close(self._file)


class JournalReader:
    """Reads what all of them have noted."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._read = 0

    def read_new(self) -> list[dict[str, Any]]:
        """The facts that were noted since the last time."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        return [msgspec.json.decode(line) for line in data.splitlines()]


class StandstillNotes(logging.Handler):
    """Notes what pulsewire says of an event loop that stands still.

    Args:
        note: is told "standstill", and how long, where, and whose handler it is as far as that was said.
        logger: what is said there, or below it.
    """

    NAMES = ("seconds", "where", "event", "job", "task")

    def __init__(self, note: Callable[..., None], logger: logging.Logger) -> None:
        super().__init__(logging.WARNING)
        self._note = note
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One more; other news are passed over."""
        if hasattr(record, "seconds"):
            said = {name: getattr(record, name) for name in self.NAMES if hasattr(record, name)}
            self._note("standstill", why=record.getMessage(), **said)


def watch_stalls(journal: Journal, over: threading.Event) -> None:
    """Note when this process did not get to run; for a thread of its own."""
    while not over.is_set():
        before = time.monotonic()
        time.sleep(0.05)
        if time.monotonic() - before > STALLED:
            journal.note("stalled", since=before)


def is_within(moment: float, spans: Iterable[Span]) -> bool:
    """Whether it lies in one of them."""
    return any(begin <= moment <= end for begin, end in spans)


def some(examples: Iterable[str]) -> tuple[str, ...]:
    """So many as a verdict shows."""
    return tuple(sorted(examples))[:EXAMPLES]
