"""The bytes of asynq's messages, as Go's encoder makes them (spec/asynq.md 2.6), both ways."""

from __future__ import annotations

from typing import Any

import pytest

from pulsewire.errors import DecodeError
from pulsewire.tasks.messages import (
    EnqueueEventMessage,
    EntryMessage,
    ServerMessage,
    TaskMessage,
    WorkerMessage,
    set_time,
)
from pulsewire.tasks.wire import decode_message

LOCK = "asynq:{q}:unique:t:d41d8cd98f00b204e9800998ecf8427e"
START = {"seconds": 1700000000, "nanos": 123456789}
NEVER = {"seconds": -62135596800}
GOLDEN: list[tuple[Any, dict[str, Any], str]] = [
    (
        TaskMessage,
        {
            "type": "email:send",
            "payload": b'{"id":42}',
            "id": "11111111-2222-3333-4444-555555555555",
            "queue": "default",
            "retry": 25,
            "timeout": 1800,
        },
        (
            "0a0a656d61696c3a73656e6412097b226964223a34327d1a2431313131313131312d323232322d333333332d343434342d353535"
            "353535353535353535220764656661756c74281940880e"
        ),
    ),
    (
        TaskMessage,
        {
            "type": "t",
            "payload": b"\x00\xff",
            "headers": {"k": "v"},
            "id": "id",
            "queue": "q",
            "retry": 3,
            "retried": 2,
            "error_msg": "boom",
            "last_failed_at": 1700000000,
            "timeout": 60,
            "deadline": 1700000060,
            "unique_key": LOCK,
            "group_key": "g",
            "retention": 3600,
            "completed_at": 1700000001,
        },
        (
            "0a0174120200ff1a026964220171280330023a04626f6f6d403c48bce2cfaa0652336173796e713a7b717d3a756e697175653a74"
            "3a64343164386364393866303062323034653938303039393865636638343237655880e2cfaa0660901c6881e2cfaa067201677a"
            "060a016b120176"
        ),
    ),
    (
        ServerMessage,
        {
            "host": "h",
            "pid": 7,
            "server_id": "sid",
            "concurrency": 10,
            "queues": {"default": 1},
            "strict_priority": True,
            "status": "active",
            "start_time": START,
            "active_worker_count": 1,
        },
        "0a016810071a03736964200a2a0b0a0764656661756c74100130013a06616374697665420b0880e2cfaa0610959aef3a4801",
    ),
    (
        WorkerMessage,
        {
            "host": "h",
            "pid": 7,
            "server_id": "sid",
            "task_id": "tid",
            "task_type": "t",
            "task_payload": b"p",
            "queue": "q",
            "start_time": START,
            "deadline": {**START, "seconds": 1700000060},
        },
        "0a016810071a0373696422037469642a01743201703a0171420b0880e2cfaa0610959aef3a4a0b08bce2cfaa0610959aef3a",
    ),
    (
        EntryMessage,
        {
            "id": "e",
            "spec": "@every 1m",
            "task_type": "t",
            "task_payload": b"p",
            "enqueue_options": ['Queue("q")'],
            "next_enqueue_time": START,
            "prev_enqueue_time": NEVER,
        },
        (
            "0a0165120940657665727920316d1a01742201702a0a51756575652822712229320b0880e2cfaa0610959aef3a3a0b088092b8c3"
            "98feffffff01"
        ),
    ),
    (
        EnqueueEventMessage,
        {"task_id": "tid", "enqueue_time": START},
        "0a03746964120b0880e2cfaa0610959aef3a",
    ),
]
LATER = b"\x82\x01\x03new"
"""Field 16, text: asynq has 15."""


@pytest.mark.parametrize(("kind", "fields", "golden"), GOLDEN)
def test_messages_are_bytes_of_go(kind: Any, fields: dict[str, Any], golden: str) -> None:
    data = bytes.fromhex(golden)
    assert kind(**fields).SerializeToString(deterministic=True) == data
    assert kind.FromString(data) == kind(**fields)


def test_unknown_fields_survive() -> None:
    """Those of a later asynq; Go loses them."""
    data = bytes.fromhex(GOLDEN[0][2]) + LATER
    message: Any = decode_message(data, "a")
    message.retried += 1
    again = message.SerializeToString()
    assert again.endswith(LATER)
    assert decode_message(again, "a").retried == 1


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x05ab", b"\x0a\x01\xff", b"", b"no message"])
def test_what_is_no_message_is_told_with_its_id(data: bytes) -> None:
    with pytest.raises(DecodeError, match="'a'"):
        decode_message(data, "a")


@pytest.mark.parametrize(
    ("moment", "seconds", "nanos"),
    [
        (1_700_000_000.5, 1_700_000_000, 500_000_000),
        (0.0, 0, 0),
        (-0.25, -1, 750_000_000),
        (float(NEVER["seconds"]), -62_135_596_800, 0),
        (-1e300, -62_135_596_800, 0),
        (1e300, 253_402_300_799, 0),
    ],
)
def test_time_is_set_to_the_nearest_that_it_can_hold(
    moment: float, seconds: int, nanos: int
) -> None:
    """The years 1 to 9999."""
    message = EnqueueEventMessage()
    set_time(message.enqueue_time, moment)
    assert (message.enqueue_time.seconds, message.enqueue_time.nanos) == (seconds, nanos)
    assert message.HasField("enqueue_time")  # also where all of it is nought (2.5)
