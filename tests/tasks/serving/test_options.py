"""What follows from the options of a server. Which ones are refused is in `test_server.py`."""

from __future__ import annotations

import pytest

from pulsewire import InvalidOption
from pulsewire.tasks import ServerOptions, default_delay


def test_defaults() -> None:
    options = ServerOptions()
    assert (dict(options.queues), options.strict, options.lease) == ({"default": 1}, False, 12.0)
    assert options.retry_delay is default_delay
    assert options.aggregator is None


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
