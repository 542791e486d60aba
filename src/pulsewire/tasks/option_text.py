"""The texts of Go that a scheduler's entry holds: durations, quoted strings, dates, and options made of them. Pure.

A scheduler writes how each entry enqueues, as asynq's options print themselves (spec/asynq.md 6.2): `Queue("low")`,
`Timeout(1m30s)`. Inspectors, ours and Go's, read that. The names and values here are those of `enqueue`. What an option
means, and which values are allowed, is `options.py`'s business.

Inside, durations are whole nanoseconds, as Go's are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

__all__ = [
    "OptionText",
    "OptionValue",
    "format_duration",
    "format_option",
    "format_options",
    "format_unix_date",
    "nanoseconds",
    "parse_duration",
    "parse_option",
    "parse_unix_date",
    "quote",
    "unquote",
]

OptionValue = int | float | str | datetime | tuple[str, str]

# --- durations

SECOND = 1_000_000_000
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign, which Go writes
    "\u03bcs": 1_000,  # the Greek letter, which Go reads too
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
LONGEST = 2**63 - 1  # ns, about 292 years
_PART = re.compile(r"(?P<whole>[0-9]*)(?P<point>\.?)(?P<fraction>[0-9]*)(?P<unit>[^.0-9]*)")


def nanoseconds(seconds: float) -> int:
    """Seconds as a Go duration. What is longer than Go can say becomes the longest, about 292 years."""
    if abs(seconds) >= LONGEST / SECOND:
        return LONGEST if seconds > 0 else -LONGEST
    fraction, whole = math.modf(seconds)  # apart, since 104 days of nanoseconds fill a float
    return int(whole) * SECOND + round(fraction * SECOND)


def format_duration(duration: int) -> str:
    """Nanoseconds as Go's `time.Duration` prints them: `1h0m0s`, `1.5s`, `250ms`, `0s`.

    Raises:
        ValueError: it does not fit into 64 bits.
    """
    if not -LONGEST - 1 <= duration <= LONGEST:
        raise ValueError(f"{duration} ns are not a Go duration: it has 64 bits")
    sign, left = "-" if duration < 0 else "", abs(duration)
    if left < SECOND:
        unit = "ns" if left < 1_000 else "\u00b5s" if left < 1_000_000 else "ms"
        return f"{sign}{_decimal(left, _UNITS[unit])}{unit}" if left else "0s"
    minutes, left = divmod(left, 60 * SECOND)
    text = f"{_decimal(left, SECOND)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return sign + text


def _decimal(number: int, unit: int) -> str:
    """A number in `unit`, a power of ten, without the zeros that say nothing."""
    whole, fraction = divmod(number, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_duration(text: str) -> int:
    """The nanoseconds that Go's `time.ParseDuration` reads: `90s`, `1h30m`, `-1.5h`, `0`.

    Raises:
        ValueError: it is not a duration; the message says what is wrong with it.
    """
    sign, unsigned = (-1 if text[:1] == "-" else 1), re.sub(r"^[-+]", "", text)
    if unsigned == "0":
        return 0
    if not unsigned:
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 5m or 1h30m")
    # The pattern matches any text piece by piece, and once more, empty, at its end.
    parts = [part for part in _PART.finditer(unsigned) if part[0]]
    total = sum(_part_of_duration(part, text) for part in parts)
    if total > LONGEST + (sign < 0):
        raise ValueError(f"{text!r} is longer than about 292 years")
    return sign * total


def _part_of_duration(part: re.Match[str], text: str) -> int:
    whole, fraction = part["whole"].lstrip("0"), part["fraction"]
    if not part["whole"] and not fraction:
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 5m or 1h30m")
    if not part["unit"]:
        raise ValueError(f"{text!r} is not a duration: a unit is missing, such as s, m or h")
    unit = _UNITS.get(part["unit"])
    if unit is None:
        raise ValueError(
            f"{text!r} is not a duration: the units are ns, us, ms, s, m and h, not {part['unit']!r}"
        )
    if len(whole) > 19:  # the digits of 2**63; `int` refuses thousands of them in other words
        return 2**64
    return int(whole or "0") * unit + _part_below(fraction, unit)


def _part_below(fraction: str, unit: int) -> int:
    """The digits behind the point, in ns. In doubles, as Go does it, and with as many digits."""
    number, scale = 0, 1.0
    for digit in fraction:
        if number > LONGEST // 10 or number * 10 + int(digit) > 2**63:
            break
        number, scale = number * 10 + int(digit), scale * 10
    return int(float(number) * (unit / scale))


# --- quoted strings

_NAMED = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
}
_ESCAPES = {character: f"\\{name}" for name, character in _NAMED.items()} | {'"': '\\"'}
_OTHER = {'"': "'", "'": '"'}  # the mark that needs no escape, and so has none
_UNIT = re.compile(
    r"""\\(?:(?P<named>[abfnrtv\\"'])|x(?P<byte>[0-9a-fA-F]{2})|(?P<octal>[0-7]{3})"""
    r"""|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))|(?P<plain>[^\\\n])"""
)


def quote(text: str) -> str:
    r"""A string as Go's `%q` prints it: `"a\tb"`. Bytes that are not UTF-8 are expected as Python escapes them.

    Which characters of the latest Unicode are printed as they are depends on the version of Python, and of Go.
    """
    return f'"{"".join(map(_quoted, text))}"'


def _quoted(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF:  # no character
        return "\\ufffd"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(literal: str) -> str:
    r"""What a string or character literal of Go says. Bytes that are not UTF-8 (`"\xff"`) come as Python escapes them.

    Raises:
        ValueError: it is not such a literal.
    """
    mark, inner = literal[:1], literal[1:-1]
    if len(literal) < 2 or literal[-1] != mark or mark not in {'"', "'", "`"}:
        raise ValueError(f"{literal!r} is not in quotes")
    if mark == "`":
        if mark in inner:
            raise ValueError(f"{literal!r} ends before its last quote")
        return inner.replace("\r", "")
    pieces: list[bytes] = []
    at = 0
    while at < len(inner):
        unit = _UNIT.match(inner, at)
        if unit is None or unit["plain"] == mark or unit["named"] == _OTHER[mark]:
            raise ValueError(f"{literal!r} has no meaning in Go from {inner[at : at + 10]!r} on")
        pieces.append(_said(unit))
        at = unit.end()
    if mark == "'" and len(pieces) > 1:
        raise ValueError(f"{literal!r} is more than one character")
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def _said(unit: re.Match[str]) -> bytes:
    """The bytes of one character or escape."""
    if number := unit["byte"] or unit["octal"]:
        value = int(number, 16 if unit["byte"] else 8)
        if value > 0xFF:
            raise ValueError(f"{unit[0]} is not a byte")
        return bytes([value])
    if number := unit["short"] or unit["long"]:
        value = int(number, 16)
        if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
            raise ValueError(f"{unit[0]} is not a character")
        return chr(value).encode()
    if name := unit["named"]:
        return _NAMED.get(name, name).encode()
    return unit["plain"].encode("utf-8", "surrogatepass")


# --- dates

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(
    rf"(?:{'|'.join(_DAYS)}) (?P<month>{'|'.join(_MONTHS)}) (?P<day>[ 1-3][0-9]) "
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2}) "
    r"(?P<zone>UTC|GMT|(?P<sign>[-+])(?P<hours>[0-9]{2})(?P<minutes>[0-9]{2})?) (?P<year>[0-9]{4})"
)


def format_unix_date(moment: datetime) -> str:
    """An aware moment as Go's `time.UnixDate`: `Tue Jan  2 03:04:05 UTC 2024`. Whole seconds.

    Always in UTC: the only zone name that every reader understands. Of `CET`, Go readers elsewhere make UTC.
    """
    utc = moment.astimezone(UTC)
    day, month = _DAYS[utc.weekday()], _MONTHS[utc.month - 1]
    return f"{day} {month} {utc.day:2} {utc:%H:%M:%S} UTC {utc.year:04}"


def parse_unix_date(text: str) -> datetime:
    """The moment, in UTC, that Go has printed in UTC or in a zone that is named by its offset.

    Raises:
        ValueError: it is not such a date, or its zone has a name, such as `CST`, that several zones share.
    """
    date = _DATE.fullmatch(text)
    if date is None:
        raise ValueError(f"{text!r} is not a date of the kind 'Tue Jan  2 03:04:05 UTC 2024'")
    ahead = timedelta()
    if date["sign"]:
        ahead = timedelta(hours=int(date["hours"]), minutes=int(date["minutes"] or "0"))
    try:
        return datetime(
            int(date["year"]),
            _MONTHS.index(date["month"]) + 1,
            int(date["day"]),
            int(date["hour"]),
            int(date["minute"]),
            int(date["second"]),
            tzinfo=timezone(-ahead if date["sign"] == "-" else ahead),
        ).astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{text!r} is not a date: {error}") from error


# --- options

_NUMBER = re.compile(r"[-+]?[0-9]{1,18}")
_CALL = re.compile(r"(?P<option>\w+)\((?P<argument>.*)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OptionText:
    """One option as an entry holds it.

    Attributes:
        text: as it was written.
        name: the argument of `enqueue`; a header's is `headers`. None when the text is not understood.
        value: as `enqueue` takes it (a duration in seconds), a header as its key and value. None when not understood.
    """

    text: str
    name: str | None = None
    value: OptionValue | None = None


def format_options(options: Mapping[str, object]) -> list[str]:
    """The texts of what was passed to `enqueue`: in its order, without what is None, one for each header.

    Raises:
        ValueError: there is no such option, or its value cannot be printed.
    """
    texts = []
    for name, value in options.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            texts += [format_option(name, (key, text)) for key, text in value.items()]
        else:
            texts.append(format_option(name, value))
    return texts


def format_option(name: str, value: object) -> str:
    """One option as Go prints it; of headers one, as a pair.

    Go's readers cut at the first `)`, and die of a text without `(`. So the one within a name is written as an
    escape, which they understand.

    Raises:
        ValueError: there is no such option, or its value cannot be printed.
    """
    if name not in _OPTIONS:
        raise ValueError(f"there is no option {name!r}")
    option, (write, _) = _OPTIONS[name]
    try:
        return f"{option}({write(value)})"
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}={value!r} cannot be written: {error}") from error


def parse_option(text: str) -> OptionText:
    """What a text says. Never raises: a text that is foreign or broken stays a text."""
    call = _CALL.fullmatch(text)
    name = _NAMES.get(call["option"]) if call else None
    if call is None or name is None:
        return OptionText(text)
    _, (_, read) = _OPTIONS[name]
    try:
        return OptionText(text, name, read(call["argument"]))
    except (ValueError, RecursionError):  # the latter for a header nested a thousand times
        return OptionText(text)


def _write_number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("a whole number is needed")
    return str(max(value, 0))  # as Go does: a negative number of retries is none


def _read_number(argument: str) -> int:
    if not _NUMBER.fullmatch(argument):
        raise ValueError(argument)
    return max(int(argument), 0)


def _write_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a string is needed")
    return quote(value).replace(")", "\\x29")


def _write_seconds(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a number of seconds is needed")
    return format_duration(nanoseconds(value))


def _read_seconds(argument: str) -> float:
    return parse_duration(argument) / SECOND


def _write_moment(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format_unix_date(datetime.fromtimestamp(value // 1, UTC))
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise TypeError("an aware datetime or a Unix time is needed")
    return format_unix_date(value)


def _write_header(value: object) -> str:
    match value:
        case (str(key), str(text)):
            pair = [part.encode("utf-8", "replace").decode() for part in (key, text)]
        case _:
            raise TypeError("a header is a pair of strings")
    written = json.dumps(pair, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&)\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", written)


def _read_header(argument: str) -> tuple[str, str]:
    match json.loads(argument):
        case [str(key), str(text)]:
            return key, text
        case _:
            raise ValueError(argument)


_TEXT = (_write_text, unquote)
_SECONDS = (_write_seconds, _read_seconds)
_MOMENT = (_write_moment, parse_unix_date)
# The argument of `enqueue` -> Go's name; how its value is written, and read.
_OPTIONS: dict[str, tuple[str, tuple[Callable[[object], str], Callable[[str], OptionValue]]]] = {
    "max_retry": ("MaxRetry", (_write_number, _read_number)),
    "queue": ("Queue", _TEXT),
    "task_id": ("TaskID", _TEXT),
    "timeout": ("Timeout", _SECONDS),
    "deadline": ("Deadline", _MOMENT),
    "unique": ("Unique", _SECONDS),
    "process_at": ("ProcessAt", _MOMENT),
    "process_in": ("ProcessIn", _SECONDS),
    "retention": ("Retention", _SECONDS),
    "group": ("Group", _TEXT),
    "headers": ("Header", (_write_header, _read_header)),
}
_NAMES = {option: name for name, (option, _) in _OPTIONS.items()}
