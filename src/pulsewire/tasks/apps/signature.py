"""The arguments of a function as the payload of a task: one JSON object, checked against the annotations. Pure.

`welcome(user_id=42)` is `{"user_id":42}`, which Go programs read and write as easily. What the annotations say is
msgspec's business: dataclasses, Structs, TypedDicts, enums, datetimes, UUIDs, unions and all else it knows. Pydantic
models, wherever they stand, are asked themselves. Pydantic is never imported here: who has a model has it.

Objects are written with their keys sorted, and sets in order, as Go writes its maps: equal arguments are equal bytes,
and hold the same unique lock.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import msgspec.inspect

from pulsewire.errors import ConfigurationError, DecodeError
from pulsewire.tasks.task import Task

__all__ = ["Arguments", "Results"]

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
_NO_ARGUMENTS: Final = b"{}"


# --- values


def _encode_other(value: object) -> object:
    """What msgspec cannot write itself: a pydantic model, as the JSON values that it says it is."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"objects of type {type(value).__name__} have no form in JSON")
    return dump(mode="json", by_alias=True, round_trip=True)


def _decode_other(kind: Any, value: object) -> object:  # noqa: ANN401  # a class; pydantic is no dependency
    """What msgspec cannot make itself: a pydantic model, from JSON, so that its strict and bytes fields work too."""
    if kind is object:
        return value
    try:
        return kind.model_validate_json(_ENCODER.encode(value))
    except ValueError as error:
        raise ValueError(_complaints(error)) from error


def _complaints(error: Any) -> str:  # noqa: ANN401  # as above
    """A validation error of pydantic in one line; each field with what is wrong there."""
    if not hasattr(error, "errors"):
        return str(error)
    found = ((".".join(map(str, one["loc"])), one["msg"]) for one in error.errors())
    return "; ".join(f"{where}: {what}" if where else what for where, what in found)


_ENCODER = msgspec.json.Encoder(enc_hook=_encode_other, order="deterministic")


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401  # any type there is
    return msgspec.json.Decoder(kind, dec_hook=_decode_other)


def _check_type(kind: object) -> None:
    """Raises TypeError, or what evaluating a name in it raises, for a type that no JSON can be checked against."""
    _decoder(kind)
    left: list[object] = [msgspec.inspect.type_info(kind)]
    seen: set[int] = set()
    while left:
        node = left.pop()
        if isinstance(node, tuple):
            left.extend(node)
        elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)):
            if id(node) in seen:  # types may contain themselves
                continue
            seen.add(id(node))
            if isinstance(node, msgspec.inspect.CustomType) and not _is_known(node.cls):
                raise TypeError(f"objects of type {node.cls.__name__} have no form in JSON")
            left.extend(getattr(node, name) for name in node.__struct_fields__)


def _is_known(kind: type) -> bool:
    return kind is object or hasattr(kind, "model_validate_json")


# --- functions


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise ConfigurationError(
            f"the annotations of {_shown(function)} cannot be looked at: {error}; a task's types must be known while "
            "it runs: define or import them before the function, and not under TYPE_CHECKING"
        ) from error


def _shown(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}()"


def _check_function(function: object) -> None:
    if not inspect.isfunction(function):
        raise ConfigurationError(f"{function!r} cannot be a task: it is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{_shown(function)} cannot be a task: it yields; tasks return")


def _check_parameter(function: Callable[..., Any], parameter: inspect.Parameter, kind: Any) -> None:  # noqa: ANN401  # any type
    name = f"{parameter.name!r} of {_shown(function)}"
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        raise ConfigurationError(f"{name} has no names for its arguments: take a list instead of *")
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        raise ConfigurationError(f"{name} says nothing of its arguments: take a dict instead of **")
    if parameter.name in ("self", "cls") and parameter.annotation is inspect.Parameter.empty:
        raise ConfigurationError(
            f"{_shown(function)} is a method, and there is no object in a worker: make it a function"
        )
    if isinstance(kind, type) and issubclass(kind, Task):
        raise ConfigurationError(
            f"{name} is not an argument that can be enqueued: call pulsewire.tasks.current_task() in the function"
        )
    try:
        _check_type(kind)
    except Exception as error:
        raise ConfigurationError(f"{name} cannot be read from JSON: {error}") from error


class Arguments:
    """The parameters of one function, and the bytes that its arguments are.

    A function whose only parameter is annotated `bytes` gets the payload as it is.
    """

    __slots__ = (
        "_decoder",
        "_known",
        "_names",
        "_place",
        "_positional_only",
        "_raw",
        "_required",
        "_signature",
        "function",
    )

    def __init__(self, function: Callable[..., Any]) -> None:
        """Look at a function.

        Raises:
            ConfigurationError: it cannot be called with what JSON can say.
        """
        _check_function(function)
        hints = _hints(function)
        self.function = _shown(function)
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        kinds = [hints.get(one.name, Any) for one in parameters]
        for parameter, kind in zip(parameters, kinds, strict=True):
            _check_parameter(function, parameter, kind)
        self._names = tuple(self._signature.parameters)
        self._known = frozenset(self._names)
        self._required = {one.name for one in parameters if one.default is one.empty}
        self._place = tuple(one.name for one in parameters if one.kind is not one.KEYWORD_ONLY)
        self._positional_only = {
            one.name: one.default for one in parameters if one.kind is one.POSITIONAL_ONLY
        }
        self._raw = kinds == [bytes]
        self._decoder = _decoder(self._model(kinds))

    def __repr__(self) -> str:
        return f"<Arguments {self.function} {self._signature}>"

    @property
    def are_optional(self) -> bool:
        """Whether the function can be called without any."""
        return not self._required

    def _model(self, kinds: list[Any]) -> Any:  # noqa: ANN401  # a class made here
        """A Struct of the parameters. Its own names are neutral, since a parameter may be called as a method is."""
        fields: list[Any] = [
            (f"field{number}", kind)
            if name in self._required
            else (f"field{number}", kind, msgspec.UNSET)
            for number, (name, kind) in enumerate(zip(self._names, kinds, strict=True))
        ]
        rename = {f"field{number}": name for number, name in enumerate(self._names)}
        return msgspec.defstruct("Payload", fields, kw_only=True, rename=rename)

    # --- to bytes

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The payload of a call. Arguments that were not given are left out: the worker's defaults count.

        Raises:
            TypeError: the function cannot be called like this, or not with these types.
        """
        values = self._bind(args, kwargs)
        if self._raw:
            return self._as_they_are(values)
        if not values:
            return _NO_ARGUMENTS
        try:
            payload = _ENCODER.encode(values)
            # what the handler would refuse is refused here, where its cause is
            self._decoder.decode(payload)
        except _UNWRITABLE as error:
            raise TypeError(
                f"{self.function} cannot be called like this as a task: {error}"
            ) from error
        return payload

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name. The common forms at once, the others, and all mistakes, as Python has them."""
        values = {**dict(zip(self._place, args, strict=False)), **kwargs}
        is_plain = (
            len(values) == len(args) + len(kwargs)
            and self._required <= values.keys()
            and values.keys() <= self._known
            and self._positional_only.keys().isdisjoint(kwargs)
        )
        if is_plain:
            return values
        try:
            return dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{self.function}: {error}") from None

    def _as_they_are(self, values: dict[str, Any]) -> bytes:
        for value in values.values():
            if not isinstance(value, (bytes, bytearray, memoryview)):
                raise TypeError(f"{self.function} takes bytes, not {type(value).__name__}")
            return bytes(value)
        return b""

    # --- from bytes

    def decode(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with. Fields that it has no parameter for are passed over, as Go does.

        Raises:
            DecodeError: the payload does not fit.
        """
        if self._raw:
            values = {} if not payload and self.are_optional else {self._names[0]: payload}
        else:
            try:
                fields = msgspec.structs.astuple(self._decoder.decode(payload or _NO_ARGUMENTS))
            except _UNREADABLE as error:
                raise DecodeError(f"the arguments of {self.function}", str(error)) from error
            values = {
                name: value
                for name, value in zip(self._names, fields, strict=True)
                if value is not msgspec.UNSET
            }
        args = [values.pop(name, default) for name, default in self._positional_only.items()]
        return args, values


class Results:
    """What a function returns, and its bytes."""

    __slots__ = ("_decoder", "_function", "_kind")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = _shown(function)
        self._kind = _hints(function).get("return", Any)
        self._decoder: msgspec.json.Decoder[Any] | None = None

    def encode(self, value: object) -> bytes:
        """JSON.

        Raises:
            TypeError: it has no form in JSON.
        """
        try:
            return _ENCODER.encode(value)
        except _UNWRITABLE as error:
            raise TypeError(f"the result of {self._function} cannot be kept: {error}") from error

    def decode(self, data: bytes) -> Any:  # noqa: ANN401  # what the function returns
        """What the function has returned.

        Raises:
            DecodeError: this is not a result of it.
            ConfigurationError: its annotation does not say how to read one.
        """
        if self._decoder is None:
            try:
                _check_type(self._kind)
            except Exception as error:
                raise ConfigurationError(
                    f"the result of {self._function} cannot be read from JSON: {error}"
                ) from error
            self._decoder = _decoder(self._kind)
        try:
            return self._decoder.decode(data)
        except _UNREADABLE as error:
            raise DecodeError(f"the result of {self._function}", str(error)) from error
