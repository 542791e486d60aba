"""The end of a run: as tables and sentences for people, as one document for programs."""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict

from pulsewire.cli import render
from pulsewire.cli.chaos.plan import ChaosPlan, Weather
from pulsewire.cli.chaos.verdict import BlockRow, ChaosVerdict

__all__ = ["as_data", "show"]

_FIELDS = tuple(field.name for field in dataclasses.fields(BlockRow))
_HEADINGS = (*_FIELDS[:-1], "again, explained")


def as_data(plan: ChaosPlan, verdict: ChaosVerdict) -> dict[str, object]:
    """Return what programs are told."""
    return {
        "seed": plan.seed,
        "seconds": plan.seconds,
        "holds": verdict.holds,
        "problems": list(verdict.problems),
        "blocks": [dataclasses.asdict(row) for row in verdict.rows],
        "faults": {
            what.value: {"count": len(recoveries), **_times(recoveries)}
            for what, recoveries in _recoveries(verdict).items()
        },
        "recovery_bound": plan.recovery,
        "late": verdict.late,
    }


def show(plan: ChaosPlan, verdict: ChaosVerdict) -> None:
    """Print what people are told."""
    render.say()
    rows = [tuple(str(getattr(row, name)) for name in _FIELDS) for row in verdict.rows]
    render.table(_HEADINGS, rows, numbers=_HEADINGS[1:])
    render.say()
    render.table(
        ("fault", "times", "recovery p50", "longest"),
        [
            (
                what.value,
                str(len(found)),
                f"{statistics.median(found):.2f} s",
                f"{max(found):.2f} s",
            )
            for what, found in _recoveries(verdict).items()
        ],
        numbers=("times", "recovery p50", "longest"),
    )
    render.say()
    if verdict.holds:
        render.say(
            f"It holds: nothing lost, nothing done twice without a reason, all worked again within "
            f"{plan.recovery:g} s. Seed {plan.seed}.",
            style="bold green",
        )
    for problem in verdict.problems:
        render.fail(problem)
    if not verdict.holds:
        render.note(f"`pulsewire chaos --seed {plan.seed}` draws the same faults.")


def _recoveries(verdict: ChaosVerdict) -> dict[Weather, list[float]]:
    found: dict[Weather, list[float]] = defaultdict(list)
    for strike in verdict.strikes:
        if strike.recovered is not None:
            found[strike.what].append(strike.recovered)
    return dict(found)


def _times(recoveries: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(recoveries), 3), "max": round(max(recoveries), 3)}
