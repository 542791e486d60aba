"""One stream's part in one sink: the consumer it is there, what it holds, and what becomes of entries.

Thin: `holdings.py` decides what is held, `store.py` and `acks.py` talk to the server, `sweeper.py` calls the duties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from pulsewire._core.loops import LoopContext, Stop
from pulsewire.errors import DecodeError, ServerError, StreamFull
from pulsewire.streaming.acks import Acks
from pulsewire.streaming.dead_letters import DeadLetters
from pulsewire.streaming.filters import Filter
from pulsewire.streaming.holdings import Holdings
from pulsewire.streaming.positions import age_of, order_of
from pulsewire.streaming.source import Source
from pulsewire.streaming.store import REFRESH_BATCH, ClaimedEntry, Suspicion
from pulsewire.streaming.wire import Event, RawFields

T = TypeVar("T")


@dataclass(slots=True)
class Counts:
    """What a sink has done so far, all streams together."""

    delivered: int = 0
    acked: int = 0  # by shares that are no more
    claimed: int = 0
    filtered: int = 0
    malformed: int = 0
    dead_lettered: int = 0
    failed: int = 0
    gone: int = 0
    lost_to_others: int = 0
    released: int = 0
    rebuilt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRules:
    """What the sink's options say to each of its shares."""

    sink: str
    consumer: str
    wanted: Filter | None
    no_ack: bool
    ack_grace: float
    max_deliveries: int | None
    letters: DeadLetters | None
    counts: Counts = field(default_factory=Counts)

    @property
    def suspicion(self) -> Suspicion:
        """It falls on events whose next delivery is the last one.

        Their consumers may have died by them, or only beside them. So no consumer takes two of these at a time.
        """
        most = self.max_deliveries
        return Suspicion() if most is None else Suspicion(max(most - 1, 1), most)


class Share(Generic[T]):
    """A consumer in one stream's group. Events know it as their origin."""

    def __init__(
        self,
        source: Source[T],
        rules: ShareRules,
        context: LoopContext,
        deliver: Callable[[list[Event[T]]], None],
    ) -> None:
        self.source = source
        self._deliver = deliver
        self.rules = rules
        self.holdings = Holdings()
        # acks go on after the sink has stopped taking; they end with its tasks
        self.acks = Acks(
            source.store,
            rules.sink,
            self.holdings,
            replace(context, stop=Stop()),
        )
        self.last_seen = "0-0"
        self.is_leaving = False
        self._noted = ""
        self._suspect = ""
        self._is_claiming = False

    @property
    def key(self) -> str:
        """The stream's Redis key."""
        return self.source.store.main

    async def join(self, position: str) -> None:
        """Be a consumer of the group, which is created at `position` if there is none."""
        store, rules = self.source.store, self.rules
        if await store.ensure_group(rules.sink, position):
            await store.expire(self.source.rules)
        try:
            await store.add_consumer(rules.sink, rules.consumer)
        except ServerError as error:  # it has vanished in between
            await self.mend(error)

    # --- what comes

    async def take_new(self, entries: Sequence[tuple[bytes, RawFields | None]]) -> None:
        """Deliver the events among entries that the server gave this consumer for the first time."""
        rules, source, holdings = self.rules, self.source, self.holdings
        wanted, hold, sink = rules.wanted, not rules.no_ack, rules.sink
        events: list[Event[T]] = []
        bad: list[tuple[str, RawFields, DecodeError]] = []
        passed_over: list[str] = []
        gone: list[str] = []
        for raw_id, fields in entries:
            event_id = raw_id.decode()
            if fields is None:  # deleted while it was pending
                gone.append(event_id)
            elif wanted is not None and not wanted(source.entry_format.topic(fields)):
                passed_over.append(event_id)
                rules.counts.filtered += 1
            else:
                try:
                    event = source.decode(event_id, fields, sink, 1, self)
                except DecodeError as error:
                    bad.append((event_id, fields, error))
                    continue
                if not hold or holdings.take(event_id):
                    events.append(event)
        if entries:
            self.last_seen = entries[-1][0].decode()
        self._hand_on(events)  # before anything is awaited: what was taken must not get lost
        self._pass_over(passed_over)
        self._miss(len(gone))
        for event_id in gone:
            self.acks.soon(event_id)
        for event_id, bad_fields, why in bad:
            await self._set_aside(event_id, bad_fields, why)

    async def take_claimed(self, entries: list[ClaimedEntry]) -> None:
        """Deliver the events among entries that were taken over. Those delivered too often become dead letters."""
        rules, source = self.rules, self.source
        events: list[Event[T]] = []
        dead: list[ClaimedEntry] = []
        bad: list[tuple[str, RawFields, DecodeError]] = []
        for entry in entries:
            if entry.event_id in self.holdings:
                continue  # ours all the time, only not refreshed for long: it is being worked on
            if rules.max_deliveries is not None and entry.deliveries > rules.max_deliveries:
                dead.append(entry)
            elif not source.wants(entry.fields, rules.wanted):
                self._pass_over([entry.event_id])
                rules.counts.filtered += 1
            else:
                try:
                    event = source.decode(
                        entry.event_id, entry.fields, rules.sink, entry.deliveries, self
                    )
                except DecodeError as error:
                    bad.append((entry.event_id, entry.fields, error))
                    continue
                if self.holdings.take(entry.event_id):
                    events.append(event)
        self._note_suspect([entry for entry in entries if entry.event_id in self.holdings])
        rules.counts.claimed += len(events)
        if events:
            source.hooks.events_claimed(source.name, rules.sink, len(events))
        self._hand_on(events)
        for event_id, bad_fields, why in bad:
            await self._set_aside(event_id, bad_fields, why)
        for entry in dead:
            await self._bury(entry)

    def _note_suspect(self, entries: list[ClaimedEntry]) -> None:
        for entry in entries:
            is_last = self.rules.suspicion.falls_on(entry.deliveries - 1)
            if (
                is_last and entry.owner != self.rules.consumer
            ):  # this one it has met before, and has not died of it
                self._suspect = entry.event_id

    def _hand_on(self, events: list[Event[T]]) -> None:
        if events:
            self._deliver(events)
            self.rules.counts.delivered += len(events)
            self.source.hooks.events_delivered(
                self.source.name, self.rules.sink, len(events), age_of(events[0].id)
            )

    def _pass_over(self, event_ids: list[str]) -> None:
        """Nobody here wants these: acknowledge them, or they would come back for ever (spec/pulse.md S9)."""
        if event_ids:
            self.source.hooks.events_filtered(self.source.name, self.rules.sink, len(event_ids))
            if not self.rules.no_ack:
                for event_id in event_ids:
                    self.acks.soon(event_id)

    def _miss(self, count: int) -> None:
        """Pending events are no longer in the stream: nobody can ever get them."""
        if count:
            self.rules.counts.gone += count
            self.source.hooks.events_missed(self.source.name, self.rules.sink, count)
            self.source.logger.warning(
                "pending events are no longer in the stream",
                extra={"stream": self.source.name, "sink": self.rules.sink, "count": count},
            )

    async def _set_aside(self, event_id: str, fields: RawFields, error: DecodeError) -> None:
        """A malformed entry: a dead letter where there is a place for them, else counted and passed over."""
        self.rules.counts.malformed += 1
        self.source.report_malformed(event_id, error, self.rules.sink)
        if self.rules.letters is not None:
            facts = {"reason": "malformed", "error": error.reason}
            if not await self._move(event_id, fields, facts):
                return
        if not self.rules.no_ack:
            self.acks.soon(event_id)

    async def _bury(self, entry: ClaimedEntry) -> None:
        deliveries = entry.deliveries - 1  # this claim was no delivery
        facts = {"reason": "max_deliveries", "deliveries": str(deliveries), "consumer": entry.owner}
        if not await self._move(entry.event_id, entry.fields, facts):
            return
        self.source.logger.warning(
            "event moved to the dead letters",
            extra={
                "stream": self.source.name,
                "sink": self.rules.sink,
                "event_id": entry.event_id,
                **facts,
            },
        )
        self.acks.soon(entry.event_id)

    async def _move(self, event_id: str, fields: RawFields, facts: dict[str, str]) -> bool:
        """Make it a dead letter. False when there is no room for one: it stays pending, and is tried again."""
        letters = self.rules.letters
        if letters is None:
            raise AssertionError("a sink with max_deliveries always has a dead-letter stream")
        try:
            await letters.move(self.source, self.rules.sink, event_id, fields, facts)
        except StreamFull as error:
            self.source.logger.warning(
                "the dead-letter stream is full",
                extra={"stream": self.source.name, "sink": self.rules.sink, "why": str(error)},
            )
            return False
        self.rules.counts.dead_lettered += 1
        self.source.hooks.event_dead_lettered(
            self.source.name, self.rules.sink, event_id, facts["reason"]
        )
        return True

    # --- what is done with it

    def begin(self, event: Event[T]) -> bool:
        """An event goes to whoever works on it. False when it was given up meanwhile."""
        return self.rules.no_ack or self.holdings.begin(event.id)

    def finish(self, event_id: str) -> None:
        """Nobody works on it any more; if it was not acknowledged, its idle time runs from now on."""
        self.holdings.finish(event_id)

    def move_on(self, event_id: str) -> None:
        """The loop or `read` that had it has come to the next; unless it was extended, that finishes it."""
        self.holdings.move_on(event_id)

    async def ack_id(self, event_id: str) -> None:
        """Acknowledge one event, and return when the server has it."""
        if not self.rules.no_ack:
            await self.acks.ack([event_id])

    def failed(self, event: Event[T], error: BaseException) -> None:
        """A handler raised: the event is delivered again after the grace."""
        self.rules.counts.failed += 1
        self.finish(event.id)
        self.source.hooks.handler_failed(self.source.name, self.rules.sink, event.id, error)
        self.source.logger.warning(
            "handler failed, the event will be delivered again",
            exc_info=error,
            extra={
                "stream": self.source.name,
                "sink": self.rules.sink,
                "event_id": event.id,
                "deliveries": event.deliveries,
            },
        )

    # --- duties

    @property
    def has_suspect(self) -> bool:
        """Whether an event is held whose next delivery would be one too many."""
        return self._suspect in self.holdings

    async def claim_once(self, limit: int) -> int:
        """Take over up to `limit` events of silent consumers, and note down how far the group has come.

        Returns:
            How many there were, those among them that are no longer in the stream.
        """
        rules = self.rules
        if self.is_leaving or self._is_claiming:
            return 0
        self._is_claiming = True
        try:
            claimed = await self.source.store.claim(
                rules.sink,
                rules.consumer,
                min_idle=rules.ack_grace,
                count=0 if rules.no_ack else limit,
                noted=self._noted,
                suspicion=rules.suspicion,
                suspects=0 if self.has_suspect else 1,
            )
        except ServerError as error:
            await self.mend(error)
            return 0
        finally:
            self._is_claiming = False
        self._noted = claimed.position
        self._miss(claimed.gone)
        await self.take_claimed(claimed.entries)
        return len(claimed.entries) + claimed.gone

    def note_again(self) -> None:
        """Write the position down at the next claim even if it has not changed, so that it does not expire."""
        self._noted = ""

    async def refresh_once(self) -> None:
        """Keep what is held ours. What others have taken meanwhile is dropped, and said so."""
        rules = self.rules
        for ids in _batches(self.holdings.due_for_refresh()):
            try:
                lost = await self.source.store.refresh(rules.sink, rules.consumer, ids)
            except ServerError as error:
                await self.mend(error)
                return
            lost = [
                event_id for event_id in lost if event_id in self.holdings
            ]  # not those acked meanwhile
            if lost:
                self.holdings.drop(lost)
                rules.counts.lost_to_others += len(lost)
                self.source.hooks.events_lost_to_others(self.source.name, rules.sink, len(lost))
                self.source.logger.warning(
                    "events in work were taken over by others: this process was silent for longer than ack_grace",
                    extra={"stream": self.source.name, "sink": rules.sink, "count": len(lost)},
                )

    async def release_buffered(self) -> None:
        """Give what was not begun to the other consumers at once."""
        rules = self.rules
        for ids in _batches(self.holdings.give_up_buffered()):
            try:
                rules.counts.released += await self.source.store.release(
                    rules.sink, rules.consumer, ids, idle=rules.ack_grace
                )
            except ServerError as error:
                if error.code != "NOGROUP":
                    raise
                return

    async def leave(self) -> None:
        """Give back what was not begun; be no consumer any more if nothing else is pending."""
        await self.release_buffered()
        try:
            await self.source.store.leave(self.rules.sink, self.rules.consumer)
        except ServerError as error:
            if error.code != "NOGROUP":
                raise

    async def mend(self, error: ServerError) -> None:
        """The group has vanished (XGROUP DESTROY, DEL, FLUSHALL): create it again where it had come to, and say so.

        Raises:
            ServerError: it is another error.
        """
        if error.code != "NOGROUP":
            raise error
        if self.is_leaving:
            return  # the stream was removed here: it, and its group, are others' business
        rules = self.rules
        self._noted = ""
        position = await self.source.store.rebuild_group(rules.sink)
        if position is None:
            return
        await self.source.store.expire(self.source.rules)
        if order_of(position) < order_of(self.last_seen):
            self.last_seen = position if position != "0" else "0-0"
        rules.counts.rebuilt += 1
        self.source.hooks.group_rebuilt(self.source.name, rules.sink, position)
        self.source.logger.warning(
            "the consumer group had vanished and was created again; events may come twice",
            extra={"stream": self.source.name, "sink": rules.sink, "position": position},
        )


def _batches(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + REFRESH_BATCH] for start in range(0, len(ids), REFRESH_BATCH))
