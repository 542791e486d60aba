"""An e-mail pool: one job per user, at one worker at a time, with progress that everyone can see.

A handler is an object with `start` and `stop`. `start` returns soon; what takes long goes on in the background until it
is done or `stop` is called. Several processes with such a node share the users; here there is one.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import json
import logging

import anyio
import anyio.abc

import pulsewire
from pulsewire.pool import Job

CAMPAIGN = ("welcome", "tips", "survey")


class EmailHandler:
    """Sends each user the mails of a campaign, one after the other."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._sending: dict[str, anyio.CancelScope] = {}

    async def start(self, job: Job) -> None:
        """Begin; who dispatches an address that is none is told so."""
        address = json.loads(job.payload)["email"]
        if "@" not in address:
            raise ValueError(f"{address!r} is no e-mail address")
        scope = self._sending[job.key] = anyio.CancelScope()
        self._tasks.start_soon(self._send_all, job, address, scope)

    async def stop(self, key: str) -> None:
        """End it: the user has unsubscribed, or the job goes to another worker."""
        if key in self._sending:
            self._sending.pop(key).cancel()
            print(f"{key} is stopped")

    async def _send_all(self, job: Job, address: str, scope: anyio.CancelScope) -> None:
        with scope:
            for number, mail in enumerate(CAMPAIGN, 1):
                # Raises JobLost if the job belongs to another worker by now: no mail is sent twice for long.
                await job.heartbeat(f"{number} of {len(CAMPAIGN)}: {mail}")
                print(f"{mail} to {address}")
                await anyio.sleep(0.01)  # usually days
            await anyio.sleep_forever()  # the job lives until somebody stops it


async def main() -> None:
    """Run a node, dispatch users, look at their progress, and stop one."""
    logging.basicConfig(level=logging.ERROR)  # a start that raises is a warning with its traceback
    async with (
        pulsewire.connect() as hub,
        anyio.create_task_group() as tasks,
        hub.node("email-pool", worker_ttl=30.0, ack_grace=20.0) as node,
    ):
        await node.add_worker(EmailHandler(tasks))
        await node.dispatch(
            "user:123", b'{"email": "ada@example.com"}'
        )  # returns when it has started
        try:
            await node.dispatch("user:123", b'{"email": "ada@example.com"}')
        except pulsewire.JobExists:
            print("user:123 has a job already")
        try:
            await node.dispatch("user:124", b'{"email": "nobody"}')
        except pulsewire.JobStartFailed as error:
            print(f"refused: {error.reason}")
        job = await node.job("user:123")
        while job is None or not job.progress.startswith(str(len(CAMPAIGN))):
            await anyio.sleep(0.01)
            job = await node.job("user:123")
        print(f"{job.key} is {job.state}, {job.progress}")
        await node.stop_job("user:123")
        await (
            node.shutdown()
        )  # this example ends for good; a deploy just leaves, and its jobs go to the others


if __name__ == "__main__":
    anyio.run(main)
