"""Reading through a map: what is not in it is loaded once, however many ask, and stored for everyone.

Callers get the value as soon as it is loaded. Storing goes on behind, so that a server that is away makes a cache
slower and not useless: the loaded value serves this process until storing has succeeded or failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from pulsewire._core.tasks import OwnedTasks, is_being_cancelled

T = TypeVar("T")


class Loader(Generic[T]):
    """The loads of one map that are under way."""

    def __init__(
        self,
        tasks: OwnedTasks,
        store: Callable[[str, T], Coroutine[Any, Any, None]],
    ) -> None:
        """Prepare.

        Args:
            tasks: the background tasks of the map.
            store: stores a value and waits until the map shows it; does not raise.
        """
        self._tasks = tasks
        self._store = store
        self._loads: dict[str, asyncio.Future[T]] = {}

    async def load(self, key: str, load: Callable[[], Awaitable[T]]) -> T:
        """The value of a key that is not in the map."""
        while (under_way := self._loads.get(key)) is not None:
            try:
                return await asyncio.shield(under_way)
            except asyncio.CancelledError:
                if not under_way.cancelled() or is_being_cancelled():
                    raise
                # whoever was loading was cancelled, not we: load it ourselves
        future = self._loads[key] = asyncio.get_running_loop().create_future()
        try:
            value = await load()
        except asyncio.CancelledError:
            del self._loads[key]
            future.cancel()
            raise
        except BaseException as error:
            del self._loads[key]
            future.set_exception(error)
            future.exception()  # seen, even if nobody else has asked
            raise
        future.set_result(value)
        if self._tasks.is_open:
            self._tasks.start_soon(self._keep, key, value)
        else:  # the map was left meanwhile
            del self._loads[key]
        return value

    async def _keep(self, key: str, value: T) -> None:
        try:
            await self._store(key, value)
        finally:
            del self._loads[key]
