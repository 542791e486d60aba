"""Event infrastructure for Python on Redis and Valkey.

In a few lines::

    async with pulsewire.connect() as hub:
        users = hub.stream("users")
        await users.add("user.created", b'{"id": 123}')
        async with users.sink("mailer") as sink:
            async for event in sink:
                await event.ack()

        async with hub.map("feature-flags") as flags:
            await flags.set("signup.enabled", "true")
            flags.get("signup.enabled")

        async with hub.node("email-pool") as node:
            await node.add_worker(EmailHandler())
            await node.dispatch("user:123", b"...")

        await hub.tasks.enqueue("email:welcome", b"...", queue="critical")
"""

from __future__ import annotations

from pulsewire._core.codecs import BYTES, JSON, TEXT, Codec, typed
from pulsewire._core.hooks import Hooks
from pulsewire._redis.opening import ServerInfo
from pulsewire.errors import *  # noqa: F403  # every exception; the list is errors.__all__
from pulsewire.errors import __all__ as _errors
from pulsewire.hub import Hub, connect
from pulsewire.pool import Job, JobInfo, Node
from pulsewire.rmap import Change, MapInfo, ReplicatedMap
from pulsewire.streaming import FIELDS, Event, Fields, NewEvent, Reader, Sink, Stream, StreamInfo
from pulsewire.tasks import NewTask, Task, TaskInfo

__all__ = [  # noqa: PLE0604  # errors.__all__ holds strings
    "BYTES",
    "FIELDS",
    "JSON",
    "TEXT",
    "Change",
    "Codec",
    "Event",
    "Fields",
    "Hooks",
    "Hub",
    "Job",
    "JobInfo",
    "MapInfo",
    "NewEvent",
    "NewTask",
    "Node",
    "Reader",
    "ReplicatedMap",
    "ServerInfo",
    "Sink",
    "Stream",
    "StreamInfo",
    "Task",
    "TaskInfo",
    "connect",
    "typed",
    *_errors,
]
