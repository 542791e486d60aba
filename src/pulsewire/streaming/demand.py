"""How many events a consumer should hold ahead of its work. Pure.

A shared stream spreads evenly only if nobody takes more than they work off soon (spec/pulse.md S11: taking 1,000 at a
time gave five consumers 2000/1000/0/0/0 of 3,000 events). So a consumer asks for as many events as callers are waiting
for right now, plus what it will work off within `HORIZON` at its recent rate. With a handler of 100 ms that is one
event; with one of 10 microseconds it is a full batch; with one of a second, or while nobody takes anything, it is none.
"""

from __future__ import annotations

HORIZON = 0.1
"""Seconds of work to hold ahead."""
WINDOW = 0.1
"""Seconds over which the rate is measured at least. Shorter ones see only the burst in which waiting workers start."""
NEWEST_WEIGHT = 0.5


class Demand:
    """Follows the rate at which events are taken.

    Args:
        limit: never hold more than this ahead.
        even: follow the rate; False holds `limit` ahead always, for readers, who share with nobody.
    """

    __slots__ = ("_ahead", "_count", "_rate", "_window_began", "limit")

    def __init__(self, limit: int, *, even: bool) -> None:
        self.limit = limit
        self._ahead = 0 if even else limit
        self._rate = 0.0
        self._count = 0
        self._window_began: float | None = None if even else float("inf")

    @property
    def ahead(self) -> int:
        """How many events to hold beyond those that callers wait for."""
        return self._ahead

    def take(self, now: float) -> None:
        """Somebody comes for the next event, at this time in seconds."""
        began = self._window_began
        self._count += 1
        if began is None:
            self._window_began = now
        elif now - began >= WINDOW:
            rate = self._count / (now - began)
            self._rate += NEWEST_WEIGHT * (rate - self._rate)
            self._ahead = min(self.limit, int(self._rate * HORIZON))
            self._window_began, self._count = now, 0

    def stall(self) -> None:
        """Nobody has taken anything for long: hold nothing ahead until they do again."""
        self._rate, self._ahead, self._count, self._window_began = 0.0, 0, 0, None
