"""The end of the demo in words."""

from __future__ import annotations

import pytest

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.tickets import summary
from pulsewire.cli.demo.tickets.progress import ConsumerRow
from pulsewire.cli.demo.tickets.verdict import Reason, Repeat, Verdict

ROWS = [
    ConsumerRow(number=1, pid=11, fate=Fate.STOPPED, handled=1200, taken_over=1),
    ConsumerRow(number=2, pid=12, fate=Fate.KILLED, handled=300, taken_over=0),
]


def verdict(*problems: str) -> Verdict:
    return Verdict(
        problems=problems,
        published=1500,
        replayed=1500,
        handled=1500,
        lost=(),
        repeats=(Repeat("1-0", "7", 2, Reason.KILLED),),
        taken_over=2,
        while_publishing=100,
    )


def test_each_line_of_the_check_has_its_number() -> None:
    lines = {
        finding.what: finding.result
        for finding in summary.findings(verdict(), left_behind=2, seconds=30.0)
    }
    assert lines["handled"] == "1,500"
    assert lines["lost"] == "0"
    assert lines["in the hands of the killed consumer"] == "2"
    assert lines["taken over from another consumer"] == "2"
    assert lines["handled twice"] == "1"
    assert lines["  1 because"] == Reason.KILLED.value
    assert lines["time"] == "30.0 s, 50 tickets/s"


def test_a_promise_kept_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    summary.show(verdict(), ROWS, left_behind=2, seconds=30.0)
    printed = capsys.readouterr()
    assert "It holds" in printed.out
    assert "2   12      300           0  killed" in printed.out
    assert printed.err == ""


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    summary.show(
        verdict("3 events never handled by anybody: 1-0"), ROWS, left_behind=2, seconds=30.0
    )
    printed = capsys.readouterr()
    assert "It holds" not in printed.out
    assert printed.err == "error: 3 events never handled by anybody: 1-0\n"
