"""A server and replicas that follow it, without a network: whatever may happen between them is a step of a history.

What a follower does here is what `following.py` does: it asks for a snapshot when it has connected and when the replica
wants one, one at a time. The rules of the issue are checked at every step, by `assert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pulsewire.errors import DecodeError
from pulsewire.rmap.replica import Outcome, RawChange, Replica, Update
from pulsewire.rmap.watching import Pending
from pulsewire.rmap.wire import CLEARING, Unreadable

Raw = RawChange[Any]
Notice = Update[str]
Content = Mapping[str, str | Unreadable]


class Step(NamedTuple):
    """One thing that happens: what, to which follower, and a number to choose more by."""

    what: str
    who: int
    dice: int


CALM = ("set", "set", "set", "del", "hear", "hear", "hear", "hear", "answer", "answer", "take")
RARE = ("reset", "destroy", "probe", "cut", "connect", "connect", "watch")
TAMPERING = ("drop", "double", "move")
LOSING = ("failover", "expire", "flush")
"""In a flush everybody stays connected and hears on."""
FOLLOWERS = 3
KEYS = 4
VALUES: tuple[str | Unreadable, ...] = ("0", "1", "2", Unreadable(b"3", DecodeError("text", "no")))


class State(NamedTuple):
    """The hash of a map at one moment. An era ends when the server loses data."""

    content: Content
    revision: int
    kind: str
    era: int


class Probe(NamedTuple):
    """The reply to a probe."""

    revision: int


class Server:
    """Where the truth is."""

    def __init__(self) -> None:
        self.past = [State({}, 0, "", 0)]
        self.states = {(0, 0): self.past[0]}

    @property
    def now(self) -> State:
        """What a snapshot shows."""
        return self.past[-1]

    def write(self, kind: str, key: str, value: str | Unreadable) -> Notice | None:
        """Change something; the notice that is published, or None when nothing was to be changed."""
        content, revision = dict(self.now.content), self.now.revision + 1
        if kind == "set":
            content[key] = value
        elif kind == "del" and key in content:
            del content[key]
        elif kind in CLEARING:
            content = {}
        else:
            return None
        self._enter(State(content, revision, kind, self.now.era))
        if kind in CLEARING:
            return Update(kind, "", None, revision)
        return Update(kind, key, value if kind == "set" else None, revision)

    def lose(self, changes: int) -> None:
        """Go back by so many changes."""
        del self.past[max(1, len(self.past) - changes) :]
        content, revision, kind, _ = self.past.pop()
        self._enter(State(content, revision, kind, self._next_era()))

    def vanish(self) -> None:
        """Lose the whole hash: its time to live is over, or somebody has flushed the database."""
        era = self._next_era()
        self.past.clear()
        self._enter(State({}, 0, "", era))

    def _next_era(self) -> int:
        return max(era for era, _ in self.states) + 1

    def _enter(self, state: State) -> None:
        self.past.append(state)
        self.states[state.era, state.revision] = state


class Watcher:
    """Folds what it sees."""

    def __init__(self, content: Content, revision: int, *, initial: bool) -> None:
        self._pending: Pending[str] = Pending()
        self._seen: dict[str, str | Unreadable] = {} if initial else dict(content)
        self._reset_is_due = False
        if initial:
            for key, value in content.items():
                self._pending.add(RawChange("set", key, None, value, revision))

    def put(self, change: Raw) -> None:
        """Something has changed."""
        self._pending.add(change)
        self._reset_is_due |= change.kind == "reset"

    def take(self) -> bool:
        """See one change, if there is any. A reset comes before all else, and `old` is what was seen before."""
        change = self._pending.take()
        if change is None:
            assert not self._reset_is_due, "a reset was lost"
            return False
        assert change.kind == "reset" or not self._reset_is_due
        if change.key is None:
            self._seen.clear()
            self._reset_is_due = False
            return True
        assert change.old == self._seen.pop(change.key, None)
        if change.kind == "set":
            assert change.new is not None
            self._seen[change.key] = change.new
        return True

    def see_all(self, content: Content) -> None:
        """After which it has seen what is there."""
        while self.take():
            pass
        assert self._seen == content


class Follower:
    """One replica, its line to the server, and its watchers."""

    def __init__(self, server: Server, *, is_strict: bool) -> None:
        self.server = server
        self.replica: Replica[str] = Replica()
        self.line: list[Notice | State | Probe] = []
        self.watchers: list[Watcher] = []
        self.snapshots = 0
        self.is_connected = False
        self.era = 0
        self.reset_heard = 0
        """The revision of the last reset that was heard and not told yet."""
        self._is_strict = is_strict
        self._is_asking = False
        self._is_answered = False
        self._wants_snapshot = False
        self._is_expired = False
        self.connect()
        self.settle()

    def connect(self) -> None:
        """Subscribe, and ask for a snapshot."""
        if not self.is_connected:
            self.is_connected = True
            self._ask()

    def cut(self) -> None:
        """Lose the connection, and all that was on its way."""
        self.is_connected = self._is_asking = self._is_answered = self._wants_snapshot = False
        self.line.clear()
        self.replica.lose_touch()

    def expire(self) -> None:
        """The time to live is over while nobody can be asked."""
        self.cut()
        for change in self.replica.expire():
            self._tell(change)
        self._is_expired = True
        self.reset_heard = 0

    def _ask(self) -> None:
        self.replica.lose_touch()
        self._is_asking, self._is_answered, self._wants_snapshot = True, False, False

    def answer(self) -> None:
        """The server carries out the HGETALL, if one was asked for."""
        if self._is_asking and not self._is_answered:
            self._is_answered = True
            self.line.append(self.server.now)

    def probe(self) -> None:
        """The server tells its revision."""
        if self.is_connected:
            self.line.append(Probe(self.server.now.revision))

    def hear(self) -> None:
        """The next thing on the line arrives."""
        if not self.line:
            return
        before, era = self.replica.revision, self.era
        outcome = self._take(self.line.pop(0))
        self._wants_snapshot |= bool(outcome.resync)
        for change in outcome.changes:
            self._tell(change)
        if self._is_strict:
            self._check(outcome, before, era)
        if self._wants_snapshot and not self._is_asking:
            self._ask()

    def _check(self, outcome: Outcome[str], before: int, era: int) -> None:
        revision = self.replica.revision
        assert revision >= before or self.era != era, "the revision fell, and no data was lost"
        assert outcome.stepped_back_from == (before if revision < before else None)
        if not self._is_expired:
            there = self.server.states[self.era, revision].content
            assert self.replica.everything() == there, "the content is not that of its revision"

    def _take(self, item: Notice | State | Probe) -> Outcome[str]:
        if isinstance(item, Probe):
            return Outcome([], self.replica.probe(item.revision))
        if isinstance(item, Update):
            if item.kind in CLEARING and item.revision > self.replica.revision:
                self.reset_heard = item.revision
            return self.replica.take_update(item)
        self._is_asking, self._is_expired = False, False
        self.snapshots += 1
        if self.era != item.era:
            self.era, self.reset_heard = item.era, 0
        return self.replica.take_snapshot(dict(item.content), item.revision, item.kind)

    def _tell(self, change: Raw) -> None:
        if change.kind == "reset":
            self.reset_heard = 0
        for watcher in self.watchers:
            watcher.put(change)

    def watch(self, *, initial: bool) -> None:
        """One watcher more."""
        content, revision = self.replica.everything(), self.replica.revision
        self.watchers.append(Watcher(content, revision, initial=initial))

    def tamper(self, how: str, dice: int) -> None:
        """Drop a notice on the line, double it, or let others overtake it."""
        notices = [at for at, item in enumerate(self.line) if isinstance(item, Update)]
        if not notices:
            return
        at = notices[dice % len(notices)]
        notice = self.line[at]
        if how != "double":
            del self.line[at]
        if how != "drop":
            self.line.insert(at + 1 + dice % 7, notice)

    def settle(self) -> None:
        """Whatever is on its way arrives, and what is asked for because of it."""
        while self.line or self._is_asking:
            self.answer()
            self.hear()


class World:
    """A server with its followers; plays histories.

    A strict one checks after each step that revisions only rise, and that the content is that of its revision. That is
    too much to ask where a map is flushed under connections that live on: a notice from before, heard while the
    snapshot from after is on its way, may look like the next one. The probe finds out.
    """

    def __init__(self, *, is_strict: bool = True) -> None:
        self.server = Server()
        self.followers = [Follower(self.server, is_strict=is_strict) for _ in range(FOLLOWERS)]
        for follower in self.followers:
            follower.watch(initial=False)

    def play(self, step: Step) -> None:
        """One step."""
        what, who, dice = step
        follower = self.followers[who]
        if what in ("set", "del", "reset", "destroy"):
            self._write(what, f"k{dice % KEYS}", VALUES[dice // KEYS % len(VALUES)])
        elif what == "take":
            for watcher in follower.watchers[dice % len(follower.watchers) :]:
                watcher.take()
        elif what == "watch":
            follower.watch(initial=dice % 2 == 0)
        elif what in TAMPERING:
            follower.tamper(what, dice)
        elif what in LOSING:
            self._lose_data(what, dice)
        else:
            getattr(follower, what)()

    def _write(self, kind: str, key: str, value: str | Unreadable) -> None:
        notice = self.server.write(kind, key, value)
        for follower in self.followers:
            if notice is not None and follower.is_connected:
                follower.line.append(notice)

    def _lose_data(self, how: str, changes: int) -> None:
        if how == "failover":
            for follower in self.followers:
                follower.cut()
            self.server.lose(changes)
            return
        if how == "expire":
            for follower in self.followers:
                follower.expire()
        self.server.vanish()

    def settle(self) -> None:
        """Everybody is connected, and nothing is on its way any more."""
        for follower in self.followers:
            follower.connect()
            follower.settle()

    def probe_and_settle(self) -> None:
        """As the notifier does every second."""
        for follower in self.followers:
            follower.probe()
        self.settle()

    def check_converged(self) -> None:
        """Everybody has what the server has, and has seen all that led to it."""
        for follower in self.followers:
            replica = follower.replica
            assert replica.is_synced
            assert replica.revision == self.server.now.revision
            assert replica.everything() == self.server.now.content
            assert not any(isinstance(value, Unreadable) for value in replica.content.values())
            for watcher in follower.watchers:
                watcher.see_all(replica.everything())
