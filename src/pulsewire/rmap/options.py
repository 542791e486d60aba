"""What can be said about a map when it is opened. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pulsewire._core.checks import check_count, check_life, check_seconds

DEFAULT_MAX_VALUE = 1024 * 1024
DEFAULT_STALE_AFTER = 3.0
LEAST_STALE_AFTER = 1.5
"""A replica in best health is compared with the server about once a second (`notifier.PROBE_EVERY`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """How a map is kept and read. Checks itself.

    Attributes:
        ttl: seconds from its creation after which the map vanishes as a whole.
        sliding_ttl: seconds from the last change after which it vanishes.
        max_value: bytes that one value may have, lists as they are written.
        stale_after: seconds without proof of being complete after which `is_stale` is true.
    """

    ttl: float | None = None
    sliding_ttl: float | None = None
    max_value: int = DEFAULT_MAX_VALUE
    stale_after: float = DEFAULT_STALE_AFTER

    def __post_init__(self) -> None:
        check_count("max_value", self.max_value)
        check_seconds("stale_after", self.stale_after, LEAST_STALE_AFTER)
        check_life(self.ttl, self.sliding_ttl)
