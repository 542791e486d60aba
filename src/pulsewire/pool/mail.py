"""Reading what comes for a node: the inboxes of its workers and the replies to its calls, by one blocking read for all.

Positions are kept here. An inbox entry is deleted by whoever has carried it out, so a node that starts anew reads what
was left; within one node each entry is read once.
"""

from __future__ import annotations

from collections.abc import Callable

from pulsewire._redis.blocking import LONGEST_BLOCK, BlockingConnection
from pulsewire._redis.link import Link
from pulsewire.errors import DecodeError
from pulsewire.pool.crew import Crew
from pulsewire.pool.wire import Order, Reply, decode_order, decode_reply

AT_ONCE = 500
START = "0-0"


class Mail:
    """The mail of one node."""

    def __init__(self, link: Link, crew: Crew, on_reply: Callable[[Reply], None]) -> None:
        self._link = link
        self._crew = crew
        self._on_reply = on_reply
        self._replies = crew.store.keys.replies(crew.node)
        self._positions: dict[str, str] = {self._replies: START}
        self._takers: dict[str, tuple[str, Callable[[Order], None]]] = {}
        self._connection = BlockingConnection(link, self._replies)

    async def add(self, worker: str, take: Callable[[Order], None]) -> None:
        """Read the inbox of a worker, too."""
        inbox = self._crew.store.keys.inbox(worker)
        self._takers[inbox] = (worker, take)
        self._positions[inbox] = START
        await self._connection.unblock()

    def remove(self, worker: str) -> None:
        """Read it no more, from the next read on."""
        inbox = self._crew.store.keys.inbox(worker)
        self._takers.pop(inbox, None)
        self._positions.pop(inbox, None)

    async def read_once(self) -> None:
        """Wait for mail, and hand it out."""
        await self._connection.open(self._link.options.wait_for_server)
        names = list(self._positions)
        block = int(LONGEST_BLOCK * 1000)
        reply = await self._connection.call(
            "XREAD",
            "COUNT",
            AT_ONCE,
            "BLOCK",
            block,
            "STREAMS",
            *names,
            *(self._positions[name] for name in names),
        )
        for name, entries in (reply or {}).items():
            self._hand_out(name.decode(), entries)

    def _hand_out(self, name: str, entries: list[tuple[bytes, list[bytes]]]) -> None:
        if name not in self._positions:
            return  # the worker has left meanwhile
        for entry, fields in entries:
            position = self._positions[name] = entry.decode()
            try:
                if name == self._replies:
                    self._on_reply(decode_reply(fields))
                else:
                    self._takers[name][1](decode_order(position, fields))
            except DecodeError as error:
                self._crew.note_malformed(name, position, error)
                if name != self._replies:
                    self._crew.start_soon(self._discard, self._takers[name][0], position)

    async def _discard(self, worker: str, entry: str) -> None:
        await self._crew.store.done(worker, entry)

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()
