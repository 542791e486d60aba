"""What the act with task queues counts, and how it says it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pulsewire.cli.demo.attempts import Attempt
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import (
    Arrived,
    Bundled,
    Enqueued,
    Fired,
    Handled,
    Outcome,
    Record,
    Refused,
    TaskBegan,
    TaskOver,
)
from pulsewire.cli.demo.queue_counts import QueueCounts
from pulsewire.cli.demo.tasks import summary
from pulsewire.cli.demo.tasks.progress import TasksProgress
from pulsewire.cli.demo.tasks.verdict import Reason, TasksVerdict
from pulsewire.cli.demo.tasks.view import picture, plain_line
from pulsewire.cli.demo.tasks.workload import DIGEST, TICK, Kind, Order
from pulsewire.cli.demo.view import View

DONE, FAILED = Outcome.DONE, Outcome.FAILED
ORDERS = [
    Order(task="a", queue="critical", kind=Kind.PLAIN),
    Order(task="b", queue="low", kind=Kind.UNIQUE, twin="b-twin"),
    Order(task="line", queue="critical", kind=Kind.MEMBER),
]


def began(attempt: int, task: str, task_type: str = "t", retried: int = 0) -> TaskBegan:
    """A line of a journal."""
    return TaskBegan(
        attempt=attempt, task=task, task_type=task_type, queue="low", retried=retried, at=1.0
    )


def over(attempt: int, outcome: Outcome = DONE, result: str = "") -> TaskOver:
    """A line of a journal."""
    return TaskOver(attempt=attempt, outcome=outcome, result=result, at=2.0)


def enqueued(*tasks: str) -> list[Record]:
    """Lines of the client's journal."""
    return [Enqueued(task=task, asked=0.0, at=0.5) for task in tasks]


@pytest.fixture
def progress() -> TasksProgress:
    """Two servers, a client and a scheduler; everybody has arrived."""
    found = TasksProgress(ORDERS)
    for number in (1, 2):
        found.add_server(number, 100 + number)
    found.add_helper("client")
    found.add_helper("scheduler 1")
    for number in (1, 2):
        found.from_server(number, [Arrived(pid=100 + number)])
    found.from_helper("client", [Arrived(pid=103)])
    assert not found.have_all_arrived
    found.from_helper("scheduler 1", [Arrived(pid=104)])
    assert found.have_all_arrived
    return found


def test_all_is_done_when_all_that_was_accepted_has_succeeded(progress: TasksProgress) -> None:
    progress.from_helper("client", enqueued("a", "b", "line"))
    progress.from_server(1, [began(1, "a"), over(1), began(2, "b"), over(2)])
    progress.from_server(1, [Bundled(task="d", members=("line",)), began(3, "d", DIGEST), over(3)])
    assert progress.succeeded == 3
    assert not progress.is_all_enqueued  # nothing is known of the twin
    assert not progress.is_all_done
    progress.from_helper("client", [Refused(task="b-twin", error="DuplicateTask", why="")])
    assert progress.is_all_enqueued
    assert progress.is_all_done


def test_a_failed_attempt_is_no_success(progress: TasksProgress) -> None:
    progress.from_helper(
        "client", [*enqueued("a"), *[Refused(task=t, error="", why="") for t in "xyz"]]
    )
    progress.from_server(1, [began(1, "a"), over(1, FAILED)])
    assert progress.succeeded == 0
    assert not progress.is_all_done
    assert progress.rows()[0].failed == 1
    progress.from_server(1, [began(2, "a", retried=1), over(2)])
    assert progress.is_all_done


@pytest.mark.parametrize("is_digest_read_first", [False, True])
def test_members_succeed_with_their_bundle_whichever_journal_is_read_first(
    progress: TasksProgress, is_digest_read_first: bool
) -> None:
    records: list[tuple[int, list[Record]]] = [
        (1, [Bundled(task="d", members=("line",))]),
        (2, [began(1, "d", DIGEST), over(1)]),
    ]
    for number, lines in reversed(records) if is_digest_read_first else records:
        assert not progress.is_group_done
        progress.from_server(number, lines)
    assert progress.is_group_done
    assert progress.succeeded == 1
    (critical, *_) = progress.snapshot(1.0).queues
    assert (critical.name, critical.succeeded, critical.wanted) == ("critical", 1, 2)


def test_a_success_counts_once_and_for_the_queue_of_its_order(progress: TasksProgress) -> None:
    progress.from_server(1, [began(1, "a"), over(1)])
    progress.from_server(2, [began(1, "a"), over(1), began(2, "b"), over(2)])
    queues = {row.name: (row.succeeded, row.wanted) for row in progress.snapshot(1.0).queues}
    assert queues == {"critical": (1, 2), "default": (0, 0), "low": (1, 1)}


def test_attempts_end_with_their_server_and_are_counted_where_they_are_run_again(
    progress: TasksProgress,
) -> None:
    progress.from_server(2, [began(1, "a"), over(1), began(2, "b"), began(3, "line")])
    assert progress.running_at(2) == 2
    assert progress.is_busy
    assert progress.died(2, 5.0) == 2
    assert progress.running_at(2) == 0
    assert not progress.is_busy
    cut = {attempt.task: attempt for attempt in progress.attempts if attempt.outcome is None}
    assert cut["b"] == Attempt(
        task="b", task_type="t", queue="low", server=2, retried=0, began=1.0, ended=5.0
    )
    assert set(cut) == {"b", "line"}
    progress.from_server(1, [began(1, "b"), over(1, FAILED), began(2, "b", retried=1), over(2)])
    first, second = progress.rows()
    assert (first.again, first.succeeded, first.failed, first.fate) == (1, 1, 1, Fate.WORKING)
    assert (second.again, second.succeeded, second.fate) == (0, 1, Fate.KILLED)


def test_results_are_remembered(progress: TasksProgress) -> None:
    progress.from_server(1, [began(1, "a"), over(1, result="r")])
    (attempt,) = progress.attempts
    assert (attempt.result, attempt.ended, attempt.has_succeeded) == ("r", 2.0, True)


def test_ticks_are_neither_tasks_of_the_client_nor_progress(progress: TasksProgress) -> None:
    step = progress.step
    progress.from_helper("scheduler 1", [Fired(task="tick", at=100.0)])
    progress.from_server(1, [began(1, "tick", TICK), over(1)])
    snapshot = progress.snapshot(1.0)
    assert (snapshot.ticks, snapshot.succeeded) == (1, 0)
    assert progress.fired == {"client": [], "scheduler 1": [Fired(task="tick", at=100.0)]}
    assert progress.step == step


def test_something_goes_on_while_its_step_changes(progress: TasksProgress) -> None:
    steps = {progress.step}
    progress.from_helper("client", enqueued("a"))
    steps.add(progress.step)
    progress.from_helper("client", [Refused(task="b-twin", error="DuplicateTask", why="")])
    steps.add(progress.step)
    progress.from_server(1, [began(1, "a"), over(1)])
    steps.add(progress.step)
    progress.add_server(3, 103)
    assert not progress.have_all_arrived
    progress.from_server(3, [Arrived(pid=103)])
    steps.add(progress.step)
    progress.add_helper("another")
    progress.from_helper("another", [Arrived(pid=105)])
    steps.add(progress.step)
    assert len(steps) == 6


def test_to_do_is_what_is_neither_kept_nor_archived(progress: TasksProgress) -> None:
    assert progress.to_do == 0
    counts = QueueCounts(
        pending=1, active=2, scheduled=4, retry=8, aggregating=16, archived=32, completed=64
    )
    progress.set_counts("low", counts)
    progress.set_counts("critical", QueueCounts(pending=100))
    assert progress.to_do == 131


def test_everybody_writes_what_is_theirs(progress: TasksProgress) -> None:
    ticket = Handled(event="1-0", ticket="1", consumer="x", started=0, ended=1, deliveries=1)
    with pytest.raises(AssertionError, match="enqueue"):
        progress.from_server(1, [ticket])
    with pytest.raises(AssertionError, match="run tasks"):
        progress.from_helper("client", [ticket])


@pytest.fixture
def busy(progress: TasksProgress) -> TasksProgress:
    """Something of everything."""
    progress.from_helper("client", enqueued("a", "b", "line"))
    progress.from_server(2, [began(1, "b")])
    progress.died(2, 5.0)
    progress.from_server(1, [began(1, "b"), began(2, "a"), over(2)])
    progress.set_counts("low", QueueCounts(pending=1234, retry=7))
    progress.set_shown({101: {"report:build": 3, "email:welcome": 5}, 102: {"t": 1}})
    progress.tell(5.0, "killed server 2")
    return progress


def test_only_who_works_is_shown_at_work(busy: TasksProgress) -> None:
    first, second = busy.rows()
    assert first.shown == {"report:build": 3, "email:welcome": 5}
    assert second.shown == {}


def test_a_plain_line_says_it_all(busy: TasksProgress) -> None:
    assert plain_line(busy.snapshot(8.0)) == (
        "  8.0 s  enqueued 3/3  succeeded 1/3 (33%)  0/s"
        "  pending: critical 0  default 0  low 1,234  retry 7  servers 1"
    )


def test_the_picture_shows_bars_queues_servers_and_news(busy: TasksProgress) -> None:
    console = Console(file=io.StringIO(), width=110, record=True)
    console.print(picture(busy.snapshot(8.0)))
    text = console.export_text()
    for part in ("enqueued", "succeeded", "3/3", "33%", "1,234", "groups", "killed server 2"):
        assert part in text
    (first,) = (line for line in text.splitlines() if line.startswith("server 1"))
    assert "pid 101" in first
    assert first.rstrip().endswith("1 of the killed one  5 email:welcome, 3 report:build")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 110


@pytest.mark.parametrize("width", [60, 80, 110])
def test_no_number_of_a_queue_is_cut_off_where_there_is_room_for_it(
    busy: TasksProgress, width: int
) -> None:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(picture(busy.snapshot(8.0)))
    low = next(line for line in console.export_text().splitlines() if line.startswith("low"))
    assert "1,234" in low
    assert "7" in low.split()


def test_elsewhere_than_on_a_terminal_news_are_lines(busy: TasksProgress) -> None:
    output = io.StringIO()
    with View(picture, plain_line, Console(file=output, width=40)) as view:
        view.show(busy.snapshot(0.5))
        view.show(busy.snapshot(1.5))
        view.show(busy.snapshot(1.6))
    first, second = output.getvalue().splitlines()
    assert first == "  5.0 s  killed server 2"
    assert second.startswith("  1.5 s  enqueued 3/3")


def verdict(*problems: str) -> TasksVerdict:
    """A verdict with these problems."""
    return TasksVerdict(
        problems=problems,
        accepted=3600,
        succeeded=3600,
        lost=(),
        failures=534,
        flaky=357,
        later=177,
        refused=176,
        members=36,
        bundles=1,
        ticks={"scheduler 1": 2, "scheduler 2": 7},
        kept=175,
        cut=20,
        repeats={Reason.CUT: 20, Reason.UNTOLD: 1},
        reruns=(1.5, 1.9, 2.25),
        waits={"critical": 0.08, "default": 1.0, "low": 7.0},
    )


def test_each_line_of_the_check_has_its_number() -> None:
    found = summary.findings(verdict(), lease=2.0, seconds=20.0)
    lines = {finding.what: finding.result for finding in found}
    assert lines == {
        "tasks accepted": "3,600",
        "tasks that succeeded": "3,600",
        "tasks lost": "0",
        "failed and tried again": "534 attempts of 357 tasks, each one charged",
        "run later, not before their time": "177",
        "refused, since one like them existed": "176",
        "aggregated": "36 tasks of a group into 1",
        "ticks, each enqueued once": "9, one every 2 s: 2 by scheduler 1, 7 by scheduler 2",
        "results kept": "175",
        "in the hands of the killed server": "20",
        "run again elsewhere, uncharged": "in 1.90 s, the last in 2.25 s; its lease was 2 s",
        "run twice": "21",
        "  20 because": Reason.CUT.value,
        "  1 because": Reason.UNTOLD.value,
        "waited for a server, median": "critical 80.0 ms, default 1.0 s, low 7.0 s",
        "time": "20.0 s",
    }


def test_the_end_says_whether_it_holds(
    busy: TasksProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    summary.show(verdict(), busy.rows(), lease=2.0, seconds=20.0)
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].startswith("It holds: ")
    assert told.err == ""
    summary.show(verdict("1 tasks never succeeded: a"), busy.rows(), lease=2.0, seconds=20.0)
    told = capsys.readouterr()
    assert "It holds" not in told.out
    assert told.err == "error: 1 tasks never succeeded: a\n"
