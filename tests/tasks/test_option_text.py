"""The texts in which options are written. That Go reads and writes the same is checked in `tests/conformance`."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.tasks.option_text import (
    OptionText,
    format_duration,
    format_option,
    format_options,
    format_unix_date,
    nanoseconds,
    parse_duration,
    parse_option,
    parse_unix_date,
    quote,
    unquote,
)

MAX = 2**63 - 1
MOMENT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]))
seconds_of_moment = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)

# --- durations

DURATIONS = [
    (0, "0s"),
    (1, "1ns"),
    (999, "999ns"),
    (1_000, "1\u00b5s"),
    (1_100, "1.1\u00b5s"),
    (999_999, "999.999\u00b5s"),
    (1_000_000, "1ms"),
    (1_500_000, "1.5ms"),
    (250_000_000, "250ms"),
    (999_999_999, "999.999999ms"),
    (1_000_000_000, "1s"),
    (1_500_000_000, "1.5s"),
    (59_999_999_999, "59.999999999s"),
    (60_000_000_000, "1m0s"),
    (90_000_000_000, "1m30s"),
    (3_600_000_000_000, "1h0m0s"),
    (86_400_000_000_000, "24h0m0s"),
    (129_600_000_000_000, "36h0m0s"),
    (-90_000_000_000, "-1m30s"),
    (-1, "-1ns"),
    (MAX, "2562047h47m16.854775807s"),
    (-MAX - 1, "-2562047h47m16.854775808s"),
]


@pytest.mark.parametrize(("duration", "text"), DURATIONS)
def test_durations_of_the_specification(duration: int, text: str) -> None:
    assert format_duration(duration) == text
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", 0),
        ("-0", 0),
        ("+5s", 5 * 10**9),
        ("1.s", 10**9),
        (".5s", 5 * 10**8),
        ("1h1h", 7200 * 10**9),
        ("1us", 1_000),
        ("1\u03bcs", 1_000),
        ("0.3333333333333333333h", 1_200_000_000_000),
        ("0.100000000000000000000h", 360_000_000_000),
        # Go stops counting digits where its number is full: with all of them it would be 1 ns more or less
        ("0.73973630998611103590h", 2_663_050_715_950),
        ("0.2284589952619444262542436h", 822_452_382_942),
        ("0.673592220166666623151m", 40_415_533_210),
        ("9223372036854775807ns", MAX),
        ("-9223372036854775808ns", -MAX - 1),
        ("000000000000000000000000001s", 10**9),
    ],
)
def test_durations_that_only_people_write(text: str, duration: int) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write it as 90s, 5m or 1h30m"),
        ("-", "write it as"),
        ("s", "write it as"),
        (".s", "write it as"),
        ("--5s", "write it as"),
        ("5", "a unit is missing"),
        ("5s3", "a unit is missing"),
        ("1..5s", "a unit is missing"),
        ("1d", "not 'd'"),
        ("1 s", "not ' s'"),
        ("1S", "not 'S'"),
        ("5s ", "not 's '"),
        ("9223372036854775808ns", "longer than about 292 years"),
        ("-9223372036854775809ns", "longer than about 292 years"),
        ("3000000h", "longer than about 292 years"),
        (f"{'9' * 5000}s", "longer than about 292 years"),
        ("\u0661s", "write it as"),
    ],
)
def test_what_is_no_duration_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_duration(text)


@given(st.integers(-MAX - 1, MAX))
def test_duration_is_read_as_it_was_written(duration: int) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.floats(-1e8, 1e8))
def test_seconds_keep_their_nanoseconds(seconds: float) -> None:
    """Up to three years; beyond, a float has none."""
    assert math.isclose(nanoseconds(seconds) / 1e9, seconds, rel_tol=1e-15, abs_tol=1e-9)


@pytest.mark.parametrize("seconds", [1e10, math.inf, MAX, MAX / 1e9])
def test_longer_than_go_can_say_is_the_longest(seconds: float) -> None:
    assert nanoseconds(seconds) == MAX
    assert nanoseconds(-seconds) == -MAX


@pytest.mark.parametrize("duration", [MAX + 1, -MAX - 2])
def test_duration_beyond_64_bits_is_refused(duration: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        format_duration(duration)


# --- strings


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("", '""'),
        ("low", '"low"'),
        ("a b", '"a b"'),
        ("it's", '"it\'s"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\0\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("\u00f1 \u5de5\u5355 \U0001f600", '"\u00f1 \u5de5\u5355 \U0001f600"'),
        ("\u0085\u00a0\u00ad\u200b\ufeff\ue000", r'"\u0085\u00a0\u00ad\u200b\ufeff\ue000"'),
        ("\U000e0001\U0010ffff", r'"\U000e0001\U0010ffff"'),
        (b"\xff\xc3".decode("utf-8", "surrogateescape"), r'"\xff\xc3"'),
    ],
)
def test_strings_of_go(text: str, literal: str) -> None:
    assert quote(text) == literal
    assert unquote(literal) == text


def test_half_a_surrogate_pair_is_no_character() -> None:
    assert [quote(half) for half in ("\ud800", "\udc7f", "\udd00", "\udfff")] == [r'"\ufffd"'] * 4
    assert unquote('"\ud800"') == b"\xed\xa0\x80".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ("`a\\n\r\"'`", "a\\n\"'"),
        ("'x'", "x"),
        ("'\\''", "'"),
        ("'\"'", '"'),
        ("''", ""),
        (r'"\101\x42\u0043\U00000044"', "ABCD"),
        (r'"\xc3\xb1"', "\u00f1"),
    ],
)
def test_literals_that_only_people_write(literal: str, text: str) -> None:
    assert unquote(literal) == text


@pytest.mark.parametrize(
    "literal",
    [
        *("", '"', "a", "low", '"low', 'low"', "\"low'", '"a"b"', '"\\"', '"a\nb"', "`a`b`"),
        *(
            r'"\q"',
            r'"\x4"',
            r'"\u12"',
            r'"\ud800"',
            r'"\udfff"',
            r'"\U00110000"',
            r'"\400"',
            r'"\'"',
        ),
        *("'ab'", "'\"\"'", r"'\"'", "'''"),
    ],
)
def test_what_is_no_literal_is_refused(literal: str) -> None:
    with pytest.raises(ValueError, match="is no|has no|ends before|is more than"):
        unquote(literal)


@given(texts)
def test_string_is_read_as_it_was_quoted(text: str) -> None:
    literal = quote(text)
    assert unquote(literal) == text
    assert literal.isprintable()


@given(st.binary())
def test_bytes_that_are_no_text_survive_quoting(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert unquote(quote(text)).encode("utf-8", "surrogateescape") == data


# --- dates


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (MOMENT, "Tue Jan  2 03:04:05 UTC 2024"),
        (MOMENT.replace(day=12, microsecond=999_999), "Fri Jan 12 03:04:05 UTC 2024"),
        (datetime(1, 1, 1, tzinfo=UTC), "Mon Jan  1 00:00:00 UTC 0001"),
        (
            datetime(2024, 1, 1, 23, 4, 5, tzinfo=timezone(timedelta(hours=-4))),
            "Tue Jan  2 03:04:05 UTC 2024",
        ),
    ],
)
def test_dates_are_written_in_utc(moment: datetime, text: str) -> None:
    assert format_unix_date(moment) == text
    assert parse_unix_date(text) == moment.replace(microsecond=0)


FIRSTS = "Mon Jan, Thu Feb, Fri Mar, Mon Apr, Wed May, Sat Jun, Mon Jul, Thu Aug, Sun Sep, Tue Oct, Fri Nov, Sun Dec"


def test_months_and_days_of_the_week_have_go_s_names() -> None:
    """The first days of the months of 2024."""
    for month, names in enumerate(FIRSTS.split(", "), start=1):
        moment, text = datetime(2024, month, 1, tzinfo=UTC), f"{names}  1 00:00:00 UTC 2024"
        assert format_unix_date(moment) == text
        assert parse_unix_date(text) == moment


@pytest.mark.parametrize("zone", ["+02", "+0200", "GMT", "-0330"])
def test_dates_with_an_offset_are_read(zone: str) -> None:
    offset = {"+02": 2, "+0200": 2, "GMT": 0, "-0330": -3.5}[zone]
    read = parse_unix_date(f"Tue Jan  2 03:04:05 {zone} 2024")
    assert read == MOMENT - timedelta(hours=offset)
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "Tue Jan  2 03:04:05 CST 2024",  # in Chicago, Shanghai or Havana
        "Tue Jan 2 03:04:05 UTC 2024",
        "Tue Jan  0 03:04:05 UTC 2024",
        "Tue Feb 30 03:04:05 UTC 2024",
        "Tue Jan  2 24:04:05 UTC 2024",
        "Tue Jan  2 03:04:05 UTC 0000",
        "Mon Jan  1 00:00:00 +01 0001",
        "Tue Jan  2 03:04:05 +24 2024",
        "2024-01-02T03:04:05Z",
        "",
    ],
)
def test_what_is_no_such_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date"):
        parse_unix_date(text)


@given(seconds_of_moment)
def test_date_is_read_as_it_was_written(moment: datetime) -> None:
    assert parse_unix_date(format_unix_date(moment)) == moment


# --- options

OPTIONS: list[tuple[str, Any, str]] = [
    ("max_retry", 3, "MaxRetry(3)"),
    ("max_retry", 0, "MaxRetry(0)"),
    ("queue", "name", 'Queue("name")'),
    ("queue", 'a "b" (c', 'Queue("a \\"b\\" (c")'),
    ("task_id", "x", 'TaskID("x")'),
    ("timeout", 90.0, "Timeout(1m30s)"),
    ("unique", 3600.0, "Unique(1h0m0s)"),
    ("process_in", 0.25, "ProcessIn(250ms)"),
    ("retention", 86_400.0, "Retention(24h0m0s)"),
    ("deadline", MOMENT, "Deadline(Tue Jan  2 03:04:05 UTC 2024)"),
    ("process_at", MOMENT, "ProcessAt(Tue Jan  2 03:04:05 UTC 2024)"),
    ("group", "g", 'Group("g")'),
    ("headers", ("k", "v"), 'Header(["k","v"])'),
    ("headers", ("<&>", "\n\u2028\u00f1"), 'Header(["\\u003c\\u0026\\u003e","\\n\\u2028\u00f1"])'),
    ("queue", "a)b", 'Queue("a\\x29b")'),
    ("headers", ("k", "v)"), 'Header(["k","v\\u0029"])'),
]


@pytest.mark.parametrize(("name", "value", "text"), OPTIONS)
def test_options_of_the_specification(name: str, value: Any, text: str) -> None:
    assert format_option(name, value) == text
    assert parse_option(text) == OptionText(text, name, value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_retry", -1, "MaxRetry(0)"),
        ("timeout", 90, "Timeout(1m30s)"),
        ("timeout", 0.1, "Timeout(100ms)"),
        ("retention", 1e12, "Retention(2562047h47m16.854775807s)"),
        ("deadline", 1_704_164_645, "Deadline(Tue Jan  2 03:04:05 UTC 2024)"),
        ("process_at", 1_704_164_645.9, "ProcessAt(Tue Jan  2 03:04:05 UTC 2024)"),
        ("process_at", 1_704_164_645.9999998, "ProcessAt(Tue Jan  2 03:04:05 UTC 2024)"),
        ("headers", ("\ud800", ""), 'Header(["?",""])'),
    ],
)
def test_values_that_are_brought_into_shape(name: str, value: Any, text: str) -> None:
    assert format_option(name, value) == text


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('Queue("a)b")', "queue", "a)b"),  # as Go writes it, and cannot read it
        ("Queue(`raw`)", "queue", "raw"),
        ("MaxRetry(+3)", "max_retry", 3),
        ("MaxRetry(-3)", "max_retry", 0),
        ("Timeout(90s)", "timeout", 90.0),
        ("Deadline(Tue Jan  2 04:04:05 +01 2024)", "deadline", MOMENT),
        ('Header( [ "k" , "v" ] )', "headers", ("k", "v")),
    ],
)
def test_texts_that_are_not_ours_are_understood(text: str, name: str, value: Any) -> None:
    assert parse_option(text) == OptionText(text, name, value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "(", ")", "()", "Queue", "Queue(", "Queue()", 'Queue("q"', 'Queue)"q"(', "Queue(q)"),
        *("Priority(3)", "max_retry(3)", 'queue("q")', "MaxRetry(x)", "MaxRetry(1.5)"),
        *("MaxRetry(1_0)", "MaxRetry( 5)"),
        *(f"MaxRetry({'9' * 5000})", "Timeout(90)", "Timeout(1d)", "Timeout(NaN)"),
        *("Deadline(tomorrow)", "ProcessAt(Tue Jan  2 03:04:05 CET 2024)"),
        *("Header(k,v)", 'Header(["k"])', 'Header(["k","v","w"])', 'Header(["k",1])', "Header({})"),
        *("Header(null)", f"Header({'[' * 100_000})"),
    ],
)
def test_text_that_is_not_understood_stays_a_text(text: str) -> None:
    assert parse_option(text) == OptionText(text)


@given(st.text() | st.from_regex(r'(Queue|Header|Timeout|Deadline|MaxRetry)\(["\[\\0-9a-z]*\)'))
def test_no_text_makes_reading_fail(text: str) -> None:
    assert parse_option(text).text == text


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_retry": st.integers(0, 2**31 - 1),
            "queue": texts,
            "task_id": texts,
            "timeout": st.integers(0, 2**33).map(float),
            "deadline": seconds_of_moment,
            "unique": st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
            "process_at": seconds_of_moment,
            "group": texts,
            "headers": st.dictionaries(texts, texts, max_size=3),
        },
    )
)
def test_options_are_read_as_they_were_written(options: dict[str, Any]) -> None:
    """Every text has the `(` without which Go's readers die, and its only `)` at the end, where they cut."""
    written = format_options(options)
    assert all("(" in text and text.index(")") == len(text) - 1 for text in written)
    read: dict[str, Any] = {"headers": {}} if "headers" in options else {}
    for option in map(parse_option, written):
        assert option.name is not None
        if option.name == "headers":
            assert isinstance(option.value, tuple)
            read["headers"].update([option.value])
        else:
            read[option.name] = option.value
    assert read == options


def test_options_come_in_their_order_without_what_is_none() -> None:
    options = {"queue": "q", "group": None, "headers": {"a": "1", "b": "2"}, "max_retry": 3}
    assert format_options(options) == [
        'Queue("q")',
        'Header(["a","1"])',
        'Header(["b","2"])',
        "MaxRetry(3)",
    ]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("priority", 1, "there is no option 'priority'"),
        ("max_retry", True, "a whole number is needed"),
        ("max_retry", 1.5, "a whole number is needed"),
        ("queue", b"q", "a string is needed"),
        ("timeout", "5s", "a number of seconds is needed"),
        ("timeout", True, "a number of seconds is needed"),
        ("timeout", math.nan, "cannot be written"),
        ("deadline", MOMENT.replace(tzinfo=None), "an aware datetime or a Unix time is needed"),
        ("deadline", "tomorrow", "an aware datetime or a Unix time is needed"),
        ("deadline", 1e20, "cannot be written"),
        ("process_at", math.inf, "cannot be written"),
        ("headers", "k=v", "a header is a pair of strings"),
        ("headers", ("k", 1), "a header is a pair of strings"),
    ],
)
def test_what_cannot_be_written_is_refused(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        format_option(name, value)
