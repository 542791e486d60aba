"""The two halves of the article: published here, handled there."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
import redis

from tests.cli.conftest import Invoke
from tests.cli.programs import Programs

STAMP = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"


def test_publishing_logs_what_the_article_logs(invoke: Invoke, namespace: str) -> None:
    result = invoke("tickets", "publish", "--tickets", "3", "--namespace", namespace)
    assert result.exit_code == 0
    started, connected, *tickets, published = result.stdout.splitlines()
    assert re.fullmatch(rf"{STAMP} Publisher started", started)
    assert re.match(rf"{STAMP} Connected to ", connected)
    assert len(tickets) == 3
    assert all(
        re.fullmatch(rf"{STAMP} Published ticket \d+ as event \d+-\d+", line) for line in tickets
    )
    assert published.endswith("Published 3 tickets")


@pytest.mark.parametrize("half", ["publish", pytest.param("consume", marks=pytest.mark.slow)])
def test_without_a_server_both_halves_end_with_an_error_that_names_it(
    invoke: Invoke, half: str, tmp_path: Path
) -> None:
    nobody = f"unix://{tmp_path}/nobody.sock"
    result = invoke("tickets", half, "--url", nobody)
    assert result.exit_code == 1
    assert f"error: no usable server at {nobody}" in result.stderr
    assert "Traceback" not in result.output


def test_an_entry_has_the_fields_of_the_article(invoke: Invoke, namespace: str, url: str) -> None:
    """Looked at with another client: any other program can read and write these."""
    invoke("tickets", "publish", "--tickets", "1", "--quiet", "--namespace", namespace)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        (key,) = client.scan_iter(f"*{namespace}*tickets", _type="stream")
        ((_, fields),) = client.xrange(key)
    number = fields.pop("ticketID")
    assert 0 <= int(number) < 100_000_000
    assert list(fields.items()) == [
        ("whatHappened", "ticket received"),
        ("ticketData", "some ticket data"),
    ]


def test_the_same_seed_gives_the_same_tickets(invoke: Invoke, namespace: str) -> None:
    runs = [
        re.findall(
            r"ticket (\d+) as",
            invoke("tickets", "publish", "-n", "5", "--seed", "7", "--namespace", namespace).stdout,
        )
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 5


@pytest.mark.slow
def test_there_is_no_limit_of_length(invoke: Invoke, namespace: str) -> None:
    result = invoke("tickets", "publish", "--quiet", "--namespace", namespace)
    assert result.exit_code == 0
    report = json.loads(invoke("tickets", "report", "--json", "--namespace", namespace).stdout)
    assert report["length"] == 3000
    assert report["groups"] == []
    assert report["happened"] == {"ticket received": 3000}


def test_a_consumer_handles_what_is_there_and_waits_for_more(
    invoke: Invoke, programs: Programs, namespace: str
) -> None:
    invoke("tickets", "publish", "--tickets", "3", "--seed", "1", "--namespace", namespace)
    consumer = programs.pulsewire("tickets", "consume", "--namespace", namespace)
    consumer.wait_line("Consumer started")
    consumer.wait_line("Connected to ")
    for _ in range(3):
        line = consumer.wait_line("Handling new ticket id : ")
        assert re.fullmatch(rf"{STAMP} Handling new ticket id : \d+ data some ticket data", line)
    invoke("tickets", "publish", "--tickets", "2", "--namespace", namespace)
    for _ in range(2):
        consumer.wait_line("Handling new ticket id : ")
    consumer.send(signal.SIGINT)
    assert consumer.wait_end() == 130
    assert consumer.lines[-1].endswith("Consumer stopped, handled 5 tickets")
    (group,) = json.loads(invoke("tickets", "report", "--json", "--namespace", namespace).stdout)[
        "groups"
    ]
    assert (group["name"], group["pending"]) == ("tickets-consumer-group", 0)


def test_a_consumer_told_to_stop_finishes_what_it_began(
    invoke: Invoke, programs: Programs, namespace: str
) -> None:
    invoke("tickets", "publish", "--tickets", "9", "--quiet", "--namespace", namespace)
    consumer = programs.pulsewire("tickets", "consume", "--work", "0.5", "--namespace", namespace)
    consumer.wait_line("Handling new ticket id : ")
    consumer.send(signal.SIGTERM)
    assert consumer.wait_end() == 143
    begun = sum("Handling new ticket id : " in line for line in consumer.lines)
    assert begun < 9
    assert consumer.lines[-1].endswith(f"Consumer stopped, handled {begun:,} tickets")


def test_other_events_pass_without_being_handled(
    invoke: Invoke, programs: Programs, namespace: str
) -> None:
    invoke(
        "stream",
        "add",
        "tickets",
        "--plain",
        "--field",
        "whatHappened=rain",
        "--namespace",
        namespace,
    )
    invoke("stream", "add", "tickets", "--plain", "--field", "colour=red", "--namespace", namespace)
    invoke("tickets", "publish", "--tickets", "1", "--namespace", namespace)
    consumer = programs.pulsewire("tickets", "consume", "--namespace", namespace)
    consumer.wait_line("Handling new ticket id : ")
    consumer.send(signal.SIGINT)
    consumer.wait_end()
    assert consumer.lines[-1].endswith("handled 1 tickets")
    report = json.loads(invoke("tickets", "report", "--json", "--namespace", namespace).stdout)
    assert [group["pending"] for group in report["groups"]] == [0]


def test_two_consumers_share_the_work(invoke: Invoke, programs: Programs, namespace: str) -> None:
    consumers = [
        programs.pulsewire("tickets", "consume", "--work", "0.02", "--namespace", namespace)
        for _ in range(2)
    ]
    names = {consumer.wait_line("waits for tickets").split()[3] for consumer in consumers}
    assert len(names) == 2
    invoke("tickets", "publish", "--tickets", "40", "--quiet", "--namespace", namespace)
    for consumer in consumers:
        for _ in range(15):  # of 40: an uneven share is bounded, an exact half is not promised
            consumer.wait_line("Handling new ticket id : ")
    for consumer in consumers:
        consumer.send(signal.SIGINT)
        consumer.wait_end()


def test_the_report_shows_groups_and_both_ends(
    invoke: Invoke, programs: Programs, namespace: str
) -> None:
    invoke("tickets", "publish", "--tickets", "2", "--quiet", "--namespace", namespace)
    printed = invoke("tickets", "report", "--namespace", namespace).stdout
    assert "2 times: ticket received" in printed
    assert "first: " in printed
    assert "last: " in printed


def test_a_report_on_nothing_says_so(invoke: Invoke, namespace: str) -> None:
    result = invoke("tickets", "report", "--namespace", namespace)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no stream `tickets`" in result.stderr


@pytest.mark.parametrize("option", ["--tickets", "--rate"])
def test_negative_numbers_are_refused(invoke: Invoke, option: str) -> None:
    result = invoke("tickets", "publish", option, "-1")
    assert result.exit_code == 2
    assert option in result.stderr
