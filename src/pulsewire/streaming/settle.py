"""Finding out what became of an `add` whose reply was lost.

```
 XADD sent ──► reply lost ──► make the server drop that connection   (nothing unread can run later)
                                   │
                     look for the request id among the entries after the last id we know
                         │ found                │ not there                     │ entries went meanwhile
                         ▼                      ▼                               ▼
                     its id            send it again, once              OutcomeUnknown
```

The request id travels in the entry (`wire.py`, field `r`). The order matters: first the server forgets the connection,
so that a command it may still hold unread is never carried out; then the search says the truth for good.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import anyio

from pulsewire._redis.link import Unsettled
from pulsewire.errors import OutcomeUnknown, PermissionDenied, PulsewireError, ServerError
from pulsewire.streaming.positions import order_of
from pulsewire.streaming.store import StreamStore
from pulsewire.streaming.wire import request_of

PAGE = 500
"""Entries looked at per command."""
CLOCK_MARGIN = 60.0
"""Seconds that server clocks may differ by after a failover."""


@dataclass(slots=True, eq=False)
class _Question:
    """What became of one request? `floor` is an id of this stream from before it was sent."""

    unsettled: Unsettled
    request: bytes
    floor: str
    answer: asyncio.Future[str | None]


class Inquiry:
    """Finds out what became of requests to one stream; all that are asked meanwhile share one look at the stream.

    A lost connection leaves up to thousands of adds unsettled at once: were each to look for itself, the work would
    grow with the square of their number.
    """

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self._asked: list[_Question] = []
        self._looking = anyio.Lock()

    async def find(
        self, unsettled: Unsettled, request: str, floor: str | None, age: float
    ) -> str | None:
        """The id under which a request was carried out; None when it certainly was not and never will be.

        Args:
            unsettled: how its outcome came to be unknown.
            request: the request id in the entry.
            floor: an id of this stream from before the request was sent.
            age: seconds since it was sent, for when there is no such id.

        Raises:
            OutcomeUnknown: it cannot be found out.
            ServerUnavailable: no usable server.
        """
        if floor is None:
            moment = await self._store.link.time() - age - CLOCK_MARGIN
            floor = f"{max(int(moment * 1000), 0)}-0"
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._asked.append(_Question(unsettled, request.encode(), floor, answer))
        async with self._looking:
            if not answer.done():
                questions, self._asked = self._asked, []
                try:
                    await self._look(questions)
                except PulsewireError as error:
                    # the same for all of them: nobody need wait for it again
                    for question in questions:
                        _refuse(question, error)
                finally:  # cancelled: somebody else looks for the others
                    self._asked += [
                        question for question in questions if not question.answer.done()
                    ]
        return answer.result()

    async def _look(self, questions: list[_Question]) -> None:
        store = self._store
        for lost in {question.unsettled.lost for question in questions}:
            await store.link.make_sure_dead(store.main, lost)
        floor = min((question.floor for question in questions), key=order_of)
        last = await store.last_id()
        # after a failover, by another clock: look further back
        if order_of(last) < order_of(floor):
            floor = f"{max(order_of(last)[0] - int(CLOCK_MARGIN * 1000), 0)}-0"
        wanted = {question.request: question for question in questions}
        start = floor
        while wanted:
            page = await store.range(start, "+", PAGE)
            for entry_id, fields in page:
                request = request_of(fields)
                if request is not None and (found := wanted.pop(request, None)) is not None:
                    found.answer.set_result(entry_id)
            if len(page) < PAGE:
                break
            start = f"({page[-1][0]}"
        if not wanted:
            return
        gone = await _may_have_gone(store, floor)
        for question in wanted.values():
            if gone:
                reason = f"{question.unsettled.reason}; entries were removed or trimmed past it meanwhile"
                _refuse(question, OutcomeUnknown(question.unsettled.command, reason))
            else:
                question.answer.set_result(None)


def _refuse(question: _Question, error: PulsewireError) -> None:
    if question.answer.done():
        return
    if isinstance(error, PermissionDenied):
        hint = "finding out needs the rights +client|list +client|kill"
        error = OutcomeUnknown(question.unsettled.command, f"{question.unsettled.reason}; {hint}")
    question.answer.set_exception(error)
    question.answer.exception()  # seen, even if its caller was cancelled


async def _may_have_gone(store: StreamStore, floor: str) -> bool:
    """Whether an entry after `floor` may have been removed or trimmed: then not finding one proves nothing."""
    try:
        info = await store.link.call(store.main, "XINFO", "STREAM", store.main, repeatable=True)
    except ServerError as error:
        if "no such key" in error.reply:
            return False  # never made, or lost whole with what was in it
        raise
    after = order_of(floor)
    if order_of(info[b"last-generated-id"].decode()) <= after:
        return False
    if order_of(info.get(b"max-deleted-entry-id", b"0-0").decode()) > after:  # since Redis 7
        return True
    first, added = info[b"first-entry"], info.get(b"entries-added")  # since Redis 7
    if first is not None and order_of(first[0].decode()) <= after:
        return False
    return first is None or added is None or int(added) > int(info[b"length"])
