"""Links: what a call promises when the server is not ready, refuses, or takes the answer to its grave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pulsewire._redis.link import Link, Unsettled
from pulsewire._redis.opening import LostConnection
from pulsewire._redis.pipeline import MAX_IN_FLIGHT, bulk
from pulsewire._redis.scripts import Script
from pulsewire.errors import (
    ConnectionLost,
    InvalidTarget,
    OutcomeUnknown,
    PermissionDenied,
    ServerError,
    ServerFull,
    ServerUnavailable,
)
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests._redis.kit import CountingHooks, StubServer, opened_link

CALLS = 300
NOT_READY = {
    "READONLY": b"READONLY You can't write against a read only replica.",
    "LOADING": b"LOADING Valkey is loading the dataset in memory",
    "MASTERDOWN": b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "TRYAGAIN": b"TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN": b"CLUSTERDOWN Hash slot not served",
    "BUSY": b"BUSY Valkey is busy running a script.",
    "NOREPLICAS": b"NOREPLICAS Not enough good replicas to write.",
}


@pytest.fixture
async def proxy(single_server: SingleServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(single_server) as between:
        yield between


def made(text: str) -> Script:
    """A script that lives in no file."""
    import hashlib

    return Script("made", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


COUNT = made("return redis.call('INCRBY', KEYS[1], ARGV[1])")


async def exact_replies(link: Link, count: int = CALLS) -> bool:
    """Whether so many concurrent callers each get back their own word, without permission to repeat."""
    replies = await asyncio.gather(*(link.call("k", "ECHO", f"{n}") for n in range(count)))
    return replies == [b"%d" % n for n in range(count)]


async def test_single_server_is_always_the_same_one(fresh_server: SingleServer) -> None:
    """Also after it was restarted: nobody takes its place."""
    async with opened_link(fresh_server.url) as link:
        before = link.server_of("k")
        await fresh_server.kill()
        await fresh_server.restart()
        await link.call("k", "EXISTS", "k", repeatable=True)
        assert link.server_of("k") == before
        assert not link.may_fail_over


# --- a server that is not ready


@pytest.mark.parametrize("code", NOT_READY)
async def test_refusal_that_passes_is_tried_again_for_that_command_alone(
    proxy: FaultProxy, code: str
) -> None:
    """Every reply is exact, nothing is fatal, and no other command is sent twice."""
    hooks = CountingHooks()
    async with opened_link(proxy.url, hooks=hooks) as link:
        fault = proxy.inject_error(NOT_READY[code], "ECHO", count=40, every=7)
        assert await exact_replies(link)
        assert fault.hits == 40
        assert hooks.repeated == {code: 40}
        assert proxy.statistics().commands["ECHO"] == CALLS + 40
        assert hooks.lost == []


@pytest.mark.parametrize("code", ["READONLY", "MASTERDOWN"])
async def test_server_that_is_no_master_any_more_is_asked_for_again(
    proxy: FaultProxy, code: str
) -> None:
    """The old connection ends as soon as what was under way on it is answered."""
    hooks = CountingHooks()
    async with opened_link(proxy.url, hooks=hooks) as link:
        proxy.inject_error(NOT_READY[code], "ECHO")
        assert await exact_replies(link)
        assert len(hooks.opened) == 2
        await wait_until(
            lambda: proxy.statistics().open_connections == 1, what="the old connection is closed"
        )


@pytest.mark.parametrize("code", ["LOADING", "TRYAGAIN", "CLUSTERDOWN"])
async def test_server_that_will_be_ready_keeps_its_connection(proxy: FaultProxy, code: str) -> None:
    async with opened_link(proxy.url) as link:
        proxy.inject_error(NOT_READY[code], "ECHO", count=3)
        assert await link.call("k", "ECHO", "x") == b"x"
        assert proxy.statistics().connections == 1


async def test_server_that_is_never_ready_is_unavailable_after_the_time_allowed(
    proxy: FaultProxy,
) -> None:
    """With its last words as the reason."""
    async with opened_link(proxy.url, wait_for_server=0.3) as link:
        proxy.inject_error(NOT_READY["LOADING"], "ECHO", count=1000)
        with pytest.raises(ServerUnavailable, match="LOADING") as caught:
            await link.call("k", "ECHO", "x")
        assert caught.value.address == link.shown


async def test_server_that_is_gone_is_unavailable_after_the_time_allowed(
    proxy: FaultProxy,
) -> None:
    async with opened_link(proxy.url, wait_for_server=0.3) as link:
        await proxy.refuse()
        proxy.cut()
        with pytest.raises(ServerUnavailable, match=str(proxy.port)):
            await link.call("k", "ECHO", "x", repeatable=True)
        await proxy.accept()

        async def answers() -> bool:
            with contextlib.suppress(ServerUnavailable):
                return bool(await link.call("k", "ECHO", "x", repeatable=True) == b"x")
            return False

        await wait_until(answers, what="the server is used again")


@pytest.mark.parametrize("reply", [b"MOVED 866 127.0.0.1:1", b"ASK 866 127.0.0.1:1"])
async def test_redirection_by_a_single_server_says_which_url_is_needed(
    proxy: FaultProxy, reply: bytes
) -> None:
    """It joined a cluster, or the user overlooked that it is one."""
    async with opened_link(proxy.url) as link:
        proxy.inject_error(reply, "ECHO")
        with pytest.raises(InvalidTarget, match=r"redis\+cluster://"):
            await link.call("k", "ECHO", "x")


# --- refusals


async def test_full_server_refuses_with_the_command_and_goes_on_answering() -> None:
    async with (
        SingleServer(args=("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")) as server,
        opened_link(server.url) as link,
    ):
        with pytest.raises(ServerFull, match="SET") as caught:
            await link.call("k", "SET", "k", bytes(10_000))
        assert caught.value.command == "SET"
        with pytest.raises(ServerFull):
            await link.run(COUNT, ["k"], [1])
        assert await link.call("k", "GET", "k", repeatable=True) is None


async def test_user_without_the_right_is_refused_with_the_command(
    fresh_server: SingleServer,
) -> None:
    await fresh_server.command("ACL", "SETUSER", "anna", "on", ">pw", "~own:*", "+@all", "-set")
    async with opened_link(f"redis://anna:pw@127.0.0.1:{fresh_server.port}") as link:
        with pytest.raises(PermissionDenied, match="SET"):
            await link.call("own:k", "SET", "own:k", "v")
        with pytest.raises(PermissionDenied, match="GET"):
            await link.call("other:k", "GET", "other:k")
        with pytest.raises(PermissionDenied):
            await link.run(COUNT, ["other:k"], [1])
        assert await link.run(COUNT, ["own:k"], [1]) == 1


async def test_other_refusals_are_server_errors_with_their_code(proxy: FaultProxy) -> None:
    async with opened_link(proxy.url) as link:
        await link.call("list", "RPUSH", "list", "x")
        await link.call("list", "EXPIRE", "list", 60)
        with pytest.raises(ServerError) as caught:
            await link.call("list", "INCR", "list")
        assert (caught.value.command, caught.value.code) == ("INCR", "WRONGTYPE")
        with pytest.raises(ServerError, match="XGROUP CREATE") as caught:
            await link.call("nothing", "XGROUP", "CREATE", "nothing", "g", "$")
        assert caught.value.code == "ERR"
        await link.call("list", "DEL", "list")
        assert proxy.statistics().connections == 1


async def test_payloads_are_not_in_error_messages(single_server: SingleServer) -> None:
    async with opened_link(single_server.url) as link:
        with pytest.raises(ServerError) as caught:
            await link.call("k", "SET", "k", "confidential", "NO-SUCH-OPTION")
        assert "confidential" not in str(caught.value)


# --- replies that never come


@pytest.mark.parametrize("then", ["cut", "stall"])
async def test_write_whose_reply_is_lost_is_unsettled_and_not_sent_again(
    proxy: FaultProxy, single_server: SingleServer, namespace: str, then: Any
) -> None:
    """It was done, once."""
    key = f"{namespace}:count"
    async with opened_link(proxy.url, silence=0.3) as link:
        await link.call(key, "SET", key, 0, "EX", 60)
        proxy.swallow_reply("INCR", then=then)
        with pytest.raises(Unsettled, match="INCR was sent and may or may not") as caught:
            await link.call(key, "INCR", key)
        assert isinstance(caught.value, OutcomeUnknown)
        assert isinstance(caught.value.__cause__, ConnectionLost)
        assert await link.call(key, "GET", key) == b"1"
    assert proxy.statistics().commands["INCR"] == 1


@pytest.mark.parametrize("then", ["cut", "stall"])
async def test_repeatable_command_whose_reply_is_lost_is_repeated(
    proxy: FaultProxy, namespace: str, then: Any
) -> None:
    """Until it has been answered."""
    key, hooks = f"{namespace}:count", CountingHooks()
    async with opened_link(proxy.url, silence=0.3, hooks=hooks) as link:
        fault = proxy.swallow_reply("SET", count=3, then=then)
        reply = await link.call(key, "SET", key, "v", "EX", 60, repeatable=True)
        assert reply == b"OK"
        assert fault.hits == 3
        assert proxy.statistics().commands["SET"] == 4
        assert hooks.repeated.total() == 3


async def test_script_whose_reply_is_lost_follows_the_same_rule(
    proxy: FaultProxy, namespace: str
) -> None:
    key = f"{namespace}:count"
    async with opened_link(proxy.url) as link:
        assert await link.run(COUNT, [key], [0]) == 0
        await link.call(key, "EXPIRE", key, 60)
        proxy.swallow_reply("EVALSHA")
        with pytest.raises(Unsettled):
            await link.run(COUNT, [key], [1])
        assert await link.call(key, "GET", key) == b"1"
        proxy.swallow_reply("EVALSHA")
        assert await link.run(COUNT, [key], [1], repeatable=True) == 3


async def test_each_of_many_callers_on_a_lost_connection_has_his_own_outcome(
    proxy: FaultProxy, single_server: SingleServer, namespace: str
) -> None:
    """Those that may be repeated are; the others are told; together they add up on the server."""
    key = f"{namespace}:count"
    async with opened_link(proxy.url) as link:
        await link.call(key, "SET", key, 0, "EX", 60)
        proxy.swallow_reply(lambda words: words[0] == b"INCRBY" and words[2] == b"101")

        async def add(amount: int) -> str:
            try:
                await link.call(key, "INCRBY", key, amount)
            except Unsettled:
                return "unsettled"
            return "done"

        async def echo(number: int) -> bool:
            reply = await link.call(key, "ECHO", f"{number}", repeatable=True)
            return bool(reply == b"%d" % number)

        adds = [asyncio.create_task(add(amount)) for amount in range(1, 201)]
        echoes = [asyncio.create_task(echo(number)) for number in range(200)]
        outcomes = await asyncio.gather(*adds)
        assert all(await asyncio.gather(*echoes))
        assert outcomes == ["done"] * 100 + ["unsettled"] * 100
        assert await link.call(key, "GET", key) == b"%d" % sum(range(1, 201))


async def test_who_waits_for_room_is_given_a_connection_that_is_open(proxy: FaultProxy) -> None:
    """Not the one that had none, and was lost meanwhile."""
    async with opened_link(proxy.url) as link:
        full = await link.connection_for("k")
        proxy.stall("to_client")
        waiting = [full.submit(("PING",)) for _ in range(MAX_IN_FLIGHT)]
        given = asyncio.ensure_future(link.connection_for("k"))
        await anyio.wait_all_tasks_blocked()
        assert not given.done()
        proxy.cut()
        proxy.resume()
        connection = await given
        assert await connection.submit(("PING",)) == b"PONG"
        assert connection is not full
        lost = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(reply) for reply in lost} == {ConnectionLost}


async def test_connection_cut_again_and_again_crosses_no_reply(proxy: FaultProxy) -> None:
    """Callers that may be repeated do not notice."""
    async with opened_link(proxy.url) as link:
        ended = False

        async def cut() -> None:
            while not ended:
                proxy.cut("rst" if proxy.statistics().connections % 2 else "fin")
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as group:
            group.start_soon(cut)
            for turn in range(30):
                replies = await asyncio.gather(
                    *(link.call("k", "ECHO", f"{turn}.{n}", repeatable=True) for n in range(100))
                )
                assert replies == [b"%d.%d" % (turn, n) for n in range(100)]
            ended = True


# --- the dead stay dead


async def test_lost_connection_that_the_server_still_holds_is_killed(
    proxy: FaultProxy, single_server: SingleServer, namespace: str
) -> None:
    """What it may still hold unread is never carried out; nobody else is touched."""
    key = f"{namespace}:count"
    async with opened_link(proxy.url, silence=0.3) as link, opened_link(proxy.url) as bystander:
        proxy.swallow_reply("INCR", then="stall")
        with pytest.raises(Unsettled) as caught:
            await link.call(key, "INCR", key)
        await link.call(key, "EXPIRE", key, 60)
        lost = caught.value.lost
        clients = await single_server.clients()
        assert f"name={lost.name} " in clients[lost.client_id]
        await link.make_sure_dead(key, lost)
        left = await single_server.clients()
        assert clients.keys() - left.keys() == {lost.client_id}
        assert await bystander.call(key, "GET", key) == b"1"
        await link.make_sure_dead(key, lost)  # a second time does no harm


async def test_connection_of_somebody_else_with_the_same_id_is_not_killed(
    single_server: SingleServer,
) -> None:
    """Ids begin again when the server restarts; names are never the same."""
    async with opened_link(single_server.url) as link, opened_link(single_server.url) as innocent:
        connection = await innocent.connection_for("k")
        lost = LostConnection(link.shown, connection.client_id, "pulsewire:another")
        await link.make_sure_dead("k", lost)
        assert connection.client_id in await single_server.clients()
        assert await connection.submit(("ECHO", "x")) == b"x"


async def test_server_that_was_restarted_has_no_connection_to_kill(
    fresh_server: SingleServer,
) -> None:
    async with opened_link(fresh_server.url) as link:
        connection = await link.connection_for("k")
        lost = LostConnection(link.shown, connection.client_id, connection.name)
        await fresh_server.restart()
        await link.make_sure_dead("k", lost)
        assert await link.call("k", "PING") == b"PONG"


async def test_user_who_may_not_look_is_told_so(fresh_server: SingleServer) -> None:
    await fresh_server.command(
        "ACL", "SETUSER", "anna", "on", ">pw", "~*", "+@all", "-client|list", "-client|kill"
    )
    async with opened_link(f"redis://anna:pw@127.0.0.1:{fresh_server.port}") as link:
        with pytest.raises(PermissionDenied, match="CLIENT LIST"):
            await link.make_sure_dead("k", LostConnection("a", 1, "n"))


# --- scripts


async def test_script_is_sent_whole_once_and_by_its_hash_from_then_on(
    fresh_server: SingleServer,
) -> None:
    async with FaultProxy(fresh_server) as proxy, opened_link(proxy.url) as link:
        for number in range(1, 11):
            assert await link.run(COUNT, ["k"], [1]) == number
        commands = proxy.statistics().commands
        assert (commands["EVAL"], commands["EVALSHA"]) == (1, 10)


async def test_script_flush_amid_a_thousand_callers_goes_unnoticed(
    fresh_server: SingleServer,
) -> None:
    """Each call is done exactly once, though the server forgets its scripts every few milliseconds."""
    ended, flushes = False, 0
    async with FaultProxy(fresh_server) as proxy, opened_link(proxy.url) as link:

        async def flush() -> None:
            nonlocal flushes
            async with fresh_server.connection() as connection:
                while not ended:
                    await connection.command("SCRIPT", "FLUSH")
                    flushes += 1
                    await anyio.sleep(0.002)

        async with anyio.create_task_group() as group:
            group.start_soon(flush)
            for turn in range(10):
                replies = await asyncio.gather(*(link.run(COUNT, ["k"], [1]) for _ in range(1000)))
                assert sorted(replies) == list(range(turn * 1000 + 1, turn * 1000 + 1001))
            ended = True
        assert flushes > 1
        assert proxy.statistics().commands["EVAL"] > 1
        assert await link.call("k", "GET", "k") == b"10000"


async def test_error_that_a_script_raises_is_translated(single_server: SingleServer) -> None:
    async with opened_link(single_server.url) as link:
        with pytest.raises(ServerError) as caught:
            await link.run(made("return redis.error_reply('MINE it is')"), ["k"], [])
        assert caught.value.code == "MINE"
        with pytest.raises(ServerError, match="WRONGTYPE|ERR"):
            await link.run(made("return redis.call('NO-SUCH')"), ["k"], [])


# --- commands that their owner has packed


async def test_packed_command_is_tried_again_like_any_other(proxy: FaultProxy) -> None:
    packed = b"*2\r\n" + bulk("ECHO", "packed")
    async with opened_link(proxy.url) as link:
        for code in ("LOADING", "READONLY"):
            fault = proxy.inject_error(NOT_READY[code], "ECHO", count=2)
            assert await link.send("k", packed) == b"packed"
            assert fault.hits == 2
        proxy.swallow_reply("ECHO")
        assert await link.send("k", packed, repeatable=True) == b"packed"


async def test_packed_command_that_fails_is_named_without_its_payload(
    single_server: SingleServer,
) -> None:
    packed = b"*3\r\n" + bulk("XADD", "k", "confidential")
    async with opened_link(single_server.url) as link:
        with pytest.raises(ServerError, match="^XADD failed") as caught:
            await link.send("k", packed)
        assert caught.value.command == "XADD"
        assert "confidential" not in str(caught.value)


# --- small things


async def test_time_is_the_servers(single_server: SingleServer) -> None:
    async with opened_link(single_server.url) as link:
        times = []
        for _ in range(3):
            seconds, micros = await single_server.command("TIME")
            times += [int(seconds) + int(micros) / 1e6, await link.time()]
    assert times == sorted(times)


async def test_command_that_was_submitted_in_order_can_be_resumed(proxy: FaultProxy) -> None:
    """For callers who pipeline by themselves: trouble is handed back to the link."""
    async with opened_link(proxy.url) as link:
        connection = await link.connection_for("k")
        proxy.inject_error(NOT_READY["LOADING"], "ECHO")
        command = ("ECHO", "resumed")
        try:
            await connection.submit(command)
            raise AssertionError("no trouble")
        except Exception as error:
            trouble: Any = error
        assert await link.resume("k", command, trouble, connection) == b"resumed"


async def test_all_keys_of_one_server_may_be_named_together(single_server: SingleServer) -> None:
    async with opened_link(single_server.url) as link:
        assert link.together(["a", "b", "c"]) == [["a", "b", "c"]]
        assert link.together([]) == []
        (master,) = link.masters()
        assert await link.call_at(master, "ECHO", "x") == b"x"
        assert not link.is_cluster


async def test_wrong_argument_is_the_callers_mistake_and_disturbs_nobody(
    single_server: SingleServer,
) -> None:
    async with opened_link(single_server.url) as link:

        async def wrong() -> str:
            with pytest.raises(TypeError):
                await link.call("k", "ECHO", object())  # type: ignore[arg-type]  # that is the point
            return "refused"

        replies = await asyncio.gather(
            link.call("k", "ECHO", "a"), wrong(), link.call("k", "ECHO", "b")
        )
        assert list(replies) == [b"a", "refused", b"b"]


async def test_server_that_answers_rubbish_for_good_is_unavailable() -> None:
    """After the time allowed, with the reason; no hang and no crash."""
    async with StubServer(lambda words, _: b"rubbish\r\n" if words[0] == b"ECHO" else None) as stub:
        async with opened_link(stub.url, wait_for_server=0.3) as link:
            with pytest.raises(ServerUnavailable, match="no Redis protocol"):
                await link.call("k", "ECHO", "x", repeatable=True)
            with pytest.raises(Unsettled, match="no Redis protocol"):
                await link.call("k", "ECHO", "x")
