"""The ledger: what was promised, what was done, and what the stream holds, kept outside Redis.

Producers note every payload before they add it, and the id that `add` returned; handlers note every event they have
handled; readers note what they saw. `judge` compares the three at the end. It knows nothing of servers and faults
beyond the times at which something was wrong.

A process of its own notes into a file (`FileLedger`), one line per fact, written at once, so that a SIGKILL takes
nothing back; `Ledger.absorb` reads it.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.weather.journal import FOR_EVER, Span, is_within

Key = tuple[str, str]
"""An event: name of its stream, id."""


@dataclass(frozen=True, slots=True)
class Handling:
    """One time an event was handled to its end."""

    payload: bytes
    deliveries: int
    consumer: str
    at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison says. Each tuple holds examples and is empty where all is well.

    Attributes:
        added: events that `add` acknowledged.
        lost: acknowledged and in the stream, but never handled.
        vanished: acknowledged, but not in the stream. Only a failover may do that, to what was not replicated.
        crossed: handled, seen or acknowledged with a payload that belongs to another id.
        published_twice: payloads that are in the stream more than once.
        ghosts: in the stream although `add` said that they were not added.
        missed: acknowledged and in the stream, but the reader never saw them.
        seen_twice: events the reader saw more than once.
        duplicates: events handled more than once.
        redelivered: of those, with a delivery count above one.
        in_flight: of the rest, handled while something was wrong.
        unexplained: the rest of the duplicates.
        uncertain: adds whose outcome `add` said it could not find out.
    """

    added: int
    lost: tuple[Key, ...]
    vanished: tuple[Key, ...]
    crossed: tuple[Key, ...]
    published_twice: tuple[bytes, ...]
    ghosts: tuple[bytes, ...]
    missed: tuple[Key, ...]
    seen_twice: tuple[Key, ...]
    duplicates: int
    redelivered: int
    in_flight: int
    unexplained: tuple[Key, ...]
    uncertain: int
    refused: int

    def assert_clean(self, *, may_vanish: bool = False, may_see_twice: bool = False) -> None:
        """Nothing lost, nothing crossed, nothing published twice, every duplicate explained."""
        wrong = {
            "lost": self.lost,
            "vanished": () if may_vanish else self.vanished,
            "crossed": self.crossed,
            "published twice": self.published_twice,
            "refused but there": self.ghosts,
            "missed by the reader": self.missed,
            "seen twice by the reader": () if may_see_twice else self.seen_twice,
            "unexplained duplicates": self.unexplained,
        }
        told = {name: (len(items), items[:5]) for name, items in wrong.items() if items}
        assert not told, f"of {self.added} acknowledged events: {told}"
        assert self.added, "no event was added: nothing was tested"


class Ledger:
    """Facts of one test, by whoever is in this process."""

    def __init__(self) -> None:
        self.called_at: dict[bytes, float] = {}
        self.acknowledged: dict[Key, bytes] = {}
        self.uncertain: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.handled: defaultdict[Key, list[Handling]] = defaultdict(list)
        self.seen: defaultdict[Key, list[bytes]] = defaultdict(list)
        self.first_handled: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.first_seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.faults: list[Span] = []
        self.forgiven: list[Span] = []
        """When a call for an event began that the server may lose after it has acknowledged it."""
        self._reacknowledged: list[Key] = []

    # --- producers

    def calls(self, payload: bytes) -> None:
        """`add` is about to be called with this payload, which nobody else uses."""
        self.called_at[payload] = time.monotonic()

    def acknowledge(self, stream: str, event_id: str, payload: bytes) -> None:
        """`add` returned."""
        key = (stream, event_id)
        if key in self.acknowledged:
            self._reacknowledged.append(key)  # two adds got the same id: a crossed reply
        self.acknowledged[key] = payload

    # --- consumers

    def handle(
        self, stream: str, event_id: str, payload: bytes, deliveries: int, consumer: str
    ) -> None:
        """A handler came to its end."""
        now = time.monotonic()
        self.handled[stream, event_id].append(Handling(payload, deliveries, consumer, now))
        if payload in self.called_at:
            self.first_handled[stream].append((self.called_at[payload], now))

    def see(self, stream: str, event_id: str, payload: bytes) -> None:
        """A reader got it."""
        self.seen[stream, event_id].append(payload)
        if payload in self.called_at:
            self.first_seen[stream].append((self.called_at[payload], time.monotonic()))

    def delay_after(self, moment: float, streams: Iterable[str]) -> float | None:
        """Seconds from `moment` until of every stream an event added later was handled, and one was seen.

        None when that has not happened yet.
        """
        delays = []
        for stream in streams:
            for facts in (self.first_handled[stream], self.first_seen[stream]):
                done = [at for called, at in facts if called >= moment]
                if not done:
                    return None
                delays.append(min(done) - moment)
        return max(delays)

    def forget_delays(self) -> None:
        """Keep `delay_after` quick in a long test."""
        self.first_handled.clear()
        self.first_seen.clear()

    # --- judging

    def unhandled(self) -> list[Key]:
        """Acknowledged events that were not handled yet."""
        return [key for key in self._owed() if key not in self.handled]

    def unseen(self) -> list[Key]:
        """Acknowledged events that the reader has not seen yet."""
        return [key for key in self._owed() if key not in self.seen]

    def _owed(self) -> list[Key]:
        return [
            key
            for key, payload in self.acknowledged.items()
            if not is_within(self.called_at.get(payload, FOR_EVER), self.forgiven)
        ]

    def absorb(self, file: Path) -> None:
        """Take over what a process noted into a file."""
        for line in file.read_bytes().splitlines():
            fact, stream, event_id, payload, deliveries, consumer, at = line.split(b" ")
            key = (stream.decode(), event_id.decode())
            if fact == b"acknowledged":
                self.acknowledge(*key, payload)
            else:
                handling = Handling(payload, int(deliveries), consumer.decode(), float(at))
                self.handled[key].append(handling)

    def judge(
        self, content: Mapping[str, Sequence[tuple[str, bytes]]], *, with_reader: bool = True
    ) -> Verdict:
        """Compare with what the streams hold in the end: stream -> its (id, payload) pairs, none trimmed."""
        there = {(stream, entry[0]): entry[1] for stream in content for entry in content[stream]}
        copies = Counter(payload for entries in content.values() for _, payload in entries)
        owed = [key for key in self._owed() if key in there]
        crossed = [
            key for key, payload in self.acknowledged.items() if there.get(key, payload) != payload
        ]
        crossed += self._reacknowledged
        for key, handlings in self.handled.items():
            truth = there.get(key, self.acknowledged.get(key))
            if any(handling.payload != truth for handling in handlings if truth is not None):
                crossed.append(key)
        for key, payloads in self.seen.items():
            if any(payload != there.get(key, payload) for payload in payloads):
                crossed.append(key)
        twice = {key: found for key, found in self.handled.items() if len(found) > 1}
        redelivered = {key for key, found in twice.items() if max(h.deliveries for h in found) > 1}
        in_flight = {
            key
            for key, found in twice.items()
            if key not in redelivered and any(self._was_fault(h.at) for h in found)
        }
        return Verdict(
            added=len(self.acknowledged),
            lost=tuple(key for key in owed if key not in self.handled),
            vanished=tuple(key for key in self.acknowledged if key not in there),
            crossed=tuple(crossed),
            published_twice=tuple(payload for payload, count in copies.items() if count > 1),
            ghosts=tuple(payload for payload in self.refused if copies[payload]),
            missed=tuple(key for key in owed if key not in self.seen) if with_reader else (),
            seen_twice=tuple(key for key, found in self.seen.items() if len(found) > 1),
            duplicates=len(twice),
            redelivered=len(redelivered),
            in_flight=len(in_flight),
            unexplained=tuple(key for key in twice if key not in redelivered | in_flight),
            uncertain=len(self.uncertain),
            refused=len(self.refused),
        )

    def _was_fault(self, moment: float) -> bool:
        return is_within(moment, self.faults)


class FileLedger:
    """The facts of one process, in a file that survives it."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def acknowledge(self, stream: str, event_id: str, payload: bytes) -> None:
        """`add` returned."""
        self._note("acknowledged", stream, event_id, payload.decode(), 0, "-")

    def handle(
        self, stream: str, event_id: str, payload: bytes, deliveries: int, consumer: str
    ) -> None:
        """A handler came to its end."""
        self._note("handled", stream, event_id, payload.decode(), deliveries, consumer)

    def _note(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, (*words, time.monotonic()))) + "\n").encode())
