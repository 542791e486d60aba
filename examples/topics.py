"""Topics: events of one stream, seen through a topic or a pattern of topics.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire


async def main() -> None:
    """Publish weather reports and read them by place."""
    async with pulsewire.connect() as hub:
        weather = hub.stream("weather", codec=pulsewire.TEXT)
        await weather.add("report", "rain", topic="europe.oslo")
        await weather.add("report", "sun", topic="europe.rome")
        await weather.add("report", "wind", topic="america.lima")

        async with weather.reader(start="oldest", follow=False, topic="europe.oslo") as oslo:
            async for event in oslo:
                print(f"oslo: {event.payload}")

        async with weather.reader(
            start="oldest", follow=False, topic_pattern=r"^europe\."
        ) as europe:
            async for event in europe:
                print(f"europe: {event.topic} {event.payload}")

        # A sink filters in the same way. What its filter rejects is acknowledged, so that it does not stay pending.
        async with weather.sink("alerts", start="oldest", topic_pattern=r"lima$") as alerts:
            for event in await alerts.read(max=1, timeout=5.0):
                print(f"alerts: {event.topic} {event.payload}")
                await event.ack()

        await weather.destroy()


if __name__ == "__main__":
    anyio.run(main)
