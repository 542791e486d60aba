"""A map as its scripts keep it, in plain Python: what each write answers and leaves (spec/pulse.md 1.3 and 1.4).

It is written from the specification, not from the scripts. The methods are named as those of `ReplicatedMap` and return
the same, so that one history can run through both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pulsewire import PayloadTooLarge, ValueConflict
from pulsewire.rmap import Removed, TestAndDelete, TestAndSet

INT64 = range(-(2**63), 2**63)
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_ESCAPED = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\t": "\\t", "\n": "\\n"}
_ESCAPED |= {"\f": "\\f", "\r": "\\r", "\x7f": "\\u007f"}


class ModelMap:
    """The content of a map on the server, and the number and kind of its last change."""

    def __init__(self, name: str = "map", max_value: int = 2**20) -> None:
        self.name = name
        self.max_value = max_value
        self.content: dict[str, str] = {}
        self.revision = 0
        self.kind = ""

    def stored(self) -> dict[bytes, bytes]:
        """The hash, field by field."""
        fields = {key.encode(): value.encode() for key, value in self.content.items()}
        if self.revision:
            fields |= {b"=rev": str(self.revision).encode(), b"=kind": self.kind.encode()}
        return fields

    def _commit(self, kind: str) -> None:
        self.revision += 1
        self.kind = kind

    def _put(self, key: str, value: str) -> None:
        self.content[key] = value
        self._commit("set")

    def _drop(self, key: str) -> None:
        del self.content[key]
        self._commit("del")

    def _clear(self, kind: str) -> None:
        self.content.clear()
        self._commit(kind)

    # --- the operations

    def set(self, key: str, value: str) -> str | None:
        """Counts also when the value is the same."""
        old = self.content.get(key)
        self._put(key, value)
        return old

    def set_if_absent(self, key: str, value: str) -> bool:
        """Nothing when the key is there."""
        if key in self.content:
            return False
        self._put(key, value)
        return True

    def test_and_set(self, key: str, test: str, value: str) -> TestAndSet[str]:
        """An absent key matches nothing, not even the empty value."""
        old = self.content.get(key)
        is_equal = old == test
        if is_equal:
            self._put(key, value)
        return TestAndSet(old, old is not None, is_equal)

    def inc(self, key: str, by: int) -> int:
        """Whole numbers of 64 bits, in the one form that Redis accepts."""
        stored = self.content.get(key, "0")
        if not _WHOLE.fullmatch(stored) or int(stored) not in INT64:
            raise ValueConflict(self.name, key, "inc", "hash value is not an integer")
        total = int(stored) + by
        if total not in INT64:
            raise ValueConflict(self.name, key, "inc", "increment or decrement would overflow")
        self._put(key, str(total))
        return total

    def append_values(self, key: str, *items: str) -> list[str]:
        """All of them; without any the list as it is, and no change."""
        return self._append(key, "append_values", list(items))

    def append_unique_values(self, key: str, *items: str) -> list[str]:
        """Those not there yet, each once."""
        known = self._list(key, "append_unique_values")
        new = [item for item in dict.fromkeys(items) if item not in known]
        return self._append(key, "append_unique_values", new)

    def _append(self, key: str, operation: str, new: list[str]) -> list[str]:
        items = self._list(key, operation)
        if not new:
            return as_read(self.content.get(key))
        stored = as_written(items + new)
        if len(stored.encode()) > self.max_value:
            raise PayloadTooLarge(
                len(stored.encode()), self.max_value, f"map {self.name!r}", "max_value"
            )
        self._put(key, stored)
        return items + new

    def remove_values(self, key: str, *items: str) -> Removed:
        """Every occurrence; an empty list goes with its key, if it has become empty by this."""
        before = self._list(key, "remove_values")
        left = [item for item in before if item not in items]
        if len(left) == len(before):
            return Removed(as_read(self.content.get(key)), removed=False)
        if left:
            self._put(key, as_written(left))
        else:
            self._drop(key)
        return Removed(left, removed=True)

    def delete(self, key: str) -> str | None:
        """Nothing when the key is absent."""
        old = self.content.get(key)
        if old is not None:
            self._drop(key)
        return old

    def test_and_delete(self, key: str, test: str) -> TestAndDelete[str]:
        """Nothing when the value is another one."""
        old = self.content.get(key)
        is_equal = old == test
        if is_equal:
            self._drop(key)
        return TestAndDelete(old, old is not None, is_equal)

    def reset(self) -> None:
        """Counts also when nothing is there."""
        self._clear("reset")

    def test_and_reset(self, expected: Mapping[str, str]) -> bool:
        """Always, when nothing is expected."""
        if any(self.content.get(key) != value for key, value in expected.items()):
            return False
        self._clear("reset")
        return True

    def destroy(self) -> None:
        """As `reset`, under another kind."""
        self._clear("destroy")

    # --- lists

    def _list(self, key: str, operation: str) -> list[str]:
        """A list as the server reads it: of text with commas, the parts that are not empty."""
        stored = self.content.get(key)
        if stored is None:
            return []
        try:
            value = json.loads(stored)
        except ValueError:
            value = None
        if isinstance(value, (list, dict)):
            if isinstance(value, dict) or not all(isinstance(item, str) for item in value):
                raise ValueConflict(self.name, key, operation, "it is not an array of strings")
            return value
        return [part for part in stored.split(",") if part]


def as_written(items: list[str]) -> str:
    """A list as the server's JSON encoder prints it."""
    return "[" + ",".join('"' + "".join(map(_escaped, item)) + '"' for item in items) + "]"


def _escaped(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    return f"\\u{ord(character):04x}" if character < " " else character


def as_read(stored: str | None) -> list[str]:
    """An unchanged list as it is given back: of text with commas, all parts. Nothing there is an empty list."""
    if not stored:
        return []
    try:
        value = json.loads(stored)
    except ValueError:
        value = None
    return value if isinstance(value, list) else stored.split(",")
