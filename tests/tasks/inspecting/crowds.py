"""A queue with tasks in every state, for tests of who looks at all of it or changes one thing among many."""

from __future__ import annotations

from typing import Any

from pulsewire.tasks.states import TaskState
from tests.tasks.content import Content
from tests.tasks.scenes import FAR_AHEAD, Queue

GROUP = "emails:eu"
"""A group, with what its name may have in it."""
SET = "11111111-2222-3333-4444-555555555555"
STATES = tuple(state.value for state in TaskState)
PLACES = {**{state: state for state in STATES}, "aggregating": f"g:{GROUP}"}
"""State -> name of the key that holds its ids."""


async def put(queue: Queue, state: str, *task_ids: str, **fields: Any) -> None:
    """Tasks in a state, in the order in which a page shows them."""
    for index, task_id in enumerate(task_ids):
        if state == "pending":
            await queue.pending(task_id, **fields)
        elif state == "active":
            await queue.active(task_id, **fields)
        elif state == "aggregating":
            await queue.grouped(GROUP, task_id, score=FAR_AHEAD + index, **fields)
        else:
            await queue.later(state, task_id, score=FAR_AHEAD + index, **fields)


async def crowd(queue: Queue) -> None:
    """Two tasks in every state, `<state>-1` and `<state>-2`."""
    for state in STATES:
        await put(queue, state, f"{state}-1", f"{state}-2")


def without(content: Content, place: str, *task_ids: str) -> Any:
    """The value of a place that these ids have left; None if it is gone then."""
    held = content[place]
    if isinstance(held, dict):
        left: Any = {one: score for one, score in held.items() if one not in task_ids}
    else:
        left = [one for one in held if one not in task_ids]
    return left or None


def of_asynq(content: Content) -> Content:
    """A content without the replies that inspectors keep for a while."""
    return {name: value for name, value in content.items() if not name.startswith("pulsewire:")}
