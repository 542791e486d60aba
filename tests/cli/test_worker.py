"""`pulsewire worker`: an app's tasks are run by one process or several, which end as they are told."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Invoke
from tests.cli.programs import Program, Programs

APP = """
import asyncio, os, time
from pulsewire.tasks import App

app = App(namespace={namespace!r}, concurrency=7, shutdown_timeout=20.0)

@app.task("email:welcome", queue="critical")
async def welcome(user_id: int) -> None:
    print("welcome", user_id, "by", os.getpid(), flush=True)

@app.task("long")
async def run_long(seconds: float) -> None:
    print("long begins", flush=True)
    await asyncio.sleep(seconds)
    print("long ends", flush=True)

@app.task("fail")
async def fail() -> None:
    raise ValueError("no such user")

@app.task("die")
def die() -> None:
    os._exit(7)

if os.environ.get("BROKEN") == "1":
    raise RuntimeError("cannot be imported")
"""

Start = Callable[..., Program]


@pytest.fixture
def app_folder(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the module `shop`, in which the programs of the test are started."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "shop.py").write_text(APP.format(namespace=namespace))
    (folder / "two.py").write_text("from pulsewire.tasks import App\na, b = App(), App()\n")
    (folder / "none.py").write_text("app = 1\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def start(programs: Programs, app_folder: Path) -> Start:
    """Starts `pulsewire worker` in that folder."""

    def begin(*arguments: str) -> Program:
        return programs.pulsewire("worker", *arguments)

    return begin


def shown_servers(cli: Command, count: int) -> list[dict[str, Any]]:
    """The servers, once so many have shown themselves."""
    while True:
        found: list[dict[str, Any]] = cli("server", "ls", "--json")
        if len(found) == count:
            return found


def test_the_tasks_of_an_app_are_run_until_ctrl_c(start: Start, cli: Command) -> None:
    """From all queues that the app's tasks are in, as the app says. Failures are in the log, with where."""
    worker = start("shop:app")
    told = worker.wait_line("takes tasks of")
    assert re.fullmatch(rf"worker {worker.pid} takes tasks of default=1, critical=1 at .*", told)
    (server,) = shown_servers(cli, 1)
    assert (server["pid"], server["concurrency"]) == (worker.pid, 7)
    cli("task", "enqueue", "email:welcome", '{"user_id": 42}', "-q", "critical")
    assert worker.wait_line("welcome") == f"welcome 42 by {worker.pid}"
    cli("task", "enqueue", "fail", "{}", "--id", "bad")
    warning = worker.wait_line("an attempt did not succeed")
    assert re.match(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ {worker.pid} WARNING pulsewire\.tasks: ", warning
    )
    assert "task=bad" in warning
    worker.wait_line("ValueError: no such user")
    worker.send(signal.SIGINT)
    assert worker.wait_end() == 0
    assert worker.lines[-1] == f"worker {worker.pid} ends; running tasks may finish"
    assert cli("server", "ls") == "no servers run tasks\n"


def test_options_of_the_command_line_win_over_the_apps(start: Start, cli: Command) -> None:
    worker = start(
        *("shop:app", "-q", "low", "--queue", "critical=6", "--queue", "a=b=3"),
        *("--strict", "-c", "3", "--log-level", "error"),
    )
    assert " takes tasks of critical=6, a=b=3, low=1 at " in worker.wait_line("takes tasks of")
    (server,) = shown_servers(cli, 1)
    assert server["queues"] == {"low": 1, "critical": 6, "a=b": 3}
    assert (server["strict"], server["concurrency"]) == (True, 3)
    cli("task", "enqueue", "fail", "{}", "-q", "low", "--id", "bad")
    while cli("task", "inspect", "bad", "--json")[0]["state"] != "retry":
        pass
    worker.send(signal.SIGTERM)
    assert worker.wait_end() == 0
    assert "did not succeed" not in worker.output


def test_running_tasks_may_finish_and_a_second_signal_hands_them_back(
    start: Start, cli: Command
) -> None:
    patient = start("shop:app")
    patient.wait_line("takes tasks of")
    cli("task", "enqueue", "long", '{"seconds": 1}')
    patient.wait_line("long begins")
    patient.send(signal.SIGTERM)
    assert patient.wait_end() == 0
    assert "long ends" in patient.output
    hasty = start("shop:app", "--shutdown-timeout", "100ms")
    hasty.wait_line("takes tasks of")
    cli("task", "enqueue", "long", '{"seconds": 1000}', "--id", "back")
    hasty.wait_line("long begins")
    hasty.send(signal.SIGTERM)
    assert hasty.wait_end() == 0
    (task,) = cli("task", "inspect", "back", "--json")
    assert (task["state"], task["retried"]) == ("pending", 0)


def test_a_stopped_worker_takes_nothing_and_stays(start: Start, cli: Command) -> None:
    """SIGTSTP, which a deploy sends to the old workers first."""
    worker = start("shop:app")
    worker.wait_line("takes tasks of")
    worker.send(signal.SIGTSTP)
    worker.wait_line("takes no new tasks")
    while shown_servers(cli, 1)[0]["status"] != "stopped":
        pass  # shown with the next renewal of the leases
    cli("task", "enqueue", "email:welcome", '{"user_id": 42}', "-q", "critical", "--id", "a")
    worker.send(signal.SIGTERM)
    assert worker.wait_end() == 0
    assert "welcome" not in worker.output
    assert cli("task", "inspect", "a", "--json")[0]["state"] == "pending"


def test_several_processes_share_the_work_and_those_that_die_are_replaced(
    start: Start, cli: Command
) -> None:
    """One that a task has killed, too. A signal to the supervisor ends all."""
    supervisor = start("shop:app", "--processes", "2", "-c", "4")
    for _ in range(2):
        supervisor.wait_line("takes tasks of")
    servers = {server["pid"]: server for server in shown_servers(cli, 2)}
    assert supervisor.pid not in servers
    assert {server["concurrency"] for server in servers.values()} == {4}
    cli("task", "enqueue", "die", "--id", "poison")
    ended = supervisor.wait_line("a worker process ended; it is started again")
    died = int(re.findall(r"pid=(\d+)", ended)[0])
    assert died in servers
    assert "exit code 7" in ended
    replaced = supervisor.wait_line("takes tasks of")
    assert int(replaced.split()[1]) not in servers
    cli("queue", "pause", "default")  # so that the poison kills nobody else
    supervisor.send(signal.SIGINT)
    assert supervisor.wait_end() == 0
    assert supervisor.output.count("ends; running tasks may finish") == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope:app", "there is no module 'nope'"),
        ("shop:nope", "module 'shop' has no such name"),
        ("none:app", "module 'none' has a"),
        ("none", "module 'none' has no apps"),
        ("two", "module 'two' has 2 apps: name one"),
    ],
)
def test_what_is_no_app_is_a_usage_error(start: Start, name: str, words: str) -> None:
    worker = start(name)
    assert worker.wait_end() == 2
    assert words in worker.output
    assert "hint: " in worker.output
    assert "Traceback" not in worker.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--queue", "=3"), "is not NAME or NAME=PRIORITY"),
        (("--queue", "low=0"), "is not NAME or NAME=PRIORITY"),
        (("--queue", "low=high"), "is not NAME or NAME=PRIORITY"),
        (("--queue", "a{b}"), "braces are not allowed"),
        (("--concurrency", "0"), "--concurrency"),
        (("--processes", "0"), "--processes"),
        (("--shutdown-timeout", "soon"), "is not a duration"),
        (("--url", "http://nowhere"), "http://nowhere"),
    ],
)
def test_impossible_options_are_usage_errors(
    start: Start, arguments: tuple[str, ...], words: str
) -> None:
    worker = start("shop:app", *arguments)
    assert worker.wait_end() == 2
    assert words in worker.output
    assert "Traceback" not in worker.output


def test_processes_that_cannot_begin_are_not_started_for_ever(
    start: Start, programs: Programs
) -> None:
    """The exit code is theirs, and so is what they say."""
    supervisor = start("nope:app", "--processes", "2")
    assert supervisor.wait_end() == 2
    assert "there is no module 'nope'" in supervisor.output
    programs.environment["BROKEN"] = "1"
    broken = start("shop:app")
    assert broken.wait_end() == 1
    assert broken.lines[-1] == "RuntimeError: cannot be imported"


def test_every_choice_reaches_the_children(
    start: Start, cli: Command, invoke: Invoke, namespace: str, url: str
) -> None:
    other = f"{namespace}-two"
    supervisor = start(
        *("shop:app", "-p", "1", "-q", "critical=6", "-q", "low", "--strict", "-c", "3"),
        *("--shutdown-timeout", "5s", "--kill-after", "30s", "--url", url),
        *("--namespace", other, "--log-level", "debug"),
    )
    supervisor.wait_line("takes tasks of critical=6, low=1")
    assert cli("server", "ls") == "no servers run tasks\n"
    (server,) = shown_servers(
        lambda *words: json.loads(invoke(*words, "--namespace", other).stdout), 1
    )
    assert (server["strict"], server["concurrency"]) == (True, 3)
    assert server["queues"] == {"critical": 6, "low": 1}
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait_end() == 0
