"""A spec fires in Python when it fires in Go: random specs, moments and zones, asked of robfig/cron itself."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pulsewire.errors import InvalidOption
from pulsewire.tasks.scheduling.cron import Cron
from tests.conformance.conftest import Ask

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]  # the first run downloads

SPECS = 3_000
MOMENTS = 4
HOUR = timedelta(hours=1)
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Lists of nothing but commas are understood.
NEVER = (
    "0 0 31 2 *",
    "0 0 30 2 ?",
    ", 5 * * *",
    "* , * * *",
    "* * , * *",
    "* * * , *",
    "* * * * ,",
)
# Zones whose clocks change at midnight, by half an hour, twice a year more often, or not at all.
ZONES = (
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Madrid",
    "Pacific/Chatham",
)
DESCRIPTORS = (
    *("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"),
    *("@every 1s", "@every 90m", "@every 1.5s", "@every 200ms", "@every -5m", "@every 9000h"),
    *("@every", "@every ", "@every 5", "@every  5m", "@Daily", "@daily ", " @daily", "@reboot"),
)


def random_element(choice: random.Random, field: int) -> str:
    """One element of a list, rarely one that is not allowed."""
    least, most = BOUNDS[field]
    low = choice.randint(least, most)
    high = choice.randint(low, most) if choice.random() < 0.97 else choice.randint(-3, 70)
    step = choice.choice(("", "/1", "/2", f"/{choice.randint(1, most)}"))
    if choice.random() < 0.02:
        step = choice.choice(("/0", "/", "/-2", "/+2", "/1/1", "/99999999999999999999", "/x"))
    form = choice.random()
    if form < 0.25:
        return choice.choice("*?") + step
    if form < 0.35 and field > 2:
        name = choice.choice(MONTHS if field == 3 else WEEKDAYS)
        return choice.choice((name, name.upper(), name.title())) + choice.choice(("", step))
    if form < 0.65:
        return f"{low}{step}"
    if form < 0.97:
        return f"{low}-{high}{step}"
    return choice.choice(
        ("*-5", "?-x/2", "-5", "5-", "1-2-3", "+5", "05", "60", "x", "jan-mar", "*5")
    )


def random_spec(choice: random.Random) -> str:
    """A spec, mostly one that is understood."""
    if choice.random() < 0.04:
        fields = choice.choice(DESCRIPTORS)
    else:
        fields = " ".join(
            "*" if choice.random() < 0.3 else random_list(choice, field) for field in range(5)
        )
        if choice.random() < 0.03:
            fields = choice.choice((f"{fields} *", fields[1:], f" {fields}\t", fields[:-1]))
    if choice.random() < 0.15:
        zone = choice.choice((*ZONES, "", "Local", "Europe/Nowhere", "../UTC", "/UTC"))
        fields = f"{choice.choice(('TZ', 'CRON_TZ'))}={zone}{choice.choice((' ', '  '))}{fields}"
    return fields


def random_list(choice: random.Random, field: int) -> str:
    """Some elements, rarely with nothing between their commas."""
    elements = [random_element(choice, field) for _ in range(choice.choice((1, 1, 1, 2, 3)))]
    return ",".join([*elements, ""] if choice.random() < 0.03 else elements)


def random_moment(choice: random.Random, changes: list[datetime]) -> datetime:
    """Anywhere in thirty years, or near a change of the clocks."""
    if changes and choice.random() < 0.6:
        moment = choice.choice(changes) + timedelta(seconds=choice.randint(-172_800, 90_000))
    else:
        moment = datetime(2012, 1, 1, tzinfo=UTC) + timedelta(
            seconds=choice.randrange(30 * 365 * 86_400)
        )
    return moment.replace(microsecond=choice.choice((0, 1, 500_000, 999_999)))


@cache
def clock_changes(zone: ZoneInfo) -> list[datetime]:
    """When the clocks of a zone change, to the day before."""
    days = [datetime(2011, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(37 * 366)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    return [
        day
        for day, before, after in zip(days, offsets, offsets[1:], strict=False)
        if before != after
    ]


def fixed_questions() -> list[dict[str, Any]]:
    """What chance would hardly find: specs that never fire, and the longest gap between two leap days."""
    years = [f"{year}-12-31T23:59:59+00:00" for year in range(2024, 2106)]
    questions = [("0 0 29 2 *", years), *((spec, years[:1]) for spec in NEVER)]
    return [
        {"spec": spec, "zone": "Europe/Madrid", "after": moments} for spec, moments in questions
    ]


def ours(question: dict[str, Any]) -> dict[str, Any]:
    """What Go is asked, answered by us. Of a refusal the text is ours."""
    try:
        cron = Cron.parse(question["spec"], zone=ZoneInfo(question["zone"]))
    except InvalidOption:
        return {"error": True}
    following = [cron.next_after(datetime.fromisoformat(text)) for text in question["after"]]
    return {"next": [f"{found:%Y-%m-%dT%H:%M:%SZ}" if found else "" for found in following]}


@cache
def odd_changes(zone: ZoneInfo) -> list[datetime]:
    """When the clocks of a zone skip a midnight or show one twice, or change by anything but one full hour.

    Those are what Go's search stumbles over: it may oversee the times of a day, or most of a month, or take the second
    one of two. Ours goes by the clocks (decision 0014).
    """
    return [change for change in map(partial(exact_change, zone), clock_changes(zone)) if change]


def exact_change(zone: ZoneInfo, day: datetime) -> datetime | None:
    """The second of a change that is known to the day, if it is odd."""
    before = day.astimezone(zone).utcoffset()
    seconds = range(1, 86_401)
    at = bisect_left(
        seconds,
        True,
        key=lambda second: (day + timedelta(seconds=second)).astimezone(zone).utcoffset() != before,
    )
    change = day + timedelta(seconds=seconds[at])
    shown = [
        (change + offset).replace(tzinfo=None)
        for offset in (before, change.astimezone(zone).utcoffset())
        if offset is not None
    ]
    least, most = min(shown), max(shown)
    midnight = most.replace(hour=0, minute=0, second=0)
    is_plain = most - least == HOUR and not least.minute and not least <= midnight < most
    return None if is_plain else change


def is_odd(question: dict[str, Any], after: str, answers: tuple[str, str]) -> bool:
    """Whether there is an odd change from the month of the question on, where Go's search begins, to its answer."""
    cron = Cron.parse(question["spec"], zone=ZoneInfo(question["zone"]))
    if not isinstance(cron.zone, ZoneInfo):
        return False  # UTC
    asked = datetime.fromisoformat(after).astimezone(cron.zone)
    first = asked.replace(day=1, hour=0, minute=0, second=0) - HOUR
    found = [datetime.fromisoformat(text) for text in answers if text]
    last = max(found) if len(found) == 2 else asked + timedelta(days=6 * 366)
    return any(first <= change <= last for change in odd_changes(cron.zone))


def compare(question: dict[str, Any], answer: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What we answer differently, where no odd change of the clocks explains it."""
    own = ours(question)
    if "error" in answer or "error" in own:
        if ("error" in answer) != ("error" in own):
            yield question, answer, own
        return
    for after, theirs, mine in zip(question["after"], answer["next"], own["next"], strict=True):
        if theirs != mine and not is_odd(question, after, (theirs, mine)):
            yield question["spec"], question["zone"], after, theirs, mine


def random_questions(choice: random.Random, count: int) -> list[dict[str, Any]]:
    """Specs with a zone and some moments."""
    changes = {zone: clock_changes(ZoneInfo(zone)) for zone in ZONES}
    questions = []
    for _ in range(count):
        zone = choice.choice(ZONES)
        moments = [random_moment(choice, changes[zone]) for _ in range(MOMENTS)]
        questions.append(
            {
                "spec": random_spec(choice),
                "zone": zone,
                "after": [moment.isoformat() for moment in moments],
            }
        )
    return questions


def test_every_spec_fires_when_it_fires_in_go(go_program: Callable[[str], Ask]) -> None:
    """Also those that it refuses, those that never fire, and around changes of the clocks, but for odd ones."""
    questions = fixed_questions() + random_questions(random.Random(20_240_101), SPECS)
    answers = go_program("cron")(questions)
    different = [
        difference
        for question, answer in zip(questions, answers, strict=True)
        for difference in compare(question, answer)
    ]
    assert not different, f"{len(different)} differ, such as {different[0]}"
    refused = sum("error" in answer for answer in answers)
    assert 100 < refused < len(answers) / 2, "the questions are not what they should be"


def test_most_changes_of_the_clocks_are_not_odd() -> None:
    """What the comparison passes over is the exception; in most zones there is none."""
    odd = {zone for zone in ZONES if odd_changes(ZoneInfo(zone))}
    assert not odd & {"UTC", "America/New_York", "Asia/Kolkata", "Europe/Dublin", "Europe/Madrid"}
    assert {"Antarctica/Troll", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Chatham"} <= odd
    assert len(odd_changes(ZoneInfo("Africa/Casablanca"))) < len(
        clock_changes(ZoneInfo("Africa/Casablanca"))
    )
