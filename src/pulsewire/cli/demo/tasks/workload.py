"""What the client enqueues: which tasks there are, and what is special about each. Pure, and the same in every process.

The client makes its calls from it, the handlers read what they shall do from the payloads, and the verdict knows from
it what was to be expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from pulsewire.tasks import NewTask

__all__ = [
    "DIGEST",
    "GROUP",
    "QUEUES",
    "TICK",
    "TICK_EVERY",
    "TICK_QUEUE",
    "TYPES",
    "Kind",
    "Order",
    "Work",
    "orders",
]

QUEUES = {"critical": 6, "default": 3, "low": 1}
"""The queues and their weights."""
GROUP = "ada"
DIGEST = "digest:send"
"""The type of the task that is made of a group."""
TICK = "stats:collect"
"""The type of the periodic task."""
TICK_QUEUE = "critical"
TICK_EVERY = 2
"""Seconds between two ticks."""

_PLAIN_TYPES = {"critical": "receipt:send", "default": "email:welcome", "low": "image:shrink"}
_GROUP_QUEUE = "critical"
_LATER = 2.0
_UNIQUE_LATER = 1.0
"""Unique tasks are for later, too, so that they still exist when their twins come."""
_UNIQUE_FOR = 600.0
_KEPT_FOR = 600.0
_MAX_RETRY = 5
_ONE_MEMBER_OF = 100
"""One task of so many is a member of the group."""
_LEAST_MEMBERS = 5


class Kind(Enum):
    """What is special about a task."""

    PLAIN = auto()
    FLAKY = auto()
    LATER = auto()
    UNIQUE = auto()
    KEPT = auto()
    MEMBER = auto()


_SPECIAL_TYPES = {
    Kind.FLAKY: "webhook:call",
    Kind.LATER: "reminder:send",
    Kind.UNIQUE: "report:build",
    Kind.MEMBER: "digest:line",
}
TYPES = (*_PLAIN_TYPES.values(), *_SPECIAL_TYPES.values())
"""The types of all tasks that the client enqueues."""

_ROUND: dict[int, tuple[Kind, int]] = {
    3: (Kind.FLAKY, 1),
    8: (Kind.FLAKY, 2),
    13: (Kind.LATER, 0),
    16: (Kind.UNIQUE, 0),
    19: (Kind.KEPT, 0),
}
"""Kind and failures of some of every 20 tasks of a queue; the others are plain."""
_ROUND_LENGTH = 20


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a payload tells the handler.

    Attributes:
        name: Who is meant; makes payloads differ.
        fails: How many times it shall fail first.
        is_kept: Whether it shall leave a result.
    """

    name: str
    fails: int = 0
    is_kept: bool = False


_work = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One task of the client.

    Attributes:
        task: Its id.
        queue: Where it waits.
        kind: What is special about it.
        fails: How many times it fails before it succeeds.
        delay: Seconds for which it is not to be run.
        twin: The id of another one like it, which must be refused; empty if there is none.
    """

    task: str
    queue: str
    kind: Kind
    fails: int = 0
    delay: float = 0.0
    twin: str = ""

    @property
    def task_type(self) -> str:
        """What kind of work it is."""
        return _SPECIAL_TYPES.get(self.kind) or _PLAIN_TYPES[self.queue]

    def new_tasks(self) -> list[NewTask]:
        """Return what is enqueued: the task, and after it its twin."""
        work = Work(self.task, self.fails, self.kind is Kind.KEPT)
        return [
            NewTask(
                type=self.task_type,
                payload=_work.encode(work),
                queue=self.queue,
                task_id=task_id,
                max_retry=_MAX_RETRY,
                unique=_UNIQUE_FOR if self.kind is Kind.UNIQUE else None,
                process_in=self.delay or None,
                retention=_KEPT_FOR if self.kind is Kind.KEPT else 0.0,
                group=GROUP if self.kind is Kind.MEMBER else None,
            )
            for task_id in (self.task, *([self.twin] if self.twin else []))
        ]


def orders(tasks: int) -> list[Order]:
    """Return so many tasks in the order in which they are enqueued; the members of the group come first."""
    members = max(_LEAST_MEMBERS, tasks // _ONE_MEMBER_OF)
    queues = list(QUEUES)
    found = [
        Order(task=f"line-{number:03}", queue=_GROUP_QUEUE, kind=Kind.MEMBER)
        for number in range(1, members + 1)
    ]
    for index in range(tasks - members):
        round_, place = divmod(index, len(queues))
        found.append(_order(queues[place], round_))
    return found


def _order(queue: str, index: int) -> Order:
    task = f"{queue}-{index + 1:04}"
    kind, fails = _ROUND.get(index % _ROUND_LENGTH, (Kind.PLAIN, 0))
    delay = {Kind.LATER: _LATER, Kind.UNIQUE: _UNIQUE_LATER}.get(kind, 0.0)
    return Order(
        task=task,
        queue=queue,
        kind=kind,
        fails=fails,
        delay=delay,
        twin=f"{task}-twin" if kind is Kind.UNIQUE else "",
    )
