"""The joiner: many callers on one connection, in order, whatever happens to them or to it."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire._core.tasks import check_loop
from pulsewire._redis import pipeline
from pulsewire._redis.pipeline import MAX_IN_FLIGHT, Command, JoinedConnection, bulk
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import ConnectionLost, ServerUnavailable
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests._redis.kit import (
    Conversation,
    ManualLoop,
    RecordingTransport,
    StubServer,
    Words,
    manual_connection,
    opened_connection,
    opened_link,
)

CALLERS = 1000


@pytest.fixture(autouse=True)
def manual_loops_count_as_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their time is the test's; otherwise a connection belongs to the loop that runs."""

    def check_real(owner: asyncio.AbstractEventLoop) -> None:
        if not isinstance(owner, ManualLoop):
            check_loop(owner)

    monkeypatch.setattr(pipeline, "check_loop", check_real)


@pytest.fixture
async def connection(single_server: SingleServer) -> AsyncIterator[JoinedConnection]:
    async with opened_connection(single_server.url) as opened:
        yield opened


@pytest.fixture
async def proxy(single_server: SingleServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(single_server) as between:
        yield between


def record(connection: JoinedConnection) -> RecordingTransport:
    """Count what the connection writes from now on."""
    white_box: Any = connection
    white_box._transport = RecordingTransport(white_box._transport)
    recorder: RecordingTransport = white_box._transport
    return recorder


async def outcome(future: asyncio.Future[Any]) -> Any:
    """The reply, or the error."""
    try:
        return await future
    except (ReplyError, ConnectionLost) as error:
        return error


# --- joining


async def test_a_thousand_concurrent_callers_get_their_own_replies(
    connection: JoinedConnection,
) -> None:
    async def ask(number: int) -> bool:
        return bool(await connection.submit(("ECHO", f"caller {number}")) == b"caller %d" % number)

    assert all(await asyncio.gather(*(ask(number) for number in range(CALLERS))))
    assert connection.in_flight == 0


async def test_commands_of_one_loop_turn_leave_in_one_write(connection: JoinedConnection) -> None:
    """A thousand callers, one system call."""
    recorder = record(connection)
    replies = await asyncio.gather(
        *(connection.submit(("ECHO", str(number))) for number in range(CALLERS))
    )
    assert len(recorder.writes) == 1
    assert replies == [b"%d" % number for number in range(CALLERS)]


async def test_commands_of_three_turns_leave_in_three_writes(connection: JoinedConnection) -> None:
    """A command waits for its own turn to end, and no longer."""
    recorder = record(connection)
    futures = []
    for turn in range(3):
        futures += [connection.submit(("ECHO", f"{turn}.{number}")) for number in range(10)]
        await asyncio.sleep(0)
    await asyncio.gather(*futures)
    assert len(recorder.writes) == 3
    assert [data.count(b"ECHO") for data in recorder.writes] == [10, 10, 10]


async def test_error_reply_fails_its_own_caller_alone(
    connection: JoinedConnection, single_server: SingleServer
) -> None:
    """Even amid a thousand others in the same write."""
    futures = [
        connection.submit(("ECHO",) if number == 500 else ("ECHO", str(number)))
        for number in range(CALLERS)
    ]
    results = [await outcome(future) for future in futures]
    failed = results.pop(500)
    assert isinstance(failed, ReplyError)
    assert failed.code == "ERR"
    assert "wrong number of arguments" in failed.text
    assert results == [b"%d" % number for number in range(CALLERS) if number != 500]


async def test_error_inside_an_array_stays_inside(connection: JoinedConnection) -> None:
    """EXEC answers with the errors of single commands among its replies."""
    commands = (
        ("MULTI",),
        ("ECHO", "a"),
        ("EVAL", "return redis.error_reply('MY no')", "0"),
        ("EXEC",),
    )
    futures = [connection.submit(command) for command in commands]
    first, failed = (await asyncio.gather(*futures))[-1]
    assert first == b"a"
    assert isinstance(failed, ReplyError)
    assert failed.code == "MY"


@pytest.mark.parametrize(
    ("argument", "echoed"),
    [
        ("größe", "größe".encode()),
        (b"\x00\xff\r\n$-1\r\n", b"\x00\xff\r\n$-1\r\n"),
        ("", b""),
        (7, b"7"),
        (-1.5, b"-1.5"),
    ],
)
async def test_argument_arrives_byte_for_byte(
    connection: JoinedConnection, argument: Any, echoed: bytes
) -> None:
    assert await connection.submit(("ECHO", argument)) == echoed


@given(
    st.lists(
        st.binary() | st.text(st.characters(exclude_categories=["Cs"])) | st.integers(), min_size=1
    )
)
def test_words_that_their_owner_packs_travel_as_those_that_hiredis_packs(words: list[Any]) -> None:
    assert b"*%d\r\n%b" % (len(words), bulk(*words)) == hiredis.pack_command(tuple(words))


async def test_packed_commands_travel_among_the_others(connection: JoinedConnection) -> None:
    packed = b"*2\r\n" + bulk("ECHO", b"packed\x00\r\n")
    commands: list[Command] = [("ECHO", "a"), packed, ("ECHO", "b"), packed]
    replies = await asyncio.gather(*(connection.submit(command) for command in commands))
    assert list(replies) == [b"a", b"packed\x00\r\n", b"b", b"packed\x00\r\n"]


async def test_argument_of_a_wrong_type_is_refused_before_anything_is_remembered(
    connection: JoinedConnection,
) -> None:
    """The next caller gets his own reply."""
    wrong: Any = object()
    with pytest.raises(TypeError):
        connection.submit_unheard(("ECHO", wrong))
    assert connection.in_flight == 0
    assert await connection.submit(("ECHO", "next")) == b"next"


async def test_reply_of_megabytes_is_put_together(connection: JoinedConnection) -> None:
    """It comes in many pieces, and replies before and after it stay whole."""
    big = random.Random(1).randbytes(5_000_000)
    replies = await asyncio.gather(
        *(connection.submit(("ECHO", word)) for word in (b"before", big, b"after"))
    )
    assert replies == [b"before", big, b"after"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("string", b"Hello World"),
        ("integer", 12345),
        ("double", 3.141),
        ("null", None),
        ("array", [0, 1, 2]),
        ("set", [0, 1, 2]),
        ("map", {0: False, 1: True, 2: False}),
        ("true", True),
        ("false", False),
        ("verbatim", b"This is a verbatim\nstring"),
    ],
)
async def test_each_type_of_resp3_has_its_value(
    connection: JoinedConnection, kind: str, expected: Any
) -> None:
    """False is a value like others, not the sign that data is missing."""
    first = connection.submit(("DEBUG", "PROTOCOL", kind))
    second = connection.submit(("ECHO", "next"))
    value = await first
    assert (sorted(value) if isinstance(value, set) else value) == expected
    assert await second == b"next"


# --- cancelled callers


async def test_cancelled_caller_does_not_disturb_its_neighbours(
    connection: JoinedConnection,
) -> None:
    """Its reply is swallowed in its place."""
    futures = [connection.submit(("ECHO", str(number))) for number in range(10)]
    for future in futures[::2]:
        future.cancel()
    assert [await future for future in futures[1::2]] == [b"1", b"3", b"5", b"7", b"9"]
    assert connection.in_flight == 0


async def test_hundred_thousand_random_cancellations_cross_no_reply_and_lose_no_connection(
    single_server: SingleServer,
) -> None:
    """Callers are cancelled before their command leaves, while it is under way, and when the reply is there."""
    wanted, chance = 100_000, random.Random(2024)
    cancelled = answered = number = 0
    async with opened_link(single_server.url) as link:

        async def ask(unique: bytes) -> None:
            nonlocal answered
            assert await link.call("k", "ECHO", unique) == unique
            answered += 1

        before = single_server_connections(await single_server.clients())
        while cancelled < wanted:
            tasks = []
            for _ in range(500):
                number += 1
                tasks.append(asyncio.create_task(ask(b"question %d" % number)))
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            for task in chance.sample(tasks, 450):
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, asyncio.CancelledError):
                    cancelled += 1
                else:
                    assert result is None, result
        assert single_server_connections(await single_server.clients()) == before
        assert await link.call("k", "ECHO", "end") == b"end"
    assert answered > 5_000


def single_server_connections(clients: dict[int, str]) -> set[int]:
    """The ids of joined connections."""
    return {number for number, line in clients.items() if "name=pulsewire:" in line}


# --- memory


async def test_connection_keeps_no_future_that_is_settled(connection: JoinedConnection) -> None:
    """Whether it was answered, refused, cancelled or unheard."""
    answered = connection.submit(("ECHO", "a"))
    refused = connection.submit(("ECHO",))
    cancelled = connection.submit(("ECHO", "b"))
    cancelled.cancel()
    connection.submit_unheard(("ECHO",))
    await outcome(answered)
    await outcome(refused)
    await connection.submit(("ECHO", "last"))
    references = [weakref.ref(future) for future in (answered, refused, cancelled)]
    del answered, refused, cancelled
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]
    assert connection.in_flight == 0


async def test_unheard_error_is_not_reported_as_forgotten(connection: JoinedConnection) -> None:
    """The loop's exception handler would be called for it."""
    reports: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    try:
        connection.submit_unheard(("NO-SUCH-COMMAND",))
        await connection.submit(("ECHO", "x"))
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert reports == []


# --- back-pressure


async def test_connection_is_congested_while_too_many_replies_are_outstanding(
    proxy: FaultProxy,
) -> None:
    """Whoever asks for room waits until replies come."""
    async with opened_connection(proxy.url) as connection:
        proxy.stall("to_client")
        futures = [connection.submit(("PING",)) for _ in range(MAX_IN_FLIGHT - 1)]
        assert not connection.is_congested
        futures.append(connection.submit(("PING",)))
        assert connection.is_congested
        async with anyio.create_task_group() as group:
            group.start_soon(connection.room)
            await anyio.wait_all_tasks_blocked()
            proxy.resume()
        assert not connection.is_congested
        assert set(await asyncio.gather(*futures)) == {b"PONG"}


async def test_connection_is_congested_while_the_socket_takes_no_more(proxy: FaultProxy) -> None:
    """A few large commands are as much as many small ones."""
    async with opened_connection(proxy.url) as connection:
        proxy.stall("to_server")
        payload, futures = bytes(1 << 20), []
        while not connection.is_congested:
            futures.append(connection.submit(("ECHO", payload)))
            await asyncio.sleep(0)
        assert len(futures) < 100
        async with anyio.create_task_group() as group:
            group.start_soon(connection.room)
            await anyio.wait_all_tasks_blocked()
            proxy.resume()
        assert set(await asyncio.gather(*futures)) == {payload}
        assert not connection.is_congested


async def test_callers_of_a_link_wait_for_room(proxy: FaultProxy) -> None:
    """More callers than may be in flight: none is refused, and never are more than that outstanding."""
    async with opened_link(proxy.url) as link:
        connection = await link.connection_for("k")
        most = 0

        async def ask(number: int) -> bool:
            nonlocal most
            reply = await link.call("k", "ECHO", str(number))
            most = max(most, connection.in_flight)
            return bool(reply == b"%d" % number)

        proxy.stall("to_client")
        tasks = [asyncio.create_task(ask(number)) for number in range(MAX_IN_FLIGHT + 2000)]
        await wait_until(lambda: connection.is_congested, what="the connection is congested")
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.in_flight == MAX_IN_FLIGHT
        proxy.resume()
        assert all(await asyncio.gather(*tasks))
        assert most <= MAX_IN_FLIGHT


async def test_those_who_wait_for_room_come_before_those_who_ask_again(
    single_server: SingleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers who fill the connection and call again at once do not keep the others out."""
    monkeypatch.setattr("pulsewire._redis.pipeline.MAX_IN_FLIGHT", 10)
    async with opened_link(single_server.url) as link:
        connection, ended, most = await link.connection_for("k"), False, 0

        async def call_again_and_again() -> None:
            nonlocal most
            while not ended:
                await link.call("k", "ECHO", "greedy")
                most = max(most, connection.in_flight)

        greedy = [asyncio.create_task(call_again_and_again()) for _ in range(40)]
        await wait_until(lambda: connection.is_congested, what="the connection is full")
        try:
            with anyio.fail_after(10.0):
                late = [asyncio.create_task(link.call("k", "ECHO", f"{n}")) for n in range(50)]
                for task in late[::5]:
                    await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait(late)
        finally:
            ended = True
            await asyncio.gather(*greedy)
        for number, task in enumerate(late):
            assert task.cancelled() or task.result() == b"%d" % number
        assert most <= 10
        assert not connection.is_congested


async def test_place_of_a_caller_who_was_let_in_and_left_goes_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled between being let in and going in, with no reply outstanding that would wake the others."""
    monkeypatch.setattr("pulsewire._redis.pipeline.MAX_IN_FLIGHT", 2)
    connection, loop, _ = manual_connection()
    first = [connection.submit(("PING",)) for _ in range(2)]
    loop.turn()
    waiting = [asyncio.create_task(connection.room()) for _ in range(5)]
    await anyio.wait_all_tasks_blocked()
    connection.data_received(b"+PONG\r\n+PONG\r\n")
    for task in waiting[:3]:  # two were let in, the third was not
        task.cancel()
    with anyio.fail_after(10.0):
        while not all(task.done() for task in waiting):
            await asyncio.sleep(0)
            loop.turn()
    assert [task.cancelled() for task in waiting] == [True, True, True, False, False]
    assert await asyncio.gather(*first) == [b"PONG", b"PONG"]
    assert not connection.is_congested


async def test_whoever_waits_for_room_learns_that_the_connection_is_lost() -> None:
    connection, _, _ = manual_connection()
    connection.pause_writing()
    async with anyio.create_task_group() as group:
        group.start_soon(connection.room)
        await anyio.wait_all_tasks_blocked()
        connection.lose("pulled")
    assert not connection.is_usable


# --- silence


async def test_silent_connection_is_given_up_and_every_caller_learns_that_it_was_sent(
    proxy: FaultProxy,
) -> None:
    """A black hole: nothing comes, nothing closes."""
    lost: list[tuple[str, int]] = []
    async with opened_connection(
        proxy.url, silence=0.3, on_lost=lambda _c, reason, count: lost.append((reason, count))
    ) as connection:
        proxy.stall()
        futures = [connection.submit(("ECHO", str(number))) for number in range(10)]
        errors = [await outcome(future) for future in futures]
        assert all(isinstance(error, ConnectionLost) and error.was_sent for error in errors)
        assert "no reply for 0.3 s" in str(errors[0])
        assert lost == [("no reply for 0.3 s", 10)]
        assert not connection.is_usable


async def test_command_that_had_not_left_when_the_connection_went_was_not_sent() -> None:
    """It may be sent again without a second thought, the others may not."""
    connection, loop, transport = manual_connection()
    sent = [connection.submit(("ECHO", "sent")) for _ in range(2)]
    loop.turn()
    unsent = [connection.submit(("ECHO", "unsent")) for _ in range(3)]
    connection.lose("pulled")
    loop.turn()
    assert len(transport.writes) == 1
    errors = [await outcome(future) for future in (*sent, *unsent)]
    assert [error.was_sent for error in errors] == [True, True, False, False, False]


async def test_cancelled_callers_do_not_blur_what_was_sent() -> None:
    """The count is of commands, not of callers who still wait."""
    connection, loop, _ = manual_connection()
    sent = [connection.submit(("ECHO", "sent")) for _ in range(3)]
    loop.turn()
    unsent = [connection.submit(("ECHO", "unsent")) for _ in range(3)]
    for future in (sent[0], sent[2], unsent[0]):
        future.cancel()
    connection.lose("pulled")
    kept = [await outcome(future) for future in (sent[1], unsent[1], unsent[2])]
    assert [error.was_sent for error in kept] == [True, False, False]


async def test_lost_connection_takes_no_more_commands() -> None:
    connection, _, transport = manual_connection()
    connection.lose("pulled")
    with pytest.raises(ConnectionLost, match="pulled") as caught:
        await connection.submit(("PING",))
    assert caught.value.was_sent is False
    assert transport.is_aborted
    assert transport.writes == []


async def test_connection_is_lost_once() -> None:
    """The first reason counts, and is reported once."""
    lost: list[str] = []
    connection, _, _ = manual_connection(on_lost=lambda _c, reason, _n: lost.append(reason))
    connection.lose("first")
    connection.lose("second")
    connection.eof_received()
    connection.connection_lost(None)
    assert lost == ["first"]


async def test_silence_begins_with_the_first_command_that_waits() -> None:
    """An idle connection is not silent, however long it idles."""
    connection, loop, _ = manual_connection(silence=4.0)
    loop.advance(1000.0)
    future = connection.submit(("PING",))
    loop.turn()
    loop.advance(3.9)
    assert connection.is_usable
    connection.data_received(b"+PONG\r\n")
    assert await future == b"PONG"
    loop.advance(1000.0)
    assert connection.is_usable
    future = connection.submit(("PING",))
    loop.turn()
    loop.advance(3.9)
    assert connection.is_usable
    loop.advance(0.2)
    assert not connection.is_usable
    assert isinstance(await outcome(future), ConnectionLost)


async def test_replies_that_come_slowly_but_steadily_are_not_silence() -> None:
    """The last of twenty waits far longer than the limit; each reply is progress."""
    connection, loop, _ = manual_connection(silence=4.0)
    futures = [connection.submit(("PING",)) for _ in range(20)]
    loop.turn()
    for _ in futures:
        loop.advance(3.0)
        connection.data_received(b"+PONG\r\n")
    assert [await future for future in futures] == [b"PONG"] * 20
    assert connection.is_usable


async def test_more_commands_do_not_keep_a_silent_connection_alive() -> None:
    """Only what comes in is a sign of life."""
    connection, loop, _ = manual_connection(silence=4.0)
    futures = [connection.submit(("PING",))]
    loop.turn()
    for _ in range(3):
        loop.advance(1.5)
        if connection.is_usable:
            futures.append(connection.submit(("PING",)))
            loop.turn()
    assert not connection.is_usable
    for future in futures:
        await outcome(future)


async def test_connection_needs_one_timer_and_none_while_it_idles() -> None:
    connection, loop, _ = manual_connection(silence=4.0)
    assert loop.timers == 0
    futures = []
    for _ in range(100):
        futures.append(connection.submit(("PING",)))
        loop.turn()
    assert loop.timers == 1
    connection.data_received(b"+PONG\r\n" * 100)
    loop.advance(10.0)
    assert loop.timers == 0
    assert [await future for future in futures] == [b"PONG"] * 100


async def test_event_loop_that_stood_still_is_not_the_servers_silence(
    single_server: SingleServer,
) -> None:
    """Something in this process blocked the loop; the reply was there all the time."""
    async with opened_connection(single_server.url, silence=0.2) as connection:
        for _ in range(3):
            future = connection.submit(("ECHO", "there"))
            await asyncio.sleep(0)
            time.sleep(0.5)
            assert await future == b"there"


# --- pushes


async def test_pushes_do_not_disturb_replies(single_server: SingleServer) -> None:
    """Invalidation messages come between the replies and go to their own callback."""
    pushes: list[Any] = []
    async with (
        opened_connection(single_server.url, on_push=pushes.append) as connection,
        opened_connection(single_server.url) as writer,
    ):
        await connection.submit(("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "pushed:"))
        for turn in range(20):
            futures = [connection.submit(("ECHO", f"{turn}.{n}")) for n in range(50)]
            await writer.submit(("SET", f"pushed:{turn}", "x", "EX", 60))
            assert await asyncio.gather(*futures) == [b"%d.%d" % (turn, n) for n in range(50)]
        await wait_until(lambda: len(pushes) >= 20, what="every write was pushed")
        keys = {key for push in pushes for key in push[1]}
        assert keys == {b"pushed:%d" % turn for turn in range(20)}
        await writer.submit(("DEL", *(f"pushed:{turn}" for turn in range(20))))


async def test_pushes_that_nobody_wants_are_dropped(single_server: SingleServer) -> None:
    async with opened_connection(single_server.url) as connection:
        await connection.submit(("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "pushed:"))
        await connection.submit(("SET", "pushed:a", "x", "EX", 60))
        await connection.submit(("DEL", "pushed:a"))
        assert await connection.submit(("ECHO", "x")) == b"x"


async def test_push_callback_may_drop_the_connection() -> None:
    """In the middle of what has just come in: the outstanding ones fail, nothing else breaks."""
    dropped: JoinedConnection
    dropped, loop, _ = manual_connection(on_push=lambda push: dropped.lose("told to"))
    futures = [dropped.submit(("PING",)) for _ in range(3)]
    loop.turn()
    dropped.data_received(b"+PONG\r\n>2\r\n+stop\r\n+now\r\n+PONG\r\n")
    assert await futures[0] == b"PONG"
    for future in futures[1:]:
        assert isinstance(await outcome(future), ConnectionLost)


# --- commands whose reply is heard in its place, and subscriptions


async def test_reply_is_heard_between_the_pushes_it_came_between() -> None:
    """At once, while the callbacks of a future run only after all that came together."""
    order: list[str] = []
    connection, loop, _ = manual_connection(on_push=lambda push: order.append(push[1].decode()))
    before = connection.submit(("PING",))
    before.add_done_callback(lambda _: order.append("future"))
    connection.submit_with(("PING",), lambda reply: order.append(f"heard {reply.decode()}"))
    after = connection.submit(("PING",))
    loop.turn()
    connection.data_received(
        b"+one\r\n>2\r\n+m\r\n+first\r\n+two\r\n>2\r\n+m\r\n+last\r\n+three\r\n"
    )
    assert order == ["first", "heard two", "last"]
    assert (await before, await after) == (b"one", b"three")
    await asyncio.sleep(0)
    assert order[3:] == ["future"]
    assert connection.in_flight == 0


async def test_commands_to_be_heard_leave_with_the_others_in_order(
    connection: JoinedConnection,
) -> None:
    recorder, heard = record(connection), list[bytes]()
    futures = []
    for number in range(100):
        futures.append(connection.submit(("ECHO", f"future {number}")))
        connection.submit_with(("ECHO", f"heard {number}"), heard.append)
    assert await asyncio.gather(*futures) == [b"future %d" % number for number in range(100)]
    await connection.submit(("PING",))
    assert heard == [b"heard %d" % number for number in range(100)]
    assert len(recorder.writes) == 2


async def test_error_reply_is_heard_too(connection: JoinedConnection) -> None:
    heard: list[Any] = []
    connection.submit_with(("ECHO",), heard.append)
    assert await connection.submit(("ECHO", "next")) == b"next"
    (error,) = heard
    assert isinstance(error, ReplyError)
    assert "wrong number of arguments" in error.text


async def test_loss_is_heard_with_whether_the_command_had_left() -> None:
    heard: list[Any] = []
    connection, loop, _ = manual_connection()
    connection.submit_with(("PING",), heard.append)
    loop.turn()
    connection.submit_with(("PING",), heard.append)
    connection.lose("pulled")
    assert [(type(error), error.was_sent) for error in heard] == [
        (ConnectionLost, True),
        (ConnectionLost, False),
    ]
    with pytest.raises(ConnectionLost, match="pulled"):
        connection.submit_with(("PING",), heard.append)
    assert len(heard) == 2


async def test_subscription_is_confirmed_in_its_place_among_the_replies(
    single_server: SingleServer,
) -> None:
    """What is published before and after travels on the same connection and confirms nothing."""
    pushes: list[Any] = []
    async with opened_connection(single_server.url, on_push=pushes.append) as connection:
        first = connection.submit_subscription("SUBSCRIBE", "joiner-a")
        echo = connection.submit(("ECHO", "between"))
        published = connection.submit(("PUBLISH", "joiner-a", "message"))
        second = connection.submit_subscription("SUBSCRIBE", "joiner-b")
        last = connection.submit(("ECHO", "last"))
        assert list(await first) == [b"subscribe", b"joiner-a", 1]
        assert (await echo, await published) == (b"between", 1)
        assert list(await second) == [b"subscribe", b"joiner-b", 2]
        assert await last == b"last"
        assert [list(push) for push in pushes] == [[b"message", b"joiner-a", b"message"]]
        gone = connection.submit_subscription("UNSUBSCRIBE", "joiner-a")
        assert list(await gone) == [b"unsubscribe", b"joiner-a", 1]
        assert len(pushes) == 1
        assert connection.in_flight == 0


async def test_refused_subscription_fails_alone(fresh_server: SingleServer) -> None:
    """The replies around it, and the confirmations behind it, find their own callers."""
    rights = ("+@all", "~*", "resetchannels", "&allowed")
    await fresh_server.command("ACL", "SETUSER", "u", "on", ">pw", *rights)
    async with opened_connection(fresh_server.url.replace("://", "://u:pw@")) as connection:
        refused = connection.submit_subscription("SUBSCRIBE", "forbidden")
        echo = connection.submit(("ECHO", "next"))
        allowed = connection.submit_subscription("SUBSCRIBE", "allowed")
        error = await outcome(refused)
        assert isinstance(error, ReplyError)
        assert error.code == "NOPERM"
        assert await echo == b"next"
        assert list(await allowed) == [b"subscribe", b"allowed", 1]
        assert connection.in_flight == 0


async def test_cancelled_subscription_leaves_its_confirmation_to_nobody(
    single_server: SingleServer,
) -> None:
    """It is swallowed in its place, like any reply."""
    pushes: list[Any] = []
    async with opened_connection(single_server.url, on_push=pushes.append) as connection:
        connection.submit_subscription("SUBSCRIBE", "joiner-c").cancel()
        again = connection.submit_subscription("SUBSCRIBE", "joiner-c")
        assert await connection.submit(("ECHO", "next")) == b"next"
        assert list(await again) == [b"subscribe", b"joiner-c", 1]
        assert pushes == []
        assert connection.in_flight == 0


async def test_push_of_the_servers_own_accord_confirms_nothing() -> None:
    """A cluster says `sunsubscribe` when a slot moves away; that is no reply to what waits here."""
    pushes: list[Any] = []
    connection, loop, _ = manual_connection(on_push=lambda push: pushes.append(list(push)))
    echo = connection.submit(("PING",))
    confirmed = connection.submit_subscription("SSUBSCRIBE", "a")
    loop.turn()
    connection.data_received(b">3\r\n+sunsubscribe\r\n+a\r\n:0\r\n")  # before its turn
    connection.data_received(b"+PONG\r\n>3\r\n+sunsubscribe\r\n+b\r\n:0\r\n")
    assert not confirmed.done()
    connection.data_received(b">3\r\n+ssubscribe\r\n+a\r\n:1\r\n")
    assert list(await confirmed) == [b"ssubscribe", b"a", 1]
    assert await echo == b"PONG"
    assert pushes == [[b"sunsubscribe", b"a", 0], [b"sunsubscribe", b"b", 0]]


async def test_subscription_that_was_not_confirmed_learns_of_the_loss() -> None:
    connection, loop, _ = manual_connection()
    sent = connection.submit_subscription("SUBSCRIBE", "a")
    loop.turn()
    unsent = connection.submit_subscription("SUBSCRIBE", "b")
    connection.lose("pulled")
    errors = [await outcome(future) for future in (sent, unsent)]
    assert [error.was_sent for error in errors] == [True, False]
    with pytest.raises(ConnectionLost, match="pulled"):
        await connection.submit_subscription("SUBSCRIBE", "c")


# --- ends


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_cut_connection_fails_every_caller_at_once(proxy: FaultProxy, how: Any) -> None:
    async with opened_connection(proxy.url, silence=3600.0) as connection:
        proxy.stall("to_client")
        futures = [connection.submit(("ECHO", str(number))) for number in range(100)]
        await wait_until(
            lambda: proxy.statistics().commands.get("ECHO", 0) == 100, what="the commands left"
        )
        proxy.cut(how)
        errors = [await outcome(future) for future in futures]
        assert all(isinstance(error, ConnectionLost) and error.was_sent for error in errors)


async def test_connection_that_the_server_kills_is_noticed_while_idle(
    single_server: SingleServer,
) -> None:
    lost: list[str] = []
    async with opened_connection(
        single_server.url, on_lost=lambda _c, reason, _n: lost.append(reason)
    ) as connection:
        await single_server.command("CLIENT", "KILL", "ID", connection.client_id)
        await wait_until(lambda: bool(lost), what="the connection is lost")
        assert not connection.is_usable


async def test_retired_connection_finishes_what_it_has_begun(single_server: SingleServer) -> None:
    """Then it closes by itself; the server sees it go."""
    lost: list[str] = []
    async with opened_connection(
        single_server.url, on_lost=lambda _c, reason, _n: lost.append(reason)
    ) as connection:
        futures = [connection.submit(("ECHO", str(number))) for number in range(100)]
        connection.retire()
        assert not connection.is_usable
        assert lost == []
        assert await asyncio.gather(*futures) == [b"%d" % number for number in range(100)]
        assert lost == ["retired"]
        number = connection.client_id

        async def is_gone() -> bool:
            return number not in await single_server.clients()

        await wait_until(is_gone, what="the connection is closed")


async def test_retiring_an_idle_connection_closes_it() -> None:
    connection, _, transport = manual_connection()
    connection.retire()
    assert transport.is_aborted


# --- what is no Redis


@pytest.mark.parametrize(
    "rubbish",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"*-5\r\n",
        b"$abc\r\n",
        bytes(1000),
    ],
)
async def test_rubbish_is_a_clear_loss(rubbish: bytes) -> None:
    """Every caller learns it at once; nobody waits for the rest of it."""

    def answer(words: Words, conversation: Conversation) -> bytes | None:
        return rubbish if words[0] == b"PING" else None

    async with (
        StubServer(answer) as stub,
        opened_connection(stub.url, silence=3600.0) as connection,
    ):
        futures = [connection.submit(("PING",)), connection.submit(("ECHO", "x"))]
        for future in futures:
            error = await outcome(future)
            assert isinstance(error, ConnectionLost)
            assert "no Redis protocol" in str(error)


async def test_reply_that_nobody_asked_for_is_a_clear_loss() -> None:
    """From here on replies and callers cannot be matched."""
    connection, loop, _ = manual_connection()
    future = connection.submit(("PING",))
    loop.turn()
    connection.data_received(b"+PONG\r\n+PONG\r\n")
    assert await future == b"PONG"
    with pytest.raises(ConnectionLost, match="nobody had asked"):
        await connection.submit(("PING",))


async def test_reply_that_python_cannot_hold_is_a_clear_loss() -> None:
    """A set of arrays, for one: no hang and no crossed reply."""

    def answer(words: Words, conversation: Conversation) -> bytes | None:
        return b"%1\r\n*1\r\n:1\r\n:2\r\n" if words[0] == b"PING" else None

    async with (
        StubServer(answer) as stub,
        opened_connection(stub.url, silence=3600.0) as connection,
    ):
        assert isinstance(await outcome(connection.submit(("PING",))), ConnectionLost)


@pytest.mark.parametrize(
    "rubbish", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n", b"*0\r\n", b"%0\r\n"]
)
async def test_rubbish_instead_of_a_greeting_is_a_server_that_cannot_be_used(
    rubbish: bytes,
) -> None:
    async with StubServer(lambda words, conversation: rubbish) as stub:
        with pytest.raises(ServerUnavailable):
            async with opened_connection(stub.url):
                pass


async def test_server_that_accepts_and_says_nothing_does_not_hang_the_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pulsewire._redis.opening.CONNECT_TIMEOUT", 0.1)

    def silence(words: Words, conversation: Conversation) -> bytes | None:
        return b""

    async with StubServer(silence) as stub:
        with pytest.raises(ServerUnavailable, match="handshake took too long"):
            async with opened_connection(stub.url):
                pass
