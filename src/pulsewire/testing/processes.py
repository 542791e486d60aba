"""One server process: its ports, its folder, its life and its death.

Responsible for spawning a server program privately, waiting until it answers, freezing and killing
it, and for leaving nothing behind. What the server is told to be (alone, a replica, a sentinel, a
node of a cluster) is left to `servers.py`, `sentinels.py` and `clusters.py`.

On Linux the kernel kills the server when the thread that started it dies, so not even a killed
test run leaves one behind. Therefore start servers from a thread that lives as long as they
should; the main thread does.
"""

from __future__ import annotations

import os
import shutil
import signal
import ssl as ssl_module
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from pulsewire.testing.ports import HOST, PortReservation, reserve_port
from pulsewire.testing.resp import Argument, RawConnection, ReplyError
from pulsewire.testing.waiting import wait_until

__all__ = ["ServerDied", "ServerProcess"]

START_TIMEOUT = 20.0
START_TRIES = 10
COMMAND_TIMEOUT = 5.0
PROBE_TIMEOUT = 0.5
_PORT_TAKEN = ("Address already in use", "Failed listening on")

# The server is started through this, under the same process id: it asks Linux to be killed with its
# parent (PR_SET_PDEATHSIG is 1), and gives up if that died meanwhile. Not done with `preexec_fn`:
# that runs Python between fork and exec, unsafe with threads, and newer Pythons warn of it.
_DIE_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerDied(RuntimeError):
    """A server ended while it should have started. The message has the end of its log."""


class ServerProcess(ABC):
    """A server process that this object started, and ends: an async context manager.

    Attributes:
        host: always 127.0.0.1.
        port: where it listens. The same for the object's whole life, restarts included.
        binary: the program.
        directory: its working folder; removed at the end.
    """

    def __init__(self, binary: Path, *, password: str | None = None, bus: bool = False) -> None:
        self.host = HOST
        self.binary = binary
        self.password = password
        self._with_bus = bus
        self._reservations: list[PortReservation] = []
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @abstractmethod
    def arguments(self) -> Sequence[str]:
        """What the program is started with. Asked at every start, when port and folder are known."""

    def ssl_context(self) -> ssl_module.SSLContext | None:
        """How this kit's own connections encrypt; None if they do not."""
        return None

    # --- its life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clean_up()

    async def start(self) -> None:
        """Start it on a free port, and return when it accepts commands. `clean_up` is the other end.

        Raises:
            ServerDied: it did not come up.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="pulsewire-server-"))
        try:
            await self._start_on_a_free_port()
        except BaseException:
            self.clean_up()
            raise

    def clean_up(self) -> None:
        """End the process, give back the ports, remove the folder. Takes no detour over the loop."""
        self._kill_now()
        for reservation in self._reservations:
            reservation.release()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def kill(self) -> None:
        """End it at once with SIGKILL, as a crash does. `restart` brings it back."""
        self._kill_now()

    async def restart(self, *extra: str) -> None:
        """Start it again on the same port with the data in its folder; ends it first if it runs.

        Args:
            extra: more arguments, for this start only.
        """
        self._kill_now()
        for _ in range(START_TRIES):
            self._spawn(extra)
            if await self._wait_ready():
                return
            await anyio.sleep(0.1)  # someone else is on our port for a moment
        raise ServerDied(f"{self!r} cannot listen on its port again:\n{self.log_tail()}")

    def pause(self) -> None:
        """Freeze it with SIGSTOP: its connections stay open and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run on after `pause`."""
        self._signal(signal.SIGCONT)

    @property
    def is_alive(self) -> bool:
        """Whether the process exists (it may be paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; a new one after every restart."""
        if self._process is None:
            raise RuntimeError(f"{self!r} was not started")
        return self._process.pid

    # --- its places

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._reservations[0].port

    @property
    def bus_port(self) -> int:
        """The port of its cluster bus."""
        return self._reservations[1].port

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    @property
    def directory(self) -> Path:
        """Its working folder."""
        if self._folder is None:
            raise RuntimeError("the server was not started")
        return self._folder

    def log_tail(self, lines: int = 20) -> str:
        """The end of what it logged since its last start."""
        text = (self.directory / "log").read_bytes()[self._log_start :].decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def __repr__(self) -> str:
        where = self._reservations[0].port if self._reservations else "not started"
        state = "" if self.is_alive else " (down)"
        return f"<{type(self).__name__} {self.binary.name} {where}{state}>"

    # --- asking it

    def connection(self, *, timeout: float = COMMAND_TIMEOUT) -> RawConnection:
        """A bare connection to it, to be entered with `async with`."""
        return RawConnection(
            self.host,
            self.port,
            password=self.password,
            ssl=self.ssl_context(),
            timeout=timeout,
        )

    async def command(self, *arguments: Argument) -> Any:
        """The reply to one command, over a connection of its own.

        Raises:
            ReplyError: an error reply.
            OSError: it is down.
            TimeoutError: it does not answer.
        """
        async with self.connection() as connection:
            return await connection.command(*arguments)

    async def pipeline(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """The replies to these commands, over one connection. Errors stand among them."""
        async with self.connection() as connection:
            return await connection.pipeline(*commands)

    async def info(self, section: str) -> dict[str, str]:
        """One section of INFO."""
        text: bytes = await self.command("INFO", section)
        pairs = (line.partition(":") for line in text.decode().splitlines() if ":" in line)
        return {name: value for name, _, value in pairs}

    async def clients(self) -> dict[int, str]:
        """Who is connected: client id -> the server's line about it.

        Without this very connection, and without those that servers hold among themselves
        (replication, sentinels, the sockets that MIGRATE keeps).
        """
        async with self.connection() as connection:
            own, listing = await connection.pipeline(("CLIENT", "ID"), ("CLIENT", "LIST"))
        found: dict[int, str] = {}
        for line in listing.decode().splitlines():
            fields = dict(word.partition("=")[::2] for word in line.split(" "))
            is_server = (
                bool(set(fields["flags"]) & set("SM"))
                or fields["name"].startswith("sentinel-")
                or fields["cmd"].startswith("restore-asking")
            )
            if int(fields["id"]) != own and not is_server:
                found[int(fields["id"])] = line
        return found

    # --- inside

    async def _start_on_a_free_port(self) -> None:
        for _ in range(START_TRIES):
            self._reservations = [reserve_port() for _ in range(2 if self._with_bus else 1)]
            self._spawn(())
            if await self._wait_ready():
                return
            for reservation in self._reservations:
                reservation.release()
        raise ServerDied(f"found no port to listen on:\n{self.log_tail()}")

    def _spawn(self, extra: Sequence[str]) -> None:
        command = [str(self.binary), *self.arguments(), *extra]
        if sys.platform == "linux":
            launcher = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
            command = [*launcher, *command]
        with (self.directory / "log").open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def _wait_ready(self) -> bool:
        """True when it answers, False when its port was taken. Raises when it died of anything else."""

        async def answers_or_is_dead() -> bool:
            return not self.is_alive or await self._answers()

        try:
            await wait_until(
                answers_or_is_dead, timeout=START_TIMEOUT, what=f"{self!r} accepts commands"
            )
        except AssertionError as error:
            self._kill_now()
            raise ServerDied(f"{error}:\n{self.log_tail()}") from None
        if self.is_alive:
            return True
        tail = self.log_tail()
        if any(words in tail for words in _PORT_TAKEN):
            return False
        raise ServerDied(f"{self.binary} ended before it accepted commands:\n{tail}")

    async def _answers(self) -> bool:
        """Whether this very process, and no stranger who has its port, is ready for commands."""
        try:
            async with self.connection(timeout=PROBE_TIMEOUT) as connection:
                pong, info = await connection.pipeline(("PING",), ("INFO", "server"))
        except (OSError, TimeoutError, ReplyError):
            return False
        return pong == b"PONG" and f"process_id:{self.pid}\r".encode() in info

    def _kill_now(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # works on a paused process too
            self._process.wait(timeout=10.0)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self!r} does not run")
        self._process.send_signal(number)
