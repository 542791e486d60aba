"""The pages of the docs say what is true: their code compiles, calls what exists, prints what the tests have seen."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pulsewire
from pulsewire import errors, tasks
from tests.test_examples import EXPECTED, IN_ANY_ORDER

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
GUIDES = sorted((DOCS / "howto").glob("*.md"))
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INCLUDED = re.compile(
    r"examples/(?P<name>[a-z_]+)\.py\n:language: python\n```\n(\n```text\n(?P<printed>.*?)```)?",
    re.DOTALL,
)

CALLED: dict[str, list[Callable[..., Any]]] = {
    # What is called by this name in the pages may be any of these; each option must be one of theirs.
    "connect": [pulsewire.connect, tasks.App.connect],
    "stream": [pulsewire.Hub.stream],
    "map": [pulsewire.Hub.map],
    "node": [pulsewire.Hub.node],
    "task_server": [pulsewire.Hub.task_server],
    "scheduler": [pulsewire.Hub.scheduler],
    "periodic_tasks": [pulsewire.Hub.periodic_tasks],
    "add": [pulsewire.Stream.add],
    "reader": [pulsewire.Stream.reader],
    "sink": [pulsewire.Stream.sink],
    "consume": [pulsewire.Sink.consume],
    "changes": [pulsewire.ReplicatedMap.changes],
    "get_or_load": [pulsewire.ReplicatedMap.get_or_load],
    "add_worker": [pulsewire.Node.add_worker],
    "dispatch": [pulsewire.Node.dispatch],
    "ticker": [pulsewire.Node.ticker],
    "schedule": [pulsewire.Node.schedule, tasks.App.schedule],
    "register": [tasks.Scheduler.register],
}


def code_of(page: Path) -> Iterator[tuple[str, ast.Module]]:
    """The Python blocks of a page, each with its place."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        place = f"{page.relative_to(ROOT)}:{line}"
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
        try:
            yield place, compile(match[1], place, "exec", flags)
        except SyntaxError as error:
            pytest.fail(f"{place}, line {error.lineno} of the block: {error.msg}", pytrace=False)


def dotted(node: ast.expr) -> str:
    """`a.b.c` as text; empty for anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def unknown_options(call: ast.Call) -> list[str]:
    """Keywords that nothing of that name takes."""
    if not isinstance(call.func, ast.Attribute):
        return []
    candidates = [inspect.signature(one).parameters for one in CALLED.get(call.func.attr, [])]
    given = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    if not candidates or any(given <= set(one) for one in candidates):
        return []
    return [f"{call.func.attr}({option}=)" for option in sorted(given - set(candidates[0]))]


def unknown_name(name: str) -> bool:
    """Whether `pulsewire....` is not there. A submodule need not be imported by its package."""
    found: Any = pulsewire
    for part in name.split(".")[1:]:
        if not hasattr(found, part):
            if not inspect.ismodule(found):
                return True
            try:
                importlib.import_module(f"{found.__name__}.{part}")
            except ModuleNotFoundError:
                return True
        found = getattr(found, part)
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_a_page_compiles_and_names_what_is_there(page: Path) -> None:
    """`pulsewire.…` exists, imports from it work, and options of its calls are options that they have."""
    wrong: list[str] = []
    for place, code in code_of(page):
        for node in ast.walk(code):
            if isinstance(node, ast.Call):
                wrong += [f"{place}: {option}" for option in unknown_options(node)]
            elif isinstance(node, ast.Attribute) and dotted(node).startswith("pulsewire."):
                wrong += [f"{place}: {dotted(node)}"] if unknown_name(dotted(node)) else []
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pulsewire"):
                module = importlib.import_module(str(node.module))
                wrong += [
                    f"{place}: {node.module}.{alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name)
                ]
    assert not wrong


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_guide_shows_what_its_program_prints(page: Path) -> None:
    """The lines below a program are those that running it gives, as `tests/test_examples.py` checks."""
    for included in _INCLUDED.finditer(page.read_text(encoding="utf-8")):
        printed = (included["printed"] or "").splitlines()
        if not printed:
            continue
        name = included["name"]
        if name in EXPECTED:
            assert len(printed) == len(EXPECTED[name])
            for line, pattern in zip(printed, EXPECTED[name], strict=True):
                assert re.fullmatch(pattern, line)
        else:
            assert sorted(printed) == sorted(IN_ANY_ORDER[name])


def test_every_pattern_has_its_guide() -> None:
    """A new example is shown in a how-to guide, or is one of those that other pages show."""
    shown = {
        included["name"]
        for page in GUIDES
        for included in _INCLUDED.finditer(page.read_text(encoding="utf-8"))
    }
    elsewhere = {"streams_quickstart", "tickets_publish", "tickets_consume"}
    assert shown | elsewhere == {path.stem for path in (ROOT / "examples").glob("*.py")}


def test_every_error_has_its_entry_in_troubleshooting() -> None:
    """Whoever sees an exception finds what it means and what to do about it; and nothing is explained that is gone."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    entries = re.findall(r"^\| `(\w+)`", text.partition("## Exceptions")[2], re.MULTILINE)
    assert sorted(entries) == sorted(errors.__all__)
    assert len(entries) == len(set(entries))


def test_reference_has_every_public_name() -> None:
    """Classes and functions come from their docstrings, package by package; what has none is named by hand."""
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"automodule:: (\S+)", text))
    by_hand = set(re.findall(r"py:data:: (\S+)", text))
    names = (Path(__file__).parent / "public_names.txt").read_text(encoding="utf-8").split()
    missing = []
    for name in names:
        package, _, last = name.rpartition(".")
        value = getattr(importlib.import_module(package), last)
        is_named = callable(value) or not by_hand.isdisjoint((name, f"pulsewire.{last}"))
        if package not in documented or not is_named:
            missing.append(name)
    assert not missing
