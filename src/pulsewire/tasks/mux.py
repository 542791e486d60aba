"""Finding the handler of a task by its type, and what is put around handlers (spec/asynq.md 6.1)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from pulsewire.errors import HandlerNotFound, InvalidOption
from pulsewire.tasks.task import Task

Handler = Callable[[Task], Awaitable[Any]] | Callable[[Task], Any]
"""Runs a task: a coroutine function, or a plain one, which runs in a thread."""
AsyncHandler = Callable[[Task], Awaitable[Any]]
Middleware = Callable[[AsyncHandler], AsyncHandler]
"""Gets the next handler, and returns one that is put around it."""
H = TypeVar("H", bound=Handler)
M = TypeVar("M", bound=Middleware)
MOST_TYPES = 1_000
"""Types whose handlers are remembered: types that carry an id are without number."""


class Mux:
    """Handlers by pattern.

    The pattern that equals the type of a task is taken, else the longest one that the type begins with: "email:" is
    for "email:welcome" and "email:reset". Middleware is put around every handler, also where none is found; what was
    added first is outermost.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, AsyncHandler] = {}
        self._exact: set[str] = set()
        self._middleware: list[Middleware] = []
        self._found: dict[str, tuple[AsyncHandler, str]] = {}

    def __repr__(self) -> str:
        return f"<Mux {sorted(self._handlers)}>"

    def handle(self, pattern: str) -> Callable[[H], H]:
        """A decorator: this function handles the tasks of a pattern."""

        def decorate(handler: H) -> H:
            self.add(pattern, handler)
            return handler

        return decorate

    def add(self, pattern: str, handler: Handler, *, exact: bool = False) -> None:
        """Have a handler for a pattern; with `exact`, for the type that equals it alone.

        Raises:
            InvalidOption: the pattern is blank or taken, or `handler` cannot be called.
        """
        if not isinstance(pattern, str) or not pattern.strip():
            raise InvalidOption("pattern", pattern, "it is blank")
        if pattern in self._handlers:
            raise InvalidOption("pattern", pattern, "it has a handler already")
        self._handlers[pattern] = as_async(handler)
        if exact:
            self._exact.add(pattern)
        self._found.clear()

    def use(self, middleware: M) -> M:
        """Put something around all handlers: a function of the next handler that returns an `async def` of a task."""
        if not callable(middleware):
            raise InvalidOption("middleware", middleware, "it cannot be called")
        self._middleware.append(middleware)
        self._found.clear()
        return middleware

    def find(self, task_type: str) -> tuple[AsyncHandler, str]:
        """The handler for a type, with all middleware around it, and its pattern; "" if there is none.

        The handler of no pattern raises `HandlerNotFound`.
        """
        found = self._found.get(task_type)
        if found is None:
            pattern = self._match(task_type)
            handler = self._handlers[pattern] if pattern else _nobody
            for middleware in reversed(self._middleware):
                handler = as_async(middleware(handler))
            found = (handler, pattern)
            if pattern and len(self._found) < MOST_TYPES:  # unknown types may be many
                self._found[task_type] = found
        return found

    def _match(self, task_type: str) -> str:
        if task_type in self._handlers:
            return task_type
        patterns = self._handlers.keys() - self._exact
        matching = (pattern for pattern in patterns if task_type.startswith(pattern))
        return max(matching, key=len, default="")

    async def __call__(self, task: Task) -> Any:  # noqa: ANN401  # what the handler returns
        """Run a task by its handler."""
        handler, _ = self.find(task.type)
        return await handler(task)


async def _nobody(task: Task) -> None:
    raise HandlerNotFound(task.type)


def as_async(handler: Handler) -> AsyncHandler:
    """A handler as a coroutine function; a plain function is run in a thread.

    Raises:
        InvalidOption: it cannot be called.
    """
    if not callable(handler) or isinstance(handler, type):
        raise InvalidOption(
            "handler", handler, "use a function, or an object that can be called with a task"
        )
    called = handler.func if isinstance(handler, partial) else handler
    if inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(
        getattr(called, "__call__", None)  # noqa: B004  # whether it is a coroutine, not whether it is there
    ):
        return handler
    return partial(_in_thread, handler)


async def _in_thread(function: Callable[[Task], Any], task: Task) -> Any:  # noqa: ANN401  # what it returns
    """Run a plain function in a thread. How many run at a time is the server's business.

    A thread cannot be ended from outside. When the attempt is cancelled this ends at once, and the function goes on:
    `Task.is_cancelled` is there for it to look at, and `Task.in_thread` for the server, whose place it still takes.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    task.in_thread = ended

    def run() -> Any:  # noqa: ANN401  # as above
        try:
            return function(task)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop may have ended before
                loop.call_soon_threadsafe(_set, ended)

    result = await anyio.to_thread.run_sync(
        run, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True
    )
    # a decorator's plain wrapper gives what the coroutine function within it gave
    return await result if inspect.isawaitable(result) else result


def _set(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
