"""Cleaning up after workers that died, and finding workers for jobs that wait. One pass at a time (protocol 6)."""

from __future__ import annotations

import anyio

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.failovers import PATIENCE, Vigil
from pulsewire._core.vitals import going_on
from pulsewire.errors import DecodeError, JobNotFound, NoWorkers
from pulsewire.pool.crew import Crew
from pulsewire.pool.store import JANITOR_TTL, Survey
from pulsewire.pool.wire import SHUTDOWN_ENTRY, Order, decode_order
from pulsewire.rmap.map import ReplicatedMap

LONGEST_PERIOD = 1.0
BATCH = 500
AT_ONCE = 100


def period(worker_ttl: float) -> float:
    """Seconds between two looks."""
    return min(LONGEST_PERIOD, worker_ttl / 4)


class Janitor:
    """The janitor's duties, should this node get its lease."""

    def __init__(self, crew: Crew, workers: ReplicatedMap[str]) -> None:
        self._crew = crew
        self._workers = workers
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._vigil = Vigil(PATIENCE if crew.store.link.may_fail_over else 0.0)

    async def clean_up_once(self) -> None:
        """Look whether there is anything to do, and do it if nobody else does."""
        while True:
            going_on()
            survey = await self._survey()
            if survey is None or survey.outcome != "work":
                return
            for worker in survey.dead:
                self._crew.suspect(worker)
            given = 0
            for worker in survey.dead:
                given += await self._bury(worker)
            given += await self._give(survey.due, "")
            if not given:
                return  # nobody takes them now; or all is done

    async def _survey(self) -> Survey | None:
        """What is to be done. None when another server took over meanwhile: nobody knows which of them has answered."""
        store = self._crew.store
        server = store.link.server_of(store.keys.leases)
        may_believe = self._vigil.is_over(server, SYSTEM_CLOCK.monotonic())
        survey = await store.survey(self._crew.node, given_up_only=not may_believe)
        return survey if store.link.server_of(store.keys.leases) == server else None

    async def _bury(self, worker: str) -> int:
        """Give a dead worker's jobs to others, and take it out. How much was got done."""
        crew, count, is_buried = self._crew, 0, False
        with anyio.move_on_after(JANITOR_TTL):  # then the lease is renewed first
            while keys := await crew.store.some_owned(worker, BATCH):
                given = await self._give(keys, worker)
                if not given:
                    break
                count += given
                going_on()
            if await self._forward_notifications(worker):
                left = await crew.store.leave(worker, is_dead=True)
                is_buried = left.outcome == "left"
            if is_buried:
                await self._workers.delete(worker)
        if not is_buried:
            return count
        crew.hooks.worker_buried(crew.name, worker, count)
        if count:
            said = {"pool": crew.name, "worker": worker, "jobs": count}
            crew.logger.warning("a worker has died, its jobs go to others", extra=said)
        return count

    async def _give(self, keys: list[str], old: str) -> int:
        """Give jobs of a dead worker, or of none, to whom they belong; how many were given."""
        given = 0

        async def give(key: str) -> None:
            nonlocal given
            async with self._limiter:
                if await self._give_one(key, old):
                    given += 1

        async with anyio.create_task_group() as giving:
            for key in keys:
                giving.start_soon(give, key)
        return given

    async def _give_one(self, key: str, old: str) -> bool:
        crew = self._crew
        while True:
            target = crew.target(key, but=old)
            answer = await crew.store.assign(key, old, None, target)
            if answer.outcome == "lapsed":
                crew.suspect(target)
                continue
            if answer.outcome == "stopping":
                await self._end(key, old, answer.number)
                return True
            return answer.outcome == "given" or (answer.outcome == "parked" and old != "")

    async def _end(self, key: str, old: str, epoch: int) -> None:
        """A job that was to stop, or whose pool shuts down: its handler has died with its worker, or hangs."""
        await self._crew.tell_ended(await self._crew.store.ended(key, old, epoch, ""))

    async def end_jobs_of(self, worker: str) -> None:
        """The pool shuts down, and this worker cannot end its jobs any more: end them for it, and take it out."""
        store = self._crew.store

        async def end(key: str) -> None:
            async with self._limiter:
                job = await store.job(key, payload=False)
                if job is None:
                    await store.assign(key, worker, None, "")  # a key without a job: take it out
                else:
                    await self._end(key, worker, job.token)

        async with anyio.create_task_group() as ending:
            for key in await store.owned(worker):
                ending.start_soon(end, key)
        await store.leave(worker, is_dead=False)

    async def _forward_notifications(self, worker: str) -> bool:
        """What a dead worker has not heard goes to the new owners. Whether all of it has gone."""
        position, without_owner = "-", set[str]()
        while entries := await self._crew.store.orders(worker, position, BATCH):
            for entry, fields in entries:
                try:
                    order = decode_order(entry, fields)
                except DecodeError as error:
                    self._crew.note_malformed(self._crew.store.keys.inbox(worker), entry, error)
                    continue
                if order.do != "notify" or order.key in without_owner:
                    continue  # what follows one that has to wait waits, too
                if not await self._forward(worker, order):
                    without_owner.add(order.key)
            position = f"({entries[-1][0]}"
            going_on()
        return not without_owner

    async def _forward(self, worker: str, order: Order) -> bool:
        """Send one notification on, and take it out of the dead worker's inbox. False while its job has no owner."""
        try:
            await self._crew.notify(order.key, order.payload)
        except NoWorkers:
            return False
        except JobNotFound as error:
            self._crew.note_too_late(order, error)
        await self._crew.store.done(worker, order.entry)
        return True

    async def tidy_map_once(self) -> None:
        """Take out of the map who has no lease: it died between the two."""
        if self._crew.roster.shutdown_by and not await self._crew.store.shutdown_by():
            await self._workers.delete(SHUTDOWN_ENTRY)  # its asker has died (protocol 7.3)
        # each got its lease before its entry (protocol 2.2)
        known = list(self._crew.roster.workers)
        leases = await self._crew.store.leases()
        for worker in known:
            going_on()
            if worker not in leases:
                await self._workers.delete(worker)
