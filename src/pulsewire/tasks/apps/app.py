"""Python's comfort on top of task queues: typed functions as tasks, and the program that runs them.

An app knows its functions, how they are enqueued, and what runs beside them. The functions themselves are
`functions.py`'s, the hub that they are enqueued by is `binding.py`'s, a running process is `worker.py`'s, several are
`supervisor.py`'s.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from typing_extensions import Unpack

from pulsewire.errors import ConfigurationError
from pulsewire.tasks.apps.binding import Binding, Target, TaskHub, connect
from pulsewire.tasks.apps.functions import (
    Runner,
    TaskDecorator,
    TaskFunction,
    TaskOptions,
    with_options,
)
from pulsewire.tasks.apps.lifeline import hold_lifeline
from pulsewire.tasks.apps.loading import find
from pulsewire.tasks.apps.signature import Arguments
from pulsewire.tasks.apps.worker import ENDING_MARGIN, Orders, Worker, WorkerOptions, check_options
from pulsewire.tasks.client import TaskClient
from pulsewire.tasks.keys import DEFAULT_QUEUE
from pulsewire.tasks.mux import H, M, Mux
from pulsewire.tasks.scheduling.cron import Cron
from pulsewire.tasks.wire import NewTask

Hook = Callable[[], Awaitable[None] | None]
HookT = TypeVar("HookT", bound=Hook)
Lifespan = Callable[["App"], AbstractAsyncContextManager[Any]]


class App:
    """The tasks of a program: which there are, how they are enqueued, and how a worker runs them.

    In a few lines::

        app = pulsewire.tasks.App(namespace="shop")

        @app.task("email:welcome", queue="critical", max_retry=5)
        async def welcome(user_id: int) -> None: ...

        async with app.connect():
            await welcome.enqueue(user_id=42)

    and `pulsewire worker module:app`, or `await app.run_worker()`, runs it.

    Attributes:
        mux: finds the handlers. A function's type is matched as it is; handlers of one's own are found by patterns.
    """

    def __init__(
        self,
        target: Target = None,
        *,
        namespace: str = "",
        lifespan: Lifespan | None = None,
        **server_options: Unpack[WorkerOptions],
    ) -> None:
        """Make an app without tasks. Nothing is connected.

        Args:
            target: where to connect, see `pulsewire.connect`.
            namespace: prefix of every key.
            lifespan: makes an async context manager that each worker process holds while it runs tasks.
            server_options: how a worker runs tasks, see `Hub.task_server`. Without `queues`, it takes tasks from
                "default" and from every queue that a task of this app is enqueued to.

        Raises:
            ConfigurationError: an option is impossible.
        """
        check_options(server_options)
        self.target = target
        self.namespace = namespace
        self.mux = Mux()
        self._server_options = server_options
        self._lifespan = lifespan
        self._startup: list[Hook] = []
        self._shutdown: list[Hook] = []
        self._functions: dict[str, TaskFunction[..., Any, Any]] = {}
        self._periodic: list[tuple[str, NewTask]] = []
        self._binding = Binding()
        self._logger = logging.getLogger("pulsewire.tasks.apps.app")

    def __repr__(self) -> str:
        return f"<App namespace={self.namespace!r} tasks={sorted(self._functions)}>"

    @classmethod
    def load(cls, name: str) -> App:
        """The app of a module, by a name such as "shop.tasks:app"; "shop.tasks" will do if the module has one app.

        Raises:
            ConfigurationError: there is none. What the module itself raises while it is imported comes out as it is.
        """
        return find(name, cls)

    # --- its tasks

    def task(self, type: str | None = None, **options: Unpack[TaskOptions]) -> TaskDecorator:
        """A decorator: this function, `async def` or `def`, runs as a task. A `def` runs in a thread.

        Args:
            type: of its tasks, such as "email:welcome". By default `module:name` of the function, which must then stay.
            options: how its tasks are enqueued, see `NewTask`; `TaskFunction.options` changes them for one call.

        Raises:
            ConfigurationError: an option is impossible, the function cannot be a task, or the type is taken.
        """
        if callable(type):
            raise ConfigurationError("write @app.task(), with parentheses")
        return TaskDecorator(partial(self._add, type, options, None))

    def periodic(
        self, spec: str, type: str | None = None, **options: Unpack[TaskOptions]
    ) -> TaskDecorator:
        """A decorator: a task that every worker's scheduler enqueues, once per tick however many workers there are.

        The function is called without arguments. For others use `schedule`.

        Args:
            spec: when: five fields as in cron, "@every 1h30m", "@daily"; see `Scheduler`.
            type: as for `task`.
            options: as for `task`.

        Raises:
            ConfigurationError: as for `task`; or the spec is not valid, or the function needs arguments.
        """
        Cron.parse(spec)
        return TaskDecorator(partial(self._add, type, options, spec))

    def _add(
        self, type: str | None, options: TaskOptions, spec: str | None, function: Callable[..., Any]
    ) -> TaskFunction[..., Any, Any]:
        arguments = Arguments(function)
        if spec is not None and not arguments.are_optional:
            raise ConfigurationError(
                f"{arguments.function} needs arguments, and nobody gives any to a periodic task: give them defaults, "
                "or use app.schedule(spec, task.new(...))"
            )
        template = with_options(NewTask(type=_type_of(function) if type is None else type), options)
        task: TaskFunction[..., Any, Any] = TaskFunction(
            self._binding, function, template, arguments
        )
        self.mux.add(task.type, Runner(function, arguments), exact=True)
        self._functions[task.type] = task
        if spec is not None:
            self.schedule(spec, task.new())
        return task

    def schedule(self, spec: str, task: NewTask) -> None:
        """Have every worker's scheduler enqueue a task: `app.schedule("@daily", report.new(region="eu"))`.

        Raises:
            ConfigurationError: the spec is not valid.
        """
        Cron.parse(spec)
        self._periodic.append((spec, task))

    def handle(self, pattern: str) -> Callable[[H], H]:
        """A decorator: this function of a `Task` handles the types that begin with a pattern. See `Mux`."""
        return self.mux.handle(pattern)

    def use(self, middleware: M) -> M:
        """Put something around all handlers. See `Mux.use`. Can be used as a decorator."""
        return self.mux.use(middleware)

    def on_startup(self, hook: HookT) -> HookT:
        """A decorator: each worker process calls this, connected, before it takes its first task."""
        self._startup.append(hook)
        return hook

    def on_shutdown(self, hook: HookT) -> HookT:
        """A decorator: each worker process calls this after its last task; what was added last comes first."""
        self._shutdown.append(hook)
        return hook

    # --- enqueuing

    def connect(
        self, target: Target = None, *, namespace: str | None = None
    ) -> AbstractAsyncContextManager[TaskHub]:
        """Connect, and have the app's tasks enqueued there: `async with app.connect(): ...`.

        Args:
            target: instead of the app's own.
            namespace: instead of the app's own.

        Raises:
            See `pulsewire.connect`.
        """
        space = self.namespace if namespace is None else namespace
        return self._connected(self.target if target is None else target, space)

    @asynccontextmanager
    async def _connected(self, target: Target, namespace: str) -> AsyncIterator[TaskHub]:
        async with connect(target, namespace=namespace) as hub:
            with self.bind(hub):
                yield hub

    def bind(self, hub: TaskHub) -> ExitStack:
        """Have the app's tasks enqueued by a hub of this event loop, from now on.

        Returns:
            A context manager; leaving it unbinds the hub. When several are bound, the last one counts.
        """
        return self._binding.add(hub)

    @property
    def hub(self) -> TaskHub:
        """The hub that the app is bound to.

        Raises:
            AppNotConnected: it is not bound to a hub.
        """
        return self._binding.hub

    @property
    def tasks(self) -> TaskClient:
        """The task client: `await app.tasks.enqueue_many([welcome.new(user_id=1), welcome.new(user_id=2)])`."""
        return self._binding.here()

    # --- running

    @asynccontextmanager
    async def serve(
        self, hub: TaskHub, **server_options: Unpack[WorkerOptions]
    ) -> AsyncIterator[Worker]:
        """Run the app's tasks on a hub that is there: `async with app.serve(hub) as worker: await worker.wait()`.

        Args:
            hub: where to take tasks from, and to enqueue them.
            server_options: on top of the app's own.
        """
        lifeline = hold_lifeline()
        every = dict.fromkeys([DEFAULT_QUEUE, *sorted(self._queues())], 1)
        choices: WorkerOptions = {"queues": every, **self._server_options, **server_options}
        options, worker = check_options(choices), Worker(hub.url)
        if "queues" not in server_options and (unserved := self._queues() - options.queues.keys()):
            self._logger.warning(
                "this worker takes nothing from some queues that its app's tasks are enqueued to",
                extra={"unserved": sorted(unserved), "queues": sorted(options.queues)},
            )
        async with AsyncExitStack() as stack:
            patience = options.shutdown_timeout + ENDING_MARGIN
            if lifeline is not None:
                stack.enter_context(lifeline.ending(worker.stop, patience))
            stack.enter_context(self.bind(hub))
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            await self._begin(stack)
            worker.run(await stack.enter_async_context(hub.task_server(self.mux, **choices)))
            await self._start_scheduler(hub, stack)
            if lifeline is not None:
                lifeline.say_ready(patience)
            yield worker

    @asynccontextmanager
    async def worker(
        self,
        target: Target = None,
        *,
        namespace: str | None = None,
        **server_options: Unpack[WorkerOptions],
    ) -> AsyncIterator[Worker]:
        """Connect and run the app's tasks: `async with app.worker() as worker: await worker.wait()`.

        Leaving the block ends it: running tasks have `shutdown_timeout`, then they go back to their queues.

        Args:
            target: instead of the app's own.
            namespace: instead of the app's own.
            server_options: on top of the app's own.
        """
        async with (
            self.connect(target, namespace=namespace) as hub,
            self.serve(hub, **server_options) as worker,
        ):
            yield worker

    async def run_worker(
        self,
        target: Target = None,
        *,
        namespace: str | None = None,
        **server_options: Unpack[WorkerOptions],
    ) -> None:
        """Connect and run the app's tasks until SIGTERM or SIGINT: `anyio.run(app.run_worker)`.

        SIGTSTP has it take no new tasks. It listens to signals, so it is for the main thread.

        Args:
            target: as for `worker`.
            namespace: as for `worker`.
            server_options: as for `worker`.
        """
        orders = Orders()
        with orders.obeyed():
            async with self.worker(target, namespace=namespace, **server_options) as worker:
                orders.worker = worker
                await worker.wait()

    def _queues(self) -> set[str]:
        """The queues of all tasks of the app."""
        queues = {task.template.queue for task in self._functions.values()}
        return queues | {task.queue for _, task in self._periodic}

    async def _begin(self, stack: AsyncExitStack) -> None:
        """Call the hooks of the beginning; those of the end are called whatever happens from then on."""
        for hook in self._shutdown:  # the stack ends with the last one
            stack.push_async_callback(_call, hook)
        for hook in self._startup:
            await _call(hook)

    async def _start_scheduler(self, hub: TaskHub, stack: AsyncExitStack) -> None:
        if not self._periodic:
            return
        scheduler = hub.scheduler()
        for spec, task in self._periodic:
            registered = scheduler.register(spec, task)
            if inspect.isawaitable(registered):
                await registered
        await stack.enter_async_context(scheduler)


async def _call(hook: Hook) -> None:
    told = hook()
    if inspect.isawaitable(told):
        await told


def _type_of(function: Callable[..., Any]) -> str:
    """The type of a function's tasks where none is given: one that is the same in every program."""
    if function.__module__ == "__main__":
        raise ConfigurationError(
            f"{function.__qualname__}() is in the program that was started, whose name another program does not know: "
            "give its tasks a type, as in @app.task('email:welcome')"
        )
    return f"{function.__module__}:{function.__qualname__}"
