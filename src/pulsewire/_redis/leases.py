"""Keeping leases: one duty every so often, from a thread with an event loop and connections of its own.

A handler that blocks the event loop must not cost the leases of everything else in its process. The thread shares
nothing with the main loop but what the duty is given; a duty that fails for a passing reason is tried again at once,
with short pauses, and anything else is told to the main loop. How old the leases are is in the hub's register of vital
signs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.hooks import NO_HOOKS
from pulsewire._core.loops import PASSING
from pulsewire._core.vitals import PASS_WITHIN, AgeSign, Ward, no_ward
from pulsewire._redis.link import Link

LEAST_SILENCE = 0.3
GOODBYE = 5.0
"""Seconds that ending the thread may take."""
GETTING_OLD = 2 / 3
"""Which part of their length leases may have gone unrenewed before that is a problem."""

Duty = Callable[[Link], Awaitable[None]]


class LeaseThread:
    """A thread that keeps doing one duty. Start and end it from the main loop."""

    def __init__(
        self,
        link: Link,
        every: float,
        duty: Duty,
        on_failed: Callable[[BaseException], None],
        logger: logging.Logger,
        *,
        ward: Ward | None = None,
        length: float | None = None,
    ) -> None:
        """Prepare.

        Args:
            link: of the hub; the thread makes a twin of it.
            every: seconds between two passes.
            duty: one pass; runs in the thread.
            on_failed: told, on the main loop, what ended the thread.
            logger: where lasting trouble is said.
            ward: its owner's part of the register of vital signs.
            length: seconds that what is renewed lasts; by default that is not looked at.
        """
        self._options = replace(
            link.options,
            hooks=NO_HOOKS,  # they are the main loop's
            wait_for_server=max(every, LEAST_SILENCE),
            silence=min(link.options.silence, max(every, LEAST_SILENCE)),
        )
        self._link = link
        self._every = every
        self._duty = duty
        self._on_failed = on_failed
        self._logger = logger
        self._main = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="pulsewire-leases", daemon=True)
        self._own: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._is_stopping = False
        self._ended = asyncio.Event()
        self._ward = ward or no_ward()
        self._length = length
        self._renewed_at = 0.0
        self._vital = self._ward.watch("keeping leases", max(PASS_WITHIN, 2 * every))
        self._forget: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin; the first pass comes as soon as the thread has connected."""
        self._renewed_at = SYSTEM_CLOCK.monotonic()
        self._forget = self._ward.vitals.ask(self._signs)
        self._thread.start()

    def _signs(self) -> Iterator[AgeSign]:
        if self._length is not None:
            age = SYSTEM_CLOCK.monotonic() - self._renewed_at
            limit = self._length * GETTING_OLD
            yield AgeSign(self._ward.block, self._ward.owner, "leases", age, limit, self._length)

    def hurry(self) -> None:
        """Make a pass now."""
        own, wake = self._own, self._wake
        if own is not None and wake is not None:
            try:
                own.call_soon_threadsafe(wake.set)
            except RuntimeError:
                return  # the thread has just ended

    async def stop(self) -> None:
        """End the thread, once its pass is over."""
        self._forget()
        self._vital.close()
        if not self._thread.is_alive() and self._own is None:
            return
        self._is_stopping = True
        self.hurry()
        with anyio.move_on_after(GOODBYE, shield=True):
            await self._ended.wait()

    # --- in the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._keep_doing())
        except BaseException as error:  # noqa: BLE001  # told to the main loop, which ends by it
            self._vital.die(error)
            self.tell_main(self._on_failed, error)
        finally:
            self.tell_main(self._ended.set)

    def tell_main(self, what: Callable[..., object], *args: object) -> None:
        """Have the main loop call something soon."""
        try:
            self._main.call_soon_threadsafe(what, *args)
        except RuntimeError:
            return  # the main loop has ended before

    async def _keep_doing(self) -> None:
        self._own, self._wake = asyncio.get_running_loop(), asyncio.Event()
        backoff = Backoff(base=0.05, cap=max(self._every / 3, 0.05))
        while not self._is_stopping:
            try:
                async with self._link.twin(self._options) as link:
                    # what was renewed may be unknown at the new server
                    link.on_moved = self._wake.set
                    while not self._is_stopping:
                        await self._one_pass(link, backoff)
            except PASSING as error:  # it could not even connect
                self._note(error, backoff)
                await asyncio.sleep(backoff.next_pause())

    async def _one_pass(self, link: Link, backoff: Backoff) -> None:
        pause = self._every
        self._vital.begin()
        try:
            await self._duty(link)
            backoff.reset()
            self._renewed_at = SYSTEM_CLOCK.monotonic()
            self._vital.beat()
        except PASSING as error:
            self._note(error, backoff)
            pause = backoff.next_pause()
        wake = self._wake
        if wake is None:
            raise AssertionError("the thread has its event before its first pass")
        try:
            await asyncio.wait_for(wake.wait(), pause)
        except TimeoutError:
            return
        wake.clear()

    def _note(self, error: BaseException, backoff: Backoff) -> None:
        self._vital.fail(error)
        level = logging.WARNING if backoff.attempts == 3 else logging.DEBUG
        self._logger.log(level, "leases could not be renewed", extra={"why": str(error)})
