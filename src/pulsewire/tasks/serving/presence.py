"""Keeping what is ours: leases are renewed, and the server is shown to inspectors, from a thread of its own.

A handler that blocks the event loop must not cost the leases of everything else in its process; so this runs in a
`LeaseThread`, which has a loop and connections of its own. It reads what the server holds, and writes only
`Attempt.renewed_at`; everything else is told to the main loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import Callable

from pulsewire._redis.link import Link
from pulsewire._redis.scripts import Script
from pulsewire.errors import ServerFull
from pulsewire.tasks.messages import ServerMessage, WorkerMessage, set_time
from pulsewire.tasks.retry import clean
from pulsewire.tasks.serving.attempts import Attempts
from pulsewire.tasks.serving.crew import Crew
from pulsewire.tasks.serving.place import Attempt, QueuePlace
from pulsewire.tasks.store import QueueStore

SHOW_EVERY = 5.0
SHOWN_FOR = 10.0
"""Seconds, as in asynq (spec/asynq.md 4.5)."""
FORGOTTEN_AFTER = 60.0
"""Seconds after which the names of servers that have died are removed, if no inspector has done so before."""
INDEX_LIVES = 86400
"""Seconds for which the index of servers outlives the last of them."""
SHOW = Script.load("pulsewire.tasks", "show")


def server_name(server_id: str) -> str:
    """`<host>:<pid>:<id>`: what the keys of a server are made of."""
    return f"{host()}:{os.getpid()}:{server_id}"


def host() -> str:
    """The name of this machine."""
    try:
        return clean(socket.gethostname()) or "unknown-host"
    except OSError:
        return "unknown-host"


class Presence:
    """What one server keeps alive. `keep` is the duty of its thread."""

    def __init__(self, crew: Crew, attempts: Attempts) -> None:
        self.status = "active"
        self.tell_main: Callable[..., None] = lambda *_: None
        self._keys = crew.keys
        self._id = crew.server
        self._name = server_name(crew.server)
        self._options = crew.options
        self._places = tuple(crew.places.values())
        self._attempts = attempts
        self._started = time.time()
        self._show_from = 0.0

    # --- in the thread

    async def keep(self, link: Link) -> None:
        """One pass: renew the leases, and show the server if that is due."""
        await asyncio.gather(*(self._renew(link, place) for place in self._places))
        now = time.monotonic()
        if now >= self._show_from:
            with contextlib.suppress(ServerFull):  # it works on, unseen
                await self.show(link)
            self._show_from = now + SHOW_EVERY / 2

    def show_now(self) -> None:
        """Show the server in the next pass."""
        self._show_from = 0.0

    async def _renew(self, link: Link, place: QueuePlace) -> None:
        held = dict(place.held)
        if not held:
            return
        asked_at = time.monotonic()
        store = QueueStore(link, place.keys)
        lost = set(await store.extend(self._id, list(held), self._options.lease))
        for task_id, attempt in held.items():
            if task_id not in lost:
                attempt.renewed_at = asked_at
            elif place.held.get(task_id) is attempt:
                self.tell_main(self._attempts.lost, attempt)

    async def show(self, link: Link) -> None:
        """Write what inspectors see of the server and its workers (spec/asynq.md 3.5, WriteServerState)."""
        running = [attempt for attempt in self._attempts.running if attempt.task is not None]
        key, workers = self._keys.server(self._name), self._keys.workers_of(self._name)
        now = await link.time()
        lapses = math.ceil(now + SHOWN_FOR)
        await asyncio.gather(
            *(
                link.call(index, *command, repeatable=True)
                for index, name in ((self._keys.servers, key), (self._keys.workers, workers))
                for command in (
                    ("ZADD", index, lapses, name),
                    ("ZREMRANGEBYSCORE", index, "-inf", int(now - FORGOTTEN_AFTER)),
                    ("EXPIRE", index, INDEX_LIVES),
                )
            )
        )
        fields: list[str | bytes] = []
        for attempt in running:
            fields += (attempt.task_id, self._worker(attempt, now))
        await link.run(
            SHOW,
            [key, workers],
            [int(SHOWN_FOR), self._info(len(running)), *fields],
            repeatable=True,
        )

    async def hide(self, link: Link) -> None:
        """Remove what inspectors see (ClearServerState)."""
        key, workers = self._keys.server(self._name), self._keys.workers_of(self._name)
        await asyncio.gather(
            link.call(self._keys.servers, "ZREM", self._keys.servers, key, repeatable=True),
            link.call(self._keys.workers, "ZREM", self._keys.workers, workers, repeatable=True),
            link.call(key, "DEL", key, workers, repeatable=True),
        )

    def _info(self, running: int) -> bytes:
        message = ServerMessage(
            host=host(),
            pid=os.getpid(),
            server_id=self._id,
            concurrency=self._options.concurrency,
            queues=dict(self._options.queues),
            strict_priority=self._options.strict,
            status=self.status,
            active_worker_count=running,
        )
        set_time(message.start_time, self._started)
        packed: bytes = message.SerializeToString()
        return packed

    def _worker(self, attempt: Attempt, now: float) -> bytes:
        message, clock = attempt.message, time.monotonic()
        worker = WorkerMessage(
            host=host(),
            pid=os.getpid(),
            server_id=self._id,
            task_id=attempt.task_id,
            task_type=message.type,
            task_payload=message.payload,
            queue=attempt.place.name,
        )
        set_time(worker.start_time, now - (clock - attempt.began))
        set_time(worker.deadline, now + attempt.deadline - clock)
        packed: bytes = worker.SerializeToString()
        return packed
