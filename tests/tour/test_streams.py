"""A tour of streams: one idea per test, public names only. Read it from top to bottom.

`hub` is what `async with pulsewire.connect(url) as hub` gives; these tests have one for every kind of server.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio
import pytest

import pulsewire
from pulsewire import FIELDS, JSON, Event, Hub, NewEvent, StreamFull, typed

pytestmark = pytest.mark.parametrize("topology", ["standalone", "cluster"], indirect=True)


@pytest.fixture(autouse=True)
async def streams_are_destroyed(hub: Hub) -> AsyncIterator[None]:
    """Streams stay until somebody destroys them; here that is done after each test."""
    yield
    for name in await hub.streams():
        await hub.stream(name).destroy()
    await hub.stream("tickets", key="tickets", codec=FIELDS).destroy()


# --- adding


async def test_adding_an_event_gives_its_id(hub: Hub) -> None:
    """A stream needs no setting up: it comes into being with its first event."""
    users = hub.stream("users")
    first = await users.add("user.created", b'{"id": 123}')
    second = await users.add("user.deleted", b'{"id": 123}')
    assert first != second
    assert await users.length() == 2


async def test_event_has_a_name_a_payload_and_more(hub: Hub) -> None:
    """Topic and headers are yours; id and time are given by the server."""
    users = hub.stream("users")
    await users.add("user.created", b"...", topic="signup", headers={"trace": "4bf92f35"})
    (event,) = await users.range()
    assert event.name == "user.created"
    assert event.payload == b"..."
    assert event.topic == "signup"
    assert event.headers["trace"] == "4bf92f35"
    assert abs(datetime.now(UTC) - event.created_at) < timedelta(minutes=1)


async def test_many_events_are_added_in_one_go(hub: Hub) -> None:
    """In this order, in few writes."""
    orders = hub.stream("orders")
    await orders.add_many(
        [("created", b"1"), ("paid", b"1"), NewEvent("shipped", b"1", topic="eu")]
    )
    assert [event.name for event in await orders.range()] == ["created", "paid", "shipped"]


async def test_same_key_adds_the_same_event_once(hub: Hub) -> None:
    """A request that is made twice, by a user's double click or a retry, is one event."""
    orders = hub.stream("orders")
    first = await orders.add("created", b"order 7", idempotency_key="order-7")
    again = await orders.add("created", b"order 7", idempotency_key="order-7")
    assert again == first
    assert await orders.length() == 1


async def test_codec_makes_payloads_of_your_types(hub: Hub) -> None:
    """Bytes unless you say otherwise; what does not fit is refused or passed over, never guessed."""

    @dataclass
    class Signup:
        user: int
        plan: str = "free"

    signups = hub.stream("signups", codec=typed(Signup))
    await signups.add("signed.up", Signup(7))
    (event,) = await signups.range()
    assert event.payload == Signup(7, "free")

    anything = hub.stream("anything", codec=JSON)
    await anything.add("fact", {"tags": ["a", "b"], "count": 2})
    (fact,) = await anything.range()
    assert fact.payload["tags"] == ["a", "b"]


async def test_text_is_no_payload_unless_a_codec_says_so(hub: Hub) -> None:
    """A wrong call is told before anything is sent."""
    with pytest.raises(TypeError):
        await hub.stream("users").add("user.created", "text")  # type: ignore[call-overload]  # that is the point
    assert await hub.streams() == []


# --- reading


async def test_reader_sees_every_event_from_where_you_say(hub: Hub) -> None:
    """A cursor of its own: from the oldest, an id, a moment, or what comes from now on."""
    users = hub.stream("users")
    ids = await users.add_many([(f"event {number}", b"") for number in range(3)])
    async with users.reader(start="oldest", follow=False) as reader:
        assert [event.name async for event in reader] == ["event 0", "event 1", "event 2"]
    async with users.reader(start=ids[1], follow=False) as reader:
        assert [event.name async for event in reader] == ["event 2"]
    async with users.reader() as reader:
        await users.add("news", b"")
        async for event in reader:
            assert event.name == "news"
            break


async def test_event_sourcing_is_replaying_a_stream(hub: Hub) -> None:
    """`follow=False` ends after what was there on opening: fold it into a state."""
    orders = hub.stream("orders", codec=JSON)
    await orders.add("created", {"order": 7, "total": 100})
    await orders.add("paid", {"order": 7, "amount": 60})
    await orders.add("paid", {"order": 7, "amount": 40})

    due = 0
    async with orders.reader(start="oldest", follow=False) as history:
        async for event in history:
            due += event.payload["total"] if event.name == "created" else -event.payload["amount"]
    assert due == 0


async def test_batches_are_read_with_a_deadline(hub: Hub) -> None:
    """`read` returns what is there, at most so many, or nothing when its time is over."""
    users = hub.stream("users")
    async with users.reader() as reader:
        assert await reader.read(timeout=0.01) == []
        await users.add_many([("e", b"")] * 5)
        events = await reader.read(max=3, timeout=5.0)
        assert 1 <= len(events) <= 3


async def test_topics_choose_events(hub: Hub) -> None:
    """Exactly one, or a pattern found anywhere in it."""
    orders = hub.stream("orders")
    for topic in ("eu.paid", "us.paid", "eu.shipped"):
        await orders.add("order", b"", topic=topic)
    async with orders.reader(start="oldest", topic="us.paid", follow=False) as reader:
        assert [event.topic async for event in reader] == ["us.paid"]
    async with orders.reader(start="oldest", topic_pattern=r"^eu\.", follow=False) as reader:
        assert [event.topic async for event in reader] == ["eu.paid", "eu.shipped"]


# --- sharing


async def test_sink_hands_events_out_until_they_are_acknowledged(hub: Hub) -> None:
    """At least once: what is not acknowledged within `ack_grace` comes again, here or elsewhere."""
    users = hub.stream("users")
    async with users.sink("mailer", ack_grace=0.3) as mailer:
        await users.add("user.created", b"")
        deliveries = []
        async for event in mailer:
            deliveries.append(event.deliveries)
            if event.deliveries == 2:
                await event.ack()
                break
        assert deliveries == [1, 2]


async def test_sinks_of_one_name_share_the_work(hub: Hub) -> None:
    """Start as many processes as you like: each event goes to one of them."""
    jobs = hub.stream("jobs")
    done: list[str] = []
    async with jobs.sink("workers") as one, jobs.sink("workers") as other:
        await jobs.add_many([(f"job {number}", b"") for number in range(20)])

        async def work(sink: pulsewire.Sink[bytes]) -> None:
            async for event in sink:
                done.append(event.name)
                await event.ack()
                if len(done) == 20:
                    one.stop()
                    other.stop()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, one)
            tasks.start_soon(work, other)
    assert len(set(done)) == 20


async def test_fan_out_is_several_sinks(hub: Hub) -> None:
    """Each name gets every event."""
    users = hub.stream("users")
    async with users.sink("analytics") as analytics, users.sink("notifications") as notifications:
        await users.add("user.created", b"")
        for sink in (analytics, notifications):
            async for event in sink:
                assert event.name == "user.created"
                await event.ack()
                break


async def test_fan_in_is_several_streams(hub: Hub) -> None:
    """Added and removed while it runs, on whatever servers they are."""
    orders, payments = hub.stream("orders"), hub.stream("payments")
    async with orders.sink("aggregator") as aggregator:
        await aggregator.add_stream(payments)
        await orders.add("created", b"")
        await payments.add("received", b"")
        seen = set()
        async for event in aggregator:
            seen.add((event.stream, event.name))
            await event.ack()
            if len(seen) == 2:
                break
        assert seen == {("orders", "created"), ("payments", "received")}


async def test_sink_s_place_outlives_its_processes(hub: Hub) -> None:
    """What is added while nobody consumes is there for whoever comes next."""
    users = hub.stream("users")
    async with users.sink("mailer"):
        pass
    await users.add("meanwhile", b"")
    async with users.sink("mailer") as mailer:
        async for event in mailer:
            assert event.name == "meanwhile"
            await event.ack()
            break


# --- handlers


async def test_consume_runs_a_handler(hub: Hub) -> None:
    """It acknowledges on return. `stop` lets what runs finish."""
    users = hub.stream("users")
    await users.add_many([(f"user {number}", b"") for number in range(10)])
    mailed: list[str] = []
    async with users.sink("mailer", start="oldest") as mailer:

        async def mail(event: Event) -> None:
            mailed.append(event.name)
            if len(mailed) == 10:
                mailer.stop()

        await mailer.consume(mail, concurrency=4)
    assert sorted(mailed) == [f"user {number}" for number in range(10)]
    (group,) = (await users.info()).groups
    assert (group.name, group.pending) == ("mailer", 0)


async def test_keys_are_handled_in_order(hub: Hub) -> None:
    """Different accounts side by side, each account's events one after the other."""
    accounts = hub.stream("accounts")
    await accounts.add_many([(f"{number}", f"{number % 3}".encode()) for number in range(30)])
    seen: dict[bytes, list[int]] = defaultdict(list)
    async with accounts.sink("bookkeeping", start="oldest") as sink:

        async def book(event: Event) -> None:
            seen[event.payload].append(int(event.name))
            if sum(map(len, seen.values())) == 30:
                sink.stop()

        await sink.consume(book, concurrency=10, ordered_by=lambda event: event.payload)
    assert all(found == sorted(found) for found in seen.values())


async def test_failing_handler_ends_nothing(hub: Hub) -> None:
    """Its event comes again, and after `max_deliveries` moves to `<stream>.dead`, with the reason."""
    users = hub.stream("users")
    await users.add("user.created", b"broken")
    async with users.sink("mailer", start="oldest", ack_grace=0.2, max_deliveries=2) as mailer:

        async def mail(event: Event) -> None:
            raise ValueError("cannot be mailed")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mailer.consume, mail)
            async with hub.stream("users.dead").reader(start="oldest") as dead:
                async for letter in dead:
                    assert letter.payload == b"broken"
                    assert letter.headers["pulsewire-reason"] == "max_deliveries"
                    assert letter.headers["pulsewire-deliveries"] == "2"
                    break
            mailer.stop()


async def test_long_work_goes_on_elsewhere(hub: Hub) -> None:
    """`extend` keeps an event that is worked on beyond the loop, until it is acknowledged."""
    videos = hub.stream("videos")
    await videos.add_many([("long", b""), ("short", b"")])
    async with videos.sink("encoders", start="oldest", ack_grace=0.3) as sink:
        kept = []
        async for event in sink:
            if event.name == "long":
                await sink.extend(event)
                kept.append(event)
            else:
                await event.ack()
                break
        assert await sink.read(timeout=0.6) == []  # it does not come again
        await kept[0].ack()


# --- limits


async def test_history_is_bounded_without_eating(hub: Hub) -> None:
    """`max_len` trims what every sink has acknowledged; what one still needs stays."""
    readings = hub.stream("readings", max_len=100)
    async with readings.sink("archive", start="oldest") as archive:
        await readings.add_many([(f"{number}", b"") for number in range(1000)])
        assert await readings.length() == 1000
        found = 0
        async for event in archive:
            assert event.name == str(found)
            await event.ack()
            found += 1
            if found == 1000:
                break
        await readings.trim()
        assert await readings.length() < 1000


async def test_hard_limit_holds_publishers_back(hub: Hub) -> None:
    """Back-pressure: `StreamFull` names the sink that must catch up. Nothing was written."""
    readings = hub.stream("readings", max_len=10, hard_limit=20)
    async with readings.sink("slow", start="oldest"):
        with pytest.raises(StreamFull) as full:
            for _ in range(100):
                await readings.add("reading", b"")
    assert full.value.held_by == "slow"
    assert await readings.length() == full.value.length


async def test_streams_can_end_by_themselves(hub: Hub) -> None:
    """A time to live, from the creation (`ttl`) or from the last event (`sliding_ttl`)."""
    session = hub.stream("session", sliding_ttl=0.05)
    await session.add("click", b"")
    with anyio.fail_after(10):
        while (await session.info()).exists:
            await anyio.lowlevel.checkpoint()


# --- other programs


async def test_plain_streams_of_other_programs_are_streams_too(hub: Hub) -> None:
    """Any key, any fields."""
    tickets = hub.stream("tickets", key="tickets", codec=FIELDS)
    await tickets.add(
        "", {"whatHappened": "ticket received", "ticketID": 77, "ticketData": "some ticket data"}
    )
    async with tickets.sink("tickets-consumer-group", start="oldest") as sink:
        async for event in sink:
            assert event.payload["ticketID"] == "77"
            await event.ack()
            break


# --- looking


async def test_looking_at_a_stream(hub: Hub) -> None:
    """Length, ids, memory, and for each sink its consumers, what is pending, and how far behind it is."""
    users = hub.stream("users")
    await users.add_many([("e", b"")] * 3)
    async with users.sink("mailer", start="oldest") as mailer:
        async for _ in mailer:
            break
        info = await users.info()
    assert info.length == 3
    assert info.groups[0].name == "mailer"
    assert info.groups[0].pending == 1
    assert await hub.streams() == ["users"]


async def test_laptop_needs_no_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`connect()` without a target starts one; `ephemeral=True` leaves nothing of it."""
    if "PULSEWIRE_URL" in os.environ:
        pytest.skip("$PULSEWIRE_URL names a server")
    async with pulsewire.connect(ephemeral=True) as hub:
        await hub.stream("users").add("user.created", b"")
        assert await hub.streams() == ["users"]
        assert hub.server.topology == "standalone"
