"""Measured numbers of the weather tests: printed, and noted in the file that `PULSEWIRE_WEATHER_REPORT` names."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from tests.weather.ledger import Verdict

REPORT = os.environ.get("PULSEWIRE_WEATHER_REPORT")


def note(kind: str, delays: Sequence[float], verdicts: Sequence[Verdict], tries: int = 0) -> None:
    """Say what was measured: seconds until events flowed again, and what became of them."""
    facts = {
        "kind": kind,
        "tries": len(delays) or tries,
        "p50": round(statistics.median(delays), 3) if delays else None,
        "max": round(max(delays), 3) if delays else None,
        "acknowledged": sum(verdict.added for verdict in verdicts),
        "lost": sum(len(verdict.lost) for verdict in verdicts),
        "vanished": sum(len(verdict.vanished) for verdict in verdicts),
        "crossed": sum(len(verdict.crossed) for verdict in verdicts),
        "published_twice": sum(len(verdict.published_twice) for verdict in verdicts),
        "duplicates": sum(verdict.duplicates for verdict in verdicts),
        "uncertain": sum(verdict.uncertain for verdict in verdicts),
        "refused": sum(verdict.refused for verdict in verdicts),
    }
    print(facts)
    if REPORT:
        with Path(REPORT).open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")


def note_fact(kind: str, facts: dict[str, object]) -> None:
    """Say what else was measured."""
    print(kind, facts)
    if REPORT:
        with Path(REPORT).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **facts}) + "\n")
