"""The home of an embedded server: the folder that identifies it, the paths in it, and who may use them.

Responsible for where everything lies, for private folders, for the lock, and for clearing away what killed processes
left. Leaves starting to `keeper_start.py`, talking to `embedded.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import BinaryIO

from pulsewire.errors import EmbeddedServerError

HOME_VARIABLE = "PULSEWIRE_HOME"
# A socket's path must fit into 104 bytes on macOS and 108 on Linux, the final NUL included.
SOCKET_PATH_LIMIT = 100
EPHEMERAL_PREFIX = "pulsewire-tmp-"
ABANDONED_AGE = 60.0  # a younger temporary folder may be about to be locked


@dataclasses.dataclass(frozen=True, slots=True)
class Home:
    """The folder that identifies an embedded server, and the paths in it.

    Attributes:
        root: the folder, without symbolic links.
    """

    root: Path

    @classmethod
    def at(cls, folder: Path | None) -> Home:
        """The home in a folder; None for the user's own."""
        try:
            return cls((folder or _default_folder()).expanduser().resolve())
        except (OSError, RuntimeError) as error:  # a loop of links, an unknown user, no home at all
            raise EmbeddedServerError(
                f"no usable home ({error}); choose one with ${HOME_VARIABLE}"
            ) from error

    @classmethod
    def temporary(cls) -> Home:
        """A new home in the folder for temporary files. Clears away what killed processes have left there."""
        parent = Path(tempfile.gettempdir())
        prefix = f"{EPHEMERAL_PREFIX}{os.geteuid()}-"
        _remove_abandoned(parent, prefix)
        try:
            return cls(Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve())
        except OSError as error:
            raise EmbeddedServerError(
                f"no temporary folder can be made in {parent}: {error}"
            ) from error

    @property
    def data_dir(self) -> Path:
        """Append-only file and log."""
        return self.root / "data"

    @property
    def log_file(self) -> Path:
        """What the server and the keeper write."""
        return self.data_dir / "server.log"

    @property
    def lock_file(self) -> Path:
        """Locked while a keeper or its server lives. Holds the address of the keeper."""
        return self.root / "keeper.lock"

    @property
    def socket_dir(self) -> Path:
        """The private folder of the sockets: in the home, or a short one in /tmp when the home's path is too long.

        Always /tmp, neither `$TMPDIR` nor `$XDG_RUNTIME_DIR`: all processes of the user must arrive at the same path,
        also those with another environment, so that clients find the next server where the last one was.
        """
        folder = self.root / "run"
        if len(os.fsencode(folder / "server.sock")) <= SOCKET_PATH_LIMIT:
            return folder
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path("/tmp").resolve() / f"pulsewire-{os.geteuid()}-{digest}"  # noqa: S108 - see `make_private`

    @property
    def server_socket(self) -> Path:
        """Where the server listens."""
        return self.socket_dir / "server.sock"

    @property
    def control_socket(self) -> Path:
        """Where the keeper listens."""
        return self.socket_dir / "keeper.sock"

    @property
    def url(self) -> str:
        """The server's URL."""
        return "unix://" + urllib.parse.quote(os.fsencode(self.server_socket))

    def make(self) -> None:
        """Create the folders, except that of the sockets, which only the holder of the lock makes and removes."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise PermissionError(f"no permission to write in {self.data_dir}")

    def keeper_address(self) -> tuple[str, int | None]:
        """The control socket and the process of the keeper that has, or last had, the lock."""
        try:
            record = json.loads(self.lock_file.read_bytes())
            return str(record["control"]), int(record["pid"])
        except (OSError, ValueError, TypeError, KeyError):
            return str(self.control_socket), None  # nobody yet, or somebody who is just starting

    def remove(self) -> None:
        """Delete everything, also the sockets that lie elsewhere."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.socket_dir, ignore_errors=True)


def try_lock(file: BinaryIO) -> bool:
    """Lock an open file; False when somebody else has it, or it was deleted while we opened it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), Path(file.name).stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def make_private(folder: Path) -> None:
    """Create a folder that only this user can enter, or see to it that it is one."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise EmbeddedServerError(
            f"{folder} is to hold its sockets, but is not a folder of this user; remove it"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Delete the folders of ephemeral servers whose processes were all killed."""
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            is_old = time.time() - found.st_mtime > ABANDONED_AGE
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and is_old:
                home = Home(folder.resolve())
                with home.lock_file.open("ab") as lock:
                    if try_lock(lock):
                        home.remove()


def _default_folder() -> Path:
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "pulsewire"
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data if data.is_absolute() else Path.home() / ".local" / "share") / "pulsewire"
