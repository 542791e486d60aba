"""Duties that go on until their owner stops: timing, jitter, and retry of passing trouble.

A duty is one ordinary async function that makes one pass. What may pass by itself (no server for now, a write whose
outcome is unknown, refused credentials, a full server) is counted and tried again with full-jitter pauses, at WARNING
once it lasts. Anything else ends the owner. Every loop is in the hub's register of vital signs (`vitals.py`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.hooks import Hooks
from pulsewire._core.vitals import Vital, Ward, no_ward, watched
from pulsewire.errors import AuthenticationFailed, OutcomeUnknown, ServerFull, ServerUnavailable

PASSING = (ServerUnavailable, OutcomeUnknown, AuthenticationFailed, ServerFull)
LASTING = 4
"""Failures in a row after which trouble is worth a WARNING, and again each time their number has doubled."""
RETRY_BASE = 0.05
RETRY_CAP = 2.0


class Stop:
    """A flag that ends loops, and that their pauses wait on."""

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._event = anyio.Event()

    def set(self) -> None:
        """Ask every loop to end after its pass."""
        self.is_set = True
        self._event.set()

    async def wait(self) -> None:
        """Return once it is set."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Pause, or return early when it is set."""
        with anyio.move_on_after(seconds):
            await self._event.wait()


@dataclass(frozen=True, slots=True)
class LoopContext:
    """What loops report to, and what stops them."""

    stop: Stop
    hooks: Hooks
    logger: logging.Logger
    ward: Ward = field(default_factory=no_ward)


async def keep_doing(name: str, duty: Callable[[], Awaitable[None]], context: LoopContext) -> None:
    """Make one pass after the other, without pause while all is well."""
    backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
    with _in_sight(name, context) as vital:
        while not context.stop.is_set:
            await _one_pass(name, duty, context, backoff, vital)


async def do_every(
    name: str, seconds: float, duty: Callable[[], Awaitable[None]], context: LoopContext
) -> None:
    """Make a pass about every `seconds` (jittered by 20%, so that a fleet does not march in step)."""
    with _in_sight(name, context) as vital:
        await _keep_doing_every(name, seconds, duty, context, vital)


async def do_at_once_and_every(
    name: str, seconds: float, duty: Callable[[], Awaitable[None]], context: LoopContext
) -> None:
    """Make one pass now, then go on as `do_every`: for duties whose owner may not live that long."""
    with _in_sight(name, context) as vital:
        await _one_pass(name, duty, context, Backoff(base=RETRY_BASE, cap=RETRY_CAP), vital)
        await _keep_doing_every(name, seconds, duty, context, vital)


async def _keep_doing_every(
    name: str,
    seconds: float,
    duty: Callable[[], Awaitable[None]],
    context: LoopContext,
    vital: Vital,
) -> None:
    backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
    while not context.stop.is_set:
        await context.stop.sleep(seconds * random.uniform(0.8, 1.2))
        if not context.stop.is_set:
            await _one_pass(name, duty, context, backoff, vital)


@contextmanager
def _in_sight(name: str, context: LoopContext) -> Iterator[Vital]:
    """Have the loop in the register while it lasts; longer if an error ends it, until its owner ends."""
    vital = context.ward.watch(name, flag=context.stop)
    try:
        with watched(vital):
            yield vital
    except Exception as error:
        vital.die(error)
        raise
    except BaseException:
        vital.close()
        raise
    vital.close()


async def _one_pass(
    name: str,
    duty: Callable[[], Awaitable[None]],
    context: LoopContext,
    backoff: Backoff,
    vital: Vital,
) -> None:
    vital.begin()
    try:
        await duty()
    except PASSING as error:
        vital.fail(error)
        pause = backoff.next_pause()
        failures = backoff.attempts
        context.hooks.loop_troubled(name, error, failures)
        if failures >= LASTING and failures & (failures - 1) == 0:
            context.logger.warning(
                "trouble lasts, trying again",
                extra={"duty": name, "why": str(error), "failures": failures},
            )
        await context.stop.sleep(pause)
    else:
        if backoff.attempts >= LASTING:
            context.logger.warning(
                "trouble is over", extra={"duty": name, "failures": backoff.attempts}
            )
        backoff.reset()
        vital.beat()
