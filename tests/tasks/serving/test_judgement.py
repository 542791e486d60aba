"""What becomes of a task that did not succeed: marks of the handler, options of the server, and options that fail."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from pulsewire.errors import HandlerNotFound, Retry, RevokeTask, SkipRetry
from pulsewire.tasks.messages import TaskMessage, TaskRecord
from pulsewire.tasks.retry import is_charged
from pulsewire.tasks.serving.judgement import LONGEST_DELAY, Judgement
from pulsewire.tasks.serving.options import ServerOptions
from pulsewire.tasks.store import Leaving
from pulsewire.tasks.task import Task

NOW = 1_700_000_000.9
BOOM = ValueError("boom")
LOGGER = logging.getLogger("judgement-of-a-test")


def message(**fields: Any) -> TaskRecord:
    """Tried three times again, and failed once so far."""
    known = {"id": "t", "type": "mail", "queue": "q", "retry": 3, "retried": 1}
    record: TaskRecord = TaskMessage(**{**known, "unique_key": "lock", **fields})
    return record


def judge(error: BaseException, record: TaskRecord | None = None, **options: Any) -> Leaving:
    judgement = Judgement(ServerOptions(**options), LOGGER)
    return judgement.failed("t", record or message(), error, NOW)


def seven(*_: object) -> float:
    return 7.0


def written(leaving: Leaving) -> Any:
    return TaskMessage.FromString(leaving.message)


def test_failure_is_counted_and_tried_again() -> None:
    left = judge(BOOM, retry_delay=seven)
    assert (left.task_id, left.verb, left.number, left.lock) == ("t", "retry", 7.0, "")
    found = written(left)
    assert (found.retried, found.error_msg) == (2, "ValueError: boom")
    assert found.last_failed_at == 1_700_000_000


def test_record_that_was_judged_stays_as_it_was() -> None:
    """Who judges once more, since the script did not go through, must not count twice."""
    record = message()
    judge(BOOM, record)
    assert (record.retried, record.error_msg) == (1, "")


def test_last_failure_is_archived_with_its_error() -> None:
    """It is not counted, as in Go."""
    left = judge(BOOM, message(retried=3))
    assert (left.verb, left.number) == ("archive", 0.0)
    assert (written(left).retried, written(left).error_msg) == (3, "ValueError: boom")


def test_handler_may_say_that_it_is_over() -> None:
    assert judge(SkipRetry("no use")).verb == "archive"
    assert judge(RevokeTask("never mind")) == Leaving("t", "done", lock="lock")


@pytest.mark.parametrize(
    ("error", "verb", "retried"),
    [
        (Retry("later"), "retry", 2),
        (Retry("later", is_failure=False), "again", 1),
        (HandlerNotFound("mail"), "again", 1),
    ],
)
def test_what_is_no_failure_is_not_counted(error: Exception, verb: str, retried: int) -> None:
    left = judge(error)
    assert (left.verb, written(left).retried) == (verb, retried)


def test_error_that_the_user_calls_no_failure_is_not_counted_but_has_an_end() -> None:
    left = judge(BOOM, is_failure=lambda _: False)
    assert (left.verb, written(left).retried) == ("again", 1)
    assert judge(BOOM, message(retried=3), is_failure=lambda _: False).verb == "archive"


def test_handler_s_delay_goes_before_the_server_s() -> None:
    assert judge(Retry("later", after=0.5), retry_delay=seven).number == 0.5
    assert judge(Retry("later", after=0), retry_delay=seven).number == 0
    assert judge(Retry("later"), retry_delay=seven).number == 7.0


def test_handler_s_delay_counts_also_where_it_is_the_cause() -> None:
    error = ValueError("wrapped")
    error.__cause__ = Retry("later", after=0.5)
    assert judge(error, retry_delay=seven).number == 0.5


def test_delay_is_asked_with_what_has_failed_so_far_the_error_and_the_task() -> None:
    asked: list[Any] = []

    def delay(retried: int, error: BaseException, task: Task) -> float:
        asked.append((retried, error, task.id, task.type))
        return 0

    left = judge(BOOM, retry_delay=delay)
    assert asked == [(1, BOOM, "t", "mail")]
    assert (left.number, type(left.number)) == (0.0, float)


@pytest.mark.parametrize("answer", [-0.1, LONGEST_DELAY, math.inf, math.nan, "soon", b"7"])
def test_delay_that_makes_no_sense_is_told_and_the_default_holds(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    left = judge(BOOM, retry_delay=lambda *_: answer)
    assert 16 <= left.number <= 74  # after one failure
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.__dict__["delay"] == repr(answer)


def test_delay_of_centuries_is_taken() -> None:
    assert judge(BOOM, retry_delay=lambda *_: LONGEST_DELAY - 1).number == 1e10 - 1


def test_user_s_functions_that_fail_are_told_of_once_each_and_the_defaults_hold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task must always end in a state that can be seen."""
    left = judge(BOOM, retry_delay=lambda *_: 1 / 0, is_failure=lambda _: 1 / 0)
    assert (left.verb, written(left).retried) == ("retry", 2)
    assert 16 <= left.number <= 74
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_default_asks_the_error_whether_it_counts() -> None:
    assert ServerOptions().is_failure is is_charged
