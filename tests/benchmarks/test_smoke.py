"""The benchmarks run: our own contenders of every block, for next to no time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import recording
from benchmarks.blocks import BLOCKS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", BLOCKS)
def test_our_own_contenders_can_be_measured(block: str, tmp_path: Path) -> None:
    """No peer is needed for that, and no figure is judged."""
    file = tmp_path / "result.json"
    options = ["--smoke", "--path", block, "--no-budget", "--json", str(file)]
    options += ["--only", "pulsewire", "--only", "plain", "--only", "probe"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row for result in recording.read(file).results for row in result.rows.values()]
    assert rows
    assert not [(row.label, row.failure) for row in rows if row.failure or not row.samples]
