"""What becomes of the task of an attempt that did not succeed, asking the functions that the user gave.

What such a function raises, or says that makes no sense, is logged, and the default holds: a task must always end in a
state that can be seen.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from pulsewire.errors import Retry
from pulsewire.tasks.messages import TaskMessage, TaskRecord
from pulsewire.tasks.retry import Fate, causes, default_delay, error_text, fate_of
from pulsewire.tasks.serving.options import ServerOptions
from pulsewire.tasks.store import Leaving, Verb
from pulsewire.tasks.task import Task

LONGEST_DELAY = 1e10
"""Seconds; more is no delay."""


class Judgement:
    """Decides for one server."""

    def __init__(self, options: ServerOptions, logger: logging.Logger) -> None:
        self._options = options
        self._logger = logger

    def failed(
        self, task_id: str, message: TaskRecord, error: BaseException, now: float
    ) -> Leaving:
        """How a task leaves after a failure. `now` in Unix seconds goes into its message."""
        is_failure = bool(self._ask(self._options.is_failure, error, otherwise=True))
        fate = fate_of(error, message.retried, message.retry, is_failure=is_failure)
        if fate is Fate.DROP:
            return Leaving(task_id, "done", lock=message.unique_key)
        is_counted = fate is Fate.RETRY and is_failure
        packed = failed_message(message, error, now, is_counted=is_counted)
        if fate is Fate.ARCHIVE:
            return Leaving(task_id, "archive", packed)
        verb: Verb = "retry" if is_failure else "again"
        return Leaving(task_id, verb, packed, self._delay(message, error))

    def _delay(self, message: TaskRecord, error: BaseException) -> float:
        for one in causes(error):
            if isinstance(one, Retry) and one.after is not None:
                return one.after
        delay = self._ask(
            self._options.retry_delay, message.retried, error, Task(message), otherwise=None
        )
        if isinstance(delay, (int, float)) and 0 <= delay < LONGEST_DELAY:
            return float(delay)
        if delay is not None:
            self._logger.error("retry_delay gave no seconds", extra={"delay": repr(delay)})
        return default_delay(message.retried)

    def _ask(self, function: Callable[..., Any], *args: object, otherwise: object) -> object:
        """What a function of the user's says."""
        try:
            answer: object = function(*args)
        except Exception:
            self._logger.exception("a function given to the server failed")
            return otherwise
        return answer


def failed_message(
    message: TaskRecord, error: BaseException, now: float, *, is_counted: bool
) -> bytes:
    """The message of a task after a failure (spec/asynq.md 3.3, "New msg contents")."""
    changed = TaskMessage()
    changed.CopyFrom(message)
    if is_counted:
        changed.retried += 1
    changed.error_msg = error_text(error)
    changed.last_failed_at = math.floor(now)
    return changed.SerializeToString()
