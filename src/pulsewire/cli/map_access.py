"""What several commands of `pulsewire map` do: open a map, read it whole, delete keys, say that it is not there."""

from __future__ import annotations

from collections.abc import Iterable

import pulsewire
from pulsewire.cli import render
from pulsewire.cli.asking import ask_each
from pulsewire.cli.failures import FAILED

__all__ = ["delete_each", "missing", "open_map", "whole_of"]

_DELETED_AT_ONCE = 500
"""Keys that leave in one write."""
_LARGEST_VALUE = 512 * 1024 * 1024
"""The server's own limit: how large the values of a map may be is for its programs to say."""


def open_map(hub: pulsewire.Hub, name: str) -> pulsewire.ReplicatedMap[bytes]:
    """Return a map of bytes, whatever programs have stored; only `async with` joins it."""
    return hub.map(name, codec=pulsewire.BYTES, max_value=_LARGEST_VALUE)


async def whole_of(hub: pulsewire.Hub, name: str) -> tuple[int, dict[str, bytes]]:
    """Return the revision and the content of a map; 0 and nothing where there is none."""
    async with open_map(hub, name) as joined:
        return joined.revision, joined.snapshot()


async def delete_each(
    target: pulsewire.ReplicatedMap[bytes], keys: Iterable[str]
) -> list[bytes | None]:
    """Delete keys, and return what each one held."""
    return await ask_each(keys, target.delete, at_once=_DELETED_AT_ONCE)


def missing(name: str) -> int:
    """Say that there is no such map; return the exit code."""
    render.fail(f"there is no map {name!r}", "`pulsewire map ls` shows which there are.")
    return FAILED
