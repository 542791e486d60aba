"""What a failed command tells the user: one line that names the culprit, and one that says what to do.

The messages are the library's own. The hints are the command line's: they speak of options and commands.
"""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire import errors
from pulsewire.cli import task_places

__all__ = ["FAILED", "USAGE", "Failure", "explain", "sole_error"]

FAILED = 1
"""Exit code: the command could not do its work."""
USAGE = 2
"""Exit code: the command was called wrongly, as for an unknown option."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as the command line shows it."""

    message: str
    hint: str
    exit_code: int = FAILED


_HINTS: tuple[tuple[type[errors.PulsewireError], str], ...] = (
    # Most special first: the first class that fits gives the hint.
    (
        errors.InvalidTarget,
        "Give --url as redis://host:port/0 or redis+cluster://host:port, or leave it out for the embedded server.",
    ),
    (errors.ConfigurationError, "See --help for what the command accepts."),
    (
        errors.AuthenticationFailed,
        "Put user and password into the URL: redis://user:password@host:port.",
    ),
    (errors.PermissionDenied, "Connect as a user whose ACL allows it."),
    (errors.ServerTooOld, "Connect to a newer server, or leave --url out to use the embedded one."),
    (
        errors.ServerUnavailable,
        "Is the server running, and is --url right? Without --url the embedded server is used.",
    ),
    (errors.EmbeddedServerError, "Try `pulsewire server status`, or name a server with --url."),
    (errors.ServerFull, "Free memory on the server, or raise its maxmemory."),
    (errors.StreamFull, "Look at who lags: `pulsewire stream info NAME`."),
    (
        errors.OutcomeUnknown,
        "Look before you repeat it: `pulsewire stream tail NAME`, `map get NAME`, `task inspect ID`.",
    ),
    (errors.ValueConflict, "Look at what is there: `pulsewire map get NAME KEY`."),
    (errors.PoolFull, "Look at what waits: `pulsewire pool jobs POOL`, and at the workers."),
    (errors.JobExists, "Look at it: `pulsewire pool job POOL KEY`."),
    (errors.JobNotFound, "`pulsewire pool jobs POOL` shows which there are."),
    (errors.JobStartFailed, "The log of the worker's process has the traceback."),
    (errors.JobNotStarted, "See where it is: `pulsewire pool job POOL KEY`."),
    (errors.JobNotStopped, "See where it is: `pulsewire pool job POOL KEY`."),
    (errors.NoWorkers, "`pulsewire pool workers POOL` shows who is there; start a node."),
    (errors.WorkerNotFound, "`pulsewire pool workers POOL` shows which there are."),
    (errors.PoolShutDown, "It can be used again once all its nodes have left."),
    (errors.QueueNotFound, "`pulsewire queue ls` shows which there are."),
    (errors.QueueNotEmpty, "--force deletes its tasks, too."),
    (errors.QueueInUse, "Have servers take none of its tasks: `pulsewire queue pause QUEUE`."),
    (errors.AlreadyPaused, "`pulsewire queue unpause QUEUE` ends the pause."),
    (errors.NotPaused, "`pulsewire queue ls` shows which are."),
    (errors.TaskNotFound, "`pulsewire task ls --queue QUEUE` shows which there are."),
    (errors.TaskIdConflict, "Look at it: `pulsewire task inspect ID --queue QUEUE`."),
    (errors.DuplicateTask, "Wait until that one is done, or until its lock ends."),
    (errors.WrongState, "Look at it: `pulsewire task inspect ID`."),
    (errors.EntryNotFound, "`pulsewire cron ls` shows which there are."),
    (task_places.UnknownTask, "`pulsewire task ls` shows which there are."),
    (task_places.SeveralQueues, "Name the queue with --queue."),
    (errors.PayloadTooLarge, "Store large content elsewhere and send a reference."),
    (errors.DecodeError, "If other programs write this stream, read it with --plain."),
)
_HINT_FOR_WRONG_TYPE = (
    "The key holds something else. If it is a stream of other programs, use --plain."
)


def explain(error: errors.PulsewireError) -> Failure:
    """Return what to print for an error of the library, and the exit code."""
    exit_code = USAGE if isinstance(error, errors.ConfigurationError) else FAILED
    return Failure(message=str(error), hint=_hint_for(error), exit_code=exit_code)


def sole_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error to tell of when a task group ended with several.

    The first error of the library wins, since it has a message for people; else the first error of any kind.
    """
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, errors.PulsewireError):
            return leaf
    return leaves[0]


def _hint_for(error: errors.PulsewireError) -> str:
    if isinstance(error, errors.ServerError) and error.code == "WRONGTYPE":
        return _HINT_FOR_WRONG_TYPE
    return next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
