"""A lane: one server, one shared connection to it, opened again when it is lost.

Opening is done once for many: whoever finds the lane closed starts it, everybody waits for the same attempt, and when
nobody waits any more it stops. Pauses between attempts grow with full jitter (`_core/backoff.py`).
"""

from __future__ import annotations

import asyncio
import logging

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.hooks import Hooks
from pulsewire._core.tasks import OwnedTasks
from pulsewire._redis.doors import Door
from pulsewire._redis.opening import HOPELESS, SILENCE, ServerInfo, open_connection
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire.errors import PulsewireError, ServerUnavailable

RECONNECT_CAP = 2.0
"""Upper bound of a pause between attempts: consuming goes on within 5 s of the server being there again."""


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
        self._tasks = tasks
        self._hooks = hooks
        self._logger = logger
        self._silence = silence
        self._waiters: list[asyncio.Future[JoinedConnection]] = []
        self._is_opening = False
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

    def leave(self, connection: JoinedConnection) -> None:
        """Stop using `connection`: it finishes what it has begun, and the next caller opens a new one."""
        if self.connection is connection:
            self.connection = None
        connection.retire()

    def close(self) -> None:
        """Drop the connection for good."""
        self._closed = "the hub is closed"
        if self.connection is not None:
            self.connection.lose("the hub was closed")
        self._answer(ServerUnavailable(self.address, 0.0, self._closed))

    def abandon(self, reason: str) -> None:
        """Open no more connections; what is under way is finished, and who waits for one is told why."""
        self._closed = reason
        if self.connection is not None:
            self.leave(self.connection)
        self._answer(ServerUnavailable(self.address, 0.0, reason))

    async def _open(self) -> None:
        backoff = Backoff(cap=RECONNECT_CAP)
        try:
            while self._somebody_waits() and not self._closed:
                try:
                    connection, info = await open_connection(
                        self.door, master_only=True, silence=self._silence, on_lost=self._when_lost
                    )
                except HOPELESS as error:
                    self.last_trouble = str(error)
                    self._answer(error)
                    return
                except ServerUnavailable as error:
                    self.last_trouble = error.reason
                    self._logger.debug(
                        "connection attempt failed",
                        extra={"address": self.address, "why": error.reason},
                    )
                    await anyio.sleep(backoff.next_pause())
                else:
                    self.info = info
                    if self._closed:  # while the last byte of the greeting was on its way
                        connection.lose(self._closed)
                    if not connection.is_usable:  # lost again already
                        continue
                    self.connection = connection
                    self._hooks.connection_opened(self.address, backoff.attempts + 1)
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
        if reason == "retired" or self._closed or not connection.client_id:
            return  # without an id it was never open: whoever opens it learns why it was not
        self.last_trouble = reason
        self._hooks.connection_lost(self.address, reason, in_flight)
        self._logger.warning(
            "connection lost",
            extra={"address": self.address, "why": reason, "in_flight": in_flight},
        )
