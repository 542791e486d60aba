"""Acknowledging in batches: all acks that come up while one XACK is under way leave together in the next.

Acks are repeatable, so trouble is waited out. Whoever awaits one learns when the server has it.
"""

from __future__ import annotations

import asyncio

from pulsewire._core.loops import LoopContext, keep_doing
from pulsewire._core.vitals import going_on, resting
from pulsewire.errors import Closed, PulsewireError
from pulsewire.streaming.holdings import Holdings
from pulsewire.streaming.store import ACK_BATCH, StreamStore

MAX_BACKLOG = 10_000
"""Acks that may wait for the server before those who add more have to wait, too."""


class Acks:
    """The acknowledgements of one consumer for one stream."""

    def __init__(
        self, store: StreamStore, group: str, holdings: Holdings, context: LoopContext
    ) -> None:
        self._store = store
        self._group = group
        self._holdings = holdings
        self._context = context
        self._ids: list[str] = []
        self._callers: list[asyncio.Future[None]] = []
        self._wake: asyncio.Future[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._has_ended = asyncio.Event()
        self._has_ended.set()
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self.acked = 0

    @property
    def backlog(self) -> int:
        """Acks the server does not have yet."""
        return len(self._ids)

    def soon(self, event_id: str) -> None:
        """Acknowledge without waiting."""
        self._ids.append(event_id)
        self._idle.clear()
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    async def ack(self, event_ids: list[str]) -> None:
        """Acknowledge, and return when the server has it.

        Raises:
            ServerUnavailable: it did not get it in time; trying goes on until the sink is closed.
            Closed: the sink is closed; others get the event after ack_grace.
        """
        if self._is_closed:
            raise Closed(f"sink {self._group!r}")
        caller: asyncio.Future[None] = self._loop.create_future()
        self._callers.append(caller)
        for event_id in event_ids:
            self.soon(event_id)
        if self._context.stop.is_set:  # its stream was removed from the sink
            await self.finish()
        await caller

    async def wait_drained(self) -> None:
        """Return when the server has all acks."""
        await self._idle.wait()

    def close(self) -> None:
        """Send no more: whoever still waits learns that it was not sent."""
        self._is_closed = True
        callers, self._callers = self._callers, []
        _answer(callers, Closed(f"sink {self._group!r}"))

    async def run(self) -> None:
        """Send what comes, until cancelled or finished."""
        self._has_ended.clear()
        try:
            await keep_doing("acks", self.send_once, self._context)
        finally:
            self._has_ended.set()

    async def finish(self) -> None:
        """Send what is left, also when `run` was cancelled with the rest of a block.

        Raises:
            PulsewireError: the server did not take it.
        """
        self._context.stop.set()
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        await self._has_ended.wait()
        while self._ids:
            await self.send_once()

    async def send_once(self) -> None:
        """Wait for acks, and send all there are."""
        if not self._ids:
            self._idle.set()
            self._wake = self._loop.create_future()
            with resting():
                await self._wake
        ids, callers = self._ids, self._callers
        self._ids, self._callers = [], []
        sent = 0
        try:
            while sent < len(ids):
                batch = ids[sent : sent + ACK_BATCH]
                acked = await self._store.ack(self._group, batch)
                going_on()
                self.acked += acked
                sent += len(batch)
                self._context.hooks.events_acked(self._store.keys.name, self._group, acked)
                for event_id in batch:
                    self._holdings.finish(event_id)
        except PulsewireError as error:
            _answer(callers, error)
            callers = []
            raise
        finally:
            self._ids = ids[sent:] + self._ids
            if callers and sent == len(ids):
                _answer(callers, None)
            elif callers:  # cancelled
                self._callers = callers + self._callers


def _answer(callers: list[asyncio.Future[None]], error: PulsewireError | None) -> None:
    for caller in callers:
        if caller.done():
            continue
        if error is None:
            caller.set_result(None)
        else:
            caller.set_exception(error)
