"""`pulsewire chaos` itself, for a short time: real workers, real faults, a server of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pulsewire.cli import failures
from pulsewire.cli.chaos import stage
from pulsewire.cli.chaos.verdict import ChaosVerdict
from tests.cli.conftest import Invoke
from tests.cli.programs import Programs


def document(output: str) -> dict[str, Any]:
    """What is printed for programs, after what is said to people."""
    found: dict[str, Any] = json.loads(output[output.index("\n{") :])
    return found


def test_it_holds_and_leaves_nothing_behind(
    programs: Programs, url: str, keys: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """A worker is killed and connections are cut; the user's own server is not touched."""
    programs.environment["PULSEWIRE_URL"] = url
    before = keys("")
    chaos = programs.pulsewire(
        *("chaos", "--seconds", "1.5", "--workers", "2", "--seed", "7", "--json"),
        *("--fault", "kill", "--fault", "cut", "--lease", "1"),
    )
    assert chaos.wait_end() == 0, chaos.output
    said = document(chaos.output)
    assert said["holds"]
    assert said["seed"] == 7
    assert set(said["faults"]) <= {"kill", "cut"}
    assert said["faults"]
    assert {row["block"] for row in said["blocks"]} == {"streams", "maps", "pools", "tasks"}
    assert all(row["acknowledged"] and not row["lost"] for row in said["blocks"])
    assert keys("") == before
    assert not list(tmp_path.glob("pulsewire-*"))


def test_exit_code_tells_that_it_does_not_hold(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def perform(*_: object, **__: object) -> ChaosVerdict:
        return ChaosVerdict(problems=("1 events were lost: e",), rows=(), late=0, strikes=())

    monkeypatch.setattr(stage, "perform", perform)
    result = invoke("chaos", "--seed", "7")
    assert result.exit_code == failures.FAILED
    assert "1 events were lost: e" in result.output
    assert "--seed 7" in result.output


def test_numbers_that_cannot_work_are_refused(invoke: Invoke) -> None:
    result = invoke("chaos", "--workers", "1")
    assert result.exit_code == failures.USAGE
    assert "at least 2" in result.output
