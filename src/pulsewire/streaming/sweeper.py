"""The duties of a sink that go on beside reading: claiming, keeping, tidying.

| duty | about every | does |
|---|---|---|
| claim | ack_grace / 4, 0.1 to 5 s | takes over what silent consumers left, as much as is wanted here |
| | while there is more | the same, whenever there is room |
| keep | ack_grace / 4 | resets the idle time of what is held here |
| tidy | at the start, then 2 x ack_grace, at least 60 s | deletes silent consumers that have nothing pending |

Who is silent is judged by the server alone, from the idle time of each pending entry (spec/pulse.md S4). There is no
lease among sinks: two that claim at once get different events (S7). Events whose next delivery is the last one are
taken one at a time, so that one that ends the processes it meets takes no others with it to the dead letters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from pulsewire._core.loops import PASSING, LoopContext, do_at_once_and_every, do_every
from pulsewire._core.tasks import OwnedTasks
from pulsewire._core.vitals import going_on
from pulsewire.errors import ServerError
from pulsewire.streaming.inbox import Inbox
from pulsewire.streaming.share import Share
from pulsewire.streaming.wire import Event

CLAIM_AT_ONCE = 100
LEAST_CLAIM_PERIOD = 0.1
LONGEST_CLAIM_PERIOD = 5.0
LEAST_TIDY_PERIOD = 60.0
SUSPECT_PERIOD = 0.02
"""Seconds between two looks whether a suspect is finished, while there is one."""


class Sweeper:
    """Runs the duties for all shares of a sink."""

    def __init__(
        self,
        shares: Callable[[], Iterable[Share[Any]]],
        dismiss: Callable[[Share[Any]], Awaitable[None]],
        inbox: Inbox[Event[Any]],
        ack_grace: float,
    ) -> None:
        """Prepare.

        Args:
            shares: all that the sink has, also of streams that were removed.
            dismiss: is given those of streams that were removed.
            inbox: of the sink.
            ack_grace: of the sink.
        """
        self._shares = shares
        self._dismiss = dismiss
        self._inbox = inbox
        self._ack_grace = ack_grace
        self._loop = asyncio.get_running_loop()
        self._tasks: OwnedTasks | None = None
        self._followed: set[Share[Any]] = set()
        self._continued: set[Share[Any]] = set()

    def start(self, tasks: OwnedTasks, context: LoopContext) -> None:
        """Start all duties."""
        self._tasks = tasks
        quarter = self._ack_grace / 4
        claim_period = min(max(quarter, LEAST_CLAIM_PERIOD), LONGEST_CLAIM_PERIOD)
        tidy_period = max(2 * self._ack_grace, LEAST_TIDY_PERIOD)
        tasks.start_soon(do_every, "claim", claim_period, self.claim_once, context)
        tasks.start_soon(do_every, "keep", quarter, self.keep_once, context)
        tasks.start_soon(do_at_once_and_every, "tidy", tidy_period, self.tidy_once, context)

    async def claim_once(self) -> None:
        """Take over what is wanted here from consumers that went silent."""
        for share in list(self._shares()):
            going_on()
            wanted = self._wanted()
            brought = await share.claim_once(wanted)
            if self._tasks is None:
                continue
            if share.has_suspect and share not in self._followed:
                self._followed.add(share)
                self._tasks.start_soon(self._follow_suspects, share)
            if 0 < wanted <= brought and share not in self._continued:
                self._continued.add(share)
                self._tasks.start_soon(self._claim_the_rest, share)

    def _wanted(self) -> int:
        return min(max(self._inbox.room(), 0), CLAIM_AT_ONCE)

    async def _follow_suspects(self, share: Share[Any]) -> None:
        """Take one suspect after the other, as soon as the one before is finished."""
        try:
            while share.has_suspect:
                await asyncio.sleep(SUSPECT_PERIOD)
                if not share.has_suspect:
                    with suppress(*PASSING):  # the duty meets it, too
                        await share.claim_once(self._wanted())
        finally:
            self._followed.discard(share)

    async def _claim_the_rest(self, share: Share[Any]) -> None:
        """A claim has brought all that was wanted: there may be more, which is wanted as soon as there is room."""
        wanted = brought = 1
        try:
            while 0 < wanted <= brought:
                await self._inbox.wait_room()
                if self._inbox.is_ended:
                    return
                wanted, brought = self._wanted(), 0
                with suppress(*PASSING):  # as above
                    brought = await share.claim_once(wanted)
        finally:
            self._continued.discard(share)

    async def keep_once(self) -> None:
        """Keep what is held. When nobody has taken anything for ack_grace, let others have what is buffered."""
        stalled = (
            len(self._inbox) > 0 and self._loop.time() - self._inbox.taken_at > self._ack_grace
        )
        if stalled:
            self._inbox.stall()
        for share in list(self._shares()):
            going_on()
            if stalled:
                await share.release_buffered()
            if len(share.holdings):
                await share.refresh_once()
            elif share.is_leaving:
                await self._dismiss(share)

    async def tidy_once(self) -> None:
        """Delete consumers that went silent and hold nothing."""
        silence = max(2 * self._ack_grace, LEAST_TIDY_PERIOD)
        for share in list(self._shares()):
            if share.is_leaving:
                continue
            going_on()
            share.note_again()
            try:
                await share.source.store.sweep(
                    share.rules.sink, share.rules.consumer, min_idle=silence
                )
            except ServerError as error:
                await share.mend(error)
