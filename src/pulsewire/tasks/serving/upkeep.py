"""What every server does for its queues besides running tasks: forward, recover, forget. One pass each."""

from __future__ import annotations

import asyncio
import time

from pulsewire._core.failovers import PATIENCE, Vigil
from pulsewire._core.loops import PASSING
from pulsewire._core.vitals import going_on, resting
from pulsewire.errors import DecodeError, TaskError, TaskLeaseLost
from pulsewire.tasks.serving.crew import Crew
from pulsewire.tasks.serving.judgement import Judgement, failed_message
from pulsewire.tasks.serving.place import QueuePlace
from pulsewire.tasks.store import Lapsed, Leaving
from pulsewire.tasks.wire import decode_message

FORWARDED = 100
RECOVERED = 100
"""What one script does at most: as many mean that there may be more."""
WAITED = 0.5
"""Seconds after which an answer has not just been slow: it has waited for Redis to be there again."""


class WorkersLost(TaskError):
    """Why a task is archived whose servers died while running it."""

    def __init__(self, times: int) -> None:
        super().__init__(f"its server died, or was cut off, {times} times while running it")


class Upkeep:
    """The upkeep of one server's queues."""

    def __init__(self, crew: Crew) -> None:
        self._places = tuple(crew.places.values())
        self._options = crew.options
        self._clock = crew.clock
        self._hooks = crew.hooks
        self._stop = crew.working.stop
        self._judgement = Judgement(crew.options, crew.logger)
        self._recover_from = 0.0
        self._vigils = {
            place.name: Vigil(PATIENCE if place.store.link.may_fail_over else 0.0)
            for place in self._places
        }

    async def forward_once(self) -> None:
        """Move due tasks of all queues, and wait until the next one is due, or for `forward_interval`."""
        pauses = await asyncio.gather(*(self._forward(place) for place in self._places))
        with resting():
            await self._stop.sleep(min([self._options.forward_interval, *pauses]))

    async def _forward(self, place: QueuePlace) -> float:
        """Move due tasks of a queue; seconds until more may be due."""
        moved, next_due = await place.store.forward()
        if moved >= FORWARDED:
            return 0.0
        return self._options.forward_interval if next_due is None else next_due

    async def forget_once(self) -> None:
        """Delete tasks whose retention is over."""
        batch = self._options.janitor_batch
        for place in self._places:
            going_on()
            while await place.store.forget(batch) >= batch and not self._stop.is_set:
                going_on()

    async def recover_once(self) -> None:
        """Have the tasks of lost servers run again."""
        if time.monotonic() < self._recover_from:
            return
        try:
            for place in self._places:
                going_on()
                while await self._recover(place) >= RECOVERED and not self._stop.is_set:
                    going_on()
        except PASSING:
            self._let_owners_go_first()
            raise

    def _let_owners_go_first(self) -> None:
        """While Redis was away nobody could renew, or write what had become of a task."""
        self._recover_from = time.monotonic() + self._options.lease

    async def reclaim_once(self) -> None:
        """Give lapsed aggregation sets back to their groups."""
        for place in self._places:
            going_on()
            while await place.store.reclaim() and not self._stop.is_set:
                going_on()

    async def _recover(self, place: QueuePlace) -> int:
        asked_at, server = time.monotonic(), place.store.server
        if not self._vigils[place.name].is_over(server, asked_at):
            return 0  # after a failover leases end earlier than their owners believe
        lapsed = await place.store.lapsed()
        if place.store.server != server:
            return 0
        if time.monotonic() - asked_at > WAITED:
            self._let_owners_go_first()
            return 0
        if not lapsed:
            return 0
        leaving = [self._what_becomes_of(place, task) for task in lapsed]
        words = await place.store.leave("", leaving, self._clock.day())
        for task, word in zip(lapsed, words, strict=True):
            if word == "left" and task.is_ours:
                self._hooks.task_recovered(place.name, task.task_id, task.lost + 1)
        return len(lapsed)

    def _what_becomes_of(self, place: QueuePlace, task: Lapsed) -> Leaving:
        """Ours run again, uncharged, so many times; those of Go servers as Go would have it (spec/asynq.md 4.5)."""
        try:
            message = decode_message(task.message, task.task_id)
        except DecodeError as error:
            self._hooks.task_malformed(place.name, task.task_id, error.reason)
            return Leaving(task.task_id, "shelve")
        now = self._clock.now()
        if task.is_ours:
            # A suspect that had not begun, or was not alone, is not taken for the reason.
            count = 1 if task.lost < self._options.suspicious or task.was_alone else 0
            if task.lost + count < self._options.max_lost:
                return Leaving(task.task_id, "recover", number=count)
            packed = failed_message(message, WorkersLost(task.lost + 1), now, is_counted=False)
            return Leaving(task.task_id, "archive", packed)
        return self._judgement.failed(task.task_id, message, TaskLeaseLost(), now)
