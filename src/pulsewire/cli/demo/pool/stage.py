"""What the act stands on: the pool of its own, a folder for the journals, and their removal at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

import pulsewire
from pulsewire.cli import describe, failures, render
from pulsewire.cli.demo.crew import Crew, DemoFailed, environment_of
from pulsewire.cli.demo.folder import journal_folder
from pulsewire.cli.demo.pool import summary
from pulsewire.cli.demo.pool.director import PoolDirector
from pulsewire.cli.demo.pool.plan import PoolPlan
from pulsewire.cli.demo.pool.role import POOL
from pulsewire.cli.demo.pool.view import picture, plain_line
from pulsewire.cli.demo.view import View

__all__ = ["NODE", "perform"]

NODE = "demo-node"
"""The hidden command of the node processes."""

_TIDY_MARGIN = 10.0
"""Seconds that ending a pool whose nodes are dead may take, after their leases have ended."""


async def perform(plan: PoolPlan, url: str | None, namespace: str) -> int:
    """Run the act and print its summary.

    Returns:
        0 if the promises held, 1 otherwise.

    Raises:
        DemoFailed: It could not be run to its end.
    """
    async with pulsewire.connect(url, namespace=namespace) as hub:
        if POOL in await hub.pools():
            raise DemoFailed(
                f"there is a pool {POOL!r} in namespace {namespace!r} already; take another one"
            )
        render.sentence(
            f"{plan.jobs:,} jobs, {plan.nodes} nodes, leases of {plan.worker_ttl:g} s, "
            f"on {describe.server_name(hub)} at {hub.url}"
        )
        async with _tidied(plan, hub) as folder:
            crew = Crew(folder, environment_of(url))
            director = PoolDirector(plan, hub, crew, node=_node_arguments(plan, namespace))
            with View(picture, plain_line) as view:
                verdict = await director.run(view)
    summary.show(verdict, director.nodes, worker_ttl=plan.worker_ttl, seconds=director.elapsed)
    return 0 if verdict.holds else failures.FAILED


@asynccontextmanager
async def _tidied(plan: PoolPlan, hub: pulsewire.Hub) -> AsyncIterator[Path]:
    """Give a folder for the journals; afterwards remove it, unless it shall be kept, and what is left of the pool."""
    try:
        with journal_folder(keep=plan.keep) as folder:
            yield folder
    finally:
        with anyio.move_on_after(plan.worker_ttl + _TIDY_MARGIN, shield=True):
            if POOL in await hub.pools():
                async with hub.node(POOL, client_only=True) as client:
                    await client.shutdown()


def _node_arguments(plan: PoolPlan, namespace: str) -> list[str]:
    return [NODE, "--namespace", namespace, "--worker-ttl", str(plan.worker_ttl)]
