"""Codecs give back what they were given, take only what they are for, and say so in typed errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire._core.codecs import BYTES, JSON, TEXT, Codec, check_codec, typed
from pulsewire.errors import DecodeError, InvalidOption


@dataclass
class Ticket:
    """A dataclass that travels."""

    number: int
    subject: str = ""


class Order(msgspec.Struct):
    """A Struct that travels."""

    total: float


class Address(TypedDict):
    """A TypedDict that travels."""

    city: str


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=20,
)


# --- bytes


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", bytearray(b"ab"), memoryview(b"ab")])
def test_bytes_travel_as_they_are(payload: Any) -> None:
    assert BYTES.decode(BYTES.encode(payload)) == bytes(payload)
    assert type(BYTES.encode(payload)) is bytes


@pytest.mark.parametrize("payload", ["text", 7, None, [1], {"a": 1}])
def test_bytes_codec_refuses_everything_else_and_says_what_helps(payload: Any) -> None:
    """No encoding is guessed."""
    with pytest.raises(TypeError, match=rf"not {type(payload).__name__}.*codec"):
        BYTES.encode(payload)


# --- text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_travels_as_utf8(text: str) -> None:
    assert TEXT.encode(text) == text.encode()
    assert TEXT.decode(TEXT.encode(text)) == text


@pytest.mark.parametrize("payload", [b"bytes", 7, None])
def test_text_codec_refuses_what_is_no_str(payload: Any) -> None:
    with pytest.raises(TypeError, match=type(payload).__name__):
        TEXT.encode(payload)


def test_text_that_utf8_cannot_write_is_a_type_error() -> None:
    """As the protocol of codecs says for every value that is not taken."""
    with pytest.raises(TypeError):
        TEXT.encode("\ud800")


def test_bytes_that_are_no_utf8_are_a_decode_error() -> None:
    with pytest.raises(DecodeError) as caught:
        TEXT.decode(b"\xff")
    assert caught.value.what == "text"
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)


# --- JSON


@given(plain_json)
def test_json_gives_back_what_it_was_given(value: Any) -> None:
    assert JSON.decode(JSON.encode(value)) == value


@pytest.mark.parametrize("value", [object(), {1, "a"}.__iter__(), "\ud800", {"key": object()}])
def test_json_codec_refuses_what_json_has_no_word_for(value: Any) -> None:
    with pytest.raises(TypeError, match="JSON"):
        JSON.encode(value)


def test_json_codec_refuses_a_value_that_contains_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TypeError, match="JSON"):
        JSON.encode(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'"\xff"', b"nonsense", b'{"a":1}x', b"NaN"])
def test_bytes_that_are_no_json_are_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        JSON.decode(data)
    assert caught.value.what == "JSON"


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000])
def test_json_nested_beyond_reason_is_a_decode_error(data: bytes) -> None:
    """An entry that somebody made on purpose is malformed like any other, not the end of the sink."""
    with pytest.raises(DecodeError, match="JSON"):
        JSON.decode(data)


# --- types


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Ticket, Ticket(7, "printer on fire")),
        (Order, Order(12.5)),
        (Address, Address(city="Köln")),
        (list[int], [1, 2, 3]),
        (int, 7),
    ],
)
def test_typed_payload_comes_back_as_its_type(kind: Any, value: Any) -> None:
    codec: Codec[Any] = typed(kind)
    decoded = codec.decode(codec.encode(value))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("kind", "data", "culprit"),
    [
        (Ticket, b'{"number": "seven"}', "number"),
        (Ticket, b'{"subject": "no number"}', "number"),
        (Order, b'{"total": null}', "total"),
        (Address, b"[]", "object"),
    ],
)
def test_payload_of_another_shape_is_a_decode_error_that_names_the_place(
    kind: Any, data: bytes, culprit: str
) -> None:
    codec: Codec[Any] = typed(kind)
    with pytest.raises(DecodeError, match=culprit) as caught:
        codec.decode(data)
    assert caught.value.what == "JSON"


def test_typed_codec_refuses_a_value_that_json_cannot_hold() -> None:
    class Strange:
        __slots__ = ()

    with pytest.raises(TypeError, match="Strange"):
        typed(Strange).encode(Strange())


@pytest.mark.parametrize("codec", ["json", None, object()])
def test_what_is_no_codec_is_refused_before_it_is_used(codec: object) -> None:
    with pytest.raises(InvalidOption, match="use BYTES, TEXT, JSON") as caught:
        check_codec(codec)
    assert (caught.value.option, caught.value.value) == ("codec", codec)


def test_type_in_place_of_its_codec_is_refused_with_what_is_meant() -> None:
    with pytest.raises(InvalidOption, match=r"use typed\(Order\)") as caught:
        check_codec(Order)
    assert caught.value.option == "codec"
    assert check_codec(BYTES) is BYTES


# --- pydantic


def test_pydantic_model_travels_and_is_validated() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Person(pydantic.BaseModel):  # type: ignore[name-defined,misc]  # pydantic may be missing
        name: str
        age: int

    codec: Codec[Any] = typed(Person)
    decoded = codec.decode(codec.encode(Person(name="Ada", age=36)))
    assert decoded == Person(name="Ada", age=36)
    assert type(decoded) is Person
    with pytest.raises(DecodeError, match="age") as caught:
        codec.decode(b'{"name": "Ada", "age": "old"}')
    assert caught.value.what == "JSON"
    with pytest.raises(DecodeError):
        codec.decode(b"{" * 10_000)
    with pytest.raises(TypeError, match="Person is needed, not dict"):
        codec.encode({"name": "Ada", "age": 36})
