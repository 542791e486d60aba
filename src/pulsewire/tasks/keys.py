"""The name of everything that task queues leave in Redis: asynq's names, and a few of ours beside them.

All keys of one queue carry the tag `{<queue>}`: a queue lives in one slot. Formats: spec/asynq.md 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from pulsewire._core.checks import check_name
from pulsewire._redis.namespace import Namespace
from pulsewire.errors import InvalidName

PREFIX = "asynq"
DEFAULT_QUEUE = "default"


def check_queue(name: object) -> str:
    """`name` if it can be a queue's.

    Go allows whatever is not blank; braces are refused here, since they would break the hash tag (spec/asynq.md 1.1).

    Raises:
        InvalidName: it is blank, too long, or has a brace.
    """
    if not isinstance(name, str):
        raise InvalidName("queue", name, f"a string is needed, not {type(name).__name__}")
    if not name.strip():
        raise InvalidName("queue", name, "it is blank")
    if len(name) > 512:
        raise InvalidName("queue", name[:40] + "...", f"{len(name)} characters, at most 512")
    if "{" in name or "}" in name:
        raise InvalidName("queue", name, "braces are not allowed: the name is a hash tag")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidName("queue", name, "it cannot be written as UTF-8") from error
    return name


@dataclass(frozen=True, slots=True)
class TaskKeys:
    """What belongs to no single queue (spec/asynq.md 1.3)."""

    space: Namespace

    def queue(self, name: str) -> QueueKeys:
        """The keys of one queue."""
        return QueueKeys(self.space, name)

    @property
    def queues(self) -> str:
        """SET: the names of all queues."""
        return self.space.key(PREFIX, "queues")

    @property
    def servers(self) -> str:
        """ZSET: name of a server's key -> when it lapses, s."""
        return self.space.key(PREFIX, "servers")

    @property
    def workers(self) -> str:
        """ZSET: name of the key of a server's workers -> when it lapses, s."""
        return self.space.key(PREFIX, "workers")

    @property
    def schedulers(self) -> str:
        """ZSET: name of the key of a scheduler's entries -> when it lapses, s."""
        return self.space.key(PREFIX, "schedulers")

    def server(self, server: str) -> str:
        """STRING: ServerInfo of `<host>:<pid>:<id>`. With a TTL."""
        return self.space.key(PREFIX, "servers", f"{{{server}}}")

    def workers_of(self, server: str) -> str:
        """HASH task id -> WorkerInfo, of `<host>:<pid>:<id>`. With a TTL."""
        return self.space.key(PREFIX, "workers", f"{{{server}}}")

    def entries(self, scheduler: str) -> str:
        """LIST: SchedulerEntry of `<host>:<pid>:<id>`, last first. With a TTL."""
        return self.space.key(PREFIX, "schedulers", f"{{{scheduler}}}")

    def history(self, entry: str) -> str:
        """ZSET: SchedulerEnqueueEvent -> when, s. Goes with its scheduler; ours has a TTL besides."""
        return self.space.key(PREFIX, "scheduler_history", entry)

    @property
    def cancel(self) -> str:
        """CHANNEL: ids of tasks to cancel."""
        return self.space.key(PREFIX, "cancel")

    def semaphore(self, scope: str) -> str:
        """ZSET: task id -> its deadline, s (package x/rate)."""
        return self.space.key(PREFIX, "sema", check_name("semaphore", scope))


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue (spec/asynq.md 1.1). Ours begin with `pulsewire:`."""

    space: Namespace
    name: str
    prefix: str = field(init=False, default="")
    """What the keys of the queue begin with, up to the colon."""

    def __post_init__(self) -> None:
        check_queue(self.name)
        object.__setattr__(self, "prefix", self.space.key(PREFIX, f"{{{self.name}}}") + ":")

    @property
    def tasks(self) -> str:
        """What the key of every task begins with."""
        return self.prefix + "t:"

    def task(self, task_id: str) -> str:
        """HASH: everything about one task (1.2). Lives as long as the task."""
        return f"{self.prefix}t:{task_id}"

    @property
    def pending(self) -> str:
        """LIST of ids: the newest at the head, the next to run at the tail."""
        return self.prefix + "pending"

    @property
    def active(self) -> str:
        """LIST of ids."""
        return self.prefix + "active"

    @property
    def lease(self) -> str:
        """ZSET id of an active task -> end of its lease, s. Ours are never whole: see `lua/take.lua`."""
        return self.prefix + "lease"

    @property
    def scheduled(self) -> str:
        """ZSET id -> when to run, s."""
        return self.prefix + "scheduled"

    @property
    def retry(self) -> str:
        """ZSET id -> when to run again, s."""
        return self.prefix + "retry"

    @property
    def archived(self) -> str:
        """ZSET id -> when it was archived, s."""
        return self.prefix + "archived"

    @property
    def completed(self) -> str:
        """ZSET id -> when to forget it, s."""
        return self.prefix + "completed"

    @property
    def groups(self) -> str:
        """SET: the names of groups that have members."""
        return self.prefix + "groups"

    @property
    def group_prefix(self) -> str:
        """What the keys of groups begin with."""
        return self.prefix + "g:"

    def group(self, group: str) -> str:
        """ZSET id -> when it was added, s."""
        return f"{self.prefix}g:{group}"

    def aggregation_set(self, group: str, set_id: str) -> str:
        """ZSET: members of a group that are being aggregated. `set_id` has no colon (1.1)."""
        return f"{self.prefix}g:{group}:{set_id}"

    @property
    def aggregation_sets(self) -> str:
        """ZSET: name of an aggregation set's key -> when it lapses, s."""
        return self.prefix + "aggregation_sets"

    @property
    def paused(self) -> str:
        """STRING: since when, s. Its existence is the pause."""
        return self.prefix + "paused"

    @property
    def processed(self) -> str:
        """STRING: attempts that have ended, ever."""
        return self.prefix + "processed"

    @property
    def failed(self) -> str:
        """STRING: attempts that have failed, ever."""
        return self.prefix + "failed"

    def processed_on(self, day: str) -> str:
        """STRING: attempts that ended on a UTC day, `YYYY-MM-DD`. With a TTL."""
        return f"{self.prefix}processed:{day}"

    def failed_on(self, day: str) -> str:
        """STRING: attempts that failed on a UTC day. With a TTL."""
        return f"{self.prefix}failed:{day}"

    def lock(self, task_type: str, payload: bytes | None) -> str:
        """STRING: id of the task that holds the unique lock of this type and payload. With a TTL.

        No payload and an empty one are two locks (1.1).
        """
        digest = "" if payload is None else hashlib.md5(payload, usedforsecurity=False).hexdigest()
        return f"{self.prefix}unique:{task_type}:{digest}"

    # --- ours

    def requests(self, client: str) -> str:
        """HASH: number of a request of one client -> its reply. With a TTL."""
        return self.space.key(f"pulsewire:{{{self.name}}}", "requests", client)

    def removed(self, place: str) -> str:
        """What a removed queue had at a place, until it is deleted."""
        return self.space.key(f"pulsewire:{{{self.name}}}", "removed", place)

    def tick(self, entry: str) -> str:
        """STRING: the last tick of a periodic task that was enqueued, s. With a TTL."""
        return self.space.key(f"pulsewire:{{{self.name}}}", "tick", entry)
