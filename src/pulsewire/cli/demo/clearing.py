"""Removing the task queues of an act, whoever is left to do it.

A queue with active tasks cannot be removed, and a server that was killed leaves such: they become pending again when
their leases have ended, if there is a server that looks after them.
"""

from __future__ import annotations

from collections.abc import Collection

import anyio

import pulsewire
from pulsewire import errors
from pulsewire.tasks import QueueInfo, Task

__all__ = ["clear", "info_of", "remove_queues", "time_for", "wait_unused"]

_LOOK_EVERY = 0.1
_MARGIN = 5.0


def time_for(lease: float) -> float:
    """Seconds that the removal may take: what a killed server held comes first."""
    return lease + _MARGIN


async def info_of(hub: pulsewire.Hub, queue: str) -> QueueInfo | None:
    """Return what is known of a queue; None if there is none."""
    try:
        return await hub.tasks.inspector.queue_info(queue, with_memory=False)
    except errors.QueueNotFound:
        return None


async def clear(hub: pulsewire.Hub, queues: Collection[str], lease: float) -> None:
    """Remove the queues, although the servers may be dead."""
    if await remove_queues(hub, queues):
        return
    async with hub.task_server(_nothing, queues=queues, lease=lease) as caretaker:
        caretaker.stop()  # it takes no tasks, and looks after those of the dead
        while True:
            if await remove_queues(hub, queues):
                return
            await anyio.sleep(_LOOK_EVERY)


async def wait_unused(hub: pulsewire.Hub, queues: Collection[str]) -> None:
    """Return when no task is being run. There must be a server that looks after those of the dead."""
    while True:
        infos = [await info_of(hub, queue) for queue in queues]
        if not any(info.active for info in infos if info is not None):
            return
        await anyio.sleep(_LOOK_EVERY)


async def remove_queues(hub: pulsewire.Hub, queues: Collection[str]) -> bool:
    """Remove the queues with all their tasks; whether none is left."""
    are_gone = True
    for queue in queues:
        try:
            await hub.tasks.inspector.remove_queue(queue, force=True)
        except errors.QueueNotFound:
            continue
        except errors.QueueInUse:
            are_gone = False
    return are_gone


async def _nothing(task: Task) -> None:
    raise AssertionError(f"the caretaker takes no tasks, and has got {task.id}")
