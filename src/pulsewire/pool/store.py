"""Commands and scripts of a pool, typed: one state change per call. Milliseconds exist only here.

Every script may be sent again: it names the request, or the owner and epoch it relies on, so the second time finds
nothing to do or says the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from pulsewire._redis.link import Link, Unsettled
from pulsewire._redis.pipeline import Argument
from pulsewire._redis.scripts import Script, ms, text
from pulsewire.errors import ConnectionLost, OutcomeUnknown, ServerUnavailable
from pulsewire.pool.keys import PoolKeys
from pulsewire.pool.wire import JOB_FIELDS, VERSION, JobInfo, decode_job

JANITOR_TTL = 2.0
MOST_DUE = 500
GIVEN_UP = 1
"""The end of a lease, ms, that nobody believes in any more."""
AT_ONCE = 500
"""Keys that one command deletes."""
SCHEDULE = "schedule:"
"""What the names of the tickers of schedules begin with."""


def _script(name: str) -> Script:
    return Script.load("pulsewire.pool", name)


JOIN, ENROL, RENEW, LEAVE = _script("join"), _script("enrol"), _script("renew"), _script("leave")
DISPATCH, STARTED, FAILED = _script("dispatch"), _script("started"), _script("failed")
ENDED, ASSIGN, STOP = _script("ended"), _script("assign"), _script("stop")
NOTIFY, PROGRESS, TELL = _script("notify"), _script("progress"), _script("tell")
SURVEY, TICK = _script("survey"), _script("tick")


class Answer(NamedTuple):
    """What a script says: an outcome, a number and words that belong to it."""

    outcome: str
    number: int = 0
    text: str = ""


class Stopped(NamedTuple):
    """What `stop.lua` says.

    Attributes:
        text: the owner where it is elsewhere; the request of the dispatch where the job has ended.
        node: of the dispatcher that waits for the start of a job that has ended.
        was_repeated: a first reply was lost.
    """

    outcome: str
    text: str
    node: str
    was_repeated: bool


class Ended(NamedTuple):
    """What `ended.lua` says; `stoppers` are pairs of request and node."""

    outcome: str
    request: str = ""
    node: str = ""
    stoppers: tuple[tuple[str, str], ...] = ()


class Survey(NamedTuple):
    """What is to be cleaned up."""

    outcome: str
    dead: list[str]
    due: list[str]


class Tick(NamedTuple):
    """What `tick.lua` says: when the tick was due (Unix seconds), and seconds until the next one."""

    outcome: str
    due: float
    until_next: float


class PoolStore:
    """One pool in Redis. `link` may be another one for a thread of its own."""

    def __init__(self, link: Link, keys: PoolKeys) -> None:
        self.link = link
        self.keys = keys

    async def _run(self, script: Script, keys: Sequence[str], *args: Argument) -> list[Any]:
        reply: list[Any] = await self.link.run(script, keys, args, repeatable=True)
        return reply

    async def _change(
        self, what: str, script: Script, keys: Sequence[str], *args: Argument
    ) -> list[Any]:
        """As `_run`, for somebody who must know whether it was done.

        Raises:
            OutcomeUnknown: it was sent, and no server could be asked any more what had become of it.
            ServerUnavailable: it was not carried out.
        """
        try:
            return await self._run(script, keys, *args)
        except ConnectionLost as error:
            if error.was_sent:
                raise OutcomeUnknown(what, error.reason) from error
            raise

    # --- nodes and workers

    async def join(self, routing: str, *, again: bool = False) -> tuple[str, str, str]:
        """Agree on the protocol: `joined`; `differs` with version and routing there; `shutdown` with who asked.

        Without a routing: take that of the pool, if there is one. Again: what was agreed on may have been lost.
        """
        keys = self.keys
        names = [keys.meta, keys.shutdown, keys.leases]
        reply = await self._run(JOIN, names, VERSION, routing, "again" if again else "")
        outcome, first, second = map(text, reply)
        return outcome, first, second

    async def enrol(self, worker: str, ttl: float) -> Answer:
        """Give a new worker its lease: `enrolled`, or `shutdown` with who asked."""
        keys = self.keys
        outcome, asker = await self._run(ENROL, [keys.leases, keys.shutdown], worker, ms(ttl))
        return Answer(text(outcome), 0, text(asker))

    async def renew(self, workers: Sequence[str], ttl: float) -> list[str]:
        """Renew leases; the workers whose lease has lapsed."""
        _, lost = await self._run(RENEW, [self.keys.leases], ms(ttl), *workers)
        return [text(worker) for worker in lost]

    async def leave(self, worker: str, *, is_dead: bool) -> Answer:
        """Take a worker out that owns nothing: `left`, `owns` (how many), or `alive`."""
        keys = self.keys
        names = [keys.leases, keys.owned(worker), keys.inbox(worker)]
        outcome, count = await self._run(LEAVE, names, worker, "dead" if is_dead else "alive")
        return Answer(text(outcome), int(count))

    async def give_up(self, worker: str) -> None:
        """Say that nobody believes in a worker's lease any more: its jobs may be taken over at once."""
        leases = self.keys.leases
        await self.link.call(leases, "ZADD", leases, "XX", GIVEN_UP, worker, repeatable=True)

    async def leases(self) -> dict[str, float]:
        """Worker -> end of its lease, Unix seconds of the server's clock."""
        leases = self.keys.leases
        reply = await self.link.call(leases, "ZRANGE", leases, 0, -1, "WITHSCORES", repeatable=True)
        return {text(worker): float(ends) / 1000 for worker, ends in reply}

    # --- jobs

    async def dispatch(
        self,
        key: str,
        payload: bytes,
        worker: str,
        *,
        request: str,
        node: str,
        max_queued: int,
        park: bool,
    ) -> Answer:
        """Admit a new job: see `dispatch.lua` for the outcomes."""
        keys = self.keys
        names = [
            keys.job(key),
            keys.leases,
            keys.owned(worker),
            keys.inbox(worker),
            keys.starting,
            keys.waiting,
            keys.epoch,
            keys.shutdown,
        ]
        outcome, number, said = await self._change(
            f"the dispatch of job {key!r}",
            DISPATCH,
            names,
            key,
            payload,
            worker,
            max_queued,
            request,
            node,
            "park" if park else "",
        )
        return Answer(text(outcome), int(number), text(said))

    async def started(self, key: str, worker: str, epoch: int, entry: str, node: str) -> str:
        """The owner has started it: `running`, `stopping` or `stale`. `node` is the dispatcher's."""
        keys = self.keys
        names = [keys.job(key), keys.starting, keys.inbox(worker), keys.replies(node)]
        (outcome,) = await self._run(STARTED, names, key, worker, epoch, entry)
        return text(outcome)

    async def failed(
        self,
        key: str,
        worker: str,
        epoch: int,
        entry: str,
        *,
        node: str,
        error: str,
        again_in: float,
        is_start: bool,
    ) -> str:
        """A start or run has failed: `ended`, `waiting`, `stopping` or `stale`."""
        keys = self.keys
        names = [
            keys.job(key),
            keys.owned(worker),
            keys.starting,
            keys.waiting,
            keys.inbox(worker),
            keys.replies(node),
        ]
        what = "start" if is_start else "run"
        (outcome,) = await self._run(
            FAILED, names, key, worker, epoch, entry, error, ms(again_in), what
        )
        return text(outcome)

    async def ended(self, key: str, worker: str, epoch: int, entry: str) -> Ended:
        """The job has ended: `ended` or `stale`."""
        keys = self.keys
        names = [
            keys.job(key),
            keys.owned(worker),
            keys.starting,
            keys.waiting,
            keys.inbox(worker),
        ]
        outcome, request, node, stoppers = await self._run(ENDED, names, key, worker, epoch, entry)
        pairs = [pair.rpartition("@") for pair in text(stoppers).split()]
        return Ended(
            text(outcome),
            text(request),
            text(node),
            tuple((request_id, where) for request_id, _, where in pairs),
        )

    async def tell(self, node: str, request: str, outcome: str, text: str) -> None:
        """Put a reply into the replies of a node."""
        await self._run(TELL, [self.keys.replies(node)], request, outcome, text)

    async def assign(self, key: str, old: str, epoch: int | None, new: str) -> Answer:
        """Give a job to another owner, or to none: see `assign.lua`. Without an epoch the old owner must be dead."""
        keys = self.keys
        names = [
            keys.job(key),
            keys.leases,
            keys.owned(old),
            keys.owned(new),
            keys.inbox(new),
            keys.starting,
            keys.waiting,
            keys.epoch,
            keys.shutdown,
        ]
        outcome, number = await self._run(
            ASSIGN, names, key, old, "" if epoch is None else epoch, new
        )
        return Answer(text(outcome), int(number))

    async def stop(self, key: str, worker: str, request: str, node: str) -> Stopped:
        """Ask for the end of a job: `stopping`, `ended`, `missing`, or `elsewhere` with the owner."""
        keys = self.keys
        names = [keys.job(key), keys.waiting, keys.starting, keys.inbox(worker)]
        args, was_repeated = (key, worker, request, node), False
        try:
            reply = await self.link.run(STOP, names, args)
        except Unsettled as first:
            try:
                reply, was_repeated = await self._run(STOP, names, *args), True
            except ServerUnavailable:
                raise OutcomeUnknown(f"the stop of job {key!r}", first.reason) from first
        outcome, said, where = map(text, reply)
        return Stopped(outcome, said, where, was_repeated)

    async def notify(self, key: str, worker: str, payload: bytes) -> Answer:
        """Notify the owner: `sent`, `missing`, `waiting`, or `elsewhere` with the owner."""
        keys = self.keys
        names = [keys.job(key), keys.inbox(worker)]
        what = f"the notification of job {key!r}"
        outcome, said = await self._change(what, NOTIFY, names, key, worker, payload)
        return Answer(text(outcome), 0, text(said))

    async def progress(self, key: str, worker: str, epoch: int, said: str | None) -> str:
        """Note progress, or only look: the job's state, or `stale`. Either way it is among those of its owner again."""
        note = "" if said is None else "1"
        keys = [self.keys.job(key), self.keys.owned(worker)]
        outcome, state = await self._run(PROGRESS, keys, worker, epoch, said or "", note, key)
        return text(state) if outcome == b"noted" else "stale"

    async def done(self, worker: str, entry: str) -> None:
        """An inbox entry needs nothing more."""
        inbox = self.keys.inbox(worker)
        await self.link.call(inbox, "XDEL", inbox, entry, repeatable=True)

    # --- looking

    async def job(self, key: str, *, payload: bool) -> JobInfo | None:
        """One job; None when there is none."""
        name = self.keys.job(key)
        fields = (*JOB_FIELDS, "payload") if payload else JOB_FIELDS
        values = await self.link.call(name, "HMGET", name, *fields, repeatable=True)
        return decode_job(key, values[: len(JOB_FIELDS)], values[-1] if payload else None)

    async def jobs(self, keys: Sequence[str]) -> list[JobInfo]:
        """The jobs with these keys; keys without a job are left out."""
        found = await asyncio.gather(*(self.job(key, payload=False) for key in keys))
        return [job for job in found if job is not None]

    async def owned(self, worker: str) -> list[str]:
        """Keys of the jobs a worker owns."""
        name = self.keys.owned(worker)
        return [
            key.decode() for key in await self.link.call(name, "SMEMBERS", name, repeatable=True)
        ]

    async def some_owned(self, worker: str, count: int) -> list[str]:
        """At most `count` keys of the jobs a worker owns."""
        name = self.keys.owned(worker)
        reply = await self.link.call(name, "SRANDMEMBER", name, count, repeatable=True)
        return [key.decode() for key in reply]

    async def waiting(self) -> list[str]:
        """Keys of the jobs without an owner."""
        name = self.keys.waiting
        reply = await self.link.call(name, "ZRANGE", name, 0, -1, repeatable=True)
        return [key.decode() for key in reply]

    async def orders(self, worker: str, after: str, count: int) -> list[tuple[str, list[bytes]]]:
        """Entries of an inbox that nobody has carried out, from a position of XRANGE on."""
        name = self.keys.inbox(worker)
        reply = await self.link.call(
            name, "XRANGE", name, after, "+", "COUNT", count, repeatable=True
        )
        return [(entry.decode(), fields) for entry, fields in reply]

    # --- cleaning up, ticking, ending

    async def survey(self, node: str, *, given_up_only: bool = False) -> Survey:
        """What is to be cleaned up: `idle`, `busy` (another node is at it) or `work`.

        Dead are those whose leases have lapsed; or those only whose leases were given up.
        """
        keys = self.keys
        names = [keys.leases, keys.waiting, keys.janitor]
        which = GIVEN_UP if given_up_only else ""
        outcome, dead, due = await self._run(SURVEY, names, node, ms(JANITOR_TTL), MOST_DUE, which)
        return Survey(text(outcome), [text(one) for one in dead], [one.decode() for one in due])

    async def tick(
        self, name: str, every: float, request: str, *, make: bool, first: float, all_ticks: bool
    ) -> Tick:
        """Take a tick that is due: `tick`, `wait` or `gone`."""
        which, how = "all" if all_ticks else "latest", "make" if make else "tick"
        outcome, due, until_next = await self._tick(name, every, which, how, ms(first), request)
        return Tick(text(outcome), int(due) / 1000, int(until_next) / 1000)

    async def stop_ticker(self, name: str, every: float) -> bool:
        """Stop a ticker, which ends it on all nodes. True if there was one."""
        _, was_there, _ = await self._tick(name, every, "", "stop", 0, "")
        return bool(was_there)

    async def _tick(self, name: str, every: float, *rest: Argument) -> Any:  # noqa: ANN401  # a reply
        keys = self.keys
        names = [keys.tickers, keys.shutdown]
        return await self._run(TICK, names, name, ms(every), *rest)

    async def note_planned(self, producer: str, key: str) -> None:
        """A producer's schedule has a job."""
        name = self.keys.planned(producer)
        await self.link.call(name, "SADD", name, key, repeatable=True)

    async def planned(self, producer: str) -> list[str]:
        """The jobs of a producer's schedule."""
        name = self.keys.planned(producer)
        return [
            key.decode() for key in await self.link.call(name, "SMEMBERS", name, repeatable=True)
        ]

    async def forget_planned(self, producer: str, *keys: str) -> None:
        """They are of the schedule no more; none means all."""
        name = self.keys.planned(producer)
        command = ("SREM", name, *keys) if keys else ("UNLINK", name)
        await self.link.call(name, *command, repeatable=True)

    async def ask_for_shutdown(self, node: str, ttl: float) -> str:
        """Raise the flag; who has asked first."""
        name = self.keys.shutdown
        await self.link.call(name, "SET", name, node, "NX", "PX", ms(ttl), repeatable=True)
        return text(await self.link.call(name, "GET", name, repeatable=True) or b"")

    async def shutdown_by(self) -> str:
        """Who has asked for the end of the pool; empty if nobody has."""
        name = self.keys.shutdown
        return text(await self.link.call(name, "GET", name, repeatable=True) or b"")

    async def forget_node(self, node: str) -> None:
        """Nobody waits for replies at this node any more."""
        name = self.keys.replies(node)
        await self.link.call(name, "UNLINK", name, repeatable=True)

    async def remove_everything(self, waiting: Sequence[str]) -> None:
        """Delete what the pool has left, the flag last (protocol 7.2)."""
        keys, call = self.keys, self.link.call
        tickers = await call(keys.tickers, "HKEYS", keys.tickers, repeatable=True)
        names = [keys.job(key) for key in waiting]
        names += [keys.planned(ticker.decode().removeprefix(SCHEDULE)) for ticker in tickers]
        names += [keys.waiting, keys.starting, keys.leases, keys.tickers, keys.janitor]
        names += [keys.epoch, keys.meta]
        for start in range(0, len(names), AT_ONCE):
            await call(keys.meta, "UNLINK", *names[start : start + AT_ONCE], repeatable=True)
        await call(keys.shutdown, "UNLINK", keys.shutdown, repeatable=True)
