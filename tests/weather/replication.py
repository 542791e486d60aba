"""Failovers of Sentinel, and waiting until nothing is acknowledged that one would lose."""

from __future__ import annotations

import random

import anyio

from pulsewire.testing import SentinelGroup, ServerProcess, SingleServer, wait_until
from tests.weather.seeds import SEED

DRAWN = random.Random(SEED)


async def wait_replicated(master: ServerProcess, replicas: int) -> None:
    """Return when all that the master has written so far is on its replicas.

    WAIT counts from the last write of its own connection: so there must be one, which touches no key.
    """
    async with master.connection(timeout=10.0) as connection:
        _, count = await connection.pipeline(
            ("PUBLISH", "weather", "marker"), ("WAIT", replicas, 5000)
        )
        assert count >= replicas, f"only {count} replicas"


async def kill_master(group: SentinelGroup) -> SingleServer:
    """SIGKILL, noticed by the sentinels."""
    old = await group.kill_master()
    await group.wait_new_master(old)
    return old


async def order_failover(group: SentinelGroup) -> SingleServer:
    """SENTINEL FAILOVER; returns when the old master knows that it is none."""
    old = await group.master()
    await group.failover()

    async def is_replica() -> bool:
        try:
            return (await old.info("replication"))["role"] == "slave"
        except ConnectionError:  # when it becomes one, the sentinels end its connections
            return False

    await wait_until(is_replica, timeout=20.0, what=f"{old!r} is a replica")
    return old


async def freeze_master(group: SentinelGroup) -> SingleServer:
    """SIGSTOP; the old master wakes up, and believes itself master, when nobody talks to it any more."""
    old = await group.master()
    old.pause()
    await group.wait_new_master(old)
    await anyio.sleep(DRAWN.uniform(0.0, 1.0))
    return old
