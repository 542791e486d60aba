"""Writing down what becomes of tasks: all attempts of one queue that are over in one turn of the loop in one script.

What cannot be written for now is tried again until it is; a script refuses what is not this server's any more, so that
nothing is written twice and nothing over what another server has done (`lua/done.lua`, `lua/leave.lua`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from pulsewire._core.backoff import Backoff
from pulsewire._core.loops import PASSING
from pulsewire._redis.pipeline import Argument, JoinedConnection
from pulsewire._redis.scripts import text
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import ConnectionLost, OutcomeUnknown, TaskLeaseLost
from pulsewire.tasks.messages import TaskMessage
from pulsewire.tasks.serving.crew import Crew
from pulsewire.tasks.serving.judgement import Judgement
from pulsewire.tasks.serving.place import Attempt, HandedBack, QueuePlace
from pulsewire.tasks.store import AT_ONCE, DONE, Leaving, Verb

OUTCOMES: dict[Verb, str] = {
    "done": "done",
    "complete": "completed",
    "retry": "retry",
    "again": "again",
    "archive": "archived",
    "back": "back",
}


class Settler:
    """Settles the attempts of one server."""

    def __init__(self, crew: Crew) -> None:
        self._link = crew.link
        self._owner = crew.server
        self._tasks = crew.tasks
        self._clock = crew.clock
        self._hooks = crew.hooks
        self._logger = crew.logger
        self._judgement = Judgement(crew.options, crew.logger)
        self._done: dict[QueuePlace, list[Attempt]] = {}
        self._leaving: dict[QueuePlace, list[tuple[Attempt, Leaving]]] = {}
        self._is_due = False
        self._outstanding = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()

    async def wait_idle(self) -> None:
        """Return when everything has been written."""
        await self._idle.wait()

    # --- deciding

    def settle(self, attempt: Attempt) -> None:
        """An attempt is over: its task leaves with the others of this turn."""
        place, reason = attempt.place, attempt.reason
        message, error = attempt.message, attempt.error
        if isinstance(reason, TaskLeaseLost):  # whoever takes it over settles it
            place.let_go(attempt)
            self._hooks.task_lost(place.name, attempt.task_id)
            return
        if error is None:
            if not message.retention and not message.unique_key:
                self._note(attempt, "done")
                self._add(self._done, place, attempt)
                return
            leaving = self._success(attempt)
        elif isinstance(reason, HandedBack):  # whatever the handler has made of its cancellation
            leaving = Leaving(attempt.task_id, "back")
        else:
            leaving = self._judgement.failed(attempt.task_id, message, error, self._clock.now())
        is_dropped = error is not None and leaving.verb == "done"
        self._note(attempt, "dropped" if is_dropped else OUTCOMES[leaving.verb])
        self._add(self._leaving, place, (attempt, leaving))

    def _note(self, attempt: Attempt, outcome: str) -> None:
        took = time.monotonic() - attempt.began if attempt.began else 0.0
        self._hooks.task_ended(attempt.place.name, attempt.message.type, outcome, took)

    def _success(self, attempt: Attempt) -> Leaving:
        message = attempt.message
        if not message.retention:
            return Leaving(attempt.task_id, "done", lock=message.unique_key)
        changed = TaskMessage()
        changed.CopyFrom(message)
        changed.completed_at = int(self._clock.now())
        packed = changed.SerializeToString()
        return Leaving(
            attempt.task_id, "complete", packed, message.retention, lock=message.unique_key
        )

    # --- writing

    def _add(self, batches: dict[QueuePlace, list[Any]], place: QueuePlace, what: object) -> None:
        batch = batches.get(place)
        if batch is None:
            batches[place] = [what]
        else:
            batch.append(what)
        if not self._is_due:
            self._is_due = True
            self._idle.clear()
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        done, self._done = self._done, {}
        leaving, self._leaving = self._leaving, {}
        for place, attempts in done.items():
            for start in range(0, len(attempts), AT_ONCE):
                self._send_done(place, attempts[start : start + AT_ONCE])
        for place, ends in leaving.items():
            ends.reverse()  # what goes back to the front comes again in the order in which it was taken
            for start in range(0, len(ends), AT_ONCE):
                self._begin()
                self._tasks.start_soon(self._leave, place, ends[start : start + AT_ONCE])

    def _begin(self) -> None:
        self._outstanding += 1

    def _end(self) -> None:
        self._outstanding -= 1
        if not self._outstanding and not self._is_due:
            self._idle.set()

    def _send_done(self, place: QueuePlace, attempts: list[Attempt]) -> None:
        self._begin()
        connection = self._link.connection_now(place.keys.pending)
        if connection is None:
            self._tasks.start_soon(self._done_again, place, attempts, None, None)
            return
        reply = connection.submit(self._done_command(place, attempts))
        reply.add_done_callback(partial(self._answered, place, attempts, connection))

    def _done_command(self, place: QueuePlace, attempts: list[Attempt]) -> tuple[Argument, ...]:
        ids = [attempt.task_id for attempt in attempts]
        return place.store.done_command(self._owner, ids, self._clock.day())

    def _answered(
        self,
        place: QueuePlace,
        attempts: list[Attempt],
        connection: JoinedConnection,
        reply: asyncio.Future[list[Any]],
    ) -> None:
        trouble = reply.exception()
        if trouble is None:
            self._settled_done(place, attempts, reply.result(), is_first=True)
            self._end()
        elif isinstance(trouble, (ReplyError, ConnectionLost)):
            self._tasks.start_soon(self._done_again, place, attempts, trouble, connection)
        else:
            raise trouble

    async def _done_again(
        self,
        place: QueuePlace,
        attempts: list[Attempt],
        trouble: ReplyError | ConnectionLost | None,
        connection: JoinedConnection | None,
    ) -> None:
        """Repeat until it is known: what is gone by then was done the first time."""
        command = self._done_command(place, attempts)
        key = place.keys.pending
        backoff = Backoff(base=0.05, cap=2.0)
        may_be_done = False
        try:
            while True:
                may_be_done |= isinstance(trouble, ConnectionLost) and trouble.was_sent
                try:
                    if trouble is None or connection is None:
                        connection = await self._link.connection_for(key)
                        if may_be_done:  # what is held here anew was done the first time
                            attempts = [
                                one for one in attempts if place.held.get(one.task_id) is one
                            ]
                            if not attempts:
                                return
                            command = self._done_command(place, attempts)
                        reply = await connection.submit(command)
                    else:
                        reply = await self._link.resume(
                            key, command, trouble, connection, text=DONE.text
                        )
                except (ReplyError, ConnectionLost) as error:
                    trouble = error
                except PASSING as error:
                    may_be_done |= isinstance(error, OutcomeUnknown)
                    self._hooks.loop_troubled("settling tasks", error, backoff.attempts + 1)
                    trouble = None
                else:
                    self._settled_done(place, attempts, reply, is_first=not may_be_done)
                    return
                await asyncio.sleep(backoff.next_pause())
        finally:
            self._end()

    def _settled_done(
        self,
        place: QueuePlace,
        attempts: Sequence[Attempt],
        lost: Sequence[bytes],
        *,
        is_first: bool,
    ) -> None:
        for attempt in attempts:
            place.let_go(attempt)
        if lost and is_first:
            for task_id in lost:
                self._lost(place, text(task_id))

    async def _leave(self, place: QueuePlace, ends: list[tuple[Attempt, Leaving]]) -> None:
        backoff = Backoff(base=0.05, cap=2.0)
        is_first = True
        try:
            while True:
                if not is_first:  # what is held here anew has left the first time
                    ends = [one for one in ends if place.held.get(one[0].task_id) is one[0]]
                    if not ends:
                        return
                leaving = [end for _, end in ends]
                try:
                    words = await place.store.leave(self._owner, leaving, self._clock.day())
                except PASSING as error:
                    is_first = is_first and not isinstance(error, OutcomeUnknown)
                    self._hooks.loop_troubled("settling tasks", error, backoff.attempts + 1)
                    await asyncio.sleep(backoff.next_pause())
                else:
                    self._left(place, ends, words, is_first=is_first)
                    return
        finally:
            self._end()

    def _left(
        self,
        place: QueuePlace,
        ends: list[tuple[Attempt, Leaving]],
        words: list[str],
        *,
        is_first: bool,
    ) -> None:
        for (attempt, end), word in zip(ends, words, strict=True):
            place.let_go(attempt)
            if word != "left" and is_first:
                self._lost(place, end.task_id)

    def _lost(self, place: QueuePlace, task_id: str) -> None:
        """The outcome of an attempt could not be written: another server has the task, or somebody has deleted it."""
        self._hooks.task_lost(place.name, task_id)
        self._logger.warning(
            "the outcome of a task is lost: it is not this server's any more",
            extra={"queue": place.name, "task": task_id},
        )
