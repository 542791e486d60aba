"""What a node process of the demo does: it runs jobs until the pool is shut down, and journals each run."""

from __future__ import annotations

import os
from pathlib import Path

import anyio

import pulsewire
from pulsewire.cli.demo.journal import Arrived, JournalWriter
from pulsewire.cli.demo.journaled import journaled_run
from pulsewire.cli.demo.lifeline import wait_first, while_parent_lives
from pulsewire.pool import Job

__all__ = ["POOL", "serve"]

POOL = "watchers"
_ROUND = 1.0
"""Seconds between two reports of a job."""
_PARTING = 4.0
"""Seconds that stopping the jobs may take."""


async def serve(journal: Path, *, url: str | None, namespace: str, worker_ttl: float) -> int:
    """Be a node with one worker, until the pool is shut down."""
    parent_is_gone = anyio.Event()

    async def work(_: anyio.Event) -> None:
        with JournalWriter(journal) as journaling:
            async with (
                pulsewire.connect(url, namespace=namespace) as hub,
                hub.node(POOL, worker_ttl=worker_ttl, worker_shutdown_ttl=_PARTING) as node,
            ):
                await node.add_worker(_Watcher(journaling).run)
                journaling.write(Arrived(pid=os.getpid()))
                await wait_first(node.wait_shutdown, parent_is_gone.wait)
                if not node.is_shut_down:  # nobody else would end the jobs
                    await node.shutdown()

    await while_parent_lives(work, parent_is_gone.set)
    return 0


class _Watcher:
    """Runs jobs that have no end of their own, such as watching a mailbox."""

    def __init__(self, journaling: JournalWriter) -> None:
        self._journaling = journaling

    async def run(self, job: Job) -> None:
        with journaled_run(self._journaling, job):
            rounds = 0
            while True:
                await anyio.sleep(_ROUND)
                rounds += 1
                await job.heartbeat(f"{rounds} rounds")
