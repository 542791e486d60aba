"""Dead letters: an event whose handler keeps failing is delivered a few times, then put aside.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import logging

import anyio

import pulsewire

PAYMENTS = ["10.00", "a lot", "20.00"]


async def book(event: pulsewire.Event[str]) -> None:
    """Book a payment; an amount that is no number raises, and the event stays unacknowledged."""
    print(f"delivery {event.deliveries} of {event.payload!r}")
    float(event.payload)


async def main() -> None:
    """Consume payments until the bad one is a dead letter."""
    logging.basicConfig(level=logging.ERROR)
    async with pulsewire.connect() as hub:
        payments = hub.stream("incoming-payments", codec=pulsewire.TEXT)
        rejected = hub.stream("rejected-payments", codec=pulsewire.TEXT)
        for amount in PAYMENTS:
            await payments.add("payment", amount)

        async with (
            payments.sink(
                "booking",
                start="oldest",
                ack_grace=0.5,  # seconds until an event that failed comes again
                max_deliveries=3,
                dead_letter=rejected,
            ) as sink,
            rejected.reader(start="oldest") as reader,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(sink.consume, book)
            async for letter in reader:
                print(f"put aside: {letter.name} {letter.payload!r}")
                break
            sink.stop()

        await payments.destroy()
        await rejected.destroy()


if __name__ == "__main__":
    anyio.run(main)
