"""What a worker and a producer of any library are told, and the bodies of the two tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.contenders.tasks.journal import JOURNAL_VARIABLE, URL_VARIABLE, Journal

URL: Final = os.environ[URL_VARIABLE]
JOURNAL: Final = Journal(Path(os.environ[JOURNAL_VARIABLE]))

CONCURRENCY: Final = 100
"""Of every worker that runs its tasks on an event loop, or on goroutines."""
QUEUE: Final = "default"
WORK: Final = "work"
TIMED: Final = "timed"


class Call(NamedTuple):
    """One task to enqueue: `work(index, body)` or `timed(index, sent)`."""

    name: str
    arguments: Mapping[str, int | str]


def work(index: int, body: str = "") -> None:  # noqa: ARG001 - it is only carried
    """The task that does nothing."""
    JOURNAL.note(index)


def timed(index: int, sent: int) -> None:
    """The task that was enqueued at `sent` and says how long ago that was."""
    JOURNAL.note_age(index, sent)
