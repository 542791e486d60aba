"""Schedules: a producer says at intervals which jobs should exist. One node at a time asks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.loops import PASSING, RETRY_BASE, RETRY_CAP
from pulsewire._core.tasks import is_outcome
from pulsewire.errors import (
    JobExists,
    JobNotFound,
    JobNotStarted,
    JobNotStopped,
    JobStartFailed,
    NoWorkers,
    PoolFull,
)
from pulsewire.pool.crew import Crew
from pulsewire.pool.ticker import Ticker

REFUSALS = (JobStartFailed, JobNotStarted, PoolFull, NoWorkers)


class StopSchedule(Exception):
    """Raised by a producer's `plan`: the schedule ends on all nodes. Its jobs go on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a producer wants now.

    Attributes:
        start: jobs to dispatch, keys with payloads; those that exist are left alone.
        stop: keys of jobs to stop.
        stop_all: stop every job that this producer has started and that is not in `start`.
    """

    start: Sequence[tuple[str, bytes]] = ()
    stop: Sequence[str] = ()
    stop_all: bool = False


class Producer(Protocol):
    """Says which jobs should exist."""

    @property
    def name(self) -> str:
        """The same on all nodes: one of them is asked at each tick."""
        ...

    async def plan(self) -> Plan:
        """What is wanted now. Raise `StopSchedule` to end the schedule."""
        ...


@dataclass(slots=True)
class Outcome:
    """What one plan has led to: keys."""

    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Schedule:
    """One producer's schedule on one node."""

    def __init__(
        self,
        crew: Crew,
        producer: Producer,
        ticker: Ticker,
        dispatch: Callable[[str, bytes], Awaitable[None]],
        stop_job: Callable[[str], Awaitable[None]],
    ) -> None:
        self._crew = crew
        self._producer = producer
        self._ticker = ticker
        self._dispatch = dispatch
        self._stop_job = stop_job

    async def run(self) -> None:
        """Ask the producer at each tick that this node gets, until the schedule or the node ends."""
        async for _ in self._ticker:
            try:
                await self.follow_plan_once()
            except StopSchedule:
                await self._end()
                return
            except BaseException as error:
                if not is_outcome(error):
                    raise
                # the next tick goes on
                self._crew.note_failure(self._producer.name, "", "plan", error)

    async def _end(self) -> None:
        """End the schedule on every node, as soon as the server takes it."""
        backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
        while True:
            try:
                await self._crew.store.forget_planned(self._producer.name)
                await self._ticker.stop()
            except PASSING as error:
                name = f"schedule {self._producer.name}"
                self._crew.hooks.loop_troubled(name, error, backoff.attempts + 1)
                await anyio.sleep(backoff.next_pause())
            else:
                return

    async def follow_plan_once(self) -> Outcome:
        """Ask the producer, and do what it says.

        Raises:
            StopSchedule: it has said so.
            Exception: whatever it raises.
        """
        plan, outcome, store = await self._producer.plan(), Outcome(), self._crew.store
        name = self._producer.name
        for key, payload in plan.start:
            try:
                await self._dispatch(key, payload)
                outcome.started.append(key)
            except JobExists:
                pass
            except REFUSALS as error:
                self._crew.note_failure(key, "", "schedule", error)
                outcome.refused.append(key)
                continue
            await store.note_planned(name, key)
        wanted = {key for key, _ in plan.start}
        ending = await store.planned(name) if plan.stop_all else list(plan.stop)
        for key in ending:
            if key in wanted and plan.stop_all:
                continue
            try:
                await self._stop_job(key)
                outcome.stopped.append(key)
            except JobNotFound:
                pass
            except (JobNotStopped, NoWorkers) as error:
                self._crew.note_failure(key, "", "schedule", error)
                continue
            await store.forget_planned(name, key)
        return outcome
