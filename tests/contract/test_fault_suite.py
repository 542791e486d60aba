"""The fault suite names tests that are there, the guarantees show it as it is, and its judge can say no."""

from __future__ import annotations

import importlib
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.weather.suite import FAULTS, PROOFS, Proof
from tools.chaos import add_up, markdown

PAGE = Path(__file__).parents[2] / "docs/guarantees.md"
TALLY = {"block": "streams", "tries": 3, "acts": 100, "lost": 0, "gone": 0, "doubled": 0}
TALLY_TOO = {"again": 1, "owners": 0, "wrong": 0, "recoveries": [0.5, 1.0]}
PROOF = Proof(fault="F1", block="streams", tests=("weather/test_x.py::test_y",), recovery=3.0)


def ids_of(test: Any) -> set[str]:
    """The ids under which pytest runs a test, as far as it is parametrized by marks."""
    several = []
    for mark in test.pytestmark:
        if mark.name == "parametrize":
            given = mark.kwargs.get("ids") or [None] * len(mark.args[1])
            names = map(given, mark.args[1]) if callable(given) else given
            values = zip(mark.args[1], names, strict=True)
            several.append([str(name or getattr(value, "id", value)) for value, name in values])
    return {"-".join(parts) for parts in product(*several)}


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: f"{proof.fault}-{proof.block}")
def test_every_proof_is_there(proof: Proof) -> None:
    """File, test and kind."""
    for name in proof.tests:
        path, _, rest = name.partition("::")
        test_name, _, kind = rest.removesuffix("]").partition("[")
        module = importlib.import_module(f"tests.{path.removesuffix('.py').replace('/', '.')}")
        test = getattr(module, test_name)
        assert not kind or kind in ids_of(test), name


def test_every_fault_has_a_proof() -> None:
    """And every proof belongs to a fault that is said."""
    numbers = [fault.number for fault in FAULTS]
    assert len(set(numbers)) == len(numbers)
    assert {proof.fault for proof in PROOFS} == set(numbers)


def test_guarantees_show_the_suite_as_it_is() -> None:
    """All but what was measured; `make chaos ARGS=--markdown` prints the table."""
    there = {line.rpartition(" | ")[0] for line in PAGE.read_text(encoding="utf-8").splitlines()}
    missing = [line for line in markdown([]) if line.rpartition(" | ")[0] not in there]
    assert not missing


def test_good_run_holds() -> None:
    """What the judge adds up."""
    line = {"tally": TALLY | TALLY_TOO}
    (row,) = add_up(PROOF, [line, line, {"kind": "a remark"}], has_passed=True, seed=1, seconds=2.0)
    assert row.holds
    assert row.counts["tries"] == 6
    assert row.counts["again"] == 2
    assert row.recovery == {"count": 4, "p50": 0.75, "p99": 1.0, "max": 1.0, "bound": 3.0}


@pytest.mark.parametrize(
    ("has_passed", "flaw"),
    [
        pytest.param(False, {}, id="a-test-failed"),
        pytest.param(True, {"lost": 1}, id="lost"),
        pytest.param(True, {"doubled": 1}, id="doubled"),
        pytest.param(True, {"owners": 1}, id="two-owners"),
        pytest.param(True, {"wrong": 1}, id="wrong"),
        pytest.param(True, {"recoveries": [3.5]}, id="too-late"),
    ],
)
def test_bad_run_does_not_hold(has_passed: bool, flaw: dict[str, object]) -> None:
    """The judge sees each breach, whatever pytest says."""
    rows = add_up(
        PROOF, [{"tally": TALLY | TALLY_TOO | flaw}], has_passed=has_passed, seed=1, seconds=2.0
    )
    assert not any(row.holds for row in rows)


def test_run_that_measured_nothing_is_told_of() -> None:
    """A proof whose tests failed before they had anything to say has a row as well."""
    (row,) = add_up(PROOF, [], has_passed=False, seed=1, seconds=2.0)
    assert not row.holds
    assert row.cells()[2:6] == ["0", "0", "0", "0"]


def test_blocks_of_one_run_have_a_row_each() -> None:
    """Where all blocks are hit at once, each is counted by itself."""
    lines = [{"tally": TALLY | TALLY_TOO | {"block": block}} for block in ("maps", "pools")]
    rows = add_up(PROOF, lines, has_passed=True, seed=1, seconds=2.0)
    assert [row.block for row in rows] == ["maps", "pools"]
