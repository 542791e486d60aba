"""A stream: where events are added, and where readers and sinks come from.

How `add` stays one plain command: XADD alone while the stream has *credit*, and about every tenth of `max_len` events
the script `add.lua`, which makes room without eating what a sink still needs, refuses at the hard limit, and grants new
credit. Streams with a TTL, and adds with an idempotency key, use the script each time.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

from pulsewire._core.backoff import Backoff
from pulsewire._core.checks import check_count, check_seconds
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.hooks import Hooks
from pulsewire._core.ids import RequestIds
from pulsewire._redis.link import Link, Unsettled
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.pipeline import Argument, JoinedConnection
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import (
    ConnectionLost,
    DecodeError,
    InvalidOption,
    OutcomeUnknown,
    PayloadTooLarge,
    ServerUnavailable,
    StreamFull,
)
from pulsewire.streaming.dead_letters import DeadLetters
from pulsewire.streaming.keys import StreamKeys
from pulsewire.streaming.positions import Start, position_of
from pulsewire.streaming.reader import Reader, ReaderOptions
from pulsewire.streaming.settle import find_added
from pulsewire.streaming.sink import Sink, SinkOptions
from pulsewire.streaming.source import Source
from pulsewire.streaming.store import Added, AddRules, StreamStore
from pulsewire.streaming.wire import REQUEST_FIELD, EntryFormat, Event, NewEvent, StreamInfo

T = TypeVar("T")

DEFAULT_MAX_LEN = 1000
HARD_LIMIT_FACTOR = 100
LEAST_HARD_LIMIT = 100_000
DEFAULT_MAX_PAYLOAD = 16 * 1024 * 1024
DEFAULT_IDEMPOTENCY_WINDOW = 3600.0
MAX_CREDIT = 1000
MANY_PER_WRITE = 500
MAX_IDEMPOTENCY_KEY = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream keeps its events. Checks itself.

    Attributes:
        max_len: about how many events to keep as history; 0 for no trimming.
        hard_limit: `add` is refused with `StreamFull` at this length, when sinks do not keep up. None: 100 times
            `max_len`, at least 100,000; 0 for none. Several publishers may pass it by a tenth of `max_len` each.
        retain: "unacked" keeps, beyond `max_len`, what a sink has not acknowledged; "none" trims regardless, as Go
            Pulse does.
        ttl: seconds from its creation after which the stream vanishes.
        sliding_ttl: seconds from the last `add` after which the stream vanishes.
        idempotency_window: seconds for which an idempotency key is remembered.
        max_payload: bytes of content that one event may have.
    """

    max_len: int = DEFAULT_MAX_LEN
    hard_limit: int | None = None
    retain: Literal["unacked", "none"] = "unacked"
    ttl: float | None = None
    sliding_ttl: float | None = None
    idempotency_window: float = DEFAULT_IDEMPOTENCY_WINDOW
    max_payload: int = DEFAULT_MAX_PAYLOAD

    def __post_init__(self) -> None:
        check_count("max_len", self.max_len, 0)
        check_count("max_payload", self.max_payload)
        check_seconds("idempotency_window", self.idempotency_window)
        if self.retain not in ("unacked", "none"):
            raise InvalidOption("retain", self.retain, 'use "unacked" or "none"')
        if self.hard_limit:
            check_count("hard_limit", self.hard_limit)
            if self.retain == "none" and self.max_len:
                raise InvalidOption(
                    "hard_limit",
                    self.hard_limit,
                    'retain="none" trims to max_len instead of refusing',
                )
            if self.hard_limit < self.max_len:
                raise InvalidOption(
                    "hard_limit", self.hard_limit, f"is below max_len={self.max_len}"
                )
        if self.ttl is not None and self.sliding_ttl is not None:
            raise InvalidOption(
                "sliding_ttl", self.sliding_ttl, f"ttl={self.ttl} is given, too; choose one of them"
            )
        for option in ("ttl", "sliding_ttl"):
            if (value := getattr(self, option)) is not None:
                check_seconds(option, value)

    @property
    def trims_plainly(self) -> bool:
        """Whether MAXLEN on each XADD is all there is to do."""
        return self.retain == "none" or (self.max_len == 0 and not self.hard_limit)

    @property
    def needs_script(self) -> bool:
        """Whether each `add` must be the script."""
        return self.ttl is not None or self.sliding_ttl is not None

    def effective_hard_limit(self) -> int:
        """The hard limit that is enforced, 0 for none."""
        if self.hard_limit is not None or self.trims_plainly:
            return self.hard_limit or 0
        return max(HARD_LIMIT_FACTOR * self.max_len, LEAST_HARD_LIMIT)

    def rules(self) -> AddRules:
        """For the store."""
        return AddRules(
            self.max_len,
            self.effective_hard_limit(),
            self.retain,
            self.ttl or 0.0,
            self.sliding_ttl or 0.0,
        )

    def credit(self, length: int) -> int:
        """How many plain adds may follow before room is made again, at this length."""
        if self.needs_script:
            return 0
        limit = self.effective_hard_limit()
        credit = min(max(self.max_len // 10, 1), MAX_CREDIT)
        return min(credit, max(limit - length, 0) // 64) if limit else credit


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
        self.source = Source(name, self.store, entry_format, hooks, logger)
        self._space = space
        self._link = link
        self._requests = requests
        self._rules = options.rules()
        self._head: tuple[Argument, ...] = ("XADD", self.store.main)
        self._trim: tuple[Argument, ...] = ()
        if options.trims_plainly and options.max_len:
            self._trim = ("MAXLEN", "~", options.max_len)
        self._adds_plainly = options.trims_plainly and not options.needs_script
        self._credit = 0
        self._is_renewing = False
        self._was_full = options.needs_script  # such streams never overdraw
        self._last_id: bytes | None = None

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
        fields, size = self.entry_format.fields(name, payload, topic, headers)
        if size > self.options.max_payload:
            raise PayloadTooLarge(size, self.options.max_payload, f"stream {self.name!r}")
        if idempotency_key is not None or not self._may_add_plainly():
            return await self._add_by_rules(
                fields, only_if_exists=only_if_exists, once=idempotency_key
            )
        command = self._command(fields, only_if_exists=only_if_exists)
        floor = self._last_id
        try:
            reply = await self._link.call(self.store.main, *command)
        except Unsettled as unsettled:
            return await self._settle(unsettled, command, floor)
        if reply is None:
            return None
        self._last_id = reply
        event_id: str = reply.decode()
        return event_id

    async def add_many(self, events: Iterable[NewEvent[T] | tuple[str, T]]) -> list[str]:
        """Append events in this order, in few writes. Not atomic: on an error, those before it are in the stream.

        Returns:
            Their ids.

        Raises:
            As `add`. All events are checked before the first one is sent.
        """
        prepared = [self._prepare(event) for event in events]
        ids: list[str] = []
        while len(ids) < len(prepared):
            if not self._may_add_plainly():
                ids.append(await self._must_add(prepared[len(ids)]))
                continue
            allowed = MANY_PER_WRITE if self._adds_plainly else max(self._credit, 0) + 1
            batch = prepared[len(ids) : len(ids) + min(allowed, MANY_PER_WRITE)]
            self._credit -= len(batch) - 1
            ids += await self._add_batch(
                [self._command(fields, only_if_exists=False) for fields in batch]
            )
        return ids

    def _prepare(self, event: NewEvent[T] | tuple[str, T]) -> list[Any]:
        if not isinstance(event, NewEvent):
            event = NewEvent(*event)
        fields, size = self.entry_format.fields(
            event.name, event.payload, event.topic, event.headers
        )
        if size > self.options.max_payload:
            raise PayloadTooLarge(size, self.options.max_payload, f"stream {self.name!r}")
        return fields

    async def _must_add(self, fields: list[Any]) -> str:
        event_id = await self._add_by_rules(fields, only_if_exists=False, once=None)
        if event_id is None:
            raise AssertionError("only an add with only_if_exists can find no stream")
        return event_id

    async def _add_batch(self, commands: list[tuple[Argument, ...]]) -> list[str]:
        """One write, replies in order; each event that meets trouble is brought to its end alone."""
        main, floor = self.store.main, self._last_id
        connection = await self._link.connection_for(main)
        futures = [_heard(connection, command) for command in commands]
        ids = []
        for command, future in zip(commands, futures, strict=True):
            try:
                reply = await future
            except (ReplyError, ConnectionLost) as trouble:
                try:
                    reply = await self._link.resume(main, command, trouble, connection)
                except Unsettled as unsettled:
                    reply = (await self._settle(unsettled, command, floor)).encode()
            self._last_id = reply
            ids.append(reply.decode())
        return ids

    def _may_add_plainly(self) -> bool:
        """Spend one credit, if there is one or none is needed.

        One caller at a time fetches new credit; those beside it overdraw, unless the stream was full the last time.
        """
        if self._adds_plainly:
            return True
        if self._credit > 0 or (self._is_renewing and not self._was_full):
            self._credit -= 1
            return True
        return False

    def _command(self, fields: list[Any], *, only_if_exists: bool) -> tuple[Argument, ...]:
        head = (
            (*self._head, "NOMKSTREAM", *self._trim)
            if only_if_exists
            else (*self._head, *self._trim)
        )
        if self.entry_format.has_requests:
            return (*head, "*", *fields, REQUEST_FIELD, self._requests.next())
        return (*head, "*", *fields)

    async def _add_by_rules(
        self, fields: list[Any], *, only_if_exists: bool, once: str | None
    ) -> str | None:
        if once is not None:
            _check_idempotency_key(once)
        request = None
        if self.entry_format.has_requests:
            request = self._requests.next()
            fields = [*fields, REQUEST_FIELD, request]
        floor, started = self._last_id, SYSTEM_CLOCK.monotonic()
        backoff = Backoff()
        while True:
            self._is_renewing = True
            try:
                added = await self.store.add_by_rules(
                    self._rules,
                    fields,
                    only_if_exists=only_if_exists,
                    once=once,
                    window=self.options.idempotency_window,
                )
            except Unsettled as unsettled:
                event_id = await self._find(unsettled, request, floor, started)
                if event_id is not None:
                    return event_id
                await asyncio.sleep(backoff.next_pause())
            else:
                return self._take_outcome(added)
            finally:
                self._is_renewing = False

    def _take_outcome(self, added: Added) -> str | None:
        if added.outcome == "full":
            self._was_full = True
            raise StreamFull(self.name, added.length, self._rules.hard_limit, added.held_by)
        if added.outcome == "missing":
            return None
        self._credit = self.options.credit(added.length)
        self._was_full = self._credit == 0
        if added.outcome == "added":
            self._last_id = added.event_id.encode()
        return added.event_id

    async def _settle(
        self, unsettled: Unsettled, command: tuple[Argument, ...], floor: bytes | None
    ) -> str:
        """Bring a plain add whose reply was lost to its end."""
        request = str(command[-1]) if self.entry_format.has_requests else None
        started = SYSTEM_CLOCK.monotonic() - self._link.options.silence
        backoff = Backoff()
        while True:
            event_id = await self._find(unsettled, request, floor, started)
            if event_id is not None:
                return event_id
            try:
                reply = await self._link.call(self.store.main, *command)
            except Unsettled as again:
                unsettled = again
                await asyncio.sleep(backoff.next_pause())
            else:
                self._last_id = reply
                return str(reply.decode())

    async def _find(
        self, unsettled: Unsettled, request: str | None, floor: bytes | None, started: float
    ) -> str | None:
        if request is None:
            raise OutcomeUnknown(
                unsettled.command,
                f"{unsettled.reason}; entries of this format carry no request id: use idempotency_key to add safely",
            ) from unsettled
        age = SYSTEM_CLOCK.monotonic() - started
        known = floor.decode() if floor is not None else None
        try:
            event_id = await find_added(self.store, unsettled, request, known, age)
        except ServerUnavailable as error:
            raise OutcomeUnknown(
                unsettled.command, f"{unsettled.reason}, and then {error}"
            ) from error
        self.hooks.write_settled(self.name, was_there=event_id is not None)
        return event_id

    # --- looking and tidying

    async def remove(self, *event_ids: str) -> int:
        """Delete events; returns how many there were."""
        return (
            await self.store.remove([position_of(event_id, "event id") for event_id in event_ids])
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
        """Delete the stream, its sinks and their bookkeeping. Returns whether there was one."""
        self._credit, self._last_id = 0, None
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
            f"({position}", "+" if end is None else position_of(end, "end"), count
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
            ack_grace: seconds after which an event that nobody works on is delivered again. The same in all processes.
            max_deliveries: after so many an event goes to the dead-letter stream.
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
            where = self.sibling(where or f"{self.name}.dead")
        if where.key == self.key:
            raise InvalidOption("dead_letter", where.name, "is the stream itself")
        return DeadLetters(where.source, where.options.rules())

    def sibling(self, name: str) -> Stream[T]:
        """A stream of the same format without a length limit, such as the dead letters of this one."""
        return Stream(
            self._link,
            self._space,
            name,
            entry_format=self.entry_format,
            options=StreamOptions(max_len=0, hard_limit=0, max_payload=self.options.max_payload),
            key=None
            if self.store.keys.foreign is None
            else f"{self.store.keys.foreign}{name.removeprefix(self.name)}",
            hooks=self.hooks,
            logger=self.logger,
            requests=self._requests,
        )


def _heard(connection: JoinedConnection, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
    """Submit; a connection that is gone already fails the future, as one that goes later does."""
    try:
        future = connection.submit(command)
    except ConnectionLost as error:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
    future.add_done_callback(_take_note)
    return future


def _take_note(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _check_idempotency_key(key: str) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidOption(
            "idempotency_key", key, f"1 to {MAX_IDEMPOTENCY_KEY} characters are needed"
        )


__all__: Sequence[str] = ["Stream", "StreamOptions"]
