"""Programs in Go that answer what the original does. They are built once, and again when they have changed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest

import pulsewire
from pulsewire.testing import ClusterGroup, SingleServer
from tests.conformance.asynq_programs import Programs
from tests.conformance.pulse_programs import GoPulse, running
from tests.conftest import SharedTopologies

SOURCES = Path(__file__).with_name("go")
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "conformance"
WITHOUT = {
    "go can reach no module proxy": (
        *("dial tcp", "no such host", "proxyconnect", "i/o timeout", "module lookup disabled"),
    ),
    "the module proxy does not have what the original needs": ("403 Forbidden", "404 Not Found"),
    "the original needs a newer Go than this machine's": ("GOTOOLCHAIN=local",),
}
"""Why a program cannot be built here, and what go says then."""
ASYNQ_CLI = "PULSEWIRE_ASYNQ_CLI"
GO = ("go_program", "go_binary")

# Asks a program some questions, and returns its answers in the same order.
Ask = Callable[[Iterable[Any]], list[Any]]

_missing: dict[str, str] = {}
"""Name of a fixture -> why it cannot be had, once that is known."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say once what is missing: a skip in a fixture would be listed for each test."""
    for name in getattr(item, "fixturenames", ()):
        if name in _missing:
            pytest.skip(_missing[name])


@pytest.fixture(scope="session")
def go_program() -> Callable[[str], Ask]:
    """The program in the folder `go/<name>`, which reads questions and writes answers, one JSON document a line."""
    return lambda name: _ask(_built(name))


@pytest.fixture(scope="session")
def go_binary() -> Callable[[str], Path]:
    """The program in the folder `go/<name>`, for tests that start it themselves."""
    return _built


@pytest.fixture(scope="session")
async def asynq_redis(
    anyio_backend: object, shared_topologies: SharedTopologies
) -> AsyncIterator[SingleServer]:
    """A server for tests with asynq, whose keys have no namespace."""
    async with shared_topologies.running("asynq_redis", SingleServer()) as server:
        yield server


@pytest.fixture
async def programs(
    go_binary: Callable[[str], Path], asynq_redis: SingleServer, tmp_path: Path
) -> AsyncIterator[Programs]:
    """Programs on a server that holds nothing else."""
    programs = Programs(go_binary("asynq"), asynq_redis.url, tmp_path)
    yield programs
    await programs.close()
    await asynq_redis.command("FLUSHALL")


@pytest.fixture
async def asynq_hub(programs: Programs) -> AsyncIterator[pulsewire.Hub]:
    """A hub beside them."""
    async with pulsewire.connect(programs.url) as hub:
        yield hub


@pytest.fixture(scope="session")
def asynq_cli() -> Path:
    """The command line of asynq itself. It is a module of its own, and not built here."""
    named = os.environ.get(ASYNQ_CLI) or shutil.which("asynq")
    if not named:
        reason = f"asynq's command line is not on the PATH, and {ASYNQ_CLI} does not name it"
        _give_up(reason, "asynq_cli")
    version = subprocess.run([named, "version"], capture_output=True, text=True, check=False)
    assert version.stdout.startswith("asynq version"), f"{named} is no command line of asynq"
    return Path(named)


@pytest.fixture
async def go(
    go_binary: Callable[[str], Path], asynq_redis: SingleServer, tmp_path: Path
) -> AsyncIterator[GoPulse]:
    """Go Pulse on a server that holds nothing else."""
    async with running(go_binary("pulse"), asynq_redis.url, tmp_path) as go:
        yield go
    await asynq_redis.command("FLUSHALL")


@pytest.fixture
async def hub(go: GoPulse, asynq_redis: SingleServer) -> AsyncIterator[pulsewire.Hub]:
    """A hub beside it, without a namespace."""
    async with pulsewire.connect(asynq_redis.url) as hub:
        yield hub


@pytest.fixture
async def cluster_programs(
    go_binary: Callable[[str], Path], cluster_group: ClusterGroup, tmp_path: Path
) -> AsyncIterator[Programs]:
    """Programs on a cluster of three masters and three replicas."""
    programs = Programs(go_binary("asynq"), cluster_group.url, tmp_path)
    yield programs
    await programs.close()
    for master in await cluster_group.masters():
        await master.command("FLUSHALL")


def _ask(program: Path) -> Ask:
    def ask(questions: Iterable[Any]) -> list[Any]:
        lines = "".join(f"{json.dumps(question)}\n" for question in questions)
        answer = subprocess.run([program], input=lines, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        return [json.loads(line) for line in answer.stdout.split("\n")[:-1]]

    return ask


def _built(name: str) -> Path:
    go = shutil.which("go")
    if go is None:
        _give_up("this machine has no Go to build the original with", *GO)
    sources = sorted(path for path in (SOURCES / name).iterdir() if path.is_file())
    version = subprocess.run([go, "version"], capture_output=True, check=True).stdout
    state = hashlib.sha256(version + b"".join(path.read_bytes() for path in sources)).hexdigest()
    program = CACHE / f"{name}-{state[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with CACHE.joinpath(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the run need it too
        if not program.exists():
            _build(go, SOURCES / name, program)
    return program


def _build(go: str, sources: Path, program: Path) -> None:
    unfinished = program.with_suffix(".unfinished")
    build = subprocess.run(
        [go, "build", "-mod=readonly", "-o", unfinished, "."],
        cwd=sources,
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    if build.returncode != 0:
        for reason, signs in WITHOUT.items():
            if any(sign in build.stderr for sign in signs):
                _give_up(f"{reason} ({sources.name})", *GO)
    assert build.returncode == 0, build.stderr
    unfinished.replace(program)


def _give_up(reason: str, *fixtures: str) -> NoReturn:
    _missing.update(dict.fromkeys(fixtures, reason))
    pytest.skip(reason)
