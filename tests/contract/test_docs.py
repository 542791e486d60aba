"""What the documents name is there: tests, examples, pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROOFS = ("docs/seeds.md", "docs/guarantees.md")
_TEST = re.compile(r"`(?:tests/)?([a-z_/]+\.py)?(?:::(test_[a-z0-9_]+))?[^`]*`")
_EXAMPLE = re.compile(r"`(examples/[a-z_]+\.py)`")


def named_tests(page: str) -> list[tuple[str, str]]:
    """Files and tests that a page names; a name without a file belongs to the file named before it."""
    found = []
    file = ""
    for match in _TEST.finditer((ROOT / page).read_text(encoding="utf-8")):
        if match[1] and not match[1].startswith("examples/"):
            file = match[1]
        if match[1] == file or match[2]:
            found.append((file, match[2] or ""))
    return found


@pytest.mark.parametrize("page", PROOFS)
def test_every_proof_that_is_named_exists(page: str) -> None:
    """A ticked promise points to a test that is really there."""
    missing = []
    for file, name in named_tests(page):
        path = ROOT / "tests" / file
        if not path.is_file() or (name and f"def {name}(" not in path.read_text(encoding="utf-8")):
            missing.append(f"{file}::{name}")
    assert named_tests(page)
    assert not missing


def test_every_example_that_is_named_exists() -> None:
    """Guides point to programs that are really there, and every program is in a guide."""
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in _EXAMPLE.findall(page)}
    there = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert named <= there
    assert {name for name in there if "tickets" not in name} <= named
