"""A periodic task, enqueued once per tick although two schedulers have it, as two replicas of a service would.

"Daily" is every second here, so that there is something to see. `pulsewire cron ls` shows who enqueues what, and when.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire
from pulsewire.tasks import NewTask, Task

REPORT = NewTask(type="report:daily", payload=b'{"region": "eu"}', queue="reports")
DAILY = "@every 1s"  # else "@daily", "0 7 * * mon-fri", "TZ=Europe/Rome 30 6 * * *"

runs: list[str] = []
enough = anyio.Event()


async def report(task: Task) -> None:
    """Write a report."""
    runs.append(task.id)
    print(f"report {len(runs)}: {task.payload.decode()}")
    if len(runs) == 3:
        enough.set()


async def main() -> None:
    """Run two schedulers and a server, for three ticks."""
    async with pulsewire.connect() as hub:
        inspector = hub.tasks.inspector
        replicas = [hub.scheduler(), hub.scheduler()]
        entries = [scheduler.register(DAILY, REPORT) for scheduler in replicas]
        async with hub.task_server(report, queues=["reports"]), replicas[0], replicas[1]:
            await enough.wait()
            events = [event for one in entries for event in await inspector.enqueue_events(one)]
        ticks = [event.at for event in events]
        print(f"ticks that were enqueued twice: {len(ticks) - len(set(ticks))}")
        await inspector.remove_queue("reports", force=True)  # only to leave nothing behind


if __name__ == "__main__":
    anyio.run(main)
