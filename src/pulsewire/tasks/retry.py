"""What becomes of a task after an attempt, and when it is tried again (spec/asynq.md 4.3, 4.4). Pure."""

from __future__ import annotations

import random
from enum import Enum, auto

from pulsewire.errors import (
    HandlerNotFound,
    Retry,
    RevokeTask,
    SkipRetry,
    TaskCancelled,
    TaskLeaseLost,
    TaskTimedOut,
)


class Fate(Enum):
    """What becomes of a task whose attempt has failed."""

    RETRY = auto()
    ARCHIVE = auto()
    DROP = auto()


def fate_of(error: BaseException, retried: int, max_retry: int, *, is_failure: bool) -> Fate:
    """What becomes of a task after an attempt ended with `error`.

    The marks may be wrapped: the causes of the error are looked at, too.
    """
    marks = {type(one) for one in causes(error)}
    if any(issubclass(mark, RevokeTask) for mark in marks):
        return Fate.DROP
    if any(issubclass(mark, SkipRetry) for mark in marks):
        return Fate.ARCHIVE
    if not is_failure and any(issubclass(mark, UNCHARGED) for mark in marks):
        return Fate.RETRY
    return Fate.ARCHIVE if retried >= max_retry else Fate.RETRY


UNCHARGED = (HandlerNotFound, Retry)
"""What may be tried again for ever if it is no failure: a later deploy knows the task, or the handler says so."""


def causes(error: BaseException) -> list[BaseException]:
    """An error and what it was raised from, and the members of groups."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or any(one is known for known in found):
            continue
        found.append(one)
        left.append(one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            left.extend(one.exceptions)
    return found


def is_charged(error: BaseException) -> bool:
    """The default of `is_failure`: everything is, but an unknown type and a `Retry` that says that it is not."""
    for one in causes(error):
        if isinstance(one, Retry):
            return one.is_failure
        if isinstance(one, HandlerNotFound):
            return False
    return True


def default_delay(
    retried: int,
    error: BaseException | None = None,  # noqa: ARG001  # what a function of one's own is given
    task: object = None,  # noqa: ARG001  # as above
    *,
    spread: int | None = None,
) -> float:
    """Seconds until the next try after the failure that makes `retried + 1`: `n^4 + 15 + r (n + 1)`, r of 0 to 29.

    asynq's formula (spec/asynq.md 4.4).
    """
    jitter = random.randrange(30) if spread is None else spread
    return float(retried**4 + 15 + jitter * (retried + 1))


def error_text(error: BaseException) -> str:
    """What is kept as the error of a task: asynq's words where Go has the same fact, else type and message."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # it is the user's, and must not keep the task from being settled
        text = ""
    if isinstance(error, TimeoutError) and not text:
        return str(TaskTimedOut())
    if isinstance(error, (TaskCancelled, TaskTimedOut, TaskLeaseLost, HandlerNotFound)):
        return clean(text)
    name = type(error).__name__
    return clean(f"{name}: {text}" if text else name)


def clean(text: str) -> str:
    """`text` without what UTF-8 cannot carry: Go refuses such messages (spec/asynq.md 2)."""
    return text.encode("utf-8", "replace").decode("utf-8")
