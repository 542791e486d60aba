"""A write that was carried out, and whose reply was lost while the password changed: nobody is told that it was not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
import redis.asyncio
from redis.credentials import CredentialProvider

import pulsewire
from pulsewire.testing import FaultProxy, SingleServer

USER = "changing"
Write = Callable[[pulsewire.Hub], Awaitable[object]]
WRITES: dict[str, tuple[str, Write]] = {
    "maps": ("EVALSHA", lambda hub: hub.map("m").inc("n")),
    "lists of maps": ("EVALSHA", lambda hub: hub.map("m").append_values("l", "x")),
    "streams": ("XADD", lambda hub: hub.stream("s", retain="none").add("x", b"")),
    "tasks": ("EVALSHA", lambda hub: hub.tasks.enqueue("t", b"")),
}


class Changing(CredentialProvider):
    """Gives a password that is changed from outside."""

    password = "first"

    def get_credentials(self) -> tuple[str, str]:
        """As of now."""
        return USER, self.password

    async def get_credentials_async(self) -> tuple[str, str]:
        """The same."""
        return self.get_credentials()


@pytest.mark.parametrize("what", WRITES)
async def test_carried_out_and_then_refused_is_an_unknown_outcome(
    fresh_server: SingleServer, what: str
) -> None:
    command, write = WRITES[what]
    credentials = Changing()
    await fresh_server.command("ACL", "SETUSER", USER, "on", ">first", "~*", "&*", "+@all")
    async with FaultProxy(fresh_server) as proxy:
        client = redis.asyncio.Redis(
            host=proxy.host, port=proxy.port, credential_provider=credentials
        )
        async with pulsewire.connect(client) as hub:
            await write(hub)  # scripts are loaded
            before = await size(fresh_server)
            fault = proxy.swallow_reply(command, then="stall")

            async def doubt() -> None:
                with pytest.raises(pulsewire.OutcomeUnknown, match="refused the credentials"):
                    await write(hub)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(doubt)
                await fault.wait_hit()
                await fresh_server.command("ACL", "SETUSER", USER, "resetpass", ">second")
                proxy.clear()
                proxy.cut()
            assert await size(fresh_server) == before + 1
            credentials.password = "second"
            await write(hub)
        await client.aclose()


async def size(server: SingleServer) -> int:
    """How much has been written: one more with each write of whatever kind."""
    revision = await server.command("HGET", "map:m:content", "=rev")
    events = await server.command("XLEN", "pulse:stream:s")
    tasks = await server.command("LLEN", "asynq:{default}:pending")
    return int(revision or 0) + int(events) + int(tasks)
