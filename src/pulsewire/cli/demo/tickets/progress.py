"""Where the act stands: what the journals and the group said so far, as counts.

Pure: `director.py` feeds it, `view.py` shows what `snapshot` returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import Arrived, Handled, Published, Record
from pulsewire.cli.demo.rate import Rate

__all__ = ["ConsumerRow", "Progress", "Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerRow:
    """One consumer as it is shown.

    Attributes:
        number: Which of them, from 1.
        pid: Its process id.
        fate: What it is at.
        handled: Tickets it finished.
        taken_over: How many of these somebody else had got first.
    """

    number: int
    pid: int
    fate: Fate
    handled: int
    taken_over: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the live view shows.

    Attributes:
        wanted: Tickets there will be.
        published: Tickets published.
        handled: Different tickets handled.
        pending: Events delivered and not yet acknowledged; None before the group is known.
        lag: Events not yet delivered to anybody; None when the server cannot tell.
        rate: Tickets handled per second of late.
        elapsed: Seconds since the start.
        consumers: One row each.
        news: What happened so far that is worth a sentence, each with its time.
    """

    wanted: int
    published: int
    handled: int
    pending: int | None
    lag: int | None
    rate: float
    elapsed: float
    consumers: tuple[ConsumerRow, ...]
    news: tuple[str, ...]


@dataclass(slots=True)
class _Consumer:
    number: int
    pid: int
    name: str = ""
    fate: Fate = Fate.STARTING
    records: list[Handled] = field(default_factory=list)


class Progress:
    """Counts. All times are given by the caller."""

    def __init__(self, wanted: int) -> None:
        self.published: list[Published] = []
        self.pending: int | None = None
        self.lag: int | None = None
        self._wanted = wanted
        self._publisher_arrived = False
        self._consumers: dict[int, _Consumer] = {}
        self._events: set[str] = set()
        self._news: list[str] = []
        self._rate = Rate()

    @property
    def handled(self) -> list[Handled]:
        """What all consumers wrote, each one's in its order."""
        return [record for consumer in self._consumers.values() for record in consumer.records]

    @property
    def handled_events(self) -> int:
        """How many different events were handled."""
        return len(self._events)

    @property
    def have_all_arrived(self) -> bool:
        """Whether the publisher and every consumer are ready."""
        return self._publisher_arrived and all(
            consumer.name for consumer in self._consumers.values()
        )

    @property
    def is_all_handled(self) -> bool:
        """Whether every ticket wanted is published, and every published one handled."""
        return len(self.published) >= self._wanted and self._events.issuperset(
            record.event for record in self.published
        )

    @property
    def step(self) -> tuple[int, ...]:
        """Changes whenever something went on."""
        return (
            len(self.published),
            *(len(consumer.records) for consumer in self._consumers.values()),
        )

    def add_consumer(self, number: int, pid: int) -> None:
        """Take note of a process that was started."""
        self._consumers[number] = _Consumer(number, pid)

    def name_of(self, number: int) -> str:
        """Return the name that a consumer has in the group."""
        return self._consumers[number].name

    def set_fate(self, number: int, fate: Fate) -> None:
        """Say what became of a consumer."""
        self._consumers[number].fate = fate

    def tell(self, elapsed: float, news: str) -> None:
        """Take note of something that happened `elapsed` seconds after the start."""
        self._news.append(f"{elapsed:5.1f} s  {news}")

    def from_publisher(self, records: Iterable[Record]) -> None:
        """Take in what the publisher wrote."""
        for record in records:
            match record:
                case Arrived():
                    self._publisher_arrived = True
                case Published():
                    self.published.append(record)
                case _:
                    raise AssertionError("the publisher handles no tickets")

    def from_consumer(self, number: int, records: Iterable[Record]) -> None:
        """Take in what a consumer wrote."""
        consumer = self._consumers[number]
        for record in records:
            match record:
                case Arrived():
                    consumer.name, consumer.fate = record.consumer, Fate.WORKING
                case Handled():
                    consumer.records.append(record)
                    self._events.add(record.event)
                case _:
                    raise AssertionError("consumers publish no tickets")

    def snapshot(self, elapsed: float) -> Snapshot:
        """Return what to show, `elapsed` seconds after the start."""
        return Snapshot(
            wanted=self._wanted,
            published=len(self.published),
            handled=len(self._events),
            pending=self.pending,
            lag=self.lag,
            rate=self._rate.at(elapsed, len(self._events)),
            elapsed=elapsed,
            consumers=self.rows(),
            news=tuple(self._news),
        )

    def rows(self) -> tuple[ConsumerRow, ...]:
        """Return what is known of each consumer."""
        return tuple(
            ConsumerRow(
                number=consumer.number,
                pid=consumer.pid,
                fate=consumer.fate,
                handled=len(consumer.records),
                taken_over=sum(record.deliveries > 1 for record in consumer.records),
            )
            for consumer in self._consumers.values()
        )
