"""What the processes of the act do: publish tickets, or handle them; and journal it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import anyio

import pulsewire
from pulsewire.cli import tickets
from pulsewire.cli.demo.journal import Arrived, Handled, JournalWriter, Published
from pulsewire.cli.demo.lifeline import while_parent_lives
from pulsewire.cli.running import Signals

__all__ = ["consume", "publish"]


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
