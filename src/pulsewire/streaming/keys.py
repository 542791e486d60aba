"""The name of everything one stream leaves in Redis."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire._core.checks import check_name
from pulsewire._redis.namespace import Namespace, check_braces

PREFIX = ("pulse", "stream")


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """The keys of one stream. All hash to the slot of the main key.

    Attributes:
        foreign: a key that another program chose; None for Pulse's own naming.
    """

    space: Namespace
    name: str
    foreign: str | None = None

    def __post_init__(self) -> None:
        check_braces("stream", check_name("stream", self.name))
        if self.foreign is not None:
            check_braces("key", check_name("key", self.foreign))

    @property
    def main(self) -> str:
        """STREAM of the events (spec/pulse.md 2.1). Lives until `destroy`, or its TTL."""
        return (
            self.space.key(self.foreign)
            if self.foreign is not None
            else self.space.key(*PREFIX, self.name)
        )

    @property
    def positions(self) -> str:
        """HASH group -> id up to which nothing is needed any more. For rebuilding a lost group; lives 7 days unused."""
        return self.space.beside(self.main, "positions")

    def once(self, idempotency_key: str) -> str:
        """STRING with the id of the event added under this idempotency key. Lives for the stream's window."""
        return self.space.beside(self.main, "once", idempotency_key)

    @staticmethod
    def pattern(space: Namespace) -> str:
        """A SCAN pattern for the main keys of all streams; names hold no pattern characters."""
        return space.key(*PREFIX, "*")

    @staticmethod
    def name_of(space: Namespace, key: str) -> str:
        """The stream name in a main key."""
        return key.removeprefix(space.key(*PREFIX, ""))
