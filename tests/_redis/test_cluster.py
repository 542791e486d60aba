"""The link to a cluster: every command finds its owner, whatever moves under it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

import anyio
import pytest

from pulsewire._redis.cluster import ClusterLink
from pulsewire._redis.link import Link, LinkOptions, Unsettled
from pulsewire._redis.scan import Scan, all_keys
from pulsewire._redis.slots import NodeAddress, key_slot
from pulsewire.errors import (
    AuthenticationFailed,
    ConnectionLost,
    InvalidTarget,
    PermissionDenied,
    ServerError,
    ServerUnavailable,
)
from pulsewire.testing import ClusterGroup, ClusterNode, FaultProxy, SingleServer, wait_until
from tests._redis.kit import (
    Conversation,
    CountingHooks,
    StubServer,
    Words,
    cluster_doors_of,
    opened_link,
)
from tests._redis.test_link import COUNT, made

CALLS = 80
SUM_OF_TWO = made("return redis.call('GET', KEYS[1]) + redis.call('GET', KEYS[2])")


@pytest.fixture
def topology(cluster_group: ClusterGroup) -> ClusterGroup:
    """These tests are about clusters alone. The name makes the suite look after its connections and keys."""
    return cluster_group


async def other_than(cluster: ClusterGroup, node: ClusterNode) -> ClusterNode:
    """Another master."""
    return next(master for master in await cluster.masters() if master is not node)


async def incremented(link: Link, keys: list[str]) -> list[Any]:
    """INCR on all of them at once, without permission to repeat."""
    return list(await asyncio.gather(*(link.call(key, "INCR", key) for key in keys)))


async def drop(link: Link, keys: list[str]) -> None:
    """Delete keys that the test has made."""
    for key in keys:
        await link.call(key, "DEL", key, repeatable=True)


# --- routing


async def test_every_command_goes_to_the_owner_of_its_key(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """No redirection is needed for it, and all masters get some."""
    hooks = CountingHooks()
    keys = [f"{namespace}:{number}" for number in range(200)]
    async with opened_link(cluster_group.url, hooks=hooks) as link:
        await asyncio.gather(*(link.call(key, "SET", key, key, "EX", 60) for key in keys))
        found = await asyncio.gather(*(link.call(key, "GET", key) for key in keys))
        assert found == [key.encode() for key in keys]
        assert hooks.repeated == {}
        assert len(hooks.opened) == 3
        assert link.is_cluster
        assert link.info.topology == "cluster"
        for key in keys[:20]:
            assert await (await cluster_group.node_of(key)).command("GET", key) == key.encode()


async def test_keys_that_one_command_may_name_are_grouped_by_slot(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """CROSSSLOT never happens to whoever asks `together` first."""
    tags = [f"{{{namespace}.{number}}}" for number in range(20)]
    keys = [f"{tag}:{part}" for part in range(5) for tag in tags]
    async with opened_link(cluster_group.url) as link:
        groups = link.together(keys)
        assert sorted(key for group in groups for key in group) == sorted(keys)
        assert all(len({key_slot(key) for key in group}) == 1 for group in groups)
        for group in groups:
            words = [word for key in group for word in (key, "x")]
            await link.call(group[0], "MSET", *words)
            assert await link.call(group[0], "DEL", *group) == len(group)
        assert link.together([]) == []


async def test_command_without_a_key_goes_to_some_node(cluster_group: ClusterGroup) -> None:
    async with opened_link(cluster_group.url) as link:
        assert await link.call("", "PING") == b"PONG"
        assert await link.time() > 1.6e9


async def test_each_master_can_be_asked_by_itself(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """As a scan of the whole keyspace does."""
    keys = {f"{namespace}:{number}" for number in range(100)}
    nodes = {f"{node.host}:{node.port}": node for node in await cluster_group.masters()}
    async with opened_link(cluster_group.url) as link:
        await asyncio.gather(*(link.call(key, "SET", key, "x", "EX", 60) for key in keys))
        assert set(link.masters()) == set(nodes)
        for master, node in nodes.items():
            found = {key async for page in Scan(link, master, f"{namespace}:*") for key in page}
            assert found == {key.decode() for key in await node.command("KEYS", f"{namespace}:*")}
        assert await all_keys(link, f"{namespace}:*") == keys


async def test_time_is_that_of_the_server_that_has_the_key(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """Leases of one slot are judged by one clock."""

    async def asked(node: ClusterNode) -> int:
        line = (await node.info("commandstats")).get("cmdstat_time", "calls=0,")
        return int(line.partition("calls=")[2].partition(",")[0])

    async with opened_link(cluster_group.url) as link:
        for node in await cluster_group.masters():
            keys = (f"{namespace}:{number}" for number in range(1000))
            key = next(k for k in keys if link.server_of(k) == NodeAddress(node.host, node.port))
            before = await asked(node)
            assert await link.time(key) > 1.6e9
            assert await asked(node) == before + 1


async def test_refusal_by_one_master_is_translated(cluster_group: ClusterGroup) -> None:
    async with opened_link(cluster_group.url) as link:
        with pytest.raises(ServerError, match="NO-SUCH"):
            await link.call_at(link.masters()[0], "NO-SUCH-COMMAND")
        with pytest.raises(ServerUnavailable, match="no longer a master"):
            await link.call_at("nowhere:1", "PING")


async def test_master_that_is_not_ready_is_asked_again(cluster_group: ClusterGroup) -> None:
    """What `call` promises for one key, `call_at` promises for one server."""
    async with proxied(cluster_group, (await cluster_group.masters())[0]) as (link, proxy):
        master = str(NodeAddress(proxy.upstream.host, proxy.upstream.port))
        proxy.inject_error(b"LOADING for now", "ECHO", count=2)
        assert await link.call_at(master, "ECHO", "x") == b"x"
        proxy.swallow_reply("ECHO")
        assert await link.call_at(master, "ECHO", "x") == b"x"


# --- slots that move


async def test_commands_follow_a_slot_that_has_moved(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """80 at once meet MOVED: each is done once, and the map is asked for once for all of them."""
    keys = [f"{{{namespace}}}:{number}" for number in range(CALLS)]
    slot, hooks = key_slot(keys[0]), CountingHooks()
    async with opened_link(cluster_group.url, hooks=hooks) as link:
        assert await incremented(link, keys) == [1] * CALLS
        source = await cluster_group.owner_of(slot)
        await cluster_group.move_slot(slot, await other_than(cluster_group, source))
        before = await map_requests(cluster_group)
        assert await incremented(link, keys) == [2] * CALLS
        assert hooks.repeated == {"MOVED": CALLS}
        assert await incremented(link, keys) == [3] * CALLS
        assert hooks.repeated == {"MOVED": CALLS}
        await anyio.wait_all_tasks_blocked()
        assert await map_requests(cluster_group) == before + 1
        await drop(link, keys)
    await cluster_group.move_slot(slot, source)


async def map_requests(cluster: ClusterGroup) -> int:
    """How often all nodes were asked for the map."""
    total = 0
    for node in cluster.nodes:
        for name, value in (await node.info("commandstats")).items():
            if name == "cmdstat_cluster|slots":
                total += int(value.partition("calls=")[2].partition(",")[0])
    return total


async def test_commands_succeed_while_slots_move_to_and_fro(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """MOVED, ASK and TRYAGAIN in any order, under load: every increment counts exactly once."""
    keys = [f"{{{namespace}}}:{number}" for number in range(20)]
    slot, rounds = key_slot(keys[0]), 0
    source = await cluster_group.owner_of(slot)
    target = await other_than(cluster_group, source)
    async with opened_link(cluster_group.url) as link:
        ended = False

        async def count() -> None:
            nonlocal rounds
            while not ended:
                await incremented(link, keys)
                rounds += 1

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(count)
            for node in (target, source) * 4:
                await cluster_group.move_slot(slot, node)
            ended = True
        totals = await asyncio.gather(*(link.call(key, "GET", key) for key in keys))
        assert totals == [b"%d" % rounds] * len(keys)
        assert rounds > 8
        await drop(link, keys)


async def test_commands_find_their_keys_in_a_half_moved_slot(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """ASK for the half that has moved: 80 at once, all succeed, scripts too; the map stays as it is."""
    keys = [f"{{{namespace}}}:{number}" for number in range(CALLS)]
    slot, hooks = key_slot(keys[0]), CountingHooks()
    async with opened_link(cluster_group.url, hooks=hooks) as link:
        assert await incremented(link, keys) == [1] * CALLS
        source = await cluster_group.owner_of(slot)
        move = await cluster_group.slot_move(slot, await other_than(cluster_group, source))
        await move.open()
        await move.migrate(*keys[::2])
        assert await incremented(link, keys) == [2] * CALLS
        assert hooks.repeated == {"ASK": CALLS // 2}
        for node in (move.source, move.target):
            await node.command("SCRIPT", "FLUSH")
        replies = await asyncio.gather(*(link.run(COUNT, [key], [1]) for key in keys))
        assert replies == [3] * CALLS
        assert await incremented(link, [f"{{{namespace}}}:new"]) == [1]
        await move.migrate_all()
        await move.close()
        assert await incremented(link, keys) == [4] * CALLS
        await drop(link, [*keys, f"{{{namespace}}}:new"])
    await cluster_group.move_slot(slot, source)


async def test_script_whose_keys_are_on_both_sides_waits_for_the_move(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """TRYAGAIN: tried again until both keys are at one place."""
    one, other = f"{{{namespace}}}:one", f"{{{namespace}}}:other"
    slot, hooks = key_slot(one), CountingHooks()
    async with opened_link(cluster_group.url, hooks=hooks) as link:
        await link.call(one, "SET", one, 20)
        await link.call(other, "SET", other, 22)
        source = await cluster_group.owner_of(slot)
        move = await cluster_group.slot_move(slot, await other_than(cluster_group, source))
        await move.open()
        await move.migrate(one)
        task = asyncio.create_task(link.run(SUM_OF_TWO, [one, other], []))
        await wait_until(lambda: hooks.repeated["TRYAGAIN"] > 1, what="it was told to try again")
        assert not task.done()
        await move.migrate(other)
        assert await task == 42
        await move.close()
        await drop(link, [one, other])
    await cluster_group.move_slot(slot, source)


async def test_nodes_that_do_not_know_their_own_address_are_asked_where_they_are(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """`cluster-preferred-endpoint-type unknown-endpoint`: no host in the map, none in MOVED and ASK."""
    keys = [f"{{{namespace}}}:{number}" for number in range(20)]
    slot, setting = key_slot(keys[0]), "cluster-preferred-endpoint-type"
    for node in cluster_group.nodes:
        await node.command("CONFIG", "SET", setting, "unknown-endpoint")
    try:
        async with opened_link(cluster_group.url) as link:
            assert await incremented(link, keys) == [1] * 20
            source = await cluster_group.owner_of(slot)
            move = await cluster_group.slot_move(slot, await other_than(cluster_group, source))
            await move.open()
            await move.migrate(*keys[::2])
            assert await incremented(link, keys) == [2] * 20
            await move.migrate_all()
            await move.close()
            assert await incremented(link, keys) == [3] * 20
            await drop(link, keys)
    finally:
        for node in cluster_group.nodes:
            await node.command("CONFIG", "SET", setting, "ip")
    await cluster_group.move_slot(slot, source)


# --- nodes that fail


async def test_calls_go_on_after_a_failover(cluster_group: ClusterGroup, namespace: str) -> None:
    """The master of the key is killed under load: nobody restarts anything, and every write has an outcome."""
    key = f"{namespace}:count"
    outcomes: list[int | None] = []
    async with opened_link(cluster_group.url) as link:
        await link.call(key, "SET", key, 0, "EX", 300)
        ended = False

        async def write() -> None:
            while not ended:
                try:
                    outcomes.append(await link.call(key, "INCR", key))
                except Unsettled:
                    outcomes.append(None)
                await anyio.sleep(0.002)  # the nodes need some of the machine, too

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(write)
            await wait_until(lambda: len(outcomes) > 100, what="the writers are at work")
            old = await cluster_group.kill_master_of(key)
            await cluster_group.wait_new_owner(key_slot(key), old)
            count = len(outcomes)
            await wait_until(lambda: len(outcomes) > count + 100, what="the writers go on")
            ended = True
        done = [outcome for outcome in outcomes if outcome is not None]
        assert len(outcomes) - len(done) <= 20
        assert int(await link.call(key, "GET", key)) >= max(done)
        assert len(link.masters()) == 3


async def test_link_with_little_patience_finds_the_new_owner(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """That of a lease thread gives up sooner than an owner is waited for; the dead one does not come back."""
    key = f"{namespace}:lease"
    async with opened_link(cluster_group.url, wait_for_server=0.2, silence=0.3) as link:
        await link.call(key, "SET", key, "1", "EX", 60)
        old = await cluster_group.kill_master_of(key)
        assert str(link.server_of(key)) == f"{old.host}:{old.port}"
        new = await cluster_group.wait_new_owner(key_slot(key), old)

        async def is_served() -> bool:
            try:
                await link.call(key, "GET", key, repeatable=True)
            except ServerUnavailable:
                return False
            return True

        await wait_until(is_served, what="the new owner is asked")
        assert str(link.server_of(key)) == f"{new.host}:{new.port}"
        assert link.may_fail_over


async def test_other_slots_do_not_notice_a_dead_master(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """Callers of living owners do not wait for the failover."""
    key = f"{namespace}:dead"
    owner = await cluster_group.node_of(key)
    others = [node for node in await cluster_group.masters() if node is not owner]
    living = f"{namespace}:living"
    while await cluster_group.node_of(living) not in others:
        living += "."
    async with opened_link(cluster_group.url) as link:
        await link.call(key, "PING")
        await link.call(living, "PING")
        await cluster_group.kill_master_of(key)
        waiting = asyncio.create_task(link.call(key, "GET", key, repeatable=True))
        for _ in range(50):
            assert await link.call(living, "ECHO", "x") == b"x"
        assert not waiting.done()
        assert await waiting is None


async def test_link_opens_though_only_the_last_of_its_nodes_lives(
    cluster_group: ClusterGroup,
) -> None:
    place = cluster_group.url.rpartition(",")[2]
    async with opened_link(f"redis+cluster://127.0.0.1:1,127.0.0.1:2,{place}") as link:
        assert len(link.masters()) == 3


async def test_replica_is_as_good_as_a_master_to_start_from(cluster_group: ClusterGroup) -> None:
    masters = await cluster_group.masters()
    replica = next(node for node in cluster_group.nodes if node not in masters)
    async with opened_link(f"redis+cluster://127.0.0.1:{replica.port}") as link:
        assert len(link.masters()) == 3
        assert await link.call("k", "ECHO", "x") == b"x"


async def test_no_node_at_all_is_said_after_the_time_allowed() -> None:
    with pytest.raises(ServerUnavailable, match="127.0.0.1:2"):
        async with opened_link("redis+cluster://127.0.0.1:1,127.0.0.1:2", wait_for_server=0.2):
            pass


async def test_server_that_is_no_cluster_is_answered_with_the_right_scheme(
    single_server: SingleServer,
) -> None:
    with pytest.raises(InvalidTarget, match=rf"use redis://127\.0\.0\.1:{single_server.port}"):
        async with opened_link(f"redis+cluster://127.0.0.1:{single_server.port}"):
            pass


async def test_slot_that_nobody_serves_is_said_after_the_time_allowed() -> None:
    """With its number."""
    cluster = StubCluster(1, until=100)
    async with cluster, opened_link(cluster.url, wait_for_server=0.3) as link:
        with pytest.raises(ServerUnavailable, match="12182"):
            await link.call("foo", "ECHO", "x")


# --- single nodes that misbehave


class StubCluster:
    """Nodes that say what they are told; the first owns all slots up to `until`."""

    def __init__(self, count: int, *, until: int = 16383) -> None:
        self.nodes = [StubServer(self._answers(number)) for number in range(count)]
        self.replies: dict[tuple[int, bytes], bytes] = {}
        self._until = until

    def _answers(self, number: int) -> Any:
        def answer(words: Words, conversation: Conversation) -> bytes | None:
            name = words[0].upper()
            if (number, name) in self.replies:
                return self.replies[number, name]
            if name == b"CLUSTER":
                port = self.nodes[0].port
                return b"*1\r\n*3\r\n:0\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % (
                    self._until,
                    port,
                )
            said = {b"ECHO": b"+node %d\r\n" % number, b"ASKING": b"+OK\r\n"}
            return said.get(name)

        return answer

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    async def __aenter__(self) -> Self:
        for node in self.nodes:
            await node.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        for node in self.nodes:
            await node.__aexit__(None, None, None)


async def test_wrong_password_for_a_cluster_is_said_at_once() -> None:
    async with StubCluster(1) as cluster:
        cluster.replies[0, b"HELLO"] = b"-WRONGPASS invalid username-password pair\r\n"
        with pytest.raises(AuthenticationFailed):
            async with opened_link(cluster.url):
                pass
        assert len(cluster.nodes[0].conversations) == 1


async def test_user_who_may_not_see_the_map_is_told_so_at_once() -> None:
    async with StubCluster(1) as cluster:
        cluster.replies[0, b"CLUSTER"] = b"-NOPERM User anna has no permissions\r\n"
        with pytest.raises(PermissionDenied, match="CLUSTER SLOTS"):
            async with opened_link(cluster.url):
                pass


async def test_node_that_refuses_us_in_the_background_does_not_end_the_link() -> None:
    """A new node whose users are not set up yet is the trouble of those who need it, not of all."""
    async with StubCluster(2) as cluster:
        async with opened_link(cluster.url) as link:
            assert await link.call("a", "ECHO", "x") == b"node 0"
            cluster.replies[1, b"HELLO"] = b"-WRONGPASS invalid username-password pair\r\n"
            cluster.replies[0, b"CLUSTER"] = b"-ERR not now\r\n"
            cluster.replies[0, b"SET"] = b"-MOVED %d 127.0.0.1:%d\r\n" % (
                key_slot("b"),
                cluster.nodes[1].port,
            )
            with pytest.raises(AuthenticationFailed):
                await link.call("b", "SET", "b", "x")
            await wait_until(
                lambda: len(cluster.nodes[1].conversations) >= 2, what="the map was asked for there"
            )
            await anyio.wait_all_tasks_blocked()
            assert await link.call("a", "ECHO", "x") == b"node 0"


async def test_node_that_refuses_us_does_not_hide_the_others() -> None:
    """The map is asked for at the next one."""
    async with StubCluster(2) as cluster:
        cluster.replies[0, b"HELLO"] = b"-WRONGPASS invalid username-password pair\r\n"
        url = f"{cluster.url},127.0.0.1:{cluster.nodes[1].port}"
        async with opened_link(url) as link:
            assert len(link.masters()) == 1


async def test_redirection_to_a_node_that_is_not_there_comes_back_to_the_owner() -> None:
    """The map says who it is; the call has its answer within the time allowed."""
    async with StubCluster(1) as cluster, opened_link(cluster.url) as link:
        node = cluster.nodes[0]
        cluster.replies[0, b"GET"] = b"-ASK %d 127.0.0.1:1\r\n" % key_slot("k")
        task = asyncio.create_task(link.call("k", "GET", "k"))
        await wait_until(lambda: node.names().count("GET") > 1, what="the owner was asked again")
        cluster.replies[0, b"GET"] = b"+found\r\n"
        assert await task == b"found"


async def test_nodes_that_send_us_back_and_forth_are_left_after_the_time_allowed() -> None:
    """With growing pauses, not in a hot loop."""
    async with StubCluster(2) as cluster, opened_link(cluster.url, wait_for_server=0.5) as link:
        for number in (0, 1):
            cluster.replies[number, b"GET"] = b"-MOVED %d 127.0.0.1:%d\r\n" % (
                key_slot("k"),
                cluster.nodes[1 - number].port,
            )
        with pytest.raises(ServerUnavailable, match="MOVED"):
            await link.call("k", "GET", "k")
        assert sum(node.names().count("GET") for node in cluster.nodes) < 100


async def test_connection_to_a_node_that_left_the_map_ends_with_the_link() -> None:
    """Even one that became ready just when the map was learned without it."""
    async with StubCluster(2) as cluster:
        async with opened_link(cluster.url) as link:
            asking = b"-ASK %d 127.0.0.1:%d\r\n" % (key_slot("k"), cluster.nodes[1].port)
            cluster.replies[0, b"GET"] = asking
            cluster.replies[1, b"GET"] = b"+asked\r\n"
            white_box: Any = link
            call = asyncio.create_task(link.call("k", "GET", "k"))
            there = NodeAddress("127.0.0.1", cluster.nodes[1].port)
            while there not in white_box._lanes:
                await asyncio.sleep(0)
            await white_box._learn()
            assert await call == b"asked"
        for conversation in cluster.nodes[1].conversations:
            await wait_until(
                conversation.transport.is_closing,
                what="the connection to the second node is closed",
            )


# --- the dead stay dead


@asynccontextmanager
async def proxied(
    cluster: ClusterGroup, node: ClusterNode, **options: Any
) -> AsyncIterator[tuple[ClusterLink, FaultProxy]]:
    """A link that reaches one node through a proxy, by redis-py's `address_remap`."""
    async with FaultProxy(node) as proxy:

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            return (proxy.host, proxy.port) if address == node.address else address

        doors = replace(cluster_doors_of(cluster.url), remap=remap)
        async with ClusterLink(doors, LinkOptions(**options)) as link:
            yield link, proxy


async def test_lost_connection_is_killed_where_it_was(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """A write was lost on its way to the importing node of a half-moved slot: the owner does not know of it."""
    key = f"{namespace}:count"
    slot = key_slot(key)
    move = await cluster_group.slot_move(
        slot, await other_than(cluster_group, await cluster_group.owner_of(slot))
    )
    async with proxied(cluster_group, move.target, silence=0.3) as (link, proxy):
        await link.call(key, "SET", key, 0)
        await move.open()
        await move.migrate(key)
        assert await link.call(key, "INCR", key) == 1
        proxy.swallow_reply("INCR", then="stall")
        with pytest.raises(Unsettled) as caught:
            await link.call(key, "INCR", key)
        lost = caught.value.lost
        assert f"name={lost.name} " in (await move.target.clients())[lost.client_id]
        await link.make_sure_dead(key, lost)
        assert lost.client_id not in await move.target.clients()
        await drop(link, [key])
    await move.cancel()


async def test_command_that_was_lost_before_its_slot_moved_is_looked_for_where_it_went(
    cluster_group: ClusterGroup, namespace: str
) -> None:
    """Whoever submits in order himself resumes later, when the map says something else already."""
    key = f"{namespace}:count"
    slot = key_slot(key)
    source = await cluster_group.owner_of(slot)
    async with opened_link(cluster_group.url) as link:
        connection = await link.connection_for(key)
        await cluster_group.move_slot(slot, await other_than(cluster_group, source))
        assert await link.call(key, "GET", key) is None
        error = ConnectionLost(connection.address, "pulled", was_sent=True)
        with pytest.raises(Unsettled) as caught:
            await link.resume(key, ("INCR", key), error, connection)
        assert caught.value.lost.address == f"{source.host}:{source.port}"
        assert caught.value.lost.client_id == connection.client_id
    await cluster_group.move_slot(slot, source)


async def test_script_moves_with_its_keys(cluster_group: ClusterGroup, namespace: str) -> None:
    """The new owner has never seen it."""
    key = f"{namespace}:count"
    script = made(f"{COUNT.text} -- {namespace}")
    slot = key_slot(key)
    async with opened_link(cluster_group.url) as link:
        assert await link.run(script, [key], [1]) == 1
        source = await cluster_group.owner_of(slot)
        await cluster_group.move_slot(slot, await other_than(cluster_group, source))
        assert await link.run(script, [key], [1]) == 2
        await drop(link, [key])
    await cluster_group.move_slot(slot, source)


@pytest.mark.parametrize("seed", range(3))
async def test_random_cancellations_amid_redirections_cross_no_reply(
    cluster_group: ClusterGroup, namespace: str, seed: int
) -> None:
    """ASKING goes with its command, though callers come and go between them."""
    chance = random.Random(seed)
    keys = [f"{{{namespace}}}:{number}" for number in range(40)]
    slot = key_slot(keys[0])
    async with opened_link(cluster_group.url) as link:
        for key in keys:
            await link.call(key, "SET", key, key)
        source = await cluster_group.owner_of(slot)
        move = await cluster_group.slot_move(slot, await other_than(cluster_group, source))
        await move.open()
        await move.migrate(*keys[::2])
        for _ in range(30):
            tasks = {
                asyncio.create_task(link.call(key, "GET", key, repeatable=True)): key
                for key in keys
            }
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            for task in chance.sample(list(tasks), 20):
                task.cancel()
            await asyncio.wait(tasks)
            for task, key in tasks.items():
                if not task.cancelled():
                    assert task.result() == key.encode()
        await drop(link, keys)
    await move.cancel()
