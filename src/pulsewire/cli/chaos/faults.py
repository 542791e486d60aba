"""The faults: each a function that lets one happen and returns when it is over.

Whom they hit is drawn elsewhere, or here, where it is a command or a way to end a connection.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from pulsewire.cli.chaos.plan import Weather
from pulsewire.cli.demo.crew import Member
from pulsewire.testing import FaultProxy, SingleServer

__all__ = ["ON_EVERYBODY", "Place", "freeze"]

_SWALLOWED = ("XADD", "EVALSHA", "XREADGROUP", None)
_HIT_WITHIN = 5.0
_FLUSHES = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where faults happen, and what they are drawn with."""

    server: SingleServer
    proxy: FaultProxy
    rng: random.Random


Blow = Callable[[Place], Awaitable[str]]
"""Lets something happen to everybody; what it was, in words."""


async def freeze(member: Member, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    os.kill(member.pid, signal.SIGSTOP)
    try:
        await anyio.sleep(seconds)
    finally:
        os.kill(member.pid, signal.SIGCONT)


async def _restart(at: Place) -> str:
    away = at.rng.uniform(0.1, 1.5)
    await at.server.kill()
    await anyio.sleep(away)
    await at.server.restart()
    return f"killed the server with SIGKILL, restarted it {away:.1f} s later"


async def _cut(at: Place) -> str:
    cut = at.proxy.cut(at.rng.choice(("rst", "fin")))
    return f"cut {cut} connections"


async def _swallow(at: Place) -> str:
    command = at.rng.choice(_SWALLOWED)
    fault = at.proxy.swallow_reply(command, every=at.rng.randrange(1, 8), then="cut")
    with contextlib.suppress(AssertionError):  # nobody has sent such a command
        await fault.wait_hit(timeout=_HIT_WITHIN)
    fault.disarm()
    hit = "swallowed the reply to" if fault.hits else "waited in vain for"
    return f"{hit} {command or 'some command'}"


async def _flush(at: Place) -> str:
    for _ in range(_FLUSHES):
        await at.server.command("SCRIPT", "FLUSH")
        await anyio.sleep(at.rng.uniform(0.01, 0.05))
    return f"flushed the script cache {_FLUSHES} times"


ON_EVERYBODY: dict[Weather, Blow] = {
    Weather.RESTART: _restart,
    Weather.CUT: _cut,
    Weather.SWALLOW: _swallow,
    Weather.FLUSH: _flush,
}
"""Those that concern the server and the connections to it."""
