"""Work with the journal around it: what is begun is written down before, and how it ended before Redis is told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from pulsewire.cli.demo.journal import (
    JobBegan,
    JobOver,
    JournalWriter,
    Outcome,
    TaskBegan,
    TaskOver,
)
from pulsewire.pool import Job
from pulsewire.tasks import Task

__all__ = ["TaskHandler", "journaled_run", "journaled_tasks"]

TaskHandler = Callable[[Task], Awaitable[str | None]]
"""What runs a task; it returns what shall be noted of it."""


@contextmanager
def journaled_run(journaling: JournalWriter, job: Job) -> Iterator[None]:
    """Have the journal tell when a job runs. Inside is all that it does."""
    journaling.write(JobBegan(job=job.key, token=job.token, at=time.monotonic()))
    is_done = False
    try:
        yield
        is_done = True
    finally:
        over = JobOver(job=job.key, token=job.token, at=time.monotonic(), is_done=is_done)
        journaling.write(over)


def journaled_tasks(journaling: JournalWriter) -> Callable[[TaskHandler], TaskHandler]:
    """Return the middleware that has the journal tell of each attempt."""
    numbers = itertools.count(1)

    def around(handler: TaskHandler) -> TaskHandler:
        async def run(task: Task) -> str | None:
            attempt, outcome, result = next(numbers), Outcome.STOPPED, None
            journaling.write(
                TaskBegan(
                    attempt=attempt,
                    task=task.id,
                    task_type=task.type,
                    queue=task.queue,
                    retried=task.retried,
                    at=time.monotonic(),
                )
            )
            try:
                result = await handler(task)
                outcome = Outcome.DONE
            except Exception:
                outcome = Outcome.FAILED
                raise
            finally:
                at = time.monotonic()
                over = TaskOver(attempt=attempt, outcome=outcome, result=result or "", at=at)
                journaling.write(over)
            return result

        return run

    return around
