"""The command line in tests: run in this process where its output is enough, as programs where processes matter.

All of it uses an embedded server of its own, as a newcomer's first command does, in a folder that goes with the tests.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console
from typer.testing import CliRunner, Result

from pulsewire.cli import render
from pulsewire.cli.app import app
from tests.cli.maps import Map
from tests.cli.programs import Programs

Invoke = Callable[..., Result]
Command = Callable[..., Any]
Screen = Callable[[int], StringIO]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the embedded server."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def url(home: Path) -> Iterator[str]:
    """The embedded server, held by `pulsewire server run` for all these tests."""
    programs = Programs({})
    try:
        holder = programs.pulsewire("server", "run", "--home", str(home))
        yield holder.wait_line("listening at ").removeprefix("listening at ").split(",")[0]
    finally:
        programs.close()


@pytest.fixture
def environment(home: Path, url: str, tmp_path: Path) -> dict[str, str]:
    """What makes the command line of a test use the embedded server, and a folder for temporary files."""
    return {"PULSEWIRE_HOME": str(home), "TMPDIR": str(tmp_path)}


@pytest.fixture
def namespace(url: str) -> Iterator[str]:
    """A namespace that nobody else uses, empty again afterwards."""
    name = f"cli-{next(_numbers):04}"
    yield name
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"*{name}*"):
            client.delete(key)


@pytest.fixture
def keys(url: str) -> Callable[[str], list[str]]:
    """The keys on the server whose names contain a text."""

    def look(part: str) -> list[str]:
        with redis.Redis.from_url(url, decode_responses=True) as client:
            return sorted(str(key) for key in client.scan_iter(f"*{part}*"))

    return look


@pytest.fixture
def invoke(environment: dict[str, str]) -> Invoke:
    """Runs a command to its end in this process."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(
            app, list(arguments), input=stdin, env={"PULSEWIRE_URL": None, **environment}
        )

    return run


@pytest.fixture
def cli(invoke: Invoke, namespace: str) -> Command:
    """Runs a command in the namespace of the test; gives what it has printed, as JSON if that was asked for."""

    def run(*arguments: str, exit_code: int = 0, stdin: str | None = None) -> Any:
        result = invoke(*arguments, "--namespace", namespace, stdin=stdin)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.output

    return run


@pytest.fixture
def on_map(invoke: Invoke, namespace: str) -> Map:
    """Runs a `map` command in the test's namespace."""

    def run(command: str, *arguments: str, stdin: str | None = None) -> Result:
        return invoke("map", command, "--namespace", namespace, *arguments, stdin=stdin)

    return run


@pytest.fixture
def flags(on_map: Map) -> Map:
    """`on_map` with a map `flags` of two keys."""
    for key, value in (("signup", "on"), ("beta", "off")):
        assert on_map("set", "flags", key, value).exit_code == 0
    return on_map


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Makes the output a terminal of some width; gives what is printed there."""

    def open_screen(width: int) -> StringIO:
        shown = StringIO()
        console = Console(
            file=shown, force_terminal=True, width=width, color_system=None, highlight=False
        )
        monkeypatch.setattr(render, "out", console)
        return shown

    return open_screen


@pytest.fixture
def programs(environment: dict[str, str]) -> Iterator[Programs]:
    """Starts programs, which end with the test."""
    running = Programs(environment)
    yield running
    running.close()
