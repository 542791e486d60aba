"""The consumer of the tickets article: handles tickets and waits for more, until Ctrl-C.

Start it in as many terminals as you like: they share the tickets evenly, and if one dies the others take over what it
had in its hands. Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import logging

import anyio

import pulsewire

log = logging.getLogger("consumer")


async def handle(event: pulsewire.Event[dict[str, str | bytes]]) -> None:
    """Handle one event of the stream; it is acknowledged when this returns."""
    if event.payload.get("whatHappened") == "ticket received":
        log.info(
            "Handling new ticket id : %s data %s",
            event.payload["ticketID"],
            event.payload["ticketData"],
        )
        await anyio.sleep(0.1)


async def main() -> None:
    """Consume until the process is told to end."""
    log.info("Consumer started")
    async with pulsewire.connect() as hub:
        await hub.ping()
        log.info("Connected to Redis server")
        tickets = hub.stream("tickets", key="tickets", codec=pulsewire.FIELDS, max_len=0)
        async with tickets.sink("tickets-consumer-group", start="oldest") as sink:
            await sink.consume(handle)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y/%m/%d %H:%M:%S"
    )
    try:
        anyio.run(main)
    except KeyboardInterrupt:
        log.info("Consumer stopped")
