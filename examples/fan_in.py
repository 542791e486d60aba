"""Fan-in: one sink over several streams, which may come and go while it runs.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire


async def main() -> None:
    """Aggregate orders and payments, with refunds joining later."""
    async with pulsewire.connect() as hub:
        orders, payments, refunds = (
            hub.stream(name, codec=pulsewire.TEXT) for name in ("orders", "payments", "refunds")
        )
        await orders.add("order.created", "order 1")
        await payments.add("payment.received", "12.50 for order 1")
        await refunds.add("refund.sent", "12.50 for order 1")

        async with orders.sink("ledger", start="oldest") as ledger:
            await ledger.add_stream(payments)
            await take(ledger, 2)
            await ledger.add_stream(refunds)
            await take(ledger, 1)
            await ledger.remove_stream(refunds)

        for stream in (orders, payments, refunds):
            await stream.destroy()


async def take(ledger: pulsewire.Sink[str], count: int) -> None:
    """Handle the next events, from whichever stream they come."""
    for _ in range(count):
        for event in await ledger.read(max=1, timeout=5.0):
            print(f"{event.stream}: {event.name}: {event.payload}")
            await event.ack()


if __name__ == "__main__":
    anyio.run(main)
