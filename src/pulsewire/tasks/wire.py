"""Tasks and their messages: what callers give and get, and its bytes (spec/asynq.md 2.1, 4.2).

Durations are whole seconds on the wire, and so are points in time. Fractions are rounded up, so that a timeout of half
a second does not become none, and nothing is run before its time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from pulsewire._core.checks import check_count, check_seconds
from pulsewire._core.ids import Forks
from pulsewire.errors import DecodeError, InvalidName, InvalidOption
from pulsewire.tasks.keys import DEFAULT_QUEUE, check_queue
from pulsewire.tasks.messages import TaskMessage, TaskRecord
from pulsewire.tasks.states import TaskState

DEFAULT_MAX_RETRY = 25
DEFAULT_TIMEOUT = 1800.0
"""Seconds an attempt may take where neither a timeout nor a deadline is given."""
MOST_RETRIES = 2**31 - 1
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
LEAST_UNIQUE = 1.0
"""Seconds a unique lock lives at least (4.2)."""


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task to enqueue, with its options. Checked when it is enqueued.

    Attributes:
        type: what kind of work it is, such as "email:welcome"; handlers are found by it.
        payload: what the handler gets. None and empty are the same to a handler, and two different unique locks.
        queue: where it waits.
        task_id: unique within the queue, also among tasks that are kept; a UUID by default.
        max_retry: how often it is tried again after failures.
        timeout: seconds an attempt may take. 30 minutes if neither this nor a deadline is given.
        deadline: no attempt goes on beyond it: an aware datetime, or Unix seconds.
        unique: seconds for which no other task with this type, payload and queue can be enqueued, unless this one has
            succeeded or was dropped before; at least 1.
        process_at: run it then, not now: an aware datetime, or Unix seconds.
        process_in: run it after this many seconds.
        retention: seconds for which it is kept, with its result, after it has succeeded.
        group: hand it to the aggregator together with others of this group.
        headers: text for middleware and tracing.
    """

    type: str
    payload: bytes | str | None = None
    queue: str = DEFAULT_QUEUE
    task_id: str | None = None
    max_retry: int = DEFAULT_MAX_RETRY
    timeout: float | None = None
    deadline: datetime | float | None = None
    unique: float | None = None
    process_at: datetime | float | None = None
    process_in: float | None = None
    retention: float = 0.0
    group: str | None = None
    headers: Mapping[str, str] = NO_HEADERS

    def with_options(self, **options: object) -> NewTask:
        """A copy with other options."""
        return msgspec.structs.replace(self, **options)


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis says of a task. Times are aware; None where something has not happened, or is not set.

    Attributes:
        state: where it is.
        retried: how often it has failed so far.
        next_process_at: when it is run, for tasks that wait.
        is_orphaned: it is active, but nobody renews its lease.
        result: what its handler has written.
        is_readable: False for a record that is not a task message; then only id, queue and state are known.
    """

    id: str
    queue: str
    type: str
    payload: bytes
    state: TaskState
    headers: Mapping[str, str] = NO_HEADERS
    max_retry: int = 0
    retried: int = 0
    last_error: str = ""
    last_failed_at: datetime | None = None
    timeout: float = 0.0
    deadline: datetime | None = None
    group: str = ""
    next_process_at: datetime | None = None
    is_orphaned: bool = False
    retention: float = 0.0
    completed_at: datetime | None = None
    result: bytes = b""
    is_readable: bool = True


def info_of(
    message: TaskRecord,
    state: TaskState,
    *,
    next_process_at: float | None = None,
    is_orphaned: bool = False,
    result: bytes = b"",
) -> TaskInfo:
    """What a message and its place say of a task."""
    headers = message.headers
    return TaskInfo(
        id=message.id,
        queue=message.queue,
        type=message.type,
        payload=message.payload,
        state=state,
        headers=dict(headers) if headers else NO_HEADERS,
        max_retry=message.retry,
        retried=message.retried,
        last_error=message.error_msg,
        last_failed_at=moment(message.last_failed_at),
        timeout=float(message.timeout),
        deadline=moment(message.deadline),
        group=message.group_key,
        next_process_at=None if next_process_at is None else moment(next_process_at),
        is_orphaned=is_orphaned,
        retention=float(message.retention),
        completed_at=moment(message.completed_at),
        result=result,
    )


def unreadable(queue: str, task_id: str, state: TaskState) -> TaskInfo:
    """A record that is not a task message."""
    return TaskInfo(id=task_id, queue=queue, type="", payload=b"", state=state, is_readable=False)


def decode_message(data: bytes, task_id: str) -> TaskRecord:
    """The message of a task.

    Raises:
        DecodeError: it cannot be read.
    """
    try:
        message = TaskMessage.FromString(data)
    except Exception as error:  # the library's own class of error differs between its versions
        raise DecodeError(f"the message of task {task_id!r}", str(error)) from error
    if not message.type:
        raise DecodeError(f"the message of task {task_id!r}", "it has no type")
    return message


def moment(seconds: float) -> datetime | None:
    """Unix seconds as a datetime; 0 is never, and so is what no calendar has."""
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def unix(option: str, value: datetime | float) -> float:
    """A point in time as Unix seconds.

    Raises:
        InvalidOption: it has no time zone, or is not a time.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidOption(option, value, "give it a time zone, such as datetime.now(UTC)")
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
        raise InvalidOption(option, value, "use an aware datetime or Unix seconds")
    return float(value)


def whole(option: str, value: float) -> int:
    """A duration in whole seconds, rounded up."""
    return math.ceil(check_seconds(option, value, 0.0)) if value else 0


def check_type(name: object) -> str:
    """`name` if it can be the type of a task."""
    if not isinstance(name, str):
        raise InvalidName("task type", name, f"a string is needed, not {type(name).__name__}")
    if not name.strip():
        raise InvalidName("task type", name, "it is blank")
    return check_text("task type", name)


def check_text(what: str, text: object) -> str:
    """`text` if it is a string that UTF-8 can carry."""
    if not isinstance(text, str):
        raise InvalidName(what, text, f"a string is needed, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidName(what, text, "it cannot be written as UTF-8") from error
    return text


def as_payload(payload: object) -> bytes | None:
    """A payload as bytes; text as UTF-8."""
    if payload is None or type(payload) is bytes:
        return payload
    if isinstance(payload, str):
        return check_text("payload", payload).encode()
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    reason = (
        "use bytes, or text; encode objects with a codec such as pulsewire.JSON, or use tasks.App"
    )
    raise InvalidOption("payload", payload, reason)


def encode_new(task: NewTask, task_id: str, payload: bytes | None, lock: str) -> TaskRecord:
    """The message of a new task, all options checked (4.2).

    Raises:
        InvalidName, InvalidOption: something is impossible.
    """
    timeout, deadline = task.timeout, 0
    if task.deadline is not None:
        deadline = math.ceil(unix("deadline", task.deadline))
    if not timeout:
        timeout = 0.0 if deadline else DEFAULT_TIMEOUT
    retries = task.max_retry
    if type(retries) is not int or not 0 <= retries <= MOST_RETRIES:
        check_count("max_retry", retries, 0)
        raise InvalidOption("max_retry", retries, f"must be at most {MOST_RETRIES}")
    message = TaskMessage(
        type=check_type(task.type),
        payload=payload or b"",
        id=task_id,
        queue=check_queue(task.queue),
        retry=retries,
        timeout=whole("timeout", timeout),
        deadline=deadline,
        unique_key=lock,
        retention=whole("retention", task.retention),
        group_key=_check_group(task.group),
    )
    if task.headers:
        _set_headers(message, task.headers)
    return message


def _check_group(group: str | None) -> str:
    if group is None:
        return ""
    if not isinstance(group, str) or not group.strip():
        raise InvalidName("group", group, "it is blank")
    return check_text("group", group)


def _set_headers(message: TaskRecord, headers: Mapping[str, str]) -> None:
    for key, value in headers.items():
        message.headers[check_text("header", key)] = check_text(f"value of header {key!r}", value)


class TaskIds:
    """Random UUIDs (version 4) as text, from blocks of the system's randomness: 0.6 us each where uuid4 takes 1.7."""

    __slots__ = ("_block", "_forks", "_position")
    BLOCK = 256

    def __init__(self) -> None:
        self._block, self._position, self._forks = b"", 0, 0

    def next(self) -> str:
        """An id that was never given before."""
        if self._position >= len(self._block) or self._forks != Forks.count:
            self._block, self._position = os.urandom(16 * self.BLOCK), 0
            self._forks = Forks.count  # a child must not give its parent's ids
        start = self._position
        self._position = start + 16
        digits = self._block[start : start + 16].hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )
