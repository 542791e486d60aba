"""Joining changes for a slow watcher: the strongest kind survives, and the end is never wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.errors import DecodeError
from pulsewire.rmap.replica import RawChange
from pulsewire.rmap.watching import Changes, Pending, to_change
from pulsewire.rmap.wire import Change, Unreadable
from tests.facts import PATIENCE

Raw = RawChange[Any]


def put(key: str, new: str, revision: int, old: str | None = None) -> Raw:
    return RawChange("set", key, old, new, revision)


def gone(key: str, revision: int, old: str | None = None) -> Raw:
    return RawChange("delete", key, old, None, revision)


def cleared(revision: int) -> Raw:
    return RawChange("reset", None, None, None, revision)


def joined(*changes: Raw) -> list[Raw]:
    """What a watcher sees that looks only when all have happened."""
    pending: Pending[str] = Pending()
    for change in changes:
        pending.add(change)
    return drained(pending)


def drained(pending: Pending[str]) -> list[Raw]:
    """All that waits."""
    seen = []
    while (change := pending.take()) is not None:
        seen.append(change)
    return seen


# --- joining


def test_changes_of_different_keys_are_seen_in_their_order() -> None:
    changes = [put("b", "1", 1), put("a", "1", 2), gone("c", 3, "x")]
    assert joined(*changes) == changes


def test_sets_of_one_key_are_joined_to_the_last() -> None:
    """The old value is the one that the watcher has."""
    assert joined(put("a", "1", 1, "0"), put("a", "2", 2, "1"), put("a", "3", 3, "2")) == [
        put("a", "3", 3, "0")
    ]


def test_delete_swallows_the_sets_before_it() -> None:
    assert joined(put("a", "1", 1, "0"), gone("a", 2, "1")) == [gone("a", 2, "0")]


def test_delete_of_a_key_never_seen_is_seen_all_the_same() -> None:
    """It was there, if only for a moment: the stronger kind survives (spec/pulse.md 5.2 R3)."""
    assert joined(put("a", "1", 1), gone("a", 2, "1")) == [gone("a", 2)]


def test_delete_is_seen_before_the_set_that_followed_it() -> None:
    """A watcher that stops something on delete must not miss that the key was gone."""
    assert joined(gone("a", 1, "0"), put("a", "1", 2)) == [gone("a", 1, "0"), put("a", "1", 2)]


def test_sets_after_a_delete_are_joined() -> None:
    seen = joined(gone("a", 1, "0"), put("a", "1", 2), put("a", "2", 3, "1"))
    assert seen == [gone("a", 1, "0"), put("a", "2", 3)]


def test_second_delete_swallows_the_first() -> None:
    seen = joined(gone("a", 1, "0"), put("a", "1", 2), gone("a", 3, "1"))
    assert seen == [gone("a", 3, "0")]


def test_reset_swallows_all_before_it_and_comes_first() -> None:
    """Never lost behind a pending change, as in Go (spec/pulse.md 5.2 R3)."""
    assert joined(put("a", "1", 1), gone("b", 2, "x"), cleared(3), put("a", "2", 4)) == [
        cleared(3),
        put("a", "2", 4),
    ]


def test_last_of_several_resets_is_seen() -> None:
    assert joined(cleared(1), put("a", "1", 2), cleared(3)) == [cleared(3)]


def test_a_set_after_a_reset_that_was_seen_stays() -> None:
    pending: Pending[str] = Pending()
    pending.add(cleared(1))
    pending.add(put("a", "1", 2))
    assert pending.take() == cleared(1)
    pending.add(put("b", "1", 3))
    assert drained(pending) == [put("a", "1", 2), put("b", "1", 3)]


def test_length_counts_what_is_still_to_see() -> None:
    pending: Pending[str] = Pending()
    assert len(pending) == 0
    for change in (cleared(1), gone("a", 2), put("a", "1", 3), put("b", "1", 4)):
        pending.add(change)
    assert len(pending) == 4
    pending.take()
    assert len(pending) == 3


def test_half_seen_key_goes_on_where_it_was() -> None:
    """The delete was seen, its set not yet, and the key changes again."""
    pending: Pending[str] = Pending()
    pending.add(gone("a", 1, "0"))
    pending.add(put("a", "1", 2))
    assert pending.take() == gone("a", 1, "0")
    pending.add(put("a", "2", 3, "1"))
    assert drained(pending) == [put("a", "2", 3)]


steps = st.lists(
    st.tuples(st.sampled_from(["set", "set", "set", "delete", "reset", "take"]), st.integers(0, 4)),
    max_size=80,
)


@given(steps)
def test_whatever_was_joined_leads_to_the_same_content(history: list[tuple[str, int]]) -> None:
    """A watcher that folds what it sees has the content at every moment when nothing waits.

    Each `old` is what it had, no more than a reset and two changes per key wait, and a reset is not lost.
    """
    pending: Pending[str] = Pending()
    content: dict[str, str] = {}
    seen: dict[str, str] = {}
    was_reset = False
    for revision, (step, number) in enumerate([*history, *[("take", 0)] * 100], 1):
        key = f"k{number}"
        if step == "take":
            change = pending.take()
            if change is not None:
                assert change.kind == "reset" or not was_reset
                was_reset = was_reset and change.kind != "reset"
                fold(seen, change)
        elif step == "reset":
            content = {}
            pending.add(cleared(revision))
            was_reset = True
        elif step == "delete":
            pending.add(gone(key, revision, content.pop(key, None)))
        else:
            pending.add(put(key, str(revision), revision, content.get(key)))
            content[key] = str(revision)
        assert len(pending) <= 1 + 2 * 5
        if not len(pending):
            assert seen == content
    assert not len(pending)
    assert not was_reset


def fold(seen: dict[str, str], change: Raw) -> None:
    """Do to `seen` what the change says, which must fit what is there."""
    if change.key is None:
        seen.clear()
        return
    assert change.old == seen.pop(change.key, None)
    if change.kind == "set":
        assert isinstance(change.new, str)
        seen[change.key] = change.new


# --- the public form


def test_change_is_told_with_its_values() -> None:
    assert to_change(put("a", "1", 7, "0")) == Change("set", "a", "0", "1", 7)
    assert to_change(gone("a", 8, "1")) == Change("delete", "a", "1", None, 8)
    assert to_change(cleared(9)) == Change("reset", None, None, None, 9)


def test_value_that_cannot_be_decoded_is_told_as_an_error() -> None:
    """The watcher is not ended by it, and still learns that the key was set."""
    error = DecodeError("JSON", "no")
    change: Change[str] = to_change(RawChange("set", "a", "0", Unreadable(b"?", error), 7))
    assert (change.kind, change.old, change.new, change.error) == ("set", "0", None, error)


def test_unreadable_old_value_is_told_as_none() -> None:
    error = DecodeError("JSON", "no")
    change: Change[str] = to_change(RawChange("delete", "a", Unreadable(b"?", error), None, 7))
    assert (change.old, change.error) == (None, None)


# --- waiting


async def test_watcher_wakes_when_something_changes(anyio_backend: object) -> None:
    changes: Changes[str] = Changes(Pending())
    waiting = asyncio.ensure_future(anext(changes))
    await anyio.lowlevel.checkpoint()
    assert not waiting.done()
    changes.put(put("a", "1", 1))
    with anyio.fail_after(PATIENCE):
        assert await waiting == Change("set", "a", None, "1", 1)


def test_changes_say_how_many_of_them_wait() -> None:
    changes: Changes[str] = Changes(Pending())
    assert repr(changes) == "<Changes 0 waiting>"
    for key in ("a", "b", "a"):
        changes.put(put(key, "1", 1))
    assert repr(changes) == "<Changes 2 waiting>", "those of one key are joined"
    changes.end()
    assert repr(changes) == "<Changes 2 waiting, ended>"


async def test_what_waits_is_still_seen_after_the_end(anyio_backend: object) -> None:
    changes: Changes[str] = Changes(Pending())
    changes.put(put("a", "1", 1))
    changes.put(put("b", "1", 2))
    changes.end()
    assert [change.key async for change in changes] == ["a", "b"]


async def test_watcher_that_looks_itself_skips_what_waits(anyio_backend: object) -> None:
    """What changes afterwards it sees."""
    changes: Changes[str] = Changes(Pending())
    for number in range(3):
        changes.put(put(f"{number}", "1", number + 1))
    await anext(changes)
    changes.skip()
    changes.put(put("later", "1", 4))
    changes.end()
    assert [change.key async for change in changes] == ["later"]


async def test_end_wakes_a_waiting_watcher(anyio_backend: object) -> None:
    changes: Changes[str] = Changes(Pending())

    async def watch() -> list[Change[str]]:
        return [change async for change in changes]

    waiting = asyncio.ensure_future(watch())
    await anyio.lowlevel.checkpoint()
    changes.end()
    with anyio.fail_after(PATIENCE):
        assert await waiting == []


async def test_watcher_that_gave_up_loses_nothing(anyio_backend: object) -> None:
    """Waiting with a deadline is safe: the change that comes too late is seen the next time."""
    changes: Changes[str] = Changes(Pending())
    waiting = asyncio.ensure_future(anext(changes))
    await anyio.lowlevel.checkpoint()
    changes.put(put("a", "1", 1))
    waiting.cancel()  # woken already, and cancelled before it could look
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with anyio.fail_after(PATIENCE):
        assert (await anext(changes)).new == "1"


async def test_two_cannot_await_one_watcher(anyio_backend: object) -> None:
    """Each would see half of the changes; two watchers see all of them twice."""
    changes: Changes[str] = Changes(Pending())
    waiting = asyncio.ensure_future(anext(changes))
    await anyio.lowlevel.checkpoint()
    with pytest.raises(RuntimeError, match="once per watcher"):
        await anext(changes)
    changes.put(put("a", "1", 1))
    with anyio.fail_after(PATIENCE):
        assert (await waiting).key == "a"
