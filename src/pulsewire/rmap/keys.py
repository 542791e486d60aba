"""The name of everything one replicated map leaves in Redis, and the channels of its notices."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire._core.checks import check_name
from pulsewire._redis.namespace import Namespace, check_braces, hash_tag

PREFIX = "map"
CONTENT = "content"


@dataclass(frozen=True, slots=True)
class MapKeys:
    """The keys of one map. All hash to the slot of the content."""

    space: Namespace
    name: str

    def __post_init__(self) -> None:
        check_braces("map", check_name("map", self.name))

    @property
    def content(self) -> str:
        """HASH entry -> value, with `=rev` and `=kind` (spec/pulse.md 1.1). Stays after `destroy`, until `forget`."""
        return self.space.key(PREFIX, self.name, CONTENT)

    def writer(self, session: str) -> str:
        """HASH request number -> reply, of one hub that writes this map. Lives 10 minutes after its last write."""
        return self.space.beside(self.content, "writer", session)

    def updates(self, *, sharded: bool) -> str:
        """The CHANNEL of the notices (spec/pulse.md 1.2).

        Args:
            sharded: for SPUBLISH, which like a key has a slot. There it is a channel beside the content, unless the
                map's name has a hash tag that keeps both together anyway.
        """
        channel = self.space.key(PREFIX, self.name, "updates")
        if sharded and hash_tag(channel) != hash_tag(self.content):
            return self.space.beside(self.content, "updates")
        return channel

    @staticmethod
    def pattern(space: Namespace) -> str:
        """A SCAN pattern for the contents of all maps; names hold no pattern characters."""
        return space.key(PREFIX, "*", CONTENT)

    @staticmethod
    def name_of(space: Namespace, key: str) -> str:
        """The map's name in the key of its content."""
        return key.removeprefix(space.key(PREFIX, "")).removesuffix(f":{CONTENT}")
