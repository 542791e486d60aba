"""The handlers of the conformance tests in Python, and a process that serves them.

Run as `python asynq_worker.py URL SETTINGS`, settings in JSON: what `hub.task_server` takes, `name`, and `group_size`
where it is to aggregate. It tells what it does as the Go program does (`go/asynq/serve.go`), a JSON document a line,
and ends in order when its input ends.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread

import pulsewire
from pulsewire.tasks import NewTask, RevokeTask, SkipRetry, Task

Tell = Callable[[dict[str, Any]], None]


class Broken(Exception):
    """What a handler raises that is told to fail."""

    def __init__(self, why: str = "broken") -> None:
        super().__init__(why)


class Handling:
    """Handles every task, and tells when it begins and how it ends."""

    def __init__(self, name: str, tell: Tell) -> None:
        self.name = name
        self._tell = tell
        self._runs = itertools.count()

    async def __call__(self, task: Task) -> None:
        """Handle one."""
        run = next(self._runs)
        left = (task.deadline - datetime.now(UTC)).total_seconds() if task.deadline else 0.0
        self._tell(
            {
                "event": "begun",
                "run": run,
                "at": time.time(),
                "by": self.name,
                "id": task.id,
                "type": task.type,
                "payload": base64.b64encode(task.payload).decode(),
                "headers": dict(task.headers),
                "queue": task.queue,
                "retried": task.retried,
                "max_retry": task.max_retry,
                "left": left,
            }
        )
        error = ""
        try:
            await do(task)
        except BaseException as trouble:
            error = str(trouble) or type(trouble).__name__
            raise
        finally:
            self._tell(
                {"event": "ended", "run": run, "by": self.name, "id": task.id, "error": error}
            )


async def do(task: Task) -> None:
    """What the first word of a task's type asks for. `do` in `go/asynq/serve.go` does the same."""
    verb = task.type.partition(":")[0]
    if verb == "nap":
        await asyncio.sleep(0.02)
    elif verb == "result":
        await task.write_result(task.payload)
    elif verb == "fail" or (verb == "once" and not task.retried):
        raise Broken
    elif verb == "skip":
        raise Broken from SkipRetry()
    elif verb == "revoke":
        raise Broken from RevokeTask()
    elif verb in ("hold", "hold-in-python"):
        await anyio.sleep_forever()
    elif verb not in ("note", "once", "hold-in-go"):
        raise Broken(f"nobody does {verb!r}")


def joined(group: str, tasks: list[Task]) -> NewTask:
    """One task of the members of a group."""
    payload = b",".join(task.payload for task in tasks)
    return NewTask(type=f"note:{group}", payload=payload, retention=3600.0)


def _write(fact: dict[str, Any]) -> None:
    """At once, so that it is there also when this process is killed."""
    os.write(1, json.dumps(fact).encode() + b"\n")


async def serve(url: str, settings: dict[str, Any]) -> None:
    """Run tasks until standard input ends."""
    name = settings.pop("name")
    retry_delay = settings.pop("retry_delay", 0.0)
    if group_size := settings.pop("group_size", 0):
        settings |= {"aggregator": joined, "group_max_size": group_size, "group_grace": 1.0}
    async with (
        pulsewire.connect(url) as hub,
        hub.task_server(
            Handling(name, _write), retry_delay=lambda *_: retry_delay, **settings
        ) as server,
    ):
        _write({"event": "ready", "by": name, "pid": os.getpid(), "server": server.id})
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], json.loads(sys.argv[2])))
