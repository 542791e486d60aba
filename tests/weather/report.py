"""Measured numbers of the weather tests: printed, and noted in the file that `PULSEWIRE_WEATHER_REPORT` names.

Each line of the file is a JSON object: what was done, with which seed, the facts of that block, and a `Tally`, which is
the same for all blocks and what `make chaos` adds up.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.weather.ledger import Verdict
from tests.weather.seeds import SEED

REPORT = os.environ.get("PULSEWIRE_WEATHER_REPORT")
MOST = 1000
"""Recoveries in a line. Of more, evenly chosen ones stand for all; the longest is always among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What can be said of every block alike.

    Attributes:
        block: streams, maps, pools or tasks; or what else was hit.
        tries: how often the fault came.
        acts: events, writes, jobs or tasks that were acknowledged.
        lost: of these.
        gone: of these, lost by the server, which had not written or replicated them.
        doubled: done twice, and nothing explains it.
        again: done twice, and the fault explains it.
        owners: times that two owners which may act had the same thing.
        wrong: anything else that must not be: crossed replies, refused and done all the same, and so on.
        recoveries: seconds until all went on, each time.
    """

    block: str
    tries: int
    acts: int
    lost: int = 0
    gone: int = 0
    doubled: int = 0
    again: int = 0
    owners: int = 0
    wrong: int = 0
    recoveries: Sequence[float] = ()


def note(kind: str, delays: Sequence[float], verdicts: Sequence[Verdict], tries: int = 0) -> None:
    """Say what was measured of streams: seconds until events flowed again, and what became of them."""

    def count(*names: str) -> int:
        return sum(len(getattr(verdict, name)) for verdict in verdicts for name in names)

    tally = Tally(
        block="streams",
        tries=len(delays) or tries,
        acts=sum(verdict.added for verdict in verdicts),
        lost=count("lost", "missed"),
        gone=count("vanished"),
        doubled=count("unexplained", "published_twice"),
        again=sum(verdict.duplicates for verdict in verdicts) - count("unexplained"),
        wrong=count("crossed", "ghosts"),
        recoveries=delays,
    )
    facts: dict[str, object] = {
        "tries": tally.tries,
        "p50": round(statistics.median(delays), 3) if delays else None,
        "max": round(max(delays), 3) if delays else None,
        "acknowledged": tally.acts,
        "lost": count("lost"),
        "vanished": count("vanished"),
        "crossed": count("crossed"),
        "published_twice": count("published_twice"),
        "duplicates": sum(verdict.duplicates for verdict in verdicts),
        "uncertain": sum(verdict.uncertain for verdict in verdicts),
        "refused": sum(verdict.refused for verdict in verdicts),
    }
    note_fact(kind, facts, tally)


def note_fact(kind: str, facts: Mapping[str, object], tally: Tally | None = None) -> None:
    """Say what was measured."""
    print(kind, f"seed {SEED}", facts)
    if REPORT:
        line: dict[str, object] = {"kind": kind, "seed": SEED, **facts}
        if tally is not None:
            line["tally"] = {**asdict(tally), "recoveries": _thinned(tally.recoveries)}
        with Path(REPORT).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _thinned(recoveries: Sequence[float]) -> list[float]:
    ordered = sorted(round(seconds, 3) for seconds in recoveries)
    step = max(len(ordered) / MOST, 1.0)
    return [ordered[-1 - int(number * step)] for number in range(min(len(ordered), MOST))]
