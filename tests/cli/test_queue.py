"""`pulsewire queue`, `group` and `stats`: what an operator sees of queues, and may do to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
import redis

from pulsewire.cli import describe_queues
from pulsewire.tasks import DailyStats, NodeInfo, QueueInfo, QueuePlacement
from tests.cli.conftest import Command, Screen


@pytest.fixture
def three_queues(cli: Command) -> None:
    """Tasks in several states: `critical` has 2 pending ones, `low` 1 scheduled and 3 in groups; `empty` has none."""
    for number in range(2):
        cli("task", "enqueue", "email:welcome", f'{{"user": {number}}}', "-q", "critical")
    cli("task", "enqueue", "image:resize", "x", "-q", "low", "--process-in", "1h")
    for group in ("ada", "ada", "grace"):
        cli("task", "enqueue", "digest:line", "hello", "-q", "low", "-g", group)
    cli("task", "enqueue", "none", "-q", "empty", "--id", "only")
    cli("task", "delete", "only", "-q", "empty")


def row(text: str, first: str) -> list[str]:
    """The cells of the row of a table that begins with a word."""
    line = next(line for line in text.splitlines() if line.startswith(first))
    return re.split(r"\s{2,}", line.strip())


# --- looking


def test_without_queues_it_says_so(cli: Command) -> None:
    assert cli("queue", "ls") == "no queues\n"
    assert cli("queue", "ls", "--json") == []
    assert cli("group", "ls") == "no groups\n"
    assert cli("task", "ls") == "no tasks\n"
    assert cli("stats", "--json")["queues"] == []
    assert row(cli("stats"), "all queues") == ["all queues", *["0"] * 8]


@pytest.mark.usefixtures("three_queues")
def test_queues_are_listed_with_their_tasks_by_state(cli: Command) -> None:
    """Also those that are empty. `list` is another name, and a pattern picks some."""
    text = cli("queue", "ls")
    assert text.splitlines()[0].split() == [
        *("queue", "size", "active", "pending", "aggregating", "scheduled", "retry"),
        *("archived", "completed", "latency", "paused"),
    ]
    assert row(text, "critical")[:4] == ["critical", "2", "0", "2"]
    assert re.fullmatch(r"[\d.]+ (ms|s)", row(text, "critical")[9])
    assert row(text, "empty") == ["empty", *["0"] * 8, "-", "-"]
    assert row(text, "low") == ["low", "4", "0", "0", "3", "1", "0", "0", "0", "-", "-"]
    assert [queue["name"] for queue in cli("queue", "list", "--json")] == [
        "critical",
        "empty",
        "low",
    ]
    assert [queue["name"] for queue in cli("queue", "ls", "[cl]*", "--json")] == ["critical", "low"]
    assert cli("queue", "ls", "x*") == "no queues\n"


@pytest.mark.usefixtures("three_queues")
def test_a_queue_as_json_has_everything(cli: Command) -> None:
    (low,) = cli("queue", "inspect", "low", "--json")
    assert {name: low[name] for name in ("name", "size", "aggregating", "scheduled", "groups")} == {
        "name": "low",
        "size": 4,
        "aggregating": 3,
        "scheduled": 1,
        "groups": 2,
    }
    assert (low["is_paused"], low["paused_at"], low["error_rate"]) == (False, None, None)
    assert low["memory"] > 0
    assert datetime.fromisoformat(low["at"]).tzinfo is not None


@pytest.mark.usefixtures("three_queues")
def test_one_queue_is_shown_with_memory_and_todays_outcomes(
    cli: Command, url: str, namespace: str
) -> None:
    today = datetime.now(UTC)
    with redis.Redis.from_url(url) as client:
        prefix = f"{namespace}:asynq:{{critical}}:"
        for name, count in (("processed", 5_000), ("failed", 1)):
            client.set(f"{prefix}{name}", count)
        for name, count in (("processed", 8), ("failed", 1)):
            client.set(f"{prefix}{name}:{today:%Y-%m-%d}", count, ex=60)
    cli("queue", "pause", "critical")
    text = cli("queue", "inspect", "critical")
    assert re.search(
        r"^queue +critical\nsize +2\ngroups +0\nlatency +.*\nmemory +.* B$", text, re.MULTILINE
    )
    assert re.search(r"^paused +yes, since \d{4}-.* \([\d.]+ m?s ago\)$", text, re.MULTILINE)
    assert row(text, "today") == ["today", "8", "1", "12.50%"]
    assert row(text, "ever") == ["ever", "5,000", "1", "0.02%"]


@pytest.mark.usefixtures("three_queues")
def test_several_queues_and_a_wrong_one(cli: Command) -> None:
    """Those that are there are shown, the others are named on standard error, and the exit code says so."""
    for command in (("queue", "inspect"), ("queue", "history")):
        text = cli(*command, "critical", "nope", "low", exit_code=1)
        assert "error: queue 'nope' does not exist\nhint: `pulsewire queue ls`" in text
        assert "critical" in text
        assert "low" in text
        found = cli(*command, "critical", "nope", "low", "--json", exit_code=1)
        assert {one.get("name", one.get("queue")) for one in found} == {"critical", "low"}


@pytest.mark.usefixtures("three_queues")
def test_history_goes_back_day_by_day(cli: Command, url: str, namespace: str) -> None:
    with redis.Redis.from_url(url) as client:
        prefix = f"{namespace}:asynq:{{critical}}:"
        today = datetime.now(UTC)
        client.set(f"{prefix}processed:{today:%Y-%m-%d}", 4, ex=60)
        client.set(f"{prefix}failed:{today:%Y-%m-%d}", 1, ex=60)
    days = cli("queue", "history", "critical", "--days", "3", "--json")
    assert len(days) == 3
    assert days[0] == {
        "queue": "critical",
        "day": f"{today:%Y-%m-%d}",
        "processed": 4,
        "failed": 1,
        "error_rate": 0.25,
    }
    assert days[0]["day"] > days[1]["day"] > days[2]["day"]
    lines = cli("queue", "history", "critical").splitlines()
    assert len(lines) == 11
    assert lines[1].split() == ["critical", f"{today:%Y-%m-%d}", "4", "1", "25.00%"]
    assert cli("queue", "history", "critical", "-x", "0", exit_code=2)


@pytest.mark.usefixtures("three_queues")
def test_groups_are_listed_with_their_sizes(cli: Command) -> None:
    assert row(cli("group", "ls"), "low    ada") == ["low", "ada", "2"]
    assert cli("group", "list", "-q", "low", "--json") == [
        {"queue": "low", "group": "ada", "size": 2},
        {"queue": "low", "group": "grace", "size": 1},
    ]
    assert cli("group", "ls", "--queue", "critical") == "no groups in queue 'critical'\n"
    assert "queue 'nope' does not exist" in cli("group", "ls", "-q", "nope", exit_code=1)


@pytest.mark.usefixtures("three_queues")
def test_stats_are_all_queues_at_a_glance(cli: Command, url: str) -> None:
    """Tasks by queue and state, what became of today's, and the server."""
    cli("queue", "pause", "low")
    text = cli("stats")
    assert row(text, "low (paused)") == ["low (paused)", "4", "0", "0", "3", "1", "0", "0", "0"]
    assert row(text, "all queues") == ["all queues", "6", "0", "2", "3", "1", "0", "0", "0"]
    assert re.search(r"^\d{4}-\d\d-\d\d UTC ", text, re.MULTILINE)
    assert re.search(rf"^server +\w+ [\d.]+ \(standalone\) at {url}$", text, re.MULTILINE)
    for fact in ("uptime", "connections", "memory", "peak memory"):
        assert re.search(rf"^{fact} +\S", text, re.MULTILINE)
    data = cli("stats", "--json")
    assert data.keys() == {"aggregate", "queues", "redis"}
    assert data["aggregate"] | {"at": ""} == {
        "size": 6,
        "active": 0,
        "pending": 2,
        "aggregating": 3,
        "scheduled": 1,
        "retry": 0,
        "archived": 0,
        "completed": 0,
        "processed": 0,
        "failed": 0,
        "processed_total": 0,
        "failed_total": 0,
        "at": "",
    }
    assert [queue["name"] for queue in data["queues"]] == ["critical", "empty", "low"]
    assert "redis_version" in data["redis"]


# --- acting


@pytest.mark.usefixtures("three_queues")
def test_queues_are_paused_and_unpaused(cli: Command) -> None:
    """What is so already is an error of its own; it keeps no other queue back."""
    assert (
        cli("queue", "pause", "critical", "low") == "paused queue 'critical'\npaused queue 'low'\n"
    )
    assert row(cli("queue", "ls"), "low")[-1] == "paused"
    again = cli("queue", "pause", "critical", "empty", exit_code=1)
    assert "error: queue 'critical' is already paused\nhint: `pulsewire queue unpause" in again
    assert "paused queue 'empty'" in again
    assert cli("queue", "unpause", "critical") == "unpaused queue 'critical'\n"
    assert "queue 'critical' is not paused" in cli("queue", "resume", "critical", exit_code=1)
    told = cli("queue", "resume", "low", "critical", "--json", exit_code=1)
    assert told == [
        {"queue": "low", "done": True, "error": None},
        {"queue": "critical", "done": False, "error": "queue 'critical' is not paused"},
    ]


def test_a_misspelt_queue_is_not_paused(
    cli: Command, keys: Callable[[str], list[str]], namespace: str
) -> None:
    assert "queue 'emials' does not exist" in cli("queue", "pause", "emials", exit_code=1)
    assert keys(namespace) == []


@pytest.mark.usefixtures("three_queues")
def test_a_queue_is_removed_when_it_is_empty_or_by_force(
    cli: Command, keys: Callable[[str], list[str]], namespace: str
) -> None:
    assert cli("queue", "rm", "empty") == "removed queue 'empty'\n"
    full = cli("queue", "remove", "critical", exit_code=1)
    assert "error: queue 'critical' is not empty: 2 tasks" in full
    assert "hint: --force deletes its tasks, too." in full
    assert cli("queue", "delete", "critical", "low", "--force") == (
        "removed queue 'critical'\nremoved queue 'low'\n"
    )
    assert cli("queue", "ls") == "no queues\n"
    assert [key for key in keys(namespace) if "asynq:" in key] == []
    assert "queue 'low' does not exist" in cli("queue", "rm", "low", "-f", exit_code=1)


def test_names_that_no_queue_can_have_are_usage_errors(cli: Command) -> None:
    for command in ("inspect", "history", "pause", "unpause", "rm"):
        assert "braces are not allowed" in cli("queue", command, "a{b}", exit_code=2)


def test_only_a_cluster_has_slots(cli: Command, url: str) -> None:
    told = cli("queue", "ls", "--cluster", exit_code=1)
    assert f"error: {url} is not a cluster: all queues are on one server" in told
    assert "hint: Name the nodes of a cluster: --url redis+cluster://" in told


# --- how it looks


def a_queue(name: str, **counts: Any) -> QueueInfo:
    """A queue with nothing in it but what is said."""
    fields = dict.fromkeys(
        (
            *("pending", "active", "scheduled", "retry", "archived", "completed", "aggregating"),
            *("set_apart", "groups", "processed", "failed", "processed_total", "failed_total"),
        ),
        0,
    )
    at = datetime(2026, 1, 2, tzinfo=UTC)
    rest = {"latency": 0.0, "memory": None, "is_paused": False, "paused_at": None, "at": at}
    return QueueInfo(name=name, **{**fields, **rest, **counts})


def test_a_narrow_terminal_leaves_out_states_without_tasks(
    screen: Screen,
) -> None:
    """Rather than breaking headings in the middle of words."""
    wide, queues = screen(160), [a_queue("critical", pending=3, retry=1), a_queue("low")]
    describe_queues.show_queues(queues)
    assert "aggregating" in wide.getvalue()
    narrow = screen(60)
    describe_queues.show_queues(queues)
    lines = [line.rstrip() for line in narrow.getvalue().splitlines() if line.strip()]
    assert lines[0].split() == ["queue", "size", "pending", "retry", "latency"]
    assert lines[2].split() == ["critical", "4", "3", "1", "-"]
    assert all(len(line) <= 60 for line in lines)


def test_tasks_that_are_being_aggregated_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    describe_queues.show_queues([a_queue("low", aggregating=2, set_apart=5)])
    assert row(capsys.readouterr().out, "low")[:6] == ["low", "7", "0", "0", "7", "0"]


NODES = (
    NodeInfo(
        id="d54231bccd6c1765ea15caf95a41c67b10b91e58", address="127.0.0.1:7001", role="master"
    ),
    NodeInfo(
        id="70a7d4569eac28eed577ee91863703ffab98d2e0", address="127.0.0.1:7005", role="replica"
    ),
)
PLACES = [
    QueuePlacement(queue="images", slot=9450, nodes=NODES),
    QueuePlacement(queue="webhooks", slot=4418, nodes=()),
]


def test_where_queues_are_is_one_line_each_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    describe_queues.show_placements(PLACES)
    heading, images, webhooks = capsys.readouterr().out.splitlines()
    assert heading == "Queue     Cluster KeySlot  Cluster Nodes"
    assert images == (
        "images               9450  "
        "d54231bccd6c1765ea15caf95a41c67b10b91e58 127.0.0.1:7001 master, "
        "70a7d4569eac28eed577ee91863703ffab98d2e0 127.0.0.1:7005 replica"
    )
    assert webhooks == "webhooks             4418  none: nobody serves the slot"


@pytest.mark.parametrize("width", [80, 120])
def test_where_queues_are_is_a_line_for_each_node_on_a_terminal(screen: Screen, width: int) -> None:
    shown = screen(width)
    describe_queues.show_placements(PLACES)
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    for node in NODES:
        assert any(line.endswith(node.role) and node.address in line for line in lines)
        assert any(node.id in line for line in lines)
    assert all(len(line) <= width for line in lines)


def test_foreign_names_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    """Go programs may call a queue anything."""
    describe_queues.show_queues([a_queue("\x1b[31mred\n", pending=1)])
    describe_queues.show_queue(a_queue("\x1b[31mred\n"))
    day = DailyStats(queue="\x1b[31mred", day=date(2026, 1, 2), processed=1, failed=1)
    describe_queues.show_history([day])
    assert "\x1b" not in capsys.readouterr().out
