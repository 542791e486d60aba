"""Builds the Go peer, once, and says why when it cannot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent / "go"
BUILD_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class GoPeer:
    """The built program with its versions, or the reason why there is none."""

    binary: Path | None
    versions: str
    missing: str = ""


def build(cache: Path) -> GoPeer:
    """The Go peer's program, built when its source is newer than what the cache holds."""
    go = shutil.which("go")
    if go is None:
        return GoPeer(None, "", "Go is not installed, its peer is left out")
    binary = (cache / "go-peer").absolute()
    newest = max(path.stat().st_mtime for path in SOURCE.iterdir())
    if not binary.exists() or binary.stat().st_mtime < newest:
        cache.mkdir(parents=True, exist_ok=True)
        command = [go, "build", "-o", str(binary), "."]
        try:
            built = subprocess.run(
                command,
                cwd=SOURCE,
                env={**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"},
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return GoPeer(None, "", f"`go build` took over {BUILD_SECONDS} s, its peer is left out")
        if built.returncode:
            reason = built.stderr.strip().splitlines()[-1:] or ["no reason given"]
            return GoPeer(None, "", f"`go build` failed, its peer is left out: {reason[0]}")
        os.utime(binary)
    return GoPeer(binary, f"{go_version(go)}, go-redis {client_version()}")


def go_version(go: str) -> str:
    """The compiler's version."""
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    return answer.stdout.strip().replace("go", "Go ", 1)


def client_version() -> str:
    """The version of go-redis that the module file asks for."""
    found = re.search(r"go-redis/v9 v(\S+)", (SOURCE / "go.mod").read_text())
    return found[1] if found else "unknown"
