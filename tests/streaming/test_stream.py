"""A stream: what its events are, looking at them, and tidying up."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import (
    FIELDS,
    JSON,
    TEXT,
    Fields,
    InvalidName,
    InvalidOption,
    ServerError,
    Stream,
)
from pulsewire.testing import Topology, wait_until
from tests.streaming.facts import (
    Facts,
    MakeStream,
    Raw,
    names_in,
    on_one_server,
)

# --- what an event is


async def test_event_comes_back_as_it_was_added(stream: Stream[bytes]) -> None:
    event_id = await stream.add(
        "user.created", b"\x00\xff", topic="signup", headers={"trace": "4bf9", "ü": "ß"}
    )
    (event,) = await stream.range()
    assert (event.id, event.stream, event.sink, event.name) == (
        event_id,
        "events",
        "",
        "user.created",
    )
    assert (event.topic, event.payload, event.headers) == (
        "signup",
        b"\x00\xff",
        {"trace": "4bf9", "ü": "ß"},
    )
    assert event.deliveries == 1


async def test_entry_is_what_go_reads(stream: Stream[bytes], raw: Raw) -> None:
    """Key and the first fields as Go Pulse writes them, ours behind (spec/pulse.md 2.1)."""
    await stream.add("paid", b"x", topic="eu", headers={"k": "v"})
    await stream.add("paid", b"")
    assert stream.key.endswith("pulse:stream:events")
    entries = await raw(stream.key, "XRANGE", stream.key, "-", "+")
    fields = entries[0][1]
    assert fields[:8] == [b"n", b"paid", b"p", b"x", b"t", b"eu", b"h:k", b"v"]
    assert fields[8::2] in ([], [b"r"])
    assert entries[1][1][:4] == [b"n", b"paid", b"p", b""]
    assert b"t" not in entries[1][1][::2]


async def test_entry_of_go_is_an_event(stream: Stream[bytes], raw: Raw) -> None:
    await raw(stream.key, "XADD", stream.key, "7-1", "n", "paid", "p", b"\xff", "t", "eu")
    (event,) = await stream.range()
    assert (event.id, event.name, event.payload, event.topic) == ("7-1", "paid", b"\xff", "eu")
    assert event.created_at == datetime(1970, 1, 1, 0, 0, 0, 7000, UTC)


async def test_creation_time_is_the_server_s(hub: pulsewire.Hub, stream: Stream[bytes]) -> None:
    before = await hub.time()
    await stream.add("e", b"")
    after = await hub.time()
    (event,) = await stream.range()
    assert before - 1.0 <= event.created_at.timestamp() <= after + 1.0


async def test_codec_decides_what_a_payload_is(make_stream: MakeStream) -> None:
    text, data = make_stream("text", codec=TEXT), make_stream("json", codec=JSON)
    await text.add("e", "grüße")
    await data.add("e", {"id": 123})
    assert [event.payload for event in await text.range()] == ["grüße"]
    assert [event.payload for event in await data.range()] == [{"id": 123}]


# --- tidying


async def test_removed_event_is_gone(stream: Stream[bytes]) -> None:
    first, second, third = await stream.add_many([("1", b""), ("2", b""), ("3", b"")])
    assert await stream.remove(second) == 1
    assert await names_in(stream) == ["1", "3"]
    assert await stream.remove(first, second, third, "5-5") == 2
    assert await stream.remove() == 0
    assert await stream.length() == 0


async def test_trim_makes_a_stream_shorter_now(stream: Stream[bytes]) -> None:
    await stream.add_many([("e", b"")] * 900)
    removed = await stream.trim(300)
    assert removed == 900 - await stream.length()
    assert 300 <= await stream.length() < 400
    assert await stream.trim() == 0
    assert await stream.trim(0) == 0


async def test_destroyed_stream_leaves_no_bookkeeping(
    hub: pulsewire.Hub, stream: Stream[bytes], raw: Raw
) -> None:
    async with stream.sink("mailer", start="oldest", ack_grace=0.2) as sink:
        await stream.add("e", b"")
        await sink.ack(*await sink.read())

        async def has_noted() -> bool:
            return bool(await raw(stream.key, "EXISTS", stream.store.keys.positions))

        await wait_until(has_noted, what="the sink's position is noted down")
    assert await hub.streams() == ["events"]
    assert await stream.destroy()
    assert await raw(stream.key, "EXISTS", stream.store.keys.positions) == 0
    assert not (await stream.info()).exists
    assert not await stream.destroy()
    assert await hub.streams() == []


async def test_stream_can_be_used_again_after_it_was_destroyed(stream: Stream[bytes]) -> None:
    await stream.add_many([("old", b"")] * 10)
    await stream.destroy()
    await stream.add("new", b"")
    assert await names_in(stream) == ["new"]


# --- looking


async def test_range_goes_from_after_the_start_to_the_end_included(stream: Stream[bytes]) -> None:
    ids = await stream.add_many([(str(number), b"") for number in range(10)])

    async def names(*args: Any, **options: Any) -> str:
        return "".join(event.name for event in await stream.range(*args, **options))

    assert await names() == "0123456789"
    assert await names(ids[3]) == "456789"
    assert await names(ids[3], ids[6]) == "456"
    assert await names("oldest", ids[2]) == "012"
    assert await names(count=4) == "0123"
    assert await names(ids[6], count=1) == "7"
    assert await names("newest") == ""
    assert await names(ids[9]) == ""
    assert await names(datetime.now(UTC) + timedelta(days=1)) == ""
    assert await names(datetime.now(UTC) - timedelta(days=1)) == "0123456789"


async def test_range_from_a_moment_includes_that_millisecond(
    stream: Stream[bytes], raw: Raw
) -> None:
    """Go's `<ms>-0` is exclusive and skips the event with exactly that id (S12)."""
    for entry_id in ("1000-5", "1001-0", "1001-1", "1002-0"):
        await raw(stream.key, "XADD", stream.key, entry_id, "n", entry_id, "p", "")
    events = await stream.range()
    found = [event.name for event in await stream.range(events[1].created_at)]
    assert found == ["1001-0", "1001-1", "1002-0"]


async def test_range_leaves_out_what_is_malformed(
    hub: pulsewire.Hub, stream: Stream[bytes], raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.add("good", b"")
    odd = (await raw(stream.key, "XADD", stream.key, "*", "x", "y")).decode()
    assert [event.name for event in await stream.range()] == ["good"]
    (record,) = [record for record in caplog.records if "malformed" in record.message]
    assert record.__dict__["entry_id"] == odd
    assert record.__dict__["stream"] == "events"


async def test_info_tells_what_the_server_knows(stream: Stream[bytes], raw: Raw) -> None:
    missing = await stream.info()
    assert (missing.name, missing.key, missing.exists, missing.length) == (
        "events",
        stream.key,
        False,
        0,
    )
    ids = await stream.add_many([("e", b"")] * 3)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "g", "0")
    await raw(stream.key, "XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", stream.key, ">")
    info = await stream.info()
    assert (info.length, info.first_id, info.last_id) == (3, ids[0], ids[2])
    assert info.memory_bytes is not None
    (group,) = info.groups
    assert (group.name, group.pending, group.lag, group.last_delivered_id) == ("g", 1, 2, ids[0])
    await stream.remove(*ids)
    empty = await stream.info()
    assert (empty.exists, empty.length, empty.first_id, empty.last_generated_id) == (
        True,
        0,
        "",
        ids[2],
    )


async def test_key_that_is_no_stream_is_a_typed_error(stream: Stream[bytes], raw: Raw) -> None:
    await raw(stream.key, "SET", stream.key, "text")
    for call in (
        stream.add("e", b""),
        stream.add_many([("e", b"")]),
        stream.add("e", b"", idempotency_key="k"),
        stream.length(),
        stream.info(),
        stream.range(),
        stream.trim(5),
        stream.remove("1-1"),
    ):
        with pytest.raises(ServerError) as caught:
            await call
        assert caught.value.code == "WRONGTYPE"
    assert await raw(stream.key, "GET", stream.key) == b"text"


async def test_hub_lists_its_streams(hub: pulsewire.Hub, make_stream: MakeStream) -> None:
    """Those of its namespace, by name."""
    for name in ("users", "orders:eu", "ü"):
        await make_stream(name).add("e", b"")
    assert await hub.streams() == ["orders:eu", "users", "ü"]


# --- what is wrong is told before anything is written


@on_one_server
@pytest.mark.parametrize("name", ["", "a b", "a*", "x" * 513, "{", None, 7], ids=str)
def test_illegal_stream_name_is_refused(name: Any, hub: pulsewire.Hub) -> None:
    with pytest.raises(InvalidName):
        hub.stream(name)


@on_one_server
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("max_len", value) for value in (-1, 1.5, "10", None, True)),
        *(("hard_limit", value) for value in (-1, 1.5, "10", 999)),
        *(("retain", value) for value in ("all", None, "")),
        *(("ttl", value) for value in (0, -1.0, "1", float("nan"), float("inf"), True)),
        *(("sliding_ttl", value) for value in (0, -1.0)),
        *(("idempotency_window", value) for value in (0, -1.0, "x")),
        *(("max_payload", value) for value in (0, -1, 1.5)),
    ],
)
def test_impossible_option_is_refused_and_named(
    option: str, value: Any, hub: pulsewire.Hub
) -> None:
    with pytest.raises(InvalidOption) as caught:
        hub.stream("s", **{option: value})
    assert caught.value.option == option


@on_one_server
@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"ttl": 1.0, "sliding_ttl": 1.0}, "sliding_ttl"),
        ({"retain": "none", "hard_limit": 5000}, "hard_limit"),
        ({"max_len": 100, "hard_limit": 99}, "hard_limit"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: Any, culprit: str, hub: pulsewire.Hub
) -> None:
    with pytest.raises(InvalidOption) as caught:
        hub.stream("s", **options)
    assert caught.value.option == culprit


@on_one_server
@pytest.mark.parametrize("event_id", ["newest", "oldest", "x", "", "$"])
async def test_only_ids_can_be_removed(event_id: str, stream: Stream[bytes]) -> None:
    await stream.add("e", b"")
    with pytest.raises(InvalidOption):
        await stream.remove(event_id)
    with pytest.raises(InvalidOption):
        await stream.range(end=event_id)
    assert await stream.length() == 1


@on_one_server
@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("count", 0),
        ("count", -1),
        ("count", "x"),
        ("start", "nope"),
        ("start", datetime(2026, 1, 1)),  # noqa: DTZ001  # that is the point
    ],
)
async def test_range_checks_its_arguments(call: str, value: Any, stream: Stream[bytes]) -> None:
    with pytest.raises(InvalidOption) as caught:
        await stream.range(**{call: value})
    assert caught.value.option == call


# --- plain streams of other programs


async def test_foreign_stream_is_read_and_written(make_stream: MakeStream, raw: Raw) -> None:
    """Any key, any fields: the tickets article's (spec/pulse.md 7.2)."""
    tickets = make_stream("tickets", key="tickets", codec=FIELDS, max_len=0)
    await raw(
        tickets.key,
        *(
            "XADD",
            tickets.key,
            "*",
            "whatHappened",
            "ticket received",
            "ticketID",
            7,
            "ticketData",
            "some ticket data",
        ),
    )
    await tickets.add("", {"whatHappened": "ticket received", "ticketID": 8, "ticketData": b"\xff"})
    first, second = await tickets.range()
    assert first.payload == {
        "whatHappened": "ticket received",
        "ticketID": "7",
        "ticketData": "some ticket data",
    }
    assert (first.name, first.topic, first.headers) == ("", "", {})
    assert second.payload == {
        "whatHappened": "ticket received",
        "ticketID": "8",
        "ticketData": b"\xff",
    }
    entries = await raw(tickets.key, "XRANGE", tickets.key, "-", "+")
    assert entries[1][1] == [
        b"whatHappened",
        b"ticket received",
        b"ticketID",
        b"8",
        b"ticketData",
        b"\xff",
    ]


async def test_foreign_stream_may_name_its_events(make_stream: MakeStream) -> None:
    tickets = make_stream(
        "tickets", key="tickets", codec=Fields(name="whatHappened", topic="region")
    )
    await tickets.add("ticket received", {"ticketID": "7"}, topic="eu")
    (event,) = await tickets.range()
    assert (event.name, event.topic, event.payload) == ("ticket received", "eu", {"ticketID": "7"})


# --- saying who they are


def test_stream_says_what_a_person_wants_to_know(hub: pulsewire.Hub, namespace: str) -> None:
    stream = hub.stream("users", max_len=50, retain="none")
    assert repr(stream) == (
        f"<Stream 'users' key='{namespace}:pulse:stream:users' max_len=50 retain=none>"
    )


async def test_stream_logs_where_it_was_told_to(
    hub: pulsewire.Hub, make_stream: MakeStream, raw: Raw
) -> None:
    """Its readers and sinks, too (spec/pulse.md 7.1, 23)."""
    records: list[logging.LogRecord] = []

    class Mine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.getLogger("mine")
    logger.propagate = False
    handler = Mine()
    logger.addHandler(handler)
    stream = make_stream(logger=logger)
    await raw(stream.key, "XADD", stream.key, "*", "x", "y")
    async with stream.reader(start="oldest", follow=False) as reader:
        assert await reader.read() == []
    async with stream.sink("mailer", start="oldest") as sink:
        with anyio.move_on_after(10):
            while not sink.statistics().malformed:
                await sink.read(timeout=0.05)
    logger.removeHandler(handler)
    assert [record.__dict__["sink"] for record in records] == ["", "mailer"]


async def test_add_of_one_stream_is_seen_on_every_other_object_of_it(
    topology: Topology, namespace: str, stream: Stream[bytes], watched: pulsewire.Hub, facts: Facts
) -> None:
    """Streams have no state of their own: another process sees the same."""
    await stream.add("e", b"")
    assert await watched.stream("events").length() == 1
    assert facts.of("connection_opened")
