"""How fast something went of late."""

from __future__ import annotations

from pulsewire.cli.demo.rate import Rate


def test_the_rate_is_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.at(1.0, 7) == 0.0
    assert rate.at(2.0, 17) == 10.0
    assert rate.at(3.0, 17) == 5.0
    assert rate.at(8.0, 17) == 0.0
