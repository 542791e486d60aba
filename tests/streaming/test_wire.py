"""Events and entries: the bytes Go programs share with us, and plain fields of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import (
    BYTES,
    FIELDS,
    JSON,
    TEXT,
    DecodeError,
    Fields,
    InvalidName,
    InvalidOption,
    typed,
)
from pulsewire.streaming.wire import (
    KNOWN_NAMES,
    PACKED_FIELDS,
    REQUEST_FIELD,
    Event,
    PulseFormat,
    StreamInfo,
    request_of,
)

pulse = PulseFormat(BYTES)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def as_server_sends(fields: list[Any]) -> list[bytes]:
    """What was written, as it comes back: everything is bytes."""
    return [item if isinstance(item, bytes) else str(item).encode() for item in fields]


# --- Pulse's format: what is written


def test_event_is_written_as_go_writes_it() -> None:
    """Fields n and p, in this order and nothing else (spec/pulse.md 2.1)."""
    fields, size = pulse.fields("user.created", b"\x00\xff", None, None)
    assert as_server_sends(fields) == [b"n", b"user.created", b"p", b"\x00\xff"]
    assert size == len("user.created") + 2


def test_empty_payload_is_written_all_the_same() -> None:
    """A Go consumer dies of an entry without p (S14)."""
    fields, _ = pulse.fields("e", b"", None, None)
    assert as_server_sends(fields) == [b"n", b"e", b"p", b""]


def test_topic_comes_third() -> None:
    fields, size = pulse.fields("e", b"x", "signup", None)
    assert as_server_sends(fields) == [b"n", b"e", b"p", b"x", b"t", b"signup"]
    assert size == 1 + 1 + 6


@pytest.mark.parametrize("topic", [None, ""])
def test_event_without_topic_has_no_topic_field(topic: str | None) -> None:
    fields, _ = pulse.fields("e", b"x", topic, None)
    assert b"t" not in as_server_sends(fields)[::2]


def test_headers_follow_what_go_knows() -> None:
    fields, size = pulse.fields("e", b"x", "t", {"trace": "abc", "ü": ""})
    assert as_server_sends(fields)[6:] == [b"h:trace", b"abc", "h:ü".encode(), b""]
    assert size == 3 + 5 + 3 + 1


def test_request_id_is_found_where_it_was_put() -> None:
    """It is the last field of entries that we write."""
    fields, _ = pulse.fields("e", b"x", "t", {"a": "b"})
    assert request_of(as_server_sends([*fields, "r", "abc1"])) == b"abc1"
    assert request_of(as_server_sends(fields)) is None
    assert request_of([]) is None
    assert request_of([b"r"]) is None
    assert request_of([b"r", b"7"]) == b"7"


def packed(*items: bytes) -> bytes:
    """As a client sends them."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(item), item) for item in items)


def test_simple_event_is_packed_as_it_is_written() -> None:
    """The name is packed once, and used again."""
    codec: PulseFormat[bytes] = PulseFormat(BYTES)
    for payload in (b"", b"\xff" * 300):
        fields, size = codec.fields("user.ü", payload, None, None)
        written = as_server_sends([*fields, REQUEST_FIELD, "id-1"])
        assert len(written) == 2 * PACKED_FIELDS
        assert codec.packed("user.ü", payload, "id-1") == (packed(*written), size)
        assert request_of(written) == b"id-1"


def test_so_many_names_are_remembered_and_more_are_written_all_the_same() -> None:
    """Names made of data must not fill the memory."""
    codec: PulseFormat[bytes] = PulseFormat(BYTES)
    for number in range(KNOWN_NAMES + 2):
        name = f"e{number}"
        assert codec.packed(name, b"", "r")[0].startswith(packed(b"n", name.encode()))
    assert len(codec._packed_names) == KNOWN_NAMES == 1000


def test_refusal_names_what_is_refused() -> None:
    with pytest.raises(InvalidName) as caught:
        pulse.packed("", b"", "r")
    assert caught.value.what == "event"
    for what, arguments in {
        "event name": ("\ud800", b"", None, None),
        "topic": ("e", b"", "\ud800", None),
        "header": ("e", b"", None, {"\ud800": "x"}),
    }.items():
        with pytest.raises(InvalidName) as caught:
            pulse.fields(*arguments)
        assert caught.value.what == what
    with pytest.raises(InvalidName) as caught:
        pulse.fields("e", b"", None, {"x": "\ud800"})
    assert caught.value.what == "header"


@pytest.mark.parametrize("name", ["", None, 5, b"bytes"])
def test_event_name_is_text_that_is_not_empty(name: Any) -> None:
    with pytest.raises(InvalidName):
        pulse.fields(name, b"", None, None)


@pytest.mark.parametrize(
    ("name", "topic", "headers"),
    [
        ("\ud800", None, None),
        ("e", "\ud800", None),
        ("e", None, {"\ud800": "x"}),
        ("e", None, {"x": "\ud800"}),
    ],
)
def test_text_that_utf8_cannot_write_is_refused(name: str, topic: Any, headers: Any) -> None:
    """Before anything is sent, or the events before it in an `add_many` would be in the stream."""
    with pytest.raises(InvalidName, match="UTF-8"):
        pulse.fields(name, b"", topic, headers)


@pytest.mark.parametrize(
    ("topic", "headers"),
    [
        (5, None),
        (b"topic", None),
        (None, {"k": 5}),
        (None, {5: "v"}),
        (None, {"k": b"v"}),
        (None, [("k", "v")]),
    ],
)
def test_topic_and_headers_are_text(topic: Any, headers: Any) -> None:
    with pytest.raises(TypeError):
        pulse.fields("e", b"", topic, headers)


def test_header_without_a_key_is_refused() -> None:
    with pytest.raises(InvalidName) as caught:
        pulse.fields("e", b"", None, {"": "v"})
    assert caught.value.what == "header"


def test_payload_of_another_type_is_refused() -> None:
    """Nobody guesses an encoding."""
    with pytest.raises(TypeError, match="codec"):
        pulse.fields("e", "text", None, None)  # type: ignore[arg-type]  # that is the point


# --- Pulse's format: what is read


def test_entry_of_go_is_read() -> None:
    assert pulse.parts([b"n", b"paid", b"p", b"\xff"]) == ("paid", "", b"\xff", {})
    assert pulse.parts([b"n", b"paid", b"p", b"", b"t", b"eu"]) == ("paid", "eu", b"", {})


def test_fields_nobody_knows_are_ignored() -> None:
    """A later version may write more."""
    raw = [b"n", b"e", b"p", b"x", b"zz", b"?", b"h:k", b"v", b"\xff", b"\xff", b"r", b"1"]
    assert pulse.parts(raw) == ("e", "", b"x", {"k": "v"})


@pytest.mark.parametrize(
    "raw",
    [
        [b"t", b"eu", b"n", b"e", b"p", b"x", b"h:k", b"v"],
        [b"p", b"x", b"n", b"e", b"h:k", b"v", b"t", b"eu"],
        [b"r", b"1", b"n", b"e", b"p", b"x", b"h:k", b"v", b"t", b"eu"],
        [b"n", b"e", b"t", b"eu", b"p", b"x", b"h:k", b"v"],
        [b"n", b"e", b"p", b"x", b"r", b"1", b"t", b"eu", b"h:k", b"v"],
        [b"n", b"e", b"p", b"x", b"h:k", b"v", b"zz", b"?", b"t", b"eu"],
    ],
    ids=lambda raw: b"".join(raw[::2]).decode(),
)
def test_any_order_is_understood(raw: list[bytes]) -> None:
    """By consumers and by filters alike."""
    assert pulse.parts(raw) == ("e", "eu", b"x", {"k": "v"})
    assert pulse.topic(raw) == "eu"


def test_values_that_look_like_field_names_are_values() -> None:
    raw = [b"n", b"t", b"p", b"n", b"h:t", b"t"]
    assert pulse.parts(raw) == ("t", "", b"n", {"t": "t"})
    assert pulse.topic(raw) == ""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([b"p", b"x"], "n and p are needed, found: p"),
        ([b"n", b"x"], "n and p are needed, found: n"),
        ([b"z", b"", b"a", b""], "found: a, z"),
        ([b"whatHappened", b"x", b"\xff", b"y"], "found: whatHappened, \ufffd"),
        ([], "found: none"),
        ([b"n"], "found: none"),
        ([b"n", b"\xff", b"p", b""], "UTF-8"),
        ([b"n", b"e", b"p", b"", b"t", b"\xff"], "UTF-8"),
        ([b"n", b"e", b"p", b"", b"h:k", b"\xff"], "UTF-8"),
        ([b"n", b"e", b"p", b"", b"h:\xff", b""], "UTF-8"),
        ([b"t", b"\xff", b"n", b"e", b"p", b""], "UTF-8"),
        ([b"p", b"", b"n", b"\xff"], "UTF-8"),
    ],
)
def test_entry_that_is_half_ours_is_told_apart(raw: list[bytes], reason: str) -> None:
    """Never an exception of another kind: a consumer survives whatever lies in the stream (S14)."""
    with pytest.raises(DecodeError) as caught:
        pulse.parts(raw)
    assert caught.value.what == "entry"
    assert reason in caught.value.reason
    pulse.topic(raw)


@given(
    words,
    st.binary(),
    st.one_of(st.none(), words),
    st.dictionaries(words, st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_what_is_written_is_read(
    name: str, payload: bytes, topic: str | None, headers: dict[str, str]
) -> None:
    fields, _ = pulse.fields(name, payload, topic, headers)
    for raw in (as_server_sends(fields), as_server_sends([*fields, "r", "1f"])):
        assert pulse.parts(raw) == (name, topic or "", payload, headers)
        assert pulse.topic(raw) == (topic or "")


pieces = st.sampled_from([b"n", b"p", b"t", b"r", b"h:", b"h:a", b"x", b"\xff", b""])


@given(
    st.lists(st.tuples(pieces, pieces), max_size=7, unique_by=lambda pair: pair[0]),
    st.lists(pieces, max_size=1),
)
def test_no_entry_raises_anything_else(known: list[tuple[bytes, bytes]], odd: list[bytes]) -> None:
    raw = [*(item for pair in known for item in pair), *odd]
    try:
        name, topic, payload, _ = pulse.parts(raw)
    except DecodeError:
        return
    pairs = dict(known)
    assert (name.encode(), payload) == (pairs[b"n"], pairs[b"p"])
    assert topic.encode() == pairs.get(b"t", b"")
    assert pulse.topic(raw) == topic


# --- codecs


@dataclass
class Order:
    number: int
    paid: bool = False


def test_codecs_turn_values_into_payloads_and_back() -> None:
    cases: list[tuple[Any, Any, bytes]] = [
        (BYTES, b"\xff", b"\xff"),
        (TEXT, "ü", "ü".encode()),
        (JSON, {"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'.encode()),
        (typed(Order), Order(7, paid=True), b'{"number":7,"paid":true}'),
    ]
    for codec, value, data in cases:
        entry_format: PulseFormat[Any] = PulseFormat(codec)
        fields, _ = entry_format.fields("e", value, None, None)
        assert fields[3] == data
        assert entry_format.parts(as_server_sends(fields))[2] == value


@pytest.mark.parametrize(
    "buffer", [bytearray(b"ab"), memoryview(b"ab")], ids=["bytearray", "memoryview"]
)
def test_any_buffer_is_bytes(buffer: Any) -> None:
    assert pulse.fields("e", buffer, None, None)[0][3] == b"ab"


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (TEXT, b"\xff"),
        (JSON, b"{"),
        (JSON, b'"\xff"'),
        (JSON, b""),
        (typed(Order), b'{"number":"7"}'),
        (typed(Order), b"[]"),
    ],
)
def test_payload_that_the_codec_did_not_make_is_malformed(codec: Any, data: bytes) -> None:
    with pytest.raises(DecodeError):
        PulseFormat(codec).parts([b"n", b"e", b"p", data])


@pytest.mark.parametrize(
    ("codec", "value"), [(TEXT, b"x"), (TEXT, None), (JSON, object()), (JSON, "\ud800"), (BYTES, 5)]
)
def test_value_that_the_codec_does_not_take_is_refused(codec: Any, value: Any) -> None:
    with pytest.raises(TypeError):
        PulseFormat(codec).fields("e", value, None, None)


# --- plain fields


def test_fields_are_written_in_their_order() -> None:
    fields, _ = FIELDS.fields(
        "",
        {"whatHappened": "ticket received", "ticketID": 7, "raw": b"\xff", "price": 1.5},
        None,
        None,
    )
    assert fields == [
        "whatHappened",
        "ticket received",
        "ticketID",
        7,
        "raw",
        b"\xff",
        "price",
        1.5,
    ]


def test_numbers_count_as_eight_bytes() -> None:
    """About what they are."""
    _, size = FIELDS.fields("", {"a": 7, "b": b"xy", "c": "z", "d": 1.5}, None, None)
    assert size == (1 + 8) + (1 + 2) + (1 + 1) + (1 + 8)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("", {"a": "b"}, "topic", None), "topic"),
        (("", {"a": "b"}, None, {"k": "v"}), "headers"),
        (("", {}, None, None), "payload"),
    ],
)
def test_what_plain_fields_have_no_place_for_is_named(arguments: Any, option: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        FIELDS.fields(*arguments)
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("entry_format", "arguments", "what"),
    [
        (FIELDS, ("named", {"a": "b"}, None, None), "event"),
        (Fields(name="n"), ("\ud800", {"a": "b"}, None, None), "event name"),
        (Fields(topic="t"), ("", {"a": "b"}, "\ud800", None), "topic"),
        (FIELDS, ("", {"": "b"}, None, None), "field"),
        (FIELDS, ("", {"\ud800": "b"}, None, None), "field"),
        (FIELDS, ("", {"a": "\ud800"}, None, None), "field"),
        (Fields(name="what"), ("e", {"what": "else"}, None, None), "field"),
    ],
)
def test_name_that_plain_fields_refuse_is_told_with_what_it_was(
    entry_format: Fields, arguments: Any, what: str
) -> None:
    with pytest.raises(InvalidName) as caught:
        entry_format.fields(*arguments)
    assert caught.value.what == what


def test_topic_that_is_no_text_is_shown_as_far_as_it_is() -> None:
    """A filter sees it and goes on."""
    assert Fields(topic="where").topic([b"where", b"eu\xff"]) == "eu\ufffd"


def test_fields_come_back_as_text_where_they_are_text() -> None:
    name, topic, payload, headers = FIELDS.parts(
        [b"a", b"1", b"b", b"\xff", b"n", b"p", b"\xc3\xbc", b""]
    )
    assert (name, topic, headers) == ("", "", {})
    assert payload == {"a": "1", "b": b"\xff", "n": "p", "ü": ""}


def test_name_and_topic_may_be_in_fields() -> None:
    tickets = Fields(name="whatHappened", topic="region")
    fields, _ = tickets.fields("ticket received", {"ticketID": "7"}, "eu", None)
    assert fields == ["whatHappened", "ticket received", "region", "eu", "ticketID", "7"]
    raw = as_server_sends(fields)
    assert tickets.parts(raw) == ("ticket received", "eu", {"ticketID": "7"}, {})
    assert tickets.topic(raw) == "eu"


def test_entry_without_the_fields_of_name_and_topic_has_none() -> None:
    tickets = Fields(name="whatHappened", topic="region")
    assert tickets.parts([b"ticketID", b"7"]) == ("", "", {"ticketID": "7"}, {})
    assert tickets.topic([b"ticketID", b"7"]) == ""


def test_plain_fields_carry_no_request_id() -> None:
    """The format belongs to somebody else."""
    assert not FIELDS.has_requests
    assert pulse.has_requests


@pytest.mark.parametrize(
    ("entry_format", "name", "payload", "topic", "headers", "error"),
    [
        (FIELDS, "named", {"a": "b"}, None, None, InvalidName),
        (FIELDS, "", {"a": "b"}, "topic", None, InvalidOption),
        (FIELDS, "", {"a": "b"}, None, {"k": "v"}, InvalidOption),
        (FIELDS, "", {}, None, None, InvalidOption),
        (FIELDS, "", [("a", "b")], None, None, TypeError),
        (FIELDS, "", b"bytes", None, None, TypeError),
        (FIELDS, "", {"": "b"}, None, None, InvalidName),
        (FIELDS, "", {5: "b"}, None, None, InvalidName),
        (FIELDS, "", {"a": None}, None, None, TypeError),
        (FIELDS, "", {"a": True}, None, None, TypeError),
        (FIELDS, "", {"a": ["b"]}, None, None, TypeError),
        (FIELDS, "", {"a": "\ud800"}, None, None, InvalidName),
        (FIELDS, "", {"\ud800": "a"}, None, None, InvalidName),
        (Fields(name="what"), "e", {"what": "else"}, None, None, InvalidName),
        (Fields(topic="where"), "", {"where": "else"}, "eu", None, InvalidName),
        (Fields(name="what"), 5, {"a": "b"}, None, None, TypeError),
    ],
)
def test_what_plain_fields_cannot_hold_is_refused(
    entry_format: Fields, name: Any, payload: Any, topic: Any, headers: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        entry_format.fields(name, payload, topic, headers)


def test_name_and_topic_cannot_share_a_field() -> None:
    with pytest.raises(InvalidOption) as caught:
        Fields(name="what", topic="what")
    assert caught.value.option == "topic"


@given(st.dictionaries(words, st.one_of(words, st.binary()), min_size=1))
def test_fields_that_are_written_are_read(payload: dict[str, str | bytes]) -> None:
    """Bytes that happen to be text come back as text; nothing else changes."""
    fields, _ = FIELDS.fields("", payload, None, None)
    _, _, read, _ = FIELDS.parts(as_server_sends(fields))
    assert read.keys() == payload.keys()
    for key, value in payload.items():
        found = read[key]
        assert (found.encode() if isinstance(found, str) else found) == (
            value.encode() if isinstance(value, str) else value
        )


@given(st.lists(st.binary(max_size=3), max_size=9))
def test_every_entry_is_plain_fields(raw: list[bytes]) -> None:
    FIELDS.parts(raw)
    FIELDS.topic(raw)


def test_format_of_plain_fields_says_which_are_special() -> None:
    assert repr(Fields()) == "Fields()"
    assert repr(Fields(name="n", topic="t")) == "Fields(name='n', topic='t')"
    assert repr(Fields(topic="t")) == "Fields(topic='t')"


# --- events


def test_event_says_what_a_person_wants_to_know() -> None:
    event: Event[bytes] = Event("5-1", "users", "mailer", "user.created", "", b"secret", {}, 3)
    assert repr(event) == "<Event 'user.created' 5-1 of users/mailer, delivery 3>"
    again: Event[bytes] = Event("5-1", "users", "mailer", "e", "", b"", {}, 2)
    assert repr(again) == "<Event 'e' 5-1 of users/mailer, delivery 2>"
    assert repr(Event("5-1", "users", "", "e", "", b"", {})) == "<Event 'e' 5-1 of users>"


def test_event_of_a_reader_was_delivered_once_when_its_id_says() -> None:
    event: Event[bytes] = Event("1700000000250-7", "users", "", "e", "", b"", {})
    assert event.deliveries == 1
    assert event.created_at == datetime(2023, 11, 14, 22, 13, 20, 250_000, tzinfo=UTC)


def test_stream_that_does_not_exist_has_nothing() -> None:
    info = StreamInfo("users", "pulse:stream:users", exists=False)
    assert (info.length, info.first_id, info.last_id, info.last_generated_id) == (0, "", "", "")
    assert (info.memory_bytes, info.groups) == (None, ())


async def test_acking_a_reader_s_event_does_nothing() -> None:
    await Event("5-1", "users", "", "e", "", b"", {}).ack()


def test_event_cannot_be_changed() -> None:
    event: Event[bytes] = Event("5-1", "users", "", "e", "", b"", {})
    with pytest.raises(AttributeError):
        event.id = "6-1"  # type: ignore[misc]  # that is the point
