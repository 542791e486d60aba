"""Event sourcing: the stream is the truth, and a state is rebuilt by reading it again from the beginning.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import anyio

import pulsewire


@dataclass(frozen=True)
class Order:
    """What is known of one order."""

    status: str = "unknown"
    total: float = 0.0
    parcel: str | None = None


def apply(order: Order, event: pulsewire.Event[Any]) -> Order:
    """Return the order after one more event."""
    match event.name:
        case "order.created":
            return replace(order, status="created", total=event.payload["total"])
        case "order.paid":
            return replace(order, status="paid")
        case "order.shipped":
            return replace(order, status="shipped", parcel=event.payload["parcel"])
        case _:
            return order


async def main() -> None:
    """Record what happens to an order, then find out its state."""
    async with pulsewire.connect() as hub:
        # max_len=0 is no limit: history that is to be replayed must not be trimmed.
        history = hub.stream("order-42", codec=pulsewire.JSON, max_len=0)
        await history.add("order.created", {"total": 99.9})
        await history.add("order.paid", {"method": "card"})
        await history.add("order.shipped", {"parcel": "ZX-81"})

        order = Order()
        async with history.reader(start="oldest", follow=False) as reader:
            async for event in reader:
                order = apply(order, event)
                print(f"{event.name}: {order}")

        await history.destroy()


if __name__ == "__main__":
    anyio.run(main)
