"""The main job itself: real processes, one killed, on the embedded server. Small numbers; the full size is slow."""

from __future__ import annotations

import errno
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pulsewire.cli.demo.journal import Arrived, Handled, JournalReader
from pulsewire.testing.waiting import wait_until
from tests.cli.conftest import Invoke
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
LONG = ("--act", "tickets", "--tickets", "2000", "--work", "0.05", "--consumers", "2")
"""Lasts longer than any test waits: what ends it is what is tested."""

Keys = Callable[[str], list[str]]


def numbers(output: str) -> dict[str, str]:
    """The lines of the summary, by their names."""
    lines = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in output.splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 2}


def consumers(output: str) -> list[dict[str, str]]:
    """The rows of the summary's table."""
    found = re.findall(
        r"^\s*(\d+)\s+(\d+)\s+([\d,]+)\s+([\d,]+)\s+(\w+)$", output, flags=re.MULTILINE
    )
    return [
        dict(zip(("consumer", "pid", "handled", "taken over", "end"), row, strict=True))
        for row in found
    ]


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie that waits for somebody else's parent."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def crew_of(folder: Path) -> dict[str, int]:
    """The process ids that the journals of the running demo tell."""
    return {
        journal.stem: record.pid
        for journal in folder.glob("pulsewire-demo-*/*.journal")
        for record in JournalReader(journal).read_new()
        if isinstance(record, Arrived)
    }


async def crew_at_work(folder: Path, *, members: int = 3) -> dict[str, int]:
    """Wait until everybody has arrived and tickets are handled; return their process ids."""

    def tickets_are_handled() -> bool:
        return len(crew_of(folder)) == members and any(
            isinstance(record, Handled)
            for journal in folder.glob("pulsewire-demo-*/consumer-*.journal")
            for record in JournalReader(journal).read_new()
        )

    await wait_until(tickets_are_handled, timeout=60.0, what="the crew handles tickets")
    return crew_of(folder)


async def assert_all_gone(crew: dict[str, int]) -> None:
    """Check that no process of the crew is left."""
    await wait_until(
        lambda: not any(is_running(pid) for pid in crew.values()),
        timeout=20.0,
        what="all processes of the demo have ended",
    )


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
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", demo.output)
    rows = consumers(demo.output)
    assert sorted(row["end"] for row in rows) == ["killed", "stopped"]
    assert sum(int(row["handled"]) for row in rows) == 100 + int(result["handled twice"])
    assert keys("demo-") == []
    assert list(tmp_path.iterdir()) == []
    assert not any(is_running(int(row["pid"])) for row in rows)


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


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
async def test_interrupted_it_leaves_nothing_behind(
    programs: Programs, keys: Keys, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    demo = programs.pulsewire("demo", *LONG)
    crew = await crew_at_work(tmp_path)
    assert keys("demo-") != []
    demo.send(number)
    assert demo.wait_end() == exit_code
    assert "Traceback" not in demo.output
    await assert_all_gone(crew)
    assert keys("demo-") == []
    assert list(tmp_path.iterdir()) == []


async def test_its_children_end_when_it_is_killed(
    programs: Programs, keys: Keys, namespace: str, url: str, tmp_path: Path
) -> None:
    """Nobody is left to remove the stream then: it has a time to live for that."""
    demo = programs.pulsewire("demo", *LONG, "--namespace", namespace)
    crew = await crew_at_work(tmp_path)
    demo.send(signal.SIGKILL)
    assert demo.wait_end() == -signal.SIGKILL
    await assert_all_gone(crew)
    left = keys(namespace)
    assert left != []
    with redis.Redis.from_url(url) as client:
        assert {key: client.ttl(key) for key in left if client.ttl(key) < 0} == {}


@pytest.mark.parametrize(
    "victim", ["consumer-1", pytest.param("publisher", marks=pytest.mark.slow)]
)
async def test_a_child_that_crashes_fails_it(
    programs: Programs, keys: Keys, tmp_path: Path, victim: str
) -> None:
    # Slow publishing, so that the publisher is there to crash.
    demo = programs.pulsewire("demo", *LONG, "--publish-rate", "50")
    crew = await crew_at_work(tmp_path)
    os.kill(crew[victim], signal.SIGSEGV)
    assert demo.wait_end() == 1
    title = victim.replace("-", " ")
    assert f"error: {title} (pid {crew[victim]}) got signal 11 unexpectedly" in demo.lines
    await assert_all_gone(crew)
    assert keys("demo-") == []
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["--consumers", "1"], "--no-kill"),
        (["--kill-after", "2"], "--kill-after"),
        (["--tickets", "0"], "--tickets"),
    ],
)
def test_impossible_numbers_are_usage_errors(
    invoke: Invoke, options: list[str], culprit: str
) -> None:
    result = invoke("demo", *options)
    assert result.exit_code == 2
    assert culprit in result.stderr


@pytest.mark.slow
def test_the_article_in_full_size(programs: Programs) -> None:
    """3,000 tickets, five consumers, 100 ms each, one killed: what `make demo` shows."""
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
