"""Deadlines of many things: found once, never early, late by a tenth of a second at most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulsewire.tasks.serving.deadlines import RESOLUTION, Deadlines

TIMES = st.floats(0, 1000, allow_nan=False)


@given(
    st.lists(st.tuples(st.sampled_from(["add", "remove", "look"]), TIMES, st.integers(0, 5))),
)
def test_what_is_due_is_found_in_time(steps: list[tuple[str, float, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    known: dict[int, float] = {}
    for step, at, what in steps:
        if step == "add" and what not in known:
            deadlines.add(at, what)
            known[what] = at
        elif step == "remove" and what in known:
            deadlines.remove(known.pop(what), what)
        elif step == "look":
            found = deadlines.due(at)
            assert len(set(found)) == len(found)
            assert all(known[one] <= at for one in found)
            for one in found:
                del known[one]
            assert all(when > at - RESOLUTION - 1e-9 for when in known.values())
        assert bool(deadlines) == bool(known)


def test_what_was_removed_or_never_added_is_not_found() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.remove(5.0, "never")
    deadlines.add(5.0, "a")
    deadlines.add(5.01, "b")
    deadlines.remove(5.0, "a")
    assert deadlines.due(4.9) == []
    assert deadlines.due(5.2) == ["b"]
    assert not deadlines


def test_what_is_due_is_found_a_tenth_of_a_second_later_and_in_order() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add(5.05, "second")
    deadlines.add(1.05, "first")
    assert deadlines.due(1.15) == ["first"]
    deadlines.add(1.05, "first")
    assert deadlines.due(5.15) == ["first", "second"]


def test_time_without_end_is_a_time() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add(2.0**62, "a")
    deadlines.add(-(2.0**62), "b")
    assert deadlines.due(0.0) == ["b"]
