"""With which seed, and how often: what the environment says, and what is printed so that a run can be repeated.

`PULSEWIRE_SEED` repeats what was drawn in a run; the timing is another one each time. `PULSEWIRE_TRIES` is how often
the long forms do each thing, `PULSEWIRE_SECONDS` how long those last that are counted in time.
"""

from __future__ import annotations

import os
import random

import pytest

SEED = int(os.environ.get("PULSEWIRE_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
"""Of this run."""
LONG = [pytest.mark.slow, pytest.mark.timeout(7200)]
"""Marks of a long form."""


def tries_of(usual: int) -> int:
    """How often the long forms of a file do each thing, where the environment does not say."""
    return int(os.environ.get("PULSEWIRE_TRIES", usual))


def seconds_of(usual: float) -> float:
    """How long a long form lasts that is counted in time, where the environment does not say."""
    return float(os.environ.get("PULSEWIRE_SECONDS", usual))


def drawing(what: str, number: int = 0) -> random.Random:
    """Say what is drawn with which seed; each number gives other draws."""
    print(f"{what}: seed {SEED + number}")
    return random.Random(SEED + number)
