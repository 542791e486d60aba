"""How long to wait before trying again: exponential backoff with full jitter.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: `random(0, min(cap, base * 2^n))`.
Full jitter spreads a fleet that lost its server at one moment over the whole interval when the server comes back.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field

DEFAULT_BASE = 0.1
DEFAULT_CAP = 10.0
_SHARED = random.Random()  # seeding one takes 5 us, and most series never pause
os.register_at_fork(after_in_child=_SHARED.seed)


@dataclass(slots=True)
class Backoff:
    """A series of growing, random pauses.

    Attributes:
        base: upper bound of the first pause, seconds.
        cap: upper bound of every pause, seconds.
    """

    base: float = DEFAULT_BASE
    cap: float = DEFAULT_CAP
    random: random.Random = field(default=_SHARED, repr=False)
    attempts: int = 0

    def next_pause(self) -> float:
        """The next pause in seconds; the bound doubles with each call until `cap`."""
        bound = min(self.cap, self.base * 2 ** min(self.attempts, 32))
        self.attempts += 1
        return self.random.uniform(0.0, bound)

    def reset(self) -> None:
        """Start again from `base`, after a success."""
        self.attempts = 0
