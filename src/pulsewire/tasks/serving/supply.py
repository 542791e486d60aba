"""Where a server's tasks come from: it takes as many as it has places for, and waits in Redis while there are none.

A queue that gave less than it was asked for is not asked again until its waiter has seen something in it. The waiter
blocks in `BLMOVE pending pending RIGHT RIGHT`, which returns as soon as there is an element and changes nothing.
"""

from __future__ import annotations

import asyncio
import random
import time

from pulsewire._core.backoff import Backoff
from pulsewire._core.loops import PASSING
from pulsewire._core.vitals import going_on, resting
from pulsewire._redis.blocking import LONGEST_BLOCK
from pulsewire._redis.scripts import text
from pulsewire.errors import DecodeError, ServerFull, ServerUnavailable
from pulsewire.tasks.serving.attempts import Attempts
from pulsewire.tasks.serving.crew import Crew
from pulsewire.tasks.serving.order import Order
from pulsewire.tasks.serving.place import Attempt, QueuePlace
from pulsewire.tasks.store import AT_ONCE, PAGE, Leaving, Taken
from pulsewire.tasks.wire import decode_message

DEFERRED_FOR = (0.2, 1.0)
"""Seconds, at random, for which tasks wait that are to run alone while another one does; rounded up to a whole second
of the server's clock, as all that waits in `retry`."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at a queue that is paused."""


class Supply:
    """Takes tasks for one server."""

    def __init__(self, crew: Crew, attempts: Attempts) -> None:
        options = crew.options
        self._places = crew.places
        self._order = Order(options.queues, strict=options.strict)
        self._attempts = attempts
        self._owner = crew.server
        self._suspicious = options.suspicious
        self._lease = options.lease
        self._clock = crew.clock
        self._stop = crew.taking.stop
        self._hooks = crew.hooks
        self._logger = crew.logger
        self._wake = asyncio.Event()
        self._doubtful: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        attempts.on_room = self.wake

    def wake(self) -> None:
        """There may be something to take, or a place for it."""
        self._wake.set()

    # --- taking

    async def take_once(self) -> None:
        """Take what there is room for; wait if there is none, or nothing to take."""
        ready = [name for name, place in self._places.items() if place.may_have_tasks]
        wanted = self._attempts.wanted
        if not wanted or not (ready or self._doubtful):
            self._wake.clear()
            with resting():
                await self._wake.wait()
            return
        self._idle.clear()
        try:
            await self._take_shares(wanted, ready)
        finally:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Return once it is known what was taken; call it when the taking has been stopped."""
        await self._idle.wait()
        if self._doubtful:
            await self._find_taken()

    async def _take_shares(self, wanted: int, ready: list[str]) -> None:
        if self._doubtful:
            await self._find_taken()
        if not ready:
            return
        shares = self._order.share(min(wanted, AT_ONCE * len(ready)), ready)
        pairs = list(shares.items())
        if len(pairs) == 1:
            await self._take(self._places[pairs[0][0]], pairs[0][1])
            return
        results = await asyncio.gather(
            *(self._take(self._places[name], count) for name, count in pairs),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _take(self, place: QueuePlace, count: int) -> None:
        count = min(count, AT_ONCE)
        asked_at = time.monotonic()
        try:
            taken = await place.store.take(count, self._lease, self._owner)
        except PASSING:
            self._doubtful.add(place.name)  # some may be active whose ids nobody knows
            raise
        if taken.outcome != "taken":
            place.found_dry(is_paused=taken.outcome == "paused")
            return
        if self._is_late(asked_at):  # the loop stood still: some may be run elsewhere by now
            self._doubtful.add(place.name)
            return
        self._clock.note(taken.now)
        if len(taken.tasks) + len(taken.gone) < count:
            place.found_dry(is_paused=False)
        if taken.gone:
            self._hooks.tasks_gone(place.name, len(taken.gone))
        await self._begin(place, taken, asked_at)

    def _is_late(self, asked_at: float) -> bool:
        """Whether leases that were given by a request of that time may not be trusted any more."""
        return time.monotonic() - asked_at > self._lease / 2

    async def _begin(self, place: QueuePlace, taken: Taken, asked_at: float) -> None:
        attempts: list[Attempt] = []
        deferred: list[Attempt] = []
        unreadable: list[str] = []
        now = taken.now
        for raw_id, data, since in taken.tasks:
            task_id = text(raw_id)
            try:
                message = decode_message(data, task_id)
            except DecodeError as error:
                self._hooks.task_malformed(place.name, task_id, error.reason)
                unreadable.append(task_id)
                continue
            attempt = Attempt(place, task_id, message, asked_at)
            attempt.waited = max(now - int(since) / 1e9, 0.0) if since.isdigit() else 0.0
            if (before := place.held.get(task_id)) is not None:
                # it was recovered elsewhere meanwhile, and has come back
                self._attempts.lost(before)
            place.held[task_id] = attempt
            attempt.lost = taken.lost.get(raw_id, 0)
            if attempt.lost < self._suspicious:
                attempts.append(attempt)
            elif not self._attempts.isolate(attempt):
                deferred.append(attempt)
        self._attempts.add(attempts)
        if deferred:
            await self._defer(place, deferred)
        if unreadable:
            shelved = [Leaving(task_id, "shelve") for task_id in unreadable]
            self._logger.error(
                "records that are no task messages were archived as they are",
                extra={"queue": place.name, "tasks": unreadable},
            )
            await place.store.leave(self._owner, shelved, self._clock.day())

    async def _defer(self, place: QueuePlace, attempts: list[Attempt]) -> None:
        """Try those later whose servers died again and again, since one at a time is run alone."""
        later = [
            Leaving(attempt.task_id, "defer", number=random.uniform(*DEFERRED_FOR))
            for attempt in attempts
        ]
        backoff = Backoff(base=0.05, cap=2.0)
        try:
            while True:  # nothing is taken meanwhile, so that what has left cannot be here anew
                try:
                    await place.store.leave(self._owner, later, self._clock.day())
                except PASSING as error:
                    if self._stop.is_set:
                        raise
                    self._hooks.loop_troubled("putting tasks off", error, backoff.attempts + 1)
                    await self._stop.sleep(backoff.next_pause())
                else:
                    return
        finally:  # what is held is renewed, and nobody would ever run it
            for attempt in attempts:
                place.let_go(attempt)

    async def _find_taken(self) -> None:
        """Find tasks that were taken by a request whose reply was lost."""
        for name in tuple(self._doubtful):
            place = self._places[name]
            start, asked_at = 0, time.monotonic()
            found: list[tuple[bytes, bytes, bytes]] = []
            lost: dict[bytes, int] = {}
            while True:
                looked_at, mine = await place.store.mine(self._owner, start, self._lease)
                for task_id, message, times in mine:
                    if text(task_id) not in place.held:
                        found.append((task_id, message, b""))
                        lost[task_id] = times
                start += PAGE
                going_on()
                if looked_at < PAGE:
                    break
            if self._is_late(asked_at):
                continue  # as in `_take`; it is looked at again
            await self._begin(place, Taken("taken", self._clock.now(), (), lost, found), asked_at)
            self._doubtful.discard(name)

    # --- waiting

    async def wait_once(self, place: QueuePlace) -> None:
        """Wait until a queue that was found dry may have tasks again."""
        stop = self._stop
        if place.may_have_tasks:
            with resting():
                await place.dry.wait()
        if stop.is_set:
            return
        if place.is_paused:
            await stop.sleep(LOOK_AGAIN)
            found = True
        else:
            await place.waiter.open(LONGEST_BLOCK)
            pending = place.keys.pending
            try:
                found = await place.waiter.call(
                    "BLMOVE", pending, pending, "RIGHT", "RIGHT", LONGEST_BLOCK
                )
            except ServerFull:
                # it refuses BLMOVE, since that might need memory; taking it does not
                await stop.sleep(LOOK_AGAIN)
                found = True
            except ServerUnavailable:
                if stop.is_set:
                    return
                raise
        if found is not None:
            place.found_filled()
            self.wake()

    async def stop(self) -> None:
        """End the waiting; the context's flag is set before."""
        self.wake()
        for place in self._places.values():
            place.dry.set()
        await asyncio.gather(*(place.waiter.unblock() for place in self._places.values()))

    def close(self) -> None:
        """Drop the connections that waited."""
        for place in self._places.values():
            place.waiter.close()
