"""The replica: from a snapshot and notices, in whatever order they come, to the content. Pure.

The rules, with what makes each one right:

* Revisions of a map are consecutive, since one mutation is one step of one (spec/pulse.md 1.1). So a notice is applied
  when it is exactly the next one. A gap proves that a notice was lost; a revision that was known already proves that
  the notice came twice or that the server has lost data and counts anew. Both ask for a snapshot: *resync*.
* Until it comes, notices are kept. A snapshot is adopted whatever its revision; of the notices kept, those that follow
  it without a gap are applied.
* A snapshot with a lower revision than ours is a *step back*: the server has lost data. What we had is no longer true
  anywhere, so it is reported as a reset.
* What a snapshot brings is reported as the difference to what we had, so that nothing that happened meanwhile is missed
  in its final state.

The replica never says that it is right: `probe` compares it with the server's revision, and its owner keeps count of
when that was last done.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Generic, Literal, NamedTuple, TypeVar, cast

from pulsewire.rmap.wire import CLEARING, Unreadable

V = TypeVar("V")

MOST_EARLY = 10_000
"""Notices kept while a snapshot is on its way. Beyond that the next ones are dropped, which the next gap shows."""


class Update(NamedTuple, Generic[V]):
    """A notice, decoded. Only a "set" has a value."""

    kind: str
    key: str
    value: V | Unreadable | None
    revision: int


class RawChange(NamedTuple, Generic[V]):
    """A difference between two states of the content; `key` is None for a reset."""

    kind: Literal["set", "delete", "reset"]
    key: str | None
    old: V | Unreadable | None
    new: V | Unreadable | None
    revision: int


class Outcome(NamedTuple, Generic[V]):
    """What taking something in has led to.

    Attributes:
        changes: to report, in order.
        resync: why a snapshot is needed; empty when none is.
        stepped_back_from: the revision we had, when the server's has stepped back; else None.
    """

    changes: list[RawChange[V]]
    resync: str = ""
    stepped_back_from: int | None = None


GAP = "a notice was lost"
KNOWN_ALREADY = "a notice came twice, or the server lost data"
BEHIND = "the server has a later revision"
STEP_BACK = "the server has an earlier revision: it lost data"


class Replica(Generic[V]):
    """The content of one map as this process knows it.

    Attributes:
        content: key -> value. Replaced as a whole by a snapshot, never emptied in between.
        unreadable: keys whose value cannot be decoded. They are not in `content`, so that reading it needs no check.
        revision: of the content.
        is_synced: whether no snapshot is needed. False before the first one.
    """

    __slots__ = (
        "_clearings",
        "_early",
        "_is_first",
        "_same",
        "content",
        "is_synced",
        "revision",
        "unreadable",
    )

    def __init__(self, same: Callable[[object, object], bool] = operator.eq) -> None:
        """Begin empty.

        Args:
            same: whether two values are the same to a watcher. Equality is not enough where 1 equals True.
        """
        self._same = same
        self.content: dict[str, V] = {}
        self.unreadable: dict[str, Unreadable] = {}
        self.revision = 0
        self.is_synced = False
        self._is_first = True
        self._early: dict[int, Update[V]] = {}
        self._clearings: set[int] = set()  # revisions of those heard since touch was lost

    def take_update(self, update: Update[V]) -> Outcome[V]:
        """A notice has come."""
        if not self.is_synced:
            self._note_clearing(update)
            if len(self._early) < MOST_EARLY:
                self._early[update.revision] = update
            return Outcome([])
        if update.revision == self.revision + 1:
            return Outcome([self._apply(update)])
        self.is_synced = False
        self._early = {update.revision: update}
        self._note_clearing(update)
        return Outcome([], GAP if update.revision > self.revision else KNOWN_ALREADY)

    def take_snapshot(
        self, content: Mapping[str, V | Unreadable], revision: int, kind: str
    ) -> Outcome[V]:
        """The content that the server had at some moment after this replica lost touch with it."""
        stepped_back_from = self.revision if revision < self.revision else None
        changes: list[RawChange[V]] = []
        if not self._is_first:
            before = self.everything()
            was_cleared = stepped_back_from is not None and bool(before)
            was_cleared |= kind in CLEARING and revision != self.revision
            was_cleared |= any(self.revision < heard <= revision for heard in self._clearings)
            changes = _differences(before, content, revision, self._same, was_cleared=was_cleared)
        self._is_first = False
        self._clearings = set()
        self._keep(content)
        self.revision = revision
        early, self._early = self._early, {}
        self.is_synced = True
        while (following := early.pop(self.revision + 1, None)) is not None:
            changes.append(self._apply(following))
        if any(late > self.revision for late in early):
            self.is_synced = False
            return Outcome(changes, GAP, stepped_back_from)
        return Outcome(changes, "", stepped_back_from)

    def probe(self, revision: int) -> str:
        """Compare with the server's revision, read after all notices that have come so far. Why to resync, or ""."""
        if not self.is_synced or revision == self.revision:
            return ""
        self.is_synced = False
        return BEHIND if revision > self.revision else STEP_BACK

    def lose_touch(self) -> None:
        """Notices may be missed from now on: only a snapshot helps."""
        self.is_synced = False
        self._early = {}

    def expire(self) -> list[RawChange[V]]:
        """The time to live is over, and nobody can be asked: nothing is there any more."""
        before = self.everything()
        changes = _differences(before, {}, self.revision, self._same, was_cleared=bool(before))
        self._keep({})
        self.is_synced = False
        return changes

    def everything(self) -> Mapping[str, V | Unreadable]:
        """All keys, also those whose value cannot be decoded."""
        return {**self.content, **self.unreadable} if self.unreadable else self.content

    def _note_clearing(self, update: Update[V]) -> None:
        if update.kind in CLEARING:
            self._clearings.add(update.revision)

    def _take_out(self, key: str) -> V | Unreadable | None:
        unreadable = self.unreadable.pop(key, None)
        return self.content.pop(key, None) if unreadable is None else unreadable

    def _keep(self, content: Mapping[str, V | Unreadable]) -> None:
        self.unreadable = {
            key: value for key, value in content.items() if type(value) is Unreadable
        }
        readable = {key: value for key, value in content.items() if key not in self.unreadable}
        self.content = cast("dict[str, V]", readable)

    def _apply(self, update: Update[V]) -> RawChange[V]:
        self.revision = update.revision
        key = update.key
        if update.kind == "set":
            old = self._take_out(key) if self.unreadable else self.content.get(key)
            new = cast("V | Unreadable", update.value)
            if type(new) is Unreadable:
                self.content.pop(key, None)
                self.unreadable[key] = new
            else:
                self.content[key] = cast("V", new)
            return RawChange("set", key, old, new, update.revision)
        if update.kind == "del":
            return RawChange("delete", key, self._take_out(key), None, update.revision)
        self._keep({})
        return RawChange("reset", None, None, None, update.revision)


def _differences(
    old: Mapping[str, V | Unreadable],
    new: Mapping[str, V | Unreadable],
    revision: int,
    same: Callable[[object, object], bool],
    *,
    was_cleared: bool,
) -> list[RawChange[V]]:
    """What leads from one content to the other."""
    changes: list[RawChange[V]] = []
    if was_cleared or (old and not any(key in new for key in old)):
        changes.append(RawChange("reset", None, None, None, revision))
        old = {}
    for key, value in old.items():
        if key not in new:
            changes.append(RawChange("delete", key, value, None, revision))
    for key, value in new.items():
        if key not in old or not same(old[key], value):
            changes.append(RawChange("set", key, old.get(key), value, revision))
    return changes
