"""Tasks and their values (spec/asynq.md 2.1). Options are in `test_client.py`, bytes in `test_messages.py`."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pulsewire.tasks import NewTask, TaskState
from pulsewire.tasks.wire import TaskIds, decode_message, encode_new, info_of, moment, unreadable

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
