"""Feature flags: one write switches a feature for a whole fleet at once, and reading a flag costs no network.

Runs on the embedded server, or on the one that $PULSEWIRE_URL names.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.abc

import pulsewire

FLAG = "signup.new-form"
FLEET = ["web-1", "web-2", "worker-1"]


def sign_up(flags: Mapping[str, str]) -> str:
    """Serve a request. Looking at a flag is looking into a dict."""
    return "new form" if flags.get(FLAG, "off") == "on" else "old form"


async def serve(name: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """One service of the fleet; usually a process of its own."""
    async with pulsewire.connect() as hub, hub.map("feature-flags") as flags:
        changes = flags.changes()
        print(f"{name} starts with the {sign_up(flags)}")
        task_status.started()
        # Only needed to act on a change; whoever just reads the flag sees the new value by itself.
        async for change in changes:
            print(f"{name}: {change.key} was {change.old}, now the {sign_up(flags)}")
            break


async def main() -> None:
    """Start the fleet, then switch the feature on."""
    async with pulsewire.connect() as hub:
        flags = hub.map("feature-flags")  # writing needs no joining
        await flags.set(FLAG, "off")
        async with anyio.create_task_group() as fleet:
            for name in FLEET:
                await fleet.start(serve, name)
            await flags.set(FLAG, "on")

        await flags.destroy()  # only to leave nothing behind; maps usually stay
        await flags.forget()


if __name__ == "__main__":
    anyio.run(main)
