"""The proxy makes the weather it is told to make, on both protocols, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from pulsewire.testing import (
    FaultProxy,
    Push,
    RawConnection,
    ReplyError,
    SingleServer,
    make_certificates,
    redis7_binary,
    wait_until,
)
from pulsewire.testing.resp import encode

HELLO = {2: ("HELLO", 2), 3: ("HELLO", 3)}
READONLY = b"READONLY You can't write against a read only replica."


@pytest.fixture
async def proxy(single_server: SingleServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(single_server, seed=1) as running:
        yield running


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[RawConnection]:
    """A connection through the proxy."""
    async with through(proxy) as connection:
        yield connection


@pytest.fixture
async def key(single_server: SingleServer, namespace: str) -> AsyncIterator[str]:
    """A counter that is gone after the test."""
    name = f"{namespace}:key"
    yield name
    await single_server.command("DEL", name)


def through(proxy: FaultProxy, *, timeout: float = 5.0) -> RawConnection:
    return RawConnection(proxy.host, proxy.port, timeout=timeout)


async def assert_dead(connection: RawConnection) -> None:
    """The other side has ended the connection."""
    with pytest.raises(ConnectionError):
        await connection.receive()


async def assert_silent(connection: RawConnection, seconds: float = 0.1) -> None:
    """Nothing comes, and the connection is open. A reply that is only slow would make it fail later."""
    with pytest.raises(TimeoutError), anyio.fail_after(seconds):
        await connection.receive()


# --- passing through


@pytest.mark.parametrize("protocol", [2, 3])
async def test_everything_passes_in_good_weather(
    client: RawConnection, proxy: FaultProxy, key: str, protocol: int
) -> None:
    hello, *replies = await client.pipeline(
        HELLO[protocol],
        ("RPUSH", key, *range(1000)),
        ("LRANGE", key, 0, -1),
        ("nonsense",),
        ("BLPOP", key, 0),
        ("GET", f"{key}:none"),
    )
    assert isinstance(hello, dict if protocol == 3 else list)
    length, elements, error, popped, nothing = replies
    assert length == 1000
    assert elements == [str(number).encode() for number in range(1000)]
    assert isinstance(error, ReplyError)
    assert popped == [key.encode(), b"0"]
    assert nothing is None


async def test_statistics_count_connections_commands_and_bytes(
    proxy: FaultProxy, single_server: SingleServer
) -> None:
    async with through(proxy) as one, through(proxy) as two:
        await one.pipeline(("PING",), ("ping",), ("ECHO", "x" * 100))
        await two.command("PING")
        statistics = proxy.statistics()
    assert statistics.connections == statistics.open_connections == 2
    assert statistics.commands == {"PING": 3, "ECHO": 1}
    assert statistics.bytes_to_server == 3 * len(encode("PING")) + len(encode("ECHO", "x" * 100))
    assert statistics.bytes_to_client == 3 * len("+PONG\r\n") + len("$100\r\n") + 102
    await wait_until(lambda: proxy.statistics().open_connections == 0, what="both have left")


async def test_large_values_and_single_bytes_pass(client: RawConnection, key: str) -> None:
    """Framing does not depend on how the bytes arrive."""
    value = bytes(range(256)) * 40_000
    await client.command("SET", key, value, "EX", 60)
    assert await client.command("GET", key) == value
    for byte in f"*2\r\n$6\r\nSTRLEN\r\n${len(key)}\r\n{key}\r\nPING\r\n".encode():
        client.write(bytes([byte]))
        await anyio.lowlevel.checkpoint()
    assert [await client.receive(), await client.receive()] == [len(value), b"PONG"]


async def test_slow_reader_stops_the_server_from_filling_the_proxy(
    proxy: FaultProxy, single_server: SingleServer, key: str
) -> None:
    """Back-pressure goes through: what nobody reads is not read from the server either."""
    await single_server.command("SET", key, b"x" * 1_000_000, "EX", 60)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, limit=1)
    writer.write(f"GET {key}\r\n".encode() * 100)

    before = -1

    async def stands_still() -> bool:
        nonlocal before
        now, before = before, proxy.statistics().bytes_to_client
        await anyio.sleep(0.05)
        return 0 < now == before

    await wait_until(stands_still, what="the flow stopped")
    assert before < 60_000_000
    for _ in range(100):
        assert await reader.readexactly(len("$1000000\r\n") + 1_000_000 + 2)
    writer.close()
    await writer.wait_closed()


async def test_url_is_the_server_s_with_the_proxy_s_port() -> None:
    async with SingleServer(password="secret") as server, FaultProxy(server) as proxy:
        assert proxy.url == f"redis://:secret@127.0.0.1:{proxy.port}"
        async with RawConnection(proxy.host, proxy.port, password="secret") as connection:
            assert await connection.command("PING") == b"PONG"


async def test_proxy_ends_with_open_connections(single_server: SingleServer) -> None:
    """Its clients are cut off, and the error of the block comes out as it was."""

    async def fail_with_a_stalled_connection() -> None:
        async with FaultProxy(single_server) as proxy, through(proxy) as connection:
            await connection.command("PING")
            proxy.stall()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_with_a_stalled_connection()
    assert await single_server.clients() == {}


async def test_client_of_a_server_that_is_down_is_cut_off(fresh_server: SingleServer) -> None:
    async with FaultProxy(fresh_server) as proxy:
        await fresh_server.kill()
        async with through(proxy) as connection:
            await assert_dead(connection)
        await fresh_server.restart()
        async with through(proxy) as connection:
            assert await connection.command("PING") == b"PONG"


async def test_killed_server_ends_its_clients(fresh_server: SingleServer) -> None:
    async with FaultProxy(fresh_server) as proxy, through(proxy) as connection:
        await connection.command("PING")
        await fresh_server.kill()
        await assert_dead(connection)


# --- cut, refuse


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_cut_ends_the_connections_of_now(
    proxy: FaultProxy, single_server: SingleServer, how: str
) -> None:
    async with through(proxy) as one, through(proxy) as two:
        for connection in (one, two):
            await connection.command("PING")
        assert proxy.cut("rst" if how == "rst" else "fin") == 2
        for connection in (one, two):
            await assert_dead(connection)
        async with through(proxy) as later:
            assert await later.command("PING") == b"PONG"


async def test_rst_is_an_error_and_fin_an_orderly_end(proxy: FaultProxy) -> None:
    """The two kinds of cut look different to the operating system, and so they should here."""
    ends: list[str] = []
    for how in ("rst", "fin"):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"PING\r\n")
        await reader.readexactly(len("+PONG\r\n"))
        proxy.cut("rst" if how == "rst" else "fin")
        try:
            ends.append("eof" if await reader.read(1) == b"" else "data")
        except ConnectionResetError:
            ends.append("reset")
        writer.close()
    assert ends == ["reset", "eof"]


async def test_refusing_port_refuses_until_it_accepts_again(proxy: FaultProxy) -> None:
    async with through(proxy) as before:
        port = proxy.port
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            async with through(proxy):
                pass
        assert await before.command("PING") == b"PONG"
        await proxy.accept()
        await proxy.accept()
        assert proxy.port == port
        async with through(proxy) as after:
            assert await after.command("PING") == b"PONG"


# --- stall, delay


async def test_stall_and_resume_lose_no_byte(
    proxy: FaultProxy, client: RawConnection, key: str
) -> None:
    """A stream of commands runs into a black hole again and again; each has its own reply, in order."""
    count = 2_000
    await client.command("SET", key, 0, "EX", 60)

    async def send() -> None:
        for number in range(count):
            client.send(("INCR", key), ("ECHO", f"{number}" + "x" * 500))
            if number % 50 == 0:
                await anyio.lowlevel.checkpoint()

    async def make_weather() -> None:
        for direction in ("both", "to_server", "to_client") * 5:
            proxy.stall(direction)
            await anyio.sleep(0.005)
            proxy.resume(direction)
            await anyio.sleep(0.002)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        tasks.start_soon(make_weather)
        for number in range(count):
            assert await client.receive() == number + 1
            assert await client.receive() == f"{number}".encode() + b"x" * 500


async def test_nothing_reaches_the_server_through_a_black_hole(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str
) -> None:
    await client.command("PING")
    proxy.stall("to_server")
    client.send(("SET", key, "value", "EX", 60))
    await assert_silent(client)
    assert await single_server.command("EXISTS", key) == 0
    proxy.resume()
    assert await client.receive() == b"OK"


async def test_one_way_black_hole_lets_commands_be_executed(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str
) -> None:
    """The server hears everything, the client nothing."""
    proxy.stall("to_client")
    client.send(("SET", key, "value", "EX", 60))

    async def is_set() -> bool:
        return bool(await single_server.command("EXISTS", key))

    await wait_until(is_set, what="the server carried it out")
    await assert_silent(client)
    proxy.resume("to_client")
    assert await client.receive() == b"OK"


async def test_new_connections_fall_into_the_black_hole_too(proxy: FaultProxy) -> None:
    """They are opened, and silent."""
    proxy.stall()
    async with through(proxy) as connection:
        connection.send(("PING",))
        await assert_silent(connection)
        proxy.resume()
        assert await connection.receive() == b"PONG"


async def test_stalled_client_that_left_is_gone_after_resume(
    proxy: FaultProxy, single_server: SingleServer
) -> None:
    async with through(proxy) as connection:
        await connection.command("PING")
        proxy.stall()
    assert len(await single_server.clients()) == 1
    proxy.resume()

    async def is_gone() -> bool:
        return not await single_server.clients()

    await wait_until(is_gone, what="the server noticed")
    assert proxy.statistics().open_connections == 0


async def test_delay_holds_everything_back_and_keeps_the_order(
    proxy: FaultProxy, client: RawConnection
) -> None:
    """At least the delay, each way, whatever the jitter says."""
    await client.command("PING")
    proxy.delay(0.02, jitter=0.02)
    began = time.monotonic()
    for number in range(50):
        client.send(("ECHO", number))
        await anyio.lowlevel.checkpoint()
    assert [await client.receive() for _ in range(50)] == [str(n).encode() for n in range(50)]
    assert time.monotonic() - began >= 0.04  # cannot be less, however slow the machine is
    proxy.delay(0)
    assert await client.command("ECHO", "last") == b"last"


async def test_bytes_under_way_arrive_before_the_end_of_a_connection(
    proxy: FaultProxy, client: RawConnection
) -> None:
    """The server closes after its reply; the delay does not swallow the reply."""
    await client.command("PING")
    proxy.delay(0.05, direction="to_client")
    client.send(("ECHO", "bye"), ("QUIT",))
    assert await client.receive() == b"bye"
    assert await client.receive() == b"OK"
    await assert_dead(client)


# --- a swallowed reply


async def test_swallowed_command_is_executed_exactly_once(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str
) -> None:
    fault = proxy.swallow_reply("INCRBY")
    client.send(("INCRBY", key, 1))
    await fault.wait_hit()
    await assert_dead(client)
    assert await single_server.command("GET", key) == b"1"
    async with through(proxy) as again:
        assert await again.command("INCRBY", key, 1) == 2
    assert fault.hits == 1


async def test_replies_before_the_swallowed_one_arrive(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str
) -> None:
    """In a pipeline all commands are executed, and the client learns of those before the fault."""
    proxy.swallow_reply(lambda command: command[0] == b"INCRBY" and command[2] == b"50")
    client.send(*(("INCRBY", key, number) for number in range(1, 101)))
    sums = [number * (number + 1) // 2 for number in range(1, 50)]
    assert [await client.receive() for _ in sums] == sums
    await assert_dead(client)
    assert await single_server.command("GET", key) == b"5050"


async def test_replies_before_the_swallowed_one_arrive_through_a_delay(
    proxy: FaultProxy, client: RawConnection, key: str
) -> None:
    await client.command("PING")
    proxy.delay(0.02)
    proxy.swallow_reply("INCR")
    client.send(("ECHO", "before"), ("INCR", key), ("ECHO", "after"))
    assert await client.receive() == b"before"
    await assert_dead(client)


async def test_swallowed_reply_can_leave_a_silent_connection(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str
) -> None:
    """Neither `resume` nor later commands bring it back to life, `cut` ends it."""
    fault = proxy.swallow_reply("INCR", then="stall")
    client.send(("ECHO", "before"), ("INCR", key))
    assert await client.receive() == b"before"
    await fault.wait_hit()
    proxy.resume()
    client.send(("INCR", key))
    await assert_silent(client)
    assert await single_server.command("GET", key) == b"1"
    async with through(proxy) as other:
        assert await other.command("PING") == b"PONG"
    assert proxy.cut() >= 1
    await assert_dead(client)


async def test_swallowing_so_many_times_takes_as_many_connections(
    proxy: FaultProxy, single_server: SingleServer, key: str
) -> None:
    """Two commands that match in one pipeline: the second has no connection left to lose."""
    fault = proxy.swallow_reply("INCR", count=2)
    for _ in range(2):
        async with through(proxy) as connection:
            connection.send(("INCR", key), ("INCR", key))
            await assert_dead(connection)
    async with through(proxy) as connection:
        assert await connection.command("INCR", key) == 5
    assert fault.hits == 2


async def test_fault_whose_connection_dies_first_waits_for_the_next(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str
) -> None:
    """A reply that never came could not be swallowed."""
    fault = proxy.swallow_reply("BLPOP")
    client.send(("BLPOP", key, 0))
    await wait_until(lambda: fault.left == 0, what="the command was taken")
    proxy.cut()
    await assert_dead(client)
    assert (fault.hits, fault.left) == (0, 1)
    async with through(proxy) as connection:
        connection.send(("BLPOP", key, 0))
        await single_server.command("RPUSH", key, "value")
        await assert_dead(connection)
    assert fault.hits == 1


async def test_push_is_not_taken_for_the_reply(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, namespace: str, key: str
) -> None:
    """A message that comes before the reply of the fault's command is delivered, the reply is not."""
    await client.command("HELLO", 3)
    client.send(("SUBSCRIBE", namespace))
    assert await client.receive_push() == Push([b"subscribe", namespace.encode(), 1])
    fault = proxy.swallow_reply("BLPOP")
    client.send(("BLPOP", key, 0))
    await wait_until(lambda: fault.left == 0, what="the command is on its way")
    await single_server.command("PUBLISH", namespace, "hello")
    assert await client.receive_push() == Push([b"message", namespace.encode(), b"hello"])
    assert fault.hits == 0
    await single_server.command("RPUSH", key, "value")
    await assert_dead(client)
    assert fault.hits == 1


# --- an injected error


@pytest.mark.parametrize("protocol", [2, 3])
async def test_injected_errors_keep_their_place_in_a_pipeline_of_100(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str, protocol: int
) -> None:
    """Every seventh command gets an error, the server never sees it, all others get their own reply."""
    await client.command(*HELLO[protocol])
    fault = proxy.inject_error(READONLY, "APPEND", count=1000, every=7)
    replies = await client.pipeline(
        *(("APPEND", key, "x") if number % 2 else ("ECHO", number) for number in range(100))
    )
    appended = 0
    for number, reply in enumerate(replies):
        if number % 2 == 0:
            assert reply == str(number).encode()
        elif (number // 2 + 1) % 7 == 0:
            assert isinstance(reply, ReplyError)
            assert reply.code == "READONLY"
        else:
            appended += 1
            assert reply == appended
    assert fault.hits == 7
    assert await single_server.command("STRLEN", key) == appended == 43


async def test_injected_error_for_a_command_alone_comes_at_once(
    proxy: FaultProxy, client: RawConnection, key: str
) -> None:
    """No later reply has to push it out."""
    fault = proxy.inject_error(b"LOADING the dataset is being loaded", count=2)
    for _ in range(2):
        with pytest.raises(ReplyError, match=r"^LOADING the dataset"):
            await client.command("INCR", key)
    assert await client.command("INCR", key) == 1
    assert (fault.hits, fault.left) == (2, 0)


async def test_injected_error_waits_for_a_reply_that_is_not_there_yet(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, key: str
) -> None:
    """It does not overtake the reply of a blocking command."""
    proxy.inject_error(READONLY, "ECHO")
    client.send(("BLPOP", key, 0), ("ECHO", "x"), ("PING",))
    await assert_silent(client)
    await single_server.command("RPUSH", key, "value")
    assert await client.receive() == [key.encode(), b"value"]
    assert isinstance(await client.receive(), ReplyError)
    assert await client.receive() == b"PONG"


async def test_pushes_between_replies_do_not_move_an_injected_error(
    proxy: FaultProxy, client: RawConnection, namespace: str
) -> None:
    """Subscriptions, their confirmations and messages are no replies; errors to them are."""
    await client.command("HELLO", 3)
    proxy.inject_error(READONLY, "ECHO")
    a, b = f"{namespace}:a", f"{namespace}:b"
    client.send(
        ("SUBSCRIBE", a, b),
        ("PUBLISH", a, "one"),
        ("SUBSCRIBE",),  # an error reply: wrong number of arguments
        ("ECHO", "injected"),
        ("UNSUBSCRIBE",),
        ("PUBLISH", a, "two"),
        ("PSUBSCRIBE", f"{namespace}*"),
        ("PUBLISH", b, "three"),
        ("ECHO", "last"),
    )
    replies = [await client.receive() for _ in range(6)]
    assert [r.code if isinstance(r, ReplyError) else r for r in replies] == [
        1,
        "ERR",
        "READONLY",
        0,
        1,
        b"last",
    ]
    kinds = [push[0] for push in client.pushes]
    assert kinds[:3] == [b"subscribe", b"subscribe", b"message"]
    assert kinds[3:] == [b"unsubscribe", b"unsubscribe", b"psubscribe", b"pmessage"]


async def test_pubsub_of_the_old_protocol_is_understood(
    proxy: FaultProxy, client: RawConnection, single_server: SingleServer, namespace: str
) -> None:
    """There, messages look like replies."""
    proxy.inject_error(READONLY, "PING", every=2)
    client.send(("SUBSCRIBE", f"{namespace}:a", f"{namespace}:b"))
    assert [(await client.receive())[0] for _ in range(2)] == [b"subscribe"] * 2
    await single_server.command("PUBLISH", f"{namespace}:a", "message")
    assert (await client.receive())[2] == b"message"
    client.send(("PING", "x"), ("PING", "y"), ("UNSUBSCRIBE",))
    assert await client.receive() == [b"pong", b"x"]
    assert isinstance(await client.receive(), ReplyError)
    assert [(await client.receive())[0] for _ in range(2)] == [b"unsubscribe"] * 2
    client.send(("ECHO", "after"))
    assert await client.receive() == b"after"


async def test_fault_can_name_a_subcommand(
    proxy: FaultProxy, client: RawConnection, key: str
) -> None:
    fault = proxy.inject_error(b"ERR no", "xgroup create")
    assert await client.command("XGROUP", "HELP")
    with pytest.raises(ReplyError, match=r"^ERR no"):
        await client.command("XGROUP", "CREATE", key, "group", "$", "MKSTREAM")
    assert await client.command("EXISTS", key) == 0
    assert fault.hits == 1


async def test_disarmed_fault_does_not_happen(proxy: FaultProxy, client: RawConnection) -> None:
    first = proxy.inject_error(b"ERR first", "PING")
    second = proxy.inject_error(b"ERR second", "PING")
    first.disarm()
    with pytest.raises(ReplyError, match=r"^ERR second"):
        await client.command("PING")
    proxy.inject_error(b"ERR third")
    proxy.stall()
    proxy.delay(100)
    proxy.clear()
    assert await client.command("PING") == b"PONG"
    assert (first.hits, second.hits) == (0, 1)


# --- what it does not understand


async def test_monitor_passes(proxy: FaultProxy, client: RawConnection, namespace: str) -> None:
    """Its lines are no replies; the connection is passed on as it is, faults or not."""
    client.send(("PING",), ("MONITOR",))
    assert [await client.receive() for _ in range(2)] == [b"PONG", b"OK"]
    proxy.inject_error(b"ERR no", "ECHO", count=2)
    async with through(proxy) as other:
        with pytest.raises(ReplyError):
            await other.command("ECHO", "injected")
        await other.command("GET", f"{namespace}:seen")
    assert b"seen" in await client.receive()
    assert proxy.cut() >= 1
    await assert_dead(client)


async def test_switched_off_replies_pass(client: RawConnection) -> None:
    client.send(("CLIENT", "REPLY", "OFF"), ("PING",), ("CLIENT", "REPLY", "ON"), ("ECHO", "x"))
    assert [await client.receive() for _ in range(2)] == [b"OK", b"x"]


async def test_tls_passes_and_can_be_cut(tmp_path: Path) -> None:
    binary = redis7_binary()
    if binary is None:
        pytest.skip("the embedded server's program has no TLS, and there is no other one")
    certificates = make_certificates(tmp_path)
    async with SingleServer(binary, tls=certificates) as server, FaultProxy(server) as proxy:
        assert proxy.url.startswith(f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs=")
        context = certificates.client_context()
        async with RawConnection(proxy.host, proxy.port, ssl=context) as connection:
            assert await connection.command("ECHO", "x" * 100_000) == b"x" * 100_000
            proxy.stall()
            connection.send(("PING",))
            await assert_silent(connection)
            proxy.resume()
            assert await connection.receive() == b"PONG"
            proxy.cut()
            await assert_dead(connection)
