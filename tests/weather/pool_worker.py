"""A node of a pool in a process of its own, for tests that kill, freeze, block or mislead it.

Run as `python pool_worker.py URL FOLDER OPTIONS`, options in JSON. What its handlers do is noted in the journal of the
folder at once. Commands come as JSON lines on standard input, each is answered by one on standard output; the node
leaves the pool in order when standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from tests.weather.clocks import mislead

OPTIONS: dict[str, Any] = json.loads(sys.argv[3]) if __name__ == "__main__" else {}
mislead(OPTIONS)

import anyio  # noqa: E402  # after the clock was set

import pulsewire  # noqa: E402
from pulsewire.pool import Job, Node, Worker  # noqa: E402
from tests.weather.journal import Journal, StandstillNotes  # noqa: E402
from tests.weather.misdeeds import hold_interpreter  # noqa: E402
from tests.weather.pool_ledger import FencedStore  # noqa: E402

PERIOD = 0.1
"""Seconds between two rounds of what the jobs do."""
STALLED = 0.1
"""Seconds by which a round is late when the process did not get to run."""
WOKEN = 0.5
"""The same when it was frozen: then every job tries to go on at once."""
AT_ONCE = 20


class Jobs:
    """The jobs that run in this process. Each writes to the store, and looks whether it still is its owner's."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder)
        self._store = FencedStore(folder)
        self._held: dict[tuple[str, str], Job] = {}
        self._turn = 0
        self._beating = 0

    def begin(self, worker: str, job: Job) -> None:
        """A job begins at a worker of this process."""
        self.journal.note("start", worker=worker, key=job.key, token=job.token)
        self._held[worker, job.key] = job
        self._write(job)

    def end(self, worker: str, key: str) -> None:
        """It ends there."""
        job = self._held.pop((worker, key))
        self.journal.note("stop", worker=worker, key=key, token=job.token)

    def _write(self, job: Job) -> None:
        if not self._store.write(job.key, job.token):
            self.journal.note("refused", key=job.key, token=job.token)

    async def go_on(self) -> None:
        """Let some of them do something, again and again."""
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as beats:
            while True:
                before = time.monotonic()
                due = loop.time() + PERIOD
                await anyio.sleep(PERIOD)
                late = loop.time() - due
                if late > STALLED:
                    self.journal.note("stalled", since=before)
                for job in self._next(count=1000 if late > WOKEN else AT_ONCE):
                    self._write(job)
                for job in self._next(count=AT_ONCE if late > WOKEN else 1):
                    if self._beating < 2 * AT_ONCE:
                        self._beating += 1
                        beats.start_soon(self._beat, job)

    def _next(self, count: int) -> list[Job]:
        held = list(self._held.values())
        if not held:
            return []
        self._turn += 1
        first = self._turn * count % len(held)
        return (held[first:] + held[:first])[:count]

    async def _beat(self, job: Job) -> None:
        asked = time.monotonic()
        try:
            await job.heartbeat()
        except pulsewire.JobLost:
            self.journal.note("lost", key=job.key, token=job.token, asked=asked)
        except pulsewire.PulsewireError:
            return  # it could not ask
        else:
            self.journal.note("beat", key=job.key, token=job.token, asked=asked)
        finally:
            self._beating -= 1


class QuietJobs(Jobs):
    """Jobs of which only begin and end are noted, and nothing is held: for pools with very many."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tokens: dict[tuple[str, str], int] = {}

    def begin(self, worker: str, job: Job) -> None:
        self.journal.note("start", worker=worker, key=job.key, token=job.token)
        self._tokens[worker, job.key] = job.token

    def end(self, worker: str, key: str) -> None:
        self.journal.note("stop", worker=worker, key=key, token=self._tokens.pop((worker, key)))

    async def go_on(self) -> None:
        return


class Starter:
    """A handler with `start` and `stop`."""

    def __init__(self, worker: str, jobs: Jobs, takes: float) -> None:
        self._worker = worker
        self._jobs = jobs
        self._takes = takes

    async def start(self, job: Job) -> None:
        self._jobs.begin(self._worker, job)
        await anyio.sleep(self._takes)

    async def stop(self, key: str) -> None:
        self._jobs.end(self._worker, key)


def runner(worker: str, jobs: Jobs) -> Any:
    """A handler that is one coroutine function."""

    async def run(job: Job) -> None:
        jobs.begin(worker, job)
        try:
            await anyio.sleep_forever()
        finally:
            jobs.end(worker, job.key)

    return run


class NotingHooks(pulsewire.Hooks):
    """Notes what a pool says of itself."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def worker_fenced(self, pool: str, worker: str, jobs: int) -> None:
        self._journal.note("fenced", worker=worker, jobs=jobs)

    def worker_buried(self, pool: str, worker: str, jobs: int) -> None:
        self._journal.note("buried", worker=worker, jobs=jobs)


async def lines() -> asyncio.StreamReader:
    """Standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def resident() -> int:
    """Bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Program:
    """One node that does what it is told."""

    def __init__(self, jobs: Jobs) -> None:
        self.name = str(OPTIONS["name"])
        self._jobs = jobs
        self._workers: list[Worker] = []
        self._made = 0

    async def run(self, url: str) -> None:
        """Until standard input ends."""
        commands, hooks = await lines(), NotingHooks(self._jobs.journal)
        StandstillNotes(self._jobs.journal.note, logging.getLogger("pulsewire"))
        goes_on = True
        while goes_on:
            async with (
                pulsewire.connect(url, namespace=OPTIONS["namespace"], hooks=hooks) as hub,
                hub.node(OPTIONS["pool"], **OPTIONS["node"]) as node,
            ):
                self._workers = []
                for _ in range(OPTIONS["workers"]):
                    await self._join(node)
                self._say(ready=True)
                goes_on = await self._obey_all(node, commands)
            if goes_on:
                self._say(left=True)

    async def _obey_all(self, node: Node, commands: asyncio.StreamReader) -> bool:
        """Do what it is told, until it shall leave; whether it shall come back as another node."""
        while line := await commands.readline():
            command = json.loads(line)
            if command["do"] == "restart":
                return True
            await self._obey(node, command)
        return False

    async def _join(self, node: Node) -> None:
        name = f"{self.name}/{self._made}"
        is_starter = self._made % 2 == 0 or OPTIONS.get("quiet", False)
        self._made += 1
        takes = float(OPTIONS.get("start_takes", 0.0))
        handler = Starter(name, self._jobs, takes) if is_starter else runner(name, self._jobs)
        self._workers.append(await node.add_worker(handler))

    async def _obey(self, node: Node, command: dict[str, Any]) -> None:
        if command["do"] == "join":
            await self._join(node)
        elif command["do"] == "leave":
            await node.remove_worker(self._workers.pop(0))
        elif command["do"] == "block":
            time.sleep(command["seconds"])  # the mistake under test
        elif command["do"] == "hold":
            hold_interpreter(command["seconds"])
        self._say(resident=resident())

    @staticmethod
    def _say(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)


async def main() -> None:
    """Run the program."""
    folder = Path(sys.argv[2])
    jobs = QuietJobs(folder) if OPTIONS.get("quiet") else Jobs(folder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(jobs.go_on)
        await Program(jobs).run(sys.argv[1])
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    asyncio.run(main())
