"""Sets up the Python libraries that are measured as peers, and says why when it cannot.

Their requirements contradict each other (one wants redis-py below 6, another 7, a third 8), so each has an environment
of its own in the cache folder, made with the Python that runs this: under `make bench` an optimised one. Their versions
are fixed here, and a changed line installs anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.plan import Program

INSTALL_SECONDS: Final = 600
STAMP: Final = "bench-ready.json"

LOOP: Final = "uvloop"
"""Every producer runs on it, and the workers of those that ask for it or find it by themselves."""
PARSER: Final = "hiredis"
"""redis-py's faster parser, for everybody."""
FORGOTTEN: Final = "typing_extensions"
"""SAQ and repid import it and do not say so."""

REQUIREMENTS: Final[Mapping[Program, tuple[str, ...]]] = {
    Program.ARQ: ("arq==0.28.0", LOOP),
    Program.CELERY: ("celery[redis]==5.7.0", PARSER, LOOP),
    Program.DOCKET: ("pydocket==0.27.0", PARSER, LOOP),
    Program.DRAMATIQ: ("dramatiq[redis]==2.2.1", PARSER, LOOP),
    Program.FASTSTREAM: ("faststream[redis]==0.7.8", PARSER, LOOP),
    Program.HUEY: ("huey==3.5.4", "redis==8.1.0", PARSER, LOOP),
    Program.REPID: ("repid[redis]==2.1.4", PARSER, LOOP, FORGOTTEN),
    Program.RQ: ("rq==3.0.0", PARSER, LOOP),
    Program.SAQ: ("saq[redis,hiredis]==0.26.4", LOOP, FORGOTTEN),
    Program.STREAQ: ("streaq==7.2.0", LOOP),
    Program.TASKIQ: ("taskiq[uv]==0.13.0", "taskiq-redis==1.2.4", PARSER),
}
SHOWN: Final = (
    *("arq", "celery", "dramatiq", "faststream", "huey", "pydocket", "repid", "rq", "saq"),
    *("streaq", "taskiq", "taskiq-redis"),
    *("redis", "hiredis", "coredis", "kombu", "uvloop"),
)
"""The packages whose versions are reported, where they are installed."""
ASK_VERSIONS: Final = """
import sys
from importlib import metadata
for name in sys.argv[1:]:
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        pass
"""


@dataclass(frozen=True, slots=True)
class PythonPeer:
    """An environment with its versions, or the reason why there is none."""

    python: Path | None
    versions: str
    missing: str = ""


class _CannotSetUp(Exception):
    """The text says why."""


def set_up(
    cache: Path, wanted: Collection[Program], say: Callable[[str], None]
) -> Mapping[Program, PythonPeer]:
    """The environments of the wanted programs, as far as they are Python libraries."""
    folder = cache.absolute() / "peers"
    return {
        program: _peer(folder / program.name.lower(), program, say)
        for program in REQUIREMENTS
        if program in wanted
    }


def _peer(environment: Path, program: Program, say: Callable[[str], None]) -> PythonPeer:
    python = environment / "bin" / "python"
    stamp = {"requirements": REQUIREMENTS[program], "base": sys.base_prefix, "is": sys.version}
    fingerprint = json.dumps(stamp)
    ready = environment / STAMP
    try:
        if not ready.exists() or ready.read_text() != fingerprint:
            say(f"Setting up {program} (once) …")
            shutil.rmtree(environment, ignore_errors=True)
            environment.parent.mkdir(parents=True, exist_ok=True)
            _run([sys.executable, "-m", "venv", str(environment)], "venv")
            quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
            install = [str(python), "-m", "pip", "install", *quiet, *REQUIREMENTS[program]]
            _run(install, "pip")
            ready.write_text(fingerprint)
        found = _run([str(python), "-c", ASK_VERSIONS, *SHOWN], "python")
    except _CannotSetUp as reason:
        return PythonPeer(None, "", str(reason))
    return PythonPeer(python, ", ".join(found.splitlines()))


def _run(command: list[str], words: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _CannotSetUp(f"`{words}` took over {INSTALL_SECONDS} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise _CannotSetUp(f"`{words}` failed ({said[0] if said else 'no reason given'})")
    return done.stdout
