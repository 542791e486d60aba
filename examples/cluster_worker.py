"""The worker of the article on Redis Cluster: runs the tasks of three queues, until Ctrl-C.

Start it in as many terminals as you like: each task goes to one of them, and a task whose worker dies is run by
another. The cluster is found as in `cluster_client.py`.
"""

from __future__ import annotations

import json
import os

import anyio

import pulsewire
from pulsewire.tasks import Mux, Task

CLUSTER = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in range(7000, 7006))

mux = Mux()


@mux.handle("notifications:email")
async def send_email(task: Task) -> None:
    """Send an e-mail. What a handler raises is a failure, and the task is tried again later."""
    content = json.loads(task.payload)
    print(f"Sending an e-mail from {content['from']} to {content['to']}", flush=True)


@mux.handle("webhooks:sync")
async def sync_webhook(task: Task) -> None:
    """Tell somebody."""
    content = json.loads(task.payload)
    print(f"Handling a webhook task: {content['data']}", flush=True)


@mux.handle("images:resize")
def resize_image(task: Task) -> None:
    """Resize an image. Work for the processor: a plain function, which runs in a thread."""
    content = json.loads(task.payload)
    print(f"Resizing the image: {content['src']}", flush=True)


async def main() -> None:
    """Run tasks until the process is told to end."""
    queues = {"notifications": 1, "webhooks": 1, "images": 1}  # each has the same priority
    async with (
        pulsewire.connect(os.environ.get("PULSEWIRE_URL", CLUSTER)) as hub,
        hub.task_server(mux, queues=queues, concurrency=20) as server,
    ):
        print("Waiting for tasks", flush=True)
        await server.wait()


if __name__ == "__main__":
    try:
        anyio.run(main)
    except KeyboardInterrupt:
        print("Stopped")
