"""Uses pulsewire through its public face, with whatever redis-py is first on the path.

`test_redis_py_lowest.py` runs it as a program of its own: `python redis_py_probe.py URL`. It prints the
versions it ran with, and exits 0 when every reply was right and every socket was adopted.
"""

from __future__ import annotations

import asyncio
import sys

import hiredis
import redis

import pulsewire
from pulsewire._redis import adopt

CONCURRENT_ADDS = 1000

adoptions = 0


def count_adoptions() -> None:
    """Count the sockets that are taken over, so that the slower way round is noticed."""
    original = adopt.Adopted

    def counting(*args: object, **kwargs: object) -> adopt.Adopted:
        global adoptions  # noqa: PLW0603  a program's one counter
        adoptions += 1
        return original(*args, **kwargs)  # type: ignore[arg-type]  # passed on as it came

    adopt.Adopted = counting  # type: ignore[assignment,misc]  # stands in for the class


async def use(url: str) -> None:
    """Ping, add alone, add together, read back, take as a sink."""
    async with pulsewire.connect(url) as hub:
        assert await hub.ping() > 0
        stream = hub.stream("probe", max_len=CONCURRENT_ADDS + 1)
        first = await stream.add("first", b"\x00\r\n\xff")
        ids = await asyncio.gather(
            *(stream.add("many", str(number).encode()) for number in range(CONCURRENT_ADDS))
        )
        events = await stream.range(count=CONCURRENT_ADDS + 1)
        assert (events[0].id, events[0].name, events[0].payload) == (
            first,
            "first",
            b"\x00\r\n\xff",
        )
        assert {event.id: event.payload for event in events[1:]} == {
            event_id: str(number).encode() for number, event_id in enumerate(ids)
        }, "a reply went to another caller"
        async with stream.sink("all", start="oldest") as sink:
            taken: list[pulsewire.Event] = []
            while len(taken) < CONCURRENT_ADDS + 1:
                batch = await sink.read(max=CONCURRENT_ADDS, timeout=30.0)
                assert batch, "the sink stopped short"
                await sink.ack(*batch)
                taken += batch
        assert [event.id for event in taken] == [event.id for event in events]


if __name__ == "__main__":
    count_adoptions()
    asyncio.run(use(sys.argv[1]))
    assert adoptions, "no socket was adopted"
    print(f"redis {redis.__version__}, hiredis {hiredis.__version__}, {adoptions} adopted")
