"""Types of the fixtures of pools, a handler that remembers what it was told, and waiting until jobs run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol

import anyio

import pulsewire
from pulsewire.pool import Job, JobInfo, Node
from pulsewire.testing import wait_until
from tests.facts import PATIENCE

KeysOf = Callable[[str], Awaitable[list[str]]]


class MakeNode(Protocol):
    """Makes nodes, not entered, of whose pools nothing is left after the test."""

    def __call__(
        self, pool: str = ..., *, of: pulsewire.Hub | None = ..., **options: Any
    ) -> Node: ...


class Call(NamedTuple):
    """What a handler was told. The token of a stop or a notification is that of the last start here."""

    what: str
    key: str
    token: int
    payload: bytes = b""


class Recorder:
    """A handler that remembers every call, and fails, waits or is slow as it is told to.

    Attributes:
        calls: every call, in order, noted when it came in.
        running: key -> token of the jobs that have started and not stopped here.
        jobs: key -> the last job started.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.running: dict[str, int] = {}
        self.jobs: dict[str, Job] = {}
        self._failures: dict[tuple[str, str], tuple[BaseException, list[None] | None]] = {}
        self._held: dict[tuple[str, str], anyio.Event] = {}
        self._pauses: dict[tuple[str, str], float] = {}

    # --- how it shall behave: `what` is "start", "stop" or "notify"; without a key, for all of them

    def fail(
        self, what: str, error: BaseException, *, key: str = "", times: int | None = None
    ) -> None:
        """Raise from now on, or so many times."""
        self._failures[what, key] = (error, None if times is None else [None] * times)

    def succeed(self, what: str, *, key: str = "") -> None:
        """Raise no more."""
        self._failures.pop((what, key), None)

    def hold(self, what: str, *, key: str = "") -> None:
        """Do not return before `release`."""
        self._held[what, key] = anyio.Event()

    def release(self, what: str, *, key: str = "") -> None:
        """Let those that wait go on, and the following ones pass."""
        self._held.pop((what, key)).set()

    def be_slow(self, what: str, seconds: float, *, key: str = "") -> None:
        """Take so long from now on."""
        self._pauses[what, key] = seconds

    # --- what it has seen

    def of(self, what: str, key: str = "") -> list[Call]:
        """The calls of a kind, of one key if one is given."""
        return [call for call in self.calls if call.what == what and key in ("", call.key)]

    def starts(self, key: str = "") -> list[Call]:
        """Every start."""
        return self.of("start", key)

    def stops(self, key: str = "") -> list[Call]:
        """Every stop."""
        return self.of("stop", key)

    def notifications(self, key: str = "") -> list[bytes]:
        """The payloads of the notifications."""
        return [call.payload for call in self.of("notify", key)]

    # --- the handler

    async def start(self, job: Job) -> None:
        """Begin the job."""
        self.calls.append(Call("start", job.key, job.token, job.payload))
        self.jobs[job.key] = job
        await self._behave("start", job.key)
        self.running[job.key] = job.token

    async def stop(self, key: str) -> None:
        """End the job."""
        self.calls.append(Call("stop", key, self._token(key)))
        await self._behave("stop", key)
        self.running.pop(key, None)

    async def notify(self, key: str, payload: bytes) -> None:
        """Hear something."""
        self.calls.append(Call("notify", key, self._token(key), payload))
        await self._behave("notify", key)

    def _token(self, key: str) -> int:
        return self.jobs[key].token if key in self.jobs else 0

    async def _behave(self, what: str, key: str) -> None:
        for which in ((what, key), (what, "")):
            await anyio.sleep(self._pauses.get(which, 0.0))
            while which in self._held:
                await self._held[which].wait()
            error, left = self._failures.get(which, (None, None))
            if error is not None and (left is None or left):
                if left:
                    left.pop()
                raise error


def running(*recorders: Recorder) -> Counter[str]:
    """How many of these run each job: more than one is a violation."""
    return Counter(key for recorder in recorders for key in recorder.running)


async def wait_running(keys: Iterable[str], *recorders: Recorder) -> None:
    """Return when exactly these jobs run, each at one of these handlers."""
    expected = Counter(set(keys))
    what = f"{len(expected)} jobs run, each once"
    await wait_until(lambda: running(*recorders) == expected, timeout=PATIENCE, what=what)


async def wait_workers(node: Node, count: int) -> None:
    """Return when a node knows so many workers of its pool."""
    what = f"the node knows {count} workers"
    await wait_until(lambda: len(node.pool_workers()) == count, timeout=PATIENCE, what=what)


async def wait_state(node: Node, key: str, state: str) -> JobInfo:
    """Return a job when it is in this state."""
    found: list[JobInfo] = []

    async def is_there() -> bool:
        job = await node.job(key)
        if job is not None and job.state == state:
            found.append(job)
        return bool(found)

    await wait_until(is_there, timeout=PATIENCE, what=f"job {key!r} is {state}")
    return found[0]


async def wait_gone(node: Node, key: str) -> None:
    """Return when there is no such job."""

    async def is_gone() -> bool:
        return await node.job(key) is None

    await wait_until(is_gone, timeout=PATIENCE, what=f"job {key!r} has ended")
