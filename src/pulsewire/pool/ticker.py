"""Tickers: each tick of a name goes to one of the nodes that wait for it, by the server's clock.

A node competes only while somebody waits, so no tick goes to a node that has no use for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self

from pulsewire._core.backoff import Backoff
from pulsewire._core.ids import RequestIds
from pulsewire._core.loops import PASSING, RETRY_BASE, RETRY_CAP, Stop
from pulsewire.pool.crew import Crew
from pulsewire.pool.store import Tick as StoredTick

Missed = Literal["latest", "all"]


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick.

    Attributes:
        name: of the ticker.
        due: when it was due, by the server's clock.
    """

    name: str
    due: datetime


class Ticker:
    """An asynchronous iterator over the ticks that this node gets. Get one from `Node.ticker`."""

    def __init__(
        self,
        crew: Crew,
        requests: RequestIds,
        stop: Stop,
        name: str,
        every: float,
        *,
        missed: Missed,
        first: float,
    ) -> None:
        self.name = name
        self.every = every
        self._crew = crew
        self._requests = requests
        self._stop = stop
        self._missed = missed
        self._first = first
        self._is_made = False

    def __repr__(self) -> str:
        return f"<Ticker {self.name!r} every {self.every:g} s>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Tick:
        backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
        request = self._requests.next()
        while not self._stop.is_set and not self._crew.is_shutting_down:
            try:
                answer = await self._take(request)
            except PASSING as error:
                self._crew.hooks.loop_troubled(f"ticker {self.name}", error, backoff.attempts + 1)
                await self._stop.sleep(backoff.next_pause())
                continue
            if answer.outcome == "tick":
                return Tick(self.name, datetime.fromtimestamp(answer.due, UTC))
            if answer.outcome == "gone":
                break
            await self._stop.sleep(answer.until_next + 0.001)
        raise StopAsyncIteration

    async def _take(self, request: str) -> StoredTick:
        answer = await self._crew.store.tick(
            self.name,
            self.every,
            request,
            make=not self._is_made,
            first=self._first,
            all_ticks=self._missed == "all",
        )
        self._is_made = True
        return answer

    async def stop(self) -> None:
        """Stop the ticker: it ends on every node."""
        await self._crew.store.stop_ticker(self.name, self.every)
