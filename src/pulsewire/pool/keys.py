"""The name of everything one pool leaves in Redis. All of it carries the tag `{<pool>}`: a pool lives in one slot."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire._core.checks import check_name
from pulsewire._redis.namespace import Namespace
from pulsewire.errors import InvalidName

PREFIX = "pool"


@dataclass(frozen=True, slots=True)
class PoolKeys:
    """The keys of one pool (protocol, "What lies in Redis")."""

    space: Namespace
    name: str

    def __post_init__(self) -> None:
        check_name("pool", self.name)
        if "{" in self.name or "}" in self.name:
            raise InvalidName("pool", self.name, "braces are not allowed: the name is a hash tag")

    def _key(self, *parts: str) -> str:
        return self.space.key(PREFIX, f"{{{self.name}}}", *parts)

    @property
    def meta(self) -> str:
        """HASH: protocol version and routing."""
        return self._key("meta")

    @property
    def workers_map(self) -> str:
        """Name of the replicated map worker id -> JSON."""
        return f"{{{self.name}}}:workers"

    @property
    def leases(self) -> str:
        """ZSET worker id -> end of its lease, ms of the server's clock."""
        return self._key("leases")

    @property
    def epoch(self) -> str:
        """STRING: the last fencing token."""
        return self._key("epoch")

    @property
    def starting(self) -> str:
        """ZSET key of a job that has an owner and does not run yet -> since, ms."""
        return self._key("starting")

    @property
    def waiting(self) -> str:
        """ZSET key of a job without an owner -> not before, ms."""
        return self._key("waiting")

    @property
    def tickers(self) -> str:
        """HASH ticker -> next tick in ms, and interval."""
        return self._key("tickers")

    def planned(self, producer: str) -> str:
        """SET: keys of the jobs that a producer's schedule has started. Goes when the schedule ends."""
        return self._key("planned", producer)

    @property
    def janitor(self) -> str:
        """STRING: the node that cleans up. With a TTL."""
        return self._key("janitor")

    @property
    def shutdown(self) -> str:
        """STRING: the node that has asked for the end of the pool. With a TTL."""
        return self._key("shutdown")

    def job(self, key: str) -> str:
        """HASH: everything about one job. Lives as long as the job."""
        return self._key("job", key)

    def owned(self, worker: str) -> str:
        """SET: keys of the jobs a worker owns. Goes with the worker."""
        return self._key("owned", worker)

    def inbox(self, worker: str) -> str:
        """STREAM: orders for one worker. Goes with the worker."""
        return self._key("inbox", worker)

    def replies(self, node: str) -> str:
        """STREAM: outcomes for the callers of one node. With a TTL."""
        return self._key("replies", node)

    @staticmethod
    def pattern(space: Namespace) -> str:
        """A SCAN pattern for the `meta` of all pools."""
        return space.key(PREFIX, "{*}", "meta")  # may match a job's key, too: see `name_of`

    @staticmethod
    def name_of(space: Namespace, key: str) -> str:
        """The pool's name in a `meta` key; with a brace in it if it is none."""
        return key.removeprefix(space.key(PREFIX, "{")).removesuffix("}:meta")
