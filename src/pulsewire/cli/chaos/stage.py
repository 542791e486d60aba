"""What a run stands on: a server of its own, a proxy in front of it, a folder for the journals."""

from __future__ import annotations

from collections.abc import Callable

from pulsewire.cli.chaos.director import ChaosDirector
from pulsewire.cli.chaos.plan import ChaosPlan
from pulsewire.cli.chaos.verdict import ChaosVerdict
from pulsewire.cli.demo.crew import Crew, environment_of
from pulsewire.cli.demo.folder import journal_folder
from pulsewire.testing import FaultProxy, SingleServer

__all__ = ["WORKER", "perform"]

WORKER = "chaos-worker"
"""The hidden command of the worker processes."""
_DURABLE = ("--appendfsync", "always")
"""A server that is killed has all that it has acknowledged."""


async def perform(
    plan: ChaosPlan, *, keep: bool, tell: Callable[[float, str], None]
) -> ChaosVerdict:
    """Run it; leave nothing behind but the journals, where they are to be kept.

    Raises:
        DemoFailed: It could not be run to its end.
    """
    async with (
        SingleServer(args=_DURABLE) as server,
        FaultProxy(server, seed=plan.seed) as proxy,
    ):
        with journal_folder(keep=keep) as folder:
            near = Crew(folder, environment_of(server.url))
            far = Crew(folder, environment_of(proxy.url))
            async with near, far:
                director = ChaosDirector(
                    plan,
                    server,
                    proxy,
                    (near, far),
                    worker=[WORKER, "--lease", str(plan.lease)],
                    tell=tell,
                )
                return await director.run()
