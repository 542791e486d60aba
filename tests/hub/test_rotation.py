"""Passwords are changed while all four blocks are under load: nothing is lost, nothing moves, nobody is told.

The rotation of the production page: a second password is added, the programs' provider gives it, the first one is
removed, and whoever connected with it is cut off. Who is too late with telling the provider is tested as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.credentials import CredentialProvider

import pulsewire
from pulsewire.pool import Job
from pulsewire.tasks import Task
from pulsewire.testing import ClusterGroup, Topology, wait_until
from tests.hub.rights import CLUSTER_RIGHTS, rights_of
from tests.weather.report import Tally, note_fact

USER = "shop-everything"
BLOCKS = ("streams", "maps", "pools", "tasks")
JOBS = 5
DOUBTFUL = (pulsewire.OutcomeUnknown, pulsewire.ConnectionLost)
"""What a caller is told whose reply was lost, and who could not ask any more what had become of the command."""

pytestmark = pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)


class Rotating(CredentialProvider):
    """Gives what it was told last; counts how often it was asked."""

    def __init__(self) -> None:
        self.password = "first"
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        """User and password, for one connection."""
        self.asked += 1
        return USER, self.password

    async def get_credentials_async(self) -> tuple[str, str]:
        """The same; what redis-py asks for."""
        return self.get_credentials()


class Fleet:
    """The servers, and the user on them."""

    def __init__(self, topology: Topology) -> None:
        self._servers = topology.servers

    async def change(self, *rules: str) -> None:
        """Change the user everywhere."""
        for server in self._servers:
            await server.command("ACL", "SETUSER", USER, *rules)

    async def cut_off(self) -> int:
        """Drop the user's connections; returns how many there were."""
        cut: list[int] = [
            await server.command("CLIENT", "KILL", "USER", USER) for server in self._servers
        ]
        return sum(cut)

    async def remove(self) -> None:
        """Have the user no more."""
        for server in self._servers:
            await server.command("ACL", "DELUSER", USER)


@pytest.fixture
async def fleet(topology: Topology) -> AsyncIterator[Fleet]:
    """With a user that has the rights of the page for every block."""
    extra = CLUSTER_RIGHTS if isinstance(topology, ClusterGroup) else []
    fleet = Fleet(topology)
    for what in BLOCKS:
        rights = [word for word in rights_of(f"shop-{what}") if word != "resetchannels"]
        await fleet.change(*rights, *extra)
    await fleet.change("resetpass", ">first")
    yield fleet
    await fleet.remove()


@pytest.fixture
async def client(topology: Topology) -> AsyncIterator[Any]:
    """A client of redis-py that asks a provider; the provider is its attribute `rotating`."""
    rotating = Rotating()
    made: Any
    if isinstance(topology, ClusterGroup):
        nodes = [ClusterNode(node.host, node.port) for node in topology.nodes]
        made = redis.asyncio.RedisCluster(startup_nodes=nodes, credential_provider=rotating)
    else:
        (server,) = await topology.masters()
        made = redis.asyncio.Redis(host=server.host, port=server.port, credential_provider=rotating)
    made.rotating = rotating
    yield made
    await made.aclose()


class Load:
    """Uses all four blocks until it is told to stop, and counts what it has done and what it was told.

    Attributes:
        said: what went in, by block.
        seen: what came out, each piece by itself.
        written: what the map has counted, at the end.
        refused: how often a caller was told that its credentials were refused, by block.
        doubtful: how often a caller was told that nobody knows whether it was done, by block.
    """

    def __init__(self, hub: pulsewire.Hub, *, pause: float = 0.0) -> None:
        self.hub = hub
        self._pause = pause
        self.stream = hub.stream("orders")
        self.counts = hub.map("counts")
        self.node = hub.node("pollers")
        self.said: Counter[str] = Counter()
        self.seen: dict[str, Counter[str]] = {"streams": Counter(), "tasks": Counter()}
        self.tokens: dict[str, set[int]] = {}
        self.written = 0
        self.refused: Counter[str] = Counter()
        self.doubtful: Counter[str] = Counter()
        self._stopped = False

    async def _keep(self, block: str, step: Callable[[int], Awaitable[object]]) -> None:
        while not self._stopped:
            try:
                await step(self.said[block])
            except pulsewire.AuthenticationFailed:  # nothing was done: the same again
                self.refused[block] += 1
                await anyio.sleep(0.01)
            except DOUBTFUL:
                self.doubtful[block] += 1
            else:
                self.said[block] += 1
                await anyio.sleep(self._pause)

    async def _say_to_streams(self, number: int) -> None:
        await self.stream.add("paid", f"{number}".encode())

    async def _say_to_maps(self, number: int) -> None:
        await self.counts.inc("written")

    async def _say_to_pools(self, number: int) -> None:
        if number < JOBS:
            await self.node.dispatch(f"tenant:{number}", b"")
        else:
            await self.node.job(f"tenant:{number % JOBS}")

    async def _say_to_tasks(self, number: int) -> None:
        await self.hub.tasks.enqueue("work", f"{number}")

    async def _job(self, job: Job) -> None:
        self.tokens.setdefault(job.key, set()).add(job.token)
        await anyio.sleep_forever()

    async def _take(self, event: pulsewire.Event[bytes]) -> None:
        self.seen["streams"][event.payload.decode()] += 1

    async def _run(self, task: Task) -> None:
        self.seen["tasks"][task.payload.decode()] += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have all of it running meanwhile; afterwards all that was begun is done."""
        hub, stream, counts = self.hub, self.stream, self.counts
        async with (
            counts,
            self.node,
            stream.sink("mailer", start="oldest") as sink,
            hub.task_server(self._run, concurrency=10),
        ):
            await self.node.add_worker(self._job)
            async with anyio.create_task_group() as consuming:
                consuming.start_soon(sink.consume, self._take)
                async with anyio.create_task_group() as producing:
                    for block in BLOCKS:
                        producing.start_soon(self._keep, block, getattr(self, f"_say_to_{block}"))
                    yield
                    self._stopped = True
                for block in self.seen:
                    await wait_until(
                        partial(self._has_come_out, block), what=f"all of {block} came out"
                    )
                sink.stop()
            await counts.wait_for_revision((await counts.info()).revision, timeout=30.0)
            self.written = int(counts["written"])
        await stream.destroy()
        await counts.destroy()
        await hub.tasks.inspector.remove_queue("default")
        async with hub.node("pollers", client_only=True) as node:
            await node.shutdown()

    def _has_come_out(self, block: str) -> bool:
        return len(self.seen[block]) >= self.said[block]

    async def goes_on(self) -> None:
        """Return when every block has done more than until now."""
        before = Counter(self.said)
        seen = {block: len(found) for block, found in self.seen.items()}
        await wait_until(
            lambda: all(self.said[block] > before[block] + 10 for block in BLOCKS),
            what="every block takes more",
        )
        await wait_until(
            lambda: all(len(self.seen[block]) > found for block, found in seen.items()),
            what="more comes out",
        )


async def test_password_is_rotated_under_load(fleet: Fleet, client: Any) -> None:
    """No caller hears of it: the old one is good until the new one is known (F28)."""
    await rotate(fleet, client, times=3, every=0.0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_password_is_rotated_for_ten_minutes(fleet: Fleet, client: Any) -> None:
    """The same, every half a minute (F28)."""
    load = await rotate(fleet, client, times=20, every=30.0)
    tally = Tally(block="all", tries=20, acts=load.said.total())
    note_fact("password rotated every 30 s", dict(load.said), tally)


async def rotate(fleet: Fleet, client: Any, *, times: int, every: float) -> Load:
    """Change the password so many times, and see that nobody has noticed."""
    rotating: Rotating = client.rotating
    async with pulsewire.connect(client, namespace="shop") as hub:
        load = Load(hub, pause=0.01 if every else 0.0)
        async with load.running():
            await load.goes_on()
            for number in range(times):
                old, new, asked = rotating.password, f"password {number}", rotating.asked
                await fleet.change(f">{new}")
                rotating.password = new
                await fleet.change(f"<{old}")
                assert await fleet.cut_off() >= 2
                await load.goes_on()
                assert rotating.asked > asked
                await anyio.sleep(every)
    assert not load.refused
    assert not load.doubtful
    assert load.written == load.said["maps"], "no write was lost or done twice"
    assert {key: len(tokens) for key, tokens in load.tokens.items()} == {
        f"tenant:{number}": 1 for number in range(JOBS)
    }, "no job has moved"
    assert max(load.seen["tasks"].values()) == 1, "no task has run twice"
    return load


async def test_password_that_comes_late_is_waited_for(fleet: Fleet, client: Any) -> None:
    """Callers are told meanwhile; what runs in the background goes on by itself once it is there."""
    rotating: Rotating = client.rotating
    async with pulsewire.connect(client, namespace="shop") as hub:
        load = Load(hub)
        async with load.running():
            await load.goes_on()
            await fleet.change("resetpass", ">second")
            await fleet.cut_off()
            await wait_until(lambda: load.refused.total() >= 8, what="callers were told")
            rotating.password = "second"
            await load.goes_on()
    assert all(len(tokens) == 1 for tokens in load.tokens.values()), "no job has moved"
    # Who was refused has done nothing; who was not sure says so.
    assert load.said["maps"] <= load.written <= load.said["maps"] + load.doubtful["maps"]
    assert load.seen["tasks"].total() <= load.said["tasks"] + load.doubtful["tasks"]
