"""What the child processes of the demo do: publish tickets, or handle them.

Each writes its journal, waits on its standard input for the parent, and ends when that input ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

import pulsewire
from pulsewire.cli import tickets
from pulsewire.cli.demo.journal import Arrived, Handled, JournalWriter, Published
from pulsewire.cli.running import Signals

__all__ = ["consume", "publish", "wait_first", "while_parent_lives"]

_LAST_SECONDS = 5.0
"""How long a child whose parent is gone may take to leave the server in order."""
_PARENT_GONE = 3
"""Exit code for nobody to see."""


async def publish(
    journal: Path,
    *,
    url: str | None,
    namespace: str,
    count: int,
    rate: float,
    seed: int | None,
    ttl: float | None,
) -> int:
    """Publish tickets once the parent says go, and write each into the journal when the server has it."""

    async def work(go: anyio.Event) -> None:
        with JournalWriter(journal) as journaling:
            async with pulsewire.connect(url, namespace=namespace) as hub:
                journaling.write(Arrived(pid=os.getpid()))
                await go.wait()
                await tickets.publish_tickets(
                    tickets.ticket_stream(hub, ttl=ttl),
                    count,
                    rng=random.Random(seed),
                    rate=rate,
                    on_published=lambda event_id, ticket: journaling.write(
                        Published(event=event_id, ticket=ticket.number, at=time.time())
                    ),
                )

    await while_parent_lives(work)
    return 0


async def consume(
    journal: Path,
    signals: Signals,
    *,
    url: str | None,
    namespace: str,
    work: float,
    ack_grace: float,
    ttl: float | None,
) -> int:
    """Handle tickets until SIGTERM; write each into the journal before it is acknowledged."""

    async def serve(_: anyio.Event) -> None:
        with JournalWriter(journal) as journaling:
            async with pulsewire.connect(url, namespace=namespace) as hub:
                stream = tickets.ticket_stream(hub, ttl=ttl)
                async with stream.sink(tickets.GROUP, start="oldest", ack_grace=ack_grace) as sink:
                    journaling.write(Arrived(pid=os.getpid(), consumer=sink.consumer))
                    desk = _Desk(work, sink.consumer, journaling)
                    with signals.asking(sink.stop):
                        await sink.consume(tickets.handler_of(desk.handle), concurrency=1)

    await while_parent_lives(serve)
    return 0


class _Desk:
    """Where one consumer handles its tickets. The ack follows when `handle` has returned."""

    def __init__(self, work: float, consumer: str, journaling: JournalWriter) -> None:
        self._work = work
        self._consumer = consumer
        self._journaling = journaling

    async def handle(self, ticket: tickets.Ticket, event: pulsewire.Event[Any]) -> None:
        started = time.time()
        await anyio.sleep(self._work)
        self._journaling.write(
            Handled(
                event=event.id,
                ticket=ticket.number,
                consumer=self._consumer,
                started=started,
                ended=time.time(),
                deliveries=event.deliveries,
            )
        )


async def while_parent_lives(
    work: Callable[[anyio.Event], Awaitable[None]],
    leave: Callable[[], None] | None = None,
    *,
    within: float = _LAST_SECONDS,
) -> None:
    """Do `work` for as long as there is a parent.

    Args:
        work: Given the event that the parent's go sets.
        leave: Called when the parent is gone; else the work is cancelled.
        within: Seconds in which the process then ends, whatever happens.
    """
    go = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_parent, go, leave or tasks.cancel_scope.cancel, within)
        await work(go)
        tasks.cancel_scope.cancel()


async def wait_first(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of these returns."""
    async with anyio.create_task_group() as waiting:

        async def wait(one: Callable[[], Awaitable[object]]) -> None:
            await one()
            waiting.cancel_scope.cancel()

        for one in waits:
            waiting.start_soon(wait, one)


async def _watch_parent(go: anyio.Event, leave: Callable[[], None], within: float) -> None:
    while True:
        await anyio.wait_readable(sys.stdin)
        if not os.read(sys.stdin.fileno(), 1024):
            break
        go.set()
    # Leaving in order needs the server, which may be gone as well. Whatever happens, a child does not stay behind.
    asyncio.get_running_loop().call_later(within, os._exit, _PARENT_GONE)
    leave()
