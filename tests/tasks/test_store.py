"""Each script of a queue alone: what it answers and what it leaves, the whole queue compared, once and sent again.

spec/asynq.md 3.2 to 3.4 say what must come out. How the scripts work together is in `test_model.py`, what a damaged
record does to them in `test_damage.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, get_args

import pytest

from pulsewire import ServerFull
from pulsewire._redis.namespace import Namespace
from pulsewire.tasks.keys import QueueKeys
from pulsewire.tasks.store import (
    Gathered,
    Lapsed,
    Leaving,
    Plan,
    QueueStore,
    Taken,
    Verb,
)
from pulsewire.testing import SingleServer
from tests._redis.kit import opened_link
from tests.tasks.content import Between, Content, Kept, Window, changed
from tests.tasks.scenes import (
    DAY,
    FAR_AHEAD,
    LONG_AGO,
    OTHER,
    OWNER,
    Queue,
    misplaced,
    order,
    packed,
)

TOPOLOGIES = ["standalone", "cluster", "redis7"]
OURS_LAPSED, GO_LAPSED = LONG_AGO + 0.5, LONG_AGO
DAYS_90 = 90 * 86400.0
KEPT = 600.0
Changes = Callable[[Window], dict[str, Any]]


class Case(NamedTuple):
    """One call, and what it must do.

    Attributes:
        call: makes it.
        reply: what it returns; a function of the window if that has times in it.
        changes: what it changes: name of a key -> its value, None for gone.
        again: what it returns when it is sent again, and changes nothing more. None: it is no repetition.
        again_changes: what it changes nevertheless.
    """

    call: Callable[[], Awaitable[Any]]
    reply: Any = None
    changes: Changes = lambda _: {}
    again: Any = None
    again_changes: Changes = lambda _: {}


Prepare = Callable[[Queue], Awaitable[Case]]
CASES: dict[str, Prepare] = {}


def case(name: str) -> Callable[[Prepare], Prepare]:
    """Declare a case."""

    def declare(prepare: Prepare) -> Prepare:
        assert name not in CASES
        CASES[name] = prepare
        return prepare

    return declare


def task(
    task_id: str, state: str, window: Window | None = None, **fields: bytes | None
) -> dict[str, Any]:
    """The HASH of a task. With a window: it has become pending within."""
    known: dict[str, Any] = {"msg": packed(task_id), "state": state.encode()}
    if window is not None:
        known["pending_since"] = window.stamp()
    known |= {name.replace("pulsewire_", "pulsewire:"): value for name, value in fields.items()}
    return {name: value for name, value in known.items() if value is not None}


def reply_record(window: Window) -> Kept:
    """Where `enqueue` keeps its replies, whatever they are."""
    return Kept(Anything(), window.exact(KEPT))


class Anything:
    """Equals whatever there is."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # as above


def told(window: Window, *words: bytes) -> list[Any]:
    """The reply of `enqueue`."""
    return [Between(window.low * 1000 - 1, window.high * 1000 + 1), *words]


# --- enqueue (spec/asynq.md 3.2)


@case("enqueue: pending")
async def _(queue: Queue) -> Case:
    await queue.pending("old")
    return Case(
        lambda: queue.enqueue(order("a"), order("b")),
        lambda window: told(window, b"pending", b"pending"),
        lambda window: {
            "t:a": task("a", "pending", window),
            "t:b": task("b", "pending", window),
            "pending": ["b", "a", "old"],
            "pulsewire:requests:client": reply_record(window),
        },
        again=lambda window: told(window, b"pending", b"pending"),
    )


@case("enqueue: id conflict")
async def _(queue: Queue) -> Case:
    await queue.later("completed", "a", score=LONG_AGO)
    return Case(
        lambda: queue.enqueue(order("a"), order("b"), order("b")),
        lambda window: told(window, b"conflict", b"pending", b"conflict"),
        lambda window: {
            "t:b": task("b", "pending", window),
            "pending": ["b"],
            "pulsewire:requests:client": reply_record(window),
        },
        again=lambda window: told(window, b"conflict", b"pending", b"conflict"),
    )


@case("enqueue: at a time to come")
async def _(queue: Queue) -> Case:
    return Case(
        lambda: queue.enqueue(order("a", Plan(at=FAR_AHEAD * 1000))),
        lambda window: told(window, b"scheduled"),
        lambda window: {
            "t:a": task("a", "scheduled"),
            "scheduled": {"a": FAR_AHEAD},
            "pulsewire:requests:client": reply_record(window),
        },
        again=lambda window: told(window, b"scheduled"),
    )


@case("enqueue: after a delay")
async def _(queue: Queue) -> Case:
    return Case(
        lambda: queue.enqueue(order("a", Plan(delay=90_400))),
        lambda window: told(window, b"scheduled"),
        lambda window: {
            "t:a": task("a", "scheduled"),
            "scheduled": {"a": window.rounded_up(90.4)},
            "pulsewire:requests:client": reply_record(window),
        },
        again=lambda window: told(window, b"scheduled"),
    )


@case("enqueue: at a time that is over")
async def _(queue: Queue) -> Case:
    return Case(
        lambda: queue.enqueue(order("a", Plan(at=LONG_AGO * 1000))),
        lambda window: told(window, b"pending"),
        lambda window: {
            "t:a": task("a", "pending", window),
            "pending": ["a"],
            "pulsewire:requests:client": reply_record(window),
        },
    )


@case("enqueue: unique")
async def _(queue: Queue) -> Case:
    lock = queue.keys.lock("t", b"")
    return Case(
        lambda: queue.enqueue(
            order("a", Plan(lock=1, ttl=50), lock), order("b", Plan(lock=1, ttl=50), lock)
        ),
        lambda window: told(window, b"pending", b"duplicate"),
        lambda window: {
            "t:a": task("a", "pending", window, unique_key=lock.encode()),
            "pending": ["a"],
            lock.removeprefix(queue.keys.prefix): Kept(b"a", window.exact(50)),
            "pulsewire:requests:client": reply_record(window),
        },
        again=lambda window: told(window, b"pending", b"duplicate"),
    )


@case("enqueue: unique at a time to come")
async def _(queue: Queue) -> Case:
    """The lock lasts beyond the time by its TTL."""
    lock = queue.keys.lock("t", None)
    return Case(
        lambda: queue.enqueue(order("a", Plan(at=FAR_AHEAD * 1000, lock=1, ttl=50), lock)),
        lambda window: told(window, b"scheduled"),
        lambda window: {
            "t:a": task("a", "scheduled", unique_key=lock.encode()),
            "scheduled": {"a": FAR_AHEAD},
            lock.removeprefix(queue.keys.prefix): Kept(
                b"a", Between(FAR_AHEAD + 49, FAR_AHEAD + 51)
            ),
            "pulsewire:requests:client": reply_record(window),
        },
    )


@case("enqueue: unique, id conflict")
async def _(queue: Queue) -> Case:
    """Go leaves the lock with a task that never was (7.3, 9)."""
    await queue.pending("a")
    lock = queue.keys.lock("t", None)
    return Case(
        lambda: queue.enqueue(order("a", Plan(lock=1, ttl=50), lock)),
        lambda window: told(window, b"conflict"),
        lambda window: {"pulsewire:requests:client": reply_record(window)},
        again=lambda window: told(window, b"conflict"),
    )


@case("enqueue: group")
async def _(queue: Queue) -> Case:
    group = queue.keys.group("g:1")
    return Case(
        lambda: queue.enqueue(order("a", Plan(group=1, name="g:1"), group)),
        lambda window: told(window, b"aggregating"),
        lambda window: {
            "t:a": task("a", "aggregating", group=b"g:1"),
            "g:g:1": {"a": window.seconds()},
            "groups": {"g:1"},
            "pulsewire:requests:client": reply_record(window),
        },
        again=lambda window: told(window, b"aggregating"),
    )


@case("enqueue: group, unique")
async def _(queue: Queue) -> Case:
    """Go does not note the lock in the HASH (1.2)."""
    lock, group = queue.keys.lock("t", b""), queue.keys.group("g")
    return Case(
        lambda: queue.enqueue(
            order("a", Plan(lock=1, ttl=50, group=2, name="g"), lock, group),
            order("b", Plan(lock=1, ttl=50, group=2, name="g"), lock, group),
        ),
        lambda window: told(window, b"aggregating", b"duplicate"),
        lambda window: {
            "t:a": task("a", "aggregating", group=b"g", unique_key=lock.encode()),
            "g:g": {"a": window.seconds()},
            "groups": {"g"},
            lock.removeprefix(queue.keys.prefix): Kept(b"a", window.exact(50)),
            "pulsewire:requests:client": reply_record(window),
        },
    )


@case("enqueue: group, at a time to come")
async def _(queue: Queue) -> Case:
    """Go does not note the group, so that it is never aggregated (7.3, 4). The field is ours until then."""
    group = queue.keys.group("g")
    return Case(
        lambda: queue.enqueue(order("a", Plan(at=FAR_AHEAD * 1000, group=1, name="g"), group)),
        lambda window: told(window, b"scheduled"),
        lambda window: {
            "t:a": task("a", "scheduled", pulsewire_group=b"g"),
            "scheduled": {"a": FAR_AHEAD},
            "pulsewire:requests:client": reply_record(window),
        },
    )


@case("enqueue: tick")
async def _(queue: Queue) -> Case:
    """A tick of a periodic task is enqueued by whoever comes first."""
    tick = queue.keys.tick("every-minute")
    return Case(
        lambda: queue.enqueue(
            order("a", Plan(tick=1, due=60), tick),
            order("b", Plan(tick=1, due=60), tick),
            order("c", Plan(tick=1, due=0), tick),
            order("d", Plan(tick=1, due=120), tick),
        ),
        lambda window: told(window, b"pending", b"fired", b"fired", b"pending"),
        lambda window: {
            "t:a": task("a", "pending", window),
            "t:d": task("d", "pending", window),
            "pending": ["d", "a"],
            "pulsewire:tick:every-minute": Kept(b"120", window.exact(86400)),
            "pulsewire:requests:client": reply_record(window),
        },
        again=lambda window: told(window, b"pending", b"fired", b"fired", b"pending"),
    )


@case("enqueue: tick of a task that is there")
async def _(queue: Queue) -> Case:
    """It stays due."""
    await queue.pending("a")
    tick = queue.keys.tick("every-minute")
    return Case(
        lambda: queue.enqueue(order("a", Plan(tick=1, due=60), tick)),
        lambda window: told(window, b"conflict"),
        lambda window: {"pulsewire:requests:client": reply_record(window)},
    )


# --- take (spec/asynq.md 3.3, Dequeue)


@case("take: the oldest, as many as are wanted")
async def _(queue: Queue) -> Case:
    await queue.pending("a", "b", "c")
    return Case(
        lambda: queue.store.take(2, 12.0, OWNER),
        lambda window: Taken(
            "taken",
            window.exact(),
            [],
            tasks=[(b"a", packed("a"), b"1"), (b"b", packed("b"), b"1")],
        ),
        lambda window: {
            "t:a": task("a", "active", pulsewire_owner=OWNER.encode()),
            "t:b": task("b", "active", pulsewire_owner=OWNER.encode()),
            "pending": ["c"],
            "active": ["b", "a"],
            "lease": {"a": window.lease(12.0), "b": window.lease(12.0)},
        },
    )


@case("take: of another owner before")
async def _(queue: Queue) -> Case:
    """Fields that we do not know stay (1.2)."""
    await queue.pending("a", owner=OTHER, lost="2", unknown="stays")
    return Case(
        lambda: queue.store.take(5, 12.0, OWNER),
        lambda window: Taken(
            "taken", window.exact(), [], lost={b"a": 2}, tasks=[(b"a", packed("a"), b"1")]
        ),
        lambda window: {
            "t:a": task(
                "a",
                "active",
                pulsewire_owner=OWNER.encode(),
                pulsewire_lost=b"2",
                unknown=b"stays",
            ),
            "pending": None,
            "active": ["a"],
            "lease": {"a": window.lease(12.0)},
        },
        again=lambda _: Taken("empty"),
    )


@case("take: since when it is pending is not known")
async def _(queue: Queue) -> Case:
    await queue.pending("a", pending_since=None)
    return Case(
        lambda: queue.store.take(5, 12.0, OWNER),
        lambda window: Taken("taken", window.exact(), [], tasks=[(b"a", packed("a"), b"")]),
        lambda window: {
            "t:a": task("a", "active", pulsewire_owner=OWNER.encode()),
            "pending": None,
            "active": ["a"],
            "lease": {"a": window.lease(12.0)},
        },
    )


@case("take: empty")
async def _(queue: Queue) -> Case:
    return Case(lambda: queue.store.take(5, 12.0, OWNER), Taken("empty"), again=Taken("empty"))


@case("take: paused")
async def _(queue: Queue) -> Case:
    await queue.pending("a")
    await queue.send("SET", queue.keys.paused, "1")
    return Case(lambda: queue.store.take(5, 12.0, OWNER), Taken("paused"), again=Taken("paused"))


@case("mine")
async def _(queue: Queue) -> Case:
    """Found ones get their lease anew, since it may have lapsed while nobody knew of them."""
    await queue.active("a", "b", lease=OURS_LAPSED)
    await queue.active("c", owner=OTHER)
    await queue.active_in_go("d")
    await queue.send("HSET", queue.keys.task("a"), "pulsewire:lost", 2)
    expected = (4, [(b"b", packed("b"), 0), (b"a", packed("a"), 2)])

    def changes(window: Window) -> dict[str, Any]:
        ends = window.lease(50.0)
        return {"lease": {"a": ends, "b": ends, "c": FAR_AHEAD + 0.5, "d": FAR_AHEAD}}

    return Case(lambda: queue.store.mine(OWNER, 0, 50.0), expected, changes, expected, changes)


@case("mine: taken over by Go")
async def _(queue: Queue) -> Case:
    await queue.active("a", lease=FAR_AHEAD)
    return Case(lambda: queue.store.mine(OWNER, 0, 50.0), (1, []), again=(1, []))


@case("mine: from a place on")
async def _(queue: Queue) -> Case:
    await queue.active("a", "b")
    return Case(
        lambda: queue.store.mine(OWNER, 1, 50.0),
        (1, [(b"a", packed("a"), 0)]),
        lambda window: {"lease": {"a": window.lease(50.0), "b": FAR_AHEAD + 0.5}},
    )


# --- Done (spec/asynq.md 3.3)


@case("done")
async def _(queue: Queue) -> Case:
    await queue.active("a", "b", "c")
    await queue.later("retry", "r")
    return Case(
        lambda: queue.done("a", "c"),
        set(),
        lambda window: {
            "t:a": None,
            "t:c": None,
            "active": ["b"],
            "lease": {"b": FAR_AHEAD + 0.5},
            "processed": b"2",
            f"processed:{DAY}": Kept(b"2", window.seconds(DAYS_90)),
        },
        again={"a", "c"},
    )


@case("done: lapsed, and nobody has taken it")
async def _(queue: Queue) -> Case:
    await queue.active("a", lease=OURS_LAPSED)
    return Case(
        lambda: queue.done("a"),
        set(),
        lambda window: {
            "t:a": None,
            "active": None,
            "lease": None,
            "processed": b"1",
            f"processed:{DAY}": Kept(b"1", window.seconds(DAYS_90)),
        },
        again={"a"},
    )


@case("done: not this owner's")
async def _(queue: Queue) -> Case:
    """Another server's, Go's, one that is pending again, one that is no more."""
    await queue.active("other", owner=OTHER)
    await queue.active_in_go("go")
    await queue.pending("pending")
    await queue.later("retry", "retry", owner=OWNER)
    lost = {"other", "go", "pending", "retry", "never"}
    return Case(lambda: queue.done(*lost), lost, again=lost)


@case("done: taken over by Go")
async def _(queue: Queue) -> Case:
    """A Go server leaves our field as it was, and its lease ends at a whole second."""
    await queue.active("a", lease=FAR_AHEAD)
    return Case(lambda: queue.done("a"), {"a"}, again={"a"})


@case("done: beyond the largest number")
async def _(queue: Queue) -> Case:
    """The totals start again (3.6)."""
    await queue.active("a")
    await queue.send("SET", queue.keys.processed, 2**63 - 1)
    await queue.send("SET", queue.keys.processed_on(DAY), 7)
    return Case(
        lambda: queue.done("a"),
        set(),
        lambda _: {
            "t:a": None,
            "active": None,
            "lease": None,
            "processed": b"1",
            f"processed:{DAY}": b"8",
        },
    )


# --- leaving: Done unique, MarkAsComplete, Retry, Archive, Requeue


def leave(queue: Queue, *tasks: Leaving, owner: str = OWNER) -> Callable[[], Awaitable[list[str]]]:
    """A call of `leave`."""
    return lambda: queue.store.leave(owner, tasks, DAY)


def counted(window: Window, *, failed: bool) -> dict[str, Any]:
    """The counters after one attempt, the first one."""
    found: dict[str, Any] = {
        "processed": b"1",
        f"processed:{DAY}": Kept(b"1", window.seconds(DAYS_90)),
    }
    if failed:
        found |= {"failed": b"1", f"failed:{DAY}": Kept(b"1", window.seconds(DAYS_90))}
    return found


NOT_ACTIVE: dict[str, Any] = {"active": None, "lease": None}
NEW = packed("a", retried=1, error_msg="boom")


async def locked(queue: Queue, holder: str) -> str:
    """A lock that a task holds."""
    lock = queue.keys.lock("t", None)
    await queue.send("SET", lock, holder, "EXAT", FAR_AHEAD)
    return lock


@case("leave: done, with its lock")
async def _(queue: Queue) -> Case:
    lock = await locked(queue, "a")
    await queue.active("a", unique_key=lock)
    return Case(
        leave(queue, Leaving("a", "done", lock=lock)),
        ["left"],
        lambda window: {
            "t:a": None,
            "unique:t:": None,
            **NOT_ACTIVE,
            **counted(window, failed=False),
        },
        again=["gone"],
    )


@case("leave: done, the lock is another's")
async def _(queue: Queue) -> Case:
    lock = await locked(queue, "b")
    await queue.active("a", unique_key=lock)
    return Case(
        leave(queue, Leaving("a", "done", lock=lock)),
        ["left"],
        lambda window: {"t:a": None, **NOT_ACTIVE, **counted(window, failed=False)},
        again=["gone"],
    )


@case("leave: complete")
async def _(queue: Queue) -> Case:
    await queue.active("a", lost="1", result="res")
    return Case(
        leave(queue, Leaving("a", "complete", NEW, 3600)),
        ["left"],
        lambda window: {
            "t:a": task("a", "completed", msg=NEW, result=b"res"),
            "completed": {"a": window.seconds(3600)},
            **NOT_ACTIVE,
            **counted(window, failed=False),
        },
        again=["other"],
    )


@case("leave: complete, with its lock")
async def _(queue: Queue) -> Case:
    lock = await locked(queue, "a")
    await queue.active("a", unique_key=lock)
    return Case(
        leave(queue, Leaving("a", "complete", NEW, 1, lock)),
        ["left"],
        lambda window: {
            "t:a": task("a", "completed", msg=NEW, unique_key=lock.encode()),
            "completed": {"a": window.seconds(1)},
            "unique:t:": None,
            **NOT_ACTIVE,
            **counted(window, failed=False),
        },
        again=["other"],
    )


@case("leave: retry")
async def _(queue: Queue) -> Case:
    """The lock stays with it."""
    lock = await locked(queue, "a")
    await queue.active("a", lost="1", group="g", unique_key=lock)
    return Case(
        leave(queue, Leaving("a", "retry", NEW, 44.5, lock)),
        ["left"],
        lambda window: {
            "t:a": task("a", "retry", msg=NEW, group=b"g", unique_key=lock.encode()),
            "retry": {"a": window.rounded_up(44.5)},
            **NOT_ACTIVE,
            **counted(window, failed=True),
        },
        again=["other"],
    )


@case("leave: again")
async def _(queue: Queue) -> Case:
    """Counted nowhere (4.3)."""
    await queue.active("a")
    return Case(
        leave(queue, Leaving("a", "again", NEW, 0.0)),
        ["left"],
        lambda window: {
            "t:a": task("a", "retry", msg=NEW),
            "retry": {"a": window.rounded_up()},
            **NOT_ACTIVE,
        },
        again=["other"],
    )


@case("leave: archive")
async def _(queue: Queue) -> Case:
    await queue.active("a", lost="3")
    return Case(
        leave(queue, Leaving("a", "archive", NEW)),
        ["left"],
        lambda window: {
            "t:a": task("a", "archived", msg=NEW),
            "archived": {"a": window.seconds()},
            **NOT_ACTIVE,
            **counted(window, failed=True),
        },
        again=["other"],
    )


@case("leave: archive, and what is older than 90 days goes")
async def _(queue: Queue) -> Case:
    """With their locks, as far as they hold them."""
    await queue.active("a")
    lock = await locked(queue, "old")
    await queue.later("archived", "old", "older", score=LONG_AGO, unique_key=lock)
    await queue.later("archived", "new", score=FAR_AHEAD)
    return Case(
        leave(queue, Leaving("a", "archive", NEW)),
        ["left"],
        lambda window: {
            "t:a": task("a", "archived", msg=NEW),
            "t:old": None,
            "t:older": None,
            "unique:t:": None,
            "archived": {"a": window.seconds(), "new": FAR_AHEAD},
            **NOT_ACTIVE,
            **counted(window, failed=True),
        },
        again=["other"],
    )


@case("leave: back")
async def _(queue: Queue) -> Case:
    """To the front, uncharged; how often it was lost stays known."""
    await queue.pending("p")
    await queue.active("a", lost="1")
    return Case(
        leave(queue, Leaving("a", "back")),
        ["left"],
        lambda window: {
            "t:a": task("a", "pending", window, pulsewire_lost=b"1"),
            "pending": ["p", "a"],
            **NOT_ACTIVE,
        },
        again=["other"],
    )


@case("leave: defer")
async def _(queue: Queue) -> Case:
    """For later, uncharged; how often it was lost stays known."""
    await queue.active("a", lost="2")
    return Case(
        leave(queue, Leaving("a", "defer", number=5.5)),
        ["left"],
        lambda window: {
            "t:a": task("a", "retry", pulsewire_lost=b"2"),
            "retry": {"a": window.rounded_up(5.5)},
            **NOT_ACTIVE,
        },
        again=["other"],
    )


@case("leave: shelve")
async def _(queue: Queue) -> Case:
    """As it is."""
    await queue.active("a", msg=b"\xff")
    return Case(
        leave(queue, Leaving("a", "shelve")),
        ["left"],
        lambda window: {
            "t:a": task("a", "archived", msg=b"\xff"),
            "archived": {"a": window.seconds()},
            **NOT_ACTIVE,
            **counted(window, failed=True),
        },
        again=["other"],
    )


@case("leave: several at once, each in its own way")
async def _(queue: Queue) -> Case:
    await queue.active("a", "b", "c", "d", "e")
    await queue.active("other", owner=OTHER)
    leaving = [
        Leaving("a", "done"),
        Leaving("other", "done"),
        Leaving("b", "retry", packed("b", retried=1), 10.0),
        Leaving("never", "back"),
        Leaving("c", "back"),
        Leaving("d", "archive", packed("d")),
    ]
    return Case(
        leave(queue, *leaving),
        ["left", "other", "left", "gone", "left", "left"],
        lambda window: {
            "t:a": None,
            "t:b": task("b", "retry", msg=packed("b", retried=1)),
            "t:c": task("c", "pending", window),
            "t:d": task("d", "archived"),
            "active": ["other", "e"],
            "lease": {"e": FAR_AHEAD + 0.5, "other": FAR_AHEAD + 0.5},
            "retry": {"b": window.rounded_up(10)},
            "pending": ["c"],
            "archived": {"d": window.seconds()},
            "processed": b"3",
            f"processed:{DAY}": Kept(b"3", window.seconds(DAYS_90)),
            "failed": b"2",
            f"failed:{DAY}": Kept(b"2", window.seconds(DAYS_90)),
        },
        again=["gone", "other", "other", "gone", "other", "other"],
    )


@case("leave: the task was deleted meanwhile")
async def _(queue: Queue) -> Case:
    """Nothing is made of it: Go revives it (7.3, 15)."""
    await queue.active("a")
    await queue.send("DEL", queue.keys.task("a"))
    return Case(leave(queue, Leaving("a", "retry", NEW, 1.0)), ["gone"], again=["gone"])


@case("leave: taken over by Go")
async def _(queue: Queue) -> Case:
    await queue.active("a", lease=FAR_AHEAD)
    return Case(leave(queue, Leaving("a", "retry", NEW, 1.0)), ["other"], again=["other"])


@case("leave: recover one of ours that has lapsed")
async def _(queue: Queue) -> Case:
    await queue.pending("p")
    await queue.active("a", lease=OURS_LAPSED)
    return Case(
        leave(queue, Leaving("a", "recover", number=1), owner=""),
        ["left"],
        lambda window: {
            "t:a": task("a", "pending", window, pulsewire_lost=b"1"),
            "pending": ["p", "a"],
            **NOT_ACTIVE,
        },
        again=["other"],
    )


@case("leave: recover, again")
async def _(queue: Queue) -> Case:
    await queue.active("a", lease=OURS_LAPSED, lost="1")
    return Case(
        leave(queue, Leaving("a", "recover", number=1), owner=""),
        ["left"],
        lambda window: {
            "t:a": task("a", "pending", window, pulsewire_lost=b"2"),
            "pending": ["a"],
            **NOT_ACTIVE,
        },
    )


@case("leave: recover, uncounted")
async def _(queue: Queue) -> Case:
    """One that was not the reason."""
    await queue.active("a", lease=OURS_LAPSED, lost="2", alone="another-server")
    return Case(
        leave(queue, Leaving("a", "recover", number=0), owner=""),
        ["left"],
        lambda window: {
            "t:a": task("a", "pending", window, pulsewire_lost=b"2"),
            "pending": ["a"],
            **NOT_ACTIVE,
        },
    )


@case("leave: the lease was renewed meanwhile")
async def _(queue: Queue) -> Case:
    """Go does not look again (7.3, 13)."""
    await queue.active("ours")
    await queue.active_in_go("go")
    leaving = [Leaving("ours", "recover"), Leaving("go", "retry", NEW, 1.0)]
    return Case(leave(queue, *leaving, owner=""), ["held", "held"], again=["held", "held"])


@case("leave: one of Go has lapsed within the grace")
async def _(queue: Queue) -> Case:
    """Its clock may be behind: 30 s (4.5)."""
    now = int((await queue.send("TIME"))[0])
    await queue.active_in_go("a", lease=now - 5)
    return Case(leave(queue, Leaving("a", "retry", NEW, 1.0), owner=""), ["held"], again=["held"])


@case("leave: one of Go has lapsed")
async def _(queue: Queue) -> Case:
    await queue.active_in_go("a", lease=GO_LAPSED)
    return Case(
        leave(queue, Leaving("a", "retry", NEW, 20.0), owner=""),
        ["left"],
        lambda window: {
            "t:a": task("a", "retry", msg=NEW),
            "retry": {"a": window.rounded_up(20)},
            **NOT_ACTIVE,
            **counted(window, failed=True),
        },
        again=["other"],
    )


@case("leave: active without a lease")
async def _(queue: Queue) -> Case:
    """As a broken client may leave it."""
    await queue.active("a", lease=None)
    return Case(
        leave(queue, Leaving("a", "recover", number=1), owner=""),
        ["left"],
        lambda window: {
            "t:a": task("a", "pending", window, pulsewire_lost=b"1"),
            "pending": ["a"],
            **NOT_ACTIVE,
        },
    )


# --- leases and results


@case("extend")
async def _(queue: Queue) -> Case:
    """Also one that has lapsed, as long as nobody has taken it; those of others never."""
    await queue.active("a", "b")
    await queue.active("late", lease=OURS_LAPSED)
    await queue.active("other", owner=OTHER)
    await queue.active_in_go("go")
    await queue.pending("pending")
    ids = ["a", "late", "other", "go", "pending", "never"]

    def changes(window: Window) -> dict[str, Any]:
        ends = window.lease(50.0)
        held = {"a": ends, "b": FAR_AHEAD + 0.5, "late": ends}
        return {"lease": {**held, "other": FAR_AHEAD + 0.5, "go": FAR_AHEAD}}

    lost = ["other", "go", "pending", "never"]
    return Case(lambda: queue.store.extend(OWNER, ids, 50.0), lost, changes, lost, changes)


@case("extend: taken over by Go")
async def _(queue: Queue) -> Case:
    """It runs there, or waits for its retry: a Go server leaves our field as it was."""
    await queue.active("runs", lease=FAR_AHEAD)
    await queue.later("retry", "waits", owner=OWNER)
    await queue.pending("pending", owner=OWNER)
    lost = ["runs", "waits", "pending"]
    return Case(lambda: queue.store.extend(OWNER, lost, 50.0), lost, again=lost)


@case("extend: its lease was lost")
async def _(queue: Queue) -> Case:
    """It is made anew."""
    await queue.active("a", lease=None)

    def changes(window: Window) -> dict[str, Any]:
        return {"lease": {"a": window.lease(50.0)}}

    return Case(lambda: queue.store.extend(OWNER, ["a"], 50.0), [], changes, [], changes)


@case("note_alone")
async def _(queue: Queue) -> Case:
    await queue.active("a")
    owner = OWNER.encode()
    return Case(
        lambda: queue.store.note_alone(OWNER, "a"),
        reply=True,
        changes=lambda _: {
            "t:a": task("a", "active", pulsewire_owner=owner, pulsewire_alone=owner)
        },
        again=True,
    )


@case("note_alone: not this owner's")
async def _(queue: Queue) -> Case:
    await queue.active("a", owner=OTHER)
    return Case(lambda: queue.store.note_alone(OWNER, "a"), reply=False, again=False)


@case("note_alone: no such task")
async def _(queue: Queue) -> Case:
    return Case(lambda: queue.store.note_alone(OWNER, "a"), reply=False, again=False)


@case("write_result")
async def _(queue: Queue) -> Case:
    await queue.active("a")
    return Case(
        lambda: queue.store.write_result(OWNER, "a", b"\x00res"),
        reply=True,
        changes=lambda _: {
            "t:a": task("a", "active", pulsewire_owner=OWNER.encode(), result=b"\x00res")
        },
        again=True,
    )


@case("write_result: not this owner's")
async def _(queue: Queue) -> Case:
    await queue.active("a", owner=OTHER)
    return Case(lambda: queue.store.write_result(OWNER, "a", b"res"), reply=False, again=False)


@case("write_result: taken over by Go")
async def _(queue: Queue) -> Case:
    await queue.active("a", lease=FAR_AHEAD)
    return Case(lambda: queue.store.write_result(OWNER, "a", b"res"), reply=False, again=False)


@case("write_result: no such task")
async def _(queue: Queue) -> Case:
    """It is not made anew: Go does (7.3, 15)."""
    return Case(lambda: queue.store.write_result(OWNER, "a", b"res"), reply=False, again=False)


# --- upkeep, spec/asynq.md 3.4


@case("lapsed")
async def _(queue: Queue) -> Case:
    """Ours at once, Go's after its grace."""
    now = int((await queue.send("TIME"))[0])
    await queue.active("ours", lease=OURS_LAPSED, lost="2", alone="another-server")
    await queue.active("alone", lease=OURS_LAPSED, alone=OWNER)
    await queue.active_in_go("go", lease=GO_LAPSED + 1)
    await queue.active_in_go("go-late", lease=now - 5)
    await queue.active("held")
    expected = [
        Lapsed("alone", packed("alone"), is_ours=True, lost=0, was_alone=True),
        Lapsed("ours", packed("ours"), is_ours=True, lost=2, was_alone=False),
        Lapsed("go", packed("go"), is_ours=False, lost=0, was_alone=False),
    ]
    return Case(queue.store.lapsed, expected, again=expected)


@case("lapsed: none")
async def _(queue: Queue) -> Case:
    await queue.active("held")
    return Case(queue.store.lapsed, [], again=[])


@case("lapsed: entries without a task")
async def _(queue: Queue) -> Case:
    """They go."""
    await queue.active("a", "ghost", lease=OURS_LAPSED)
    await queue.send("DEL", queue.keys.task("ghost"))
    expected = [Lapsed("a", packed("a"), is_ours=True, lost=0, was_alone=False)]
    return Case(
        queue.store.lapsed,
        expected,
        lambda _: {"active": ["a"], "lease": {"a": OURS_LAPSED}},
        again=expected,
    )


@case("lapsed: leases were lost")
async def _(queue: Queue) -> Case:
    """They are made again, to end later: whoever lives renews them before that. Those of Go look like Go's."""
    await queue.active("a", "b", lease=None)
    await queue.active_in_go("go")
    await queue.send("ZREM", queue.keys.lease, "go")
    return Case(
        queue.store.lapsed,
        [],
        lambda window: {
            "lease": {"a": window.lease(30), "b": window.lease(30), "go": window.seconds(30)}
        },
        again=[],
    )


def moved(count: int, next_due: Any = None) -> tuple[int, Any]:
    """The reply of `forward`."""
    return count, next_due


@case("forward")
async def _(queue: Queue) -> Case:
    await queue.later("scheduled", "s1", score=LONG_AGO)
    await queue.later("scheduled", "s2", score=LONG_AGO + 1)
    await queue.later("retry", "r1", score=LONG_AGO)
    await queue.later("scheduled", "s3")
    await queue.later("retry", "r2", score=FAR_AHEAD - 100)
    await queue.pending("p")

    def due(window: Window) -> Between:
        at = FAR_AHEAD - 100
        return Between(at - window.high - 0.01, at - window.low + 0.01)

    return Case(
        queue.store.forward,
        lambda window: moved(3, due(window)),
        lambda window: {
            "t:s1": task("s1", "pending", window),
            "t:s2": task("s2", "pending", window),
            "t:r1": task("r1", "pending", window),
            "scheduled": {"s3": FAR_AHEAD},
            "retry": {"r2": FAR_AHEAD - 100},
            "pending": ["r1", "s2", "s1", "p"],
        },
        again=lambda window: moved(0, due(window)),
    )


@case("forward: back to its group")
async def _(queue: Queue) -> Case:
    """Which is registered again: Go does not (7.3, 3)."""
    await queue.later("retry", "a", score=LONG_AGO, group="g:1")
    await queue.later("scheduled", "b", score=LONG_AGO, group="")
    return Case(
        queue.store.forward,
        moved(2),
        lambda window: {
            "t:a": task("a", "aggregating", group=b"g:1"),
            "t:b": task("b", "pending", window, group=b""),
            "scheduled": None,
            "retry": None,
            "pending": ["b"],
            "g:g:1": {"a": window.seconds()},
            "groups": {"g:1"},
        },
        again=moved(0),
    )


@case("forward: to its group for the first time")
async def _(queue: Queue) -> Case:
    """A Go server would make it plain, as its own."""
    await queue.later("scheduled", "a", score=LONG_AGO)
    await queue.send("HSET", queue.keys.task("a"), "pulsewire:group", "g")
    return Case(
        queue.store.forward,
        moved(1),
        lambda window: {
            "t:a": task("a", "aggregating", group=b"g"),
            "scheduled": None,
            "g:g": {"a": window.seconds()},
            "groups": {"g"},
        },
        again=moved(0),
    )


@case("forward: to the front, if its servers died")
async def _(queue: Queue) -> Case:
    """It was there before, and has waited to run alone."""
    await queue.later("retry", "a", "b", score=LONG_AGO, lost=2)
    await queue.later("retry", "never", score=LONG_AGO, lost=0)
    await queue.pending("p")
    return Case(
        queue.store.forward,
        moved(3),
        lambda window: {
            "t:a": task("a", "pending", window, pulsewire_lost=b"2"),
            "t:b": task("b", "pending", window, pulsewire_lost=b"2"),
            "t:never": task("never", "pending", window, pulsewire_lost=b"0"),
            "retry": None,
            "pending": ["never", "p", "a", "b"],
        },
        again=moved(0),
    )


@case("forward: nothing")
async def _(queue: Queue) -> Case:
    await queue.pending("a")
    return Case(queue.store.forward, moved(0), again=moved(0))


@case("forget")
async def _(queue: Queue) -> Case:
    await queue.later("completed", "a", score=LONG_AGO)
    await queue.later("completed", "b", score=LONG_AGO + 1)
    await queue.later("completed", "c")
    await queue.later("archived", "old", score=LONG_AGO)
    return Case(
        lambda: queue.store.forget(100),
        2,
        lambda _: {
            "t:a": None,
            "t:b": None,
            "t:old": None,
            "completed": {"c": FAR_AHEAD},
            "archived": None,
        },
        again=0,
    )


@case("forget: no more than so many")
async def _(queue: Queue) -> Case:
    for number in range(5):
        await queue.later("completed", f"c{number}", score=LONG_AGO + number)
    return Case(
        lambda: queue.store.forget(3),
        3,
        lambda _: {
            **dict.fromkeys(("t:c0", "t:c1", "t:c2")),
            "completed": {"c3": LONG_AGO + 3, "c4": LONG_AGO + 4},
        },
    )


@case("forget: with the lock that it holds still")
async def _(queue: Queue) -> Case:
    lock = await locked(queue, "a")
    await queue.later("completed", "a", "b", score=LONG_AGO, unique_key=lock)
    return Case(
        lambda: queue.store.forget(100),
        2,
        lambda _: {"t:a": None, "t:b": None, "completed": None, "unique:t:": None},
        again=0,
    )


# --- groups: AggregationCheck, ReadAggregationSet, DeleteAggregationSet, Reclaim


def gather(
    queue: Queue, most: int = 0, delay: float = 0.0, grace: float = 60.0, set_id: str = "S"
) -> Callable[[], Awaitable[Gathered]]:
    """A call of `gather` for the group g."""
    return lambda: queue.store.gather("g", set_id, most=most, delay=delay, grace=grace, life=120.0)


async def group_of_three(queue: Queue, oldest: float, newest: float) -> None:
    """A group with members a, b and c."""
    scores = (oldest, (oldest + newest) // 2, newest)
    for task_id, score in zip("abc", scores, strict=True):
        await queue.grouped("g", task_id, score=score)


async def seconds_ago(queue: Queue, seconds: float) -> int:
    """When that was."""
    return int((await queue.send("TIME"))[0]) - int(seconds)


def apart(queue: Queue, window: Window, members: dict[str, float], left: dict[str, float]) -> Any:
    """What a set that was made has changed."""
    return {
        "g:g": left or None,
        "g:g:S": members,
        "groups": {"g"} if left else None,
        "aggregation_sets": {queue.keys.aggregation_set("g", "S"): window.seconds(120)},
    }


@case("gather: the group is empty")
async def _(queue: Queue) -> Case:
    """Its name goes."""
    await queue.grouped("h", "a")
    await queue.send("SADD", queue.keys.groups, "g")
    return Case(
        gather(queue), Gathered("empty"), lambda _: {"groups": {"h"}}, again=Gathered("empty")
    )


@case("gather: it is not time")
async def _(queue: Queue) -> Case:
    now = await seconds_ago(queue, 0)
    await group_of_three(queue, now - 50, now)
    wait = Gathered("wait")
    return Case(gather(queue, most=4, delay=100), wait, again=wait)


@case("gather: so many as are wanted")
async def _(queue: Queue) -> Case:
    now = await seconds_ago(queue, 0)
    await group_of_three(queue, now - 4, now)
    members = {"a": now - 4.0, "b": now - 2.0, "c": float(now)}
    return Case(
        gather(queue, most=3),
        lambda window: Gathered("gathered", 3, window.seconds(120)),
        lambda window: apart(queue, window, members, {}),
        again=lambda window: Gathered("gathered", 3, window.seconds(120)),
    )


@case("gather: more than are wanted")
async def _(queue: Queue) -> Case:
    """The oldest ones; the group stays."""
    now = await seconds_ago(queue, 0)
    await group_of_three(queue, now - 4, now)
    members = {"a": now - 4.0, "b": now - 2.0}
    return Case(
        gather(queue, most=2),
        lambda window: Gathered("gathered", 2, window.seconds(120)),
        lambda window: apart(queue, window, members, {"c": float(now)}),
        again=lambda window: Gathered("gathered", 2, window.seconds(120)),
    )


@case("gather: so many that it would be time again")
async def _(queue: Queue) -> Case:
    """Sent again it does not gather others into the set, where those that it has gathered would be lost."""
    now = await seconds_ago(queue, 0)
    await group_of_three(queue, now - 400, now - 100)
    return Case(
        gather(queue, most=1),
        lambda window: Gathered("gathered", 1, window.seconds(120)),
        lambda window: apart(
            queue, window, {"a": now - 400.0}, {"b": now - 250.0, "c": now - 100.0}
        ),
        again=lambda window: Gathered("gathered", 1, window.seconds(120)),
    )


@case("gather: the oldest has waited long enough")
async def _(queue: Queue) -> Case:
    now = await seconds_ago(queue, 0)
    await group_of_three(queue, now - 100, now)
    members = {"a": now - 100.0, "b": now - 50.0, "c": float(now)}
    return Case(
        gather(queue, most=4, delay=100),
        lambda window: Gathered("gathered", 3, window.seconds(120)),
        lambda window: apart(queue, window, members, {}),
    )


@case("gather: nobody has come for the grace, without other limits")
async def _(queue: Queue) -> Case:
    now = await seconds_ago(queue, 0)
    await group_of_three(queue, now - 400, now - 60)
    members = {"a": now - 400.0, "b": now - 230.0, "c": now - 60.0}
    return Case(
        gather(queue),
        lambda window: Gathered("gathered", 3, window.seconds(120)),
        lambda window: apart(queue, window, members, {}),
    )


@case("gather: without a limit of size, within the grace")
async def _(queue: Queue) -> Case:
    now = await seconds_ago(queue, 0)
    await group_of_three(queue, now - 400, now - 20)
    wait = Gathered("wait")
    return Case(gather(queue), wait, again=wait)


@case("members")
async def _(queue: Queue) -> Case:
    """In order of their scores; what is no task has no message."""
    for number, task_id in enumerate("cab"):
        await queue.set_apart("g", "S", task_id, score=LONG_AGO + number)
    await queue.send("DEL", queue.keys.task("a"))
    expected = [("c", packed("c")), ("a", b""), ("b", packed("b"))]
    return Case(lambda: queue.store.members("g", "S", 0), expected, again=expected)


@case("bundle")
async def _(queue: Queue) -> Case:
    """The members go with the locks that they hold; other sets and groups stay."""
    lock = await locked(queue, "a")
    await queue.set_apart("g", "S", "a", "b", unique_key=lock)
    await queue.set_apart("g", "S2", "c")
    await queue.grouped("g", "d")
    return Case(
        lambda: queue.store.bundle("g", "S", order("new")),
        "pending",
        lambda window: {
            "t:new": task("new", "pending", window),
            "pending": ["new"],
            "t:a": None,
            "t:b": None,
            "unique:t:": None,
            "g:g:S": None,
            "aggregation_sets": {queue.keys.aggregation_set("g", "S2"): FAR_AHEAD},
        },
        again="bundled",
    )


@case("bundle: for later, unique, and into a group")
async def _(queue: Queue) -> Case:
    await queue.set_apart("g", "S", "a")
    lock, group = queue.keys.lock("t", b""), queue.keys.group("h")
    plan = Plan(at=FAR_AHEAD * 1000, lock=1, ttl=50, group=2, name="h")
    return Case(
        lambda: queue.store.bundle("g", "S", order("new", plan, lock, group)),
        "scheduled",
        lambda _: {
            "t:new": task("new", "scheduled", unique_key=lock.encode(), pulsewire_group=b"h"),
            "scheduled": {"new": FAR_AHEAD},
            lock.removeprefix(queue.keys.prefix): Kept(
                b"new", Between(FAR_AHEAD + 49, FAR_AHEAD + 51)
            ),
            "t:a": None,
            "g:g:S": None,
            "aggregation_sets": None,
        },
        again="bundled",
    )


@case("bundle: the set is no more")
async def _(queue: Queue) -> Case:
    """Somebody has given its members back."""
    await queue.grouped("g", "a")
    return Case(
        lambda: queue.store.bundle("g", "S", order("new")),
        "lapsed",
        again="lapsed",
    )


@case("bundle: the life of the set is over")
async def _(queue: Queue) -> Case:
    """Whoever reclaims it next gives its members back."""
    await queue.set_apart("g", "S", "a", ends=LONG_AGO)
    return Case(
        lambda: queue.store.bundle("g", "S", order("new")),
        "lapsed",
        again="lapsed",
    )


@case("bundle: id conflict")
async def _(queue: Queue) -> Case:
    await queue.set_apart("g", "S", "a")
    await queue.pending("new")
    return Case(
        lambda: queue.store.bundle("g", "S", order("new")),
        "conflict",
        again="conflict",
    )


@case("bundle: the lock is held")
async def _(queue: Queue) -> Case:
    lock = await locked(queue, "x")
    await queue.set_apart("g", "S", "a")
    return Case(
        lambda: queue.store.bundle("g", "S", order("new", Plan(lock=1, ttl=5), lock)),
        "duplicate",
        again="duplicate",
    )


@case("reclaim: what has lapsed")
async def _(queue: Queue) -> Case:
    """The groups are registered again: Go does not (7.3, 2). A group that has new members keeps them."""
    await queue.set_apart("g:1", "S", "a", "b", score=LONG_AGO + 7, ends=LONG_AGO)
    await queue.grouped("g:1", "new", score=LONG_AGO + 9)
    await queue.send("SREM", queue.keys.groups, "g:1")
    await queue.set_apart("h", "T", "c", ends=LONG_AGO + 1)
    await queue.set_apart("h", "U", "d")
    return Case(
        queue.store.reclaim,
        2,
        lambda _: {
            "g:g:1": {"a": LONG_AGO + 7.0, "b": LONG_AGO + 7.0, "new": LONG_AGO + 9.0},
            "g:h": {"c": float(LONG_AGO)},
            "groups": {"g:1", "h"},
            "g:g:1:S": None,
            "g:h:T": None,
            "aggregation_sets": {queue.keys.aggregation_set("h", "U"): FAR_AHEAD},
        },
        again=0,
    )


@case("reclaim: one that is wanted now")
async def _(queue: Queue) -> Case:
    await queue.set_apart("g", "S", "a")
    await queue.set_apart("g", "T", "b", ends=LONG_AGO)
    return Case(
        lambda: queue.store.reclaim("g", "S"),
        1,
        lambda _: {
            "g:g": {"a": float(LONG_AGO)},
            "groups": {"g"},
            "g:g:S": None,
            "aggregation_sets": {queue.keys.aggregation_set("g", "T"): LONG_AGO},
        },
        again=0,
    )


@case("reclaim: an index without a set")
async def _(queue: Queue) -> Case:
    """Also a name that cannot be one of ours."""
    key = queue.keys.aggregation_set("g", "S")
    await queue.send("ZADD", queue.keys.aggregation_sets, LONG_AGO, key, LONG_AGO, "nonsense")
    return Case(queue.store.reclaim, 0, lambda _: {"aggregation_sets": None}, again=0)


@case("groups")
async def _(queue: Queue) -> Case:
    await queue.grouped("g:1", "a")
    return Case(queue.store.groups, ["g:1"], again=["g:1"])


# --- all of them


@pytest.mark.parametrize("name", CASES)
async def test_script_does_what_it_says(queue: Queue, name: str) -> None:
    """The reply, and the whole content of the queue: what is to change has changed, and nothing else."""
    prepared = await CASES[name](queue)
    before = await queue.content()
    async with queue.window() as window:
        reply = await prepared.call()
    assert reply == _of(prepared.reply, window)
    after = await queue.content()
    assert after == changed(before, prepared.changes(window))
    _agrees_with_the_rules(before, after)
    if prepared.again is None:
        return
    async with queue.window() as later:
        repeated = await prepared.call()
    window.high = later.high
    assert repeated == _of(prepared.again, window)
    assert await queue.content() == changed(after, prepared.again_changes(later))


def _of(expected: Any, window: Window) -> Any:
    return expected(window) if callable(expected) else expected


def _agrees_with_the_rules(before: Content, after: Content) -> None:
    """A script leaves no relation broken that was not broken before (spec/asynq.md 1.4)."""
    assert set(misplaced(after)) <= set(misplaced(before))


# --- many at once


async def test_forward_moves_a_hundred_of_each_kind(queue: Queue) -> None:
    """Lowest first, and says that there is more."""
    tasks = [f"{number:03}" for number in range(150)]
    for state in ("scheduled", "retry"):
        await many(queue, f"{queue.keys.prefix}{state}", state, [f"{state}-{one}" for one in tasks])
    assert await queue.store.forward() == (200, 0)
    waiting = (await queue.content())["pending"]
    assert waiting[::-1] == [
        f"{state}-{one}" for state in ("scheduled", "retry") for one in tasks[:100]
    ]
    assert await queue.store.forward() == (100, None)


async def test_archive_is_trimmed_to_its_size_and_the_hashes_go(queue: Queue) -> None:
    """9,999 are kept (4.6), the oldest go first, at most 100 of them at a time."""
    tasks = [f"{number:05}" for number in range(10_150)]
    hours_ago = await seconds_ago(queue, 20_000)
    await many(queue, queue.keys.archived, "archived", tasks, score=hours_ago)
    await queue.active("a", "b")
    await queue.store.leave(OWNER, [Leaving("a", "archive", NEW)], DAY)
    assert await queue.send("ZCARD", queue.keys.archived) == 10_051
    await queue.store.leave(OWNER, [Leaving("b", "archive", NEW)], DAY)
    assert await queue.send("ZCARD", queue.keys.archived) == 9_999
    assert await queue.send("ZRANGE", queue.keys.archived, 0, 0) == [b"00153"]
    left = [await queue.state(one) for one in (tasks[152], tasks[153], "a", "b")]
    assert left == ["", "archived", "archived", "archived"]


async def test_archive_with_thousands_that_are_too_old_goes_on(queue: Queue) -> None:
    """Go's script fails for ever above some 8,000 (7.3, 5)."""
    tasks = [f"{number:05}" for number in range(9_000)]
    await many(queue, queue.keys.archived, "archived", tasks, score=LONG_AGO)
    await queue.active("a")
    assert await queue.store.leave(OWNER, [Leaving("a", "archive", NEW)], DAY) == ["left"]
    assert await queue.state("a") == "archived"
    assert await queue.send("ZCARD", queue.keys.archived) == 8_901


async def many(
    queue: Queue, key: str, state: str, task_ids: list[str], score: float = LONG_AGO
) -> None:
    """Many tasks in a ZSET, one second apart from each other."""
    commands: list[tuple[Any, ...]] = []
    for number, task_id in enumerate(task_ids):
        commands.append(("HSET", queue.keys.task(task_id), "msg", b"x", "state", state))
        commands.append(("ZADD", key, score + number, task_id))
    for start in range(0, len(commands), 2000):
        await queue.send_many(commands[start : start + 2000])


async def test_lapsed_leases_come_a_hundred_at_a_time(queue: Queue) -> None:
    ids = [f"{number:03}" for number in range(150)]
    await many(queue, queue.keys.lease, "active", ids)
    await queue.send("LPUSH", queue.keys.active, *ids)
    assert [lapsed.task_id for lapsed in await queue.store.lapsed()] == ids[:100]


async def test_leases_of_go_hide_none_of_ours(queue: Queue) -> None:
    """A hundred leases of a Go server within their grace do not keep those of ours from being seen."""
    now = int((await queue.send("TIME"))[0])
    await queue.active_in_go(*(f"go-{number:03}" for number in range(120)), lease=now - 20)
    await queue.active("ours", lease=now - 10 + 0.0005)
    assert [lapsed.task_id for lapsed in await queue.store.lapsed()] == ["ours"]


async def test_extending_hundreds_of_leases(queue: Queue) -> None:
    """More than one script may name at once."""
    ids = [f"{number:04}" for number in range(1_100)]
    await queue.active(*ids[:3])
    assert await queue.store.extend(OWNER, ids, 50.0) == ids[3:]


# --- a server that is full


async def test_full_server_admits_nothing_and_lets_work_end(fresh_server: SingleServer) -> None:
    """What would need memory is refused and writes nothing; all that brings tasks to their end goes on (F17)."""
    async with opened_link(fresh_server.url) as link, fresh_server.connection() as connection:
        queue = Queue(QueueStore(link, QueueKeys(Namespace("full"), "default")), connection)
        lock, group = queue.keys.lock("t", None), queue.keys.group("g")
        await queue.pending("p1", "p2")
        verbs: list[Any] = list(get_args(Verb))
        await queue.active("plain", "extended", *verbs)
        await queue.active("ours", lease=OURS_LAPSED)
        await queue.later("scheduled", "s", score=LONG_AGO)
        await queue.later("retry", "r", score=LONG_AGO, group="g")
        await queue.later("completed", "c", score=LONG_AGO)
        await queue.set_apart("g", "S", "m", ends=LONG_AGO)
        await fresh_server.command("CONFIG", "SET", "maxmemory", 1)

        before = await queue.content()
        for plan, own in (
            (None, ()),
            (Plan(at=FAR_AHEAD * 1000), ()),
            (Plan(lock=1, ttl=5), (lock,)),
            (Plan(group=1, name="g"), (group,)),
            (Plan(tick=1, due=5), (queue.keys.tick("e"),)),
        ):
            with pytest.raises(ServerFull):
                await queue.enqueue(order("new", plan, *own))
        assert await queue.content() == before

        taken = await queue.store.take(1, 12.0, OWNER)
        assert [task_id for task_id, *_ in taken.tasks] == [b"p1"]
        assert await queue.done("plain") == set()
        leaving = [Leaving(verb, verb, packed(verb), 10.0) for verb in verbs]
        assert await queue.store.leave(OWNER, leaving, DAY) == ["left"] * len(verbs)
        assert await queue.store.extend(OWNER, ["extended"], 50.0) == []
        assert await queue.store.write_result(OWNER, "extended", b"res")
        assert [one.task_id for one in await queue.store.lapsed()] == ["ours"]
        assert await queue.store.leave("", [Leaving("ours", "recover")], DAY) == ["left"]
        found = (await queue.store.mine(OWNER, 0, 50.0))[1]
        assert [task_id for task_id, *_ in found] == [b"p1", b"extended"]
        assert (await queue.store.forward())[0] == 2
        assert await queue.store.forget(100) == 1
        assert await queue.store.reclaim() == 1
        assert misplaced(await queue.content()) == []


@pytest.mark.parametrize("topology", ["standalone", "redis7"], indirect=True)
async def test_scripts_of_two_queues_do_not_meet(queue: Queue, namespace: str) -> None:
    """The same task in another queue is another one."""
    await queue.active("a")
    await queue.pending("b")
    before = await queue.content()
    keys = QueueKeys(Namespace(namespace), "default2")
    other = Queue(QueueStore(queue.store.link, keys), queue._connection)
    await other.active("a")
    await other.pending("b")
    assert await other.done("a") == set()
    assert (await other.store.take(9, 12.0, OWNER)).outcome == "taken"
    assert await queue.content() == before
