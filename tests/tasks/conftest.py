"""What the tests of task queues share: a queue below the face, servers of a hub, and a handler that remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import pulsewire
from pulsewire._redis.link import Link
from pulsewire._redis.namespace import Namespace
from pulsewire.tasks.inspecting.inspector import Inspector
from pulsewire.tasks.keys import QueueKeys, TaskKeys
from pulsewire.tasks.mux import Handler, Mux
from pulsewire.tasks.serving.server import TaskServer
from pulsewire.tasks.store import QueueStore
from pulsewire.testing import Topology
from tests._redis.kit import opened_link
from tests.facts import Raw
from tests.tasks.facts import MakeServer, Recorder
from tests.tasks.scenes import Queue

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Queues and tasks outlive whoever uses them, so that a test may leave asynq's keys. Ours must have a TTL."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.leaves_keys("asynq:*"))


@pytest.fixture
async def link(topology: Topology) -> AsyncIterator[Link]:
    """A link on every topology in turn, for what stands below the face."""
    async with opened_link(topology.url) as link:
        yield link


@pytest.fixture
async def queue(link: Link, topology: Topology, namespace: str) -> AsyncIterator[Queue]:
    """The queue `default`, by its scripts and bare commands."""
    keys = QueueKeys(Namespace(namespace), "default")
    async with (await topology.node_of(keys.pending)).connection() as connection:
        yield Queue(QueueStore(link, keys), connection)


@pytest.fixture
async def inspector(link: Link, raw: Raw, namespace: str) -> Inspector:
    """An inspector that finds one queue, `default`."""
    keys = TaskKeys(Namespace(namespace))
    await raw(keys.queues, "SADD", keys.queues, "default")
    return Inspector(link, keys, max_payload=1000)


@pytest.fixture
def recorder() -> Recorder:
    """A handler that remembers."""
    return Recorder()


@pytest.fixture
def make_server(hub: pulsewire.Hub, recorder: Recorder) -> MakeServer:
    """Servers of `hub` that call `recorder`, if nothing else is said."""

    def make(
        handler: Handler | Mux | None = None, *, of: pulsewire.Hub | None = None, **options: Any
    ) -> TaskServer:
        quick = {"forward_interval": 0.05, "janitor_interval": 0.05, "shutdown_timeout": 0.2}
        return (of or hub).task_server(handler or recorder, **{**quick, **options})

    return make
