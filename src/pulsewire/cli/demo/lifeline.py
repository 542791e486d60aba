"""What ties a process of the demo to its parent: its standard input, which says go, and ends with the parent."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["wait_first", "while_parent_lives"]

_LAST_SECONDS = 5.0
"""How long a child whose parent is gone may take to leave the server in order."""
_PARENT_GONE = 3
"""Exit code for nobody to see."""


async def while_parent_lives(
    work: Callable[[anyio.Event], Awaitable[None]],
    leave: Callable[[], None] | None = None,
    *,
    within: float = _LAST_SECONDS,
) -> None:
    """Do `work` for as long as there is a parent.

    Args:
        work: Given the event that the parent's go sets.
        leave: Called when the parent is gone; else the work is cancelled.
        within: Seconds in which the process then ends, whatever happens.
    """
    go = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_parent, go, leave or tasks.cancel_scope.cancel, within)
        await work(go)
        tasks.cancel_scope.cancel()


async def wait_first(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of these returns."""
    async with anyio.create_task_group() as waiting:

        async def wait(one: Callable[[], Awaitable[object]]) -> None:
            await one()
            waiting.cancel_scope.cancel()

        for one in waits:
            waiting.start_soon(wait, one)


async def _watch_parent(go: anyio.Event, leave: Callable[[], None], within: float) -> None:
    while True:
        await anyio.wait_readable(sys.stdin)
        if not os.read(sys.stdin.fileno(), 1024):
            break
        go.set()
    # Leaving in order needs the server, which may be gone as well. Whatever happens, a child does not stay behind.
    asyncio.get_running_loop().call_later(within, os._exit, _PARENT_GONE)
    leave()
