"""A stream: where events are added, and where readers and sinks come from.

The public face; the work is in `adding.py`, `reader.py` and `sink.py`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Literal, overload

from typing_extensions import TypeVar

from pulsewire._core.checks import check_count
from pulsewire._core.hooks import Hooks
from pulsewire._core.ids import RequestIds
from pulsewire._redis.link import Link
from pulsewire._redis.namespace import Namespace
from pulsewire.errors import (
    DecodeError,
    InvalidOption,
)
from pulsewire.streaming.adding import Adder
from pulsewire.streaming.dead_letters import DeadLetters
from pulsewire.streaming.keys import StreamKeys
from pulsewire.streaming.positions import Start, id_of, position_of
from pulsewire.streaming.reader import Reader, ReaderOptions
from pulsewire.streaming.retention import StreamOptions
from pulsewire.streaming.sink import Sink, SinkOptions
from pulsewire.streaming.source import Source
from pulsewire.streaming.store import StreamStore
from pulsewire.streaming.wire import EntryFormat, Event, NewEvent, StreamInfo

T = TypeVar("T", default=bytes)


class Stream(Generic[T]):
    """A named sequence of events. Get one from `Hub.stream`; it opens nothing and needs no closing."""

    def __init__(  # a hub fills them in; users see the options
        self,
        link: Link,
        space: Namespace,
        name: str,
        *,
        entry_format: EntryFormat[T],
        options: StreamOptions,
        key: str | None,
        hooks: Hooks,
        logger: logging.Logger,
        requests: RequestIds,
    ) -> None:
        self.name = name
        self.options = options
        self.store = StreamStore(link, StreamKeys(space, name, key))
        self.entry_format = entry_format
        self.hooks = hooks
        self.logger = logger
        self.source = Source(name, self.store, entry_format, hooks, logger, options.rules())
        self._space = space
        self._link = link
        self._requests = requests
        self._adder = Adder(self.source, options, requests)

    @property
    def key(self) -> str:
        """The Redis key, namespace included."""
        return self.store.main

    def __repr__(self) -> str:
        return f"<Stream {self.name!r} key={self.key!r} max_len={self.options.max_len} retain={self.options.retain}>"

    # --- adding

    @overload
    async def add(
        self,
        name: str,
        payload: T,
        *,
        topic: str | None = ...,
        headers: Mapping[str, str] | None = ...,
        only_if_exists: Literal[False] = ...,
        idempotency_key: str | None = ...,
    ) -> str: ...
    @overload
    async def add(
        self,
        name: str,
        payload: T,
        *,
        topic: str | None = ...,
        headers: Mapping[str, str] | None = ...,
        only_if_exists: bool,
        idempotency_key: str | None = ...,
    ) -> str | None: ...
    async def add(
        self,
        name: str,
        payload: T,
        *,
        topic: str | None = None,
        headers: Mapping[str, str] | None = None,
        only_if_exists: bool = False,
        idempotency_key: str | None = None,
    ) -> str | None:
        """Append an event.

        A lost connection on the way is mended: whether the event had been added is found out, and it is added once.

        Args:
            name: what happened, such as `user.created`.
            payload: what the stream's codec takes; bytes by default.
            topic: for consumers that filter.
            headers: more text, such as a trace context.
            only_if_exists: do nothing when there is no such stream.
            idempotency_key: adding again with this key within `idempotency_window` returns the first event's id.

        Returns:
            The event's id; None only with `only_if_exists`, when the stream does not exist.

        Raises:
            StreamFull: the stream is at its hard limit.
            PayloadTooLarge, InvalidName, InvalidOption, TypeError: the event cannot be added; nothing was sent.
            ServerUnavailable: no server within `wait_for_server`; it was not added.
            OutcomeUnknown: it cannot be found out whether it was added.
        """
        return await self._adder.add(
            name, payload, topic, headers, only_if_exists=only_if_exists, once=idempotency_key
        )

    async def add_many(self, events: Iterable[NewEvent[T] | tuple[str, T]]) -> list[str]:
        """Append events in this order, in few writes. Not atomic.

        On an error, those before it are in the stream, and some after it may be.

        Returns:
            Their ids.

        Raises:
            As `add`. All events are checked before the first one is sent.
        """
        return await self._adder.add_many(events)

    # --- looking and tidying

    async def remove(self, *event_ids: str) -> int:
        """Delete events; returns how many there were."""
        return (
            await self.store.remove([id_of(event_id, "event_ids") for event_id in event_ids])
            if event_ids
            else 0
        )

    async def trim(self, max_len: int | None = None) -> int:
        """Trim now to about `max_len` (default: the stream's own), keeping what `retain` says. Returns how many went.

        At most 1,000 events a call with `retain="unacked"`.
        """
        limit = self.options.max_len if max_len is None else check_count("max_len", max_len, 0)
        return await self.store.trim(limit, self.options.retain) if limit else 0

    async def length(self) -> int:
        """How many events the stream holds."""
        return await self.store.length()

    async def info(self) -> StreamInfo:
        """Length, ids, memory, and every sink with its consumers, pending events and lag."""
        return await self.store.info()

    async def destroy(self) -> bool:
        """Delete the stream, its sinks and their bookkeeping. Returns whether there was one.

        A sink that is open anywhere makes it anew, empty, at its next read.
        """
        self._adder.forget()
        return await self.store.destroy()

    async def range(
        self, start: Start = "oldest", end: str | None = None, *, count: int = 1000
    ) -> list[Event[T]]:
        """Up to `count` events after `start`, up to and including the id `end`; malformed entries are left out."""
        position = position_of(start)
        if position == "$":
            return []
        check_count("count", count)
        raw = await self.store.range(
            f"({position}", "+" if end is None else id_of(end, "end"), count
        )
        events = []
        for entry_id, fields in raw:
            try:
                events.append(self.source.decode(entry_id, fields))
            except DecodeError as error:
                self.source.report_malformed(entry_id, error)
        return events

    # --- consuming

    def reader(
        self,
        *,
        start: Start = "newest",
        topic: str | None = None,
        topic_pattern: str | re.Pattern[str] | None = None,
        block: float = 5.0,
        max_polled: int = 1000,
        buffer: int = 1000,
        follow: bool = True,
    ) -> Reader[T]:
        """A reader: its own cursor, sees every event, acknowledges nothing. Use it with `async with`.

        Args:
            start: "newest" (what is added from now on), "oldest", the id of the last event not wanted, or a moment.
            topic: only events of exactly this topic.
            topic_pattern: only events in whose topic this regular expression is found.
            block: seconds one wait on the server lasts at most.
            max_polled: events fetched at once at most.
            buffer: events held ahead at most.
            follow: False ends the iteration after the last event that was there on opening.

        Raises:
            InvalidOption: an option is impossible.
        """
        options = ReaderOptions(
            start=start,
            topic=topic,
            topic_pattern=topic_pattern,
            block=block,
            max_polled=max_polled,
            buffer=buffer,
            follow=follow,
        )
        return Reader(self.source, options)

    def sink(
        self,
        name: str,
        *,
        start: Start = "newest",
        topic: str | None = None,
        topic_pattern: str | re.Pattern[str] | None = None,
        no_ack: bool = False,
        ack_grace: float = 20.0,
        max_deliveries: int | None = None,
        dead_letter: Stream[Any] | str | None = None,
        block: float = 5.0,
        max_polled: int = 1000,
        buffer: int = 1000,
    ) -> Sink[T]:
        """A sink: all sinks of one name share one cursor, each event goes to one of them, at least once.

        Args:
            name: of the sink, which is a consumer group.
            start: as for a reader; only counts when this call creates the group.
            topic: only events of exactly this topic; others are acknowledged and passed over.
            topic_pattern: only events in whose topic this regular expression is found.
            no_ack: events count as done when they are delivered; a crash loses them.
            ack_grace: seconds after which an event that nobody works on is delivered again. Use the same everywhere.
            max_deliveries: an event that was delivered this often without an ack goes to the dead-letter stream instead
                of being delivered again.
            dead_letter: that stream, or its name; default `<stream>.dead`. Malformed entries go there, too, if given.
            block: seconds one wait on the server lasts at most.
            max_polled: events fetched at once at most.
            buffer: events held ahead at most; the pace of the handler keeps it lower.

        Raises:
            InvalidName, InvalidOption: something is impossible.
        """
        options = SinkOptions(
            name=name,
            start=start,
            topic=topic,
            topic_pattern=topic_pattern,
            no_ack=no_ack,
            ack_grace=ack_grace,
            max_deliveries=max_deliveries,
            block=block,
            max_polled=max_polled,
            buffer=buffer,
        )
        return Sink(self.source, options, self._dead_letters(dead_letter, max_deliveries))

    def _dead_letters(
        self, where: Stream[Any] | str | None, max_deliveries: int | None
    ) -> DeadLetters | None:
        if where is None and max_deliveries is None:
            return None
        if not isinstance(where, Stream):
            where = self.sibling(f"{self.name}.dead" if where is None else where)
        if where.key == self.key:
            raise InvalidOption("dead_letter", where.name, "is the stream itself")
        return DeadLetters(where.source, where.options.rules())

    def _key_of_sibling(self, name: str) -> str | None:
        foreign = self.store.keys.foreign
        if foreign is None or not isinstance(name, str):
            return None
        return foreign + name.removeprefix(self.name) if name.startswith(self.name) else name

    def sibling(self, name: str) -> Stream[T]:
        """A stream of the same format without a length limit, such as the dead letters of this one."""
        return Stream(
            self._link,
            self._space,
            name,
            entry_format=self.entry_format,
            options=StreamOptions(max_len=0, hard_limit=0, max_payload=self.options.max_payload),
            key=self._key_of_sibling(name),
            hooks=self.hooks,
            logger=self.logger,
            requests=self._requests,
        )
