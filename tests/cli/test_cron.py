"""`pulsewire cron`: the periodic tasks of a scheduler that runs, and what they have enqueued."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from pulsewire.cli import describe_tasks
from pulsewire.tasks import SchedulerEntry
from tests.cli.conftest import Command, Screen
from tests.cli.programs import Program, Programs

SCHEDULER = """
import anyio
import pulsewire
from pulsewire.tasks import NewTask

async def main():
    async with pulsewire.connect({url!r}, namespace={namespace!r}) as hub:
        scheduler = hub.scheduler(heartbeat_interval=0.2)
        tick = NewTask(type="tick", payload=b"hello", queue="low", max_retry=3)
        ids = [
            scheduler.register("@every 1s", tick),
            scheduler.register("0 3 1 1 *", NewTask(type="report", payload=b"year")),
        ]
        async with scheduler:
            print("entries", *ids, flush=True)
            with anyio.open_signal_receiver(2) as arriving:
                async for _ in arriving:
                    break

anyio.run(main)
"""


@pytest.fixture
def scheduler(
    programs: Programs, namespace: str, url: str, tmp_path: Path
) -> Callable[[], Program]:
    """Starts a process with a scheduler: `tick` every second, `report` once a year."""

    def start() -> Program:
        path = tmp_path / "scheduler.py"
        path.write_text(SCHEDULER.format(url=url, namespace=namespace))
        return programs.script(path)

    return start


def test_without_a_scheduler_there_are_no_periodic_tasks(cli: Command) -> None:
    assert cli("cron", "ls") == "no periodic tasks: no scheduler runs\n"
    assert cli("cron", "ls", "--json") == []
    told = cli("cron", "history", "nope", exit_code=1)
    assert "error: no scheduler entry found with id 'nope'\nhint: `pulsewire cron ls`" in told
    assert cli("cron", "history", "nope", "--json", exit_code=1) == []


def test_periodic_tasks_and_what_they_have_enqueued(
    cli: Command, scheduler: Callable[[], Program]
) -> None:
    program = scheduler()
    every_second, every_year = program.wait_line("entries").split()[1:]
    while len(found := cli("cron", "list", "--json")) < 2:
        pass  # shown soon after it has started
    assert [entry["spec"] for entry in found] == ["0 3 1 1 *", "@every 1s"]
    report, tick = found
    assert (report["id"], tick["id"]) == (every_year, every_second)
    assert (tick["task_type"], tick["payload"]) == ("tick", "hello")
    options = {option["name"]: option["value"] for option in tick["options"]}
    assert (options["queue"], options["max_retry"]) == ("low", 3)
    assert datetime.fromisoformat(report["next_at"]).month == 1
    assert report["previous_at"] is None
    while not (events := cli("cron", "history", every_second, "--json")):
        pass  # the first tick comes within a second
    while len(cli("task", "ls", "-q", "low", "--json")) < 2:
        pass
    text = cli("cron", "ls")
    assert re.search(
        rf"^{every_year} +0 3 1 1 \* +report +year +.* +in \d+ h \d+ min +-$", text, re.MULTILINE
    )
    assert re.search(
        rf"^{every_second} +@every 1s +tick +hello +.*Queue\(\"low\"\).* ago$", text, re.MULTILINE
    )
    assert events[-1]["entry"] == every_second
    tasks = {task["id"] for task in cli("task", "ls", "-q", "low", "--json", "--size", "1000")}
    assert events[-1]["task_id"] in tasks
    assert re.search(
        rf"^{every_second} +{events[-1]['task_id']} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d$",
        cli("cron", "history", every_second, "--size", "1000"),
        re.MULTILINE,
    )
    newest = cli("cron", "history", every_second, "--size", "1", "--json")
    assert len(newest) == 1
    assert newest[0]["at"] >= events[0]["at"]
    assert cli("cron", "history", every_second, "--page", "500") == "nothing on page 500\n"
    assert cli("cron", "history", every_year) == "nothing was enqueued\n"
    both = cli("cron", "history", every_year, "nope", exit_code=1)
    assert "no scheduler entry found with id 'nope'" in both
    program.send(signal.SIGINT)
    assert program.wait_end() == 0
    assert cli("cron", "ls") == "no periodic tasks: no scheduler runs\n"


def test_entries_of_other_programs_are_harmless(
    capsys: pytest.CaptureFixture[str], screen: Screen
) -> None:
    """Whatever their names, and on narrow terminals."""
    entry = SchedulerEntry(
        id="16725bbf-dcc9-4ccd-bf80-385f76048761",
        scheduler="host:1:x",
        spec="@every 1s",
        task_type="\x1b[31mred\n",
        payload=b"\xff" * 100,
        options=(),
        next_at=None,
        previous_at=None,
    )
    describe_tasks.show_entries([entry], 0.0)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2
    shown = screen(90)
    describe_tasks.show_entries([entry], 0.0)
    assert entry.id in shown.getvalue()
    assert describe_tasks.entry_as_data(entry)["payload"] == {"base64": "/" * 133 + "w=="}
