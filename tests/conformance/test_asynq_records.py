"""What we write is what asynq writes, byte for byte, and each reads the other's."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

import pulsewire
from pulsewire.errors import DuplicateTask, TaskIdConflict
from pulsewire.tasks import NewTask
from pulsewire.tasks.messages import ServerMessage, TaskMessage, WorkerMessage
from pulsewire.testing import SingleServer, wait_until
from tests.conformance.asynq_keys import Content, content_of
from tests.conformance.asynq_programs import PATIENCE, Programs, changed
from tests.conformance.asynq_worker import Handling

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]  # the first run downloads

ID = "11111111-2222-4333-8444-555555555555"
LATER = 4_102_444_800  # in the year 2100
PAYLOAD = b'{"id":42}'


def a_task(**options: Any) -> NewTask:
    return NewTask(**{"type": "email:send", "payload": PAYLOAD, "task_id": ID, **options})


CASES: Mapping[str, NewTask] = {
    "nothing special": a_task(),
    "no payload": a_task(payload=None),
    "an empty payload": a_task(payload=b""),
    "every byte": a_task(payload=bytes(range(256))),
    "a large payload": a_task(payload=b"x" * 300_000),
    "any text": a_task(type="correo:añadir: ✉", queue="imágenes: ☃", task_id="café:1"),
    "queue": a_task(queue="critical"),
    "no retries": a_task(max_retry=0),
    "max_retry": a_task(max_retry=2**31 - 1),
    "timeout": a_task(timeout=90.0),
    "deadline": a_task(deadline=LATER),
    "timeout and deadline": a_task(timeout=90.0, deadline=LATER),
    "retention": a_task(retention=7200.0),
    "a header": a_task(headers={"traceparent": "00-ñ"}),
    "unique": a_task(unique=60.0),
    "unique without payload": a_task(unique=60.0, payload=None),
    "unique with an empty payload": a_task(unique=60.0, payload=b""),
    "process_at": a_task(process_at=LATER),
    "process_at in the past": a_task(process_at=1_000_000_000),
    "process_in": a_task(process_in=3600.0),
    "unique for later": a_task(unique=60.0, process_in=3600.0),
    "group": a_task(group="a:group"),
    "unique in a group": a_task(group="g", unique=60.0),
    "a group for later": a_task(group="g", process_at=LATER),
    "everything": a_task(
        queue="low",
        max_retry=3,
        timeout=90.0,
        deadline=LATER,
        unique=60.0,
        process_at=LATER - 100,
        retention=7200.0,
        headers={"k": "v"},
    ),
}
# Fields that only we write (docs/tasks-vs-asynq.md): a deleted task of a group gives its lock up, and a task with a
# group that waits for its time is aggregated afterwards.
OURS_ALONE = {
    "unique in a group": {b"unique_key"},
    "a group for later": {b"group", b"pulsewire:group"},
}


async def now_of(server: SingleServer) -> float:
    seconds, micros = await server.command("TIME")
    return int(seconds) + int(micros) / 1e6


async def records_of(server: SingleServer, began: float) -> tuple[Content, dict[str, float]]:
    """Everything of asynq's, and apart from it the times counted from when it was written."""
    content = await content_of(server)
    times: dict[str, float] = {}
    for key in [key for key in content if key.startswith("pulsewire:")]:
        assert "}:requests:" in key
        assert await server.command("TTL", key) > 0
        del content[key]
    for key, (kind, value) in content.items():
        if kind == "zset":
            for member, score in value.items():
                times[f"{key} {member!r}"] = float(score) - began
                value[member] = "a time"
        if kind == "string":
            times[key] = await server.command("TTL", key)
        if kind == "hash" and b"pending_since" in value:
            times[f"{key} pending_since"] = int(value[b"pending_since"]) / 1e9 - began
            value[b"pending_since"] = "a time"
    return content, times


@pytest.mark.parametrize("case", CASES)
async def test_a_task_is_written_as_go_writes_it(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer, case: str
) -> None:
    """The same keys of the same types with the same bytes; the same lives and scores."""
    began = await now_of(asynq_redis)
    [info] = await programs.enqueue(CASES[case])
    assert "error" not in info
    theirs, their_times = await records_of(asynq_redis, began)
    info = await programs.inspect("GetTaskInfo", CASES[case].queue, CASES[case].task_id)
    await asynq_redis.command("FLUSHALL")
    # seconds are cut off there, and rounded up here
    slack = await now_of(asynq_redis) - began + 2.5
    began = await now_of(asynq_redis)
    await asynq_hub.tasks.enqueue(CASES[case])
    ours, our_times = await records_of(asynq_redis, began)
    task = f"asynq:{{{CASES[case].queue}}}:t:{CASES[case].task_id}"
    alone = ours[task][1].keys() - theirs[task][1].keys()
    assert alone <= OURS_ALONE.get(case, set())
    for field in alone:
        del ours[task][1][field]
    assert ours == theirs
    assert our_times == pytest.approx(their_times, abs=slack)
    seen = await programs.inspect("GetTaskInfo", CASES[case].queue, CASES[case].task_id)
    seen.pop("NextProcessAt")  # the score above; the moment of asking for a pending one
    info.pop("NextProcessAt")
    assert seen == info


async def test_many_headers_are_the_same_in_any_order(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """Go writes the entries of a map in an order of its own each time."""
    headers = {f"header-{number}": f"value {number}" for number in range(20)}
    task = a_task(headers=headers)
    written = []
    for enqueue in (programs.enqueue, asynq_hub.tasks.enqueue):
        await enqueue(task)
        written.append(await asynq_redis.command("HGET", f"asynq:{{default}}:t:{ID}", "msg"))
        seen = await programs.inspect("GetTaskInfo", "default", ID)
        assert seen["Headers"] == headers
        await asynq_redis.command("FLUSHALL")
    theirs, ours = map(TaskMessage.FromString, written)
    assert theirs == ours
    assert len(written[0]) == len(written[1])


async def test_ids_that_are_not_given_are_of_the_same_kind(
    programs: Programs, asynq_hub: pulsewire.Hub
) -> None:
    """A random UUID: the text of version 4."""
    [theirs] = await programs.enqueue(a_task(task_id=None))
    ours = await asynq_hub.tasks.enqueue(a_task(task_id=None))
    for one in (theirs["ID"], ours.id):
        assert len(one) == 36
        assert one[14] == "4"
        assert one[19] in "89ab"


async def test_an_id_is_taken_for_both(programs: Programs, asynq_hub: pulsewire.Hub) -> None:
    """Whoever comes second is refused."""
    await asynq_hub.tasks.enqueue(a_task())
    assert await programs.enqueue(a_task()) == [{"error": "task ID conflicts with another task"}]
    await programs.enqueue(a_task(task_id="theirs"))
    with pytest.raises(TaskIdConflict):
        await asynq_hub.tasks.enqueue(a_task(task_id="theirs"))


@pytest.mark.parametrize("payload", [None, b"", PAYLOAD])
async def test_a_lock_is_held_against_both(
    programs: Programs, asynq_hub: pulsewire.Hub, payload: bytes | None
) -> None:
    """Whoever comes second is refused; another payload, also none instead of an empty one, is another lock."""
    for queue in ("first", "second"):
        task = a_task(task_id=None, queue=queue, payload=payload, unique=60.0)
        other = changed(task, payload=b"" if payload is None else None)
        if queue == "first":
            await asynq_hub.tasks.enqueue(task)
            assert await programs.enqueue(task) == [{"error": "task already exists"}]
            [info] = await programs.enqueue(other)
            assert info["State"] == "pending"
        else:
            await programs.enqueue(task)
            with pytest.raises(DuplicateTask):
                await asynq_hub.tasks.enqueue(task)
            await asynq_hub.tasks.enqueue(other)


async def test_servers_are_shown_alike(
    programs: Programs, asynq_hub: pulsewire.Hub, asynq_redis: SingleServer
) -> None:
    """ServerInfo and WorkerInfo: Go's bytes are read here and written again the same; Go sees ours as its own."""
    told: list[Any] = []
    before = time.time()
    task = a_task(type="hold:it", queue="theirs", timeout=600.0)
    async with (
        programs.go_server(queues={"theirs": 3}, concurrency=7, strict=True) as go,
        asynq_hub.task_server(
            Handling("ours", told.append),
            queues={"ours": 3, "others": 2},
            concurrency=7,
            strict=True,
            shutdown_timeout=0.0,
        ) as server,
    ):
        await programs.enqueue(task)
        await asynq_hub.tasks.enqueue(changed(task, queue="ours"))
        go_name = f":{(await go.ready())['pid']}:"

        async def are_shown() -> bool:
            seen = await programs.inspect("Servers")
            return len(seen) == 2 and all(one["ActiveWorkers"] for one in seen)

        await wait_until(are_shown, timeout=PATIENCE, what="Go sees both servers and their workers")
        content = await content_of(asynq_redis)
        seen = {one["ID"]: one for one in await programs.inspect("Servers")}
        found = await asynq_hub.tasks.inspector.servers()

    records = {key: value for key, (_, value) in content.items() if go_name in key}
    [info] = [value for key, value in records.items() if key.startswith("asynq:servers:")]
    [[worker]] = [list(v.values()) for k, v in records.items() if k.startswith("asynq:workers:")]
    go_server = ServerMessage.FromString(info)
    assert go_server.SerializeToString() == info
    assert WorkerMessage.FromString(worker).SerializeToString() == worker

    theirs, ours = seen[go_server.server_id], seen[server.id]
    differing = {"ID", "PID", "Queues", "Started", "ActiveWorkers"}
    assert {k: v for k, v in ours.items() if k not in differing} == {
        k: v for k, v in theirs.items() if k not in differing
    }
    assert ours["PID"] == os.getpid()
    assert ours["Queues"] == {"ours": 3, "others": 2}
    [our_worker], [their_worker] = ours["ActiveWorkers"], theirs["ActiveWorkers"]
    assert our_worker["Queue"] == "ours"
    assert unix(ours["Started"]) == pytest.approx(before, abs=30.0)
    assert unix(our_worker["Started"]) == pytest.approx(before, abs=30.0)
    life = unix(our_worker["Deadline"]) - unix(our_worker["Started"])
    assert life == pytest.approx(600.0, abs=1.0)
    for member in ("TaskID", "TaskType", "TaskPayload"):
        assert our_worker[member] == their_worker[member]
    for one in found:  # what our inspector says of both
        theirs = seen[one.id]
        assert (one.host, one.pid, one.concurrency) == (
            theirs["Host"],
            theirs["PID"],
            theirs["Concurrency"],
        )
        assert (one.queues, one.strict, one.status) == (theirs["Queues"], True, "active")
        assert one.started_at
        assert one.started_at.timestamp() == pytest.approx(unix(theirs["Started"]), abs=1e-5)
        assert [worker.task_id for worker in one.workers] == [ID]
        assert one.workers[0].payload == PAYLOAD
    assert {one.id for one in found} == set(seen)
    assert await programs.inspect("Servers") == await asynq_hub.tasks.inspector.servers() == []


def unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
