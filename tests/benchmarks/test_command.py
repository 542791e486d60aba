"""The command line: what a run measures, and the page from what was written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import recording
from benchmarks.__main__ import RESULT, parse, print_schema, write_page
from benchmarks.blocks import BLOCKS
from benchmarks.plan import FULL, SHORT, Form, shown_in
from benchmarks.session import COUNTED, Session
from tests.benchmarks import runs


def session_of(form: Form) -> Session:
    """A session that is only asked what it would do."""
    return Session(cast("Any", None), form, {})


def test_short_form_and_its_place_are_the_defaults() -> None:
    options = parse([])
    assert (options.form, options.json) == (SHORT, RESULT)
    assert parse(["--full"]).form is FULL


@pytest.mark.parametrize("form", [SHORT, FULL], ids=lambda form: form.name)
def test_contenders_beside_have_fewer_rounds(form: Form) -> None:
    session = session_of(form)
    for paths in BLOCKS.values():
        for contender in (each for path in paths for each in path.contenders):
            expected = form.rounds_beside if contender.is_beside else form.rounds
            assert session.rounds_of(contender) == (1 if contender.shape in COUNTED else expected)


def test_short_form_is_less_than_half_of_the_full_one() -> None:
    steps = {
        form.name: sum(session_of(form).steps(shown_in(form, paths)) for paths in BLOCKS.values())
        for form in (SHORT, FULL)
    }
    assert steps["short"] * 2 < steps["full"]


def test_page_is_written_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    recording.write(runs.report(runs.usual()), file)
    write_page([str(file), "--into", str(tmp_path / "docs")])
    said = capsys.readouterr().out.splitlines()
    assert said == [
        str(tmp_path / "docs" / "benchmarks.md"),
        str(tmp_path / "docs" / "benchmarks" / "made-up.svg"),
    ]
    assert all(Path(line).is_file() for line in said)


def test_file_that_is_no_recording_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="cannot be read"):
        write_page([str(tmp_path / "nothing.json"), "--into", str(tmp_path)])
    assert not (tmp_path / "benchmarks.md").exists()


def test_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_schema([])
    assert json.loads(capsys.readouterr().out) == recording.schema()
