"""How a stream is bounded: its options, and the credit by which most adds are one plain command."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulsewire.streaming.retention import Credit, StreamOptions


def test_default_hard_limit_is_far_away() -> None:
    assert StreamOptions().effective_hard_limit() == 100_000
    assert StreamOptions(max_len=10_000).effective_hard_limit() == 1_000_000
    assert StreamOptions(hard_limit=0).effective_hard_limit() == 0
    assert StreamOptions(retain="none").effective_hard_limit() == 0
    assert StreamOptions(max_len=0).effective_hard_limit() == 0


def test_credit_is_a_tenth_and_less_near_the_limit() -> None:
    """So that several publishers cannot pass the limit by much."""
    options = StreamOptions(max_len=1000, hard_limit=2000)
    assert options.credit(0) == 2000 // 64
    assert options.credit(2000) == options.credit(1990) == 0
    assert StreamOptions(max_len=1000).credit(0) == 100
    assert StreamOptions(max_len=5).credit(0) == 1
    assert StreamOptions(max_len=10**6).credit(0) == 1000
    assert StreamOptions(ttl=1.0).credit(0) == 0


def test_credit_is_spent_and_renewed() -> None:
    """The first add asks; those after it do not, until it is used up."""
    credit = Credit(StreamOptions(max_len=50, hard_limit=0))
    assert not credit.spend()
    credit.renew(0)
    assert [credit.spend() for _ in range(6)] == [True] * 5 + [False]
    credit.renew(0)
    assert credit.spend_more(3) == 3
    assert credit.spend_more(3) == 2
    assert credit.spend_more(3) == 0


def test_those_beside_a_renewal_overdraw() -> None:
    """They do not wait for it; what they took is gone, not counted twice."""
    credit = Credit(StreamOptions())
    assert not credit.spend()
    credit.begin_renewal()
    assert credit.spend()
    assert credit.spend_more(10) == 0
    credit.end_renewal()
    assert not credit.spend()


def test_nobody_overdraws_a_stream_that_was_full() -> None:
    """Until a renewal brings credit again."""
    credit = Credit(StreamOptions())
    credit.begin_renewal()
    credit.refuse()
    assert not credit.spend()
    credit.renew(0)
    assert credit.spend()


def test_plain_trimming_needs_no_credit() -> None:
    for options in (StreamOptions(retain="none"), StreamOptions(max_len=0, hard_limit=0)):
        credit = Credit(options)
        assert credit.spend()
        assert credit.spend_more(10**6) == 10**6


def test_stream_with_a_ttl_never_has_credit() -> None:
    for options in (StreamOptions(ttl=1.0), StreamOptions(sliding_ttl=1.0, retain="none")):
        credit = Credit(options)
        credit.begin_renewal()
        assert not credit.spend()
        credit.renew(0)
        assert not credit.spend()


@given(st.integers(0, 5000), st.one_of(st.none(), st.integers(0, 10_000)), st.integers(0, 20_000))
def test_credit_never_reaches_beyond_the_hard_limit(
    max_len: int, hard_limit: int | None, length: int
) -> None:
    """Not even with dozens of publishers, each with as much."""
    if hard_limit and hard_limit < max_len:
        hard_limit = max_len
    options = StreamOptions(max_len=max_len, hard_limit=hard_limit)
    credit, limit = options.credit(length), options.effective_hard_limit()
    assert 0 <= credit <= 1000
    if limit:
        assert length + 64 * credit <= max(limit, length)
