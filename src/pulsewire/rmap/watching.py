"""Watching a map: changes on their way to one watcher, joined when it is slow, never wrong in the end.

`Pending` is the pure part: what a watcher has not seen yet, at most one reset and two changes per key. The strongest
kind survives joining (reset over delete over set, spec/pulse.md 5.2 R3), and the last one per key says what is there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Generic, Self

from typing_extensions import TypeVar

from pulsewire.rmap.replica import RawChange
from pulsewire.rmap.wire import Change, Unreadable

T = TypeVar("T", default=str)
_Raw = RawChange[T]


class Pending(Generic[T]):
    """Changes that one watcher has not seen yet."""

    __slots__ = ("_by_key", "_reset")

    def __init__(self) -> None:
        self._reset: _Raw[T] | None = None
        self._by_key: OrderedDict[str, list[_Raw[T]]] = (
            OrderedDict()
        )  # taking the first of many is quick

    def __len__(self) -> int:
        return (self._reset is not None) + sum(map(len, self._by_key.values()))

    def add(self, change: _Raw[T]) -> None:
        """Take a change in, joining it with what waits already."""
        key = change.key
        if key is None:
            self._reset = change
            self._by_key.clear()
            return
        waiting = self._by_key.pop(key, None)
        if waiting is None:
            self._by_key[key] = [change]
            return
        if change.kind == "delete":  # whatever was set meanwhile is gone again
            self._by_key[key] = [change._replace(old=waiting[0].old)]
            return
        last = waiting[-1]
        if last.kind == "set":
            waiting[-1] = change._replace(old=last.old)
        else:
            waiting.append(change)
        self._by_key[key] = waiting  # behind the others: in the order of the last changes

    def take(self) -> _Raw[T] | None:
        """The next change to see."""
        if self._reset is not None:
            reset, self._reset = self._reset, None
            return reset
        for key, waiting in self._by_key.items():
            change = waiting.pop(0)
            if not waiting:
                del self._by_key[key]
            return change
        return None


class Changes(Generic[T]):
    """An asynchronous iterator over the changes of a map. Get one from `ReplicatedMap.changes`.

    It ends when the map is closed. Dropping it is enough to stop watching.
    """

    def __init__(self, pending: Pending[T]) -> None:
        self._pending = pending
        self._waiter: asyncio.Future[None] | None = None
        self._is_ended = False

    def __repr__(self) -> str:
        return f"<Changes {len(self._pending)} waiting{', ended' if self._is_ended else ''}>"

    def put(self, change: _Raw[T]) -> None:
        """Something has changed."""
        self._pending.add(change)
        self._wake()

    def end(self) -> None:
        """Nothing more will come; what waits can still be seen."""
        self._is_ended = True
        self._wake()

    def skip(self) -> None:
        """Forget the changes that wait to be seen, for a watcher that looks at the map itself."""
        self._pending = Pending()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[T]:
        while (raw := self._pending.take()) is None:
            if self._is_ended:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError(
                    "these changes are awaited already; call changes() once per watcher"
                )
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return to_change(raw)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def to_change(raw: _Raw[T]) -> Change[T]:
    """The public form of a change."""
    old = None if isinstance(raw.old, Unreadable) else raw.old
    if isinstance(raw.new, Unreadable):
        return Change(raw.kind, raw.key, old, None, raw.revision, raw.new.error)
    return Change(raw.kind, raw.key, old, raw.new, raw.revision)
