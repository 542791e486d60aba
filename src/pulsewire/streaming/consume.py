"""Running a handler over a sink's events: `concurrency` at a time, each key in order if asked to.

A handler that returns acknowledges its event; one that raises leaves it to be delivered again; neither ends the sink.
Acks are not waited for, so that a slow server does not idle the handlers (they are bounded, see `acks.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio

from pulsewire._core.checks import check_count, check_seconds
from pulsewire._core.stalls import runs_handlers
from pulsewire._core.tasks import is_being_cancelled
from pulsewire.errors import InvalidOption
from pulsewire.streaming.acks import MAX_BACKLOG
from pulsewire.streaming.inbox import Inbox
from pulsewire.streaming.ordering import KeyedOrder
from pulsewire.streaming.share import Share
from pulsewire.streaming.wire import Event

T = TypeVar("T")
Handler = Callable[[Event[T]], Awaitable[Any]]
PARKED_PER_WORKER = 16
"""Events of busy keys that may be parked, per handler slot, before slots wait instead of taking more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeOptions:
    """How events are handled. Checks itself.

    Attributes:
        concurrency: handlers that run at once at most.
        ordered_by: gives the key of an event; events of one key are handled one after the other, as they came.
        timeout: seconds after which a handler is cancelled, which counts as a failure.
    """

    concurrency: int = 1
    ordered_by: Callable[[Event[Any]], Hashable] | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        check_count("concurrency", self.concurrency)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.ordered_by is not None and not callable(self.ordered_by):
            raise InvalidOption("ordered_by", self.ordered_by, "must be a function of an event")


class Consumption(Generic[T]):
    """One run of `Sink.consume`."""

    def __init__(
        self, inbox: Inbox[Event[T]], handler: Handler[T], options: ConsumeOptions
    ) -> None:
        self._inbox = inbox
        self._handler = handler
        self._options = options
        self._order: KeyedOrder[Event[T]] = KeyedOrder()
        self._parked_limit = PARKED_PER_WORKER * options.concurrency
        self._unparked = anyio.Event()

    async def run(self) -> None:
        """Handle events until the inbox ends; then those that are running finish."""
        work = self._work if self._options.ordered_by is None else self._work_in_order
        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._options.concurrency):
                    group.start_soon(work)
        except BaseExceptionGroup as failures:
            if len(failures.exceptions) == 1:  # what a handler raised comes out as it was
                raise failures.exceptions[0] from None
            raise
        finally:
            for event in self._order.abandon():
                # Cancelled: let go. Stopped: the sink gives back what was not begun when it is left.
                if not self._inbox.is_ended and _share_of(event).begin(event):
                    _share_of(event).finish(event.id)

    async def _work(self) -> None:
        take = self._inbox.take
        while (event := await take()) is not None:
            await self._handle(event)

    async def _work_in_order(self) -> None:
        key_of, order = self._options.ordered_by, self._order
        if key_of is None:
            raise AssertionError("only used with ordered_by")
        while True:
            while order.parked >= self._parked_limit and not self._inbox.is_ended:
                if self._unparked.is_set():  # one event for all who wait
                    self._unparked = anyio.Event()
                await self._unparked.wait()  # other slots work on them: wait for one of those
            event = await self._inbox.take()
            if event is None:
                return
            try:
                key = key_of(event)
                may_start = order.offer(key, event)
            except Exception as error:  # noqa: BLE001  # the user's function: an outcome of this event
                if _share_of(event).begin(event):
                    _share_of(event).failed(event, error)
                continue
            following: Event[T] | None = event if may_start else None
            while following is not None:
                await self._handle(following)
                following = None if self._inbox.is_ended else order.done(key)
                self._unparked.set()

    @runs_handlers("streams", lambda its: _names(its["event"]))
    async def _handle(self, event: Event[T]) -> None:
        share = _share_of(event)
        if not share.begin(event):
            return  # it was given up and may be with somebody else by now
        try:
            if self._options.timeout is None:
                await self._handler(event)
            else:
                with anyio.fail_after(self._options.timeout):
                    await self._handler(event)
        except BaseException as error:
            awaited_cancelled = (
                isinstance(error, asyncio.CancelledError) and not is_being_cancelled()
            )
            if not isinstance(error, Exception) and not awaited_cancelled:
                # cancelled: if the sink stays open, nobody would ever work on it again
                share.finish(event.id)
                raise
            if _is_misuse(error):  # each event would come to that, for ever
                share.finish(event.id)
                reason = f"must be an `async def` of an event: {error}"
                raise InvalidOption("handler", self._handler, reason) from error
            share.failed(event, error)  # the sink lives on
        else:
            if not share.rules.no_ack:
                share.acks.soon(event.id)
                if share.acks.backlog > MAX_BACKLOG:
                    await share.acks.wait_drained()


def _is_misuse(error: BaseException) -> bool:
    """Whether calling the handler, or awaiting what it gave, has failed, and not the handler itself."""
    trace = error.__traceback__
    return isinstance(error, TypeError) and trace is not None and trace.tb_next is None


def _share_of(event: Event[T]) -> Share[T]:
    share = event._origin  # noqa: SLF001  # the sink that made the event put it there
    if not isinstance(share, Share):
        raise AssertionError("events of a sink come from its shares")  # noqa: TRY004  # it cannot happen
    return share


def _names(event: Event[Any]) -> dict[str, object]:
    """Which event it is, for the log."""
    return {"stream": event.stream, "sink": event.sink, "event": event.id}
