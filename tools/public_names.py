"""Prints every public name of pulsewire, one a line: the `__all__` of its public packages.

`make public-names` writes the list to `tests/contract/public_names.txt`, where a test holds it, so
that a new or a lost name is a line in a review.
"""

from __future__ import annotations

import importlib

PUBLIC_PACKAGES = (
    "pulsewire",
    "pulsewire.doctor",
    "pulsewire.embedded",
    "pulsewire.errors",
    "pulsewire.health",
    "pulsewire.pool",
    "pulsewire.rmap",
    "pulsewire.streaming",
    "pulsewire.tasks",
    "pulsewire.testing",
)


def public_names() -> list[str]:
    """`package.name` for each public name, in order of package and name."""
    return [
        f"{package}.{name}"
        for package in PUBLIC_PACKAGES
        for name in sorted(importlib.import_module(package).__all__)
    ]


if __name__ == "__main__":
    print("\n".join(public_names()))
