"""Following a map: keeps its replica in step with the server, and says how sure that is.

`replica.py` decides; this file subscribes, takes snapshots, and passes on what happens. After every (re)subscription
there is a snapshot, asked for on the subscriber's own connection, so that it fits the notices before and behind it
(`_redis/notifier.py`). Between snapshots the server's revision is read about once a second on that connection; when it
is ours, the replica was complete at the moment the question was sent. `stale_for` counts from there.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import operator
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.codecs import BYTES, TEXT, Codec
from pulsewire._core.hooks import Hooks
from pulsewire._core.loops import RETRY_BASE, RETRY_CAP
from pulsewire._core.vitals import resting
from pulsewire._redis.notifier import Notifier, Probe, Subscription
from pulsewire.errors import Closed, DecodeError, ReplicaBehind, ServerUnavailable
from pulsewire.rmap.replica import STEP_BACK, Outcome, RawChange, Replica, Update
from pulsewire.rmap.store import MapStore
from pulsewire.rmap.watching import Changes, Pending
from pulsewire.rmap.wire import (
    REVISION_FIELD,
    Unreadable,
    decode_key,
    decode_notice,
    decode_revision,
    decode_snapshot,
)

T = TypeVar("T")

_EXACT: tuple[object, ...] = (TEXT, BYTES)
"""Codecs whose values are equal exactly when their bytes are."""
JOINING = "joined"
NO_KEY = -2
LONGEST_REST = 1.0
"""Upper bound, seconds, of the pause between two snapshots; below it, as long as the first one took."""


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """What has happened to one replica since it was joined.

    Attributes:
        notices: messages heard.
        malformed: of these, in no known format.
        snapshots: taken, the first one included.
        step_backs: times that the server had lost data.
        cuts: times that the subscription was lost.
        watchers: `changes()` that are alive.
    """

    notices: int
    malformed: int
    snapshots: int
    step_backs: int
    cuts: int
    watchers: int


class Follower(Generic[T]):
    """Keeps one replica. A listener of the hub's notifier."""

    def __init__(
        self,
        store: MapStore,
        notifier: Notifier,
        codec: Codec[T],
        hooks: Hooks,
        logger: logging.Logger,
        *,
        has_ttl: bool,
    ) -> None:
        self.replica: Replica[T] = Replica(_sameness(codec))
        self.key = store.content
        self.channel = store.channel
        self._name = store.keys.name
        self._notifier = notifier
        self._codec = codec
        self._hooks = hooks
        self._logger = logger
        self.goodbye: asyncio.Future[Any] | None = None
        self._subscription: Subscription | None = None
        self._trouble = asyncio.Event()
        self._reason = JOINING
        self._is_doubted = False  # the revision is one that the server does not know (any more)
        self._complete_at = -math.inf
        self._changes: list[weakref.ref[Changes[T]]] = []
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._has_ttl = has_ttl
        self._may_get_ttl = has_ttl  # with its next change
        self._wants_ttl = False
        self._expires_at: float | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._notices = self._malformed = self._snapshots = self._step_backs = self._cuts = 0

    # --- what the map asks

    @property
    def is_in_step(self) -> bool:
        """Whether every notice will be heard and none is known to be missing."""
        subscription = self._subscription
        return subscription is not None and subscription.is_live and self.replica.is_synced

    @property
    def stale_for(self) -> float:
        """Seconds since the replica was last known to be complete."""
        return SYSTEM_CLOCK.monotonic() - self._complete_at

    def statistics(self) -> MapStatistics:
        """What has happened so far."""
        return MapStatistics(
            self._notices,
            self._malformed,
            self._snapshots,
            self._step_backs,
            self._cuts,
            len(self._changes),
        )

    def watch(self, *, initial: bool) -> Changes[T]:
        """A new watcher; with what is there already, if wanted."""
        pending: Pending[T] = Pending()
        if initial:
            revision = self.replica.revision
            for key, value in self.replica.everything().items():
                pending.add(RawChange("set", key, None, value, revision))
        changes = Changes(pending)
        self._changes.append(weakref.ref(changes, self._changes.remove))
        return changes

    async def wait_for(self, revision: int, timeout: float | None) -> None:
        """Wait until the replica has a revision.

        Raises:
            ReplicaBehind: not in time.
            Closed: the map was closed meanwhile.
        """
        if self.replica.revision >= revision and not self._is_doubted:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._order), waiter))
        try:
            with anyio.fail_after(timeout):
                await waiter
        except TimeoutError:
            self._waiters = [entry for entry in self._waiters if entry[2] is not waiter]
            heapq.heapify(self._waiters)
            raise ReplicaBehind(
                self._name, revision, self.replica.revision, self.stale_for
            ) from None
        finally:
            waiter.cancel()

    def resync(self, reason: str) -> None:
        """Take a snapshot as soon as possible."""
        self.replica.lose_touch()
        self._is_doubted |= reason == STEP_BACK
        self._reason = reason
        self._trouble.set()

    # --- following

    async def join(self, within: float) -> None:
        """Subscribe and take the first snapshot.

        Raises:
            ServerUnavailable: not within that many seconds.
            PulsewireError: the server refuses it.
        """
        deadline = SYSTEM_CLOCK.monotonic() + within
        backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
        while True:
            try:
                await self._subscribe()
            except ServerUnavailable:
                pause = backoff.next_pause()
                if SYSTEM_CLOCK.monotonic() + pause >= deadline or self._notifier.is_closed:
                    raise
                await anyio.sleep(pause)
            else:
                return

    async def follow_once(self) -> None:
        """Stay in step until the subscription is lost; subscribe first where there is none."""
        subscription = self._subscription
        if subscription is None or not subscription.is_live:
            subscription = await self._subscribe()
        try:
            while subscription.is_live:
                with resting():
                    await self._trouble.wait()
                if subscription.is_live:
                    await self._take_snapshot(subscription)
        finally:
            self._leave()

    async def _subscribe(self) -> Subscription:
        subscription = self._subscription = await self._notifier.subscribe(self)
        try:
            await self._take_snapshot(subscription)
        except BaseException:
            self._leave()
            raise
        return subscription

    async def _take_snapshot(self, subscription: Subscription) -> None:
        asked_at = SYSTEM_CLOCK.monotonic()
        self.replica.lose_touch()
        self._trouble.clear()
        reason, self._reason = self._reason, ""
        was_doubted = self._is_doubted
        reply, ttl = await subscription.ask(("HGETALL", self.key), ("PTTL", self.key))
        snapshot = decode_snapshot(reply)
        content = {
            (key := decode_key(stored)): self._decode(key, value)
            for stored, value in snapshot.content.items()
        }
        outcome = self.replica.take_snapshot(content, snapshot.revision, snapshot.kind)
        self._complete_at = asked_at
        if was_doubted:  # when it was asked for: one that was under way already settles nothing
            self._is_doubted = False
        self._snapshots += 1
        took = SYSTEM_CLOCK.monotonic() - asked_at
        self._hooks.map_synced(self._name, reason, took)
        said = {"map": self._name, "revision": snapshot.revision, "why": reason}
        self._logger.debug("snapshot of a map taken", extra=said)
        if outcome.stepped_back_from is not None:
            self._note_step_back(outcome.stepped_back_from, snapshot.revision)
        self._take_ttl(ttl)
        self._report(outcome)
        if self._trouble.is_set():
            await anyio.sleep(min(took, LONGEST_REST))

    def _leave(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self.goodbye = subscription.end()
        self.replica.lose_touch()

    def close(self) -> None:
        """End everything; the content stays readable."""
        self._leave()
        self._cancel_expiry()
        for *_, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(Closed(f"map {self._name!r}"))
        self._waiters.clear()
        for watched in tuple(self._changes):
            if (changes := watched()) is not None:
                changes.end()

    # --- what the notifier tells

    def hear(self, message: bytes) -> None:
        """A message on the map's channel."""
        self._notices += 1
        try:
            notice = decode_notice(message)
        except DecodeError as error:
            self._note_malformed(error)
            return
        if notice.key[:1] == b"=":  # Pulse's own fields, spec/pulse.md 1.2
            return
        key = decode_key(notice.key)
        value = self._decode(key, notice.value) if notice.kind == "set" else None
        self._report(self.replica.take_update(Update(notice.kind, key, value, notice.revision)))
        if self._may_get_ttl and self._expires_at is None and self._subscription is not None:
            self._may_get_ttl, self._wants_ttl = False, True
            self._subscription.probe()

    def probes(self) -> Iterator[Probe]:
        """The revision, and the time to live where there is one."""
        asked_at = SYSTEM_CLOCK.monotonic()
        yield ("HGET", self.key, REVISION_FIELD), partial(self._take_revision, asked_at)
        if self._expires_at is not None or self._has_ttl or self._wants_ttl:
            self._wants_ttl = False
            yield ("PTTL", self.key), self._take_ttl

    def cut_off(self, reason: str) -> None:
        """The subscription has ended."""
        self._cuts += 1
        self.replica.lose_touch()
        self._reason = reason
        self._trouble.set()
        self._logger.warning(
            "a map is not followed for now", extra={"map": self._name, "why": reason}
        )
        if self._expires_at is not None and SYSTEM_CLOCK.monotonic() >= self._expires_at:
            self._expire()

    def _take_revision(self, asked_at: float, stored: bytes | None) -> None:
        reason = self.replica.probe(decode_revision(stored))
        if reason:
            self.resync(reason)
        elif self.replica.is_synced:
            self._complete_at = asked_at

    # --- time to live

    def _take_ttl(self, milliseconds: int) -> None:
        """The reply of PTTL: -1 for a key that stays, -2 for none, which may yet get a time to live."""
        self._may_get_ttl = self._has_ttl or milliseconds == NO_KEY
        # it has expired, if it was to: the snapshot that follows will say so
        if milliseconds == NO_KEY:
            return
        self._cancel_expiry()
        self._expires_at = None
        if milliseconds >= 0:
            left = milliseconds / 1000
            self._expires_at = SYSTEM_CLOCK.monotonic() + left
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(left + 0.001, self._when_due)

    def _when_due(self) -> None:
        """The time is over, unless it was extended: the server says so, and if it cannot be asked it is over."""
        self._expiry = None
        subscription = self._subscription
        if subscription is not None and subscription.is_live:
            subscription.probe()
        else:
            self._expire()

    def _expire(self) -> None:
        self._cancel_expiry()
        self._expires_at = None
        self._hooks.map_expired(self._name)
        self._report(Outcome(self.replica.expire()))

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # --- passing on

    def _report(self, outcome: Outcome[T]) -> None:
        if self._changes:
            for watched in tuple(self._changes):
                if (changes := watched()) is not None:
                    for change in outcome.changes:
                        changes.put(change)
        if self._logger.isEnabledFor(logging.DEBUG):
            for change in outcome.changes:
                said = {"map": self._name, "key": change.key, "revision": change.revision}
                self._logger.debug("map changed: %s", change.kind, extra=said)
        waiters, revision = self._waiters, self.replica.revision
        while waiters and not self._is_doubted and waiters[0][0] <= revision:
            waiter = heapq.heappop(waiters)[2]
            if not waiter.done():
                waiter.set_result(None)
        if outcome.resync:
            self._reason = outcome.resync
            self._trouble.set()

    def _decode(self, key: str, value: bytes) -> T | Unreadable:
        try:
            return self._codec.decode(value)
        except Exception as error:  # noqa: BLE001  # a user's codec; nobody above could catch it
            reason = error if isinstance(error, DecodeError) else DecodeError("value", str(error))
            reason.add_note(f"map {self._name!r}, key {key!r}")
            self._hooks.map_value_unreadable(self._name, key, reason.reason)
            self._logger.warning(
                "a value of a map cannot be decoded",
                extra={"map": self._name, "key": key, "why": reason.reason},
            )
            return Unreadable(value, reason)

    def _note_malformed(self, error: DecodeError) -> None:
        self._malformed += 1
        self._hooks.map_notice_malformed(self._name, error.reason)
        if self._malformed == 1:
            self._logger.warning(
                "a message on a map's channel is in no known format; said once, counted always",
                extra={"map": self._name, "channel": self.channel, "why": error.reason},
            )
        self.resync("a message was in no known format")

    def _note_step_back(self, had: int, revision: int) -> None:
        due = self._expires_at
        if due is not None and (revision == 0 or SYSTEM_CLOCK.monotonic() >= due):
            self._expires_at = None
            self._cancel_expiry()
            self._hooks.map_expired(self._name)
            return
        self._step_backs += 1
        self._hooks.map_stepped_back(self._name, had, revision)
        self._logger.warning(
            "the server has lost data of a map; what it has was adopted",
            extra={"map": self._name, "had": had, "revision": revision},
        )


def _sameness(codec: Codec[T]) -> Callable[[object, object], bool]:
    """Whether two values are the same: equal, and written alike, since to Python 1 and True are equal."""
    if codec in _EXACT:
        return operator.eq

    def same(one: object, other: object) -> bool:
        if one != other or isinstance(one, Unreadable) or isinstance(other, Unreadable):
            return one == other
        return codec.encode(cast("T", one)) == codec.encode(cast("T", other))

    return same
