"""Taking over the socket of a redis-py connection.

The private attributes of redis-py that pulsewire needs are all in `adopt`. `tests/contract/test_redis_py_lowest.py`
holds it against the lowest and the newest release that we support.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any


class CannotAdopt(Exception):
    """This connection does not have the insides we know. It was left as it was."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A socket that is now ours.

    Attributes:
        transport: ours to write to and to close.
        unread: bytes that had arrived but that redis-py had not parsed.
        is_ended: whether the server has closed its side; the transport will not say so again.
        writer: redis-py's StreamWriter. Keep it as long as the transport: from Python 3.12 on it closes the transport
            when it is collected.
    """

    transport: asyncio.Transport
    unread: bytes
    is_ended: bool
    writer: object


def adopt(connection: Any, protocol: asyncio.Protocol) -> Adopted:
    """Give the socket of a connected redis-py connection to `protocol`.

    Afterwards the redis-py object is an empty shell that owns nothing and closes nothing.

    Raises:
        CannotAdopt: the connection has no asyncio streams inside, or its transport keeps its protocol.
    """
    reader = getattr(connection, "_reader", None)
    writer = getattr(connection, "_writer", None)
    transport = getattr(writer, "transport", None)
    buffer = getattr(reader, "_buffer", None)
    if transport is None or buffer is None or not hasattr(transport, "set_protocol"):
        raise CannotAdopt(f"{type(connection).__name__} has no asyncio streams inside")
    transport.set_protocol(protocol)
    connection._reader = None  # noqa: SLF001  # what this function is for
    connection._writer = None  # noqa: SLF001  # likewise
    return Adopted(transport, bytes(buffer), bool(getattr(reader, "_eof", False)), writer)
