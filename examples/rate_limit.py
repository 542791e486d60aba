"""A global rate limit: all services count the requests of a client together, in windows by the server's clock.

What it is: the counter is exact, since each `inc` is one atomic step on the server. What it is not: windows are fixed,
so a client may use up one limit just before a border and the next one just after it; and each service knows the
server's clock to within half a round trip.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import time

import anyio

import pulsewire

LIMIT = 20
WINDOW = 3600  # seconds


class RateLimit:
    """At most `LIMIT` requests of a client per window, over all services. Make one with `open`."""

    def __init__(self, counters: pulsewire.ReplicatedMap[str], clock_offset: float) -> None:
        self._counters = counters
        self._clock_offset = clock_offset
        self._window = 0

    @classmethod
    async def open(cls, hub: pulsewire.Hub, counters: pulsewire.ReplicatedMap[str]) -> RateLimit:
        """Find out the server's clock; local monotonic time goes on from there."""
        return cls(counters, await hub.time() - time.monotonic())

    async def allows(self, client: str) -> bool:
        """Count a request and say whether it may go on."""
        window = int((time.monotonic() + self._clock_offset) // WINDOW)
        key = f"{window}:{client}"
        # Counts only rise within a window: one that is too high here is so on the server, too. No need to ask.
        if int(self._counters.get(key, "0")) >= LIMIT:
            return False
        try:
            count = await self._counters.inc(key)
        except (pulsewire.ServerUnavailable, pulsewire.OutcomeUnknown):
            return True  # what cannot be counted is allowed; your choice
        if window > self._window:
            self._window = window
            await self._forget_before(window)
        return count <= LIMIT

    async def _forget_before(self, window: int) -> None:
        for key in self._counters.keys():  # noqa: SIM118  # of one moment, while others write
            if int(key.partition(":")[0]) < window - 1:
                await self._counters.delete(key)


async def serve(name: str, requests: int) -> int:
    """One service of the fleet; usually a process of its own. How many requests it let through."""
    async with (
        pulsewire.connect(wait_for_server=1.0) as hub,  # better an answer soon than an exact one
        hub.map("rate-limit", sliding_ttl=2 * WINDOW) as counters,  # vanishes when nobody calls
    ):
        limit = await RateLimit.open(hub, counters)
        answers = [await limit.allows("client-7") for _ in range(requests)]
        print(f"{name}: {len(answers)} requests")
        return sum(answers)


async def main() -> None:
    """Three services get more requests of one client than the limit allows."""
    allowed: list[int] = []

    async def note(name: str) -> None:
        allowed.append(await serve(name, 10))

    async with anyio.create_task_group() as fleet:
        for name in ("web-1", "web-2", "web-3"):
            fleet.start_soon(note, name)
    print(f"allowed {sum(allowed)} of 30")


if __name__ == "__main__":
    anyio.run(main)
