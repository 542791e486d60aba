"""What becomes of a task after a failure, and when it is tried again (spec/asynq.md 4.3, 4.4)."""

from __future__ import annotations

import pytest

from pulsewire.errors import HandlerNotFound, Retry, RevokeTask, SkipRetry, TaskTimedOut
from pulsewire.tasks.retry import (
    Fate,
    causes,
    clean,
    default_delay,
    error_text,
    fate_of,
    is_charged,
)


@pytest.mark.parametrize(
    ("retried", "least", "most"),
    [
        (0, 15, 44),
        (1, 16, 74),
        (2, 31, 118),
        (5, 640, 814),
        (10, 10_015, 10_334),
        (24, 331_791, 332_516),
    ],
)
def test_delay_is_that_of_go(retried: int, least: int, most: int) -> None:
    assert default_delay(retried, spread=0) == least
    assert default_delay(retried, spread=29) == most
    drawn = {default_delay(retried) for _ in range(500)}
    assert least <= min(drawn) <= max(drawn) <= most
    assert len(drawn) > 10


def wrapped(cause: BaseException, times: int = 2) -> BaseException:
    """An error raised from another one, again and again."""
    for _ in range(times):
        error = RuntimeError("wrapped")
        error.__cause__ = cause
        cause = error
    return cause


BOOM = ValueError("boom")


@pytest.mark.parametrize(
    ("error", "retried", "max_retry", "is_failure", "fate"),
    [
        (BOOM, 0, 1, True, Fate.RETRY),
        (BOOM, 1, 1, True, Fate.ARCHIVE),
        (BOOM, 0, 0, True, Fate.ARCHIVE),
        (BOOM, 5, 5, False, Fate.ARCHIVE),
        (BOOM, 4, 5, False, Fate.RETRY),
        (SkipRetry(), 0, 9, True, Fate.ARCHIVE),
        (wrapped(SkipRetry()), 0, 9, True, Fate.ARCHIVE),
        (RevokeTask(), 9, 9, True, Fate.DROP),
        (wrapped(RevokeTask()), 0, 9, True, Fate.DROP),
        (BaseExceptionGroup("two", [BOOM, wrapped(RevokeTask())]), 0, 9, True, Fate.DROP),
        (HandlerNotFound("t"), 9, 9, False, Fate.RETRY),
        (Retry(is_failure=False), 9, 9, False, Fate.RETRY),
        (wrapped(HandlerNotFound("t")), 9, 9, False, Fate.RETRY),
        (Retry(), 9, 9, True, Fate.ARCHIVE),
    ],
)
def test_fate(
    error: BaseException, retried: int, max_retry: int, is_failure: bool, fate: Fate
) -> None:
    assert fate_of(error, retried, max_retry, is_failure=is_failure) is fate


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (BOOM, True),
        (Retry(), True),
        (Retry(is_failure=False), False),
        (wrapped(Retry(is_failure=False)), False),
        (HandlerNotFound("t"), False),
        (wrapped(HandlerNotFound("t")), False),
        (TaskTimedOut(), True),
    ],
)
def test_what_counts_as_a_failure(error: BaseException, charged: bool) -> None:
    assert is_charged(error) is charged


def test_causes_end_though_errors_go_round() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert causes(one) == [one, two]


def test_cause_that_two_share_hides_no_other() -> None:
    shared, own = ValueError("shared"), ValueError("own")
    one, two = wrapped(shared, 1), wrapped(shared, 1)
    group = BaseExceptionGroup("two", [own, one, two])
    assert {id(error) for error in causes(group)} == {id(e) for e in (group, one, two, shared, own)}


class Silent(Exception):
    """It cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (Silent(), "Silent"),
        (TimeoutError("no answer"), "TimeoutError: no answer"),
        (TimeoutError(), "context deadline exceeded"),
        (TaskTimedOut(), "context deadline exceeded"),
        (HandlerNotFound("t"), 'handler not found for task "t"'),
    ],
)
def test_text_of_an_error_is_go_s_where_go_has_one(error: Exception, text: str) -> None:
    assert error_text(error) == text


def test_text_of_an_error_is_utf_8() -> None:
    assert error_text(ValueError("\ud800")) == "ValueError: ?"
    assert error_text(TimeoutError()) == "context deadline exceeded"
    assert clean("ü\udfff").encode()
