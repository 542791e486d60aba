"""How a stream is bounded: its options, and the credit by which `add` stays one plain command. Pure.

XADD alone while the stream has *credit*, and about every tenth of `max_len` events the script `add.lua`, which makes
room without eating what a sink still needs, refuses at the hard limit, and brings new credit. Streams with a TTL use
the script each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pulsewire._core.checks import check_count, check_life, check_seconds
from pulsewire.errors import InvalidOption
from pulsewire.streaming.store import AddRules

DEFAULT_MAX_LEN = 1000
HARD_LIMIT_FACTOR = 100
LEAST_HARD_LIMIT = 100_000
DEFAULT_MAX_PAYLOAD = 16 * 1024 * 1024
DEFAULT_IDEMPOTENCY_WINDOW = 3600.0
MAX_CREDIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream keeps its events. Checks itself.

    Attributes:
        max_len: about how many events to keep as history; 0 for no trimming.
        hard_limit: `add` is refused with `StreamFull` at this length, when sinks do not keep up. None: 100 times
            `max_len`, at least 100,000; 0 for none. Several publishers may pass it by a tenth of `max_len` each.
        retain: "unacked" keeps, beyond `max_len`, what a sink has not acknowledged; "none" trims regardless, as Go
            Pulse does.
        ttl: seconds from its creation after which the stream vanishes.
        sliding_ttl: seconds from the last `add` after which the stream vanishes.
        idempotency_window: seconds for which an idempotency key is remembered.
        max_payload: bytes of content that one event may have.
    """

    max_len: int = DEFAULT_MAX_LEN
    hard_limit: int | None = None
    retain: Literal["unacked", "none"] = "unacked"
    ttl: float | None = None
    sliding_ttl: float | None = None
    idempotency_window: float = DEFAULT_IDEMPOTENCY_WINDOW
    max_payload: int = DEFAULT_MAX_PAYLOAD

    def __post_init__(self) -> None:
        check_count("max_len", self.max_len, 0)
        check_count("max_payload", self.max_payload)
        check_seconds("idempotency_window", self.idempotency_window)
        if self.retain not in ("unacked", "none"):
            raise InvalidOption("retain", self.retain, 'use "unacked" or "none"')
        if self.hard_limit:
            check_count("hard_limit", self.hard_limit)
            if self.retain == "none" and self.max_len:
                raise InvalidOption(
                    "hard_limit",
                    self.hard_limit,
                    'retain="none" trims to max_len instead of refusing',
                )
            if self.hard_limit < self.max_len:
                raise InvalidOption(
                    "hard_limit", self.hard_limit, f"is below max_len={self.max_len}"
                )
        check_life(self.ttl, self.sliding_ttl)

    @property
    def trims_plainly(self) -> bool:
        """Whether MAXLEN on each XADD is all there is to do."""
        return self.retain == "none" or (self.max_len == 0 and not self.hard_limit)

    @property
    def needs_script(self) -> bool:
        """Whether each `add` must be the script."""
        return self.ttl is not None or self.sliding_ttl is not None

    def effective_hard_limit(self) -> int:
        """The hard limit that is enforced, 0 for none."""
        if self.hard_limit is not None or self.trims_plainly:
            return self.hard_limit or 0
        return max(HARD_LIMIT_FACTOR * self.max_len, LEAST_HARD_LIMIT)

    def rules(self) -> AddRules:
        """For the store."""
        return AddRules(
            self.max_len,
            self.effective_hard_limit(),
            self.retain,
            self.ttl or 0.0,
            self.sliding_ttl or 0.0,
        )

    def credit(self, length: int) -> int:
        """How many plain adds may follow before room is made again, at this length."""
        if self.needs_script:
            return 0
        limit = self.effective_hard_limit()
        credit = min(max((self.max_len or limit) // 10, 1), MAX_CREDIT)
        return min(credit, max(limit - length, 0) // 64) if limit else credit


class Credit:
    """How many events one process may still add without asking.

    One caller at a time renews it; those beside it overdraw, unless there was nothing to renew the last time.
    """

    __slots__ = ("_is_renewing", "_is_unlimited", "_left", "_may_overdraw", "_options")

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._is_unlimited = options.trims_plainly and not options.needs_script
        self._may_overdraw = not options.needs_script
        self._left = 0
        self._is_renewing = False

    def spend(self) -> bool:
        """Whether one event may be added plainly; it is paid for then."""
        if self._is_unlimited:
            return True
        if self._left > 0 or (self._is_renewing and self._may_overdraw):
            self._left -= 1
            return True
        return False

    def spend_more(self, wanted: int) -> int:
        """How many of `wanted` further events may be added plainly; they are paid for then."""
        if self._is_unlimited:
            return wanted
        granted = max(min(wanted, self._left), 0)
        self._left -= granted
        return granted

    def begin_renewal(self) -> None:
        """The script is on its way."""
        self._is_renewing = True

    def end_renewal(self) -> None:
        """It has come back, whatever it brought."""
        self._is_renewing = False

    def renew(self, length: int) -> None:
        """The script added an event and found this many."""
        self._left = self._options.credit(length)
        self._may_overdraw = self._left > 0

    def refuse(self) -> None:
        """The stream is full."""
        self._left = 0
        self._may_overdraw = False
