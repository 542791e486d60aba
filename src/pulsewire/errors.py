"""Every exception that pulsewire raises on purpose.

The tree, and what the caller can do::

    PulsewireError
    ├── ConfigurationError (also ValueError)   the call was wrong; nothing was sent: change the call
    │   ├── InvalidTarget                      the URL or client given to connect()
    │   ├── InvalidName                        a stream, sink, map or field name
    │   └── InvalidOption                      an option, or options that contradict each other
    ├── PayloadTooLarge (also ValueError)      nothing was sent: make it smaller or raise the limit
    ├── DecodeError                            a record is not in the format expected: look at its writer
    ├── ServerUnavailable                      no usable server within the time allowed: nothing was done; try later
    │   └── ConnectionLost                     the connection went away under a command (see `was_sent`)
    ├── OutcomeUnknown                         a write was sent, its answer never came: it may have been done
    ├── ServerTooOld                           connect to a newer server
    ├── AuthenticationFailed                   check user and password
    ├── PermissionDenied                       the ACL forbids it: extend the user's rights
    ├── ServerFull                             the server is out of memory: nothing was written; free memory
    ├── StreamFull                             back-pressure: nothing was written; a sink must catch up first
    ├── ServerError                            the server refused a command for another reason
    ├── ValueConflict                          a map's value does not allow the operation; nothing was written
    ├── ReplicaBehind (also TimeoutError)      a map's replica has not reached a revision in time: wait on
    ├── NotJoined                              a map was read before `async with` had joined it
    ├── PoolFull                               too many jobs wait for their start; nothing was written: try later
    ├── JobExists                              a job with this key exists already
    ├── JobNotFound                            there is no job with this key
    ├── JobStartFailed                         the handler refused a job, or it ended before it had started
    ├── JobNotStarted (also TimeoutError)      the job was admitted, and has not started in time: it stays
    ├── JobNotStopped (also TimeoutError)      the job is being stopped, and has not ended in time: it will
    ├── JobLost                                to a handler: the job has another owner, or is to end
    ├── NoWorkers                              nobody runs the job now
    ├── WorkerNotFound                         the pool has no worker with this id
    ├── PoolMismatch                           another node runs the pool by another protocol or routing
    ├── PoolShutDown                           the pool is shutting down: nothing was written
    ├── TaskError                              of task queues
    │   ├── TaskIdConflict                     the queue has a task with this id: nothing was written
    │   ├── DuplicateTask                      another task holds the unique lock: nothing was written
    │   ├── QueueNotFound, TaskNotFound        there is no such queue or task
    │   ├── QueueNotEmpty, QueueInUse          the queue cannot be removed now
    │   ├── AlreadyPaused, NotPaused           the queue is in that state already
    │   ├── WrongState                         the task is in a state that does not allow it
    │   ├── AppNotConnected                    an app's task was enqueued without a hub: connect the app, or bind one
    │   ├── EntryNotFound                      there is no periodic task with this id
    │   ├── HandlerNotFound                    to the error handler: no pattern matches the type of a task
    │   ├── HandlerEnded                       to the error handler: a handler tried to end the process
    │   ├── TaskCancelled                      to the error handler: the attempt was cancelled
    │   ├── TaskTimedOut (also TimeoutError)   to the error handler: the attempt took longer than it may
    │   ├── TaskLeaseLost                      to the error handler: the task may be run elsewhere by now
    │   └── SkipRetry, RevokeTask, Retry       from a handler: what to do with the task
    ├── EmbeddedServerError                    the embedded server cannot start or run
    └── Closed                                 the object was closed before the call

Each one builds its own message and carries its data as attributes. The Redis client's own exceptions never get out:
they are translated in `_redis/translate.py`, and the original stays as `__cause__`.
"""

from __future__ import annotations

__all__ = [
    "AlreadyPaused",
    "AppNotConnected",
    "AuthenticationFailed",
    "Closed",
    "ConfigurationError",
    "ConnectionLost",
    "DecodeError",
    "DuplicateTask",
    "EmbeddedServerError",
    "EntryNotFound",
    "HandlerEnded",
    "HandlerNotFound",
    "InvalidName",
    "InvalidOption",
    "InvalidTarget",
    "JobExists",
    "JobLost",
    "JobNotFound",
    "JobNotStarted",
    "JobNotStopped",
    "JobStartFailed",
    "NoWorkers",
    "NotJoined",
    "NotPaused",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PermissionDenied",
    "PoolFull",
    "PoolMismatch",
    "PoolShutDown",
    "PulsewireError",
    "QueueInUse",
    "QueueNotEmpty",
    "QueueNotFound",
    "ReplicaBehind",
    "Retry",
    "RevokeTask",
    "ServerError",
    "ServerFull",
    "ServerTooOld",
    "ServerUnavailable",
    "SkipRetry",
    "StreamFull",
    "TaskCancelled",
    "TaskError",
    "TaskIdConflict",
    "TaskLeaseLost",
    "TaskNotFound",
    "TaskTimedOut",
    "ValueConflict",
    "WorkerNotFound",
    "WrongState",
]


def _restored(
    kind: type[PulsewireError], args: tuple[object, ...], state: dict[str, object]
) -> PulsewireError:
    """A copy of an error: without `__init__`, since that takes other arguments than `args` holds."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class PulsewireError(Exception):
    """Base of all exceptions of pulsewire. They can be copied and pickled, such as for a pool of processes."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class ConfigurationError(PulsewireError, ValueError):
    """A call was wrong in itself. Nothing was sent to the server."""


class InvalidTarget(ConfigurationError):
    """`connect()` was given something it cannot connect to."""

    def __init__(self, target: str, reason: str) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"cannot connect to {target!r}: {reason}")


class InvalidName(ConfigurationError):
    """A name breaks the rules that keep it usable in Redis and for Go programs."""

    def __init__(self, what: str, name: object, reason: str) -> None:
        self.what = what
        self.name = name
        self.reason = reason
        super().__init__(f"{name!r} is not a valid {what} name: {reason}")


class InvalidOption(ConfigurationError):
    """An option has an impossible value, or contradicts another one."""

    def __init__(self, option: str, value: object, reason: str) -> None:
        self.option = option
        self.value = value
        self.reason = reason
        super().__init__(f"{option}={value!r}: {reason}")


class PayloadTooLarge(PulsewireError, ValueError):
    """An event or value is larger than its stream or map accepts. Nothing was written."""

    def __init__(self, size: int, limit: int, where: str, option: str = "max_payload") -> None:
        self.size = size
        self.limit = limit
        self.where = where
        super().__init__(
            f"{size:,} bytes are more than the {limit:,} that {where} accepts; "
            f"store large content elsewhere and keep a reference here, or raise {option}"
        )


class DecodeError(PulsewireError):
    """A record read from the server is not in the format expected."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        self.reason = reason
        super().__init__(f"cannot decode {what}: {reason}")


class ServerUnavailable(PulsewireError):
    """No usable server answered within the time allowed. The command was not carried out."""

    def __init__(self, address: str, waited: float, reason: str) -> None:
        self.address = address
        self.waited = waited
        self.reason = reason
        within = f" within {waited:.1f} s" if waited else ""
        super().__init__(f"no usable server at {address}{within}: {reason}")


class ConnectionLost(ServerUnavailable):
    """A connection went away under a command.

    Attributes:
        was_sent: False when the command certainly never reached the server.
    """

    def __init__(self, address: str, reason: str, *, was_sent: bool) -> None:
        self.was_sent = was_sent
        super().__init__(address, 0.0, reason)


class OutcomeUnknown(PulsewireError):
    """A write was sent, and whether the server carried it out cannot be found out.

    It was not sent again, since it might then happen twice.
    """

    def __init__(self, command: str, reason: str) -> None:
        self.command = command
        self.reason = reason
        super().__init__(f"{command} was sent and may or may not have been carried out: {reason}")


class ServerTooOld(PulsewireError):
    """The server lacks what pulsewire needs."""

    def __init__(self, kind: str, version: str, needed: str) -> None:
        self.kind = kind
        self.version = version
        self.needed = needed
        super().__init__(f"the server is {kind} {version}; pulsewire needs {needed}")


class AuthenticationFailed(PulsewireError):
    """The server refused the credentials."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"{address} refused the credentials: {reason}")


class PermissionDenied(PulsewireError):
    """The ACL of the connected user forbids a command, key or channel."""

    def __init__(self, command: str, reason: str) -> None:
        self.command = command
        self.reason = reason
        super().__init__(f"the server's ACL does not allow {command}: {reason}")


class ServerFull(PulsewireError):
    """The server is at `maxmemory` and accepts no more data. Nothing was written."""

    def __init__(self, command: str, reason: str) -> None:
        self.command = command
        self.reason = reason
        super().__init__(f"{command} was refused, the server is out of memory: {reason}")


class StreamFull(PulsewireError):
    """A stream is at its hard limit, because a sink has not acknowledged what is in it. Nothing was written."""

    def __init__(self, stream: str, length: int, limit: int, held_by: str) -> None:
        self.stream = stream
        self.length = length
        self.limit = limit
        self.held_by = held_by
        held = (
            f"sink {held_by!r} still needs the oldest of them"
            if held_by
            else "no sink holds them back"
        )
        super().__init__(
            f"stream {stream!r} holds {length:,} events, its hard limit is {limit:,}, and {held}; "
            "let it catch up, remove it if it is abandoned, or raise hard_limit"
        )


class ServerError(PulsewireError):
    """The server answered with an error that has no class of its own here."""

    def __init__(self, command: str, reply: str) -> None:
        self.command = command
        self.reply = reply
        super().__init__(f"{command} failed: {reply}")

    @property
    def code(self) -> str:
        """The first word of the reply, such as `WRONGTYPE`."""
        return self.reply.partition(" ")[0]


class ValueConflict(PulsewireError):
    """The value that a key of a map holds does not allow the operation. Nothing was written."""

    def __init__(self, map_name: str, key: str, operation: str, reason: str) -> None:
        self.map_name = map_name
        self.key = key
        self.operation = operation
        self.reason = reason
        super().__init__(f"{operation} of {key!r} in map {map_name!r} is not possible: {reason}")


class ReplicaBehind(PulsewireError, TimeoutError):
    """A replica has not reached a revision in the time allowed. What was written stays written."""

    def __init__(self, map_name: str, wanted: int, revision: int, stale_for: float) -> None:
        self.map_name = map_name
        self.wanted = wanted
        self.revision = revision
        self.stale_for = stale_for
        super().__init__(
            f"the replica of map {map_name!r} is at revision {revision:,}, not yet at {wanted:,}; "
            f"it was last known to be complete {stale_for:.1f} s ago"
        )


class NotJoined(PulsewireError):
    """A map was read, or waited for, outside `async with`: only there it has a replica."""

    def __init__(self, map_name: str) -> None:
        self.map_name = map_name
        super().__init__(
            f"map {map_name!r} has not been joined: read it within "
            f"`async with hub.map({map_name!r}) as ...`, or ask the server with fetch()"
        )


class PoolFull(PulsewireError):
    """Too many jobs of the pool wait for their start. Nothing was written."""

    def __init__(self, pool: str, queued: int, limit: int) -> None:
        self.pool = pool
        self.queued = queued
        self.limit = limit
        super().__init__(
            f"{queued:,} jobs of pool {pool!r} wait for their start, at most {limit:,} may; "
            "add workers, find out why starts are slow, or raise max_queued_jobs"
        )


class JobExists(PulsewireError):
    """A job with this key is there already. Nothing was written."""

    def __init__(self, pool: str, key: str, owner: str) -> None:
        self.pool = pool
        self.key = key
        self.owner = owner
        where = f"at worker {owner}" if owner else "waiting for a worker"
        super().__init__(f"pool {pool!r} has a job {key!r} already, {where}")


class JobNotFound(PulsewireError):
    """There is no job with this key."""

    def __init__(self, pool: str, key: str) -> None:
        self.pool = pool
        self.key = key
        super().__init__(f"pool {pool!r} has no job {key!r}")


class JobStartFailed(PulsewireError):
    """A new job was refused by its handler, or ended before its start was reported. It is not in the pool."""

    def __init__(self, pool: str, key: str, reason: str) -> None:
        self.pool = pool
        self.key = key
        self.reason = reason
        super().__init__(f"job {key!r} of pool {pool!r} did not start: {reason}")


class JobNotStarted(PulsewireError, TimeoutError):
    """A job has not started in the time allowed. It stays in the pool, and starts later."""

    def __init__(self, pool: str, key: str, waited: float, state: str) -> None:
        self.pool = pool
        self.key = key
        self.waited = waited
        self.state = state
        super().__init__(
            f"job {key!r} of pool {pool!r} is {state} after {waited:.1f} s; it stays in the pool"
        )


class JobNotStopped(PulsewireError, TimeoutError):
    """A job has not ended in the time allowed. It is being stopped, and ends later."""

    def __init__(self, pool: str, key: str, waited: float) -> None:
        self.pool = pool
        self.key = key
        self.waited = waited
        super().__init__(f"job {key!r} of pool {pool!r} is still stopping after {waited:.1f} s")


class JobLost(PulsewireError):
    """Told to a handler: the job has another owner by now, or is to end. Stop working on it."""

    def __init__(self, key: str, token: int) -> None:
        self.key = key
        self.token = token
        super().__init__(f"job {key!r} is no longer this worker's (token {token})")


class NoWorkers(PulsewireError):
    """The job has no owner now, since the pool has no worker for it."""

    def __init__(self, pool: str, key: str) -> None:
        self.pool = pool
        self.key = key
        super().__init__(f"job {key!r} of pool {pool!r} waits for a worker")


class WorkerNotFound(PulsewireError):
    """The pool has no worker with this id."""

    def __init__(self, pool: str, worker: str) -> None:
        self.pool = pool
        self.worker = worker
        super().__init__(f"pool {pool!r} has no worker {worker!r}")


class PoolMismatch(PulsewireError):
    """The pool is run by another protocol version or routing than this node's."""

    def __init__(self, pool: str, ours: str, theirs: str) -> None:
        self.pool = pool
        self.ours = ours
        self.theirs = theirs
        super().__init__(f"pool {pool!r} is run with {theirs}, this node has {ours}")


class PoolShutDown(PulsewireError):
    """The pool is shutting down, or has: it takes no jobs and no workers. Nothing was written."""

    def __init__(self, pool: str, by: str) -> None:
        self.pool = pool
        self.by = by
        super().__init__(f"pool {pool!r} is shut down (asked for by node {by})")


class TaskError(PulsewireError):
    """Base of the errors that concern task queues only."""


class TaskIdConflict(TaskError):
    """The queue has a task with this id already; also one that is kept, completed or archived. Nothing was written."""

    def __init__(self, queue: str, task_id: str) -> None:
        self.queue = queue
        self.task_id = task_id
        super().__init__(
            f"task ID conflicts with another task: queue {queue!r} has a task {task_id!r}"
        )


class DuplicateTask(TaskError):
    """Another task holds the unique lock of this queue, type and payload. Nothing was written."""

    def __init__(self, queue: str, task_type: str) -> None:
        self.queue = queue
        self.task_type = task_type
        super().__init__(
            f"task already exists: queue {queue!r} has a unique task of type {task_type!r} with this payload"
        )


class QueueNotFound(TaskError):
    """No queue of this name has ever been used, or it was removed."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(f"queue {queue!r} does not exist")


class TaskNotFound(TaskError):
    """The queue has no task with this id."""

    def __init__(self, queue: str, task_id: str) -> None:
        self.queue = queue
        self.task_id = task_id
        super().__init__(f"cannot find task with id={task_id} in queue {queue!r}")


class QueueNotEmpty(TaskError):
    """The queue has tasks. Nothing was removed."""

    def __init__(self, queue: str, size: int) -> None:
        self.queue = queue
        self.size = size
        super().__init__(
            f"queue {queue!r} is not empty: {size:,} tasks; force its removal to lose them"
        )


class QueueInUse(TaskError):
    """Tasks of the queue are being run. Nothing was removed."""

    def __init__(self, queue: str, active: int) -> None:
        self.queue = queue
        self.active = active
        super().__init__(
            f"cannot remove queue {queue!r} with {active:,} active tasks; pause it and wait"
        )


class AlreadyPaused(TaskError):
    """The queue is paused."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(f"queue {queue!r} is already paused")


class NotPaused(TaskError):
    """The queue is not paused."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(f"queue {queue!r} is not paused")


class WrongState(TaskError):
    """The state of a task does not allow the operation. Nothing was changed."""

    def __init__(self, queue: str, task_id: str, state: str, operation: str) -> None:
        self.queue = queue
        self.task_id = task_id
        self.state = state
        self.operation = operation
        hint = "; cancel it instead" if state == "active" and operation != "run" else ""
        super().__init__(
            f"cannot {operation} task {task_id!r} of queue {queue!r}: it is {state}{hint}"
        )


class AppNotConnected(TaskError):
    """A task of an app was enqueued where the app has no hub, or one of another event loop. Nothing was sent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class EntryNotFound(TaskError):
    """The scheduler has no periodic task with this id."""

    def __init__(self, entry: str) -> None:
        self.entry = entry
        super().__init__(f"no scheduler entry found with id {entry!r}")


class HandlerNotFound(TaskError):
    """No pattern matches the type of a task. By default it waits in state retry, and is charged no attempt."""

    def __init__(self, task_type: str) -> None:
        self.task_type = task_type
        super().__init__(f'handler not found for task "{task_type}"')


class HandlerEnded(TaskError):
    """A handler raised what would end the process, such as SystemExit. It counts as a failure; the process goes on."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(f"the handler raised {type(error).__name__}: {error}")


class TaskCancelled(TaskError):
    """An attempt was cancelled by somebody's request. It counts as a failure."""

    def __init__(self) -> None:
        super().__init__("context canceled")


class TaskTimedOut(TaskError, TimeoutError):
    """An attempt took longer than its timeout, or went beyond its deadline. It counts as a failure."""

    def __init__(self) -> None:
        super().__init__("context deadline exceeded")


class TaskLeaseLost(TaskError):
    """The lease of a task could not be renewed, so that it may be run elsewhere by now. Nothing was written."""

    def __init__(self) -> None:
        super().__init__("asynq: task lease expired")


class SkipRetry(TaskError):
    """Raised by a handler: the task fails for good, and is archived."""


class RevokeTask(TaskError):
    """Raised by a handler: the task is dropped, neither retried nor archived."""


class Retry(TaskError):
    """Raised by a handler: try the task again.

    Attributes:
        after: seconds to wait; None for the delay that a failure would have.
        is_failure: whether it counts as a failed attempt. If not, it may be tried again without end.
    """

    def __init__(
        self, reason: str = "", *, after: float | None = None, is_failure: bool = True
    ) -> None:
        is_number = isinstance(after, (int, float)) and not isinstance(after, bool)
        if after is not None and not (is_number and 0 <= after < 1e10):
            raise InvalidOption("after", after, "must be seconds, at least 0 and finite")
        self.after = after
        self.is_failure = is_failure
        super().__init__(reason or "the handler asked for a retry")


class EmbeddedServerError(PulsewireError):
    """The embedded server cannot be started or reached."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the embedded server does not run: {reason}")


class Closed(PulsewireError):
    """The object was closed, so the call cannot be carried out."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} is closed")
