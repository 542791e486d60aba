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

from pulsewire._redis.link import Unsettled
from pulsewire.errors import OutcomeUnknown, PermissionDenied, ServerError
from pulsewire.streaming.positions import order_of
from pulsewire.streaming.store import StreamStore
from pulsewire.streaming.wire import request_of

PAGE = 500
"""Entries looked at per command."""
CLOCK_MARGIN = 60.0
"""Seconds that server clocks may differ by after a failover."""


async def find_added(
    store: StreamStore, unsettled: Unsettled, request: str, floor: str | None, age: float
) -> str | None:
    """The id under which a request was carried out; None when it certainly was not and never will be.

    Args:
        store: the stream.
        unsettled: how its outcome came to be unknown.
        request: the request id in the entry.
        floor: an id of this stream from before the request was sent.
        age: seconds since it was sent, for when there is no such id.

    Raises:
        OutcomeUnknown: it cannot be found out.
    """
    try:
        await store.link.make_sure_dead(store.main, unsettled.lost)
    except PermissionDenied as error:
        raise OutcomeUnknown(
            unsettled.command,
            f"{unsettled.reason}; finding out needs the rights +client|list +client|kill",
        ) from error
    if floor is None:
        floor = f"{max(int((await store.link.time() - age - CLOCK_MARGIN) * 1000), 0)}-0"
    last = await store.last_id()
    if order_of(last) < order_of(floor):  # after a failover, by another clock: look further back
        floor = f"{max(order_of(last)[0] - int(CLOCK_MARGIN * 1000), 0)}-0"
    wanted, start = request.encode(), floor
    while True:
        page = await store.range(start, "+", PAGE)
        for entry_id, fields in page:
            if request_of(fields) == wanted:
                return entry_id
        if len(page) < PAGE:
            break
        start = f"({page[-1][0]}"
    if await _may_have_gone(store, floor):
        raise OutcomeUnknown(
            unsettled.command,
            f"{unsettled.reason}; entries were removed or trimmed past it meanwhile",
        ) from unsettled
    return None


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
