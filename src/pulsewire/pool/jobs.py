"""The states of a job and the moves between them (docs/internals/pool-protocol.md, "The states of a job"). Pure."""

from __future__ import annotations

import enum

from pulsewire.errors import InvalidName, PayloadTooLarge

MAX_KEY = 512
DEFAULT_MAX_PAYLOAD = 1024 * 1024


class JobState(enum.StrEnum):
    """Where a job is. A job that has ended is nowhere."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


MOVES: dict[JobState | None, frozenset[JobState | None]] = {
    None: frozenset({JobState.STARTING, JobState.WAITING}),
    JobState.WAITING: frozenset({JobState.STARTING, None}),
    JobState.STARTING: frozenset(
        {JobState.RUNNING, JobState.STARTING, JobState.WAITING, JobState.STOPPING, None}
    ),
    JobState.RUNNING: frozenset(
        {JobState.RUNNING, JobState.STARTING, JobState.WAITING, JobState.STOPPING, None}
    ),
    JobState.STOPPING: frozenset({JobState.STOPPING, None}),
}
"""Every move that one script may make; None is a job that does not exist."""


def may_move(old: JobState | None, new: JobState | None) -> bool:
    """Whether one step leads from one state to the other. Staying is always allowed."""
    return old == new or new in MOVES[old]


def check_key(key: object) -> str:
    """`key` if a job may have it.

    Raises:
        InvalidName: it is not text, is empty or too long.
    """
    if not isinstance(key, str):
        raise InvalidName("job key", key, f"a string is needed, not {type(key).__name__}")
    if not key:
        raise InvalidName("job key", key, "it is empty")
    if len(key) > MAX_KEY:
        raise InvalidName("job key", key[:40] + "...", f"{len(key)} characters, at most {MAX_KEY}")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidName("job key", key, "it cannot be written as UTF-8") from error
    return key


def check_payload(payload: object, limit: int, pool: str) -> bytes:
    """`payload` if a job may have it.

    Raises:
        TypeError: it is not bytes.
        PayloadTooLarge: it is larger than the limit.
    """
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise TypeError(f"a job's payload is bytes, not {type(payload).__name__}")
    size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
    if size > limit:
        raise PayloadTooLarge(size, limit, f"pool {pool!r}")
    return bytes(payload)
