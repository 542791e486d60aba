"""Holding a hub, or anything else with `async with`, from two tasks: for test fixtures and notebooks.

Hubs, sinks, maps, nodes and servers are left by the task that has entered them, as anything that is built on structured
concurrency. Some surroundings enter in one task and leave in another: fixtures of pytest-asyncio, cells of a notebook,
frameworks with hooks for their start and their stop.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Held", "held"]

T = TypeVar("T")


def held(what: AbstractAsyncContextManager[T]) -> Held[T]:
    """A context manager that may be entered by one task and left by another, of the same event loop.

    In a fixture of pytest-asyncio::

        @pytest_asyncio.fixture
        async def hub():
            async with held(pulsewire.connect(URL)) as hub:
                yield hub

    Args:
        what: such as `pulsewire.connect(...)`, `stream.sink(...)` or `hub.map(...)`.

    Raises:
        Exception: what entering or leaving raises. An error of a background duty meanwhile comes out when it is left.
    """
    return Held(what)


class Held(Generic[T]):
    """What `held` returns: it enters and leaves in a task of its own."""

    def __init__(self, what: AbstractAsyncContextManager[T]) -> None:
        self._what = what
        self._is_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Held {self._what!r}>"

    async def __aenter__(self) -> T:
        entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(entered))
        try:
            return await entered
        except BaseException:  # it could not be entered, or who waits for it was cancelled
            self._is_over.set()
            await asyncio.wait([self._task])
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._task is not None:
            await self._task

    async def _hold(self, entered: asyncio.Future[T]) -> None:
        try:
            async with self._what as value:
                if not entered.done():
                    entered.set_result(value)
                await self._is_over.wait()
        except Exception as error:
            if entered.done():
                raise
            entered.set_exception(error)
