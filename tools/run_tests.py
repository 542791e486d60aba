"""Runs all tests beside each other, and then once more alone those few that failed.

Many tests are about time: leases, graces, takeovers, handlers that are cancelled. Beside others on a small or busy
machine a process may not get to run for seconds, and then such a test sees what no user would. A test that holds alone
passes, and its first failure stays in the output; one that fails alone as well fails. Many failures are not bad luck:
they fail at once. Tests that draw what they do draw the same the second time, so that no other draw hides a failure.
With arguments of your own for pytest nothing is run twice.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

LAST_FAILED = Path(__file__).resolve().parents[1] / ".cache/pytest/v/cache/lastfailed"
FEW = 5
SECONDS = 900
FAILED = 1
"""pytest's exit code when all tests ran and some failed."""

SEEDS = ("PULSEWIRE_SEED", "PULSEWIRE_TEST_SEED", "PULSEWIRE_HISTORY_SEED")
"""What tests take their seeds from."""
PYTEST = (sys.executable, "-m", "pytest", "-m", "not slow")


def main(workers: str, *arguments: str) -> int:
    """The exit code of pytest."""
    beside = ("-n", workers, "--dist", "loadfile", "--no-loadscope-reorder")
    if arguments:
        return subprocess.call((*PYTEST, *beside, *arguments))
    for name in SEEDS:
        os.environ.setdefault(name, str(secrets.randbits(31)))
    try:
        code = subprocess.call((*PYTEST, *beside, "--cache-clear"), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"The tests did not end within {SECONDS} s.", file=sys.stderr)
        return FAILED
    failed = json.loads(LAST_FAILED.read_text()) if LAST_FAILED.exists() else {}
    if code != FAILED or not 0 < len(failed) <= FEW:
        return code
    print(f"\nOnce more, alone: {', '.join(failed)}", flush=True)
    return subprocess.call((*PYTEST, "--last-failed", "--last-failed-no-failures", "none"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
