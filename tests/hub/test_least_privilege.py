"""The rights that the production page names are enough for each block, on one server and on a cluster."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from typer.testing import CliRunner

import pulsewire
from pulsewire.cli.app import app
from pulsewire.testing import ClusterGroup, SingleServer, Topology, wait_until
from tests.hub.rights import CLUSTER_RIGHTS, as_user, limited, rights_of
from tests.hub.uses import USES

Command = Callable[..., Any]


@pytest.mark.parametrize("what", USES)
async def test_rights_of_the_page_suffice_on_one_server(
    fresh_server: SingleServer, what: str
) -> None:
    """A user limited to its prefix, without administration, INFO, KEYS or CONFIG.

    That they suffice on Redis too, which has put some commands into other categories, shows test_encryption.py.
    """
    user = f"shop-{what}"
    async with limited([fresh_server], user, rights_of(user)):
        await USES[what](as_user(fresh_server.url, user))


@pytest.mark.parametrize("what", USES)
async def test_rights_of_the_page_suffice_on_a_cluster(
    cluster_group: ClusterGroup, what: str
) -> None:
    """The same with slots."""
    user = f"shop-{what}"
    # also replicas: what is a master is found out by asking any of them
    async with limited(cluster_group.servers, user, [*rights_of(user), *CLUSTER_RIGHTS]):
        await USES[what](as_user(cluster_group.url, user))


@pytest.mark.parametrize("what", USES)
async def test_user_of_the_page_may_not_look_around(fresh_server: SingleServer, what: str) -> None:
    """None of the rights is more than it says: what tells of others, or changes the server, is refused."""
    user = f"shop-{what}"
    forbidden: list[tuple[str, ...]] = [
        *(("KEYS", "*"), ("INFO",), ("CONFIG", "GET", "maxmemory"), ("SCAN", "0")),
        *(("FLUSHALL",), ("SCRIPT", "FLUSH"), ("ACL", "LIST"), ("DEBUG", "SLEEP", "0")),
        *(("GET", "other:k"), ("PUBLISH", "other:c", "x"), ("MONITOR",), ("SHUTDOWN",)),
    ]
    async with limited([fresh_server], user, rights_of(user)):
        for command in forbidden:
            told = await fresh_server.command("ACL", "DRYRUN", user, *command)
            assert b"permission" in told, command


# --- the command line


@pytest.fixture
async def limited_url(topology: Topology) -> AsyncIterator[str]:
    """Where the user of task queues connects to."""
    extra = CLUSTER_RIGHTS if isinstance(topology, ClusterGroup) else []
    user = "shop-tasks"
    async with limited(topology.servers, user, [*rights_of(user), *extra]):
        yield as_user(topology.url, user)


@pytest.fixture
def cli(limited_url: str) -> Command:
    """Runs a command as that user."""

    def run(*arguments: str, exit_code: int = 0) -> Any:
        where = ("--url", limited_url, "--namespace", "shop")
        result = CliRunner().invoke(app, [*arguments, *where])
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.output

    return run


@pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)
def test_command_line_of_tasks_needs_no_more(cli: Command, topology: Topology) -> None:
    """What asks and what changes; what the user may not know is left out."""
    later = ("-q", "low", "--process-in", "1h")
    for number in range(4):
        cli("task", "enqueue", "work", "x", *later, "--id", f"{number}")
    cli("task", "enqueue", "line", "x", "-q", "low", "-g", "ada", "--unique", "1h")
    assert cli("queue", "ls", "--json")[0]["size"] == 5
    assert cli("queue", "inspect", "low", "--json")[0]["memory"] is None
    cli("queue", "history", "low")
    cli("queue", "pause", "low")
    cli("queue", "unpause", "low")
    assert len(cli("task", "ls", "--json")) == 5
    cli("task", "inspect", "0")
    cli("task", "run", "0")
    cli("task", "archive", "1")
    cli("task", "delete", "2", "1")
    assert cli("group", "ls", "--json")[0]["size"] == 1
    assert cli("task", "archive", "--all", "-q", "low", "-s", "pending", "--json")["count"] == 1
    told = cli("stats", "--json")
    assert told["aggregate"]["size"] == 3
    if isinstance(topology, ClusterGroup):
        assert cli("queue", "ls", "--cluster", "--json")[0]["nodes"]
    else:
        assert told["redis"] == {}
    cli("server", "ls", "--tasks")
    cli("cron", "ls")
    cli("queue", "rm", "low", "--force")
    assert "ACL" in cli("stream", "ls", exit_code=1)


# --- maps: channels, and who only reads


async def test_map_without_its_channel_is_refused_as_a_whole(fresh_server: SingleServer) -> None:
    """Who may not listen cannot join; who may not publish has written nothing."""
    rules = [*rights_of("shop-maps"), "resetchannels"]
    url = as_user(fresh_server.url, "shop-maps")
    async with (
        limited([fresh_server], "shop-maps", rules),
        pulsewire.connect(url, namespace="shop") as hub,
    ):
        flags = hub.map("flags")
        with pytest.raises(pulsewire.PermissionDenied, match="SUBSCRIBE"):
            await flags.__aenter__()
        flags = hub.map("flags")
        with pytest.raises(pulsewire.PermissionDenied):
            await flags.set("beta", "on")
        with pytest.raises(pulsewire.PermissionDenied):
            await flags.inc("visits")
        with pytest.raises(pulsewire.PermissionDenied):
            await flags.append_values("groups", "eu")
        assert not (await flags.info()).exists


async def test_rights_to_read_maps_suffice_to_join_one(fresh_server: SingleServer) -> None:
    """The page's rules for programs that never write."""
    async with pulsewire.connect(fresh_server.url, namespace="shop") as hub:
        await hub.map("flags").set("beta", "on")
    user = "shop-map-reader"
    async with (
        limited([fresh_server], user, rights_of(user)),
        pulsewire.connect(as_user(fresh_server.url, user), namespace="shop") as hub,
    ):
        async with hub.map("flags") as flags:
            assert flags["beta"] == "on"
            await wait_until(lambda: flags.stale_for < 0.2, what="the revision was compared")
            with pytest.raises(pulsewire.PermissionDenied):
                await flags.set("beta", "off")
        assert await flags.fetch("beta") == "on"
