"""A replica in a process of its own, for tests that kill or freeze it.

Run as `python map_worker.py URL FOLDER OPTIONS`, options in JSON. It notes in the journal of the folder what it has
when it has joined, and from then on each revision that it comes to, and whether it calls itself stale. It ends when
standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pulsewire
from tests.weather.journal import Journal

LOOK_EVERY = 0.01


async def input_ends() -> None:
    """Return when whoever started this program closes its standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def look(joined: pulsewire.ReplicatedMap[str], name: str, journal: Journal) -> None:
    """Note what changes, until cancelled."""
    before: tuple[int, bool] | None = None
    while True:
        now = (joined.revision, joined.is_stale)
        if now != before:
            before = now
            seen = {"revision": now[0], "is_stale": now[1], "stale_for": joined.stale_for}
            journal.note("sees", name=name, **seen)
        await asyncio.sleep(LOOK_EVERY)


async def main(url: str, folder: Path, options: dict[str, Any]) -> None:
    """Run the program."""
    name, journal, began = options["name"], Journal(folder), time.monotonic()
    async with (
        pulsewire.connect(url) as hub,
        hub.map(options["map"], max_value=2**26, stale_after=options["stale_after"]) as joined,
    ):
        journal.note("joined", name=name, took=time.monotonic() - began, has=joined.snapshot())
        looking = asyncio.ensure_future(look(joined, name, journal))
        print("ready", flush=True)
        await input_ends()
        looking.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])))
