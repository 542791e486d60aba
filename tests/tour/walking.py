"""Walks through a page of the docs as a reader would: writes the files that it shows, and runs its commands.

What a page does for that:

* A Python block whose first line is `# name.py` is a file. A later one of the same name replaces it.
* A `console` block has commands (`$ pulsewire ...`, `$ python name.py ...`) and what they print. In what they print `…`
  is any text, and a line of three dots any lines.
* A console block whose first line is `# second terminal` (or `third`) starts a program that stays, and lists lines that
  it prints, in any order; a later block of that terminal lists more of them, and `^C` ends it.

A block that follows the comment `<!-- not walked -->` is passed over. Everything else must come as the page says.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from pulsewire.cli.app import app
from tests.cli.programs import Program, Programs

__all__ = ["ROOT", "walk"]

ROOT = Path(__file__).parents[2]
FIRST = "first"
_BLOCK = re.compile(
    r"(?P<skip><!-- not walked -->\n\n?)?^```(?P<language>[a-z{}]+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# (?P<name>[a-z_]+\.py)\n")
_TERMINAL = re.compile(r"# (?P<name>first|second|third) terminal\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code of a page."""

    line: int
    language: str
    text: str
    is_walked: bool


def blocks_of(page: Path) -> Iterator[Block]:
    """All of a page, in order."""
    content = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(content):
        line = content.count("\n", 0, match.start("language")) + 1
        yield Block(line, match["language"], match["text"], match["skip"] is None)


def walk(page: Path, folder: Path, programs: Programs) -> int:
    """Do all that a page says, in an empty folder, which must be the current one.

    Returns:
        How many commands were run.
    """
    walker = _Walker(folder, programs)
    for block in blocks_of(page):
        if not block.is_walked:
            continue
        if block.language == "python" and (file := _FILE.match(block.text)):
            (folder / file["name"]).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            walker.do(block)
    return walker.commands


class _Walker:
    def __init__(self, folder: Path, programs: Programs) -> None:
        self.commands = 0
        self._folder = folder
        self._programs = programs
        self._terminals: dict[str, Program] = {}

    def do(self, block: Block) -> None:
        """Do what a console block says."""
        terminal = _TERMINAL.match(block.text)
        lines = block.text.splitlines()
        if terminal is None or terminal["name"] == FIRST:
            for command, printed in _commands(lines[1:] if terminal else lines):
                self._run(command, printed, block)
            return
        for line in lines[1:]:
            if line.startswith("$ "):
                self._terminals[terminal["name"]] = self._start(line)
        program = self._terminals[terminal["name"]]
        expected = [line for line in lines[1:] if line != "^C" and not line.startswith("$ ")]
        _wait_lines(program, expected)
        if "^C" in lines:
            program.send(signal.SIGINT)
            assert program.wait_end() == 0, program.output
            assert "Traceback" not in program.output

    def _start(self, command: str) -> Program:
        self.commands += 1
        name, *arguments = shlex.split(command.removeprefix("$ "))
        if name == "python":
            return self._programs.script(self._folder / arguments[0], *arguments[1:])
        assert name == "pulsewire", command
        return self._programs.pulsewire(*arguments)

    def _run(self, command: str, printed: list[str], block: Block) -> None:
        where = f"{command!r} of the block in line {block.line}"
        if command.startswith("$ pulsewire "):  # in this process: starting one takes long
            self.commands += 1
            result = CliRunner().invoke(
                app, shlex.split(command)[2:], env=self._programs.environment
            )
            code, lines = result.exit_code, result.output.splitlines()
        else:
            program = self._start(command)
            code, lines = program.wait_end(), program.lines
        assert code == 0, f"{where} ended with {code}:\n{lines}"
        pattern = "".join(map(_pattern, printed))
        shown = "".join(f"{_squeezed(line)}\n" for line in lines if line.strip())
        assert re.fullmatch(pattern, shown), f"{where} printed:\n{shown}\nand not:\n{pattern}"


def _commands(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    assert starts, lines
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start], [line for line in lines[start + 1 : end] if line.strip()]


def _squeezed(line: str) -> str:
    return " ".join(line.split())


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*"
    return re.escape(_squeezed(line)).replace("…", ".*") + r"\n"


def _wait_lines(program: Program, expected: list[str]) -> None:
    missing = [_pattern(line) for line in expected if line.strip()]
    while missing:
        line = f"{_squeezed(program.wait_line(''))}\n"
        found = next((one for one in missing if re.fullmatch(one, line)), None)
        if found is not None:
            missing.remove(found)
