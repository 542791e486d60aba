"""How far a reader has come through a stream, counted in entries, so that it notices those that went before it. Pure.

A stream keeps count of all entries ever added, and of those that are there; so the number of removed ones is known, and
they are the oldest. A reader that has come past fewer than were removed has missed some (Redis 7.0 and newer).
"""

from __future__ import annotations

from typing import NamedTuple

from pulsewire.streaming.positions import order_of

__all__ = ["Passage", "Tally"]


class Tally(NamedTuple):
    """What a stream says of its entries.

    Attributes:
        added: how many there ever were.
        length: how many there are.
        last_id: the newest there ever was.
    """

    added: int
    length: int
    last_id: str

    def is_end(self, position: str) -> bool:
        """Whether nothing is behind a position."""
        return order_of(position) >= order_of(self.last_id)


class Passage:
    """How many entries a reader has come past, whether it has read them or not; None while that is unknown."""

    __slots__ = ("passed",)

    def __init__(self, tally: Tally | None, position: str) -> None:
        """Begin at a position, with what the stream says then; None where it does not say."""
        self.passed: int | None = None
        if tally is not None and tally.is_end(position):
            self.passed = tally.added
        elif tally is not None and position == "0-0":  # it begins with what is there
            self.passed = tally.added - tally.length

    def read(self, count: int) -> None:
        """So many more entries were read."""
        if self.passed is not None:
            self.passed += count

    def lose(self) -> None:
        """The stream is not what it was."""
        self.passed = None

    def missed(self, tally: Tally, position: str) -> int:
        """How many entries were removed before the reader came to them, since this was asked last."""
        passed = self.passed
        if tally.is_end(position):
            self.passed = tally.added
            return 0 if passed is None else max(tally.added - passed, 0)
        removed = tally.added - tally.length
        if passed is None or passed >= removed:
            return 0
        self.passed = removed
        return removed - passed
