"""Lua scripts: loaded from `.lua` files, called by their hash, sent whole when the server does not know them.

A script is named by the package it lives in and its file name. `-- @include "name"` pastes `name.lua` of the same
folder, so that a format that two scripts write has one owner. Typed doors are made by the stores that call them;
what all of them give to scripts and read from replies in the same way is here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from importlib.resources import files

_INCLUDE = re.compile(r'^-- @include "([a-z_]+)"\s*$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """The text of a script and its hash, which is the name the server knows it by."""

    name: str
    text: str = field(repr=False)
    sha: str

    @classmethod
    def load(cls, package: str, name: str) -> Script:
        """Read `<package>/lua/<name>.lua` with its includes."""
        folder = files(package).joinpath("lua")

        def read(stem: str) -> str:
            return folder.joinpath(f"{stem}.lua").read_text(encoding="utf-8")

        text = _INCLUDE.sub(lambda match: read(match[1]), read(name))
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def ms(seconds: float) -> int:
    """Seconds as scripts and commands take them."""
    return int(seconds * 1000 + 0.5)


def text(value: object) -> str:
    """A word of a reply, whether it came as bytes or not; what is not UTF-8 is replaced."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
