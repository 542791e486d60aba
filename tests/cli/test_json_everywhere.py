"""`--json`: every command that answers has it, and what it prints then is one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from pulsewire.cli.app import app
from tests.cli.conftest import Command

WITHOUT = {
    "chaos",
    "demo",
    "map export",
    "server run",
    "tickets consume",
    "tickets publish",
    "worker",
}
"""What runs until it is ended, and tells a story; and what writes a document anyway."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Every command that `--help` shows, with its options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif not command.hidden:
            options = {option for parameter in command.params for option in parameter.opts}
            yield " ".join((*path, name)), options


def test_every_command_that_answers_has_json() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert {name for name, options in found.items() if "--json" not in options} - WITHOUT == set()
    assert len(found) > 40


@pytest.mark.leaves_keys("map:*")
def test_what_streams_and_maps_have_done(cli: Command) -> None:
    event = cli("stream", "add", "orders", "paid", "--json")
    assert event["stream"] == "orders"
    assert cli("stream", "rm", "orders", event["id"], "--json") == {
        "stream": "orders",
        "removed": 1,
    }
    cli("stream", "add", "orders", "paid")
    assert cli("stream", "rm", "orders", "--yes", "--json") == {
        "stream": "orders",
        "destroyed": True,
    }
    cli("map", "set", "flags", "a", "1")
    assert cli("map", "reset", "flags", "--yes", "--json") == {"map": "flags", "reset": True}
    cli("map", "set", "flags", "a", "1")
    assert cli("map", "rm", "flags", "--yes", "--json") == {"map": "flags", "destroyed": True}


def test_what_pools_have_done(cli: Command) -> None:
    job = cli("pool", "dispatch", "jobs", "a", "--create", "--no-wait", "--json")
    assert (job["key"], job["job"]["state"]) == ("a", "waiting")
    stopped = cli("pool", "stop", "jobs", "a", "b", "--no-wait", "--json", exit_code=1)
    assert stopped == {"stopped": ["a"], "missing": ["b"]}
    done = cli("pool", "shutdown", "jobs", "--yes", "--json")
    assert (done["pool"], done["jobs"]) == ("jobs", 0)
