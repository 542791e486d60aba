"""Sending new tasks: all those of one queue that are enqueued in one turn of the event loop leave in one script.

Each batch carries a request number, under which its reply is kept (`lua/enqueue.lua`): a batch whose reply is lost is
sent again, and every task in it is enqueued once. A queue is registered before its first task, and again every
`REGISTER_EVERY` seconds, since somebody may have removed it meanwhile.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, NamedTuple

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.ids import new_ulid
from pulsewire._core.requests import Requests
from pulsewire._core.tasks import check_loop
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument, JoinedConnection, take_note
from pulsewire._redis.scripts import text
from pulsewire._redis.translate import ReplyError, Verdict, verdict
from pulsewire.errors import ConnectionLost, OutcomeUnknown, PulsewireError, ServerUnavailable
from pulsewire.tasks.keys import TaskKeys
from pulsewire.tasks.store import ENQUEUE, Order, QueueStore

MOST_TASKS = 200
MOST_BYTES = 512 * 1024
"""A batch is sent when it has reached either."""
GOODBYE = 0.5
REGISTER_EVERY = 30.0
"""Seconds between two registrations of a queue by one client."""


class Placed(NamedTuple):
    """What became of an order: the word of `lua/enqueue.lua`, and the server's clock in Unix seconds."""

    word: str
    now: float


class Enqueuer:
    """The new tasks of one hub. Use it from its event loop."""

    def __init__(self, link: Link, keys: TaskKeys) -> None:
        self._link = link
        self._keys = keys
        self._queues: dict[str, _Queue] = {}

    def submit(self, queue: str, order: Order) -> asyncio.Future[Placed]:
        """Send an order with the others of this turn.

        Raises:
            ServerUnavailable: the hub was left.
            ConfigurationError: another event loop than the hub's is running.
        """
        if not self._link.tasks.is_open:
            raise _not_done(self._link)
        known = self._queues.get(queue)
        if known is None:
            self._link.tasks.check_loop()
            known = self._queues[queue] = _Queue(self._link, self._keys, queue)
        return known.submit(order)

    async def sign_off(self) -> None:
        """Have the servers forget this client, where no batch may still be on its way; in half a second at most."""
        signed = [one for queue in self._queues.values() if (one := queue.sign_off()) is not None]
        if signed:
            await asyncio.wait(signed, timeout=GOODBYE)

    def forget(self, queue: str) -> None:
        """A queue was removed: register it again before its next task."""
        known = self._queues.pop(queue, None)
        if known is not None:
            known.sign_off()


class _Batch:
    """Orders that leave together."""

    __slots__ = ("command", "futures", "orders", "request", "size")

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.futures: list[asyncio.Future[Placed]] = []
        self.size = 0
        self.request = 0
        self.command: tuple[Argument, ...] = ()


class _Queue:
    """The new tasks of one hub for one queue."""

    def __init__(self, link: Link, keys: TaskKeys, name: str) -> None:
        self._link = link
        self._name = name
        self._all = keys.queues
        self._store = QueueStore(link, keys.queue(name))
        self._slot = self._store.keys.pending
        self._record = self._store.keys.requests(new_ulid())
        self._requests = Requests()
        self._batch: _Batch | None = None
        self._registered_until = float("-inf")
        self._registering: list[_Batch] | None = None
        self._loop = asyncio.get_running_loop()

    def submit(self, order: Order) -> asyncio.Future[Placed]:
        batch = self._batch
        if batch is None:
            check_loop(self._loop)
            batch = self._batch = _Batch()
            self._loop.call_soon(self._flush, batch)
        future: asyncio.Future[Placed] = self._loop.create_future()
        batch.orders.append(order)
        batch.futures.append(future)
        batch.size += len(order.message)
        if len(batch.orders) >= MOST_TASKS or batch.size >= MOST_BYTES:
            self._flush(batch)
        return future

    def _flush(self, batch: _Batch) -> None:
        if self._batch is not batch:
            return  # it has left because it was full
        self._batch = None
        if not self._link.tasks.is_open:
            _fail(batch, _not_done(self._link))
            return
        batch.request = self._requests.next()
        batch.command = self._store.enqueue_command(self._record, batch.request, batch.orders)
        if self._registering is not None:
            self._registering.append(batch)
        elif self._loop.time() >= self._registered_until:
            self._registering = [batch]
            self._link.tasks.start_soon(self._register)
        else:
            self._send(batch)

    async def _register(self) -> None:
        """Make the queue known, then send what has waited for that."""
        try:
            await self._link.call(self._all, "SADD", self._all, self._name, repeatable=True)
        except BaseException as error:
            waiting, self._registering = self._registering or [], None
            is_ours = isinstance(error, PulsewireError)
            for batch in waiting:
                _fail(batch, error if is_ours else _not_done(self._link))
            if is_ours:
                return
            raise
        self._registered_until = self._loop.time() + REGISTER_EVERY
        waiting, self._registering = self._registering or [], None
        for batch in waiting:
            self._send(batch)

    def _send(self, batch: _Batch) -> None:
        connection = self._link.connection_now(self._slot)
        if connection is None:
            self._go_on(batch, None, None)
        else:
            self._send_on(batch, connection, batch.command)

    def _answered(
        self, batch: _Batch, connection: JoinedConnection, reply: asyncio.Future[list[Any]]
    ) -> None:
        trouble = reply.exception()
        if trouble is None:
            self._settle(batch, reply.result(), connection)
        elif (
            isinstance(trouble, ReplyError)
            and verdict(trouble) is Verdict.LOAD_SCRIPT
            and connection.is_usable
        ):
            self._send_on(batch, connection, ("EVAL", ENQUEUE.text, *batch.command[2:]))
        elif isinstance(trouble, (ReplyError, ConnectionLost)):
            self._go_on(batch, trouble, connection)
        else:
            _fail(batch, trouble)

    def _go_on(
        self,
        batch: _Batch,
        trouble: ReplyError | ConnectionLost | None,
        connection: JoinedConnection | None,
    ) -> None:
        if self._link.tasks.is_open:
            self._link.tasks.start_soon(self._send_again, batch, trouble, connection)
        else:
            _fail(batch, self._interrupted(trouble))

    async def _send_again(
        self,
        batch: _Batch,
        trouble: ReplyError | ConnectionLost | None,
        connection: JoinedConnection | None,
    ) -> None:
        """Repeat a batch until its outcome is known."""
        if trouble is not None:
            self._requests.in_doubt(batch.request, SYSTEM_CLOCK.monotonic())
        try:
            if trouble is None or connection is None:
                connection = await self._link.connection_for(self._slot)
                self._send_on(batch, connection, batch.command)
                return
            reply = await self._link.resume(
                self._slot, batch.command, trouble, connection, repeatable=True, text=ENQUEUE.text
            )
        except ConnectionLost as error:
            unknown = OutcomeUnknown("enqueue", error.reason)
            unknown.__cause__ = error
            _fail(batch, unknown if error.was_sent else error)
        except PulsewireError as error:
            _fail(batch, error)
        except BaseException:
            _fail(batch, self._interrupted(trouble))
            raise
        else:
            self._settle(batch, reply, None)

    def _interrupted(self, trouble: ReplyError | ConnectionLost | None) -> PulsewireError:
        """What to say of a batch when the hub is left before its outcome is known."""
        if isinstance(trouble, ConnectionLost) and trouble.was_sent:
            return OutcomeUnknown("enqueue", "the hub was closed")
        return _not_done(self._link)

    def _send_on(
        self, batch: _Batch, connection: JoinedConnection, command: tuple[Argument, ...]
    ) -> None:
        reply = connection.submit(command)
        reply.add_done_callback(partial(self._answered, batch, connection))

    def _settle(self, batch: _Batch, reply: list[Any], connection: JoinedConnection | None) -> None:
        now = reply[0] / 1000
        for future, word in zip(batch.futures, reply[1:], strict=True):
            if not future.done():  # else its caller was cancelled
                future.set_result(Placed(text(word), now))
        if connection is None:
            return  # it is in doubt: its record stays
        size = 16 * len(batch.orders)
        forgotten = self._requests.answered(batch.request, size, SYSTEM_CLOCK.monotonic())
        if forgotten and connection.is_usable:
            connection.submit_unheard(("HDEL", self._record, *forgotten))

    def sign_off(self) -> asyncio.Future[Any] | None:
        connection = self._link.connection_now(self._slot)
        requests = self._requests
        is_needed = requests.has_open or requests.has_doubtful  # by a batch that may be sent again
        if connection is None or not requests.was_used or is_needed:
            return None
        forgotten = connection.submit(("UNLINK", self._record))
        forgotten.add_done_callback(take_note)
        return forgotten


def _not_done(link: Link) -> ServerUnavailable:
    return ConnectionLost(link.shown, "the hub is closed", was_sent=False)


def _fail(batch: _Batch, error: BaseException) -> None:
    for future in batch.futures:
        if not future.done():
            future.set_exception(error)
