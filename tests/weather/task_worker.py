"""A server, a producer or a scheduler of tasks, for tests that kill, freeze, block or mislead it.

Run as `python task_worker.py URL FOLDER OPTIONS`, options in JSON, it does its work in a process of its own, says so in
a JSON line once it has begun, and ends in order at SIGTERM or when standard input ends. `task_station.py` also runs
servers of the same kind within the test's own process.

What its handlers do is noted in the journal of the folder at once. A task says in its payload how it goes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tests.weather.clocks import mislead

OPTIONS: dict[str, Any] = json.loads(sys.argv[3]) if __name__ == "__main__" else {}
mislead(OPTIONS)

import asyncio  # noqa: E402  # after the clock was set
import itertools  # noqa: E402
import logging  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402
from collections.abc import Awaitable, Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import anyio  # noqa: E402
import msgspec  # noqa: E402

import pulsewire  # noqa: E402
from pulsewire.tasks import Mux, NewTask, Task, TaskClient, TaskServer  # noqa: E402
from pulsewire.tasks.mux import AsyncHandler  # noqa: E402
from tests.weather.journal import Journal, StandstillNotes, watch_stalls  # noqa: E402
from tests.weather.misdeeds import WAYS_TO_DIE, hold_interpreter  # noqa: E402

IS_OUTER = __name__ == "__main__"
"""Whether this process is there for a server alone."""

_numbers = itertools.count()


class How(msgspec.Struct, omit_defaults=True, frozen=True):
    """How a task goes, as its payload says.

    Attributes:
        takes: seconds.
        fails: how many of its runs fail.
        raises: the name of what it raises, if it raises something other than an ordinary error.
        result: what it writes as its result.
    """

    takes: float = 0.0
    fails: int = 0
    raises: str = ""
    result: str = ""


class Rebellion(BaseException):
    """What no handler should raise."""


REBELS: dict[str, type[BaseException]] = {
    "Rebellion": Rebellion,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
}


def how_of(task: Task) -> How:
    """How a task goes."""
    return msgspec.json.decode(task.payload, type=How)


class NotedHandlers:
    """Handlers of every type of task, which note what they do."""

    def __init__(self, journal: Journal) -> None:
        self.server = ""
        """The id of the server that they belong to."""
        self._journal = journal

    def mux(self) -> Mux:
        """All of them."""
        mux = Mux()
        handlers: dict[str, Callable[[Task], Awaitable[None]]] = {
            "work": self._work,
            "block": self._block,
            "hang": self._hang,
            "stubborn": self._stubborn,
            "rebel": self._rebel,
            "poison": self._poison,
            "hold": self._hold,
        }
        for name, handler in handlers.items():
            mux.add(name, handler)
        mux.add("thread", self._in_thread)
        mux.use(self._noting)
        return mux

    def _noting(self, following: AsyncHandler) -> AsyncHandler:
        async def noted(task: Task) -> None:
            if task.type == "thread":  # notes for itself, since it may go on alone
                await following(task)
                return
            number, how = self._begin(task), "ok"
            try:
                await following(task)
            except asyncio.CancelledError:
                how = "cancelled"
                raise
            except BaseException:
                how = "failed"
                raise
            finally:
                self._end(number, how)

        return noted

    def _begin(self, task: Task) -> int:
        number = next(_numbers)
        self._journal.note(
            "start", id=task.id, run=number, server=self.server, retried=task.retried
        )
        return number

    def _end(self, number: int, how: str) -> None:
        self._journal.note("end", run=number, how=how)

    @staticmethod
    async def _work(task: Task) -> None:
        how = how_of(task)
        await anyio.sleep(how.takes)
        if task.retried < how.fails:
            raise RuntimeError(f"it fails {how.fails} times")
        if how.result:
            await task.write_result(how.result)

    def _in_thread(self, task: Task) -> None:
        number = self._begin(task)
        how = how_of(task)
        time.sleep(how.takes)
        if task.retried < how.fails:
            self._end(number, "failed")
            raise REBELS.get(how.raises, RuntimeError)(f"it fails {how.fails} times")
        self._end(number, "ok")

    @staticmethod
    async def _block(task: Task) -> None:
        time.sleep(how_of(task).takes)  # the mistake under test

    @staticmethod
    async def _hang(task: Task) -> None:
        await anyio.sleep_forever()

    @staticmethod
    async def _stubborn(task: Task) -> None:
        """The mistake under test: it takes no cancellation for an answer, in its first runs."""
        how, is_cancelled = how_of(task), False
        ends = time.monotonic() + (how.takes if task.retried < how.fails else 0.0)
        while (left := ends - time.monotonic()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                is_cancelled = True
        if is_cancelled:
            raise asyncio.CancelledError

    @staticmethod
    async def _rebel(task: Task) -> None:
        how = how_of(task)
        if task.retried < how.fails:
            raise REBELS[how.raises]

    @staticmethod
    async def _poison(task: Task) -> None:
        WAYS_TO_DIE[how_of(task).raises or "exit"]()

    @staticmethod
    async def _hold(task: Task) -> None:
        if IS_OUTER:  # run elsewhere afterwards, it shall not hold up the test itself
            hold_interpreter(how_of(task).takes)


class NotingHooks(pulsewire.Hooks):
    """Notes what a server says of itself."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def task_lost(self, queue: str, task_id: str) -> None:
        self._journal.note("lost", queue=queue, id=task_id)

    def task_recovered(self, queue: str, task_id: str, lost: int) -> None:
        self._journal.note("recovered", queue=queue, id=task_id, lost=lost)

    def task_malformed(self, queue: str, task_id: str, reason: str) -> None:
        self._journal.note("malformed", queue=queue, id=task_id, why=reason)

    def tasks_gone(self, queue: str, count: int) -> None:
        self._journal.note("gone", queue=queue, count=count)

    def loop_troubled(self, duty: str, error: BaseException, failures: int) -> None:
        self._journal.note("troubled", duty=duty, why=repr(error), failures=failures)


async def serve(
    url: str,
    journal: Journal,
    options: dict[str, Any],
    say: Callable[[TaskServer], None],
    end: anyio.Event,
) -> None:
    """Run a server until it is told to end. `say` is told of it before it begins, and when it has begun."""
    handlers = NotedHandlers(journal)
    settings = dict(options["server"])
    delay = float(settings.pop("retry_delay", 0.05))
    logger = logging.getLogger("tests.weather")
    logger.setLevel(logging.ERROR)  # bad weather is no news here
    if IS_OUTER:
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        StandstillNotes(journal.note, logger)
    async with pulsewire.connect(
        url, namespace=options["namespace"], hooks=NotingHooks(journal), logger=logger
    ) as hub:
        server = hub.task_server(
            handlers.mux(), retry_delay=lambda retried, error, task: delay, **settings
        )
        handlers.server = server.id
        say(server)
        async with server:
            say(server)
            await end.wait()


async def produce(url: str, journal: Journal, options: dict[str, Any], end: anyio.Event) -> None:
    """Enqueue tasks until told to end, or as many as asked for; what is said of them goes into the journal."""
    name, queues = options["name"], options["queues"]
    takes, rate, count = options["takes"], options["rate"], options["count"]
    began = time.monotonic()

    async def one(client: TaskClient, number: int) -> None:
        task_id = f"{name}-{number}"
        how = How(takes=takes * (number % 8) / 4, fails=int(number % 16 == 0))
        journal.note("asks", id=task_id)
        try:
            await client.enqueue(
                "work",
                msgspec.json.encode(how),
                queue=queues[number % len(queues)],
                task_id=task_id,
            )
        except pulsewire.ServerUnavailable:
            return  # it may be there, as far as this producer goes
        journal.note("acknowledged", id=task_id)

    async with pulsewire.connect(url, namespace=options["namespace"]) as hub:
        print(json.dumps({"ready": True}), flush=True)
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                if end.is_set():
                    break
                tasks.start_soon(one, hub.tasks, number)
                pause = began + number / rate - time.monotonic()
                await anyio.sleep(max(pause, 0.0))
        print(json.dumps({"done": True}), flush=True)


async def schedule(url: str, options: dict[str, Any], end: anyio.Event) -> None:
    """Have a task enqueued each second, until told to end."""
    async with pulsewire.connect(url, namespace=options["namespace"]) as hub:
        scheduler = hub.scheduler()
        scheduler.register("@every 1s", NewTask(type="work", payload=b"{}", queue=options["queue"]))
        async with scheduler:
            print(json.dumps({"ready": True}), flush=True)
            await end.wait()


async def hear_the_end(end: anyio.Event) -> None:
    """Set the event at SIGTERM, or at the end of standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def hear_input() -> None:
        await reader.read()
        end.set()

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear_input)
            async for _ in signals:
                end.set()


async def main() -> None:
    """Run the program."""
    url, journal, end = sys.argv[1], Journal(Path(sys.argv[2])), anyio.Event()
    threading.Thread(target=watch_stalls, args=(journal, threading.Event()), daemon=True).start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hear_the_end, end)
        if OPTIONS["what"] == "producer":
            await produce(url, journal, OPTIONS, end)
        elif OPTIONS["what"] == "scheduler":
            await schedule(url, OPTIONS, end)
        else:

            def say(server: TaskServer) -> None:
                print(json.dumps({"server": server.id}), flush=True)

            await serve(url, journal, OPTIONS, say, end)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    asyncio.run(main())
