"""Finds the queue of a task of which only the id is known."""

from __future__ import annotations

from pulsewire.cli.asking import ask_each
from pulsewire.errors import DecodeError, QueueNotFound, TaskError, TaskNotFound
from pulsewire.tasks import Inspector

__all__ = ["SeveralQueues", "UnknownTask", "queue_of"]


class UnknownTask(TaskError):
    """No queue has a task with this id."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no queue has a task {task_id!r}")


class SeveralQueues(TaskError):
    """Several queues have a task with this id."""

    def __init__(self, task_id: str, queues: list[str]) -> None:
        super().__init__(f"several queues have a task {task_id!r}: {', '.join(queues)}")


async def queue_of(inspector: Inspector, task_id: str, queue: str | None) -> str:
    """Return the queue of a task: the one that was named, or else the one that has it.

    Raises:
        UnknownTask, SeveralQueues: No queue was named, and not just one has such a task.
    """
    if queue is not None:
        return queue

    async def has_it(name: str) -> bool:
        try:
            await inspector.task(name, task_id)
        except (QueueNotFound, TaskNotFound):
            return False
        except DecodeError:  # it is there, whatever it is
            return True
        return True

    names = await inspector.queues()
    answers = await ask_each(names, has_it)
    found = [name for name, has in zip(names, answers, strict=True) if has]
    if not found:
        raise UnknownTask(task_id)
    if len(found) > 1:
        raise SeveralQueues(task_id, found)
    return found[0]
