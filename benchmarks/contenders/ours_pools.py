"""The pool roles of pulsewire, through its public names only."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import pulsewire
from benchmarks.contenders import contract
from benchmarks.contenders.contract import Measured, Role, Settings
from benchmarks.plan import Measure
from pulsewire.pool import Job, Node

PRELOAD_CALLERS: Final = 100
WARM_UP: Final = 100
"""Dispatches that are not counted."""


class Quiet:
    """A handler whose jobs do nothing."""

    async def start(self, job: Job) -> None:
        """The job runs."""

    async def stop(self, key: str) -> None:
        """It does not."""


class Clerk(Quiet):
    """Notes when each job was started last, and when so many are here."""

    def __init__(self, jobs: int) -> None:
        self.started_ms: dict[str, float] = {}
        self.complete = asyncio.Event()
        self._jobs = jobs

    async def start(self, job: Job) -> None:
        """The job runs."""
        self.started_ms[job.key] = time.clock_gettime(time.CLOCK_MONOTONIC) * 1e3
        if len(self.started_ms) == self._jobs:
            self.complete.set()


@asynccontextmanager
async def joined(settings: Settings, *, client_only: bool = False) -> AsyncIterator[Node]:
    """A node of the pool, on a connection of its own."""
    async with (
        pulsewire.connect(settings.url) as hub,
        hub.node(settings.stream, worker_ttl=settings.ttl, client_only=client_only) as node,
    ):
        yield node


async def run_node(settings: Settings, measured: Measured) -> None:
    """Run jobs until the second signal."""
    async with joined(settings) as node:
        for _ in range(settings.workers):
            await node.add_worker(Quiet())
        gc.freeze()  # as docs/pools.md advises
        await contract.wait_for_go()
        with contract.region(measured):
            await contract.wait_for_signal()
        leave(measured)


async def survive(settings: Settings, measured: Measured) -> None:
    """Run jobs until all of the pool are here, and say when each came."""
    async with joined(settings) as node:
        clerk = Clerk(settings.jobs + WARM_UP)
        for _ in range(settings.workers):
            await node.add_worker(clerk)
        await contract.wait_for_go()
        with contract.region(measured):
            await clerk.complete.wait()
        measured.samples_ms.extend(clerk.started_ms.values())
        leave(measured)


def leave(measured: Measured) -> None:
    """Report and end at once: handing over thousands of jobs before leaving is nothing that is measured here."""
    measured.operations = 1
    contract.report(measured)
    os._exit(0)


async def dispatch(settings: Settings, measured: Measured) -> None:
    """Dispatch from so many callers, each awaiting the start of its job before the next."""
    async with joined(settings, client_only=True) as node:
        body = settings.body
        await dispatch_all(node, numbered("preload", settings.jobs), body, PRELOAD_CALLERS)
        await dispatch_all(node, numbered("warm-up", WARM_UP), body, settings.callers)
        await contract.wait_for_go()
        with contract.region(measured):
            measured.samples_ms = await dispatch_all(
                node, numbered("job", settings.events), body, settings.callers
            )
    measured.operations = len(measured.samples_ms)
    measured.figures[Measure.STALLED] = 0


def numbered(name: str, count: int) -> Iterable[str]:
    """So many keys."""
    return (f"{name}-{index}" for index in range(count))


async def dispatch_all(node: Node, keys: Iterable[str], body: bytes, callers: int) -> list[float]:
    """Dispatch all keys; how long each took until its job had started, in ms. A failure ends the run."""
    left, clock = iter(keys), time.perf_counter
    samples: list[float] = []

    async def caller() -> None:
        for key in left:
            begin = clock()
            await node.dispatch(key, body)
            samples.append((clock() - begin) * 1e3)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return samples


ROLES: Final[Mapping[str, Role]] = {
    "pool-node": run_node,
    "pool-survivor": survive,
    "pool-dispatch": dispatch,
}
