"""When a cron spec fires. That it does so when robfig/cron does is checked in `tests/conformance/test_cron.py`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulsewire.errors import InvalidOption
from pulsewire.tasks.scheduling.cron import Cron

MADRID = ZoneInfo("Europe/Madrid")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")

BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
# When clocks have changed: by an hour, half an hour, two hours, a day; at midnight, at a quarter to three.
CHANGES = [
    (ZoneInfo(zone), datetime.fromisoformat(f"{moment}+00:00"))
    for zone, moment in (
        ("Africa/Cairo", "2014-09-25T21:00"),
        ("America/Havana", "2024-11-03T05:00"),
        ("America/New_York", "2024-03-10T07:00"),
        ("America/Sao_Paulo", "2018-11-04T03:00"),
        ("America/St_Johns", "2010-11-07T02:31"),
        ("Antarctica/Troll", "2030-10-27T01:00"),
        ("Asia/Beirut", "2024-03-30T22:00"),
        ("Australia/Lord_Howe", "2024-04-06T15:00"),
        ("Australia/Lord_Howe", "2024-10-05T15:30"),
        ("Europe/Madrid", "2024-10-27T01:00"),
        ("Pacific/Apia", "2011-12-30T10:00"),
        ("Pacific/Chatham", "2024-04-06T14:00"),
        ("Pacific/Kwajalein", "1969-09-30T13:00"),
    )
]
MINUTES = 2_000
"""How far the test looks that looks at every minute."""


@st.composite
def elements(draw: st.DrawFn, least: int, most: int) -> str:
    low = draw(st.integers(least, most))
    high = draw(st.integers(low, most))
    step = draw(st.integers(1, most))
    return draw(
        st.sampled_from(["*", "?", f"{low}", f"{low}-{high}", f"*/{step}", f"{low}-{high}/{step}"])
    )


specs = st.tuples(
    *(st.lists(elements(*bounds), min_size=1, max_size=2).map(",".join) for bounds in BOUNDS)
).map(" ".join)
zones = st.sampled_from([UTC, MADRID, NEW_YORK])
moments = st.integers(946_684_800, 3_786_912_000).flatmap(  # 2000 to 2090
    lambda second: zones.map(lambda zone: datetime.fromtimestamp(second, zone))
)


def fires(spec: str, after: str, *, zone: Any = UTC) -> str | None:
    """When a spec fires after a local time, as a local time with its offset."""
    moment = datetime.fromisoformat(after)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    found = Cron.parse(spec, zone=zone).next_after(moment.astimezone(zone))
    return None if found is None else found.isoformat()


def first_minute(spec: str, after: datetime, zone: ZoneInfo) -> datetime | None:
    """The first minute, of `MINUTES`, in which the clocks show what a spec of `specs` asks for."""
    fields = spec.split()
    minutes, hours, days, months, weekdays = (
        {
            value
            for value in range(least, most + 1)
            if any(has(element, value, least, most) for element in field.split(","))
        }
        for field, (least, most) in zip(fields, BOUNDS, strict=True)
    )
    stars = {"*", "?", "*/1"} & {*fields[2].split(","), *fields[4].split(",")}
    minute = after.astimezone(UTC).replace(second=0, microsecond=0)
    for _ in range(MINUTES):
        minute += timedelta(minutes=1)
        local = minute.astimezone(zone)
        if local.minute not in minutes or local.hour not in hours or local.month not in months:
            continue
        by_day = [local.day in days, local.isoweekday() % 7 in weekdays]
        if all(by_day) if stars else any(by_day):
            return minute
    return None


def has(element: str, value: int, least: int, most: int) -> bool:
    """Whether one of `elements` has a value."""
    bounds, _, step = element.partition("/")
    if bounds not in {"*", "?"}:
        first, _, last = bounds.partition("-")
        least, most = int(first), int(last or first)
    return least <= value <= most and (value - least) % int(step or 1) == 0


# --- fields


@pytest.mark.parametrize(
    ("spec", "following"),
    [
        ("* * * * *", "2024-01-31T10:31"),
        ("*/15 * * * *", "2024-01-31T10:45"),
        ("7/15 * * * *", "2024-01-31T10:37"),
        ("0-29 * * * *", "2024-01-31T11:00"),
        ("0-40/20 * * * *", "2024-01-31T10:40"),
        ("5,10,50 * * * *", "2024-01-31T10:50"),
        (",,50,, * * * *", "2024-01-31T10:50"),
        ("+50 010 * * *", "2024-01-31T10:50"),
        ("30 10 * * *", "2024-02-01T10:30"),
        ("0 9-17/8 * * *", "2024-01-31T17:00"),
        ("0 0 1 * *", "2024-02-01T00:00"),
        ("0 0 31 * *", "2024-03-31T00:00"),
        ("0 0 29 2 ?", "2024-02-29T00:00"),
        ("0 0 * FEB *", "2024-02-01T00:00"),
        ("0 0 * mar-apr *", "2024-03-01T00:00"),
        ("0 0 * Oct/2 *", "2024-10-01T00:00"),
        ("0 0 * * sun", "2024-02-04T00:00"),
        ("0 0 * * 0", "2024-02-04T00:00"),
        ("0 0 * * Mon-fri", "2024-02-01T00:00"),
        ("59 23 31 12 *", "2024-12-31T23:59"),
        ("  0\t12  * * * ", "2024-01-31T12:00"),
        ("@hourly", "2024-01-31T11:00"),
        ("@daily", "2024-02-01T00:00"),
        ("@midnight", "2024-02-01T00:00"),
        ("@weekly", "2024-02-04T00:00"),
        ("@monthly", "2024-02-01T00:00"),
        ("@yearly", "2025-01-01T00:00"),
        ("@annually", "2025-01-01T00:00"),
    ],
)
def test_next_time(spec: str, following: str) -> None:
    assert fires(spec, "2024-01-31T10:30:00") == f"{following}:00+00:00"


@pytest.mark.parametrize(
    ("days", "following"),
    [
        ("13 * fri", "2024-09-06"),  # both restricted: either is enough
        (
            "*/9 * mon",
            "2024-09-02",
        ),  # a step makes it a restriction: the 1st, 10th, ... or a Monday
        ("3 * */6", "2024-09-03"),  # or Sundays and Saturdays
        ("* * fri", "2024-09-06"),
        ("? * fri", "2024-09-06"),
        ("*/1 * fri", "2024-09-06"),
        ("13 * *", "2024-09-13"),
        ("13 * ?", "2024-09-13"),
        ("13 * 5,*/1", "2024-09-13"),
    ],
)
def test_day_and_weekday_must_both_match_only_if_one_is_a_star(days: str, following: str) -> None:
    assert fires(f"0 0 {days}", "2024-09-01T12:00") == f"{following}T00:00:00+00:00"


@pytest.mark.parametrize("moment", ["10:30:00", "10:30:00.5", "10:30:59.999999"])
def test_the_moment_is_later_than_the_second_asked_about(moment: str) -> None:
    assert fires("* * * * *", f"2024-01-31T{moment}") == "2024-01-31T10:31:00+00:00"


def test_a_second_before_is_early_enough() -> None:
    assert fires("31 10 * * *", "2024-01-31T10:30:59.999999") == "2024-01-31T10:31:00+00:00"


@pytest.mark.parametrize(
    "spec", ["0 0 31 2 *", "0 0 30 2 ?", ", * * * *", "* * , * *", "* * * , *"]
)
def test_spec_that_never_fires(spec: str) -> None:
    assert fires(spec, "2024-01-01T00:00") is None


def test_the_search_ends_after_five_years() -> None:
    """2100 is no leap year."""
    assert fires("0 0 29 2 *", "2098-12-31T12:00") is None
    assert fires("0 0 29 2 *", "2099-01-01T12:00") == "2104-02-29T00:00:00+00:00"


@pytest.mark.parametrize("spec", ["0 0 29 2 *", "* * * * *", "@every 1h", "0 0 1 1 *"])
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9)), NEW_YORK])
def test_nothing_fires_behind_the_end_of_the_calendar(spec: str, zone: Any) -> None:
    last = datetime(9999, 12, 31, 23, 59, 30, tzinfo=zone)
    assert Cron.parse(spec, zone=zone).next_after(last) is None


# --- every


@pytest.mark.parametrize(
    ("duration", "following"),
    [
        ("5m", "10:35:07"),
        ("1h30m", "12:00:07"),
        ("1.9s", "10:30:08"),
        ("90s", "10:31:37"),
        ("10ms", "10:30:08"),
        ("0", "10:30:08"),
        ("-1h", "10:30:08"),
    ],
)
def test_every_counts_from_the_whole_second(duration: str, following: str) -> None:
    """Whole seconds, at least one."""
    expected = f"2024-01-31T{following}+00:00"
    assert fires(f"@every {duration}", "2024-01-31T10:30:07.9") == expected


def test_every_counts_real_time_over_a_change_of_the_clocks() -> None:
    after = fires("@every 24h", "2024-03-30T12:00", zone=MADRID)
    assert after == "2024-03-31T13:00:00+02:00"


# --- zones


@pytest.mark.parametrize("prefix", ["TZ=America/New_York ", "CRON_TZ=America/New_York   "])
def test_spec_with_a_zone_of_its_own(prefix: str) -> None:
    """The answer is in the zone of the question."""
    assert fires(f"{prefix}0 9 * * *", "2024-07-01T00:00") == "2024-07-01T13:00:00+00:00"
    assert Cron.parse(f"{prefix}@daily", zone=MADRID).zone == NEW_YORK


def test_spec_without_a_zone_means_the_one_given() -> None:
    moment = datetime(2024, 7, 1, tzinfo=NEW_YORK)
    found = Cron.parse("0 9 * * *", zone=MADRID).next_after(moment)
    assert found is not None
    assert found.isoformat() == "2024-07-01T03:00:00-04:00"
    assert found.tzinfo is NEW_YORK


@pytest.mark.parametrize(
    ("prefix", "zone"), [("TZ=UTC ", UTC), ("TZ= ", UTC), ("TZ=Local ", MADRID)]
)
def test_zones_that_go_names_in_its_own_way(prefix: str, zone: Any) -> None:
    assert Cron.parse(f"{prefix}@daily", zone=MADRID).zone is zone


# --- changes of the clocks


@pytest.mark.parametrize(
    ("spec", "after", "following", "zone"),
    [
        # Skipped: 2:00 to 3:00.
        ("30 2 * * *", "2024-03-10T00:00", "2024-03-11T02:30:00-04:00", NEW_YORK),
        ("30 2 31 3 *", "2024-03-01T00:00", "2025-03-31T02:30:00+02:00", MADRID),
        ("*/30 * * * *", "2024-03-31T01:30", "2024-03-31T03:00:00+02:00", MADRID),
        ("0 3 * * *", "2024-03-31T00:00", "2024-03-31T03:00:00+02:00", MADRID),
        # Twice: 1:00 to 2:00.
        ("30 1 * * *", "2024-11-03T01:30:00-04:00", "2024-11-03T01:30:00-05:00", NEW_YORK),
        ("30 1 * * *", "2024-11-03T01:30:00-05:00", "2024-11-04T01:30:00-05:00", NEW_YORK),
        ("0 * * * *", "2024-11-03T01:00:00-04:00", "2024-11-03T01:00:00-05:00", NEW_YORK),
        # By half an hour: 2:00 to 2:30 is skipped, 1:30 to 2:00 comes twice.
        ("15 2 * * *", "2024-10-06T00:00", "2024-10-07T02:15:00+11:00", LORD_HOWE),
        ("45 1 * * *", "2024-04-07T01:45:00+11:00", "2024-04-07T01:45:00+10:30", LORD_HOWE),
    ],
)
def test_local_times_that_are_skipped_or_come_twice(
    spec: str, after: str, following: str, zone: Any
) -> None:
    """The first are skipped, the second fire twice."""
    assert fires(spec, after, zone=zone) == following


@pytest.mark.parametrize(
    ("spec", "after", "following", "zone"),
    [
        # Skipped, 0:00 to 1:00: the day is there nevertheless.
        ("0 5 4 11 *", "2018-10-20T00:00", "2018-11-04T05:00:00-02:00", "America/Sao_Paulo"),
        ("0 5 31 3 *", "2024-03-20T00:00", "2024-03-31T05:00:00+03:00", "Asia/Beirut"),
        ("0 5 * 10 *", "2017-07-01T00:00", "2017-10-01T05:00:00-03:00", "America/Asuncion"),
        ("@daily", "2018-11-03T12:00", "2018-11-05T00:00:00-02:00", "America/Sao_Paulo"),
        ("*/30 * * * *", "2018-11-03T23:30", "2018-11-04T01:00:00-02:00", "America/Sao_Paulo"),
        # Twice, 0:00 to 1:00.
        ("@daily", "2024-11-02T12:00", "2024-11-03T00:00:00-04:00", "America/Havana"),
        ("@daily", "2024-11-03T00:00:00-04:00", "2024-11-03T00:00:00-05:00", "America/Havana"),
        ("@daily", "2024-11-03T00:00:00-05:00", "2024-11-04T00:00:00-05:00", "America/Havana"),
        # Twice, 23:01 to 0:01: from the first minute of a day back to the one before.
        ("@daily", "2010-11-07T00:00:00-02:30", "2010-11-07T00:00:00-03:30", "America/St_Johns"),
        (
            "30 23 * * *",
            "2010-11-07T00:00:30-02:30",
            "2010-11-06T23:30:00-03:30",
            "America/St_Johns",
        ),
        # Nearly a day twice.
        (
            "30 22 * * *",
            "1969-09-30T22:30:00+11:00",
            "1969-09-30T22:30:00-12:00",
            "Pacific/Kwajalein",
        ),
    ],
)
def test_midnights_that_are_skipped_or_come_twice(
    spec: str, after: str, following: str, zone: str
) -> None:
    """They are local times like any other."""
    assert fires(spec, after, zone=ZoneInfo(zone)) == following


def test_a_day_that_a_zone_has_left_out_is_passed() -> None:
    """Samoa had no 30 December 2011."""
    after = fires("0 5 30 * *", "2011-12-15T00:00", zone=ZoneInfo("Pacific/Apia"))
    assert after == "2012-01-30T05:00:00+14:00"


# --- rules


@given(specs, moments)
def test_a_time_that_is_found_is_later_and_the_first(spec: str, moment: datetime) -> None:
    """The search from a second before it finds it again."""
    cron = Cron.parse(spec, zone=UTC)
    found = cron.next_after(moment)
    if found is None:
        assert "29" in spec or "30" in spec or "31" in spec
        return
    assert found > moment
    assert found.second == found.microsecond == 0
    assert cron.next_after(found - timedelta(seconds=1)) == found


@settings(deadline=None)
@given(specs, st.sampled_from(CHANGES), st.integers(-90_000, 90_000))
def test_around_changes_of_the_clocks_the_clocks_decide(
    spec: str, change: tuple[ZoneInfo, datetime], ahead: int
) -> None:
    """It fires at the first minute whose local time matches: found by looking at one minute after the other."""
    zone, changed = change
    moment = changed + timedelta(seconds=ahead)
    found = Cron.parse(spec, zone=zone).next_after(moment)
    if found is not None and found > moment + timedelta(minutes=MINUTES):
        found = None
    assert found == first_minute(spec, moment, zone)


@given(specs, moments)
def test_a_spec_and_its_union_with_another_agree(spec: str, moment: datetime) -> None:
    """With another minute allowed, it fires no later."""
    minute, rest = spec.split(" ", 1)
    alone = Cron.parse(spec).next_after(moment)
    both = Cron.parse(f"{minute},17 {rest}").next_after(moment)
    assert alone is None or (both is not None and both <= alone)


@given(st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Madrid"]), moments)
def test_every_hour_of_a_zone_comes_by(zone: str, moment: datetime) -> None:
    """A day of hours is a day, whatever the clocks do, and each is a full one."""
    cron = Cron.parse("0 * * * *", zone=ZoneInfo(zone))
    times = [moment]
    for _ in range(25):
        found = cron.next_after(times[-1])
        assert found is not None
        times.append(found.astimezone(UTC))
    assert {later - sooner for sooner, later in pairwise(times[1:])} == {timedelta(hours=1)}


# --- what is refused


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "five fields are needed, minute hour day month weekday, and there are 0"),
        ("* * * *", "there are 4"),
        ("0 * * * * *", "there are 6"),
        ("60 * * * *", "minute '60': outside 0 to 59"),
        ("* 24 * * *", "hour '24': outside 0 to 23"),
        ("* * 0 * *", "day of month '0': outside 1 to 31"),
        ("* * 32 * *", "day of month '32': outside 1 to 31"),
        ("* * * 13 *", "month '13': outside 1 to 12"),
        ("* * * * 7", "weekday '7': outside 0 to 6"),
        ("* * * * 5-7", "weekday '5-7': outside 0 to 6"),
        ("40-20 * * * *", "minute '40-20': the range begins at 40 and ends at 20"),
        ("* * * * fri-mon", "weekday 'fri-mon': the range begins at 5 and ends at 1"),
        ("*/0 * * * *", "minute '*/0': a step of 0 leads nowhere"),
        ("*/-1 * * * *", "minute '*/-1': '-1' is not a number"),
        ("1,/5 * * * *", "minute '/5': '' is not a number"),
        ("-5 * * * *", "minute '-5': '' is not a number"),
        ("1-2-3 * * * *", "minute '1-2-3': more than one hyphen"),
        ("*/2/3 * * * *", "minute '*/2/3': more than one slash"),
        ("x * * * *", "minute 'x': 'x' is not a number"),
        ("*/99999999999999999999 * * * *", "is not a number"),
        ("*/9223372036854775808 * * * *", "is not a number"),
        ("\u0663 * * * *", "is not a number"),
        ("1_0 * * * *", "is not a number"),
        ("* * * january *", "month 'january': 'january' is not a number or a name such as jan"),
        ("* * L * *", "'L' is not a number"),
        ("* * * * 5#2", "'5#2' is not a number or a name such as sun"),
        ("@reboot", "the descriptors are @yearly"),
        ("@Daily", "the descriptors are @yearly"),
        ("@daily ", "the descriptors are @yearly"),
        (" @daily", "there are 1"),
        ("@every", "the descriptors are"),
        ("@every ", "'' is not a duration: write it as 90s, 5m or 1h30m"),
        ("@every 5", "'5' is not a duration: a unit is missing"),
        ("@every 1d", "the units are ns, us, ms, s, m and h, not 'd'"),
        ("TZ=UTC", "after the time zone, a space and the spec itself are needed"),
        ("TZ=Europe/Atlantis * * * * *", "there is no time zone 'Europe/Atlantis' here"),
        ("TZ=../UTC * * * * *", "there is no time zone '../UTC' here"),
        ("TZ=/etc/localtime * * * * *", "there is no time zone '/etc/localtime' here"),
        ("TZ=Europe * * * * *", "there is no time zone 'Europe' here"),
        ("TZ=\0 * * * * *", "there is no time zone"),
        ("TZ=UTC TZ=UTC * * * * *", "there are 6"),
    ],
)
def test_bad_spec_is_refused_with_its_reason(spec: str, reason: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        Cron.parse(spec)
    assert refused.value.option == "spec"
    assert refused.value.value == spec
    assert reason in refused.value.reason


@pytest.mark.parametrize("spec", [None, 5, b"* * * * *"])
def test_only_a_string_is_a_spec(spec: Any) -> None:
    with pytest.raises(InvalidOption, match="a string is needed") as refused:
        Cron.parse(spec)
    assert refused.value.option == "spec"


@given(st.text() | st.text("0123456789*/-,? @every TZ=", max_size=20))
def test_any_text_is_a_spec_or_refused(text: str) -> None:
    """Nothing else comes out."""
    try:
        cron = Cron.parse(text)
    except InvalidOption:
        return
    cron.next_after(datetime(2024, 1, 1, tzinfo=UTC))


def test_moment_without_an_offset_is_refused() -> None:
    with pytest.raises(InvalidOption, match="an aware datetime is needed") as refused:
        Cron.parse("@daily").next_after(datetime(2024, 1, 1))  # noqa: DTZ001  # the mistake that is tested
    assert refused.value.option == "moment"


MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
WEEKDAYS = "sun mon tue wed thu fri sat"


@pytest.mark.parametrize(("number", "name"), [*enumerate(MONTHS.split(), start=1)])
def test_months_have_names(number: int, name: str) -> None:
    for written in (name, name.upper()):
        found = Cron.parse(f"0 0 1 {written} *").next_after(datetime(2023, 12, 31, tzinfo=UTC))
        assert found == datetime(2024, number, 1, tzinfo=UTC)


@pytest.mark.parametrize(("number", "name"), [*enumerate(WEEKDAYS.split())])
def test_days_of_the_week_have_names(number: int, name: str) -> None:
    """The 7th of January 2024 was a Sunday."""
    for written in (name, name.upper()):
        found = Cron.parse(f"0 0 * * {written}").next_after(datetime(2024, 1, 6, tzinfo=UTC))
        assert found == datetime(2024, 1, 7 + number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [("@every 90s", 90), ("@every 1h", 3600), ("@every 1.9s", 1), ("@hourly", None)],
)
def test_constant_delay_is_told(spec: str, seconds: int | None) -> None:
    assert Cron.parse(spec).every == seconds


def test_specs_are_values() -> None:
    assert Cron.parse("0 0 * * *") == Cron.parse("0 0 * * *")
    assert Cron.parse("0 0 * * *") != Cron.parse("0 1 * * *")
    assert len({Cron.parse("@daily"), Cron.parse("@daily"), Cron.parse("@daily", zone=MADRID)}) == 2
