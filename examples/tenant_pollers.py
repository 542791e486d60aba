"""A scheduler that keeps exactly one poller per tenant alive, wherever its node is.

Every node has the same schedule; at each tick one of them is asked. Jobs that exist are left alone, so the plan is
simply what there shall be. Each poller writes with its fencing token, and the store refuses smaller ones: a poller that
was frozen, and wakes up when another one has taken its place, can do no harm.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

import pulsewire
from pulsewire.pool import Job, Plan

TENANTS = {"oslo": "https://weather.example/oslo", "lima": "https://weather.example/lima"}


class Pollers:
    """Says which pollers there shall be."""

    name = "pollers"

    async def plan(self) -> Plan:
        """One per tenant; those of tenants that are gone are stopped."""
        wanted = [(f"tenant:{name}", url.encode()) for name, url in TENANTS.items()]
        return Plan(start=wanted, stop_all=True)


class Forecasts:
    """Where pollers write to. It remembers the largest token it has seen for each tenant, and refuses smaller ones."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.writes = 0
        self._written = anyio.Event()

    def write(self, tenant: str, token: int) -> bool:
        """Take a forecast; False if its poller has been replaced."""
        if token < self.tokens.get(tenant, 0):
            return False
        self.tokens[tenant] = token
        self.writes += 1
        self._written.set()
        return True

    async def wait(self, is_so: Callable[[], bool]) -> None:
        """Return when something is so, looking at each write."""
        while not is_so():
            self._written = anyio.Event()
            await self._written.wait()


FORECASTS = Forecasts()


async def poll(job: Job) -> None:
    """Poll for one tenant until the job is stopped or goes to another node."""
    print(f"{job.key} is polled, start {job.starts}")
    while FORECASTS.write(job.key, job.token):
        await job.heartbeat(f"{FORECASTS.writes} forecasts")
        await anyio.sleep(0.02)


async def main() -> None:
    """Run two nodes, let one leave, and let a tenant go; usually each node is a process of its own."""
    async with pulsewire.connect() as hub, hub.node("weather") as staying:
        async with hub.node("weather") as leaving:
            await leaving.add_worker(poll)
            leaving.schedule(Pollers(), every=0.2)
            await FORECASTS.wait(lambda: len(FORECASTS.tokens) == len(TENANTS))
            before = dict(FORECASTS.tokens)
            leaving_worker = leaving.workers[0]
            await staying.add_worker(poll)
            staying.schedule(Pollers(), every=0.2)
            await leaving.drain(leaving_worker)
        await FORECASTS.wait(lambda: all(FORECASTS.tokens[one] > before[one] for one in before))
        print("the other node polls for all, with larger tokens")
        is_taken = FORECASTS.write("tenant:oslo", before["tenant:oslo"])
        print(f"a late write of the old poller is taken: {is_taken}")
        del TENANTS["lima"]
        async for _ in staying.ticker("look", every=0.05):
            if len(await staying.jobs()) == 1:
                break
        print(f"left: {', '.join(job.key for job in await staying.jobs())}")
        await staying.shutdown()


if __name__ == "__main__":
    anyio.run(main)
