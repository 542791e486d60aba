"""The verdict on the coverage of the four blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.branch_coverage import BLOCKS, main


def report_of(folder: Path, **taken: int) -> str:
    """A report in which each block has two files with 100 branches together; how many of them were taken."""
    files = {}
    for block in BLOCKS:
        for part, name in enumerate(("one.py", "two.py")):
            count = taken.get(block, 100)
            files[f"src/pulsewire/{block}/{name}"] = {
                "summary": {
                    "num_statements": 10,
                    "covered_lines": 9,
                    "num_branches": 50,
                    "covered_branches": min(max(count - 50 * part, 0), 50),
                }
            }
    files["src/pulsewire/hub.py"] = {
        "summary": {
            "num_statements": 5,
            "covered_lines": 0,
            "num_branches": 5,
            "covered_branches": 0,
        }
    }
    report = folder / "coverage.json"
    report.write_text(json.dumps({"files": files}))
    return str(report)


def test_each_block_is_summed_up_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(report_of(tmp_path, pool=97)) == 0
    said = capsys.readouterr().out
    assert "| `pool` | 20 | 90.0% | 100 | 97.0% |" in said
    assert "| `tasks` | 20 | 90.0% | 100 | 100.0% |" in said
    assert "hub" not in said


@pytest.mark.parametrize(("taken", "code"), [(94, 1), (95, 0)])
def test_no_block_may_be_below_the_least(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], taken: int, code: int
) -> None:
    """However well the others do, and however many statements have run."""
    assert main(report_of(tmp_path, rmap=taken)) == code
    assert ("were taken in: rmap" in capsys.readouterr().out) == bool(code)


def test_block_that_was_not_measured_is_too_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "coverage.json"
    report.write_text('{"files": {}}')
    assert main(str(report)) == 1
    assert ", ".join(BLOCKS) in capsys.readouterr().out
