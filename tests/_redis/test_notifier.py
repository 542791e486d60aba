"""The notifier: one subscriber connection for many listeners, in order with what is asked on it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pulsewire._redis.link import Link
from pulsewire._redis.notifier import Notifier, Probe, Subscription
from pulsewire.errors import PermissionDenied, ServerError, ServerUnavailable
from pulsewire.testing import (
    ClusterGroup,
    FaultProxy,
    ServerProcess,
    SingleServer,
    Topology,
    slot_of,
    wait_until,
)
from tests._redis.kit import RecordingTransport, opened_link
from tests.facts import PATIENCE, Raw, on_one_server


class Ear:
    """A listener that remembers."""

    def __init__(self, key: str, *commands: tuple[str, ...], channel: str | None = None) -> None:
        self.key = key
        self.channel = channel or key
        self.commands = commands
        self.heard: list[bytes] = []
        self.answers: list[Any] = []
        self.cuts: list[str] = []

    def hear(self, message: bytes) -> None:
        self.heard.append(message)

    def probes(self) -> list[Probe]:
        return [(command, self.answers.append) for command in self.commands]

    def cut_off(self, reason: str) -> None:
        self.cuts.append(reason)


@asynccontextmanager
async def listening(url: str, **options: Any) -> AsyncIterator[tuple[Link, Notifier]]:
    """A notifier and its link."""
    async with opened_link(url, **options) as link:
        yield link, Notifier(link)


@pytest.fixture
async def link(topology: Topology) -> AsyncIterator[Link]:
    async with opened_link(topology.url) as opened:
        yield opened


@pytest.fixture
def notifier(link: Link) -> Notifier:
    return Notifier(link)


Publish = Callable[[str, str], Awaitable[int]]


@pytest.fixture
def publish(link: Link, raw: Raw) -> Publish:
    """Publish as the notifier listens; how many have heard it."""
    verb = "SPUBLISH" if link.info.has_sharded_pubsub else "PUBLISH"

    async def send(channel: str, message: str) -> int:
        return int(await raw(channel, verb, channel, message))

    return send


async def subscribers(server: ServerProcess) -> list[int]:
    """The connections that have subscribed to something, our own kind only."""
    return [
        number
        for number, line in (await server.clients()).items()
        if re.search(r" s?sub=[1-9]", line) and "name=pulsewire:" in line
    ]


async def wait_heard(ear: Ear, *messages: bytes) -> None:
    """Wait until these have come, and nothing else."""
    await wait_until(lambda: len(ear.heard) >= len(messages), what=f"{messages!r} were heard")
    assert ear.heard == list(messages)


async def wait_cut(ear: Ear, times: int = 1) -> None:
    """Wait until the listener was told that it is cut off."""
    what = "the listener knows that it is cut off"
    await wait_until(lambda: len(ear.cuts) >= times, timeout=PATIENCE, what=what)


# --- listening


async def test_what_is_published_after_the_confirmation_is_heard(
    notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """Also binary and empty messages; what was published before is not."""
    ear = Ear(f"{namespace}:a")
    assert await publish(ear.channel, "too early") == 0
    subscription = await notifier.subscribe(ear)
    assert subscription.is_live
    for message in ("first", "", "a:b\r\n\0ü"):
        assert await publish(ear.channel, message) == 1
    await wait_heard(ear, b"first", b"", "a:b\r\n\0ü".encode())
    subscription.end()


async def test_hundred_listeners_share_one_connection_per_server(
    topology: Topology, notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """Each hears its own channel, in the order of publishing."""
    ears = [Ear(f"{namespace}:{number}") for number in range(100)]
    before = {server: await subscribers(server) for server in await topology.masters()}
    async with anyio.create_task_group() as group:
        for ear in ears:
            group.start_soon(notifier.subscribe, ear)
    for server, others in before.items():
        assert len(await subscribers(server)) - len(others) == 1
    for ear in ears[::10]:
        await publish(ear.channel, "one")
        await publish(ear.channel, "two")
    for ear in ears[::10]:
        await wait_heard(ear, b"one", b"two")
    assert not any(ear.heard for ear in ears[1::10])


async def test_listeners_of_one_channel_all_hear_it_until_they_leave(
    topology: Topology, notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """The server is told to stop with the last one, and the connection is closed with the last of all."""
    first, second, other = (Ear(f"{namespace}:{{a}}{name}") for name in ("x", "x", "y"))
    places = [await notifier.subscribe(ear) for ear in (first, second, other)]
    server = await topology.node_of(first.key)
    assert await publish(first.channel, "both") == 1  # one connection
    await wait_heard(first, b"both")
    await wait_heard(second, b"both")
    places[0].end()
    assert await publish(first.channel, "one") == 1
    await wait_heard(second, b"both", b"one")
    places[1].end()

    async def nobody_hears() -> bool:
        return await publish(first.channel, "nobody") == 0

    await wait_until(nobody_hears, what="the channel was left")
    assert await publish(other.channel, "still") == 1
    await wait_heard(other, b"still")
    number = places[2].connection.client_id
    places[2].end()

    async def is_closed() -> bool:
        return number not in await server.clients()

    await wait_until(is_closed, what="the connection was closed")
    assert first.heard == [b"both"]
    assert [ear.cuts for ear in (first, second, other)] == [[], [], []]


async def test_connection_is_opened_again_for_a_later_listener(
    notifier: Notifier, publish: Publish, namespace: str
) -> None:
    ear = Ear(f"{namespace}:a")
    first = await notifier.subscribe(ear)
    first.end()
    second = await notifier.subscribe(ear)
    assert second.connection is not first.connection
    await publish(ear.channel, "x")
    await wait_heard(ear, b"x")


async def test_place_may_be_left_twice_and_hears_nothing_afterwards(
    notifier: Notifier, publish: Publish, namespace: str
) -> None:
    gone, stays = Ear(f"{namespace}:a"), Ear(f"{namespace}:a")
    place = await notifier.subscribe(gone)
    await notifier.subscribe(stays)
    place.end()
    place.end()
    await publish(gone.channel, "x")
    await wait_heard(stays, b"x")
    assert (gone.heard, gone.cuts) == ([], [])


@on_one_server
async def test_listeners_that_come_and_go_at_once_end_with_no_connection(
    topology: Topology, notifier: Notifier, namespace: str
) -> None:
    """Cancelled while they subscribe, leaving as soon as they have: the line closes behind the last one."""
    before = await subscribers(topology.servers[0])

    async def come_and_go(number: int) -> None:
        ear = Ear(f"{namespace}:{number % 7}")
        with anyio.move_on_after(0 if number % 3 == 0 else None):
            (await notifier.subscribe(ear)).end()

    for _ in range(20):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(come_and_go, number)

    async def all_are_gone() -> bool:
        return await subscribers(topology.servers[0]) == before

    await wait_until(all_are_gone, what="no subscriber is left")


# --- asking on it


async def test_answer_comes_after_what_was_published_before_it(
    notifier: Notifier, publish: Publish, raw: Raw, namespace: str
) -> None:
    """So who has the answer has heard everything up to it."""
    ear = Ear(f"{namespace}:a")
    subscription = await notifier.subscribe(ear)
    for number in range(50):
        await raw(ear.key, "SET", ear.key, number, "EX", 60)
        await publish(ear.channel, str(number))
        stored, ttl = await subscription.ask(("GET", ear.key), ("TTL", ear.key))
        assert stored == ear.heard[-1] == b"%d" % number
        assert ttl > 0
    subscription.end()


async def test_error_of_a_question_is_raised_translated(notifier: Notifier, namespace: str) -> None:
    """And does not end the subscription."""
    ear = Ear(f"{namespace}:a")
    subscription = await notifier.subscribe(ear)
    with pytest.raises(ServerError, match="wrong number"):
        await subscription.ask(("GET", ear.key), ("HGET", ear.key))
    assert subscription.is_live
    assert await subscription.ask(("GET", ear.key)) == [None]
    assert ear.cuts == []


def record(subscription: Subscription) -> RecordingTransport:
    """Count what its connection writes from now on."""
    white_box: Any = subscription.connection
    white_box._transport = RecordingTransport(white_box._transport)
    recorder: RecordingTransport = white_box._transport
    return recorder


@on_one_server
async def test_probes_of_all_listeners_leave_in_one_write(
    notifier: Notifier, namespace: str
) -> None:
    """About once a second, by itself."""
    ears = [Ear(f"{namespace}:{n}", ("GET", f"{namespace}:{n}"), ("PING",)) for n in range(20)]
    subscriptions = [await notifier.subscribe(ear) for ear in ears]
    recorder = record(subscriptions[0])
    before = [len(ear.answers) for ear in ears]

    def are_probed_again() -> bool:
        return all(len(ear.answers) >= had + 2 for ear, had in zip(ears, before, strict=True))

    await wait_until(are_probed_again, what="every listener was probed")
    assert all(ear.answers[:2] == [None, b"PONG"] for ear in ears)
    assert recorder.writes
    assert all(data.count(b"PING") == data.count(b"GET") == 20 for data in recorder.writes)


@on_one_server
async def test_probe_out_of_turn_is_sent_at_once(notifier: Notifier, namespace: str) -> None:
    """For one listener alone; once it has left, none is sent."""
    asks, silent = Ear(f"{namespace}:a", ("ECHO", "now")), Ear(f"{namespace}:a")
    subscription = await notifier.subscribe(asks)
    await notifier.subscribe(silent)
    had = len(asks.answers)
    subscription.probe()
    await subscription.ask(("PING",))
    assert asks.answers[had:][:1] == [b"now"]
    subscription.end()
    had, in_flight = len(asks.answers), subscription.connection.in_flight
    subscription.probe()
    assert subscription.connection.in_flight == in_flight
    assert len(asks.answers) == had


@on_one_server
async def test_probe_that_the_server_refuses_cuts_its_listener_off_alone(
    notifier: Notifier, publish: Publish, namespace: str
) -> None:
    wrong, right = Ear(f"{namespace}:a", ("GET",)), Ear(f"{namespace}:b", ("PING",))
    subscription = await notifier.subscribe(wrong)
    await notifier.subscribe(right)
    subscription.probe()
    await wait_cut(wrong)
    assert "wrong number of arguments" in wrong.cuts[0]
    assert not subscription.is_live
    await publish(right.channel, "x")
    await wait_heard(right, b"x")
    assert right.cuts == []


# --- trouble


async def kill_subscriber(topology: Topology, subscription: Subscription) -> None:
    """End its connection, from the server's side."""
    server = await topology.node_of(subscription.listener.key)
    await server.command("CLIENT", "KILL", "ID", subscription.connection.client_id)


async def test_killed_connection_cuts_all_its_listeners_off_once(
    topology: Topology, notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """Each subscribes again, on a new connection that they share."""
    ears = [Ear(f"{namespace}:{{a}}{number}") for number in range(10)]
    places = [await notifier.subscribe(ear) for ear in ears]
    await kill_subscriber(topology, places[0])
    for ear, place in zip(ears, places, strict=True):
        await wait_cut(ear)
        assert not place.is_live
        with pytest.raises(ServerUnavailable):
            await place.ask(("PING",))
    again = [await notifier.subscribe(ear) for ear in ears]
    assert len({place.connection for place in again}) == 1
    for ear in ears:
        assert await publish(ear.channel, "back") == 1
        await wait_heard(ear, b"back")
    assert [len(ear.cuts) for ear in ears] == [1] * 10


async def subscribe_again(notifier: Notifier, ear: Ear) -> Subscription:
    """Try until it works, as followers do."""
    found: list[Subscription] = []

    async def works() -> bool:
        try:
            found.append(await notifier.subscribe(ear))
        except ServerUnavailable:
            return False
        return True

    await wait_until(works, timeout=PATIENCE, what="the channel's server was found")
    return found[0]


async def test_silent_connection_is_noticed_by_its_probes(
    proxy: FaultProxy, single_server: SingleServer
) -> None:
    """A black hole: nothing comes, nothing closes, and nobody asks anything."""
    async with listening(proxy.url, silence=0.3) as (_, notifier):
        ear = Ear("notifier-silent", ("PING",))
        place = await notifier.subscribe(ear)
        proxy.stall()
        await wait_cut(ear)
        assert "no reply for 0.3 s" in ear.cuts[0]
        assert not place.is_live
        proxy.resume()
        await notifier.subscribe(ear)
        assert await single_server.command("PUBLISH", ear.channel, "back") == 1
        await wait_heard(ear, b"back")


@on_one_server
async def test_server_that_is_away_is_reported_and_found_again(
    topology: Topology, proxy: FaultProxy, namespace: str
) -> None:
    """Subscribing makes one attempt; when to try again is up to the listener."""
    async with listening(proxy.url, wait_for_server=0.5) as (_, notifier):
        ear = Ear(f"{namespace}:a")
        await notifier.subscribe(ear)
        await proxy.refuse()
        proxy.cut()
        await wait_cut(ear)
        with pytest.raises(ServerUnavailable):
            await notifier.subscribe(ear)
        await proxy.accept()
        assert (await subscribe_again(notifier, ear)).is_live
        assert await topology.servers[0].command("PUBLISH", ear.channel, "back") == 1
        await wait_heard(ear, b"back")
        assert len(ear.cuts) == 1


async def test_closed_hub_cuts_its_listeners_off(topology: Topology, namespace: str) -> None:
    ear = Ear(f"{namespace}:a")
    async with listening(topology.url) as (_, notifier):
        await notifier.subscribe(ear)
    assert ear.cuts == ["the hub was closed"]
    with pytest.raises(ServerUnavailable, match="closed"):
        await notifier.subscribe(ear)


async def test_subscription_that_the_acl_refuses_is_a_missing_permission(
    fresh_server: SingleServer,
) -> None:
    """The others on the connection stay; with nobody on it, it is closed."""
    rights = ("+@all", "~*", "resetchannels", "&allowed")
    await fresh_server.command("ACL", "SETUSER", "u", "on", ">pw", *rights)
    async with listening(fresh_server.url.replace("://", "://u:pw@")) as (_, notifier):
        with pytest.raises(PermissionDenied, match="SUBSCRIBE"):
            await notifier.subscribe(Ear("forbidden"))

        async def nobody_is_left() -> bool:
            return len(await fresh_server.clients()) == 1

        await wait_until(nobody_is_left, what="only the shared connection is left")
        allowed = Ear("allowed")
        await notifier.subscribe(allowed)
        with pytest.raises(PermissionDenied):
            await notifier.subscribe(Ear("forbidden"))
        assert await fresh_server.command("PUBLISH", "allowed", "x") == 1
        await wait_heard(allowed, b"x")
        assert allowed.cuts == []


@on_one_server
async def test_cancelled_subscription_hears_nothing_and_leaves_the_others_alone(
    notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """Whenever it comes: nothing waits for its confirmation."""
    stays, gone = Ear(f"{namespace}:a"), Ear(f"{namespace}:b")
    place = await notifier.subscribe(stays)
    for _ in range(20):
        with anyio.move_on_after(0):
            await notifier.subscribe(gone)
    assert await place.ask(("PING",)) == [b"PONG"]
    assert await publish(gone.channel, "x") == 0
    assert await publish(stays.channel, "y") == 1
    await wait_heard(stays, b"y")
    assert (gone.heard, gone.cuts, stays.cuts) == ([], [], [])


# --- on a cluster


on_a_cluster = pytest.mark.parametrize("topology", ["cluster"], indirect=True)


async def another_master(cluster: ClusterGroup, key: str) -> Any:
    """A master that does not have this key."""
    owner = await cluster.node_of(key)
    return next(node for node in await cluster.masters() if node is not owner)


@on_a_cluster
async def test_message_stays_in_the_shard_of_its_channel(
    cluster_group: ClusterGroup, notifier: Notifier, namespace: str
) -> None:
    """The owner alone knows of the subscription, and it is a sharded one."""
    ear = Ear(f"{namespace}:a")
    await notifier.subscribe(ear)
    owner = await cluster_group.node_of(ear.key)
    for master in await cluster_group.masters():
        listed = await master.command("PUBSUB", "SHARDCHANNELS", ear.channel)
        assert listed == ([ear.channel.encode()] if master is owner else [])
        assert await master.command("PUBSUB", "CHANNELS", ear.channel) == []
        assert await master.command("PUBLISH", ear.channel, "not for shards") == 0
    assert await owner.command("SPUBLISH", ear.channel, "x") == 1
    await wait_heard(ear, b"x")


@on_a_cluster
async def test_slot_that_moves_cuts_its_listeners_off_and_is_followed(
    cluster_group: ClusterGroup, notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """Those of other slots on the same server notice nothing."""
    moves = Ear(f"{namespace}:a", ("HGET", f"{namespace}:a", "=rev"))
    source = await cluster_group.node_of(moves.key)
    target = await another_master(cluster_group, moves.key)
    names = (f"{namespace}:{number}" for number in range(1000))
    stays = Ear(await anext(name for name in names if await cluster_group.node_of(name) is source))
    assert slot_of(stays.key) != slot_of(moves.key)
    place = await notifier.subscribe(moves)
    await notifier.subscribe(stays)
    await cluster_group.move_slot(slot_of(moves.key), target)
    try:
        await wait_cut(moves)
        assert not place.is_live
        again = await subscribe_again(notifier, moves)
        assert again.connection.address == f"{target.host}:{target.port}"
        assert await publish(moves.channel, "new owner") == 1
        await wait_heard(moves, b"new owner")
        await publish(stays.channel, "still here")
        await wait_heard(stays, b"still here")
        assert stays.cuts == []
    finally:
        await cluster_group.move_slot(slot_of(moves.key), source)


@on_a_cluster
async def test_question_is_answered_while_its_slot_is_half_moved(
    cluster_group: ClusterGroup, notifier: Notifier, namespace: str
) -> None:
    """The key is at the new owner already, the channel still at the old one; a probe tells the listener."""
    ear = Ear(f"{namespace}:a", ("GET", f"{namespace}:a"))
    owner = await cluster_group.node_of(ear.key)
    await owner.command("SET", ear.key, "here", "EX", 60)
    move = await cluster_group.slot_move(
        slot_of(ear.key), await another_master(cluster_group, ear.key)
    )
    await move.open()
    try:
        await move.migrate(ear.key)
        place = await notifier.subscribe(ear)
        value, ttl = await place.ask(("GET", ear.key), ("TTL", ear.key))
        assert value == b"here"
        assert ttl > 0
        place.probe()
        await wait_cut(ear)
        assert "ASK" in ear.cuts[0]
        assert ear.answers == []
    finally:
        await move.cancel()


@on_a_cluster
async def test_failover_cuts_its_listeners_off_and_the_new_master_is_listened_to(
    cluster_group: ClusterGroup, notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """An orderly one: the old master lives on as a replica."""
    ear = Ear(f"{namespace}:a", ("HGET", f"{namespace}:a", "=rev"))
    await notifier.subscribe(ear)
    old = await cluster_group.node_of(ear.key)
    new = await cluster_group.failover(old)
    await wait_cut(ear)
    again = await subscribe_again(notifier, ear)
    assert again.connection.address == f"{new.host}:{new.port}"
    assert await publish(ear.channel, "x") == 1
    await wait_heard(ear, b"x")


async def test_cluster_without_sharded_messages_is_listened_to_at_the_owner(
    cluster_group: ClusterGroup, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Redis 6.2: every node passes an ordinary message on to all the others."""
    without = property(lambda _: False)
    monkeypatch.setattr("pulsewire._redis.opening.ServerInfo.has_sharded_pubsub", without)
    async with listening(cluster_group.url) as (_, notifier):
        ear = Ear(f"{namespace}:a", channel=f"{namespace}:elsewhere")
        await notifier.subscribe(ear)
        owner = await cluster_group.node_of(ear.key)
        assert await owner.command("PUBSUB", "CHANNELS", ear.channel) == [ear.channel.encode()]
        other = await another_master(cluster_group, ear.key)
        await other.command("PUBLISH", ear.channel, "from another node")
        await wait_heard(ear, b"from another node")


# --- behind sentinels


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_listener_follows_to_the_master_that_the_sentinels_name(
    topology: Topology, notifier: Notifier, publish: Publish, namespace: str
) -> None:
    """The old one has crashed."""
    ear = Ear(f"{namespace}:a")
    await notifier.subscribe(ear)
    (old,) = await topology.masters()
    await old.kill()
    await wait_cut(ear)
    await subscribe_again(notifier, ear)
    (new,) = await topology.masters()
    assert new is not old
    assert await publish(ear.channel, "x") == 1
    await wait_heard(ear, b"x")
