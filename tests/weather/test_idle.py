"""A process that has nothing to do asks the server little."""

from __future__ import annotations

import anyio
import pytest

import pulsewire
from pulsewire.testing import FaultProxy, SingleServer
from tests.weather.report import note_fact

pytestmark = pytest.mark.weather

WATCHED = 6.0
MOST_COMMANDS_A_SECOND = 2.0


async def test_idle_process_sends_at_most_two_commands_a_second(
    fresh_server: SingleServer,
) -> None:
    """One sink and one reader, with default options, over a stream in which nothing happens."""
    async with FaultProxy(fresh_server) as proxy, pulsewire.connect(proxy.url) as hub:
        stream = hub.stream("quiet")
        async with stream.reader() as reader, stream.sink("workers") as sink:
            await stream.add("happened", b"1")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sink.consume, ignore)
                assert await reader.read(timeout=5.0)
                tasks.start_soon(reader.__anext__)
                await anyio.sleep(WATCHED / 3)  # what starting asked is over
                await fresh_server.command("CONFIG", "RESETSTAT")
                before = sum(proxy.statistics().commands.values())
                await anyio.sleep(WATCHED)
                sent = sum(proxy.statistics().commands.values()) - before
                done = {
                    name.removeprefix("cmdstat_"): int(fact.split(",")[0].removeprefix("calls="))
                    for name, fact in (await fresh_server.info("commandstats")).items()
                }
                tasks.cancel_scope.cancel()
    note_fact("idle process", {"seconds": WATCHED, "commands_sent": sent, "server_counts": done})
    assert sent / WATCHED <= MOST_COMMANDS_A_SECOND


async def ignore(event: pulsewire.Event[bytes]) -> None:
    """Handle nothing."""
