"""Maps as they travel: notices, snapshots, list values; and the value types of the public face.

The format is that of Go Pulse, spec/pulse.md 1; numbers in comments are its sections.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple

import msgspec
from typing_extensions import TypeVar

from pulsewire.errors import DecodeError, InvalidName

T = TypeVar("T", default=str)

REVISION_FIELD = b"=rev"
KIND_FIELD = b"=kind"
RESERVED = "="
CLEARING = ("reset", "destroy")
_LENGTH = struct.Struct("<i")
_MAX_REVISION = 2**64
_MOST_DIGITS = 20
_LIST_OF_TEXT = msgspec.json.Decoder(list[str])


def check_key(key: object) -> str:
    """`key` if an entry may have it (1.5).

    Raises:
        InvalidName: it is not text, is empty, or has a `=`.
    """
    if not isinstance(key, str):
        raise InvalidName("map key", key, f"a string is needed, not {type(key).__name__}")
    if not key:
        raise InvalidName("map key", key, "it is empty")
    if RESERVED in key:
        raise InvalidName(
            "map key", key, "'=' is not allowed: it marks what Pulse keeps for itself"
        )
    try:
        encode_key(key)
    except UnicodeEncodeError as error:
        raise InvalidName("map key", key, "it cannot be written as UTF-8") from error
    return key


def encode_key(key: str) -> bytes:
    """UTF-8; keys of other programs that are none come back as the bytes they were."""
    return key.encode("utf-8", "surrogateescape")


def decode_key(key: bytes) -> str:
    """UTF-8, with surrogate escapes for what is none."""
    return key.decode("utf-8", "surrogateescape")


# --- notices, 1.2


class Notice(NamedTuple):
    """One message on a map's channel."""

    kind: str
    key: bytes
    value: bytes
    revision: int


def decode_notice(message: bytes) -> Notice:
    """What a message says.

    Raises:
        DecodeError: it is not in the format.
    """
    verb, colon, body = message.partition(b":")
    if not colon:
        raise DecodeError("notice", "it has no colon")
    if verb == b"set":
        key, at = _string(body, 0)
        value, at = _string(body, at)
        revision, _ = _string(body, at)
        return Notice("set", key, value, _revision(revision))
    if verb == b"del":
        key, at = _string(body, 0)
        revision, _ = _string(body, at)
        return Notice("del", key, b"", _revision(revision))
    if verb in (b"reset", b"destroy"):
        return Notice(verb.decode(), b"", b"", _revision(body))
    raise DecodeError("notice", f"unknown verb {verb[:20]!r}")


def _string(body: bytes, at: int) -> tuple[bytes, int]:
    """A length of 32 bits, little-endian, and so many bytes; what lies behind is the caller's."""
    start = at + 4
    if len(body) < start:
        raise DecodeError("notice", "it ends within a length")
    (length,) = _LENGTH.unpack_from(body, at)
    end = start + length
    if length < 0 or end > len(body):
        raise DecodeError("notice", f"it ends within a string of {length} bytes")
    return body[start:end], end


def _revision(text: bytes) -> int:
    if not text.isdigit() or len(text) > _MOST_DIGITS or (revision := int(text)) >= _MAX_REVISION:
        raise DecodeError("notice", f"{text[:30]!r} is not a revision")
    return revision


# --- snapshots, 1.7


class Snapshot(NamedTuple):
    """The whole of a map at one revision."""

    content: dict[bytes, bytes]
    revision: int
    kind: str


def decode_snapshot(reply: Mapping[bytes, bytes]) -> Snapshot:
    """The reply of HGETALL. An absent or unreadable revision counts as 0; other fields with a `=` are no entries."""
    kind = reply.get(KIND_FIELD, b"").decode(errors="replace")
    content = {key: value for key, value in reply.items() if key[:1] != b"="}
    return Snapshot(content, decode_revision(reply.get(REVISION_FIELD)), kind)


def decode_revision(stored: bytes | None) -> int:
    """The value of `=rev`."""
    if stored is None or not stored.isdigit() or len(stored) > _MOST_DIGITS:
        return 0
    return int(stored)


# --- lists, 1.4


def decode_list(stored: bytes) -> list[str]:
    """The items of a list value: a JSON array of strings, or else legacy text with commas."""
    text = stored.decode("utf-8", "replace").strip()
    if text.startswith("["):
        try:
            return _LIST_OF_TEXT.decode(text)
        except msgspec.MsgspecError:
            pass
    return stored.decode("utf-8", "replace").split(",")


# --- the public face


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that the map's codec cannot decode. Reading its key raises the error."""

    stored: bytes
    error: DecodeError = field(compare=False)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """Something that happened to a map.

    Attributes:
        kind: "set", "delete", or "reset": all keys are gone.
        key: None for a reset.
        old: the value before, as far as this replica knew it; None where there was none.
        new: the value now; None after a delete or reset.
        revision: of the map, after the change.
        error: why `new` is None although a value was set: the codec could not decode it.
    """

    kind: Literal["set", "delete", "reset"]
    key: str | None
    old: T | None
    new: T | None
    revision: int
    error: DecodeError | None = None


@dataclass(frozen=True, slots=True)
class TestAndSet(Generic[T]):
    """What `test_and_set` did. True when it stored the new value.

    Attributes:
        old: the value before; None where the key was absent.
        existed: whether the key was there.
        updated: whether the new value was stored.
    """

    __test__ = False  # it is no test of pytest

    old: T | None
    existed: bool
    updated: bool

    def __bool__(self) -> bool:
        return self.updated


@dataclass(frozen=True, slots=True)
class TestAndDelete(Generic[T]):
    """What `test_and_delete` did. True when it removed the key.

    Attributes:
        old: the value before; None where the key was absent.
        existed: whether the key was there.
        deleted: whether the key was removed.
    """

    __test__ = False  # it is no test of pytest

    old: T | None
    existed: bool
    deleted: bool

    def __bool__(self) -> bool:
        return self.deleted


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove_values` did. True when something was removed.

    Attributes:
        values: what is left; empty when the key is gone or was never there.
        removed: whether anything was removed.
    """

    values: list[str] = field(default_factory=list)
    removed: bool = False

    def __bool__(self) -> bool:
        return self.removed


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the server says of a map.

    Attributes:
        key: of its content in Redis.
        exists: False when nothing is there, not even what a destroyed map leaves.
        entries: number of keys.
        last_change: "set", "del", "reset" or "destroy"; empty for a map that nobody has changed.
        ttl: seconds it still has to live; None when it stays.
        memory_bytes: as MEMORY USAGE says; None where it may not be asked.
        replicas: connections that listen to its notices, at the server that was asked.
    """

    name: str
    key: str
    exists: bool
    entries: int = 0
    revision: int = 0
    last_change: str = ""
    ttl: float | None = None
    memory_bytes: int | None = None
    replicas: int = 0

    @property
    def is_destroyed(self) -> bool:
        """Whether only the tombstone is left that keeps the revisions going on."""
        return self.exists and not self.entries and self.last_change == "destroy"
