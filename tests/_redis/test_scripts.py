"""Lua scripts: found in their package, includes pasted, known by the hash the server computes; all compile."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pulsewire
from pulsewire._redis.scripts import Script, ms, text
from pulsewire.testing import Topology

SOURCE = Path(pulsewire.__file__).parent
SCRIPTS = sorted(SOURCE.rglob("lua/*.lua"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The `lua` folder of a package `scripted`, to write scripts into."""
    folder = tmp_path / "scripted" / "lua"
    folder.mkdir(parents=True)
    (tmp_path / "scripted" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("scripted", None)


def test_script_is_known_by_the_hash_of_its_text(package: Path) -> None:
    (package / "one.lua").write_text("return 1 -- größe", encoding="utf-8")
    script = Script.load("scripted", "one")
    assert script.name == "one"
    assert script.text == "return 1 -- größe"
    assert script.sha == hashlib.sha1(script.text.encode()).hexdigest()


def test_include_is_pasted_in_its_place(package: Path) -> None:
    """More than one, and only where the line is nothing else."""
    (package / "first.lua").write_text("local a = 1")
    (package / "second_part.lua").write_text("local b = 2\n")
    (package / "main.lua").write_text(
        '-- a comment\n-- @include "first"\n-- @include "second_part"\nreturn a + b\n'
        'local s = "-- @include \\"first\\""\n'
    )
    assert Script.load("scripted", "main").text == (
        '-- a comment\nlocal a = 1\nlocal b = 2\n\nreturn a + b\nlocal s = "-- @include \\"first\\""\n'
    )


def test_change_of_an_include_changes_the_hash(package: Path) -> None:
    (package / "part.lua").write_text("local a = 1")
    (package / "main.lua").write_text('-- @include "part"\nreturn a')
    before = Script.load("scripted", "main").sha
    (package / "part.lua").write_text("local a = 2")
    assert Script.load("scripted", "main").sha != before


@pytest.mark.parametrize("missing", ["main", "part"])
def test_missing_file_is_an_error_when_the_module_is_loaded(package: Path, missing: str) -> None:
    if missing == "part":
        (package / "main.lua").write_text('-- @include "part"\n')
    with pytest.raises(FileNotFoundError, match=missing):
        Script.load("scripted", "main")


def test_text_of_a_script_is_not_in_its_repr(package: Path) -> None:
    (package / "one.lua").write_text("return 12345")
    assert "12345" not in repr(Script.load("scripted", "one"))


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(0.0, 0), (0.0004, 0), (0.0006, 1), (1.2345, 1235), (1.001, 1001), (30, 30_000)],
)
def test_seconds_are_rounded_to_milliseconds(seconds: float, milliseconds: int) -> None:
    """Not cut off: 1.001 * 1000 is a little less than 1001."""
    assert ms(seconds) == milliseconds


def test_word_of_a_reply_is_text_whatever_it_came_as() -> None:
    assert text(b"gr\xc3\xb6\xc3\x9fe") == text("größe") == "größe"
    assert text(b"a\xffb") == "a\ufffdb"
    assert text(7) == "7"


def test_there_are_scripts() -> None:
    assert SCRIPTS


@pytest.mark.parametrize("topology", ["standalone", "redis7"], indirect=True)
async def test_every_script_compiles_and_has_the_hash_we_say(topology: Topology) -> None:
    """On Valkey and on Redis. Fragments that others include compile alone, too."""
    (server,) = await topology.masters()
    for path in SCRIPTS:
        parts = path.parent.parent.relative_to(SOURCE).parts
        script = Script.load(".".join(("pulsewire", *parts)), path.stem)
        assert await server.command("SCRIPT", "LOAD", script.text) == script.sha.encode(), path
