"""The commands of task queues on a real cluster of 3+3 nodes, behind Sentinel, and over TLS."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pulsewire.testing import (
    ClusterGroup,
    SentinelGroup,
    SingleServer,
    Topology,
    make_certificates,
    redis7_binary,
    slot_of,
)
from tests.cli.conftest import Command, Invoke

QUEUES = ("images", "notifications", "webhooks")


@pytest.fixture
async def space(topology: Topology) -> AsyncIterator[str]:
    """A namespace on the topology of the test that nobody else uses, empty again afterwards."""
    name = f"cli-{secrets.token_hex(5)}"
    yield name
    for master in await topology.masters():
        cursor = b"0"
        while True:
            cursor, keys = await master.command("SCAN", cursor, "MATCH", f"{name}:*", "COUNT", 1000)
            await master.pipeline(*(("UNLINK", key) for key in keys))
            if cursor == b"0":
                break


@pytest.fixture
def cli(invoke: Invoke, topology: Topology, space: str) -> Command:
    """Runs a command on the topology of the test."""

    def run(*arguments: str, exit_code: int = 0) -> Any:
        result = invoke(*arguments, "--url", topology.url, "--namespace", space)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.output

    return run


on_every_kind = pytest.mark.parametrize("topology", ["cluster", "sentinel"], indirect=True)
on_the_cluster = pytest.mark.parametrize("topology", ["cluster"], indirect=True)


@on_the_cluster
def test_a_queue_is_in_one_slot_at_a_master_and_its_replica(
    cli: Command, cluster_group: ClusterGroup, space: str
) -> None:
    """The seed's table, with nodes that can be read: id, address, role; the master first."""
    for queue in QUEUES:
        cli("task", "enqueue", "work", "x", "--queue", queue)
    found = cli("queue", "ls", "--cluster", "--json")
    assert [one["queue"] for one in found] == list(QUEUES)
    known = {node.node_id: f"{node.host}:{node.port}" for node in cluster_group.nodes}
    for one in found:
        assert one["slot"] == slot_of(f"{space}:asynq:{{{one['queue']}}}:pending")
        assert [node["role"] for node in one["nodes"]] == ["master", "replica"]
        for node in one["nodes"]:
            assert node["address"] == known[node["id"]]
    heading, *lines = cli("queue", "ls", "--cluster").splitlines()
    assert heading.split("  ")[0] == "Queue"
    assert "Cluster KeySlot" in heading
    assert "Cluster Nodes" in heading
    for one, line in zip(found, lines, strict=True):
        nodes = ", ".join(f"{node['id']} {node['address']} {node['role']}" for node in one["nodes"])
        assert line.split(None, 2) == [one["queue"], str(one["slot"]), nodes]
    assert [one["queue"] for one in cli("queue", "ls", "web*", "--cluster", "--json")] == [
        "webhooks"
    ]


@on_every_kind
def test_tasks_are_enqueued_seen_and_dealt_with(cli: Command, topology: Topology) -> None:
    """Everything that asks or changes something, in queues on different nodes."""
    for queue in QUEUES:
        cli("task", "enqueue", "work", "x", "-q", queue, "--id", f"{queue}-1")
        cli("task", "enqueue", "work", "y", "-q", queue, "--process-in", "1h", "--id", f"{queue}-2")
        cli("task", "enqueue", "line", "z", "-q", queue, "-g", "ada")
    sizes = {queue["name"]: queue["size"] for queue in cli("queue", "ls", "--json")}
    assert sizes == dict.fromkeys(QUEUES, 3)
    assert len(cli("task", "ls", "--json")) == 9
    assert [group["queue"] for group in cli("group", "ls", "--json")] == list(QUEUES)
    assert cli("task", "inspect", "webhooks-2", "--json")[0]["queue"] == "webhooks"
    cli("task", "run", "webhooks-2")
    cli("task", "archive", "webhooks-1", "images-1")
    cli("task", "delete", "images-1")
    assert cli("task", "run", "--all", "-q", "images", "-s", "aggregating", "--json")["count"] == 1
    cli("queue", "pause", *QUEUES)
    stats = cli("stats", "--json")
    assert stats["aggregate"]["size"] == 8
    assert all(queue["is_paused"] for queue in stats["queues"])
    shown = cli("stats")
    if isinstance(topology, ClusterGroup):
        assert stats["redis"]["cluster_state"] == "ok"
        assert "known nodes    6\ncluster size   3\n" in shown
    else:
        assert "redis_version" in stats["redis"]
    assert cli("server", "ls") == "no servers run tasks\n"
    assert cli("cron", "ls") == "no periodic tasks: no scheduler runs\n"
    assert "is not empty" in cli("queue", "rm", *QUEUES, exit_code=1)
    cli("queue", "rm", *QUEUES, "--force")
    assert cli("queue", "ls", "--json") == []


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
def test_behind_sentinel_there_are_no_slots(cli: Command, topology: SentinelGroup) -> None:
    cli("task", "enqueue", "work", "x")
    told = cli("queue", "ls", "--cluster", exit_code=1)
    assert "is not a cluster: all queues are on one server" in told


@pytest.fixture
async def encrypted_url(anyio_backend: object, tmp_path: Path) -> AsyncIterator[str]:
    """A server that speaks TLS alone."""
    binary = redis7_binary()
    if binary is None:
        pytest.skip("this machine has no Redis 7, and the embedded server speaks no TLS")
    async with SingleServer(binary, tls=make_certificates(tmp_path)) as server:
        yield server.url


def test_an_encrypted_server_is_named_like_any_other(invoke: Invoke, encrypted_url: str) -> None:
    """`rediss://`, with the options of redis-py."""
    assert encrypted_url.startswith("rediss://")
    where = ("--url", encrypted_url)
    assert invoke("task", "enqueue", "work", "x", "--id", "a", *where).exit_code == 0
    (queue,) = json.loads(invoke("queue", "ls", "--json", *where).stdout)
    assert (queue["name"], queue["pending"]) == ("default", 1)
    assert invoke("task", "inspect", "a", *where).exit_code == 0
    assert invoke("queue", "rm", "default", "--force", *where).exit_code == 0
    refused = invoke("queue", "ls", "--url", encrypted_url.partition("?")[0] + "?socket_timeout=1")
    assert refused.exit_code == 1
    assert "certificate" in refused.output
