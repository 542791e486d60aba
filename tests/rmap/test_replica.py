"""The replica alone: what it applies, when it asks for a snapshot, and which changes it tells."""

from __future__ import annotations

import pytest

from pulsewire.errors import DecodeError
from pulsewire.rmap.replica import (
    BEHIND,
    GAP,
    KNOWN_ALREADY,
    MOST_EARLY,
    STEP_BACK,
    Outcome,
    RawChange,
    Replica,
    Update,
)
from pulsewire.rmap.wire import Unreadable


def synced(revision: int = 5, **content: str) -> Replica[str]:
    """A replica that has taken its first snapshot."""
    replica: Replica[str] = Replica()
    assert replica.take_snapshot(dict(content), revision, "set") == Outcome([])
    return replica


def put(key: str, value: str, revision: int) -> Update[str]:
    return Update("set", key, value, revision)


def gone(key: str, revision: int) -> Update[str]:
    return Update("del", key, None, revision)


def cleared(revision: int, kind: str = "reset") -> Update[str]:
    return Update(kind, "", None, revision)


def kinds(outcome: Outcome[str]) -> list[tuple[str, str | None]]:
    return [(change.kind, change.key) for change in outcome.changes]


# --- in good weather


def test_replica_begins_empty_and_needs_a_snapshot() -> None:
    replica: Replica[str] = Replica()
    assert (replica.content, replica.revision, replica.is_synced) == ({}, 0, False)


def test_first_snapshot_is_no_change() -> None:
    """Nobody can have seen anything else before it."""
    replica = synced(5, a="1")
    assert (replica.content, replica.revision, replica.is_synced) == ({"a": "1"}, 5, True)


def test_next_notice_is_applied() -> None:
    replica = synced(5, a="1")
    assert replica.take_update(put("a", "2", 6)) == Outcome([RawChange("set", "a", "1", "2", 6)])
    assert replica.take_update(put("b", "1", 7)) == Outcome([RawChange("set", "b", None, "1", 7)])
    assert replica.take_update(gone("a", 8)) == Outcome([RawChange("delete", "a", "2", None, 8)])
    assert (replica.content, replica.revision) == ({"b": "1"}, 8)


@pytest.mark.parametrize("kind", ["reset", "destroy"])
def test_clearing_is_told_as_a_reset(kind: str) -> None:
    replica = synced(5, a="1", b="1")
    assert replica.take_update(cleared(6, kind)) == Outcome(
        [RawChange("reset", None, None, None, 6)]
    )
    assert (replica.content, replica.revision, replica.is_synced) == ({}, 6, True)


def test_reset_of_an_empty_map_is_told() -> None:
    """Somebody said that everything before is void, although nothing was there."""
    assert kinds(synced(5).take_update(cleared(6))) == [("reset", None)]


def test_setting_the_same_value_is_a_change() -> None:
    """The server counts it, and a watcher may wait for it."""
    replica = synced(5, a="1")
    assert kinds(replica.take_update(put("a", "1", 6))) == [("set", "a")]


# --- notices that do not fit


def test_gap_asks_for_a_snapshot_and_changes_nothing() -> None:
    replica = synced(5, a="1")
    assert replica.take_update(put("a", "3", 7)) == Outcome([], GAP)
    assert (replica.content, replica.revision, replica.is_synced) == ({"a": "1"}, 5, False)


@pytest.mark.parametrize("revision", [0, 1, 4, 5])
def test_known_revision_asks_for_a_snapshot_and_changes_nothing(revision: int) -> None:
    """The notice came twice, or the server has lost data and counts anew: only the server can tell."""
    replica = synced(5, a="1")
    assert replica.take_update(put("a", "0", revision)) == Outcome([], KNOWN_ALREADY)
    assert (replica.content, replica.revision, replica.is_synced) == ({"a": "1"}, 5, False)


def test_notices_wait_while_a_snapshot_is_on_its_way() -> None:
    """One resync is asked for, not one per notice."""
    replica = synced(5)
    assert replica.take_update(put("a", "3", 7)).resync
    assert replica.take_update(put("a", "4", 8)) == Outcome([])
    assert replica.content == {}


def test_notices_that_follow_the_snapshot_are_applied_after_it() -> None:
    """In the order of their revisions, whatever the order they came in; those within it are dropped."""
    replica = synced(5)
    replica.lose_touch()
    for late in (put("a", "9", 9), put("a", "7", 7), put("a", "8", 8), put("a", "6", 6)):
        replica.take_update(late)
    outcome = replica.take_snapshot({"a": "7"}, 7, "set")
    assert outcome == Outcome(
        [
            RawChange("set", "a", None, "7", 7),
            RawChange("set", "a", "7", "8", 8),
            RawChange("set", "a", "8", "9", 9),
        ]
    )
    assert (replica.content, replica.revision, replica.is_synced) == ({"a": "9"}, 9, True)


def test_gap_behind_the_snapshot_asks_for_another_one() -> None:
    replica = synced(5)
    replica.lose_touch()
    replica.take_update(put("a", "7", 7))
    replica.take_update(put("a", "9", 9))
    outcome = replica.take_snapshot({"a": "6"}, 6, "set")
    assert outcome.resync == GAP
    assert (replica.content, replica.revision, replica.is_synced) == ({"a": "7"}, 7, False)


def test_what_was_kept_is_used_once() -> None:
    """A later snapshot must not meet notices of an earlier one."""
    replica = synced(5)
    replica.lose_touch()
    replica.take_update(put("a", "9", 9))
    replica.take_snapshot({}, 6, "del")
    assert replica.take_snapshot({"a": "8"}, 8, "set").resync == ""
    assert (replica.content, replica.revision) == ({"a": "8"}, 8)


def test_losing_touch_drops_what_was_kept() -> None:
    """It belongs to a subscription that is over: what it counts may be void."""
    replica = synced(5)
    replica.lose_touch()
    replica.take_update(put("a", "7", 7))
    replica.lose_touch()
    assert replica.take_snapshot({}, 6, "del").resync == ""
    assert (replica.content, replica.revision) == ({}, 6)


def test_notices_that_wait_are_bounded() -> None:
    """A flood before the snapshot costs no more memory; what was dropped shows as a gap afterwards."""
    replica = synced(0)
    replica.lose_touch()
    for revision in range(1, MOST_EARLY + 100):
        replica.take_update(put("a", str(revision), revision))
    assert replica.take_snapshot({}, 0, "").resync == ""
    assert replica.revision == MOST_EARLY
    assert replica.take_update(put("a", "x", MOST_EARLY + 100)).resync == GAP


# --- what a snapshot tells


def test_snapshot_is_told_as_differences() -> None:
    """What happened meanwhile is not missed in its final state, and what did not happen is not told."""
    replica = synced(5, same="1", other="1", gone="1")
    replica.lose_touch()
    outcome = replica.take_snapshot({"same": "1", "other": "2", "new": "1"}, 9, "set")
    assert outcome == Outcome(
        [
            RawChange("delete", "gone", "1", None, 9),
            RawChange("set", "other", "1", "2", 9),
            RawChange("set", "new", None, "1", 9),
        ]
    )


def test_snapshot_of_the_same_revision_tells_nothing() -> None:
    replica = synced(5, a="1")
    replica.lose_touch()
    assert replica.take_snapshot({"a": "1"}, 5, "reset") == Outcome([])


@pytest.mark.parametrize("kind", ["reset", "destroy"])
def test_clearing_that_was_missed_is_told_as_a_reset(kind: str) -> None:
    replica = synced(5, a="1")
    replica.lose_touch()
    outcome = replica.take_snapshot({}, 6, kind)
    assert outcome == Outcome([RawChange("reset", None, None, None, 6)])


def test_missed_clearing_of_an_empty_map_is_told() -> None:
    """As it would have been told, had it been heard."""
    replica = synced(5)
    replica.lose_touch()
    assert kinds(replica.take_snapshot({}, 6, "reset")) == [("reset", None)]


def test_missed_clearing_shows_by_its_effect_when_more_has_happened_since() -> None:
    """The server only knows its last change (spec/pulse.md 5.2 R4): that nothing old is left tells the rest."""
    replica = synced(5, a="1", b="1")
    replica.lose_touch()
    outcome = replica.take_snapshot({"c": "1"}, 7, "set")
    assert outcome == Outcome(
        [RawChange("reset", None, None, None, 7), RawChange("set", "c", None, "1", 7)]
    )


@pytest.mark.parametrize("kind", ["reset", "destroy"])
def test_clearing_that_was_heard_before_the_snapshot_is_told(kind: str) -> None:
    """The strongest kind survives joining (spec/pulse.md 1.8 and R3), here joining by the snapshot behind it."""
    replica = synced(5, a="1")
    replica.lose_touch()
    replica.take_update(cleared(6, kind))
    replica.take_update(put("a", "1", 7))
    outcome = replica.take_snapshot({"a": "1"}, 7, "set")
    assert kinds(outcome) == [("reset", None), ("set", "a")]


def test_clearing_behind_a_gap_is_told() -> None:
    """It was heard, and that a notice before it was lost must not hide it.

    The one who follows the map loses touch when it asks for the snapshot; what was heard is heard all the same.
    """
    replica = synced(5, a="1")
    assert replica.take_update(cleared(7)).resync == GAP
    replica.lose_touch()
    replica.take_update(put("a", "1", 8))
    outcome = replica.take_snapshot({"a": "1"}, 8, "set")
    assert kinds(outcome) == [("reset", None), ("set", "a")]


def test_old_clearing_that_comes_twice_is_not_told_again() -> None:
    replica = synced(5, a="1")
    assert replica.take_update(cleared(4)).resync == KNOWN_ALREADY
    replica.lose_touch()
    assert replica.take_snapshot({"a": "1"}, 5, "set") == Outcome([])


# --- the server has lost data


def test_step_back_is_adopted_and_told_as_a_reset() -> None:
    """What we had is true nowhere any more (spec/pulse.md 5.2 R2)."""
    replica = synced(50, a="1", b="1")
    replica.lose_touch()
    outcome = replica.take_snapshot({"a": "1"}, 3, "set")
    assert outcome == Outcome(
        [RawChange("reset", None, None, None, 3), RawChange("set", "a", None, "1", 3)], "", 50
    )
    assert (replica.content, replica.revision, replica.is_synced) == ({"a": "1"}, 3, True)


def test_hash_that_vanished_is_a_step_back_to_nothing() -> None:
    replica = synced(50, a="1")
    replica.lose_touch()
    outcome = replica.take_snapshot({}, 0, "")
    assert outcome == Outcome([RawChange("reset", None, None, None, 0)], "", 50)


def test_step_back_of_an_empty_map_tells_no_reset() -> None:
    replica = synced(50)
    replica.lose_touch()
    assert replica.take_snapshot({}, 0, "") == Outcome([], "", 50)


def test_notices_go_on_from_the_revision_stepped_back_to() -> None:
    replica = synced(50)
    replica.lose_touch()
    replica.take_snapshot({}, 3, "set")
    assert kinds(replica.take_update(put("a", "1", 4))) == [("set", "a")]


# --- probes


def test_probe_of_the_same_revision_finds_nothing() -> None:
    replica = synced(5)
    assert replica.probe(5) == ""
    assert replica.is_synced


@pytest.mark.parametrize(("revision", "reason"), [(6, BEHIND), (4, STEP_BACK), (0, STEP_BACK)])
def test_probe_finds_what_was_lost_in_silence(revision: int, reason: str) -> None:
    replica = synced(5)
    assert replica.probe(revision) == reason
    assert not replica.is_synced


def test_probe_asks_no_second_time() -> None:
    """The snapshot that is on its way answers it."""
    replica = synced(5)
    replica.lose_touch()
    assert replica.probe(6) == ""


# --- the time to live


def test_expiry_empties_the_replica() -> None:
    replica = synced(5, a="1")
    assert replica.expire() == [RawChange("reset", None, None, None, 5)]
    assert (replica.content, replica.is_synced) == ({}, False)


def test_expiry_of_an_empty_replica_tells_nothing() -> None:
    assert synced(5).expire() == []


def test_snapshot_after_expiry_tells_what_is_there_again() -> None:
    replica = synced(5, a="1")
    replica.expire()
    outcome = replica.take_snapshot({"a": "1"}, 5, "set")
    assert outcome == Outcome([RawChange("set", "a", None, "1", 5)])


# --- readers


def test_snapshot_replaces_the_content_as_a_whole() -> None:
    """Who holds the old one sees neither half of both nor nothing."""
    replica = synced(5, a="1")
    held = replica.content
    replica.lose_touch()
    replica.take_snapshot({"b": "1"}, 6, "set")
    assert held == {"a": "1"}
    assert replica.content is not held


def test_reset_replaces_the_content_as_a_whole() -> None:
    replica = synced(5, a="1")
    held = replica.content
    replica.take_update(cleared(6))
    assert held == {"a": "1"}


# --- values that cannot be decoded

BROKEN = Unreadable(b"?", DecodeError("text", "it is none"))


def test_unreadable_values_are_kept_beside_the_content() -> None:
    """So that reading what can be read needs no check."""
    replica: Replica[str] = Replica()
    replica.take_snapshot({"a": "1", "b": BROKEN}, 5, "set")
    assert (replica.content, replica.unreadable) == ({"a": "1"}, {"b": BROKEN})
    assert replica.everything() == {"a": "1", "b": BROKEN}


def test_value_may_become_unreadable_and_readable_again() -> None:
    replica = synced(5, a="1")
    broken = replica.take_update(Update("set", "a", BROKEN, 6))
    assert broken == Outcome([RawChange("set", "a", "1", BROKEN, 6)])
    assert (replica.content, replica.unreadable) == ({}, {"a": BROKEN})
    mended = replica.take_update(put("a", "2", 7))
    assert mended == Outcome([RawChange("set", "a", BROKEN, "2", 7)])
    assert (replica.content, replica.unreadable) == ({"a": "2"}, {})


def test_unreadable_value_is_deleted_and_reset_like_any_other() -> None:
    replica = synced(5)
    replica.take_update(Update("set", "a", BROKEN, 6))
    assert replica.take_update(gone("a", 7)) == Outcome([RawChange("delete", "a", BROKEN, None, 7)])
    replica.take_update(Update("set", "a", BROKEN, 8))
    replica.take_update(cleared(9))
    assert replica.everything() == {}


def test_same_unreadable_value_in_a_snapshot_is_no_change() -> None:
    """Each reading of it makes a new error: the bytes decide."""
    replica = synced(5)
    replica.take_update(Update("set", "a", BROKEN, 6))
    replica.lose_touch()
    again = Unreadable(b"?", DecodeError("text", "another error"))
    assert replica.take_snapshot({"a": again}, 8, "set") == Outcome([])


# --- what was heard while a snapshot was on its way


def test_notice_that_showed_the_gap_follows_the_snapshot() -> None:
    """It must not be lost with the one before it."""
    replica = synced(5, a="1")
    assert replica.take_update(put("b", "2", 7)).resync == GAP
    outcome = replica.take_snapshot({"a": "1"}, 6, "del")
    assert (kinds(outcome), outcome.resync) == ([("set", "b")], "")
    assert (replica.content, replica.revision) == ({"a": "1", "b": "2"}, 7)


def test_notice_that_the_snapshot_contains_is_no_gap() -> None:
    replica = synced(5)
    replica.lose_touch()
    replica.take_update(put("a", "1", 7))
    outcome = replica.take_snapshot({"a": "1"}, 7, "set")
    assert (kinds(outcome), outcome.resync) == ([("set", "a")], "")
    assert replica.is_synced


def test_clearing_that_was_known_already_is_not_told_again() -> None:
    replica = synced(4, a="1")
    replica.take_update(cleared(5))
    assert replica.take_update(cleared(5)).resync == KNOWN_ALREADY
    assert replica.take_snapshot({}, 5, "reset") == Outcome([])


def test_clearing_from_before_a_step_back_is_not_taken_for_a_later_one() -> None:
    """The server counts the same revisions anew; what it does in them is something else."""
    replica = synced(5, a="1")
    replica.lose_touch()
    replica.take_update(cleared(6))
    replica.take_snapshot({"a": "1"}, 6, "set")
    replica.lose_touch()
    assert replica.take_snapshot({"a": "1"}, 3, "set").stepped_back_from == 6
    replica.lose_touch()
    outcome = replica.take_snapshot({"a": "1", "b": "2"}, 9, "set")
    assert kinds(outcome) == [("set", "b")]
