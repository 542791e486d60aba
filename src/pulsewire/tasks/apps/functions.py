"""Functions that run as tasks: called, enqueued and handled by one typed signature.

What arguments look like on the wire is `signature.py`'s business; which functions an app has, and who runs them,
`app.py`'s.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from copy import copy
from datetime import datetime
from typing import Any, Generic, ParamSpec, TypedDict, TypeVar, cast, overload

import msgspec
from typing_extensions import Unpack

from pulsewire._core.checks import check_seconds
from pulsewire.errors import DecodeError, InvalidOption, SkipRetry, WrongState
from pulsewire.tasks.apps.binding import Binding
from pulsewire.tasks.apps.signature import Arguments, Results
from pulsewire.tasks.mux import as_async
from pulsewire.tasks.states import TaskState
from pulsewire.tasks.task import Task
from pulsewire.tasks.wire import LEAST_UNIQUE, NewTask, TaskInfo, encode_new

P = ParamSpec("P")
C = TypeVar("C")  # what a call gives: a coroutine, or the result itself
R = TypeVar("R")  # the result


class TaskOptions(TypedDict, total=False):
    """How a task is enqueued. See `NewTask` for what each option means."""

    queue: str
    task_id: str | None
    max_retry: int
    timeout: float | None
    deadline: datetime | float | None
    unique: float | None
    process_at: datetime | float | None
    process_in: float | None
    retention: float
    group: str | None
    headers: Mapping[str, str]


class TaskFunction(Generic[P, C, R]):
    """A function that runs as a task. Call it as ever; `enqueue` has a worker run it. Made by `App.task`.

    Attributes:
        template: a task of this function without arguments, with its options.
    """

    def __init__(
        self, binding: Binding, function: Callable[P, C], template: NewTask, arguments: Arguments
    ) -> None:
        functools.update_wrapper(self, function)
        self.template = template
        self._binding = binding
        self._function = function
        self._arguments = arguments
        self._results = Results(function)

    def __repr__(self) -> str:
        return f"<TaskFunction {self.type!r}: {self._arguments.function}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the function itself, here and now. Nothing is enqueued."""
        return self._function(*args, **kwargs)

    @property
    def type(self) -> str:
        """The type of its tasks."""
        return self.template.type

    def new(self, *args: P.args, **kwargs: P.kwargs) -> NewTask:
        """A task that makes this call, to be enqueued with others: `app.tasks.enqueue_many([...])`.

        Raises:
            TypeError: the function cannot be called like this.
        """
        payload = self._arguments.encode(args, kwargs)
        return msgspec.structs.replace(self.template, payload=payload)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskInfo:
        """Have a worker make this call. The task is written when this returns.

        Raises:
            TypeError: the function cannot be called like this; nothing was sent.
            AppNotConnected: the app is not connected.
            PulsewireError: see `TaskClient.enqueue`.
        """
        return await self._binding.here().enqueue(self.new(*args, **kwargs))

    def enqueue_from_thread(self, *args: P.args, **kwargs: P.kwargs) -> TaskInfo:
        """As `enqueue`, for a thread without an event loop, such as the one that a `def` task runs in."""
        client, loop = self._binding.elsewhere()
        enqueuing = client.enqueue(self.new(*args, **kwargs))
        return asyncio.run_coroutine_threadsafe(enqueuing, loop).result()

    def options(self, **options: Unpack[TaskOptions]) -> TaskFunction[P, C, R]:
        """The same with other options: `await welcome.options(process_in=60.0).enqueue(user_id=42)`.

        Raises:
            ConfigurationError: an option is impossible.
        """
        other = copy(self)
        other.template = with_options(self.template, options)
        return other

    def result(self, info: TaskInfo) -> R:
        """What the function returned for a task that is kept (`retention`), as `Inspector.task` shows it.

        Raises:
            WrongState: it has none, since it has not completed.
            InvalidOption: it is the task of another function.
            DecodeError: what is kept is not a result of this function.
        """
        if info.type != self.type:
            raise InvalidOption("info", info.type, f"it is not a task of type {self.type!r}")
        if info.result:
            return cast("R", self._results.decode(info.result))
        if info.state is not TaskState.COMPLETED:
            raise WrongState(info.queue, info.id, info.state, "read the result of")
        return cast("R", None)  # only a function that returned None leaves nothing


class Runner:
    """The handler of a function's tasks: arguments out of the payload, and the result to where it is kept."""

    def __init__(self, function: Callable[..., Any], arguments: Arguments) -> None:
        self._function = function
        self._arguments = arguments
        self._results = Results(function)
        is_async = inspect.iscoroutinefunction(function)
        self._call = as_async(self._call_here if is_async else self._call_in_thread)

    async def __call__(self, task: Task) -> None:
        """Run a task."""
        result = await self._call(task)
        if inspect.isawaitable(result):  # a plain function around a coroutine function
            result = await result
        if result is None or not task.retention:
            return
        try:
            data = self._results.encode(result)
        except TypeError as error:
            raise SkipRetry(str(error)) from error  # the work is done: doing it again helps nobody
        await task.write_result(data)

    async def _call_here(self, task: Task) -> Any:  # noqa: ANN401  # what the function returns
        args, kwargs = self._decode(task)
        return await self._function(*args, **kwargs)

    def _call_in_thread(self, task: Task) -> Any:  # noqa: ANN401  # as above
        args, kwargs = self._decode(task)
        return self._function(*args, **kwargs)

    def _decode(self, task: Task) -> tuple[list[Any], dict[str, Any]]:
        try:
            return self._arguments.decode(task.payload)
        except DecodeError as error:
            raise SkipRetry(str(error)) from error  # data does not get better by waiting


class TaskDecorator:
    """Makes a task of a function. `App.task` and `App.periodic` return one."""

    def __init__(
        self, register: Callable[[Callable[..., Any]], TaskFunction[..., Any, Any]]
    ) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> TaskFunction[..., Any, Any]:
        """Make a task of a function.

        Raises:
            ConfigurationError: it cannot be one.
        """
        return self._register(function)


def with_options(task: NewTask, options: TaskOptions) -> NewTask:
    """A task with other options, checked as far as they can be without enqueuing it.

    Raises:
        TypeError: there is no such option.
        InvalidOption, InvalidName: one has an impossible value.
    """
    changes: dict[str, Any] = dict(options)
    if unknown := changes.keys() - TaskOptions.__annotations__.keys():
        raise TypeError(f"a task has no option {', '.join(sorted(unknown))}")
    if "process_in" in changes:  # the two exclude each other, and the later word counts
        changes.setdefault("process_at", None)
    elif "process_at" in changes:
        changes["process_in"] = None
    changed = msgspec.structs.replace(task, **changes)
    encode_new(changed, "", b"", "")
    if changed.unique is not None:
        check_seconds("unique", changed.unique, LEAST_UNIQUE)
    return changed
