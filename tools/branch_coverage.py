"""Says how much of the four blocks the tests have gone through, and whether that is enough.

`make coverage` gives it the report of coverage.py as JSON. Branches count alone here: a line that is easily reached
must not make up for a decision of which only one side was seen. The report above the table names what is missing.
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

BLOCKS = ("streaming", "rmap", "pool", "tasks")
LEAST = 95.0
"""Percent of the branches of each block."""


@dataclass(slots=True)
class Sum:
    """What the files of one block add up to."""

    statements: int = 0
    statements_run: int = 0
    branches: int = 0
    branches_taken: int = 0

    @property
    def percent_of_statements(self) -> float:
        """How many of the statements have run."""
        return 100.0 * self.statements_run / self.statements if self.statements else 0.0

    @property
    def percent_of_branches(self) -> float:
        """How many of the branches were taken."""
        return 100.0 * self.branches_taken / self.branches if self.branches else 0.0


def sums(report: Path) -> dict[str, Sum]:
    """The sum of each block, from a JSON report of coverage.py."""
    found = {block: Sum() for block in BLOCKS}
    for name, file in json.loads(report.read_text(encoding="utf-8"))["files"].items():
        parts = Path(name).parts
        block = parts[parts.index("pulsewire") + 1]
        if block in found:
            added, total = file["summary"], found[block]
            total.statements += added["num_statements"]
            total.statements_run += added["covered_lines"]
            total.branches += added["num_branches"]
            total.branches_taken += added["covered_branches"]
    return found


def main(report: str) -> int:
    """Print the table. The exit code is 1 when a block has too few of its branches taken."""
    found = sums(Path(report))
    print(f"\nPython {platform.python_version()}")
    print("| block | statements | run | branches | taken |")
    print("|---|---:|---:|---:|---:|")
    for block, total in found.items():
        print(
            f"| `{block}` | {total.statements} | {total.percent_of_statements:.1f}% "
            f"| {total.branches} | {total.percent_of_branches:.1f}% |"
        )
    short = [block for block, total in found.items() if total.percent_of_branches < LEAST]
    if short:
        print(f"\nFewer than {LEAST:g}% of the branches were taken in: {', '.join(short)}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
