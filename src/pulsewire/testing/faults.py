"""Faults of single commands: which command they wait for, and what is to happen to it.

Responsible for matching and counting. `link.py` makes them happen, `proxy.py` arms them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pulsewire.testing.resp import decode
from pulsewire.testing.waiting import wait_until

__all__ = ["CommandMatch", "Ending", "Fault", "arguments_of", "name_of"]

Ending: TypeAlias = Literal["cut", "stall"]
CommandMatch: TypeAlias = str | Callable[[Sequence[bytes]], bool] | None


@dataclass(eq=False, slots=True)
class Fault:
    """A fault that waits for its commands.

    Attributes:
        command: a name such as "XADD" or "XGROUP CREATE", a function of the arguments, or None for any.
        left: how often it may still happen.
        every: only every so-manieth command that matches.
        error: what to answer instead of sending the command; None to swallow the reply.
        ending: what becomes of a connection whose reply was swallowed.
        hits: how often it has happened: a reply was swallowed, an error was given.
    """

    command: CommandMatch
    left: int = 1
    every: int = 1
    error: bytes | None = None
    ending: Ending = "cut"
    hits: int = field(default=0, init=False)
    is_armed: bool = field(default=True, init=False)
    _seen: int = field(default=0, init=False, repr=False)

    def disarm(self) -> None:
        """Let it happen no more."""
        self.is_armed = False

    async def wait_hit(self, hits: int = 1, *, timeout: float = 10.0) -> None:
        """Return when it has happened so often.

        Raises:
            AssertionError: it did not in time.
        """
        await wait_until(
            lambda: self.hits >= hits, timeout=timeout, what=f"{self!r} happened {hits} times"
        )

    def takes(self, name: str, frame: bytes) -> bool:
        """Whether it is this command's turn; if so, it is counted off."""
        if not self.is_armed or self.left <= 0 or not self._matches(name, frame):
            return False
        self._seen += 1
        if self._seen % self.every:
            return False
        self.left -= 1
        return True

    def give_back(self) -> None:
        """It did not come to it: the command's connection ended before."""
        self.left += 1

    def _matches(self, name: str, frame: bytes) -> bool:
        if self.command is None:
            return True
        if not isinstance(self.command, str):
            return self.command(arguments_of(frame))
        first, _, second = self.command.upper().partition(" ")
        if first != name or not second:
            return first == name
        return [word.upper() for word in arguments_of(frame)[1:2]] == [second.encode()]


_names: dict[bytes, str] = {}


def name_of(frame: bytes) -> str:
    """The upper-case name of a command; empty for an empty line, which is no command."""
    words = frame.split(b"\r\n", 3) if frame.startswith(b"*") else [b"", b"", *frame.split(None, 1)]
    raw = words[2] if len(words) > 2 else b""
    name = _names.get(raw)
    if name is None:
        name = _names[raw] = raw.decode(errors="replace").upper()
    return name


def arguments_of(frame: bytes) -> list[bytes]:
    """A command with its arguments."""
    return list(decode(frame)) if frame.startswith(b"*") else frame.split()
