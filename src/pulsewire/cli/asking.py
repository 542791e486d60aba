"""Asking the server about many things: several at a time, in the order in which they were named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

__all__ = ["ask_each"]

T = TypeVar("T")
V = TypeVar("V")

AT_ONCE = 20
"""How many are asked about at the same time."""


async def ask_each(
    things: Iterable[T], ask: Callable[[T], Awaitable[V]], *, at_once: int = AT_ONCE
) -> list[V]:
    """Return the answer about each thing, in the order of the things."""
    found: dict[int, V] = {}
    limiter = anyio.CapacityLimiter(at_once)

    async def one(number: int, thing: T) -> None:
        async with limiter:
            found[number] = await ask(thing)

    async with anyio.create_task_group() as asking:
        for number, thing in enumerate(things):
            asking.start_soon(one, number, thing)
    return [found[number] for number in sorted(found)]
