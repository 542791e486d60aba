"""What the act with a pool counts, and how it says it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import Arrived, Handled, JobBegan, JobOver
from pulsewire.cli.demo.pool import summary
from pulsewire.cli.demo.pool.plan import PoolPlan
from pulsewire.cli.demo.pool.progress import PoolProgress
from pulsewire.cli.demo.pool.verdict import PoolVerdict
from pulsewire.cli.demo.pool.view import picture, plain_line
from pulsewire.cli.demo.runs import Run
from pulsewire.cli.demo.view import View


def began(job: str, token: int, at: float = 1.0) -> JobBegan:
    """A line of a journal."""
    return JobBegan(job=job, token=token, at=at)


@pytest.fixture
def progress() -> PoolProgress:
    """Two nodes, three jobs; node 2 was killed, and node 1 has taken one of its two jobs over."""
    found = PoolProgress(3)
    for number in (1, 2):
        found.add_node(number, 100 + number)
        found.from_node(number, [Arrived(pid=100 + number)])
    found.from_node(1, [began("a", 11)])
    found.from_node(2, [began("b", 12), began("c", 13)])
    assert found.died(2, 5.0) == 2
    found.from_node(1, [began("b", 14, 7.0)])
    found.started = 3
    found.tell(5.0, "killed node 2")
    return found


def test_runs_end_with_their_node(progress: PoolProgress) -> None:
    runs = {(run.job, run.token): run for run in progress.runs}
    assert runs["b", 12] == Run(job="b", node=2, token=12, began=1.0, ended=5.0)
    assert runs["b", 14].ended is None
    progress.from_node(1, [JobOver(job="b", token=14, at=9.0)])
    assert progress.running_at(1) == 1
    assert {run.ended for run in progress.runs} == {None, 5.0, 9.0}


def test_rows_say_what_came_from_other_nodes(progress: PoolProgress) -> None:
    first, second = progress.rows()
    assert (first.running, first.begun, first.taken, first.fate) == (2, 2, 1, Fate.WORKING)
    assert (second.running, second.begun, second.taken, second.fate) == (0, 2, 0, Fate.KILLED)


def test_something_goes_on_while_its_step_changes(progress: PoolProgress) -> None:
    steps = {progress.step}
    progress.started += 1
    steps.add(progress.step)
    progress.from_node(1, [began("c", 15)])
    steps.add(progress.step)
    progress.from_node(1, [JobOver(job="c", token=15, at=9.0)])
    steps.add(progress.step)
    progress.add_node(3, 103)
    steps.add(progress.step)
    assert not progress.have_all_arrived
    progress.from_node(3, [Arrived(pid=103)])
    assert progress.have_all_arrived
    steps.add(progress.step)
    assert len(steps) == 6


def test_nodes_handle_no_tickets(progress: PoolProgress) -> None:
    ticket = Handled(event="1-0", ticket="1", consumer="x", started=0, ended=1, deliveries=1)
    with pytest.raises(AssertionError, match="tickets"):
        progress.from_node(1, [ticket])


def test_a_plain_line_says_it_all(progress: PoolProgress) -> None:
    assert plain_line(progress.snapshot(8.0)) == (
        "  8.0 s  started 3/3  running 2/3 (66%)  moves 1  nodes 1"
    )


def test_the_picture_shows_bars_nodes_and_news(progress: PoolProgress) -> None:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(picture(progress.snapshot(8.0)))
    text = console.export_text()
    for part in ("started", "running", "3/3", "66%", "node 1", "pid 102", "killed node 2"):
        assert part in text
    assert "1 from other nodes" in text


def test_elsewhere_than_on_a_terminal_news_are_lines(progress: PoolProgress) -> None:
    output = io.StringIO()
    with View(picture, plain_line, Console(file=output, width=40)) as view:
        view.show(progress.snapshot(0.5))
        view.show(progress.snapshot(1.5))
        view.show(progress.snapshot(1.6))
    first, second = output.getvalue().splitlines()
    assert first == "  5.0 s  killed node 2"
    assert second.startswith("  1.5 s  started 3/3")


def verdict(*problems: str) -> PoolVerdict:
    """A verdict with these problems."""
    return PoolVerdict(
        problems=problems,
        dispatched=400,
        ran=400,
        lost=(),
        overlaps=(),
        taken_over=3,
        takeovers=(1.5, 1.6, 1.75),
        handed_over=100,
    )


def test_each_line_of_the_check_has_its_number() -> None:
    found = summary.findings(verdict(), worker_ttl=2.0, seconds=6.0)
    lines = {finding.what: finding.result for finding in found}
    assert lines["jobs that ran"] == "400"
    assert lines["taken over from the killed node"] == "3"
    assert lines["ran again after the kill"] == "in 1.60 s, the last in 1.75 s; its lease was 2 s"
    assert lines["handed over, stopped first"] == "100"


def test_the_end_says_whether_it_holds(
    progress: PoolProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    summary.show(verdict(), progress.rows(), worker_ttl=2.0, seconds=6.0)
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].startswith("It holds: ")
    assert told.err == ""
    summary.show(verdict("1 jobs were lost: a"), progress.rows(), worker_ttl=2.0, seconds=6.0)
    told = capsys.readouterr()
    assert "It holds" not in told.out
    assert told.err == "error: 1 jobs were lost: a\n"


def test_the_victim_falls_when_half_of_the_jobs_run() -> None:
    plan = PoolPlan(jobs=9)
    assert plan.killed_at == 4
    assert PoolPlan(jobs=1).killed_at == 1
    assert plan.patience > plan.worker_ttl
