"""Fan-out: two sinks of different names each get every event of a stream.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire

SIGNUPS = ["ada", "grace", "edsger"]


async def consume(stream: pulsewire.Stream[str], name: str) -> None:
    """Handle as many events as there are sign-ups, then end."""
    handled = 0
    async with stream.sink(name, start="oldest") as sink:
        async for event in sink:
            print(f"{name}: {event.payload}")
            await event.ack()
            handled += 1
            if handled == len(SIGNUPS):
                break


async def main() -> None:
    """Publish while both sinks consume."""
    async with pulsewire.connect() as hub:
        signups = hub.stream("signups", codec=pulsewire.TEXT)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume, signups, "analytics")
            tasks.start_soon(consume, signups, "notifications")
            for user in SIGNUPS:
                await signups.add("user.created", user)
        await signups.destroy()


if __name__ == "__main__":
    anyio.run(main)
