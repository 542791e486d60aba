"""Our own command line, many commands by one process: starting Python takes longer than what it is asked for.

Run as `python our_command_line.py`. Each line of its input is a list of arguments, in JSON; each line that it writes is
the exit code and what the command has printed. Everything but the start of a process is as it is for a user.
"""

from __future__ import annotations

import json
import sys

from typer.testing import CliRunner

from pulsewire.cli.app import app


def answer_all() -> None:
    """Until the input ends."""
    for line in sys.stdin:
        said = CliRunner().invoke(app, json.loads(line))
        print(json.dumps({"exit_code": said.exit_code, "output": said.stdout}), flush=True)


if __name__ == "__main__":
    answer_all()
