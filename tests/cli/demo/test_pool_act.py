"""The act with a pool itself: real node processes, one killed, on the embedded server. Small numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.demo.playing import assert_is_plain, is_running, lasting_keys, numbers, rows
from tests.cli.programs import Programs

SMALL = ("--act", "pool", "--jobs", "60", "--nodes", "3", "--worker-ttl", "1")


def nodes(output: str) -> dict[str, dict[str, str]]:
    """The rows of the summary's table, by the node's name."""
    return rows(output, r"node \d+", ("pid", "runs", "from other nodes", "end"))


def test_it_holds_though_a_node_is_killed(programs: Programs, url: str, tmp_path: Path) -> None:
    demo = programs.pulsewire("demo", *SMALL)
    told = demo.wait_line("with SIGKILL")
    held = re.search(
        r"killed node \d \(pid (\d+)\) with SIGKILL after \d+ jobs had started; it ran (\d+)", told
    )
    assert held is not None
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    assert result["jobs dispatched"] == result["jobs that ran"] == "60"
    assert result["jobs lost"] == result["jobs that ran at two nodes at once"] == "0"
    assert result["taken over from the killed node"] == held[2]
    assert int(held[2]) >= 1
    assert int(result["handed over, stopped first"]) >= 1
    assert re.match(
        r"in [\d.]+ s, the last in [\d.]+ s; its lease was 1 s", result["ran again after the kill"]
    )
    assert demo.lines[-1] == "It holds: every job ran, at one node at a time, and none was lost."
    found = nodes(demo.output)
    assert sorted(row["end"] for row in found.values()) == ["killed", *["stopped"] * 3]
    (killed,) = (row for row in found.values() if row["end"] == "killed")
    assert killed["pid"] == held[1]
    assert sum(int(row["runs"]) for row in found.values()) == 60 + sum(
        int(row["from other nodes"]) for row in found.values()
    )
    assert_is_plain(demo.output)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []
    assert not any(is_running(int(row["pid"])) for row in found.values())


@pytest.mark.slow
def test_without_a_kill_no_job_moves(programs: Programs) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--no-kill", "--worker-ttl", "10")
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    assert result["taken over from the killed node"] == "0"
    assert result["handed over, stopped first"] == "0"
    assert "ran again after the kill" not in result
    assert {row["end"] for row in nodes(demo.output).values()} == {"stopped"}
