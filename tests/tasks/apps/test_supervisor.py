"""Worker processes under a supervisor: signals, deaths, and nobody left when the supervisor itself is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import pulsewire
from pulsewire.errors import InvalidOption
from pulsewire.tasks.apps.lifeline import VARIABLE, hold_lifeline
from pulsewire.tasks.apps.supervisor import supervise
from pulsewire.testing import wait_until
from tests.cli.programs import Program, Programs

TOPOLOGIES = ["standalone"]
pytestmark = pytest.mark.leaves_keys("asynq:*", "pulsewire:*")

SUPERVISOR = """\
import functools, logging, signal, sys
import anyio
import anyio.to_thread
from pulsewire.tasks.apps.supervisor import supervise

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests are run under

class Lines(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), getattr(record, "ended", ""), flush=True)

logging.getLogger("pulsewire").addHandler(Lines())
work = functools.partial(supervise, {command!r}, processes={processes}, grace={grace})
sys.exit(anyio.run(work, backend_options={{"use_uvloop": {uvloop}}}))
"""

# What a child says is one write each, so that the lines of several do not mix.
CHILD = """\
import os, signal, sys, time
from pulsewire.tasks.apps.lifeline import hold_lifeline

def say(word):
    os.write(1, f"{word} {os.getpid()}\\n".encode())

def end(*_):
    say("term")
    sys.exit(0)

line = hold_lifeline()
"""
OBEDIENT = CHILD + (
    "signal.signal(signal.SIGTERM, end)\n"
    "signal.signal(signal.SIGTSTP, lambda *_: say('tstp'))\n"
    "line.say_ready(30.0)\n"
    "say('ready')\n"
    "while True: time.sleep(60)\n"
)
HASTY = (
    CHILD + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "line.say_ready(0.25)\n"
    "say('ready')\n"
    "while True: time.sleep(60)\n"
)
STUBBORN = CHILD + (
    "signal.signal(signal.SIGTERM, lambda *_: say('term'))\n"
    "line.say_ready(30.0)\n"
    "say('ready')\n"
    "while True: time.sleep(60)\n"
)
DOOMED = CHILD + "sys.exit(7)\n"
FAILS_AT_THE_SECOND_START = """\
starts = len([name for name in os.listdir({folder!r}) if name.startswith("start-")])
open(os.path.join({folder!r}, f"start-{{starts}}"), "x").close()
if starts == 1:
    sys.exit(7)
""" + OBEDIENT.removeprefix(CHILD)
BEGINNING = CHILD + "say('beginning')\nwhile True: time.sleep(60)\n"

Supervise = Callable[..., Program]


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Starts programs; none outlives the test."""
    started = Programs({})
    yield started
    started.close()


@pytest.fixture
def run(programs: Programs, tmp_path: Path) -> Supervise:
    """Supervise processes of a child's program."""

    def start(child: str, *, processes: int = 2, grace: float | None = None) -> Program:
        (tmp_path / "child.py").write_text(child)
        return start_supervisor(programs, tmp_path, processes=processes, grace=grace)

    return start


def start_supervisor(
    programs: Programs, folder: Path, *, processes: int, grace: float | None = None
) -> Program:
    """Supervise processes of the program `child.py` of a folder."""
    script = folder / "supervisor.py"
    text = SUPERVISOR.format(
        command=[sys.executable, str(folder / "child.py")],
        processes=processes,
        grace=grace,
        uvloop=os.environ.get("PULSEWIRE_TEST_UVLOOP") == "1",
    )
    script.write_text(text)
    return programs.script(script)


def pid_of(line: str) -> int:
    """The process that says so."""
    return int(line.split()[1])


def wait_pids(program: Program, word: str, count: int) -> set[int]:
    """The processes that say this word, one line each."""
    return {pid_of(program.wait_line(f"{word} ")) for _ in range(count)}


# --- signals


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_asked_to_end_everybody_ends_in_order(run: Supervise, number: signal.Signals) -> None:
    supervisor = run(OBEDIENT, processes=3)
    children = wait_pids(supervisor, "ready", 3)
    supervisor.send(number)
    assert wait_pids(supervisor, "term", 3) == children
    assert supervisor.wait_end() == 0


def test_request_to_end_is_passed_on_each_time_and_ends_in_a_kill(run: Supervise) -> None:
    """Who does not end within `grace` is killed, and the exit code says that not all was well."""
    supervisor = run(STUBBORN, processes=1, grace=1.0)
    (child,) = wait_pids(supervisor, "ready", 1)
    for _ in range(2):
        supervisor.send(signal.SIGTERM)
        assert wait_pids(supervisor, "term", 1) == {child}
    supervisor.wait_line("did not end in time")
    supervisor.wait_line("did not end well signal 9")
    assert supervisor.wait_end() == 1


def test_child_says_itself_how_long_it_may_take_to_end(run: Supervise) -> None:
    """Who starts it need not know how long the tasks of its app may take."""
    supervisor = run(HASTY, processes=1)
    wait_pids(supervisor, "ready", 1)
    supervisor.send(signal.SIGTERM)
    supervisor.wait_line("did not end in time")
    assert supervisor.wait_end() == 1


def test_child_that_is_still_beginning_ends_at_once(run: Supervise) -> None:
    """It has nothing to put in order, and perhaps no idea of the signal: that is no failure."""
    supervisor = run(BEGINNING)
    wait_pids(supervisor, "beginning", 2)
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait_end() == 0


def test_stop_of_taking_is_passed_on_and_nobody_is_started_after_it(run: Supervise) -> None:
    supervisor = run(OBEDIENT)
    one, other = wait_pids(supervisor, "ready", 2)
    supervisor.send(signal.SIGTSTP)
    assert wait_pids(supervisor, "tstp", 2) == {one, other}
    os.kill(one, signal.SIGKILL)
    supervisor.wait_line("did not end well signal 9")
    supervisor.send(signal.SIGTERM)
    assert wait_pids(supervisor, "term", 1) == {other}
    assert supervisor.wait_end() == 1
    assert supervisor.output.count("ready") == 2


# --- deaths


def test_child_that_dies_is_started_again(run: Supervise) -> None:
    supervisor = run(OBEDIENT)
    children = wait_pids(supervisor, "ready", 2)
    for _ in range(2):
        victim = min(children)
        os.kill(victim, signal.SIGKILL)
        supervisor.wait_line("it is started again signal 9")
        children = children - {victim} | wait_pids(supervisor, "ready", 1)
        assert len(children) == 2
    supervisor.send(signal.SIGTERM)
    assert wait_pids(supervisor, "term", 2) == children
    assert supervisor.wait_end() == 0


def test_child_that_cannot_begin_ends_all_with_its_exit_code(run: Supervise) -> None:
    """A module that cannot be imported does not get better by trying again."""
    supervisor = run(DOOMED)
    supervisor.wait_line("could not begin; all are ended exit code 7")
    assert supervisor.wait_end() == 7


def test_child_that_dies_later_does_not_end_the_others(run: Supervise, tmp_path: Path) -> None:
    """Once one was ready, the command works: a failing start may pass."""
    supervisor = run(CHILD + FAILS_AT_THE_SECOND_START.format(folder=str(tmp_path)), processes=1)
    (first,) = wait_pids(supervisor, "ready", 1)
    os.kill(first, signal.SIGKILL)
    supervisor.wait_line("it is started again exit code 7")
    wait_pids(supervisor, "ready", 1)
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait_end() == 0


def test_nobody_outlives_a_killed_supervisor(run: Supervise) -> None:
    """Not even children whose main thread is busy: all of them hold its output, which ends with the last one."""
    supervisor = run(STUBBORN, processes=3)
    wait_pids(supervisor, "ready", 3)
    supervisor.send(signal.SIGKILL)
    assert supervisor.wait_end() == -signal.SIGKILL


# --- in this process


async def test_supervising_that_is_cancelled_leaves_nobody(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = f"import pathlib, time\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)\n"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: supervise([sys.executable, "-c", child], processes=2))
        await wait_until(ready.exists, what="a child runs")
        tasks.cancel_scope.cancel()


async def test_command_that_does_not_exist_is_a_failure() -> None:
    assert await supervise(["/nowhere/no-such-program"], processes=2) == 1


async def test_impossible_options_are_refused() -> None:
    with pytest.raises(InvalidOption, match="processes"):
        await supervise(["x"], processes=0)
    with pytest.raises(InvalidOption, match="grace"):
        await supervise(["x"], processes=1, grace=-1.0)
    with pytest.raises(InvalidOption, match="command"):
        await supervise("x y", processes=1)
    with pytest.raises(InvalidOption, match="command"):
        await supervise([], processes=1)


def test_process_without_a_supervisor_holds_no_lifeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does one that has got the variable from somebody else; and it does not pass it on."""
    assert hold_lifeline() is None
    for foreign in ("", "text", "987654"):
        monkeypatch.setenv(VARIABLE, foreign)
        assert hold_lifeline() is None
        assert VARIABLE not in os.environ


# --- workers of an app

WORKER = """\
import asyncio, os, time
import anyio
import anyio.to_thread
import pulsewire.tasks.apps.app
from pulsewire.tasks.apps.app import App

pulsewire.tasks.apps.app.ENDING_MARGIN = 0.5
app = App({url!r}, namespace={namespace!r}, shutdown_timeout={timeout})

def say(word):
    os.write(1, f"{{word}} {{os.getpid()}}\\n".encode())

@app.on_startup
async def start():
    say("ready")

@app.on_shutdown
async def stop():
    say("closed")

@app.task("quick")
async def quick(number: int) -> None:
    say(f"quick{{number}}")

@app.task("slow")
async def slow(seconds: float) -> None:
    say("begun")
    await asyncio.sleep(seconds)
    say("ended")

@app.task("blocking")
async def blocking() -> None:
    say("begun")
    time.sleep(60)

if __name__ == "__main__":
    anyio.run(app.run_worker)
"""


@pytest.fixture
def worker(tmp_path: Path, hub: pulsewire.Hub, namespace: str) -> Callable[[float], Path]:
    """The program of a worker with so many seconds for its shutdown."""

    def write(timeout: float) -> Path:
        path = tmp_path / "child.py"
        path.write_text(WORKER.format(url=hub.url, namespace=namespace, timeout=timeout))
        return path

    return write


async def test_worker_finishes_what_it_has_when_it_is_asked_to_end(
    hub: pulsewire.Hub, programs: Programs, worker: Callable[[float], Path]
) -> None:
    """`App.run_worker`: SIGTSTP stops the taking, SIGTERM ends it; running tasks are finished first."""
    program = programs.script(worker(30.0))
    await anyio.to_thread.run_sync(program.wait_line, "ready")
    await hub.tasks.enqueue("slow", b'{"seconds":0.5}')
    await anyio.to_thread.run_sync(program.wait_line, "begun")
    program.send(signal.SIGTSTP)
    program.send(signal.SIGTERM)
    code = await anyio.to_thread.run_sync(program.wait_end)
    assert code == 0
    assert [line.split()[0] for line in program.lines] == ["ready", "begun", "ended", "closed"]


async def test_supervised_workers_share_the_tasks(
    hub: pulsewire.Hub, programs: Programs, worker: Callable[[float], Path], tmp_path: Path
) -> None:
    worker(30.0)
    supervisor = start_supervisor(programs, tmp_path, processes=2)
    await anyio.to_thread.run_sync(wait_pids, supervisor, "ready", 2)
    for number in range(10):
        await hub.tasks.enqueue("quick", b'{"number":%d}' % number)
    for _ in range(10):
        await anyio.to_thread.run_sync(supervisor.wait_line, "quick")
    supervisor.send(signal.SIGTERM)
    code = await anyio.to_thread.run_sync(supervisor.wait_end)
    assert code == 0, supervisor.output
    ran = {line.split()[0] for line in supervisor.lines if line.startswith("quick")}
    assert ran == {f"quick{number}" for number in range(10)}
    assert supervisor.output.count("closed") == 2


async def test_worker_whose_supervisor_is_killed_ends_in_order(
    hub: pulsewire.Hub, programs: Programs, worker: Callable[[float], Path], tmp_path: Path
) -> None:
    """It takes nothing more, finishes what it has, and closes."""
    worker(30.0)
    supervisor = start_supervisor(programs, tmp_path, processes=1)
    await anyio.to_thread.run_sync(supervisor.wait_line, "ready")
    await hub.tasks.enqueue("slow", b'{"seconds":0.5}')
    await anyio.to_thread.run_sync(supervisor.wait_line, "begun")
    supervisor.send(signal.SIGKILL)
    await anyio.to_thread.run_sync(supervisor.wait_end)
    assert [line.split()[0] for line in supervisor.lines] == ["ready", "begun", "ended", "closed"]


async def test_worker_that_blocks_does_not_outlive_its_supervisor(
    hub: pulsewire.Hub, programs: Programs, worker: Callable[[float], Path], tmp_path: Path
) -> None:
    """Its loop hears nothing any more; the thread that holds the lifeline does."""
    worker(0.5)
    supervisor = start_supervisor(programs, tmp_path, processes=1)
    await anyio.to_thread.run_sync(supervisor.wait_line, "ready")
    await hub.tasks.enqueue("blocking", b"{}")
    await anyio.to_thread.run_sync(supervisor.wait_line, "begun")
    supervisor.send(signal.SIGKILL)
    await anyio.to_thread.run_sync(supervisor.wait_end)
    assert [line.split()[0] for line in supervisor.lines] == ["ready", "begun"]
