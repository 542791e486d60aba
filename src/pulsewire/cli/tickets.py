"""The tickets of the article: what one looks like in the stream, how they are published, how they are handled.

The stream is a plain Redis stream named `tickets`, with the fields of the article, so any other program can write or
read it. Both the commands for several terminals (`ticket_commands.py`) and the demo use this; neither printing nor
processes are known here.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

import pulsewire

__all__ = [
    "GROUP",
    "RECEIVED",
    "STREAM",
    "Ticket",
    "handler_of",
    "publish_tickets",
    "ticket_of",
    "ticket_stream",
]

STREAM = "tickets"
"""Name and key of the stream."""
GROUP = "tickets-consumer-group"
"""The sink, and with it the consumer group, that all consumers share."""
RECEIVED = "ticket received"
"""What happened: the only event that consumers handle."""

_WHAT_HAPPENED = "whatHappened"
_NUMBER = "ticketID"
_DATA = "ticketData"
_SOME_DATA = "some ticket data"
_NUMBERS = 100_000_000
"""Ticket numbers are below this."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket.

    Attributes:
        number: Its `ticketID`, as text, since another publisher may number them otherwise.
        data: Its `ticketData`.
    """

    number: str
    data: str


def ticket_stream(hub: pulsewire.Hub, *, ttl: float | None = None) -> pulsewire.Stream[Any]:
    """Return the stream of tickets, without a limit of its length, as in the article.

    Args:
        hub: Where it is.
        ttl: Seconds after its last ticket when it goes by itself; None keeps it.
    """
    return hub.stream(
        STREAM,
        key=STREAM,
        codec=pulsewire.Fields(name=_WHAT_HAPPENED),
        max_len=0,
        sliding_ttl=ttl,
    )


async def publish_tickets(
    stream: pulsewire.Stream[Any],
    count: int,
    *,
    rng: random.Random,
    on_published: Callable[[str, Ticket], None],
    rate: float = 0.0,
) -> None:
    """Publish tickets with random numbers, one after the other.

    Args:
        stream: See `ticket_stream`.
        count: How many.
        rng: Draws the ticket numbers.
        on_published: Called with the event id and the ticket when the server has it.
        rate: Tickets per second; 0 is as fast as it goes.
    """
    began = anyio.current_time()
    for published in range(count):
        if rate:
            await anyio.sleep_until(began + published / rate)
        ticket = Ticket(number=str(rng.randrange(_NUMBERS)), data=_SOME_DATA)
        event_id = await stream.add(RECEIVED, {_NUMBER: ticket.number, _DATA: ticket.data})
        on_published(event_id, ticket)


def ticket_of(event: pulsewire.Event[Any]) -> Ticket | None:
    """Return the ticket of an event, or None when something else happened."""
    if event.name != RECEIVED:
        return None
    return Ticket(number=_text(event.payload.get(_NUMBER)), data=_text(event.payload.get(_DATA)))


def handler_of(
    work: Callable[[Ticket, pulsewire.Event[Any]], Awaitable[None]],
) -> Callable[[pulsewire.Event[Any]], Awaitable[None]]:
    """Return a handler of events which does `work` for received tickets and lets everything else pass."""

    async def handle(event: pulsewire.Event[Any]) -> None:
        ticket = ticket_of(event)
        if ticket is not None:
            await work(ticket, event)

    return handle


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
