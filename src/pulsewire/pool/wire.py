"""What the pool writes and reads: workers in the map, orders in inboxes, replies; and the value types of the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from pulsewire.errors import DecodeError
from pulsewire.pool.jobs import JobState

VERSION = 1
_MOST_DIGITS = 18
_LAST_MOMENT = 253_402_300_799_000  # the end of the year 9999, ms
SHUTDOWN_ENTRY = "!shutdown"
"""Key of the workers map that tells all nodes that the pool shuts down; no worker id is like it."""

WorkerState = Literal["active", "draining"]


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as the workers map says.

    Attributes:
        id: a ULID. A worker whose lease has lapsed comes back under a new one.
        node: the node it is on.
        state: "active", or "draining": its jobs go to the others.
        weight: its share of the jobs, relative to the others'.
        host: the machine's name.
        pid: of the process.
        started: server time, Unix seconds.
    """

    id: str
    node: str
    state: WorkerState
    weight: float
    host: str
    pid: int
    started: float


class _Entry(msgspec.Struct):
    """A worker's value in the map. Fields that a newer version adds are ignored (protocol 8)."""

    node: str
    state: str = "active"
    weight: float = 1.0
    host: str = ""
    pid: int = 0
    started: float = 0.0


_DECODER = msgspec.json.Decoder(_Entry)


def encode_worker(worker: WorkerInfo) -> str:
    """Its value in the workers map."""
    entry = _Entry(
        worker.node, worker.state, worker.weight, worker.host, worker.pid, worker.started
    )
    return msgspec.json.encode(entry).decode()


def decode_worker(worker: str, value: str) -> WorkerInfo:
    """The worker of an entry of the workers map.

    Raises:
        DecodeError: it is not such an entry.
    """
    try:
        entry = _DECODER.decode(value)
    except msgspec.MsgspecError as error:
        raise DecodeError("worker", str(error)) from error
    if not entry.weight > 0:
        raise DecodeError("worker", f"its weight is {entry.weight}")
    state: WorkerState = "active" if entry.state == "active" else "draining"
    return WorkerInfo(worker, entry.node, state, entry.weight, entry.host, entry.pid, entry.started)


class Order(NamedTuple):
    """An entry of a worker's inbox, or a step that the node itself puts among them.

    Attributes:
        entry: its id; empty for a step of the node's own.
        node: of the dispatcher that waits for the start, if one does.
    """

    entry: str
    do: str
    key: str
    epoch: int
    payload: bytes = b""
    created: int = 0
    starts: int = 1
    node: str = ""


def decode_order(entry: str, fields: Sequence[bytes]) -> Order:
    """An inbox entry.

    Raises:
        DecodeError: it cannot be read.
    """
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        return Order(
            entry,
            found[b"do"].decode(),
            found[b"key"].decode(),
            int(found[b"epoch"]),
            found.get(b"payload", b""),
            int(found.get(b"created", b"0")),
            int(found.get(b"starts", b"1")),
            found.get(b"node", b"").decode(),
        )
    except (KeyError, ValueError) as error:
        raise DecodeError("inbox entry", repr(error)) from error


class Reply(NamedTuple):
    """An entry of a node's replies."""

    request: str
    outcome: str
    text: str


def decode_reply(fields: Sequence[bytes]) -> Reply:
    """A reply.

    Raises:
        DecodeError: it cannot be read.
    """
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        text = found.get(b"text", b"").decode(errors="replace")
        return Reply(found[b"request"].decode(), found[b"outcome"].decode(), text)
    except (KeyError, ValueError) as error:
        raise DecodeError("reply", repr(error)) from error


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as Redis says.

    Attributes:
        key: its key.
        state: waiting, starting, running or stopping.
        owner: the worker; empty while it waits.
        token: fencing token of its owner: it grows each time the job gets another one.
        created_at: when it was dispatched, by the server's clock.
        since: when it came into its state.
        starts: how often it was given to an owner.
        progress: what its handler has reported last.
        error: of its last failed start or run.
        payload: None unless it was asked for.
    """

    key: str
    state: JobState
    owner: str
    token: int
    created_at: datetime
    since: datetime
    starts: int
    progress: str = ""
    error: str = ""
    payload: bytes | None = None


JOB_FIELDS = ("state", "owner", "epoch", "created", "since", "starts", "progress", "error")


def decode_job(key: str, values: Sequence[bytes | None], payload: bytes | None) -> JobInfo | None:
    """The reply of HMGET of `JOB_FIELDS`; None where there is no job."""
    found: dict[str, Any] = dict(zip(JOB_FIELDS, values, strict=True))
    text = {name: (value or b"").decode(errors="replace") for name, value in found.items()}
    try:
        state = JobState(text["state"])
    except ValueError:
        return None
    return JobInfo(
        key,
        state,
        text["owner"],
        _number(text["epoch"]),
        _moment(text["created"]),
        _moment(text["since"]),
        _number(text["starts"]),
        text["progress"],
        text["error"],
        payload,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0


def _moment(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(min(_number(milliseconds), _LAST_MOMENT) / 1000, UTC)
