"""The public names are the ones that were agreed on."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

import pytest

from tools.public_names import PUBLIC_PACKAGES, public_names

AGREED = Path(__file__).with_name("public_names.txt")


def test_public_names_are_the_agreed_ones() -> None:
    """A name that comes or goes is a change of `public_names.txt` that a review sees."""
    agreed = AGREED.read_text(encoding="utf-8").split()
    difference = [
        line
        for line in difflib.unified_diff(agreed, public_names(), "agreed", "now", lineterm="", n=0)
        if not line.startswith("@@")
    ]
    assert not difference, "\n".join(
        ["public names changed; if that is meant, run `make public-names`:", *difference]
    )


@pytest.mark.parametrize("package", PUBLIC_PACKAGES)
def test_public_package_keeps_its_word(package: str) -> None:
    """Each name in `__all__` is there, once, is no private one, and says in a docstring what it is."""
    module = importlib.import_module(package)
    names = module.__all__
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("_") and name != "__version__"] == []
    for name in names:
        value = getattr(module, name)  # an AttributeError here names what is missing
        if callable(value):
            assert value.__doc__, f"{package}.{name} has no docstring"
