"""`pulsewire task`: what an operator sees of tasks in every state, and may do to them; against a real server."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from pulsewire.cli import describe_tasks
from pulsewire.tasks import TaskInfo, TaskState
from tests.cli.conftest import Command, Invoke, Screen
from tests.cli.programs import Program, Programs

SERVER = """
import anyio
import pulsewire
from pulsewire.tasks import Mux, SkipRetry, Task

mux = Mux()

@mux.handle("fail")
async def fail(task):
    raise ValueError(task.payload.decode())

@mux.handle("give-up")
async def give_up(task):
    raise SkipRetry("no such user")

@mux.handle("answer")
async def answer(task):
    await task.write_result(b"42")

@mux.handle("long")
async def run_long(task):
    print("running", task.id, flush=True)
    await anyio.sleep_forever()

async def main():
    async with (
        pulsewire.connect({url!r}, namespace={namespace!r}) as hub,
        hub.task_server(mux, queues={{"emails": 1}}, shutdown_timeout=0.1) as server,
    ):
        print("ready", flush=True)
        with anyio.open_signal_receiver(2) as arriving:
            async for _ in arriving:
                break

anyio.run(main)
"""


@pytest.fixture
def server(programs: Programs, namespace: str, url: str, tmp_path: Path) -> Callable[[], Program]:
    """Starts a process that runs the tasks of queue `emails`."""

    def start() -> Program:
        path = tmp_path / "task_server.py"
        path.write_text(SERVER.format(url=url, namespace=namespace))
        program = programs.script(path)
        program.wait_line("ready")
        return program

    return start


@pytest.fixture
def settled(cli: Command) -> Callable[[str, str], dict[str, Any]]:
    """Waits until a task is in a state; gives it as JSON."""

    def wait(task_id: str, state: str) -> dict[str, Any]:
        while True:  # the test has a time limit
            (task,) = cli("task", "inspect", task_id, "--json")
            if task["state"] == state:
                found: dict[str, Any] = task
                return found

    return wait


# --- enqueuing


def test_a_task_is_enqueued_with_every_option(cli: Command) -> None:
    """All of asynq's, and headers."""
    told = cli(
        *("task", "enqueue", "email:welcome", '{"user_id": 42}'),
        *("--queue", "emails", "--id", "one", "--max-retry", "3", "--timeout", "90s"),
        *("--deadline", "2030-01-02T03:04:05Z", "--unique", "1h", "--process-in", "2h"),
        *("--retention", "1d", "--group", "digest", "--header", "trace=abc", "--header", "a=b=c"),
        "--json",
    )
    (task,) = cli("task", "inspect", "one", "--json")
    assert task == told
    assert task | {"next_process_at": None} == {
        "id": "one",
        "queue": "emails",
        "type": "email:welcome",
        "payload": '{"user_id": 42}',
        "state": "scheduled",
        "headers": {"trace": "abc", "a": "b=c"},
        "max_retry": 3,
        "retried": 0,
        "last_error": "",
        "last_failed_at": None,
        "timeout": 90.0,
        "deadline": "2030-01-02T03:04:05Z",
        "group": "digest",
        "next_process_at": None,
        "is_orphaned": False,
        "retention": 86_400.0,
        "completed_at": None,
        "result": "",
        "is_readable": True,
    }
    due = datetime.fromisoformat(task["next_process_at"])
    assert timedelta(hours=1) < due - datetime.now(UTC) < timedelta(hours=2, seconds=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "pending"),
        (("--process-in", "2h"), r"scheduled in (2 h 0 min|1 h 59 min)"),
        (("--process-at", "2020-01-01T00:00:00Z"), "pending"),
        (("--group", "ada"), "aggregating in group ada"),
    ],
)
def test_it_says_where_the_new_task_is(cli: Command, options: tuple[str, ...], words: str) -> None:
    told = cli("task", "enqueue", "email:welcome", *options)
    assert re.fullmatch(rf"enqueued task [0-9a-f-]{{36}} to queue default: {words}\n", told)


def test_the_payload_may_come_from_standard_input(cli: Command) -> None:
    cli("task", "enqueue", "email:welcome", "-", "--id", "a", stdin="from a pipe")
    assert cli("task", "inspect", "a", "--json")[0]["payload"] == "from a pipe"


def test_no_payload_and_an_empty_one_are_two_unique_tasks(cli: Command) -> None:
    """As in Go. A third one is refused."""
    cli("task", "enqueue", "report", "--unique", "1m")
    cli("task", "enqueue", "report", "", "--unique", "1m")
    again = cli("task", "enqueue", "report", "--unique", "1m", exit_code=1)
    assert "error: task already exists: queue 'default' has a unique task of type 'report'" in again
    assert "hint: Wait until that one is done" in again


def test_an_id_is_taken_once(cli: Command) -> None:
    cli("task", "enqueue", "report", "--id", "a")
    again = cli("task", "enqueue", "report", "--id", "a", exit_code=1)
    assert "queue 'default' has a task 'a'" in again
    assert "hint: Look at it: `pulsewire task inspect ID --queue QUEUE`." in again


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--timeout", "soon"), "'soon' is not a duration"),
        (("--deadline", "2030-01-02"), "needs a time zone"),
        (("--process-at", "tomorrow"), "is not a point in time"),
        (("--header", "trace"), "'trace' is not NAME=VALUE"),
        (("--max-retry", "-1"), "--max-retry"),
        (("--unique", "0.5"), "unique=0.5"),
        (("--queue", " "), "it is blank"),
        (("--queue", "a{b}"), "braces are not allowed"),
        (("--group", ""), "it is blank"),
        (("--id", ""), "it is blank"),
        (("--process-in", "1h", "--process-at", "2030-01-01T00:00:00Z"), "not both"),
    ],
)
def test_what_cannot_be_enqueued_is_a_usage_error(
    cli: Command,
    keys: Callable[[str], list[str]],
    namespace: str,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert words in cli("task", "enqueue", "report", *arguments, exit_code=2)
    assert "it is blank" in cli("task", "enqueue", "", exit_code=2)
    assert keys(namespace) == []


# --- looking


def test_tasks_are_listed_with_what_matters_in_their_state(
    cli: Command, server: Callable[[], Program], settled: Callable[[str, str], dict[str, Any]]
) -> None:
    """Every state has its columns; `--state` and `--queue` pick, and JSON is one list of all."""
    emails = ("-q", "emails")
    cli("task", "enqueue", "fail", "no mailbox", *emails, "--id", "r", "--max-retry", "5")
    cli("task", "enqueue", "give-up", *emails, "--id", "x")
    cli("task", "enqueue", "answer", *emails, "--id", "c", "--retention", "1h")
    cli("task", "enqueue", "long", *emails, "--id", "a")
    cli("task", "enqueue", "digest", *emails, "--id", "g", "--group", "ada")
    cli("task", "enqueue", "later", *emails, "--id", "s", "--process-in", "1h")
    cli("task", "enqueue", "report", '{"year": 2026}', "--id", "p")  # nobody serves its queue
    running = server()
    running.wait_line("running a")
    for task_id, state in (("r", "retry"), ("x", "archived"), ("c", "completed")):
        settled(task_id, state)
    text = cli("task", "ls")
    ago, soon = r"[\d.]+ m?s ago", r"in [\d.]+ (s|min \d+ s)"
    for expected in (
        r"emails: 1 active\nid +type +payload +lease\na +long +renewed\n",
        r"emails: 1 aggregating\nid +type +payload +group\ng +digest +ada\n",
        r"emails: 1 scheduled\nid +type +payload +process\ns +later +in [\d]+ (h 0 min|min \d+ s)\n",
        (
            r"emails: 1 retry\nid +type +payload +next retry +retried +max retry +last failed +last error\n"
            rf"r +fail +no mailbox +{soon} +1 +5 +{ago} +ValueError: no mailbox\n"
        ),
        (
            r"emails: 1 archived\nid +type +payload +last failed +last error\n"
            rf"x +give-up +{ago} +SkipRetry: no such user\n"
        ),
        rf"emails: 1 completed\nid +type +payload +completed +result\nc +answer +{ago} +42\n",
        r'default: 1 pending\nid +type +payload\np +report +\{"year": 2026\}\n',
    ):
        assert re.search(expected, text), expected
    assert {task["id"]: task["state"] for task in cli("task", "list", "--json")} == {
        "p": "pending",
        "a": "active",
        "g": "aggregating",
        "s": "scheduled",
        "r": "retry",
        "x": "archived",
        "c": "completed",
    }
    assert [task["id"] for task in cli("task", "ls", *emails, "-s", "retry", "--json")] == ["r"]
    assert [task["id"] for task in cli("task", "ls", "-q", "default", "--json")] == ["p"]
    running.send(signal.SIGINT)
    assert running.wait_end() == 0


def test_pages_are_counted_in_each_state(cli: Command) -> None:
    for number in range(5):
        cli("task", "enqueue", "report", "-q", "low", "--id", f"task-{number}")
    first = cli("task", "ls", "-q", "low", "-s", "pending", "--size", "2")
    assert first.startswith("low: 5 pending, 2 of them on page 1\n")
    third = cli("task", "ls", "-q", "low", "--page", "3", "--size", "2", "--json")
    assert [task["id"] for task in third] == ["task-4"]
    assert cli("task", "ls", "--page", "4", "--size", "2") == "no tasks on page 4\n"
    assert cli("task", "ls", "--page", "0", exit_code=2)


def test_groups_are_one_list_unless_one_is_named(cli: Command) -> None:
    for number, group in enumerate(("ada", "ada", "bob", "eve")):
        cli("task", "enqueue", "line", "--id", f"{number}", "-g", group)
    everyone = cli("task", "ls", "-s", "aggregating", "--size", "3", "--page", "1", "--json")
    rest = cli("task", "ls", "-s", "aggregating", "--size", "3", "--page", "2", "--json")
    assert [task["group"] for task in everyone + rest] == ["ada", "ada", "bob", "eve"]
    assert [task["id"] for task in cli("task", "ls", "-g", "ada", "--json")] == ["0", "1"]
    assert cli("task", "ls", "-g", "nobody") == "no aggregating tasks in group 'nobody'\n"
    assert "only aggregating tasks are in groups" in cli(
        "task", "ls", "-g", "ada", "-s", "retry", exit_code=2
    )


def test_where_nothing_is_it_says_what_was_looked_for(cli: Command) -> None:
    cli("task", "enqueue", "report", "--id", "a")
    assert cli("task", "ls", "-s", "retry") == "no retry tasks\n"
    assert (
        cli("task", "ls", "-q", "default", "-s", "retry") == "no retry tasks in queue 'default'\n"
    )
    assert cli("task", "ls", "-q", "default", "-s", "retry", "--json") == []
    wrong = cli("task", "ls", "-q", "emials", exit_code=1)
    assert "error: queue 'emials' does not exist\nhint: `pulsewire queue ls`" in wrong
    assert "'done' is not one of 'pending'" in cli("task", "ls", "-s", "done", exit_code=2)


def test_a_task_is_shown_with_all_that_is_set(cli: Command) -> None:
    cli(
        *("task", "enqueue", "email:welcome", '{"user_id": 42}', "-q", "emails", "--id", "one"),
        *("--max-retry", "3", "--timeout", "90s", "--header", "trace=abc", "--process-in", "1h"),
    )
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(in (1 h 0 min|59 min \d+ s)\)"
    assert re.fullmatch(
        r"queue +emails\nid +one\ntype +email:welcome\nstate +scheduled\nretried +0 of 3\n"
        rf"process at +{when}\ntimeout +1 min 30 s\nheaders +trace=abc\npayload +.*42\}}\n",
        cli("task", "inspect", "one"),
    )
    both = cli("task", "inspect", "one", "nope", exit_code=1)
    assert "error: no queue has a task 'nope'\nhint: `pulsewire task ls`" in both
    assert "email:welcome" in both
    named = cli("task", "inspect", "one", "-q", "low", exit_code=1)
    assert "queue 'low' does not exist" in named


def test_the_queue_is_found_by_the_id_unless_several_have_it(cli: Command) -> None:
    for queue in ("high", "low"):
        cli("task", "enqueue", "report", "--id", "same", "-q", queue)
    told = cli("task", "inspect", "same", exit_code=1)
    assert "error: several queues have a task 'same': high, low\nhint: Name the queue" in told
    assert "error: several queues" in cli("task", "delete", "same", exit_code=1)
    assert cli("task", "inspect", "same", "-q", "low", "--json")[0]["queue"] == "low"
    cli("task", "delete", "same", "-q", "high")
    assert cli("task", "inspect", "same", "--json")[0]["queue"] == "low"
    assert "cannot find task with id=same in queue 'high'" in cli(
        "task", "inspect", "same", "-q", "high", exit_code=1
    )


def test_foreign_records_that_cannot_be_read_hide_nothing(
    cli: Command, url: str, namespace: str
) -> None:
    """One in every container: they are listed as what they are, and can be archived, run and deleted."""
    now = datetime.now(UTC).timestamp()
    prefix = f"{namespace}:asynq:{{low}}:"
    cli("task", "enqueue", "report", "-q", "low", "--id", "good")
    with redis.Redis.from_url(url) as client:
        for state in ("scheduled", "retry", "archived", "completed"):
            client.zadd(f"{prefix}{state}", {f"bad-{state}": now + 1000})
        client.zadd(f"{prefix}g:ada", {"bad-aggregating": now})
        client.sadd(f"{prefix}groups", "ada")
        client.lpush(f"{prefix}pending", "bad-pending")
        client.lpush(f"{prefix}active", "bad-active")
        client.zadd(f"{prefix}lease", {"bad-active": now + 1000})
        for state in TaskState:
            record = {"msg": b"\xff\x00garbage", "state": state.value, "group": "ada"}
            client.hset(f"{prefix}t:bad-{state}", mapping=record)
    found = {task["id"]: task for task in cli("task", "ls", "--json")}
    assert set(found) == {"good", *(f"bad-{state}" for state in TaskState)}
    assert not any(found[f"bad-{state}"]["is_readable"] for state in TaskState)
    assert found["good"]["is_readable"]
    text = cli("task", "ls")
    assert text.count("(no task message)") == len(TaskState)
    shown = cli("task", "inspect", "bad-retry")
    assert re.fullmatch(
        r"queue +low\nid +bad-retry\ntype +\(no task message\)\nstate +retry\n", shown
    )
    assert cli("task", "archive", "bad-retry", "bad-pending", "bad-aggregating")
    cli("task", "delete", "--all", "-q", "low", "-s", "archived", "--yes")
    cli("task", "delete", "bad-scheduled", "bad-completed")
    left = {task["id"] for task in cli("task", "ls", "--json")}
    assert left == {"good", "bad-active"}


# --- acting


def test_tasks_are_run_archived_and_deleted_one_by_one(cli: Command) -> None:
    cli("task", "enqueue", "report", "-q", "low", "--id", "a", "--process-in", "1h")
    cli("task", "enqueue", "report", "-q", "low", "--id", "b", "--process-in", "1h")
    assert cli("task", "run", "a", "b") == (
        "task a of queue 'low' is now pending\ntask b of queue 'low' is now pending\n"
    )
    again = cli("task", "run", "a", exit_code=1)
    assert "error: cannot run task 'a' of queue 'low': it is pending\nhint: Look at it" in again
    told = cli("task", "archive", "a", "nope", "b", "--json", exit_code=1)
    assert told == [
        {"id": "a", "queue": "low", "done": True, "error": None},
        {"id": "nope", "done": False, "error": "no queue has a task 'nope'"},
        {"id": "b", "queue": "low", "done": True, "error": None},
    ]
    assert cli("task", "delete", "a") == "task a of queue 'low' is deleted\n"
    assert cli("task", "rm", "b", "-q", "low") == "task b of queue 'low' is deleted\n"
    assert cli("task", "ls") == "no tasks\n"


def test_all_tasks_of_a_state_are_run_archived_and_deleted(cli: Command) -> None:
    for number in range(3):
        cli("task", "enqueue", "report", "-q", "low", "--process-in", "1h")
        cli("task", "enqueue", "line", "-q", "low", "-g", f"group-{number % 2}")
    whole = ("--all", "-q", "low", "-s")
    assert cli("task", "run", *whole, "scheduled") == (
        "3 scheduled tasks of queue 'low' are now pending\n"
    )
    assert cli("task", "archive", *whole, "aggregating", "-g", "group-0", "--json") == {
        "queue": "low",
        "state": "aggregating",
        "count": 2,
    }
    assert cli("task", "archive", *whole, "aggregating", "--json")["count"] == 1
    assert cli("task", "archive", *whole, "pending", "--json")["count"] == 3
    assert "add --yes" in cli("task", "delete", *whole, "archived", exit_code=2)
    assert cli("task", "delete", *whole, "archived", "--yes", "--json")["count"] == 6
    assert cli("task", "run", *whole, "archived") == (
        "0 archived tasks of queue 'low' are now pending\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "name tasks, or give --all"),
        (("run", "a", "--all"), "give ids, or --all, not both"),
        (("run", "a", "--state", "retry"), "give ids, or --all, not both"),
        (("run", "--all", "--state", "retry"), "missing: --all is of one queue"),
        (("run", "--all", "--queue", "low"), "missing: --all is of one state"),
        (("delete", "--all", "--queue", "low"), "missing: --all is of one state"),
        (("run", "--all", "-q", "low", "-s", "retry", "-g", "a"), "only aggregating tasks"),
        (("run", "--all", "-q", "low", "-s", "pending"), "run tasks that are one of: scheduled,"),
        (("archive", "--all", "-q", "low", "-s", "archived"), "archive tasks that are one of:"),
        (("delete", "--all", "-q", "low", "-s", "active", "--yes"), "delete tasks that are one of"),
        (("cancel",), "name tasks, or give --all"),
        (("cancel", "--all"), "missing: --all is of one queue"),
    ],
)
def test_a_choice_that_makes_no_sense_is_a_usage_error(
    cli: Command, arguments: tuple[str, ...], words: str
) -> None:
    assert words in cli("task", *arguments, exit_code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        *(("run", "--all", "-s", state) for state in ("retry", "aggregating")),
        ("archive", "a"),
        ("delete", "--all", "-s", "retry", "--yes"),
        ("cancel", "a"),
        ("cancel", "--all"),
    ],
)
def test_a_queue_that_is_not_there_is_not_made(
    cli: Command, keys: Callable[[str], list[str]], namespace: str, arguments: tuple[str, ...]
) -> None:
    assert "queue 'nope' does not exist" in cli("task", *arguments, "-q", "nope", exit_code=1)
    assert keys(namespace) == []


def test_active_tasks_are_cancelled(
    cli: Command, server: Callable[[], Program], settled: Callable[[str, str], dict[str, Any]]
) -> None:
    """By id, or all of a queue; they are tried again later. What does not run cannot be cancelled."""
    for number in range(3):
        cli("task", "enqueue", "long", "-q", "emails", "--id", f"{number}")
    running = server()
    for _ in range(3):
        running.wait_line("running")
    active = cli("task", "run", "0", exit_code=1)
    assert "cannot run task '0' of queue 'emails': it is active" in active
    assert "cancel it instead" in cli("task", "delete", "0", exit_code=1)
    assert cli("task", "cancel", "0") == "sent cancellation signal for task 0\n"
    task = settled("0", "retry")
    assert (task["last_error"], task["retried"]) == ("context canceled", 1)
    late = cli("task", "cancel", "0", exit_code=1)
    assert "cannot cancel task '0' of queue 'emails': it is retry" in late
    told = cli("task", "cancel", "--all", "-q", "emails", "--json")
    assert sorted(one["id"] for one in told) == ["1", "2"]
    settled("1", "retry")
    settled("2", "retry")
    assert cli("task", "cancel", "--all", "-q", "emails") == "no active tasks in queue 'emails'\n"
    running.send(signal.SIGINT)
    assert running.wait_end() == 0


def test_servers_are_listed_with_their_tasks(
    cli: Command, server: Callable[[], Program], invoke: Invoke, namespace: str
) -> None:
    """`pulsewire server ls`; those that have ended are not there."""
    assert cli("server", "ls") == "no servers run tasks\n"
    assert cli("server", "ls", "--json") == []
    cli("task", "enqueue", "long", "hello", "-q", "emails", "--id", "0")
    running = server()
    running.wait_line("running 0")
    while not (found := cli("server", "list", "--json"))[0]["workers"]:
        pass  # shown every few seconds
    (shown,) = found
    assert (shown["pid"], shown["status"], shown["queues"]) == (
        running.pid,
        "active",
        {"emails": 1},
    )
    assert (shown["concurrency"], shown["active_workers"]) == (100, 1)
    (worker,) = shown["workers"]
    assert (worker["task_id"], worker["task_type"], worker["payload"]) == ("0", "long", "hello")
    text = cli("server", "ls", "--tasks")
    ago = r"([\d.]+ m?s|\d+ min \d+ s) ago"
    assert re.search(rf" +{running.pid} +active +1/100 +emails:1 +{ago}\n", text)
    assert re.search(rf" +{running.pid} +emails +0 +long +hello +{ago} +in ", text)
    running.send(signal.SIGINT)
    assert running.wait_end() == 0
    assert cli("server", "ls") == "no servers run tasks\n"


# --- how it looks


def a_task(**fields: Any) -> TaskInfo:
    """A task with nothing special but what is said."""
    ordinary = {
        "id": "a",
        "queue": "low",
        "type": "t",
        "payload": b"",
        "state": TaskState.RETRY,
        "max_retry": 25,
        "timeout": 1800.0,
    }
    return TaskInfo(**{**ordinary, **fields})


def test_an_id_is_never_broken_on_a_narrow_terminal(screen: Screen) -> None:
    """People copy it. What is long gives way."""
    task_id = "16725bbf-dcc9-4ccd-bf80-385f76048761"
    shown = screen(70)
    describe_tasks.show_tasks(
        TaskState.PENDING, [a_task(id=task_id, type="email:welcome", payload=b"x" * 200)], 0.0
    )
    lines = shown.getvalue().splitlines()
    assert any(task_id in line for line in lines)
    assert all(len(line) <= 70 for line in lines)


def test_long_cells_are_shortened_in_tables_and_whole_when_inspected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = a_task(payload=b"x" * 500, last_error="y" * 500)
    describe_tasks.show_tasks(TaskState.RETRY, [task], 0.0)
    text = capsys.readouterr().out
    assert "x" * 59 + "…" in text
    assert "x" * 60 not in text
    assert "y" * 59 + "…" in text
    describe_tasks.show_task(task, 0.0)
    text = capsys.readouterr().out
    assert "x" * 500 in text
    assert "y" * 500 in text


def test_what_other_programs_wrote_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences reach no terminal; bytes that are no text have a form in JSON."""
    nasty = "\x1b[31mred\n"
    task = a_task(
        id=nasty,
        queue=nasty,
        type=nasty,
        payload=b"\xff\x1b",
        group=nasty,
        last_error=nasty,
        headers={nasty: nasty},
        result=b"\xff",
    )
    for state in TaskState:
        describe_tasks.show_tasks(state, [task], 0.0)
    describe_tasks.show_task(task, 0.0)
    text = capsys.readouterr().out + describe_tasks.enqueued(task, 0.0)
    assert "\x1b" not in text
    assert len(text.splitlines()) < 40
    data = json.loads(json.dumps(describe_tasks.task_as_data(task)))
    assert (data["payload"], data["result"]) == ({"base64": "/xs="}, {"base64": "/w=="})
    assert data["headers"] == {nasty: nasty}
