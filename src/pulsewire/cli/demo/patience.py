"""How long the demo waits while nothing goes on."""

from __future__ import annotations

import time

__all__ = ["Patience"]


class Patience:
    """Runs out when the same step is seen for too long.

    Attributes:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._step: object = None
        self._since = time.monotonic()

    def is_over(self, step: object) -> bool:
        """Whether this step has lasted too long."""
        now = time.monotonic()
        if step != self._step:
            self._step, self._since = step, now
        return now - self._since > self.seconds
