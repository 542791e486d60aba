"""A consumer or a publisher in a process of its own, for tests that kill, freeze or mislead it.

Run as `python worker.py consume|publish URL LEDGER OPTIONS`, options in JSON. What it does is noted in the ledger file
at once. Statistics go to standard output as one JSON line when standard input ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

SKEW = float(json.loads(sys.argv[4]).get("skew", 0.0)) if len(sys.argv) > 4 else 0.0
if SKEW:
    _true_time, _true_time_ns = time.time, time.time_ns
    time.time = lambda: _true_time() + SKEW
    time.time_ns = lambda: _true_time_ns() + int(SKEW * 1e9)

import pulsewire  # noqa: E402  # after the clock was set
from tests.weather.ledger import FileLedger  # noqa: E402


async def input_ends() -> None:
    """Return when whoever started this program closes its standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def consume(url: str, ledger: FileLedger, options: dict[str, Any]) -> dict[str, Any]:
    """Handle events, each for `work` seconds; number `block_at` blocks the loop for `blocks` seconds."""
    work, begun = options.get("work", 0.01), 0
    async with (
        pulsewire.connect(url) as hub,
        hub.stream("jobs", max_len=1_000_000).sink(
            "workers", start="oldest", ack_grace=options["ack_grace"]
        ) as sink,
    ):

        async def handle(event: pulsewire.Event[bytes]) -> None:
            nonlocal begun
            begun += 1
            if begun == options.get("block_at"):
                time.sleep(options["blocks"])  # the mistake under test
            await asyncio.sleep(work)
            ledger.handle(event.stream, event.id, event.payload, event.deliveries, sink.consumer)

        print("ready", flush=True)
        running = asyncio.ensure_future(sink.consume(handle, concurrency=options.get("slots", 4)))
        await input_ends()
        sink.stop()
        await running
    return dataclasses.asdict(sink.statistics())


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
