"""The JSON document of `pulsewire map export` and `import`: its form, its reading, and what an import would change.

Pure: it knows neither files nor servers. Whatever is wrong in a document is found before anything is written.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BadDocument",
    "Differences",
    "as_document",
    "differences",
    "read_document",
    "value_as_data",
]

_FIELDS = ("map", "revision", "entries")
_BASE64 = "base64"


class BadDocument(Exception):
    """The text is not a document that can be imported; the message says where it is wrong."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What it takes to make a map hold what a document says.

    Attributes:
        added: keys that the map does not have, with their values.
        changed: keys with another value, with the value now and the new one.
        removed: keys that the document does not have, with their values; only where it is to replace the map.
        unchanged: how many are as they should be.
    """

    added: dict[str, bytes]
    changed: dict[str, tuple[bytes, bytes]]
    removed: dict[str, bytes]
    unchanged: int

    @property
    def to_set(self) -> dict[str, bytes]:
        """What must be stored."""
        return self.added | {key: new for key, (_, new) in self.changed.items()}


def value_as_data(value: bytes | None) -> str | dict[str, str] | None:
    """Return a value ready for JSON: text where it is UTF-8, else `{"base64": ...}`."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64: base64.b64encode(value).decode()}


def as_document(name: str, revision: int, entries: Mapping[str, bytes]) -> dict[str, object]:
    """Return a whole map ready for JSON, keys in order."""
    found = {key: value_as_data(entries[key]) for key in sorted(entries)}
    return {"map": name, "revision": revision, "entries": found}


def read_document(text: str) -> dict[str, bytes]:
    """Return the entries of a document.

    Raises:
        BadDocument: it is not in the form of `as_document`, or a key cannot be one of a map.
    """
    try:
        document = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise BadDocument(f"it is no JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("entries"), dict):
        raise BadDocument('it is not an object with "entries": {"key": "value", ...}')
    for field in document:
        if field not in _FIELDS:
            raise BadDocument(f"{field!r} is not one of its fields: {', '.join(_FIELDS)}")
    return {key: _read_entry(key, value) for key, value in document["entries"].items()}


def differences(
    now: Mapping[str, bytes], wanted: Mapping[str, bytes], *, replace: bool
) -> Differences:
    """Return what leads from the content of a map to what a document says."""
    common = [key for key in wanted if key in now]
    changed = {key: (now[key], wanted[key]) for key in common if now[key] != wanted[key]}
    gone = {key: value for key, value in now.items() if key not in wanted} if replace else {}
    added = {key: value for key, value in wanted.items() if key not in now}
    return Differences(added, changed, gone, len(common) - len(changed))


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadDocument(f"{key!r} is in it twice")
        found[key] = value
    return found


def _read_entry(key: str, value: object) -> bytes:
    if not key or "=" in key:
        raise BadDocument(f"{key!r} is not a map key: it is empty, or has a '='")
    try:
        key.encode("utf-8", "surrogateescape")
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and list(value) == [_BASE64]:
            return base64.b64decode(value[_BASE64], validate=True)
    except (UnicodeEncodeError, TypeError, binascii.Error) as error:
        raise BadDocument(f"the entry {key!r} cannot be written: {error}") from error
    raise BadDocument(f'the value of {key!r} is neither text nor {{"{_BASE64}": "..."}}')
