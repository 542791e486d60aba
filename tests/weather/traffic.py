"""Steady traffic: producers of every kind of `add`, two consumers of one sink, and a reader, all noted in a ledger.

Responsible for the load and for waiting until it flows again. What goes wrong meanwhile is the business of `faults.py`
and of the tests.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

import pulsewire
from pulsewire.testing import SingleServer, wait_until
from tests.weather.ledger import Ledger
from tests.weather.patience import SHARING

SINK = "workers"
STREAMS = ("plain", "scripted")
"""One whose events are added with XADD, one whose events are added with a script each time."""
KEPT = 1_000_000
"""`max_len`: nothing is trimmed, so that the stream can be compared with the ledger in the end."""
NOTHING_ADDED = (pulsewire.ServerUnavailable, pulsewire.ServerFull, pulsewire.StreamFull)
LONGEST_RECOVERY = 5.0 * SHARING
"""Seconds from the server being there again until an event added after that is handled: the promise."""

_numbers = itertools.count()


def new_payload() -> bytes:
    """Bytes that no other event of this run has."""
    return b"payload-%d" % next(_numbers)


class Traffic:
    """Use `running`. Statistics stand in `ledger`."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        names: tuple[str, str] = STREAMS,
        pause: float = 0.02,
        ack_grace: float = 2.0,
        producers: int = 3,
    ) -> None:
        self.ledger = ledger
        self.names = names
        self.sinks: list[pulsewire.Sink[bytes]] = []
        self.hubs: list[pulsewire.Hub] = []
        self.ack_grace = ack_grace
        self._pause = pause
        self._producers = producers
        self._flowing = anyio.Event()
        self._flowing.set()
        self._busy = 0
        self._stopping = False

    @asynccontextmanager
    async def running(self, url: str, namespace: str = "") -> AsyncIterator[Traffic]:
        """Traffic on three hubs of their own, from now until the block ends."""
        async with (
            pulsewire.connect(url, namespace=namespace) as publishing,
            pulsewire.connect(url, namespace=namespace) as working,
            pulsewire.connect(url, namespace=namespace) as helping,
        ):
            self.hubs = [publishing, working, helping]
            plain, scripted = self.streams(publishing)
            async with anyio.create_task_group() as tasks:
                await self._start_consuming(tasks, working, self._consume)
                await self._start_consuming(tasks, helping, self._iterate)
                await tasks.start(self._read, publishing)
                for _ in range(self._producers):
                    tasks.start_soon(self._produce, self._add_one, plain)
                tasks.start_soon(self._produce, self._add_keyed, plain)
                tasks.start_soon(self._produce, self._add_many, plain)
                tasks.start_soon(self._produce, self._add_one, scripted)
                await self.wait_flowing()
                yield self
                self._stopping = True
                tasks.cancel_scope.cancel()

    def streams(self, hub: pulsewire.Hub | None = None) -> Sequence[pulsewire.Stream[bytes]]:
        """The two streams, as a hub sees them; by default that of the producers."""
        hub = self.hubs[0] if hub is None else hub
        plain, scripted = self.names
        return (
            hub.stream(plain, max_len=KEPT),
            hub.stream(scripted, max_len=KEPT, sliding_ttl=3600.0),
        )

    # --- producers

    async def pause(self) -> None:
        """Add nothing more; returns when nothing is under way."""
        self._flowing = anyio.Event()
        await wait_until(lambda: not self._busy, timeout=60.0, what="all adds have ended")

    def go_on(self) -> None:
        """Add again."""
        self._flowing.set()

    async def _produce(
        self,
        add: Callable[[pulsewire.Stream[bytes]], Awaitable[None]],
        stream: pulsewire.Stream[bytes],
    ) -> None:
        while True:
            # waiting gives way to others also where it is set already
            while not self._flowing.is_set():
                await self._flowing.wait()
            self._busy += 1
            try:
                await add(stream)
            finally:
                self._busy -= 1
            await anyio.sleep(self._pause)

    async def _add_one(self, stream: pulsewire.Stream[bytes]) -> None:
        await self._add(stream, None)

    async def _add_keyed(self, stream: pulsewire.Stream[bytes]) -> None:
        await self._add(stream, f"key-{next(_numbers)}")

    async def _add(self, stream: pulsewire.Stream[bytes], key: str | None) -> None:
        payload, ledger = new_payload(), self.ledger
        ledger.calls(payload)
        try:
            event_id = await stream.add("happened", payload, idempotency_key=key)
        except pulsewire.OutcomeUnknown:
            ledger.uncertain.add(payload)
        except NOTHING_ADDED:
            ledger.refused.add(payload)
        except BaseException:
            ledger.uncertain.add(payload)
            raise
        else:
            ledger.acknowledge(stream.name, event_id, payload)

    async def _add_many(self, stream: pulsewire.Stream[bytes]) -> None:
        payloads, ledger = [new_payload() for _ in range(5)], self.ledger
        for payload in payloads:
            ledger.calls(payload)
        try:
            ids = await stream.add_many([("happened", payload) for payload in payloads])
        except (pulsewire.OutcomeUnknown, *NOTHING_ADDED):
            ledger.uncertain.update(payloads)  # those before the error are in the stream
        except BaseException:
            ledger.uncertain.update(payloads)
            raise
        else:
            for event_id, payload in zip(ids, payloads, strict=True):
                ledger.acknowledge(stream.name, event_id, payload)

    # --- consumers

    async def _start_consuming(
        self,
        tasks: TaskGroup,
        hub: pulsewire.Hub,
        how: Callable[[pulsewire.Sink[bytes]], Awaitable[None]],
    ) -> None:
        await tasks.start(self._run_sink, hub, how)

    async def _run_sink(
        self,
        hub: pulsewire.Hub,
        how: Callable[[pulsewire.Sink[bytes]], Awaitable[None]],
        *,
        task_status: anyio.abc.TaskStatus[None],
    ) -> None:
        first, *others = self.streams(hub)
        async with first.sink(SINK, start="oldest", ack_grace=self.ack_grace) as sink:
            for other in others:
                await sink.add_stream(other)
            self.sinks.append(sink)
            task_status.started()
            await how(sink)

    async def _consume(self, sink: pulsewire.Sink[bytes]) -> None:
        async def handle(event: pulsewire.Event[bytes]) -> None:
            await anyio.sleep(0.001)
            self._handled(event, sink)

        await sink.consume(handle, concurrency=4)

    async def _iterate(self, sink: pulsewire.Sink[bytes]) -> None:
        async for event in sink:
            self._handled(event, sink)
            try:
                await event.ack()
            except pulsewire.ServerUnavailable:
                continue  # it comes again, to somebody

    def _handled(self, event: pulsewire.Event[bytes], sink: pulsewire.Sink[bytes]) -> None:
        self.ledger.handle(event.stream, event.id, event.payload, event.deliveries, sink.consumer)

    async def _read(self, hub: pulsewire.Hub, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        first, *others = self.streams(hub)
        async with first.reader(start="oldest") as reader:
            for other in others:
                await reader.add_stream(other)
            task_status.started()
            async for event in reader:
                self.ledger.see(event.stream, event.id, event.payload)

    # --- waiting for facts

    async def wait_flowing(
        self,
        after: float | None = None,
        *,
        names: Sequence[str] | None = None,
        timeout: float = 30.0,
    ) -> float:
        """Return when events added after `after` are handled and seen, in each stream: how many seconds later."""
        moment = time.monotonic() if after is None else after
        delay: float | None = None

        def flows() -> bool:
            nonlocal delay
            delay = self.ledger.delay_after(moment, names or self.names)
            return delay is not None

        await wait_until(
            flows, timeout=timeout, what="events added from now on are handled and seen"
        )
        assert delay is not None
        return delay

    async def wait_done(self, *, timeout: float = 30.0) -> None:
        """Stop adding; return when all acknowledged events are handled and seen, as far as they ever will be."""
        await self.pause()
        try:
            await wait_until(
                lambda: not self.ledger.unhandled() and not self.ledger.unseen(),
                timeout=timeout,
                what="everything is handled and seen",
            )
        except AssertionError:
            return  # the verdict says what is missing

    async def wait_acked(self, *, timeout: float = 20.0) -> None:
        """Return when nothing is pending in any group."""

        async def nothing_pending() -> bool:
            for stream in self.streams():
                info = await stream.info()
                if any(group.pending for group in info.groups):
                    return False
            return True

        await wait_until(nothing_pending, timeout=timeout, what="every event is acknowledged")


async def content_of(
    server: SingleServer, stream: pulsewire.Stream[bytes]
) -> list[tuple[str, bytes]]:
    """Every (id, payload) of a stream, read without the library."""
    found: list[tuple[str, bytes]] = []
    start = "-"
    async with server.connection() as connection:
        while True:
            page = await connection.command("XRANGE", stream.key, start, "+", "COUNT", 5000)
            for entry_id, fields in page:
                named = dict(zip(fields[::2], fields[1::2], strict=True))
                found.append((entry_id.decode(), named[b"p"]))
            if len(page) < 5000:
                return found
            start = f"({page[-1][0].decode()}"
