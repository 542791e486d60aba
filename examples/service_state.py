"""Shared state of a fleet: instances say what they are, and a control plane tells all of them what to do.

An instance that is killed leaves its entry behind: remove it where you notice, such as on starting again.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import anyio
import anyio.abc

import pulsewire


@dataclass(frozen=True)
class Instance:
    """What one instance says of itself."""

    address: str
    status: str = "serving"


INSTANCES = pulsewire.typed(Instance)


async def instance(name: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Register, drain when the control plane says so, and sign off; usually a process of its own."""
    async with (
        pulsewire.connect() as hub,
        hub.map("instances", codec=INSTANCES) as instances,
        hub.map("orders-to-all") as orders,
    ):
        me = Instance(f"{name}.internal:8080")
        await instances.set(name, me)
        task_status.started()
        async for change in orders.changes(initial=True):  # also what was ordered before it started
            if change.key == "mode" and change.new == "maintenance":
                break
        print(f"{name} drains")
        await instances.test_and_set(name, me, replace(me, status="draining"))
        await instances.delete(name)


async def main() -> None:
    """Start instances, look at them, and send all of them into maintenance."""
    async with pulsewire.connect() as hub:
        orders, names = hub.map("orders-to-all"), ["api-1", "api-2"]
        async with (
            hub.map("instances", codec=INSTANCES) as instances,
            anyio.create_task_group() as fleet,
        ):
            for name in names:
                await fleet.start(instance, name)
            await instances.wait_for_revision(len(names))
            print("serving:", *sorted(found.address for found in instances.values()))
            changes = instances.changes()
            await orders.set("mode", "maintenance")
            async for change in changes:
                if change.kind == "delete" and not instances:
                    break
            print("nobody serves any more")

        for used in (orders, hub.map("instances", codec=INSTANCES)):
            await used.destroy()
            await used.forget()


if __name__ == "__main__":
    anyio.run(main)
