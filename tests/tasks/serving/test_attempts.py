"""Running tasks: handlers, how attempts end, deadlines, cancellation, and how many run (spec/asynq.md 4.3)."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from typing import Any

import anyio
import pytest

import pulsewire
from pulsewire import (
    HandlerEnded,
    HandlerNotFound,
    TaskCancelled,
    TaskLeaseLost,
    TaskTimedOut,
)
from pulsewire.tasks import Mux, NewTask, Task, current_task
from pulsewire.tasks.serving import attempts as attempts_module
from pulsewire.testing import wait_until
from tests.facts import PATIENCE, Facts, Raw, on_one_server
from tests.tasks.facts import Gate, MakeServer, Recorder
from tests.tasks.scenes import FAR_AHEAD, LONG_AGO, Queue, packed

TOPOLOGIES = ["standalone", "cluster"]
BOOM = ValueError("boom")


class Failures:
    """An error handler that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, BaseException]] = []

    async def __call__(self, task: Task, error: BaseException) -> None:
        """Be told."""
        self.told.append((task.id, error))

    async def wait_told(self, count: int = 1) -> None:
        """Return when it was told so often."""
        what = f"the error handler was told {count} times"
        await wait_until(lambda: len(self.told) >= count, timeout=PATIENCE, what=what)


@pytest.fixture
def failures() -> Failures:
    """An error handler."""
    return Failures()


# --- handlers


async def test_handler_that_returns_has_done_its_task(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    async with make_server():
        for task_id in ("a", "b", "c"):
            await hub.tasks.enqueue("t", task_id=task_id)
        await queue.wait_empty()
    assert recorder.ids == ["a", "b", "c"]
    content = await queue.content()
    assert (content["processed"], "failed" in content) == (b"3", False)


@on_one_server
async def test_handler_that_raises_is_called_again_later(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    recorder.fail(BOOM, RuntimeError("boom 2"), RuntimeError("boom 3"))
    async with make_server(retry_delay=lambda *_: 0.0):
        await hub.tasks.enqueue("t", task_id="a", max_retry=2)
        await queue.wait_state("a", "archived")
    assert [run.retried for run in recorder.runs] == [0, 1, 2]
    message = await queue.message("a")
    assert (message["retried"], message["error_msg"]) == (2, "RuntimeError: boom 3")


@on_one_server
async def test_plain_function_runs_in_a_thread(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    """It knows its task there, and what it raises counts as elsewhere."""
    seen: list[tuple[int, str]] = []

    def handler(task: Task) -> None:
        seen.append((threading.get_ident(), current_task().id))
        if task.id == "bad":
            raise ValueError("boom")

    async with make_server(handler):
        await hub.tasks.enqueue("t", task_id="good")
        await hub.tasks.enqueue("t", task_id="bad")
        await queue.wait_state("bad", "retry")
        await queue.wait_state("good", "")
    assert {task_id for _, task_id in seen} == {"good", "bad"}
    assert threading.get_ident() not in {thread for thread, _ in seen}
    assert (await queue.message("bad"))["error_msg"] == "ValueError: boom"


@on_one_server
async def test_threads_run_beside_each_other_up_to_the_concurrency(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    gate = Gate()
    async with make_server(gate, concurrency=5):
        await hub.tasks.enqueue_many([NewTask(type="t", task_id=f"{n}") for n in range(8)])
        await wait_until(lambda: len(gate.entered) == 5, timeout=PATIENCE, what="five run")
        gate.open()
        await queue.wait_empty()
    assert len(gate.entered) == 8


async def test_mux_finds_the_handler(hub: pulsewire.Hub, make_server: MakeServer) -> None:
    mux, seen = Mux(), []

    @mux.handle("email:")
    async def email(task: Task) -> None:
        seen.append(("email", task.type))

    @mux.handle("email:reset")
    def reset(task: Task) -> None:
        seen.append(("reset", task.type))

    async with make_server(mux, concurrency=1):
        for task_type in ("email:welcome", "email:reset", "email:resets"):
            await hub.tasks.enqueue(task_type)
        await wait_until(lambda: len(seen) == 3, timeout=PATIENCE, what="all were handled")
    assert seen == [
        ("email", "email:welcome"),
        ("reset", "email:reset"),
        ("reset", "email:resets"),
    ]


@pytest.mark.parametrize("max_retry", [0, 3])
@on_one_server
async def test_task_nobody_knows_waits_for_who_does(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    failures: Failures,
    max_retry: int,
) -> None:
    """It is charged no attempt, so that a deploy may come late: Go archives it in the end."""
    mux = Mux()
    async with make_server(mux, retry_delay=lambda *_: 0.0, error_handler=failures):
        await hub.tasks.enqueue("new:kind", task_id="a", max_retry=max_retry)
        await failures.wait_told(2)
    assert all(isinstance(error, HandlerNotFound) for _, error in failures.told)
    message = await queue.message("a")
    assert message.get("retried", 0) == 0
    assert message["error_msg"] == 'handler not found for task "new:kind"'
    assert "failed" not in await queue.content()
    mux.add("new:", recorder)
    async with make_server(mux):
        await recorder.wait_ended("a")


async def test_task_is_known_to_all_that_its_handler_calls(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    seen: dict[str, str] = {}

    async def below(task_id: str) -> None:
        seen[task_id] = current_task().id

    async def handler(task: Task) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(below, task.id)

    async with make_server(handler):
        for task_id in ("a", "b"):
            await hub.tasks.enqueue("t", task_id=task_id)
        await queue.wait_empty()
    assert seen == {"a": "a", "b": "b"}
    with pytest.raises(LookupError):
        current_task()


@on_one_server
async def test_base_context_is_what_handlers_run_in(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    """Each in a copy of its own."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    base = contextvars.copy_context()
    base.run(tenant.set, "somebody")
    seen = []

    async def handler(task: Task) -> None:
        seen.append(tenant.get())
        tenant.set(task.id)

    async with make_server(handler, base_context=lambda: base):
        for task_id in ("a", "b"):
            await hub.tasks.enqueue("t", task_id=task_id)
        await queue.wait_empty()
    assert seen == ["somebody", "somebody"]
    assert base[tenant] == "somebody"


# --- how attempts end badly


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("where", ["loop", "thread"])
@on_one_server
async def test_handler_cannot_end_the_process(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    queue: Queue,
    failures: Failures,
    error: BaseException,
    where: str,
) -> None:
    """It counts as a failure."""

    async def in_loop(task: Task) -> None:
        raise error

    def in_thread(task: Task) -> None:
        raise error

    handler: Any = in_loop if where == "loop" else in_thread
    async with make_server(handler, error_handler=failures) as server:
        await hub.tasks.enqueue("t", task_id="a")
        await queue.wait_state("a", "retry")
        assert not server.is_stopped
    ((task_id, told),) = failures.told
    assert (task_id, type(told)) == ("a", HandlerEnded)
    assert type(error).__name__ in (await queue.message("a"))["error_msg"]


class Unprintable(Exception):
    """It cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (ValueError("\ud800 and ü"), "ValueError: ? and ü"),
        (asyncio.CancelledError("by itself"), "context canceled"),
        (TimeoutError(), "context deadline exceeded"),
        (TimeoutError("of a database"), "TimeoutError: of a database"),
        (Unprintable(), "Unprintable"),
    ],
)
@on_one_server
async def test_error_of_an_attempt_is_kept(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    error: BaseException,
    expected: str,
) -> None:
    """As text that Go can read: it refuses what is no UTF-8 (7.3, 14)."""
    recorder.fail(error)
    async with make_server(error_handler=lambda *_: None):
        await hub.tasks.enqueue("t", task_id="a")
        async with queue.window() as window:
            await queue.wait_state("a", "retry")
    message = await queue.message("a")
    assert (message["error_msg"], message["retried"]) == (expected, 1)
    assert window.seconds() == message["last_failed_at"]


@on_one_server
async def test_error_handler_is_told_of_every_failure(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    failures: Failures,
) -> None:
    """And of nothing else."""
    recorder.fail(BOOM, task="a")
    async with make_server(error_handler=failures, retry_delay=lambda *_: 0.0):
        await hub.tasks.enqueue("t", task_id="b")
        await hub.tasks.enqueue("t", task_id="a", max_retry=1)
        await queue.wait_state("a", "archived")
    assert failures.told == [("a", BOOM)] * 2


@on_one_server
async def test_error_handler_that_fails_changes_nothing(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bad(task: Task, error: BaseException) -> None:
        raise RuntimeError("the error handler's own")

    recorder.fail(BOOM)
    async with make_server(error_handler=bad):
        await hub.tasks.enqueue("t", task_id="a")
        await queue.wait_state("a", "retry")
    assert (await queue.message("a"))["error_msg"] == "ValueError: boom"
    (record,) = [one for one in caplog.records if one.name == "pulsewire.tasks"]
    assert record.exc_info is not None


@on_one_server
async def test_failure_is_logged_where_nobody_handles_it(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its traceback; what the handler asked for, without one."""
    recorder.fail(BOOM, task="a")
    recorder.fail(pulsewire.SkipRetry("hopeless"), task="b")
    async with make_server():
        for task_id in ("a", "b"):
            await hub.tasks.enqueue("t", task_id=task_id)
        await queue.wait_state("a", "retry")
        await queue.wait_state("b", "archived")
    records = {vars(one)["task"]: one for one in caplog.records if "task" in vars(one)}
    assert {record.levelno for record in records.values()} == {logging.WARNING}
    assert records["a"].exc_info is not None
    assert records["b"].exc_info is None


# --- deadlines


@pytest.mark.parametrize(
    ("timeout", "deadline", "ends"),
    [
        (0, 0, 1800),
        (20, 0, 20),
        (0, 60, 60),
        (20, 60, 20),
        (60, 20, 20),
        (0, -5, -5),
    ],
)
@on_one_server
async def test_attempt_ends_by_its_timeout_or_its_deadline(
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    failures: Failures,
    timeout: int,
    deadline: int,
    ends: int,
) -> None:
    """Whichever comes first (4.3). One whose deadline is over does not begin."""
    async with queue.window() as window:
        pass
    at = int(window.low) + deadline if deadline else 0
    message = packed("a", timeout=timeout, deadline=at)
    await queue.pending("a", msg=message)
    async with make_server(error_handler=failures), queue.window() as window:
        if ends < 0:
            await failures.wait_told()
            assert not recorder.runs
            assert isinstance(failures.told[0][1], TaskTimedOut)
            return
        await recorder.wait_ended("a")
    found = recorder.tasks["a"].deadline
    assert found is not None
    low, high = (window.low, window.high) if ends != deadline else (at - ends, at - ends)
    assert low + ends - 0.1 <= found.timestamp() <= high + ends + 0.1


@pytest.mark.parametrize("where", ["loop", "thread"])
@on_one_server
async def test_attempt_that_takes_too_long_is_cancelled(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    where: str,
) -> None:
    """It has failed: Go frees its place and lets the handler run on (7.3, 16)."""
    seen: list[bool] = []

    def in_thread(task: Task) -> None:
        until = time.monotonic() + PATIENCE
        while not task.is_cancelled and time.monotonic() < until:
            time.sleep(0.01)
        seen.append(task.is_cancelled)

    recorder.hold()
    async with make_server(recorder if where == "loop" else in_thread) as server:
        await hub.tasks.enqueue("t", task_id="a", timeout=1)
        await queue.wait_state("a", "retry")
        await wait_until(lambda: not server.running, what="nothing runs any more")
    assert seen == ([True] if where == "thread" else [])
    assert recorder.ended == ({} if where == "thread" else {"a": ["cancelled"]})
    message = await queue.message("a")
    assert (message["error_msg"], message["retried"]) == ("context deadline exceeded", 1)


@on_one_server
async def test_handler_that_answers_its_cancellation_has_done_its_task(
    hub: pulsewire.Hub, make_server: MakeServer, raw: Raw, queue: Queue, namespace: str
) -> None:
    """What it returns counts."""
    begun = anyio.Event()

    async def handler(task: Task) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            assert task.is_cancelled

    async with make_server(handler):
        await hub.tasks.enqueue("t", task_id="a", retention=60)
        await begun.wait()
        await raw("", "PUBLISH", f"{namespace}:asynq:cancel", "a")
        await queue.wait_state("a", "completed")


# --- handlers that do not end


@pytest.mark.parametrize("where", ["loop", "thread"])
@on_one_server
async def test_handler_that_does_not_end_keeps_its_place(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """Its task is settled, for the others to go on with it; what runs is never more than the concurrency."""
    monkeypatch.setattr(attempts_module, "ABANDON_AFTER", 0.05)
    end, gate, begun = anyio.Event(), Gate(), []

    async def stubborn(task: Task) -> None:
        begun.append(task.id)
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    def in_thread(task: Task) -> None:
        begun.append(task.id)
        gate(task)

    handler: Any = stubborn if where == "loop" else in_thread
    async with make_server(handler, concurrency=1) as server:
        await hub.tasks.enqueue("t", task_id="a", timeout=1)
        await hub.tasks.enqueue("t", task_id="b")
        await queue.wait_state("a", "retry")
        assert (await queue.message("a"))["error_msg"] == "context deadline exceeded"
        assert (begun, server.running) == (["a"], 1)
        end.set()
        gate.open()
        await queue.wait_state("b", "")
        assert begun == ["a", "b"]
        await wait_until(lambda: not server.running, what="nothing runs any more")


# --- how many


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_run_than_the_concurrency(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    concurrency: int,
) -> None:
    recorder.hold()
    async with make_server(concurrency=concurrency) as server:
        await hub.tasks.enqueue_many([NewTask(type="t") for _ in range(20)])
        await recorder.wait_runs(concurrency)
        assert server.running == concurrency
        recorder.release()
        await queue.wait_empty()
    assert recorder.most <= concurrency
    assert len(recorder.runs) == 20


@on_one_server
async def test_long_tasks_are_not_taken_ahead(
    hub: pulsewire.Hub, make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """What no handler can begin stays for other servers."""
    recorder.hold()
    async with make_server(concurrency=2):
        await hub.tasks.enqueue_many([NewTask(type="t") for _ in range(10)])
        await recorder.wait_runs(2)
        assert len((await queue.content())["pending"]) == 8
        recorder.release()
        await queue.wait_empty()


# --- results


async def test_result_is_kept_with_its_task(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue
) -> None:
    async def handler(task: Task) -> None:
        await task.write_result(b"half\x00")
        await task.write_result("öll")

    async with make_server(handler):
        await hub.tasks.enqueue("t", task_id="a", retention=60)
        await queue.wait_state("a", "completed")
    assert (await queue.content())["t:a"]["result"] == "öll".encode()


async def test_result_of_a_task_that_was_lost_is_refused(
    hub: pulsewire.Hub, make_server: MakeServer, queue: Queue, recorder: Recorder
) -> None:
    """And no task is made of it: Go does (7.3, 15)."""
    outcome: list[BaseException] = []
    go_on = anyio.Event()
    begun = anyio.Event()

    async def handler(task: Task) -> None:
        begun.set()
        await go_on.wait()
        try:
            await task.write_result(b"late")
        except TaskLeaseLost as error:
            outcome.append(error)
            raise

    async with make_server(handler):
        await hub.tasks.enqueue("t", task_id="a")
        await begun.wait()
        await queue.send("DEL", queue.keys.task("a"))
        go_on.set()
        await wait_until(lambda: bool(outcome), what="the result was refused")
    assert await queue.state("a") == ""


@on_one_server
async def test_attempts_are_told(
    watched: pulsewire.Hub, make_server: MakeServer, facts: Facts, recorder: Recorder, queue: Queue
) -> None:
    """With how they end."""
    recorder.fail(BOOM, task="retry")
    recorder.fail(pulsewire.Retry(is_failure=False), task="again")
    recorder.fail(pulsewire.SkipRetry(), task="archived")
    recorder.fail(pulsewire.RevokeTask(), task="dropped")
    ids = ["done", "completed", "retry", "again", "archived", "dropped"]
    async with make_server(of=watched):
        for task_id in ids:
            retention = 60 if task_id == "completed" else 0
            await watched.tasks.enqueue(task_id, task_id=task_id, retention=retention)
        await wait_until(lambda: len(facts.of("task_ended")) == 6, what="all have ended")
    assert [arguments[:2] for arguments in facts.of("task_started")] == [
        ("default", task_id) for task_id in ids
    ]
    assert all(0 <= arguments[2] < PATIENCE for arguments in facts.of("task_started"))
    assert {arguments[:3] for arguments in facts.of("task_ended")} == {
        ("default", task_id, task_id) for task_id in ids
    }


async def test_far_deadlines_harm_nobody(
    make_server: MakeServer, recorder: Recorder, queue: Queue
) -> None:
    """Go allows times that no calendar here has."""
    await queue.pending("a", msg=packed("a", deadline=2**62))
    await queue.pending("b", msg=packed("b", timeout=2**62))
    await queue.pending("c", msg=packed("c", deadline=-(2**62)))
    await queue.pending("d", msg=packed("d", timeout=-5))
    await queue.pending("e", msg=packed("e", deadline=FAR_AHEAD * 50, timeout=LONG_AGO))
    async with make_server(lease=1.0) as server:
        for task_id in "abe":
            await queue.wait_state(task_id, "")
        for task_id in "cd":
            await queue.wait_state(task_id, "retry")
        recorder.hold()
        await queue.pending("f", msg=packed("f", deadline=2**62))
        await recorder.wait_runs(1, "f")
        await server._presence.show(server._crew.link)
        recorder.release()
    assert recorder.tasks["a"].deadline is None


async def test_cancellation_reaches_only_the_task_that_is_meant(
    hub: pulsewire.Hub,
    make_server: MakeServer,
    recorder: Recorder,
    queue: Queue,
    failures: Failures,
    raw: Raw,
    namespace: str,
) -> None:
    """It has failed, and is tried again (4.3)."""
    recorder.hold()
    async with make_server(error_handler=failures):
        for task_id in ("a", "b"):
            await hub.tasks.enqueue("t", task_id=task_id)
        await recorder.wait_runs(2)
        await raw("", "PUBLISH", f"{namespace}:asynq:cancel", "nobody")
        await hub.tasks.inspector.cancel("a")
        await queue.wait_state("a", "retry")
        recorder.release()
        await queue.wait_state("b", "")
    assert recorder.ended == {"a": ["cancelled"], "b": ["returned"]}
    assert [(one, type(error)) for one, error in failures.told] == [("a", TaskCancelled)]
    message = await queue.message("a")
    assert (message["error_msg"], message["retried"]) == ("context canceled", 1)


@on_one_server
async def test_attempts_share_no_context(hub: pulsewire.Hub, make_server: MakeServer) -> None:
    """What a handler sets in a context variable no other attempt sees, also not the one that begins in its place."""
    seen: list[str] = []
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="nothing")

    async def handle(task: Task) -> None:
        seen.append(mine.get())
        mine.set(task.id)

    for number in range(5):
        await hub.tasks.enqueue("t", task_id=str(number))
    async with make_server(handle, concurrency=1):
        await wait_until(lambda: len(seen) == 5, timeout=PATIENCE, what="all have run")
    assert seen == ["nothing"] * 5
