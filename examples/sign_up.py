"""A sign-up flow with all three blocks: a stream of users, a map of feature flags, a pool that writes e-mails.

Whoever signs a user up publishes an event. A consumer of that stream dispatches a job per user; more consumers and more
workers, here or in other processes, share the work. The handler reads a flag from local memory.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import anyio

import pulsewire
from pulsewire import Event, Job, Node, ReplicatedMap

log = logging.getLogger("sign-up")


@dataclass(frozen=True)
class User:
    """Who has signed up."""

    id: int
    name: str


class Welcome:
    """Writes to new users, in the form that a flag says."""

    def __init__(self, flags: ReplicatedMap[str]) -> None:
        self.written = anyio.Semaphore(0)
        self._flags = flags

    async def run(self, job: Job) -> None:
        """Write one e-mail; the job ends with it."""
        form = self._flags.get("welcome.form", "plain")
        print(f"{form} e-mail to {job.payload.decode()}")
        self.written.release()


async def consume(users: pulsewire.Stream[User], node: Node) -> None:
    """Turn each new user into a job. An event that comes twice finds the job there, or sends a second e-mail."""

    async def dispatch(event: Event[User]) -> None:
        try:
            await node.dispatch(f"email:{event.payload.id}", event.payload.name.encode())
        except pulsewire.JobExists:
            log.info("an e-mail to user %d is on its way already", event.payload.id)

    async with users.sink("mailer", start="oldest") as sink:
        await sink.consume(dispatch, concurrency=10)


async def main() -> None:
    """Sign users up; usually publisher, consumers and nodes are processes of their own."""
    async with pulsewire.connect() as hub:
        users = hub.stream("users", max_len=10_000, codec=pulsewire.typed(User), logger=log)
        async with (
            hub.map("feature-flags", sliding_ttl=3600, logger=log) as flags,
            hub.node("email-pool", worker_ttl=30.0, ack_grace=20.0, logger=log) as node,
        ):
            await flags.set_and_wait("welcome.form", "colourful")
            welcome = Welcome(flags)
            async with anyio.create_task_group() as consumers:
                for _ in range(2):
                    await node.add_worker(welcome.run)
                    consumers.start_soon(consume, users, node)
                for number, name in enumerate(("ada", "grace", "edsger"), 123):
                    await users.add("user.created", User(number, name))
                for _ in range(3):
                    await welcome.written.acquire()
                consumers.cancel_scope.cancel()
            await node.shutdown()  # this example ends for good, and leaves nothing behind
            await users.destroy()


if __name__ == "__main__":
    anyio.run(main)
