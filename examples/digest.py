"""Many small tasks become one: news for a user wait in a group, and are sent as one e-mail.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire
from pulsewire.tasks import Mux, NewTask, Task

NEWS = [
    ("ada", "grace has followed you"),
    ("grace", "ada has written"),
    ("ada", "edsger has followed you"),
    ("ada", "barbara likes your photo"),
    ("grace", "barbara has written"),
]

mux = Mux()
sent = anyio.Event()


@mux.handle("digest:send")
async def send(task: Task) -> None:
    """Send what was gathered."""
    print(f"to {task.headers['user']}: {task.payload.decode()}")
    if task.headers["user"] == "grace":
        sent.set()


async def combine(group: str, tasks: list[Task]) -> NewTask:
    """Make one task of the members of a group. It takes their place in one step, in the same queue."""
    text = b"; ".join(sorted(task.payload for task in tasks))
    return NewTask(type="digest:send", payload=text, headers={"user": group})


async def main() -> None:
    """Enqueue some news, and run a server that aggregates them."""
    async with pulsewire.connect() as hub:
        for user, what in NEWS:
            info = await hub.tasks.enqueue("digest:line", what, queue="mails", group=user)
            print(f"{info.type} for {info.group} is {info.state}")
        async with hub.task_server(
            mux,
            queues=["mails"],
            aggregator=combine,
            group_max_size=3,  # ada has three: hers become one task at once
            group_grace=1.0,  # to grace's nothing is added for a second: then they do
        ):
            await sent.wait()
        await hub.tasks.inspector.remove_queue("mails", force=True)  # only to leave nothing behind


if __name__ == "__main__":
    anyio.run(main)
