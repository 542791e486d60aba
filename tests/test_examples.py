"""Every program in `examples/` runs, ends by itself, shows what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pulsewire.testing import ClusterGroup
from tests.cli.programs import Programs

EXAMPLES = Path(__file__).parent.parent / "examples"

EXPECTED: dict[str, list[str]] = {
    # A line is a regular expression; the lines come in this order.
    "streams_quickstart": [
        r"published \d+-\d+",
        r'reader: user\.created \{"id": 123\}',
        r'reader: user\.renamed \{"id": 123, "name": "Ada"\}',
        r"mailer: user\.created at \d{4}-\d\d-\d\d, delivery 1",
        r"mailer: user\.renamed at \d{4}-\d\d-\d\d, delivery 1",
    ],
    "event_sourcing": [
        r"order\.created: Order\(status='created', total=99\.9, parcel=None\)",
        r"order\.paid: Order\(status='paid', total=99\.9, parcel=None\)",
        r"order\.shipped: Order\(status='shipped', total=99\.9, parcel='ZX-81'\)",
    ],
    "topics": [
        r"oslo: rain",
        r"europe: europe\.oslo rain",
        r"europe: europe\.rome sun",
        r"alerts: america\.lima wind",
    ],
    "foreign_stream": [
        r"fields: \{'kind': 'temperature', 'celsius': '21\.5'\}",
        r"temperature: \{'celsius': '21\.5'\}",
        r"humidity: \{'percent': '40'\}",
    ],
    "ordered_consume": [
        r"ada: basket address payment receipt",
        r"barbara: basket address payment receipt",
        r"edsger: basket address payment receipt",
        r"grace: basket address payment receipt",
        r"handled at the same time: [234]",
    ],
    "distributed_cache": [
        r"100 requests here: 1 query",
        r"Ada there: still 1 query",
        r"Ada Lovelace there: 2 queries",
    ],
    "email_tasks": [
        r"email:welcome is pending in queue critical",
        r"it is enqueued already",
        r"text:count is scheduled",
        r"user 42: the mail server is busy",
        r"user 42: welcome, ada@example\.com",
        r"letters in it: 7",
        r"archived: SkipRetry: 'nobody' is no address",
    ],
    "digest": [
        *(
            rf"digest:line for {user} is aggregating"
            for user in ("ada", "grace", "ada", "ada", "grace")
        ),
        r"to ada: barbara likes your photo; edsger has followed you; grace has followed you",
        r"to grace: ada has written; barbara has written",
    ],
    "daily_report": [
        *(rf'report {number}: \{{"region": "eu"\}}' for number in (1, 2, 3)),
        r"ticks that were enqueued twice: 0",
    ],
    "email_pool": [
        r"welcome to ada@example\.com",
        r"user:123 has a job already",
        r"refused: 'nobody' is no e-mail address",
        r"tips to ada@example\.com",
        r"survey to ada@example\.com",
        r"user:123 is running, 3 of 3: survey",
        r"user:123 is stopped",
    ],
}
IN_ANY_ORDER: dict[str, list[str]] = {
    # Two sinks, two streams, or the services of a fleet, are not ordered between each other.
    "fan_out": [
        f"{sink}: {user}"
        for sink in ("analytics", "notifications")
        for user in ("ada", "grace", "edsger")
    ],
    "fan_in": [
        "orders: order.created: order 1",
        "payments: payment.received: 12.50 for order 1",
        "refunds: refund.sent: 12.50 for order 1",
    ],
    "dead_letter": [
        "delivery 1 of '10.00'",
        "delivery 1 of '20.00'",
        *(f"delivery {number} of 'a lot'" for number in (1, 2, 3)),
        "put aside: payment 'a lot'",
    ],
    "feature_flags": [
        line
        for service in ("web-1", "web-2", "worker-1")
        for line in (
            f"{service} starts with the old form",
            f"{service}: signup.new-form was off, now the new form",
        )
    ],
    "rate_limit": [*(f"web-{number}: 10 requests" for number in (1, 2, 3)), "allowed 20 of 30"],
    "service_state": [
        "serving: api-1.internal:8080 api-2.internal:8080",
        "api-1 drains",
        "api-2 drains",
        "nobody serves any more",
    ],
    "sign_up": [f"colourful e-mail to {name}" for name in ("ada", "grace", "edsger")],
    "image_tasks": [
        *(f"https://example.com/{number}.png is 320 wide" for number in range(6)),
        "all images are done",
    ],
}
BY_THEMSELVES = {
    *("tickets_publish", "tickets_consume", "tenant_pollers"),
    *("cluster_client", "cluster_worker"),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded server for these programs alone."""
    programs = Programs({})
    try:
        holder = programs.pulsewire("server", "run", "--home", str(tmp_path_factory.mktemp("home")))
        yield holder.wait_line("listening at ").removeprefix("listening at ").split(",")[0]
    finally:
        programs.close()


def run(name: str, url: str) -> list[str]:
    """Run one example to its end and return the lines it printed."""
    ended = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        env={**os.environ, "PULSEWIRE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout.splitlines()


def ownerless_keys(url: str) -> list[str]:
    """The keys that nobody would ever remove: those without a time to live."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return sorted(str(key) for key in client.scan_iter() if client.ttl(key) == -1)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_shows_what_it_says(name: str, url: str) -> None:
    lines = run(name, url)
    assert len(lines) == len(EXPECTED[name]), lines
    for line, pattern in zip(lines, EXPECTED[name], strict=True):
        assert re.fullmatch(pattern, line)
    assert ownerless_keys(url) == []


@pytest.mark.parametrize("name", IN_ANY_ORDER)
def test_an_example_shows_all_it_says(name: str, url: str) -> None:
    assert sorted(run(name, url)) == sorted(IN_ANY_ORDER[name])
    assert ownerless_keys(url) == []


def test_pollers_move_with_larger_tokens(url: str) -> None:
    """How often a poller starts depends on who has the job when a worker comes; what must be so is said below."""
    lines = run("tenant_pollers", url)
    assert {"tenant:oslo is polled, start 1", "tenant:lima is polled, start 1"} <= set(lines)
    assert lines[-3:] == [
        "the other node polls for all, with larger tokens",
        "a late write of the old poller is taken: False",
        "left: tenant:oslo",
    ]
    assert ownerless_keys(url) == []


def test_a_sink_of_its_own_keeps_the_order_of_the_stream(url: str) -> None:
    lines = run("fan_out", url)
    for sink in ("analytics", "notifications"):
        assert [line for line in lines if line.startswith(sink)] == [
            f"{sink}: {user}" for user in ("ada", "grace", "edsger")
        ]


def test_the_article_runs_in_two_programs(url: str) -> None:
    """3,000 lines from the publisher; a consumer that handles, waits, and ends with Ctrl-C."""
    programs = Programs({"PULSEWIRE_URL": url})
    try:
        consumer = programs.script(EXAMPLES / "tickets_consume.py")
        consumer.wait_line("Connected to Redis server")
        publisher = programs.script(EXAMPLES / "tickets_publish.py")
        assert publisher.wait_end() == 0, publisher.output
        assert len(publisher.lines) == 3002
        for _ in range(10):
            consumer.wait_line("Handling new ticket id : ")
        consumer.send(signal.SIGINT)
        assert consumer.wait_end() == 0, consumer.output
        assert "Traceback" not in consumer.output
        with redis.Redis.from_url(url, decode_responses=True) as client:
            assert client.xlen("tickets") == 3000
            assert [group["name"] for group in client.xinfo_groups("tickets")] == [
                "tickets-consumer-group"
            ]
            client.flushall()
    finally:
        programs.close()


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
def test_the_article_on_redis_cluster_runs(topology: ClusterGroup) -> None:
    """Three queues on their masters; client, worker, and the table of `queue ls --cluster` with the article's slots."""
    programs = Programs({"PULSEWIRE_URL": topology.url})
    try:
        client = programs.script(EXAMPLES / "cluster_client.py")
        assert client.wait_end() == 0, client.output
        assert [line.partition(": ")[0] for line in client.lines] == [
            "enqueued notifications:email to notifications",
            "enqueued webhooks:sync to webhooks",
            "enqueued images:resize to images",
        ]
        table = programs.pulsewire("queue", "ls", "--cluster")
        assert table.wait_end() == 0, table.output
        node = r"[0-9a-f]{40} 127\.0\.0\.1:\d+"
        assert len(table.lines) == 4
        for line, (queue, slot) in zip(
            table.lines[1:],
            [("images", 9450), ("notifications", 16340), ("webhooks", 4418)],
            strict=True,
        ):
            assert re.fullmatch(rf"{queue} +{slot} +{node} master, {node} replica", line)
        worker = programs.script(EXAMPLES / "cluster_worker.py")
        for _ in range(4):  # that it waits, and three tasks, the first of which may come before
            worker.wait_line("ing ")
        worker.send(signal.SIGINT)
        assert worker.wait_end() == 0, worker.output
        assert sorted(worker.lines) == [
            "Handling a webhook task: 123",
            "Resizing the image: some/path/to/image",
            "Sending an e-mail from 456 to 123",
            "Stopped",
            "Waiting for tasks",
        ]
        queues = programs.pulsewire("queue", "rm", "--force", "images", "notifications", "webhooks")
        assert queues.wait_end() == 0, queues.output
    finally:
        programs.close()


def test_every_example_of_this_kind_is_run() -> None:
    """A new example must be added above, or be run by a test of its own."""
    found = {path.stem for path in EXAMPLES.glob("*.py")}
    assert found == EXPECTED.keys() | IN_ANY_ORDER.keys() | BY_THEMSELVES
