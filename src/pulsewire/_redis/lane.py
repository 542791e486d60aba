"""A lane: one server, one shared connection to it, opened again when it is lost.

Opening is done once for many: whoever finds the lane closed starts it, everybody waits for the same attempt, and when
nobody waits any more it stops. Pauses between attempts grow with full jitter (`_core/backoff.py`).

It remembers since when it is connected or not, and since when nothing has answered; `contact.py` looks at that.

Connections beside the shared one (for reads that block, for subscriptions) belong to who opened them; the lane knows
them only to drop them when their server is no longer the right one. Opening them again is up to their owners.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import redis

from pulsewire._core.backoff import Backoff
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.hooks import Hooks
from pulsewire._core.tasks import OwnedTasks
from pulsewire._redis.doors import Door
from pulsewire._redis.opening import HOPELESS, SILENCE, ServerInfo, open_connection
from pulsewire._redis.pipeline import NO_REPLY, JoinedConnection
from pulsewire.errors import PulsewireError, ServerUnavailable

RECONNECT_CAP = 2.0
"""Upper bound of a pause between attempts: consuming goes on within 5 s of the server being there again."""
LEFT = "the server said that it is not the right one any more"


class Lane:
    """The shared connection to one server."""

    def __init__(
        self,
        door: Door,
        tasks: OwnedTasks,
        hooks: Hooks,
        logger: logging.Logger,
        *,
        silence: float = SILENCE,
    ) -> None:
        self.door = door
        self.connection: JoinedConnection | None = None
        self.info: ServerInfo | None = None
        self.last_trouble = "no connection was opened yet"
        self.since = SYSTEM_CLOCK.monotonic()  # connected, or not
        self.silent_since: float | None = None  # neither a reply nor a refusal
        self._tasks = tasks
        self._hooks = hooks
        self._logger = logger
        self._silence = silence
        self._waiters: list[asyncio.Future[JoinedConnection]] = []
        self._beside: set[JoinedConnection] = set()
        self.on_moved: Callable[[], object] = lambda: None
        self._left: set[JoinedConnection] = set()  # they finish what they have begun
        self._is_opening = False
        self._moved = anyio.Event()  # a new one after each move
        self._closed = ""  # why, once it is

    @property
    def address(self) -> str:
        """For messages."""
        return self.door.address

    async def ready(self, within: float) -> JoinedConnection:
        """The shared connection; opened first if need be.

        Args:
            within: seconds to wait at most.

        Raises:
            ServerUnavailable: not within that time.
            AuthenticationFailed, ServerTooOld, InvalidTarget: opening is hopeless.
        """
        if self.connection is not None:
            return self.connection
        if self._closed:
            raise ServerUnavailable(self.address, 0.0, self._closed)
        self._tasks.check_loop()
        waiter: asyncio.Future[JoinedConnection] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if not self._is_opening:
            self._is_opening = True
            self._tasks.start_soon(self._open)
        try:
            with anyio.fail_after(within):
                return await waiter
        except TimeoutError:
            raise ServerUnavailable(self.address, within, self.last_trouble) from None
        finally:
            waiter.cancel()

    async def open_beside(
        self,
        *,
        silence: float,
        on_push: Callable[[Sequence[Any]], None] | None = None,
        on_lost: Callable[[JoinedConnection, str, int], None] | None = None,
    ) -> JoinedConnection:
        """Open one more connection to the server: its user's own, but dropped when the lane moves or ends.

        Args:
            silence: seconds a reply may be late before the connection counts as dead.
            on_push: called with each RESP3 push.
            on_lost: called once, with the reason and the number of replies that were outstanding.

        Raises:
            ServerUnavailable: one attempt was made in vain, or the lane moved or ended meanwhile.
            AuthenticationFailed, ServerTooOld, InvalidTarget: opening is hopeless.
        """
        if self._closed:
            raise ServerUnavailable(self.address, 0.0, self._closed)

        def when_lost(connection: JoinedConnection, reason: str, in_flight: int) -> None:
            self._beside.discard(connection)
            self._note_silence(reason, silence)
            if on_lost is not None:
                on_lost(connection, reason, in_flight)

        moved = self._moved
        began = SYSTEM_CLOCK.monotonic()
        try:
            connection, _info = await open_connection(
                self.door, master_only=True, silence=silence, on_push=on_push, on_lost=when_lost
            )
        except ServerUnavailable as error:
            self._note_refusal(error, began)
            raise
        self.silent_since = None
        if self._closed or moved.is_set():  # it may lead to the server that was left
            reason = self._closed or self.last_trouble
            connection.lose(reason)
            raise ServerUnavailable(self.address, 0.0, reason)
        if connection.is_usable:  # else it is lost again already
            self._beside.add(connection)
        return connection

    def leave(self, connection: JoinedConnection, reason: str = LEFT) -> None:
        """Stop using `connection`: it finishes what it has begun, and the next caller opens a new one."""
        if self.connection is connection:
            self.connection = None
            self.since, self.last_trouble = SYSTEM_CLOCK.monotonic(), reason
        if connection.is_usable:
            self._left.add(connection)
            connection.retire()

    def move(self, reason: str) -> None:
        """Go elsewhere: the door leads to another server now.

        The shared connection finishes what it has begun, since the outcome of writes must be known. Those beside it
        are dropped at once: they carry reads and subscriptions, which their users begin again. Who waits for a
        connection has it tried at once.
        """
        self._moved.set()
        self._moved = anyio.Event()
        self.last_trouble = reason
        if self.connection is not None:
            self.leave(self.connection, reason)
        self._lose_beside(reason)
        self.on_moved()

    def close(self) -> None:
        """Drop all connections for good."""
        self._closed = "the hub is closed"
        if self.connection is not None:
            self.connection.lose("the hub was closed")
        for connection in list(self._left):  # each takes itself out
            connection.lose("the hub was closed")
        self._lose_beside("the hub was closed")
        self._answer(ServerUnavailable(self.address, 0.0, self._closed))

    def abandon(self, reason: str) -> None:
        """Open no more connections; who waits for one is told why. What is open is left as in `move`."""
        self._closed = reason
        self.move(reason)
        self._answer(ServerUnavailable(self.address, 0.0, reason))

    def _lose_beside(self, reason: str) -> None:
        for connection in list(self._beside):  # as above
            connection.lose(reason)

    async def _open(self) -> None:
        backoff, attempts = Backoff(cap=RECONNECT_CAP), 0
        try:
            while self._somebody_waits() and not self._closed:
                moved, attempts = self._moved, attempts + 1
                began = SYSTEM_CLOCK.monotonic()
                try:
                    connection, info = await open_connection(
                        self.door, master_only=True, silence=self._silence, on_lost=self._when_lost
                    )
                except HOPELESS as error:
                    self.last_trouble, self.silent_since = str(error), None
                    self._answer(error)
                    return
                except ServerUnavailable as error:
                    self.last_trouble = error.reason
                    self._note_refusal(error, began)
                    self._logger.debug(
                        "connection attempt failed",
                        extra={"address": self.address, "why": error.reason},
                    )
                    with anyio.move_on_after(backoff.next_pause()):
                        await moved.wait()
                        backoff.reset()
                else:
                    self.info = info
                    if self._closed:  # while the last byte of the greeting was on its way
                        connection.lose(self._closed)
                    if moved.is_set():
                        connection.retire()
                    if not connection.is_usable:  # lost again already
                        continue
                    self.connection = connection
                    self.since, self.silent_since = SYSTEM_CLOCK.monotonic(), None
                    self._hooks.connection_opened(self.address, attempts)
                    self._answer(connection)
                    return
        finally:
            self._is_opening = False
            # Who still waits does so in a task that is not ours; ours was cancelled since its owner ends.
            self._answer(ServerUnavailable(self.address, 0.0, "the hub is closed"))

    def _somebody_waits(self) -> bool:
        self._waiters = [waiter for waiter in self._waiters if not waiter.done()]
        return bool(self._waiters)

    def _answer(self, outcome: JoinedConnection | PulsewireError) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if isinstance(outcome, PulsewireError):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)

    def _when_lost(self, connection: JoinedConnection, reason: str, in_flight: int) -> None:
        if self.connection is connection:
            self.connection = None
            self.since = SYSTEM_CLOCK.monotonic()
        self._left.discard(connection)
        self._note_silence(reason, self._silence)
        if reason == "retired" or self._closed or not connection.client_id:
            return  # without an id it was never open: whoever opens it learns why it was not
        self.last_trouble = reason
        self._hooks.connection_lost(self.address, reason, in_flight)
        self._logger.warning(
            "connection lost",
            extra={"address": self.address, "why": reason, "in_flight": in_flight},
        )

    def _note_silence(self, reason: str, silence: float) -> None:
        """A connection was lost; perhaps since it had gone silent so many seconds ago."""
        if reason.startswith(NO_REPLY) and self.silent_since is None:
            self.silent_since = SYSTEM_CLOCK.monotonic() - silence

    def _note_refusal(self, error: ServerUnavailable, began: float) -> None:
        """An attempt to connect was in vain. A refusal is an answer; a timeout is not."""
        timed_out = isinstance(error.__cause__, (TimeoutError, redis.TimeoutError))
        if not timed_out and not error.reason.startswith(NO_REPLY):
            self.silent_since = None
        elif self.silent_since is None:
            self.silent_since = began
