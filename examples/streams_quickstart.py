"""Publish events, read all of them with a reader, share them out with a sink.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire


async def main() -> None:
    """Publish two events and consume them in both ways."""
    async with pulsewire.connect() as hub:
        users = hub.stream("users", max_len=10_000)

        await users.add("user.created", b'{"id": 123}', topic="signup")
        last_id = await users.add("user.renamed", b'{"id": 123, "name": "Ada"}')
        print(f"published {last_id}")

        # A reader has a cursor of its own and sees every event. With follow=False it ends at what is there now.
        async with users.reader(start="oldest", follow=False) as reader:
            async for event in reader:
                print(f"reader: {event.name} {event.payload.decode()}")

        # All sinks named "mailer", in any number of processes, share one cursor: each event goes to one of them,
        # and comes again if it is not acknowledged.
        async with users.sink("mailer", start="oldest", ack_grace=20.0) as sink:
            async for event in sink:
                print(
                    f"mailer: {event.name} at {event.created_at:%Y-%m-%d}, delivery {event.deliveries}"
                )
                await event.ack()
                if event.id == last_id:
                    break

        await users.destroy()  # only to leave nothing behind; streams usually stay


if __name__ == "__main__":
    anyio.run(main)
