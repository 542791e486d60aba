"""The defects of Pulse's streams (spec/pulse.md 5.3), one test each: we do not have them.

Each is the scene of the defect in a few lines. What stands behind it is tested in the file of its room.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
import redis.asyncio

import pulsewire
from pulsewire import Event, Sink, Stream
from pulsewire.testing import FaultProxy, SingleServer, Topology, wait_until
from tests.streaming.facts import (
    PATIENCE,
    Facts,
    MakeStream,
    Pending,
    Raw,
    add_numbered,
    names,
    numbers,
    rest,
    take,
    work_off,
)

TOPOLOGIES = ["standalone", "cluster"]
GRACE = 0.3


async def take_and_vanish(stream: Stream[bytes], raw: Raw, sink: str = "s") -> None:
    """A consumer takes everything there is and is never seen again."""
    await raw(stream.key, "XGROUP", "CREATE", stream.key, sink, "0")
    await raw(stream.key, "XREADGROUP", "GROUP", sink, "dead", "STREAMS", stream.key, ">")


async def test_s1_sink_swallows_nothing_before_somebody_consumes(stream: Stream[bytes]) -> None:
    """Go: what a sink reads before the first Subscribe reaches nobody; 3,000 of 3,000 events."""
    async with stream.sink("s", start="oldest"), stream.sink("s") as consumed:
        await add_numbered(stream, 300)
        assert names(await work_off(consumed, 300)) == numbers(300)


async def test_s2_restart_after_all_consumers_were_down_loses_nothing(
    stream: Stream[bytes], raw: Raw, pending: Pending
) -> None:
    """Go: the next sink deletes stale consumers together with their pending events."""
    await add_numbered(stream, 10)
    await take_and_vanish(stream, raw)
    ids = [event_id for event_id, *_ in await pending(stream, "s")]
    await raw(stream.key, "XCLAIM", stream.key, "s", "dead", 0, *ids, "IDLE", 10**9, "JUSTID")
    async with stream.sink("s", ack_grace=GRACE) as sink:
        assert sorted(names(await work_off(sink, 10)), key=int) == numbers(10)


async def test_s3_consumer_with_a_full_buffer_and_a_slow_handler_stays_alive(
    stream: Stream[bytes], pending: Pending
) -> None:
    """Go: a full buffer stops the heartbeat, and peers delete the live consumer."""
    await add_numbered(stream, 10)
    async with stream.sink("s", start="oldest", buffer=1, max_polled=1, ack_grace=GRACE) as slow:
        async with stream.sink("s", ack_grace=GRACE) as peer:
            async for event in slow:
                seen = names(await work_off(peer, 9))
                assert await peer.read(timeout=3 * GRACE) == []
                assert [entry[:2] for entry in await pending(stream, "s")] == [
                    (event.id, slow.consumer)
                ]
                await event.ack()
                assert sorted([event.name, *seen], key=int) == numbers(10)
                break


async def test_s4_clock_of_a_client_decides_nothing(
    stream: Stream[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go: skew between local clocks deletes live consumers with their events."""
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=60.0) as busy:
        events = await busy.read(timeout=PATIENCE)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 86_400.0)
        async with stream.sink("s", ack_grace=60.0) as skewed:
            (share,) = skewed._shares.values()
            await share.claim_once(10)
            assert skewed.statistics().claimed == 0
        await busy.ack(*events)


async def test_s5_one_missed_beat_is_not_fatal(weathered: pulsewire.Hub, proxy: FaultProxy) -> None:
    """Go: a heartbeat per grace, and a limit of two."""
    stream = weathered.stream("events", ttl=60.0)
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=1.0) as busy:
        (event,) = await busy.read(timeout=PATIENCE)

        def is_a_beat(words: Any) -> bool:
            return words[0] in (b"EVALSHA", b"EVAL") and event.id.encode() in words

        fault = proxy.inject_error(b"LOADING Redis is loading the dataset in memory", is_a_beat)
        await fault.wait_hit()
        async with stream.sink("s", ack_grace=1.0) as peer:
            assert await peer.read(timeout=1.5) == []
        assert busy.statistics().lost_to_others == 0
        await event.ack()


async def test_s6_script_flush_does_not_stop_redelivery(
    stream: Stream[bytes], topology: Topology
) -> None:
    """Go: NOSCRIPT for ever, and no event that was not acknowledged ever comes back."""
    await stream.add("e", b"")
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
        await take(sink, 1)
        for master in await topology.masters():
            await master.command("SCRIPT", "FLUSH")
        (again,) = await work_off(sink, 1)
        assert again.deliveries == 2


async def test_s7_sinks_of_one_name_do_not_compete_for_a_lease(
    make_stream: MakeStream, raw: Raw
) -> None:
    """Go: one lease per sink name, so one stream's sink claimed 20 times and the other's never."""
    one, other = make_stream("one"), make_stream("other")
    for stream in (one, other):
        await add_numbered(stream, 5)
        await take_and_vanish(stream, raw)
    async with one.sink("s", ack_grace=GRACE) as first, other.sink("s", ack_grace=GRACE) as second:
        assert sorted(names(await work_off(first, 5)), key=int) == numbers(5)
        assert sorted(names(await work_off(second, 5)), key=int) == numbers(5)


async def test_s8_destroyed_stream_neither_spins_nor_starves_the_others(
    make_stream: MakeStream, raw: Raw
) -> None:
    """Go: 13,900 calls a second on NOGROUP, the group never made again, the other streams never read."""
    well, sick = make_stream("well"), make_stream("sick")
    async with well.sink("s", start="oldest", ack_grace=GRACE) as sink:
        await sink.add_stream(sick)
        await sick.destroy()
        await well.add("well", b"")
        assert names(await work_off(sink, 1)) == ["well"]
        await sick.add("sick", b"")
        assert names(await work_off(sink, 1)) == ["sick"]
        assert sink.statistics().rebuilt == 1


async def test_s9_filtered_events_do_not_come_again(
    hub: pulsewire.Hub, stream: Stream[bytes], pending: Pending
) -> None:
    """Go: they stay pending and are claimed every grace period."""
    for number in range(20):
        await stream.add(str(number), b"", topic="ab"[number % 2])
    async with stream.sink("s", start="oldest", topic="a", ack_grace=GRACE) as sink:
        await work_off(sink, 10)
        assert await sink.read(timeout=2 * GRACE) == []
        assert await pending(stream, "s") == []
        assert sink.statistics().filtered == 10


async def test_s10_events_that_wait_in_a_consumer_are_not_claimed_from_it(
    stream: Stream[bytes],
) -> None:
    """Go: a hundred events at 20 ms with a grace of 300 ms were 169 deliveries."""
    await add_numbered(stream, 50)
    runs: list[str] = []
    async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:

        async def handle(event: Event[bytes]) -> None:
            await anyio.sleep(0.02)
            runs.append(event.name)
            if len(runs) == 50:
                sink.stop()

        await sink.consume(handle)
    assert runs == numbers(50)


async def test_s11_work_spreads_evenly(stream: Stream[bytes]) -> None:
    """Go: 3,000 events for five consumers went 2000, 1000, 0, 0, 0."""
    await add_numbered(stream, 300)
    shares = dict.fromkeys(range(5), 0)
    async with anyio.create_task_group() as tasks:

        async def consume(who: int) -> None:
            async with stream.sink("s", start="oldest") as sink:

                async def handle(event: Event[bytes]) -> None:
                    await anyio.sleep(0.01)
                    shares[who] += 1
                    if sum(shares.values()) == 300:
                        tasks.cancel_scope.cancel()

                await sink.consume(handle)

        for who in shares:
            tasks.start_soon(consume, who)
    assert all(40 <= share <= 80 for share in shares.values()), shares


async def test_s12_moment_to_start_at_is_included(stream: Stream[bytes], raw: Raw) -> None:
    """Go: `<ms>-0` is exclusive, so the event with exactly that id is skipped."""
    for entry_id in ("1000-0", "1001-0"):
        await raw(stream.key, "XADD", stream.key, entry_id, "n", entry_id, "p", "")
    start = datetime(1970, 1, 1, 0, 0, 1, 1000, UTC)
    async with stream.reader(start=start, follow=False) as reader:
        assert names(await rest(reader)) == ["1001-0"]
    async with stream.sink("s", start=start) as sink:
        assert names(await work_off(sink, 1)) == ["1001-0"]


async def test_s13_reader_stuck_on_a_full_buffer_can_be_closed(stream: Stream[bytes]) -> None:
    """Go: Close waits for the full channel, and a second Close for the mutex, for ever."""
    await add_numbered(stream, 100)
    with anyio.fail_after(PATIENCE):
        reader = stream.reader(start="oldest", buffer=1)
        async with reader:
            await wait_until(lambda: reader.statistics().buffered == 1, what="the buffer is full")
        with pytest.raises(pulsewire.Closed):
            await reader.__aexit__(None, None, None)


async def test_s14_entry_without_n_or_p_kills_nobody(stream: Stream[bytes], raw: Raw) -> None:
    """Go: it kills reader and sink, with the lock held."""
    for fields in (("n", "e"), ("p", "x"), ("something", "else")):
        await raw(stream.key, "XADD", stream.key, "*", *fields)
    await stream.add("good", b"")
    async with stream.reader(start="oldest", follow=False) as reader:
        assert names(await rest(reader)) == ["good"]
    async with stream.sink("s", start="oldest") as sink:
        assert names(await work_off(sink, 1)) == ["good"]


async def test_s15_stream_added_twice_is_read_once(
    stream: Stream[bytes], hub: pulsewire.Hub
) -> None:
    """Go: 7,571 deliveries of two events in half a second."""
    await add_numbered(stream, 2)
    async with stream.reader(start="oldest", follow=False) as reader:
        await reader.add_stream(stream)
        await reader.add_stream(hub.stream("events"))
        assert names(await rest(reader)) == numbers(2)


async def test_s16_newest_is_one_place_and_not_another_at_each_read(stream: Stream[bytes]) -> None:
    """Go: `$` is resolved at each read, and what comes in between is lost; 49 of 50."""
    await add_numbered(stream, 3)
    async with stream.reader(start="newest") as reader:
        await add_numbered(stream, 50, 3)
        assert names(await take(reader, 50)) == numbers(50, 3)


async def test_s17_events_of_a_lost_reply_come_at_once(
    weathered: pulsewire.Hub, proxy: FaultProxy
) -> None:
    """Go: own pending entries are never read again, so they wait for grace and lease."""
    stream = weathered.stream("events", ttl=60.0)
    await add_numbered(stream, 5)
    proxy.swallow_reply("XREADGROUP")
    async with stream.sink("s", start="oldest", ack_grace=3600.0) as sink:
        assert names(await work_off(sink, 5)) == numbers(5)


async def test_s18_added_stream_is_joined_properly(make_stream: MakeStream, raw: Raw) -> None:
    """Go: no consumer there, no TTL, ids twice, and a group that dead ids keep alive."""
    one, other = make_stream("one"), make_stream("other", ttl=60.0)
    async with one.sink("s") as sink:
        for _ in range(2):
            await sink.add_stream(other)
        (group,) = (await other.info()).groups
        assert [consumer.name for consumer in group.consumers] == [sink.consumer]
        assert await raw(other.key, "PTTL", other.key) > 0
        await sink.remove_stream(other)
        (group,) = (await other.info()).groups
        assert group.consumers == ()


async def test_s19_waiting_consumers_take_no_connection_from_the_user_s_pool(
    single_server: SingleServer, namespace: str
) -> None:
    """Go: with ten connections for nine consumers, a dispatch took 15 s instead of 2 ms."""
    client = redis.asyncio.Redis(port=single_server.port, max_connections=1)
    async with pulsewire.connect(client, namespace=namespace) as hub:
        streams = [hub.stream(f"s{number}", ttl=60.0) for number in range(9)]
        async with anyio.create_task_group() as tasks:
            found: list[str] = []

            async def consume(stream: Stream[bytes]) -> None:
                async with stream.reader() as reader:
                    found.extend(names(await take(reader, 1)))

            for stream in streams:
                tasks.start_soon(consume, stream)
            assert await client.ping()
            while len(found) < 9:
                for stream in streams:
                    await stream.add(stream.name, b"")
        assert await client.ping()
    await client.aclose()


async def test_s20_trimming_leaves_what_a_group_needs(make_stream: MakeStream, raw: Raw) -> None:
    """Go: MAXLEN looks at no group."""
    stream = make_stream(max_len=10)
    async with stream.sink("s", start="oldest") as sink:
        await add_numbered(stream, 1000)
        assert names(await work_off(sink, 1000)) == numbers(1000)


async def test_s21_closing_does_not_wait_for_the_block(fresh_server: SingleServer) -> None:
    """Go: Close takes as long as the block, which may be for ever. Here the server never ends it."""
    with anyio.fail_after(PATIENCE):
        async with pulsewire.connect(fresh_server.url) as hub:
            async with hub.stream("events").reader(block=3600.0) as reader:
                assert await reader.read(timeout=0.02) == []
                fresh_server.pause()
        fresh_server.resume()


async def test_s22_delivery_is_limited_and_claims_are_spread(
    stream: Stream[bytes], raw: Raw
) -> None:
    """Go: an event that cannot be handled comes for ever, and all that is claimed goes to one."""
    await add_numbered(stream, 6)
    await take_and_vanish(stream, raw)
    async with stream.sink("s", ack_grace=GRACE) as one, stream.sink("s", ack_grace=GRACE) as other:
        iterators = [aiter(one), aiter(other)]
        with anyio.fail_after(PATIENCE):
            first, second = [await anext(iterator) for iterator in iterators]
        assert first.id != second.id
        await first.ack()
        await second.ack()
    async with stream.sink("s", ack_grace=GRACE, max_deliveries=2) as sink:

        async def fail(event: Event[bytes]) -> None:
            raise ValueError

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.consume, fail)
            await wait_until(
                lambda: sink.statistics().dead_lettered == 4, what="the others are buried"
            )
            sink.stop()
    assert await stream.sibling("events.dead").length() == 4


async def test_s23_nothing_is_left_behind(
    hub: pulsewire.Hub, stream: Stream[bytes], topology: Topology, namespace: str
) -> None:
    """Go: heartbeats of consumers that are gone, and closed sinks' consumers."""
    for number in range(3):
        async with stream.sink("s", start="oldest", ack_grace=GRACE) as sink:
            await stream.add(str(number), b"")
            await work_off(sink, 1)
    (group,) = (await stream.info()).groups
    assert group.consumers == ()
    await stream.destroy()
    for master in await topology.masters():
        assert not [key for key in await master.command("KEYS", "*") if namespace.encode() in key]


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_s24_streams_of_a_cluster_share_a_reader_and_a_sink(
    make_stream: MakeStream, topology: Any
) -> None:
    """Go: several streams in one read fail with CROSSSLOT."""
    streams = [make_stream(f"s{number}") for number in range(6)]
    nodes = {(await topology.node_of(stream.key)).port for stream in streams}
    assert len(nodes) > 1
    async with streams[0].reader() as reader, streams[0].sink("s") as sink:
        for stream in streams[1:]:
            await reader.add_stream(stream)
            await sink.add_stream(stream)
        for stream in streams:
            await stream.add(stream.name, b"")
        expected = sorted(stream.name for stream in streams)
        assert sorted(names(await take(reader, 6))) == expected
        assert sorted(names(await work_off(sink, 6))) == expected


async def test_s25_retried_add_adds_once(
    weathered: pulsewire.Hub, proxy: FaultProxy, facts: Facts
) -> None:
    """Go: the client repeats an XADD whose reply was lost, and the event is there twice."""
    stream = weathered.stream("events", ttl=60.0)
    for what in ("EVALSHA", "XADD"):
        proxy.swallow_reply(what, count=3)
    ids = [await stream.add("e", b"the same") for _ in range(20)]
    assert [event.id for event in await stream.range()] == ids
    assert facts.of("write_settled")


async def test_s26_reader_and_sink_live_on_without_streams(make_stream: MakeStream) -> None:
    """Go: removing the last stream makes every read fail, for ever."""
    one, other = make_stream("one"), make_stream("other")
    await other.add("e", b"")

    async def try_out(source: pulsewire.Reader[bytes] | Sink[bytes]) -> None:
        await source.remove_stream(one)
        assert await source.read(timeout=0.02) == []
        await source.add_stream(other)
        assert names(await take(source, 1)) == ["e"]

    async with one.reader(start="oldest") as reader:
        await try_out(reader)
    async with one.sink("s", start="oldest") as sink:
        await try_out(sink)
