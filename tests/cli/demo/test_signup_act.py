"""The sign-up flow itself: real processes, a mailer, a worker and the server killed. Small numbers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.demo.playing import assert_is_plain, is_running, lasting_keys, numbers, rows
from tests.cli.demo.test_demo import Keys
from tests.cli.programs import Programs

SMALL = ("--users", "40", "--ack-grace", "1")
CREW = 8
"""A web front, an operator, two mailers, two recorders, two workers."""


def processes(output: str) -> dict[str, dict[str, str]]:
    """The rows of the summary's table, by the name of the process."""
    return rows(output, r"[a-z]+(?: \d)?", ("pid", "did", "end"))


def test_it_holds_though_two_processes_and_the_server_are_killed(
    programs: Programs, keys: Keys, namespace: str, tmp_path: Path
) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--namespace", namespace)
    mailer = re.search(r"killed (mailer \d) \(pid (\d+)\)", demo.wait_line("killed mailer"))
    demo.wait_line("the operator has switched welcome.form to colourful: 7 processes know it")
    server = re.search(r"killed the server \(pid (\d+)\)", demo.wait_line("killed the server"))
    worker = re.search(
        r"killed (worker \d) \(pid (\d+)\) .* it ran (\d+) jobs and sent (\d+) mails",
        demo.wait_line("killed worker"),
    )
    assert mailer is not None
    assert server is not None
    assert worker is not None
    assert demo.wait_end() == 0, demo.output
    result = numbers(demo.output)
    for what in (
        *("seen by mailer", "seen by analytics", "seen by audit", "users signed up"),
        *("welcome mails sent to", "confirmation jobs ended"),
    ):
        assert result[what] == "40", what
    assert result["users lost on the way"] == "0"
    assert int(result["refused mails, sent again"]) >= 6
    assert re.match(r"7 processes within [\d.]+ \S+; mails: ", result["welcome.form switched"])
    assert re.match(r"\d+ sign-ups, \d+ events, ", result["in flight when Redis was killed"])
    # What was cut was begun again.
    assert int(result["begun or done twice"]) >= int(worker[3]) + int(worker[4])
    assert demo.lines[-1].startswith("It holds: everybody who signed up was seen by every sink")
    found = processes(demo.output)
    assert len(found) == CREW
    killed = {name: row["pid"] for name, row in found.items() if row["end"] == "killed"}
    assert killed == {mailer[1]: mailer[2], worker[1]: worker[2]}
    # Nobody looks at a terminal: a line a second, and no control codes.
    assert re.search(r"^ *[\d.]+ s  signed up [\d,]+/40 ", demo.output, flags=re.MULTILINE)
    assert_is_plain(demo.output)
    # The server was its own, and is gone with its data.
    assert keys(namespace) == []
    assert list(tmp_path.iterdir()) == []
    assert not any(
        is_running(int(pid)) for pid in (server[1], *(row["pid"] for row in found.values()))
    )


@pytest.mark.slow
def test_the_users_own_server_is_not_killed_and_nothing_is_left_there(
    programs: Programs, url: str, namespace: str
) -> None:
    demo = programs.pulsewire("demo", *SMALL, "--url", url, "--namespace", namespace)
    assert demo.wait_end() == 0, demo.output
    assert "the server is yours, so that it is not killed and started again" in demo.output
    assert "killed the server" not in demo.output
    assert "in flight when Redis was killed" not in numbers(demo.output)
    assert lasting_keys(url, namespace) == []


@pytest.mark.slow
def test_without_a_kill_nothing_is_done_twice_and_what_is_kept_can_be_looked_at(
    programs: Programs, invoke: Invoke, url: str, namespace: str, tmp_path: Path
) -> None:
    calm = ("--users", "40", "--no-kill", "--url", url, "--namespace", namespace)
    demo = programs.pulsewire("demo", *calm, "--keep", "--ack-grace", "20", "--lease", "20")
    assert demo.wait_end() == 0, demo.output
    assert numbers(demo.output)["begun or done twice"] == "0"
    assert {row["end"] for row in processes(demo.output).values()} == {"stopped"}
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.journal"))) == CREW
    assert "40" in invoke("stream", "info", "users", "--namespace", namespace, "--url", url).stdout
    again = programs.pulsewire("demo", *calm)
    assert again.wait_end() == 1
    assert f"a stream 'users' in namespace '{namespace}' already" in again.output


FORGETFUL = """
from pulsewire.cli.demo.journal import JournalWriter, Seen

write = JournalWriter.write

def forget(self, record):
    if not (self._path.stem == "audit" and isinstance(record, Seen) and record.user == "user-00007"):
        write(self, record)

JournalWriter.write = forget
"""


@pytest.mark.slow
def test_a_user_who_gets_lost_is_named_and_fails_it(
    environment: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The consumer of the audit acknowledges one event without doing anything for it."""
    folder = tmp_path_factory.mktemp("forgetful")
    folder.joinpath("sitecustomize.py").write_text(FORGETFUL)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    programs = Programs({**environment, "PYTHONPATH": path})
    try:
        demo = programs.pulsewire("demo", "--users", "20", "--no-kill", "--ack-grace", "0.5")
        demo.wait_line("all 8 processes work")
        demo.wait_line("nothing went on for")
        assert demo.wait_end() == 1
    finally:
        programs.close()
    assert "error: 1 users never seen by audit: user-00007" in demo.lines
    assert numbers(demo.output)["users lost on the way"] == "1"
    assert "It holds" not in demo.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_main_story_in_full_size(programs: Programs) -> None:
    """What `make demo` shows."""
    demo = programs.pulsewire("demo")
    demo.wait_line("killed the server")
    demo.wait_line("killed worker")
    demo.wait_line("everybody was seen, mailed and has confirmed")
    assert demo.wait_end() == 0, demo.output
    assert numbers(demo.output)["users signed up"] == "1,200"
