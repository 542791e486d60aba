"""What becomes of tasks, written down once whatever happens (spec/asynq.md 4.3 "Failure path", 3.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import HandlerNotFound, OutcomeUnknown, Retry, RevokeTask, SkipRetry
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import JoinedConnection
from pulsewire.tasks import NewTask, Task
from pulsewire.tasks.store import DONE, Leaving
from pulsewire.testing import FaultProxy, SingleServer, wait_until
from tests.facts import PATIENCE, Facts, on_one_server
from tests.tasks.content import Between, Kept
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.golang import Go
from tests.tasks.scenes import DAY, FAR_AHEAD, LONG_AGO, Queue, misplaced, packed
from tests.tasks.serving.test_supply import calls

TOPOLOGIES = ["standalone", "cluster"]
BOOM = ValueError("boom")


def raised_from(cause: BaseException) -> BaseException:
    """An error with a cause."""
    error = RuntimeError("wrapped")
    error.__cause__ = cause
    return error


# --- fates


@pytest.mark.parametrize(
    ("error", "max_retry", "state", "retried", "failed"),
    [
        (BOOM, 3, "retry", 1, True),
        (BOOM, 1, "retry", 1, True),
        (BOOM, 0, "archived", 0, True),
        (SkipRetry("no use"), 3, "archived", 0, True),
        (raised_from(SkipRetry("no use")), 3, "archived", 0, True),
        (ExceptionGroup("two", [BOOM, SkipRetry("no use")]), 3, "archived", 0, True),
        (RevokeTask("never mind"), 3, "", None, False),
        (raised_from(raised_from(RevokeTask())), 3, "", None, False),
        (Retry("later"), 3, "retry", 1, True),
        (Retry("later"), 0, "archived", 0, True),
        (Retry("later", is_failure=False), 0, "retry", 0, False),
        (raised_from(Retry("later", is_failure=False)), 3, "retry", 0, False),
        (raised_from(HandlerNotFound("t")), 0, "retry", 0, False),
    ],
    ids=repr,
)
@on_one_server
async def test_error_decides_over_the_task(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    error: BaseException,
    max_retry: int,
    state: str,
    retried: int | None,
    failed: bool,
) -> None:
    recorder.fail(error)
    async with make_server(error_handler=lambda *_: None):
        await hub.tasks.enqueue("t", task_id="a", max_retry=max_retry, unique=60)
        await recorder.wait_ended("a")
        await queue.wait_state("a", state)
    content = await queue.content()
    assert misplaced(content) == []
    assert ("failed" in content) == failed
    assert ("processed" in content) == (failed or not state)
    assert any(name.startswith("unique:") for name in content) == bool(state)
    if retried is not None:
        message = await queue.message("a")
        assert message.get("retried", 0) == retried
        assert str(error) in message["error_msg"]


@pytest.mark.parametrize("max_retry", [0, 2])
@on_one_server
async def test_non_failures_are_not_charged(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue, max_retry: int
) -> None:
    """By a rule of one's own, as in Go: still archived when there are no retries left (4.3)."""
    recorder.fail(BOOM)
    async with make_server(is_failure=lambda error: not isinstance(error, ValueError)):
        await hub.tasks.enqueue("t", task_id="a", max_retry=max_retry)
        await queue.wait_state("a", "retry" if max_retry else "archived")
    message = await queue.message("a")
    assert message.get("retried", 0) == 0
    assert message["error_msg"] == "ValueError: boom"
    assert message["last_failed_at"] > 0
    assert ("processed" in await queue.content()) == (not max_retry)


# --- delays


@pytest.mark.parametrize(
    ("error", "options", "low", "high"),
    [
        (BOOM, {}, 15, 44),
        (BOOM, {"retry_delay": lambda *_: 100.5}, 100.5, 100.5),
        (BOOM, {"retry_delay": lambda *_: timedelta(seconds=5)}, 15, 44),
        (BOOM, {"retry_delay": lambda *_: float("inf")}, 15, 44),
        (BOOM, {"retry_delay": lambda *_: float("nan")}, 15, 44),
        (BOOM, {"retry_delay": lambda *_: -5.0}, 15, 44),
        (BOOM, {"retry_delay": lambda *_: None}, 15, 44),
        (BOOM, {"retry_delay": lambda *_: 1 / 0}, 15, 44),
        (Retry(after=200.0), {}, 200, 200),
        (Retry(after=0.0), {"retry_delay": lambda *_: 100.0}, 0, 0),
        (Retry(), {"retry_delay": lambda *_: 100.0}, 100, 100),
        (raised_from(Retry(after=300.0, is_failure=False)), {}, 300, 300),
        (BOOM, {"is_failure": lambda _: 1 / 0}, 15, 44),
    ],
)
@on_one_server
async def test_task_waits_before_it_is_tried_again(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    error: BaseException,
    options: dict[str, Any],
    low: float,
    high: float,
) -> None:
    """As long as asked for; whatever a function of the user's does, the task is settled."""
    recorder.fail(error)
    recorder.hold()
    async with make_server(**options, forward_interval=60.0, error_handler=lambda *_: None):
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        async with queue.window() as window:
            recorder.release()
            await queue.wait_state("a", "retry")
        score = (await queue.content())["retry"]["a"]
    assert window.low + low - 1 < score < window.high + high + 1


async def test_delay_is_asked_for_with_all_that_is_known(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    asked: list[tuple[int, BaseException, str]] = []

    def delay(retried: int, error: BaseException, task: Task) -> float:
        asked.append((retried, error, task.id))
        return 60.0

    recorder.fail(BOOM)
    await queue.pending("a", msg=packed("a", retried=2))
    async with make_server(retry_delay=delay):
        await queue.wait_state("a", "retry")
    assert asked == [(2, BOOM, "a")]


@pytest.mark.parametrize("after", [-1.0, float("inf"), float("nan"), timedelta(seconds=5), "5"])
def test_retry_refuses_an_impossible_time(after: Any) -> None:
    with pytest.raises(pulsewire.InvalidOption):
        Retry(after=after)


# --- success


async def test_completed_task_is_kept_for_its_retention(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    async with queue.window() as window, make_server():
        await hub.tasks.enqueue("t", task_id="a", retention=60, unique=1000)
        await queue.wait_state("a", "completed")
    content = await queue.content()
    low, high = window.seconds(60).low, window.seconds(60).high
    assert content["completed"] == {"a": Between(low, high, whole=True)}
    assert window.seconds() == (await queue.message("a"))["completed_at"]
    assert misplaced(content) == []
    assert not any(name.startswith("unique:") for name in content)
    async with make_server():
        await queue.send("ZADD", queue.keys.completed, LONG_AGO, "a")
        await queue.wait_state("a", "")


async def test_unknown_fields_survive_every_move(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Of the HASH, and of the message: those of a later asynq (1.2, 2.1)."""
    later = packed("a", retention=60) + b"\x82\x01\x03new"  # field 16
    recorder.fail(BOOM)
    await queue.pending("a", msg=later, unknown="stays")
    async with make_server(retry_delay=lambda *_: 0.0):
        await queue.wait_state("a", "retry")
        recorder.succeed()
        await queue.wait_state("a", "completed")
    fields = (await queue.content())["t:a"]
    assert fields["unknown"] == b"stays"
    assert fields["msg"].endswith(b"\x82\x01\x03new")
    assert set(fields) == {"msg", "state", "unknown"}


# --- counters


@on_one_server
async def test_counters_of_the_day_live_for_ninety_days(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    recorder.fail(BOOM, task="b")
    async with queue.window() as window, make_server():
        for task_id in ("a", "b", "c"):
            await hub.tasks.enqueue("t", task_id=task_id)
        await queue.wait_state("b", "retry")
        for task_id in ("a", "c"):
            await queue.wait_state(task_id, "")
    content = await queue.content()
    assert (content["processed"], content["failed"]) == (b"3", b"1")
    days = {
        name: value for name, value in content.items() if name.startswith(("processed:", "failed:"))
    }
    found = sorted((name.partition(":")[0], value.value) for name, value in days.items())
    assert found == [("failed", b"1"), ("processed", b"3")]
    lives = window.seconds(90 * 86400)
    assert all(isinstance(value, Kept) and lives == value.until for value in days.values())


# --- trouble


@pytest.mark.parametrize("options", [{}, {"retention": 60.0}, {"unique": 60.0}])
@on_one_server
async def test_outcome_whose_reply_is_lost_counts_once(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
    options: dict[str, Any],
) -> None:
    """Go hands it to a syncer that is dead (7.3, 1)."""
    recorder.hold()
    async with make_server(of=weathered):
        await weathered.tasks.enqueue("t", task_id="a", **options)
        await recorder.wait_runs(1)
        fault = proxy.swallow_reply("EVALSHA")
        recorder.release()
        await fault.wait_hit()
        await queue.wait_state("a", "completed" if "retention" in options else "")
        await weathered.tasks.enqueue("t", task_id="next", **{**options, "unique": None})
        await recorder.wait_ended("next")
    assert (await queue.content())["processed"] == b"2"
    assert recorder.count("a") == 1
    assert facts.of("task_lost") == []


@pytest.mark.parametrize("failing", [False, True])
@on_one_server
async def test_outcome_is_written_when_the_server_is_back(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    failing: bool,
) -> None:
    """One transient error on Done makes Go run a finished task again (7.3, 1)."""
    recorder.hold()
    if failing:
        recorder.fail(BOOM)
    async with make_server(of=weathered):
        await weathered.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await proxy.refuse()
        proxy.cut()
        recorder.release()
        await recorder.wait_ended("a")
        assert await queue.state("a") == "active"
        await proxy.accept()
        await queue.wait_state("a", "retry" if failing else "")
    assert recorder.count("a") == 1
    if failing:
        assert (await queue.message("a"))["retried"] == 1


@pytest.mark.parametrize("error", [b"LOADING no", b"READONLY no", b"BUSY no"])
@on_one_server
async def test_outcome_that_was_refused_for_now_is_written_later(
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    error: bytes,
) -> None:
    recorder.hold()
    recorder.fail(BOOM, task="b")
    async with make_server(of=weathered):
        for task_id in ("a", "b"):
            await weathered.tasks.enqueue("t", task_id=task_id)
        await recorder.wait_runs(2)
        fault = proxy.inject_error(error, "EVALSHA", count=3)
        recorder.release()
        await fault.wait_hit(3)
        await queue.wait_state("a", "")
        await queue.wait_state("b", "retry")
    assert recorder.ids == ["a", "b"]


async def test_full_server_keeps_no_outcome_back(fresh_server: SingleServer) -> None:
    """Workers drain what is there (F17); a server can begin, too."""
    ended: list[str] = []

    async def handler(task: Task) -> None:
        await task.write_result(b"res")
        ended.append(task.id)
        if task.id == "bad":
            raise BOOM

    async with pulsewire.connect(fresh_server.url) as hub:
        tasks = [NewTask(type="t", task_id=f"{n}", retention=n % 2) for n in range(30)]
        await hub.tasks.enqueue_many([*tasks, NewTask(type="t", task_id="bad")])
        await fresh_server.command("CONFIG", "SET", "maxmemory", 1)
        async with hub.task_server(handler, error_handler=lambda *_: None):
            await wait_until(lambda: len(ended) == 31, timeout=PATIENCE, what="all were run")

            async def is_settled() -> bool:
                return bool(await fresh_server.command("LLEN", "asynq:{default}:active") == 0)

            await wait_until(is_settled, timeout=PATIENCE, what="all are settled")
        await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
        assert await fresh_server.command("GET", "asynq:{default}:processed") == b"31"
        assert await fresh_server.command("ZCARD", "asynq:{default}:completed") == 15
        assert await fresh_server.command("ZCARD", "asynq:{default}:retry") == 1


# --- what is not ours any more


@pytest.mark.parametrize("failing", [False, True])
async def test_task_that_another_server_has_is_left_to_it(
    watched: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
    failing: bool,
) -> None:
    """It was cut off, and its task recovered: what its handler comes to counts no more (P8, F2)."""
    recorder.hold()
    if failing:
        recorder.fail(BOOM)
    async with make_server(of=watched, concurrency=1):
        await watched.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await _recover(queue, "a")
        taken = await queue.store.take(1, 1000.0, "another")
        assert len(taken.tasks) == 1
        before = await queue.content()
        recorder.release()
        await wait_until(lambda: bool(facts.of("task_lost")), what="that is told")
    assert facts.of("task_lost") == [("default", "a")]
    after = await queue.content()
    assert after["t:a"] == before["t:a"]
    assert (after["active"], after["lease"]) == (before["active"], before["lease"])
    assert "processed" not in after


async def test_task_that_a_go_server_has_is_left_to_it(
    watched: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
) -> None:
    """Although Go leaves our mark on it as it was."""
    recorder.hold()
    go = Go(queue)
    async with make_server(of=watched, concurrency=1):
        await watched.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await go.retry("a", packed("a", retried=1), LONG_AGO)
        await queue.store.forward()
        assert await go.dequeue(FAR_AHEAD) == "a"
        before = await queue.content()
        recorder.release()
        await wait_until(lambda: bool(facts.of("task_lost")), what="that is told")
    after = await queue.content()
    assert after["t:a"] == before["t:a"]
    assert after["lease"] == {"a": FAR_AHEAD}
    await go.done("a")


async def test_task_that_was_deleted_stays_deleted(
    watched: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue, facts: Facts
) -> None:
    recorder.hold()
    recorder.fail(BOOM)
    async with make_server(of=watched):
        await watched.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await queue.send("DEL", queue.keys.task("a"))
        recorder.release()
        await wait_until(lambda: bool(facts.of("task_lost")), what="that is told")
    content = await queue.content()
    assert "t:a" not in content
    assert "retry" not in content


async def test_task_that_comes_back_to_its_server_is_run_once_at_a_time(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """It was cut off, another one put its task back, and it takes it again: the first attempt is cancelled."""
    recorder.hold()
    async with make_server():
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await _recover(queue, "a")
        await recorder.wait_runs(2)
        await recorder.wait_ended("a")
        assert recorder.ended == {"a": ["cancelled"]}
        recorder.release()
        await queue.wait_state("a", "")
    assert recorder.ended == {"a": ["cancelled", "returned"]}
    assert (await queue.content())["processed"] == b"1"


async def _recover(queue: Queue, task_id: str) -> None:
    """Another server puts a task back, whose lease has lapsed."""

    async def is_back() -> bool:
        await queue.send("ZADD", queue.keys.lease, "XX", LONG_AGO + 0.5, task_id)
        words = await queue.store.leave("", [Leaving(task_id, "recover")], DAY)
        return bool(words == ["left"])  # "held": its server has just renewed the lease

    await wait_until(is_back, what="another server has put the task back")


@on_one_server
async def test_failure_whose_reply_is_lost_spares_the_next_attempt(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same server may have taken the task again before it writes the outcome a second time."""
    recorder.fail(BOOM)
    async with make_server(retry_delay=lambda *_: 0.0, error_handler=lambda *_: None) as server:
        store = server._crew.places["default"].store
        leave = store.leave

        async def unheard(*arguments: Any) -> list[str]:
            await leave(*arguments)
            monkeypatch.undo()
            recorder.succeed()
            recorder.hold()
            await recorder.wait_runs(2)
            raise OutcomeUnknown("leave", "its reply was lost")

        monkeypatch.setattr(store, "leave", unheard)
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(2)
        await server._settler.wait_idle()
        assert await queue.state("a") == "active"
        recorder.release()
        await queue.wait_state("a", "")
    content = await queue.content()
    assert recorder.ended == {"a": ["raised", "returned"]}
    assert (content["processed"], content["failed"]) == (b"2", b"1")


class Behind:
    """A link whose `connection_for` waits first."""

    def __init__(self, link: Link, first: Callable[[], Awaitable[None]]) -> None:
        self._link = link
        self._first = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def connection_for(self, key: str) -> JoinedConnection:
        """As the link's, later."""
        await self._first()
        return await self._link.connection_for(key)


@on_one_server
async def test_success_whose_reply_is_lost_spares_the_next_task_of_its_id(
    hub: pulsewire.Hub,
    weathered: pulsewire.Hub,
    make_server: MakeServer,
    proxy: FaultProxy,
    recorder: Recorder,
    queue: Queue,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have been enqueued, and taken, before the outcome is written a second time."""
    recorder.hold()
    async with make_server(of=weathered) as server:
        again = partial(recorder.wait_runs, 2)
        monkeypatch.setattr(server._settler, "_link", Behind(server._crew.link, again))
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(1)
        await queue.send("SCRIPT", "LOAD", DONE.text)  # else it is not carried out the first time
        fault = proxy.swallow_reply(calls(DONE))
        recorder.release()
        await fault.wait_hit()
        recorder.hold()
        await queue.wait_state("a", "")
        await hub.tasks.enqueue("t", task_id="a")
        await recorder.wait_runs(2)
        await server._settler.wait_idle()
        assert await queue.state("a") == "active"
        recorder.release()
        await queue.wait_state("a", "")
    assert (await queue.content())["processed"] == b"2"
    assert facts.of("task_lost") == []


# --- many


async def test_hundreds_end_at_once(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """More than one script may settle."""
    recorder.hold()
    recorder.fail(BOOM, task="0")
    tasks = [
        NewTask(
            type="t",
            task_id=f"{n}",
            retention=60 * (n % 2),
            unique=60 if n % 3 else None,
            payload=b"%d" % n,
        )
        for n in range(500)
    ]
    async with make_server(concurrency=500, error_handler=lambda *_: None):
        await hub.tasks.enqueue_many(tasks)
        await recorder.wait_runs(500)
        recorder.release()

        async def is_settled() -> bool:
            return bool(await queue.send("LLEN", queue.keys.active) == 0)

        await wait_until(is_settled, timeout=PATIENCE, what="all are settled")
    content = await queue.content()
    assert misplaced(content) == []
    assert len(content["completed"]) == 250
    assert set(content["retry"]) == {"0"}
    assert content["processed"] == b"500"


async def test_server_ends_when_all_is_written(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    """What has just ended when it is left, too."""
    handed_out = anyio.Event()

    async def handler(task: Task) -> None:
        handed_out.set()
        await asyncio.sleep(0)

    for _ in range(5):
        handed_out = anyio.Event()
        async with make_server(handler):
            await hub.tasks.enqueue("t", task_id="a")
            await handed_out.wait()
        assert await queue.state("a") == ""
