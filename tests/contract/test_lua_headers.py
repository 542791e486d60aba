"""Every Lua script opens with its contract: what it does, its keys, its arguments, its answers.

The header is what the Python door of a script is written against, so its numbering is held against
the body: a key or an argument that the body uses stands in the header.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
SCRIPTS = sorted(SOURCE.rglob("*.lua"))

SECTIONS = ("KEYS", "ARGV", "Returns")
# "-- KEYS  1 content  HASH" opens a section; "--       2 updates  CHANNEL" continues it.
OPENING = re.compile(r"(KEYS|ARGV|Returns|Publishes)\b(.*)")
NUMBER = re.compile(r"(?:^|(?<=\s))(\d+)(\+|\.\.\S*)?(?=\s)")


def header_lines(script: str) -> list[str]:
    """The comment lines a script opens with, without the dashes."""
    lines = []
    for line in script.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].strip())
    return lines


def declared(text: str) -> tuple[set[int], int | None]:
    """The positions a section names, and the one from which it is open ("3.. ids"), if it is."""
    positions: set[int] = set()
    open_from = None
    for match in NUMBER.finditer(f"{text} "):
        positions.add(int(match[1]))
        if match[2]:
            open_from = int(match[1])
    return positions, open_from


def find_faults(script: str) -> list[str]:
    """What is missing from a script's header, or said differently from what its body does."""
    sections: dict[str, str] = {}
    description: list[str] = []
    current = ""
    for line in header_lines(script):
        if opening := OPENING.match(line):
            current = opening[1]
            sections[current] = opening[2]
        elif current:
            sections[current] += f"  {line}"
        else:
            description.append(line)
    faults = []
    if not any(description):
        faults.append("does not open with a line that says what it does")
    faults += [
        f"its header has no {name}" for name in SECTIONS if not sections.get(name, "").strip()
    ]
    body = "\n".join(line.partition("--")[0] for line in script.splitlines())
    for name in ("KEYS", "ARGV"):
        used = {int(position) for position in re.findall(rf"\b{name}\[(\d+)\]", body)}
        positions, open_from = declared(sections.get(name, ""))
        for position in sorted(used - positions):
            if open_from is None or position < open_from:
                faults.append(f"uses {name}[{position}], which its header does not name")
    return faults


def test_scripts_are_found() -> None:
    """The check below looks at something."""
    assert SCRIPTS


@pytest.mark.parametrize(
    "path", SCRIPTS, ids=lambda path: str(path.relative_to(SOURCE / "pulsewire"))
)
def test_script_opens_with_its_contract(path: Path) -> None:
    """Description, KEYS, ARGV and Returns are there, and agree with the body."""
    faults = find_faults(path.read_text(encoding="utf-8"))
    assert not faults, f"{path.relative_to(SOURCE)}: " + "; ".join(faults)


GOOD = """\
-- Replace an entry if it still holds the expected value.
-- KEYS  1 content  HASH     map:<name>:content
--       2 updates  CHANNEL  map:<name>:updates
-- ARGV  1 entry   2 expected   3.. values
-- Returns   {"swapped", revision}  or  {"kept", value now there}
local now = redis.call("HGET", KEYS[1], ARGV[1]) -- not KEYS[9]
redis.call("PUBLISH", KEYS[2], ARGV[4])
return {"kept", now}
"""


def test_header_of_the_style_guide_is_accepted() -> None:
    """The example that the style guide gives has no fault."""
    assert find_faults(GOOD) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (GOOD.splitlines()[0] + "\n", "", "does not open with a line that says what it does"),
        ("-- KEYS  1 content", "-- 1 content", "its header has no KEYS"),
        ("-- ARGV  1 entry   2 expected   3.. values\n", "", "its header has no ARGV"),
        ("-- Returns", "-- Answers", "its header has no Returns"),
        ("3.. values", "3 value", "uses ARGV[4], which its header does not name"),
        ("--       2 updates", "--       updates", "uses KEYS[2], which its header does not name"),
        ("-- Replace", "local x\n-- Replace", "its header has no KEYS"),
    ],
)
def test_incomplete_header_is_refused(before: str, after: str, fault: str) -> None:
    """A header that lacks a part, or names fewer keys or arguments than are used, is found."""
    assert before in GOOD
    assert fault in find_faults(GOOD.replace(before, after))
