"""Names of keys: the prefix of a hub, and where bookkeeping lives so that a cluster keeps it beside its main key."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire._core.checks import check_name
from pulsewire.errors import InvalidName


@dataclass(frozen=True, slots=True)
class Namespace:
    """The prefix of everything one hub names. Empty is what Go programs use."""

    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix:
            check_name("namespace", self.prefix)
            if "{" in self.prefix or "}" in self.prefix:
                raise InvalidName(
                    "namespace", self.prefix, "braces would move every key into one cluster slot"
                )

    def key(self, *parts: str) -> str:
        """The key of these parts, prefixed."""
        return ":".join((self.prefix, *parts)) if self.prefix else ":".join(parts)

    def beside(self, main_key: str, *parts: str) -> str:
        """A bookkeeping key that hashes to the slot of `main_key`, which already carries the prefix.

        The main key becomes the hash tag; if it has a tag of its own, that one is used
        (Redis Cluster specification, "Hash tags": the first `{...}` that is not empty).
        """
        tag = hash_tag(main_key)
        if tag == main_key:
            return self.key(f"pulsewire:{{{main_key}}}", *parts)
        return self.key(f"pulsewire:{{{tag}}}:{main_key}", *parts)


def hash_tag(key: str) -> str:
    """The part of `key` that decides its cluster slot: the content of the first `{...}`, or the whole key."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            return key[start + 1 : end]
    return key


def check_braces(what: str, name: str) -> str:
    """`name` if it can be, or has, a hash tag.

    Raises:
        InvalidName: a brace in it would make its bookkeeping hash to another slot.
    """
    if ("{" in name or "}" in name) and hash_tag(name) == name:
        raise InvalidName(what, name, "braces are only allowed as a hash tag such as {shop}")
    return name
