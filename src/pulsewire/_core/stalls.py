"""Noticing, from a thread, that an event loop stands still, and saying which handler it stands still in.

A function that runs a user's handler is marked with `runs_handlers`. When the loop does not answer, the stack of its
thread shows such a function, and the function's own variables name the event, job or task. So this costs nothing as
long as all is well: one timer on the loop and one look from the thread, each twice a second, and nothing per event.

What is said is a WARNING, once per standstill. Whether a standstill makes a process unhealthy is for `health.py`.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, TypeVar

from pulsewire._core.clock import SYSTEM_CLOCK, Clock
from pulsewire._core.lag import LoopLag

BLOCKED = 2.0
"""Seconds that a timer of the loop may be late before that is said."""
LOOK_EVERY = 0.5
JOINED_WITHIN = 1.0
DEEPEST = 8
"""Frames of a stack that are shown."""
IS_BLOCKED = "the event loop is blocked: work that blocks belongs into threads"
STOOD_STILL = "the process stood still: it was stopped, or something held the interpreter's lock"
WAS_BLOCKED = "the event loop was blocked, or the process stood still"

Runner = TypeVar("Runner", bound=Callable[..., Any])
Describe = Callable[[Mapping[str, Any]], dict[str, object]]
"""What a function works on, said of its local variables."""

_RUNNERS: dict[CodeType, tuple[str, Describe]] = {}


def runs_handlers(block: str, describe: Describe) -> Callable[[Runner], Runner]:
    """Mark a function that runs handlers of users. It may be asked from another thread what it works on.

    Args:
        block: the building block, such as `tasks`.
        describe: is given the local variables, the arguments at the least.
    """

    def mark(function: Runner) -> Runner:
        _RUNNERS[function.__code__] = (block, describe)
        return function

    return mark


@dataclass(frozen=True, slots=True)
class AtWork:
    """What a thread is doing.

    Attributes:
        block: the building block whose handler runs; empty where none does.
        what: what the handler works on.
        where: the innermost part of its stack, at most up to where the handler was called.
    """

    block: str
    what: Mapping[str, object]
    where: str


def at_work(frame: FrameType | None) -> AtWork:
    """What the thread with this innermost frame is doing."""
    depth, outer = 0, frame
    while outer is not None:
        known = _RUNNERS.get(outer.f_code)
        if known is not None:
            block, describe = known
            return AtWork(block, describe(outer.f_locals), _stack(frame, depth))
        depth, outer = depth + 1, outer.f_back
    return AtWork("", {}, _stack(frame, depth))


def _stack(frame: FrameType | None, depth: int) -> str:
    lines = [] if frame is None else traceback.format_stack(frame, min(depth, DEEPEST))
    return "".join(["\n", *lines]).rstrip()


def wording(late: float, own_delay: float) -> str:
    """What to say of a loop that is so late, seen from a thread that was itself so late."""
    return STOOD_STILL if own_delay > late / 2 else IS_BLOCKED


class LoopWatch:
    """Watches one event loop from a thread, for as long as somebody wants it who runs handlers there."""

    def __init__(self, lag: LoopLag, clock: Clock = SYSTEM_CLOCK) -> None:
        self._lag = lag
        self._clock = clock
        self._loggers: dict[object, tuple[str, logging.Logger]] = {}
        self._loop_thread = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._end_measuring: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._said: float | None = None  # the timer that was late

    def begin(self, block: str, logger: logging.Logger) -> Callable[[], None]:
        """Watch the loop that runs; call what is returned, there, to end that.

        Args:
            block: the building block whose handlers run.
            logger: is told what is to be said of them.
        """
        user = object()
        self._loggers = {**self._loggers, user: (block, logger)}
        if self._thread is None:
            self._loop_thread = threading.get_ident()
            self._end_measuring = self._lag.begin()
            self._lag.on_fired = self._fired
            self._over = threading.Event()
            self._thread = threading.Thread(
                target=self._watch, args=(self._over,), name="pulsewire-watch", daemon=True
            )
            self._thread.start()
        return lambda: self._end(user)

    def _end(self, user: object) -> None:
        self._loggers = {one: told for one, told in self._loggers.items() if one is not user}
        thread = self._thread
        if not self._loggers and thread is not None:
            self._thread = None
            self._end_measuring()
            self._over.set()
            thread.join(JOINED_WITHIN)

    def _watch(self, over: threading.Event) -> None:
        while True:
            asleep_at = self._clock.monotonic()
            if over.wait(LOOK_EVERY):
                return
            self.look(self._clock.monotonic() - asleep_at - LOOK_EVERY)

    def look(self, own_delay: float) -> None:
        """One look from the thread, which was itself so many seconds late."""
        due, now = self._lag.due, self._clock.monotonic()
        if due is not None and now - due >= BLOCKED and self._is_news(due):
            found = at_work(sys._current_frames().get(self._loop_thread))  # noqa: SLF001  # the one way to see another thread's stack
            self._say(wording(now - due, own_delay), now - due, found)

    def _fired(self, due: float, late: float) -> None:
        """On the loop: it goes on. A standstill that the thread could not see is said now."""
        if late >= BLOCKED and self._is_news(due):
            self._say(WAS_BLOCKED, late, None)

    def _is_news(self, due: float) -> bool:
        with self._lock:
            is_news, self._said = due != self._said, due
            return is_news

    def _say(self, message: str, seconds: float, found: AtWork | None) -> None:
        loggers = self._loggers.values()
        if not loggers:
            return  # they have just ended
        said: dict[str, object] = {"seconds": round(seconds, 1)}
        if found is not None:
            said |= {**found.what, "where": found.where}
        own = [logger for block, logger in loggers if found is not None and block == found.block]
        (own or [logger for _, logger in loggers])[0].warning(message, extra=said)
