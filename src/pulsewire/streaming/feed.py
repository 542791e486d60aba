"""A feed: the loop that reads those streams which one command may name together.

It reads only while somebody wants events, on a blocking connection of its own. It is stopped by a flag plus an unblock,
never by cancelling: what the server has given away is always handed on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import anyio

from pulsewire._core.loops import LoopContext, Stop, keep_doing
from pulsewire._redis.blocking import BlockingConnection
from pulsewire._redis.link import Link

OPEN_PATIENCE = 2.0
"""Seconds one attempt to connect may take before the loop counts it as trouble."""
UNBLOCK_EVERY = 0.05
"""Seconds between unblocks while a feed is stopped: one that overtakes the command it should end does nothing."""


class FeedOwner(Protocol):
    """What a feed asks of the reader or sink it belongs to."""

    async def wait_room(self) -> None:
        """Return when more events are wanted, or when there is something else to look at."""
        ...

    async def reopened(self, connection: BlockingConnection, keys: list[str]) -> None:
        """The connection replaces one that was lost, and a reply with it perhaps."""
        ...

    async def poll(self, connection: BlockingConnection, keys: list[str]) -> bool:
        """Read once and hand on what comes. False when these keys need not be read any more."""
        ...


class Feed:
    """One blocking connection and the keys it reads."""

    def __init__(self, link: Link, keys: list[str], owner: FeedOwner, context: LoopContext) -> None:
        self._keys = keys
        self._owner = owner
        self._stop = Stop()
        self._context = replace(context, stop=self._stop)
        self._connection = BlockingConnection(link, keys[0])
        self._was_open = False
        self._ended = anyio.Event()

    async def run(self) -> None:
        """Read until stopped."""
        try:
            await keep_doing("feed", self._one_pass, self._context)
        finally:
            self._connection.close()
            self._ended.set()

    async def _one_pass(self) -> None:
        await self._owner.wait_room()
        if self._stop.is_set:
            return
        if await self._connection.open(OPEN_PATIENCE):
            if self._was_open:
                await self._owner.reopened(self._connection, self._keys)
            self._was_open = True
        if not self._stop.is_set and not await self._owner.poll(self._connection, self._keys):
            self._stop.set()

    def ask_to_stop(self) -> None:
        """Read no more after the pass that is under way."""
        self._stop.set()

    async def stopped(self) -> None:
        """End the block that is under way, and wait until what it brought is handed on."""
        while not self._ended.is_set():
            await self._connection.unblock()
            with anyio.move_on_after(UNBLOCK_EVERY):
                await self._ended.wait()
