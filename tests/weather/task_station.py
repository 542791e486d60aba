"""Task queues under observation: servers, producers, what may befall them, and the waiting until all is done.

`TaskStation` starts servers (each in a process of its own, or within the test's own process where nothing is to be
killed or frozen), keeps them busy, does things to them and notes that in the ledger; `test_tasks.py` says what shall
happen when, and judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup

import pulsewire
from pulsewire.tasks import NewTask, TaskInfo, TaskServer, TaskState
from pulsewire.tasks.messages import TaskMessage, TaskRecord
from pulsewire.testing import ReplyError, Topology, wait_until
from tests.weather.journal import Journal, watch_stalls
from tests.weather.misdeeds import DEATHS
from tests.weather.programs import STARTING, start_program
from tests.weather.report import Tally
from tests.weather.task_ledger import Fault, Ledger, Verdict
from tests.weather.task_queue import QueueState, Watched, key_of
from tests.weather.task_worker import How, serve

RESERVED = "reserved"
"""A queue for tasks that are meant for one server."""
LEASE = 1.5
GRACE = 2.0
SLOTS = 10
MOST_WAITING = 500
"""Tasks that wait when the traffic rests: what servers are kept from for long must not become an ever longer queue."""
PATIENCE = 60.0
SERVER: dict[str, Any] = {
    "concurrency": SLOTS,
    "lease": LEASE,
    "shutdown_timeout": GRACE,
    "forward_interval": 0.2,
    "janitor_interval": 0.5,
    "max_lost": 20,
}
QUICK = How()
NOT_NOW = (pulsewire.ServerUnavailable, pulsewire.ServerFull)
"""What `enqueue` raises where nothing was written."""
UNSEEN = (OSError, TimeoutError, ReplyError, RuntimeError, AssertionError)
"""What looking at a queue raises while its server is away."""


class InnerServer:
    """A server within the test's own process."""

    def __init__(self, server_id: str, end: anyio.Event) -> None:
        self.id = server_id
        self._end = end
        self._has_ended = anyio.Event()

    def __repr__(self) -> str:
        return f"<server {self.id[:4]}>"

    async def end(self) -> None:
        """Have it end in order."""
        self._end.set()
        await self._has_ended.wait()

    def has_ended(self) -> None:
        """It has."""
        self._has_ended.set()


class OuterServer:
    """A server in a process of its own."""

    def __init__(self, server_id: str, process: asyncio.subprocess.Process, ledger: Ledger) -> None:
        self.id = server_id
        self.pid = process.pid
        self.has_begun = False
        self.is_frozen = False
        self._process = process
        self._ledger = ledger
        self._frozen: Fault | None = None

    def __repr__(self) -> str:
        return f"<server {self.id[:4]} {self.pid}>"

    async def wait_begun(self) -> None:
        """Return when it runs tasks."""
        assert self._process.stdout is not None
        assert await self._process.stdout.readline(), f"{self!r} has ended by itself"
        self.has_begun = True

    async def kill(self) -> None:
        """SIGKILL; returns when it was gone."""
        self._process.kill()
        await self._process.communicate()
        at = time.monotonic()
        self._ledger.died(self.id, self.pid, at)
        if self._frozen is not None:
            self._frozen.end = at

    async def wait_dead(self) -> int:
        """Return when it has ended by itself; what it exited with."""
        code = await self._process.wait()
        self._ledger.died(self.id, self.pid, time.monotonic())
        return code

    async def end(self) -> float:
        """SIGTERM; how many seconds it took to end."""
        stop, began = self._ledger.strike("stop", self.id), time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        await self._process.communicate()
        assert self._process.returncode == 0, f"{self!r} failed"
        stop.end = time.monotonic()
        return stop.end - began

    def freeze(self) -> None:
        """SIGSTOP."""
        self._frozen, self.is_frozen = self._ledger.strike("freeze", self.id), True
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._frozen is not None
        self._frozen.end, self.is_frozen = time.monotonic(), False
        self._frozen = None
        self._process.send_signal(signal.SIGCONT)


class OtherProcess:
    """A producer or a scheduler in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        await self._process.communicate()

    async def end(self) -> None:
        """SIGTERM."""
        self._process.send_signal(signal.SIGTERM)
        await self._process.communicate()
        assert self._process.returncode == 0, "it failed"

    async def wait_done(self) -> None:
        """Return when it has enqueued all that it should."""
        output, _ = await self._process.communicate()
        assert self._process.returncode == 0, "a producer failed"
        assert json.loads(output.splitlines()[-1]) == {"done": True}


class TaskStation:
    """Queues, their servers, their producers, and the ledger.

    Attributes:
        ledger: what was promised and done.
        queues: where tasks go by default, and what servers serve by default.
        watched: the queues, `RESERVED` with them, looked at from outside all the time.
        inner, outer: the servers that run.
        random: for what shall happen when.
        started: how many servers were started.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        hub: pulsewire.Hub,
        watched: Watched,
        tasks: TaskGroup,
        *,
        seed: int,
        namespace: str = "",
        queues: Sequence[str],
    ) -> None:
        self.ledger = Ledger(folder)
        self.queues = queues
        self.watched = watched
        self.inner: list[InnerServer] = []
        self.outer: list[OuterServer] = []
        self.random = random.Random(seed)
        self.journal = Journal(folder)
        self.started = 0
        self.enqueued = 0
        self._url = url
        self._folder = folder
        self._client = hub.tasks
        self._namespace = namespace
        self._tasks = tasks
        self._processes: list[asyncio.subprocess.Process] = []
        self._producers = 0
        self._flowing = anyio.Event()
        self._busy = 0
        self._waiting = 0
        self._is_closing = False

    # --- servers

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "what": "server",
            "namespace": self._namespace,
            "server": {**SERVER, "queues": list(self.queues), **options},
        }

    async def start_inner(self, *, url: str = "", **options: Any) -> InnerServer:
        """A server within this process, that runs."""
        end, has_begun = anyio.Event(), anyio.Event()
        known: list[InnerServer] = []

        def say(server: TaskServer) -> None:
            if known:
                has_begun.set()
            else:
                known.append(InnerServer(server.id, end))

        async def run() -> None:
            try:
                await serve(url or self._url, self.journal, self._options(options), say, end)
            finally:
                for server in known:
                    server.has_ended()

        self._tasks.start_soon(run)
        await has_begun.wait()
        self.inner += known
        self.started += 1
        return known[0]

    async def start_outer(
        self, *, url: str = "", skew: float = 0.0, after: float = 0.0, **options: Any
    ) -> OuterServer:
        """A server in a process of its own, that runs; for its clock see `clocks.py`."""
        server = await self._start_outer(url=url, skew=skew, after=after, **options)
        await server.wait_begun()
        return server

    async def _start_outer(
        self, *, url: str = "", skew: float = 0.0, after: float = 0.0, **options: Any
    ) -> OuterServer:
        said = {**self._options(options), "skew": skew, "after": after}
        process = await self._spawn(url or self._url, said)
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line, "a server has ended by itself"
        server = OuterServer(json.loads(line)["server"], process, self.ledger)
        self.outer.append(server)
        self.started += 1
        return server

    async def start_many(self, count: int, **options: Any) -> None:
        """Several servers in processes of their own."""
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(partial(self.start_outer, **options))

    async def _spawn(self, url: str, options: dict[str, Any]) -> asyncio.subprocess.Process:
        async with STARTING:
            process = await start_program("task_worker.py", url, str(self._folder), options=options)
            self._processes.append(process)
        return process

    async def kill(self, server: OuterServer) -> None:
        """SIGKILL."""
        self.outer.remove(server)
        await server.kill()

    async def end(self, server: OuterServer) -> float:
        """SIGTERM; how many seconds it took to end."""
        self.outer.remove(server)
        return await server.end()

    async def end_inner(self, server: InnerServer) -> None:
        """Have a server within this process end in order."""
        self.inner.remove(server)
        await server.end()

    def begun(self) -> list[OuterServer]:
        """The processes that run tasks by now."""
        return [server for server in self.outer if server.has_begun]

    def busiest(self) -> OuterServer:
        """The process that runs most tasks."""
        runs = [run.server for run in self.ledger.open_runs()]
        awake = [server for server in self.outer if not server.is_frozen]
        return max(awake, key=lambda server: runs.count(server.id))

    def keep_running(self, count: int, **options: Any) -> None:
        """Have so many servers, and start another one whenever the task that it runs ends a process."""
        for _ in range(count):
            self._tasks.start_soon(partial(self._keep_one, **options))

    async def _keep_one(self, **options: Any) -> None:
        while not self._is_closing:
            try:
                server = await self._start_outer(**options)
            except AssertionError:
                if self._is_closing:
                    return
                raise
            code = await server.wait_dead()
            if not self._is_closing:
                assert code in DEATHS, f"{server!r} has ended with {code}"
                self.outer.remove(server)

    async def close(self) -> None:
        """End all that is left."""
        self._is_closing = True
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        for inner in self.inner:
            await inner.end()

    # --- producers

    async def start_producer(self, **options: Any) -> OtherProcess:
        """A producer in a process of its own, that has begun."""
        said = {
            "what": "producer",
            "namespace": self._namespace,
            "name": f"p{self._producers}",
            "queues": list(self.queues),
            "takes": 0.05,
            "rate": 50.0,
            "count": 1_000_000,
            **options,
        }
        self._producers += 1
        return await self._start_other(said)

    async def start_scheduler(self, queue: str) -> OtherProcess:
        """A scheduler in a process of its own, that has begun: a task for this queue each second."""
        said = {"what": "scheduler", "namespace": self._namespace, "queue": queue}
        return await self._start_other(said)

    async def _start_other(self, said: dict[str, Any]) -> OtherProcess:
        process = await self._spawn(self._url, said)
        assert process.stdout is not None
        assert await process.stdout.readline(), f"a {said['what']} has ended by itself"
        return OtherProcess(process)

    async def enqueue(self, task_type: str = "work", how: How = QUICK, **options: Any) -> str:
        """A new task; what is said of it goes into the ledger. Its id. See `_new` for the options."""
        task = self._new(task_type, how, **options)
        assert task.task_id is not None
        try:
            info = await self._client.enqueue(task)
        except pulsewire.OutcomeUnknown:
            self.ledger.maybe.add(task.task_id)
        except NOT_NOW:
            self.ledger.refused.add(task.task_id)
        else:
            self._acknowledge(info)
        return task.task_id

    async def enqueue_or_raise(self) -> None:
        """A task of which the ledger hears nothing, since it is expected not to be enqueued."""
        await self._client.enqueue("work", b"{}", queue=self.queues[0])

    async def enqueue_many(
        self,
        count: int,
        task_type: str = "work",
        how: How | Callable[[int], How] = QUICK,
        **options: Any,
    ) -> list[str]:
        """So many new tasks at once; their ids."""
        tasks = [
            self._new(task_type, how(number) if callable(how) else how, **options)
            for number in range(count)
        ]
        ids = [task.task_id or "" for task in tasks]
        for task_id, info in zip(ids, await self._client.enqueue_many(tasks), strict=True):
            if isinstance(info, pulsewire.OutcomeUnknown):
                self.ledger.maybe.add(task_id)
            elif isinstance(info, NOT_NOW):
                self.ledger.refused.add(task_id)
            elif isinstance(info, pulsewire.PulsewireError):
                raise info
            else:
                self._acknowledge(info)
        return ids

    def _new(self, task_type: str, how: How, *, flawed: bool = False, **options: Any) -> NewTask:
        """A task to enqueue; `flawed`: its test judges it, the options are asynq's."""
        self.enqueued += 1
        task_id = f"t{self.enqueued}"
        self.ledger.asked[task_id] = time.monotonic()
        if flawed:
            self.ledger.flawed.add(task_id)
        queue = self.queues[self.enqueued % len(self.queues)]
        settings = {"task_id": task_id, "queue": queue, **options}
        return NewTask(type=task_type, payload=msgspec.json.encode(how), **settings)

    def _acknowledge(self, info: TaskInfo) -> None:
        now = time.monotonic()
        self.ledger.acknowledged[info.id] = now
        if info.state == TaskState.SCHEDULED and info.next_process_at is not None:
            self.ledger.due[info.id] = now + info.next_process_at.timestamp() - time.time()

    @asynccontextmanager
    async def traffic(self, *, producers: int = 3, pause: float = 0.05) -> AsyncIterator[None]:
        """Enqueue tasks of every kind meanwhile, and look at the queues all the time."""
        self.go_on()
        async with anyio.create_task_group() as tasks:
            for _ in range(producers):
                tasks.start_soon(self._flow, pause)
            tasks.start_soon(self.keep_looking)
            yield
            await self.pause()
            tasks.cancel_scope.cancel()

    async def keep_looking(self) -> None:
        """Look at the queues again and again. Until cancelled."""
        while True:
            with contextlib.suppress(*UNSEEN):  # it is away
                states = await self.watched.look_at_all()
                self._waiting = sum(state.counts.get("pending", 0) for state in states)
            await anyio.sleep(0.1)

    async def pause(self) -> None:
        """Enqueue nothing more; returns when nothing is under way."""
        self._flowing = anyio.Event()
        await wait_until(lambda: not self._busy, timeout=PATIENCE, what="all calls have returned")

    def go_on(self) -> None:
        """Enqueue again."""
        self._flowing.set()

    async def _flow(self, pause: float) -> None:
        while True:
            while not self._flowing.is_set():  # waiting gives way to others also where it is set
                await self._flowing.wait()
            if self._waiting > MOST_WAITING:
                await anyio.sleep(pause)
                continue
            self._busy += 1
            try:
                await self._enqueue_some()
            finally:
                self._busy -= 1
            await anyio.sleep(self.random.uniform(0.5, 1.5) * pause)

    async def _enqueue_some(self) -> None:
        """One task, or some at once: short ones, failing ones, ones for later, ones that are kept."""
        takes = self.random.choice((0.0, 0.01, 0.05, 0.2, 0.5))
        match self.random.randrange(10):
            case 0:
                await self.enqueue_many(5, how=How(takes=takes))
            case 1:
                await self.enqueue("work", How(takes=takes, fails=1))
            case 2:
                await self.enqueue("work", How(takes=takes), process_in=1.0)
            case 3:
                await self.enqueue("work", How(takes=takes, result="kept"), retention=1.0)
            case 4:
                payload = self.enqueued / 1e9  # another one each time: another lock
                await self.enqueue("work", How(takes=takes + payload), unique=3600.0)
            case 5:
                await self.enqueue("thread", How(takes=takes))
            case _:
                await self.enqueue("work", How(takes=takes))

    # --- what is seen

    async def settle(self, what: str, timeout: float = PATIENCE) -> None:
        """Wait until every acknowledged task has ended well."""
        missing: set[str] = set()

        def all_ended() -> bool:
            nonlocal missing
            missing = self.ledger.missing()
            return not missing

        try:
            await wait_until(all_ended, timeout=timeout, what=f"every task has ended well: {what}")
        except AssertionError as error:
            for task_id in sorted(missing)[:5]:
                error.add_note(f"{task_id}: {self.ledger.runs.get(task_id, 'never run')}")
            error.add_note(f"{len(missing)} of {len(self.ledger.acknowledged)} are missing")
            await self._add_states(error)
            raise

    async def _add_states(self, error: AssertionError) -> None:
        try:
            for state in await self.watched.look_at_all():
                error.add_note(str(state)[:2000])
        except UNSEEN as trouble:
            error.add_note(f"the queues cannot be looked at: {trouble!r}")

    async def flows_again(self) -> float:
        """Wait until tasks enqueued from now on have ended well, in each queue; how many seconds that takes."""
        began = time.monotonic()
        ids = [await self.enqueue(queue=queue) for queue in self.queues]
        assert not self.ledger.refused.intersection(ids)
        await wait_until(
            lambda: self.ledger.ended_well(ids), timeout=30.0, what="new tasks have ended well"
        )
        return time.monotonic() - began

    async def record(self, task_id: str, queue: str = "") -> TaskRecord:
        """A task's message as it stands in Redis."""
        key = key_of(queue or self.queues[0], self._namespace, f"t:{task_id}")
        server = await self.watched.topology.node_of(key)
        return TaskMessage.FromString(await server.command("HGET", key, "msg"))

    async def state(self, task_id: str, queue: str = "") -> str:
        """The state of a task as it stands in Redis; "" where there is no such task."""
        key = key_of(queue or self.queues[0], self._namespace, f"t:{task_id}")
        server = await self.watched.topology.node_of(key)
        return ((await server.command("HGET", key, "state")) or b"").decode()

    async def wait_state(self, state: str, task_ids: Iterable[str], queue: str = "") -> None:
        """Wait until these tasks have a state; "" is none."""
        for task_id in task_ids:

            async def has_it(task_id: str = task_id) -> bool:
                return await self.state(task_id, queue) == state

            await wait_until(has_it, timeout=PATIENCE, what=f"{task_id} is {state or 'gone'}")

    async def drain(self) -> list[QueueState]:
        """Wait until nothing is to be run or forgotten any more; how the queues are then."""
        states: list[QueueState] = []

        async def is_drained() -> bool:
            nonlocal states
            states = await self.watched.look_at_all()
            is_kept = any(state.live or state.counts.get("completed") for state in states)
            return not is_kept and not self.ledger.open_runs()

        try:
            await wait_until(is_drained, timeout=PATIENCE, what="the queues are drained")
        except AssertionError as error:
            await self._add_states(error)
            raise
        return states

    async def judge(self, *, is_spoilt: bool = False) -> tuple[Verdict, list[QueueState]]:
        """Everything has ended, and nothing that was promised was broken meanwhile.

        Args:
            is_spoilt: the test itself has broken what must hold in a queue: it need hold in the end only.
        """
        try:
            await self.settle("in the end")
            states = await self.drain()
        except AssertionError as error:
            error.add_note(str(self.ledger.judge()))
            raise
        final = [state.complaint for state in states if state.complaint]
        assert not final, final
        if not is_spoilt:
            assert not self.watched.complaints, self.watched.complaints[:3]
        return self.ledger.judge(), states


@asynccontextmanager
async def task_station(
    topology: Topology,
    folder: Path,
    *,
    seed: int,
    url: str = "",
    namespace: str = "",
    queues: Sequence[str] = ("default",),
) -> AsyncIterator[TaskStation]:
    """Queues with a client, and no server yet. Client and servers go to `url`, or to the topology itself."""
    folder.mkdir(exist_ok=True)
    async with (
        pulsewire.connect(url or topology.url, namespace=namespace) as hub,
        anyio.create_task_group() as tasks,
    ):
        watched = Watched(topology, (*queues, RESERVED), namespace)
        station = TaskStation(
            *(url or topology.url, folder, hub, watched, tasks),
            seed=seed,
            namespace=namespace,
            queues=queues,
        )
        over = threading.Event()
        stalls = threading.Thread(target=watch_stalls, args=(station.journal, over))
        stalls.start()
        try:
            yield station
        finally:
            with anyio.CancelScope(shield=True):
                await station.close()
            over.set()
            await asyncio.to_thread(stalls.join)
            station.journal.close()


def tally_of(verdict: Verdict, tries: int = 1, recoveries: Sequence[float] = ()) -> Tally:
    """What `make chaos` counts."""
    return Tally(
        block="tasks",
        tries=tries,
        acts=verdict.tasks,
        lost=len(verdict.lost),
        doubled=len(verdict.doubled),
        again=verdict.again,
        wrong=len(verdict.overcharged) + len(verdict.refused) + len(verdict.early),
        recoveries=(*verdict.restarts, *recoveries),
    )
