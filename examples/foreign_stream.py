"""Foreign streams: read and write plain Redis streams that other programs share, whatever fields they use.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire


async def main() -> None:
    """Write an entry as another program would, and consume it."""
    async with pulsewire.connect() as hub:
        # `key` is the whole name in Redis; FIELDS hands out every field as it is. The same entry from elsewhere:
        #   XADD sensors:roof * kind temperature celsius 21.5
        raw = hub.stream("roof", key="sensors:roof", codec=pulsewire.FIELDS)
        await raw.add("", {"kind": "temperature", "celsius": "21.5"})

        async with raw.reader(start="oldest", follow=False) as reader:
            async for event in reader:
                print(f"fields: {event.payload}")

        # One of the fields may say what happened: then it is the event's name.
        named = hub.stream("roof", key="sensors:roof", codec=pulsewire.Fields(name="kind"))
        last_id = await named.add("humidity", {"percent": "40"})
        async with named.sink("dashboard", start="oldest") as sink:
            async for event in sink:
                print(f"{event.name}: {event.payload}")
                await event.ack()
                if event.id == last_id:
                    break

        await raw.destroy()


if __name__ == "__main__":
    anyio.run(main)
