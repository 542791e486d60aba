"""Pauses grow, stay within their bound, and are spread over all of it."""

from __future__ import annotations

import os
import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire._core.backoff import DEFAULT_BASE, DEFAULT_CAP, Backoff

seconds = st.floats(min_value=0.001, max_value=1000.0)


class Extreme(random.Random):
    """Draws the upper end each time."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_bound_doubles_until_the_cap() -> None:
    """The bounds are base, twice base, four times base... and then the cap for good."""
    backoff = Backoff(base=0.1, cap=1.0, random=Extreme())
    assert [backoff.next_pause() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_defaults_are_those_of_the_design() -> None:
    """0.1 to 10 seconds."""
    backoff = Backoff(random=Extreme())
    assert backoff.next_pause() == DEFAULT_BASE == 0.1
    assert max(backoff.next_pause() for _ in range(20)) == DEFAULT_CAP == 10.0


@given(base=seconds, cap=seconds, count=st.integers(1, 60), seed=st.integers())
def test_pause_is_never_negative_nor_above_its_bound(
    base: float, cap: float, count: int, seed: int
) -> None:
    backoff = Backoff(base=base, cap=cap, random=random.Random(seed))
    for attempt in range(count):
        assert 0.0 <= backoff.next_pause() <= min(cap, base * 2**attempt)


def test_jitter_covers_the_whole_interval() -> None:
    """Full jitter: a fleet that failed together comes back spread out, from at once to the bound."""
    source = random.Random(7)
    first = [Backoff(base=1.0, random=source).next_pause() for _ in range(1000)]
    tenths = {int(pause * 10) for pause in first}
    assert tenths == set(range(10))


def test_success_starts_the_series_again() -> None:
    backoff = Backoff(base=0.1, cap=10.0, random=Extreme())
    for _ in range(5):
        backoff.next_pause()
    assert backoff.attempts == 5
    backoff.reset()
    assert backoff.attempts == 0
    assert backoff.next_pause() == 0.1


def test_endless_trouble_does_not_overflow() -> None:
    """After a million failures the pause is still a number below the cap."""
    backoff = Backoff(attempts=1_000_000)
    assert 0.0 <= backoff.next_pause() <= DEFAULT_CAP


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_child_does_not_pause_as_its_parent_does() -> None:
    """Many children of one parent would come back at one moment."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on: forking beside threads is dangerous. This child only writes to a pipe.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(Backoff(attempts=20).next_pause()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        of_child = float(pipe.read())
    os.waitpid(child, 0)
    assert of_child != Backoff(attempts=20).next_pause()
