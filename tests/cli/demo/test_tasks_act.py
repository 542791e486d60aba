"""The act with task queues itself: real servers, schedulers and a client, one server killed. Small numbers."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import redis

from tests.cli.demo.playing import (
    assert_all_gone,
    assert_is_plain,
    crew_of,
    is_running,
    lasting_keys,
    numbers,
    rows,
)
from tests.cli.programs import Programs

SMALL = (
    *("--act", "tasks", "--tasks", "150", "--servers", "2"),
    *("--task-work", "0.3", "--lease", "1"),
)
CREW = 5
"""Two servers, two schedulers and the client."""


def servers(output: str) -> dict[str, dict[str, str]]:
    """The rows of the summary's table, by the server's name."""
    headings = ("pid", "succeeded", "failed", "from the killed server", "end")
    return rows(output, r"server \d+", headings)


def queues(url: str, namespace: str) -> list[str]:
    """The queues that there are."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(str(name) for name in client.smembers(f"{namespace}:asynq:queues"))


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
    found = servers(demo.output)
    assert sorted(row["end"] for row in found.values()) == ["killed", "stopped"]
    (killed,) = (row for row in found.values() if row["end"] == "killed")
    assert killed["pid"] == held[1]
    assert sum(int(row["from the killed server"]) for row in found.values()) == int(held[2])
    assert_is_plain(demo.output)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []
    assert not any(is_running(int(row["pid"])) for row in found.values())


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
