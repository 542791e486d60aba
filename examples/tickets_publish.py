"""The publisher of the tickets article: 3,000 tickets into the plain stream `tickets`. Ends when they are published.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names. See tickets_consume.py for the other half.
"""

from __future__ import annotations

import logging
import random

import anyio

import pulsewire

log = logging.getLogger("publisher")


async def main() -> None:
    """Publish the tickets."""
    log.info("Publisher started")
    async with pulsewire.connect() as hub:
        await hub.ping()
        log.info("Connected to Redis server")
        tickets = hub.stream("tickets", key="tickets", codec=pulsewire.FIELDS, max_len=0)
        for _ in range(3000):
            log.info("Publishing event to Redis")
            await tickets.add(
                "",
                {
                    "whatHappened": "ticket received",
                    "ticketID": str(random.randrange(100_000_000)),
                    "ticketData": "some ticket data",
                },
            )


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y/%m/%d %H:%M:%S"
    )
    anyio.run(main)
