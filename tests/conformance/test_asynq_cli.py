"""asynq's own command line on queues that we serve, and ours on queues that Go serves.

asynq's is a module of its own, which nothing here builds. `PULSEWIRE_ASYNQ_CLI` names one, or one is on the PATH; where
there is none, its tests are skipped and ours are not.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import pulsewire
from pulsewire.testing import ClusterGroup, SingleServer, wait_until
from tests.conformance.asynq_programs import (
    LONGEST_ANSWER,
    PATIENCE,
    SOURCE,
    Programs,
    in_json,
    payload_of,
)
from tests.conformance.asynq_scenes import GROUP, HOW, QUEUE, SLOTS, Fleet, a_task, every_state

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class CommandLine:
    """Runs `asynq`."""

    def __init__(self, program: Path, home: Path, *where: str) -> None:
        self._command = (str(program), *where)
        # it reads any variable that is named like one of its options, and a file in the home folder
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"]}

    async def __call__(self, *arguments: str) -> str:
        """What it says; it must not fail."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        said = COLOURS.sub("", output.decode())
        assert process.returncode == 0, said
        return said


def table(said: str) -> list[dict[str, str]]:
    """The rows of the first table in an output: cells stand two spaces apart, or under their heading."""
    lines = said.splitlines()
    rule = next(index for index, line in enumerate(lines) if re.fullmatch(r"[-\s]*--[-\s]*", line))
    starts = [found.start() for found in re.finditer(r"\S+(?: \S+)*", lines[rule])]
    bounds = [*starts[1:], None]
    rows = []
    for line in (lines[rule - 1], *lines[rule + 1 :]):
        if not line.strip():
            break
        rows.append([line[a:b].strip() for a, b in zip(starts, bounds, strict=True)])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


@pytest.fixture
def asynq(asynq_cli: Path, asynq_redis: SingleServer, tmp_path: Path) -> CommandLine:
    return CommandLine(asynq_cli, tmp_path, "--uri", f"{asynq_redis.host}:{asynq_redis.port}")


@pytest.fixture
def served(programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer) -> Fleet:
    """We enqueue and we serve: nothing here was written by Go."""
    return Fleet("ours", "ours", programs, asynq_hub, asynq_redis)


@pytest.fixture
def gos(programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer) -> Fleet:
    """The other way round, for our command line."""
    return Fleet("go", "go", programs, asynq_hub, asynq_redis)


async def test_it_shows_what_we_hold(asynq: CommandLine, served: Fleet) -> None:
    """Queues, their numbers, the tasks of every state, groups."""
    async with every_state(served, "one"):
        assert sorted((await asynq("queue", "ls")).split()) == ["other", QUEUE]
        said = await asynq("queue", "inspect", QUEUE)
        assert re.search(r"Size:\s+7\n", said)
        assert re.search(r"Groups:\s+1\n", said)
        assert re.search(r"Paused:\s+true\n", said)
        assert table(said)[0] == dict.fromkeys(HOW, "1")
        assert re.search(r"\b3\s+2\s+66\.67%", said)
        for state in HOW:
            group = ["--group", GROUP] if state == "aggregating" else []
            [row] = table(await asynq("task", "ls", "-q", QUEUE, "-s", state, *group))
            assert row["ID"] == row["Payload"] == f"{state} one"
            assert row["Type"] == HOW[state][0]
            details = await asynq("task", "inspect", "-q", QUEUE, "-i", f"{state} one")
            assert f"{state} one" in details
            assert re.search(rf"State:\s+{state}\n", details)
        [row] = table(await asynq("task", "ls", "-q", QUEUE, "-s", "retry"))
        assert (row["Last Error"], row["Retried"], row["Max Retry"]) == (
            "Broken: broken",
            "1",
            "25",
        )
        [row] = table(await asynq("task", "ls", "-q", QUEUE, "-s", "completed"))
        assert row["Result"] == "completed one"
        assert (await asynq("group", "ls", "-q", QUEUE)).split() == [GROUP]
        [day, *_] = table(await asynq("queue", "history", QUEUE, "--days", "2"))
        assert {*day.values()} >= {"3", "2", "66.67%"}


async def test_it_shows_statistics(asynq: CommandLine, served: Fleet) -> None:
    """For people and for programs."""
    async with every_state(served, "one"):
        said = await asynq("stats")
        assert table(said)[0] == dict.fromkeys(HOW, "1")
        numbers = json.loads(await asynq("stats", "--json"))
    assert {state: numbers["aggregate"][state] for state in HOW} == dict.fromkeys(HOW, 1)
    assert (numbers["aggregate"]["processed"], numbers["aggregate"]["failed"]) == (3, 2)
    [queue] = [one for one in numbers["queues"] if one["Queue"] == QUEUE]
    assert (queue["Size"], queue["Paused"], queue["ProcessedTotal"]) == (7, True, 3)
    assert queue["MemoryUsage"] > 0


async def test_it_shows_our_servers(
    asynq: CommandLine, asynq_hub: pulsewire.Hub, served: Fleet
) -> None:
    """As its own."""
    async with served.running():

        async def is_shown() -> bool:
            return "No running servers" not in await asynq("server", "ls")

        await wait_until(is_shown, timeout=PATIENCE, what="a server is shown")
        [row] = table(await asynq("server", "ls"))
    assert (row["PID"], row["State"]) == (str(os.getpid()), "active")
    assert row["Active Workers"] == "0/10"
    assert {*row["Queues"].split()} == {f"{QUEUE}:1", "other:1"}
    assert row["Started"].endswith("ago")
    assert "No running servers" in await asynq("server", "ls")


async def test_it_shows_our_schedulers(asynq: CommandLine, asynq_hub: pulsewire.Hub) -> None:
    """Their entries, and what these have enqueued."""
    scheduler = asynq_hub.scheduler(heartbeat_interval=0.5)
    tick = scheduler.register("@every 1s", a_task("note:tick", task_id=None, max_retry=3))
    async with scheduler:
        await wait_until(
            lambda: scheduler_has_run(asynq, tick), timeout=PATIENCE, what="a task was enqueued"
        )
        [row] = table(await asynq("cron", "ls"))
    assert (row["EntryID"], row["Spec"], row["Type"]) == (tick, "@every 1s", "note:tick")
    assert row["Payload"] == "payload"
    assert row["Options"] == f'[Queue("{QUEUE}") MaxRetry(3)]'
    assert "No scheduler entries" in await asynq("cron", "ls")


async def scheduler_has_run(asynq: CommandLine, entry: str) -> bool:
    """Whether the history of an entry has an event."""
    said = await asynq("cron", "history", entry)
    return "TaskID" in said and len(table(said)) > 0


async def test_it_changes_our_tasks(asynq: CommandLine, served: Fleet) -> None:
    """One by one."""
    async with every_state(served, "one", "two", "three"):
        at = ("-q", QUEUE, "-i")
        for state in HOW:
            if state in ("scheduled", "retry", "archived", "completed", "aggregating"):
                assert "task is now pending" in await asynq("task", "run", *at, f"{state} one")
                await served.state_is("pending", f"{state} one")
            if state not in ("active", "archived"):
                assert "task archived" in await asynq("task", "archive", *at, f"{state} two")
                await served.state_is("archived", f"{state} two")
            if state != "active":
                assert "task deleted" in await asynq("task", "delete", *at, f"{state} three")
                await served.state_is("gone", f"{state} three")


async def test_it_changes_all_our_tasks(asynq: CommandLine, served: Fleet) -> None:
    """Of a state at once."""
    async with every_state(served, "one", "two"):
        for verb, state, count, words in (
            ("runall", "scheduled", 2, "tasks are now pending"),
            ("runall", "aggregating", 2, "tasks are now pending"),
            ("archiveall", "retry", 2, "tasks archived"),
            ("archiveall", "pending", 6, "tasks archived"),
            ("deleteall", "archived", 10, "tasks deleted"),
            ("deleteall", "completed", 2, "tasks deleted"),
        ):
            group = ("--group", GROUP) if state == "aggregating" else ()
            said = await asynq("task", verb, "-q", QUEUE, "-s", state, *group)
            assert said.strip() == f"{count} {words}"
        info = await served.programs.inspect("GetQueueInfo", QUEUE)
        assert (info["Size"], info["Active"]) == (2, 2)


async def test_it_pauses_and_cancels(asynq: CommandLine, served: Fleet) -> None:
    """Our server does what it is told."""
    async with served.running(retry_delay=600.0):
        await asynq("queue", "pause", QUEUE)
        await served.enqueue(a_task("hold:it", "held"), a_task("note:it", "open", queue="other"))
        await served.facts.heard("ended", "open")
        assert served.facts.of("begun", "held") == []
        await asynq("queue", "unpause", QUEUE)
        await served.facts.heard("begun", "held")

        async def has_ended() -> bool:
            await asynq("task", "cancel", "held")  # nobody may have been listening yet
            return bool(served.facts.of("ended", "held"))

        await wait_until(has_ended, timeout=PATIENCE, what="the task was cancelled")
        info = await served.state_is("retry", "held")
    assert info["LastErr"] == "context canceled"
    await asynq("queue", "rm", "--force", QUEUE)
    assert QUEUE not in await asynq("queue", "ls")
    assert await served.left() == set()


async def test_what_it_enqueues_runs(asynq: CommandLine, served: Fleet) -> None:
    """With its options."""
    async with served.running():
        await asynq(
            *(
                "task",
                "enqueue",
                "-t",
                "result:it",
                "-l",
                "payload",
                "--queue",
                QUEUE,
                "--id",
                "one",
            ),
            *("--retention", "1h", "--retry", "3", "--timeout", "90s", "--unique", "1h"),
        )
        told = await served.facts.heard("begun", "one")
        info = await served.state_is("completed", "one")
    assert (told["max_retry"], info["Retention"]) == (3, 3600 * 10**9)
    assert told["left"] == pytest.approx(90.0, abs=10.0)


async def test_it_finds_our_queues_on_a_cluster(
    asynq_cli: Path,
    cluster_programs: Programs,
    cluster_group: ClusterGroup,
    tmp_path: Path,
) -> None:
    """Slots as in asynq's tutorial. The nodes it prints as addresses in its memory."""
    addresses = ",".join(f"{node.host}:{node.port}" for node in cluster_group.nodes)
    asynq = CommandLine(asynq_cli, tmp_path, "--cluster", "--cluster_addrs", addresses)
    async with pulsewire.connect(cluster_programs.url) as hub:
        for queue in SLOTS:
            await hub.tasks.enqueue("note:it", queue=queue)
    rows = table(await asynq("queue", "ls"))
    assert {row["Queue"]: int(row["Cluster KeySlot"]) for row in rows} == SLOTS
    for queue in SLOTS:
        assert re.search(r"Size:\s+1\n", await asynq("queue", "inspect", queue))
    assert table(await asynq("stats"))[0]["pending"] == "3"


# --- and ours


class OurCommandLine:
    """Runs `pulsewire ... --json`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self._url = url

    async def __call__(self, *arguments: str) -> Any:
        """What it says; it must not fail."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = json.dumps([*arguments, "--json", "--url", self._url])
        self._process.stdin.write(asked.encode() + b"\n")
        answer = json.loads(await self._process.stdout.readline())
        assert answer["exit_code"] == 0, answer["output"]
        return json.loads(answer["output"])


@pytest.fixture
async def pulse(programs: Programs) -> AsyncIterator[OurCommandLine]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("our_command_line.py"))),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_ANSWER,
    )
    yield OurCommandLine(process, programs.url)
    await process.communicate(b"")
    assert process.returncode == 0


async def test_ours_shows_what_go_holds(pulse: OurCommandLine, gos: Fleet) -> None:
    """Queues, their numbers, the tasks of every state, groups, statistics."""
    async with every_state(gos, "one"):
        queues = {queue["name"]: queue for queue in await pulse("queue", "ls")}
        [queue] = await pulse("queue", "inspect", QUEUE)
        for seen in (queue, queues[QUEUE]):
            assert {state: seen[state] for state in HOW} == dict.fromkeys(HOW, 1)
            assert (seen["size"], seen["is_paused"]) == (7, True)
            assert (seen["processed"], seen["failed"]) == (3, 2)
        tasks = {task["state"]: task for task in await pulse("task", "ls", "-q", QUEUE)}
        assert {state: task["id"] for state, task in tasks.items()} == {
            state: f"{state} one" for state in HOW
        }
        assert tasks["retry"]["last_error"] == "broken"
        assert tasks["completed"]["result"] == "completed one"
        for state in HOW:
            [task] = await pulse("task", "inspect", "-q", QUEUE, f"{state} one")
            assert (task["state"], task["type"]) == (state, HOW[state][0])
            assert task["payload"] == f"{state} one"
        groups = await pulse("group", "ls", "-q", QUEUE)
        assert groups == [{"queue": QUEUE, "group": GROUP, "size": 1}]
        today, yesterday = await pulse("queue", "history", QUEUE, "--days", "2")
        assert (today["processed"], today["failed"], yesterday["processed"]) == (3, 2, 0)
        numbers = (await pulse("stats"))["aggregate"]
    assert {state: numbers[state] for state in HOW} == dict.fromkeys(HOW, 1)


async def test_ours_changes_tasks_of_go(pulse: OurCommandLine, gos: Fleet) -> None:
    """One by one."""
    async with every_state(gos, "one", "two", "three"):
        for state in HOW:
            if state in ("scheduled", "retry", "archived", "completed", "aggregating"):
                await pulse("task", "run", "-q", QUEUE, f"{state} one")
                await gos.state_is("pending", f"{state} one")
            if state not in ("active", "archived"):
                await pulse("task", "archive", "-q", QUEUE, f"{state} two")
                await gos.state_is("archived", f"{state} two")
            if state != "active":
                await pulse("task", "delete", "-q", QUEUE, f"{state} three")
                await gos.state_is("gone", f"{state} three")


async def test_ours_changes_all_tasks_of_go(pulse: OurCommandLine, gos: Fleet) -> None:
    """Of a state at once."""
    async with every_state(gos, "one", "two"):
        for verb, state, count in (
            ("run", "scheduled", 2),
            ("run", "aggregating", 2),
            ("archive", "retry", 2),
            ("archive", "pending", 6),
            ("delete", "archived", 10),
            ("delete", "completed", 2),
        ):
            group = ("--group", GROUP) if state == "aggregating" else ()
            sure = ("--yes",) if verb == "delete" else ()
            said = await pulse("task", verb, "--all", "-q", QUEUE, "-s", state, *group, *sure)
            assert said["count"] == count
        info = await gos.programs.inspect("GetQueueInfo", QUEUE)
        assert (info["Size"], info["Active"]) == (2, 2)


async def test_ours_pauses_and_cancels_and_enqueues(pulse: OurCommandLine, gos: Fleet) -> None:
    """A server of Go does what it is told, and is shown."""
    async with gos.running(retry_delay=600.0):
        await gos.enqueue(a_task("note:it", "first"))
        await gos.facts.heard("ended", "first")
        await pulse("queue", "pause", QUEUE)
        await pulse("task", "enqueue", "hold:it", "-q", QUEUE, "--id", "held")
        options = ("--id", "ours", "--retention", "1h", "--max-retry", "3", "--timeout", "90s")
        await pulse("task", "enqueue", "result:it", "payload", "-q", "other", *options)
        told = await gos.facts.heard("ended", "ours")
        assert gos.facts.of("begun", "held") == []
        await pulse("queue", "unpause", QUEUE)
        await gos.facts.heard("begun", "held")

        async def is_listening() -> bool:
            _, listeners = await gos.redis.command("PUBSUB", "NUMSUB", "asynq:cancel")
            return int(listeners) > 0

        await wait_until(is_listening, timeout=PATIENCE, what="the server listens")
        await pulse("task", "cancel", "held")
        await gos.facts.heard("ended", "held")
        info = await gos.state_is("retry", "held")
        [server] = await pulse("server", "ls")
    assert info["LastErr"] == "context canceled"
    assert told["error"] == ""
    told = gos.facts.of("begun", "ours")[0]
    assert (told["max_retry"], payload_of(told)) == (3, b"payload")
    assert told["left"] == pytest.approx(90.0, abs=30.0)
    kept = await gos.programs.inspect("GetTaskInfo", "other", "ours")
    assert payload_of({"payload": kept["Result"]}) == b"payload"
    assert (server["status"], server["queues"]) == ("active", {QUEUE: 1, "other": 1})
    await pulse("queue", "rm", "--force", QUEUE)
    assert await gos.programs.inspect("Queues") == ["other"]


async def test_ours_shows_schedulers_of_go(pulse: OurCommandLine, programs: Programs) -> None:
    """Their entries, and what these have enqueued."""
    tick = in_json(a_task("note:tick", task_id=None, max_retry=3))
    async with programs.go_scheduler({"spec": "@every 1s", **tick}) as scheduler:
        [entry] = (await scheduler.ready())["entries"]
        enqueued = await scheduler.facts.heard("enqueued")

        async def is_shown() -> bool:
            return bool(await pulse("cron", "ls"))

        await wait_until(is_shown, timeout=PATIENCE, what="the entry is shown")
        [shown] = await pulse("cron", "ls")
        events = await pulse("cron", "history", entry)
    assert (shown["id"], shown["spec"], shown["task_type"]) == (entry, "@every 1s", "note:tick")
    assert enqueued["id"] in {event["task_id"] for event in events}
    assert await pulse("cron", "ls") == []
