"""Background tasks of one owner, for owners that are async context managers themselves.

An anyio task group has its tasks share the fate of the block that it stands around. For an owner such as a hub that is
wrong in three ways. An error of the user's block must come out as it is. An error of a background duty must come out as
the one error it was. And a block that is cancelled must not take the duties with it, since its owner needs them to end
in order: to hand over, to acknowledge, to sign off. `OwnedTasks` gives exactly that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from pulsewire.errors import ConfigurationError

T = TypeVar("T")


def check_loop(owner: asyncio.AbstractEventLoop) -> None:
    """Make sure that what belongs to a loop is used there.

    Raises:
        ConfigurationError: another loop is running.
    """
    if asyncio.get_running_loop() is not owner:
        raise ConfigurationError(
            "this hub belongs to another event loop: connect one here, or hand the call over to that loop "
            "(asyncio.run_coroutine_threadsafe)"
        )


def is_being_cancelled() -> bool:
    """Whether the task that runs is to end.

    If not, a `CancelledError` that it meets is an outcome of what it has awaited: of something that others cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_outcome(error: BaseException) -> bool:
    """Whether what the user's code has raised is an outcome of that code, and not the end of the task that runs it.

    Also `sys.exit()` is, which in a task would take the whole loop with it.
    """
    if isinstance(error, asyncio.CancelledError):
        return not is_being_cancelled()
    return not isinstance(error, GeneratorExit)


async def see_through(step: Coroutine[Any, Any, T]) -> T:
    """Carry a step out to its end, although the task is cancelled meanwhile; the cancellation is raised behind it.

    A shield of anyio keeps off anyio's scopes only. What asyncio itself cancels goes through it: `asyncio.timeout`,
    `asyncio.wait_for`, `asyncio.TaskGroup`, `Task.cancel`. A second cancellation reaches the step.

    The step runs in a task of its own, so it must not enter or leave what belongs to the task that waits.

    Raises:
        CancelledError: the task was cancelled meanwhile, and the step has not failed.
        BaseException: what the step raises.
    """
    task = asyncio.get_running_loop().create_task(step)
    cut: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                if cut is not None:
                    task.cancel()
                cut = cut or error
    if cut is not None and (task.cancelled() or task.exception() is None):
        raise cut
    return task.result()


class OwnedTasks:
    """A task group that is entered and left by hand, by the same task."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._is_leaving = False

    async def enter(self) -> None:
        """Begin; from now on tasks can be started."""
        self._is_leaving = False
        self._loop = asyncio.get_running_loop()
        self._group = await anyio.create_task_group().__aenter__()

    @property
    def is_open(self) -> bool:
        """Whether tasks can be started that are not cancelled at once."""
        return self._group is not None and not self._is_leaving

    @property
    def group(self) -> TaskGroup:
        """The anyio task group."""
        if self._group is None:
            raise AssertionError("the owner starts tasks only between enter and leave")
        return self._group

    def check_loop(self) -> None:
        """Make sure that they are asked for tasks on their own event loop.

        Raises:
            ConfigurationError: another one is running.
        """
        if self._loop is not None:
            check_loop(self._loop)

    def start_soon(
        self, duty: Callable[..., Coroutine[Any, Any, Any]], *args: object, name: str | None = None
    ) -> None:
        """Start a background task. It ends by itself, or when the owner leaves."""
        self.check_loop()
        self.group.start_soon(
            self._run, duty, args, name=name or getattr(duty, "__qualname__", None)
        )

    async def _run(
        self, duty: Callable[..., Coroutine[Any, Any, Any]], args: tuple[object, ...]
    ) -> None:
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                if self._is_leaving:
                    scope.cancel()
                await duty(*args)
            except asyncio.CancelledError as error:
                if scope.cancel_called or is_being_cancelled():
                    raise
                # anyio would take it for the end of the whole group, and say nothing
                raise RuntimeError(
                    "a background duty awaited what others have cancelled"
                ) from error
            finally:
                self._scopes.discard(scope)

    async def leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """End all tasks; call it from `__aexit__` and return what it returns.

        Raises:
            BaseException: what a background task failed with, if the block itself did not fail.
        """
        group = self.group
        self._is_leaving = True
        for scope in tuple(self._scopes):
            scope.cancel()
        try:
            if isinstance(error, asyncio.CancelledError):
                # it knows whether the cancellation was its own
                return await group.__aexit__(kind, error, trace)
            await group.__aexit__(None, None, None)
        except BaseExceptionGroup as failures:
            if error is None or isinstance(error, asyncio.CancelledError):
                raise _only_one(failures) from None
            error.add_note(f"meanwhile a background task failed, too: {_only_one(failures)!r}")
        finally:
            self._group = None
        return False


def _only_one(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The single error in a group of one, else the group."""
    inner: BaseException = failures
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner
