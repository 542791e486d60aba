"""Facts worth counting, one typed method each.

Behaviour calls a hook in one line and never looks at what it does. `Hooks` itself does nothing and is the default;
override the methods you care about. A hook runs on the event loop, so it must return quickly. What it raises is logged,
the first time for each method, and changes nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any


class Hooks:
    """Override what you want to count. All durations are seconds, all names are without namespace."""

    __slots__ = ()

    def connection_opened(self, address: str, attempts: int) -> None:
        """A connection to a server is ready, after this many attempts."""

    def connection_lost(self, address: str, reason: str, in_flight: int) -> None:
        """A connection was given up while this many commands waited for their replies."""

    def command_repeated(self, command: str, reason: str) -> None:
        """A command is sent again, which is certainly harmless."""

    def write_settled(self, stream: str, *, was_there: bool) -> None:
        """The outcome of an `add` whose reply was lost has been found out."""

    def events_delivered(self, stream: str, sink: str, count: int, lag: float) -> None:
        """Events went to their consumer; `lag` is the age of the oldest, by the server's ids and this clock."""

    def events_acked(self, stream: str, sink: str, count: int) -> None:
        """Events were acknowledged."""

    def events_claimed(self, stream: str, sink: str, count: int) -> None:
        """Events of consumers that went silent were taken over."""

    def events_filtered(self, stream: str, sink: str, count: int) -> None:
        """Events were passed over because of their topic."""

    def entry_malformed(self, stream: str, sink: str, entry_id: str, reason: str) -> None:
        """An entry is not in the stream's format and was passed over or dead-lettered."""

    def event_dead_lettered(self, stream: str, sink: str, event_id: str, reason: str) -> None:
        """An event was moved to the dead-letter stream."""

    def events_missed(self, stream: str, sink: str, count: int) -> None:
        """Events were gone before they could be read: trimmed, or deleted while pending. 0 means an unknown number."""

    def events_lost_to_others(self, stream: str, sink: str, count: int) -> None:
        """Events still in work here were taken over by other consumers, because this one was silent for too long."""

    def handler_failed(self, stream: str, sink: str, event_id: str, error: BaseException) -> None:
        """A handler raised; the event will be delivered again."""

    def group_rebuilt(self, stream: str, sink: str, position: str) -> None:
        """A consumer group had vanished and was created again at `position`."""

    def map_synced(self, name: str, reason: str, seconds: float) -> None:
        """A map's replica took a snapshot: when it was joined, or because of `reason`; it took `seconds`."""

    def map_stepped_back(self, name: str, had: int, revision: int) -> None:
        """The server's map has an earlier revision than the replica had: data was lost there. It was adopted."""

    def map_expired(self, name: str) -> None:
        """A map's time to live was over; its replica is empty."""

    def map_notice_malformed(self, name: str, reason: str) -> None:
        """A message on a map's channel was in no known format; a snapshot is taken."""

    def map_value_unreadable(self, name: str, key: str, reason: str) -> None:
        """A value of a map cannot be decoded by its codec. Reading its key raises the error."""

    def map_load_unstored(self, name: str, key: str, error: BaseException) -> None:
        """A value that `get_or_load` has loaded could not be stored; the callers have it nevertheless."""

    def job_started(self, pool: str, key: str, worker: str) -> None:
        """A job runs."""

    def job_ended(self, pool: str, key: str, worker: str) -> None:
        """A job was stopped, or came to its end by itself."""

    def job_moved(self, pool: str, key: str, worker: str, to: str) -> None:
        """A job was given to another worker, or to none (`to` is empty)."""

    def job_failed(self, pool: str, key: str, worker: str, what: str, error: BaseException) -> None:
        """A handler raised, in its start, run, stop or notify; or a stop took too long."""

    def job_lost(self, pool: str, key: str, worker: str) -> None:
        """A job that ran here turned out to be another worker's."""

    def worker_joined(self, pool: str, worker: str) -> None:
        """A worker is in the pool."""

    def worker_fenced(self, pool: str, worker: str, jobs: int) -> None:
        """A worker's lease has lapsed, or would have: `jobs` jobs were stopped. It comes back under another id."""

    def worker_buried(self, pool: str, worker: str, jobs: int) -> None:
        """This node has cleaned up after a dead worker, and given `jobs` jobs to others."""

    def task_enqueued(self, queue: str, task_type: str, state: str) -> None:
        """A task was enqueued, into that state."""

    def task_started(self, queue: str, task_type: str, waited: float) -> None:
        """A handler begins; the task had been pending for `waited` seconds (0 if that is not known)."""

    def task_ended(self, queue: str, task_type: str, outcome: str, seconds: float) -> None:
        """An attempt has ended: `done`, `completed`, `retry`, `again` (not charged), `archived`, `dropped`, `back`."""

    def task_lost(self, queue: str, task_id: str) -> None:
        """A task that ran here may be run elsewhere: its lease was lost, or somebody removed it."""

    def task_recovered(self, queue: str, task_id: str, lost: int) -> None:
        """A task whose server was lost is pending again, or archived; `lost`: how often that has happened to it."""

    def task_malformed(self, queue: str, task_id: str, reason: str) -> None:
        """A record is not a task message; it was archived as it is, or passed over."""

    def tasks_gone(self, queue: str, count: int) -> None:
        """Ids stood in a queue without a task, and were removed."""

    def tasks_aggregated(self, queue: str, group: str, count: int) -> None:
        """`count` members of a group have become one task."""

    def periodic_task_enqueued(self, spec: str, task_type: str, late: float) -> None:
        """A tick of a periodic task was enqueued, `late` seconds after it was due."""

    def loop_troubled(self, duty: str, error: BaseException, failures: int) -> None:
        """A background duty failed for a passing reason and will be tried again."""


NO_HOOKS = Hooks()


class _Guarded(Hooks):
    """Hooks that call others, and keep what those raise from whoever tells a fact."""

    __slots__ = ("failed", "hooks", "logger")

    def __init__(self, hooks: Hooks, logger: logging.Logger) -> None:
        self.hooks = hooks
        self.logger = logger
        self.failed: set[str] = set()


def _guarding(name: str) -> Callable[..., None]:
    def tell(self: _Guarded, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # as the method has them
        try:
            getattr(self.hooks, name)(*arguments, **named)
        except Exception:
            if name not in self.failed:
                self.failed.add(name)
                self.logger.exception("a hook failed; it is told once", extra={"hook": name})

    return tell


for _name in [name for name in vars(Hooks) if not name.startswith("_")]:
    setattr(_Guarded, _name, _guarding(_name))


def guarded(hooks: Hooks, logger: logging.Logger) -> Hooks:
    """Hooks as they may be called: a bug in somebody's metrics must not stop the work that is counted."""
    return hooks if hooks is NO_HOOKS else _Guarded(hooks, logger)
