"""Acknowledging: joined into few commands, repeated until the server has it, and told to whoever waits."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import Closed, Event, ServerUnavailable, Sink, Stream
from pulsewire.streaming import consume as consume_module
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    add_numbered,
    take,
    work_off,
)


async def pending_at(server: SingleServer, stream: Stream[Any]) -> int:
    """How many events are pending."""
    return int((await server.command("XPENDING", stream.key, "s"))[0])


async def test_acks_of_many_tasks_leave_together(
    weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer, facts: Facts
) -> None:
    """All that come up while one is under way: a few commands for a thousand acks."""
    stream = weathered.stream("events", max_len=0, ttl=60.0)
    await add_numbered(stream, 1000)
    async with stream.sink("s", start="oldest") as sink:
        events = await take(sink, 1000)
        async with anyio.create_task_group() as tasks:
            for event in events:
                tasks.start_soon(event.ack)
        assert proxy.statistics().commands["XACK"] <= 5
        assert await pending_at(single_server, stream) == 0
    assert facts.total("events_acked", "events", "s") == 1000


@pytest.mark.parametrize("then", ["cut", "stall"])
async def test_ack_whose_reply_is_lost_is_repeated(
    then: Any, weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """It does no harm twice; whoever waits gets an answer."""
    stream = weathered.stream("events", ttl=60.0)
    await add_numbered(stream, 3)
    async with stream.sink("s", start="oldest") as sink:
        events = await take(sink, 3)
        fault = proxy.swallow_reply("XACK", then=then)
        with anyio.fail_after(PATIENCE):
            await sink.ack(*events)
        assert fault.hits == 1
        assert await pending_at(single_server, stream) == 0


async def test_ack_that_cannot_be_said_is_told_and_sent_later(fresh_server: SingleServer) -> None:
    """The caller learns it in time; trying goes on."""
    async with pulsewire.connect(fresh_server.url, wait_for_server=0.3) as hub:
        stream = hub.stream("events")
        await add_numbered(stream, 2)
        async with stream.sink("s", start="oldest", ack_grace=60.0) as sink:
            first, second = await take(sink, 2)
            await fresh_server.kill()
            with pytest.raises(ServerUnavailable):
                await first.ack()
            await fresh_server.restart()

            async def is_acked() -> bool:
                return await pending_at(fresh_server, stream) == 1

            await wait_until(is_acked, what="the first one is acknowledged after all")
            await second.ack()
            assert await pending_at(fresh_server, stream) == 0


async def test_handlers_wait_when_too_many_acks_do(
    weathered: pulsewire.Hub, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes no acks does not fill the memory of those who work."""
    monkeypatch.setattr(consume_module, "MAX_BACKLOG", 10)
    stream = weathered.stream("events", ttl=60.0)
    await add_numbered(stream, 200)
    handled = 0
    most = 0

    async with stream.sink("s", start="oldest") as sink:
        (share,) = sink._shares.values()

        async def handle(event: Event[bytes]) -> None:
            nonlocal handled, most
            handled += 1
            most = max(most, share.acks.backlog)
            if handled == 20:
                proxy.swallow_reply("XACK", then="stall")
            if handled == 200:
                sink.stop()

        with anyio.fail_after(PATIENCE):
            await sink.consume(handle, concurrency=4)
    assert most <= 10 + 4
    assert sink.statistics().acked >= 190


async def test_task_that_acks_while_the_sink_is_left_is_answered(
    fresh_server: SingleServer,
) -> None:
    """With an error, when it could not be sent; it does not wait for ever."""
    outcomes: list[BaseException | None] = []

    async def ack(event: Event[bytes]) -> None:
        try:
            await event.ack()
        except (Closed, ServerUnavailable) as error:
            outcomes.append(error)

    async with pulsewire.connect(fresh_server.url, wait_for_server=0.3) as hub:
        stream = hub.stream("events")
        await add_numbered(stream, 1)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                async with stream.sink("s", start="oldest") as sink:
                    (event,) = await take(sink, 1)
                    await fresh_server.kill()
                    tasks.start_soon(ack, event)
                    await anyio.wait_all_tasks_blocked()
        assert len(outcomes) == 1
        with pytest.raises(Closed):
            await event.ack()


async def test_sink_that_never_acks_is_left_without_trouble(
    single_server: SingleServer, namespace: str
) -> None:
    async with pulsewire.connect(single_server.url, namespace=namespace) as hub:
        stream = hub.stream("events", ttl=60.0)
        await add_numbered(stream, 1)
        sink: Sink[bytes]
        async with stream.sink("s", start="oldest") as sink:
            await take(sink, 1)
        assert sink.statistics().acked == 0
        async with stream.sink("s", ack_grace=0.1) as sink:
            await work_off(sink, 1)
