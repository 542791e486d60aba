"""The ledger of pools, kept outside Redis: who ran which job when, with which token, and what the pool promised of it.

Every process notes into one journal (`journal.py`). `Ledger.judge` compares what the processes did with what the
dispatcher was told; it knows nothing of servers and faults beyond when they were.

Also here: the *store* that jobs write to, which refuses tokens smaller than the largest it has seen, as a database
behind a pool should.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.weather.journal import FOR_EVER, JournalReader, Span, is_within, some

HANDED_OVER = 0.1
"""Seconds that a job may be between two owners who both live, without being counted as a gap."""
WAKING = 1.0
"""Seconds after waking up within which a process that was frozen stops what is another's by now: the promise."""


class FencedStore:
    """Something outside that jobs write to: a file per job, with the largest token that has written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "store"
        self._folder.mkdir(exist_ok=True)

    def write(self, key: str, token: int) -> bool:
        """Write with a token. False if it is refused, since a larger one has written before."""
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        file = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            largest = int(os.pread(file, 32, 0) or b"0")
            if token < largest:
                return False
            if token > largest:
                os.pwrite(file, b"%d" % token, 0)  # it never gets shorter
            return True
        finally:
            os.close(file)


@dataclass(slots=True)
class Stint:
    """One time that a job ran somewhere: from its `start` to its `stop`, or to the death of its process."""

    key: str
    token: int
    pid: int
    worker: str
    began: float
    ended: float = FOR_EVER
    has_stopped: bool = False

    def __str__(self) -> str:
        ended = f"{self.ended:.3f}" if self.ended < FOR_EVER else "..."
        return f"[{self.worker} {self.pid} token {self.token} {self.began:.3f} to {ended}]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison says. Each tuple holds examples and is empty where all is well.

    Attributes:
        jobs: that were dispatched.
        moves: starts beyond the first of each job.
        lost: dispatched, not stopped, and running nowhere in the end.
        revived: ran after `stop_job` had returned, or although `dispatch` had said that nothing was written.
        doubled: two ran one job at a time, and the older one was neither frozen nor dead.
        unordered: started although one with the same or a larger token had started before.
        ownerless: nobody ran them for longer than the promise.
        believed: `heartbeat` said yes to an owner whose successor had started.
        refused_wrongly: the store refused an owner that had no successor.
        longest_gap: seconds for which nobody ran a job, at most; the server's outages do not count.
        gaps: seconds for which nobody ran a job, each time that it was longer than a hand-over takes.
        stale_writes: of frozen owners, all refused by the store.
        stale_beats: heartbeats that raised JobLost.
        wakings: seconds from waking up until a job that was another's had stopped, each.
        starved: overlaps that the machine is to blame for: the process says itself that it did not get to run.
        fenced: workers that gave up by themselves.
    """

    jobs: int
    moves: int
    lost: tuple[str, ...]
    revived: tuple[str, ...]
    doubled: tuple[str, ...]
    unordered: tuple[str, ...]
    ownerless: tuple[str, ...]
    believed: tuple[str, ...]
    refused_wrongly: tuple[str, ...]
    longest_gap: float
    gaps: tuple[float, ...]
    stale_writes: int
    stale_beats: int
    wakings: tuple[float, ...]
    starved: int
    fenced: int

    def assert_clean(self) -> None:
        """No promise was broken."""
        assert self.jobs
        assert not self.lost, self.lost
        assert not self.revived, self.revived
        assert not self.doubled, self.doubled
        assert not self.unordered, self.unordered
        assert not self.ownerless, self.ownerless
        assert not self.believed, self.believed
        assert not self.refused_wrongly, self.refused_wrongly
        assert all(waking < WAKING for waking in self.wakings), max(self.wakings)


@dataclass(slots=True)
class Ledger:
    """What the dispatcher was told, what was done to the processes, and the file in which they note what they did.

    Attributes:
        asked: key -> when the dispatch began.
        dispatched: key -> when `dispatch` returned, or said that the job is admitted.
        maybe: keys whose dispatch failed with an unknown outcome.
        refused: keys of which `dispatch` said that nothing was written.
        stopped: key -> when `stop_job` returned.
        stopping: keys whose stop was asked for, with whatever outcome.
        deaths: pid -> when the process was gone.
        frozen: pid -> when it could not run, as the test made it so.
        outages: when no server, or no node, was there.
        forgiven: when a dispatch began whose job the server may lose after it has acknowledged it.
    """

    folder: Path
    asked: dict[str, float] = field(default_factory=dict)
    dispatched: dict[str, float] = field(default_factory=dict)
    maybe: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    stopped: dict[str, float] = field(default_factory=dict)
    stopping: set[str] = field(default_factory=set)
    deaths: dict[int, float] = field(default_factory=dict)
    frozen: dict[int, list[Span]] = field(default_factory=lambda: defaultdict(list))
    outages: list[Span] = field(default_factory=list)
    forgiven: list[Span] = field(default_factory=list)
    stints: dict[str, list[Stint]] = field(default_factory=lambda: defaultdict(list))
    other: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Facts that are no start and no stop, by what they are."""
    _open: dict[tuple[int, str, int], Stint] = field(default_factory=dict)
    _journal: JournalReader = field(init=False)

    def __post_init__(self) -> None:
        """Read the journal of the folder from its beginning."""
        self._journal = JournalReader(self.folder)

    # --- reading

    def catch_up(self) -> None:
        """Read what was noted since the last time."""
        for fact in self._journal.read_new():
            self._take(fact)

    def _take(self, fact: dict[str, Any]) -> None:
        if fact["what"] == "start":
            stint = Stint(fact["key"], fact["token"], fact["pid"], fact["worker"], fact["at"])
            self.stints[stint.key].append(stint)
            self._open[stint.pid, stint.key, stint.token] = stint
        elif fact["what"] == "stop":
            stint = self._open.pop((fact["pid"], fact["key"], fact["token"]))
            stint.ended, stint.has_stopped = fact["at"], True
        else:
            self.other[fact["what"]].append(fact)

    def died(self, pid: int, at: float) -> None:
        """A process is gone since then at the latest, and all that ran there."""
        self.catch_up()
        self.deaths[pid] = at
        for place, stint in list(self._open.items()):
            if stint.pid == pid:
                stint.ended = at
                del self._open[place]

    def running(self) -> dict[str, Stint]:
        """The jobs that run now, in processes that are alive and not frozen; the newest owner of each."""
        self.catch_up()
        return self._running()

    def stale(self) -> list[Stint]:
        """Those that run now although a newer owner does, too."""
        newest = self.running()
        return [stint for stint in self._open.values() if newest.get(stint.key) is not stint]

    def _running(self) -> dict[str, Stint]:
        frozen = {pid for pid, spans in self.frozen.items() if spans and spans[-1][1] == FOR_EVER}
        found: dict[str, Stint] = {}
        for stint in list(self._open.values()):
            known = found.get(stint.key)
            if stint.pid not in frozen and (known is None or known.token < stint.token):
                found[stint.key] = stint
        return found

    def due(self) -> set[str]:
        """The jobs that must run: dispatched, and nobody has asked for their end."""
        return self._dispatched() - self.gone()

    def gone(self) -> set[str]:
        """Those that need not run any more, since the server may have lost them."""
        asked = self.asked
        return {
            key for key in self._dispatched() if is_within(asked.get(key, FOR_EVER), self.forgiven)
        }

    def _dispatched(self) -> set[str]:
        return self.dispatched.keys() - self.stopping

    def placed(self) -> dict[str, str]:
        """Where each job runs: key -> worker."""
        return {key: stint.worker for key, stint in self.running().items()}

    def starts(self) -> dict[str, int]:
        """How often each job was started."""
        self.catch_up()
        return {key: len(stints) for key, stints in self.stints.items()}

    # --- judging

    def judge(self, longest_gap: float, lease: float = 0.0) -> Verdict:
        """Compare, when nothing happens any more.

        Args:
            longest_gap: seconds for which a job may have no owner.
            lease: so many more for each further fault within such a time, which may have struck the next owner.
        """
        self.catch_up()
        running, now = self._running(), time.monotonic()
        starved: dict[int, list[Span]] = defaultdict(list)
        for fact in self.other["stalled"]:
            starved[fact["pid"]].append((fact["since"], fact["at"]))
        doubled, starving = self._doubled(starved)
        gaps = {key: list(self._gaps(key, now, lease)) for key in self.due() if self.stints[key]}
        superseded = _Superseded(self.stints)
        believed = [
            f"{fact['key']}: token {fact['token']} in process {fact['pid']}"
            for fact in self.other["beat"]
            if superseded.at(fact["key"], fact["token"], fact["asked"])
        ]
        refused_wrongly = [
            f"{fact['key']}: token {fact['token']} in process {fact['pid']}"
            for fact in self.other["refused"]
            if not superseded.at(fact["key"], fact["token"], fact["at"])
        ]
        return Verdict(
            jobs=len(self.dispatched),
            moves=sum(max(len(stints) - 1, 0) for stints in self.stints.values()),
            lost=some(self.due() - running.keys()),
            revived=some([*self._revived(), *(self.refused & self.stints.keys())]),
            doubled=some(doubled),
            unordered=some(self._unordered()),
            ownerless=some(
                f"{key} for {gap:.2f} s: {' '.join(map(str, self.stints[key]))}"
                for key, several in gaps.items()
                for gap, more in several
                if gap > longest_gap + more
            ),
            believed=some(believed),
            refused_wrongly=some(refused_wrongly),
            longest_gap=max((gap for several in gaps.values() for gap, _ in several), default=0.0),
            gaps=tuple(gap for several in gaps.values() for gap, _ in several if gap > HANDED_OVER),
            stale_writes=len(self.other["refused"]),
            stale_beats=len(self.other["lost"]),
            wakings=tuple(self._wakings()),
            starved=starving,
            fenced=len(self.other["fenced"]),
        )

    def _pairs(self) -> Iterable[tuple[Stint, Stint]]:
        """Each stint with every later one of the same job."""
        for stints in self.stints.values():
            ordered = sorted(stints, key=lambda stint: stint.began)
            for number, older in enumerate(ordered):
                for newer in ordered[number + 1 :]:
                    yield older, newer

    def _doubled(self, starved: dict[int, list[Span]]) -> tuple[list[str], int]:
        """Overlaps that nothing excuses; and how many the machine is to blame for."""
        found, excused = [], 0
        for older, newer in self._pairs():
            overlap = (newer.began, min(older.ended, newer.ended))
            stale = min(older, newer, key=lambda stint: stint.token)
            if overlap[1] <= overlap[0] or _inside(overlap, self.frozen[stale.pid]):
                continue
            if _inside(overlap, starved[stale.pid]):
                excused += 1
            else:
                found.append(f"{older.key}: {older} and {newer}")
        return found, excused

    def _unordered(self) -> Iterable[str]:
        for older, newer in self._pairs():
            if newer.token <= older.token:
                yield f"{older.key}: {older} and {newer}"

    def _revived(self) -> Iterable[str]:
        for key, at in self.stopped.items():
            for stint in self.stints[key]:
                late = (max(stint.began, at), stint.ended)
                if late[0] < late[1] and not _inside(late, self.frozen[stint.pid]):
                    yield f"{key} stopped {at:.3f}: {stint}"

    def _gaps(self, key: str, now: float, lease: float) -> Iterable[Span]:
        """Seconds for which nobody who could run did, the server being there; and how many more are allowed."""
        covered = []
        for stint in self.stints[key]:
            since = stint.began
            for begin, end in self.frozen[stint.pid]:
                if begin < stint.ended and end > since:
                    covered.append((since, max(begin, since)))
                    since = end
            covered.append((since, min(stint.ended, now)))
        at = min(self.dispatched[key], covered[0][0])
        for begin, end in sorted([*covered, (now, now)]):
            if begin > at:
                outage = sum(_overlap((at, begin), span) for span in self.outages)
                faults = [
                    *self.deaths.values(),
                    *(span[0] for several in self.frozen.values() for span in several),
                ]
                yield begin - at - outage, lease * sum(at < fault < begin for fault in faults)
            at = max(at, end)

    def _wakings(self) -> Iterable[float]:
        """How long after waking up each job that was another's by then was stopped."""
        superseded = _Superseded(self.stints)
        for pid, spans in self.frozen.items():
            for _, woke in spans:
                if woke == FOR_EVER or self.deaths.get(pid, FOR_EVER) < woke + WAKING:
                    continue
                for stints in self.stints.values():
                    for stint in stints:
                        is_here = stint.pid == pid and stint.began < woke < stint.ended
                        if is_here and superseded.at(stint.key, stint.token, woke):
                            yield stint.ended - woke


class _Superseded:
    """Whether a token of a job had a successor at some time."""

    def __init__(self, stints: dict[str, list[Stint]]) -> None:
        self._began: dict[str, list[tuple[float, int]]] = {}
        for key, several in stints.items():
            largest, steps = 0, []
            for stint in sorted(several, key=lambda stint: stint.began):
                largest = max(largest, stint.token)
                steps.append((stint.began, largest))
            self._began[key] = steps

    def at(self, key: str, token: int, at: float) -> bool:
        steps = self._began.get(key, [])
        number = bisect_right(steps, (at, FOR_EVER))
        return number > 0 and steps[number - 1][1] > token


def _inside(span: Span, spans: Sequence[Span]) -> bool:
    """Whether it lies within one of them, or within the second after it in which a process wakes up."""
    return any(begin <= span[0] and span[1] <= end + WAKING for begin, end in spans)


def _overlap(one: Span, other: Span) -> float:
    return max(min(one[1], other[1]) - max(one[0], other[0]), 0.0)
