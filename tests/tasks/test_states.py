"""The states of tasks and their moves (spec/asynq.md 4.1)."""

from __future__ import annotations

from pulsewire.tasks.states import MOVES, TaskState


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
