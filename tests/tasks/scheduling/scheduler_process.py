"""A scheduler in a process of its own, for a test that kills it: `python scheduler_process.py URL NAMESPACE`.

Says its first tick once it runs, and ends in order when standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

import pulsewire
from pulsewire.tasks import NewTask
from tests.tasks.scheduling.ticks import entry_of

SPEC, TASK = "@every 1s", NewTask(type="digest")


async def main(url: str, namespace: str) -> None:
    """Run the program."""
    async with pulsewire.connect(url, namespace=namespace) as hub:
        scheduler = hub.scheduler()
        scheduler.register(SPEC, TASK)
        async with scheduler:
            print(entry_of(scheduler).due, flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
