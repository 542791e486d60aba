"""The counts of the running demo, and how they look."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import Arrived, Handled, Published
from pulsewire.cli.demo.tickets.progress import Progress, Snapshot
from pulsewire.cli.demo.tickets.view import picture, plain_line
from pulsewire.cli.demo.view import View


def handled(number: int, consumer: str, deliveries: int = 1) -> Handled:
    return Handled(
        event=f"{number}-0",
        ticket=str(number),
        consumer=consumer,
        started=0.0,
        ended=0.1,
        deliveries=deliveries,
    )


def published(*numbers: int) -> list[Published]:
    return [Published(event=f"{number}-0", ticket=str(number), at=0.0) for number in numbers]


@pytest.fixture
def progress() -> Progress:
    """Four tickets wanted; two consumers, `a` and `b`, and the publisher have arrived."""
    progress = Progress(4)
    progress.add_consumer(1, pid=11)
    progress.add_consumer(2, pid=12)
    assert not progress.have_all_arrived
    progress.from_consumer(1, [Arrived(pid=11, consumer="a")])
    progress.from_consumer(2, [Arrived(pid=12, consumer="b")])
    assert not progress.have_all_arrived
    progress.from_publisher([Arrived(pid=10)])
    assert progress.have_all_arrived
    return progress


def test_a_ticket_handled_twice_counts_once(progress: Progress) -> None:
    progress.from_publisher(published(1, 2))
    progress.from_consumer(1, [handled(1, "a")])
    progress.from_consumer(2, [handled(1, "b", 2), handled(2, "b")])
    assert progress.handled_events == 2
    assert len(progress.handled) == 3
    assert [(row.handled, row.taken_over) for row in progress.rows()] == [(1, 0), (2, 1)]


def test_all_is_handled_only_when_all_is_published(progress: Progress) -> None:
    progress.from_publisher(published(1, 2))
    progress.from_consumer(1, [handled(1, "a"), handled(2, "a")])
    assert not progress.is_all_handled
    progress.from_publisher(published(3, 4))
    assert not progress.is_all_handled
    progress.from_consumer(2, [handled(3, "b"), handled(4, "b")])
    assert progress.is_all_handled


def test_four_other_events_are_not_the_four_that_were_published(progress: Progress) -> None:
    progress.from_publisher(published(1, 2, 3, 4))
    progress.from_consumer(1, [handled(number, "a") for number in (1, 2, 3, 9)])
    assert not progress.is_all_handled


def test_every_record_is_a_step(progress: Progress) -> None:
    steps = [progress.step]
    progress.from_publisher(published(1))
    steps.append(progress.step)
    progress.from_consumer(1, [handled(1, "a")])
    steps.append(progress.step)
    progress.from_consumer(2, [handled(1, "b", 2)])
    steps.append(progress.step)
    assert len(set(steps)) == 4


def test_the_rate_is_of_the_last_seconds(progress: Progress) -> None:
    assert progress.snapshot(0.0).rate == 0.0
    progress.from_consumer(1, [handled(number, "a") for number in range(10)])
    assert progress.snapshot(1.0).rate == 10.0
    for second in range(2, 12):
        snapshot = progress.snapshot(float(second))
        assert snapshot.rate == (10 / second if second <= 5 else 0.0)


def test_names_lead_to_consumers(progress: Progress) -> None:
    progress.set_fate(2, Fate.KILLED)
    assert progress.name_of(2) == "b"
    assert [row.fate for row in progress.rows()] == [Fate.WORKING, Fate.KILLED]


@pytest.fixture
def snapshot(progress: Progress) -> Snapshot:
    progress.from_publisher(published(1, 2, 3))
    progress.from_consumer(1, [handled(1, "a")])
    progress.from_consumer(2, [handled(2, "b", 2)])
    progress.pending, progress.lag = 1, None
    progress.set_fate(1, Fate.KILLED)
    progress.tell(1.0, "killed consumer 1")
    return progress.snapshot(2.0)


def test_a_plain_line_says_it_all(snapshot: Snapshot) -> None:
    assert plain_line(snapshot) == (
        "  2.0 s  published 3/4  handled 2/4 (50%)  0/s  pending 1  lag -  consumers 1"
    )


def test_the_picture_shows_bars_consumers_and_news(snapshot: Snapshot) -> None:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as captured:
        console.print(picture(snapshot))
    lines = captured.get().splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["published", "handled"]
    assert "3/4" in lines[0]
    assert "50%" in lines[1]
    consumers = [line for line in lines if line.startswith("consumer ")]
    assert "killed" in consumers[0]
    assert "1 taken over" in consumers[1]
    assert lines[-1].strip() == "1.0 s  killed consumer 1"


def test_without_a_terminal_there_is_a_line_a_second_and_each_news_once(progress: Progress) -> None:
    output = io.StringIO()
    with View(picture, plain_line, Console(file=output, width=40)) as view:
        for tenths in range(35):
            if tenths == 12:
                progress.tell(1.2, "something happened")
            view.show(progress.snapshot(tenths / 10))
    printed = output.getvalue()
    assert "\x1b" not in printed
    lines = printed.splitlines()
    assert len(lines) == 4  # at 1, 2 and 3 seconds, and the news; none wrapped at 40 columns
    assert lines[1] == "  1.2 s  something happened"


def test_on_a_terminal_the_picture_is_drawn_in_place(snapshot: Snapshot) -> None:
    output = io.StringIO()
    with View(picture, plain_line, Console(file=output, width=100, force_terminal=True)) as view:
        view.show(snapshot)
    printed = output.getvalue()
    assert "\x1b[?25l" in printed  # the cursor is hidden
    assert "\x1b[?25h" in printed  # and shown again
    assert "1 taken over" in printed
