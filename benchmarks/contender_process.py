"""One running contender, seen from outside: start, signal, outcome, end.

The contract is in `contenders/contract.py`. A contender that fails, hangs or speaks nonsense raises
`ContenderFailed` with what it said; no process outlives its block.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from typing import IO, Any, Final, Self

from benchmarks.golang import GoPeer
from benchmarks.peers import PythonPeer
from benchmarks.plan import Program

START_SECONDS: Final = 30.0
END_SECONDS: Final = 10.0
"""A contender that has reported may still close its connections."""
ROOT: Final = Path(__file__).parent.parent
MODULES: Final = {
    Program.PULSEWIRE: "benchmarks.contenders.ours",
    Program.PLAIN: "benchmarks.contenders.plain_redis",
    Program.PROBE: "benchmarks.contenders.probe",
    Program.FASTSTREAM: "benchmarks.contenders.with_faststream",
}


class ContenderFailed(Exception):
    """A contender could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contender reports of its measured region."""

    operations: int
    seconds: float
    cpu_seconds: float
    samples_ms: tuple[float, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


class ContenderProcess:
    """A contender; leaving its `with` block ends the process, whatever it is doing."""

    def __init__(
        self,
        program: list[str],
        arguments: list[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._unread = b""
        self._process = subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**environment_with_root(), **(environment or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            self._process.wait(0.0 if failure else END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when the contender has prepared everything."""
        if not self._line(seconds).get("ready"):
            raise ContenderFailed("it did not say that it is ready")

    def signal(self) -> None:
        """Tell it to begin (or, when idle, to end)."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe, see __init__
        try:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContenderFailed(self._last_words()) from None

    def kill(self) -> None:
        """End it without a warning: `kill -9`."""
        self._process.kill()
        self._process.wait()

    def outcome(self, seconds: float) -> Outcome:
        """Its result, for which one waits at most so long."""
        line = self._line(seconds)
        return Outcome(
            int(line["operations"]),
            float(line["seconds"]),
            float(line["cpu_seconds"]),
            tuple(line.get("samples_ms") or ()),
            line.get("figures") or {},
        )

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe, see __init__
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select([self._process.stdout], [], [], left)[0]:
                raise ContenderFailed(f"no answer within {seconds:.0f} s {self._last_words()}")
            piece = os.read(self._process.stdout.fileno(), 1 << 20)
            if not piece:
                self._process.wait()
                raise ContenderFailed(self._last_words())
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ContenderFailed(f"it said {line[:200]!r}")
        return found

    def _last_words(self) -> str:
        return last_words(self._errors)


def environment_with_root() -> dict[str, str]:
    """Our own environment, in which the programs of this folder can be imported."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def last_words(errors: IO[bytes]) -> str:
    """The last line with words that a process has written."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    # An exception group ends with frames of ASCII art.
    said = [line.strip(" |+-") for line in lines]
    return next((line for line in reversed(said) if line), "it ended without a word")


def command_of(program: Program, peers: Mapping[Program, GoPeer | PythonPeer]) -> list[str]:
    """How a program of streams, maps or pools is started."""
    peer = peers.get(program)
    if isinstance(peer, GoPeer):
        if peer.binary is None:
            raise ContenderFailed(peer.missing)
        return [str(peer.binary)]
    python = sys.executable
    if isinstance(peer, PythonPeer):
        if peer.python is None:
            raise ContenderFailed(peer.missing)
        python = str(peer.python)
    return [python, "-m", MODULES[program]]
