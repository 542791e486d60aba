"""Server programs on this machine: which ones there are, and what they are.

Responsible for looking at programs, not for running servers (`processes.py`). Unlike the product it
accepts servers that are too old, since tests need those too.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pulsewire._redis.server_binary import find_server_binary

__all__ = ["ServerVersion", "embedded_binary", "redis7_binary", "server_version"]

DEBIAN_REDIS = Path("/usr/bin/redis-server")
_VERSION = re.compile(r"(?P<kind>Redis|Valkey) server v=(?P<version>[0-9.]+)")


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """What a server program says of itself."""

    kind: str  # "redis" or "valkey"
    number: tuple[int, ...]


@functools.cache
def server_version(binary: Path) -> ServerVersion:
    """What `binary --version` says.

    Raises:
        ValueError: it is no Redis or Valkey server.
        OSError: it cannot be run.
    """
    said = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False, timeout=10.0
    ).stdout
    found = _VERSION.search(said)
    if found is None:
        raise ValueError(f"{binary} does not look like a server: it says {said!r}")
    number = tuple(int(part) for part in found["version"].split(".") if part)
    return ServerVersion(found["kind"].lower(), number)


@functools.cache
def embedded_binary() -> Path:
    """The program that the embedded server runs.

    Raises:
        EmbeddedServerError: there is none.
    """
    return find_server_binary().path


def redis7_binary() -> Path | None:
    """A Redis (not Valkey) server of version 7 or newer, or None if this machine has none."""
    on_path = shutil.which("redis-server")
    for candidate in (DEBIAN_REDIS, *([Path(on_path)] if on_path else [])):
        if not candidate.exists():
            continue
        try:
            version = server_version(candidate)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            continue
        if version.kind == "redis" and version.number >= (7,):
            return candidate
    return None
