"""What `add` says about an event is true, whatever became of its reply; and what was begun never gets stuck."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

import pulsewire
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.weather.ledger import Ledger
from tests.weather.traffic import KEPT, LONGEST_RECOVERY, content_of, new_payload

pytestmark = pytest.mark.weather

GRACE = 0.5
MANY = 1500


async def test_event_that_was_handled_and_removed_is_not_added_again(
    fresh_server: SingleServer,
) -> None:
    """Its reply was lost, and it is no longer in the stream: nobody can tell, so `add` says that."""
    handled: list[bytes] = []
    async with (
        FaultProxy(fresh_server) as proxy,
        pulsewire.connect(proxy.url) as publishing,
        pulsewire.connect(fresh_server.url) as working,
    ):
        theirs = working.stream("jobs", max_len=KEPT)
        stream = publishing.stream("jobs", max_len=KEPT)
        first = await stream.add("job", b"first")
        async with theirs.sink("workers", start=first) as sink, anyio.create_task_group() as tasks:

            async def handle(event: pulsewire.Event[bytes]) -> None:
                handled.append(event.payload)
                await theirs.remove(event.id)

            tasks.start_soon(sink.consume, handle)
            await stream.add("job", b"second")
            proxy.swallow_reply("XADD", then="stall")
            with pytest.raises(pulsewire.OutcomeUnknown):
                await stream.add("job", b"third")
            await wait_until(lambda: len(handled) == 2, what="both are handled")
            sink.stop()
    assert handled == [b"second", b"third"]


async def test_lost_reply_of_an_add_that_found_no_stream(fresh_server: SingleServer) -> None:
    """`only_if_exists` answers None, also when its first answer was lost."""
    async with FaultProxy(fresh_server) as proxy, pulsewire.connect(proxy.url) as hub:
        stream = hub.stream("jobs", max_len=0)
        fault = proxy.swallow_reply("XADD", then="cut")
        assert await stream.add("job", b"1", only_if_exists=True) is None
        assert fault.hits == 1


@pytest.mark.parametrize("wait_for_server", [0.2, pytest.param(1.0, marks=pytest.mark.slow)])
async def test_refused_add_was_not_added(
    fresh_server: SingleServer, wait_for_server: float
) -> None:
    """In outages longer than anybody waits, `ServerUnavailable` means: not added. The rest is `OutcomeUnknown`."""
    ledger = Ledger()
    async with (
        FaultProxy(fresh_server) as proxy,
        pulsewire.connect(proxy.url, wait_for_server=wait_for_server) as hub,
    ):
        stream = hub.stream("jobs", max_len=KEPT)
        await stream.add("job", new_payload())

        async def add(number: int) -> None:
            payload = new_payload()
            key = payload.decode() if number % 3 == 0 else None
            try:
                event_id = await stream.add("job", payload, idempotency_key=key)
            except pulsewire.OutcomeUnknown:
                ledger.uncertain.add(payload)
            except pulsewire.ServerUnavailable:
                ledger.refused.add(payload)
            else:
                ledger.acknowledge("jobs", event_id, payload)

        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(add, number)
                    if number == 10:
                        await anyio.sleep(0.02)
                        proxy.stall("to_client")  # carried out, not answered
                    await anyio.sleep(0.01)
                await proxy.refuse()
                proxy.cut()
                proxy.resume()
                for number in range(10):
                    tasks.start_soon(add, number)
                await anyio.sleep(1.5 * wait_for_server)
                await proxy.accept()
        content = {"jobs": await content_of(fresh_server, stream)}
    copies = [payload for _, payload in content["jobs"]]
    assert ledger.acknowledged
    assert ledger.refused | ledger.uncertain, "the outage was noticed"
    assert not ledger.refused & set(copies)
    assert len(copies) == len(set(copies))
    assert set(ledger.acknowledged.values()) <= set(copies)


async def test_many_adds_in_flight_at_once_are_settled_quickly(fresh_server: SingleServer) -> None:
    """More than a thousand adds lose their replies together: what became of them is known within the bound."""
    async with FaultProxy(fresh_server) as proxy, pulsewire.connect(proxy.url) as hub:
        stream = hub.stream("jobs", max_len=KEPT)
        await stream.add("job", b"first")
        proxy.stall("to_client")
        adding = [asyncio.ensure_future(stream.add("job", new_payload())) for _ in range(MANY)]

        async def all_there() -> bool:
            return int(await fresh_server.command("XLEN", stream.key)) == 1 + MANY

        await wait_until(all_there, what="the server has carried them out")
        proxy.cut()
        proxy.resume()
        began = time.monotonic()
        ids = await asyncio.gather(*adding)
        assert len(set(ids)) == MANY
        assert await stream.length() == 1 + MANY
        assert time.monotonic() - began < LONGEST_RECOVERY


# --- what was begun comes again


async def test_event_of_a_cancelled_handler_comes_again_while_the_sink_is_open(
    fresh_server: SingleServer,
) -> None:
    """Consuming is cancelled and begun anew: the event that was in work is delivered after the grace."""
    async with pulsewire.connect(fresh_server.url) as hub:
        stream = hub.stream("jobs")
        deliveries: list[int] = []
        async with stream.sink("workers", start="oldest", ack_grace=GRACE) as sink:
            await stream.add("job", b"1")

            async def handle(event: pulsewire.Event[bytes]) -> None:
                deliveries.append(event.deliveries)
                if event.deliveries == 1:
                    await anyio.sleep_forever()
                sink.stop()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sink.consume, handle)
                await wait_until(lambda: bool(deliveries), what="it is in work")
                tasks.cancel_scope.cancel()
            with anyio.fail_after(LONGEST_RECOVERY):
                await sink.consume(handle)
    assert deliveries == [1, 2]


async def test_parked_events_come_again_after_consuming_was_cancelled(
    fresh_server: SingleServer,
) -> None:
    """So do those that waited for another one of their key."""
    async with pulsewire.connect(fresh_server.url) as hub:
        stream = hub.stream("jobs")
        handled: set[bytes] = set()
        begun = anyio.Event()
        async with stream.sink("workers", start="oldest", ack_grace=GRACE) as sink:
            await stream.add_many([("job", b"%d" % number) for number in range(6)])

            async def stick(event: pulsewire.Event[bytes]) -> None:
                begun.set()
                await anyio.sleep_forever()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(
                    lambda: sink.consume(stick, concurrency=4, ordered_by=lambda event: 0)
                )
                await begun.wait()
                await wait_until(lambda: sink.statistics().delivered >= 4, what="others are parked")
                tasks.cancel_scope.cancel()

            async def handle(event: pulsewire.Event[bytes]) -> None:
                handled.add(event.payload)
                if len(handled) == 6:
                    sink.stop()

            with anyio.fail_after(LONGEST_RECOVERY):
                await sink.consume(handle)
    assert len(handled) == 6


async def test_event_comes_again_when_its_loop_is_left(fresh_server: SingleServer) -> None:
    """The loop is left inside the sink's block, by `break` or an error: its event is not kept from the others."""
    async with pulsewire.connect(fresh_server.url) as hub:
        stream = hub.stream("jobs")
        deliveries: list[int] = []
        async with stream.sink("workers", start="oldest", ack_grace=GRACE) as sink:
            await stream.add("job", b"1")
            async for event in sink:
                deliveries.append(event.deliveries)
                break
            with anyio.fail_after(LONGEST_RECOVERY):
                async for event in sink:
                    deliveries.append(event.deliveries)
                    await event.ack()
                    sink.stop()
    assert deliveries == [1, 2]
