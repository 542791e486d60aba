"""Tasks with an end: a producer dispatches images as JSON, workers work on them, and a job goes when it is done.

The handler is one coroutine function. It is started as a task, and the job ends when it returns; if the job goes to
another worker, or is stopped, it is cancelled. The images of a worker that dies are begun again elsewhere, so the work
must bear being done twice.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import anyio
import msgspec

import pulsewire
from pulsewire.pool import Job


@dataclass(frozen=True)
class ImageTask:
    """What is to be done with one image."""

    url: str
    width: int


async def resize(job: Job) -> None:
    """Work on one image."""
    task = msgspec.json.decode(job.payload, type=ImageTask)
    for percent in (0, 50, 100):
        await job.heartbeat(f"{percent}%")
        await anyio.sleep(0.01)
    print(f"{task.url} is {task.width} wide")


async def main() -> None:
    """Run two workers and a producer, which runs no jobs itself; usually all of them are processes of their own."""
    async with (
        pulsewire.connect() as hub,
        hub.node("images") as first,
        hub.node("images") as second,
        hub.node("images", client_only=True) as producer,
    ):
        await first.add_worker(resize)
        await second.add_worker(resize, weight=2.0)  # twice the share
        for number in range(6):
            task = ImageTask(f"https://example.com/{number}.png", 320)
            await producer.dispatch(f"image:{number}", msgspec.json.encode(asdict(task)))
        async for _ in producer.ticker("look", every=0.05):
            if not await producer.jobs():
                break
        print("all images are done")
        await producer.shutdown()


if __name__ == "__main__":
    anyio.run(main)
