"""Codecs: from the payloads a program works with to the bytes that travel, and back.

`BYTES` is the default everywhere. `JSON` takes what JSON knows; `typed(Model)` checks against a type: a dataclass, a
msgspec Struct, a TypedDict or any type msgspec knows, or a pydantic model where pydantic is installed.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import msgspec

from pulsewire.errors import DecodeError, InvalidOption

T = TypeVar("T")


class Codec(Protocol[T]):
    """Turns values into bytes and back."""

    def encode(self, value: T) -> bytes:
        """The bytes of `value`. Raises TypeError for a value it does not take."""
        ...

    def decode(self, data: bytes) -> T:
        """The value of `data`. Raises DecodeError for bytes it did not make."""
        ...


class BytesCodec:
    """Payloads are bytes; text is refused, so that nobody guesses an encoding."""

    __slots__ = ()

    def encode(self, value: bytes) -> bytes:
        """The same bytes."""
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise TypeError(
            f"bytes are needed, not {type(value).__name__}; for other types give a codec"
        )

    def decode(self, data: bytes) -> bytes:
        """The same bytes."""
        return data


class TextCodec:
    """Payloads are str, UTF-8."""

    __slots__ = ()

    def encode(self, value: str) -> bytes:
        """UTF-8."""
        if not isinstance(value, str):
            raise TypeError(
                f"a str is needed, not {type(value).__name__}; for other types give a codec"
            )
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise TypeError(f"this text cannot be written as UTF-8: {error}") from error

    def decode(self, data: bytes) -> str:
        """From UTF-8."""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DecodeError("text", str(error)) from error


class TypedCodec(Generic[T]):
    """Payloads of one type, as JSON, checked when decoded."""

    __slots__ = ("_decoder", "_encoder")

    def __init__(self, kind: type[T]) -> None:
        self._decoder: Any = msgspec.json.Decoder(kind)
        self._encoder = msgspec.json.Encoder()

    def encode(self, value: T) -> bytes:
        """JSON."""
        try:
            return self._encoder.encode(value)
        except (TypeError, msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
            raise TypeError(f"this value cannot be written as JSON: {error}") from error

    def decode(self, data: bytes) -> T:
        """From JSON, checked against the type."""
        try:
            value: T = self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError("JSON", str(error)) from error
        return value


class PydanticCodec(Generic[T]):
    """Payloads are instances of a pydantic model, as JSON."""

    __slots__ = ("_model",)

    def __init__(self, model: type[T]) -> None:
        self._model: Any = model

    def encode(self, value: T) -> bytes:
        """JSON."""
        if not isinstance(value, self._model):
            raise TypeError(f"a {self._model.__name__} is needed, not {type(value).__name__}")
        return self._text_of(value).encode()

    @staticmethod
    def _text_of(value: Any) -> str:  # noqa: ANN401  # a model; pydantic is no dependency
        text: str = value.model_dump_json()
        return text

    def decode(self, data: bytes) -> T:
        """From JSON, validated by the model."""
        try:
            value: T = self._model.model_validate_json(data)
        except ValueError as error:
            raise DecodeError("JSON", str(error)) from error
        return value


def typed(kind: type[T]) -> Codec[T]:
    """A codec for payloads of one type, written as JSON.

    Args:
        kind: a dataclass, msgspec Struct, TypedDict, pydantic model, or any other type that msgspec can check.
    """
    if hasattr(kind, "model_validate_json"):
        return PydanticCodec(kind)
    return TypedCodec(kind)


C = TypeVar("C")


def check_codec(codec: C) -> C:
    """Return `codec` if it is one.

    Raises:
        InvalidOption: it is not a codec.
    """
    if isinstance(codec, type):
        raise InvalidOption("codec", codec, f"is a type: use typed({codec.__name__})")
    if not all(callable(getattr(codec, name, None)) for name in ("encode", "decode")):
        reason = "is not a codec: use BYTES, TEXT, JSON, typed(Model), or an object with `encode` and `decode`"
        raise InvalidOption("codec", codec, reason)
    return codec


BYTES: Codec[bytes] = BytesCodec()
TEXT: Codec[str] = TextCodec()
JSON: Codec[Any] = TypedCodec(object)
