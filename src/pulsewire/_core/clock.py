"""Time as the rest of the code sees it, so that a test can hold it still.

Durations are float seconds. `monotonic` measures waiting; nothing here decides a lease, since the server's clock does.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps back."""
        ...


class SystemClock:
    """The clock of this machine."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Seconds on a clock that never steps back."""
        return time.monotonic()


SYSTEM_CLOCK = SystemClock()
