"""`pulsewire stream`: what one command writes the others show."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.conftest import Invoke
from tests.cli.programs import Programs


@pytest.fixture
def orders(invoke: Invoke, namespace: str) -> list[str]:
    """Stream `orders` with two events; their ids."""
    ids = []
    for name, topic in (("created", "eu"), ("paid", "us")):
        added = invoke(
            "stream",
            "add",
            "orders",
            name,
            f"payload of {name}",
            "--topic",
            topic,
            "--namespace",
            namespace,
        )
        assert added.exit_code == 0, added.output
        ids.append(added.stdout.strip())
    return ids


def test_streams_are_listed(invoke: Invoke, namespace: str, orders: list[str]) -> None:
    lines = invoke("stream", "ls", "--namespace", namespace).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["stream", "length", "first", "id", "last", "id", "groups", "pending"],
        ["orders", "2", *orders, "0", "0"],
    ]
    (found,) = json.loads(invoke("stream", "ls", "ord*", "--json", "--namespace", namespace).stdout)
    assert (found["name"], found["length"], found["last_id"]) == ("orders", 2, orders[-1])
    assert invoke("stream", "ls", "users*", "--namespace", namespace).stdout == "no streams\n"


def test_one_stream_is_described(invoke: Invoke, namespace: str, orders: list[str]) -> None:
    described = invoke("stream", "info", "orders", "--namespace", namespace)
    assert described.exit_code == 0
    assert (
        dict(line.split("  ", 1) for line in described.stdout.splitlines())["length"].strip() == "2"
    )
    found = json.loads(
        invoke("stream", "info", "orders", "--json", "--namespace", namespace).stdout
    )
    assert (found["exists"], found["first_id"], found["groups"]) == (True, orders[0], [])


def test_a_missing_stream_is_said_to_be_missing(invoke: Invoke, namespace: str) -> None:
    for command in ("info", "rm"):
        result = invoke(
            "stream",
            command,
            "nothing",
            *(["--yes"] if command == "rm" else []),
            "--namespace",
            namespace,
        )
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: there is no stream 'nothing'\nhint: ")


def test_tail_prints_a_line_for_each_event(
    invoke: Invoke, namespace: str, orders: list[str]
) -> None:
    lines = invoke("stream", "tail", "orders", "--namespace", namespace).stdout.splitlines()
    assert [line.split("  ")[1:] for line in lines] == [
        [orders[0], "created", "[eu]", "payload of created"],
        [orders[1], "paid", "[us]", "payload of paid"],
    ]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--from", "oldest"], ["created", "paid"]),
        (["--topic", "us"], ["paid"]),
        (["--topic-pattern", "^e"], ["created"]),
        (["--limit", "1"], ["created"]),
    ],
)
def test_tail_can_be_narrowed(
    invoke: Invoke, namespace: str, orders: list[str], options: list[str], names: list[str]
) -> None:
    printed = invoke(
        "stream", "tail", "orders", "--json", *options, "--namespace", namespace
    ).stdout
    assert [json.loads(line)["name"] for line in printed.splitlines()] == names


def test_tail_begins_after_an_event_id(invoke: Invoke, namespace: str, orders: list[str]) -> None:
    printed = invoke(
        "stream", "tail", "orders", "--json", "--from", orders[0], "--namespace", namespace
    ).stdout
    assert [json.loads(line)["id"] for line in printed.splitlines()] == orders[1:]


def test_tail_follows_until_ctrl_c(
    invoke: Invoke, programs: Programs, namespace: str, orders: list[str]
) -> None:
    tail = programs.pulsewire(
        "stream", "tail", "orders", "--follow", "--from", "oldest", "--namespace", namespace
    )
    tail.wait_line("payload of paid")
    invoke("stream", "add", "orders", "shipped", "--namespace", namespace)
    tail.wait_line("shipped")
    tail.send(signal.SIGINT)
    assert tail.wait_end() == 130
    assert len(tail.lines) == 3


def test_events_and_then_the_stream_are_removed(
    invoke: Invoke, namespace: str, orders: list[str]
) -> None:
    removed = invoke("stream", "rm", "orders", orders[0], "--namespace", namespace)
    assert (removed.exit_code, removed.stdout) == (0, "removed 1 of 1 events\n")
    again = invoke("stream", "rm", "orders", *orders, "--namespace", namespace)
    assert (again.exit_code, again.stdout) == (1, "removed 1 of 2 events\n")
    whole = invoke("stream", "rm", "orders", "--yes", "--namespace", namespace)
    assert (whole.exit_code, whole.stdout) == (0, "removed stream 'orders'\n")
    assert invoke("stream", "ls", "--namespace", namespace).stdout == "no streams\n"


def test_a_whole_stream_is_not_removed_unasked(
    invoke: Invoke, namespace: str, orders: list[str]
) -> None:
    refused = invoke("stream", "rm", "orders", "--namespace", namespace)
    assert refused.exit_code == 2
    assert "add --yes" in refused.stderr
    assert invoke("stream", "info", "orders", "--namespace", namespace).exit_code == 0


def test_payload_comes_from_standard_input(invoke: Invoke, namespace: str) -> None:
    added = invoke(
        "stream", "add", "orders", "created", "-", "--namespace", namespace, stdin="a long one"
    )
    assert added.exit_code == 0
    (line,) = invoke(
        "stream", "tail", "orders", "--json", "--namespace", namespace
    ).stdout.splitlines()
    assert json.loads(line)["payload"] == "a long one"


def test_headers_travel_with_the_event(invoke: Invoke, namespace: str) -> None:
    invoke(
        "stream",
        "add",
        "orders",
        "created",
        "--header",
        "trace=1",
        "--header",
        "by=a=b",
        "--namespace",
        namespace,
    )
    (line,) = invoke(
        "stream", "tail", "orders", "--json", "--namespace", namespace
    ).stdout.splitlines()
    assert json.loads(line)["headers"] == {"trace": "1", "by": "a=b"}


def test_only_if_exists_creates_nothing(invoke: Invoke, namespace: str) -> None:
    added = invoke(
        "stream", "add", "orders", "created", "--only-if-exists", "--namespace", namespace
    )
    assert added.exit_code == 1
    assert "no stream 'orders'" in added.stderr
    assert invoke("stream", "ls", "--namespace", namespace).stdout == "no streams\n"


def test_an_idempotency_key_adds_once(invoke: Invoke, namespace: str) -> None:
    ids = {
        invoke(
            "stream",
            "add",
            "orders",
            "created",
            "--idempotency-key",
            "k1",
            "--namespace",
            namespace,
        ).stdout
        for _ in range(2)
    }
    assert len(ids) == 1
    info = json.loads(invoke("stream", "info", "orders", "--json", "--namespace", namespace).stdout)
    assert info["length"] == 1


def test_adding_by_hand_does_not_trim_what_others_keep(invoke: Invoke, namespace: str) -> None:
    """The library's default limit is for programs; a look with the command line must not shorten a stream."""
    invoke("tickets", "publish", "--tickets", "1200", "--quiet", "--namespace", namespace)
    for _ in range(2):
        invoke("stream", "add", "tickets", "--plain", "--field", "a=b", "--namespace", namespace)
    found = json.loads(
        invoke("stream", "info", "tickets", "--plain", "--json", "--namespace", namespace).stdout
    )
    assert found["length"] == 1202


def test_plain_streams_have_fields(invoke: Invoke, namespace: str) -> None:
    fields = ("--field", "whatHappened=rain", "--field", "mm=3")
    added = invoke("stream", "add", "weather", "--plain", *fields, "--namespace", namespace)
    assert added.exit_code == 0, added.output
    printed = invoke("stream", "tail", "weather", "--plain", "--namespace", namespace).stdout
    assert printed.rstrip().endswith(f"{added.stdout.strip()}  whatHappened=rain mm=3")


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["add", "orders"], "the name of the event"),
        (["add", "orders", "created", "--field", "a=b"], "--plain"),
        (["add", "orders", "--plain"], "--field NAME=VALUE"),
        (["add", "orders", "--plain", "created", "--field", "a=b"], "--field NAME=VALUE"),
        (["add", "orders", "created", "--header", "trace"], "'trace' is not NAME=VALUE"),
        (["tail", "orders", "--from", "newest"], "--follow"),
        (["tail", "orders", "--from", "yesterday"], "yesterday"),
        (["tail", "orders", "--topic-pattern", "("], "topic_pattern"),
        (["tail", "orders", "--topic", "a", "--topic-pattern", "b"], "topic"),
        (["info", ""], "stream"),
    ],
)
def test_wrong_calls_are_usage_errors_that_name_the_culprit(
    invoke: Invoke, arguments: list[str], culprit: str
) -> None:
    result = invoke("stream", *arguments)
    assert result.exit_code == 2, result.output
    assert culprit in result.stderr
    assert "Traceback" not in result.stderr
