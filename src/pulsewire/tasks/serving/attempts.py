"""Running tasks: one asyncio task per attempt, its deadline, its cancellation, and what becomes of it.

An attempt is over when its handler has ended; then `settling.py` writes down what becomes of its task. A handler that
was cancelled and does not end keeps its place among the `concurrency` ones, since it still uses what they share; its
task is settled nevertheless, `ABANDON_AFTER` seconds later.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections import deque
from collections.abc import Callable

from pulsewire._core.stalls import runs_handlers
from pulsewire.errors import (
    HandlerEnded,
    TaskCancelled,
    TaskError,
    TaskLeaseLost,
    TaskTimedOut,
)
from pulsewire.tasks.mux import AsyncHandler
from pulsewire.tasks.retry import error_text
from pulsewire.tasks.serving.crew import Crew
from pulsewire.tasks.serving.deadlines import RESOLUTION, Deadlines
from pulsewire.tasks.serving.options import ABANDON_AFTER
from pulsewire.tasks.serving.order import how_many_ahead
from pulsewire.tasks.serving.place import Attempt, HandedBack, QueuePlace
from pulsewire.tasks.task import Task, set_current

ALONE_FOR = 10.0
"""Seconds that a task whose servers died is waited for, and then is run, alone."""
LEARNING = 0.05
"""How much the length of one attempt counts in the mean of all."""


class Attempts:
    """All attempts of one server."""

    def __init__(
        self,
        crew: Crew,
        find: Callable[[str], AsyncHandler],
        make_task: Callable[[Attempt], Task],
        settle: Callable[[Attempt], None],
    ) -> None:
        """Prepare.

        Args:
            crew: of the server.
            find: the handler for a type.
            make_task: what a handler gets of an attempt; sets its deadline (monotonic, 0 for none).
            settle: told of each attempt that is over.
        """
        self.on_room: Callable[[], None] = lambda: None
        self._find = find
        self._options = crew.options
        self._places = tuple(crew.places.values())
        self._make_task = make_task
        self._settle = settle
        self._logger = crew.logger
        self._ready: deque[Attempt] = deque()
        self._running: set[Attempt] = set()
        self._leftover = 0
        self._deadlines: Deadlines[Attempt] = Deadlines()
        self._sweeper: asyncio.TimerHandle | None = None
        self._mean = float("inf")
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._suspect: Attempt | None = None
        self._is_closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    # --- how many

    @property
    def running(self) -> tuple[Attempt, ...]:
        """Those whose handler runs."""
        return tuple(self._running)

    @property
    def count(self) -> int:
        """How many handlers run, with those that were given up and have not ended."""
        return len(self._running) + self._leftover

    @property
    def leftover(self) -> int:
        """How many handlers were given up and have not ended."""
        return self._leftover

    @property
    def wanted(self) -> int:
        """How many tasks to take now: for free places, and some ahead while attempts are short."""
        if self._suspect is not None:
            return 0
        free = self._options.concurrency - self.count - len(self._ready)
        ahead = how_many_ahead(self._options.concurrency, self._mean)
        if free <= 0 and -free * 2 > ahead:
            return 0  # there is still half of what was taken ahead
        return max(free + ahead, 0)

    async def wait_idle(self) -> None:
        """Return when no handler runs."""
        await self._idle.wait()

    # --- beginning

    def add(self, attempts: list[Attempt]) -> None:
        """Run these, as soon as there are places."""
        self._ready.extend(attempts)
        if self._is_closing:
            self.close_entrance()
        else:
            self.fill()

    def isolate(self, attempt: Attempt) -> bool:
        """Run this one alone; False if there is such a one already.

        Its server died more than once while it had the task. If it is the reason, then nothing else shall die with it,
        or be taken for the reason. It begins once nothing else runs, or after `ALONE_FOR` seconds; and it has lived
        for as long, others may begin beside it.
        """
        if self._suspect is not None or self._is_closing:
            return False
        self._suspect = attempt
        self._loop.call_later(ALONE_FOR, self._wait_no_longer, attempt)
        self.fill()
        return True

    def _wait_no_longer(self, attempt: Attempt) -> None:
        if self._suspect is attempt and attempt.runner is None and not attempt.is_over:
            self._begin_suspect(attempt)

    def _begin_suspect(self, attempt: Attempt) -> None:
        attempt.is_alone = not self.count
        self._begin(attempt)
        self._loop.call_later(ALONE_FOR, self._end_isolation, attempt)

    def _end_isolation(self, attempt: Attempt) -> None:
        if self._suspect is attempt:
            self._suspect = None
            self._make_room()

    def fill(self) -> None:
        """Begin as many as there are places for."""
        ready = self._ready
        places = self._options.concurrency - self.count
        while ready and places > 0:
            attempt = ready.popleft()
            if attempt.reason is None:
                self._begin(attempt)
                places -= 1
            else:
                self._end_unbegun(attempt)
        suspect = self._suspect
        if suspect is not None and suspect.runner is None and not self.count:
            self._begin_suspect(suspect)

    def _begin(self, attempt: Attempt) -> None:
        attempt.task = self._make_task(attempt)
        attempt.began = time.monotonic()
        self._running.add(attempt)
        if len(self._running) == 1:
            self._idle.clear()
        if attempt.deadline:
            if attempt.deadline <= attempt.began:
                self.cancel(attempt, TaskTimedOut())  # then its handler is not even called
            self._deadlines.add(attempt.deadline, attempt)
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(RESOLUTION, self._sweep)
        # Not the context of here: an attempt often begins where another one has just ended.
        base = self._options.base_context
        context = (self._context if base is None else base()).copy()
        attempt.runner = self._loop.create_task(self._run(attempt, attempt.task), context=context)

    @runs_handlers("tasks", lambda its: _names(its["attempt"]))
    async def _run(self, attempt: Attempt, task: Task) -> None:
        attempt.has_begun = True
        set_current(task)
        try:
            if attempt.is_alone:
                await attempt.place.note_alone(attempt.task_id)
            if attempt.reason is None:
                await self._find(attempt.message.type)(task)
            else:
                attempt.error = attempt.reason
        except asyncio.CancelledError as error:
            attempt.error = attempt.reason or TaskCancelled()
            attempt.error.__cause__ = error
        except Exception as error:  # noqa: BLE001  # whatever a handler raises is the outcome of its attempt
            attempt.error = error
        except BaseException as error:  # noqa: BLE001  # it must not end the process
            attempt.error = HandlerEnded(error)
            attempt.error.__cause__ = error
        if attempt.error is not None:
            await self._report(attempt, task, attempt.error)
        self._ended(attempt)

    async def _report(self, attempt: Attempt, task: Task, error: BaseException) -> None:
        """Tell the error handler, or the log where there is none. What the error handler raises changes nothing."""
        if isinstance(attempt.reason, HandedBack):
            return
        handler = self._options.error_handler
        if handler is None:
            self._log(task, error)
            return
        try:
            told = handler(task, error)
            if inspect.isawaitable(told):
                await told
        except BaseException:
            self._logger.exception("the error handler failed", extra={"task": attempt.task_id})

    def _log(self, task: Task, error: BaseException) -> None:
        """A traceback for what nobody expected, a line for what the handler or somebody else has decided."""
        is_expected = isinstance(error, TaskError)
        self._logger.warning(
            "an attempt did not succeed",
            exc_info=None if is_expected else error,
            extra={
                "queue": task.queue,
                "task": task.id,
                "type": task.type,
                "retried": task.retried,
                "why": error_text(error),
            },
        )

    # --- ending

    def _ended(self, attempt: Attempt) -> None:
        """The handler has returned, or raised."""
        thread = attempt.task.in_thread if attempt.task is not None else None
        if thread is not None and not thread.done():
            self._loop.call_later(ABANDON_AFTER, self._give_up, attempt)
            thread.add_done_callback(lambda _: self._ended(attempt))
            return
        if attempt.is_over:  # it was given up before
            self._leftover -= 1
        else:
            self._over(attempt)
        self._make_room()

    def _over(self, attempt: Attempt) -> None:
        attempt.is_over = True
        if self._suspect is attempt:
            self._suspect = None
        self._running.discard(attempt)
        if not self._running:
            self._idle.set()
        if attempt.deadline:
            self._deadlines.remove(attempt.deadline, attempt)
        took = time.monotonic() - attempt.began
        self._mean = (
            took if self._mean == float("inf") else self._mean + LEARNING * (took - self._mean)
        )
        self._settle(attempt)

    def _make_room(self) -> None:
        if self._ready or self._suspect is not None:
            self.fill()
        self.on_room()

    def _give_up(self, attempt: Attempt) -> None:
        """It was cancelled and has not ended: settle it, and keep its place."""
        if attempt.is_over:
            return
        if attempt.error is None:
            attempt.error = attempt.reason
        self._logger.warning(
            "a handler does not end although it was cancelled",
            extra={
                "task": attempt.task_id,
                "type": attempt.message.type,
                "why": str(attempt.error),
            },
        )
        self._leftover += 1
        self._over(attempt)

    def _end_unbegun(self, attempt: Attempt) -> None:
        attempt.error, attempt.is_over = attempt.reason, True
        self._settle(attempt)

    # --- cancelling

    def cancel(self, attempt: Attempt, reason: TaskError) -> None:
        """End an attempt; the first reason counts."""
        if attempt.reason is not None or attempt.is_over:
            return
        attempt.reason = reason
        if attempt.task is not None:
            attempt.task.is_cancelled = True
        if attempt.runner is None:
            return  # it has not begun, and will not
        self._loop.call_later(ABANDON_AFTER, self._give_up, attempt)
        if attempt.has_begun:
            attempt.runner.cancel()

    def cancel_task(self, task_id: str) -> None:
        """Somebody asks for the end of a task by its id, whatever its queue."""
        for place in self._places:
            if (attempt := place.held.get(task_id)) is not None:
                self.cancel(attempt, TaskCancelled())

    def close_entrance(self) -> None:
        """Begin no more: what has not begun, and what is still added, goes back to its queue at once."""
        self._is_closing = True
        if self._suspect is not None and self._suspect.runner is None:
            self._ready.append(self._suspect)
            self._suspect = None
        while self._ready:
            attempt = self._ready.popleft()
            attempt.reason = attempt.reason or HandedBack()
            self._end_unbegun(attempt)

    def cancel_all(self) -> None:
        """The server ends, and has waited long enough."""
        for attempt in self.running:
            self.cancel(attempt, HandedBack())

    def abandon_all(self) -> None:
        """Wait for no handler any more: their tasks go back although they have not ended."""
        for attempt in self.running:
            self._give_up(attempt)

    def fence(self, place: QueuePlace, now: float) -> None:
        """End the attempts whose lease was not renewed for too long."""
        limit = now - self._options.fence_after
        for attempt in tuple(place.held.values()):
            if attempt.renewed_at < limit:
                self.cancel(attempt, TaskLeaseLost())

    def lost(self, attempt: Attempt) -> None:
        """Somebody else has the task."""
        self.cancel(attempt, TaskLeaseLost())

    def _sweep(self) -> None:
        self._sweeper = None
        for attempt in self._deadlines.due(time.monotonic()):
            self.cancel(attempt, TaskTimedOut())
        if self._deadlines:
            self._sweeper = self._loop.call_later(RESOLUTION, self._sweep)

    def close(self) -> None:
        """Stop looking at deadlines."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None


def _names(attempt: Attempt) -> dict[str, object]:
    """Which task it is, for the log."""
    return {
        "queue": attempt.place.name,
        "task": attempt.task_id,
        "type": attempt.message.type,
    }
