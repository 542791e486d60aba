"""Who plays in the act, under which names, and what they pass to each other. Pure, and the same in every process."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

import pulsewire

__all__ = [
    "ANALYTICS",
    "AUDIT",
    "COLOURFUL",
    "FLAGS",
    "FORM",
    "JOB",
    "MAIL",
    "MAILER",
    "MAILERS",
    "OPERATOR",
    "PLAIN",
    "POOL",
    "QUEUE",
    "SINKS",
    "STREAM",
    "WEB",
    "WORKERS",
    "SignUp",
    "Welcome",
    "fails_of",
    "flag_map",
    "job_of",
    "user_name",
    "user_of",
    "user_stream",
]

# What is in Redis.
STREAM = "users"
FLAGS = "feature-flags"
POOL = "email-pool"
QUEUE = "welcome"

# The processes.
WEB = "web"
OPERATOR = "operator"
MAILERS = ("mailer 1", "mailer 2")
WORKERS = ("worker 1", "worker 2")

# The sinks of the stream; analytics and audit are processes, too.
MAILER = "mailer"
ANALYTICS = "analytics"
AUDIT = "audit"
SINKS = (MAILER, ANALYTICS, AUDIT)

# The feature flag, and its two values.
FORM = "welcome.form"
PLAIN = "plain"
COLOURFUL = "colourful"

# What a mailer orders for a user.
MAIL = "welcome mail"
JOB = "confirmation job"

_MAX_LEN = 10_000
_TRIED_FOR = 120.0
"""Seconds for which it is remembered that a user was signed up, should the web front try again."""
_JOB_PREFIX = "confirm:"
_FAILS_ONCE = (8, 3)
_FAILS_TWICE = (40, 7)


class SignUp(msgspec.Struct, frozen=True):
    """What an event says: who has signed up."""

    user: str
    email: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a welcome mail's task says.

    Attributes:
        email: To whom it goes.
        fails: How often the mail server shall refuse it first.
    """

    email: str
    fails: int


def user_stream(hub: pulsewire.Hub, ttl: float | None) -> pulsewire.Stream[SignUp]:
    """Return the stream of those that sign up."""
    return hub.stream(
        STREAM,
        max_len=_MAX_LEN,
        sliding_ttl=ttl,
        idempotency_window=_TRIED_FOR,
        codec=pulsewire.typed(SignUp),
    )


def flag_map(hub: pulsewire.Hub, ttl: float | None) -> pulsewire.ReplicatedMap[str]:
    """Return the map of feature flags."""
    return hub.map(FLAGS, sliding_ttl=ttl)


def user_name(number: int) -> str:
    """Return the id of a user, counted from 1."""
    return f"user-{number:05}"


def fails_of(number: int) -> int:
    """How often the mail to a user is refused before it is taken."""
    for fails, (every, place) in ((2, _FAILS_TWICE), (1, _FAILS_ONCE)):
        if number % every == place:
            return fails
    return 0


def job_of(user: str) -> str:
    """Return the key of the job that has a user confirm the address."""
    return f"{_JOB_PREFIX}{user}"


def user_of(job: str) -> str:
    """Return whose job it is."""
    return job.removeprefix(_JOB_PREFIX)
