"""Random cancellations while traffic goes on: no crossed reply, no lost connection, no lost event."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import anyio
import pytest

import pulsewire
from pulsewire.testing import SingleServer, wait_until
from tests.weather.ledger import Ledger
from tests.weather.report import note
from tests.weather.traffic import KEPT, content_of, new_payload

pytestmark = pytest.mark.weather

CANCELLATIONS = int(os.environ.get("PULSEWIRE_CANCELLATIONS", "100000"))
VICTIMS = 40


class Cancelled(pulsewire.Hooks):
    """Counts lost connections."""

    def __init__(self) -> None:
        self.lost = 0

    def connection_lost(self, address: str, reason: str, in_flight: int) -> None:
        """A connection was given up."""
        self.lost += 1


class Fuzz:
    """Starts calls on one hub, cancels most of them at a random moment, and notes the rest."""

    def __init__(self, hub: pulsewire.Hub, wanted: int, seed: int) -> None:
        self.hub = hub
        self.ledger = Ledger()
        self.cancelled = Counter[str]()
        self.answered = Counter[str]()
        self._wanted = wanted
        self._random = random.Random(seed)
        self._stream = hub.stream("plain", max_len=KEPT)

    @property
    def is_done(self) -> bool:
        """Whether enough calls were cancelled."""
        return self.cancelled.total() >= self._wanted

    async def cancel_calls(
        self, what: str, make: Callable[[], Awaitable[None]], *, pause: float = 0.0
    ) -> None:
        """One call after the other, cancelled after up to three turns of the loop, or a millisecond."""
        while not self.is_done:
            call = asyncio.ensure_future(make())
            turns = self._random.randrange(-1, 4)
            if turns < 0:
                await asyncio.sleep(self._random.uniform(0.0, 0.002))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            try:
                await call
            except asyncio.CancelledError:
                self.cancelled[what] += 1
            else:
                self.answered[what] += 1
            if pause:
                await asyncio.sleep(pause)

    # --- the calls

    async def add(self) -> None:
        """An add of a payload of its own."""
        payload = new_payload()
        self.ledger.uncertain.add(payload)
        event_id = await self._stream.add("happened", payload)
        self.ledger.acknowledge("plain", event_id, payload)

    async def add_keyed(self) -> None:
        """The same with a script."""
        payload = new_payload()
        event_id = await self._stream.add("happened", payload, idempotency_key=payload.decode())
        self.ledger.acknowledge("plain", event_id, payload)

    async def add_many(self) -> None:
        """Three at once."""
        payloads = [new_payload() for _ in range(3)]
        ids = await self._stream.add_many([("happened", payload) for payload in payloads])
        for event_id, payload in zip(ids, payloads, strict=True):
            self.ledger.acknowledge("plain", event_id, payload)

    async def look(self) -> None:
        """Something whose reply shows at once when it is another's."""
        assert isinstance(await self._stream.length(), int)
        moment = await self.hub.time()
        assert moment > 1e9

    def reading(self, reader: pulsewire.Reader[bytes]) -> Callable[[], Awaitable[None]]:
        """A read of a reader."""

        async def read() -> None:
            for event in await reader.read(max=20, timeout=0.5):
                self.ledger.see("plain", event.id, event.payload)

        return read

    def working(self, sink: pulsewire.Sink[bytes]) -> Callable[[], Awaitable[None]]:
        """A read of a sink, and acks of what it brought; cancelled anywhere in between."""

        async def work() -> None:
            events = await sink.read(max=20, timeout=0.5)
            for event in events:
                self.ledger.handle(
                    "plain", event.id, event.payload, event.deliveries, sink.consumer
                )
            await sink.ack(*events)

        return work


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(10_000, id="ten-thousand"),
        pytest.param(CANCELLATIONS, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
async def test_random_cancellations(fresh_server: SingleServer, wanted: int) -> None:
    """Calls of every kind are cancelled on one hub: order, connections and events stay."""
    hooks = Cancelled()
    async with pulsewire.connect(fresh_server.url, hooks=hooks) as hub:
        fuzz = Fuzz(hub, wanted, seed=wanted)
        stream = hub.stream("plain", max_len=KEPT)
        async with (
            stream.reader(start="oldest") as reader,
            stream.sink("workers", start="oldest", ack_grace=1.0) as sink,
        ):
            steady = asyncio.ensure_future(steady_adds(fuzz, stream))
            await wait_until(lambda: bool(fuzz.ledger.acknowledged), what="adds are answered")
            await fuzz.working(sink)()
            await fuzz.reading(reader)()
            connections = {*(await fresh_server.clients())}
            async with anyio.create_task_group() as tasks:
                for number in range(VICTIMS):
                    make = (fuzz.add, fuzz.add_keyed, fuzz.add_many, fuzz.look)[number % 4]
                    tasks.start_soon(fuzz.cancel_calls, make.__name__, make)
                tasks.start_soon(fuzz.cancel_calls, "read", fuzz.reading(reader))
                tasks.start_soon(fuzz.cancel_calls, "work", fuzz.working(sink))
            steady.cancel()
            await asyncio.gather(steady, return_exceptions=True)
            content = await content_of(fresh_server, stream)
            await drain(fuzz, reader, sink, len(content))
            assert {*(await fresh_server.clients())} == connections, "a connection was replaced"
        content = await content_of(fresh_server, stream)
    # a cancelled ack may leave its event to come again
    fuzz.ledger.faults.append((0.0, float("inf")))
    verdict = fuzz.ledger.judge({"plain": content})
    note(f"{fuzz.cancelled.total()} cancellations {dict(fuzz.cancelled)}", [], [verdict], 1)
    verdict.assert_clean()
    assert not hooks.lost
    assert min(fuzz.cancelled.values()) > 10, "each kind of call was cancelled"
    assert fuzz.answered.total() > 10, "not every call was cancelled"
    everything = {entry[0] for entry in content}
    assert everything == {key[1] for key in fuzz.ledger.handled}, (
        "uncertain events are handled, too"
    )


async def steady_adds(fuzz: Fuzz, stream: pulsewire.Stream[bytes]) -> None:
    """Adds that nobody cancels, so that crossed replies would show."""
    while True:
        payload = new_payload()
        fuzz.ledger.acknowledge("plain", await stream.add("happened", payload), payload)
        await asyncio.sleep(0.001)


async def drain(
    fuzz: Fuzz, reader: pulsewire.Reader[bytes], sink: pulsewire.Sink[bytes], count: int
) -> None:
    """Read and handle what is left, without cancelling."""
    read, work = fuzz.reading(reader), fuzz.working(sink)

    ledger = fuzz.ledger

    async def read_all() -> None:
        while len(ledger.seen) < count:
            await read()

    async def work_all() -> None:
        while len(ledger.handled) < count:
            await work()

    with anyio.fail_after(60.0):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_all)
            tasks.start_soon(work_all)
