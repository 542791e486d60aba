"""Durations and points in time: how they are typed on the command line, and how they are told.

People type `90`, `1m30s` or `2h` for a duration, and a date with its time zone for a moment. A moment is told in local
time, with how far it is from now by the server's clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

from pulsewire.cli import render

__all__ = ["ago", "as_duration", "as_moment", "until", "when"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)")
_LATEST = 2**40
"""Unix seconds that Redis programs and calendars still agree on."""


def as_duration(text: str) -> float:
    """Return the seconds of `30`, `1.5h`, `1h30m` or `250ms`.

    Raises:
        typer.BadParameter: It is not a duration.
    """
    try:
        seconds = float(text)
    except ValueError:
        if not text or _PART.sub("", text):
            raise _not_a_duration(text) from None
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if not 0 <= seconds < _LATEST:
        raise _not_a_duration(text)
    return seconds


def as_moment(text: str) -> datetime:
    """Return the moment of `2026-01-02T03:04:05Z`, `2026-01-02 03:04+02:00`, or of Unix seconds.

    Raises:
        typer.BadParameter: It is not a moment, or does not say in which time zone.
    """
    try:
        moment = datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not a point in time, such as 2026-01-02T03:04:05Z"
            ) from None
    if moment.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} needs a time zone: {moment.isoformat()}Z, or {moment.isoformat()}+02:00"
        )
    return moment


def when(moment: datetime | None) -> str:
    """Return a moment in local time; a dash when it is not known."""
    return "-" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def until(moment: datetime | None, now: float) -> str:
    """Return how long it is until a moment; `now` when it is due."""
    if moment is None:
        return "-"
    seconds = moment.timestamp() - now
    return f"in {render.how_long(seconds)}" if seconds > 0 else "now"


def ago(moment: datetime | None, now: float) -> str:
    """Return how long a moment has passed; a dash when it is not known."""
    return "-" if moment is None else f"{render.how_long(max(now - moment.timestamp(), 0.0))} ago"


def _not_a_duration(text: str) -> typer.BadParameter:
    return typer.BadParameter(
        f"{text!r} is not a duration: use seconds, or such as 1h30m, 45s, 250ms"
    )
