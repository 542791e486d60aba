"""Listening to the sentinels: who is announced is gone to, whatever becomes of the sentinels themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
import redis.asyncio
from redis.asyncio.sentinel import Sentinel

from pulsewire._redis.blocking import BlockingConnection
from pulsewire._redis.doors import REPLACED_FOR, SentinelDoor, doors_of_target
from pulsewire._redis.link import Link
from pulsewire._redis.sentinels import Switch, SwitchListener, parse_push
from pulsewire._redis.targets import parse_target
from pulsewire.errors import ConnectionLost, ServerUnavailable
from pulsewire.testing import SentinelGroup, SingleServer, wait_until
from tests._redis.kit import Conversation, CountingHooks, StubServer, Words, door_of, opened_link

SERVICE = "mymaster"
OLD, NEW = ("10.0.0.1", 6379), ("10.0.0.2", 6380)
NEWS = "the sentinels have named another master"
MUTE = "a sentinel does not tell of failovers"


# --- the message


def push_of(payload: bytes, *, kind: bytes = b"message", channel: bytes = b"+switch-master") -> Any:
    return [kind, channel, payload]


@pytest.mark.parametrize(
    ("payload", "switch"),
    [
        (b"mymaster 10.0.0.1 6379 10.0.0.2 6380", Switch("mymaster", OLD, NEW)),
        (b"a.b-c_1 ::1 1 fe80::2 65535", Switch("a.b-c_1", ("::1", 1), ("fe80::2", 65535))),
        (b"m one.example 1 two.example 2", Switch("m", ("one.example", 1), ("two.example", 2))),
    ],
)
def test_announcement_is_read(payload: bytes, switch: Switch) -> None:
    assert parse_push(push_of(payload)) == switch


@pytest.mark.parametrize(
    "push",
    [
        push_of(b""),
        push_of(b"mymaster"),
        push_of(b"mymaster 10.0.0.1 6379 10.0.0.2"),
        push_of(b"mymaster 10.0.0.1 6379 10.0.0.2 6380 more"),
        push_of(b"mymaster 10.0.0.1 x 10.0.0.2 6380"),
        push_of(b"mymaster 10.0.0.1 6379 10.0.0.2 -1"),
        push_of(b"\xff\xfe 10.0.0.1 6379 \xff"),
        push_of(b"mymaster 10.0.0.1 6379 10.0.0.2 6380", channel=b"+sdown"),
        push_of(b"mymaster 10.0.0.1 6379 10.0.0.2 6380", kind=b"pmessage"),
        [b"subscribe", b"+switch-master", 1],
        [b"invalidate", None],
    ],
)
def test_what_is_no_announcement_is_passed_over(push: Any) -> None:
    assert parse_push(push) is None


# --- the door that is told


class ManualClock:
    """Stands still."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class NamedConnection:
    """Goes where it is told."""

    retry: Any = None

    def __init__(self, pool: NamingPool) -> None:
        self._pool = pool

    async def connect_to(self, address: Any) -> None:
        self._pool.before_connecting()
        if address in self._pool.unreachable:
            raise redis.ConnectionError("refused")
        self._pool.connected.append(address)

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait


class NamingPool:
    """As much of redis-py's pool as finding the master takes."""

    def __init__(self) -> None:
        self.named: Any = OLD
        self.unreachable: list[Any] = []
        self.connected: list[Any] = []
        self.before_connecting: Callable[[], object] = lambda: None

    def make_connection(self) -> NamedConnection:
        return NamedConnection(self)

    async def get_master_address(self) -> Any:
        if isinstance(self.named, Exception):
            raise self.named
        return self.named


def told_door() -> tuple[SentinelDoor, NamingPool, ManualClock]:
    pool, clock = NamingPool(), ManualClock()
    untyped: Any = pool
    return SentinelDoor(untyped, "the master", clock=clock), pool, clock


async def test_master_that_was_replaced_is_not_gone_to_though_it_is_still_named() -> None:
    """The sentinel that leads a failover is the last to name the new master."""
    door, pool, _clock = told_door()
    assert await door.find() == OLD
    assert door.heed(OLD, NEW)
    assert await door.find() == NEW
    pool.named = ("10.0.0.3", 1)
    assert await door.find() == ("10.0.0.3", 1)


async def test_news_do_not_count_for_ever() -> None:
    """The old master may be the right one again, and that be missed."""
    door, _pool, clock = told_door()
    door.heed(OLD, NEW)
    clock.now += REPLACED_FOR
    assert await door.find() == OLD


async def test_news_that_lead_nowhere_count_no_more() -> None:
    """One attempt is enough to find out; then the sentinels are believed."""
    door, pool, _clock = told_door()
    door.heed(OLD, NEW)
    pool.unreachable.append(NEW)
    with pytest.raises(ServerUnavailable):
        await door.open()
    assert pool.connected == []
    await door.open()
    assert pool.connected == [OLD]
    assert door.whereabouts.led_to == OLD


async def test_attempt_at_the_old_master_that_fails_says_nothing_about_the_new_one() -> None:
    """It was dead when the attempt began, and replaced before it ended."""
    door, pool, _clock = told_door()
    pool.unreachable.append(OLD)
    pool.before_connecting = lambda: door.heed(OLD, NEW)
    with pytest.raises(ServerUnavailable):
        await door.open()
    await door.open()
    assert pool.connected == [NEW]


async def test_news_that_were_followed_are_no_news_any_more() -> None:
    door, _pool, _clock = told_door()
    assert door.heed(OLD, NEW)
    assert door.heed(OLD, NEW)
    door.whereabouts.led_to = NEW
    assert not door.heed(OLD, NEW)
    assert door.heed(NEW, OLD)
    assert door.heed(OLD, NEW)


async def test_door_leads_elsewhere_from_the_announcement_on() -> None:
    """Before anybody has connected there; and back, should it not be true."""
    door, pool, clock = told_door()
    assert door.leads_to is None
    await door.open()
    assert door.leads_to == OLD
    door.heed(("10.0.0.9", 9), NEW)
    assert door.leads_to == OLD
    door.heed(OLD, NEW)
    assert door.leads_to == NEW
    await door.open()
    assert pool.connected == [OLD, NEW]
    assert door.leads_to == NEW
    door.heed(NEW, OLD)
    assert door.leads_to == OLD
    clock.now += REPLACED_FOR
    assert door.leads_to == NEW


async def test_nobody_who_knows_the_master_is_passing_trouble() -> None:
    door, pool, _clock = told_door()
    for trouble in (redis.ConnectionError("No master found"), TimeoutError()):
        pool.named = trouble
        with pytest.raises(ServerUnavailable):
            await door.find()


# --- sentinels that say what they are told


class StubSentinel(StubServer):
    """Names one master, and announces another one when it is told to."""

    def __init__(self, master: SingleServer) -> None:
        super().__init__(self._say)
        self.named = master
        self.refusals: list[bytes] = []
        self.mute: list[Conversation] = []
        self._subscribers: list[Conversation] = []

    @property
    def listeners(self) -> list[Conversation]:
        """Connections that have subscribed and are there still."""
        return [one for one in self._subscribers if not one.transport.is_closing()]

    def announce(self, new: SingleServer, *, service: str = SERVICE, name_it: bool = True) -> None:
        """Publish a switch, and name the new master from then on."""
        old = self.named
        if name_it:
            self.named = new
        text = f"{service} {old.host} {old.port} {new.host} {new.port}".encode()
        words = b"".join(
            b"$%d\r\n%b\r\n" % (len(w), w) for w in (b"message", b"+switch-master", text)
        )
        for listener in self.listeners:
            listener.transport.write(b">3\r\n" + words)

    def _say(self, words: Words, conversation: Conversation) -> bytes | None:
        match [word.upper() for word in words[:2]]:
            case [b"SUBSCRIBE", channel]:
                if self.refusals:
                    return self.refusals.pop()
                self._subscribers.append(conversation)
                return b">3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(channel), words[1])
            case [b"SENTINEL", b"MASTERS"]:
                return self._masters()
            case [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"]:
                host, port = self.named.host.encode(), b"%d" % self.named.port
                return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(host), host, len(port), port)
            case [b"PING"]:
                return None if conversation in self.mute else b"+PONG\r\n"
        return None

    def _masters(self) -> bytes:
        state = {
            "name": SERVICE,
            "ip": self.named.host,
            "port": str(self.named.port),
            "flags": "master",
            "num-other-sentinels": "2",
        }
        flat = [word.encode() for pair in state.items() for word in pair]
        return b"*1\r\n*%d\r\n" % len(flat) + b"".join(
            b"$%d\r\n%b\r\n" % (len(word), word) for word in flat
        )


def url_of(*sentinels: StubSentinel) -> str:
    """RESP2 for what redis-py asks, so that the stub has one kind of answer to give."""
    places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://{places}/{SERVICE}?sentinel_protocol=2"


@pytest.fixture
def old(single_server: SingleServer) -> SingleServer:
    return single_server


@pytest.fixture
def new(fresh_server: SingleServer) -> SingleServer:
    """Both take writes, as in the seconds before the old one is told."""
    return fresh_server


@pytest.fixture
async def first(old: SingleServer) -> AsyncIterator[StubSentinel]:
    async with StubSentinel(old) as sentinel:
        yield sentinel


@pytest.fixture
async def second(old: SingleServer) -> AsyncIterator[StubSentinel]:
    async with StubSentinel(old) as sentinel:
        yield sentinel


async def wait_heard(*sentinels: StubSentinel) -> None:
    """Return when each is listened to."""
    await wait_until(
        lambda: all(len(sentinel.listeners) == 1 for sentinel in sentinels),
        what="the sentinels are listened to",
    )


async def wait_at(server: SingleServer, link: Link) -> None:
    """Return when the link is connected to this server."""

    async def is_there() -> bool:
        connection = await link.connection_for("k")
        return f"name={connection.name} " in "".join((await server.clients()).values())

    await wait_until(is_there, what=f"the link is at {server!r}")


async def test_link_goes_to_the_master_that_is_announced(
    first: StubSentinel, new: SingleServer
) -> None:
    """Nothing was lost or refused before: the announcement alone tells it."""
    hooks = CountingHooks()
    async with opened_link(url_of(first), hooks=hooks) as link:
        await wait_heard(first)
        first.announce(new)
        await wait_at(new, link)
    assert hooks.lost == []
    assert len(hooks.opened) == 2


async def test_one_sentinel_that_announces_is_enough_though_another_names_the_old_master(
    first: StubSentinel, second: StubSentinel, new: SingleServer
) -> None:
    async with opened_link(url_of(first, second)) as link:
        await wait_heard(first, second)
        second.announce(new)
        await wait_at(new, link)


async def test_change_that_all_sentinels_announce_is_followed_once(
    first: StubSentinel,
    second: StubSentinel,
    old: SingleServer,
    new: SingleServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the way back is another change."""
    hooks = CountingHooks()
    async with opened_link(url_of(first, second), hooks=hooks) as link:
        await wait_heard(first, second)
        for server in (new, old):
            second.announce(server)
            await wait_at(server, link)
            first.announce(server)
            await wait_heard(first, second)
    assert len(hooks.opened) == 3
    assert [record.message for record in caplog.records] == [NEWS] * 2


async def test_changes_of_other_services_are_none_of_ours(
    first: StubSentinel, new: SingleServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened_link(url_of(first)) as link:
        await wait_heard(first)
        for service in ("other", "", SERVICE + "2", SERVICE.upper()):
            first.announce(new, service=service, name_it=False)
        first.announce(new)
        await wait_at(new, link)
    assert caplog.messages == [NEWS]


async def test_change_that_was_missed_is_found_out_after_the_next_subscription(
    first: StubSentinel, new: SingleServer
) -> None:
    hooks = CountingHooks()
    async with opened_link(url_of(first), hooks=hooks) as link:
        await wait_heard(first)
        first.named = new
        first.listeners[0].transport.abort()
        await wait_at(new, link)
    assert hooks.lost == []


async def test_sentinel_that_is_behind_does_not_lead_back(
    first: StubSentinel, second: StubSentinel, new: SingleServer
) -> None:
    """It names the old master still, and is listened to again and again."""
    hooks = CountingHooks()
    async with opened_link(url_of(first, second), hooks=hooks) as link:
        await wait_heard(first, second)
        second.announce(new)
        await wait_at(new, link)
        asked = first.names().count("SENTINEL")
        first.listeners[0].transport.abort()
        await wait_until(
            lambda: first.names().count("SENTINEL") > asked + 1, what="it was asked twice"
        )
        await wait_heard(first)
        await wait_at(new, link)
    assert len(hooks.opened) == 2


async def test_sentinels_that_died_are_not_needed_while_one_is_left(
    first: StubSentinel, second: StubSentinel, new: SingleServer
) -> None:
    async with opened_link(url_of(first, second)) as link:
        await wait_heard(first, second)
        await first.__aexit__(None, None, None)
        second.announce(new)
        await wait_at(new, link)


async def test_sentinel_that_was_restarted_is_listened_to_again(
    sentinel_group: SentinelGroup,
) -> None:
    sentinel = sentinel_group.sentinels[-1]

    async def is_listened_to() -> bool:
        return any(
            " sub=1 " in line
            for line in (await sentinel.clients()).values()
            if "pulsewire:" in line
        )

    async with opened_link(sentinel_group.url):
        await wait_until(is_listened_to, what="the sentinel is listened to")
        await sentinel.kill()
        await sentinel.restart()
        await wait_until(is_listened_to, timeout=30.0, what="the sentinel is listened to again")


async def test_sentinel_that_is_silent_is_listened_to_on_a_new_connection(
    first: StubSentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulsewire._redis.sentinels.CHECK_EVERY", 0.05)
    monkeypatch.setattr("pulsewire._redis.sentinels.SILENCE", 0.2)
    async with opened_link(url_of(first)):
        await wait_heard(first)
        silent = first.listeners[0]
        first.mute.append(silent)
        await wait_until(
            lambda: first.listeners not in ([], [silent]), what="it is listened to elsewhere"
        )
        await wait_until(silent.transport.is_closing, what="the silent one was dropped")


async def test_blocking_read_goes_to_the_master_that_is_announced(
    first: StubSentinel, old: SingleServer, new: SingleServer, namespace: str
) -> None:
    """At once, not when its block on the old one has run out."""
    key = f"{namespace}:list"
    async with opened_link(url_of(first)) as link:
        await wait_heard(first)
        blocking = BlockingConnection(link, key)
        await blocking.open(10.0)
        read = asyncio.create_task(blocking.call("BLPOP", key, 2))

        async def is_blocked() -> bool:
            return (await old.info("clients"))["blocked_clients"] == "1"

        await wait_until(is_blocked, what="the client blocks")
        first.announce(new)
        with pytest.raises(ConnectionLost, match="another master"):
            await read
        await new.command("RPUSH", key, "x")
        assert await blocking.open(10.0)
        assert await blocking.call("BLPOP", key, 1) == [key.encode(), b"x"]
        blocking.close()


async def test_users_own_sentinel_client_is_listened_with_and_stays_as_it_was(
    first: StubSentinel, old: SingleServer, new: SingleServer
) -> None:
    untyped: Any = Sentinel
    sentinel = untyped([("127.0.0.1", first.port)], sentinel_kwargs={"protocol": 2})
    client = sentinel.master_for(SERVICE)
    assert await client.echo("x") == b"x"
    before = len(first.conversations)
    async with opened_link(client) as link:
        await wait_heard(first)
        assert len(first.conversations) == before + 1  # no more than the one that listens
        first.announce(new)
        await wait_at(new, link)
    await wait_until(lambda: first.listeners == [], what="nobody listens any more")
    assert await sentinel.discover_master(SERVICE) == (new.host, new.port)
    assert len(first.conversations) == before + 1
    await client.aclose()
    for asked in sentinel.sentinels:
        await asked.aclose()


# --- sentinels that refuse


async def test_sentinel_whose_acl_forbids_it_is_reported_once_and_left_alone(
    first: StubSentinel,
    second: StubSentinel,
    new: SingleServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first.refusals = [b"-NOPERM this user has no permissions to run the 'subscribe' command\r\n"]
    async with opened_link(url_of(first, second)) as link:
        await wait_until(lambda: MUTE in caplog.messages, what="the refusal is reported")
        await wait_heard(second)
        second.announce(new)
        await wait_at(new, link)
    assert first.names().count("SUBSCRIBE") == 1
    (record,) = (record for record in caplog.records if record.message == MUTE)
    assert record.levelno == logging.WARNING
    assert vars(record)["address"] == f"the sentinel 127.0.0.1:{first.port}"
    assert "SUBSCRIBE" in vars(record)["why"]


async def test_refusal_that_asking_again_does_not_mend_ends_the_listening(
    first: StubSentinel,
) -> None:
    """The task, that is; not the link."""
    first.refusals = [b"-NOPERM this user has no permissions to run the 'subscribe' command\r\n"]
    door = doors_of_target(parse_target(url_of(first)))
    assert isinstance(door, SentinelDoor)
    no_lane: Any = None
    listener: Any = SwitchListener(door, no_lane, logging.getLogger("test"))
    with anyio.fail_after(10.0):
        await listener._listen(door_of(first.url))


async def test_refused_credentials_are_reported_once_and_tried_again(
    first: StubSentinel, caplog: pytest.LogCaptureFixture
) -> None:
    """They may be about to change."""
    first.refusals = [b"-NOAUTH Authentication required.\r\n"] * 3
    async with opened_link(url_of(first)):
        await wait_heard(first)
    assert first.names().count("SUBSCRIBE") == 4
    assert caplog.messages == [MUTE]


async def test_trouble_that_may_pass_is_not_reported(
    first: StubSentinel, caplog: pytest.LogCaptureFixture
) -> None:
    """A failover is noticed without this sentinel, too."""
    with caplog.at_level(logging.INFO):
        async with opened_link(url_of(first)):
            for _ in range(3):
                await wait_heard(first)
                first.listeners[0].transport.abort()
            await wait_heard(first)
    assert caplog.records == []


# --- the end


async def test_nobody_listens_any_more_once_the_link_is_closed(
    first: StubSentinel, second: StubSentinel
) -> None:
    async with opened_link(url_of(first, second)):
        await wait_heard(first, second)
    await wait_until(lambda: first.listeners + second.listeners == [], what="nobody listens")


async def test_link_that_is_closed_while_it_subscribes_leaves_nothing(first: StubSentinel) -> None:
    for turns in range(20):
        async with opened_link(url_of(first)):
            for _ in range(turns):
                await asyncio.sleep(0)
    await wait_until(
        lambda: all(one.transport.is_closing() for one in first.conversations),
        what="all connections are closed",
    )
