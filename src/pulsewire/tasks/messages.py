"""The protobuf messages that asynq keeps in Redis (spec/asynq.md 2), as classes of the protobuf library.

They are described here, field by field, and made when the module is imported: generated code would bind us to one
major version of the library at a time.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Protocol

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.timestamp_pb2 import DESCRIPTOR as TIMESTAMP_FILE

_PACKAGE = "asynq"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "bool": _FIELD.TYPE_BOOL,
}
_TIMESTAMP = "google.protobuf.Timestamp"

_MESSAGES: Final[dict[str, Sequence[tuple[int, str, str]]]] = {
    "TaskMessage": (
        (1, "type", "string"),
        (2, "payload", "bytes"),
        (3, "id", "string"),
        (4, "queue", "string"),
        (5, "retry", "int32"),
        (6, "retried", "int32"),
        (7, "error_msg", "string"),
        (8, "timeout", "int64"),
        (9, "deadline", "int64"),
        (10, "unique_key", "string"),
        (11, "last_failed_at", "int64"),
        (12, "retention", "int64"),
        (13, "completed_at", "int64"),
        (14, "group_key", "string"),
        (15, "headers", "map of string"),
    ),
    "ServerInfo": (
        (1, "host", "string"),
        (2, "pid", "int32"),
        (3, "server_id", "string"),
        (4, "concurrency", "int32"),
        (5, "queues", "map of int32"),
        (6, "strict_priority", "bool"),
        (7, "status", "string"),
        (8, "start_time", _TIMESTAMP),
        (9, "active_worker_count", "int32"),
    ),
    "WorkerInfo": (
        (1, "host", "string"),
        (2, "pid", "int32"),
        (3, "server_id", "string"),
        (4, "task_id", "string"),
        (5, "task_type", "string"),
        (6, "task_payload", "bytes"),
        (7, "queue", "string"),
        (8, "start_time", _TIMESTAMP),
        (9, "deadline", _TIMESTAMP),
    ),
    "SchedulerEntry": (
        (1, "id", "string"),
        (2, "spec", "string"),
        (3, "task_type", "string"),
        (4, "task_payload", "bytes"),
        (5, "enqueue_options", "list of string"),
        (6, "next_enqueue_time", _TIMESTAMP),
        (7, "prev_enqueue_time", _TIMESTAMP),
    ),
    "SchedulerEnqueueEvent": (
        (1, "task_id", "string"),
        (2, "enqueue_time", _TIMESTAMP),
    ),
}


def _describe(
    file: descriptor_pb2.FileDescriptorProto, name: str, fields: Sequence[tuple[int, str, str]]
) -> None:
    message = file.message_type.add(name=name)
    for number, field_name, kind in fields:
        field = message.field.add(name=field_name, number=number, label=_FIELD.LABEL_OPTIONAL)
        if kind.startswith("map of "):
            entry = message.nested_type.add(name=f"{field_name.capitalize()}Entry")
            entry.options.map_entry = True
            for entry_number, part, scalar in ((1, "key", "string"), (2, "value", kind[7:])):
                entry.field.add(
                    name=part,
                    number=entry_number,
                    type=_SCALARS[scalar],
                    label=_FIELD.LABEL_OPTIONAL,
                )
            field.label = _FIELD.LABEL_REPEATED
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{name}.{entry.name}"
        elif kind.startswith("list of "):
            field.label, field.type = _FIELD.LABEL_REPEATED, _SCALARS[kind[8:]]
        elif kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{kind}"


def _make() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="pulsewire/asynq.proto", package=_PACKAGE, syntax="proto3"
    )
    file.dependency.append(TIMESTAMP_FILE.name)
    for name, fields in _MESSAGES.items():
        _describe(file, name, fields)
    pool = descriptor_pool.DescriptorPool()  # not the default one: another library may know asynq
    pool.AddSerializedFile(TIMESTAMP_FILE.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


class TaskRecord(Protocol):
    """A TaskMessage: everything that asynq keeps of a task but its state (2.1). Times and durations are in seconds."""

    type: str
    payload: bytes
    id: str
    queue: str
    retry: int
    retried: int
    error_msg: str
    timeout: int
    deadline: int
    unique_key: str
    last_failed_at: int
    retention: int
    completed_at: int
    group_key: str

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Text that came with the task."""
        ...

    def SerializeToString(self) -> bytes:  # noqa: N802  # the library's name
        """Its bytes."""
        ...

    def CopyFrom(self, other: TaskRecord) -> None:  # noqa: N802  # the library's name
        """Become equal to another one, unknown fields and all."""
        ...


class TaskRecordClass(Protocol):
    """The class of TaskMessages."""

    def __call__(self, **fields: object) -> TaskRecord:
        """A new one."""
        ...

    def FromString(self, data: bytes) -> TaskRecord:  # noqa: N802  # the library's name
        """The one in these bytes."""
        ...


_CLASSES = _make()
TaskMessage: TaskRecordClass = _CLASSES["TaskMessage"]
ServerMessage: Any = _CLASSES["ServerInfo"]
WorkerMessage: Any = _CLASSES["WorkerInfo"]
EntryMessage: Any = _CLASSES["SchedulerEntry"]
EnqueueEventMessage: Any = _CLASSES["SchedulerEnqueueEvent"]

NEVER = -62135596800
"""Seconds of a Timestamp that never was: the year 1 (2.4)."""
_END_OF_TIME = 253402300799


def set_time(timestamp: Any, seconds: float) -> None:  # noqa: ANN401  # protobuf
    """Set a Timestamp to Unix seconds, the nearest that it can hold. Every Timestamp is to be set (2.5)."""
    held = min(max(seconds, float(NEVER)), float(_END_OF_TIME))
    timestamp.seconds = math.floor(held)
    timestamp.nanos = int((held - math.floor(held)) * 1e9)
    timestamp.SetInParent()
