"""Counting what a reader has come past: what was removed before it came is missed, once, and nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulsewire.streaming.passage import Passage, Tally

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "trim", "read", "look"]), st.integers(1, 5)), max_size=60
)


class Model:
    """A stream whose ids are numbers, and what a reader should miss of it."""

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.added = 0
        self.position = 0
        self.missed = 0

    def tally(self) -> Tally:
        return Tally(self.added, len(self.entries), f"{self.added}-0")

    def add(self, count: int) -> None:
        self.entries += range(self.added + 1, self.added + count + 1)
        self.added += count

    def trim(self, count: int) -> None:
        gone, self.entries = self.entries[:count], self.entries[count:]
        self.missed += sum(entry > self.position for entry in gone)

    def read(self, count: int) -> int:
        got = [entry for entry in self.entries if entry > self.position][:count]
        if got:
            self.position = got[-1]
        return len(got)


@given(before=st.integers(0, 9), trimmed=st.integers(0, 9), steps=STEPS, from_start=st.booleans())
def test_all_that_was_missed_is_told_once(
    before: int, trimmed: int, steps: list[tuple[str, int]], from_start: bool
) -> None:
    """At the latest when the reader has come to the end; never more than was missed."""
    stream = Model()
    stream.add(before)
    stream.trim(trimmed)
    stream.missed = 0
    position = "0-0" if from_start else f"{before}-0"
    stream.position = 0 if from_start else before
    passage, told = Passage(stream.tally(), position), 0
    for step, count in [*steps, ("read", 10_000), ("look", 1)]:
        if step == "add":
            stream.add(count)
        elif step == "trim":
            stream.trim(count)
        elif step == "read":
            passage.read(stream.read(count))
        else:
            told += passage.missed(stream.tally(), f"{stream.position}-0")
            assert told <= stream.missed
    if stream.position == stream.added:
        assert told == stream.missed
    else:  # all that it has not read was removed: told with the next entry that it reads
        stream.add(1)
        passage.read(stream.read(1))
        told += passage.missed(stream.tally(), f"{stream.position}-0")
        assert told == stream.missed


def test_unknown_beginning_is_known_at_the_end() -> None:
    """A reader that begins in the middle cannot say what it has missed before it has once read all."""
    passage = Passage(Tally(100, 50, "100-0"), "70-0")
    assert passage.passed is None
    passage.read(10)
    assert passage.missed(Tally(200, 50, "200-0"), "80-0") == 0
    assert passage.missed(Tally(200, 50, "200-0"), "200-0") == 0
    assert passage.missed(Tally(300, 50, "300-0"), "210-0") == 50
    assert Passage(None, "0-0").passed is None


def test_stream_that_was_made_anew_is_counted_anew() -> None:
    """Fewer were added than the reader has seen: nothing is told, and it goes on from there."""
    passage = Passage(Tally(100, 50, "100-0"), "100-0")
    passage.read(5)
    assert passage.missed(Tally(3, 3, "103-0"), "103-0") == 0
    assert passage.missed(Tally(9, 2, "109-0"), "109-0") == 6
    passage.lose()
    assert passage.missed(Tally(90, 2, "190-0"), "150-0") == 0
