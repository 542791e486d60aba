"""`pulsewire pool`: what an operator sees of a pool of real node processes, and may do about it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire.cli.pool_watch import EMPTY, Look, happenings
from pulsewire.pool import JobInfo, JobState, WorkerInfo
from tests.cli.conftest import Invoke
from tests.cli.programs import Program, Programs

NODE = """
import signal, sys
import anyio
import pulsewire

class Handler:
    async def start(self, job):
        if job.payload == b"refuse":
            raise ValueError("no such mailbox")
        await job.heartbeat("begun")
        print("start", job.key, job.payload.decode(), job.token, flush=True)

    async def stop(self, key):
        print("stop", key, flush=True)

    async def notify(self, key, payload):
        print("notify", key, payload.decode(), flush=True)

async def main():
    async with (
        pulsewire.connect({url!r}, namespace={namespace!r}) as hub,
        hub.node("emails", worker_ttl=2.0, routing={routing!r}) as node,
        anyio.create_task_group() as tasks,
    ):
        worker = await node.add_worker(Handler())
        print("worker", worker.id, flush=True)
        async def end():
            await node.wait_shutdown()
            tasks.cancel_scope.cancel()
        tasks.start_soon(end)
        with anyio.open_signal_receiver(signal.SIGTERM) as arriving:
            async for _ in arriving:
                break
        tasks.cancel_scope.cancel()

anyio.run(main)
"""

StartNode = Callable[..., tuple[Program, str]]
PoolCommand = Callable[..., Any]


@pytest.fixture
def start_node(programs: Programs, namespace: str, url: str, tmp_path: Path) -> StartNode:
    """Starts a process with one worker of the pool `emails`; gives it and the worker's id."""

    def start(routing: str = "rendezvous") -> tuple[Program, str]:
        path = tmp_path / f"node-{routing}.py"
        path.write_text(NODE.format(url=url, namespace=namespace, routing=routing))
        program = programs.script(path)
        return program, program.wait_line("worker ").split()[1]

    return start


@pytest.fixture
def pool(invoke: Invoke, namespace: str) -> PoolCommand:
    """Runs `pulsewire pool` in the namespace of the test; what it has printed as JSON if that was asked for."""

    def run(command: str, *arguments: str, exit_code: int = 0, stdin: str | None = None) -> Any:
        result = invoke("pool", command, *arguments, "--namespace", namespace, stdin=stdin)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.output

    return run


READING = [("workers",), ("jobs",), ("job", "user:1"), ("watch",)]
ACTING = [("dispatch", "user:1"), ("stop", "user:1"), ("notify", "user:1", "x"), ("drain", "w")]


@pytest.mark.parametrize("command", [*READING, *ACTING, ("shutdown", "--yes")])
def test_pool_that_is_not_there_is_not_made(
    pool: PoolCommand, keys: Callable[[str], list[str]], namespace: str, command: tuple[str, ...]
) -> None:
    """Looking at a misspelt name, or dispatching to it, leaves nothing behind."""
    told = pool(command[0], "emials", *command[1:], exit_code=1)
    assert "error: there is no pool 'emials'" in told
    assert "hint: `pulsewire pool ls`" in told
    assert keys(namespace) == []


def test_without_pools_it_says_so(pool: PoolCommand) -> None:
    assert pool("ls") == "no pools\n"
    assert pool("ls", "--json") == []


def test_who_owns_what(pool: PoolCommand, start_node: StartNode) -> None:
    """Pools, workers, and jobs with state, owner, token and progress; `job` also has the payload."""
    _, worker = start_node()
    told = pool("dispatch", "emails", "user:1", "hello")
    found = re.fullmatch(rf"job user:1 is running at worker {worker}, token (\d+)\n", told)
    assert found is not None
    pool("dispatch", "emails", "user:2", "-", stdin="from standard input")
    (listed,) = pool("ls", "--json")
    assert {name: listed[name] for name in ("pool", "nodes", "workers", "jobs", "running")} == {
        "pool": "emails",
        "nodes": 1,
        "workers": 1,
        "jobs": 2,
        "running": 2,
    }
    (known,) = pool("workers", "emails", "--json")
    assert (known["id"], known["state"], known["jobs"]) == (worker, "active", 2)
    first, second = pool("jobs", "emails", "--json")
    assert [first["key"], second["key"]] == ["user:1", "user:2"]
    assert (first["owner"], str(first["token"]), first["starts"]) == (worker, found[1], 1)
    assert second["token"] > first["token"]
    assert (first["state"], first["progress"]) == ("running", "begun")
    assert "payload" not in first
    one = pool("job", "emails", "user:2", "--json")
    assert one["payload"] == "from standard input"
    assert re.search(r"^emails +1 +1 +2 +0 +0 +2 +0$", pool("ls"), flags=re.MULTILINE)
    assert re.search(rf"^{worker} +active +2 +1 ", pool("workers", "emails"), flags=re.MULTILINE)
    table = pool("jobs", "emails", "*:1", "--worker", worker, "--state", "running")
    assert re.search(
        rf"^user:1 +running +[\d.]+ m?s +{worker} +{found[1]} +1 +begun$", table, re.MULTILINE
    )
    assert "user:2" not in table
    assert re.search(r"^payload +hello$", pool("job", "emails", "user:1"), flags=re.MULTILINE)
    pool("shutdown", "emails", "--yes")


def test_dispatch_tells_what_became_of_it(pool: PoolCommand, start_node: StartNode) -> None:
    """A key that exists, a handler that refuses: one line and what to do, exit code 1."""
    start_node()
    pool("dispatch", "emails", "user:1")
    again = pool("dispatch", "emails", "user:1", exit_code=1)
    assert "pool 'emails' has a job 'user:1' already" in again
    assert "hint: Look at it" in again
    refused = pool("dispatch", "emails", "user:2", "refuse", exit_code=1)
    assert "job 'user:2' of pool 'emails' did not start: no such mailbox" in refused
    assert [job["key"] for job in pool("jobs", "emails", "--json")] == ["user:1"]
    pool("shutdown", "emails", "--yes")


def test_jobs_wait_for_a_worker_and_no_more_than_allowed(
    pool: PoolCommand, start_node: StartNode
) -> None:
    """`--create` for producers that come first; beyond `--max-queued-jobs` a job is refused."""
    told = pool("dispatch", "emails", "user:1", "--create", "--no-wait")
    assert told == "job user:1 is waiting\n"
    late = pool("dispatch", "emails", "user:2", "--timeout", "0.2", exit_code=1)
    assert "job 'user:2' of pool 'emails' is waiting" in late
    full = pool("dispatch", "emails", "user:3", "--max-queued-jobs", "2", exit_code=1)
    assert "2 jobs of pool 'emails' wait for their start" in full
    assert "no workers: jobs wait" in pool("workers", "emails")
    node, _ = start_node()
    node.wait_line("start user:")
    node.wait_line("start user:")
    pool("shutdown", "emails", "--yes")


def test_stop_and_notify_reach_the_owner(pool: PoolCommand, start_node: StartNode) -> None:
    node, _ = start_node()
    pool("dispatch", "emails", "user:1")
    assert pool("notify", "emails", "user:1", "faster") == "told the owner of job user:1\n"
    node.wait_line("notify user:1 faster")
    told = pool("stop", "emails", "user:1", "user:9", exit_code=1)
    assert "job user:1 has ended" in told
    assert "pool 'emails' has no job 'user:9'" in told
    assert "stop user:1" in node.output or node.wait_line("stop user:1")
    assert pool("jobs", "emails") == "no jobs\n"
    assert "has no job 'user:1'" in pool("notify", "emails", "user:1", "x", exit_code=1)
    assert "has no job 'user:1'" in pool("job", "emails", "user:1", exit_code=1)
    pool("shutdown", "emails", "--yes")


def test_drained_worker_hands_its_jobs_over(pool: PoolCommand, start_node: StartNode) -> None:
    """Before its process is stopped; the jobs go on elsewhere with larger tokens."""
    _, first = start_node()
    alone = pool("drain", "emails", first, exit_code=1)
    assert "there is no other active worker" in alone
    for number in range(12):
        pool("dispatch", "emails", f"user:{number}")
    before = {job["key"]: job for job in pool("jobs", "emails", "--json")}
    _, second = start_node()
    assert "has no worker 'nobody'" in pool("drain", "emails", "nobody", exit_code=1)
    assert "has no jobs any more" in pool("drain", "emails", first)
    after = {job["key"]: job for job in pool("jobs", "emails", "--json")}
    assert after.keys() == before.keys()
    assert {job["owner"] for job in after.values()} == {second}
    assert all(after[key]["token"] > before[key]["token"] for key in before)
    states = {known["id"]: known["state"] for known in pool("workers", "emails", "--json")}
    assert states == {first: "draining", second: "active"}
    pool("shutdown", "emails", "--yes")


def test_shutdown_ends_all_jobs_on_all_nodes(pool: PoolCommand, start_node: StartNode) -> None:
    """It asks first; where nobody can answer, `--yes` is needed."""
    nodes = [start_node()[0], start_node()[0]]
    for number in range(6):
        pool("dispatch", "emails", f"user:{number}")
    assert "add --yes" in pool("shutdown", "emails", exit_code=2)
    assert len(pool("jobs", "emails", "--json")) == 6
    told = pool("shutdown", "emails", "--yes")
    assert re.fullmatch(r"shut down pool 'emails' with 6 jobs in [\d.]+ m?s\n", told)
    for node in nodes:
        assert node.wait_end() == 0, node.output
    stopped = [line for node in nodes for line in node.lines if line.startswith("stop ")]
    assert sorted(stopped) == [f"stop user:{number}" for number in range(6)]
    assert pool("ls") == "no pools\n"


def test_pool_with_jump_hashing_is_no_hindrance(pool: PoolCommand, start_node: StartNode) -> None:
    """The command line takes the routing that the pool has."""
    _, worker = start_node("jump")
    assert f"running at worker {worker}" in pool("dispatch", "emails", "user:1")
    assert [known["id"] for known in pool("workers", "emails", "--json")] == [worker]
    assert pool("ls", "--json")[0]["jobs"] == 1
    pool("shutdown", "emails", "--yes")


def test_watching_shows_moves(
    pool: PoolCommand, start_node: StartNode, programs: Programs, namespace: str
) -> None:
    """A worker leaves, and its job moves: a line each; the watch ends with the pool."""
    leaving, first = start_node()
    pool("dispatch", "emails", "user:1")
    watch = programs.pulsewire(
        *("pool", "watch", "emails", "--every", "0.1", "--initial", "--namespace", namespace)
    )
    watch.wait_line(f"worker joined  {first}")
    watch.wait_line(f"job dispatched  user:1  at {first}  running, token ")
    _, second = start_node()
    watch.wait_line(f"worker joined  {second}")
    leaving.send(signal.SIGTERM)
    watch.wait_line(f"{second}")
    assert leaving.wait_end() == 0, leaving.output
    pool("dispatch", "emails", "user:2")
    watch.wait_line(f"job dispatched  user:2  at {second}")
    assert f"worker left  {first}" in watch.output
    assert re.search(rf"job moved  user:1  ({first}|no owner) -> {second}", watch.output)
    pool("stop", "emails", "user:2")
    watch.wait_line("job ended  user:2")
    pool("shutdown", "emails", "--yes")
    watch.wait_line("pool 'emails' is shut down")
    assert watch.wait_end() == 0


def test_watching_as_json_ends_after_so_many(pool: PoolCommand, start_node: StartNode) -> None:
    _, worker = start_node()
    pool("dispatch", "emails", "user:1")
    told = pool("watch", "emails", "--initial", "-n", "1", "--json")
    assert told == {"kind": "worker joined", "worker": worker}
    pool("shutdown", "emails", "--yes")


def test_names_that_look_like_pools_are_not_listed(
    pool: PoolCommand, start_node: StartNode
) -> None:
    """A job may be called anything."""
    start_node()
    pool("dispatch", "emails", "x:meta")
    pool("dispatch", "emails", "x}:meta")
    assert [found["pool"] for found in pool("ls", "--json")] == ["emails"]
    assert pool("ls", "other*") == "no pools\n"
    pool("shutdown", "emails", "--yes")


# --- what has happened between two looks

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def worker(name: str, state: str = "active") -> WorkerInfo:
    """A worker as the map says."""
    return WorkerInfo(name, "n", "active" if state == "active" else "draining", 1.0, "h", 1, 0.0)


def job_at(
    owner: str, state: JobState = JobState.RUNNING, *, token: int = 1, created: datetime = NOW
) -> JobInfo:
    """A job as Redis says."""
    return JobInfo("k", state, owner, token, created, NOW, 1)


@pytest.mark.parametrize(
    ("before", "now", "kinds"),
    [
        (EMPTY, Look.of([worker("a")], [job_at("a")]), ["worker joined", "job dispatched"]),
        (Look.of([worker("a")], [job_at("a")]), EMPTY, ["worker left", "job ended"]),
        (Look.of([worker("a")], []), Look.of([worker("a", "draining")], []), ["worker drains"]),
        (
            Look.of([worker("a", "draining")], []),
            Look.of([worker("a")], []),
            ["worker is active again"],
        ),
        (Look.of([], [job_at("a")]), Look.of([], [job_at("b", token=2)]), ["job moved"]),
        (Look.of([], [job_at("a", JobState.STARTING)]), Look.of([], [job_at("a")]), ["job is"]),
        (Look.of([], [job_at("a")]), Look.of([], [job_at("", JobState.WAITING)]), ["job moved"]),
        (
            Look.of([], [job_at("a")]),
            Look.of([], [job_at("a", created=datetime(2026, 1, 2, tzinfo=UTC))]),
            ["job dispatched"],  # it has ended and come again in between
        ),
        (Look.of([worker("a")], [job_at("a")]), Look.of([worker("a")], [job_at("a")]), []),
    ],
)
def test_differences_between_two_looks(before: Look, now: Look, kinds: list[str]) -> None:
    assert [happening.kind for happening in happenings(before, now)] == kinds


async def test_hub_lists_pools(url: str, namespace: str) -> None:
    """Sorted; those of other namespaces are not among them."""

    async def run(job: pulsewire.pool.Job) -> None:
        await anyio.sleep_forever()

    async with pulsewire.connect(url, namespace=namespace) as hub:
        assert await hub.pools() == []
        async with hub.node("b") as second, hub.node("a") as first:
            await first.add_worker(run)
            await first.dispatch("x}:meta")
            assert await hub.pools() == ["a", "b"]
            await second.shutdown()
            await first.shutdown()
        assert await hub.pools() == []
