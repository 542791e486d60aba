"""A tour of replicated maps: one idea per test, public names only. Read it from top to bottom.

`hub` is what `async with pulsewire.connect(url) as hub` gives; these tests have one for every kind of server. Where a
second process matters there is a second hub, `other`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import pytest

import pulsewire
from pulsewire import (
    BYTES,
    JSON,
    DecodeError,
    Hub,
    InvalidName,
    NotJoined,
    PayloadTooLarge,
    ReplicaBehind,
    ValueConflict,
    typed,
)
from pulsewire.testing import Topology, wait_until

pytestmark = pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)


@pytest.fixture
async def other(topology: Topology, hub: Hub) -> AsyncIterator[Hub]:
    """What another process would have."""
    async with pulsewire.connect(topology.url, namespace=hub.namespace) as connected:
        yield connected


@pytest.fixture(autouse=True)
async def maps_are_destroyed(hub: Hub) -> AsyncIterator[None]:
    """Maps stay until somebody destroys them; here that is done after each test."""
    yield
    for name in await hub.maps():
        await hub.map(name).destroy()
        await hub.map(name).forget()


# --- reading


async def test_joined_map_is_read_like_a_dict(hub: Hub) -> None:
    """From this process' own memory: no `await`, no network."""
    await hub.map("flags").set("beta", "on")
    async with hub.map("flags") as flags:
        assert flags["beta"] == "on"
        assert flags.get("gamma", "off") == "off"
        assert "beta" in flags
        assert len(flags) == 1
        assert list(flags) == ["beta"]
        assert dict(flags.items()) == flags.snapshot() == {"beta": "on"}


async def test_map_that_was_not_joined_is_not_read_by_mistake(hub: Hub) -> None:
    """It can be written to, and the server can be asked; but it has no replica to read."""
    flags = hub.map("flags")
    await flags.set("beta", "on")
    assert await flags.fetch("beta") == "on"
    with pytest.raises(NotJoined):
        flags.get("beta")


async def test_closed_map_can_still_be_read(hub: Hub) -> None:
    """As it was then; writes are refused."""
    async with hub.map("flags") as flags:
        await flags.set_and_wait("beta", "on")
    assert flags["beta"] == "on"
    with pytest.raises(pulsewire.Closed):
        await flags.set("beta", "off")


async def test_values_are_text_unless_a_codec_says_otherwise(hub: Hub) -> None:
    """Bytes, JSON, or your types; what does not fit raises where it is read, and nowhere else."""

    @dataclass
    class Limit:
        per_hour: int

    async with hub.map("limits", codec=typed(Limit)) as limits:
        await limits.set_and_wait("ada", Limit(20))
        assert limits["ada"] == Limit(20)
        await hub.map("limits", codec=JSON).set("grace", {"per_day": 7})
        await limits.wait_for_revision(2)
        with pytest.raises(DecodeError):
            limits.get("grace")
        assert limits.snapshot() == {"ada": Limit(20)}
    assert await hub.map("limits", codec=BYTES).fetch("ada") == b'{"per_hour":20}'


# --- writing


async def test_everyone_sees_what_one_writes(hub: Hub, other: Hub) -> None:
    """A moment later, in every process that has joined the map."""
    async with hub.map("flags") as here, other.map("flags") as there:
        assert await here.set("beta", "on") is None
        assert await here.set("beta", "off") == "on"  # the value before
        await there.wait_for_revision(2)
        assert there["beta"] == "off"


async def test_own_writes_arrive_like_all_others(hub: Hub) -> None:
    """`set` returns when the server has the value; `set_and_wait` when this replica has it, too."""
    async with hub.map("flags") as flags:
        await flags.set_and_wait("beta", "on", timeout=10.0)
        assert flags["beta"] == "on"


async def test_compare_and_swap(hub: Hub) -> None:
    """Several may try; one wins, and the others learn what is there."""
    schema = hub.map("schema")
    assert await schema.set_if_absent("version", "v1")
    assert not await schema.set_if_absent("version", "v0")
    assert await schema.test_and_set("version", "v1", "v2")
    lost = await schema.test_and_set("version", "v1", "v3")
    assert (bool(lost), lost.old, lost.existed) == (False, "v2", True)
    assert not await schema.test_and_delete("version", "v1")
    assert await schema.test_and_delete("version", "v2")


async def test_counters_count_for_everyone(hub: Hub, other: Hub) -> None:
    """Whole numbers of 64 bits; text is refused and stays as it is."""
    counters = hub.map("counters")

    async def count(of: Hub) -> None:
        for _ in range(50):
            await of.map("counters").inc("requests")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count, hub)
        tasks.start_soon(count, other)
    assert await counters.inc("requests", -100) == 0

    await counters.set("name", "Ada")
    with pytest.raises(ValueConflict):
        await counters.inc("name")
    assert await counters.fetch("name") == "Ada"


async def test_values_can_be_lists(hub: Hub) -> None:
    """A JSON array of strings, as Go Pulse writes them, changed in one step."""
    async with hub.map("groups") as groups:
        assert await groups.append_values("eu", "oslo", "rome") == ["oslo", "rome"]
        assert await groups.append_unique_values("eu", "rome", "bonn") == ["oslo", "rome", "bonn"]
        removed = await groups.remove_values("eu", "oslo")
        assert (removed.values, removed.removed) == (["rome", "bonn"], True)
        await groups.wait_for_revision(3)
        assert groups.values_of("eu") == ["rome", "bonn"]
        assert groups.values_of("us") is None


async def test_many_values_are_set_in_one_go(hub: Hub) -> None:
    """Each is a change of its own; all are checked before the first is written."""
    async with hub.map("limits") as limits:
        await limits.set_many({f"user:{number}": "20" for number in range(100)})
        await limits.wait_for_revision(100)
        assert len(limits) == 100
        with pytest.raises(InvalidName):
            await limits.set_many({"user:1": "0", "a=b": "0"})
        assert (await limits.info()).revision == 100


async def test_wrong_calls_write_nothing(hub: Hub) -> None:
    """Keys are not empty and have no '='; values have a limit."""
    flags = hub.map("flags", max_value=10)
    with pytest.raises(InvalidName):
        await flags.set("", "on")
    with pytest.raises(InvalidName):
        await flags.set("a=b", "on")
    with pytest.raises(PayloadTooLarge):
        await flags.set("beta", "x" * 11)
    assert not (await flags.info()).exists


async def test_map_can_be_emptied(hub: Hub) -> None:
    """Always, or only if it is as you think it is."""
    async with hub.map("jobs") as jobs:
        await jobs.set_many({"a": "done", "b": "running"})
        assert not await jobs.test_and_reset({"a": "done", "b": "done"})
        assert await jobs.test_and_reset({"a": "done", "b": "running"})
        await jobs.wait_for_revision(3)
        assert not jobs


# --- watching


async def test_changes_are_watched(hub: Hub) -> None:
    """Kind, key, the value before and now, and the revision."""
    async with hub.map("flags") as flags:
        changes = flags.changes()
        await flags.set_and_wait("beta", "on")
        change = await anext(changes)
        assert (change.kind, change.key, change.old, change.new) == ("set", "beta", None, "on")
        await flags.delete("beta")
        change = await anext(changes)
        assert (change.kind, change.key, change.old, change.new) == ("delete", "beta", "on", None)
        await flags.reset()
        change = await anext(changes)
        assert (change.kind, change.key, change.revision) == ("reset", None, 3)


async def test_watching_can_begin_with_what_is_there(hub: Hub) -> None:
    """Then one loop does the first state and all that follows."""
    await hub.map("flags").set("beta", "on")
    async with hub.map("flags") as flags:
        async for change in flags.changes(initial=True):
            assert (change.kind, change.key, change.new) == ("set", "beta", "on")
            break


async def test_slow_watcher_sees_the_last_value(hub: Hub) -> None:
    """Changes of one key that were not seen yet are joined; a delete among them is still seen."""
    async with hub.map("counters") as counters:
        changes = counters.changes()
        for _ in range(100):
            await counters.inc("requests")
        await counters.wait_for_revision(100)
        change = await anext(changes)
        assert (change.old, change.new, change.revision) == (None, "100", 100)


# --- being sure


async def test_map_knows_how_stale_it_is(hub: Hub) -> None:
    """Seconds since the replica was last known to be complete; the server is compared about once a second."""
    async with hub.map("flags", stale_after=5.0) as flags:
        assert flags.ready
        assert not flags.is_stale
        await wait_until(lambda: flags.stale_for > 0.2, what="time has passed since the snapshot")
        await wait_until(lambda: flags.stale_for < 0.2, what="the revision was compared")


async def test_reads_go_on_while_the_server_is_away(topology: Topology, hub: Hub) -> None:
    """They show what was last known; `stale_for` grows. Afterwards everything comes back by itself."""
    async with hub.map("flags", stale_after=1.5) as flags:
        await flags.set_and_wait("beta", "on")
        servers = await topology.masters()
        for server in servers:
            server.pause()
        try:
            await wait_until(lambda: flags.is_stale, what="the map is stale")
            assert flags["beta"] == "on"
        finally:
            for server in servers:
                server.resume()
        await wait_until(lambda: not flags.is_stale and flags.ready, what="the map is up to date")


async def test_waiting_for_a_revision(hub: Hub, other: Hub) -> None:
    """Tell another process the revision, and it can wait until it sees what you have written."""
    async with hub.map("flags") as here, other.map("flags") as there:
        await here.set_and_wait("beta", "on")
        await there.wait_for_revision(here.revision, timeout=10.0)
        assert there["beta"] == "on"
        with pytest.raises(ReplicaBehind):
            await there.wait_for_revision(here.revision + 1, timeout=0.01)


# --- caching


async def test_cache_loads_once(hub: Hub) -> None:
    """However many ask: one of them loads, all get the value, and so does every other process."""
    loads = 0

    async def load() -> str:
        nonlocal loads
        loads += 1
        await anyio.lowlevel.checkpoint()
        return "Ada"

    async with hub.map("users", sliding_ttl=60) as users:
        async with anyio.create_task_group() as requests:
            for _ in range(20):
                requests.start_soon(users.get_or_load, "user:7", load)
        assert await users.get_or_load("user:7", load) == "Ada"
        assert loads == 1


async def test_map_can_end_by_itself(hub: Hub) -> None:
    """After `ttl` from its creation, or `sliding_ttl` from its last change; the replicas end with it."""
    async with hub.map("sessions", sliding_ttl=0.2) as sessions:
        changes = sessions.changes()
        await sessions.set_and_wait("ada", "logged in")
        assert (await anext(changes)).kind == "set"
        assert (await anext(changes)).kind == "reset"
        assert "ada" not in sessions


# --- looking


async def test_looking_at_a_map(hub: Hub) -> None:
    """What the server says, and what this replica has been through."""
    async with hub.map("flags", ttl=60) as flags:
        await flags.set_and_wait("beta", "on")
        info = await flags.info()
        assert (info.entries, info.revision, info.last_change, info.replicas) == (1, 1, "set", 1)
        assert info.ttl is not None
        assert flags.statistics().snapshots == 1
    assert await hub.maps() == ["flags"]


async def test_destroyed_map_keeps_its_revision_until_it_is_forgotten(hub: Hub) -> None:
    """So that whoever still has it open does not take a new map of the name for an old one."""
    flags = hub.map("flags")
    await flags.set("beta", "on")
    await flags.destroy()
    assert (await flags.info()).is_destroyed
    await flags.set("beta", "on")
    assert (await flags.info()).revision == 3
    await flags.destroy()
    assert await flags.forget()
    assert await hub.maps() == []
