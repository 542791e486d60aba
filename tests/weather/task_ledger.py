"""The ledger of tasks, kept outside Redis: who enqueued and who ran which task when, and what was promised of it.

Producers note what they were told, handlers note when they begin and end, in the journal that all processes share
(`journal.py`). `Ledger.judge` compares; of servers and faults it knows only
when they were.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from tests.weather.journal import FOR_EVER, JournalReader, Span, is_within, some
from tests.weather.patience import SHARING

EVERYBODY = ""
"""The server of a fault that has struck all of them."""
UNSETTLED = 1.0
"""Seconds after its end for which the outcome of a run may not be written yet: it is in flight until then."""
WAKING = 1.0 * SHARING
"""Seconds after waking up within which a server ends what is another's by now: the promise."""
EARLY = 0.05
"""Seconds by which two looks at two clocks may differ."""
NOTED_WITHIN = 1.0
"""Seconds by which a recovery may be noted later than what follows from it."""
RESTARTED_WITHIN = 15.0
"""Seconds from the death of a server until 99 of 100 of its tasks run again, with the default lease: the promise."""

FaultKind = Literal["death", "freeze", "cut", "outage", "stop"]


@dataclass(slots=True)
class Fault:
    """Something that has struck a server, or everybody, from when to when."""

    kind: FaultKind
    server: str
    begin: float
    end: float = FOR_EVER


@dataclass(slots=True, eq=False)
class Run:
    """One run of one task; `how` is empty while it runs, and where its process died."""

    task_id: str
    server: str
    pid: int
    retried: int
    began: float
    ended: float = FOR_EVER
    how: str = ""

    def __str__(self) -> str:
        ended = f"{self.ended:.3f} {self.how}" if self.ended < FOR_EVER else "..."
        return f"[{self.server[:4]} {self.pid} retried {self.retried} {self.began:.3f} to {ended}]"

    @property
    def until(self) -> float:
        """Until when it was in flight."""
        return self.ended + UNSETTLED if self.how else self.ended


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison says. Each tuple holds examples and is empty where all is well.

    Attributes:
        tasks: whose enqueuing was acknowledged.
        runs: of all tasks.
        lost: acknowledged, and never ended well.
        doubled: ran again although nothing had befallen the run before.
        overcharged: began with more retries counted than runs had failed.
        refused: ran although `enqueue` said that nothing was written.
        early: ran before they were due.
        again: runs of tasks that were in flight at a fault, each a duplicate that is allowed.
        starved: duplicates that the machine is to blame for: the process says itself that it did not get to run.
        failed: runs whose handler raised.
        wakings: seconds from the end of a fault until a run that was another's by then had ended, each.
        restarts: seconds from the death of a server until what it ran was run again, each. Where another server died
            that had the task meanwhile, and had not begun it, they count from when it could have taken it.
        latest: seconds from the acknowledgement until the first run, at most.
    """

    tasks: int
    runs: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    overcharged: tuple[str, ...]
    refused: tuple[str, ...]
    early: tuple[str, ...]
    again: int
    starved: int
    failed: int
    wakings: tuple[float, ...]
    restarts: tuple[float, ...]
    latest: float

    def assert_clean(self) -> None:
        """No promise was broken."""
        assert self.tasks
        assert not self.lost, self.lost
        assert not self.doubled, self.doubled
        assert not self.overcharged, self.overcharged
        assert not self.refused, self.refused
        assert not self.early, self.early

    def restarted_within(self, share: float) -> float:
        """Seconds within which so large a share was restarted; 0 where nothing was."""
        if len(self.restarts) < 2:
            return max(self.restarts, default=0.0)
        return statistics.quantiles(self.restarts, n=1000, method="inclusive")[
            min(int(share * 1000), 998)
        ]


@dataclass(slots=True)
class Ledger:
    """What producers were told, what was done to servers, and what the handlers noted.

    Attributes:
        asked: id -> when the enqueuing began.
        acknowledged: id -> when `enqueue` returned.
        maybe: ids whose enqueuing failed with an unknown outcome.
        refused: ids of which `enqueue` said that nothing was written.
        due: id -> when the task may run at the earliest, where that is later.
        flawed: ids of tasks that must end otherwise than well, or are told to run again: their test judges them.
        taken_away: ids of tasks that the test has deleted.
        forgiven: when the enqueuing of a task began that the server may lose after it has acknowledged it.
        faults: what has befallen the servers.
    """

    folder: Path
    asked: dict[str, float] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    maybe: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    due: dict[str, float] = field(default_factory=dict)
    flawed: set[str] = field(default_factory=set)
    taken_away: set[str] = field(default_factory=set)
    forgiven: list[Span] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    other: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Facts that are no run and no enqueuing, by what they are."""
    well: set[str] = field(default_factory=set)
    """Ids of tasks of which a run has ended well."""
    _open: dict[tuple[int, int], Run] = field(default_factory=dict)
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
        what, at, pid = fact["what"], fact["at"], fact["pid"]
        if what == "start":
            run = Run(fact["id"], fact["server"], pid, fact["retried"], at)
            self.runs[run.task_id].append(run)
            self._open[pid, fact["run"]] = run
        elif what == "end":
            run = self._open.pop((pid, fact["run"]))
            run.ended, run.how = at, fact["how"]
            if run.how == "ok":
                self.well.add(run.task_id)
        elif what == "asks":
            self.asked[fact["id"]] = at
        elif what == "acknowledged":
            self.acknowledged[fact["id"]] = at
        else:
            self.other[what].append(fact)

    def open_runs(self) -> list[Run]:
        """What runs now, in processes that are alive."""
        self.catch_up()
        return list(self._open.values())

    def is_running(self, task_ids: Iterable[str]) -> bool:
        """Whether all these tasks run now."""
        return {run.task_id for run in self.open_runs()}.issuperset(task_ids)

    def running_at(self, server: str) -> int:
        """How many runs a server has now."""
        return sum(run.server == server for run in self.open_runs())

    def has_stalled(self, since: float) -> bool:
        """Whether some process did not get to run for a while since then, as it says itself."""
        self.catch_up()
        return any(fact["at"] > since for fact in self.other["stalled"])

    def missing(self) -> set[str]:
        """Acknowledged tasks of which no run has ended well."""
        self.catch_up()
        return self._unended() - self.gone()

    def gone(self) -> set[str]:
        """Those of which no run has ended well, and the server may have lost them."""
        asked = self.asked
        return {
            task_id
            for task_id in self._unended()
            if is_within(asked.get(task_id, FOR_EVER), self.forgiven)
        }

    def _unended(self) -> set[str]:
        return self.acknowledged.keys() - self.well - self.flawed - self.taken_away

    def ended_well(self, task_ids: Iterable[str]) -> bool:
        """Whether a run of each of these tasks has ended well."""
        self.catch_up()
        return self.well.issuperset(task_ids)

    def runs_of(self, task_id: str) -> list[Run]:
        """All runs of a task so far, in order."""
        self.catch_up()
        return _ordered(self.runs.get(task_id, ()))

    def runs_at(self, server: str) -> list[Run]:
        """All runs at a server so far, in order."""
        self.catch_up()
        return _ordered(run for runs in self.runs.values() for run in runs if run.server == server)

    # --- faults

    def strike(self, kind: FaultKind, server: str = EVERYBODY) -> Fault:
        """A fault begins; its end is to be noted by whoever ends it."""
        fault = Fault(kind, server, time.monotonic())
        self.faults.append(fault)
        return fault

    def died(self, server: str, pid: int, at: float) -> None:
        """A server's process is gone since then at the latest, and all that ran there."""
        self.catch_up()
        self.faults.append(Fault("death", server, at, at))
        for place, run in list(self._open.items()):
            if run.pid == pid and run.server == server:
                run.ended = at
                del self._open[place]

    # --- judging

    def judge(self) -> Verdict:
        """Compare, when nothing happens any more."""
        self.catch_up()
        again, starved, doubled = self._judge_further_runs()
        runs = [run for runs in self.runs.values() for run in runs]
        return Verdict(
            tasks=len(self.acknowledged),
            runs=len(runs),
            lost=some(f"{one}: {self._story(one)}" for one in self.missing()),
            doubled=some(doubled),
            overcharged=some(self._overcharged()),
            refused=some(f"{one}: {self._story(one)}" for one in self.refused & self.runs.keys()),
            early=some(f"{one}: {self._story(one)}" for one in self._early()),
            again=again,
            starved=starved,
            failed=sum(run.how == "failed" for run in runs),
            wakings=tuple(self._wakings()),
            restarts=tuple(self._restarts()),
            latest=max(self._waits(), default=0.0),
        )

    def _story(self, task_id: str) -> str:
        return " ".join(map(str, self.runs.get(task_id, ()))) or "never run"

    def _judge_further_runs(self) -> tuple[int, int, list[str]]:
        """How many were allowed, how many the machine is to blame for, and those that nothing excuses."""
        again, starved, doubled = 0, 0, []
        stalls: dict[int, list[Span]] = defaultdict(list)
        for fact in self.other["stalled"]:
            stalls[fact["pid"]].append((fact["since"], fact["at"]))
        for task_id, runs in self.runs.items():
            if task_id in self.flawed:
                continue
            ordered = _ordered(runs)
            for before, _ in pairwise(ordered):
                if before.how == "failed":
                    continue
                if self._was_struck(before):
                    again += 1
                elif any(_meets(before, *span) for span in stalls[before.pid]):
                    starved += 1
                else:
                    doubled.append(f"{task_id}: {self._story(task_id)}")
        return again, starved, doubled

    def _was_struck(self, run: Run) -> bool:
        """Whether a fault has met it while it was in flight; being asked to end excuses only what was handed back."""
        return any(
            _meets(run, fault.begin, fault.end)
            for fault in self.faults
            if fault.server in (run.server, EVERYBODY)
            and (fault.kind != "stop" or run.how == "cancelled")
        )

    def _overcharged(self) -> Iterable[str]:
        for task_id, runs in self.runs.items():
            failed = 0
            for run in _ordered(runs):
                if run.retried > failed and task_id not in self.flawed:
                    yield f"{task_id}: {self._story(task_id)}"
                failed += run.how == "failed"

    def _early(self) -> Iterable[str]:
        for task_id, due in self.due.items():
            if any(run.began < due - EARLY for run in self.runs.get(task_id, ())):
                yield task_id

    def _wakings(self) -> Iterable[float]:
        now = time.monotonic()
        for fault in self.faults:
            if fault.kind not in ("freeze", "cut") or fault.end == FOR_EVER:
                continue
            for runs in self.runs.values():
                for run in runs:
                    if run.server == fault.server and run.began < fault.end < run.ended:
                        newer = (one for one in runs if run.began < one.began < fault.end)
                        if next(newer, None) is not None:
                            yield min(run.ended, now) - fault.end

    def _restarts(self) -> Iterable[float]:
        recovered: dict[str, list[float]] = defaultdict(list)
        for fact in self.other["recovered"]:
            recovered[fact["id"]].append(fact["at"])
        for task_id, runs in self.runs.items():
            ordered = _ordered(runs)
            for before, after in pairwise(ordered):
                if not before.how and before.ended <= after.began:
                    meanwhile = (before.ended, after.began + NOTED_WITHIN)
                    times = sorted(at for at in recovered[task_id] if is_within(at, [meanwhile]))
                    # what was recovered last led to this run; before that, others may have had it and died
                    yield after.began - [before.ended, *times][max(len(times) - 1, 0)]

    def _waits(self) -> Iterable[float]:
        for task_id, at in self.acknowledged.items():
            runs = self.runs.get(task_id)
            if runs:
                yield min(run.began for run in runs) - max(at, self.due.get(task_id, at))


def _ordered(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.began)


def _meets(run: Run, begin: float, end: float) -> bool:
    return begin <= run.until and run.began <= end


def rounded(values: Sequence[float]) -> dict[str, float]:
    """Median and maximum, as facts show them."""
    if not values:
        return {}
    return {"p50": round(statistics.median(values), 3), "max": round(max(values), 3)}
