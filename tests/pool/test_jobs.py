"""The states of a job, the moves between them, and what a key and a payload may be."""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import InvalidName, PayloadTooLarge
from pulsewire.pool import JobState
from pulsewire.pool.jobs import (
    DEFAULT_MAX_PAYLOAD,
    MAX_KEY,
    MOVES,
    check_key,
    check_payload,
    may_move,
)

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "internals" / "pool-protocol.md"
STATES: list[JobState | None] = [*JobState, None]
_ROW = re.compile(r"^\| ([a-z, -]+) \| ([a-z]+) \| .* \|$", re.MULTILINE)


def moves_of_the_page() -> set[tuple[JobState | None, JobState | None]]:
    """The table of the protocol: "-" is a job that does not exist, "ended" too."""
    named: dict[str, JobState | None] = {state.value: state for state in JobState}
    named |= {"-": None, "ended": None}
    rows = _ROW.findall(PROTOCOL.read_text(encoding="utf-8"))
    return {
        (named[old], named[new])
        for olds, new in rows
        if new in named
        for old in olds.split(", ")
        if old in named
    }


def test_moves_are_those_of_the_protocol_s_page() -> None:
    """But for staying, which every state may."""
    table = {(old, new) for old, news in MOVES.items() for new in news}
    assert {move for move in table if move[0] != move[1]} == {
        move for move in moves_of_the_page() if move[0] != move[1]
    }
    assert (JobState.STARTING, JobState.STARTING) in table & moves_of_the_page()


def test_every_state_has_its_moves_and_can_end() -> None:
    assert set(MOVES) == set(STATES)
    assert all(None in MOVES[state] for state in JobState)


@pytest.mark.parametrize("old", STATES)
@pytest.mark.parametrize("new", STATES)
def test_step_may_stay_or_make_a_move_of_the_table(
    old: JobState | None, new: JobState | None
) -> None:
    assert may_move(old, new) == (old == new or new in MOVES[old])


def test_job_that_stops_only_ends() -> None:
    """It is not handed over, taken over or parked (protocol 5.3)."""
    assert [new for new in STATES if may_move(JobState.STOPPING, new)] == [JobState.STOPPING, None]


def test_job_runs_only_after_its_start() -> None:
    befores = [old for old in STATES if old != JobState.RUNNING and may_move(old, JobState.RUNNING)]
    assert befores == [JobState.STARTING]


# --- keys and payloads


@pytest.mark.parametrize(
    "key", ["a", "x" * MAX_KEY, " ", "a b", "*?[]{}", "ü" * MAX_KEY, "\0", "\n"]
)
def test_legal_keys(key: str) -> None:
    """Any text: the pool's name is the hash tag, and no pattern is made of a key."""
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "x" * (MAX_KEY + 1), "\ud800", "a\udfff", None, 5, b"a", ["a"]]
)
def test_illegal_keys_are_refused(key: Any) -> None:
    with pytest.raises(InvalidName) as caught:
        check_key(key)
    assert caught.value.what == "job key"
    str(caught.value).encode()


def test_long_key_is_shown_by_its_beginning() -> None:
    with pytest.raises(InvalidName) as caught:
        check_key("x" * (MAX_KEY + 1))
    assert caught.value.name == "x" * 40 + "..."


def test_limits_are_those_of_the_docs() -> None:
    assert (MAX_KEY, DEFAULT_MAX_PAYLOAD) == (512, 2**20)


@given(st.binary(max_size=40), st.integers(1, 40), st.sampled_from([bytes, bytearray, memoryview]))
def test_payload_is_bytes_up_to_the_limit(data: bytes, limit: int, form: type[Any]) -> None:
    if len(data) > limit:
        with pytest.raises(PayloadTooLarge) as caught:
            check_payload(form(data), limit, "emails")
        assert (caught.value.size, caught.value.limit) == (len(data), limit)
        assert "emails" in caught.value.where
    else:
        taken = check_payload(form(data), limit, "emails")
        assert type(taken) is bytes
        assert taken == data


def test_size_of_a_view_is_counted_in_bytes() -> None:
    """Its length is a number of items, which may have several bytes."""
    view = memoryview(array("d", [0.0] * 10))
    assert check_payload(view, 80, "emails") == bytes(80)
    with pytest.raises(PayloadTooLarge) as caught:
        check_payload(view, 79, "emails")
    assert caught.value.size == 80


@pytest.mark.parametrize("payload", ["text", None, 5, [1], {}])
def test_payload_that_is_no_bytes_is_refused(payload: Any) -> None:
    """A number would become so many zero bytes."""
    with pytest.raises(TypeError, match="bytes"):
        check_payload(payload, 100, "emails")
