"""A run is written as JSON and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import recording
from benchmarks.plan import MEANINGS, Measure
from tests.benchmarks import runs


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Every round, every target and every failure survives, so the verdicts are the same."""
    broken = runs.result(runs.usual().rows[runs.OURS], runs.row(runs.FAST, failure="no Go"))
    report = runs.report(runs.usual(), broken, budgets=[runs.BUDGET])
    file = tmp_path / "deep" / "result.json"
    recording.write(report, file)
    found = recording.read(file)
    assert (found.run, found.environment) == (report.run, report.environment)
    assert list(found.budgets) == [runs.BUDGET]
    assert [each.rows for each in found.results] == [each.rows for each in report.results]
    assert [each.block for each in found.results] == ["streams", "streams"]
    assert [each.verdicts() for each in found.results] == [
        each.verdicts() for each in report.results
    ]
    assert recording.encode(found) == recording.encode(report)


def test_json_has_medians_and_verdicts_for_other_programs() -> None:
    written = json.loads(recording.encode(runs.report(runs.usual())))
    [path] = written["paths"]
    ours, *_ = path["contenders"]
    assert ours["figures"]["rate"] == {"median": 100.0, "low": 90.0, "high": 110.0}
    assert [round_["rate"] for round_ in ours["rounds"]] == [90.0, 100.0, 110.0]
    assert [target["met"] for target in path["targets"]] == [False, True, True]
    assert written["measures"] == {str(measure): text for measure, text in MEANINGS.items()}


def test_every_measure_says_what_it_means() -> None:
    assert set(MEANINGS) == set(Measure)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ('{"schema": 1, "paths": []}', "has schema 1"),
        ('{"schema": 2, "paths": []}', "cannot be read"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "result.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(recording.UnreadableRecording, match=says):
        recording.read(file)


def test_schema_names_every_field_that_is_written() -> None:
    """The printed schema describes what is really in a file."""
    described = recording.schema()["$defs"]
    written = json.loads(recording.encode(runs.report(runs.usual(), budgets=[runs.BUDGET])))
    [path] = written["paths"]
    for name, found in (
        ("Recording", written),
        ("Run", written["run"]),
        ("RecordedPath", path),
        ("RecordedContender", path["contenders"][0]),
        ("RecordedTarget", path["targets"][0]),
        ("Budget", written["budgets"][0]),
    ):
        assert set(described[name]["properties"]) == set(found), name
