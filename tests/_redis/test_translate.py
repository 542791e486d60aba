"""What an error reply means: to the caller, and for what is done about it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import redis.exceptions as client_errors
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel

from pulsewire._redis.translate import ReplyError, Verdict, from_client, from_reply, verdict
from pulsewire.errors import (
    AuthenticationFailed,
    InvalidTarget,
    PermissionDenied,
    PulsewireError,
    ServerError,
    ServerFull,
    ServerUnavailable,
)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("LOADING Valkey is loading the dataset in memory", Verdict.WAIT),
        ("BUSY Valkey is busy running a script", Verdict.WAIT),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Verdict.WAIT),
        ("CLUSTERDOWN The cluster is down", Verdict.WAIT),
        ("CLUSTERDOWN Hash slot not served", Verdict.WAIT),
        ("NOREPLICAS Not enough good replicas to write.", Verdict.WAIT),
        ("READONLY You can't write against a read only replica.", Verdict.MOVE_ON),
        (
            "READONLY You can't write against a read only replica. script: 1, on @user_script:1.",
            Verdict.MOVE_ON,
        ),
        ("MASTERDOWN Link with MASTER is down", Verdict.MOVE_ON),
        ("MISCONF Valkey is configured to save RDB snapshots", Verdict.WAIT),
        ("MOVED 1 a:1", Verdict.REDIRECT),
        ("ASK 1 a:1", Verdict.REDIRECT),
        ("NOSCRIPT No matching script.", Verdict.LOAD_SCRIPT),
        ("ERR unknown command 'X'", Verdict.RAISE),
        ("WRONGTYPE Operation against a key", Verdict.RAISE),
        ("OOM command not allowed", Verdict.RAISE),
        ("NOPERM no", Verdict.RAISE),
        ("CROSSSLOT Keys in request don't hash to the same slot", Verdict.RAISE),
        ("EXECABORT Transaction discarded", Verdict.RAISE),
        ("readonly in small letters", Verdict.RAISE),
        ("", Verdict.RAISE),
    ],
)
def test_each_reply_has_its_verdict(reply: str, expected: Verdict) -> None:
    assert verdict(ReplyError(reply)) is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", ServerFull),
        ("OOM command not allowed. script: 1, on @user_script:1.", ServerFull),
        ("NOPERM User shop has no permissions to run the 'xadd' command", PermissionDenied),
        ("NOPERM No permissions to access a key", PermissionDenied),
        ("NOAUTH Authentication required.", AuthenticationFailed),
        ("WRONGPASS invalid username-password pair or user is disabled.", AuthenticationFailed),
        ("ERR invalid password", AuthenticationFailed),
        ("ERR invalid password, or user is disabled", AuthenticationFailed),
        ("ERR ACL failure in script: no permissions to run a command", PermissionDenied),
        ("ERR The user executing the script can't run this command", PermissionDenied),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", ServerError),
        ("ERR syntax error", ServerError),
    ],
)
def test_each_reply_has_its_exception_with_command_and_text(
    reply: str, expected: type[PulsewireError]
) -> None:
    error = from_reply(ReplyError(reply), "XADD", "host:1")
    assert type(error) is expected
    assert reply in str(error)
    assert ("host:1" if expected is AuthenticationFailed else "XADD") in str(error)


@pytest.mark.parametrize(
    ("where", "inner", "expected"),
    [
        ("@user_script: 1: -", "READONLY You can't write against a replica.", ServerError),
        (
            "@user_script: 7: -",
            "OOM command not allowed when used memory > 'maxmemory'.",
            ServerFull,
        ),
        ("", "NOGROUP No such key 'k' or consumer group 'g'", ServerError),
        ("", "WRONGTYPE Operation against a key holding the wrong kind of value", ServerError),
    ],
)
def test_error_of_a_command_in_a_script_is_seen_through_the_wrapping_of_redis_6(
    where: str, inner: str, expected: type[PulsewireError]
) -> None:
    """From Redis 7 on the reply begins with the code of the command that failed."""
    error = ReplyError(
        f"ERR Error running script (call to f_cf63a54c34e1): @user_script:12: {where}{inner}"
    )
    assert error.text == inner
    assert verdict(error) is verdict(ReplyError(inner))
    assert type(from_reply(error, "EVALSHA", "a")) is expected


@pytest.mark.parametrize(
    "reply",
    [
        "ERR Error running script (call to f_ef75): @user_script:1: user_script:1: boo",
        "ERR Error compiling script (new function): user_script:1: '=' expected",
        "ERR unknown command",
    ],
)
def test_other_errors_of_scripts_are_left_as_they_are(reply: str) -> None:
    assert ReplyError(reply).text == reply
    assert verdict(ReplyError(reply)) is Verdict.RAISE


def test_server_error_tells_its_code() -> None:
    error = from_reply(ReplyError("BUSYGROUP Consumer Group name already exists"), "XGROUP", "a")
    assert isinstance(error, ServerError)
    assert error.code == "BUSYGROUP"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (client_errors.AuthenticationError("invalid username-password pair"), AuthenticationFailed),
        (client_errors.AuthenticationWrongNumberOfArgsError("x"), AuthenticationFailed),
        (
            client_errors.ResponseError(
                "AUTH <password> called without any password configured for the default user."
            ),
            AuthenticationFailed,
        ),
        (client_errors.ResponseError("NOAUTH Authentication required."), AuthenticationFailed),
        (client_errors.ResponseError("WRONGPASS invalid pair"), AuthenticationFailed),
        (client_errors.ResponseError("DB index is out of range"), InvalidTarget),
        (client_errors.ResponseError("DB index is out of range, as told"), InvalidTarget),
        (client_errors.ResponseError("Invalid Database"), InvalidTarget),
        (client_errors.ResponseError("ERR unknown command 'HELLO'"), ServerUnavailable),
        (client_errors.ResponseError("ERR no such SENTINEL"), ServerUnavailable),
        (client_errors.NoPermissionError("this user has no permissions"), PermissionDenied),
        (client_errors.ConnectionError("Error 111 connecting to h:1."), ServerUnavailable),
        (client_errors.TimeoutError("Timeout connecting to server"), ServerUnavailable),
        (client_errors.BusyLoadingError("loading"), ServerUnavailable),
        (OSError(111, "refused"), ServerUnavailable),
        (ValueError(), ServerUnavailable),
    ],
)
def test_what_redis_py_raises_while_connecting_is_translated(
    raised: Exception, expected: type[PulsewireError]
) -> None:
    error = from_client(raised, "host:1")
    assert type(error) is expected
    assert str(raised) in str(error)


def test_exception_without_words_is_named_by_its_type() -> None:
    assert "ValueError" in str(from_client(ValueError(), "host:1"))


def test_what_is_ours_already_stays_as_it_is() -> None:
    error = ServerUnavailable("a", 1.0, "x")
    assert from_client(error, "host:1") is error


@pytest.mark.anyio
async def test_missing_master_is_told_with_the_addresses_of_silent_sentinels() -> None:
    """Redis-py prints the client of each, with all its settings."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = nobody.getsockname()[1]
        sentinels: Any = Sentinel([("127.0.0.1", port)], socket_timeout=1.0)  # type: ignore[no-untyped-call]
        with pytest.raises(MasterNotFoundError) as raised:
            await sentinels.discover_master("shop")
        await sentinels.sentinels[0].aclose()
    told = str(from_client(raised.value, "redis+sentinel://s/shop"))
    assert told.endswith(
        f"No master found for 'shop': no answer from 127.0.0.1:{port} (ConnectionError)"
    )


def test_missing_master_is_told_when_all_sentinels_answer() -> None:
    error = MasterNotFoundError("No master found for 'shop'")
    told = str(from_client(error, "redis+sentinel://s/shop"))
    assert told.endswith("No master found for 'shop': the sentinels that answer do not know it")


def test_server_that_could_not_be_reached_was_not_waited_for() -> None:
    """That is for the one to say who waited."""
    error = from_client(OSError(111, "refused"), "h:1")
    assert isinstance(error, ServerUnavailable)
    assert (error.address, error.waited) == ("h:1", 0.0)


def test_reply_without_a_word_has_an_empty_one() -> None:
    assert (ReplyError().text, ReplyError().code) == ("", "")


@pytest.mark.parametrize(
    "text", ["unknown command 'SENTINEL', with args", "ERR unknown command `sentinel`"]
)
def test_server_that_is_no_sentinel_is_told(text: str) -> None:
    error = from_client(client_errors.ResponseError(text), "host:1")
    assert isinstance(error, InvalidTarget)
    assert "are not sentinels" in error.reason
