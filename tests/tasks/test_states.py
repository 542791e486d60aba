"""The states of tasks and their moves (spec/asynq.md 4.1)."""

from __future__ import annotations

import re
from pathlib import Path

from pulsewire.tasks.states import MOVES, TaskState

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "internals" / "tasks-protocol.md"
_ROW = re.compile(r"^\| ([a-z-]+) \| ([a-z]+) \| ([a-z, ]+) \|$", re.MULTILINE)


def test_moves_and_their_causes_are_those_of_the_protocol_s_page() -> None:
    """Where "-" is a task that does not exist yet, and "gone" one that does not any more."""
    named: dict[str, TaskState | None] = {state.value: state for state in TaskState}
    named |= {"-": None, "gone": None}
    page = _ROW.findall(PROTOCOL.read_text(encoding="utf-8"))
    rows = [row for row in page if row[0] in named and row[1] in named]
    assert {(named[old], named[new]): cause for old, new, cause in rows} == {
        (old, new): cause for old, moves in MOVES.items() for new, cause in moves.items()
    }
    assert len(rows) == sum(map(len, MOVES.values()))


def test_states_are_the_words_of_go() -> None:
    assert {state.value for state in TaskState} == {
        *("active", "pending", "scheduled", "retry", "archived", "completed", "aggregating")
    }


def test_every_state_can_be_left_and_reached() -> None:
    assert set(MOVES) == {None, *TaskState}
    assert {state for moves in MOVES.values() for state in moves} == {None, *TaskState}
    assert all(moves for moves in MOVES.values())


def test_only_what_is_pending_becomes_active() -> None:
    assert [state for state, moves in MOVES.items() if TaskState.ACTIVE in moves] == [
        TaskState.PENDING
    ]
    assert all(state not in moves for state, moves in MOVES.items())
