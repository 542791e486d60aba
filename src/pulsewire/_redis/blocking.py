"""A connection of its own for commands that block on the server.

It is stopped by a flag of its user plus `unblock` (CLIENT UNBLOCK), never by cancelling: a reply that comes
nevertheless counts as delivered. After any trouble it is thrown away and a new one is opened, never repaired. The lane
drops it when the server is not the right one any more.
"""

from __future__ import annotations

import contextlib
from typing import Any

import anyio

from pulsewire._redis.lane import Lane
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument, JoinedConnection
from pulsewire._redis.translate import ReplyError, Verdict, from_reply, verdict
from pulsewire.errors import ConnectionLost, PulsewireError, ServerUnavailable

LONGEST_BLOCK = 2.0
"""Seconds that one command may block on the server; a longer wait is made of several. With `SILENCE_MARGIN` it bounds
how late a dead connection is noticed."""
SILENCE_MARGIN = 2.0
"""Seconds that a reply may come later than the block has ended, before the connection counts as dead."""


class NotReady(ServerUnavailable):
    """The server refused for a passing reason, such as LOADING. The command had no effect."""


class BlockingConnection:
    """One connection to the owner of `key`, opened when it is first needed and again after trouble."""

    def __init__(self, link: Link, key: str) -> None:
        self._link = link
        self._key = key
        self._connection: JoinedConnection | None = None
        self._lane: Lane | None = None
        self._asked: Lane | None = (
            None  # where a key of a half-moved slot is, until the connection is dropped
        )
        self._is_blocked = False

    async def open(self, within: float) -> bool:
        """Be connected. True when this is a new connection, so that a reply may have been lost with the old one.

        Raises:
            ServerUnavailable: not within that many seconds.
        """
        if self._connection is not None and self._connection.is_usable:
            return False
        lane = self._asked or await self._link.lane_for(self._key, within)
        self._lane, told = lane, self._asked
        self._asked = None
        self._connection = await lane.open_beside(silence=LONGEST_BLOCK + SILENCE_MARGIN)
        self._asked = told
        return True

    async def call(self, *command: Argument) -> Any:
        """Send one command that may block for at most `LONGEST_BLOCK`.

        Returns:
            Its reply; None also when it was unblocked.

        Raises:
            ServerUnavailable: the connection was lost (its reply, too, if there was one), or the server is not ready.
            PulsewireError: the server refused the command.
        """
        connection = self._connection
        if connection is None:
            raise AssertionError("a blocking connection is opened before it is used")
        self._is_blocked = True
        try:
            # in the same write as the command; it holds for the next one only
            if self._asked is not None:
                connection.submit_unheard(("ASKING",))
            return await connection.submit(command)
        except ConnectionLost:
            self._connection = self._asked = None
            raise
        except ReplyError as error:
            return self._refused(error, str(command[0]), connection)
        finally:
            self._is_blocked = False

    def _refused(self, error: ReplyError, name: str, connection: JoinedConnection) -> None:
        if error.code == "UNBLOCKED":  # forced off: a failover, or the key is gone
            self._drop("the server ended the block")
            raise NotReady(connection.address, 0.0, error.text) from error
        what = verdict(error)
        if what is Verdict.RAISE:
            raise from_reply(error, name, connection.address) from error
        self._drop(error.code)
        if what is Verdict.REDIRECT and self._lane is not None:
            told = self._link.redirect(error, self._lane)
            self._asked = told if error.code == "ASK" else None
        raise NotReady(connection.address, 0.0, error.text) from error

    async def unblock(self) -> None:
        """End the block that is under way, if there is one. When the ACL forbids it, the block runs out by itself."""
        connection = self._connection
        if connection is None or not self._is_blocked:
            return
        with contextlib.suppress(PulsewireError), anyio.move_on_after(LONGEST_BLOCK):
            await self._link.call(
                self._key, "CLIENT", "UNBLOCK", connection.client_id, repeatable=True
            )

    def close(self) -> None:
        """Drop the connection."""
        self._drop("closed")

    def _drop(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.lose(reason)
            self._connection = self._asked = None
