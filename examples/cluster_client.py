"""The client of the article on Redis Cluster: one task for each of three queues, which are on different masters.

The cluster is the one that $PULSEWIRE_URL names; without that, six nodes on the ports 7000 to 7005 of this machine, as
in the article. `pulsewire queue ls --cluster` then shows where each queue is. `cluster_worker.py` runs the tasks.
"""

from __future__ import annotations

import json
import os

import anyio

import pulsewire

CLUSTER = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in range(7000, 7006))

# Names of the queues
NOTIFICATIONS = "notifications"
WEBHOOKS = "webhooks"
IMAGES = "images"


async def main() -> None:
    """Enqueue the three tasks."""
    async with pulsewire.connect(os.environ.get("PULSEWIRE_URL", CLUSTER)) as hub:
        # A task of type "notifications:email", in queue "notifications"
        payload = json.dumps({"to": 123, "from": 456})
        info = await hub.tasks.enqueue("notifications:email", payload, queue=NOTIFICATIONS)
        print(f"enqueued {info.type} to {info.queue}: {info.id}")

        payload = json.dumps({"data": 123})
        info = await hub.tasks.enqueue("webhooks:sync", payload, queue=WEBHOOKS)
        print(f"enqueued {info.type} to {info.queue}: {info.id}")

        payload = json.dumps({"src": "some/path/to/image"})
        info = await hub.tasks.enqueue("images:resize", payload, queue=IMAGES)
        print(f"enqueued {info.type} to {info.queue}: {info.id}")


if __name__ == "__main__":
    anyio.run(main)
