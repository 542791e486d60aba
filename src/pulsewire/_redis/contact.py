"""Keeping in touch with the servers of a link, for a hub whose health is asked for.

A lane connects when somebody needs it. Where nobody does, an outage that is over would never be noticed: a hub that is
taken out of service since it is not ready gets no work, and so asks for nothing. So lanes that were lost are opened
again here, and a server that was silent is asked something. All else is known already (`Lane.since`, `silent_since`).
"""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.vitals import WaySign
from pulsewire._redis.lane import Lane
from pulsewire._redis.link import Link
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import PulsewireError

EVERY = 1.0
PATIENCE = 2.0
"""Seconds that one look waits for a server; attempts to connect go on behind its back for as long as somebody asks."""


class Contact:
    """The ways from one link to its servers."""

    def __init__(self, link: Link) -> None:
        self._link = link

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
            )

    async def keep_once(self) -> None:
        """Open the ways that were lost, and ask where there was silence."""
        lost = [lane for lane in self._link.lanes() if not _is_well(lane)]
        if not lost:
            return
        async with anyio.create_task_group() as asking:
            for lane in lost:
                asking.start_soon(self._ask, lane)
        if not all(_is_well(lane) for lane in lost):
            with anyio.move_on_after(PATIENCE):
                await self._link.look_around()

    @staticmethod
    async def _ask(lane: Lane) -> None:
        with anyio.move_on_after(PATIENCE + EVERY):
            try:
                connection = await lane.ready(PATIENCE)
                await connection.submit(("PING",))
            except ReplyError:
                lane.silent_since = None  # whatever it says, it speaks
            except PulsewireError:
                return  # the lane has taken note
            else:
                lane.silent_since = None


def _is_well(lane: Lane) -> bool:
    return lane.connection is not None and lane.silent_since is None
