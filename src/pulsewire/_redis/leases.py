"""Keeping leases: one duty every so often, from a thread with an event loop and connections of its own.

A handler that blocks the event loop must not cost the leases of everything else in its process. The thread shares
nothing with the main loop but what the duty is given; a duty that fails for a passing reason is tried again at once,
with short pauses, and anything else is told to the main loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.hooks import NO_HOOKS
from pulsewire._core.loops import PASSING
from pulsewire._redis.link import Link

LEAST_SILENCE = 0.3
GOODBYE = 5.0
"""Seconds that ending the thread may take."""

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
    ) -> None:
        """Prepare.

        Args:
            link: of the hub; the thread makes a twin of it.
            every: seconds between two passes.
            duty: one pass; runs in the thread.
            on_failed: told, on the main loop, what ended the thread.
            logger: where lasting trouble is said.
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

    def start(self) -> None:
        """Begin; the first pass comes as soon as the thread has connected."""
        self._thread.start()

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
                    while not self._is_stopping:
                        await self._one_pass(link, backoff)
            except PASSING as error:  # it could not even connect
                self._note(error, backoff)
                await asyncio.sleep(backoff.next_pause())

    async def _one_pass(self, link: Link, backoff: Backoff) -> None:
        pause = self._every
        try:
            await self._duty(link)
            backoff.reset()
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
        level = logging.WARNING if backoff.attempts == 3 else logging.DEBUG
        self._logger.log(level, "leases could not be renewed", extra={"why": str(error)})
