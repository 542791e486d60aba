"""Wrong clocks of a process. To be called before anything else is imported that asks for the time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


def mislead(options: Mapping[str, Any]) -> None:
    """Make this process's clock wrong, as its options say.

    Args:
        options: `skew`, by how many seconds it is wrong; with `after`, only from so many seconds after the start on:
            then it jumps.
    """
    skew, after = float(options.get("skew", 0.0)), float(options.get("after", 0.0))
    if not skew:
        return
    true_time, true_time_ns = time.time, time.time_ns
    jumps_at = time.monotonic() + after

    def wrong() -> float:
        return skew if time.monotonic() >= jumps_at else 0.0

    time.time = lambda: true_time() + wrong()
    time.time_ns = lambda: true_time_ns() + int(wrong() * 1e9)
