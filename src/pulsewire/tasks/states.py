"""The states of a task and the moves between them (spec/asynq.md 4.1). Pure; the scripts carry the moves out."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is. The values are asynq's words in the `state` field."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    AGGREGATING = "aggregating"
    ACTIVE = "active"
    RETRY = "retry"
    ARCHIVED = "archived"
    COMPLETED = "completed"


_P, _S, _G = TaskState.PENDING, TaskState.SCHEDULED, TaskState.AGGREGATING
_A, _R, _X, _C = TaskState.ACTIVE, TaskState.RETRY, TaskState.ARCHIVED, TaskState.COMPLETED

MOVES: dict[TaskState | None, dict[TaskState | None, str]] = {
    None: {_P: "enqueue", _S: "enqueue for later", _G: "enqueue into a group"},
    _P: {_A: "take", _X: "archive", None: "delete"},
    _S: {_P: "forward, run", _G: "forward", _X: "archive", None: "delete"},
    _G: {_P: "run", _X: "archive", None: "aggregate, delete"},
    _A: {
        _P: "hand back, recover",
        _R: "retry",
        _X: "archive",
        _C: "complete",
        None: "done",
    },
    _R: {_P: "forward, run", _G: "forward", _X: "archive", None: "delete"},
    _X: {_P: "run", None: "delete, trim"},
    _C: {_P: "run", _X: "archive", None: "delete, retention is over"},
}
"""State -> state -> what moves a task so. None is: there is no such task."""
