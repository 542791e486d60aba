"""The processes of the demo: started, watched, killed and stopped by their process ids.

Each gets a standard input that nobody else holds, so that it notices when the parent is gone; and a file for what it
says on standard error. Leaving the `async with` block ends whatever still runs. What the processes do is in
the `role.py` of each act.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.abc

from pulsewire.cli.demo.journal import JournalReader
from pulsewire.cli.options import URL_VARIABLE

__all__ = ["Crew", "DemoFailed", "Member", "environment_of"]

_END_WITHIN = 15.0
"""Seconds that a process asked to stop may take."""
_PARTING = 3.0
"""Seconds that it may take when the demo is broken off."""
_SAID_LINES = 12
"""How much of a dead process's last words is shown."""


class DemoFailed(Exception):
    """The demo could not go on. The message says why."""


def environment_of(url: str | None) -> dict[str, str]:
    """Return the environment that tells processes their server.

    A URL may hold a password: so it does not go onto a command line, which all can see.
    """
    return {} if url is None else {URL_VARIABLE: url}


class Member:
    """One process.

    Attributes:
        title: What the user calls it, such as `consumer 2`.
        journal: What it writes there.
    """

    def __init__(
        self, title: str, process: anyio.abc.Process, journal: JournalReader, stderr: Path
    ) -> None:
        self.title = title
        self.journal = journal
        self._process = process
        self._stderr = stderr

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._process.returncode

    async def say_go(self) -> None:
        """Let it begin."""
        if self._process.stdin is None:
            raise AssertionError("every member is started with a pipe as its standard input")
        try:
            await self._process.stdin.send(b"go\n")
        except (anyio.BrokenResourceError, ConnectionError):
            raise self.failure() from None

    async def kill(self) -> None:
        """End it with SIGKILL: it gets no chance to do anything more."""
        if self.exit_code is None:
            self._process.kill()
        await self._process.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM: finish what you have, and end."""
        if self.exit_code is None:
            self._process.terminate()

    async def wait_ended(self) -> None:
        """Wait until it has ended, however."""
        await self._process.wait()

    async def wait_stopped(self) -> None:
        """Wait until it has ended.

        Raises:
            DemoFailed: It did not end in time, or not well.
        """
        with anyio.move_on_after(_END_WITHIN):
            await self._process.wait()
        if self.exit_code is None:
            raise DemoFailed(
                f"{self.title} (pid {self.pid}) did not stop within {_END_WITHIN:.0f} s"
            )
        if self.exit_code:
            raise self.failure()

    def failure(self) -> DemoFailed:
        """Return the error to raise when it ended by itself, with its last words."""
        code = self.exit_code
        how = (
            "is ending"
            if code is None
            else f"ended with exit code {code}"
            if code >= 0
            else f"got signal {-code}"
        )
        said = self._stderr.read_text(errors="replace").splitlines()[-_SAID_LINES:]
        return DemoFailed("\n  ".join([f"{self.title} (pid {self.pid}) {how} unexpectedly", *said]))

    async def dismiss(self) -> None:
        """Let go of it; it is dead afterwards."""
        await self.kill()
        await self._process.aclose()


class Crew:
    """All processes of one demo.

    Args:
        folder: Where their journals and last words go.
        environment: Their environment variables, on top of ours.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._members: list[Member] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            for member in self._members:
                await member.dismiss()

    async def stop_all(self) -> None:
        """Ask everybody to stop, and wait for a while: what does not end is ended by leaving the block."""
        for member in self._members:
            member.ask_to_stop()
        with anyio.move_on_after(_PARTING, shield=True):
            for member in self._members:
                await member.wait_ended()

    async def hire(self, title: str, arguments: Sequence[str]) -> Member:
        """Start one process.

        Args:
            title: What the user calls it.
            arguments: Of the command line `pulsewire`; the path of its journal is added.
        """
        name = title.replace(" ", "-")
        journal, stderr = self._folder / f"{name}.journal", self._folder / f"{name}.stderr"
        with stderr.open("wb") as last_words:
            # A session of its own: Ctrl-C on the terminal is for the parent, who then ends the crew in order.
            process = await anyio.open_process(
                [sys.executable, "-m", "pulsewire.cli", *arguments, "--journal", str(journal)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=last_words,
                env=self._environment,
                start_new_session=True,
            )
        member = Member(title, process, JournalReader(journal), stderr)
        self._members.append(member)
        return member
