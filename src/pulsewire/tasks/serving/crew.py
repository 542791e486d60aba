"""What the duties of one server share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from pulsewire._core.hooks import Hooks
from pulsewire._core.loops import LoopContext, Stop
from pulsewire._core.tasks import OwnedTasks
from pulsewire._redis.link import Link
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.serving.options import ServerOptions
from pulsewire.tasks.serving.place import QueuePlace


class ServerClock:
    """Redis's clock as this process knows it: Unix seconds, from what replies have told."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def note(self, now: float) -> None:
        """A reply has just said what time it is."""
        self._offset = now - time.monotonic()

    def now(self) -> float:
        """Unix seconds."""
        return self._offset + time.monotonic()

    def day(self) -> str:
        """The UTC day whose counters count."""
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%d")


class Crew:
    """What the duties of one server share.

    Attributes:
        server: its id; the owner of the tasks that it makes active.
        places: its queues, by name.
        ward: its part of the register of vital signs.
        taking: of duties that end when no new tasks are taken.
        working: of duties that go on until the last task is settled.
    """

    def __init__(
        self,
        link: Link,
        keys: TaskKeys,
        server: str,
        options: ServerOptions,
        *,
        hooks: Hooks,
        logger: logging.Logger,
    ) -> None:
        self.link = link
        self.keys = keys
        self.server = server
        self.options = options
        self.hooks = hooks
        self.logger = logger
        self.clock = ServerClock()
        self.tasks = OwnedTasks()
        self.places: Mapping[str, QueuePlace] = {
            name: QueuePlace(link, keys.queue(name), server) for name in options.queues
        }
        self.ward = link.options.vitals.ward("tasks", f"server of {', '.join(self.places)}")
        self.taking = LoopContext(Stop(), hooks, logger, self.ward)
        self.working = LoopContext(Stop(), hooks, logger, self.ward)
