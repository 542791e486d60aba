"""How the acts end when they cannot go on: interrupted, killed, or with a process that crashes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pulsewire.cli.demo.journal import Handled, JobBegan, Seen, TaskOver
from tests.cli.conftest import Invoke
from tests.cli.demo.playing import Act, assert_all_gone, crew_at_work, lasting_keys
from tests.cli.demo.test_demo import Keys
from tests.cli.programs import Programs

ACTS = {
    "signup": Act(
        options=("--act", "signup", "--users", "2000", "--no-kill"),
        members=8,
        journals="mailer-*",
        sign=Seen,
    ),
    "tickets": Act(
        # Slow publishing, so that the publisher is there to crash.
        options=(
            *("--act", "tickets", "--tickets", "2000", "--work", "0.05", "--consumers", "2"),
            *("--publish-rate", "50"),
        ),
        members=3,
        journals="consumer-*",
        sign=Handled,
    ),
    "pool": Act(
        options=(
            *("--act", "pool", "--jobs", "2000", "--nodes", "3", "--worker-ttl", "1"),
            "--no-kill",
        ),
        members=3,
        journals="node-*",
        sign=JobBegan,
    ),
    "tasks": Act(
        options=(
            *("--act", "tasks", "--tasks", "3000", "--servers", "2", "--task-work", "0.3"),
            *("--lease", "1", "--no-kill"),
        ),
        members=5,
        journals="server-*",
        sign=TaskOver,
    ),
}
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("act", "number", "exit_code"),
    [
        ("tickets", signal.SIGINT, 130),
        ("pool", signal.SIGTERM, 143),
        pytest.param("tickets", signal.SIGTERM, 143, marks=SLOW),
        pytest.param("pool", signal.SIGINT, 130, marks=SLOW),
        pytest.param("tasks", signal.SIGINT, 130, marks=SLOW),
        pytest.param("signup", signal.SIGINT, 130, marks=SLOW),
    ],
)
async def test_interrupted_it_leaves_nothing_behind(
    *,
    programs: Programs,
    url: str,
    namespace: str,
    tmp_path: Path,
    act: str,
    number: signal.Signals,
    exit_code: int,
) -> None:
    demo = programs.pulsewire("demo", *ACTS[act].options, "--namespace", namespace)
    crew = await crew_at_work(demo, tmp_path, ACTS[act])
    demo.send(number)
    assert demo.wait_end() == exit_code
    assert "Traceback" not in demo.output
    await assert_all_gone(crew)
    assert lasting_keys(url, namespace) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("act", ["tickets", "pool", "tasks", pytest.param("signup", marks=SLOW)])
async def test_its_children_clear_up_when_it_is_killed(
    programs: Programs, keys: Keys, url: str, namespace: str, tmp_path: Path, act: str
) -> None:
    """Streams and maps have a time to live for that. Jobs and tasks have none: those that run them end them."""
    options = (*ACTS[act].options, "--url", url, "--namespace", namespace)
    demo = programs.pulsewire("demo", *options)
    crew = await crew_at_work(demo, tmp_path, ACTS[act])
    assert keys(namespace) != []
    demo.send(signal.SIGKILL)
    assert demo.wait_end() == -signal.SIGKILL
    await assert_all_gone(crew)
    assert lasting_keys(url, namespace) == []


@pytest.mark.parametrize(
    ("act", "victim"),
    [
        ("tickets", "consumer-1"),
        pytest.param("tickets", "publisher", marks=SLOW),
        pytest.param("pool", "node-1", marks=SLOW),
        pytest.param("tasks", "server-1", marks=SLOW),
        pytest.param("tasks", "scheduler-1", marks=SLOW),
        pytest.param("signup", "audit", marks=SLOW),
        pytest.param("signup", "web", marks=SLOW),
    ],
)
async def test_a_child_that_crashes_fails_it(
    programs: Programs, url: str, namespace: str, tmp_path: Path, act: str, victim: str
) -> None:
    demo = programs.pulsewire("demo", *ACTS[act].options, "--namespace", namespace)
    crew = await crew_at_work(demo, tmp_path, ACTS[act])
    os.kill(crew[victim], signal.SIGSEGV)
    assert demo.wait_end() == 1
    title = victim.replace("-", " ")
    assert f"error: {title} (pid {crew[victim]}) got signal 11 unexpectedly" in demo.lines
    await assert_all_gone(crew)
    assert lasting_keys(url, namespace) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["--users", "5"], "--users"),
        (["--consumers", "1"], "--no-kill"),
        (["--kill-after", "2"], "--kill-after"),
        (["--tickets", "0"], "--tickets"),
        (["--nodes", "1"], "--no-kill"),
        (["--jobs", "0"], "--jobs"),
        (["--worker-ttl", "0"], "--worker-ttl"),
        (["--servers", "1"], "--no-kill"),
        (["--tasks", "1"], "--tasks"),
        (["--task-work", "-1"], "--task-work"),
        (["--lease", "0"], "--lease"),
        (["--act", "weather"], "weather"),
    ],
)
def test_impossible_options_are_usage_errors(
    invoke: Invoke, options: list[str], culprit: str
) -> None:
    result = invoke("demo", *options)
    assert result.exit_code == 2
    assert culprit in result.stderr
