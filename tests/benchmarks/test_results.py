"""From rounds to medians and verdicts: the judging, without a clock."""

from __future__ import annotations

import pytest

from benchmarks.plan import Measure, Program, Target
from benchmarks.results import PathResult, Row, noise_report, percentile
from tests.benchmarks import runs


def test_median_and_range_come_from_the_rounds_that_have_the_measure() -> None:
    row = Row("a", Program.PLAIN, [{Measure.RATE: 3.0}, {Measure.RATE: 9.0}, {Measure.NS: 1.0}])
    figure = row.figure(Measure.RATE)
    assert figure is not None
    assert (figure.median, figure.low, figure.high) == (6.0, 3.0, 9.0)
    assert row.figure(Measure.P50_MS) is None
    assert row.total(Measure.RATE) == 12.0
    assert row.total(Measure.STALLED) is None


def test_ratio_is_taken_against_the_best_peer() -> None:
    """More is better for a rate, less for a cost: another peer is the best each time."""
    speed, thrift, absolute = runs.usual().verdicts()
    assert speed.found == pytest.approx(100 / 60)
    assert (speed.best_label, speed.is_met) == (runs.FAST, False)
    assert thrift.found == pytest.approx(0.2)
    assert (thrift.best, thrift.is_met) == (10.0, True)
    assert (absolute.found, absolute.best, absolute.is_met) == (100.0, None, True)


def test_difference_is_compared_instead_of_a_ratio() -> None:
    target = Target("", runs.OURS, Measure.RATE, 30.0, False, (runs.FAST,), True)
    usual = runs.usual()
    path = type(usual.path)("k", "t", "u", (), (target,), runs.OURS)
    [verdict] = PathResult("streams", path, usual.rows).verdicts()
    assert (verdict.found, verdict.is_met) == (40.0, False)


@pytest.mark.parametrize("missing", [runs.OURS, runs.FAST])
def test_what_was_not_measured_is_neither_met_nor_missed(missing: str) -> None:
    """Without us there is nothing to judge; without a peer the others still count."""
    rows = [each for each in runs.usual().rows.values() if each.label != missing]
    speed, *_ = runs.result(*rows).verdicts()
    if missing == runs.OURS:
        assert (speed.is_met, speed.word) == (None, "not measured")
    else:
        assert (speed.best_label, speed.is_met) == (runs.SLOW, True)


def test_target_without_any_measured_peer_is_not_measured() -> None:
    only_ours = runs.result(runs.usual().rows[runs.OURS], runs.row(runs.FAST, failure="no Go"))
    speed, thrift, absolute = only_ours.verdicts()
    assert (speed.word, thrift.word) == ("not measured", "not measured")
    assert absolute.is_met


def test_goals_are_the_targets_that_have_a_name_among_them() -> None:
    goals = runs.report(runs.usual()).goals()
    assert [verdict.target.goal for verdict in goals] == ["speed", "thrift"]


def test_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("rounds", "says"),
    [
        ([runs.sample(100, 1.0), runs.sample(101, 1.0)], "quiet enough: 0 of 1 rows"),
        ([runs.sample(100, 1.0), runs.sample(150, 1.0)], "noisy: 1 of 1 rows"),
        ([runs.sample(100, 1.0, foreign=0.4)], "noisy: 0 of 1 rows"),
    ],
)
def test_noise_is_told_by_spread_and_by_what_others_used(
    rounds: list[dict[Measure, float]], says: str
) -> None:
    assert says in noise_report([runs.result(runs.row(runs.OURS, *rounds))])


def test_noise_of_others_may_be_unknown() -> None:
    row = Row(runs.OURS, Program.PULSEWIRE, [{Measure.RATE: 1.0}])
    assert "not known" in noise_report([runs.result(row)])
