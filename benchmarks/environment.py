"""On what the figures were taken: versions, machine, and whether this Python is an optimised build."""

from __future__ import annotations

import os
import platform
import sysconfig
from importlib import metadata
from typing import Final

from benchmarks.server import Server
from benchmarks.task_programs import Peers

PACKAGES: Final = ("pulsewire", "redis", "hiredis", "uvloop", "anyio")


def describe(server: Server, peers: Peers) -> dict[str, str]:
    """Everything a reader needs to compare the figures with others."""
    found = {
        "server": f"{server.version}, TCP on loopback, no persistence",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Python build": python_build(),
        "event loop": "uvloop for every Python contender; a peer's worker has what its command chooses",
    }
    for package in PACKAGES:
        found[package] = package_version(package)
    for program, peer in peers.items():
        found[program] = peer.versions or f"left out: {peer.missing}"
    found["machine"] = f"{platform.system()} {platform.machine()}, {cores()}"
    return found


def python_build() -> str:
    """Whether the interpreter was built with profile-guided optimisation, as far as it says."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "optimised (configured with --enable-optimizations)"
    # Debian and its children optimise by rules of their own and then empty this variable.
    if sysconfig.get_config_var("PGO_PROF_USE_FLAG") == "":
        return "optimised (the distribution's own build)"
    return (
        "NOT optimised (configured without --enable-optimizations):"
        " Python contenders are slower than they need be"
    )


def package_version(package: str) -> str:
    """The installed version of a distribution."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def cores() -> str:
    """The number of cores, in words."""
    count = os.cpu_count() or 1
    return f"{count} cores" if count > 1 else "1 core"
