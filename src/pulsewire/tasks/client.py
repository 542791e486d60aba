"""Enqueuing tasks: the client's side of task queues."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from pulsewire._core.checks import check_seconds
from pulsewire._core.hooks import Hooks
from pulsewire._redis.link import Link
from pulsewire._redis.scripts import ms
from pulsewire.errors import (
    DuplicateTask,
    InvalidName,
    InvalidOption,
    PayloadTooLarge,
    PulsewireError,
    TaskIdConflict,
)
from pulsewire.tasks.enqueuing import Enqueuer, Placed
from pulsewire.tasks.inspecting.inspector import Inspector
from pulsewire.tasks.keys import DEFAULT_QUEUE, QueueKeys, TaskKeys
from pulsewire.tasks.messages import TaskRecord
from pulsewire.tasks.semaphore import Semaphore
from pulsewire.tasks.states import TaskState
from pulsewire.tasks.store import Order, Plan
from pulsewire.tasks.wire import (
    DEFAULT_MAX_RETRY,
    LEAST_UNIQUE,
    NO_HEADERS,
    NewTask,
    TaskIds,
    TaskInfo,
    as_payload,
    check_text,
    encode_new,
    info_of,
    unix,
)

DEFAULT_MAX_PAYLOAD = 16 * 1024 * 1024
"""Bytes of a payload: what streams take, too."""


class TaskClient:
    """Enqueues tasks. `Hub.tasks` is one; use it within the hub's `async with`."""

    def __init__(self, link: Link, keys: TaskKeys, hooks: Hooks) -> None:
        self.keys = keys
        self.link = link
        self.enqueuer = Enqueuer(link, keys)
        self.max_payload = DEFAULT_MAX_PAYLOAD
        self._hooks = hooks
        self._ids = TaskIds()
        self._inspector: Inspector | None = None
        self._queue_keys: dict[str, QueueKeys] = {}

    def __repr__(self) -> str:
        return f"<TaskClient at {self.link.shown}>"

    @property
    def inspector(self) -> Inspector:
        """The inspector, which looks at queues, tasks, servers and schedulers, and intervenes."""
        if self._inspector is None:
            self._inspector = Inspector(
                self.link, self.keys, max_payload=self.max_payload, on_removed=self.enqueuer.forget
            )
        return self._inspector

    def semaphore(self, scope: str, places: int) -> Semaphore:
        """A limit on how many tasks run at a time, over all servers, Go's among them.

        Raises:
            InvalidName, InvalidOption: the scope or the number is impossible.
        """
        return Semaphore(self.link, self.keys, scope, places)

    async def enqueue(
        self,
        task: str | NewTask,
        payload: bytes | str | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        task_id: str | None = None,
        max_retry: int = DEFAULT_MAX_RETRY,
        timeout: float | None = None,
        deadline: datetime | float | None = None,
        unique: float | None = None,
        process_at: datetime | float | None = None,
        process_in: float | None = None,
        retention: float = 0.0,
        group: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> TaskInfo:
        """Enqueue a task: now, or for later. It is written when this returns, and will be run at least once.

        Args:
            task: its type, such as "email:welcome"; or all of it as a `NewTask`, without further arguments.
            payload: what the handler gets.
            queue: where it waits.
            task_id: unique within the queue; a UUID by default.
            max_retry: how often it is tried again after failures.
            timeout: seconds an attempt may take; 30 minutes if neither this nor a deadline is given.
            deadline: no attempt goes on beyond it: an aware datetime, or Unix seconds.
            unique: seconds for which no equal task can be enqueued until this one is over; at least 1.
            process_at: run it then: an aware datetime, or Unix seconds.
            process_in: run it after this many seconds.
            retention: seconds for which it is kept after it has succeeded.
            group: hand it to the aggregator together with others of this group.
            headers: text for middleware and tracing.

        Raises:
            InvalidName, InvalidOption, PayloadTooLarge: it cannot be enqueued; nothing was written.
            TaskIdConflict, DuplicateTask: it is there already; nothing was written.
            ServerFull, ServerUnavailable, PermissionDenied: not now; nothing was written.
            OutcomeUnknown: no server was left to ask what had become of it.
        """
        said = NewTask(
            type=task.type if isinstance(task, NewTask) else task,
            payload=payload,
            queue=queue,
            task_id=task_id,
            max_retry=max_retry,
            timeout=timeout,
            deadline=deadline,
            unique=unique,
            process_at=process_at,
            process_in=process_in,
            retention=retention,
            group=group,
            headers=headers,
        )
        if not isinstance(task, NewTask):
            task = said
        elif said != NewTask(type=task.type):
            raise InvalidOption(
                "task", task, "give its options within it: see NewTask.with_options"
            )
        message, order = self.prepare(task)
        placed = await self.enqueuer.submit(task.queue, order)
        return self.outcome(task, message, order, placed)

    async def enqueue_many(self, tasks: Iterable[NewTask]) -> list[TaskInfo | PulsewireError]:
        """Enqueue many tasks, in order within each queue. One that is refused does not hold back the others.

        Returns:
            What became of each, in order: its `TaskInfo`, or the error that `enqueue` would have raised.
        """
        sent: list[tuple[NewTask, TaskRecord, Order, asyncio.Future[Placed]] | PulsewireError] = []
        for task in tasks:
            try:
                message, order = self.prepare(task)
            except PulsewireError as error:
                sent.append(error)
            else:
                sent.append((task, message, order, self.enqueuer.submit(task.queue, order)))
        waiting = [one[3] for one in sent if not isinstance(one, PulsewireError)]
        if waiting:
            await asyncio.wait(waiting)
        return [
            one if isinstance(one, PulsewireError) else self._outcome_or_error(*one) for one in sent
        ]

    def _outcome_or_error(
        self,
        task: NewTask,
        message: TaskRecord,
        order: Order,
        placed: asyncio.Future[Placed],
    ) -> TaskInfo | PulsewireError:
        try:
            return self.outcome(task, message, order, placed.result())
        except PulsewireError as error:
            return error

    def prepare(
        self, task: NewTask, *, tick: tuple[str, int] | None = None
    ) -> tuple[TaskRecord, Order]:
        """The message of a new task and its order, all options checked. `tick`: entry and due time of a periodic one.

        Raises:
            InvalidName, InvalidOption, PayloadTooLarge: it cannot be enqueued.
        """
        payload = as_payload(task.payload)
        if payload is not None and len(payload) > self.max_payload:
            raise PayloadTooLarge(len(payload), self.max_payload, "a task", "max_payload")
        task_id = task.task_id
        if task_id is None:
            task_id = self._ids.next()
        else:
            _check_id(task_id)
        is_plain = (
            task.unique is None
            and task.process_at is None
            and task.process_in is None
            and task.group is None
            and tick is None
        )
        if is_plain:
            message = encode_new(task, task_id, payload, "")
            return message, Order(task_id, message.SerializeToString(), None, ())
        return self._special(task, task_id, payload, tick)

    def _special(
        self, task: NewTask, task_id: str, payload: bytes | None, tick: tuple[str, int] | None
    ) -> tuple[TaskRecord, Order]:
        plan, own, lock = Plan(), [], ""
        _set_time(plan, task)
        encode_new(task, task_id, payload, "")  # checks what the keys are made of
        keys = self._keys_of(task.queue)
        if task.unique is not None:
            plan.ttl = int(check_seconds("unique", task.unique, LEAST_UNIQUE))
            lock = keys.lock(task.type, payload)
            own.append(lock)
            plan.lock = len(own)
        if task.group is not None:
            own.append(keys.group(task.group))
            plan.group, plan.name = len(own), task.group
        if tick is not None:
            own.append(keys.tick(tick[0]))
            plan.tick, plan.due = len(own), tick[1]
        message = encode_new(task, task_id, payload, lock)
        return message, Order(task_id, message.SerializeToString(), plan, own)

    def _keys_of(self, queue: str) -> QueueKeys:
        keys = self._queue_keys.get(queue)
        if keys is None:
            keys = self._queue_keys[queue] = self.keys.queue(queue)
        return keys

    def outcome(self, task: NewTask, message: TaskRecord, order: Order, placed: Placed) -> TaskInfo:
        """What became of an order.

        Raises:
            TaskIdConflict, DuplicateTask: it is there already.
        """
        word = placed.word
        if word == "conflict":
            raise TaskIdConflict(task.queue, order.task_id)
        if word == "duplicate":
            raise DuplicateTask(task.queue, task.type)
        self._hooks.task_enqueued(task.queue, task.type, word)
        if word == "pending":
            return info_of(message, TaskState.PENDING, next_process_at=placed.now)
        if word == "aggregating":
            return info_of(message, TaskState.AGGREGATING)
        plan = order.plan or Plan()
        at = plan.at if plan.at is not None else placed.now * 1000 + (plan.delay or 0)
        return info_of(message, TaskState.SCHEDULED, next_process_at=math.ceil(at / 1000))


def _check_id(task_id: object) -> None:
    if not isinstance(task_id, str) or not task_id.strip():
        raise InvalidName("task id", task_id, "it is blank, or not a string")
    check_text("task id", task_id)


def _set_time(plan: Plan, task: NewTask) -> None:
    if task.process_at is not None and task.process_in is not None:
        raise InvalidOption("process_in", task.process_in, "give it or process_at, not both")
    if task.process_at is not None:
        plan.at = int(unix("process_at", task.process_at) * 1000)
    elif task.process_in is not None:
        delay = check_seconds("process_in", task.process_in, -math.inf)
        if delay > 0:
            plan.delay = ms(delay)
