"""Typed functions as tasks: called, enqueued and run by one signature."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import pulsewire
from pulsewire.errors import (
    AppNotConnected,
    ConfigurationError,
    DecodeError,
    HandlerNotFound,
    InvalidName,
    InvalidOption,
    SkipRetry,
    WrongState,
)
from pulsewire.tasks.apps.app import App
from pulsewire.tasks.apps.functions import TaskFunction
from pulsewire.tasks.states import TaskState
from pulsewire.tasks.task import Task, current_task
from pulsewire.tasks.wire import NewTask, TaskInfo
from pulsewire.testing import wait_until
from tests.facts import Raw

TOPOLOGIES = ["standalone", "cluster"]
pytestmark = pytest.mark.leaves_keys("asynq:*", "pulsewire:*")


@dataclass
class Receipt:
    """What a function returns."""

    number: int
    paid_at: datetime


class Fields:
    """The fields of tasks, as Redis has them."""

    def __init__(self, raw: Raw, namespace: str) -> None:
        self._raw = raw
        self._namespace = namespace

    async def of(self, info: TaskInfo) -> dict[str, bytes]:
        """All fields of one task; none if it is gone."""
        key = f"{self._namespace}:asynq:{{{info.queue}}}:t:{info.id}"
        found = await self._raw(key, "HGETALL", key)
        if isinstance(found, dict):
            found = [part for pair in found.items() for part in pair]
        return {name.decode(): value for name, value in zip(found[::2], found[1::2], strict=True)}

    async def wait_state(self, info: TaskInfo, state: TaskState) -> dict[str, bytes]:
        """All fields of a task, once it is in a state."""

        async def is_there() -> bool:
            return (await self.of(info)).get("state") == state.encode()

        await wait_until(is_there, what=f"task {info.id} is {state}")
        return await self.of(info)

    async def wait_gone(self, info: TaskInfo) -> None:
        """Return when a task is done, and forgotten."""

        async def is_gone() -> bool:
            return not await self.of(info)

        await wait_until(is_gone, what=f"task {info.id} is gone")


@pytest.fixture
def fields(raw: Raw, namespace: str) -> Fields:
    """A look at the tasks of this test."""
    return Fields(raw, namespace)


def info(task_type: str, state: TaskState, result: bytes = b"") -> TaskInfo:
    """A task as an inspector would show it."""
    return TaskInfo(
        id="1", queue="default", type=task_type, payload=b"", state=state, result=result
    )


# --- functions


async def test_task_can_be_called_like_the_function_that_it_is() -> None:
    """In a unit test no server is needed, and nothing is enqueued."""
    app = App()

    @app.task("email:welcome")
    async def welcome(user_id: int, greeting: str = "hi") -> str:
        """Greet."""
        return f"{greeting} {user_id}"

    @app.task("sum")
    def add(a: int, b: int) -> int:
        return a + b

    assert await welcome(user_id=42) == "hi 42"
    assert add(1, 2) == 3
    assert welcome.type == "email:welcome"
    assert (welcome.__name__, welcome.__doc__) == ("welcome", "Greet.")  # type: ignore[attr-defined]  # update_wrapper


async def test_function_runs_in_a_worker_with_what_was_enqueued(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    """A coroutine function runs on the loop, a plain one in a thread."""
    app, ran = App(), list[object]()

    @app.task("async")
    async def on_loop(number: int, *, when: datetime) -> None:
        ran.append(("loop", number, when, current_task().type, threading.current_thread()))

    @app.task("sync")
    def in_thread(number: int, when: datetime) -> None:
        ran.append(("thread", number, when, current_task().type, threading.current_thread()))

    now = datetime.now(UTC)
    with app.bind(hub):
        first = await on_loop.enqueue(1, when=now)
        second = await in_thread.enqueue(number=2, when=now)
    async with app.serve(hub):
        await fields.wait_gone(first)
        await fields.wait_gone(second)
    there, elsewhere = sorted(ran, key=str)
    main = threading.current_thread()
    assert there == ("loop", 1, now, "async", main)
    assert isinstance(elsewhere, tuple)
    assert elsewhere[:4] == ("thread", 2, now, "sync")
    assert elsewhere[4] is not main


async def test_result_is_kept_with_the_task_and_read_by_the_function(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    app = App()
    paid_at = datetime(2026, 11, 22, tzinfo=UTC)

    @app.task("charge", retention=60.0)
    async def charge(number: int) -> Receipt:
        return Receipt(number, paid_at)

    @app.task("refund", retention=60.0)
    def refund(number: int) -> None: ...

    async with app.serve(hub):
        charged, refunded = await charge.enqueue(7), await refund.enqueue(7)
        forgotten = await charge.options(retention=0.0).enqueue(8)
        kept = await fields.wait_state(charged, TaskState.COMPLETED)
        nothing = await fields.wait_state(refunded, TaskState.COMPLETED)
        await fields.wait_gone(forgotten)
    assert kept["result"] == b'{"number":7,"paid_at":"2026-11-22T00:00:00Z"}'
    assert "result" not in nothing
    done = info("charge", TaskState.COMPLETED, kept["result"])
    assert charge.result(done) == Receipt(7, paid_at)


def test_result_that_is_not_there_is_an_error_and_not_none() -> None:
    app = App()

    @app.task("charge")
    async def charge() -> int | None:
        return None

    assert charge.result(info("charge", TaskState.COMPLETED)) is None
    # written by the handler itself
    assert charge.result(info("charge", TaskState.ACTIVE, b"5")) == 5
    with pytest.raises(WrongState, match="it is pending"):
        charge.result(info("charge", TaskState.PENDING))
    with pytest.raises(InvalidOption, match="not a task of type 'charge'"):
        charge.result(info("refund", TaskState.COMPLETED, b"5"))
    with pytest.raises(DecodeError, match="the result of"):
        charge.result(info("charge", TaskState.COMPLETED, b'"five"'))


async def test_payload_that_does_not_fit_is_archived_at_once(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    """Data does not get better by waiting: it is shown with the field that is wrong, not tried 25 times."""
    app, failures = App(), list[BaseException]()

    @app.task("email:welcome")
    async def welcome(user_id: int) -> None:
        raise AssertionError("it must not be called")

    @app.task("email:goodbye")
    def goodbye(user_id: int) -> None:
        raise AssertionError("it must not be called")

    async with app.serve(hub, error_handler=lambda _, error: failures.append(error)):
        for task in (welcome, goodbye):
            bad = await hub.tasks.enqueue(task.type, b'{"user_id":"forty-two"}')
            archived = await fields.wait_state(bad, TaskState.ARCHIVED)
            assert b"Expected `int`, got `str` - at `$.user_id`" in archived["msg"]
    assert [type(error) for error in failures] == [SkipRetry, SkipRetry]
    assert all(isinstance(error.__cause__, DecodeError) for error in failures)


async def test_result_that_cannot_be_kept_is_shown_and_not_worked_for_again(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    app, calls = App(), list[int]()

    @app.task("odd")
    async def odd() -> object:
        calls.append(1)
        return object()

    async with app.serve(hub):
        kept = await odd.options(retention=60.0).enqueue()
        archived = await fields.wait_state(kept, TaskState.ARCHIVED)
        assert b"cannot be kept" in archived["msg"]
        await fields.wait_gone(await odd.enqueue())  # nobody wants it: it may return what it likes
    assert calls == [1, 1]


async def test_plain_function_around_a_coroutine_function_is_awaited(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    """Decorators are often written so."""
    app, ran = App(), list[int]()

    async def inside(number: int) -> int:
        ran.append(number)
        return number

    @app.task("around", retention=60.0)
    def around(number: int) -> Awaitable[int]:
        return inside(number)

    async with app.serve(hub):
        kept = await fields.wait_state(await around.enqueue(5), TaskState.COMPLETED)
    assert (ran, kept["result"]) == ([5], b"5")


# --- options


def test_options_stand_at_the_function_and_change_for_one_call() -> None:
    app = App()

    @app.task("report", queue="low", max_retry=3, timeout=60.0, process_in=10.0, headers={"a": "b"})
    async def report(region: str = "eu") -> None: ...

    payload = b'{"region":"us"}'
    common: dict[str, Any] = {"type": "report", "payload": payload, "headers": {"a": "b"}}
    plain = report.new("us")
    assert plain == NewTask(**common, queue="low", max_retry=3, timeout=60.0, process_in=10.0)
    at = datetime(2030, 1, 1, tzinfo=UTC)
    later = report.options(queue="high", process_at=at, task_id="1", unique=60.0)
    assert later.new(region="us") == NewTask(
        **common, queue="high", max_retry=3, timeout=60.0, process_at=at, task_id="1", unique=60.0
    )
    again = later.options(process_in=5.0)
    assert (again.template.process_at, again.template.process_in) == (None, 5.0)
    assert report.new("us") == plain


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"queu": "low"}, TypeError, "no option queu"),
        ({"queue": ""}, InvalidName, "queue"),
        ({"max_retry": -1}, InvalidOption, "max_retry"),
        ({"timeout": "soon"}, InvalidOption, "timeout"),
        ({"unique": 0.5}, InvalidOption, "unique"),
        ({"retention": -1.0}, InvalidOption, "retention"),
        ({"group": " "}, InvalidName, "group"),
        ({"headers": {"a": 1}}, InvalidName, "header"),
    ],
)
def test_impossible_option_is_refused_where_it_is_written(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    app = App()

    async def report() -> None: ...

    with pytest.raises(error, match=words):
        app.task("report", **options)(report)
    task = app.task("report")(report)
    with pytest.raises(error, match=words):
        task.options(**options)


def test_type_is_the_name_of_the_function_where_none_is_given() -> None:
    app = App()
    task = app.task()(module_level)
    assert task.type == f"{__name__}:module_level"


async def module_level() -> None: ...


@pytest.mark.parametrize(
    ("decorate", "words"),
    [
        (lambda app: app.task(module_level), "with parentheses"),
        (lambda app: [app.task("one")(module_level) for _ in range(2)], "has a handler already"),
        (lambda app: app.task("")(module_level), "blank"),
        (lambda app: app.task("x")(lambda *args: None), "take a list"),
        (lambda app: app.task()(in_main()), "give its tasks a type"),
        (lambda app: app.periodic("every day"), "spec='every day'"),
        (lambda app: app.periodic("@daily")(needs_one), "app.schedule"),
        (lambda app: app.schedule("61 * * * *", NewTask(type="x")), "spec='61"),
        (lambda app: App(concurrency=0), "concurrency"),
        (lambda app: App(queues=[]), "queues"),
    ],
)
def test_what_cannot_work_is_refused_when_the_module_is_imported(
    decorate: Callable[[App], object], words: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        decorate(App())
    assert words in str(raised.value)


async def needs_one(number: int) -> None: ...


def in_main() -> Callable[..., Any]:
    """A function of the program that was started: another program would call it otherwise."""

    def function() -> None: ...

    function.__module__ = "__main__"
    return function


# --- enqueuing


async def test_enqueuing_without_a_hub_says_what_to_do(hub: pulsewire.Hub) -> None:
    app = App()
    task = app.task("task")(module_level)
    with pytest.raises(AppNotConnected, match=r"async with app.connect\(\)"):
        await task.enqueue()
    with app.bind(hub):
        assert app.hub is hub
        assert app.tasks is hub.tasks
    with pytest.raises(AppNotConnected, match=r"app.bind\(hub\)"):
        _ = app.tasks


async def test_connect_binds_the_hub_while_it_lasts(topology: Any, namespace: str) -> None:
    app = App(topology.url, namespace=namespace)
    task = app.task("task")(module_level)
    async with app.connect() as outer:
        assert (await task.enqueue()).state is TaskState.PENDING
        async with app.connect(namespace=f"{namespace}:other") as inner:
            assert app.hub is inner
        assert app.hub is outer
    with pytest.raises(AppNotConnected, match="not connected"):
        await task.enqueue()


async def test_many_tasks_are_enqueued_together(hub: pulsewire.Hub) -> None:
    app = App()

    @app.task("sum")
    async def add(a: int) -> None: ...

    with app.bind(hub):
        infos = await app.tasks.enqueue_many(add.new(number) for number in range(3))
    assert [one.payload for one in infos if isinstance(one, TaskInfo)] == [
        b'{"a":0}',
        b'{"a":1}',
        b'{"a":2}',
    ]


async def test_task_in_a_thread_enqueues_others(hub: pulsewire.Hub, fields: Fields) -> None:
    app, ran = App(), list[int]()

    @app.task("first", retention=60.0)
    def first(number: int) -> str:
        return second.enqueue_from_thread(number + 1).type

    @app.task("second")
    async def second(number: int) -> None:
        ran.append(number)

    async with app.serve(hub):
        kept = await fields.wait_state(await first.enqueue(1), TaskState.COMPLETED)
        await wait_until(lambda: ran == [2], what="the second task has run")
        with pytest.raises(AppNotConnected, match="await"):
            second.enqueue_from_thread(3)
    assert kept["result"] == b'"second"'


async def test_hub_of_another_event_loop_is_refused(hub: pulsewire.Hub) -> None:
    app = App()
    task = app.task("task")(module_level)
    with app.bind(hub):
        elsewhere = asyncio.to_thread(lambda: asyncio.run(_enqueue(task)))
        with pytest.raises(AppNotConnected, match="another event loop"):
            await elsewhere


async def _enqueue(task: TaskFunction[[], Any, Any]) -> TaskInfo:
    return await task.enqueue()


# --- running


async def test_type_that_only_begins_like_a_function_is_not_given_to_it(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    """Its arguments are another function's. Handlers of patterns, which know that, stand beside."""
    app, ran, failures = App(), list[str](), list[BaseException]()

    @app.task("email:welcome")
    async def welcome() -> None:
        ran.append("function")

    @app.handle("email:welcome:v")
    async def versions(task: Task) -> None:
        ran.append(task.type)

    @app.handle("image:")
    async def images(task: Task) -> None:
        ran.append(task.type)

    async with app.serve(hub, error_handler=lambda _, error: failures.append(error)):
        for task_type in ("email:welcome", "email:welcome:v2", "image:resize"):
            await fields.wait_gone(await hub.tasks.enqueue(task_type))
        unknown = await hub.tasks.enqueue("email:welcome-back")
        await fields.wait_state(unknown, TaskState.RETRY)
    assert ran == ["function", "email:welcome:v2", "image:resize"]
    assert [type(error) for error in failures] == [HandlerNotFound]


async def test_middleware_is_around_every_function(hub: pulsewire.Hub, fields: Fields) -> None:
    app, seen = App(), list[str]()

    @app.use
    def note(following: Any) -> Any:
        async def around(task: Task) -> None:
            seen.append(f"before {task.type}")
            await following(task)
            seen.append(f"after {task.type}")

        return around

    app.task("task")(module_level)
    async with app.serve(hub):
        await fields.wait_gone(await hub.tasks.enqueue("task"))
    assert seen == ["before task", "after task"]


async def test_what_a_worker_needs_lives_around_its_tasks(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    """Lifespan, hooks and tasks, in that order, and back; all with the hub at hand."""
    happened: list[str] = []

    @asynccontextmanager
    async def lifespan(its: App) -> AsyncIterator[None]:
        happened.append(f"open {its.hub.url == hub.url}")
        yield
        happened.append("close")

    app = App(lifespan=lifespan)

    @app.on_startup
    async def warm_up() -> None:
        happened.append("start 1")
        await task.enqueue()

    @app.on_startup
    def warm_up_more() -> None:
        happened.append("start 2")

    @app.on_shutdown
    async def cool_down() -> None:
        happened.append("stop 1")

    @app.on_shutdown
    def cool_down_more() -> None:
        happened.append("stop 2")

    @app.task("task")
    async def task() -> None:
        happened.append("task")

    async with app.serve(hub) as worker:
        await wait_until(lambda: "task" in happened, what="the task has run")
        worker.stop()
        await worker.wait()
    assert happened == ["open True", "start 1", "start 2", "task", "stop 2", "stop 1", "close"]


async def test_worker_that_cannot_start_cleans_up(hub: pulsewire.Hub) -> None:
    happened: list[str] = []
    app = App()

    @app.on_startup
    async def fail() -> None:
        raise LookupError("no model")

    @app.on_shutdown
    async def cool_down() -> None:
        happened.append("stop")

    with pytest.raises(LookupError, match="no model"):
        async with app.serve(hub):
            raise AssertionError("it must not start")
    assert happened == ["stop"]
    with pytest.raises(AppNotConnected, match="not connected"):
        _ = app.hub


async def test_trouble_of_the_server_comes_out_of_the_worker(hub: pulsewire.Hub) -> None:
    """As the one error that it was, after everything was closed."""
    happened: list[str] = []
    app = App()

    @app.on_shutdown
    async def cool_down() -> None:
        happened.append("stop")

    with pytest.raises(LookupError, match="lease thread"):
        async with app.serve(hub) as worker:
            worker.server._leases_failed(LookupError("lease thread"))
            await worker.wait()
    assert happened == ["stop"]


async def test_worker_serves_the_queues_of_its_tasks(hub: pulsewire.Hub) -> None:
    """Unless it is told which: then just those."""
    app = App()
    app.task("one", queue="low")(module_level)
    app.task("two", queue="critical")(needs_one)
    async with app.serve(hub) as worker:
        assert worker.queues == {"default": 1, "critical": 1, "low": 1}
    async with app.serve(hub, queues={"critical": 3, "other": 1}, concurrency=5) as worker:
        assert worker.queues == {"critical": 3, "other": 1}
        assert worker.server.options.concurrency == 5


async def test_queue_that_is_forgotten_is_a_warning(
    hub: pulsewire.Hub, caplog: pytest.LogCaptureFixture
) -> None:
    """Its tasks would wait for ever. A worker that is told its queues may leave some to others."""
    app = App(queues={"default": 1})
    app.task("one", queue="images")(module_level)
    async with app.serve(hub, queues=["default"]):
        assert not caplog.records
    async with app.serve(hub):
        (record,) = caplog.records
    assert (record.levelname, record.__dict__["unserved"]) == ("WARNING", ["images"])


class Scheduler:
    """Remembers what it shall enqueue, and when it lived."""

    def __init__(self, told: list[object]) -> None:
        self._told = told

    def register(self, spec: str, task: NewTask) -> str:
        self._told.append((spec, task))
        return "entry"

    async def __aenter__(self) -> None:
        self._told.append("begin")

    async def __aexit__(self, *_: object) -> None:
        self._told.append("end")


async def test_worker_schedules_the_periodic_tasks(
    hub: pulsewire.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told to the scheduler, which runs beside the server; without any there is none."""
    told: list[object] = []
    monkeypatch.setattr(pulsewire.Hub, "scheduler", lambda _: Scheduler(told), raising=False)
    app = App()
    async with app.serve(hub):
        assert told == []

    @app.periodic("*/5 * * * *", "clean", queue="low")
    async def clean(limit: int = 5) -> None: ...

    app.schedule("@daily", clean.options(queue="high").new(limit=1))
    async with app.serve(hub) as worker:
        assert worker.queues == {"default": 1, "high": 1, "low": 1}
        assert told == [
            ("*/5 * * * *", NewTask(type="clean", payload=b"{}", queue="low")),
            ("@daily", NewTask(type="clean", payload=b'{"limit":1}', queue="high")),
            "begin",
        ]
    assert told[-1] == "end"


async def test_worker_that_takes_nothing_more_goes_on_with_what_it_has(
    hub: pulsewire.Hub, fields: Fields
) -> None:
    app, began, may_end = App(), asyncio.Event(), asyncio.Event()

    @app.task("slow")
    async def slow() -> None:
        began.set()
        await may_end.wait()

    async with app.serve(hub) as worker:
        running = await slow.enqueue()
        await began.wait()
        worker.stop_taking()
        waiting = await slow.enqueue()
        may_end.set()
        await fields.wait_gone(running)
        assert (await fields.of(waiting))["state"] == b"pending"
        ending = asyncio.ensure_future(worker.wait())
        await asyncio.sleep(0)
        assert not ending.done()
        worker.stop()
        await ending


# --- loading


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module with one app under two names, and things that are none."""
    name = f"shop_{abs(hash(request.node.name))}"
    text = "from pulsewire.tasks.apps.app import App\napp = tasks = App()\nnumber = 5\n"
    (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / f"{name}_two.py").write_text(text + "other = App()\n")
    (tmp_path / f"{name}_none.py").write_text("")
    (tmp_path / f"{name}_broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_app_is_found_by_the_name_of_its_module(module: str) -> None:
    assert App.load(f"{module}:app") is App.load(module)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{}:nothing", "has no such name"),
        ("{}:number", "has a 'int' there"),
        ("{}_two", "has 2 apps"),
        ("{}_none", "has no apps"),
        ("no_such_package.tasks:app", "no module 'no_such_package'"),
        (":app", "write 'module:app'"),
        (".tasks:app", "write 'module:app'"),
    ],
)
def test_name_without_an_app_is_refused_with_the_reason(module: str, name: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        App.load(name.format(module))
    assert words in str(raised.value)


def test_module_that_fails_to_import_shows_its_own_error(module: str) -> None:
    """A traceback into the module helps; a word that there is no such module would mislead."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        App.load(f"{module}_broken:app")
