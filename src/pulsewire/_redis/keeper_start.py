"""Starting a keeper, if there is none; and ending a server that outlived its own.

All of it blocks, for some tens of milliseconds: it is called in a thread. What the keeper then does is `keeper.py`,
which program serves is `server_binary.py`, and where all of it lies is `home.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pulsewire._redis import keeper
from pulsewire._redis.home import HOME_VARIABLE, Home, make_private, try_lock
from pulsewire._redis.keeper import Settings
from pulsewire._redis.server_binary import ServerBinary, explain_failure, find_server_binary
from pulsewire.errors import EmbeddedServerError

LINGER_VARIABLE = "PULSEWIRE_LINGER"
DEFAULT_LINGER = 3.0
MAX_LINGER = 1e6
LOG_LIMIT = 1024 * 1024
LISTEN_BACKLOG = 512


def start_keeper(home: Home, *, ephemeral: bool) -> bool:
    """Start a keeper, unless somebody holds the lock; then False. Blocks for some tens of milliseconds."""
    try:
        home.make()
        with home.lock_file.open("ab") as lock:  # when it closes, the keeper has the lock
            if is_free := try_lock(lock):
                _spawn_keeper(home, lock.fileno(), find_server_binary(), ephemeral=ephemeral)
    except OSError as error:
        raise EmbeddedServerError(
            f"{home.root} cannot be its home ({error}); choose another with ${HOME_VARIABLE}"
        ) from error
    return is_free


def _spawn_keeper(home: Home, lock: int, binary: ServerBinary, *, ephemeral: bool) -> None:
    with _open_log(home.log_file) as log, _listening(home.control_socket) as listener:
        settings = Settings(
            command=binary.command(
                socket=home.server_socket, data_dir=home.data_dir, durable=not ephemeral
            ),
            version=str(binary),
            root=str(home.root),
            data_dir=str(home.data_dir),
            control=str(home.control_socket),
            socket=str(home.server_socket),
            url=home.url,
            lock_file=str(home.lock_file),
            lock=lock,
            listener=listener,
            linger=0.0 if ephemeral else _linger(),
            ephemeral=ephemeral,
        )
        _run_until_detached(settings, log)


def _run_until_detached(settings: Settings, log: BinaryIO) -> None:
    """Start the keeper's program, which goes on as a process of its own and ends as ours."""
    program = [sys.executable, "-I", "-S", str(Path(keeper.__file__).absolute())]
    title = settings.root  # for those who list processes
    log_start = log.tell()
    try:
        ended = subprocess.run(
            [*program, title],
            input=json.dumps(settings._asdict()).encode(),
            stdout=log,
            stderr=log,
            pass_fds=(settings.lock, settings.listener),
            start_new_session=True,  # Ctrl-C in our terminal is not meant for it
            cwd="/",
            check=False,
        )
    except OSError as error:
        raise EmbeddedServerError(f"{program[0]!r} does not start its keeper: {error}") from error
    if ended.returncode:
        reason = f"its keeper ended with code {ended.returncode}"
        raise explain_failure(reason, Path(log.name), log_start)


def _open_log(path: Path) -> BinaryIO:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[int]:
    """Listen at once, so that from now on every starter finds us. The path is ours: we hold the lock."""
    make_private(path.parent)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(LISTEN_BACKLOG)
        yield listener.fileno()


def end_stray_server(home: Home, logger: logging.Logger) -> bool:
    """End a server that outlived its keeper and holds the lock we need, if that is so.

    Where the system has no death signal (macOS), that is how the server of a killed keeper ends. Its answer tells
    whether it is really ours; a process number could be another process by now.
    """
    path = str(home.server_socket)
    if f"\r\n{home.data_dir}\r\n" not in keeper.ask_server(path, "CONFIG GET dir"):
        return False
    logger.warning("ending an embedded server without a keeper", extra={"socket": path})
    keeper.ask_server(path, "SHUTDOWN NOSAVE")
    return True


def _linger() -> float:
    text = os.environ.get(LINGER_VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_LINGER
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < MAX_LINGER:
        raise EmbeddedServerError(
            f"${LINGER_VARIABLE} is {text!r}; seconds from 0 to {MAX_LINGER:g} are needed"
        )
    return seconds
