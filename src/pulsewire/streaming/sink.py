"""A sink: one of the consumers that share the events of one or more streams, at least once each.

```
 feeds (one per slot) ──► shares ──► inbox ──► async for / read / consume ──► acks
                            ▲                        │ not acknowledged
 sweeper: claims ───────────┘◄── idle for ack_grace ─┘
```

An event is kept ours while somebody works on it: in `consume` while its handler runs, in `async for` until the next
one is asked for, after `read` until the next `read`. From then on, if it was not acknowledged, its idle time runs, and
after `ack_grace` seconds by the server's clock some sink of the name gets it again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

import anyio
from typing_extensions import TypeVar

from pulsewire._core.checks import check_count, check_name, check_seconds
from pulsewire._core.ids import new_ulid
from pulsewire._core.tasks import see_through
from pulsewire._redis.blocking import LONGEST_BLOCK, BlockingConnection
from pulsewire.errors import Closed, ConfigurationError, InvalidOption, PulsewireError, ServerError
from pulsewire.streaming.consume import ConsumeOptions, Consumption, Handler
from pulsewire.streaming.dead_letters import DeadLetters
from pulsewire.streaming.demand import Demand
from pulsewire.streaming.intake import Intake, IntakeOptions
from pulsewire.streaming.positions import Start, position_of
from pulsewire.streaming.share import Share, ShareRules
from pulsewire.streaming.source import Source
from pulsewire.streaming.store import entries_of
from pulsewire.streaming.sweeper import Sweeper
from pulsewire.streaming.wire import Event

if TYPE_CHECKING:
    from pulsewire.streaming.stream import Stream

T = TypeVar("T", default=bytes)

CLOSING_PATIENCE = 5.0
"""Seconds that leaving a sink may take to tell the server; what it could not tell, others find out after ack_grace."""
LEAST_ACK_GRACE = 0.05
OWN_PENDING_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions(IntakeOptions):
    """Options of a sink. Checks itself; see `Stream.sink` for their meaning."""

    name: str
    no_ack: bool = False
    ack_grace: float = 20.0
    max_deliveries: int | None = None

    def __post_init__(self) -> None:
        # slots=True makes a new class: the short form fails
        super(SinkOptions, self).__post_init__()
        check_name("sink", self.name)
        check_seconds("ack_grace", self.ack_grace, LEAST_ACK_GRACE)
        if self.max_deliveries is not None:
            check_count("max_deliveries", self.max_deliveries)
            if self.no_ack:
                raise InvalidOption(
                    "max_deliveries", self.max_deliveries, "with no_ack nothing is delivered again"
                )


@dataclass(frozen=True, slots=True)
class SinkStatistics:
    """What this consumer has done so far, and holds now.

    Attributes:
        claimed: of those delivered, taken over from consumers that went silent.
        gone: pending events that were no longer in their stream.
        lost_to_others: events in work here that others took over.
        released: events given back without having been begun.
        rebuilt: how often a vanished group was created again.
    """

    delivered: int
    acked: int
    claimed: int
    filtered: int
    malformed: int
    dead_lettered: int
    failed: int
    gone: int
    lost_to_others: int
    released: int
    rebuilt: int
    buffered: int
    in_work: int


class Sink(Generic[T]):
    """Use with `async with`; then `async for`, `read` or `consume`. It takes nothing before one of these asks."""

    def __init__(
        self, source: Source[T], options: SinkOptions, letters: DeadLetters | None
    ) -> None:
        self.name = options.name
        self.consumer = new_ulid()
        self._source = source
        self._options = options
        self._rules = ShareRules(
            sink=options.name,
            consumer=self.consumer,
            wanted=options.wanted(),
            no_ack=options.no_ack,
            ack_grace=options.ack_grace,
            max_deliveries=options.max_deliveries,
            letters=letters,
        )
        self._shares: dict[str, Share[T]] = {}
        self._removed: list[Share[T]] = []
        self._intake: Intake[T] | None = None
        self._batch: list[Event[T]] = []
        self._unguard: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        names = (
            ", ".join(sorted(share.source.name for share in self._shares.values()))
            or self._source.name
        )
        return f"<Sink {self.name!r} of {names}, consumer {self.consumer}>"

    async def __aenter__(self) -> Self:
        if self._intake is not None:
            raise ConfigurationError(f"{self!r} is entered already: get another one of the stream")
        source, options = self._source, self._options
        demand = Demand(min(options.buffer, options.max_polled), even=True)
        intake: Intake[T] = Intake(
            source.store.link,
            self,
            demand,
            source.hooks,
            source.logger,
            name=f"sink {self.name} of {source.name}",
        )
        share = Share(source, self._rules, intake.context, intake.inbox.put)
        await share.join(position_of(options.start))
        await intake.tasks.enter()
        self._intake = intake
        self._unguard = intake.context.ward.vitals.watch.begin("streams", source.logger)
        self._shares = {share.key: share}
        intake.tasks.start_soon(share.acks.run)
        Sweeper(self._all_shares, self._dismiss, intake.inbox, options.ack_grace).start(
            intake.tasks, intake.context
        )
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
        try:
            await see_through(self._leave(intake))
        except BaseException as cut:
            await self._end(intake, type(cut), cut, cut.__traceback__)
            raise
        return await self._end(intake, kind, error, trace)

    async def _end(
        self,
        intake: Intake[T],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """End all tasks, whatever has become of leaving."""
        for share in self._all_shares():
            share.acks.close()
        try:
            return await intake.tasks.leave(kind, error, trace)
        finally:
            self._intake = None
            self._unguard()

    async def _leave(self, intake: Intake[T]) -> None:
        """Stop reading, let the acks out, and give back what was not begun."""
        with anyio.move_on_after(CLOSING_PATIENCE, shield=True):
            intake.inbox.close()
            await intake.stop()
            for share in self._all_shares():
                await self._sign_off(share)

    async def _sign_off(self, share: Share[T]) -> None:
        try:
            await share.acks.finish()
            await share.leave()
        except PulsewireError as trouble:
            share.source.logger.warning(
                "a consumer could not sign off; others take over after ack_grace",
                extra={"stream": share.source.name, "sink": self.name, "why": str(trouble)},
            )

    def _open_intake(self) -> Intake[T]:
        if self._intake is None:
            raise Closed(repr(self))
        return self._intake

    async def _arrange(self) -> None:
        await self._open_intake().arrange([share.source for share in self._shares.values()])

    # --- for users

    def __aiter__(self) -> SinkIterator[T]:
        return SinkIterator(self._open_intake())

    async def read(self, *, max: int = 1000, timeout: float | None = None) -> list[Event[T]]:
        """Up to `max` events; they count as in work until the next `read`.

        Args:
            max: how many at most.
            timeout: seconds to wait for the first one; None waits as long as it takes.

        Returns:
            The events; an empty list when the time is over or the sink was stopped.
        """
        for event in self._batch:
            _move_on(event)
        self._batch = [
            event for event in await self._open_intake().read(max, timeout) if _begin(event)
        ]
        return list(self._batch)

    async def ack(self, *events: Event[T]) -> None:
        """Acknowledge events, in one command per stream.

        Raises:
            ServerUnavailable: the server could not be told in time; they may be delivered again.
        """
        if self._options.no_ack:
            return
        for share, ids in self._by_share(events).items():
            await share.acks.ack(ids)

    async def extend(self, *events: Event[T]) -> None:
        """Keep events that are worked on beyond the loop body or the next `read`, until they are acknowledged."""
        if self._options.no_ack:
            return
        for share, ids in self._by_share(events).items():
            for event_id in ids:
                share.holdings.extend(event_id)
            await share.refresh_once()

    def _by_share(self, events: Iterable[Event[T]]) -> dict[Share[T], list[str]]:
        """Ids of events by where they came from; all are checked first."""
        ids: dict[Share[T], list[str]] = {}
        for event in events:
            share = event._origin  # noqa: SLF001  # put there by the share
            if not isinstance(share, Share) or share.rules is not self._rules:
                reason = f"was not handed out by this sink {self.name!r}"
                raise InvalidOption("event", event, reason)
            ids.setdefault(share, []).append(event.id)
        return ids

    async def consume(
        self,
        handler: Handler[T],
        *,
        concurrency: int = 1,
        ordered_by: Callable[[Event[T]], Hashable] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Call `handler` for each event until `stop`; handlers that run then finish.

        An event is acknowledged when its handler returns. When it raises, the event is delivered again after
        `ack_grace`, to any sink of this name, and after `max_deliveries` moved to the dead letters.

        Args:
            handler: a coroutine function of an event.
            concurrency: handlers that run at once at most.
            ordered_by: gives the key of an event; within this sink, events of one key are handled one after the
                other, as they came. A failed event comes again later, behind the others of its key.
            timeout: seconds after which a handler is cancelled, which counts as a failure.
        """
        options = ConsumeOptions(concurrency=concurrency, ordered_by=ordered_by, timeout=timeout)
        await Consumption(self._open_intake().inbox, handler, options).run()

    def stop(self) -> None:
        """Take no more events: iteration and `consume` end, `read` returns nothing. Leave the block to finish."""
        self._open_intake().inbox.close()

    async def add_stream(self, stream: Stream[T], *, start: Start | None = None) -> None:
        """Share another stream, too. Its group is created at `start` (default: the sink's own) if there is none."""
        source, intake = stream.source, self._open_intake()
        if source.store.main in self._shares:
            return
        share = Share(source, self._rules, intake.context, intake.inbox.put)
        await share.join(position_of(start if start is not None else self._options.start))
        self._shares[share.key] = share
        intake.tasks.start_soon(share.acks.run)
        await self._arrange()

    async def remove_stream(self, stream: Stream[T]) -> None:
        """Stop sharing a stream. The group and what is pending in it stay for the others."""
        share = self._shares.pop(stream.source.store.main, None)
        if share is not None:
            share.is_leaving = True
            self._removed.append(share)  # what is in work is kept, and may be acknowledged
            await self._arrange()
            await share.acks.wait_drained()
            await share.leave()
            await self._dismiss(share)

    async def _dismiss(self, share: Share[T]) -> None:
        """Forget the share of a stream that was removed, once nothing of it is in work."""
        if share in self._removed and not len(share.holdings):
            self._removed.remove(share)
            await share.acks.finish()
            self._rules.counts.acked += share.acks.acked

    def _all_shares(self) -> list[Share[T]]:
        return [*self._shares.values(), *self._removed]

    def statistics(self) -> SinkStatistics:
        """Counts so far."""
        counts = self._rules.counts
        shares = self._all_shares()
        return SinkStatistics(
            delivered=counts.delivered,
            acked=counts.acked + sum(share.acks.acked for share in shares),
            claimed=counts.claimed,
            filtered=counts.filtered,
            malformed=counts.malformed,
            dead_lettered=counts.dead_lettered,
            failed=counts.failed,
            gone=counts.gone,
            lost_to_others=counts.lost_to_others,
            released=counts.released,
            rebuilt=counts.rebuilt,
            buffered=len(self._intake.inbox) if self._intake is not None else 0,
            in_work=sum(share.holdings.in_work for share in shares),
        )

    # --- for the feeds

    async def wait_room(self) -> None:
        """Return when more events are wanted."""
        await self._open_intake().inbox.wait_room()

    async def reopened(self, connection: BlockingConnection, keys: list[str]) -> None:
        """Fetch what the server gave us in a reply that never came: our pending entries after the last one we saw."""
        for key in keys:
            share = self._shares.get(key)
            while share is not None and not self._options.no_ack:
                entries = await self._poll_share(connection, share, share.last_seen)
                if len(entries) < OWN_PENDING_BATCH:
                    break

    async def _poll_share(
        self, connection: BlockingConnection, share: Share[T], after: str
    ) -> list[Any]:
        """Our own pending entries of one stream."""
        try:
            reply = await connection.call(
                "XREADGROUP",
                "GROUP",
                self.name,
                self.consumer,
                "COUNT",
                OWN_PENDING_BATCH,
                "STREAMS",
                share.key,
                after,
            )
        except ServerError as error:
            await share.mend(error)
            return []
        found = entries_of(reply)
        entries: list[Any] = found[0][1] if found else []
        await share.take_new(entries)
        return entries

    async def poll(self, connection: BlockingConnection, keys: list[str]) -> bool:
        """One XREADGROUP over the streams of a feed; False once nothing more is wanted."""
        intake, options = self._open_intake(), self._options
        keys = [key for key in keys if key in self._shares]
        if not keys or intake.inbox.is_ended:
            return False
        if (room := intake.inbox.room()) <= 0:
            return True
        # all streams share the room, also those that other feeds read
        count = max(1, min(options.max_polled, room // len(self._shares)))
        no_ack = ("NOACK",) if options.no_ack else ()
        block = int(min(options.block, LONGEST_BLOCK) * 1000) or 1
        group = (
            "XREADGROUP",
            "GROUP",
            self.name,
            self.consumer,
            "COUNT",
            count,
            "BLOCK",
            block,
            *no_ack,
        )
        try:
            reply = await connection.call(*group, "STREAMS", *keys, *(">" for _ in keys))
        except ServerError as error:
            for key in keys:
                if (share := self._shares.get(key)) is not None:  # removed meanwhile
                    await share.mend(error)
            return True
        for key, entries in entries_of(reply):
            share = self._shares.get(key)
            if share is not None:
                await share.take_new(entries)
        return True


class SinkIterator(Generic[T]):
    """One `async for` over a sink: the event it gave last counts as in work until the next one is asked for."""

    __slots__ = ("_in_hand", "_intake")

    def __init__(self, intake: Intake[T]) -> None:
        self._intake = intake
        self._in_hand: Event[T] | None = None

    def __aiter__(self) -> Self:
        return self

    def __del__(self) -> None:
        # the loop was left early: else nobody would get the event while the sink is open
        if self._in_hand is not None:
            _move_on(self._in_hand)

    async def __anext__(self) -> Event[T]:
        if self._in_hand is not None:
            _move_on(self._in_hand)
            self._in_hand = None
        while True:
            event = await self._intake.inbox.take()
            if event is None:
                raise StopAsyncIteration
            if _begin(event):
                self._in_hand = event
                return event


def _begin(event: Event[T]) -> bool:
    share = event._origin  # noqa: SLF001  # put there by the share
    return isinstance(share, Share) and share.begin(event)


def _move_on(event: Event[T]) -> None:
    share = event._origin  # noqa: SLF001  # put there by the share
    if isinstance(share, Share):
        share.move_on(event.id)
