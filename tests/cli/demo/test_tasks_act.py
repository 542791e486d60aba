"""The third act itself: real servers, schedulers and a client, one server killed. Small numbers."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import redis

from pulsewire.cli.demo.journal import JournalReader, TaskOver
from pulsewire.testing.waiting import wait_until
from tests.cli.conftest import Invoke
from tests.cli.demo.test_demo import assert_all_gone, crew_of, is_running, numbers
from tests.cli.demo.test_pool_act import lasting_keys
from tests.cli.programs import Programs

SMALL = (
    *("--act", "tasks", "--tasks", "150", "--servers", "2"),
    *("--task-work", "0.3", "--lease", "1"),
)
LONG = ("--act", "tasks", "--tasks", "3000", "--servers", "2", "--task-work", "0.3")
"""Lasts longer than any test waits: what ends it is what is tested."""
CREW = 5
"""Two servers, two schedulers and the client."""


def servers(output: str) -> dict[str, dict[str, str]]:
    """The rows of the summary's table, by the server's name."""
    found = re.findall(
        r"^(server \d+)\s+(\d+)\s+([\d,]+)\s+([\d,]+)\s+([\d,]+)\s+(\w+)$",
        output,
        flags=re.MULTILINE,
    )
    headings = ("pid", "succeeded", "failed", "from the killed server", "end")
    return {name: dict(zip(headings, row, strict=True)) for name, *row in found}


def queues(url: str, namespace: str) -> list[str]:
    """The queues that there are."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(str(name) for name in client.smembers(f"{namespace}:asynq:queues"))


async def crew_at_work(folder: Path) -> dict[str, int]:
    """Wait until everybody has arrived and tasks are done; return their process ids."""

    def tasks_are_done() -> bool:
        return len(crew_of(folder)) == CREW and any(
            isinstance(record, TaskOver)
            for journal in folder.glob("pulsewire-demo-*/server-*.journal")
            for record in JournalReader(journal).read_new()
        )

    await wait_until(tasks_are_done, timeout=60.0, what="the servers run tasks")
    return crew_of(folder)


def test_it_holds_though_a_server_is_killed(programs: Programs, url: str, tmp_path: Path) -> None:
    demo = programs.pulsewire("demo", *SMALL)
    told = demo.wait_line("with SIGKILL")
    held = re.search(
        r"killed server \d \(pid (\d+)\) with SIGKILL after \d+ tasks had succeeded; it ran (\d+)",
        told,
    )
    assert held is not None
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    assert result["tasks accepted"] == result["tasks that succeeded"] == "150"
    assert result["tasks lost"] == "0"
    assert result["in the hands of the killed server"] == held[2]
    assert int(held[2]) >= 1
    assert int(result["run twice"]) >= int(held[2])
    assert re.fullmatch(
        r"in [\d.]+ s, the last in [\d.]+ s; its lease was 1 s",
        result["run again elsewhere, uncharged"],
    )
    tried = re.fullmatch(
        r"(\d+) attempts of (\d+) tasks, each one charged", result["failed and tried again"]
    )
    assert tried is not None
    assert int(tried[1]) > int(tried[2]) > 0
    assert int(result["run later, not before their time"]) > 0
    assert int(result["refused, since one like them existed"]) > 0
    assert result["aggregated"] == "5 tasks of a group into 1"
    assert re.match(r"\d+, one every 2 s: \d+ by scheduler", result["ticks, each enqueued once"])
    assert int(result["results kept"]) > 0
    assert demo.lines[-1].startswith("It holds: every task has succeeded, none was lost")
    rows = servers(demo.output)
    assert sorted(row["end"] for row in rows.values()) == ["killed", "stopped"]
    (killed,) = (row for row in rows.values() if row["end"] == "killed")
    assert killed["pid"] == held[1]
    assert sum(int(row["from the killed server"]) for row in rows.values()) == int(held[2])
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", demo.output)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []
    assert not any(is_running(int(row["pid"])) for row in rows.values())


@pytest.mark.slow
def test_without_a_kill_nothing_is_run_twice_and_what_is_kept_can_be_looked_at(
    programs: Programs, url: str, namespace: str, tmp_path: Path
) -> None:
    calm = (*SMALL, "--no-kill", "--lease", "10", "--task-work", "0.01", "--namespace", namespace)
    demo = programs.pulsewire("demo", *calm, "--keep")
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    assert result["run twice"] == result["in the hands of the killed server"] == "0"
    assert "run again elsewhere, uncharged" not in result
    assert {row["end"] for row in servers(demo.output).values()} == {"stopped"}
    assert sum(line.startswith("kept: ") for line in demo.lines) == 2
    assert queues(url, namespace) == ["critical", "default", "low"]
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.journal"))) == CREW
    again = programs.pulsewire("demo", *calm)
    assert again.wait_end() == 1
    assert f"a queue 'critical' in namespace '{namespace}' already" in again.output


def test_all_acts_are_played_and_all_must_hold(programs: Programs, namespace: str) -> None:
    demo = programs.pulsewire(
        *("demo", "--tickets", "60", "--work", "0.01", "--consumers", "2", "--ack-grace", "0.5"),
        *("--jobs", "30", "--nodes", "2", "--worker-ttl", "1"),
        *("--tasks", "60", "--servers", "2", "--task-work", "0.1", "--lease", "1"),
        *("--namespace", namespace),
    )
    assert demo.wait_end() == 0, demo.output
    verdicts = [line for line in demo.lines if line.startswith("It holds: ")]
    assert verdicts == [
        "It holds: every ticket was handled, none was lost.",
        "It holds: every job ran, at one node at a time, and none was lost.",
        "It holds: every task has succeeded, none was lost, and none was run again without a reason.",
    ]


@pytest.mark.slow
async def test_interrupted_it_leaves_nothing_behind(
    programs: Programs, url: str, tmp_path: Path
) -> None:
    demo = programs.pulsewire("demo", *LONG)
    crew = await crew_at_work(tmp_path)
    demo.send(signal.SIGINT)
    assert demo.wait_end() == 130
    assert "Traceback" not in demo.output
    await assert_all_gone(crew)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []


async def test_interrupted_after_a_server_was_killed_it_waits_for_what_that_one_held(
    programs: Programs, url: str, namespace: str, tmp_path: Path
) -> None:
    """Nobody may remove a task that seems to be run: its lease must end first."""
    demo = programs.pulsewire("demo", *SMALL, "--lease", "2", "--namespace", namespace)
    demo.wait_line("with SIGKILL")
    crew = crew_of(tmp_path)
    demo.send(signal.SIGTERM)
    assert demo.wait_end() == 143
    await assert_all_gone(crew)
    assert queues(url, namespace) == []
    assert lasting_keys(url, namespace) == []
    assert list(tmp_path.iterdir()) == []


async def test_its_servers_remove_the_queues_when_it_is_killed(
    programs: Programs, url: str, namespace: str, tmp_path: Path
) -> None:
    """Tasks have no time to live: somebody must end them."""
    demo = programs.pulsewire("demo", *LONG, "--namespace", namespace)
    crew = await crew_at_work(tmp_path)
    assert queues(url, namespace) == ["critical", "default", "low"]
    demo.send(signal.SIGKILL)
    assert demo.wait_end() == -signal.SIGKILL
    await assert_all_gone(crew)
    assert queues(url, namespace) == []
    assert lasting_keys(url, namespace) == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["server-1", "scheduler-1"])
async def test_a_child_that_crashes_fails_it(
    programs: Programs, url: str, tmp_path: Path, victim: str
) -> None:
    demo = programs.pulsewire("demo", *LONG, "--no-kill", "--lease", "1")
    crew = await crew_at_work(tmp_path)
    os.kill(crew[victim], signal.SIGSEGV)
    assert demo.wait_end() == 1
    title = victim.replace("-", " ")
    assert f"error: {title} (pid {crew[victim]}) got signal 11 unexpectedly" in demo.lines
    await assert_all_gone(crew)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["--servers", "1"], "--no-kill"),
        (["--tasks", "1"], "--tasks"),
        (["--task-work", "-1"], "--task-work"),
        (["--lease", "0"], "--lease"),
    ],
)
def test_impossible_numbers_are_usage_errors(
    invoke: Invoke, options: list[str], culprit: str
) -> None:
    result = invoke("demo", *options)
    assert result.exit_code == 2
    assert culprit in result.stderr
