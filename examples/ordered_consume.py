"""Ordered consumption: many events at the same time, but those of one customer one after the other.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

from collections import defaultdict

import anyio

import pulsewire

CUSTOMERS = ["ada", "grace", "edsger", "barbara"]
STEPS = ["basket", "address", "payment", "receipt"]


class Shop:
    """Handles checkouts, and notes in which order and how many at a time."""

    def __init__(self) -> None:
        self.steps: defaultdict[str, list[str]] = defaultdict(list)
        self.handled = 0
        self.running = 0
        self.most_at_once = 0

    async def handle(self, event: pulsewire.Event[str]) -> None:
        """Take some time over one step of one customer."""
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        await anyio.sleep(0.02)
        self.running -= 1
        self.steps[event.topic].append(event.name)
        self.handled += 1


async def main() -> None:
    """Consume the interleaved steps of all customers."""
    shop = Shop()
    async with pulsewire.connect() as hub:
        checkouts = hub.stream("checkouts", codec=pulsewire.TEXT)
        for step in STEPS:
            for customer in CUSTOMERS:
                await checkouts.add(step, "", topic=customer)

        async with checkouts.sink("shop", start="oldest") as sink:

            async def handle(event: pulsewire.Event[str]) -> None:
                await shop.handle(event)
                if shop.handled == len(STEPS) * len(CUSTOMERS):
                    sink.stop()

            await sink.consume(handle, concurrency=8, ordered_by=lambda event: event.topic)

        await checkouts.destroy()
    for customer, steps in sorted(shop.steps.items()):
        print(f"{customer}: {' '.join(steps)}")
    print(f"handled at the same time: {shop.most_at_once}")


if __name__ == "__main__":
    anyio.run(main)
