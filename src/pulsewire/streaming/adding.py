"""The writing half of a stream: one event, many, or one under an idempotency key, each brought to a certain end.

`retention.py` says whether a plain XADD will do, `settle.py` finds out about lost replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from pulsewire._core.backoff import Backoff
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.ids import RequestIds
from pulsewire._redis.link import Unsettled
from pulsewire._redis.opening import HOPELESS
from pulsewire._redis.pipeline import Argument, Command, JoinedConnection, bulk, take_note
from pulsewire._redis.translate import ReplyError
from pulsewire.errors import (
    ConnectionLost,
    InvalidOption,
    OutcomeUnknown,
    PayloadTooLarge,
    ServerUnavailable,
    StreamFull,
)
from pulsewire.streaming.retention import Credit, StreamOptions
from pulsewire.streaming.settle import Inquiry
from pulsewire.streaming.source import Source
from pulsewire.streaming.store import Added
from pulsewire.streaming.wire import PACKED_FIELDS, REQUEST_FIELD, NewEvent, PulseFormat

T = TypeVar("T")

MANY_PER_WRITE = 500
MAX_IDEMPOTENCY_KEY = 512
FILLING = 0.8
"""Of the hard limit, from where on it is said that a stream is filling up."""


class Adder(Generic[T]):
    """Adds events to one stream."""

    def __init__(self, source: Source[T], options: StreamOptions, requests: RequestIds) -> None:
        self._source = source
        self._store = source.store
        self._inquiry = Inquiry(source.store)
        self._link = source.store.link
        self._format = source.entry_format
        self._options = options
        self._rules = options.rules()
        self._is_filling = False
        self._requests = requests
        trim = ("MAXLEN", "~", options.max_len) if options.trims_plainly and options.max_len else ()
        self._head: tuple[Argument, ...] = ("XADD", source.store.main, *trim, "*")
        self._head_if_exists: tuple[Argument, ...] = (
            "XADD",
            source.store.main,
            "NOMKSTREAM",
            *trim,
            "*",
        )
        self._pack = self._format.packed if isinstance(self._format, PulseFormat) else None
        words = len(self._head) + 2 * PACKED_FIELDS
        self._packed_head = b"*%d\r\n" % words + bulk(*self._head)
        self.forget()

    def forget(self) -> None:
        """The stream was destroyed: what was known of it means nothing any more."""
        self._credit = Credit(self._options)
        self._last_id: bytes | None = None

    async def add(
        self,
        name: str,
        payload: T,
        topic: str | None,
        headers: Mapping[str, str] | None,
        *,
        only_if_exists: bool,
        once: str | None,
    ) -> str | None:
        """Append an event; see `Stream.add`."""
        pack = self._pack
        if pack and topic is None and headers is None and once is None and not only_if_exists:
            request = self._requests.next()
            packed, size = pack(name, payload, request)
            self._check_size(size)
            if self._credit.spend():
                return await self._send(self._packed_head + packed, request)
        fields = self._fields(name, payload, topic, headers)
        if once is not None or not self._credit.spend():
            return await self._add_by_rules(fields, only_if_exists=only_if_exists, once=once)
        head = self._head_if_exists if only_if_exists else self._head
        return await self._send(*self._command(head, fields))

    async def _send(self, command: Command, request: str | None) -> str | None:
        """A plain XADD, brought to its end."""
        floor = self._last_id
        try:
            reply = await self._link.send(self._store.main, command)
        except Unsettled as unsettled:
            return await self._settle(unsettled, command, request, floor)
        if reply is None:
            return None
        self._last_id = reply
        event_id: str = reply.decode()
        return event_id

    async def add_many(self, events: Iterable[NewEvent[T] | tuple[str, T]]) -> list[str]:
        """Append events in this order; see `Stream.add_many`."""
        prepared = []
        for event in events:
            new = event if isinstance(event, NewEvent) else NewEvent(*event)
            prepared.append(self._fields(new.name, new.payload, new.topic, new.headers))
        ids: list[str] = []
        while len(ids) < len(prepared):
            if not self._credit.spend():
                ids.append(await self._must_add(prepared[len(ids)]))
                continue
            wanted = min(len(prepared) - len(ids), MANY_PER_WRITE)
            granted = 1 + self._credit.spend_more(wanted - 1)
            batch = prepared[len(ids) : len(ids) + granted]
            ids += await self._add_batch([self._command(self._head, fields) for fields in batch])
        return ids

    def _fields(
        self, name: str, payload: T, topic: str | None, headers: Mapping[str, str] | None
    ) -> list[Any]:
        fields, size = self._format.fields(name, payload, topic, headers)
        self._check_size(size)
        return fields

    def _check_size(self, size: int) -> None:
        if size > self._options.max_payload:
            where = f"stream {self._source.name!r}"
            raise PayloadTooLarge(size, self._options.max_payload, where)

    def _command(self, head: tuple[Argument, ...], fields: list[Any]) -> tuple[Command, str | None]:
        """The words of an XADD, and its request id where the format has one."""
        if not self._format.has_requests:
            return (*head, *fields), None
        request = self._requests.next()
        return (*head, *fields, REQUEST_FIELD, request), request

    async def _add_batch(self, commands: list[tuple[Command, str | None]]) -> list[str]:
        """One write, replies in order; each event that meets trouble is brought to its end alone."""
        main, floor = self._store.main, self._last_id
        connection = await self._link.connection_for(main)
        futures = [_heard(connection, command) for command, _ in commands]
        ids: list[str] = []
        for (command, request), future in zip(commands, futures, strict=True):
            try:
                reply = await future
            except (ReplyError, ConnectionLost) as trouble:
                try:
                    reply = await self._link.resume(main, command, trouble, connection)
                except Unsettled as unsettled:
                    known = ids[-1].encode() if ids else floor  # sent before this one
                    settled = await self._settle(unsettled, command, request, known)
                    if settled is None:
                        raise AssertionError("only_if_exists is not for many") from unsettled
                    reply = settled.encode()
            self._last_id = reply
            ids.append(reply.decode())
        return ids

    async def _must_add(self, fields: list[Any]) -> str:
        event_id = await self._add_by_rules(fields, only_if_exists=False, once=None)
        if event_id is None:
            raise AssertionError("only an add with only_if_exists can find no stream")
        return event_id

    async def _add_by_rules(
        self, fields: list[Any], *, only_if_exists: bool, once: str | None
    ) -> str | None:
        """Add with the script, which makes room first and brings new credit."""
        if once is not None:
            _check_idempotency_key(once)
        request = None
        if self._format.has_requests:
            request = self._requests.next()
            fields = [*fields, REQUEST_FIELD, request]
        floor, started = self._last_id, SYSTEM_CLOCK.monotonic()
        backoff = Backoff()
        while True:
            self._credit.begin_renewal()
            try:
                added = await self._store.add_by_rules(
                    self._rules,
                    fields,
                    only_if_exists=only_if_exists,
                    once=once,
                    window=self._options.idempotency_window,
                )
            except Unsettled as unsettled:
                event_id = await self._find(unsettled, request, floor, started)
                if event_id is not None:
                    return event_id
                await asyncio.sleep(backoff.next_pause())
            except ConnectionLost as error:
                # repeated under its key until nobody wanted to wait any more
                hint = "adding again under its idempotency key is safe"
                raise OutcomeUnknown("add", f"{error.reason}; {hint}") from error
            else:
                return self._take_outcome(added)
            finally:
                self._credit.end_renewal()

    def _take_outcome(self, added: Added) -> str | None:
        if added.outcome == "full":
            self._credit.refuse()
            limit = self._rules.hard_limit
            raise StreamFull(self._source.name, added.length, limit, added.held_by)
        if added.outcome == "missing":
            return None
        self._watch_length(added.length)
        if added.outcome == "added":  # a repeated one has made no room
            self._credit.renew(added.length)
            self._last_id = added.event_id.encode()
        return added.event_id

    def _watch_length(self, length: int) -> None:
        """Say so, once, before a stream is full: then `add` raises."""
        limit = self._rules.hard_limit
        if not limit or length < FILLING * limit:
            self._is_filling = False
        elif not self._is_filling:
            self._is_filling = True
            self._source.logger.warning(
                "the stream is filling up: a sink does not keep up, or nobody uses it any more",
                extra={"stream": self._source.name, "length": length, "hard_limit": limit},
            )

    # --- lost replies

    async def _settle(
        self, unsettled: Unsettled, command: Command, request: str | None, floor: bytes | None
    ) -> str | None:
        """Bring a plain add whose reply was lost to its end; None with `only_if_exists` when there is no stream."""
        started = SYSTEM_CLOCK.monotonic() - self._link.options.silence
        backoff = Backoff()
        while True:
            event_id = await self._find(unsettled, request, floor, started)
            if event_id is not None:
                return event_id
            try:
                reply = await self._link.send(self._store.main, command)
            except Unsettled as again:
                unsettled = again
                await asyncio.sleep(backoff.next_pause())
            else:
                if reply is None:
                    return None
                self._last_id = reply
                return str(reply.decode())

    async def _find(
        self, unsettled: Unsettled, request: str | None, floor: bytes | None, started: float
    ) -> str | None:
        """The id under which a request was carried out, None when it was not; raises when nobody can tell."""
        lost, command = unsettled.reason, unsettled.command
        if request is None:
            hint = "entries of this format carry no request id: use idempotency_key to add safely"
            raise OutcomeUnknown(command, f"{lost}; {hint}") from unsettled
        age = SYSTEM_CLOCK.monotonic() - started
        known = floor.decode() if floor is not None else None
        try:
            event_id = await self._inquiry.find(unsettled, request, known, age)
        except (ServerUnavailable, *HOPELESS) as error:
            raise OutcomeUnknown(command, f"{lost}, and then {error}") from error
        self._source.hooks.write_settled(self._source.name, was_there=event_id is not None)
        return event_id


def _heard(connection: JoinedConnection, command: Command) -> asyncio.Future[Any]:
    """Submit; a connection that is gone already fails the future, as one that goes later does."""
    try:
        future = connection.submit(command)
    except ConnectionLost as error:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
    future.add_done_callback(take_note)
    return future


def _check_idempotency_key(key: str) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidOption(
            "idempotency_key", key, f"1 to {MAX_IDEMPOTENCY_KEY} characters are needed"
        )
