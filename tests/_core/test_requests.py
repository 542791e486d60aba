"""Which request numbers of a writer are under way, and which the server may forget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulsewire._core.requests import BATCH, HEAVY, KEPT, Requests


def test_numbers_never_repeat() -> None:
    requests = Requests()
    numbers = [requests.next() for _ in range(1000)]
    assert len(set(numbers)) == 1000
    assert numbers == sorted(numbers)


def test_answered_numbers_are_forgotten_in_batches() -> None:
    """Each exactly once, so that a writer's record holds a batch or two, however long it writes."""
    requests = Requests()
    numbers = [requests.next() for _ in range(BATCH * 2)]
    forgotten = [requests.answered(number, 0, 0.0) for number in numbers]
    assert [len(batch) for batch in forgotten if batch] == [BATCH, BATCH]
    assert [number for batch in forgotten for number in batch] == numbers


def test_heavy_reply_is_forgotten_at_once() -> None:
    """It takes as much memory as a batch of light ones."""
    requests = Requests()
    light, heavy = requests.next(), requests.next()
    assert requests.answered(light, 10, 0.0) == []
    assert requests.answered(heavy, HEAVY, 0.0) == [light, heavy]
    assert requests.answered(requests.next(), 10, 0.0) == []


def test_replies_of_some_size_make_batches_smaller() -> None:
    requests = Requests()
    batches = [requests.answered(requests.next(), HEAVY // 4, 0.0) for _ in range(8)]
    assert [len(batch) for batch in batches] == [0, 0, 0, 4, 0, 0, 0, 4]


def test_doubtful_number_is_kept_as_long_as_its_copy_may_come() -> None:
    """Forgotten, it would be carried out a second time when the copy arrives."""
    requests = Requests()
    doubtful = requests.next()
    assert not requests.has_doubtful
    requests.in_doubt(doubtful, 100.0)
    assert requests.has_doubtful
    before = [requests.answered(requests.next(), 0, 100.0 + KEPT) for _ in range(BATCH)]
    assert doubtful not in before[-1]
    after = [requests.answered(requests.next(), 0, 100.1 + KEPT) for _ in range(BATCH)]
    assert doubtful in after[-1]
    assert not requests.has_doubtful


def test_one_doubt_does_not_outlive_a_later_one() -> None:
    requests = Requests()
    first, second = requests.next(), requests.next()
    requests.in_doubt(first, 0.0)
    requests.in_doubt(second, KEPT)
    forgotten = requests.answered(requests.next(), HEAVY, KEPT + 1)
    assert first in forgotten
    assert second not in forgotten
    assert requests.has_doubtful


def test_number_is_open_until_it_is_answered_or_in_doubt() -> None:
    """Until then its write may have to be sent again, and needs its record."""
    requests = Requests()
    assert not requests.has_open
    first, second, third = requests.next(), requests.next(), requests.next()
    requests.answered(second, 0, 0.0)
    requests.in_doubt(first, 0.0)
    assert requests.has_open
    requests.in_doubt(first, 1.0)  # said twice, it counts once
    assert requests.has_open
    requests.answered(third, HEAVY, 1.0)
    assert not requests.has_open


def test_writer_knows_whether_it_ever_wrote() -> None:
    requests = Requests()
    assert not requests.was_used
    requests.next()
    assert requests.was_used


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3 * HEAVY), st.floats(0, KEPT)), max_size=300)
)
def test_no_number_is_forgotten_early_or_twice(
    history: list[tuple[bool, int, float]],
) -> None:
    """Whatever the order of answers and doubts: what is forgotten was answered, or doubted long ago."""
    requests = Requests()
    now = 0.0
    answered: set[int] = set()
    doubted: dict[int, float] = {}
    forgotten: list[int] = []
    for is_answered, size, passed in history:
        now += passed
        number = requests.next()
        if is_answered:
            answered.add(number)
            forgotten += requests.answered(number, size, now)
        else:
            doubted[number] = now
            requests.in_doubt(number, now)
        assert all(doubted[n] + KEPT < now for n in set(forgotten) & doubted.keys())
    assert len(set(forgotten)) == len(forgotten)
    assert set(forgotten) <= answered | doubted.keys()
    assert len(answered - set(forgotten)) < BATCH
