"""Builds the Go peers, and says why when it cannot.

Two programs come from `go/`: *Go* needs nothing but go-redis; *Go Pulse* is the same with the map and pool roles of
`go/rmap.go` and `go/pool.go`, which import Go Pulse itself. That one is built against a checkout which the user names
in `PULSEWIRE_GO_PULSE`; nothing of Go Pulse is in this repository. *Go asynq* comes from `go/tasks`, a module of its
own that requires asynq.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.plan import Program

SOURCE: Final = Path(__file__).parent / "go"
ASYNQ_SOURCE: Final = SOURCE / "tasks"
BUILD_SECONDS: Final = 300
PULSE_VARIABLE: Final = "PULSEWIRE_GO_PULSE"
PULSE_MODULE: Final = "goa.design/pulse"
NO_STAMP: Final = "-buildvcs=false"


@dataclass(frozen=True, slots=True)
class GoPeer:
    """A built program with its versions, or the reason why there is none."""

    binary: Path | None
    versions: str
    missing: str = ""


class _CannotBuild(Exception):
    """The text says why."""


def build(cache: Path, wanted: Collection[Program]) -> Mapping[Program, GoPeer]:
    """The Go programs among the wanted ones."""
    builders = {Program.GO: _peer, Program.GO_PULSE: _pulse_peer, Program.ASYNQ: _asynq_peer}
    chosen = {program: builder for program, builder in builders.items() if program in wanted}
    go = shutil.which("go")
    if go is None:
        return dict.fromkeys(chosen, GoPeer(None, "", "Go is not installed"))
    cache.mkdir(parents=True, exist_ok=True)
    return {program: builder(go, cache.absolute()) for program, builder in chosen.items()}


def _peer(go: str, cache: Path) -> GoPeer:
    """The peer that stands in for Go Pulse."""
    versions = f"{go_version(go)}, go-redis {client_version()}"
    return _built(go, SOURCE, cache / "go-peer", versions)


def _asynq_peer(go: str, cache: Path) -> GoPeer:
    """The peer that is asynq."""
    module = ASYNQ_SOURCE / "go.mod"
    found = re.search(r"hibiken/asynq v(\S+)", module.read_text())
    version = found[1] if found else "unknown"
    versions = f"{version}, {go_version(go)}, go-redis {client_version(module)}"
    return _built(go, ASYNQ_SOURCE, cache / "go-asynq-peer", versions)


def _built(go: str, source: Path, binary: Path, versions: str) -> GoPeer:
    """A peer that is built when its source is newer than what the cache holds."""
    newest = max(path.stat().st_mtime for path in source.iterdir())
    if not binary.exists() or binary.stat().st_mtime < newest:
        try:
            _run([go, "build", "-o", str(binary), "."], f"-mod=readonly {NO_STAMP}", source)
        except _CannotBuild as reason:
            return GoPeer(None, "", str(reason))
        os.utime(binary)
    return GoPeer(binary, versions)


def _pulse_peer(go: str, cache: Path) -> GoPeer:
    """The peer that is Go Pulse. Always built anew, for a checkout may have changed; Go's own cache makes it quick."""
    named = os.environ.get(PULSE_VARIABLE)
    if not named:
        return GoPeer(None, "", f"{PULSE_VARIABLE} names no checkout of Go Pulse")
    checkout = Path(named).absolute()
    if not (checkout / "go.mod").exists():
        return GoPeer(None, "", f"{PULSE_VARIABLE} names no checkout of Go Pulse")
    binary, module = cache / "go-pulse-peer", cache / "go-pulse.mod"
    shutil.copyfile(SOURCE / "go.mod", module)
    shutil.copyfile(SOURCE / "go.sum", module.with_suffix(".sum"))
    asked, used = f"-require={PULSE_MODULE}@v0.0.0", f"-replace={PULSE_MODULE}={checkout}"
    built = ["build", f"-modfile={module}", "-tags", "pulse", "-o", str(binary), "."]
    try:
        _run([go, "mod", "edit", asked, used, str(module)])
        _run([go, *built], f"-mod=mod {NO_STAMP}")
    except _CannotBuild as reason:
        return GoPeer(None, "", str(reason))
    versions = f"commit {_commit(checkout)}, {go_version(go)}, go-redis {client_version(module)}"
    return GoPeer(binary, versions)


def _run(command: list[str], flags: str = "", source: Path = SOURCE) -> None:
    environment = {**os.environ, "GOFLAGS": flags}
    words = command[1]
    try:
        done = subprocess.run(
            command,
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _CannotBuild(f"`go {words}` took over {BUILD_SECONDS} s") from None
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise _CannotBuild(f"`go {words}` failed ({reason[0]})")


def _commit(checkout: Path) -> str:
    """The commit that is checked out, as far as git says."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return answer.stdout.strip() or "unknown"


def go_version(go: str) -> str:
    """The compiler's version."""
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return answer.stdout.strip().replace("go", "Go ", 1)


def client_version(module: Path = SOURCE / "go.mod") -> str:
    """The version of go-redis that a module file asks for."""
    found = re.search(r"go-redis/v9 v(\S+)", module.read_text())
    return found[1] if found else "unknown"
