"""Programs that a test starts: what they print is read line by line, and none outlives its test."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Program", "Programs"]

PATIENCE = 60.0
"""Seconds after which a line or an end that does not come fails the test."""


class Program:
    """One running program.

    Attributes:
        lines: What it printed and the test has read.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._printed: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything that was read."""
        return "\n".join(self.lines)

    def wait_line(self, text: str) -> str:
        """Return the next line that contains `text`."""
        while True:
            line = self._printed.get(timeout=PATIENCE)
            assert line is not None, f"ended without a line with {text!r}:\n{self.output}"
            self.lines.append(line)
            if text in line:
                return line

    def wait_end(self) -> int:
        """Return its exit code, with all its lines read."""
        while (line := self._printed.get(timeout=PATIENCE)) is not None:
            self.lines.append(line)
        return self._process.wait(timeout=PATIENCE)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def close(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=PATIENCE)
        self._reading.join(timeout=PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        if self._process.stdout is None:
            raise AssertionError("started with a pipe")
        for line in self._process.stdout:
            self._printed.put(line.rstrip("\n"))
        self._printed.put(None)


class Programs:
    """Starts programs in one environment, and ends them with the test."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours = {name: value for name, value in os.environ.items() if name != "PULSEWIRE_URL"}
        self.environment = {**ours, **environment, "PYTHONUNBUFFERED": "1"}
        self._started: list[Program] = []

    def pulsewire(self, *arguments: str) -> Program:
        """Start the command line."""
        return self._start([sys.executable, "-m", "pulsewire.cli", *arguments])

    def script(self, path: Path, *arguments: str) -> Program:
        """Start a Python program."""
        return self._start([sys.executable, os.fspath(path), *arguments])

    def close(self) -> None:
        """End all of them."""
        for program in self._started:
            program.close()

    def _start(self, command: list[str]) -> Program:
        program = Program(command, self.environment)
        self._started.append(program)
        return program
