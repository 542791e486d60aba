"""Keeping in touch with the servers of a link, for a hub whose health is asked for.

A lane connects when somebody needs it. Where nobody does, an outage that is over would never be noticed: a hub that is
taken out of service since it is not ready gets no work, and so asks for nothing. So lanes that were lost are opened
again here. And each server is asked something once a second: who answers slowly is slow, also to those who ask without
pause and would not notice. All else is known already (`Lane.since`, `silent_since`).
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import anyio

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.lag import Recent
from pulsewire._core.vitals import WaySign
from pulsewire._redis.lane import Lane
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import PulsewireError

EVERY = 1.0
PATIENCE = 2.0
"""Seconds that one look waits for a server; attempts to connect go on behind its back for as long as somebody asks."""


class Contact:
    """The ways from one link to its servers."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._answers: WeakKeyDictionary[Lane, Recent] = WeakKeyDictionary()
        self._asked_at: WeakKeyDictionary[Lane, float] = WeakKeyDictionary()  # and not answered

    def signs(self) -> Iterator[WaySign]:
        """How each of them is."""
        now = SYSTEM_CLOCK.monotonic()
        for lane in self._link.lanes():
            silent = lane.silent_since
            yield WaySign(
                lane.address,
                lane.connection is not None,
                max(now - lane.since, 0.0),
                0.0 if silent is None else max(now - silent, 0.0),
                lane.last_trouble,
                self._round_trip(lane, now),
            )

    def _round_trip(self, lane: Lane, now: float) -> float:
        waiting = max(now - self._asked_at.get(lane, now), 0.0)
        answers = self._answers.get(lane)
        return waiting if answers is None else max(waiting, answers.worst)

    async def keep_once(self) -> None:
        """Open the ways that were lost, and ask everybody something."""
        lanes = self._link.lanes()
        async with anyio.create_task_group() as asking:
            for lane in lanes:
                asking.start_soon(self._ask, lane)
        if not all(_is_well(lane) for lane in lanes):
            with anyio.move_on_after(PATIENCE):
                await self._link.look_around()

    async def _measure(self, lane: Lane, connection: JoinedConnection) -> None:
        """Ask, and note how long that takes; also where nobody waits for the end of it."""
        asked_at = self._asked_at[lane] = SYSTEM_CLOCK.monotonic()
        try:
            await connection.submit(("PING",))
        finally:
            del self._asked_at[lane]
            recent = self._answers.setdefault(lane, Recent())
            recent.note(SYSTEM_CLOCK.monotonic() - asked_at)

    async def _ask(self, lane: Lane) -> None:
        with anyio.move_on_after(PATIENCE + EVERY):
            try:
                connection = await lane.ready(PATIENCE)
                await self._measure(lane, connection)
            except ReplyError:
                lane.silent_since = None  # whatever it says, it speaks
            except PulsewireError:
                return  # the lane has taken note
            else:
                lane.silent_since = None


def _is_well(lane: Lane) -> bool:
    return lane.connection is not None and lane.silent_since is None
