"""Which hub an app enqueues by, and how it gets one of its own.

The hub stands above this package; its module says how to connect (`connect_with`), and apps know it by what they need.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, NamedTuple, Protocol

from pulsewire._redis.doors import AnyClient
from pulsewire.errors import AppNotConnected
from pulsewire.tasks.client import TaskClient
from pulsewire.tasks.serving.server import TaskServer

Target = str | AnyClient | None


class TaskHub(Protocol):
    """What an app needs of a `Hub`."""

    @property
    def url(self) -> str:
        """Where it is connected."""
        ...

    @property
    def tasks(self) -> TaskClient:
        """The client that enqueues."""
        ...

    def task_server(self, *args: Any, **kwargs: Any) -> TaskServer:  # noqa: ANN401  # see Hub
        """A server that runs tasks."""
        ...

    def scheduler(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # see Hub
        """A scheduler, which enqueues periodic tasks."""
        ...


class Connect(Protocol):
    """`pulsewire.connect`, as far as apps use it."""

    def __call__(
        self, target: Target = None, *, namespace: str = ""
    ) -> AbstractAsyncContextManager[TaskHub]:
        """Connect."""
        ...


_known: list[Connect] = []


def connect_with(connect: Connect) -> None:
    """Say how apps connect. The hub's module does so when it is imported, which is before anyone has an app."""
    _known[:] = [connect]


def connect(target: Target, *, namespace: str) -> AbstractAsyncContextManager[TaskHub]:
    """Connect as the hub's module does."""
    if not _known:
        raise AssertionError("the hub's module is imported with the package")
    return _known[0](target, namespace=namespace)


class _Held(NamedTuple):
    hub: TaskHub
    client: TaskClient
    loop: asyncio.AbstractEventLoop


class Binding:
    """The hub that an app enqueues by; the one that was bound last counts."""

    def __init__(self) -> None:
        self._held: list[_Held] = []

    def add(self, hub: TaskHub) -> ExitStack:
        """Bind a hub of this event loop. Leaving what is returned unbinds it."""
        held = _Held(hub, hub.tasks, asyncio.get_running_loop())
        self._held.append(held)
        unbinding = ExitStack()
        unbinding.callback(self._held.remove, held)
        return unbinding

    @property
    def hub(self) -> TaskHub:
        """The hub.

        Raises:
            AppNotConnected: there is none.
        """
        return self._last().hub

    def here(self) -> TaskClient:
        """The client that enqueues in this event loop.

        Raises:
            AppNotConnected: no hub is bound, or the one of another event loop.
        """
        held = self._last()
        if asyncio.get_running_loop() is not held.loop:
            raise AppNotConnected(
                "the app is bound to a hub of another event loop: enqueue there, or with enqueue_from_thread()"
            )
        return held.client

    def elsewhere(self) -> tuple[TaskClient, asyncio.AbstractEventLoop]:
        """The client that enqueues, and its event loop, which runs in another thread.

        Raises:
            AppNotConnected: no hub is bound, or this thread runs the loop.
        """
        held = self._last()
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # the public one raises where there is none
            raise AppNotConnected("this thread has an event loop: use `await ....enqueue()`")
        return held.client, held.loop

    def _last(self) -> _Held:
        if not self._held:
            raise AppNotConnected(
                "the app is not connected: enqueue within `async with app.connect():`, or bind a hub that you have "
                "with `app.bind(hub)`; in a worker it is connected by itself"
            )
        return self._held[-1]
