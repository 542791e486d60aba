"""Builds the Go peers, and says why when it cannot.

Each is a module of its own below `go/`, with the version of its library fixed in its `go.mod`, so that each has the
client that it was made with; what they share is `go/contract`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.plan import Program

SOURCE: Final = Path(__file__).parent / "go"
SHARED: Final = SOURCE / "contract"
BUILD_SECONDS: Final = 600
FLAGS: Final = "-mod=readonly -buildvcs=false"
CLIENT: Final = "github.com/redis/go-redis/v9"


class Module(NamedTuple):
    """A Go peer: its folder, and the library that it stands for."""

    folder: str
    library: str


MODULES: Final[Mapping[Program, Module]] = {
    Program.GO_PULSE: Module("pulse", "goa.design/pulse"),
    Program.ASYNQ: Module("asynq", "github.com/hibiken/asynq"),
}


@dataclass(frozen=True, slots=True)
class GoPeer:
    """A built program with its versions, or the reason why there is none."""

    binary: Path | None
    versions: str
    missing: str = ""


def build(cache: Path, wanted: Collection[Program]) -> Mapping[Program, GoPeer]:
    """The Go programs among the wanted ones."""
    chosen = {program: module for program, module in MODULES.items() if program in wanted}
    go = shutil.which("go")
    if go is None:
        return dict.fromkeys(chosen, GoPeer(None, "", "Go is not installed"))
    cache.mkdir(parents=True, exist_ok=True)
    return {program: _peer(go, module, cache.absolute()) for program, module in chosen.items()}


def _peer(go: str, module: Module, cache: Path) -> GoPeer:
    """The peer, built when its source is newer than what the cache holds."""
    source, binary = SOURCE / module.folder, cache / f"go-{module.folder}-peer"
    newest = max(path.stat().st_mtime for path in (*source.iterdir(), *SHARED.iterdir()))
    if not binary.exists() or binary.stat().st_mtime < newest:
        if reason := _build(go, source, binary):
            return GoPeer(None, "", reason)
        os.utime(binary)
    return GoPeer(binary, versions_of(source / "go.mod", module.library, _go_version(go)))


def _build(go: str, source: Path, binary: Path) -> str:
    """Build it; returns why it cannot be built, or nothing."""
    try:
        done = subprocess.run(
            [go, "build", "-o", str(binary), "."],
            cwd=source,
            env={**os.environ, "GOFLAGS": FLAGS},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"`go build` took over {BUILD_SECONDS} s"
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        return f"`go build` failed ({said[0]})"
    return ""


def _go_version(go: str) -> str:
    """The compiler's version."""
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return answer.stdout.strip().replace("go", "Go ", 1)


def versions_of(module_file: Path, library: str, compiler: str) -> str:
    """The versions that a module file fixes, in words."""
    text = module_file.read_text()
    return f"{required(text, library)}, {compiler}, go-redis {required(text, CLIENT)}"


def required(module_file: str, path: str) -> str:
    """The version of a module that the text of a module file asks for."""
    found = re.search(rf"^\s*(?:require )?{re.escape(path)} v(\S+)", module_file, re.MULTILINE)
    return found[1] if found else "unknown"
