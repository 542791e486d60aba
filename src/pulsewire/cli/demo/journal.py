"""The journals: files in which the processes of the demo write what they did, out of the server's reach.

One JSON object a line, each written with a single call, so that a process killed at any moment leaves whole lines and
at most one cut at the very end. Reading takes up where it stopped, and leaves a line that is not whole for the next
time. Whether the content is right is for `verdict.py`.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

__all__ = [
    "Arrived",
    "Bundled",
    "Enqueued",
    "Fired",
    "FlagSeen",
    "Handled",
    "JobBegan",
    "JobOver",
    "JournalReader",
    "JournalWriter",
    "Ordered",
    "Outcome",
    "Published",
    "Record",
    "Refused",
    "Seen",
    "SignedUp",
    "Switched",
    "TaskBegan",
    "TaskOver",
]


class Arrived(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A process is ready: it is connected, has joined its group, has its worker, or runs tasks.

    Attributes:
        pid: Its process id.
        consumer: Its name in the group; empty for all but consumers.
    """

    pid: int
    consumer: str = ""


class Published(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The server has a ticket. Written by the publisher when the call returned."""

    event: str
    ticket: str
    at: float


class Handled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The work for a ticket is done. Written by the consumer before it acknowledges the event.

    Attributes:
        event: Event id.
        ticket: Ticket number.
        consumer: Who did it.
        started: When, in seconds of the wall clock.
        ended: When, likewise.
        deliveries: How many times the event had been handed to somebody, this time included.
    """

    event: str
    ticket: str
    consumer: str
    started: float
    ended: float
    deliveries: int


class JobBegan(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A job runs in a node. Written before the job does anything.

    Attributes:
        job: Its key.
        token: Its fencing token.
        at: When, in seconds of the machine's monotonic clock, which all its processes share.
    """

    job: str
    token: int
    at: float


class JobOver(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A job does not run in a node any more. Written when it does nothing more.

    Attributes:
        job: Its key.
        token: Its fencing token.
        at: When, in seconds of the machine's monotonic clock.
        is_done: Whether it has come to its own end.
    """

    job: str
    token: int
    at: float
    is_done: bool = False


class Enqueued(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The server has a task. Written by the client when the call returned.

    Attributes:
        task: Its id.
        asked: When the call began, in seconds of the machine's monotonic clock, which all its processes share.
        at: When it returned, likewise.
    """

    task: str
    asked: float
    at: float


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The server has not taken a task. Written by the client when the call returned.

    Attributes:
        task: The id that it would have had.
        error: The class of the error.
        why: What the error says.
    """

    task: str
    error: str
    why: str


class Fired(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The server has the task of a tick. Written by the scheduler that enqueued it, when the call returned.

    Attributes:
        task: Its id.
        at: When the server took it, in seconds of the server's clock.
    """

    task: str
    at: float


class Outcome(StrEnum):
    """How an attempt to run a task ended."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class TaskBegan(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A server runs a task. Written before the handler does anything.

    Attributes:
        attempt: Number of the attempt, unique in its process.
        task: The task's id.
        task_type: What kind of work it is.
        queue: Where it waited.
        retried: How often it has failed before, as Redis says.
        at: When, in seconds of the machine's monotonic clock.
    """

    attempt: int
    task: str
    task_type: str
    queue: str
    retried: int
    at: float


class TaskOver(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An attempt is over. Written when the handler does nothing more, and before Redis is told.

    Attributes:
        attempt: Which one.
        outcome: How it ended.
        result: What the handler asked to be kept.
        at: When, in seconds of the machine's monotonic clock.
    """

    attempt: int
    outcome: Outcome
    result: str
    at: float


class SignedUp(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A user has signed up: the server has the event. Written by the web front when the call returned.

    Attributes:
        user: Who.
        event: Its id.
        asked: When the call began, in seconds of the machine's monotonic clock, which all its processes share.
        at: When it returned, likewise.
    """

    user: str
    event: str
    asked: float
    at: float


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A sink has handled the event of a user. Written by its consumer before it acknowledges the event.

    Attributes:
        user: Who had signed up.
        event: Its id.
        began: When it was begun, in seconds of the machine's monotonic clock.
        at: When it was done, likewise.
        deliveries: How many times the event had been handed to somebody, this time included.
    """

    user: str
    event: str
    began: float
    at: float
    deliveries: int


class Ordered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The server has a task or a job for a user. Written by the mailer when the call returned.

    Attributes:
        what: Which of them.
        user: For whom.
        is_new: Whether this call has brought it there; else it was there already.
    """

    what: str
    user: str
    is_new: bool


class FlagSeen(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A process sees a feature flag change. Written by each when its copy of the map has it.

    Attributes:
        flag: Its name.
        value: What it is now.
        at: When, in seconds of the machine's monotonic clock.
    """

    flag: str
    value: str
    at: float


class Switched(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The operator has switched a feature flag. Written when the call returned.

    Attributes:
        flag: Its name.
        value: What it is now.
        asked: When the call began, in seconds of the machine's monotonic clock.
        at: When it returned, likewise.
    """

    flag: str
    value: str
    asked: float
    at: float


class Bundled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A server makes one task of the members of a group. Written before the server's reply is known.

    Attributes:
        task: The id of the new task.
        members: The ids of those that it stands for.
    """

    task: str
    members: tuple[str, ...]


Record = (
    Arrived
    | Published
    | Handled
    | JobBegan
    | JobOver
    | Enqueued
    | Refused
    | Fired
    | TaskBegan
    | TaskOver
    | Bundled
    | SignedUp
    | Seen
    | Ordered
    | FlagSeen
    | Switched
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_LINE_END = b"\n"


class JournalWriter:
    """Appends records to one file. Belongs to one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, record: Record) -> None:
        """Append one record. When this returns, a kill of the process does not take it away.

        Raises:
            OSError: It could not be written, or not whole: the disk is full.
        """
        line = _encoder.encode(record) + _LINE_END
        if os.write(self._file, line) != len(line):
            raise OSError(f"could not write a whole line to {self._path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)


class JournalReader:
    """Reads the records of one file as they appear."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def read_new(self) -> list[Record]:
        """Return the records written since the last call. A file that is not there yet has none."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except FileNotFoundError:
            return []
        whole = fresh.rfind(_LINE_END) + 1
        self._read += whole
        return [_decoder.decode(line) for line in fresh[:whole].splitlines()]
