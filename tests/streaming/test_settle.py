"""What becomes of an add whose reply is lost: it is in the stream once, or the caller learns that nobody can tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import FIELDS, OutcomeUnknown, ServerFull, Stream
from pulsewire.streaming.positions import order_of
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.streaming.facts import Facts

SAME = b"the same payload for all: only the request ids differ"


@pytest.fixture
async def stream(weathered: pulsewire.Hub) -> AsyncIterator[Stream[bytes]]:
    """A stream behind the proxy that has credit for plain adds. Its first event is there."""
    stream = weathered.stream("events", max_len=100_000)
    await stream.add("first", b"")
    yield stream
    await stream.destroy()


async def ids_in(server: SingleServer, stream: Stream[Any]) -> list[str]:
    """What is really in the stream, without its first event."""
    entries = await server.command("XRANGE", stream.key, "-", "+")
    return [entry_id.decode() for entry_id, _ in entries][1:]


# --- the reply never comes


async def test_swallowed_reply_is_found_out(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer, facts: Facts
) -> None:
    """The server has added the event, and the connection is cut before it can say so."""
    fault = proxy.swallow_reply("XADD")
    event_id = await stream.add("e", SAME)
    assert fault.hits == 1
    assert await ids_in(single_server, stream) == [event_id]
    assert facts.of("write_settled") == [("events", True)]


async def test_silent_connection_is_given_up_and_found_out(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Nobody closes it; the server is made to, so that nothing it may still hold runs later."""
    before = await single_server.clients()
    fault = proxy.swallow_reply("XADD", then="stall")
    event_id = await stream.add("e", SAME)
    assert fault.hits == 1
    assert await ids_in(single_server, stream) == [event_id]
    after = await single_server.clients()
    assert len(after) == len(before)
    assert after.keys() != before.keys()


@pytest.mark.parametrize("then", ["cut", "stall"])
async def test_script_that_adds_is_found_out_too(
    then: Any, weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """The first add of a stream brings credit, and those of streams with a TTL are all scripts."""
    stream = weathered.stream("events", ttl=60.0)
    await stream.add("first", b"")
    fault = proxy.swallow_reply("EVALSHA", then=then)
    event_id = await stream.add("e", SAME)
    assert fault.hits == 1
    assert await ids_in(single_server, stream) == [event_id]


async def test_first_add_of_all_is_found_out(
    weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Nothing is known of the stream yet, so the search begins some time ago by the server's clock."""
    for number in range(3):
        stream = weathered.stream(f"events-{number}", ttl=60.0)
        fault = proxy.swallow_reply(lambda words: words[0] in (b"EVALSHA", b"EVAL"))
        event_id = await stream.add("e", SAME)
        assert fault.hits == 1
        entries = await single_server.command("XRANGE", stream.key, "-", "+")
        assert [entry_id.decode() for entry_id, _ in entries] == [event_id]


async def test_hundred_swallowed_replies_among_many_callers(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer, facts: Facts
) -> None:
    """All events have the same content; each caller gets the id of one, and there are no others."""
    fault = proxy.swallow_reply("XADD", count=100, every=4)
    got: list[str] = []
    order: dict[int, list[str]] = {}

    async def add(who: int) -> None:
        for _ in range(40):
            order.setdefault(who, []).append(await stream.add("e", SAME))
        got.extend(order[who])

    async with anyio.create_task_group() as tasks:
        for who in range(1, 11):
            tasks.start_soon(add, who)
    for _ in range(200):
        if fault.hits == 100:
            break
        got.append(await stream.add("e", SAME))
    assert fault.hits == 100
    assert len(got) == len(set(got))
    assert sorted(got, key=order_of) == await ids_in(single_server, stream)
    for mine in order.values():
        assert mine == sorted(mine, key=order_of)
    assert len(facts.of("write_settled")) >= 100


async def test_cut_connections_add_everything_once(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Cuts at any moment: before the command left, on its way, or before the reply came."""
    got: list[str] = []

    async def add() -> None:
        for _ in range(60):
            got.append(await stream.add("e", SAME))
            if len(got) % 7 == 0:
                proxy.cut()

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(add)
    assert len(got) == 300
    assert sorted(got, key=order_of) == await ids_in(single_server, stream)


async def test_command_that_the_server_had_not_read_is_not_carried_out_late(
    fresh_server: SingleServer, facts: Facts
) -> None:
    """A server that stood still finds the old connection's command and the new connection at once."""
    url = f"{fresh_server.url}?socket_timeout=0.2"
    async with pulsewire.connect(url, hooks=facts) as hub:
        stream = hub.stream("events", max_len=10_000)
        await stream.add("first", b"")
        for round_number in range(1, 6):
            ids: list[str] = []

            async def add(ids: list[str] = ids) -> None:
                ids.append(await stream.add("e", SAME))

            fresh_server.pause()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(add)
                tasks.start_soon(add)
                await wait_until(
                    lambda n=round_number: len(facts.of("connection_lost")) >= n,  # type: ignore[misc]  # a default argument
                    what="the silent connection was given up",
                )
                fresh_server.resume()
            assert sorted(ids, key=order_of) == (await ids_in(fresh_server, stream))[-2:]
            assert await stream.length() == 1 + 2 * round_number


async def test_restarted_server_has_everything_once(fresh_server: SingleServer) -> None:
    """Killed in the middle of many adds, and started again on its append-only file."""
    async with pulsewire.connect(fresh_server.url) as hub:
        stream = hub.stream("events", max_len=100_000)
        await stream.add("first", b"")
        got: list[str] = []

        async def add() -> None:
            for _ in range(100):
                event_id = await stream.add("e", SAME)
                got.append(event_id)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(add)
            await wait_until(lambda: len(got) > 200, what="adding is under way")
            await fresh_server.kill()
            await fresh_server.restart()
        assert len(got) == 1000
        assert sorted(got, key=order_of) == await ids_in(fresh_server, stream)


# --- many at once


@pytest.mark.parametrize("then", ["cut", "stall"])
async def test_many_are_added_once_and_in_order_through_a_lost_reply(
    then: Any, stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Those before and after the lost reply were carried out; nothing is added a second time."""

    def is_the_137th(words: Sequence[bytes]) -> bool:
        return words[0] == b"XADD" and b"number 137" in words

    fault = proxy.swallow_reply(is_the_137th, then=then)
    ids = await stream.add_many([(f"number {number}", SAME) for number in range(400)])
    assert fault.hits == 1
    assert await ids_in(single_server, stream) == ids
    names = [event.name for event in (await stream.range())[1:]]
    assert names == [f"number {number}" for number in range(400)]


async def test_many_are_added_once_and_in_order_through_many_cuts(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    fault = proxy.swallow_reply("XADD", count=3, every=307)
    ids = await stream.add_many([(f"{number}", SAME) for number in range(900)])
    assert fault.hits >= 2
    assert await ids_in(single_server, stream) == ids
    assert [event.name for event in await stream.range()] == ["first", *map(str, range(900))]


# --- under an idempotency key


@pytest.mark.parametrize("then", ["cut", "stall"])
@pytest.mark.parametrize("codec", [pulsewire.BYTES, FIELDS], ids=["pulse", "plain fields"])
async def test_add_with_a_key_is_simply_repeated(
    then: Any, codec: Any, weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Also where the entry's format belongs to somebody else."""
    stream: Stream[Any] = weathered.stream("events", codec=codec, ttl=60.0)
    name, payload = ("", {"a": "b"}) if codec is FIELDS else ("e", SAME)
    await stream.add(name, payload)
    fault = proxy.swallow_reply("EVALSHA", then=then)
    event_id = await stream.add(name, payload, idempotency_key="k")
    assert fault.hits == 1
    assert await ids_in(single_server, stream) == [event_id]


# --- only if the stream exists


async def test_lost_reply_of_an_add_that_found_no_stream(
    stream: Stream[bytes], weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """It is asked again, and there still is none."""
    await single_server.command("DEL", stream.key)
    fault = proxy.swallow_reply("XADD")
    assert await stream.add("e", SAME, only_if_exists=True) is None
    assert fault.hits == 1
    assert await single_server.command("EXISTS", stream.key) == 0


async def test_lost_reply_of_an_add_that_found_its_stream(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    proxy.swallow_reply("XADD")
    event_id = await stream.add("e", SAME, only_if_exists=True)
    assert await ids_in(single_server, stream) == [event_id]


# --- nobody can tell


async def test_plain_fields_carry_no_request_id(
    weathered: pulsewire.Hub, proxy: FaultProxy, single_server: SingleServer
) -> None:
    """The error says so, the event is not sent again, and an idempotency key is the advice."""
    stream = weathered.stream("tickets", codec=FIELDS, ttl=60.0)
    await stream.add("", {"a": "b"})
    proxy.swallow_reply("EVALSHA")
    with pytest.raises(OutcomeUnknown, match="idempotency_key") as caught:
        await stream.add("", {"a": "b"})
    assert caught.value.command == "EVALSHA"
    assert len(await ids_in(single_server, stream)) == 1


async def test_user_without_the_rights_learns_which_ones_are_needed(
    fresh_server: SingleServer,
) -> None:
    await fresh_server.command(
        *("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all"),
        *("-client|list", "-client|kill"),
    )
    async with FaultProxy(fresh_server) as proxy:
        url = proxy.url.replace("redis://", "redis://limited:secret@")
        async with pulsewire.connect(url) as hub:
            stream = hub.stream("events", max_len=10_000)
            await stream.add("first", b"")
            proxy.swallow_reply("XADD")
            with pytest.raises(OutcomeUnknown, match=r"\+client\|list \+client\|kill"):
                await stream.add("e", SAME)
            assert len(await ids_in(fresh_server, stream)) == 1
            await stream.add("e", SAME)
            assert len(await ids_in(fresh_server, stream)) == 2


@pytest.mark.parametrize("how", ["the entry removed", "all entries removed", "trimmed"])
async def test_entries_that_went_meanwhile_make_it_unknowable(
    how: str, stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Not finding it proves nothing then; it is not added a second time."""
    fault = proxy.swallow_reply("XADD", then="stall")

    async def take_away() -> None:
        await fault.wait_hit()
        if how == "trimmed":
            await single_server.command("XTRIM", stream.key, "MAXLEN", 0)
            return
        ids = await ids_in(single_server, stream)
        if how == "all entries removed":
            entries = await single_server.command("XRANGE", stream.key, "-", "+")
            ids = [entry_id.decode() for entry_id, _ in entries]
        await single_server.command("XDEL", stream.key, *ids)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_away)
        with pytest.raises(OutcomeUnknown):
            await stream.add("e", SAME)
    assert await ids_in(single_server, stream) == []


async def test_entries_that_went_long_before_do_not_matter(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """Only what could have been the lost one counts."""
    ids = [await stream.add("e", SAME) for _ in range(5)]
    await stream.remove(*ids[:3])
    last = await stream.add("e", SAME)
    proxy.swallow_reply("XADD")
    event_id = await stream.add("e", SAME)
    assert await ids_in(single_server, stream) == [*ids[3:], last, event_id]


# --- the server says no


@pytest.mark.parametrize(
    "refusal",
    [
        b"LOADING Redis is loading the dataset in memory",
        b"READONLY You can't write against a read only replica.",
        b"MASTERDOWN Link with MASTER is down",
        b"NOREPLICAS Not enough good replicas to write.",
        b"BUSY Redis is busy running a script.",
        b"TRYAGAIN Multiple keys request during rehashing of slot",
        b"CLUSTERDOWN The cluster is down",
    ],
    ids=lambda refusal: refusal.split()[0].decode(),
)
async def test_passing_refusal_is_waited_out(
    refusal: bytes, stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    """One event and many, in order."""
    fault = proxy.inject_error(refusal, "XADD", count=3)
    ids = [await stream.add("e", SAME)]
    ids += await stream.add_many([("e", SAME)] * 5)
    assert fault.hits == 3
    assert await ids_in(single_server, stream) == sorted(ids, key=order_of) == ids


async def test_full_server_is_said_as_such_and_nothing_is_written(
    stream: Stream[bytes], proxy: FaultProxy, single_server: SingleServer
) -> None:
    proxy.inject_error(b"OOM command not allowed when used memory > 'maxmemory'.", "XADD")
    with pytest.raises(ServerFull):
        await stream.add("e", SAME)
    assert await ids_in(single_server, stream) == []


async def test_forgotten_scripts_are_sent_again(
    weathered: pulsewire.Hub, single_server: SingleServer
) -> None:
    """SCRIPT FLUSH, or a server that was replaced (S6)."""
    stream = weathered.stream("events", ttl=60.0)
    for number in range(3):
        await single_server.command("SCRIPT", "FLUSH")
        await stream.add("e", SAME)
        assert await stream.length() == number + 1
