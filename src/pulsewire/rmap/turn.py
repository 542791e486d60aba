"""Writes of one kind and one turn of the event loop, which travel as one script: they share its round trip and record.

Each caller waits for a future of its own, so that one who is cancelled takes nothing from the others. When the reply is
lost, one caller finds out what has happened, and the others wait for that; if it is cancelled, the next one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

from pulsewire._redis.pipeline import Argument, JoinedConnection
from pulsewire._redis.scripts import Script
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import ConnectionLost, PulsewireError

MOST: Final = 100
"""Writes in one script, during which the server does nothing else."""
HEAVY: Final = 64 * 1024
"""Bytes of arguments after which a script takes no more."""

Trouble = ReplyError | ConnectionLost


def in_shares(writes: Iterable[tuple[bytes, ...]]) -> Iterator[tuple[bytes, ...]]:
    """The arguments of many writes as those of few scripts, in their order."""
    share: list[bytes] = []
    count = weight = 0
    for one in writes:
        share += one
        count += 1
        weight += sum(map(len, one))
        if count == MOST or weight > HEAVY:
            yield tuple(share)
            share, count, weight = [], 0, 0
    if share:
        yield tuple(share)


class Turn:
    """Writes that are being collected, or under way.

    Attributes:
        script: that carries them out.
        connection: on which they leave.
        request: the number of the write that they are together.
        arguments: of all, one after the other.
        is_open: whether it takes more.
        trouble: what came instead of the reply.
    """

    __slots__ = (
        "_callers",
        "_failure",
        "_outcome",
        "_room",
        "_settling",
        "arguments",
        "connection",
        "is_open",
        "request",
        "script",
        "trouble",
    )

    def __init__(self, script: Script, connection: JoinedConnection, request: int) -> None:
        self.script = script
        self.connection = connection
        self.request = request
        self.arguments: list[Argument] = []
        self.is_open = True
        self.trouble: Trouble | None = None
        self._callers: list[asyncio.Future[list[Any] | None]] = []
        self._room = HEAVY
        self._settling: asyncio.Lock | None = None
        self._outcome: list[Any] | None = None
        self._failure: PulsewireError | None = None

    def add(
        self, one: tuple[bytes, ...], loop: asyncio.AbstractEventLoop
    ) -> tuple[int, asyncio.Future[list[Any] | None]]:
        """One more: its place among them, and its reply, which is None where there is trouble (`settled`)."""
        place = len(self._callers)
        caller: asyncio.Future[list[Any] | None] = loop.create_future()
        self._callers.append(caller)
        self.arguments += one
        self._room -= sum(map(len, one))
        if self._room < 0 or place + 1 == MOST:
            self.is_open = False
        return place, caller

    def give(self, replies: list[Any]) -> None:
        """The replies have come."""
        for caller, reply in zip(self._callers, replies, strict=True):
            if not caller.done():  # else it was cancelled
                caller.set_result(reply)

    def fail(self, trouble: Trouble) -> bool:
        """They have not. Whether any caller is there who can see to it."""
        self.is_open = False
        self.trouble = trouble
        self._settling = asyncio.Lock()
        waiting = [caller for caller in self._callers if not caller.done()]
        for caller in waiting:
            caller.set_result(None)
        return bool(waiting)

    async def settled(self, settle: Callable[[Turn, Trouble], Awaitable[list[Any]]]) -> list[Any]:
        """The replies to all after trouble; `settle` finds them out, for all who wait.

        Raises:
            PulsewireError: what `settle` has raised.
        """
        if self._settling is None or self.trouble is None:
            raise AssertionError("there was no trouble")
        async with self._settling:
            if self._failure is not None:
                raise self._failure
            if self._outcome is None:
                try:
                    self._outcome = await settle(self, self.trouble)
                except PulsewireError as error:
                    self._failure = error
                    raise
            return self._outcome
