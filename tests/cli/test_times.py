"""Durations and points in time, typed and told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import typer

from pulsewire.cli import times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("90", 90.0),
        ("1.5", 1.5),
        ("45s", 45.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("2d", 172_800.0),
        ("1m0.5s", 60.5),
    ],
)
def test_a_duration_is_seconds_or_has_units(text: str, seconds: float) -> None:
    assert times.as_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "inf", "1e300", "2x", "h", "1h-5m", "1h 5", "one hour", "5m x"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        typer.BadParameter, match="is not a duration: use seconds, or such as 1h30m"
    ):
        times.as_duration(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (
            "2030-01-02 03:04+02:00",
            datetime(2030, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2))),
        ),
        ("1893553445", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_with_its_time_zone_or_unix_seconds(text: str, moment: datetime) -> None:
    assert times.as_moment(text) == moment


def test_a_moment_without_a_time_zone_is_refused_with_two_that_have_one() -> None:
    with pytest.raises(typer.BadParameter, match="needs a time zone: 2030-01-02T00:00:00Z, or "):
        times.as_moment("2030-01-02")


@pytest.mark.parametrize("text", ["", "tomorrow", "1e300", "2030-13-01T00:00:00Z", "nan"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a point in time, such as 2026-"):
        times.as_moment(text)


def test_moments_are_told_by_their_distance() -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    at = moment.timestamp()
    assert times.until(moment, at - 90) == "in 1 min 30 s"
    assert times.until(moment, at + 1) == "now"
    assert times.ago(moment, at + 2.5) == "2.5 s ago"
    assert times.ago(moment, at - 1) == "0.0 ms ago"
    assert (times.until(None, at), times.ago(None, at), times.when(None)) == ("-", "-", "-")
    assert times.when(moment) == f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
