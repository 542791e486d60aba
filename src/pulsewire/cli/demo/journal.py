"""The journals: files in which the processes of the demo write what they did, out of the server's reach.

One JSON object a line, each written with a single call, so that a process killed at any moment leaves whole lines and
at most one cut at the very end. Reading takes up where it stopped, and leaves a line that is not whole for the next
time. Whether the content is right is for `verdict.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

__all__ = [
    "Arrived",
    "Handled",
    "JobBegan",
    "JobOver",
    "JournalReader",
    "JournalWriter",
    "Published",
    "Record",
]


class Arrived(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A process is ready: the publisher is connected, the consumer has joined the group, or the node has its worker.

    Attributes:
        pid: Its process id.
        consumer: Its name in the group; empty for the publisher and for nodes.
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
    """A job does not run in a node any more. Written when it does nothing more."""

    job: str
    token: int
    at: float


Record = Arrived | Published | Handled | JobBegan | JobOver

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
