"""Signals and exit codes of asynchronous commands, tried with small programs."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.programs import Program, Programs

Start = Callable[[str], Program]

HEAD = """
import anyio, typer
from pulsewire import errors
from pulsewire.cli.running import run

def main(command):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(lambda: run(command))
    app()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program whose body is given."""
    programs = Programs({})

    def begin(body: str) -> Program:
        script = tmp_path / "program.py"
        script.write_text(HEAD + textwrap.dedent(body))
        return programs.script(script)

    yield begin
    programs.close()


WAITS = """
async def command(signals):
    try:
        print("ready", flush=True)
        await anyio.sleep_forever()
    finally:
        print("cleaned up", flush=True)
main(command)
"""

ASKED = """
async def command(signals):
    done = anyio.Event()
    with signals.asking(done.set):
        print("ready", flush=True)
        await done.wait()
    print("finished", flush=True)
    {end}
main(command)
"""

DEAF = """
async def command(signals):
    with signals.asking(lambda: print("asked", flush=True)):
        try:
            print("ready", flush=True)
            await anyio.sleep_forever()
        finally:
            print("cleaning up", flush=True)
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
main(command)
"""


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_and_the_command_cleans_up(
    start: Start, number: signal.Signals, exit_code: int
) -> None:
    program = start(WAITS)
    program.wait_line("ready")
    program.send(number)
    assert program.wait_end() == exit_code
    assert program.lines == ["ready", "cleaned up"]


@pytest.mark.parametrize(
    ("end", "exit_code"), [("return None", 130), ("return 0", 0), ("return 7", 7)]
)
def test_a_command_that_asks_is_not_cancelled(start: Start, end: str, exit_code: int) -> None:
    program = start(ASKED.format(end=end))
    program.wait_line("ready")
    program.send(signal.SIGINT)
    assert program.wait_end() == exit_code
    assert program.lines == ["ready", "finished"]


def test_the_second_signal_cancels_and_the_third_ends_the_process(start: Start) -> None:
    program = start(DEAF)
    program.wait_line("ready")
    program.send(signal.SIGINT)
    program.wait_line("asked")
    program.send(signal.SIGINT)
    program.wait_line("cleaning up")
    program.send(signal.SIGINT)
    assert program.wait_end() == 130


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        ("errors.ServerFull('XADD', 'OOM')", 1),
        ("errors.InvalidOption('block', -1, 'negative')", 2),
        ("ExceptionGroup('', [errors.ServerFull('XADD', 'OOM')])", 1),
    ],
)
def test_an_error_of_the_library_is_a_line_and_a_hint(
    start: Start, error: str, exit_code: int
) -> None:
    program = start(f"async def command(signals): raise {error}\nmain(command)")
    assert program.wait_end() == exit_code
    message, hint = program.lines
    assert message.startswith("error: ")
    assert hint.startswith("hint: ")


def test_any_other_error_is_a_defect_and_shows_where(start: Start) -> None:
    program = start("async def command(signals): raise KeyError('x')\nmain(command)")
    assert program.wait_end() == 1
    assert program.lines[-1] == "KeyError: 'x'"
    assert "in command" in program.output


def test_warnings_of_the_library_are_lines_with_their_values(start: Start) -> None:
    program = start(
        """
        import logging

        async def command(signals):
            logger = logging.getLogger("pulsewire.streaming")
            logger.warning("connection lost", extra={"address": "h:1", "why": "reset"})
            logger.warning("slow by %d s", 3)
            logger.info("a detail")

        main(command)
        """
    )
    assert program.wait_end() == 0
    assert program.lines == [
        "warning: connection lost (address=h:1, why=reset)",
        "warning: slow by 3 s",
    ]
