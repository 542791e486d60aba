"""The vital signs of a hub: what its background duties and its parts say of themselves, for whoever asks.

A duty that goes on says when a pass begins and how it ends (`Vital`; the loops of `loops.py` do that for every duty),
and that it rests while it waits for work (`resting`): who has been asked for nothing is not stuck. Parts whose state
is a number that must not grow (an age, a count) are asked for it (`Signs`). Nothing here decides what is well and
what is not; that is `health.py`. Nothing here awaits, and a pass costs two readings of the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from pulsewire._core.clock import SYSTEM_CLOCK, Clock
from pulsewire._core.lag import LoopLag
from pulsewire._core.stalls import LoopWatch

PASS_WITHIN = 30.0
"""Seconds that one pass of a duty may take while the server answers: a read may block for 2 s, a reply may be 4 s late,
and a pass may consist of many commands."""


class Flag(Protocol):
    """What ends a duty (`loops.Stop`)."""

    is_set: bool


@dataclass(frozen=True, slots=True)
class LoopSign:
    """How a background duty is.

    Attributes:
        block: the building block it belongs to, such as `streams`.
        owner: whose it is, such as `sink mailer`.
        name: what it does.
        within: seconds one pass may take.
        in_pass_for: seconds since a pass began that has not ended; None between passes and while it rests.
        failing_for: seconds since the first of the failures that came in a row; 0 when the last pass went well.
        failures: how many they are.
        reason: why the last pass failed; or what ended the duty.
        is_dead: it was ended by an error.
    """

    block: str
    owner: str
    name: str
    within: float
    in_pass_for: float | None
    failing_for: float
    failures: int
    reason: str
    is_dead: bool


@dataclass(frozen=True, slots=True)
class AgeSign:
    """Something that is renewed again and again, and how old it is.

    Attributes:
        block: as in `LoopSign`.
        owner: as in `LoopSign`.
        name: what is renewed, such as `leases`.
        seconds: since the last time.
        limit: from which age on the part is not fit for work.
        length: from which age on what was renewed is worth nothing at all.
    """

    block: str
    owner: str
    name: str
    seconds: float
    limit: float
    length: float


@dataclass(frozen=True, slots=True)
class EndingSign:
    """A part that takes no more work."""

    block: str
    owner: str


@dataclass(frozen=True, slots=True)
class PlacesSign:
    """Places for handlers, and how many are taken by handlers that were given up and do not end."""

    block: str
    owner: str
    places: int
    lost: int


@dataclass(frozen=True, slots=True)
class WaySign:
    """The way to one server.

    Attributes:
        address: of the server.
        is_connected: whether there is a connection.
        seconds: since when that is so.
        silent_for: since when the server, or the net, has answered nothing that was asked, not even by a refusal; 0
            where the last attempt was answered.
        reason: the last trouble.
        round_trip: how long the slowest question of late has waited for its answer, or waits already; 0 if none was
            asked.
    """

    address: str
    is_connected: bool
    seconds: float
    silent_for: float
    reason: str
    round_trip: float = 0.0


Sign = LoopSign | AgeSign | EndingSign | PlacesSign | WaySign
Signs = Callable[[], Iterable[Sign]]


class Vital:
    """One background duty. It may be written by one thread and read by another."""

    __slots__ = (
        "_began_at",
        "_clock",
        "_failing_since",
        "_failures",
        "_is_dead",
        "_reason",
        "_rests",
        "_ward",
        "_within",
        "flag",
        "name",
    )

    def __init__(
        self, ward: Ward, name: str, within: float, flag: Flag | None, clock: Clock
    ) -> None:
        self.name = name
        self.flag = flag
        self._ward = ward
        self._within = within
        self._clock = clock
        self._began_at = 0.0  # of the pass, 0 between two
        self._rests = 0
        self._failing_since = 0.0
        self._failures = 0
        self._reason = ""
        self._is_dead = False

    def begin(self) -> None:
        """A pass begins; or goes on, and has shown that it is not stuck."""
        self._began_at = self._clock.monotonic()

    def beat(self) -> None:
        """The pass went well."""
        self._began_at = 0.0
        self._failures = 0

    def fail(self, error: BaseException) -> None:
        """The pass met passing trouble."""
        self._began_at = 0.0
        self._reason = str(error) or type(error).__name__
        if not self._failures:
            self._failing_since = self._clock.monotonic()
        self._failures += 1

    def rest(self) -> None:
        """The pass waits for work, however long that takes."""
        self._rests += 1

    def resume(self) -> None:
        """There is work."""
        self._rests -= 1
        self._began_at = self._clock.monotonic()

    def die(self, error: BaseException) -> None:
        """The duty was ended by an error. It stays in the register until its owner ends, too."""
        self._is_dead, self._reason = True, repr(error)

    def close(self) -> None:
        """The duty has ended as it should."""
        self._ward.vitals.forget(self)

    @property
    def is_over(self) -> bool:
        """It was asked to end."""
        return self.flag is not None and self.flag.is_set

    def sign(self, now: float) -> LoopSign:
        """How it is."""
        began_at, failures = self._began_at, self._failures
        is_waiting = not began_at or self._rests > 0
        return LoopSign(
            self._ward.block,
            self._ward.owner,
            self.name,
            self._within,
            None if is_waiting else max(now - began_at, 0.0),
            max(now - self._failing_since, 0.0) if failures and not self._rests else 0.0,
            failures,
            self._reason,
            self._is_dead,
        )


class Vitals:
    """The register of one hub.

    Attributes:
        lag: of its event loop, which is measured while somebody wants it.
        watch: over its event loop, for who runs handlers there.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.lag = LoopLag(clock)
        self.watch = LoopWatch(self.lag, clock)
        self._vitals: dict[Vital, None] = {}
        self._signs: dict[Signs, None] = {}

    def ward(self, block: str, owner: str) -> Ward:
        """Where the duties of one owner are put into the register."""
        return Ward(self, block, owner)

    def put(self, vital: Vital) -> None:
        """Have it in the register until `forget`."""
        self._vitals[vital] = None

    def forget(self, vital: Vital) -> None:
        """It has ended."""
        self._vitals.pop(vital, None)

    def ask(self, signs: Signs) -> Callable[[], None]:
        """Ask these, too, from now on; call what is returned to end that."""
        self._signs[signs] = None
        return lambda: self._forget_signs(signs)

    def _forget_signs(self, signs: Signs) -> None:
        self._signs.pop(signs, None)

    def signs(self) -> list[Sign]:
        """How everything is."""
        now = self.clock.monotonic()
        vitals = tuple(self._vitals)
        for vital in vitals:
            if vital.is_over:
                self.forget(vital)
        found: list[Sign] = [vital.sign(now) for vital in vitals if not vital.is_over]
        for signs in tuple(self._signs):
            found += signs()
        return found


@dataclass(frozen=True, slots=True)
class Ward:
    """One owner's part of the register.

    Attributes:
        block: the building block, such as `streams`.
        owner: one of its parts, such as `sink mailer`.
    """

    vitals: Vitals
    block: str
    owner: str

    def watch(self, name: str, within: float = PASS_WITHIN, flag: Flag | None = None) -> Vital:
        """A new vital. `flag` says that its owner ends; then it is not looked at any more."""
        vital = Vital(self, name, within, flag, self.vitals.clock)
        self.vitals.put(vital)
        return vital


def no_ward() -> Ward:
    """A register that nobody asks."""
    return Ward(Vitals(), "", "")


_CURRENT: ContextVar[Vital | None] = ContextVar("pulsewire_vital", default=None)


@contextmanager
def watched(vital: Vital) -> Iterator[None]:
    """Within this block, `resting` and `going_on` speak of this duty."""
    token = _CURRENT.set(vital)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def resting() -> Iterator[None]:
    """Around a wait for work, or for a function of the user's: it may last as long as it likes."""
    vital = _CURRENT.get()
    if vital is None:
        yield
        return
    vital.rest()
    try:
        yield
    finally:
        vital.resume()


def going_on() -> None:
    """A long pass has taken another step."""
    vital = _CURRENT.get()
    if vital is not None:
        vital.begin()
