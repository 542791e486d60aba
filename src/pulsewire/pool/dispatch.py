"""The caller's half of a pool: dispatching, stopping, notifying, and waiting for what becomes of it.

Outcomes come through the replies of the node. A reply that does not come is no outcome: every so often the job itself
is looked at, and says where it is (protocol 4.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.ids import RequestIds
from pulsewire.errors import (
    Closed,
    JobExists,
    JobNotFound,
    JobNotStarted,
    JobNotStopped,
    JobStartFailed,
    NoWorkers,
    OutcomeUnknown,
    PoolFull,
    PoolShutDown,
    ServerUnavailable,
)
from pulsewire.pool.crew import Crew
from pulsewire.pool.jobs import JobState
from pulsewire.pool.store import Ended, Stopped
from pulsewire.pool.wire import Reply

LOOK_FOR_WORKERS = 0.5
"""Seconds to look for workers that Redis says there are; after that they are taken for draining, and the job waits."""
LOOK_AFTER = 2.0
"""Seconds without a reply after which a job is looked at."""
GONE = "it ended before its start was reported"


@dataclass(slots=True)
class _Waiter:
    """Who waits for the reply to a request about a job. The future only wakes it, for the reply or to look."""

    key: str
    future: asyncio.Future[None]
    reply: Reply | None = None

    def wake(self) -> None:
        """There is something to see."""
        if not self.future.done():
            self.future.set_result(None)

    async def wait(self, seconds: float) -> Reply | None:
        """The reply; None when it has not come in that time."""
        loop = asyncio.get_running_loop()
        if self.reply is None:
            if self.future.done():
                self.future.result()
                self.future = loop.create_future()
            alarm = loop.call_later(max(seconds, 0.0), self.wake)
            try:
                await self.future
            finally:
                alarm.cancel()
        return self.reply


@contextmanager
def _sent(what: str) -> Iterator[None]:
    """What follows a change that was made: a server that is away by now does not undo it."""
    try:
        yield
    except ServerUnavailable as error:
        raise OutcomeUnknown(what, error.reason) from error


class Dispatcher:
    """Dispatches for one node."""

    def __init__(self, crew: Crew, requests: RequestIds) -> None:
        self._crew = crew
        self._requests = requests
        self._waiters: dict[str, _Waiter] = {}

    def take(self, reply: Reply) -> None:
        """A reply has come."""
        waiter = self._waiters.get(reply.request)
        if waiter is not None:
            waiter.reply = reply
            waiter.wake()

    def close(self) -> None:
        """Nobody will be answered any more."""
        for waiter in self._waiters.values():
            if not waiter.future.done():
                waiter.future.set_exception(Closed(f"the node of pool {self._crew.name!r}"))
                waiter.future.exception()

    async def dispatch(self, key: str, payload: bytes, *, wait: bool, timeout: float) -> None:
        """See `Node.dispatch`."""
        request = self._requests.next()
        if not wait:
            await self._admit(key, payload, request, "", timeout)
            return
        waiter = self._expect(key, request)
        try:
            began = SYSTEM_CLOCK.monotonic()
            await self._admit(key, payload, request, self._crew.node, timeout)
            left = timeout - (SYSTEM_CLOCK.monotonic() - began)
            with _sent(f"the dispatch of job {key!r}"):
                await self._wait_started(waiter, timeout, left)
        finally:
            del self._waiters[request]

    async def _admit(
        self, key: str, payload: bytes, request: str, node: str, timeout: float
    ) -> None:
        crew, backoff = self._crew, Backoff(base=0.01, cap=0.1)
        limit, began = crew.options.max_queued_jobs, SYSTEM_CLOCK.monotonic()
        while True:
            worker = crew.target(key)
            waited = SYSTEM_CLOCK.monotonic() - began
            answer = await crew.store.dispatch(
                key,
                payload,
                worker,
                request=request,
                node=node,
                max_queued=limit,
                park=waited > min(LOOK_FOR_WORKERS, timeout),
            )
            if answer.outcome in ("given", "parked", "repeated"):
                return
            if answer.outcome == "exists":
                raise JobExists(crew.name, key, answer.text)
            if answer.outcome == "full":
                raise PoolFull(crew.name, answer.number, limit)
            if answer.outcome == "shutdown":
                raise PoolShutDown(crew.name, answer.text)
            if answer.outcome == "lapsed":
                crew.suspect(worker)
            else:  # there are workers that this node does not know yet, or suspects
                crew.roster.trust_again()
                await anyio.sleep(backoff.next_pause())

    def _expect(self, key: str, request: str) -> _Waiter:
        waiter = _Waiter(key, asyncio.get_running_loop().create_future())
        self._waiters[request] = waiter
        return waiter

    async def _wait_started(self, waiter: _Waiter, timeout: float, within: float) -> None:
        crew, began = self._crew, SYSTEM_CLOCK.monotonic()
        while True:
            left = began + within - SYSTEM_CLOCK.monotonic()
            reply = await waiter.wait(min(left, LOOK_AFTER))
            if reply is not None:
                if reply.outcome == "failed":
                    raise JobStartFailed(crew.name, waiter.key, reply.text)
                return
            job = await crew.store.job(waiter.key, payload=False)
            if waiter.reply is not None:
                continue
            if job is None:
                raise JobStartFailed(crew.name, waiter.key, GONE)
            if job.state is JobState.RUNNING:
                return
            if left <= 0:
                raise JobNotStarted(crew.name, waiter.key, timeout, job.state.value)

    async def stop(self, key: str, *, wait: bool, timeout: float) -> None:
        """See `Node.stop_job`."""
        crew, request = self._crew, self._requests.next()
        waiter = self._expect(key, request)
        node = crew.node if wait else ""

        async def ask(worker: str) -> Stopped:
            return await crew.store.stop(key, worker, request, node)

        try:
            answer = await crew.ask_owner(key, ask)
            if answer.outcome == "missing":
                if answer.was_repeated:  # gone, perhaps by the request whose reply was lost
                    return
                raise JobNotFound(crew.name, key)
            if answer.outcome == "elsewhere":
                raise NoWorkers(crew.name, key)
            with _sent(f"the stop of job {key!r}"):
                if answer.outcome == "ended" and answer.node:
                    await crew.tell_ended(Ended("ended", answer.text, answer.node))
                if wait and answer.outcome == "stopping":
                    await self._wait_ended(waiter, timeout)
        finally:
            del self._waiters[request]

    async def _wait_ended(self, waiter: _Waiter, timeout: float) -> None:
        began = SYSTEM_CLOCK.monotonic()
        while True:
            left = began + timeout - SYSTEM_CLOCK.monotonic()
            if await waiter.wait(min(left, LOOK_AFTER)) is not None:
                return
            job = await self._crew.store.job(waiter.key, payload=False)
            if job is None or job.state is not JobState.STOPPING:
                return  # ended; or ended and dispatched anew
            if left <= 0:
                raise JobNotStopped(self._crew.name, waiter.key, timeout)

    async def notify(self, key: str, payload: bytes, *, timeout: float) -> None:
        """See `Node.notify`."""
        backoff, began = Backoff(base=0.02, cap=0.5), SYSTEM_CLOCK.monotonic()
        while True:
            try:
                await self._crew.notify(key, payload)
            except NoWorkers:
                pause = backoff.next_pause()
                if SYSTEM_CLOCK.monotonic() + pause >= began + timeout:
                    raise
                await anyio.sleep(pause)
            else:
                return
