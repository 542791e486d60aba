"""What the servers say of themselves. Whatever an ACL forbids to ask, or a server does not know, is None: unknown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pulsewire._redis.link import Link
from pulsewire.errors import PermissionDenied, ServerError

SETTINGS = (
    "appendfsync",
    "save",
    "maxclients",
    "min-replicas-to-write",
    "cluster-require-full-coverage",
)
CLOCK_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server that holds keys. None is unknown.

    Attributes:
        address: where it is.
        version: as it says.
        appends: whether the append-only file is on.
        fsync: how the append-only file is synced.
        snapshots: when snapshots are saved, as CONFIG has it; empty for never.
        last_save_failed: whether the last snapshot, or write to the append-only file, failed.
        eviction: the policy.
        maxmemory: bytes; 0 for no limit.
        used_memory: bytes.
        script_memory: bytes of scripts that are kept.
        scripts: how many are kept.
        replicas: how many are connected.
        min_replicas: how many there must be for a write.
        clients: connections.
        maxclients: how many there may be.
        clock_offset: seconds by which its clock is ahead of ours; and the uncertainty of that.
    """

    address: str
    kind: str = ""
    version: str | None = None
    appends: bool | None = None
    fsync: str | None = None
    snapshots: str | None = None
    last_save_failed: bool | None = None
    eviction: str | None = None
    maxmemory: int | None = None
    used_memory: int | None = None
    script_memory: int | None = None
    scripts: int | None = None
    replicas: int | None = None
    min_replicas: int | None = None
    clients: int | None = None
    maxclients: int | None = None
    clock_offset: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """A cluster as one of its nodes sees it.

    Attributes:
        state: `ok` or `fail`.
        assigned: slots that have an owner.
        reachable: slots whose owner is there.
        needs_all: whether it refuses everything when a slot has no owner.
        bare: masters without a replica.
        masters: how many there are.
    """

    state: str | None = None
    assigned: int | None = None
    reachable: int | None = None
    needs_all: bool | None = None
    bare: tuple[str, ...] | None = None
    masters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelFacts:
    """What one sentinel says of the master. `quorum_text` is None where it did not answer."""

    address: str
    can_fail_over: bool | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the servers have said."""

    url: str
    topology: str
    servers: tuple[ServerFacts, ...]
    cluster: ClusterFacts | None = None
    sentinels: tuple[SentinelFacts, ...] = field(default=())


async def gather_facts(link: Link) -> Facts:
    """Ask every server that holds keys.

    Raises:
        ServerUnavailable: one of them cannot be reached.
    """
    servers = [await _ask_server(link, master) for master in link.masters()]
    cluster = await _ask_cluster(link) if link.is_cluster else None
    return Facts(
        url=link.shown,
        topology=link.info.topology,
        servers=tuple(servers),
        cluster=cluster,
        sentinels=tuple(await _ask_sentinels(link)),
    )


async def _ask(link: Link, master: str, *command: str) -> Any:  # noqa: ANN401  # a reply
    """The reply; None where it may not be asked."""
    try:
        return await link.call_at(master, *command)
    except (PermissionDenied, ServerError):
        return None


async def _ask_server(link: Link, master: str) -> ServerFacts:
    told = read_info(await _ask(link, master, "INFO"))
    settings: dict[str, str] = {}
    for name in SETTINGS:
        reply = await _ask(link, master, "CONFIG", "GET", name)
        if isinstance(reply, Mapping):
            settings.update({key.decode(): value.decode() for key, value in reply.items()})
    return server_facts(
        master or link.shown, link.info.kind, told, settings, await _clock_offset(link, master)
    )


async def _clock_offset(link: Link, master: str) -> tuple[float, float] | None:
    """The offset of the quickest of some answers, and half of the time that it took."""
    best: tuple[float, float] | None = None
    for _ in range(CLOCK_TRIES):
        before, started = time.time(), time.perf_counter()
        reply = await _ask(link, master, "TIME")
        if reply is None:
            return None
        half = (time.perf_counter() - started) / 2
        offset = int(reply[0]) + int(reply[1]) / 1e6 - (before + half)
        if best is None or half < best[1]:
            best = (offset, half)
    return best


def read_info(reply: bytes | None) -> dict[str, str]:
    """The fields of INFO; none where it was not answered."""
    lines = (reply or b"").decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def server_facts(
    address: str,
    kind: str,
    told: Mapping[str, str],
    settings: Mapping[str, str],
    clock_offset: tuple[float, float] | None,
) -> ServerFacts:
    """What INFO and CONFIG GET mean. Pure."""
    failures = [
        told.get(name) for name in ("rdb_last_bgsave_status", "aof_last_write_status") if told
    ]
    return ServerFacts(
        address=address,
        kind=kind,
        version=told.get("valkey_version") or told.get("redis_version"),
        appends=None if "aof_enabled" not in told else told["aof_enabled"] == "1",
        fsync=settings.get("appendfsync"),
        snapshots=settings.get("save"),
        last_save_failed="err" in failures if told else None,
        eviction=told.get("maxmemory_policy"),
        maxmemory=_number(told.get("maxmemory")),
        used_memory=_number(told.get("used_memory")),
        script_memory=_number(told.get("used_memory_scripts_eval")),
        scripts=_number(told.get("number_of_cached_scripts")),
        replicas=_number(told.get("connected_slaves")),
        min_replicas=_number(settings.get("min-replicas-to-write")),
        clients=_number(told.get("connected_clients")),
        maxclients=_number(told.get("maxclients") or settings.get("maxclients")),
        clock_offset=clock_offset,
    )


async def _ask_cluster(link: Link) -> ClusterFacts:
    first, *_ = masters = link.masters()
    told = read_info(await _ask(link, first, "CLUSTER", "INFO"))
    settings = await _ask(link, first, "CONFIG", "GET", "cluster-require-full-coverage")
    nodes = await _ask(link, first, "CLUSTER", "NODES")
    needs_all = None
    if isinstance(settings, Mapping) and settings:
        needs_all = next(iter(settings.values())) == b"yes"
    return ClusterFacts(
        state=told.get("cluster_state"),
        assigned=_number(told.get("cluster_slots_assigned")),
        reachable=_number(told.get("cluster_slots_ok")),
        needs_all=needs_all,
        bare=None if nodes is None else bare_masters(nodes.decode()),
        masters=len(masters),
    )


def bare_masters(nodes: str) -> tuple[str, ...]:
    """The masters with slots that no replica follows, from the reply of CLUSTER NODES. Pure."""
    lines = [line.split() for line in nodes.splitlines() if line]
    is_well = [line for line in lines if "fail" not in line[2].split(",")]
    followed = {line[3] for line in is_well if "slave" in line[2]}
    return tuple(
        line[1].split("@")[0]
        for line in is_well
        if "master" in line[2] and len(line) > 8 and line[0] not in followed
    )


async def _ask_sentinels(link: Link) -> list[SentinelFacts]:
    """Whether each sentinel could have a failover decided: SENTINEL CKQUORUM."""
    return [
        SentinelFacts(address=address, can_fail_over=answer, text=text)
        for address, answer, text in await link.ask_sentinels()
    ]


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
