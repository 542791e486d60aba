"""The page of the documentation is made from a recorded run, and from nothing else."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import page, recording
from benchmarks.blocks import BLOCKS
from benchmarks.plan import Measure, Program
from benchmarks.plots import Scale, picture
from benchmarks.results import Row
from tests.benchmarks import runs

SVG = "{http://www.w3.org/2000/svg}"


def test_page_has_tables_verdicts_goals_and_versions() -> None:
    template = "# T\n\n<!-- run -->\n<!-- goals -->\n<!-- block streams -->\n<!-- versions -->\n"
    text = page.render(runs.report(runs.usual()), template)
    assert "Taken on 2031-01-31 by `python -m benchmarks --short`" in text
    assert "| pulsewire | 100.0 | 90.0 to 110.0 | 2.00 | 1.50 |  |" in text
    assert "| redis-py | 20.0 | 20.0 to 20.0 | 30.0 | 1.50 | 5.00 x |" in text
    assert "| Go Pulse | 60.0 | 1 round | 10.0 | 1.50 | 1.67 x |" in text
    assert (
        "| speed | pulsewire: 100.0/s | Go Pulse: 60.0/s | at least 2 x | 1.67 x | not met |"
        in text
    )
    assert (
        "| thrift | pulsewire: 2.00 µs | Go Pulse: 10.0 µs | at most 1/3 x | 0.20 x | met |" in text
    )
    assert "1 of 2 are met." in text
    assert "* at least 90 a second: 100.0, met" in text
    assert "Nobody did this." in text
    assert "* server: Valkey 9.1" in text


def test_sentence_may_hold_a_median() -> None:
    template = "It costs {{ made-up | pulsewire | client_us }} µs; {{ made-up | nobody | rate }}."
    assert page.render(runs.report(runs.usual()), template) == "It costs 2.00 µs; -."


@pytest.mark.parametrize("template", ["<!-- unheard -->", "{{ made-up | pulsewire | beauty }}"])
def test_unknown_placeholder_is_refused(template: str) -> None:
    with pytest.raises(page.BadTemplate):
        page.render(runs.report(runs.usual()), template)


def test_block_that_was_not_measured_says_so() -> None:
    assert "nothing of it" in page.render(runs.report(runs.usual()), "<!-- block tasks -->")


def test_budget_is_a_table_and_a_picture(tmp_path: Path) -> None:
    """Of 2 µs a quarter is the kernel's, half of the rest ours; half of the server's 1.5 is its kernel's."""
    report = runs.report(runs.usual(), budgets=[runs.BUDGET])
    text = page.render(report, "<!-- budget -->")
    assert (
        "| µs of one | pulsewire | event loop | kernel | server | server's kernel | together |"
        in text
    )
    assert "| made up, <100> callers | 0.75 | 0.75 | 0.50 | 0.75 | 0.75 | 3.50 |" in text
    [*_, drawn] = page.write(report, tmp_path)
    assert drawn.name == page.BUDGET
    bars = [bar for bar in ET.parse(drawn).iter(f"{SVG}rect") if bar.attrib["height"] == "14"]
    assert len(bars) == 5


def test_page_without_a_budget_says_so() -> None:
    assert "has not looked" in page.render(runs.report(runs.usual()), "<!-- budget -->")


def test_own_template_shows_every_block() -> None:
    """The template beside the generator names what exists, and leaves no block out."""
    template = page.TEMPLATE.read_text(encoding="utf-8")
    page.render(runs.report(runs.usual()), template)
    assert all(f"<!-- block {block} -->" in template for block in BLOCKS)


def test_same_recording_makes_the_same_files(tmp_path: Path) -> None:
    """Also through JSON; and a picture that no longer belongs to the page goes."""
    file = tmp_path / "result.json"
    recording.write(runs.report(runs.usual()), file)
    stale = tmp_path / "a" / page.PICTURES / "gone.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("old")
    first = page.write(runs.report(runs.usual()), tmp_path / "a")
    second = page.write(recording.read(file), tmp_path / "b")
    assert [path.name for path in first] == ["benchmarks.md", "made-up.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert not stale.exists()
    assert "![made up, <100> callers](benchmarks/made-up.svg)" in first[0].read_text()


def test_picture_is_well_formed_and_has_a_row_for_each_contender() -> None:
    drawn = picture(runs.usual())
    assert drawn is not None
    root = ET.fromstring(drawn)
    words = [element.text for element in root.iter(f"{SVG}text")]
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "made up, <100> callers"
    assert {runs.OURS, runs.SLOW, runs.FAST, "100.0", "60.0"} <= set(words)


def test_bars_are_as_long_as_the_figures() -> None:
    """On a linear scale a rate of a fifth has a bar of a fifth."""
    drawn = picture(runs.usual())
    assert drawn is not None
    bars = [
        float(bar.attrib["width"])
        for bar in ET.fromstring(drawn).iter(f"{SVG}rect")
        if bar.attrib["height"] == "14"
    ]
    assert bars[1] / bars[0] == pytest.approx(0.2, rel=0.01)


def test_lone_contender_has_no_picture() -> None:
    assert picture(runs.result(runs.usual().rows[runs.OURS])) is None


def test_latency_shows_both_percentiles() -> None:
    rows = [
        Row(label, program, [{Measure.P50_MS: fast, Measure.P99_MS: late}])
        for label, program, fast, late in (
            (runs.OURS, Program.PULSEWIRE, 1.0, 2.0),
            (runs.FAST, Program.GO_PULSE, 500.0, 900.0),
        )
    ]
    drawn = picture(runs.result(*rows))
    assert drawn is not None
    assert drawn.count("<circle") == 4
    assert "log scale" in drawn


@pytest.mark.parametrize(
    ("values", "is_logarithmic"), [([1.0, 20.0], False), ([1.0, 300.0], True), ([0.0], False)]
)
def test_scale_is_logarithmic_where_figures_lie_far_apart(
    values: list[float], is_logarithmic: bool
) -> None:
    scale = Scale.of(values)
    places = [scale.place(value) for value in sorted(values)]
    assert scale.is_logarithmic is is_logarithmic
    assert places == sorted(places)
    assert all(0.0 <= place <= 1.0 for place in places)
    assert all(0.0 <= scale.place(tick) <= 1.0 for tick in scale.ticks())
