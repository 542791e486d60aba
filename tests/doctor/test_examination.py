"""Whole examinations, on every topology and with every right."""

from __future__ import annotations

import pytest

import pulsewire
from pulsewire.doctor import Level, examine
from pulsewire.testing import ClusterGroup, SentinelGroup, SingleServer

pytestmark = pytest.mark.leaves_keys("asynq:*")


def as_doctor(url: str) -> str:
    """The URL with the limited user."""
    return url.replace("://", "://doctor:pw@")


async def test_servers_of_every_topology(hub: pulsewire.Hub) -> None:
    """All that concerns a topology is looked at, and nothing is unknown to who may ask."""
    diagnosis = await examine(hub)
    assert diagnosis.of(Level.UNKNOWN) == ()
    checks = {finding.check for finding in diagnosis.findings}
    assert {"server", "persistence", "eviction", "memory", "replicas", "clients"} <= checks
    assert ("cluster" in checks) is (hub.server.topology == "cluster")
    assert ("sentinels" in checks) is (hub.server.topology == "sentinel")
    servers = [finding.where for finding in diagnosis.findings if finding.check == "server"]
    assert len(servers) == (3 if hub.server.topology == "cluster" else 1)
    assert all(
        version in finding.what
        for finding in diagnosis.findings
        if finding.check == "server"
        for version in [hub.server.version_text]
    )


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_sentinels_are_asked(topology: SentinelGroup, hub: pulsewire.Hub) -> None:
    (found,) = [one for one in (await examine(hub)).findings if one.check == "sentinels"]
    assert (found.level, "3 of 3 answer" in found.what) == (Level.OK, True)


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_clusters_are_asked(topology: ClusterGroup, hub: pulsewire.Hub) -> None:
    found = [one for one in (await examine(hub)).findings if one.check == "cluster"]
    assert any("3 masters serve all 16384 slots" in one.what for one in found)


async def test_settings_that_lose_data_are_red(fresh_server: SingleServer) -> None:
    async with pulsewire.connect(fresh_server.url) as hub:
        assert (await examine(hub)).is_well
        await fresh_server.command("CONFIG", "SET", "maxmemory", "100mb")
        await fresh_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await fresh_server.command("CONFIG", "SET", "appendonly", "no")
        await fresh_server.command("CONFIG", "SET", "save", "")
        diagnosis = await examine(hub)
    assert not diagnosis.is_well
    assert {finding.check for finding in diagnosis.of(Level.RED)} == {"eviction", "persistence"}
    assert all("CONFIG SET" in finding.do for finding in diagnosis.of(Level.RED))


@pytest.mark.parametrize(
    ("rights", "unknown"),
    [
        (("+@all", "-config", "~*", "&*"), set[str]()),
        (
            ("+@all", "-config", "-info", "~*", "&*"),
            {"server", "persistence", "eviction", "memory", "replicas", "clients", "scripts"},
        ),
        (("+@all", "-time", "-scan", "~*", "&*"), {"clock", "keys"}),
        (("+@all", "-zrange", "-llen", "~*", "&*"), {"orphans"}),
        (("+@all", "~shop:*", "&shop:*"), set()),
    ],
)
async def test_what_may_not_be_asked_is_unknown(
    fresh_server: SingleServer, rights: tuple[str, ...], unknown: set[str]
) -> None:
    """Neither well nor red, whichever right is missing; and the rest is looked at."""
    async with pulsewire.connect(fresh_server.url, namespace="shop") as hub:
        await hub.tasks.enqueue("a", b"")
    await fresh_server.command("ACL", "SETUSER", "doctor", "on", ">pw", *rights)
    async with pulsewire.connect(as_doctor(fresh_server.url), namespace="shop") as hub:
        diagnosis = await examine(hub, repair=True)
    assert {finding.check for finding in diagnosis.of(Level.UNKNOWN)} == unknown
    assert all(finding.do for finding in diagnosis.of(Level.UNKNOWN))
    assert diagnosis.of(Level.RED) == ()
