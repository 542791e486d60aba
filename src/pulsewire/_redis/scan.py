"""Walking through the keyspace: for tools, since it looks at every key there is, whoever it belongs to."""

from __future__ import annotations

from typing import Self

from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument

PAGE = 1000
"""About how many keys a server looks at for one page."""


class Scan:
    """The keys of one server that match, page by page. A page may be empty, and a key may come twice.

    Args:
        master: one of `link.masters()`.
        pattern: as SCAN takes it.
        kind: only keys of this type, such as "hash"; all if empty.

    Raises:
        PermissionDenied: SCAN is not allowed.
        ServerUnavailable: the server is gone.
    """

    def __init__(self, link: Link, master: str, pattern: str, kind: str = "") -> None:
        self._link = link
        self._master = master
        rest: tuple[Argument, ...] = ("MATCH", pattern, "COUNT", PAGE)
        self._rest = (*rest, "TYPE", kind) if kind else rest
        self._cursor: bytes | None = b"0"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[str]:
        if self._cursor is None:
            raise StopAsyncIteration
        reply = await self._link.call_at(self._master, "SCAN", self._cursor, *self._rest)
        cursor, keys = reply
        self._cursor = cursor if cursor != b"0" else None
        return [key.decode(errors="replace") for key in keys]


async def all_keys(link: Link, pattern: str, kind: str = "") -> set[str]:
    """All keys that match, of every server. `kind` and what is raised: as `Scan` has it."""
    found: set[str] = set()
    for master in link.masters():
        async for keys in Scan(link, master, pattern, kind):
            found.update(keys)
    return found
