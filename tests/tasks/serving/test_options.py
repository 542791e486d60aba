"""What can be said about a server, and what follows from it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pulsewire import InvalidOption
from pulsewire.tasks import ServerOptions, default_delay


def test_defaults() -> None:
    options = ServerOptions()
    assert (dict(options.queues), options.strict, options.lease) == ({"default": 1}, False, 12.0)
    assert options.retry_delay is default_delay
    assert options.aggregator is None
    assert (options.concurrency, options.shutdown_timeout, options.max_lost) == (100, 8.0, 3)
    assert (options.group_grace, options.group_max_delay, options.group_max_size) == (
        *(60.0, None, None),
    )
    assert (options.forward_interval, options.health_check_interval) == (1.0, 15.0)
    assert (options.janitor_interval, options.janitor_batch) == (8.0, 100)


LEAST: dict[str, Any] = {
    "concurrency": 1,
    "lease": 1.0,
    "shutdown_timeout": 0.0,
    "health_check_interval": 0.001,
    "group_grace": 1.0,
    "group_max_delay": 1.0,
    "group_max_size": 1,
    "forward_interval": 0.01,
    "janitor_interval": 0.001,
    "janitor_batch": 1,
    "max_lost": 1,
}


@pytest.mark.parametrize(("option", "least"), LEAST.items())
def test_each_option_has_a_least_value_and_is_named_below_it(option: str, least: Any) -> None:
    assert getattr(ServerOptions(**{option: least}), option) == least
    below: Any = least - 1 if isinstance(least, int) else least - 0.0005
    impossible: list[Any] = [below, math.nan, "1", True]
    for value in impossible:
        with pytest.raises(InvalidOption) as caught:
            ServerOptions(**{option: value})
        assert caught.value.option == option


@pytest.mark.parametrize(("max_lost", "suspicious"), [(1, 1), (2, 1), (3, 2), (9, 2)])
def test_task_is_suspicious_before_it_is_given_up(max_lost: int, suspicious: int) -> None:
    """It gets a try alone, if it gets a second one at all."""
    assert ServerOptions(max_lost=max_lost).suspicious == suspicious


@pytest.mark.parametrize(
    ("lease", "renew", "fence"), [(1.0, 1 / 3, 30.0), (12.0, 4.0, 30.0), (60.0, 20.0, 60.0)]
)
def test_leases_are_renewed_well_before_they_lapse(
    lease: float, renew: float, fence: float
) -> None:
    options = ServerOptions(lease=lease)
    assert options.renew_every == pytest.approx(renew)
    assert options.fence_after == fence


def test_options_are_frozen_and_checked() -> None:
    with pytest.raises(InvalidOption):
        ServerOptions(concurrency=0)
    with pytest.raises(AttributeError):
        ServerOptions().lease = 5.0  # type: ignore[misc]  # that it cannot be set is the point
