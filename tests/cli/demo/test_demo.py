"""The demo, and its act with tickets: real processes, one killed, on the embedded server. The full size is slow."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.demo.playing import assert_is_plain, is_running, numbers, rows
from tests.cli.programs import Program, Programs

SMALL = (
    "--act",
    "tickets",
    "--tickets",
    "100",
    "--work",
    "0.01",
    "--consumers",
    "2",
    "--ack-grace",
    "0.5",
)
Keys = Callable[[str], list[str]]


def consumers(output: str) -> list[dict[str, str]]:
    """The rows of the summary's table."""
    return list(rows(output, r"\s*\d+", ("pid", "handled", "taken over", "end")).values())


def test_it_holds_though_a_consumer_is_killed(
    programs: Programs, keys: Keys, tmp_path: Path
) -> None:
    demo = programs.pulsewire("demo", *SMALL)
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    assert result["published"] == result["in the stream, replayed"] == result["handled"] == "100"
    assert result["lost"] == "0"
    assert demo.lines[-1] == "It holds: every ticket was handled, none was lost."
    # Nobody looks at a terminal: a line a second, and no control codes.
    assert re.search(
        r"^ *[\d.]+ s  published [\d,]+/100  handled ", demo.output, flags=re.MULTILINE
    )
    assert_is_plain(demo.output)
    found = consumers(demo.output)
    assert sorted(row["end"] for row in found) == ["killed", "stopped"]
    assert sum(int(row["handled"]) for row in found) == 100 + int(result["handled twice"])
    assert keys("demo-") == []
    assert list(tmp_path.iterdir()) == []
    assert not any(is_running(int(row["pid"])) for row in found)


def test_the_kill_is_told_and_what_was_held_is_taken_over(programs: Programs) -> None:
    """With work that takes its time the victim is killed in the middle of it, so it holds something."""
    demo = programs.pulsewire(
        *("demo", "--act", "tickets", "--tickets", "12", "--work", "0.15"),
        *("--consumers", "2", "--ack-grace", "0.5"),
    )
    told = demo.wait_line("with SIGKILL")
    held = re.search(
        r"killed consumer \d \(pid (\d+)\) with SIGKILL after \d+ tickets; it held (\d+)", told
    )
    assert held is not None
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    assert int(held[2]) >= 1
    assert result["in the hands of the killed consumer"] == held[2]
    assert int(result["taken over from another consumer"]) >= int(held[2])
    (killed,) = (row for row in consumers(demo.output) if row["end"] == "killed")
    assert killed["pid"] == held[1]


@pytest.mark.slow
def test_tickets_are_handled_while_others_are_published(programs: Programs) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--no-kill", "--publish-rate", "100")
    assert demo.wait_end() == 0, demo.output
    assert int(numbers(demo.output)["handled while others were published"]) > 10
    assert {row["end"] for row in consumers(demo.output)} == {"stopped"}


@pytest.mark.slow
def test_without_a_kill_nothing_is_handled_twice(programs: Programs) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--no-kill", "--ack-grace", "20")
    assert demo.wait_end() == 0, demo.output
    assert numbers(demo.output)["handled twice"] == "0"
    assert numbers(demo.output)["taken over from another consumer"] == "0"


@pytest.mark.slow
def test_any_server_will_do(programs: Programs, url: str) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--url", url)
    assert demo.wait_end() == 0, demo.output
    assert url in demo.lines[0]


def test_on_a_terminal_it_draws_bars(programs: Programs) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pulsewire.cli", "demo", *SMALL],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**programs.environment, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
    ) as demo:
        os.close(slave)
        printed = b""
        try:
            while piece := os.read(master, 65536):
                printed += piece
        except OSError as error:
            if error.errno != errno.EIO:  # Linux's way of saying that the other end is closed
                raise
        assert demo.wait(timeout=60) == 0
    os.close(master)
    text = printed.decode()
    assert "━" in text
    assert "\x1b[2K" in text  # lines are drawn anew in place
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.slow
def test_what_is_kept_can_be_looked_at(
    programs: Programs, invoke: Invoke, namespace: str, tmp_path: Path
) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--keep", "--namespace", namespace)
    assert demo.wait_end() == 0, demo.output
    assert any(line.startswith("kept: ") for line in demo.lines)
    report = invoke("tickets", "report", "--namespace", namespace)
    assert "100 times: ticket received" in report.stdout
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.journal"))) == 3
    again = programs.pulsewire("demo", *SMALL, "--namespace", namespace)
    assert again.wait_end() == 1
    assert f"in namespace '{namespace}' already" in again.output


def test_several_acts_are_played_and_all_must_hold(programs: Programs, namespace: str) -> None:
    demo = programs.pulsewire(
        *("demo", "--act", "pool", "--act", "tickets", "--namespace", namespace),
        *("--tickets", "60", "--work", "0.01", "--consumers", "1", "--jobs", "30", "--nodes", "1"),
        "--no-kill",
    )
    assert demo.wait_end() == 0, demo.output
    assert [line for line in demo.lines if line.startswith("It holds: ")] == [
        "It holds: every ticket was handled, none was lost.",
        "It holds: every job ran, at one node at a time, and none was lost.",
    ]


@pytest.mark.slow
def test_all_acts_are_played(programs: Programs, namespace: str) -> None:
    demo = programs.pulsewire(
        *("demo", "--act", "all", "--namespace", namespace, "--users", "40"),
        *("--tickets", "60", "--work", "0.01", "--consumers", "2", "--ack-grace", "1"),
        *("--jobs", "30", "--nodes", "2", "--worker-ttl", "1"),
        *("--tasks", "60", "--servers", "2", "--task-work", "0.1", "--lease", "1"),
    )
    assert demo.wait_end() == 0, demo.output
    assert sum(line.startswith("It holds: ") for line in demo.lines) == 4


@pytest.mark.slow
def test_the_article_in_full_size(programs: Programs) -> None:
    """3,000 tickets, five consumers, 100 ms each, one killed."""
    demo: Program = programs.pulsewire("demo", "--act", "tickets")
    demo.wait_line("with SIGKILL")
    demo.wait_line("everything is handled")
    assert demo.wait_end() == 0, demo.output
    assert numbers(demo.output)["handled"] == "3,000"
    shares = [
        int(row["handled"].replace(",", ""))
        for row in consumers(demo.output)
        if row["end"] == "stopped"
    ]
    assert len(shares) == 4
    assert max(shares) - min(shares) <= 60


@pytest.mark.slow
def test_five_consumers_share_evenly(programs: Programs) -> None:
    """The article's own claim: about 600 each."""
    demo = programs.pulsewire("demo", "--act", "tickets", "--no-kill")
    assert demo.wait_end() == 0, demo.output
    shares = [int(row["handled"].replace(",", "")) for row in consumers(demo.output)]
    assert sum(shares) == 3000
    assert all(540 <= share <= 660 for share in shares)
