"""Several worker processes of one command: started, told to end, started again when they die.

What a child does is its own business; it holds the other end of a line (`lifeline.py`), by which it says that it is
ready, and notices when this process is gone. The rules:

* SIGTERM, SIGINT and SIGHUP become SIGTERM for the children, each time one arrives; one that takes longer to end than
  it said, or than `grace`, is killed. SIGTSTP is passed on, and nothing is started any more.
* A child that dies is started again, after a pause that grows while children of its place do not live long.
* While no child has ever been ready, one that ends by itself ends them all: they would all do the same.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import anyio
import anyio.abc

from pulsewire._core.backoff import Backoff
from pulsewire._core.checks import check_count, check_seconds
from pulsewire._core.loops import Stop
from pulsewire.errors import InvalidOption
from pulsewire.tasks.apps.lifeline import LONGEST_WORD, VARIABLE, patience_of

DEFAULT_GRACE = 30.0
"""Seconds for a child that has not said how long it needs."""
RESTART_BASE, RESTART_CAP = 0.1, 5.0
"""Bounds of the pauses before a child is started again."""
LONG_ENOUGH = 10.0
"""A child that was ready and lived this long did not die of how it began: the pauses start anew."""
PLACE_VARIABLE = "PULSEWIRE_WORKER_PLACE"
"""Environment variable that tells a child its place among those of its supervisor, from 0 on."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def supervise(
    command: Sequence[str],
    *,
    processes: int,
    grace: float | None = None,
    environment: Mapping[str, str] | None = None,
    logger: logging.Logger | None = None,
) -> int:
    """Keep `processes` copies of a command running until a signal ends them. For the main thread.

    The children share this process's output, read nothing, and are in sessions of their own, so that Ctrl-C on the
    terminal reaches them by way of this process alone.

    Args:
        command: program and arguments. It runs an app's worker (`App.worker`), or holds its lifeline by itself.
        processes: how many.
        grace: seconds from the request to end until a process that has not is killed; by default what the workers say
            that they need, which is their `shutdown_timeout` and some more.
        environment: variables on top of this process's own. Each child also finds its place, from 0 on, in
            `$PULSEWIRE_WORKER_PLACE`; the one that follows a dead child has the same.
        logger: default `pulsewire.tasks.apps.supervisor`.

    Returns:
        An exit code: 0 if all that ran at the end ended well and in time, else 1; or that of a child that could not
        even begin.

    Raises:
        InvalidOption: an option is impossible.
    """
    check_count("processes", processes)
    if grace is not None:
        check_seconds("grace", grace, 0.0)
    if isinstance(command, str) or not command:
        raise InvalidOption("command", command, "give a program and its arguments, as a list")
    crew = Supervisor(
        command,
        grace=grace,
        environment={**os.environ, **(environment or {})},
        logger=logger or logging.getLogger("pulsewire.tasks.apps.supervisor"),
    )
    return await crew.run(processes)


class Child:
    """One process.

    Attributes:
        is_ready: whether it has been heard to be.
        patience: seconds that it may take to end.
    """

    def __init__(self, process: anyio.abc.Process, line: socket.socket) -> None:
        self.is_ready = False
        self.patience = DEFAULT_GRACE
        self.started = time.monotonic()
        self._process = process
        self._line = line

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._process.returncode

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.exit_code is None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        return await self._process.wait()

    def hear(self) -> bool:
        """Whether it is ready, as far as it has said anything by now."""
        if not self.is_ready:
            try:
                word = self._line.recv(LONGEST_WORD)
            except OSError:  # nothing, or it has ended
                return False
            self.is_ready = word != b""
            self.patience = patience_of(word) or self.patience
        return self.is_ready

    async def close(self) -> None:
        """Let go of it; it has ended."""
        self._line.close()
        await self._process.aclose()


class Supervisor:
    """The processes of one command, while `run` lasts."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        grace: float | None,
        environment: Mapping[str, str],
        logger: logging.Logger,
    ) -> None:
        self._command = list(command)
        self._grace = grace
        self._environment = environment
        self._logger = logger
        self._children: set[Child] = set()
        self._ending = Stop()  # nothing is started any more, and what runs was asked to end
        self._starting_nothing = Stop()
        self._has_been_ready = False
        self._exit_code = 0

    async def run(self, processes: int) -> int:
        """Keep `processes` children running. See `supervise`."""
        numbers = [*ENDING, signal.SIGTSTP]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup: the terminal may go
            numbers.remove(signal.SIGHUP)
        with anyio.open_signal_receiver(*numbers) as arriving:
            async with anyio.create_task_group() as duties:
                duties.start_soon(self._obey, arriving)
                async with anyio.create_task_group() as places:
                    for place in range(processes):
                        places.start_soon(self._fill_place, place)
                duties.cancel_scope.cancel()
        return self._exit_code

    # --- children

    async def _fill_place(self, place: int) -> None:
        """Have one child at a time, until no more are wanted."""
        backoff = Backoff(base=RESTART_BASE, cap=RESTART_CAP)
        while not self._starting_nothing.is_set:
            try:
                child = await self._start(place)
            except OSError as error:
                self._judge_start(error)
            else:
                self._judge_end(child, await self._attend(child))
                if child.is_ready and time.monotonic() - child.started > LONG_ENOUGH:
                    backoff.reset()
            await self._starting_nothing.sleep(backoff.next_pause())

    async def _start(self, place: int) -> Child:
        ours, theirs = socket.socketpair()
        try:
            process = await anyio.open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                env={
                    **self._environment,
                    PLACE_VARIABLE: str(place),
                    VARIABLE: str(theirs.fileno()),
                },
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        child = Child(process, ours)
        self._children.add(child)
        if self._starting_nothing.is_set:  # the order came while it was being started
            child.send(signal.SIGTERM)
        return child

    async def _attend(self, child: Child) -> int:
        """Wait for the end of a child; whoever does not want to wait any more ends it."""
        try:
            async with anyio.create_task_group() as duties:
                duties.start_soon(self._kill_when_late, child)
                await child.wait()
                duties.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._dismiss(child)
        return await child.wait()

    async def _kill_when_late(self, child: Child) -> None:
        """Wait for the request to end, and then for no longer than it may take."""
        await self._ending.wait()
        await anyio.sleep(self._grace_of(child))
        self._logger.error("a worker process did not end in time", extra={"pid": child.pid})
        child.send(signal.SIGKILL)

    def _grace_of(self, child: Child) -> float:
        child.hear()
        return child.patience if self._grace is None else self._grace

    async def _dismiss(self, child: Child) -> None:
        """Make sure that it is gone: it is, unless we were cancelled."""
        child.send(signal.SIGTERM)
        with anyio.move_on_after(self._grace_of(child)):
            await child.wait()
        child.send(signal.SIGKILL)
        await child.wait()
        child.hear()  # its last word
        self._children.discard(child)
        await child.close()

    def _judge_start(self, error: OSError) -> None:
        """There is no such program; or no memory or no descriptors, which may pass."""
        if self._was_ready():
            self._logger.warning(
                "a worker process cannot be started now", extra={"why": str(error)}
            )
        else:
            self._logger.error("the worker processes cannot be started", extra={"why": str(error)})
            self._fail(1)
            self._end()

    def _judge_end(self, child: Child, code: int) -> None:
        """What the end of a child means for the others and for the exit code."""
        self._has_been_ready |= child.is_ready
        about = {"pid": child.pid, "ended": f"signal {-code}" if code < 0 else f"exit code {code}"}
        if self._starting_nothing.is_set:
            # Before it is ready it has nothing to put in order, and may not even know the signal.
            if code and not (code == -signal.SIGTERM and not child.is_ready):
                self._logger.error("a worker process did not end well", extra=about)
                self._fail(1)
        elif code >= 0 and not self._was_ready():
            self._logger.error("a worker process could not begin; all are ended", extra=about)
            self._fail(code or 1)
            self._end()
        else:
            self._logger.warning("a worker process ended; it is started again", extra=about)

    def _was_ready(self) -> bool:
        """Whether any child has ever been."""
        self._has_been_ready |= any(child.hear() for child in self._children)
        return self._has_been_ready

    def _fail(self, code: int) -> None:
        """The first failure is the one that counts."""
        self._exit_code = self._exit_code or code

    # --- orders

    async def _obey(self, arriving: AsyncIterator[signal.Signals]) -> None:
        async for received in arriving:
            if received is signal.SIGTSTP:
                self._pause()
            else:
                self._end()

    def _pause(self) -> None:
        """No child takes new tasks; those that are still beginning need not go on."""
        self._starting_nothing.set()
        for child in self._children:
            child.send(signal.SIGTSTP if child.hear() else signal.SIGTERM)

    def _end(self) -> None:
        self._starting_nothing.set()
        self._ending.set()
        for child in self._children:
            child.send(signal.SIGTERM)
