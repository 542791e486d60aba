"""Every exception that pulsewire raises on purpose.

The tree, and what the caller can do::

    PulsewireError
    ├── ConfigurationError (also ValueError)   the call was wrong; nothing was sent: change the call
    │   ├── InvalidTarget                      the URL or client given to connect()
    │   ├── InvalidName                        a stream, sink, map or field name
    │   └── InvalidOption                      an option, or options that contradict each other
    ├── PayloadTooLarge (also ValueError)      nothing was sent: make it smaller or raise the limit
    ├── DecodeError                            a record is not in the format expected: look at who writes it
    ├── ServerUnavailable                      no usable server within the time allowed: nothing was done; try later
    │   └── ConnectionLost                     the connection went away under a command (see `was_sent`)
    ├── OutcomeUnknown                         a write was sent, its answer never came: it may have been done
    ├── ServerTooOld                           connect to a newer server
    ├── AuthenticationFailed                   check user and password
    ├── PermissionDenied                       the ACL forbids it: extend the user's rights
    ├── ServerFull                             the server is out of memory: nothing was written; free memory
    ├── StreamFull                             back-pressure: nothing was written; a sink must catch up first
    ├── ServerError                            the server refused a command for another reason
    ├── EmbeddedServerError                    the embedded server cannot start or run
    └── Closed                                 the object was closed before the call

Each one builds its own message and carries its data as attributes. The Redis client's own exceptions never get out:
they are translated in `_redis/translate.py`, and the original stays as `__cause__`.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationFailed",
    "Closed",
    "ConfigurationError",
    "ConnectionLost",
    "DecodeError",
    "EmbeddedServerError",
    "InvalidName",
    "InvalidOption",
    "InvalidTarget",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PermissionDenied",
    "PulsewireError",
    "ServerError",
    "ServerFull",
    "ServerTooOld",
    "ServerUnavailable",
    "StreamFull",
]


class PulsewireError(Exception):
    """Base of all exceptions of pulsewire."""


class ConfigurationError(PulsewireError, ValueError):
    """A call was wrong in itself. Nothing was sent to the server."""


class InvalidTarget(ConfigurationError):
    """`connect()` was given something it cannot connect to."""

    def __init__(self, target: str, reason: str) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"cannot connect to {target!r}: {reason}")


class InvalidName(ConfigurationError):
    """A name breaks the rules that keep it usable in Redis and for Go programs."""

    def __init__(self, what: str, name: object, reason: str) -> None:
        self.what = what
        self.name = name
        self.reason = reason
        super().__init__(f"{name!r} is no {what} name: {reason}")


class InvalidOption(ConfigurationError):
    """An option has an impossible value, or contradicts another one."""

    def __init__(self, option: str, value: object, reason: str) -> None:
        self.option = option
        self.value = value
        self.reason = reason
        super().__init__(f"{option}={value!r}: {reason}")


class PayloadTooLarge(PulsewireError, ValueError):
    """An event is larger than the stream accepts. Nothing was sent."""

    def __init__(self, size: int, limit: int, where: str) -> None:
        self.size = size
        self.limit = limit
        self.where = where
        super().__init__(
            f"{size:,} bytes are more than the {limit:,} that {where} accepts; "
            "store large content elsewhere and send a reference, or raise max_payload"
        )


class DecodeError(PulsewireError):
    """A record read from the server is not in the format expected."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        self.reason = reason
        super().__init__(f"cannot decode {what}: {reason}")


class ServerUnavailable(PulsewireError):
    """No usable server answered within the time allowed. The command was not carried out."""

    def __init__(self, address: str, waited: float, reason: str) -> None:
        self.address = address
        self.waited = waited
        self.reason = reason
        super().__init__(f"no usable server at {address} within {waited:.1f} s: {reason}")


class ConnectionLost(ServerUnavailable):
    """A connection went away under a command.

    Attributes:
        was_sent: False when the command certainly never reached the server.
    """

    def __init__(self, address: str, reason: str, *, was_sent: bool) -> None:
        self.was_sent = was_sent
        super().__init__(address, 0.0, reason)


class OutcomeUnknown(PulsewireError):
    """A write was sent, and whether the server carried it out cannot be found out.

    It was not sent again, since it might then happen twice.
    """

    def __init__(self, command: str, reason: str) -> None:
        self.command = command
        self.reason = reason
        super().__init__(f"{command} was sent and may or may not have been carried out: {reason}")


class ServerTooOld(PulsewireError):
    """The server lacks what pulsewire needs."""

    def __init__(self, kind: str, version: str, needed: str) -> None:
        self.kind = kind
        self.version = version
        self.needed = needed
        super().__init__(f"the server is {kind} {version}; pulsewire needs {needed}")


class AuthenticationFailed(PulsewireError):
    """The server refused the credentials."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"{address} refused the credentials: {reason}")


class PermissionDenied(PulsewireError):
    """The ACL of the connected user forbids a command, key or channel."""

    def __init__(self, command: str, reason: str) -> None:
        self.command = command
        self.reason = reason
        super().__init__(f"the server's ACL does not allow {command}: {reason}")


class ServerFull(PulsewireError):
    """The server is at `maxmemory` and accepts no more data. Nothing was written."""

    def __init__(self, command: str, reason: str) -> None:
        self.command = command
        self.reason = reason
        super().__init__(f"{command} was refused, the server is out of memory: {reason}")


class StreamFull(PulsewireError):
    """A stream is at its hard limit, because a sink has not acknowledged what is in it. Nothing was written."""

    def __init__(self, stream: str, length: int, limit: int, held_by: str) -> None:
        self.stream = stream
        self.length = length
        self.limit = limit
        self.held_by = held_by
        held = (
            f"sink {held_by!r} still needs the oldest of them"
            if held_by
            else "no sink holds them back"
        )
        super().__init__(
            f"stream {stream!r} holds {length:,} events, its hard limit is {limit:,}, and {held}; "
            "let it catch up, remove it if it is abandoned, or raise hard_limit"
        )


class ServerError(PulsewireError):
    """The server answered with an error that has no class of its own here."""

    def __init__(self, command: str, reply: str) -> None:
        self.command = command
        self.reply = reply
        super().__init__(f"{command} failed: {reply}")

    @property
    def code(self) -> str:
        """The first word of the reply, such as `WRONGTYPE`."""
        return self.reply.partition(" ")[0]


class EmbeddedServerError(PulsewireError):
    """The embedded server cannot be started or reached."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the embedded server does not run: {reason}")


class Closed(PulsewireError):
    """The object was closed, so the call cannot be carried out."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} is closed")
