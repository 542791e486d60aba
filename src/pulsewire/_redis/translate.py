"""Errors: from the words of the server and of redis-py to the exceptions of pulsewire, and to what to do about them.

This is the one place that does it. A reply means one of five things, see `Verdict`.
"""

from __future__ import annotations

import enum
import re

import redis.exceptions as client_errors
from redis.asyncio.sentinel import MasterNotFoundError

from pulsewire.errors import (
    AuthenticationFailed,
    InvalidTarget,
    PermissionDenied,
    PulsewireError,
    ServerError,
    ServerFull,
    ServerUnavailable,
)

_IN_SCRIPT = re.compile(
    r"ERR Error running script \(call to \w+\): @user_script:\d+: (?:@user_script: \d+: -)?([A-Z]{2,} .*)",
    re.DOTALL,
)


_SENTINEL = re.compile(r"[(,]host=([^,()]+),port=(\d+).*?>\)> - (?:\w+:)?(.+?)(?=, <redis|$)")
"""Where redis-py has asked, and what came of it, in what it prints when no sentinel knows the master."""

_REFUSED_IN_SCRIPT = ("ERR ACL failure in script", "ERR The user executing the script can't")
"""What Valkey, and Redis before it, say of a command in a script that the ACL forbids."""


class ReplyError(Exception):
    """An error reply as it came from the server. Never leaves `_redis`."""

    @property
    def text(self) -> str:
        """The whole reply; without the words that Redis 6.2 puts before the error of a command in a script."""
        said = str(self.args[0]) if self.args else ""
        inner = _IN_SCRIPT.match(said)
        return inner[1] if inner else said

    @property
    def code(self) -> str:
        """Its first word."""
        return self.text.partition(" ")[0]


class Verdict(enum.Enum):
    """What an error reply asks of us. In all cases but `RAISE` the command certainly had no effect."""

    RAISE = "tell the caller"
    WAIT = "the server is not ready: ask the same one again, later"
    MOVE_ON = "this server is no longer a master: find the master and ask that one"
    REDIRECT = "another node of the cluster has it"
    LOAD_SCRIPT = "send the script's text"


_VERDICTS = {
    "LOADING": Verdict.WAIT,
    "BUSY": Verdict.WAIT,
    "TRYAGAIN": Verdict.WAIT,
    "CLUSTERDOWN": Verdict.WAIT,
    "NOREPLICAS": Verdict.WAIT,
    "MISCONF": Verdict.WAIT,  # it cannot save, the disk is full for one, and takes no writes until it can
    "READONLY": Verdict.MOVE_ON,
    "MASTERDOWN": Verdict.MOVE_ON,
    "MOVED": Verdict.REDIRECT,
    "ASK": Verdict.REDIRECT,
    "NOSCRIPT": Verdict.LOAD_SCRIPT,
}


def verdict(error: ReplyError) -> Verdict:
    """What to do about an error reply."""
    return _VERDICTS.get(error.code, Verdict.RAISE)


def from_reply(error: ReplyError, command: str, address: str) -> PulsewireError:
    """The exception that tells the caller what an error reply says."""
    text, code = error.text, error.code
    if code == "OOM":
        return ServerFull(command, text)
    if code == "NOPERM" or text.startswith(_REFUSED_IN_SCRIPT):
        return PermissionDenied(command, text)
    if code in ("NOAUTH", "WRONGPASS") or text.startswith("ERR invalid password"):
        return AuthenticationFailed(address, text)
    return ServerError(command, text)


_AUTHENTICATION = (
    client_errors.AuthenticationError,
    client_errors.AuthenticationWrongNumberOfArgsError,
)


def from_client(error: BaseException, address: str) -> PulsewireError:
    """The exception for what redis-py raised while it opened a connection."""
    if isinstance(error, PulsewireError):
        return error
    text = str(error) or type(error).__name__
    if isinstance(error, _AUTHENTICATION) or text.startswith(("NOAUTH", "WRONGPASS")):
        return AuthenticationFailed(address, text)
    if "invalid username-password" in text or "without any password configured" in text:
        return AuthenticationFailed(address, text)
    if isinstance(error, client_errors.NoPermissionError):
        return PermissionDenied("the handshake", text)
    if "unknown command" in text and "SENTINEL" in text.upper():
        return InvalidTarget(
            address, "the servers it names are not sentinels; use redis://host:port"
        )
    if text.startswith("DB index is out of range") or "Invalid Database" in text:
        return InvalidTarget(address, text)
    if isinstance(error, MasterNotFoundError):
        text = _without_clients(text)
    return ServerUnavailable(address, 0.0, text)


def _without_clients(text: str) -> str:
    """What redis-py says when it has found no master, with the addresses of sentinels and not all of their clients."""
    words, _, silent = text.partition(" : ")
    names = [f"{host}:{port} ({why})" for host, port, why in _SENTINEL.findall(silent)]
    if names:
        return f"{words}: no answer from {', '.join(names)}"
    return f"{words}: the sentinels that answer do not know it"
