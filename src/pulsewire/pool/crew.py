"""What the parts of one node share: the pool's store, the node's view of the workers, and where things are told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.hooks import Hooks
from pulsewire._core.tasks import OwnedTasks
from pulsewire.errors import JobNotFound, NoWorkers
from pulsewire.pool.options import DEFAULT_ROUTING, NodeOptions
from pulsewire.pool.roster import Roster
from pulsewire.pool.store import Answer, Ended, PoolStore, Stopped
from pulsewire.pool.wire import Order

NOT_STARTED = "it was stopped before it had started"
A = TypeVar("A", Answer, Stopped)
MOST_DETOURS = 10
"""Times that a request for a job's owner follows it elsewhere before it gives up for now."""


class Crew:
    """One node's share of a pool."""

    def __init__(
        self,
        node: str,
        store: PoolStore,
        options: NodeOptions,
        hooks: Hooks,
        logger: logging.Logger,
    ) -> None:
        self.node = node
        self.name = store.keys.name
        self.store = store
        self.options = options
        self.roster = Roster(options.wanted_routing or DEFAULT_ROUTING)
        self.hooks = hooks
        self.logger = logger
        self.tasks = OwnedTasks()
        self.is_shutting_down = False
        self.on_view_changed: Callable[[], None] = lambda: None
        self.is_trusted: Callable[[str], bool] = lambda _worker: True

    def start_soon(self, duty: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> None:
        """Start a background task of the node."""
        self.tasks.start_soon(duty, *args)

    # --- whom to ask

    def target(self, key: str, but: str = "") -> str:
        """The worker to propose for a key; empty when there is none."""
        return self.roster.owner(key, but)

    def suspect(self, worker: str) -> None:
        """Redis says that this worker's lease has lapsed."""
        if self.roster.suspect(worker):
            self.on_view_changed()

    async def ask_owner(self, key: str, ask: Callable[[str], Coroutine[Any, Any, A]]) -> A:
        """Ask for something at the owner of a job, wherever it is by now."""
        worker = self.target(key)
        answer = await ask(worker)
        for _ in range(MOST_DETOURS):
            if answer.outcome != "elsewhere":
                break
            answer = await ask(answer.text)
        return answer

    async def notify(self, key: str, payload: bytes) -> None:
        """Put a notification into the inbox of the job's owner.

        Raises:
            JobNotFound: there is no such job.
            NoWorkers: it has no owner now.
        """

        async def ask(worker: str) -> Answer:
            return await self.store.notify(key, worker, payload)

        answer = await self.ask_owner(key, ask)
        if answer.outcome == "missing":
            raise JobNotFound(self.name, key)
        if answer.outcome != "sent":
            raise NoWorkers(self.name, key)

    async def tell_ended(self, ended: Ended) -> None:
        """Tell those who wait for the end of a job, and who still waits for its start."""
        for request, node in ended.stoppers:
            await self.store.tell(node, request, "ended", "")
        if ended.node:
            await self.store.tell(ended.node, ended.request, "failed", NOT_STARTED)

    async def forward(self, order: Order) -> None:
        """Send a notification after a job that went elsewhere; wait for `ack_grace` while it has no owner."""
        backoff = Backoff(base=0.02, cap=0.5)
        deadline = SYSTEM_CLOCK.monotonic() + self.options.ack_grace
        while True:
            try:
                await self.notify(order.key, order.payload)
            except (JobNotFound, NoWorkers) as error:
                pause = backoff.next_pause()
                late = SYSTEM_CLOCK.monotonic() + pause > deadline
                if isinstance(error, NoWorkers) and not late:
                    await anyio.sleep(pause)
                    continue
                self.note_too_late(order, error)
            return

    # --- what is told

    def note_failure(self, key: str, worker: str, what: str, error: BaseException) -> None:
        """A handler raised."""
        self.hooks.job_failed(self.name, key, worker, what, error)
        self.logger.warning(
            "a handler failed",
            extra={"pool": self.name, "job": key, "worker": worker, "in": what, "why": str(error)},
            exc_info=error,
        )

    def note_too_late(self, order: Order, error: Exception) -> None:
        """A notification has nobody left to hear it."""
        said = {"pool": self.name, "job": order.key, "why": str(error)}
        self.logger.warning("a notification of a job came too late", extra=said)

    def note_malformed(self, stream: str, entry: str, error: Exception) -> None:
        """An entry of a stream is not in the pool's format; it is passed over."""
        said = {"pool": self.name, "stream": stream, "entry": entry, "why": str(error)}
        self.logger.warning("an entry of a pool's stream is malformed", extra=said)

    def note_unheard(self, key: str, worker: str) -> None:
        """A notification came for a handler without `notify`."""
        said = {"pool": self.name, "job": key, "worker": worker}
        self.logger.warning("a handler takes no notifications, one was passed over", extra=said)

    def note_job_lost(self, key: str, worker: str) -> None:
        """A job here is another's."""
        self.hooks.job_lost(self.name, key, worker)
        said = {"pool": self.name, "job": key, "worker": worker}
        self.logger.warning("a job that ran here has another owner, it is stopped", extra=said)

    def note_lost_order(self, key: str) -> None:
        """An order was given and never came."""
        said = {"pool": self.name, "job": key}
        self.logger.warning("the start of a job was lost on its way, it is given anew", extra=said)
