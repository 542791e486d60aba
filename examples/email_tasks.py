"""E-mails as tasks: typed functions, a retry, an error that no retry mends, a task that exists once, a result.

The worker runs in the same process here; usually it is `pulsewire worker module:app`, in as many processes as there is
work for.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import anyio

import pulsewire
from pulsewire.tasks import App, Retry, SkipRetry, TaskState, current_task

app = App(queues={"critical": 6, "default": 3})


@app.task("email:welcome", queue="critical", max_retry=5, timeout=30.0, unique=3600.0)
async def welcome(user_id: int, address: str) -> None:
    """Send an e-mail. What it raises is a failure, and the task is tried again, later and later, five times."""
    if "@" not in address:
        raise SkipRetry(f"{address!r} is no address")  # trying again helps nobody: archived at once
    if not current_task().retried:
        print(f"user {user_id}: the mail server is busy")
        raise Retry("busy", after=1.0)  # without `after`, as any error: after 15 to 44 s at first
    print(f"user {user_id}: welcome, {address}")


@app.task("text:count", retention=3600.0)
def count_letters(text: str) -> int:
    """Compute, in a plain function: it runs in a thread. What it returns is kept for an hour."""
    return sum(letter.isalpha() for letter in text)


async def main() -> None:
    """Enqueue, run, look."""
    async with app.connect() as hub:
        info = await welcome.enqueue(user_id=42, address="ada@example.com")
        print(f"{info.type} is {info.state} in queue {info.queue}")
        try:
            await welcome.enqueue(user_id=42, address="ada@example.com")
        except pulsewire.DuplicateTask:
            print("it is enqueued already")
        bad = await welcome.enqueue(user_id=7, address="nobody")
        counted = await count_letters.options(process_in=1.0).enqueue("Dear Ada,")
        print(f"{counted.type} is {counted.state}")

        inspector = hub.tasks.inspector

        async def all_are_over() -> bool:
            mails = await inspector.queue_info("critical")
            kept = await inspector.task(counted.queue, counted.id)
            return mails.size == mails.archived and kept.state is TaskState.COMPLETED

        async with app.serve(hub):
            while not await all_are_over():  # noqa: ASYNC110  # each turn asks Redis
                await anyio.sleep(0.1)
        kept = await inspector.task(counted.queue, counted.id)
        print(f"letters in it: {count_letters.result(kept)}")
        archived = await inspector.task(bad.queue, bad.id)
        print(f"{archived.state}: {archived.last_error}")
        for queue in ("critical", "default"):  # only to leave nothing behind; queues usually stay
            await inspector.remove_queue(queue, force=True)


if __name__ == "__main__":
    anyio.run(main)
