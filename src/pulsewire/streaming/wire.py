"""Events and entries: values <-> fields of a stream entry, and the value types of streaming.

Pulse's format (spec/pulse.md 2.1): fields `n` name, `p` payload, `t` topic when there is one, in this order. Ours
follow and Go ignores them: `h:<key>` for each header, and last `r`, a request id by which an `add` whose reply was lost
finds its entry again. `Fields` is the other format: plain entries of other programs, any fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, Protocol

import msgspec
from typing_extensions import TypeVar

from pulsewire._core.codecs import Codec
from pulsewire._redis.pipeline import bulk
from pulsewire.errors import DecodeError, InvalidName, InvalidOption

T = TypeVar("T", default=bytes)
RawFields = Sequence[bytes]
"""The fields of an entry as the server sends them: name, value, name, value..."""

NAME, PAYLOAD, TOPIC, REQUEST, HEADER = b"n", b"p", b"t", b"r", b"h:"
REQUEST_FIELD = "r"
PACKED_FIELDS = 3
"""Fields in what `PulseFormat.packed` packs: n, p, r."""
KNOWN_NAMES = 1000
_EMPTY: Mapping[str, str] = {}


class Acknowledger(Protocol):
    """Where an event came from, as far as `ack` needs it."""

    async def ack_id(self, event_id: str) -> None:
        """Acknowledge one event."""
        ...


class Event(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """One event, as a reader or a sink hands it out.

    Attributes:
        id: `<milliseconds>-<sequence>`, rising within a stream.
        stream: name of the stream.
        sink: name of the sink; empty for a reader.
        name: what happened, such as `user.created`.
        topic: for filters; empty when none was given.
        payload: decoded by the stream's codec.
        headers: text by name.
        deliveries: how often it was handed to a consumer of this sink, this time included; 1 for a reader.
    """

    id: str
    stream: str
    sink: str
    name: str
    topic: str
    payload: T
    headers: Mapping[str, str]
    deliveries: int = 1
    _origin: Acknowledger | None = None

    @property
    def created_at(self) -> datetime:
        """When the server took it, by the server's clock, UTC, to the millisecond."""
        return datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)

    async def ack(self) -> None:
        """Tell the sink that this event is done, so that nobody gets it again. Does nothing for a reader's event.

        Raises:
            ServerUnavailable: the server could not be told in time; the event may be delivered again.
        """
        if self._origin is not None:
            await self._origin.ack_id(self.id)

    def __repr__(self) -> str:
        where = f"{self.stream}/{self.sink}" if self.sink else self.stream
        again = f", delivery {self.deliveries}" if self.deliveries > 1 else ""
        return f"<Event {self.name!r} {self.id} of {where}{again}>"


class NewEvent(msgspec.Struct, Generic[T], frozen=True):
    """An event to be added, for `add_many`."""

    name: str
    payload: T
    topic: str | None = None
    headers: Mapping[str, str] | None = None


class EntryFormat(Protocol[T]):
    """How events are written as entries."""

    @property
    def has_requests(self) -> bool:
        """Whether an entry may carry our request id."""
        ...

    def fields(
        self, name: str, payload: T, topic: str | None, headers: Mapping[str, str] | None
    ) -> tuple[list[Any], int]:
        """Fields for XADD, and how many bytes of content they hold."""
        ...

    def topic(self, raw: RawFields) -> str:
        """The topic of an entry, without decoding the rest."""
        ...

    def parts(self, raw: RawFields) -> tuple[str, str, T, Mapping[str, str]]:
        """Name, topic, payload and headers of an entry.

        Raises:
            DecodeError: it is not in this format.
        """
        ...


class PulseFormat(Generic[T]):
    """Entries as Go Pulse writes and reads them."""

    __slots__ = ("_codec", "_packed_names")
    has_requests = True

    def __init__(self, codec: Codec[T]) -> None:
        self._codec = codec
        self._packed_names: dict[str, bytes] = {}

    def fields(
        self, name: str, payload: T, topic: str | None, headers: Mapping[str, str] | None
    ) -> tuple[list[Any], int]:
        """`n`, `p`, `t` if there is a topic, then headers."""
        if name not in self._packed_names:
            self._check_name(name)
        data = self._codec.encode(payload)
        size = len(data) + len(name)
        fields: list[Any] = ["n", name, "p", data]
        if topic:
            fields += ("t", _text("topic", topic))
            size += len(topic)
        if headers:
            if not isinstance(headers, Mapping):
                raise TypeError(f"headers are a mapping, not {type(headers).__name__}")
            for key, value in headers.items():
                if not key:
                    raise InvalidName("header", key, "it is empty")
                fields += (f"h:{_text('header', key)}", _text("header", value))
                size += len(key) + len(value)
        return fields, size

    def packed(self, name: str, payload: T, request: str) -> tuple[bytes, int]:
        """The fields of an event without topic and headers as they travel, and how many bytes of content they hold.

        The same as `fields`, packed: what is added most, and half the time of the general way.
        """
        packed_name = self._packed_names.get(name) or self._check_name(name)
        data = self._codec.encode(payload)
        size, mark = len(data), request.encode()
        fields = b"%b$1\r\np\r\n$%d\r\n%b\r\n$1\r\nr\r\n$%d\r\n%b\r\n"
        return fields % (packed_name, size, data, len(mark), mark), size + len(name)

    def _check_name(self, name: str) -> bytes:
        """The name with its field, packed, if it is one."""
        if not isinstance(name, str) or not name:
            raise InvalidName("event", name, "it must be a string that is not empty")
        packed = bulk("n", _text("event name", name))
        if len(self._packed_names) < KNOWN_NAMES:
            self._packed_names[name] = packed
        return packed

    def topic(self, raw: RawFields) -> str:
        """Field `t`, or the empty string."""
        for index in range(0, len(raw) - 1, 2):  # Go writes it third, others may not
            if raw[index] == TOPIC:
                return raw[index + 1].decode(errors="replace")
        return ""

    def parts(self, raw: RawFields) -> tuple[str, str, T, Mapping[str, str]]:
        """From the fields, which Go writes in the order n, p, t; any order is understood."""
        topic, headers = "", _EMPTY
        try:
            if raw[0] == NAME and raw[2] == PAYLOAD:
                name, payload = raw[1].decode(), self._codec.decode(raw[3])
                if len(raw) > 6 or (len(raw) > 4 and raw[4] != REQUEST):
                    topic, headers = _extras(raw, 4)
                return name, topic, payload, headers
        except IndexError:
            pass
        except UnicodeDecodeError as error:
            raise DecodeError("entry", f"its text is not UTF-8 ({error})") from error
        return self._parts_in_any_order(raw)

    def _parts_in_any_order(self, raw: RawFields) -> tuple[str, str, T, Mapping[str, str]]:
        values = dict(zip(raw[::2], raw[1::2], strict=False))
        if NAME not in values or PAYLOAD not in values:
            found = ", ".join(sorted(key.decode(errors="replace") for key in values)) or "none"
            raise DecodeError("entry", f"fields n and p are needed, found: {found}")
        try:
            topic, headers = _extras(raw, 0)
            return values[NAME].decode(), topic, self._codec.decode(values[PAYLOAD]), headers
        except UnicodeDecodeError as error:
            raise DecodeError("entry", f"its text is not UTF-8 ({error})") from error


def _extras(raw: RawFields, start: int) -> tuple[str, Mapping[str, str]]:
    """Topic and headers among the fields from `start` on."""
    topic = ""
    headers: dict[str, str] = {}
    for index in range(start, len(raw) - 1, 2):
        key = raw[index]
        if key == TOPIC:
            topic = raw[index + 1].decode()
        elif key.startswith(HEADER):
            headers[key[len(HEADER) :].decode()] = raw[index + 1].decode()
    return topic, headers


FieldValue = str | bytes | int | float


class Fields:
    """Plain Redis stream entries: the payload is a dict of the fields, as other programs write them.

    Values come back as str where they are UTF-8, else as bytes.

    Args:
        name: the field that holds the event's name; without it events have no name.
        topic: the field that holds its topic; without it events have no topic.
    """

    __slots__ = ("_name", "_topic")
    has_requests = False  # the entry belongs to a format of somebody else

    def __init__(self, *, name: str | None = None, topic: str | None = None) -> None:
        if name is not None and name == topic:
            raise InvalidOption("topic", topic, "the name is in that field already")
        self._name = name
        self._topic = topic

    def __repr__(self) -> str:
        options = {"name": self._name, "topic": self._topic}
        said = [f"{option}={field!r}" for option, field in options.items() if field is not None]
        return f"Fields({', '.join(said)})"

    def fields(
        self,
        name: str,
        payload: Mapping[str, FieldValue],
        topic: str | None,
        headers: Mapping[str, str] | None,
    ) -> tuple[list[Any], int]:
        """The payload's fields, after those of name and topic."""
        fields: list[Any] = []
        if self._name is not None:
            fields += (self._name, _text("event name", name))
        elif name:
            raise InvalidName(
                "event",
                name,
                "this stream has no field for it: use Fields(name=...), or an empty name",
            )
        if self._topic is not None and topic:
            fields += (self._topic, _text("topic", topic))
        elif topic:
            raise InvalidOption(
                "topic", topic, "this stream has no field for it: use Fields(topic=...)"
            )
        if headers:
            raise InvalidOption("headers", headers, "a stream of plain fields has none")
        if not isinstance(payload, Mapping):
            raise TypeError(
                f"a payload of this stream is a mapping of fields, not {type(payload).__name__}"
            )
        for key, value in payload.items():
            self._check_field(key, value)
            fields += (
                _text("field", key),
                _text("field", value) if isinstance(value, str) else value,
            )
        if not fields:
            raise InvalidOption("payload", payload, "an entry needs at least one field")
        return fields, sum(len(item) if isinstance(item, (str, bytes)) else 8 for item in fields)

    def _check_field(self, key: object, value: object) -> None:
        if not isinstance(key, str) or not key:
            raise InvalidName("field", key, "it must be a string that is not empty")
        if isinstance(value, bool) or not isinstance(value, (str, bytes, int, float)):
            kind = type(value).__name__
            raise TypeError(f"field {key!r} is {kind}; text, bytes and numbers can be written")
        if key in (self._name, self._topic):
            raise InvalidName("field", key, "name or topic is in that field")

    def topic(self, raw: RawFields) -> str:
        """The topic field, or the empty string."""
        return _text_of(dict(zip(raw[::2], raw[1::2], strict=False)), self._topic)

    def parts(self, raw: RawFields) -> tuple[str, str, dict[str, str | bytes], Mapping[str, str]]:
        """All fields but those of name and topic are the payload."""
        values = dict(zip(raw[::2], raw[1::2], strict=False))
        name, topic = _text_of(values, self._name), _text_of(values, self._topic)
        payload: dict[str, str | bytes] = {}
        for key, value in values.items():
            text = key.decode(errors="replace")
            if text not in (self._name, self._topic):
                try:
                    payload[text] = value.decode()
                except UnicodeDecodeError:
                    payload[text] = value
        return name, topic, payload, _EMPTY


FIELDS = Fields()


def _text_of(values: Mapping[bytes, bytes], key: str | None) -> str:
    return values.get(key.encode(), b"").decode(errors="replace") if key is not None else ""


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {what} is str, not {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidName(what, value, "it cannot be written as UTF-8") from error
    return value


def request_of(raw: RawFields) -> bytes | None:
    """The request id of an entry; it is the last field of those we write."""
    if len(raw) >= 2 and raw[-2] == REQUEST:
        return raw[-1]
    return None


class ConsumerInfo(msgspec.Struct, frozen=True):
    """One consumer of a sink. `idle`: seconds since it last asked for anything."""

    name: str
    pending: int
    idle: float


class GroupInfo(msgspec.Struct, frozen=True):
    """One sink, as the server sees it.

    Attributes:
        pending: events delivered and not acknowledged yet.
        lag: events not delivered yet; None when the server cannot tell (always before Redis 7).
    """

    name: str
    consumers: tuple[ConsumerInfo, ...]
    pending: int
    last_delivered_id: str
    lag: int | None


class StreamInfo(msgspec.Struct, frozen=True):
    """One stream, as the server sees it. Ids are empty where there is no event."""

    name: str
    key: str
    exists: bool
    length: int = 0
    first_id: str = ""
    last_id: str = ""
    last_generated_id: str = ""
    memory_bytes: int | None = None
    groups: tuple[GroupInfo, ...] = ()
