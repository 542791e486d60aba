"""What can be said about a map when it is opened."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pulsewire import InvalidOption
from pulsewire.rmap.options import LEAST_STALE_AFTER, MapOptions


def test_map_lives_for_ever_by_default() -> None:
    options = MapOptions()
    assert (options.ttl, options.sliding_ttl) == (None, None)
    assert (options.max_value, options.stale_after) == (1024 * 1024, 3.0)


def test_a_map_has_one_time_to_live() -> None:
    """In Go the last one given wins; here nobody has to know that."""
    with pytest.raises(InvalidOption, match="one or the other") as caught:
        MapOptions(ttl=60, sliding_ttl=60)
    assert caught.value.option == "sliding_ttl"


@pytest.mark.parametrize("option", ["ttl", "sliding_ttl"])
@pytest.mark.parametrize("seconds", [0, -1, 0.0001, math.nan, math.inf, True, "60"])
def test_impossible_times_to_live_are_refused(option: str, seconds: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        MapOptions(**{option: seconds})
    assert caught.value.option == option


@pytest.mark.parametrize("option", ["ttl", "sliding_ttl"])
@pytest.mark.parametrize("seconds", [0.001, 1, 86_400.5])
def test_time_to_live_may_be_as_short_as_a_millisecond(option: str, seconds: Any) -> None:
    assert getattr(MapOptions(**{option: seconds}), option) == seconds


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None, "1"])
def test_impossible_sizes_are_refused(size: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        MapOptions(max_value=size)
    assert caught.value.option == "max_value"


@pytest.mark.parametrize("seconds", [0, 1.0, LEAST_STALE_AFTER - 0.01, math.nan, math.inf, None])
def test_stale_after_leaves_room_for_the_probes(seconds: Any) -> None:
    """A replica in best health is compared about once a second: less would call it stale now and then."""
    with pytest.raises(InvalidOption) as caught:
        MapOptions(stale_after=seconds)
    assert caught.value.option == "stale_after"


def test_least_stale_after_is_accepted() -> None:
    assert MapOptions(stale_after=LEAST_STALE_AFTER).stale_after == LEAST_STALE_AFTER == 1.5
