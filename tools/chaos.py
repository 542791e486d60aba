"""Runs the fault suite in full, one proof after the other, and says what became of each fault.

Each proof is a run of pytest in a process of its own, with the seed that is printed; `--seed` repeats what was drawn.
What the tests measure comes in a file of JSON lines (`tests/weather/report.py`), is added up here, and goes into
`.cache/chaos/result.json` after every proof, so that a run that is broken off has said something. What pytest prints
is beside it, a file for each proof.

    make chaos                                       all of it, for hours
    make chaos ARGS="--fault F1 --block tasks --tries 20"
    make chaos ARGS="--markdown"                     the table of docs/guarantees.md, with what was measured last
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.weather.suite import FAULTS, PROOFS, Proof, chosen

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".cache/chaos"
COUNTS = ("tries", "acts", "lost", "gone", "doubled", "again", "owners", "wrong")
"""Of a tally, what is added up."""
FAILURES = ("lost", "doubled", "owners", "wrong")
"""Of these, what must be nothing."""
HEADINGS = (
    "fault",
    "block",
    "tries",
    "lost",
    "doubled",
    "owners",
    "p50",
    "p99",
    "max",
    "bound",
    "",
)
NEVER = "not measured yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came out for one fault and one block.

    Attributes:
        tests: the proof's tests.
        has_passed: whether all of them passed.
        recovery: p50, p99, max, count, and the bound; empty where nothing was to recover.
        holds: they passed, nothing was lost, doubled or had two owners, and the bound was kept.
    """

    fault: str
    block: str
    tests: Sequence[str]
    seed: int
    seconds: float
    counts: Mapping[str, int]
    recovery: Mapping[str, float | None]
    has_passed: bool
    holds: bool

    def cells(self) -> list[str]:
        """As a line of the table."""
        shown = [str(self.counts[name]) for name in ("tries", "lost", "doubled", "owners")]
        times = [_seconds(self.recovery.get(name)) for name in ("p50", "p99", "max", "bound")]
        return [self.fault, self.block, *shown, *times, "holds" if self.holds else "BROKEN"]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def add_up(
    proof: Proof, lines: Iterable[Mapping[str, Any]], *, has_passed: bool, seed: int, seconds: float
) -> list[Row]:
    """One row for each block that was measured; one for the proof where nothing was."""
    tallies: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if "tally" in line:
            tallies.setdefault(line["tally"]["block"], []).append(line["tally"])
    rows = []
    for block, several in (tallies or {proof.block: []}).items():
        counts = {name: sum(tally[name] for tally in several) for name in COUNTS}
        recovery = _recovery([one for tally in several for one in tally["recoveries"]], proof)
        worst, bound = recovery.get("p99"), recovery.get("bound")
        is_in_time = worst is None or bound is None or worst <= bound
        rows.append(
            Row(
                fault=proof.fault,
                block=block,
                tests=proof.tests,
                seed=seed,
                seconds=round(seconds, 1),
                counts=counts,
                recovery=recovery,
                has_passed=has_passed,
                holds=has_passed and is_in_time and not any(counts[name] for name in FAILURES),
            )
        )
    return rows


def _recovery(recoveries: Sequence[float], proof: Proof) -> dict[str, float | None]:
    if not recoveries:
        return {}
    ordered = sorted(recoveries)
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 3),
        "p99": ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)],
        "max": ordered[-1],
        "bound": proof.recovery,
    }


def run(proof: Proof, seed: int, *, tries: int | None, seconds: float | None) -> list[Row]:
    """Run the tests of one proof."""
    name = f"{proof.fault}-{proof.block.replace(', ', '-')}"
    report, log = FOLDER / f"{name}.jsonl", FOLDER / f"{name}.log"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PULSEWIRE_SEED": str(seed),
        "PULSEWIRE_WEATHER_REPORT": str(report),
    }
    if how_often := tries or proof.tries:
        environment["PULSEWIRE_TRIES"] = str(how_often)
    if how_long := seconds or proof.seconds:
        environment["PULSEWIRE_SECONDS"] = str(how_long)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        code = subprocess.call(
            (sys.executable, "-m", "pytest", "-s", *(f"tests/{test}" for test in proof.tests)),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    return add_up(
        proof,
        map(json.loads, text.splitlines()),
        has_passed=code == 0,
        seed=seed,
        seconds=time.monotonic() - began,
    )


def write(rows: Sequence[Row], seed: int, path: Path) -> None:
    """Write the result, whole or not at all. What was measured before of other faults and blocks stays."""
    fresh = {(row.fault, *row.tests) for row in rows}
    kept = [row for row in read(path) if (row["fault"], *row["tests"]) not in fresh]
    found = [*kept, *(asdict(row) for row in rows)]
    document = {
        "seed": seed,
        "holds": all(row["holds"] for row in found),
        "rows": sorted(found, key=lambda row: (int(row["fault"][1:]), row["block"])),
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of the last results."""
    if not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return found


def show(lines: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip(), flush=True)


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fault suite as the guarantees show it."""
    lines = [
        "| fault | what must hold | block | what changes it | test | last measured |",
        "|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        what, bound = f"{fault.number} {fault.what}", fault.bound
        for proof in PROOFS:
            if proof.fault == fault.number:
                tests = "; ".join(_grouped(proof.tests))
                measured = _measured(proof, rows)
                lines.append(
                    f"| {what} | {bound} | {proof.block} | {proof.setting} | {tests} | {measured} |"
                )
                what = bound = ""
    return lines


def _grouped(tests: Iterable[str]) -> list[str]:
    """Each test once, with its kinds."""
    kinds: dict[str, list[str]] = {}
    for test in tests:
        name, _, kind = test.removesuffix("]").partition("[")
        kinds.setdefault(name, []).append(kind.replace("-", " "))
    return [
        f"`{name}`" + (f" ({', '.join(found)})" if any(found) else "")
        for name, found in kinds.items()
    ]


def _measured(proof: Proof, rows: Sequence[Mapping[str, Any]]) -> str:
    own = [row for row in rows if row["fault"] == proof.fault and row["tests"] == list(proof.tests)]
    if not own:
        return NEVER
    return "; ".join(_in_words(row) for row in own)


def _in_words(row: Mapping[str, Any]) -> str:
    counts, recovery = row["counts"], row["recovery"]
    if not counts["tries"]:
        return "passed" if row["holds"] else "**failed**"
    words = [f"{row['block']}: {counts['tries']:,} tries", f"lost {counts['lost']}"]
    words += [f"{name} {counts[name]}" for name in ("doubled", "owners", "wrong") if counts[name]]
    words += [f"{counts['gone']:,} gone with the server's data"] if counts["gone"] else []
    if recovery:
        words.append(f"p50 {recovery['p50']:.2f}, p99 {recovery['p99']:.2f} s")
    return ", ".join([*words, *([] if row["holds"] else ["**broken**"])])


def main(arguments: Sequence[str]) -> int:
    """0 if all holds."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--fault", default="", help="only these, such as F1,F2")
    parser.add_argument("--block", default="", help="only these, such as streams,all")
    parser.add_argument("--tries", type=int, help="how often, instead of what the suite says")
    parser.add_argument("--seconds", type=float, help="how long what is counted in time lasts")
    parser.add_argument("--seed", type=int, help="repeats what was drawn in a run")
    parser.add_argument("--result", type=Path, default=FOLDER / "result.json")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--markdown", action="store_true", help="the table of the documents")
    options = parser.parse_args(arguments)
    if options.markdown:
        print("\n".join(markdown(read(options.result))))
        return 0
    proofs = chosen(_split(options.fault), _split(options.block))
    if not proofs:
        parser.error("the suite has no such fault and block: see --list")
    if options.list:
        show([["fault", "block", "tests"], *([p.fault, p.block, p.tests[0]] for p in proofs)])
        return 0
    return run_all(proofs, options)


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def run_all(proofs: Sequence[Proof], options: argparse.Namespace) -> int:
    """Run them one after the other; 0 if all hold."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    seed = options.seed or random.SystemRandom().randrange(1, 2**31)
    print(f"{len(proofs)} proofs, seed {seed}; what each prints is in {FOLDER}", flush=True)
    rows: list[Row] = []
    for number, proof in enumerate(proofs, 1):
        fresh = run(proof, seed, tries=options.tries, seconds=options.seconds)
        rows += fresh
        write(rows, seed, options.result)
        for row in fresh:
            print(
                f"{number}/{len(proofs)}",
                "  ".join(row.cells()),
                f"{row.seconds:.0f} s",
                flush=True,
            )
    show([HEADINGS, *(row.cells() for row in rows)])
    broken = [row for row in rows if not row.holds]
    print("It holds." if not broken else f"{len(broken)} are broken; seed {seed}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
