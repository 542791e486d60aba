"""Hearing that tasks shall be cancelled: the subscription to `asynq:cancel` (spec/asynq.md 3.5, Cancel)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from pulsewire._core.vitals import resting
from pulsewire._redis.notifier import Notifier, Probe


class Cancellations:
    """Hears the ids of tasks to cancel. What is said while the connection is down is not heard."""

    def __init__(self, notifier: Notifier, channel: str, cancel: Callable[[str], None]) -> None:
        self.key = ""
        self.channel = channel
        self._notifier = notifier
        self._cancel = cancel
        self._cut = anyio.Event()

    async def listen_once(self, on_ready: Callable[[], None]) -> None:
        """Subscribe, and return when the subscription has ended."""
        self._cut = anyio.Event()
        subscription = await self._notifier.subscribe(self, everywhere=True)
        on_ready()
        try:
            with resting():
                await self._cut.wait()
        finally:
            subscription.end()

    def hear(self, message: bytes) -> None:
        """A task shall be cancelled."""
        self._cancel(message.decode(errors="replace"))

    def probes(self) -> Iterable[Probe]:
        """Notice a connection that has gone silent."""
        return [(("PING",), lambda _: None)]

    def cut_off(self, reason: str) -> None:
        """The subscription has ended."""
        self._cut.set()
