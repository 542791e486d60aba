"""Orphans of worker pools: jobs that nobody has, what dead workers left, jobs that wait for workers.

What a janitor does anyway is left to it; a pool has one as long as any node with workers runs. Here is what no janitor
finds, and what is so for want of nodes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from pulsewire._redis.scripts import Script, text
from pulsewire.doctor.census import Census, PoolCensus
from pulsewire.doctor.findings import Finding, Level
from pulsewire.doctor.orphans import PAGE, REPAIR, SHOWN, Search, finding, foreign, paged
from pulsewire.errors import InvalidName, ServerError
from pulsewire.pool.keys import PoolKeys

JOBS = Script.load("pulsewire.pool", "orphan_jobs")
OWNED = Script.load("pulsewire.pool", "orphan_owned")
WORKER = Script.load("pulsewire.pool", "orphan_worker")
REPLIES_LIVE = 3600.0
OVERDUE = 60.0
"""Seconds after which a janitor should have cleaned up after a dead worker: it looks every second."""


async def search_pools(search: Search, census: Census) -> AsyncIterator[Finding]:
    """Look through all pools."""
    for number, (name, found) in enumerate(sorted(census.pools.items())):
        search.progress("looking at pools", number, len(census.pools))
        try:
            keys = PoolKeys(search.space, name)
        except InvalidName:
            continue
        try:
            async for one in _search_pool(search, keys, found):
                yield one
        except ServerError as error:
            yield foreign(f"pool {name}", error)


async def _search_pool(
    search: Search, keys: PoolKeys, census: PoolCensus
) -> AsyncIterator[Finding]:
    where = f"pool {keys.name}"
    if census.others & {"leases", "waiting"} | set(census.jobs) and "meta" not in census.others:
        what = "has no record of its protocol and routing: the next node that joins decides anew"
        do = "Have all its nodes use the same `routing=`; the next one to join writes the record."
        yield Finding(Level.WARN, "pool", where, what, do)
    async for one in _workers(search, keys, census, where):
        yield one
    if found := await _lost_jobs(search, keys, census):
        what = "jobs that neither a worker has nor wait for one: they do not run"
        yield finding(search, "jobs", where, found, what, red=True)
    for place in (keys.waiting, keys.starting):
        gone = await search.entries_without(place, "zset", keys.job(""), "state")
        if gone:
            what = "entries count as waiting or starting jobs, and there are no such jobs"
            yield finding(search, "jobs", where, gone, what, red=False)
    replies = [keys.replies(node) for node in census.replies]
    lasting = await search.without_ttl(replies, REPLIES_LIVE)
    if lasting:
        what = "replies to nodes have no time to live"
        yield finding(search, "replies", where, lasting, what, red=False)


async def _workers(
    search: Search, keys: PoolKeys, census: PoolCensus, where: str
) -> AsyncIterator[Finding]:
    leases = await search.link.call(
        keys.leases, "ZRANGE", keys.leases, 0, -1, "WITHSCORES", repeatable=True
    )
    ends = {text(worker): float(end) for worker, end in leases}
    now = await search.link.time() * 1000
    living = [worker for worker, end in ends.items() if end > now]
    foreign: list[str] = []
    abandoned: list[str] = []
    unread: list[str] = []
    for worker in sorted({*census.owners, *census.inboxes}):
        foreign += await _foreign_jobs(search, keys, worker)
        names = [keys.leases, keys.owned(worker), keys.inbox(worker), keys.shutdown]
        (word,) = await search.link.run(WORKER, names, [search.mode, worker], repeatable=True)
        {"jobs": abandoned, "inbox": unread}.get(text(word), []).append(worker)
    if foreign:
        what = "workers are said to own jobs that are gone, or another's"
        yield finding(search, "jobs", where, foreign, what, red=False)
    if abandoned:
        what = "workers without a lease own jobs: no janitor finds them, and the jobs do not run"
        do = f"{REPAIR} A node with workers takes the jobs over."
        yield finding(search, "workers", where, abandoned, what, do=do, red=True)
    if unread:
        what = "inboxes of workers that are gone"
        yield finding(search, "inboxes", where, unread, what, red=False)
    waiting = await search.link.call(keys.waiting, "ZCARD", keys.waiting, repeatable=True)
    dead = sorted(ends.keys() - set(living))
    if not living and (waiting or dead):
        what = f"has no workers: {waiting} jobs wait, and {len(dead)} dead workers have not been cleaned up"
        do = "Start a node with workers: it takes the jobs of the dead, and those that wait."
        yield Finding(Level.WARN, "workers", where, what, do, int(waiting), tuple(dead[:SHOWN]))
    elif overdue := [worker for worker in dead if ends[worker] < now - OVERDUE * 1000]:
        what = "dead workers have not been cleaned up, although there are nodes with workers: their jobs do not run"
        do = "Look at the logs of the nodes: one of them is the janitor, and says what keeps it."
        examples = tuple(overdue[:SHOWN])
        yield Finding(Level.RED, "workers", where, what, do, len(overdue), examples)
    else:
        what = f"{len(living)} workers, {waiting} jobs wait"
        yield Finding(Level.OK, "workers", where, what)


async def _foreign_jobs(search: Search, keys: PoolKeys, worker: str) -> list[str]:
    owned, cursor, found = keys.owned(worker), b"0", list[str]()
    while True:
        cursor, jobs = await search.link.call(
            owned, "SSCAN", owned, cursor, "COUNT", PAGE, repeatable=True
        )
        for some in paged([text(job) for job in jobs], PAGE):
            args = [search.mode, worker, keys.job(""), *some]
            reply = await search.link.run(OWNED, [owned], args, repeatable=True)
            found += map(text, reply)
        if cursor == b"0":
            return sorted(set(found))


async def _lost_jobs(search: Search, keys: PoolKeys, census: PoolCensus) -> list[str]:
    found: list[str] = []
    names = [keys.leases, keys.waiting, keys.shutdown]
    for some in paged(census.jobs, PAGE):
        args = [search.mode, keys.job(""), keys.owned(""), *some]
        found += map(text, await search.link.run(JOBS, names, args, repeatable=True))
    return found
