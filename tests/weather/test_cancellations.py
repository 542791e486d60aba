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
from pulsewire.pool import Job, Node
from pulsewire.tasks import Task
from pulsewire.testing import SingleServer, wait_until
from tests.weather.ledger import Ledger
from tests.weather.report import Tally, note, note_fact
from tests.weather.seeds import LONG, SEED
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
        pytest.param(CANCELLATIONS, id="many", marks=LONG),
    ],
)
async def test_random_cancellations(fresh_server: SingleServer, wanted: int) -> None:
    """Calls of every kind are cancelled on one hub: order, connections and events stay."""
    hooks = Cancelled()
    async with pulsewire.connect(fresh_server.url, hooks=hooks) as hub:
        fuzz = Fuzz(hub, wanted, seed=SEED)
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
    note(f"cancellations {dict(fuzz.cancelled)}", [], [verdict], fuzz.cancelled.total())
    verdict.assert_clean()
    assert not hooks.lost
    assert min(fuzz.cancelled.values()) > 10, "each kind of call was cancelled"
    assert fuzz.answered.total() > 10, "not every call was cancelled"
    everything = {entry[0] for entry in content}
    assert everything == {key[1] for key in fuzz.ledger.handled}, (
        "uncertain events are handled, too"
    )


class OtherCalls(Fuzz):
    """Calls of maps, pools and tasks. What was cancelled may have been done, once."""

    def __init__(self, hub: pulsewire.Hub, wanted: int, seed: int) -> None:
        super().__init__(hub, wanted, seed)
        self.counted = 0
        self.asked = Counter[str]()
        self.runs = Counter[str]()
        self.enqueued: set[str] = set()
        self.dispatched: set[str] = set()
        self.asked_to_stop: set[str] = set()

    def counting(self, counters: pulsewire.ReplicatedMap[str]) -> Callable[[], Awaitable[None]]:
        """One more."""

        async def count() -> None:
            self.asked["count"] += 1
            assert isinstance(await counters.inc("count"), int)
            self.counted += 1

        return count

    async def enqueue(self) -> None:
        """A task of its own."""
        self.asked["enqueue"] += 1
        task_id = f"t{self.asked['enqueue']}"
        info = await self.hub.tasks.enqueue("note", b"", task_id=task_id)
        assert info.id == task_id
        self.enqueued.add(task_id)

    async def run(self, task: Task) -> None:
        """What the server does with it."""
        self.runs[task.id] += 1

    def dispatching(self, node: Node) -> Callable[[], Awaitable[None]]:
        """A job of its own, that is stopped again."""

        async def dispatch() -> None:
            self.asked["dispatch"] += 1
            key = f"job-{self.asked['dispatch']}"
            await node.dispatch(key, b"")
            self.dispatched.add(key)
            self.asked_to_stop.add(key)
            await node.stop_job(key)
            self.dispatched.remove(key)

        return dispatch

    def listing(self, node: Node) -> Callable[[], Awaitable[None]]:
        """Something whose reply shows at once when it is another's."""

        async def look() -> None:
            assert all(job.key.startswith("job-") for job in await node.jobs())

        return look


async def hold(job: Job) -> None:
    """Run until it is stopped."""
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(2_000, id="two-thousand"),
        pytest.param(CANCELLATIONS, id="many", marks=LONG),
    ],
)
async def test_random_cancellations_of_maps_pools_and_tasks(
    fresh_server: SingleServer, wanted: int
) -> None:
    """The same for the other blocks: what was answered is done, what was cancelled is done once or not at all."""
    hooks = Cancelled()
    async with pulsewire.connect(fresh_server.url, hooks=hooks) as hub:
        fuzz = OtherCalls(hub, wanted, seed=SEED)
        mux = pulsewire.tasks.Mux()
        mux.add("note", fuzz.run)
        async with (
            hub.map("counters") as counters,
            hub.node("mailboxes") as node,
            hub.task_server(mux, queues=["default"], concurrency=10),
        ):
            await node.add_worker(hold)
            calls = {
                "count": fuzz.counting(counters),
                "enqueue": fuzz.enqueue,
                "dispatch": fuzz.dispatching(node),
                "list": fuzz.listing(node),
            }
            for call in calls.values():
                await call()
            await wait_until(lambda: bool(fuzz.runs), what="a task has run")
            connections = {*(await fresh_server.clients())}
            async with anyio.create_task_group() as tasks:
                for what, call in calls.items():
                    for _ in range(VICTIMS // 8):
                        tasks.start_soon(fuzz.cancel_calls, what, call)
            await wait_until(
                lambda: fuzz.enqueued <= fuzz.runs.keys(), what="what was enqueued has run"
            )
            await counters.inc("count", 0)
            assert fuzz.counted <= int(counters["count"]) <= fuzz.asked["count"]
            jobs = {job.key for job in await node.jobs()}
            assert fuzz.dispatched - fuzz.asked_to_stop <= jobs
            assert {*(await fresh_server.clients())} == connections, "a connection was replaced"
            for key in jobs:
                await node.stop_job(key)
        twice = [task_id for task_id, runs in fuzz.runs.items() if runs > 1]
    tally = Tally(
        block="maps, pools, tasks",
        tries=fuzz.cancelled.total(),
        acts=fuzz.answered.total(),
        doubled=len(twice),
    )
    note_fact(f"{fuzz.cancelled.total()} cancellations", dict(fuzz.cancelled), tally)
    assert not twice, twice[:5]
    assert not hooks.lost
    assert min(fuzz.cancelled.values()) > 10, "each kind of call was cancelled"
    assert fuzz.answered.total() > 10, "not every call was cancelled"


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
