"""Servers of both languages on the same queues, any of which is killed at any time: nothing is lost.

Both languages enqueue meanwhile. Judged from what the handlers have told in files, outside Redis; what Redis holds is
looked at all the time. Who is killed when is chance: the seed is printed, and `PULSEWIRE_TEST_SEED` gives one.
"""

from __future__ import annotations

import os
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire.tasks import NewTask
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_keys import states_of
from tests.conformance.asynq_programs import PATIENCE, Program, Programs
from tests.conformance.asynq_scenes import LONG_AGO, QUEUE, a_task
from tests.weather.task_queue import Watched

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]  # the first run downloads

SEED = "PULSEWIRE_TEST_SEED"
QUEUES = (QUEUE, "other")
PLACES = 5
IN_FLIGHT = 4 * PLACES
"""So many of the last tasks of a server may have ended without it being written. More than its places: it writes what
has ended together, and takes others meanwhile."""
LOW = 60
"""Pending tasks below which more are enqueued while servers are killed."""
SERVING: dict[str, Any] = {"concurrency": PLACES, "retry_delay": 0.0, "shutdown_timeout": 8.0}
OURS: dict[str, Any] = {"lease": 3.0, "forward_interval": 0.1, "max_lost": 100}
VERBS = ("nap",) * 7 + ("result", "once", "fail")
STATES = {"fail": b"archived"}
"""What a task becomes in the end by its verb; completed where none is named."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of one task. `error` is None where its end was not told."""

    task_id: str
    began: float
    server: Program
    error: str | None
    is_among_last: bool


class Station:
    """The servers, those that are dead with them, and the tasks."""

    def __init__(
        self,
        programs: Programs,
        hub: pulsewire.Hub,
        redis: SingleServer,
        stack: AsyncExitStack,
        choice: random.Random,
    ) -> None:
        self.choice = choice
        self.serving: dict[Program, str] = {}
        self.dead: list[Program] = []
        self.enqueued: dict[str, NewTask] = {}
        self.watched = Watched(redis, QUEUES, "")
        self._programs = programs
        self._hub = hub
        self._redis = redis
        self._stack = stack
        self._new = self._tasks()

    def _tasks(self) -> Iterator[NewTask]:
        number = 0
        while True:
            verb = self.choice.choice(VERBS)
            options: dict[str, Any] = {"max_retry": 1} if verb == "fail" else {}
            queue = self.choice.choice(QUEUES)
            yield a_task(f"{verb}:it", f"task {number}", queue=queue, retention=3600.0, **options)
            number += 1

    async def start(self, *kinds: str) -> None:
        """So many servers more: "go" or "ours"."""
        for kind in kinds:
            starting = (
                self._programs.go_server(queues=dict.fromkeys(QUEUES, 1), **SERVING)
                if kind == "go"
                else self._programs.our_server(queues=QUEUES, **SERVING, **OURS)
            )
            self.serving[await self._stack.enter_async_context(starting)] = kind

    async def feed(self, count: int) -> None:
        """Enqueue more, half of them from Go."""
        tasks = [next(self._new) for _ in range(count)]
        self.enqueued |= {task.task_id or "": task for task in tasks}
        async with anyio.create_task_group() as both:
            both.start_soon(self._programs.enqueue, *tasks[::2])
            both.start_soon(self._hub.tasks.enqueue_many, tasks[1::2])

    async def kill_one(self) -> int:
        """SIGKILL one that is busy; how many tasks it was running."""
        victim = self.choice.choice([*self.serving])

        async def is_busy() -> bool:
            states = await self.watched.look_at_all()
            if sum(state.counts.get("pending", 0) for state in states) < LOW:
                await self.feed(LOW)
            return running_in(victim) > 0

        await wait_until(is_busy, timeout=PATIENCE, what="a server is busy")
        await victim.kill()
        self.dead.append(victim)
        await self.start(self.serving.pop(victim))
        return running_in(victim)

    async def give_back_what_go_lost(self) -> None:
        """As if a minute had passed: Go leaves what a dead server had for so long. Those that live end before."""
        living = [server for server, kind in self.serving.items() if kind == "go"]
        for server in living:
            await server.end()
            del self.serving[server]
            self.dead.append(server)
        now = int((await self._redis.command("TIME"))[0])
        for queue in QUEUES:
            key = f"asynq:{{{queue}}}:lease"
            reply = iter(await self._redis.command("ZRANGE", key, 0, -1, "WITHSCORES"))
            for task_id, score in zip(reply, reply, strict=True):
                if not float(score) % 1:  # ours end between two seconds
                    await self._redis.command("ZADD", key, "XX", now - LONG_AGO, task_id)

    async def all_are_done(self) -> bool:
        """Whether each task is in a state in which it stays."""
        states = await self.watched.look_at_all()
        ended = sum(
            state.counts.get(name, 0) for state in states for name in ("completed", "archived")
        )
        return ended == len(self.enqueued)

    def runs(self) -> dict[str, list[Run]]:
        """By task, in order."""
        found: dict[str, list[Run]] = {}
        for server in (*self.serving, *self.dead):
            errors = {fact["run"]: fact["error"] for fact in server.facts.of("ended")}
            begun = server.facts.of("begun")
            for place, fact in enumerate(begun):
                error = errors.get(fact["run"])
                is_among_last = place >= len(begun) - IN_FLIGHT
                run = Run(fact["id"], fact["at"], server, error, is_among_last)
                found.setdefault(run.task_id, []).append(run)
        return {name: sorted(runs, key=lambda run: run.began) for name, runs in found.items()}


def running_in(server: Program) -> int:
    """How many handlers have begun there and not ended."""
    return len(server.facts.of("begun")) - len(server.facts.of("ended"))


@pytest.mark.parametrize(
    ("many", "rounds", "kills"),
    [(500, 1, 3), pytest.param(10_000, 5, 6, marks=pytest.mark.slow)],
    ids=["few", "many"],
)
async def test_nothing_is_lost_while_servers_of_both_are_killed(
    programs: Programs,
    asynq_hub: pulsewire.Hub,
    asynq_redis: SingleServer,
    many: int,
    rounds: int,
    kills: int,
) -> None:
    """Every task ends in a state that one can see; twice runs only what was in flight when its server was killed."""
    seed = int(os.environ.get(SEED, secrets.randbits(32)))
    print(f"{SEED}={seed}")
    hit = Counter[str]()
    async with AsyncExitStack() as stack:
        station = Station(programs, asynq_hub, asynq_redis, stack, random.Random(seed))
        await station.start("ours", "ours")
        for number in range(1, rounds + 1):
            await station.start("go", "go")
            hits = 0
            while hits < kills:
                running = await station.kill_one()
                hits += bool(running)
                hit["servers"] += 1
                hit["tasks"] += running
            await station.feed(max(0, many * number // rounds - len(station.enqueued)))
            await station.give_back_what_go_lost()
        await station.start("go")
        await wait_until(station.all_are_done, timeout=120.0, what="all are done")
        runs = station.runs()
    assert not station.watched.complaints
    assert set(runs) == set(station.enqueued)
    states = {
        name: state for queue in QUEUES for name, state in await states_of(asynq_redis, queue)
    }
    assert states == {
        name: STATES.get(task.type.partition(":")[0], b"completed")
        for name, task in station.enqueued.items()
    }
    again = [
        run
        for of_task in runs.values()
        for run in of_task[:-1]  # those after which it was run again
        if not run.error  # which is what is done with a task that has failed
    ]
    killed = {server for server in station.dead if server.was_killed}
    assert not [run for run in again if run.server not in killed or not run.is_among_last]
    unended = [run for of_task in runs.values() for run in of_task if run.error is None]
    assert {run.server for run in unended} <= killed
    print(
        f"{len(runs)} tasks, lost 0; {hit['servers']} servers killed, {hit['tasks']} tasks running in them, "
        f"{len(again)} of {sum(map(len, runs.values()))} runs had to be repeated"
    )
