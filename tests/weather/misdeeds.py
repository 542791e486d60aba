"""What no handler should do, and some do: hold the interpreter, end the process."""

from __future__ import annotations

import ctypes
import os
import signal

POISONED = 23
"""What a process exits with that ended itself."""


def hold_interpreter(seconds: float) -> None:
    """Sleep as a C extension does that never gives the interpreter's lock back: no other thread runs meanwhile."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # unlike CDLL, it keeps the lock during a call


def exit_at_once() -> None:
    """End without any clean-up."""
    os._exit(POISONED)


def read_from_nowhere() -> None:
    """End by a segmentation fault."""
    ctypes.string_at(0)


def be_killed() -> None:
    """End as by the kernel when memory has run out."""
    os.kill(os.getpid(), signal.SIGKILL)


WAYS_TO_DIE = {
    "exit": exit_at_once,
    "segfault": read_from_nowhere,
    "kill": be_killed,
}
DEATHS = (POISONED, -signal.SIGSEGV, -signal.SIGKILL)
"""What a process exits with by these."""
