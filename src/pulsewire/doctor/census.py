"""Which keys there are, by block: one walk through the keyspace.

Names are taken apart here as `keys.py` of each block puts them together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from pulsewire._redis.link import Link
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.scan import PAGE, Scan
from pulsewire.pool.keys import PREFIX as POOL
from pulsewire.rmap.keys import MapKeys
from pulsewire.streaming.keys import StreamKeys
from pulsewire.tasks.keys import PREFIX as TASKS

REMOVED = "}:removed:"
"""In the names of places that a queue had which is being removed (`QueueKeys.removed`)."""
Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and how much there is about (0: not known)."""


def no_progress(what: str, done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class QueueCensus:
    """Keys of one queue: ids of tasks, and names of what else has one key each."""

    tasks: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)


@dataclass(slots=True)
class PoolCensus:
    """Keys of one pool: keys of jobs, workers that have a set of jobs or an inbox, nodes that get replies."""

    jobs: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    inboxes: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    others: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Census:
    """All keys of a namespace.

    Attributes:
        queues: by name.
        registries: the zsets and sets that belong to no single queue, and what they name.
        pools: by name.
        streams: names.
        maps: names.
        beside: keys of ours beside streams and maps, which must have a TTL.
    """

    queues: dict[str, QueueCensus] = field(default_factory=lambda: defaultdict(QueueCensus))
    registries: set[str] = field(default_factory=set)
    pools: dict[str, PoolCensus] = field(default_factory=lambda: defaultdict(PoolCensus))
    streams: set[str] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    beside: list[str] = field(default_factory=list)

    def add(self, space: Namespace, key: str) -> None:
        """Put a key where it belongs; keys of others are passed over."""
        start = f"{space.prefix}:" if space.prefix else ""
        if not key.startswith(start):
            return
        name = key[len(start) :]
        if name.startswith(f"{TASKS}:{{"):
            self._add_to_queue(name[len(TASKS) + 2 :])
        elif name.startswith(f"{TASKS}:"):
            self.registries.add(name[len(TASKS) + 1 :])
        elif name.startswith(f"{POOL}:{{"):
            self._add_to_pool(name[len(POOL) + 2 :])
        elif name.startswith("pulsewire:{"):
            if REMOVED not in name:  # it is about to be deleted, and is read until then
                self.beside.append(key)
        elif key.startswith(StreamKeys.pattern(space)[:-1]):
            self.streams.add(StreamKeys.name_of(space, key))
        elif name.startswith("map:") and name.endswith(":content"):
            self.maps.add(MapKeys.name_of(space, key))

    def _add_to_queue(self, rest: str) -> None:
        queue, closed, part = rest.partition("}:")
        if not closed or not queue:
            return
        found = self.queues[queue]
        if part.startswith("t:"):
            found.tasks.append(part[2:])
        elif part.startswith("g:"):
            found.groups.append(part[2:])
        elif part.startswith("unique:"):
            found.locks.append(part)
        else:
            found.others.add(part)

    def _add_to_pool(self, rest: str) -> None:
        pool, closed, part = rest.partition("}:")
        if not closed or not pool:
            return
        found = self.pools[pool]
        kind, _, name = part.partition(":")
        places = {
            "job": found.jobs,
            "owned": found.owners,
            "inbox": found.inboxes,
            "replies": found.replies,
        }
        if name and kind in places:
            places[kind].append(name)
        else:
            found.others.add(part)


async def take_census(link: Link, space: Namespace, progress: Progress) -> Census:
    """Walk through all keys of a namespace, on every server.

    Raises:
        PermissionDenied: SCAN is not allowed.
    """
    census, seen = Census(), set[str]()
    pattern = f"{space.prefix}:*" if space.prefix else "*"
    for master in link.masters():
        total, walked = int(await link.call_at(master, "DBSIZE")), 0
        async for keys in Scan(link, master, pattern):
            new = set(keys) - seen  # a key may come twice
            seen |= new
            for key in sorted(new):
                census.add(space, key)
            walked = min(walked + PAGE, total)
            progress("looking at keys", walked, total)
    return census
