"""The keeper: a small process that owns the embedded server and ends it when nobody uses it any more.

Responsible for: starting the server, starting it again when it dies, counting clients by the connections they hold,
and ending everything. Leaves to `keeper_start.py` and `home.py`: paths, the server's options, the lock that lets only
one keeper run; to its clients (`embedded.py`) the words of a failure. The states: `docs/internals/embedded.md`.

It runs as a plain script with the standard library alone (`python -I -S keeper.py HOME`, the settings on its standard
input): importing the package would take longer than starting the server. One thread and one loop, for two reasons: the
code that runs between fork and exec is then safe, and the server gets its death signal when the *thread* that started
it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import functools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PROTOCOL = 1
MESSAGE_LIMIT = 64 * 1024
PROGRESS_INTERVAL = 1.0  # while the server loads, waiting clients hear from us this often
SILENCE_LIMIT = 20.0  # a starting server that says nothing at all for so long is given up
READY_INTERVAL = 0.003  # between two looks at a starting server, which takes about 40 ms
SHUTDOWN_PATIENCE = 10.0  # then SIGKILL
FIRST_CLIENT_PATIENCE = 5.0  # for the starter to connect; if it was killed, nobody comes
FAREWELL_PAUSE = 0.1  # after the first client was told of a failure: others may be about to ask
# The pauses before each new start; a server that dies more often than this within the window is given up.
RESTART_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0)
RESTART_WINDOW = 60.0
PR_SET_PDEATHSIG = 1
VERSION_FILE = "server.version"

Message = dict[str, Any]


class Settings(NamedTuple):
    """What a starter hands to the keeper. The log is the keeper's standard output and error."""

    command: list[str]  # the server and its options
    version: str
    root: str
    data_dir: str
    control: str
    socket: str
    url: str
    lock_file: str
    lock: int  # inherited descriptor of `lock_file`, locked: the lock lasts until keeper and server are both gone
    listener: int  # inherited socket bound to `control`: clients could queue up before we ran
    linger: float
    ephemeral: bool


class ServerFailed(Exception):
    """The server cannot be started, or not any more. The text says why."""


def encode_message(message: Message) -> bytes:
    """One line of JSON that carries the version of the protocol."""
    return json.dumps({"protocol": PROTOCOL, **message}).encode() + b"\n"


def ask_server(path: str, command: str) -> str:
    """The server's reply to one short command, or "" when it gives none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(path)
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(MESSAGE_LIMIT).decode(errors="replace")
    return ""


def say(text: str) -> None:
    """Add a line to the log in the server's own format, with K for the keeper as the role."""
    stamp = time.strftime("%d %b %Y %H:%M:%S")
    with contextlib.suppress(OSError):  # a full disk must not end the keeper
        os.write(sys.stderr.fileno(), f"{os.getpid()}:K {stamp} * {text}\n".encode())


class Server:
    """The server process: started, asked whether it is ready, ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._prctl = _find_prctl()  # now, since between fork and exec nothing should be looked up

    @property
    def pid(self) -> int | None:
        """The server's process, or None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Start the process, which inherits the log and the lock.

        Raises:
            ServerFailed: the binary does not run.
        """
        try:
            self._process = subprocess.Popen(
                self._settings.command,
                stdin=subprocess.DEVNULL,
                pass_fds=(self._settings.lock,),
                cwd=self._settings.data_dir,
                # Without the user's LANG: a locale that is not installed can keep a server from starting.
                env={"PATH": os.defpath, "LC_ALL": "C"},
                preexec_fn=functools.partial(self._die_with_keeper, os.getpid()),  # noqa: PLW1509 - there are no threads
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerFailed(f"{self._settings.command[0]} cannot be started: {error}") from error

    def exit_code(self) -> int | None:
        """The exit code when the process has ended, negative for a signal."""
        return self._process.poll() if self._process else None

    def answer(self) -> str:
        """What it says to a PING: "+PONG" when it is ready, "-LOADING ..." on the way, "" before that."""
        return ask_server(self._settings.socket, "PING")

    def end(self) -> None:
        """End the process and wait until it is gone."""
        if self._process and not self._settings.ephemeral:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SHUTDOWN_PATIENCE)
        self.kill()

    def kill(self) -> None:
        """End the process at once. What was acknowledged is on the disk."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _die_with_keeper(self, keeper: int) -> None:
        """Between fork and exec: ask for SIGKILL when the keeper ends.

        Not SIGTERM: a server that ends in its own time could unlink the socket that the next one has already bound.
        """
        if self._prctl is not None:
            self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:  # it ended before the call above
                os._exit(1)


class Client:
    """A connection to the control socket. Open, it keeps the server; attached, it is told what happens to it."""

    __slots__ = ("connection", "is_attached", "received")

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.is_attached = False
        self.received = b""

    def read(self) -> bool:
        """Take what has arrived; False when the client is gone or sends no lines."""
        try:
            data = self.connection.recv(MESSAGE_LIMIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.received += data
        return bool(data) and len(self.received) <= MESSAGE_LIMIT

    def requests(self) -> Iterator[Message]:
        """The complete messages received; an empty one for a line that is not JSON of ours."""
        while b"\n" in self.received:
            line, _, self.received = self.received.partition(b"\n")
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError):
                yield {}

    def send(self, message: Message) -> None:
        """Send a message. A client that does not read or is gone misses it; its connection says the rest."""
        with contextlib.suppress(OSError):
            self.connection.send(encode_message(message))


class Phase(enum.Enum):
    """Where the server is in its life."""

    DOWN = "down"  # it will be started when `_due` has come
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # clients that attach hear why, and we end when `_due` has come


class Keeper:
    """Holds the server while it has clients."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = Server(settings)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(fileno=settings.listener)
        self._waker, self._woken = socket.socketpair()
        self._clients: set[Client] = set()
        self._is_over = False
        self._phase = Phase.DOWN
        self._failure: Message = {}
        self._deaths: list[float] = []
        self._log_start = 0
        now = time.monotonic()
        self._started = self._due = self._heard_at = self._told_at = now
        self._end_if_unused = now + FIRST_CLIENT_PATIENCE

    def run(self) -> None:
        """Serve until nobody uses the server any more, somebody stops it, or it cannot be kept running."""
        self._listen()
        while not self._is_over:
            for key, _ in self._selector.select(self._pause()):
                key.data()
            try:
                self._tend(time.monotonic())
            except ServerFailed as failure:
                self._give_up(str(failure))
        self._finish()

    def stop(self, *_: object) -> None:
        """End soon. Also the handler of SIGTERM."""
        self._is_over = True

    def _listen(self) -> None:
        for end in (self._listener, self._waker, self._woken):
            end.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(
            self._woken, selectors.EVENT_READ, functools.partial(self._woken.recv, 64)
        )
        signal.set_wakeup_fd(self._waker.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _tend(self, now: float) -> None:
        """One pass over what may be due."""
        if self._phase is Phase.DOWN and now >= self._due:
            self._start_server(now)
        elif self._phase is Phase.FAILED:
            self._is_over |= now >= self._due
        elif (code := self._server.exit_code()) is not None:
            self._record_death(now, code)
        elif self._phase is Phase.STARTING:
            self._look_whether_ready(now)
        self._is_over |= not self._clients and now >= self._end_if_unused

    def _pause(self) -> float | None:
        """How long the loop may sleep; None when only an event can change anything."""
        if self._phase is Phase.STARTING:
            return READY_INTERVAL
        moments = [] if self._clients else [self._end_if_unused]
        if self._phase is not Phase.READY:
            moments.append(self._due)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    # --- the server

    def _start_server(self, now: float) -> None:
        self._log_start = os.fstat(sys.stderr.fileno()).st_size
        self._server.start()
        self._phase = Phase.STARTING
        self._heard_at = self._told_at = now

    def _look_whether_ready(self, now: float) -> None:
        answer = self._server.answer()
        if answer.startswith("+PONG"):
            self._phase = Phase.READY
            self._record_version()
            self._tell_attached({"reply": "attached", **self._facts()})
        elif answer:
            self._heard_at = now
        elif now - self._heard_at > SILENCE_LIMIT:
            raise ServerFailed(f"the server has not answered for {SILENCE_LIMIT:g} seconds")
        if now - self._told_at > PROGRESS_INTERVAL:
            self._told_at = now
            self._tell_attached({"reply": "starting"})

    def _record_version(self) -> None:
        """Note who wrote the data last: another server may be unable to read it, and call it damaged."""
        with contextlib.suppress(OSError):
            Path(self._settings.data_dir, VERSION_FILE).write_text(self._settings.version)

    def _record_death(self, now: float, code: int) -> None:
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        self._deaths = [death for death in self._deaths if now - death < RESTART_WINDOW]
        if self._phase is Phase.STARTING and code >= 0 and not self._deaths:
            # It never ran and ended by its own decision: it would do so again.
            raise ServerFailed(f"the server ended {how} while it was starting")
        if len(self._deaths) >= len(RESTART_PAUSES):
            raise ServerFailed(
                f"the server ended {how}, once too often within {RESTART_WINDOW:g} seconds"
            )
        pause = RESTART_PAUSES[len(self._deaths)]
        say(f"the server ended {how}; it is started again in {pause:g} s")
        self._tell_attached({"event": "server_died", "how": how})
        self._deaths.append(now)
        self._phase = Phase.DOWN
        self._due = now + pause

    def _give_up(self, reason: str) -> None:
        say(reason)
        self._phase = Phase.FAILED
        self._failure = {
            "reply": "failed",
            "reason": reason,
            "version": self._settings.version,
            "log_start": self._log_start,
        }
        self._due = time.monotonic() + FIRST_CLIENT_PATIENCE
        for client in self._clients:
            if client.is_attached:
                self._tell_failure(client)

    def _tell_failure(self, client: Client) -> None:
        client.send(self._failure)
        self._due = min(self._due, time.monotonic() + FAREWELL_PAUSE)

    # --- the clients

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it may have gone again
            client = Client(self._listener.accept()[0])
            self._clients.add(client)
            self._selector.register(
                client.connection, selectors.EVENT_READ, functools.partial(self._read, client)
            )

    def _read(self, client: Client) -> None:
        is_alive = client.read()
        for message in client.requests():
            self._obey(client, message)
        if not is_alive:
            self._drop(client)

    def _obey(self, client: Client, message: Message) -> None:
        protocol, request = message.get("protocol"), message.get("request")
        if protocol != PROTOCOL:
            reason = f"the running keeper (process {os.getpid()}) speaks protocol {PROTOCOL}, we speak {protocol}"
            client.send({"reply": "refused", "reason": reason})
        elif request == "attach":
            client.is_attached = True
            if self._phase is Phase.READY:
                client.send({"reply": "attached", **self._facts()})
            elif self._phase is Phase.FAILED:
                self._tell_failure(client)
        elif request == "status":
            client.send({"reply": "status", **self._facts()})
        elif request == "stop":
            client.send({"reply": "stopping"})
            self.stop()
        else:
            client.send({"reply": "refused", "reason": f"the keeper knows no request {request!r}"})

    def _drop(self, client: Client) -> None:
        self._selector.unregister(client.connection)
        client.connection.close()
        self._clients.remove(client)
        if client.is_attached:  # asking for the status prolongs nothing
            self._end_if_unused = time.monotonic() + self._settings.linger

    def _tell_attached(self, message: Message) -> None:
        for client in self._clients:
            if client.is_attached:
                client.send(message)

    def _facts(self) -> Message:
        return {
            "pid": os.getpid(),
            "server_pid": self._server.pid,
            "url": self._settings.url,
            "data_dir": self._settings.data_dir,
            "clients": sum(client.is_attached for client in self._clients),
            "uptime": time.monotonic() - self._started,
            "version": self._settings.version,
            "persistent": not self._settings.ephemeral,
        }

    # --- the end

    def _finish(self) -> None:
        """End the server and remove what only a running keeper needs.

        The clients' connections are left to close with the process, at the moment when the lock is free too: whoever
        sees that can start the next keeper.
        """
        if not self._holds_its_place():
            self._server.kill()  # at once: in its own time it could unlink the socket of another
            return
        _unlink(self._settings.control)
        self._tell_attached({"event": "stopping"})
        self._server.end()
        _unlink(self._settings.socket)
        with contextlib.suppress(OSError):
            Path(self._settings.socket).parent.rmdir()
        if self._settings.ephemeral:
            shutil.rmtree(self._settings.root, ignore_errors=True)
        say("the keeper ends")

    def _holds_its_place(self) -> bool:
        """False when the home was deleted under us: the same paths may then belong to another keeper."""
        try:
            there = Path(self._settings.lock_file).stat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._settings.lock))


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _find_prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None  # nothing like it: a server left behind is ended by the next starter
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = (ctypes.c_int, ctypes.c_ulong)
    return prctl


def main() -> None:
    """Leave the starter behind, then keep the server."""
    settings = Settings(**json.load(sys.stdin))
    os.umask(0o077)
    if os.fork():
        os._exit(0)  # the starter waits for this; the keeper is now nobody's child
    os.ftruncate(settings.lock, 0)
    os.pwrite(settings.lock, encode_message({"control": settings.control, "pid": os.getpid()}), 0)
    say(f"the keeper starts, with {settings.version}")
    Keeper(settings).run()


if __name__ == "__main__":
    main()
