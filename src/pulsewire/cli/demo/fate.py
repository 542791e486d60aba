"""What becomes of a process of the demo."""

from __future__ import annotations

from enum import Enum

__all__ = ["Fate"]


class Fate(Enum):
    """What a process is at."""

    STARTING = "starting"
    WORKING = "working"
    KILLED = "killed"
    STOPPED = "stopped"
