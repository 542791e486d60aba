"""What the tests of pools share: nodes, and pools of which nothing is left afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import pulsewire
from pulsewire._redis.link import Link
from pulsewire._redis.namespace import Namespace
from pulsewire.pool import Node
from pulsewire.pool.keys import PoolKeys
from pulsewire.pool.store import PoolStore
from pulsewire.testing import ServerProcess, Topology
from tests._redis.kit import opened_link
from tests.pool.facts import KeysOf, MakeNode, Recorder


@pytest.fixture
def keys_of(topology: Topology, namespace: str) -> KeysOf:
    """The keys that a pool has in Redis, without the namespace, sorted; also those of its workers map."""

    async def find(pool: str) -> list[str]:
        prefix = f"{namespace}:"
        found = [
            key.decode(errors="replace").removeprefix(prefix)
            for master in await topology.masters()
            for key in await _scan(master, f"{prefix}*{{{pool}}}*")
        ]
        return sorted(found)

    return find


@pytest.fixture
async def make_node(
    hub: pulsewire.Hub, topology: Topology, namespace: str
) -> AsyncIterator[MakeNode]:
    """Nodes, not entered, of `hub` or of another one in its namespace; what their pools left is deleted after the test.

    A pool outlives its nodes, so that its keys are no fault. A test of `shutdown` looks with `keys_of` itself.
    """
    pools: set[str] = set()

    def make(pool: str = "pool", *, of: pulsewire.Hub | None = None, **options: Any) -> Node:
        pools.add(pool)
        return (of or hub).node(pool, **options)

    yield make
    for pool in pools:
        await _delete_pool(topology, namespace, pool)


@pytest.fixture
def recorder() -> Recorder:
    """A handler that remembers."""
    return Recorder()


@pytest.fixture
async def link(topology: Topology) -> AsyncIterator[Link]:
    """A link on every topology in turn, for what stands below the face."""
    async with opened_link(topology.url) as link:
        yield link


@pytest.fixture
async def store(link: Link, topology: Topology, namespace: str) -> AsyncIterator[PoolStore]:
    """A pool's scripts, without nodes; what they have written is deleted after the test."""
    yield PoolStore(link, PoolKeys(Namespace(namespace), "pool"))
    await _delete_pool(topology, namespace, "pool")


async def _delete_pool(topology: Topology, namespace: str, pool: str) -> None:
    for master in await topology.masters():
        keys = await _scan(master, f"{namespace}:*{{{pool}}}*")
        await master.pipeline(*(("UNLINK", key) for key in keys))


async def _scan(server: ServerProcess, pattern: str) -> list[bytes]:
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, keys = await server.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        found.update(keys)
        if cursor == b"0":
            return sorted(found)
