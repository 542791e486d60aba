"""When periodic tasks are due, and which ticks a scheduler has still to enqueue. Pure.

A tick is a whole Unix second at which an entry's task is to be enqueued. All schedulers that have an equal entry know
the same ticks, whenever they were started: that is how they can agree that each is enqueued once (rule 4.1). Who
enqueues, and what then happens, is `scheduler.py`'s business.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from datetime import UTC, datetime, timezone, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from pulsewire.errors import EntryNotFound, InvalidOption
from pulsewire.tasks.option_text import format_options
from pulsewire.tasks.scheduling.cron import Cron
from pulsewire.tasks.wire import NewTask, as_payload, check_text

_DEFAULTS = NewTask(type="")
_OPTIONS = [name for name in NewTask.__struct_fields__ if name not in ("type", "payload")]


class Definition(NamedTuple):
    """What is to be enqueued, and when.

    Attributes:
        options: those that are not the defaults, as an entry holds them (spec/asynq.md 6.2).
        digest: the same for all equal definitions of whatever scheduler, and for no others.
    """

    cron: Cron
    task: NewTask
    options: list[str]
    digest: str


def define(
    spec: str | Cron, task: NewTask, *, location: tzinfo = UTC, entry_name: str | None = None
) -> Definition:
    """The definition of a periodic task.

    Args:
        spec: see `Cron.parse`.
        task: what to enqueue.
        location: whose local time is meant if the spec names no zone.
        entry_name: tells it from others that are equal.

    Raises:
        InvalidOption: the spec is not valid, or something cannot be written.
        InvalidName: the name cannot be written.
    """
    if not isinstance(task, NewTask):
        raise InvalidOption("task", task, "give a NewTask")
    cron = spec if isinstance(spec, Cron) else Cron.parse(spec, zone=location)
    if entry_name is not None:
        check_text("entry", entry_name)
    given = {
        name: value
        for name in _OPTIONS
        if (value := getattr(task, name)) != getattr(_DEFAULTS, name)
    }
    try:
        options = format_options(given)
    except ValueError as error:
        raise InvalidOption("task", task, str(error)) from error
    known = [cron.spec, _zone_name(cron), task.type, as_payload(task.payload), sorted(options)]
    packed = msgspec.msgpack.encode([*known, entry_name])
    return Definition(cron, task, options, hashlib.sha256(packed).hexdigest())


def _zone_name(cron: Cron) -> str:
    """What the zone of a spec is called everywhere."""
    if cron.every is not None:
        return ""
    if isinstance(cron.zone, ZoneInfo) and cron.zone.key:
        return cron.zone.key
    if isinstance(cron.zone, timezone):
        return str(cron.zone)
    raise InvalidOption("location", cron.zone, "give a ZoneInfo or a datetime.timezone")


def tick_after(cron: Cron, now: float) -> int | None:
    """The first tick later than the whole second of `now`; None if there is none.

    Ticks of `@every` are the multiples of its delay since 1970, by the server's clock. Go counts them from the start of
    each scheduler; then no two would know the same ticks.
    """
    second = math.floor(now)
    if cron.every is not None:
        return (second // cron.every + 1) * cron.every
    try:
        found = cron.next_after(datetime.fromtimestamp(second, UTC))
    except (ValueError, OverflowError, OSError):  # no calendar has this moment
        return None
    return None if found is None else int(found.timestamp())


class Entry:
    """A definition that a scheduler has registered.

    Attributes:
        id: new at each registration.
        due: its next tick; None if there is none any more.
        last: the tick before that, as far as this scheduler has lived through it.
        is_gone: it was unregistered.
    """

    __slots__ = ("cron", "digest", "due", "id", "is_gone", "last", "options", "task")

    def __init__(self, entry_id: str, definition: Definition) -> None:
        self.id = entry_id
        self.cron, self.task, self.options, self.digest = definition
        self.due: int | None = None
        self.last: int | None = None
        self.is_gone = False

    def __repr__(self) -> str:
        return f"<Entry {self.id} {self.cron.spec!r} {self.task.type!r} due={self.due}>"

    def plan(self, now: float) -> None:
        """Go on with the first tick after now."""
        self.due = tick_after(self.cron, now)

    def skip_late(self, now: float, grace: float) -> int | None:
        """Pass over ticks that are later than `grace`. Returns the first of them, or None if there were none."""
        missed = self.due
        if missed is None or missed >= now - grace:
            return None
        self.plan(math.ceil(now - grace) - 1)
        return missed

    def take(self, now: float) -> int | None:
        """The next tick, if it is due by now: from here on it is the last one."""
        due = self.due
        if due is None or due > now:
            return None
        self.last = due
        self.plan(due)
        return due


class Timetable:
    """The entries of one scheduler. Those that `take_due` has given out come back with `put`."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._digests: set[str] = set()
        self._given_out: set[Entry] = set()
        self._waiting: list[
            tuple[int, int, Entry]
        ] = []  # a heap: when it is due, and who waits longer
        self._puts = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> list[Entry]:
        """All, in the order of their registration."""
        return list(self._entries.values())

    def check_new(self, definition: Definition) -> None:
        """Raise if there is an equal entry, since of two only one would ever be enqueued.

        Raises:
            InvalidOption: there is.
        """
        if definition.digest in self._digests:
            which = f"{definition.cron.spec!r} with {definition.task.type!r}"
            reason = "is registered already; to have it twice, give each a name of its own"
            raise InvalidOption("entry_name", None, f"{which} {reason}")

    def add(self, entry: Entry) -> None:
        """A new entry. It waits for its ticks once it was `put`, or all are planned."""
        self._digests.add(entry.digest)
        self._entries[entry.id] = entry

    def remove(self, entry_id: str) -> Entry:
        """Take an entry away.

        Raises:
            EntryNotFound: there is none of this id.
        """
        entry = self._entries.pop(entry_id, None)
        if entry is None:
            raise EntryNotFound(entry_id)
        entry.is_gone = True
        self._digests.discard(entry.digest)
        self._waiting = [place for place in self._waiting if place[2] is not entry]
        heapq.heapify(self._waiting)
        return entry

    def put(self, entry: Entry) -> None:
        """Have an entry wait for its next tick, if it has one."""
        self._given_out.discard(entry)
        if entry.due is not None and not entry.is_gone:
            self._puts += 1
            heapq.heappush(self._waiting, (entry.due, self._puts, entry))

    def plan(self, now: float) -> None:
        """Have all but those that were given out wait for their first tick after now."""
        self._waiting.clear()
        for entry in self._entries.values():
            if entry not in self._given_out:
                entry.plan(now)
                self.put(entry)

    def take_due(self, now: float) -> list[Entry]:
        """Give out those that have a tick to enqueue by now, the earliest first."""
        due: list[Entry] = []
        while self._waiting and self._waiting[0][0] <= now:
            due.append(heapq.heappop(self._waiting)[2])
        self._given_out.update(due)
        return due

    def has_given_out(self, entry: Entry) -> bool:
        """Whether an entry was given out and has not come back."""
        return entry in self._given_out

    @property
    def next_due(self) -> int | None:
        """When the next one is due; None: none is."""
        return self._waiting[0][0] if self._waiting else None
