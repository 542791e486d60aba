"""Runs one asynchronous command: the event loop, the signals, the exit code, the last words on an error.

The first Ctrl-C or SIGTERM cancels the command, whose `async with` blocks then clean up; one that would rather finish
what it has in its hands says so with `Signals.asking`, and is cancelled by the second. A signal during the clean-up
ends the process on the spot. What a command does is its own business; it returns an exit code or None.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext

import anyio
import anyio.abc
import typer

from pulsewire.cli import failures, render, warning_lines
from pulsewire.errors import PulsewireError

__all__ = ["Signals", "errors_told", "run"]

_SIGNALLED = 128
"""Exit codes from here on name the signal that ended a command, as shells have it: 130 is Ctrl-C."""


class Signals:
    """How the user asks a running command to end.

    Attributes:
        scope: Everything the command does.
        received: The signal that came last, or None.
    """

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.received: signal.Signals | None = None
        self._ask: Callable[[], None] | None = None

    @contextmanager
    def asking(self, stop: Callable[[], None]) -> Iterator[None]:
        """While inside, the first signal calls `stop` instead of cancelling the command."""
        self._ask = stop
        try:
            yield
        finally:
            self._ask = None

    @property
    def exit_code(self) -> int:
        """0, or the number that tells which signal ended the command."""
        return _SIGNALLED + self.received if self.received else 0

    async def listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Wait for signals and act on them. `run` starts this."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as arriving:
            task_status.started()
            async for received in arriving:
                self.received = received
                if self.scope.cancel_called:
                    # Asked again while it cleans up: the user does not want to wait for that.
                    os._exit(self.exit_code)
                if self._ask is None:
                    self.scope.cancel()
                else:
                    stop, self._ask = self._ask, None
                    stop()


Command = Callable[[Signals], Awaitable[int | None]]


def run(command: Command, *, has_log: bool = False) -> None:
    """Run a command to its end.

    Args:
        command: Given the signals to listen to. Returns its exit code; None is 0, or 128 and more after a signal.
        has_log: The program writes a log, so that the library's warnings need not be shown besides.

    Raises:
        typer.Exit: With the exit code, when that is not 0.
    """
    options = {"use_uvloop": importlib.util.find_spec("uvloop") is not None}
    with errors_told(), nullcontext() if has_log else warning_lines.shown():
        exit_code = anyio.run(_run, command, backend_options=options)
    if exit_code:
        raise typer.Exit(exit_code)


@contextmanager
def errors_told() -> Iterator[None]:
    """Show an error of the library as a line and a hint. Any other one is a defect, and shows where.

    Raises:
        typer.Exit: With the exit code that is meant for it.
    """
    try:
        yield
    except (PulsewireError, BaseExceptionGroup) as raised:
        error = failures.sole_error(raised) if isinstance(raised, BaseExceptionGroup) else raised
        if not isinstance(error, PulsewireError):
            raise error from None
        failure = failures.explain(error)
        render.fail(failure.message, failure.hint)
        raise typer.Exit(failure.exit_code) from None


async def _run(command: Command) -> int:
    signals = Signals()
    exit_code: int | None = None
    async with anyio.create_task_group() as listening:
        await listening.start(signals.listen)
        with signals.scope:
            exit_code = await command(signals)
        listening.cancel_scope.cancel()
    return signals.exit_code if exit_code is None else exit_code
