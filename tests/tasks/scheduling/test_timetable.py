"""The ticks of periodic tasks: which there are, who knows the same ones, and which are still to be enqueued."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.errors import EntryNotFound, InvalidName, InvalidOption
from pulsewire.tasks import NewTask
from pulsewire.tasks.scheduling.cron import Cron
from pulsewire.tasks.scheduling.timetable import Definition, Entry, Timetable, define, tick_after

MADRID = ZoneInfo("Europe/Madrid")
TASK = NewTask(type="email:digest")
PRECISE = TASK.with_options(payload=b"x", queue="low", max_retry=3)
GRACE = 30.0


def entry(spec: str = "@every 10s", now: float | None = None, name: str = "") -> Entry:
    """An entry; if `now` is given it waits for its first tick after that."""
    made = Entry(name or spec, define(spec, TASK, entry_name=name or None))
    if now is not None:
        made.plan(now)
    return made


def timetable(*entries: Entry) -> Timetable:
    """A timetable of entries that wait for their ticks."""
    table = Timetable()
    for one in entries:
        table.add(one)
        table.put(one)
    return table


# --- what is equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NewTask(type="t", payload="text"), NewTask(type="t", payload=b"text")),
        (NewTask(type="t"), NewTask(type="t", queue="default", max_retry=25)),
        (NewTask(type="t", timeout=30), NewTask(type="t", timeout=30.0)),
        (
            NewTask(type="t", headers={"a": "1", "b": "2"}),
            NewTask(type="t", headers={"b": "2", "a": "1"}),
        ),
    ],
)
def test_what_is_equal_has_one_digest(one: NewTask, other: NewTask) -> None:
    """So that all schedulers mean the same tick."""
    assert define("@daily", one).digest == define("@daily", other).digest


@pytest.mark.parametrize(
    "options",
    [
        {"payload": b""},
        {"payload": b"x"},
        {"queue": "low"},
        {"task_id": "x"},
        {"max_retry": 3},
        {"timeout": 5.0},
        {"deadline": 2_000_000_000.0},
        {"unique": 60.0},
        {"process_in": 5.0},
        {"retention": 60.0},
        {"group": "x"},
        {"headers": {"a": "1"}},
        {"type": "email:digest:weekly"},
    ],
)
def test_whatever_a_task_has_makes_a_difference(options: dict[str, Any]) -> None:
    """Its headers, too, and whether it has no payload or an empty one."""
    assert define("@daily", TASK).digest != define("@daily", TASK.with_options(**options)).digest


@pytest.mark.parametrize(
    ("definition", "begin"),
    [
        (define("@every 10s", PRECISE), "beebd6c5e247b609"),
        (define("@daily", PRECISE, location=MADRID, entry_name="a"), "4112083aa280d928"),
        (define("@daily", PRECISE, location=timezone(timedelta(hours=1))), "83e7426b454e5edf"),
    ],
)
def test_digest_is_the_same_in_every_process(definition: Definition, begin: str) -> None:
    """Golden values: two versions that differ would enqueue each tick twice."""
    assert definition.digest.startswith(begin)


def test_spec_zone_and_name_make_a_difference() -> None:
    digests = {
        definition.digest
        for definition in (
            define("@daily", TASK),
            define("0 0 * * *", TASK),
            define("@daily", TASK, location=MADRID),
            define("TZ=Europe/Madrid 0 0 * * *", TASK),
            define("@daily", TASK, location=timezone(timedelta(hours=1))),
            define("@daily", TASK, entry_name="a"),
            define("@daily", TASK, entry_name="b"),
        )
    }
    assert len(digests) == 7


def test_the_zone_makes_a_difference_only_to_local_times() -> None:
    for zone in (UTC, ZoneInfo("UTC")):
        assert define("@daily", TASK, location=zone).digest == define("@daily", TASK).digest
    assert define("@every 1h", TASK, location=MADRID).digest == define("@every 1h", TASK).digest


def test_a_spec_that_was_parsed_keeps_its_zone() -> None:
    definition = define(Cron.parse("@daily", zone=MADRID), TASK, location=UTC)
    assert definition == define("@daily", TASK, location=MADRID)


def test_options_are_those_that_were_given() -> None:
    task = NewTask(
        type="t", queue="low", max_retry=3, timeout=90.0, unique=60, headers={"k": "v"}, group="g"
    )
    assert define("@daily", TASK).options == []
    assert sorted(define("@daily", task).options) == [
        'Group("g")',
        'Header(["k","v"])',
        "MaxRetry(3)",
        'Queue("low")',
        "Timeout(1m30s)",
        "Unique(1m0s)",
    ]


class Elsewhere(tzinfo):
    """A zone of which other processes know nothing."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta()

    def tzname(self, moment: datetime | None) -> str:
        return "elsewhere"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"spec": "daily"}, "spec"),
        ({"task": "email:digest"}, "task"),
        ({"task": NewTask(type="t", deadline=2**39)}, "task"),
        ({"location": Elsewhere()}, "location"),
    ],
)
def test_what_is_impossible_is_refused(arguments: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        define(**{"spec": "@daily", "task": TASK, **arguments})
    assert caught.value.option == option


def test_name_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(InvalidName) as caught:
        define("@daily", TASK, entry_name="\ud800")
    assert caught.value.what == "entry"


# --- ticks


@pytest.mark.parametrize(
    ("spec", "now", "tick"),
    [
        ("@every 10s", 1_700_000_003.5, 1_700_000_010),
        ("@every 10s", 1_700_000_010.0, 1_700_000_020),
        ("@every 10s", 1_700_000_009.999, 1_700_000_010),
        ("@every 1h", 1_700_000_000.0, 1_700_002_800),
        ("@every 7s", 0.0, 7),
        ("* * * * *", 1_700_000_003.5, 1_700_000_040),
        ("* * * * *", 1_700_000_040.9, 1_700_000_100),
    ],
)
def test_ticks_are_later_than_the_second_asked_about(spec: str, now: float, tick: int) -> None:
    """Those of `@every` are multiples of its duration since 1970."""
    assert tick_after(Cron.parse(spec), now) == tick


@pytest.mark.parametrize("now", [1_700_000_000.0, 1e12, 1e18])
def test_there_may_be_no_tick(now: float) -> None:
    """Because there is no such day, or the calendar has no such year."""
    assert tick_after(Cron.parse("0 0 31 2 *"), now) is None
    assert (tick_after(Cron.parse("0 0 1 * *"), now) is None) == (now > 1e12 - 1)


def test_local_times_are_those_of_the_location() -> None:
    cron = define("0 9 * * *", TASK, location=MADRID).cron
    tick = tick_after(cron, datetime(2024, 7, 1, tzinfo=UTC).timestamp())
    assert tick == datetime(2024, 7, 1, 7, tzinfo=UTC).timestamp()


@given(st.integers(1, 500), st.floats(1.6e9, 1.8e9), st.floats(0.0, 2000.0))
def test_whoever_starts_later_joins_the_same_ticks(every: int, start: float, later: float) -> None:
    """From the later start on, two schedulers know the same ticks."""
    cron = Cron.parse(f"@every {every}s")
    walked = tick_after(cron, start)
    while walked is not None and walked <= start + later:
        walked = tick_after(cron, walked)
    assert tick_after(cron, start + later) == walked


# --- one entry


def test_a_tick_is_taken_once_it_is_due() -> None:
    one = entry(now=1000.0)
    assert one.take(1009.9) is None
    assert one.take(1010.0) == 1010
    assert (one.last, one.due) == (1010, 1020)
    assert one.take(1010.0) is None


def test_ticks_that_are_late_are_taken_one_after_the_other() -> None:
    one = entry(now=1000.0)
    assert one.skip_late(1035.0, GRACE) is None
    assert [one.take(1035.0) for _ in range(4)] == [1010, 1020, 1030, None]


def test_ticks_that_are_too_late_are_passed_over() -> None:
    one = entry(now=1000.0)
    assert one.skip_late(1045.0, GRACE) == 1010
    assert one.last is None
    assert [one.take(1045.0) for _ in range(4)] == [1020, 1030, 1040, None]


def test_a_tick_is_not_too_late_by_exactly_the_grace() -> None:
    one = entry(now=1000.0)
    assert one.skip_late(1040.0, GRACE) is None
    one = entry(now=1000.0)
    assert one.skip_late(1040.001, GRACE) == 1010
    assert one.take(1040.001) == 1020


def test_passing_over_an_eternity_is_quick() -> None:
    """A clock may leap by years; there is no walk through every second of them."""
    one = entry("@every 1s", now=1000.0)
    assert one.skip_late(2e12, GRACE) == 1001
    assert one.take(2e12) == int(2e12 - GRACE)


@given(
    st.integers(1, 90),
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30),
    st.floats(0.1, 60.0),
)
def test_ticks_are_taken_in_order_each_once_none_too_early_or_too_late(
    every: int, pauses: list[float], grace: float
) -> None:
    """And none that is in time is left out, however long nobody looked."""
    now = 1_000_000.3
    one = entry(f"@every {every}s", now=now)
    taken: list[int] = []
    expected: set[int] = set()
    looked = now
    for pause in pauses:
        now += pause
        one.skip_late(now, grace)
        while (tick := one.take(now)) is not None:
            assert now - grace <= tick <= now
            taken.append(tick)
        expected |= {
            tick
            for tick in range(int(looked) + 1, int(now) + 1)
            if tick % every == 0 and tick >= now - grace
        }
        looked = now
    assert taken == sorted(expected)


# --- many entries


def test_entries_are_given_out_when_they_are_due_the_earliest_first() -> None:
    slow, quick = entry("@every 20s", 1000.0), entry("@every 10s", 1000.0)
    table = timetable(slow, quick)
    assert table.next_due == 1010
    assert table.take_due(1009.0) == []
    assert table.take_due(1025.0) == [quick, slow]
    assert table.next_due is None
    assert table.entries == [slow, quick]


def test_an_entry_that_was_given_out_comes_back() -> None:
    one = entry(now=1000.0)
    table = timetable(one)
    assert table.take_due(1010.0) == [one]
    assert table.take_due(1010.0) == []
    one.take(1010.0)
    table.put(one)
    assert table.next_due == 1020


def test_an_entry_without_a_tick_never_waits() -> None:
    table = timetable(entry("0 0 31 2 *", 1000.0))
    assert table.next_due is None
    assert len(table) == 1


def test_an_entry_that_was_removed_does_not_come_back() -> None:
    """Neither one that waits nor one that was given out."""
    waiting, given = entry("@every 30s", 1000.0), entry("@every 10s", 1000.0)
    table = timetable(waiting, given)
    assert table.take_due(1010.0) == [given]
    for one in (waiting, given):
        assert table.remove(one.id) is one
        assert one.is_gone
        table.put(one)
    assert table.next_due is None
    assert len(table) == 0
    with pytest.raises(EntryNotFound):
        table.remove(given.id)


def test_a_removal_leaves_the_others_in_order() -> None:
    entries = [entry(f"@every {seconds}s", 0.5) for seconds in range(1, 40)]
    table = timetable(*entries)
    for one in entries[::2]:
        table.remove(one.id)
    assert table.take_due(100.0) == entries[1::2]


def test_an_equal_entry_is_refused_while_there_is_one() -> None:
    """Of two equal ones, the second would find every tick enqueued."""
    one = entry(now=1000.0)
    table = timetable(one)
    again = define("@every 10s", TASK)
    with pytest.raises(
        InvalidOption, match="registered already; to have it twice, give each a name"
    ) as caught:
        table.check_new(again)
    assert caught.value.option == "entry_name"
    table.check_new(define("@every 10s", TASK, entry_name="second"))
    table.remove(one.id)
    table.check_new(again)


def test_a_removal_from_the_front_leaves_the_next_one_first() -> None:
    """Also where what comes up in its place is late."""
    seconds = (10, 50, 20, 60, 70, 30)
    first, *others = [entry(f"@every {each}s", 0.0) for each in seconds]
    table = timetable(first, *others)
    table.remove(first.id)
    assert table.next_due == 20
    assert [one.due for one in table.take_due(100.0)] == [20, 30, 50, 60, 70]


def test_entries_that_are_due_together_come_in_the_order_in_which_they_waited() -> None:
    entries = [entry(now=1000.0, name=name) for name in "cab"]
    table = timetable(*entries)
    assert table.take_due(1010.0) == entries


def test_who_was_given_out_is_known_until_it_comes_back() -> None:
    one = entry(now=1000.0)
    table = timetable(one)
    assert table.has_given_out(one) is False
    table.take_due(1010.0)
    assert table.has_given_out(one) is True
    table.put(one)
    assert table.has_given_out(one) is False


def test_planning_twice_gives_out_once() -> None:
    one = entry(now=1000.0)
    table = timetable(one)
    table.plan(2000.0)
    table.plan(2000.0)
    assert table.take_due(2010.0) == [one]


def test_entry_says_what_a_person_wants_to_know() -> None:
    one = entry("@every 10s", 1000.0, name="1")
    assert repr(one) == "<Entry 1 '@every 10s' 'email:digest' due=1010>"


def test_planning_goes_on_from_now_also_backwards() -> None:
    """But for the entries that are being enqueued: they go on from their tick."""
    given, waiting = entry("@every 10s", 5000.0), entry("@every 60s", 5000.0)
    table = timetable(given, waiting)
    assert table.take_due(5010.0) == [given]
    table.plan(1000.0)
    assert (given.due, waiting.due) == (5010, 1020)
    assert table.take_due(1020.0) == [waiting]


def test_a_definition_can_be_registered_twice_over_time() -> None:
    """Each registration has an id and ticks of its own."""
    definition: Definition = define("@every 10s", TASK)
    first, second = Entry("1", definition), Entry("2", definition)
    first.plan(1000.0)
    assert (first.due, second.due) == (1010, None)
    assert first.digest == second.digest
