"""Lapsed leases are believed after a while at the same server, and no sooner."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pulsewire._core.failovers import PATIENCE, REVALIDATION, UNREPLICATED, Vigil


def test_vigil_is_over_after_its_patience() -> None:
    vigil = Vigil(4.0)
    assert not vigil.is_over("a", 100.0)
    assert not vigil.is_over("a", 103.9)
    assert vigil.is_over("a", 104.0)
    assert vigil.is_over("a", 1e9)


def test_vigil_begins_anew_at_another_server() -> None:
    """Also at one that was there before."""
    vigil = Vigil(4.0)
    vigil.is_over("a", 100.0)
    assert not vigil.is_over("b", 104.0)
    assert not vigil.is_over("b", 107.9)
    assert not vigil.is_over("a", 108.0)
    assert not vigil.is_over("a", 111.9)
    assert vigil.is_over("a", 112.0)


def test_server_without_a_name_is_a_server() -> None:
    vigil = Vigil(4.0)
    assert not vigil.is_over(None, 0.0)
    assert vigil.is_over(None, 4.0)
    assert not vigil.is_over("a", 4.0)


def test_without_patience_no_vigil_is_held() -> None:
    """Where there are no failovers."""
    assert Vigil(0.0).is_over(None, 7.0)


def test_patience_is_for_hearing_of_it_and_for_what_an_owner_has_after_that() -> None:
    assert Vigil().is_over("a", 0.0) is False
    assert PATIENCE >= UNREPLICATED + REVALIDATION


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 3.0)), min_size=1),
    st.floats(0.0, 5.0),
)
def test_vigil_is_over_when_the_last_looks_for_so_long_were_at_one_server(
    looks: list[tuple[str, float]], patience: float
) -> None:
    """Whatever went before."""
    vigil, now, last, since = Vigil(patience), 0.0, "", math.nan
    for server, pause in looks:
        now += pause
        if server != last:
            last, since = server, now
        assert vigil.is_over(server, now) == (now - since >= patience)
