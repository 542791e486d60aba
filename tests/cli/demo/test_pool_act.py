"""The second act itself: real node processes, one killed, on the embedded server. Small numbers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pulsewire.cli.demo.journal import JobBegan, JournalReader
from pulsewire.testing.waiting import wait_until
from tests.cli.conftest import Invoke
from tests.cli.demo.test_demo import assert_all_gone, crew_of, is_running, numbers
from tests.cli.programs import Programs

SMALL = ("--act", "pool", "--jobs", "60", "--nodes", "3", "--worker-ttl", "1")

Keys = Callable[[str], list[str]]


def nodes(output: str) -> dict[str, dict[str, str]]:
    """The rows of the summary's table, by the node's name."""
    found = re.findall(
        r"^(node \d+)\s+(\d+)\s+([\d,]+)\s+([\d,]+)\s+(\w+)$", output, flags=re.MULTILINE
    )
    return {
        name: dict(zip(("pid", "runs", "from other nodes", "end"), row, strict=True))
        for name, *row in found
    }


def lasting_keys(url: str, part: str) -> list[str]:
    """Keys that would never go by themselves."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(str(key) for key in client.scan_iter(f"*{part}*") if client.ttl(key) == -1)


async def nodes_at_work(folder: Path, *, members: int = 3) -> dict[str, int]:
    """Wait until all nodes have arrived and jobs run; return their process ids."""

    def jobs_run() -> bool:
        return len(crew_of(folder)) == members and any(
            isinstance(record, JobBegan)
            for journal in folder.glob("pulsewire-demo-*/node-*.journal")
            for record in JournalReader(journal).read_new()
        )

    await wait_until(jobs_run, timeout=60.0, what="the nodes run jobs")
    return crew_of(folder)


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
    rows = nodes(demo.output)
    assert sorted(row["end"] for row in rows.values()) == ["killed", *["stopped"] * 3]
    (killed,) = (row for row in rows.values() if row["end"] == "killed")
    assert killed["pid"] == held[1]
    assert sum(int(row["runs"]) for row in rows.values()) == 60 + sum(
        int(row["from other nodes"]) for row in rows.values()
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", demo.output)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []
    assert not any(is_running(int(row["pid"])) for row in rows.values())


@pytest.mark.slow
def test_without_a_kill_no_job_moves(programs: Programs) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--no-kill", "--worker-ttl", "10")
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    assert result["taken over from the killed node"] == "0"
    assert result["handed over, stopped first"] == "0"
    assert "ran again after the kill" not in result
    assert {row["end"] for row in nodes(demo.output).values()} == {"stopped"}


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
async def test_interrupted_it_leaves_nothing_behind(
    programs: Programs, url: str, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--jobs", "2000")
    crew = await nodes_at_work(tmp_path)
    demo.send(number)
    assert demo.wait_end() == exit_code
    assert "Traceback" not in demo.output
    await assert_all_gone(crew)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []


async def test_its_nodes_shut_the_pool_down_when_it_is_killed(
    programs: Programs, url: str, namespace: str, tmp_path: Path
) -> None:
    """Jobs have no time to live: somebody must end them."""
    demo = programs.pulsewire("demo", *SMALL, "--jobs", "2000", "--namespace", namespace)
    crew = await nodes_at_work(tmp_path)
    demo.send(signal.SIGKILL)
    assert demo.wait_end() == -signal.SIGKILL
    await assert_all_gone(crew)
    assert lasting_keys(url, namespace) == []


@pytest.mark.slow
async def test_a_node_that_crashes_fails_it(programs: Programs, url: str, tmp_path: Path) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--jobs", "2000", "--no-kill")
    crew = await nodes_at_work(tmp_path)
    os.kill(crew["node-1"], signal.SIGSEGV)
    assert demo.wait_end() == 1
    assert f"error: node 1 (pid {crew['node-1']}) got signal 11 unexpectedly" in demo.lines
    await assert_all_gone(crew)
    assert lasting_keys(url, "demo-") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["--nodes", "1"], "--no-kill"),
        (["--jobs", "0"], "--jobs"),
        (["--worker-ttl", "0"], "--worker-ttl"),
    ],
)
def test_impossible_numbers_are_usage_errors(
    invoke: Invoke, options: list[str], culprit: str
) -> None:
    result = invoke("demo", *options)
    assert result.exit_code == 2
    assert culprit in result.stderr
