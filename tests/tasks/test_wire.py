"""Tasks and their values (spec/asynq.md 2.1, 4.2). Bytes: `test_messages.py`. What options do: `test_client.py`."""

from __future__ import annotations

import math
import os
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.errors import DecodeError, InvalidName, InvalidOption
from pulsewire.tasks import NewTask, TaskState
from pulsewire.tasks.messages import TaskMessage
from pulsewire.tasks.wire import (
    MOST_RETRIES,
    TaskIds,
    as_payload,
    check_text,
    check_type,
    decode_message,
    encode_new,
    info_of,
    moment,
    unix,
    unreadable,
    whole,
)

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    kind=TEXT.filter(lambda text: bool(text.strip())),
    payload=st.binary(),
    task_id=TEXT.filter(lambda text: bool(text.strip())),
    retries=st.integers(0, 2**31 - 1),
    headers=st.dictionaries(TEXT, TEXT),
)
def test_task_comes_back_as_it_was(
    kind: str, payload: bytes, task_id: str, retries: int, headers: dict[str, str]
) -> None:
    task = NewTask(type=kind, payload=payload, max_retry=retries, headers=headers)
    message: Any = encode_new(task, task_id, payload, "")
    info = info_of(decode_message(message.SerializeToString(), task_id), TaskState.PENDING)
    assert (info.id, info.type, info.payload) == (task_id, kind, payload)
    assert (info.max_retry, dict(info.headers), info.timeout) == (retries, headers, 1800.0)


def test_ids_are_random_and_never_a_parents() -> None:
    ids = TaskIds()
    drawn = [ids.next() for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert all(UUID4.fullmatch(one) for one in drawn)
    child, parent = os.pipe()
    pid = os.fork()
    if not pid:  # nothing but this, and out
        os.write(parent, ids.next().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    born = os.read(child, 100).decode()
    os.close(child)
    os.close(parent)
    assert UUID4.fullmatch(born)
    assert born != ids.next()


def test_times_that_no_calendar_has_are_none() -> None:
    assert moment(0) is None
    assert moment(2**62) is None
    assert moment(-(2**62)) is None
    assert moment(1.5) == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_unreadable_record_says_so() -> None:
    info = unreadable("q", "a", TaskState.ARCHIVED)
    assert (info.id, info.queue, info.is_readable) == ("a", "q", False)
    assert (info.type, info.payload, info.state) == ("", b"", TaskState.ARCHIVED)
    assert (info.max_retry, info.retried, info.last_error, info.group) == (0, 0, "", "")
    assert (info.timeout, info.retention, info.result, info.headers) == (0.0, 0.0, b"", {})
    assert (info.last_failed_at, info.deadline, info.completed_at) == (None, None, None)
    assert (info.next_process_at, info.is_orphaned) == (None, False)


# --- options


def encoded(**options: Any) -> Any:
    """The message of a new task."""
    return encode_new(NewTask(**{"type": "t", **options}), "id", b"p", "lock")


def test_task_with_no_options_has_the_defaults_of_go() -> None:
    task = NewTask(type="t")
    assert (task.queue, task.max_retry, task.retention, task.group) == ("default", 25, 0.0, None)
    message = encoded()
    assert {field.name: value for field, value in message.ListFields()} == {
        "type": "t",
        "payload": b"p",
        "id": "id",
        "queue": "default",
        "retry": 25,
        "timeout": 1800,
        "unique_key": "lock",
    }


@pytest.mark.parametrize(
    ("options", "timeout", "deadline"),
    [
        ({"timeout": 90}, 90, 0),
        ({"timeout": 0.5}, 1, 0),  # rounded up: 0 would be no limit
        ({"timeout": 0}, 1800, 0),
        ({"deadline": 1_700_000_000.1}, 0, 1_700_000_001),
        ({"deadline": 1_700_000_000, "timeout": 7}, 7, 1_700_000_000),
        ({"deadline": 0}, 1800, 0),
        ({"deadline": datetime.fromtimestamp(1_700_000_000, UTC)}, 0, 1_700_000_000),
    ],
)
def test_attempt_has_a_limit_unless_a_deadline_is_one(
    options: dict[str, Any], timeout: int, deadline: int
) -> None:
    message = encoded(**options)
    assert (message.timeout, message.deadline) == (timeout, deadline)


def test_options_stand_in_the_message() -> None:
    message = encoded(queue="low", max_retry=0, retention=1.2, group="g", headers={"a": "b"})
    assert (message.queue, message.retry, message.retention) == ("low", 0, 2)
    assert (message.group_key, dict(message.headers)) == ("g", {"a": "b"})
    assert encoded(max_retry=MOST_RETRIES).retry == 2**31 - 1
    assert encode_new(NewTask(type="t"), "id", None, "").payload == b""


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *(({"max_retry": value}, "max_retry") for value in (-1, 2**31, 1.0, True, "1", None)),
        *(({"timeout": value}, "timeout") for value in (-1, math.inf, "1")),
        *(({"retention": value}, "retention") for value in (-1, math.inf, "1")),
        *(({"deadline": value}, "deadline") for value in (-1, 2**40, True, "now")),
        ({"deadline": datetime(2026, 1, 1)}, "deadline"),  # noqa: DTZ001  # that is the point
    ],
)
def test_impossible_options_are_refused_and_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        encoded(**options)
    assert caught.value.option == name


@pytest.mark.parametrize(
    ("options", "what"),
    [
        *(({"type": value}, "task type") for value in ("", " ", None, "\ud800")),
        *(({"group": value}, "group") for value in ("", "  ", 5, "\ud800")),
        *(({"queue": value}, "queue") for value in ("", " ", None)),
        *(({"headers": {value: "b"}}, "header") for value in (5, "\ud800")),
        *(({"headers": {"a": value}}, "value of header 'a'") for value in (5, "\ud800")),
    ],
)
def test_impossible_names_and_texts_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidName) as caught:
        encoded(**options)
    assert caught.value.what == what


def test_number_of_retries_is_refused_with_the_bound_that_it_breaks() -> None:
    with pytest.raises(InvalidOption, match="at least 0"):
        encoded(max_retry=-1)
    with pytest.raises(InvalidOption, match="at most 2147483647"):
        encoded(max_retry=2**31)


def test_texts_come_back_from_their_checks() -> None:
    assert check_type(" email:send") == " email:send"
    assert check_text("header", "") == ""


def test_copy_with_other_options_leaves_the_rest() -> None:
    task = NewTask(type="t", queue="low", max_retry=3)
    assert task.with_options(max_retry=5) == NewTask(type="t", queue="low", max_retry=5)
    assert task.max_retry == 3


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (None, None),
        (b"", b""),
        (b"a", b"a"),
        ("ü", "ü".encode()),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
    ],
)
def test_payload_is_bytes_or_text(payload: object, data: bytes | None) -> None:
    made = as_payload(payload)
    assert made == data
    assert made is None or type(made) is bytes


def test_payload_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidOption) as caught:
        as_payload({"a": 1})
    assert (caught.value.option, caught.value.value) == ("payload", {"a": 1})
    with pytest.raises(InvalidName) as refused:
        as_payload("\ud800")
    assert refused.value.what == "payload"


def test_points_in_time_are_unix_seconds() -> None:
    noon = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert unix("process_at", noon) == 1_704_103_200.0
    assert unix("process_at", 0) == 0.0
    assert unix("process_at", 2**40 - 1) == 2**40 - 1
    assert type(unix("process_at", 5)) is float


def test_durations_are_whole_seconds_rounded_up() -> None:
    assert [whole("timeout", value) for value in (0, 0.0001, 1, 1.5)] == [0, 1, 1, 2]
    with pytest.raises(InvalidOption) as caught:
        whole("timeout", -0.1)
    assert caught.value.option == "timeout"


# --- what Redis says


def test_everything_that_a_message_says_is_in_the_info() -> None:
    message: Any = TaskMessage(
        id="id",
        queue="low",
        type="t",
        payload=b"p",
        retry=5,
        retried=2,
        error_msg="boom",
        last_failed_at=1,
        timeout=30,
        deadline=2,
        group_key="g",
        retention=60,
        completed_at=3,
        headers={"a": "b"},
    )
    info = info_of(
        message, TaskState.RETRY, next_process_at=4.0, is_orphaned=True, result=b"result"
    )
    assert (info.id, info.queue, info.type, info.payload) == ("id", "low", "t", b"p")
    assert (info.state, info.max_retry, info.retried) == (TaskState.RETRY, 5, 2)
    assert (info.last_error, info.last_failed_at) == ("boom", moment(1))
    assert (info.timeout, info.deadline, info.group) == (30.0, moment(2), "g")
    assert (info.retention, info.completed_at) == (60.0, moment(3))
    assert (info.next_process_at, info.is_orphaned) == (moment(4), True)
    assert (info.result, info.headers, info.is_readable) == (b"result", {"a": "b"}, True)


def test_what_has_not_happened_is_none() -> None:
    info = info_of(encoded(), TaskState.PENDING)
    assert (info.last_failed_at, info.deadline, info.completed_at) == (None, None, None)
    assert (info.next_process_at, info.is_orphaned, info.result) == (None, False, b"")
    assert (info.headers, info.group, info.retried) == ({}, "", 0)


@pytest.mark.parametrize("data", [b"\xff", b"", TaskMessage(id="id").SerializeToString()])
def test_bytes_that_are_no_task_are_told_with_their_id(data: bytes) -> None:
    with pytest.raises(DecodeError, match="task 'seven'"):
        decode_message(data, "seven")
