"""Notices, snapshots and lists: the bytes that Go programs share with us."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import DecodeError, InvalidName
from pulsewire.rmap.wire import (
    CLEARING,
    MapInfo,
    Notice,
    Removed,
    Snapshot,
    TestAndDelete,
    TestAndSet,
    check_key,
    decode_key,
    decode_list,
    decode_notice,
    decode_revision,
    decode_snapshot,
    encode_key,
)

BEYOND = 2**64
"""The first number that is no revision: Go reads 64 bits without a sign."""


def packed(*strings: bytes) -> bytes:
    """Each with its length before it, as Redis' struct library writes it."""
    return b"".join(len(string).to_bytes(4, "little") + string for string in strings)


# --- notices, spec/pulse.md 1.2


@pytest.mark.parametrize(
    ("golden", "notice"),
    [
        ("7365743a 01000000 6b 02000000 7631 01000000 31", Notice("set", b"k", b"v1", 1)),
        ("64656c3a 01000000 6b 02000000 3139", Notice("del", b"k", b"", 19)),
        ("72657365743a 3230", Notice("reset", b"", b"", 20)),
        ("64657374726f793a 3231", Notice("destroy", b"", b"", 21)),
        ("7365743a 01000000 6b 00000000 01000000 31", Notice("set", b"k", b"", 1)),
    ],
)
def test_notice_is_read_as_go_writes_it(golden: str, notice: Notice) -> None:
    """The golden bytes of spec/pulse.md 1.2."""
    assert decode_notice(bytes.fromhex(golden)) == notice


@given(st.binary(), st.binary(), st.integers(0, BEYOND - 1))
def test_keys_and_values_may_be_any_bytes(key: bytes, value: bytes, revision: int) -> None:
    """Colons, lengths and verbs within them mean nothing: only the first colon ends the verb."""
    number = str(revision).encode()
    assert decode_notice(b"set:" + packed(key, value, number)) == Notice(
        "set", key, value, revision
    )
    assert decode_notice(b"del:" + packed(key, number)) == Notice("del", key, b"", revision)


def test_what_follows_the_revision_is_ignored() -> None:
    """As in Go, so that a later version may add something."""
    assert decode_notice(b"set:" + packed(b"k", b"v", b"7") + b"more") == Notice(
        "set", b"k", b"v", 7
    )
    assert decode_notice(b"del:" + packed(b"k", b"7", b"more")) == Notice("del", b"k", b"", 7)


WHOLE = b"set:" + packed(b"key", b"value", b"12")


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_notice_that_was_cut_short_is_malformed(end: int) -> None:
    """Wherever the cut is: within the verb, a length, or a string."""
    with pytest.raises(DecodeError):
        decode_notice(WHOLE[:end])


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"set", id="no colon"),
        pytest.param(b":", id="no verb"),
        pytest.param(b"add:" + packed(b"k", b"v", b"1"), id="unknown verb"),
        pytest.param(b"SET:" + packed(b"k", b"v", b"1"), id="verb in capitals"),
        pytest.param(b"set :" + packed(b"k", b"v", b"1"), id="space after the verb"),
        pytest.param(b"\xff\xfe:1", id="verb that is no text"),
        pytest.param(b"set:\xff\xff\xff\xff" + b"k" * 20, id="negative length"),
        pytest.param(b"set:\x00\x00\x00\x80" + b"k" * 20, id="most negative length"),
        pytest.param(b"set:\xff\xff\xff\x7f" + b"k" * 20, id="length of 2 GiB"),
        pytest.param(b"set:\x00\x00\x00\x01" + packed(b"v", b"1"), id="big-endian length"),
        pytest.param(b"del:" + packed(b"k"), id="no revision"),
        pytest.param(b"del:" + packed(b"k", b""), id="empty revision"),
        pytest.param(b"del:" + packed(b"k", b"-1"), id="negative revision"),
        pytest.param(b"del:" + packed(b"k", b"+1"), id="signed revision"),
        pytest.param(b"del:" + packed(b"k", b"1.0"), id="fractional revision"),
        pytest.param(b"del:" + packed(b"k", b"1e+14"), id="exponent"),
        pytest.param(b"del:" + packed(b"k", b" 1"), id="space before the revision"),
        pytest.param(b"del:" + packed(b"k", b"1_0"), id="underscore"),
        pytest.param(b"del:" + packed(b"k", "²".encode()), id="digit that is none"),
        pytest.param(b"del:" + packed(b"k", str(BEYOND).encode()), id="65 bits"),
        pytest.param(b"reset:", id="reset without revision"),
        pytest.param(b"reset:20x", id="reset with more"),
        pytest.param(b"reset:" + packed(b"20"), id="reset with a length"),
        pytest.param(b"destroy:-1", id="destroy with a negative revision"),
        pytest.param(b"destroy:" + b"9" * 5000, id="more digits than Python converts"),
    ],
)
def test_malformed_notice_is_refused(message: bytes) -> None:
    """With a DecodeError and nothing else, since whoever hears it could not go on after anything else."""
    with pytest.raises(DecodeError) as caught:
        decode_notice(message)
    assert caught.value.what == "notice"
    assert len(caught.value.reason) < 200


@pytest.mark.parametrize("message", [b"set", b"reset", b"\xff"])
def test_message_without_a_colon_is_told_from_one_that_ends_early(message: bytes) -> None:
    with pytest.raises(DecodeError, match="no colon"):
        decode_notice(message)


def test_two_kinds_of_notices_empty_a_map() -> None:
    assert [decode_notice(verb.encode() + b":7").kind for verb in CLEARING] == ["reset", "destroy"]


@given(st.binary() | st.binary().map(b"set:".__add__) | st.binary().map(b"del:".__add__))
def test_any_message_is_read_or_refused(message: bytes) -> None:
    """Foreign messages on the channel never raise anything unexpected."""
    try:
        notice = decode_notice(message)
    except DecodeError:
        return
    assert 0 <= notice.revision < BEYOND


# --- snapshots, spec/pulse.md 1.7


def test_snapshot_is_content_revision_and_kind() -> None:
    reply = {b"k": b"v", b"=rev": b"12", b"=kind": b"del", b"\xff": b""}
    assert decode_snapshot(reply) == Snapshot({b"k": b"v", b"\xff": b""}, 12, "del")


def test_map_that_nobody_has_written_has_revision_0() -> None:
    assert decode_snapshot({}) == Snapshot({}, 0, "")


def test_fields_of_pulse_are_no_entries() -> None:
    """Also those that a later version may add."""
    assert decode_snapshot({b"=rev": b"1", b"=later": b"?", b"a=b": b"odd"}) == Snapshot(
        {b"a=b": b"odd"}, 1, ""
    )


@pytest.mark.parametrize("stored", [None, b"", b"x", b"-1", b"1.5", b"1e+14", b" 1", b"9" * 5000])
def test_unreadable_revision_counts_as_0(stored: bytes | None) -> None:
    assert decode_revision(stored) == 0


def test_revision_is_decimal_and_has_up_to_twenty_digits() -> None:
    assert decode_revision(b"184") == 184
    assert decode_revision(b"18446744073709551615") == BEYOND - 1
    assert decode_revision(b"1" + b"0" * 20) == 0


def test_kind_that_is_no_text_is_shown_as_replaced() -> None:
    assert decode_snapshot({b"=kind": b"\xff"}).kind == "\ufffd"


# --- keys, spec/pulse.md 1.5


@pytest.mark.parametrize("key", ["k", "a b", "line\nbreak", "ü", "a:b", "*", "\0", "x" * 10_000])
def test_legal_keys_are_those_of_go(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "=", "=rev", "a=b", "a=", b"bytes", None, 5, "\ud800"])
def test_illegal_keys_are_refused(key: Any) -> None:
    with pytest.raises(InvalidName):
        check_key(key)


@given(st.binary())
def test_foreign_keys_survive_as_the_bytes_they_were(key: bytes) -> None:
    """Go takes any bytes; what is no UTF-8 can still be named, read and deleted."""
    assert encode_key(decode_key(key)) == key


def test_foreign_key_can_be_checked_and_written() -> None:
    assert check_key(decode_key(b"\xff\x00")) == "\udcff\x00"


# --- lists, spec/pulse.md 1.4


@pytest.mark.parametrize(
    ("stored", "items"),
    [
        (b'["a","b"]', ["a", "b"]),
        (b"[]", []),
        (b"[ ]", []),
        (b'["b\\/c","\xc3\xbc"]', ["b/c", "ü"]),
        (
            b'["\\"","\\\\","\\b\\t\\n\\f\\r","\\u0001\\u007f"]',
            ['"', "\\", "\b\t\n\f\r", "\x01\x7f"],
        ),
        (b'  ["a"]\n', ["a"]),
        (b'["a,b"]', ["a,b"]),
        (b'[""]', [""]),
    ],
)
def test_list_is_a_json_array_of_strings(stored: bytes, items: list[str]) -> None:
    """As Redis' encoder prints it, or as any other writer does."""
    assert decode_list(stored) == items


@pytest.mark.parametrize(
    ("stored", "items"),
    [
        (b"x,y,,z", ["x", "y", "", "z"]),
        (b"", [""]),
        (b",", ["", ""]),
        (b"5", ["5"]),
        (b"one", ["one"]),
        (b" a , b ", [" a ", " b "]),
        (b"[1,2]", ["[1", "2]"]),
        (b'[1,2,"w"]', ["[1", "2", '"w"]']),
        (b'["a"', ['["a"']),
        (b'["a"]x', ['["a"]x']),
        (b'{"a":1,"b":2}', ['{"a":1', '"b":2}']),
        (b'"a,b"', ['"a', 'b"']),
        (b'[["a"]]', ['[["a"]]']),
    ],
)
def test_anything_else_is_text_with_commas(stored: bytes, items: list[str]) -> None:
    """The legacy form, read locally: every comma separates, empty parts stay."""
    assert decode_list(stored) == items


@pytest.mark.parametrize("stored", [b'["\xff"]', b"\xff"])
def test_bytes_that_are_no_text_are_shown_as_replaced(stored: bytes) -> None:
    """As Go shows them."""
    assert decode_list(stored) == ["\ufffd"]


@given(st.binary())
def test_any_value_reads_as_some_list(stored: bytes) -> None:
    assert all(isinstance(item, str) for item in decode_list(stored))


# --- results


@pytest.mark.parametrize("was_done", [True, False])
def test_results_are_true_when_something_was_done(was_done: bool) -> None:
    """So that `if await map.test_and_set(...)` reads as it should, whatever the old value was."""
    assert bool(TestAndSet("", existed=True, updated=was_done)) is was_done
    assert bool(TestAndDelete("", existed=True, deleted=was_done)) is was_done
    assert bool(Removed([], removed=was_done)) is was_done


def test_nothing_removed_is_nothing_left() -> None:
    assert Removed() == Removed([], removed=False)


def test_map_that_does_not_exist_has_nothing() -> None:
    info = MapInfo("flags", "map:flags:content", exists=False)
    assert (info.entries, info.revision, info.last_change, info.replicas) == (0, 0, "", 0)
    assert (info.ttl, info.memory_bytes, info.is_destroyed) == (None, None, False)


@pytest.mark.parametrize(
    ("entries", "last_change", "is_destroyed"),
    [(0, "destroy", True), (1, "set", False), (0, "reset", False), (0, "del", False)],
)
def test_tombstone_is_a_map_whose_last_change_was_its_end(
    entries: int, last_change: str, is_destroyed: bool
) -> None:
    info = MapInfo("flags", "key", exists=True, entries=entries, last_change=last_change)
    assert info.is_destroyed is is_destroyed
    assert not MapInfo("flags", "key", exists=False, last_change="destroy").is_destroyed
    assert not MapInfo("flags", "key", exists=True, entries=1, last_change="destroy").is_destroyed
