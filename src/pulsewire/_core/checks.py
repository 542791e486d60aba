"""Checks of what callers pass in, each raising a typed error that names the culprit."""

from __future__ import annotations

import re
from typing import TypeVar

from pulsewire.errors import InvalidName, InvalidOption

MAX_NAME_CHARACTERS = 512
# spec/pulse.md 0: 1 to 512 characters, none of space, NUL, * ? [ ]; matched in full so that a final newline is seen.
_NAME = re.compile(r"[^ \0*?\[\]]{1,512}")
_Number = TypeVar("_Number", int, float)


def check_name(what: str, name: object) -> str:
    """`name` if Go and Python programs may both use it.

    Raises:
        InvalidName: it is not a string, is empty or too long, or has a character that is special to Redis.
    """
    if not isinstance(name, str):
        raise InvalidName(what, name, f"a string is needed, not {type(name).__name__}")
    if not name:
        raise InvalidName(what, name, "it is empty")
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidName(
            what, name[:40] + "...", f"{len(name)} characters, at most {MAX_NAME_CHARACTERS}"
        )
    if not _NAME.fullmatch(name):
        raise InvalidName(what, name, "space, NUL, *, ?, [ and ] are not allowed")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidName(what, name, "it cannot be written as UTF-8") from error
    return name


def check_at_least(option: str, value: _Number, least: _Number) -> _Number:
    """`value` if it is a number not below `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
        raise InvalidOption(option, value, f"must be a number of at least {least}")
    return value


def check_count(option: str, value: int, least: int = 1) -> int:
    """`value` if it is a whole number not below `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidOption(option, value, f"must be a whole number of at least {least}")
    return value


def check_seconds(option: str, value: float, least: float = 0.001) -> float:
    """`value` in float seconds, if it is finite and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidOption(option, value, "must be a number of seconds")
    if not least <= value < 1e10:
        raise InvalidOption(option, value, f"must be seconds, at least {least:g} and finite")
    return float(value)


def check_life(ttl: float | None, sliding_ttl: float | None) -> None:
    """Whether at most one of two times to live is given, in seconds; without either a thing lives for ever."""
    for option, seconds in (("ttl", ttl), ("sliding_ttl", sliding_ttl)):
        if seconds is not None:
            check_seconds(option, seconds)
    if ttl is not None and sliding_ttl is not None:
        raise InvalidOption(
            "sliding_ttl", sliding_ttl, f"ttl={ttl} is given, too; choose one or the other"
        )
