"""The top of the command line: version, ping, and how failures end."""

from __future__ import annotations

import json
import re
import signal

from tests.cli.conftest import Invoke
from tests.cli.programs import Programs

NOBODY_LISTENS = "redis://127.0.0.1:1"


def test_the_version_is_printed(invoke: Invoke) -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"pulsewire (\d+\.\d+\S*|\(run from its source, not installed\))\n", result.stdout
    )


def test_ping_says_who_answers(invoke: Invoke, url: str) -> None:
    result = invoke("ping")
    assert result.exit_code == 0
    assert f"(standalone) at {url} answered in " in result.stdout
    answer = json.loads(invoke("ping", "--json").stdout)
    assert (answer["url"], answer["topology"]) == (url, "standalone")
    assert 0 < answer["seconds"] < 60


def test_a_wrong_url_is_a_usage_error_that_names_it(invoke: Invoke) -> None:
    result = invoke("ping", "--url", "http://nowhere")
    assert result.exit_code == 2
    assert result.stdout == ""
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert "http://nowhere" in error
    assert hint.startswith("hint: ")


def test_a_command_can_be_interrupted_while_it_waits_for_a_server(programs: Programs) -> None:
    program = programs.pulsewire("tickets", "publish", "--url", NOBODY_LISTENS)
    program.wait_line("Publisher started")
    program.send(signal.SIGINT)
    assert program.wait_end() == 130
    assert "Traceback" not in program.output


def test_help_names_every_command_and_hides_the_demos_own(invoke: Invoke) -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    blocks = ("stream", "map", "pool", "queue", "task", "group", "cron")
    for command in ("demo", "tickets", *blocks, "stats", "worker", "server", "ping"):
        assert f"\n  {command} " in result.stdout
    assert "demo-consumer" not in result.stdout
    assert "\x1b" not in result.stdout
