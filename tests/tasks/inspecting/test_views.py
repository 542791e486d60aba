"""How the records of servers, workers and schedulers are read, by bytes of Go, and by damaged ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.tasks.inspecting.views import (
    DailyStats,
    EnqueueEvent,
    Found,
    NodeInfo,
    QueueInfo,
    SchedulerEntry,
    ServerInfo,
    WorkerInfo,
    read_entry,
    read_event,
    read_facts,
    read_nodes,
    read_second,
    read_server,
    read_task,
    read_worker,
)
from pulsewire.tasks.messages import ServerMessage, TaskMessage
from pulsewire.tasks.option_text import OptionText
from pulsewire.tasks.states import TaskState

# Bytes of Go's encoder: spec/asynq.md 2.6.
SERVER = (
    "0a016810071a03736964200a2a0b0a0764656661756c74100130013a06616374697665420b0880e2cfaa0610959aef"
    "3a4801"
)
WORKER = (
    "0a016810071a0373696422037469642a01743201703a0171420b0880e2cfaa0610959aef3a4a0b08bce2cfaa061095"
    "9aef3a"
)
ENTRY = (
    "0a0165120940657665727920316d1a01742201702a0a51756575652822712229320b0880e2cfaa0610959aef3a3a0b"
    "088092b8c398feffffff01"
)
EVENT = "0a03746964120b0880e2cfaa0610959aef3a"
AT = datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123456)


def test_server_of_go_is_read() -> None:
    assert read_server(bytes.fromhex(SERVER)) == ServerInfo(
        id="sid",
        host="h",
        pid=7,
        concurrency=10,
        queues={"default": 1},
        strict=True,
        status="active",
        started_at=AT,
        active_workers=1,
    )


def test_worker_of_go_is_read() -> None:
    assert read_worker(bytes.fromhex(WORKER)) == WorkerInfo(
        server_id="sid",
        host="h",
        pid=7,
        task_id="tid",
        task_type="t",
        payload=b"p",
        queue="q",
        started_at=AT,
        deadline=datetime.fromtimestamp(1_700_000_060, UTC).replace(microsecond=123456),
    )


def test_entry_of_go_is_read() -> None:
    """Year 1 is Go's "never"."""
    assert read_entry(bytes.fromhex(ENTRY), "h:7:id") == SchedulerEntry(
        id="e",
        scheduler="h:7:id",
        spec="@every 1m",
        task_type="t",
        payload=b"p",
        options=(OptionText('Queue("q")', "queue", "q"),),
        next_at=AT,
        previous_at=None,
    )


def test_event_of_go_is_read() -> None:
    assert read_event(bytes.fromhex(EVENT)) == EnqueueEvent(task_id="tid", at=AT)


@given(st.binary(max_size=60))
def test_whatever_bytes_are_a_record_or_none(data: bytes) -> None:
    """Nothing that lies in Redis makes reading fail."""
    for read in (read_server, read_worker, read_event):
        read(data)
    read_entry(data, "s")
    read_task("q", Found("id", "retry", data, b"", None), TaskState.RETRY, 0.0)


@pytest.mark.parametrize(
    ("seconds", "nanos", "moment"),
    [
        (1, 999_999_999, datetime.fromtimestamp(1, UTC).replace(microsecond=999_999)),
        (1, -5, datetime.fromtimestamp(1, UTC)),
        (1, 2_000_000_000, datetime.fromtimestamp(1, UTC).replace(microsecond=999_999)),
        (0, 0, None),
        (-62_135_596_800, 0, None),
        (2**62, 0, None),
    ],
)
def test_times_that_no_calendar_has_are_never(
    seconds: int, nanos: int, moment: datetime | None
) -> None:
    message = ServerMessage()
    message.start_time.seconds, message.start_time.nanos = seconds, nanos
    server = read_server(message.SerializeToString())
    assert server is not None
    assert server.started_at == moment


def test_nodes_of_a_slot_are_read() -> None:
    """Hosts that a node does not know are that of who was asked; more words may come with each node."""
    reply = [
        [0, 99, [b"10.0.0.1", 7000, b"a"]],
        [100, 200, [b"", 7001, b"b", []], [b"::1", 7002, b"c", {}], [None, 7003, b"d"]],
        [201, 300, [b"?", 7004, b"e"]],
    ]
    assert read_nodes(reply, 150, "10.9.9.9") == (
        NodeInfo(id="b", address="10.9.9.9:7001", role="master"),
        NodeInfo(id="c", address="[::1]:7002", role="replica"),
        NodeInfo(id="d", address="10.9.9.9:7003", role="replica"),
    )
    assert [node.address for node in read_nodes(reply, 201, "h")] == ["h:7004"]
    assert [node.id for node in read_nodes(reply, 200, "h")] == ["b", "c", "d"]
    assert [node.id for node in read_nodes(reply, 99, "h")] == ["a"]
    assert read_nodes(reply, 301, "h") == ()


def test_facts_are_read_by_line() -> None:
    text = (
        "# Server: this one\r\nredis_version:7.0.15\r\nexecutable:/a:b\r\n\r\nempty:\r\nnoise\r\n"
    )
    assert read_facts(text) == {"redis_version": "7.0.15", "executable": "/a:b", "empty": ""}


@pytest.mark.parametrize("text", [None, "", "0", "monday", "nan", "inf", "-1e300", "1e300"])
def test_pause_without_a_time_has_none(text: str | None) -> None:
    assert read_second(text) is None


def test_pause_has_its_time() -> None:
    assert read_second("1700000000") == datetime.fromtimestamp(1_700_000_000, UTC)


# --- a task, as it was found


NOW = 1_700_000_000.0


def found(state: TaskState, score: float | None = None, **fields: Any) -> Any:
    message = TaskMessage(**{"type": "t", "id": "id", "queue": "q", **fields})
    data = message.SerializeToString()
    return read_task("q", Found("id", state.value, data, b"result", score), state, NOW)


@pytest.mark.parametrize("state", [TaskState.SCHEDULED, TaskState.RETRY])
def test_task_that_waits_is_run_when_its_score_says(state: TaskState) -> None:
    assert found(state, NOW + 60).next_process_at == datetime.fromtimestamp(NOW + 60, UTC)
    assert found(state).next_process_at is None


def test_task_that_is_pending_is_run_now() -> None:
    assert found(TaskState.PENDING).next_process_at == datetime.fromtimestamp(NOW, UTC)


@pytest.mark.parametrize("state", [TaskState.ARCHIVED, TaskState.COMPLETED, TaskState.ACTIVE])
def test_score_of_other_tasks_is_no_time_to_run_them(state: TaskState) -> None:
    assert found(state, NOW + 60).next_process_at is None


def test_active_task_whose_lease_has_lapsed_is_an_orphan() -> None:
    assert [found(TaskState.ACTIVE, score).is_orphaned for score in (NOW + 0.5, NOW, None)] == [
        *(False, True, True),
    ]
    assert not found(TaskState.RETRY, NOW - 1).is_orphaned


def test_task_is_known_by_where_it_was_found_whatever_its_message_says() -> None:
    """By that it can be deleted."""
    assert (found(TaskState.PENDING).id, found(TaskState.PENDING).queue) == ("id", "q")
    for other in ("id", "queue"):
        fields: dict[str, Any] = {"type": "mail", other: "other"}
        info = found(TaskState.PENDING, **fields)
        assert (info.id, info.queue, info.type, info.result) == ("id", "q", "mail", b"result")


@pytest.mark.parametrize("data", [b"", b"\xff"])
def test_task_whose_message_cannot_be_read_is_told_of(data: bytes) -> None:
    info = read_task("q", Found("id", "archived", data, b"", NOW), TaskState.ARCHIVED, NOW)
    assert (info.id, info.queue, info.state) == ("id", "q", TaskState.ARCHIVED)
    assert not info.is_readable


def test_bytes_that_are_no_record_are_none() -> None:
    assert read_server(b"\xff") is None
    assert read_worker(b"\xff") is None
    assert read_entry(b"\xff", "s") is None
    assert read_event(b"\xff") is None


def test_server_has_no_workers_until_they_are_read() -> None:
    server = read_server(b"")
    assert server is not None
    assert server.workers == ()


# --- a queue


QUEUE = QueueInfo(
    name="q",
    pending=1,
    active=2,
    scheduled=4,
    retry=8,
    archived=16,
    completed=32,
    aggregating=64,
    set_apart=128,
    groups=5,
    processed=8,
    failed=2,
    processed_total=100,
    failed_total=50,
    latency=0.0,
    memory=None,
    is_paused=False,
    paused_at=None,
    at=AT,
)


def test_size_of_a_queue_is_all_of_its_tasks() -> None:
    assert QUEUE.size == 255


def test_error_rate_is_that_of_the_day() -> None:
    assert QUEUE.error_rate == 0.25
    assert replace(QUEUE, processed=0, failed=0).error_rate is None
    day = DailyStats(queue="q", day=date(2026, 1, 1), processed=4, failed=1)
    assert day.error_rate == 0.25
    assert replace(day, processed=0, failed=0).error_rate is None
