"""The lowest dependencies that `pyproject.toml` allows really do, and so does the newest redis-py.

Adopting a socket needs a few private attributes of redis-py. So each release at the two ends of what
we support is installed in a folder of its own and used in a process of its own, from the public face
down to a server. The lowest environment holds the lowest release of every dependency, not only of
redis-py: a floor that nobody tried is a guess.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import anyio
import pytest
from packaging.requirements import Requirement

from pulsewire.testing import SingleServer

ROOT = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).with_name("redis_py_probe.py")
CLIENT = ("redis", "hiredis")
# What pip says when nobody answers, as against a registry that answers "no such release".
NO_REGISTRY = ("Retrying (Retry(", "ProxyError", "No route to host", "Network is unreachable")

pytestmark = pytest.mark.timeout(300)  # the first run downloads


def dependencies() -> list[Requirement]:
    """What pulsewire needs to run, as declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def lowest_requirements() -> list[str]:
    """Each dependency at exactly its floor."""
    pinned = []
    for requirement in dependencies():
        (floor,) = (part.version for part in requirement.specifier if part.operator == ">=")
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        pinned.append(f"{requirement.name}{extras}=={floor}")
    return sorted(pinned)


def pip_install(*arguments: str) -> str:
    """What pip prints; skips the test where no registry can be reached."""
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--timeout", "20"),
            *("--retries", "1", "--disable-pip-version-check", *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0 and any(sign in answer.stderr for sign in NO_REGISTRY):
        pytest.skip("pip can reach no registry")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def newest_requirements() -> list[str]:
    """The newest release of the Redis client that a registry offers today."""
    report = json.loads(
        pip_install("--dry-run", "--ignore-installed", "--no-deps", "--report", "-", *CLIENT)
    )
    return sorted(
        f"{found['metadata']['name']}=={found['metadata']['version']}"
        for found in report["install"]
    )


def installed(requirements: list[str]) -> Path:
    """A folder that holds `requirements`, made once and kept in the clone's cache."""
    identity = [platform.python_version(), platform.machine(), *requirements]
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:12]
    (client,) = (text for text in requirements if Requirement(text).name == "redis")
    target = ROOT / ".cache" / "redis-py" / f"{client.rpartition('==')[2]}-{digest}"
    if not target.exists():
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        try:
            pip_install("--target", str(unfinished), *requirements)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target


async def run_python(target: Path, *arguments: str) -> str:
    """What a program of its own prints when its packages come from `target`; it must succeed."""
    answer = await anyio.run_process(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": f"{target}{os.pathsep}{ROOT / 'src'}"},
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = answer.stdout.decode()
    assert answer.returncode == 0, output
    return output


@pytest.mark.parametrize("end", ["lowest", "newest"])
async def test_every_socket_is_adopted_and_every_reply_finds_its_caller(end: str) -> None:
    """1,000 adds at once, read back and acked, on the client's release at this end of the range."""
    requirements = lowest_requirements() if end == "lowest" else newest_requirements()
    target = installed(requirements)
    async with SingleServer() as server:
        output = await run_python(target, str(PROBE), server.url)
    versions = {Requirement(text).name: text.rpartition("==")[2] for text in requirements}
    for name in CLIENT:
        assert f"{name} {versions[name]}" in output, "the probe ran with another release"


async def test_command_line_starts_with_the_lowest_dependencies() -> None:
    """The floors of typer and rich are real ones too."""
    output = await run_python(installed(lowest_requirements()), "-m", "pulsewire.cli", "--help")
    assert "demo" in output
