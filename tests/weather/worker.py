"""A consumer or a publisher in a process of its own, for tests that kill, freeze or mislead it.

Run as `python worker.py consume|publish URL LEDGER OPTIONS`, options in JSON. What it does is noted in the ledger file
at once. Statistics go to standard output as one JSON line when standard input ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from tests.weather.clocks import mislead

mislead(json.loads(sys.argv[4]) if __name__ == "__main__" else {})

import pulsewire  # noqa: E402  # after the clock was set
from tests.weather.journal import StandstillNotes  # noqa: E402
from tests.weather.ledger import FileLedger  # noqa: E402
from tests.weather.misdeeds import WAYS_TO_DIE, hold_interpreter  # noqa: E402


async def input_ends() -> None:
    """Return when whoever started this program closes its standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def consume(url: str, ledger: FileLedger, options: dict[str, Any]) -> dict[str, Any]:
    """Handle events, each for `work` seconds; number `block_at` blocks the loop for `blocks` seconds."""
    work, begun = options.get("work", 0.01), 0
    standstills: list[dict[str, Any]] = []
    logger = logging.getLogger("pulsewire")
    StandstillNotes(lambda _, **said: standstills.append(said), logger)
    async with (
        pulsewire.connect(url) as hub,
        hub.stream("jobs", max_len=1_000_000).sink(
            "workers",
            start="oldest",
            ack_grace=options["ack_grace"],
            max_deliveries=options.get("max_deliveries"),
        ) as sink,
    ):

        async def handle(event: pulsewire.Event[bytes]) -> None:
            nonlocal begun
            begun += 1
            if begun == options.get("block_at"):
                blocking = hold_interpreter if options.get("holds") else time.sleep
                blocking(options["blocks"])  # the mistake under test
            if event.payload.startswith(b"poison"):
                WAYS_TO_DIE[event.payload.decode().split("-")[1]]()
            await asyncio.sleep(work)
            ledger.handle(event.stream, event.id, event.payload, event.deliveries, sink.consumer)

        print("ready", flush=True)
        running = asyncio.ensure_future(sink.consume(handle, concurrency=options.get("slots", 4)))
        await input_ends()
        sink.stop()
        await running
    return {**dataclasses.asdict(sink.statistics()), "standstills": standstills}


async def publish(url: str, ledger: FileLedger, options: dict[str, Any]) -> dict[str, Any]:
    """Add events until the end, with several callers."""
    async with pulsewire.connect(url) as hub:
        stream = hub.stream("jobs", max_len=1_000_000)
        number = 0

        async def add() -> None:
            nonlocal number
            while True:
                number += 1
                payload = f"{options['name']}-{number}".encode()
                ledger.acknowledge("jobs", await stream.add("job", payload), payload)
                await asyncio.sleep(options.get("pause", 0.005))

        print("ready", flush=True)
        adding = [asyncio.ensure_future(add()) for _ in range(options.get("callers", 4))]
        await input_ends()
        for task in adding:
            task.cancel()
        await asyncio.gather(*adding, return_exceptions=True)
    return {"added": number}


def main() -> None:
    """Run the program."""
    what, url, file, options = sys.argv[1:5]
    program = {"consume": consume, "publish": publish}[what]
    facts = asyncio.run(program(url, FileLedger(Path(file)), json.loads(options)))
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
