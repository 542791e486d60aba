"""The line that a worker process holds to its supervisor: it says that it is ready, and notices when nobody is there.

The supervisor (`supervisor.py`) gives each child one end of a pair of sockets, and the number of its descriptor in an
environment variable. When the supervisor is gone, however it ended, the line is cut: a thread sees that even while the
event loop is blocked, asks the worker to end, and ends the process when that takes too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

VARIABLE = "PULSEWIRE_LIFELINE"
LONGEST_WORD = 64
SUPERVISOR_GONE = 3
"""Exit code of a process that had to be ended; nobody is there to see it."""

_held: list[Lifeline] = []


def patience_of(word: bytes) -> float | None:
    """The seconds that a child needs to end, out of what it says when it is ready; None if it says something else."""
    try:
        return float(word.removeprefix(b"ready "))
    except ValueError:
        return None


class Lifeline:
    """A child's end of the line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._is_cut = False
        self._end: Callable[[], None] | None = None
        self._patience = 0.0
        threading.Thread(target=self._watch, name="pulsewire-lifeline", daemon=True).start()

    def say_ready(self, patience: float) -> None:
        """Tell the supervisor that this process does its work, and how many seconds it may take to end."""
        with contextlib.suppress(OSError):  # cut: the thread has seen it
            self._connection.send(b"ready %r\n" % patience)

    @contextmanager
    def ending(self, stop: Callable[[], None], patience: float) -> Iterator[None]:
        """While inside, a cut line calls `stop` in this event loop; then there are `patience` seconds to get out.

        Outside, the process is ended at once.
        """
        loop = asyncio.get_running_loop()

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(stop)

        with self._lock:
            self._end, self._patience = end, patience
            if self._is_cut:
                end()
        try:
            yield
        finally:
            with self._lock:
                if not self._is_cut:
                    self._end = None

    def _watch(self) -> None:
        """The thread: return from `recv` means that the supervisor is gone, since it never says anything."""
        with contextlib.suppress(OSError):
            while self._connection.recv(LONGEST_WORD):
                pass
        with self._lock:
            self._is_cut = True
            end, patience = self._end, self._patience
            if end is not None:
                end()
        if end is not None:
            time.sleep(patience)  # the process ends meanwhile, and this thread with it
        os._exit(SUPERVISOR_GONE)


def hold_lifeline() -> Lifeline | None:
    """Hold the line to the supervisor; None if this process has none. All calls return the same.

    Call it as early as possible: before the line is held, the end of the supervisor is not noticed.
    """
    number = os.environ.pop(VARIABLE, None)  # what this process starts is not the supervisor's
    if number is not None and not _held:
        try:
            connection = socket.socket(fileno=int(number))
        except (ValueError, OSError):
            return None  # the variable came from elsewhere
        os.set_inheritable(connection.fileno(), False)
        connection.setblocking(True)
        _held.append(Lifeline(connection))
    return _held[0] if _held else None
