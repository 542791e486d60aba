"""Adding events: in order, under conditions, within limits; what is wrong is told before anything is sent."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import InvalidName, InvalidOption, NewEvent, PayloadTooLarge, Stream, StreamFull
from pulsewire.streaming.positions import order_of
from pulsewire.testing import wait_until
from tests.streaming.facts import (
    PATIENCE,
    MakeStream,
    Raw,
    is_untouched,
    names_in,
    on_one_server,
)

# --- order


async def test_ids_rise_in_the_order_of_adding(stream: Stream[bytes]) -> None:
    ids = [await stream.add(str(number), b"") for number in range(50)]
    assert ids == sorted(ids, key=order_of)
    assert await names_in(stream) == [str(number) for number in range(50)]


async def test_many_keep_their_order(make_stream: MakeStream) -> None:
    """Through every chunk and every renewal of credit."""
    stream = make_stream(max_len=2500)
    names = [str(number) for number in range(2345)]
    ids = await stream.add_many([(name, b"x") for name in names])
    assert ids == sorted(ids, key=order_of)
    assert len(set(ids)) == 2345
    assert await names_in(stream) == names


@pytest.mark.parametrize(
    "options",
    [{"max_len": 0}, {"max_len": 20_000}, {"max_len": 20_000, "retain": "none"}],
    ids=["no limit", "credit", "plain"],
)
async def test_ten_thousand_keep_their_order(
    options: dict[str, Any], make_stream: MakeStream
) -> None:
    stream = make_stream(**options)
    names = [str(number) for number in range(10_000)]
    ids = await stream.add_many((name, b"") for name in names)
    assert len(set(ids)) == 10_000
    assert await names_in(stream) == names


async def test_one_task_s_events_keep_their_order_among_many_tasks(stream: Stream[bytes]) -> None:
    async def add_in_order(who: int) -> None:
        for number in range(20):
            await stream.add(f"{who}:{number}", b"")

    async with anyio.create_task_group() as tasks:
        for who in range(20):
            tasks.start_soon(add_in_order, who)
    names = await names_in(stream)
    assert len(names) == 400
    for who in range(20):
        assert [name for name in names if name.startswith(f"{who}:")] == [
            f"{who}:{n}" for n in range(20)
        ]


async def test_many_may_have_all_that_one_has(stream: Stream[bytes]) -> None:
    await stream.add_many([("a", b"1"), NewEvent("b", b"2", topic="t", headers={"k": "v"})])
    first, second = await stream.range()
    assert (first.name, first.payload, first.topic, first.headers) == ("a", b"1", "", {})
    assert (second.name, second.payload, second.topic, second.headers) == (
        "b",
        b"2",
        "t",
        {"k": "v"},
    )


async def test_adding_none_of_many_sends_nothing(stream: Stream[bytes], raw: Raw) -> None:
    assert await stream.add_many([]) == []
    assert await is_untouched(stream, raw)


# --- conditions


async def test_add_only_if_the_stream_exists(stream: Stream[bytes], raw: Raw) -> None:
    assert await stream.add("e", b"", only_if_exists=True) is None
    assert await is_untouched(stream, raw)
    first = await stream.add("e", b"")
    second = await stream.add("e", b"", only_if_exists=True)
    assert second is not None
    assert order_of(second) > order_of(first)
    await stream.destroy()
    for _ in range(3):
        assert await stream.add("e", b"", only_if_exists=True) is None
    assert await is_untouched(stream, raw)


@pytest.mark.parametrize(
    "options", [{"max_len": 0, "hard_limit": 0}, {"retain": "none"}, {"ttl": 60.0}], ids=str
)
async def test_add_only_if_the_stream_exists_with_any_options(
    options: dict[str, Any], make_stream: MakeStream, raw: Raw
) -> None:
    """Also where every add is a plain command, or none is."""
    stream = make_stream(**options)
    assert await stream.add("e", b"", only_if_exists=True) is None
    assert await is_untouched(stream, raw)
    await stream.add("e", b"")
    assert await stream.add("e", b"", only_if_exists=True) is not None


async def test_idempotency_key_adds_once(stream: Stream[bytes]) -> None:
    first = await stream.add("e", b"1", idempotency_key="order 7")
    assert await stream.add("e", b"2", idempotency_key="order 7") == first
    assert await stream.add("e", b"3", idempotency_key="order 8") != first
    assert [event.payload for event in await stream.range()] == [b"1", b"3"]


async def test_callers_with_one_key_at_once_add_once(
    hub: pulsewire.Hub, stream: Stream[bytes]
) -> None:
    """From one stream object or from several."""
    ids: list[str] = []
    other = hub.stream("events")

    async def add(where: Stream[bytes]) -> None:
        ids.append(await where.add("e", b"", idempotency_key="k"))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(add, stream)
            tasks.start_soon(add, other)
    assert len(ids) == 40
    assert len(set(ids)) == 1
    assert await stream.length() == 1


async def test_idempotency_key_is_forgotten_with_its_stream(stream: Stream[bytes]) -> None:
    """An id of an event that went with the stream would be no answer."""
    await stream.add("e", b"", idempotency_key="k")
    await stream.destroy()
    again = await stream.add("e", b"", idempotency_key="k")
    assert await stream.add("e", b"", idempotency_key="k") == again
    assert await stream.length() == 1


async def test_idempotency_key_is_forgotten_after_its_window(
    make_stream: MakeStream, raw: Raw
) -> None:
    stream = make_stream(idempotency_window=0.05)
    await stream.add("e", b"", idempotency_key="k")
    key = stream.store.keys.once("k")

    async def is_forgotten() -> bool:
        return bool(await raw(stream.key, "EXISTS", key) == 0)

    await wait_until(is_forgotten, what="the key has expired")
    await stream.add("e", b"", idempotency_key="k")
    assert await stream.length() == 2


async def test_keys_of_different_streams_have_nothing_to_do_with_each_other(
    make_stream: MakeStream,
) -> None:
    one, other = make_stream("one"), make_stream("other")
    await one.add("e", b"", idempotency_key="k")
    await other.add("e", b"", idempotency_key="k")
    assert (await one.length(), await other.length()) == (1, 1)


async def test_repeated_keys_do_not_keep_a_stream_from_being_trimmed(
    make_stream: MakeStream,
) -> None:
    """A caller who repeats one key for ever beside others who add."""
    stream = make_stream(max_len=100)
    for _ in range(60):
        await stream.add_many([("e", b"")] * 10)
        await stream.add("e", b"", idempotency_key="the same")
    assert await stream.length() < 100 + 100 + 20


# --- limits


async def test_stream_keeps_about_max_len_events(make_stream: MakeStream) -> None:
    """The newest; without sinks as with one that has acknowledged."""
    stream = make_stream(max_len=200)
    for start in range(0, 2000, 100):
        await stream.add_many([(str(number), b"") for number in range(start, start + 100)])
    names = await names_in(stream)
    assert 200 <= len(names) <= 200 + 200 // 10 + 100
    assert names == [str(number) for number in range(2000 - len(names), 2000)]


async def test_max_len_zero_keeps_everything(make_stream: MakeStream) -> None:
    stream = make_stream(max_len=0)
    await stream.add_many([("e", b"")] * 1500)
    assert await stream.length() == 1500


async def test_stream_keeps_what_a_sink_has_not_acknowledged(
    make_stream: MakeStream, raw: Raw
) -> None:
    """However long ago it was (S20)."""
    stream = make_stream(max_len=50)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "slow", "0", "MKSTREAM")
    await stream.add_many([(str(number), b"") for number in range(1000)])
    assert await names_in(stream) == [str(number) for number in range(1000)]


async def test_retain_none_trims_like_go(make_stream: MakeStream, raw: Raw) -> None:
    stream = make_stream(max_len=50, retain="none")
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "slow", "0", "MKSTREAM")
    await stream.add_many([("e", b"")] * 1000)
    assert await stream.length() < 50 + 100 + 1


async def test_hard_limit_refuses_and_names_the_sink(make_stream: MakeStream, raw: Raw) -> None:
    """Back-pressure; when the sink has caught up, adding works again."""
    stream = make_stream(max_len=20, hard_limit=100)
    for sink in ("ahead", "behind"):
        await raw(stream.key, "XGROUP", "CREATE", stream.key, sink, "0", "MKSTREAM")
    added = 0
    with pytest.raises(StreamFull) as caught:
        for _ in range(200):
            await stream.add("e", b"")
            added += 1
            await raw(
                stream.key, "XREADGROUP", "GROUP", "ahead", "c", "NOACK", "STREAMS", stream.key, ">"
            )
    error = caught.value
    assert (error.stream, error.limit, error.held_by) == ("events", 100, "behind")
    assert error.length == added == await stream.length()
    with pytest.raises(StreamFull):
        await stream.add("e", b"", idempotency_key="k")
    with pytest.raises(StreamFull):
        await stream.add_many([("e", b"")])
    await raw(
        stream.key,
        "XREADGROUP",
        "GROUP",
        "behind",
        "c",
        "COUNT",
        1000,
        "NOACK",
        "STREAMS",
        stream.key,
        ">",
    )
    await stream.add("e", b"")
    assert await stream.length() <= 100


async def test_hundred_callers_pass_the_hard_limit_by_what_they_hold_at_most(
    make_stream: MakeStream, raw: Raw
) -> None:
    """One stream object, 100 callers at once, a sink that reads nothing."""
    stream = make_stream(max_len=500, hard_limit=1000)
    await raw(stream.key, "XGROUP", "CREATE", stream.key, "behind", "0", "MKSTREAM")
    refused = 0

    async def add_until_full() -> None:
        nonlocal refused
        try:
            while True:
                await stream.add("e", b"")
        except StreamFull:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(add_until_full)
    assert refused == 100
    assert 1000 <= await stream.length() <= 1000 + 100


async def test_several_publishers_pass_the_hard_limit_by_a_tenth_each_at_most(
    hub: pulsewire.Hub, make_stream: MakeStream, raw: Raw
) -> None:
    make_stream(max_len=500, hard_limit=1000)
    publishers = [hub.stream("events", max_len=500, hard_limit=1000) for _ in range(4)]
    key = publishers[0].key
    await raw(key, "XGROUP", "CREATE", key, "behind", "0", "MKSTREAM")

    async def add_until_full(stream: Stream[bytes]) -> None:
        with pytest.raises(StreamFull):
            while True:
                await stream.add("e", b"")

    async with anyio.create_task_group() as tasks:
        for stream in publishers:
            tasks.start_soon(add_until_full, stream)
    assert await publishers[0].length() <= 1000 + 4 * 50


# --- time to live


async def test_ttl_counts_from_the_creation(make_stream: MakeStream, raw: Raw) -> None:
    """Later adds do not extend it."""
    stream = make_stream(ttl=100.0)
    await stream.add("e", b"")
    assert 99_000 < await raw(stream.key, "PTTL", stream.key) <= 100_000
    await raw(stream.key, "PEXPIRE", stream.key, 50_000)
    await stream.add("e", b"")
    await stream.add_many([("e", b"")] * 3)
    assert await raw(stream.key, "PTTL", stream.key) <= 50_000


async def test_sliding_ttl_counts_from_the_last_add(make_stream: MakeStream, raw: Raw) -> None:
    stream = make_stream(sliding_ttl=100.0)
    for add in (lambda: stream.add("e", b""), lambda: stream.add_many([("e", b"")] * 3)):
        await stream.add("e", b"")
        await raw(stream.key, "PEXPIRE", stream.key, 50_000)
        await add()
        assert 99_000 < await raw(stream.key, "PTTL", stream.key) <= 100_000


async def test_stream_with_a_ttl_vanishes(make_stream: MakeStream) -> None:
    stream = make_stream(ttl=0.05)
    await stream.add("e", b"")

    async def is_gone() -> bool:
        return not (await stream.info()).exists

    await wait_until(is_gone, what="the stream has vanished")


async def test_stream_that_a_sink_made_has_the_ttl_too(make_stream: MakeStream, raw: Raw) -> None:
    """Although no event was ever added; and again after it was deleted under the sink."""
    for name, options in (("absolute", {"ttl": 100.0}), ("sliding", {"sliding_ttl": 100.0})):
        stream = make_stream(name, **options)
        async with stream.sink("s", ack_grace=0.2) as sink:
            assert 90_000 < await raw(stream.key, "PTTL", stream.key) <= 100_000
            await raw(stream.key, "PEXPIRE", stream.key, 50_000)
            if name == "absolute":
                async with stream.sink("other"):
                    assert await raw(stream.key, "PTTL", stream.key) <= 50_000
            await raw(stream.key, "DEL", stream.key)
            await wait_until(lambda s=sink: s.statistics().rebuilt == 1, what="it is made again")  # type: ignore[misc]  # a default argument

            async def has_ttl(key: str = stream.key) -> bool:
                return bool(await raw(key, "PTTL", key) > 0)

            await wait_until(has_ttl, what="it has its TTL again")


# --- what is wrong is told before anything is sent


@on_one_server
@pytest.mark.parametrize(
    ("name", "payload", "options", "error"),
    [
        ("", b"", {}, InvalidName),
        (None, b"", {}, InvalidName),
        ("\ud800", b"", {}, InvalidName),
        ("e", "text", {}, TypeError),
        ("e", None, {}, TypeError),
        ("e", b"", {"topic": 5}, TypeError),
        ("e", b"", {"topic": "\ud800"}, InvalidName),
        ("e", b"", {"headers": {"k": 5}}, TypeError),
        ("e", b"", {"headers": {"": "v"}}, InvalidName),
        ("e", b"", {"headers": ["k"]}, TypeError),
        ("e", b"", {"idempotency_key": ""}, InvalidOption),
        ("e", b"", {"idempotency_key": "x" * 513}, InvalidOption),
        ("e", b"", {"idempotency_key": 5}, InvalidOption),
        ("e", b"x" * 1001, {}, PayloadTooLarge),
        ("e", b"x" * 500, {"headers": {"k": "v" * 600}}, PayloadTooLarge),
    ],
)
async def test_wrong_event_is_refused_and_nothing_is_written(
    name: Any,
    payload: Any,
    options: dict[str, Any],
    error: type[Exception],
    make_stream: MakeStream,
    raw: Raw,
) -> None:
    stream = make_stream(max_payload=1000)
    with pytest.raises(error):
        await stream.add(name, payload, **options)
    assert await is_untouched(stream, raw)
    if "idempotency_key" not in options:
        with pytest.raises(error):
            await stream.add_many([("fine", b"")] * 5 + [NewEvent(name, payload, **options)])
        assert await is_untouched(stream, raw)


async def test_too_large_event_says_how_large(make_stream: MakeStream) -> None:
    stream = make_stream(max_payload=1000)
    with pytest.raises(PayloadTooLarge) as caught:
        await stream.add("e", b"x" * 2000)
    assert (caught.value.size, caught.value.limit) == (2001, 1000)
    assert "events" in str(caught.value)
    await stream.add("e", b"x" * 999)


async def test_large_payloads_are_no_trouble(stream: Stream[bytes]) -> None:
    """A few megabytes, also many at once."""
    payload = bytes(range(256)) * 4096 * 2
    await stream.add_many([("big", payload)] * 3)
    assert [event.payload == payload for event in await stream.range()] == [True] * 3


async def test_stream_that_fills_up_is_told_before_it_is_full(
    make_stream: MakeStream, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and again when it has been emptied in between: an abandoned sink must not come as a surprise."""
    said = "the stream is filling up: a sink does not keep up, or nobody uses it any more"
    stream = make_stream(max_len=10, hard_limit=100)
    async with stream.sink("abandoned", start="oldest") as sink:
        for _ in range(2):
            for _ in range(95):
                await stream.add("e", b"")
            assert caplog.messages.count(said) == 1
            record = next(record for record in caplog.records if record.message == said)
            assert 80 <= record.__dict__["length"] < 100
            assert record.__dict__["hard_limit"] == 100
            taken = 0
            while taken < 95:
                events = await sink.read(timeout=PATIENCE)
                await sink.ack(*events)
                taken += len(events)
            await stream.trim(10)
            caplog.clear()
            for _ in range(5):
                await stream.add("e", b"")
                (event,) = await sink.read(timeout=PATIENCE)
                await event.ack()
            assert said not in caplog.messages
