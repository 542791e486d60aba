"""Making one task of the members of a group (spec/asynq.md 5.4).

The members are set apart, the aggregator is asked, and then the new task takes their place in one script. Whatever goes
wrong in between gives them back to their group: at once if this server sees it, else when the set's life is over.
"""

from __future__ import annotations

import contextlib
import inspect
import uuid

import anyio

from pulsewire._core.loops import PASSING
from pulsewire._core.vitals import going_on, resting
from pulsewire.errors import DecodeError, DuplicateTask, InvalidOption, TaskIdConflict
from pulsewire.tasks.client import TaskClient
from pulsewire.tasks.serving.crew import Crew
from pulsewire.tasks.serving.options import Aggregator
from pulsewire.tasks.serving.place import QueuePlace
from pulsewire.tasks.store import PAGE
from pulsewire.tasks.task import Task
from pulsewire.tasks.wire import NewTask, decode_message

SET_LIFE = 120.0
"""Seconds that an aggregation may take (4.6)."""
GOODBYE = 2.0
LONGEST_PAUSE = 7.0


class Aggregation:
    """Looks after the groups of one server's queues."""

    def __init__(self, crew: Crew, aggregator: Aggregator, client: TaskClient) -> None:
        self._places = tuple(crew.places.values())
        self._aggregator = aggregator
        self._options = crew.options
        self._client = client
        self._hooks = crew.hooks
        self._logger = crew.logger
        self._stop = crew.working.stop

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        limits = [LONGEST_PAUSE, self._options.group_grace]
        if self._options.group_max_delay is not None:
            limits.append(self._options.group_max_delay)
        return min(limits) / 2

    async def aggregate_once(self) -> None:
        """Look at every group once."""
        for place in self._places:
            for group in await place.store.groups():
                going_on()
                while await self._aggregate(place, group) and not self._stop.is_set:
                    going_on()  # a group may hold more than one set may

    async def _aggregate(self, place: QueuePlace, group: str) -> bool:
        """Make a task of a group, if it is time; whether more of the group may wait."""
        set_id = str(uuid.uuid4())
        most = self._options.group_max_size or 0
        gathered = await place.store.gather(
            group,
            set_id,
            most=most,
            delay=self._options.group_max_delay or 0.0,
            grace=self._options.group_grace,
            life=SET_LIFE,
        )
        if gathered.outcome != "gathered":
            return False
        done = False
        try:
            with anyio.fail_after(SET_LIFE - 10.0):
                done = await self._bundle(place, group, set_id)
        except (
            Exception,
            SystemExit,
            KeyboardInterrupt,
        ):  # as handlers, it must not end the process
            self._logger.exception(
                "a group could not be aggregated", extra={"queue": place.name, "group": group}
            )
        finally:
            if not done:  # also when the server ends meanwhile
                with anyio.move_on_after(GOODBYE, shield=True), contextlib.suppress(*PASSING):
                    await place.store.reclaim(group, set_id)
        if done:
            self._hooks.tasks_aggregated(place.name, group, gathered.size)
        return done and gathered.size == most

    async def _bundle(self, place: QueuePlace, group: str, set_id: str) -> bool:
        tasks = await self._members(place, group, set_id)
        with resting():
            made = self._aggregator(group, tasks)
            new = await made if inspect.isawaitable(made) else made
        if not isinstance(new, NewTask):
            raise InvalidOption("aggregator", new, "it must return a NewTask")
        new = new.with_options(queue=place.name)  # a queue lives in one slot (5.4)
        _, order = self._client.prepare(new)
        word = await place.store.bundle(group, set_id, order)
        if word == "duplicate":
            raise DuplicateTask(place.name, new.type)
        if word == "conflict":
            raise TaskIdConflict(place.name, order.task_id)
        return word != "lapsed"

    async def _members(self, place: QueuePlace, group: str, set_id: str) -> list[Task]:
        tasks: list[Task] = []
        start = 0
        while True:
            page = await place.store.members(group, set_id, start)
            for task_id, data in page:
                try:
                    tasks.append(Task(decode_message(data, task_id)))
                except DecodeError as error:
                    self._hooks.task_malformed(place.name, task_id, error.reason)
            if len(page) < PAGE:
                return tasks
            start += PAGE
