"""How late the event loop is: the delay of a timer, the worst one of the last seconds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pulsewire._core.clock import SYSTEM_CLOCK, Clock

EVERY = 0.5
REMEMBERED = 10.0
"""Seconds that a measure is remembered."""


class Recent:
    """Measures of the last seconds. For one thread."""

    __slots__ = ("_clock", "_found")

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._found: deque[tuple[float, float]] = deque()  # when, how much

    def note(self, seconds: float) -> None:
        """Something took so long."""
        self._found.append((self._clock.monotonic(), seconds))
        self._drop_old()

    def _drop_old(self) -> None:
        oldest = self._clock.monotonic() - REMEMBERED
        while self._found and self._found[0][0] < oldest:
            self._found.popleft()

    @property
    def worst(self) -> float:
        """The longest of late; 0 where there is none."""
        self._drop_old()
        return max((seconds for _, seconds in self._found), default=0.0)


class LoopLag:
    """Measures one event loop, for as long as somebody asks for it.

    Attributes:
        due: when the timer that was set fires at the earliest; None while none is set. For all threads.
        on_fired: told, on the loop, of each timer that has fired: when it was due, and how late it was.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.due: float | None = None
        self.on_fired: Callable[[float, float], None] = lambda *_: None
        self._clock = clock
        self._delays = Recent(clock)
        self._timer: asyncio.TimerHandle | None = None
        self._users: set[object] = set()

    def begin(self) -> Callable[[], None]:
        """Measure the loop that runs; call what is returned to end that. Several may want it at a time."""
        user = object()
        self._users.add(user)
        if self._timer is None:
            self._set_timer(asyncio.get_running_loop())
        return lambda: self._end(user)

    def _end(self, user: object) -> None:
        self._users.discard(user)
        if not self._users and self._timer is not None:
            self._timer.cancel()
            self._timer = self.due = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self.expect(EVERY)
        self._timer = loop.call_later(EVERY, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self.note()
        self._set_timer(loop)

    def expect(self, seconds: float) -> None:
        """A timer was set."""
        self.due = self._clock.monotonic() + seconds

    def note(self) -> None:
        """The timer has fired."""
        due, self.due = self.due, None
        if due is not None:
            late = max(self._clock.monotonic() - due, 0.0)
            self._delays.note(late)
            self.on_fired(due, late)

    @property
    def worst(self) -> float:
        """Seconds of the longest delay of late; that of a timer which has not fired yet is among them."""
        waiting = 0.0 if self.due is None else max(self._clock.monotonic() - self.due, 0.0)
        return max(waiting, self._delays.worst)
