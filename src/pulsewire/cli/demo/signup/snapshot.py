"""Where the act stands at one moment, as it is shown. Made by `progress.py`, shown by `view.py`."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.queue_counts import QueueCounts

__all__ = ["ProcessRow", "SignUpSnapshot", "SinkCounts", "SinkRow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkCounts:
    """What the server says of a sink: events delivered and not acknowledged; those not delivered, if it can tell."""

    pending: int
    lag: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRow:
    """One sink as it is shown.

    Attributes:
        name: Its name.
        handled: Users that it has handled.
        rate: How many per second of late.
        counts: What the server says of it; None before it was asked.
    """

    name: str
    handled: int
    rate: float
    counts: SinkCounts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One process as it is shown.

    Attributes:
        title: What it is called.
        pid: Its process id.
        fate: What it is at.
        form: The form of the mails, as it knows it; empty before it knows.
        jobs: Jobs that it runs now.
        mails: Mails that it sends now.
        did: What it has done so far, in words.
    """

    title: str
    pid: int
    fate: Fate
    form: str
    jobs: int
    mails: int
    did: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpSnapshot:
    """Everything the live view shows.

    Attributes:
        wanted: Users there will be.
        signed_up: Users of whom the web front was told that the server has them.
        mailed: Users to whom a welcome mail was sent.
        confirmed: Users who have confirmed their address.
        refused: Attempts to send a mail that have failed.
        rate: Users that signed up per second of late.
        mail_rate: Users that were mailed per second of late.
        form: The value of the feature flag that the most processes know.
        reached: How many processes know it, of those that were not killed.
        living: How many these are.
        jobs: Jobs that run now.
        waiting: Jobs that were dispatched, and neither run now nor are done.
        queue: What the server says of the queue; None before it was asked.
        is_away: Whether the server has not answered when it was asked last.
        elapsed: Seconds since the start.
        sinks: One row each.
        processes: One row each.
        news: What happened so far that is worth a sentence, each with its time.
    """

    wanted: int
    signed_up: int
    mailed: int
    confirmed: int
    refused: int
    rate: float
    mail_rate: float
    form: str
    reached: int
    living: int
    jobs: int
    waiting: int
    queue: QueueCounts | None
    is_away: bool
    elapsed: float
    sinks: tuple[SinkRow, ...]
    processes: tuple[ProcessRow, ...]
    news: tuple[str, ...]
