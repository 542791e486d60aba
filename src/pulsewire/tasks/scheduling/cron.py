"""Cron specs as asynq's schedulers understand them: which there are, and when they fire. Pure.

The rules are those of robfig/cron v3.0.1, which asynq uses (spec/asynq.md 6.3), so that one spec fires in Go and in
Python at the same moments. Around changes of the clocks one plain rule holds: a local time that the clocks skip does
not fire, one that they show twice fires twice. Decision 0014 says why no library serves, and where Go differs.
When a spec is asked, and what then happens, is `scheduler.py`'s business.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta, tzinfo
from itertools import takewhile
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from pulsewire.errors import InvalidOption
from pulsewire.tasks.option_text import SECOND, parse_duration

__all__ = ["Cron"]

_LIMIT = 5  # years without a match after which a spec never fires
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_EVERY = "@every "
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ZONE = re.compile(r"(?:CRON_)?TZ=(?P<name>[^ ]*) (?P<rest>.*)", re.DOTALL)
_NUMBER = re.compile(r"\+?0*(?P<digits>[0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Cron:
    """A spec that was understood. Two are equal when they fire alike and are written alike.

    Attributes:
        spec: as it was written.
        zone: whose local time it means: the one that it names, else the one that was given.
    """

    spec: str
    zone: tzinfo
    _rule: _Calendar | _Every

    @classmethod
    def parse(cls, spec: str, *, zone: tzinfo = UTC) -> Self:
        """Understand a spec.

        `minute hour day month weekday`, each a list of `*`, `?`, `5`, `1-5`, `*/15`, `5/15` or `1-30/5`, months and
        weekdays by name too; or `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`; or
        `@every 1h30m`. Before it may stand `TZ=Europe/Madrid` or `CRON_TZ=Europe/Madrid` and a space. If both day and
        the weekday are restricted, either is enough. A local time that the clocks skip is skipped, one that they
        show twice fires twice.

        Args:
            spec: the text.
            zone: whose local time is meant when the spec names no zone.

        Raises:
            InvalidOption: the spec is not valid.
        """
        if not isinstance(spec, str):
            raise InvalidOption("spec", spec, f"a string is needed, not {type(spec).__name__}")
        try:
            zone, rest = _split_zone(spec, zone)
            return cls(spec, zone, _parse_rule(rest))
        except ValueError as error:
            raise InvalidOption("spec", spec, str(error)) from error

    @property
    def every(self) -> int | None:
        """The whole seconds of an `@every`; None for a spec of local times."""
        return int(self._rule.delay.total_seconds()) if isinstance(self._rule, _Every) else None

    def next_after(self, moment: datetime) -> datetime | None:
        """The first moment of the spec that is later than the whole second of `moment`, in `moment`'s own zone.

        `@every` counts from `moment`, without its fraction of a second. None: the spec never fires again; the search
        ends after five years.

        Raises:
            InvalidOption: `moment` does not say its offset to UTC.
        """
        if moment.utcoffset() is None:
            raise InvalidOption("moment", moment, "an aware datetime is needed")
        try:
            second = moment.astimezone(UTC).replace(microsecond=0, tzinfo=None)
            found = self._rule.next_after(second, self.zone)
            return None if found is None else found.replace(tzinfo=UTC).astimezone(moment.tzinfo)
        except OverflowError:  # behind the year 9999
            return None


@dataclass(frozen=True, slots=True)
class _Every:
    """A constant delay. It knows no local time."""

    delay: timedelta

    def next_after(self, second: datetime, zone: tzinfo) -> datetime | None:
        """In naive UTC, as `second` is."""
        return second + self.delay


@dataclass(frozen=True, slots=True)
class _Calendar:
    """Which local times match; all values ascend."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    needs_both_days: bool

    def next_after(self, second: datetime, zone: tzinfo) -> datetime | None:
        """In naive UTC, as `second` is.

        What the clocks show only grows, but for the times that they show again after having gone back. So the answer
        is the first time that matches behind what they show now; or, if they are about to go back, one that they have
        shown already.
        """
        here = _shown(second, zone)
        last = _shown(second + _SECOND, zone).year + _LIMIT
        again: list[datetime] = []
        back = here + _DAY - _shown(second + _DAY, zone)
        if back > timedelta():  # by so much, within a day
            seen = takewhile(lambda local: local <= here, self._times(here - back, last))
            again = [moment for local in seen for moment in _moments(local, zone)]
        ahead = (moment for local in self._times(here, last) for moment in _moments(local, zone))
        first = next((moment for moment in ahead if moment > second), None)
        return min(
            (moment for moment in (*again, first) if moment is not None and moment > second),
            default=None,
        )

    def _times(self, after: datetime, last: int) -> Iterator[datetime]:
        """The local times that match, later than `after`, to the end of the year `last`; whether they exist or not."""
        for day in self._dates(after.date(), last):
            is_first = day == after.date()
            hours = self.hours[bisect_left(self.hours, after.hour) :] if is_first else self.hours
            for hour in hours:
                for minute in self.minutes:
                    local = datetime.combine(day, time(hour, minute))
                    if local > after:
                        yield local

    def _dates(self, first: date, last: int) -> Iterator[date]:
        for year in range(first.year, min(last, MAXYEAR) + 1):
            for month in self.months:
                if (year, month) < (first.year, first.month):
                    continue
                for day in range(1, monthrange(year, month)[1] + 1):
                    found = date(year, month, day)
                    if found >= first and self._has(found):
                        yield found

    def _has(self, day: date) -> bool:
        """Whether a day matches, its month aside."""
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_day and by_weekday) if self.needs_both_days else (by_day or by_weekday)


def _shown(moment: datetime, zone: tzinfo) -> datetime:
    """What the clocks of a zone show at a moment in naive UTC."""
    return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def _moments(local: datetime, zone: tzinfo) -> Iterator[datetime]:
    """When the clocks of a zone show a local time, in naive UTC: never, once or twice."""
    seen = None
    for fold in (0, 1):
        moment = local.replace(tzinfo=zone, fold=fold).astimezone(UTC).replace(tzinfo=None)
        if moment != seen and _shown(moment, zone) == local:
            seen = moment
            yield moment


# --- understanding a spec; what is wrong with it is a ValueError


class _Choice(NamedTuple):
    """What one field allows. A star may have a meaning of its own beside the values."""

    values: tuple[int, ...]
    has_star: bool


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five. `names` stand for the values from `least` on."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def parse(self, text: str) -> _Choice:
        """What a list allows. Elements that are empty say nothing."""
        values: set[int] = set()
        has_star = False
        for element in text.split(","):
            if element:
                found, is_star = self._parse_element(element)
                values.update(found)
                has_star = has_star or is_star
        return _Choice(tuple(sorted(values)), has_star)

    def _parse_element(self, element: str) -> tuple[range, bool]:
        bounds, *steps = element.split("/")
        first, *lasts = bounds.split("-")
        is_star = first in ("*", "?")  # what follows a hyphen behind it is not looked at, as in Go
        if len(steps) > 1:
            raise self._bad(element, "more than one slash")
        if is_star:
            least, most = self.least, self.most
        elif len(lasts) > 1:
            raise self._bad(element, "more than one hyphen")
        else:
            least = self._value(first, element)
            most = self._value(lasts[0], element) if lasts else self.most if steps else least
        step = self._number(steps[0], element) if steps else 1
        if least < self.least or most > self.most:
            raise self._bad(element, f"outside {self.least} to {self.most}")
        if least > most:
            raise self._bad(element, f"the range begins at {least} and ends at {most}")
        if step == 0:
            raise self._bad(element, "a step of 0 leads nowhere")
        return range(least, most + 1, step), is_star and step == 1

    def _value(self, text: str, element: str) -> int:
        if text.lower() in self.names:
            return self.least + self.names.index(text.lower())
        return self._number(text, element)

    def _number(self, text: str, element: str) -> int:
        number = _NUMBER.fullmatch(text)
        if number is None or int(number["digits"]) >= 2**63:
            wanted = f"a number or a name such as {self.names[0]}" if self.names else "a number"
            raise self._bad(element, f"{text!r} is not {wanted}")
        return int(number["digits"])

    def _bad(self, element: str, reason: str) -> ValueError:
        return ValueError(f"{self.name} {element!r}: {reason}")


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 6, _WEEKDAYS),
)


def _split_zone(spec: str, zone: tzinfo) -> tuple[tzinfo, str]:
    """The zone that a spec names, or else `zone`; and the rest of the spec."""
    if not spec.startswith(("TZ=", "CRON_TZ=")):
        return zone, spec
    named = _ZONE.fullmatch(spec)
    if named is None:
        raise ValueError("after the time zone, a space and the spec itself are needed")
    name, rest = named["name"], named["rest"].strip()
    if name == "Local":  # robfig's word for the zone of whoever asks
        return zone, rest
    try:
        return (ZoneInfo(name) if name not in {"", "UTC"} else UTC), rest
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r} here") from error


def _parse_rule(spec: str) -> _Calendar | _Every:
    if spec.startswith(_EVERY):
        seconds = parse_duration(spec.removeprefix(_EVERY)) // SECOND
        return _Every(timedelta(seconds=max(seconds, 1)))
    if spec.startswith("@") and spec not in _DESCRIPTORS:
        raise ValueError(f"the descriptors are {', '.join(_DESCRIPTORS)} and {_EVERY}<duration>")
    texts = _DESCRIPTORS.get(spec, spec).split()
    if len(texts) != len(_FIELDS):
        raise ValueError(
            f"five fields are needed, minute hour day month weekday, and there are {len(texts)}"
        )
    minutes, hours, days, months, weekdays = (
        field.parse(text) for field, text in zip(_FIELDS, texts, strict=True)
    )
    return _Calendar(
        minutes.values,
        hours.values,
        days.values,
        months.values,
        weekdays.values,
        needs_both_days=days.has_star or weekdays.has_star,
    )
