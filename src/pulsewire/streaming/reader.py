"""A reader: its own cursor over one or more streams, sees every event, acknowledges nothing."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

from typing_extensions import TypeVar

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._redis.blocking import LONGEST_BLOCK, BlockingConnection
from pulsewire.errors import Closed, ConfigurationError, DecodeError
from pulsewire.streaming.demand import Demand
from pulsewire.streaming.intake import Intake, IntakeOptions
from pulsewire.streaming.passage import Passage, Tally
from pulsewire.streaming.positions import NEWEST, Start, age_of, order_of, position_of
from pulsewire.streaming.source import Source
from pulsewire.streaming.store import entries_of
from pulsewire.streaming.wire import Event, RawFields

if TYPE_CHECKING:
    from pulsewire.streaming.stream import Stream

T = TypeVar("T", default=bytes)
COUNT_EVERY = 1.0
"""Seconds between two counts of what a stream has lost, while its events come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions(IntakeOptions):
    """Options of a reader. `follow=False` ends after the last event that was there on opening."""

    follow: bool = True


@dataclass(frozen=True, slots=True)
class ReaderStatistics:
    """What a reader has done so far, and holds now.

    Attributes:
        delivered: events handed out, or waiting to be.
        filtered: events that it does not want.
        malformed: entries that are not events.
        missed: events that were removed from the stream before the reader came to them.
        buffered: events that wait to be taken.
        cursors: by stream, the id up to which it has read.
    """

    delivered: int
    filtered: int
    malformed: int
    missed: int
    buffered: int
    cursors: dict[str, str]


class _Cursor(Generic[T]):
    """How far one stream was read. `end` is the last id wanted, None to follow."""

    __slots__ = ("counted_at", "end", "is_counted", "passage", "position", "source")

    def __init__(
        self, source: Source[T], position: str, end: str | None, tally: Tally | None
    ) -> None:
        self.source = source
        self.position = position
        self.end = end
        self.passage = Passage(tally, position)
        self.is_counted = True  # nothing was read since the last count
        self.counted_at = SYSTEM_CLOCK.monotonic()

    @property
    def is_done(self) -> bool:
        return self.end is not None and order_of(self.position) >= order_of(self.end)


class Reader(Generic[T]):
    """Use with `async with`, then `async for` or `read`. It reads from the position it had when it was entered."""

    def __init__(self, source: Source[T], options: ReaderOptions) -> None:
        self._source = source
        self._options = options
        self._wanted = options.wanted()
        self._cursors: dict[str, _Cursor[T]] = {}
        self._intake: Intake[T] | None = None
        self._delivered = self._filtered = self._malformed = self._missed = 0

    def __repr__(self) -> str:
        names = (
            ", ".join(sorted(cursor.source.name for cursor in self._cursors.values()))
            or self._source.name
        )
        return f"<Reader of {names}, {self._delivered} delivered>"

    async def __aenter__(self) -> Self:
        if self._intake is not None:
            raise ConfigurationError(f"{self!r} is entered already: get another one of the stream")
        source, demand = self._source, Demand(self._options.buffer, even=False)
        intake: Intake[T] = Intake(
            source.store.link,
            self,
            demand,
            source.hooks,
            source.logger,
            name=f"reader of {source.name}",
        )
        self._cursors = {source.store.main: await self._cursor(source, self._options.start)}
        await intake.tasks.enter()
        self._intake = intake
        try:
            await self._arrange()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        intake = self._open_intake()
        intake.context.stop.set()
        intake.inbox.close()
        try:  # a reader owns nothing on the server: no need to wait
            return await intake.tasks.leave(kind, error, trace)
        finally:
            self._intake = None  # not before: a feed that has just been started looks at it

    async def _cursor(self, source: Source[T], start: Start) -> _Cursor[T]:
        """Where to begin. The newest is resolved once: `$` is another event at each read (spec/pulse.md S16)."""
        position = position_of(start)
        end = None if self._options.follow else await source.store.last_id()
        if position == NEWEST:
            position = end or await source.store.last_id()
        # after the position: what comes in between counts as seen, and nothing that was missed is made up
        tally = await source.store.tally()
        return _Cursor(source, position, end, tally)

    def _open_intake(self) -> Intake[T]:
        if self._intake is None:
            raise Closed(repr(self))
        return self._intake

    async def _arrange(self) -> None:
        intake = self._open_intake()
        sources = [cursor.source for cursor in self._cursors.values() if not cursor.is_done]
        if sources:
            intake.inbox.reopen()  # without `follow`, all that was read before may have ended already
        await intake.arrange(sources)
        self._end_when_done()

    def _end_when_done(self) -> None:
        done = not self._options.follow and all(cursor.is_done for cursor in self._cursors.values())
        if done and self._intake is not None:
            self._intake.inbox.end()

    # --- for users

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event[T]:
        event = await self._open_intake().inbox.take()
        if event is None:
            raise StopAsyncIteration
        return event

    async def read(self, *, max: int = 1000, timeout: float | None = None) -> list[Event[T]]:
        """Up to `max` events.

        Args:
            max: how many at most.
            timeout: seconds to wait for the first one; None waits as long as it takes.

        Returns:
            The events; an empty list when the time is over, or (without `follow`) at the end.
        """
        return await self._open_intake().read(max, timeout)

    async def add_stream(self, stream: Stream[T], *, start: Start | None = None) -> None:
        """Read another stream, too, from `start` (default: the reader's own). Nothing happens if it is read already."""
        source = stream.source
        if source.store.main not in self._cursors:
            self._cursors[source.store.main] = await self._cursor(
                source, start or self._options.start
            )
            await self._arrange()

    async def remove_stream(self, stream: Stream[T]) -> None:
        """Stop reading a stream. Events of it that are buffered still come."""
        if self._cursors.pop(stream.source.store.main, None) is not None:
            await self._arrange()

    def statistics(self) -> ReaderStatistics:
        """Counts so far."""
        return ReaderStatistics(
            self._delivered,
            self._filtered,
            self._malformed,
            self._missed,
            len(self._intake.inbox) if self._intake is not None else 0,
            {cursor.source.name: cursor.position for cursor in self._cursors.values()},
        )

    # --- for the feeds

    async def wait_room(self) -> None:
        """Return when more events are wanted."""
        await self._open_intake().inbox.wait_room()

    async def reopened(self, connection: BlockingConnection, keys: list[str]) -> None:
        """After a failover the stream may end before the cursor: then go back, or new events would be passed over."""
        for key in keys:
            cursor = self._cursors.get(key)
            if cursor is None:
                continue
            last = await cursor.source.store.last_id()
            if order_of(last) < order_of(cursor.position):
                cursor.source.logger.warning(
                    "the stream lost its newest events, reading on from what it has",
                    extra={
                        "stream": cursor.source.name,
                        "cursor": cursor.position,
                        "last_id": last,
                    },
                )
                cursor.source.hooks.events_missed(cursor.source.name, "", 0)
                cursor.position = last
                cursor.passage.lose()

    async def poll(self, connection: BlockingConnection, keys: list[str]) -> bool:
        """One XREAD over the streams of a feed; False once all of them are read to their end."""
        options, inbox = self._options, self._open_intake().inbox
        cursors = [
            cursor
            for key in keys
            if (cursor := self._cursors.get(key)) is not None and not cursor.is_done
        ]
        if not cursors or inbox.is_ended:
            return False
        if (room := inbox.room()) <= 0:
            return True
        # all streams share the room, also those that other feeds read
        count = max(1, min(options.max_polled, room // len(self._cursors)))
        block = (
            ("BLOCK", int(min(options.block, LONGEST_BLOCK) * 1000) or 1) if options.follow else ()
        )
        names = [cursor.source.store.main for cursor in cursors]
        positions = [cursor.position for cursor in cursors]
        reply = await connection.call(
            "XREAD", "COUNT", count, *block, "STREAMS", *names, *positions
        )
        self._take(reply, cursors)
        await self._look_for_gaps(cursors)
        return True

    async def _look_for_gaps(self, cursors: list[_Cursor[T]]) -> None:
        """Say so when events were removed before they could be read: the reader is too slow, `max_len` too small."""
        for cursor in cursors:
            now = SYSTEM_CLOCK.monotonic()
            if cursor.is_counted or (now - cursor.counted_at < COUNT_EVERY and not cursor.is_done):
                continue
            cursor.is_counted, cursor.counted_at = True, now
            position, source = cursor.position, cursor.source
            tally = await source.store.tally()
            missed = cursor.passage.missed(tally, position) if tally is not None else 0
            if missed:
                self._missed += missed
                source.hooks.events_missed(source.name, "", missed)
                source.logger.warning(
                    "events were removed from the stream before this reader came to them",
                    extra={"stream": source.name, "cursor": position, "count": missed},
                )

    def _take(self, reply: object, cursors: list[_Cursor[T]]) -> None:
        by_key = dict(entries_of(reply))
        for cursor in cursors:
            entries = by_key.get(cursor.source.store.main)
            if entries:
                self._take_entries(cursor, entries)
            elif cursor.end is not None:
                cursor.position = cursor.end  # what was there on opening has been removed since
        self._end_when_done()

    def _take_entries(self, cursor: _Cursor[T], entries: list[tuple[bytes, RawFields]]) -> None:
        source, wanted, end = cursor.source, self._wanted, cursor.end
        events: list[Event[T]] = []
        for raw_id, fields in entries:
            entry_id = raw_id.decode()
            if end is not None and order_of(entry_id) > order_of(end):
                break
            if not source.wants(fields, wanted):
                self._filtered += 1
                continue
            try:
                events.append(source.decode(entry_id, fields))
            except DecodeError as error:
                self._malformed += 1
                source.report_malformed(entry_id, error)
        cursor.position = entries[-1][0].decode()
        cursor.passage.read(len(entries))
        cursor.is_counted = False
        if events:
            self._delivered += len(events)
            source.hooks.events_delivered(source.name, "", len(events), age_of(events[0].id))
            if self._intake is not None:
                self._intake.inbox.put(events)
