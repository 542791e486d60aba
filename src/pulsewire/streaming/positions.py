"""Where reading starts, and the arithmetic of entry ids. Pure."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from pulsewire.errors import InvalidOption

Start = str | datetime
"""`"newest"`, `"oldest"`, the id of the last event not wanted, or a moment (aware datetime, first event wanted)."""

NEWEST = "$"
OLDEST = "0-0"
_ID = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?")
_MAX_SEQUENCE = 2**64 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def position_of(start: Start, option: str = "start") -> str:
    """The Redis position after which reading begins; `$` for the newest.

    A moment becomes the last possible id of the millisecond before it, so that an event of exactly that moment is read
    (Go Pulse uses `<ms>-0`, which is exclusive and skips it; spec/pulse.md S12).

    Raises:
        InvalidOption: it is none of the four.
    """
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise InvalidOption(
                option, start, "the time zone is missing; use for example datetime.now(UTC)"
            )
        milliseconds = (start - _EPOCH) // _MILLISECOND  # as whole numbers: a float may be one off
        return f"{milliseconds - 1}-{_MAX_SEQUENCE}" if milliseconds > 0 else OLDEST
    if start == "newest":
        return NEWEST
    if start == "oldest":
        return OLDEST
    if isinstance(start, str) and (match := _ID.fullmatch(start)):
        milliseconds, sequence = int(match[1]), int(match[2] or 0)
        if milliseconds <= _MAX_SEQUENCE and sequence <= _MAX_SEQUENCE:
            return f"{milliseconds}-{sequence}"
    raise InvalidOption(option, start, 'use "newest", "oldest", the id of an event, or a datetime')


def id_of(event_id: str, option: str) -> str:
    """The id of an event in the server's form.

    Raises:
        InvalidOption: it is something else, even if reading could start there.
    """
    if not isinstance(event_id, str) or not _ID.fullmatch(event_id):
        raise InvalidOption(option, event_id, "use the id of an event")
    return position_of(event_id, option)


def order_of(entry_id: str) -> tuple[int, int]:
    """A key that sorts ids as the server does."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def age_of(entry_id: str) -> float:
    """Seconds since an entry was added, as far as the clocks of server and client agree; for lag, not for decisions."""
    return time.time() - int(entry_id.partition("-")[0]) / 1000
