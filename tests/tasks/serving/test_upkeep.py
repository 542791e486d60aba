"""What servers do besides running tasks: forward, recover, forget (spec/asynq.md 4.5)."""

from __future__ import annotations

import math
from typing import Any

import pytest

import pulsewire
from pulsewire import OutcomeUnknown, PulsewireError, ServerUnavailable
from pulsewire._core.failovers import PATIENCE as FAILOVER_PATIENCE
from pulsewire._core.failovers import Vigil
from pulsewire.tasks import NewTask
from pulsewire.testing import FaultProxy, Topology, wait_until
from tests.facts import PATIENCE, Facts, on_one_server
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.golang import Go
from tests.tasks.scenes import FAR_AHEAD, LONG_AGO, Queue, misplaced, packed

TOPOLOGIES = ["standalone", "cluster"]
LAPSED = LONG_AGO + 0.5


@pytest.fixture(autouse=True)
def _without_failovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody need have looked at a server for long; the tests that are about that say so."""
    monkeypatch.setattr("pulsewire.tasks.serving.upkeep.PATIENCE", 0.0)


# --- forwarding


async def test_scheduled_task_runs_when_its_time_has_come(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """And not before, on the server's clock."""
    async with make_server():
        async with queue.window() as begin:
            info = await hub.tasks.enqueue("t", task_id="a", process_in=0.8)
        async with queue.window() as end:
            await recorder.wait_runs(1)
        assert info.next_process_at is not None
        assert info.next_process_at.timestamp() >= begin.low + 0.8
        assert end.high >= info.next_process_at.timestamp()
        await queue.wait_state("a", "")


async def test_every_queue_is_forwarded(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder
) -> None:
    """Hundreds at once, too; what is not due stays."""
    tasks = [
        NewTask(type="t", queue=name, process_in=0.01, task_id=f"{name}-{n}")
        for name in ("a", "b")
        for n in range(150)
    ]
    later = [NewTask(type="t", queue=name, process_at=FAR_AHEAD) for name in ("a", "b")]
    await hub.tasks.enqueue_many([*tasks, *later])
    async with make_server(queues=["a", "b"], forward_interval=30.0):
        await recorder.wait_runs(300)
        info = await hub.tasks.inspector.queue_info("a")
    assert sorted(recorder.ids) == sorted(str(task.task_id) for task in tasks)
    assert info.scheduled == 1


@on_one_server
async def test_server_knows_when_to_look_again(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder
) -> None:
    """What it has seen is begun when it is due, although the next look would be in an hour."""
    await hub.tasks.enqueue("t", task_id="b", process_in=3000)
    await hub.tasks.enqueue("t", task_id="a", process_in=0.5)
    async with make_server(forward_interval=3600.0):
        await recorder.wait_runs(1, "a")


# --- recovering


@on_one_server
async def test_task_of_a_dead_server_runs_again_uncharged(
    watched: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
) -> None:
    """In Go it is a failure: with no retries left it is archived (7.2, P5)."""
    await queue.active("a", owner="dead", lease=LAPSED, msg=packed("a", retry=0))
    await queue.pending("b")
    async with make_server(of=watched):
        await queue.wait_empty()
    assert recorder.count("a") == 1
    assert recorder.runs[recorder.ids.index("a")].retried == 0
    assert facts.of("task_recovered") == [("default", "a", 1)]
    assert "failed" not in await queue.content()


@pytest.mark.parametrize(
    ("max_lost", "lost", "alone", "runs"),
    [
        (1, 0, None, 0),
        (2, 0, None, 1),
        (2, 1, "dead", 0),
        (2, 1, None, 1),
        (2, 1, "another", 1),
        (3, 1, None, 1),
        (3, 2, "dead", 0),
        (3, 2, None, 1),
    ],
)
@on_one_server
async def test_task_that_costs_its_servers_is_archived(
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    max_lost: int,
    lost: int,
    alone: str | None,
    runs: int,
) -> None:
    """A poison task ends, with the reason (P6, F4); one that only ran beside it does not."""
    await queue.active("a", owner="dead", lease=LAPSED, lost=lost, alone=alone)
    async with make_server(max_lost=max_lost):
        await queue.wait_state("a", "" if runs else "archived")
    assert recorder.count("a") == runs
    if not runs:
        message = await queue.message("a")
        assert f"{lost + 1} times" in message["error_msg"]
        assert "retried" not in message
        assert misplaced(await queue.content()) == []


@pytest.mark.parametrize(
    ("retry", "retried", "expected"),
    [(3, 1, ("retry", 2)), (3, 3, ("archived", 3)), (0, 0, ("archived", 0))],
)
async def test_task_of_a_dead_go_server_is_charged_as_in_go(
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    retry: int,
    retried: int,
    expected: tuple[str, int],
) -> None:
    """After Go's grace of 30 s; what is within it, or renewed, is not touched."""
    now = int((await queue.send("TIME"))[0])
    await queue.active_in_go("a", lease=now - 31, msg=packed("a", retry=retry, retried=retried))
    await queue.active_in_go("fresh", lease=now - 10)
    await queue.active_in_go("held")
    async with queue.window() as window, make_server():
        await queue.wait_state("a", expected[0])
    message = await queue.message("a")
    assert (message.get("retried", 0), message["error_msg"]) == (
        expected[1],
        "asynq: task lease expired",
    )
    content = await queue.content()
    assert set(content["active"]) == {"fresh", "held"}
    if expected[0] == "retry":
        assert window.low + retried**4 + 14 <= content["retry"]["a"]
    assert recorder.runs == []


@pytest.mark.parametrize(
    ("options", "retried"),
    [
        ({"retry_delay": lambda *_: 1 / 0}, 1),
        ({"retry_delay": lambda *_: float("inf")}, 1),
        ({"retry_delay": lambda n, error, task: task.max_retry + 100}, 1),
        ({"is_failure": lambda _: 1 / 0}, 1),
        ({"is_failure": lambda _: False}, 0),
    ],
)
@on_one_server
async def test_functions_of_the_user_keep_nothing_from_being_recovered(
    make_server: MakeServer, queue: Queue, options: dict[str, Any], retried: int
) -> None:
    await queue.active_in_go("a", lease=LONG_AGO)
    async with make_server(**options) as server:
        await queue.wait_state("a", "retry")
        assert not server.is_stopped
    assert (await queue.message("a")).get("retried", 0) == retried


async def test_many_are_recovered(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """More than one script gives."""
    await queue.active(*(f"{n:03}" for n in range(250)), owner="dead", lease=LAPSED)
    async with make_server():
        await queue.wait_empty()
    assert sorted(recorder.ids) == [f"{n:03}" for n in range(250)]


@on_one_server
async def test_tasks_are_recovered_after_a_while_at_the_same_server(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """After a failover leases end earlier than the living believe, who renew them again (pool protocol 6.3)."""
    async with make_server() as server:
        await queue.active("a", owner="dead", lease=LAPSED)
        await recorder.wait_runs(1)
        upkeep = server._upkeep
        vigil = upkeep._vigils["default"] = Vigil(3600.0)
        await queue.active("b", owner="dead", lease=LAPSED)
        for _ in range(3):
            await upkeep.recover_once()
        assert recorder.ids == ["a"]
        vigil._since = -math.inf
        await recorder.wait_runs(2)
    assert recorder.ids == ["a", "b"]


@on_one_server
async def test_nothing_is_recovered_when_the_server_was_another_one_meanwhile(
    make_server: MakeServer, recorder: Recorder, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows which of the two has answered."""
    async with make_server(lease=3600.0) as server:
        await queue.active("a", owner="dead", lease=LAPSED)
        names = iter(("old", "new"))
        link = server._crew.link
        with monkeypatch.context() as patch:
            patch.setattr(link, "server_of", lambda _key: next(names))
            await server._upkeep.recover_once()
        assert next(names, None) is None
        assert recorder.ids == []
        assert set((await queue.content())["active"]) == {"a"}
        await server._upkeep.recover_once()
        await recorder.wait_runs(1)


@pytest.mark.parametrize("topology", ["standalone", "sentinel", "cluster"], indirect=True)
async def test_vigil_is_held_where_another_server_may_take_over(
    make_server: MakeServer, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulsewire.tasks.serving.upkeep.PATIENCE", FAILOVER_PATIENCE)
    async with make_server() as server:
        may_fail_over = server._crew.link.info.topology != "standalone"
        expected = FAILOVER_PATIENCE if may_fail_over else 0.0
        assert server._upkeep._vigils["default"]._patience == expected


@on_one_server
async def test_living_servers_keep_their_tasks(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """However long they take: leases are renewed."""
    other = Recorder()
    recorder.hold()
    async with make_server(lease=1.0), make_server(other, lease=1.0):
        await hub.tasks.enqueue_many([NewTask(type="t", task_id=f"{n}") for n in range(4)])
        await wait_until(lambda: len(recorder.runs) + len(other.runs) == 4, what="all run")
        first = (await queue.content())["lease"]

        async def are_renewed() -> bool:
            leases = (await queue.content())["lease"]
            return all(leases[task_id] > first[task_id] + 1.5 for task_id in recorder.ids)

        await wait_until(are_renewed, timeout=PATIENCE, what="the leases were renewed and renewed")
        recorder.release()
        await queue.wait_empty()
    assert len(recorder.runs) + len(other.runs) == 4


@on_one_server
async def test_server_that_was_cut_off_keeps_its_tasks(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
) -> None:
    """When nobody else has taken them: its own recoverer lets its renewal go first."""
    recorder.hold()
    async with make_server(of=weathered, lease=1.0):
        await weathered.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await proxy.refuse()
        proxy.cut()

        async def has_lapsed() -> bool:
            seconds, micros = await queue.send("TIME")
            score = float(await queue.send("ZSCORE", queue.keys.lease, "a"))
            return score < int(seconds) + int(micros) / 1e6 - 0.5

        await wait_until(has_lapsed, timeout=PATIENCE, what="the lease has lapsed")
        await proxy.accept()

        async def is_renewed() -> bool:
            return not await has_lapsed()

        await wait_until(is_renewed, timeout=PATIENCE, what="the lease was renewed")
        recorder.release()
        await queue.wait_state("a", "")
    assert recorder.ended == {"a": ["returned"]}
    assert facts.of("task_recovered") == []
    assert (await queue.content())["processed"] == b"1"


@on_one_server
async def test_server_that_was_cut_off_too_long_ends_its_attempts(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
) -> None:
    """Somebody else may run them: the handler is cancelled, and nothing is written (4.3)."""
    recorder.hold()
    async with make_server(of=weathered, lease=1.0, error_handler=lambda *_: None) as server:
        await weathered.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        place = server._crew.places["default"]
        proxy.stall()
        attempt = place.held["a"]
        while not recorder.ended:
            attempt.renewed_at -= server.options.fence_after  # time passes
            await wait_until(
                lambda: bool(recorder.ended) or attempt.renewed_at > 0,
                what="it was cancelled, or renewed",
            )
            server._attempts.fence(place, attempt.renewed_at + server.options.fence_after + 1)
            await recorder.wait_ended("a")
        assert recorder.ended == {"a": ["cancelled"]}
        assert await queue.state("a") == "active"
        recorder.release()
        proxy.clear()
        proxy.cut()
        await queue.wait_state("a", "")
    assert [arguments[:2] for arguments in facts.of("task_lost")] == [("default", "a")]
    assert "failed" not in await queue.content()


async def test_go_and_we_recover_each_others_tasks_once(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """A task of ours that Go has recovered is Go's: our mark on it counts no more."""
    go = Go(queue)
    recorder.hold()
    async with make_server(concurrency=1):
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await go.retry("a", packed("a", retried=1), FAR_AHEAD)
        before = (await queue.content())["t:a"]
        recorder.release()
        await recorder.wait_ended("a")
    content = await queue.content()
    assert content["t:a"] == before
    assert misplaced(content, with_go=True) == []


@on_one_server
async def test_suspect_runs_alone(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """A task whose servers died twice waits for what runs, and is waited for, so that it takes nobody with it (F4)."""
    recorder.hold()
    async with make_server(concurrency=10):
        await queue.pending("x", "y")
        await recorder.wait_runs(2)
        await queue.pending("a", lost=2)
        await queue.wait_state("a", "active")
        await queue.pending("z")
        recorder.release()
        recorder.hold(task="a")
        await recorder.wait_runs(1, "a")
        assert recorder.running == {"a": 1, "x": 0, "y": 0}
        assert (await queue.content())["t:a"]["pulsewire:alone"]
        assert await queue.state("z") == "pending"
        recorder.release(task="a")
        await queue.wait_empty()
    assert recorder.ids[-2:] == ["a", "z"]


@on_one_server
async def test_second_suspect_waits_for_its_turn(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Uncharged, and with nothing forgotten."""
    recorder.hold(task="a")
    async with make_server(concurrency=10):
        await queue.pending("a", "b", lost=2)
        await recorder.wait_runs(1, "a")
        await queue.wait_state("b", "retry")
        assert (await queue.content())["t:b"]["pulsewire:lost"] == b"2"
        assert "failed" not in await queue.content()
        recorder.release(task="a")
        await queue.wait_empty()
    assert recorder.ids == ["a", "b"]


@pytest.mark.parametrize("trouble", [ServerUnavailable, OutcomeUnknown])
@on_one_server
async def test_suspect_that_could_not_be_put_off_is_put_off_later(
    watched: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
    trouble: type[PulsewireError],
) -> None:
    """Whether that was carried out or not; it is not kept by a server that does not run it."""
    recorder.hold(task="a")
    async with make_server(of=watched, concurrency=10) as server:
        place = server._crew.places["default"]
        leave = place.store.leave

        async def failing(*arguments: Any) -> list[str]:
            monkeypatch.undo()
            if trouble is OutcomeUnknown:
                await leave(*arguments)
                raise OutcomeUnknown("leave", "its reply was lost")
            raise ServerUnavailable("redis", 30.0, "an outage")

        monkeypatch.setattr(place.store, "leave", failing)
        await queue.pending("a", "b", lost=2)
        await recorder.wait_runs(1, "a")
        await wait_until(lambda: "b" not in place.held, what="b is put off")
        assert await queue.state("b") in ("retry", "pending")
        assert (await queue.content())["t:b"]["pulsewire:lost"] == b"2"
        recorder.release(task="a")
        await queue.wait_empty()
    assert recorder.ids == ["a", "b"]
    assert [fact[0] for fact in facts.of("loop_troubled")] == ["putting tasks off"]


# --- forgetting


async def test_completed_tasks_are_forgotten_in_every_queue(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    """In batches; those whose retention is not over stay."""
    for number in range(25):
        await queue.later("completed", f"{number}", score=LONG_AGO + number)
    await queue.later("completed", "kept")
    await queue.later("archived", "old", score=LONG_AGO)
    async with make_server(janitor_batch=10):
        for task_id in ("0", "24", "old"):
            await queue.wait_state(task_id, "")
    assert set((await queue.content())["completed"]) == {"kept"}
