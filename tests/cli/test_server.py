"""`pulsewire server`: the embedded server seen from outside."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.cli.conftest import Invoke
from tests.cli.programs import Programs


def test_a_server_is_held_shown_and_stopped(
    invoke: Invoke, programs: Programs, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    assert invoke("server", "status", "--home", home).exit_code == 1
    assert invoke("server", "status", "--json", "--home", home).stdout == "null\n"
    assert invoke("server", "stop", "--home", home).stdout == "it did not run\n"

    holder = programs.pulsewire("server", "run", "--home", home)
    url = holder.wait_line("listening at ").removeprefix("listening at ").split(",")[0]
    shown = invoke("server", "status", "--home", home)
    assert shown.exit_code == 0
    assert url in shown.stdout
    status = json.loads(invoke("server", "status", "--json", "--home", home).stdout)
    assert (status["url"], status["clients"], status["persistent"]) == (url, 1, True)

    stopped = invoke("server", "stop", "--home", home)
    assert (stopped.exit_code, stopped.stdout) == (0, "stopped\n")
    assert holder.wait_end() == 1
    assert "error: the server was stopped by somebody else" in holder.lines
    assert invoke("server", "status", "--home", home).exit_code == 1


def test_a_held_server_ends_with_ctrl_c(programs: Programs) -> None:
    holder = programs.pulsewire("server", "run", "--ephemeral")
    line = holder.wait_line("listening at ")
    folder = Path(line.split("data in ")[1].split(", Ctrl-C")[0])
    assert folder.is_dir()
    holder.send(signal.SIGINT)
    assert holder.wait_end() == 130
    assert not folder.exists()
